//! What the kernel reads: the header of every reply and notification, and their fixed parts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{FileLock, bits, input::wire};

wire! {
    /// Stands before every reply and notification.
    OutHeader {
        /// Of the whole message, this header included.
        len: u32,
        /// Zero or a negative error number above -512; of a notification its positive code.
        error: i32,
        /// That of the request; zero on a notification.
        unique: u64,
    }
    /// The attributes of a file.
    Attr {
        ino: u64,
        /// In bytes.
        size: u64,
        /// Allocated, in units of 512 bytes.
        blocks: u64,
        /// In seconds since 1970, as a signed number in two's complement; so the next two.
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        /// Type and permissions, as `st_mode`.
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        /// As `new_encode_dev` packs it: minor bits 0-7 and 20-31, major bits 8-19.
        rdev: u32,
        /// The preferred size of reads and writes in bytes; zero lets the kernel choose.
        blksize: u32,
        /// `ATTR_SUBMOUNT`, `ATTR_DAX`.
        flags: u32,
    }
    /// Answers LOOKUP and whatever makes a name.
    EntryOut {
        /// Zero means: there is no such name, and that may be cached.
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: Attr,
    }
    /// Answers GETATTR and SETATTR.
    AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr, }
    /// A moment, as STATX has it.
    SxTime { tv_sec: i64, tv_nsec: u32, reserved: i32, }
    /// The attributes of a file, as STATX has them.
    StatX {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: SxTime,
        btime: SxTime,
        ctime: SxTime,
        mtime: SxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }
    /// Answers STATX.
    StatXOut { attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: StatX, }
    /// Answers OPEN and OPENDIR; the second half of the answers to CREATE and TMPFILE.
    OpenOut { fh: u64, open_flags: u32, backing_id: i32, }
    /// Answers WRITE and COPY_FILE_RANGE.
    WriteOut { size: u32, padding: u32, }
    /// Answers COPY_FILE_RANGE_64.
    CopyFileRangeOut { bytes_copied: u64, }
    /// Answers STATFS.
    StatFsOut {
        /// In units of `frsize`; so the next two.
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }
    /// Answers GETXATTR and LISTXATTR that asked for the size alone.
    GetXattrOut { size: u32, padding: u32, }
    /// Answers GETLK.
    LkOut { lk: FileLock, }
    /// Answers INIT.
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }
    /// Answers BMAP.
    BMapOut { block: u64, }
    /// Answers IOCTL; the output bytes follow.
    IoCtlOut { result: i32, flags: u32, in_iovs: u32, out_iovs: u32, }
    /// Answers POLL.
    PollOut { revents: u32, padding: u32, }
    /// Answers LSEEK.
    LSeekOut { offset: u64, }
    /// Stands before each name of a directory.
    DirEnt { ino: u64, off: u64, namelen: u32, kind: u32, }
    /// Notification: forget attributes, and pages from `off` for `len` bytes (0: to the end; `off` below 0: none).
    NotifyInvalInodeOut { ino: u64, off: i64, len: i64, }
    /// Notification: forget a name; the name and a NUL follow.
    NotifyInvalEntryOut { parent: u64, namelen: u32, flags: u32, }
    /// Notification: a name was removed; the name and a NUL follow.
    NotifyDeleteOut { parent: u64, child: u64, namelen: u32, padding: u32, }
    /// Notification: put these bytes into the page cache; `size` bytes follow.
    NotifyStoreOut { nodeid: u64, offset: u64, size: u32, padding: u32, }
}

/// [`NotifyInvalEntryOut::flags`]: let the name run out, do not drop it.
pub const EXPIRE_ONLY: u32 = 1;

bits! {
    /// How the kernel treats a file that was opened.
    OpenFlags: u32 {
        /// Reads and writes go past the page cache.
        DIRECT_IO = 1 << 0;
        /// Pages cached before this open stay.
        KEEP_CACHE = 1 << 1;
        /// The file has no positions.
        NONSEEKABLE = 1 << 2;
        /// The names of this directory may be cached.
        CACHE_DIR = 1 << 3;
        /// The file is a stream: it has not even a current position.
        STREAM = 1 << 4;
        /// No FLUSH on close.
        NOFLUSH = 1 << 5;
        /// Direct writes to the same inode may run at once.
        PARALLEL_DIRECT_WRITES = 1 << 6;
        /// Reads and writes go to the file registered as `backing_id`.
        PASSTHROUGH = 1 << 7;
    }
}
