//! Attributes: from what the file system says to what the volume shows, and changes of them.

use std::os::fd::{AsFd, BorrowedFd};

use brickwork_api::{
    Attr, AttrChange, Credentials, Errno, FileKind, FopError, FopResult, Gfid, SetTime, Target, Timespec,
};
use rustix::fs::{AtFlags, Gid, Mode, Statx, Timestamps, Uid};

use crate::brick::Brick;
use crate::sys;

const NOW: i64 = libc::UTIME_NOW;
const OMIT: i64 = libc::UTIME_OMIT;

/// The type of the object; the kernel knows no other types than these seven.
pub(crate) fn kind(stat: &Statx) -> FopResult<FileKind> {
    FileKind::from_mode(stat.stx_mode.into())
        .ok_or_else(|| FopError::new(Errno::EIO).doing("reading the type of an object").with("mode", stat.stx_mode))
}

pub(crate) fn is_dir(stat: &Statx) -> bool {
    u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR
}

/// Names that applications know of: the handle of a file is one of its links, `.glusterfs` one of those of the root.
pub(crate) fn links(gfid: Gfid, stat: &Statx) -> u32 {
    match is_dir(stat) {
        false => stat.stx_nlink.saturating_sub(1),
        // Some file systems do not count: their directories have one link.
        true if gfid == Gfid::ROOT && stat.stx_nlink > 2 => stat.stx_nlink - 1,
        true => stat.stx_nlink,
    }
}

/// What the volume shows of an object.
pub(crate) fn attr(gfid: Gfid, stat: &Statx) -> FopResult<Attr> {
    let time = |time: rustix::fs::StatxTimestamp| Timespec { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    Ok(Attr {
        gfid,
        kind: kind(stat)?,
        mode: u32::from(stat.stx_mode) & brickwork_api::MODE_BITS,
        links: links(gfid, stat),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        block_size: stat.stx_blksize,
        accessed: time(stat.stx_atime),
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
    })
}

/// The mode without the bits that a write by somebody else than root takes away; `None` when there are none.
pub(crate) fn without_set_id(mode: u32) -> Option<u32> {
    let group_runs = mode & libc::S_IXGRP != 0;
    let killed = libc::S_ISUID | if group_runs { libc::S_ISGID } else { 0 };
    (mode & killed != 0).then_some(mode & brickwork_api::MODE_BITS & !killed)
}

impl Brick {
    /// Attributes of `target`.
    pub(crate) fn stat(&self, client: brickwork_api::ClientId, target: Target) -> FopResult<Attr> {
        if let Some(open) = target.open {
            let open = self.opens.get(client, target.gfid, open)?;
            return attr(target.gfid, &sys::stat(sys::At::of(&open.fd))?);
        }
        let (_, stat) = self.object(target.gfid)?;
        attr(target.gfid, &stat)
    }

    /// Applies `change` as `who`: all of it, or, where the kernel refuses a part, none.
    pub(crate) fn setattr(
        &self,
        client: brickwork_api::ClientId,
        who: &Credentials,
        target: Target,
        change: &AttrChange,
    ) -> FopResult<Attr> {
        check(change)?;
        let held = self.hold(client, target)?;
        let fd = held.as_fd();
        let before = sys::stat(sys::At::of(&fd))?;
        if let Some(mode) = change.mode {
            self.keep_gfid_readable(target.gfid, &before, mode & brickwork_api::MODE_BITS)?;
        }
        let mut done = 0;
        let applied = apply(self, who, fd, &before, change, &mut done);
        if let Err(error) = applied {
            undo(fd, &before, done)?;
            return Err(error);
        }
        attr(target.gfid, &sys::stat(sys::At::of(&fd))?)
    }

    /// Takes the set-id bits of a file away if it has any.
    pub(crate) fn kill_set_id(&self, fd: BorrowedFd<'_>) -> FopResult<()> {
        let stat = sys::stat(sys::At::of(&fd))?;
        if let Some(mode) = without_set_id(stat.stx_mode.into()) {
            set_mode(fd, mode)?;
        }
        Ok(())
    }
}

/// Refuses numbers that the system calls take for something else: no user or group, and now or never for a time.
fn check(change: &AttrChange) -> FopResult<()> {
    let no_one = change.uid == Some(u32::MAX) || change.gid == Some(u32::MAX);
    let too_long = |set: &SetTime| matches!(set, SetTime::To(time) if time.nanoseconds >= 1_000_000_000);
    let no_time = [change.accessed, change.modified].iter().flatten().any(too_long);
    if no_one || no_time { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

/// Applies the parts in the order chown, chmod, times, counting those that are `done`: a chown takes set-id bits away,
/// so a mode must come after it.
fn apply(
    brick: &Brick,
    who: &Credentials,
    fd: BorrowedFd<'_>,
    before: &Statx,
    change: &AttrChange,
    done: &mut u32,
) -> FopResult<()> {
    let acting = brick.identities.assume(who)?;
    if change.uid.is_some() || change.gid.is_some() {
        let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
        rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        *done += 1;
    }
    if let Some(mode) = change.mode {
        set_mode(fd, mode)?;
        *done += 1;
    }
    if change.accessed.is_none() && change.modified.is_none() {
        return Ok(());
    }
    let times = Timestamps { last_access: timespec(change.accessed), last_modification: timespec(change.modified) };
    match rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
        Ok(()) => Ok(()),
        Err(errno @ (rustix::io::Errno::PERM | rustix::io::Errno::ACCESS)) => {
            // Whoever may write may set times to now, and the kernel only sees that when both are set.
            let now = [change.accessed, change.modified].into_iter().flatten().all(|time| time == SetTime::Now);
            if !now || u32::from(before.stx_mode) & libc::S_IFMT == libc::S_IFLNK || sys::access(fd, 2).is_err() {
                return Err(errno.into());
            }
            drop(acting);
            Ok(rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Puts owner and mode back to what they were, as ourselves.
fn undo(fd: BorrowedFd<'_>, before: &Statx, done: u32) -> FopResult<()> {
    if done == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(before.stx_uid), Gid::from_raw(before.stx_gid));
    rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if u32::from(before.stx_mode) & libc::S_IFMT != libc::S_IFLNK {
        set_mode(fd, u32::from(before.stx_mode) & brickwork_api::MODE_BITS)?;
    }
    Ok(())
}

/// Sets the mode of the object behind `fd`, `O_PATH` or not.
pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::chmod(sys::proc_path(fd), Mode::from_raw_mode(mode & brickwork_api::MODE_BITS))
}

fn timespec(time: Option<SetTime>) -> rustix::fs::Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, OMIT),
        Some(SetTime::Now) => (0, NOW),
        Some(SetTime::To(time)) => (time.seconds, time.nanoseconds.into()),
    };
    rustix::fs::Timespec { tv_sec, tv_nsec }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_second_meaning_are_refused() {
        let at = |nanoseconds| Some(SetTime::To(Timespec { seconds: 1, nanoseconds }));
        for change in [
            AttrChange { uid: Some(u32::MAX), ..AttrChange::default() },
            AttrChange { gid: Some(u32::MAX), ..AttrChange::default() },
            AttrChange { accessed: at(NOW as u32), ..AttrChange::default() },
            AttrChange { modified: at(OMIT as u32), ..AttrChange::default() },
        ] {
            assert_eq!(check(&change).unwrap_err().errno(), Errno::EINVAL, "{change:?}");
        }
        assert!(check(&AttrChange { accessed: at(999_999_999), ..AttrChange::default() }).is_ok());
    }

    #[test]
    fn a_write_takes_set_uid_and_an_effective_set_gid() {
        assert_eq!(without_set_id(0o100_755), None);
        assert_eq!(without_set_id(0o104_711), Some(0o711));
        assert_eq!(without_set_id(0o102_710), Some(0o710));
        // Without the right to execute the bit means mandatory locking and stays.
        assert_eq!(without_set_id(0o102_700), None);
        assert_eq!(without_set_id(0o106_700), Some(0o2700));
    }
}
