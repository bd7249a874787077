//! What the kernel may ask, each operation with its arguments.

use super::{Fh, LockOwner, NodeId};
use crate::abi::{ForgetOne, IoCtlFlags, WriteFlags};
use crate::buffer::Payload;

/// One operation with its arguments. Names have no NUL, no slash and at least one byte.
///
/// INIT, INTERRUPT and DESTROY are the session's own; a [`crate::Handler`] never sees them.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Operation<'a> {
    /// Finds `name` in the directory; each positive reply counts one lookup, which FORGET takes back.
    Lookup {
        name: &'a [u8],
    },
    /// Takes `lookups` back; no reply.
    Forget {
        lookups: u64,
    },
    /// Takes lookups of many nodes back; no reply.
    BatchForget(Forgets<'a>),
    GetAttr {
        fh: Option<Fh>,
    },
    StatX {
        fh: Option<Fh>,
        flags: u32,
        mask: u32,
    },
    SetAttr(SetAttr),
    ReadLink,
    SymLink {
        name: &'a [u8],
        target: &'a [u8],
    },
    /// `mode` has the file type; `rdev` as the kernel's `new_encode_dev` packs it.
    MkNod {
        name: &'a [u8],
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    /// RENAME and RENAME2; `flags` as of `renameat2`, zero for RENAME.
    Rename {
        name: &'a [u8],
        new_parent: NodeId,
        new_name: &'a [u8],
        flags: u32,
    },
    /// Gives `node` the further name `name` in the request's directory.
    Link {
        node: NodeId,
        name: &'a [u8],
    },
    Open {
        flags: u32,
        kill_suidgid: bool,
    },
    Read(ReadRequest),
    Write(WriteRequest<'a>),
    StatFs,
    Release(Release),
    FSync {
        fh: Fh,
        data_only: bool,
    },
    SetXattr(SetXattr<'a>),
    /// `size` zero asks for the size alone.
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    /// `size` zero asks for the size alone.
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    /// Each `close` of a descriptor; drops the fcntl locks of `lock_owner`.
    Flush {
        fh: Fh,
        lock_owner: LockOwner,
    },
    Init {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u64,
    },
    OpenDir {
        flags: u32,
    },
    ReadDir(ReadRequest),
    ReadDirPlus(ReadRequest),
    ReleaseDir(Release),
    FSyncDir {
        fh: Fh,
        data_only: bool,
    },
    GetLk(Lock),
    /// SETLK and SETLKW; with `wait` the reply comes when the lock is granted or the wait was interrupted.
    SetLk {
        lock: Lock,
        wait: bool,
    },
    Access {
        mask: u32,
    },
    Create(Create<'a>),
    /// O_TMPFILE: a file without a name in the request's directory.
    TmpFile(Create<'a>),
    Interrupt {
        unique: u64,
    },
    BMap {
        block: u64,
        block_size: u32,
    },
    Destroy,
    IoCtl(IoCtl<'a>),
    /// `notify` asks for a wake-up with `kh` once ready.
    Poll {
        fh: Fh,
        kh: u64,
        events: u32,
        notify: bool,
    },
    FAllocate {
        fh: Fh,
        offset: u64,
        length: u64,
        mode: u32,
    },
    LSeek {
        fh: Fh,
        offset: u64,
        whence: u32,
    },
    CopyFileRange(CopyRange),
    SyncFs,
    /// The bytes a RETRIEVE notification asked for; no reply.
    NotifyReply {
        offset: u64,
        data: Payload<'a>,
    },
    SetupMapping,
    RemoveMapping,
    /// An operation newer than this crate; the answer is `ENOSYS`.
    Unknown {
        opcode: u32,
    },
}

/// The nodes of a BATCH_FORGET.
#[derive(Clone, Copy, Debug)]
pub struct Forgets<'a>(pub(super) &'a [u8]);

impl<'a> Forgets<'a> {
    /// Each node with the lookups to take back.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, u64)> + use<'a> {
        let (entries, _) = self.0.as_chunks::<{ size_of::<ForgetOne>() }>();
        entries.iter().map(|entry| {
            let ForgetOne { nodeid, nlookup } = zerocopy::transmute!(*entry);
            (NodeId(nodeid), nlookup)
        })
    }

    /// How many nodes.
    pub fn len(&self) -> usize {
        self.0.len() / size_of::<ForgetOne>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A moment: seconds since 1970 and nanoseconds within the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Time {
    /// Negative before 1970.
    pub seconds: i64,
    /// As the caller gave it; not checked to be below a thousand million.
    pub nanos: u32,
}

/// What a time is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The time of the server.
    Now,
    /// This one.
    To(Time),
}

/// Arguments of SETATTR: each `Some` is to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    /// The open file through which a truncation came.
    pub fh: Option<Fh>,
    /// Permissions with the file type.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// In bytes.
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// Sent with the writeback cache only.
    pub ctime: Option<Time>,
    /// Whoever truncates, for mandatory locks.
    pub lock_owner: Option<LockOwner>,
    /// Clear set-user-id and set-group-id (`HANDLE_KILLPRIV_V2`).
    pub kill_suidgid: bool,
}

/// Arguments of READ, READDIR and READDIRPLUS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The open file or directory.
    pub fh: Fh,
    /// In bytes; for a directory the offset of the last entry seen, zero at its start.
    pub offset: u64,
    /// The most bytes the reply may have.
    pub size: u32,
    /// The open flags of the file now.
    pub flags: u32,
    /// Whoever reads, for mandatory locks.
    pub lock_owner: Option<LockOwner>,
}

/// Arguments of WRITE.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    /// The open file; a guess when `write_flags` has `CACHE`.
    pub fh: Fh,
    /// In bytes.
    pub offset: u64,
    /// The open flags of the file now.
    pub flags: u32,
    /// How the write came about.
    pub write_flags: WriteFlags,
    /// Whoever writes, for mandatory locks.
    pub lock_owner: Option<LockOwner>,
    /// The bytes.
    pub data: Payload<'a>,
}

/// Arguments of RELEASE and RELEASEDIR: the last reference to the open file is gone.
///
/// OFD locks send no unlock of their own: drop whatever was locked through `fh`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    /// The open file that ends.
    pub fh: Fh,
    /// Its open flags.
    pub flags: u32,
    /// Whose flock locks to drop, when [`Release::flock_unlock`].
    pub lock_owner: LockOwner,
    /// No FLUSH came before: do its work.
    pub flush: bool,
    /// Drop the flock locks of `lock_owner`.
    pub flock_unlock: bool,
}

/// Arguments of CREATE and TMPFILE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    /// The name; of a TMPFILE only what the kernel calls it.
    pub name: &'a [u8],
    /// Open flags.
    pub flags: u32,
    /// With the file type.
    pub mode: u32,
    /// Of the caller; already applied to `mode` unless `DONT_MASK` was granted.
    pub umask: u32,
    /// Clear set-user-id and set-group-id of a file that is there already.
    pub kill_suidgid: bool,
}

/// Arguments of SETXATTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetXattr<'a> {
    /// With its name space: `user.color`.
    pub name: &'a [u8],
    /// May be empty.
    pub value: &'a [u8],
    /// `XATTR_CREATE`, `XATTR_REPLACE`.
    pub flags: u32,
    /// Clear set-group-id as the ACL changes.
    pub acl_kill_sgid: bool,
}

/// What a lock does to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// `F_RDLCK`: shared.
    Read,
    /// `F_WRLCK`: alone.
    Write,
    /// `F_UNLCK`: none.
    Unlock,
}

/// Arguments of GETLK, SETLK and SETLKW, and the answer to GETLK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    /// The open file it is taken through.
    pub fh: Fh,
    /// Whose it is.
    pub owner: LockOwner,
    /// First byte.
    pub start: u64,
    /// Last byte, included; `i64::MAX` reaches past any growth.
    pub end: u64,
    /// What it does to others.
    pub kind: LockKind,
    /// The process, for GETLK's answer.
    pub pid: u32,
    /// From `flock`, not `fcntl`; the two never conflict with each other.
    pub flock: bool,
}

/// Arguments of COPY_FILE_RANGE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyRange {
    /// The open source; its node is the request's.
    pub fh_in: Fh,
    /// In bytes.
    pub offset_in: u64,
    /// The target.
    pub node_out: NodeId,
    /// The open target.
    pub fh_out: Fh,
    /// In bytes.
    pub offset_out: u64,
    /// In bytes.
    pub length: u64,
    /// As of `copy_file_range`.
    pub flags: u64,
    /// COPY_FILE_RANGE_64: answer with [`crate::Reply::copied`], which knows both forms.
    pub wide: bool,
}

/// Arguments of IOCTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoCtl<'a> {
    /// The open file or directory.
    pub fh: Fh,
    /// What it may do.
    pub flags: IoCtlFlags,
    /// The command.
    pub cmd: u32,
    /// The argument as the caller gave it.
    pub arg: u64,
    /// The bytes behind it.
    pub data: &'a [u8],
    /// The most bytes the reply may have.
    pub out_size: u32,
}
