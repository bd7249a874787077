//! How messages come from the kernel and replies go back.
//!
//! A [`Transport`] is one *lane*: a descriptor on which a reader receives requests and on which the replies to these
//! very requests go back (the kernel looks a request up on the lane it was read from). [`DevFuse`] is the classic one;
//! FUSE over io_uring is another implementation of the same trait.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

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

    /// The descriptor of the lane, where it has one, to hand it over to another process.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// A lane on `/dev/fuse`: one read for a request, one vectored write for a reply.
#[derive(Debug)]
pub struct DevFuse {
    descriptor: OwnedFd,
}

impl DevFuse {
    /// Opens the device; the descriptor has no connection until it is mounted.
    ///
    /// # Errors
    /// `ENOENT` or `ENXIO` without the fuse module, `EACCES` or `EPERM` where the device is closed to the caller.
    pub fn open() -> Result<Self, Errno> {
        let descriptor = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { descriptor })
    }

    /// A lane on a descriptor that is already mounted: from `fusermount3`, or handed over by another process.
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// Opens a further descriptor of the same connection.
    fn joined(&self) -> Result<Self, Errno> {
        let joined = Self::open()?;
        let source = rustix::fd::AsRawFd::as_raw_fd(&self.descriptor).cast_unsigned();
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
                Ok(Arc::new(Self { descriptor: rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)? }))
            }
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
