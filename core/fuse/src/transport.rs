//! How messages come from the kernel and replies go back.
//!
//! A [`Transport`] is one *lane*: a descriptor on which a reader receives requests and on which the replies to these
//! very requests go back (the kernel looks a request up on the lane it was read from). [`DevFuse`] is the classic one;
//! FUSE over io_uring is another implementation of the same trait.

mod wake;

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::abi::DEV_IOC_CLONE;

/// What became of one try to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A message of so many bytes is in the space.
    Message(usize),
    /// Nothing this time: a signal came, or the request was taken back while it was read. Receive again.
    Again,
    /// The mount is gone, or its connection was aborted.
    Ended,
    /// The lane is broken.
    Failed(Errno),
}

/// One lane of a session.
pub trait Transport: Send + Sync + 'static {
    /// Waits for one message and puts it at the start of `space`, which holds the largest message of the session.
    /// Called by one thread at a time.
    fn receive(&self, space: &mut [u8]) -> Received;

    /// Sends one reply or notification, made of `parts` in their order, whole or not at all.
    ///
    /// # Errors
    /// `ENOENT` if the kernel no longer waits for it (or, for a notification, does not know its object), `EINVAL` if
    /// it does not fit the protocol.
    fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno>;

    /// Opens another lane of the same session.
    ///
    /// # Errors
    /// Those of opening a descriptor.
    fn another(&self) -> Result<Arc<dyn Transport>, Errno>;

    /// Gives the lane up: a receive that waits on it returns, later ones answer [`Received::Ended`], later sends fail.
    fn close(&self);

    /// The descriptor of the lane, where it has one, to hand it over to another process.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// A lane on `/dev/fuse`: one read for a request, one vectored write for a reply.
#[derive(Debug)]
pub struct DevFuse {
    descriptor: OwnedFd,
    /// The thread that receives, to be woken when the lane is closed; zero before the first time.
    receiver: AtomicI32,
}

impl DevFuse {
    /// Opens the device; the descriptor has no connection until it is mounted.
    ///
    /// # Errors
    /// `ENOENT` or `ENXIO` without the fuse module, `EACCES` or `EPERM` where the device is closed to the caller.
    pub fn open() -> Result<Self, Errno> {
        let descriptor = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self::from_descriptor(descriptor))
    }

    /// A lane on a descriptor that is already mounted: from `fusermount3`, or handed over by another process.
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self { descriptor, receiver: AtomicI32::new(0) }
    }

    /// Opens a further descriptor of the same connection.
    fn joined(&self) -> Result<Self, Errno> {
        let joined = Self::open()?;
        let source = self.descriptor.as_raw_fd().cast_unsigned();
        // SAFETY: FUSE_DEV_IOC_CLONE reads one u32, the descriptor of the connection to join, and keeps no pointer.
        unsafe {
            let join = rustix::ioctl::Setter::<{ DEV_IOC_CLONE as rustix::ioctl::Opcode }, u32>::new(source);
            rustix::ioctl::ioctl(&joined.descriptor, join)?;
        }
        Ok(joined)
    }
}

impl Transport for DevFuse {
    fn receive(&self, space: &mut [u8]) -> Received {
        self.receiver.store(wake::this_thread(), Ordering::SeqCst);
        match rustix::io::read(&self.descriptor, space) {
            Ok(0) => Received::Ended,
            Ok(length) => Received::Message(length),
            // ENOENT: the request was interrupted or aborted between being queued and being copied to us.
            Err(Errno::INTR | Errno::NOENT) => Received::Again,
            Err(Errno::AGAIN) => self.wait_readable(),
            // ECONNABORTED: ABORT_ERROR was granted and somebody aborted the connection.
            Err(Errno::NODEV | Errno::CONNABORTED) => Received::Ended,
            Err(errno) => Received::Failed(errno),
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        // The kernel takes a reply whole or refuses it: there are no short writes.
        loop {
            match rustix::io::writev(&self.descriptor, parts) {
                Err(Errno::INTR) => {}
                // The lane was closed: see `close`.
                Err(Errno::BADF) => return Err(Errno::NODEV),
                result => return result.map(drop),
            }
        }
    }

    fn another(&self) -> Result<Arc<dyn Transport>, Errno> {
        match self.joined() {
            Ok(joined) => Ok(Arc::new(joined)),
            Err(errno) => {
                // A sandbox may hand us a mounted descriptor and no device to open: readers can share the one.
                tracing::warn!(%errno, "/dev/fuse could not be cloned; readers share one descriptor");
                Ok(Arc::new(Self::from_descriptor(rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)?)))
            }
        }
    }

    fn close(&self) {
        // What is read from here on is the end of a file, and what is written is refused.
        let replaced =
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).and_then(|null| {
                let (null, ours) = (null.as_raw_fd(), self.descriptor.as_raw_fd());
                // SAFETY: both descriptors are open; ours stays the number of an open file, as `OwnedFd` wants it.
                match unsafe { libc::dup3(null, ours, libc::O_CLOEXEC) } {
                    -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
                    _ => Ok(()),
                }
            });
        if let Err(errno) = replaced {
            tracing::error!(%errno, "a lane could not be closed; its mount stays until the process ends");
        }
        // After that, so that one signal is enough: a thread that is not in its read yet will not find the device.
        match self.receiver.load(Ordering::SeqCst) {
            0 => {}
            thread => wake::wake(thread),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }
}

impl DevFuse {
    /// Waits on a descriptor that somebody made non-blocking.
    fn wait_readable(&self) -> Received {
        match rustix::event::poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Received::Again,
            Err(errno) => Received::Failed(errno),
        }
    }
}

impl AsFd for DevFuse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
