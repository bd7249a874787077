//! Answers to requests: typed, sent once, payloads not copied.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use smallvec::SmallVec;
use zerocopy::{Immutable, IntoBytes};

use crate::abi::{
    Attr, AttrOut, BMapOut, CopyFileRangeOut, EntryOut, FileLock, GetXattrOut, IoCtlOut, LSeekOut, LkOut, Opcode,
    OpenFlags, OpenOut, OutHeader, PollOut, StatFsOut, StatX, StatXOut, WriteOut,
};
use crate::directory::{DirectoryBuffer, DirectoryPlusBuffer};
use crate::request::{Fh, Lock, LockKind, NodeId};
use crate::transport::Transport;

/// Errors the protocol passes on are below this.
const ERRNO_END: i32 = 512;

/// What became of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// The kernel took it.
    Taken,
    /// The kernel did not: nobody waits for it any more (`ENOENT`), or the mount is gone. What the reply would have
    /// counted (a lookup) or opened (a handle) will not be forgotten or released by the kernel.
    Lost(Errno),
}

/// What LOOKUP and every operation that makes a name answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Entry {
    /// The file; counts one lookup when the reply is taken.
    pub node: NodeId,
    /// Tells two lives of a node id apart, for NFS export.
    pub generation: u64,
    /// How long the kernel may believe that the name stands for `node`.
    pub entry_valid: Duration,
    /// How long the kernel may believe `attr`.
    pub attr_valid: Duration,
    /// The attributes.
    pub attr: Attr,
}

impl Entry {
    pub(crate) fn to_abi(self) -> EntryOut {
        EntryOut {
            nodeid: self.node.0,
            generation: self.generation,
            entry_valid: self.entry_valid.as_secs(),
            attr_valid: self.attr_valid.as_secs(),
            entry_valid_nsec: self.entry_valid.subsec_nanos(),
            attr_valid_nsec: self.attr_valid.subsec_nanos(),
            attr: self.attr,
        }
    }
}

/// What OPEN, OPENDIR, CREATE and TMPFILE answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The handle; RELEASE brings it back if the reply is taken.
    pub fh: Fh,
    /// How the kernel treats the open file.
    pub flags: OpenFlags,
    /// With `PASSTHROUGH`: the registered file. One id for each inode, whatever the number of opens.
    pub backing_id: i32,
}

impl Opened {
    /// An open file with no special treatment.
    pub fn plain(fh: Fh) -> Self {
        Self { fh, flags: OpenFlags::empty(), backing_id: 0 }
    }

    fn to_abi(self) -> OpenOut {
        OpenOut { fh: self.fh.0, open_flags: self.flags.0, backing_id: self.backing_id }
    }
}

/// The answer that is owed to one request; every method gives it, at most once.
///
/// Dropped without an answer it answers `EIO`, so that no caller hangs, and logs the bug. Requests that want no answer
/// (FORGET) come with a `Reply` too, which may only be dropped.
#[derive(Debug)]
pub struct Reply {
    owed: Option<Owed>,
}

struct Owed {
    lane: Arc<dyn Transport>,
    unique: u64,
    opcode: u32,
}

impl std::fmt::Debug for Owed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "opcode {} unique {}", self.opcode, self.unique)
    }
}

impl Reply {
    /// The answer owed on `lane` to the request `unique`.
    pub fn new(lane: Arc<dyn Transport>, unique: u64, opcode: u32) -> Self {
        Self { owed: Some(Owed { lane, unique, opcode }) }
    }

    /// The reply to a request that wants none.
    pub(crate) fn none() -> Self {
        Self { owed: None }
    }

    /// Answers with an error; `EIO` stands for numbers the protocol cannot carry.
    pub fn error(self, errno: Errno) -> Delivery {
        self.give(|owed| owed.error(errno))
    }

    /// Answers with success and nothing more.
    pub fn ok(self) -> Delivery {
        self.parts(&[])
    }

    /// Answers LOOKUP, MKNOD, MKDIR, SYMLINK, LINK.
    #[must_use = "a lookup that was not taken must not be counted"]
    pub fn entry(self, entry: &Entry) -> Delivery {
        self.fixed(&entry.to_abi())
    }

    /// Answers LOOKUP: there is no such name, and the kernel may believe that for `valid`.
    pub fn no_entry(self, valid: Duration) -> Delivery {
        let entry_valid_nsec = valid.subsec_nanos();
        self.fixed(&EntryOut { entry_valid: valid.as_secs(), entry_valid_nsec, ..EntryOut::default() })
    }

    /// Answers GETATTR and SETATTR; the kernel may believe `attr` for `valid`.
    pub fn attr(self, attr: &Attr, valid: Duration) -> Delivery {
        let (attr_valid, attr_valid_nsec) = (valid.as_secs(), valid.subsec_nanos());
        self.fixed(&AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: *attr })
    }

    /// Answers STATX; the kernel may believe `stat` for `valid`.
    pub fn statx(self, stat: &StatX, valid: Duration) -> Delivery {
        let (attr_valid, attr_valid_nsec) = (valid.as_secs(), valid.subsec_nanos());
        self.fixed(&StatXOut { attr_valid, attr_valid_nsec, flags: 0, spare: [0; 2], stat: *stat })
    }

    /// Answers OPEN and OPENDIR.
    #[must_use = "a handle that was not taken will not be released by the kernel"]
    pub fn opened(self, opened: Opened) -> Delivery {
        self.fixed(&opened.to_abi())
    }

    /// Answers CREATE and TMPFILE.
    #[must_use = "a lookup and a handle that were not taken will not be taken back by the kernel"]
    pub fn created(self, entry: &Entry, opened: Opened) -> Delivery {
        let (entry, opened) = (entry.to_abi(), opened.to_abi());
        self.parts(&[entry.as_bytes(), opened.as_bytes()])
    }

    /// Answers READ, READLINK, GETXATTR and LISTXATTR; at most as many bytes as were asked for.
    pub fn data(self, data: &[u8]) -> Delivery {
        self.parts(&[data])
    }

    /// Answers as [`Reply::data`] with the bytes of several pieces in their order.
    pub fn pieces(self, pieces: &[Bytes]) -> Delivery {
        // One vectored write takes 1024 pieces, the header among them.
        if pieces.len() > 1000 {
            return self.data(&pieces.concat());
        }
        let parts: SmallVec<[&[u8]; 8]> = pieces.iter().map(|piece| &piece[..]).collect();
        self.parts(&parts)
    }

    /// Answers GETXATTR and LISTXATTR that asked for the size alone.
    pub fn size(self, size: u32) -> Delivery {
        self.fixed(&GetXattrOut { size, padding: 0 })
    }

    /// Answers WRITE with the number of bytes written.
    pub fn written(self, size: u32) -> Delivery {
        self.fixed(&WriteOut { size, padding: 0 })
    }

    /// Answers COPY_FILE_RANGE and COPY_FILE_RANGE_64 with the number of bytes copied.
    pub fn copied(self, bytes_copied: u64) -> Delivery {
        let wide = self.owed.as_ref().is_some_and(|owed| owed.opcode == Opcode::CopyFileRange64 as u32);
        match u32::try_from(bytes_copied) {
            _ if wide => self.fixed(&CopyFileRangeOut { bytes_copied }),
            Ok(size) => self.written(size),
            // More was copied than the old form can say: the caller goes on after what it is told.
            Err(_) => self.written(!4095),
        }
    }

    /// Answers STATFS.
    pub fn statfs(self, statfs: &StatFsOut) -> Delivery {
        self.fixed(statfs)
    }

    /// Answers GETLK with the lock that is in the way, or one of kind `Unlock` if there is none.
    pub fn lock(self, lock: &Lock) -> Delivery {
        let kind = match lock.kind {
            LockKind::Read => libc::F_RDLCK,
            LockKind::Write => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        };
        let lk = FileLock { start: lock.start, end: lock.end, kind: kind.cast_unsigned(), pid: lock.pid };
        self.fixed(&LkOut { lk })
    }

    /// Answers BMAP.
    pub fn block(self, block: u64) -> Delivery {
        self.fixed(&BMapOut { block })
    }

    /// Answers LSEEK.
    pub fn offset(self, offset: u64) -> Delivery {
        self.fixed(&LSeekOut { offset })
    }

    /// Answers POLL with the events that are ready.
    pub fn polled(self, revents: u32) -> Delivery {
        self.fixed(&PollOut { revents, padding: 0 })
    }

    /// Answers IOCTL with its result and the bytes for its argument.
    pub fn ioctl(self, result: i32, data: &[u8]) -> Delivery {
        let fixed = IoCtlOut { result, ..IoCtlOut::default() };
        self.parts(&[fixed.as_bytes(), data])
    }

    /// Answers READDIR.
    pub fn directory(self, directory: &DirectoryBuffer) -> Delivery {
        self.data(directory.as_bytes())
    }

    /// Answers READDIRPLUS.
    #[must_use = "lookups that were not taken must not be counted"]
    pub fn directory_plus(self, directory: &DirectoryPlusBuffer) -> Delivery {
        self.data(directory.as_bytes())
    }

    fn fixed<T: IntoBytes + Immutable>(self, fixed: &T) -> Delivery {
        self.parts(&[fixed.as_bytes()])
    }

    fn parts(self, parts: &[&[u8]]) -> Delivery {
        self.give(|owed| owed.send(0, parts))
    }

    fn give(mut self, answer: impl FnOnce(&Owed) -> Result<(), Errno>) -> Delivery {
        let Some(owed) = self.owed.take() else {
            tracing::error!("a request that wants no reply was answered");
            return Delivery::Lost(Errno::NOENT);
        };
        match answer(&owed) {
            Ok(()) => Delivery::Taken,
            Err(errno) => owed.lost(errno),
        }
    }
}

impl Owed {
    fn error(&self, errno: Errno) -> Result<(), Errno> {
        let number = errno.raw_os_error();
        let number = if (1..ERRNO_END).contains(&number) { number } else { libc::EIO };
        self.send(-number, &[])
    }

    fn send(&self, error: i32, parts: &[&[u8]]) -> Result<(), Errno> {
        let length = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(length).map_err(|_| Errno::INVAL)?;
        let header = OutHeader { len, error, unique: self.unique };
        let mut slices: SmallVec<[IoSlice<'_>; 9]> = SmallVec::with_capacity(parts.len() + 1);
        slices.push(IoSlice::new(header.as_bytes()));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        self.lane.send(&slices)
    }

    /// Sees to it that the caller does not wait for ever when its reply was refused.
    fn lost(&self, errno: Errno) -> Delivery {
        if matches!(errno, Errno::NOENT | Errno::NODEV | Errno::PERM | Errno::CONNABORTED) {
            tracing::debug!(%errno, request = ?self, "nobody waits for the reply any more");
        } else {
            tracing::error!(%errno, request = ?self, "the kernel refused a reply; its caller gets EIO");
            // ENOENT here means that the kernel ended the request when it refused the reply.
            if let Err(errno) = self.error(Errno::IO) {
                tracing::debug!(%errno, request = ?self, "no second reply was needed");
            }
        }
        Delivery::Lost(errno)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(owed) = self.owed.take() {
            tracing::error!(request = ?owed, "a request was dropped unanswered; its caller gets EIO");
            if let Err(errno) = owed.error(Errno::IO) {
                owed.lost(errno);
            }
        }
    }
}
