//! The kernel's words and ours: attributes, device numbers, error numbers, ranges, flags.
//!
//! Pure functions. What the kernel may send and no fop can express is an error here, never a guess.

use brickwork_api::{
    Attr, Errno, FallocateMode, FileKind, FsStat, LkRange, LkType, RenameMode, SeekWhat, SetTime, Timespec, XattrMode,
};
use brickwork_fuse::abi;
use brickwork_fuse::request::{Lock, LockKind, SetTime as KernelSetTime};
use brickwork_fuse::{Errno as KernelErrno, FileKind as KernelFileKind};

/// The attributes as the kernel reads them.
pub(crate) fn attr(attr: &Attr) -> abi::Attr {
    abi::Attr {
        ino: attr.ino(),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.accessed.seconds.cast_unsigned(),
        mtime: attr.modified.seconds.cast_unsigned(),
        ctime: attr.changed.seconds.cast_unsigned(),
        atimensec: attr.accessed.nanoseconds,
        mtimensec: attr.modified.nanoseconds,
        ctimensec: attr.changed.nanoseconds,
        mode: attr.kind.mode() | attr.mode,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: device_to_kernel(attr.rdev),
        blksize: attr.block_size,
        flags: 0,
    }
}

/// The device number as the protocol packs it: minor bits 0-7 and 20-31, major bits 8-19.
pub(crate) fn device_to_kernel(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// The device number that the protocol packed.
pub(crate) fn device_from_kernel(packed: u32) -> u64 {
    libc::makedev((packed >> 8) & 0xfff, (packed & 0xff) | (packed >> 12) & 0xf_ff00)
}

/// The number as the kernel takes it; what is no number of Linux becomes `EIO`.
pub(crate) fn errno(errno: Errno) -> KernelErrno {
    match errno.raw() {
        raw @ 1..512 => KernelErrno::from_raw_os_error(raw),
        _ => KernelErrno::IO,
    }
}

/// The type as directory entries have it.
pub(crate) fn file_kind(kind: FileKind) -> KernelFileKind {
    KernelFileKind::from_mode(kind.mode())
}

/// A time to set.
///
/// # Errors
/// `EINVAL` when the nanoseconds are no part of a second.
pub(crate) fn set_time(time: KernelSetTime) -> Result<SetTime, Errno> {
    match time {
        KernelSetTime::Now => Ok(SetTime::Now),
        KernelSetTime::To(time) if time.nanos < 1_000_000_000 => {
            Ok(SetTime::To(Timespec { seconds: time.seconds, nanoseconds: time.nanos }))
        }
        KernelSetTime::To(_) => Err(Errno::EINVAL),
    }
}

/// The flags of `renameat2`.
///
/// # Errors
/// `EINVAL` for whiteouts and for flags that exclude each other.
pub(crate) fn rename_mode(flags: u32) -> Result<RenameMode, Errno> {
    match flags {
        0 => Ok(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(Errno::EINVAL),
    }
}

/// The mode bits of `fallocate`.
///
/// # Errors
/// `EOPNOTSUPP` for combinations that Linux has no meaning for.
pub(crate) fn fallocate_mode(mode: u32) -> Result<FallocateMode, Errno> {
    const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE;
    const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_INSIDE: i32 = libc::FALLOC_FL_ZERO_RANGE | KEEP_SIZE;
    match mode.cast_signed() {
        0 => Ok(FallocateMode::Allocate { keep_size: false }),
        KEEP_SIZE => Ok(FallocateMode::Allocate { keep_size: true }),
        PUNCH_HOLE => Ok(FallocateMode::PunchHole),
        ZERO_RANGE => Ok(FallocateMode::ZeroRange { keep_size: false }),
        ZERO_INSIDE => Ok(FallocateMode::ZeroRange { keep_size: true }),
        libc::FALLOC_FL_COLLAPSE_RANGE => Ok(FallocateMode::CollapseRange),
        libc::FALLOC_FL_INSERT_RANGE => Ok(FallocateMode::InsertRange),
        libc::FALLOC_FL_UNSHARE_RANGE => Ok(FallocateMode::UnshareRange),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The `whence` of an LSEEK, which the kernel only sends for data and holes.
///
/// # Errors
/// `EINVAL` for anything else.
pub(crate) fn seek_what(whence: u32) -> Result<SeekWhat, Errno> {
    match whence.cast_signed() {
        libc::SEEK_DATA => Ok(SeekWhat::Data),
        libc::SEEK_HOLE => Ok(SeekWhat::Hole),
        _ => Err(Errno::EINVAL),
    }
}

/// The flags of `setxattr`.
///
/// # Errors
/// `EINVAL` for both or any other.
pub(crate) fn xattr_mode(flags: u32) -> Result<XattrMode, Errno> {
    match flags.cast_signed() {
        0 => Ok(XattrMode::Set),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Errno::EINVAL),
    }
}

/// The last byte of a lock that reaches past any growth, as the kernel says it.
const TO_THE_END: u64 = i64::MAX as u64;

/// The range of a lock: half-open here, with its last byte in the kernel.
pub(crate) fn lock_from_kernel(lock: &Lock) -> LkRange {
    let kind = match lock.kind {
        LockKind::Read => LkType::Read,
        LockKind::Write => LkType::Write,
        LockKind::Unlock => LkType::Unlock,
    };
    let end = if lock.end >= TO_THE_END { u64::MAX } else { lock.end + 1 };
    LkRange { kind, start: lock.start, end, pid: lock.pid }
}

/// The answer to a GETLK that asked for `asked`.
pub(crate) fn lock_to_kernel(asked: &Lock, found: &LkRange) -> Lock {
    let kind = match found.kind {
        LkType::Read => LockKind::Read,
        LkType::Write => LockKind::Write,
        LkType::Unlock => LockKind::Unlock,
    };
    let end = if found.end > TO_THE_END { TO_THE_END } else { found.end.saturating_sub(1) };
    Lock { kind, start: found.start, end, pid: found.pid, ..*asked }
}

/// What STATFS answers.
pub(crate) fn statfs(stat: &FsStat) -> abi::StatFsOut {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    abi::StatFsOut {
        blocks: stat.blocks,
        bfree: stat.blocks_free,
        bavail: stat.blocks_available,
        files: stat.files,
        ffree: stat.files_free,
        bsize: small(stat.block_size),
        namelen: stat.name_max,
        frsize: small(stat.fragment_size),
        ..abi::StatFsOut::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_fuse::{Fh, LockOwner};

    #[test]
    fn device_numbers_keep_large_majors_and_minors() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (0xfff, 0xf_ffff), (259, 70_000)] {
            let device = libc::makedev(major, minor);
            assert_eq!(device_from_kernel(device_to_kernel(device)), device, "{major}:{minor}");
        }
        assert_eq!(device_to_kernel(libc::makedev(8, 0x12345)), 0x1230_0845);
    }

    #[test]
    fn a_time_before_1970_keeps_its_sign() {
        let modified = Timespec { seconds: -2, nanoseconds: 5 };
        let times = Timespec::default();
        let ours = Attr {
            gfid: brickwork_api::Gfid::ROOT,
            kind: FileKind::Directory,
            mode: 0o1755,
            links: 2,
            uid: 1,
            gid: 2,
            rdev: 0,
            size: 3,
            blocks: 8,
            block_size: 4096,
            accessed: times,
            modified,
            changed: times,
        };
        let theirs = attr(&ours);
        assert_eq!((theirs.mtime.cast_signed(), theirs.mtimensec), (-2, 5));
        assert_eq!((theirs.mode, theirs.ino), (libc::S_IFDIR | 0o1755, 1));
    }

    #[test]
    fn a_number_that_linux_does_not_have_becomes_eio() {
        for raw in [0, -5, 512, i32::MAX] {
            assert_eq!(errno(Errno::from_raw(raw)), KernelErrno::IO);
        }
        assert_eq!(errno(Errno::ENOENT), KernelErrno::NOENT);
    }

    #[test]
    fn a_lock_to_the_end_of_the_file_reaches_past_any_growth_and_back() {
        for (end, ours) in [(TO_THE_END, u64::MAX), (9, 10), (0, 1)] {
            let kernel =
                Lock { fh: Fh(1), owner: LockOwner(2), start: 0, end, kind: LockKind::Write, pid: 3, flock: false };
            let range = lock_from_kernel(&kernel);
            assert_eq!(range.end, ours);
            assert_eq!(lock_to_kernel(&kernel, &range), kernel);
        }
    }

    #[test]
    fn flags_without_a_meaning_are_refused() {
        assert_eq!(rename_mode(libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE), Err(Errno::EINVAL));
        assert_eq!(rename_mode(libc::RENAME_WHITEOUT), Err(Errno::EINVAL));
        let punch_alone = libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned();
        assert_eq!(fallocate_mode(punch_alone), Err(Errno::EOPNOTSUPP));
        assert_eq!(seek_what(libc::SEEK_SET.cast_unsigned()), Err(Errno::EINVAL));
        assert_eq!(xattr_mode(3), Err(Errno::EINVAL));
    }

    #[test]
    fn a_time_with_too_many_nanoseconds_is_refused() {
        let time = brickwork_fuse::request::Time { seconds: 0, nanos: 1_000_000_000 };
        assert_eq!(set_time(KernelSetTime::To(time)), Err(Errno::EINVAL));
    }
}
