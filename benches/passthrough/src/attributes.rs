//! From the attributes of the disk to those of the FUSE protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::fs::{Stat, Timespec, UTIME_NOW, UTIME_OMIT};

/// `stat` as the kernel wants to hear it, about the node `ino`.
pub fn file_attr(ino: INodeNo, stat: &Stat) -> FileAttr {
    FileAttr {
        ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: system_time(stat.st_atime, stat.st_atime_nsec as u32),
        mtime: system_time(stat.st_mtime, stat.st_mtime_nsec as u32),
        ctime: system_time(stat.st_ctime, stat.st_ctime_nsec as u32),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.st_mode),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

/// The type in the `S_IFMT` bits of `mode`; an unknown one counts as a regular file.
pub fn file_type(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// The argument of `utimensat` for a time that may be absent (leave), now, or given.
pub fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => since_epoch(time),
    }
}

fn since_epoch(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() },
        Err(error) => {
            let before = error.duration();
            let (borrow, nanos) = match before.subsec_nanos() {
                0 => (0, 0),
                nanos => (1, 1_000_000_000 - nanos),
            };
            Timespec { tv_sec: -(before.as_secs() as i64) - borrow, tv_nsec: nanos.into() }
        }
    }
}

fn system_time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + Duration::from_nanos(nanos.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_epoch_survives_the_round_trip() {
        for (seconds, nanos) in [(0, 0), (12, 34), (-1, 0), (-1, 999_999_999), (-7, 1)] {
            let spec = since_epoch(system_time(seconds, nanos));
            assert_eq!((spec.tv_sec, spec.tv_nsec), (seconds, i64::from(nanos)));
        }
    }
}
