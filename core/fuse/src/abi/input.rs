//! What the kernel writes: the header of every message and the fixed part of each operation.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::bits;

/// Declares a structure that travels as its bytes.
macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
    )*};
}
pub(super) use wire;

wire! {
    /// Stands before every message of the kernel.
    InHeader {
        /// Of the whole message, this header included.
        len: u32,
        opcode: u32,
        /// Names the request in its reply and its INTERRUPT; always even on a request.
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        /// Of the extensions at the end of the message, in units of eight bytes.
        total_extlen: u16,
        padding: u16,
    }
    /// Fixed part of FORGET.
    ForgetIn { nlookup: u64, }
    /// One of the entries of a BATCH_FORGET.
    ForgetOne { nodeid: u64, nlookup: u64, }
    /// Fixed part of BATCH_FORGET; `count` [`ForgetOne`] follow.
    BatchForgetIn { count: u32, dummy: u32, }
    /// Fixed part of GETATTR.
    GetAttrIn { getattr_flags: u32, dummy: u32, fh: u64, }
    /// Fixed part of STATX.
    StatXIn { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32, }
    /// Fixed part of MKNOD; the name follows.
    MkNodIn { mode: u32, rdev: u32, umask: u32, padding: u32, }
    /// Fixed part of MKDIR; the name follows.
    MkDirIn { mode: u32, umask: u32, }
    /// Fixed part of RENAME; the two names follow.
    RenameIn { newdir: u64, }
    /// Fixed part of RENAME2; the two names follow.
    Rename2In { newdir: u64, flags: u32, padding: u32, }
    /// Fixed part of LINK; the new name follows.
    LinkIn { oldnodeid: u64, }
    /// Fixed part of SETATTR.
    SetAttrIn {
        valid: u32,
        padding: u32,
        fh: u64,
        size: u64,
        lock_owner: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }
    /// Fixed part of OPEN and OPENDIR.
    OpenIn { flags: u32, open_flags: u32, }
    /// Fixed part of CREATE and TMPFILE; the name follows.
    CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32, }
    /// Fixed part of RELEASE and RELEASEDIR.
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    /// Fixed part of FLUSH.
    FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64, }
    /// Fixed part of READ, READDIR and READDIRPLUS.
    ReadIn { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32, }
    /// Fixed part of WRITE; `size` bytes follow.
    WriteIn { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32, }
    /// Fixed part of FSYNC and FSYNCDIR.
    FSyncIn { fh: u64, fsync_flags: u32, padding: u32, }
    /// Fixed part of SETXATTR when `SETXATTR_EXT` was not granted; name and value follow.
    SetXattrCompatIn { size: u32, flags: u32, }
    /// Fixed part of SETXATTR when `SETXATTR_EXT` was granted; name and value follow.
    SetXattrIn { size: u32, flags: u32, setxattr_flags: u32, padding: u32, }
    /// Fixed part of GETXATTR and LISTXATTR; the name follows for GETXATTR.
    GetXattrIn { size: u32, padding: u32, }
    /// A range of bytes, its last one included; `u64::MAX >> 1` as `end` is the end of every file.
    FileLock { start: u64, end: u64, kind: u32, pid: u32, }
    /// Fixed part of GETLK, SETLK and SETLKW.
    LkIn { fh: u64, owner: u64, lk: FileLock, lk_flags: u32, padding: u32, }
    /// Fixed part of ACCESS.
    AccessIn { mask: u32, padding: u32, }
    /// INIT as kernels before 7.36 send it.
    InitCompatIn { major: u32, minor: u32, max_readahead: u32, flags: u32, }
    /// INIT.
    InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11], }
    /// INTERRUPT: the request that is to end early.
    InterruptIn { unique: u64, }
    /// Fixed part of BMAP.
    BMapIn { block: u64, blocksize: u32, padding: u32, }
    /// Fixed part of IOCTL; `in_size` bytes follow.
    IoCtlIn { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32, }
    /// Fixed part of POLL.
    PollIn { fh: u64, kh: u64, flags: u32, events: u32, }
    /// Fixed part of FALLOCATE.
    FAllocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32, }
    /// Fixed part of LSEEK.
    LSeekIn { fh: u64, offset: u64, whence: u32, padding: u32, }
    /// Fixed part of COPY_FILE_RANGE and COPY_FILE_RANGE_64.
    CopyFileRangeIn {
        fh_in: u64,
        off_in: u64,
        nodeid_out: u64,
        fh_out: u64,
        off_out: u64,
        len: u64,
        flags: u64,
    }
    /// Fixed part of SYNCFS.
    SyncFsIn { padding: u64, }
    /// Fixed part of NOTIFY_REPLY to a RETRIEVE; has the size of [`WriteIn`].
    NotifyRetrieveIn { dummy1: u64, offset: u64, size: u32, dummy2: u32, dummy3: u64, dummy4: u64, }
    /// Stands before each extension at the end of a message; `size` counts this header too.
    ExtHeader { size: u32, kind: u32, }
    /// Stands before each security context; `size` counts the value alone.
    SecCtx { size: u32, padding: u32, }
    /// An extension of supplementary groups; `nr_groups` 32-bit ids follow.
    SuppGroups { nr_groups: u32, }
}

/// Largest [`ExtHeader::kind`] that counts security contexts instead of naming another extension.
pub const MAX_NR_SECCTX: u32 = 31;
/// [`ExtHeader::kind`] of the supplementary groups.
pub const EXT_GROUPS: u32 = 32;

bits! {
    /// Which fields of a SETATTR are to be set.
    SetAttrValid: u32 {
        /// `mode`.
        MODE = 1 << 0;
        /// `uid`.
        UID = 1 << 1;
        /// `gid`.
        GID = 1 << 2;
        /// `size`.
        SIZE = 1 << 3;
        /// `atime`.
        ATIME = 1 << 4;
        /// `mtime`.
        MTIME = 1 << 5;
        /// `fh` names an open file.
        FH = 1 << 6;
        /// `atime` is the time of the server.
        ATIME_NOW = 1 << 7;
        /// `mtime` is the time of the server.
        MTIME_NOW = 1 << 8;
        /// `lock_owner` is meaningful.
        LOCKOWNER = 1 << 9;
        /// `ctime`.
        CTIME = 1 << 10;
        /// Clear set-user-id and set-group-id as the caller lacks `CAP_FSETID`.
        KILL_SUIDGID = 1 << 11;
    }
}

bits! {
    /// How a WRITE came about.
    WriteFlags: u32 {
        /// Written back from the page cache: `fh` and the caller are guesses.
        CACHE = 1 << 0;
        /// `lock_owner` is meaningful.
        LOCKOWNER = 1 << 1;
        /// Clear set-user-id and set-group-id.
        KILL_SUIDGID = 1 << 2;
    }
}

bits! {
    /// What an IOCTL may do.
    IoCtlFlags: u32 {
        /// A 32-bit caller on a 64-bit kernel.
        COMPAT = 1 << 0;
        /// Not restricted to well-formed ioctls.
        UNRESTRICTED = 1 << 1;
        /// A retry with new vectors.
        RETRY = 1 << 2;
        /// A 32-bit caller.
        ABI_32BIT = 1 << 3;
        /// On a directory.
        DIR = 1 << 4;
        /// An x32 caller.
        COMPAT_X32 = 1 << 5;
    }
}

/// [`GetAttrIn::getattr_flags`]: `fh` names an open file.
pub const GETATTR_FH: u32 = 1;
/// [`LkIn::lk_flags`]: the lock is flock's, not fcntl's.
pub const LK_FLOCK: u32 = 1;
/// [`ReadIn::read_flags`]: `lock_owner` is meaningful.
pub const READ_LOCKOWNER: u32 = 1 << 1;
/// [`ReleaseIn::release_flags`]: the FLUSH was not sent on its own.
pub const RELEASE_FLUSH: u32 = 1;
/// [`ReleaseIn::release_flags`]: drop the flock locks of `lock_owner`.
pub const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;
/// [`FSyncIn::fsync_flags`]: data alone, as `fdatasync`.
pub const FSYNC_FDATASYNC: u32 = 1;
/// [`OpenIn::open_flags`] and [`CreateIn::open_flags`]: clear set-user-id and set-group-id.
pub const OPEN_KILL_SUIDGID: u32 = 1;
/// [`SetXattrIn::setxattr_flags`]: clear set-group-id as the ACL changes.
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// [`PollIn::flags`]: notify when it becomes ready.
pub const POLL_SCHEDULE_NOTIFY: u32 = 1;
