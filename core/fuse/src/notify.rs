//! What the server tells the kernel without being asked: to forget what it cached.

use std::io::IoSlice;
use std::sync::Arc;

use rustix::io::Errno;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use crate::abi::{
    EXPIRE_ONLY, NotifyCode, NotifyDeleteOut, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyStoreOut, OutHeader,
};
use crate::init::{Granted, InitFlags};
use crate::request::NodeId;
use crate::transport::Transport;

/// What the kernel made of a notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notified {
    /// It did what it was told.
    Done,
    /// It has nothing cached of this object, or the mount is gone: there was nothing to do.
    NotKnown,
}

/// Why the kernel did not do what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotifyError {
    /// The lane has no connection any more. (A mount that is merely gone knows nothing: [`Notified::NotKnown`].)
    Ended,
    /// DELETE: the name stands for another file by now, or its directory is not empty.
    Changed(Errno),
    /// A name of more than 1024 bytes, an empty one, or one with a slash or NUL.
    Name,
    /// The kernel refused; what it cached may be out of date.
    Refused(Errno),
}

impl std::fmt::Display for NotifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended => f.write_str("the connection to the kernel has ended"),
            Self::Changed(errno) => write!(f, "the name stands for something else by now: {errno}"),
            Self::Name => f.write_str("the name is none the kernel could have cached"),
            Self::Refused(errno) => write!(f, "the kernel refused the notification: {errno}"),
        }
    }
}

impl std::error::Error for NotifyError {}

/// Sends notifications; cheap to clone.
///
/// A notification takes locks of the kernel: INVAL_ENTRY and DELETE that of the directory, INVAL_INODE and STORE those
/// of the pages. A request that is being handled holds them for its own objects. So never notify about an object from
/// within a request on the same object: it would wait for itself. Calls block for as long as the kernel does.
#[derive(Clone)]
pub struct Notifier {
    lane: Arc<dyn Transport>,
    expire: bool,
    epoch: bool,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Notifier {
    /// Sends on `lane`, as `granted`.
    pub fn new(lane: Arc<dyn Transport>, granted: &Granted) -> Self {
        Self { lane, expire: granted.flags.contains(InitFlags::HAS_EXPIRE_ONLY), epoch: granted.has_epoch() }
    }

    /// Drops the cached attributes and ACLs of `node`, and its cached data from `offset` for `length` bytes; zero is
    /// up to the end of the file.
    ///
    /// # Errors
    /// See [`NotifyError`]; the kernel's offsets are signed, so an `offset` past `i64::MAX` is `Refused(EINVAL)`.
    pub fn inval_inode(&self, node: NodeId, offset: u64, length: u64) -> Result<Notified, NotifyError> {
        let off = i64::try_from(offset).map_err(|_| NotifyError::Refused(Errno::INVAL))?;
        // Longer than any file is as good as "to the end", which the kernel spells zero.
        let len = i64::try_from(length).unwrap_or(0);
        self.send(NotifyCode::InvalInode, &[NotifyInvalInodeOut { ino: node.0, off, len }.as_bytes()])
    }

    /// Drops the cached attributes and ACLs of `node` and keeps its data.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn inval_attributes(&self, node: NodeId) -> Result<Notified, NotifyError> {
        self.send(NotifyCode::InvalInode, &[NotifyInvalInodeOut { ino: node.0, off: -1, len: 0 }.as_bytes()])
    }

    /// Drops the cached `name` in `parent`.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn inval_entry(&self, parent: NodeId, name: &[u8]) -> Result<Notified, NotifyError> {
        self.entry(parent, name, 0)
    }

    /// Lets the cached `name` in `parent` run out: the next use looks it up again, and a mount on it stays.
    ///
    /// Drops it where the kernel cannot do that (before 7.38).
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn expire_entry(&self, parent: NodeId, name: &[u8]) -> Result<Notified, NotifyError> {
        self.entry(parent, name, if self.expire { EXPIRE_ONLY } else { 0 })
    }

    /// Tells that `name` in `parent`, which stood for `child`, was removed: watchers of the directory are told too.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn delete(&self, parent: NodeId, child: NodeId, name: &[u8]) -> Result<Notified, NotifyError> {
        check(name)?;
        let namelen = name.len() as u32;
        let fixed = NotifyDeleteOut { parent: parent.0, child: child.0, namelen, padding: 0 };
        self.send(NotifyCode::Delete, &[fixed.as_bytes(), name, b"\0"])
    }

    /// Puts `data` into the page cache of `node` at `offset`, in bytes.
    ///
    /// # Errors
    /// See [`NotifyError`].
    pub fn store(&self, node: NodeId, offset: u64, data: &[u8]) -> Result<Notified, NotifyError> {
        let size = u32::try_from(data.len()).map_err(|_| NotifyError::Refused(Errno::INVAL))?;
        let fixed = NotifyStoreOut { nodeid: node.0, offset, size, padding: 0 };
        self.send(NotifyCode::Store, &[fixed.as_bytes(), data])
    }

    /// Lets every cached name of the mount run out, those that do not exist among them: the next use of each looks it up
    /// again. One step that waits for nothing.
    ///
    /// # Errors
    /// See [`NotifyError`]; `Refused(EINVAL)` where the kernel cannot do that ([`Granted::has_epoch`]).
    pub fn inc_epoch(&self) -> Result<Notified, NotifyError> {
        if !self.epoch {
            return Err(NotifyError::Refused(Errno::INVAL));
        }
        self.send(NotifyCode::IncEpoch, &[])
    }

    fn entry(&self, parent: NodeId, name: &[u8], flags: u32) -> Result<Notified, NotifyError> {
        check(name)?;
        let fixed = NotifyInvalEntryOut { parent: parent.0, namelen: name.len() as u32, flags };
        self.send(NotifyCode::InvalEntry, &[fixed.as_bytes(), name, b"\0"])
    }

    fn send(&self, code: NotifyCode, parts: &[&[u8]]) -> Result<Notified, NotifyError> {
        let length = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(length).map_err(|_| NotifyError::Refused(Errno::INVAL))?;
        let header = OutHeader { len, error: code as i32, unique: 0 };
        let slices: SmallVec<[IoSlice<'_>; 4]> =
            std::iter::once(header.as_bytes()).chain(parts.iter().copied()).map(IoSlice::new).collect();
        match self.lane.send(&slices) {
            Ok(()) => Ok(Notified::Done),
            Err(Errno::NOENT) => Ok(Notified::NotKnown),
            // The directory is no directory any more: nothing can be cached in it.
            Err(Errno::NOTDIR) => Ok(Notified::NotKnown),
            // EPERM is what the device says once it has no connection.
            Err(Errno::NODEV | Errno::PERM | Errno::CONNABORTED) => Err(NotifyError::Ended),
            Err(errno @ (Errno::NOTEMPTY | Errno::BUSY)) => Err(NotifyError::Changed(errno)),
            Err(errno) => Err(NotifyError::Refused(errno)),
        }
    }
}

fn check(name: &[u8]) -> Result<(), NotifyError> {
    let possible = !name.is_empty() && name.len() <= 1024 && !name.contains(&b'/') && !name.contains(&0);
    possible.then_some(()).ok_or(NotifyError::Name)
}
