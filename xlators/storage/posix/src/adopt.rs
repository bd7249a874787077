//! Making a brick of a folder, and recognising one.
//!
//! On a brick of GlusterFS this adds the mark on the root and, while it is served, a folder below `.glusterfs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use brickwork_api::Gfid;
use rustix::fs::{Gid, Mode, OFlags, Uid, fstatfs};
use rustix::io::Errno as Sys;

use crate::brick::cannot;
use crate::handle::{self, HandlePath};
use crate::keys::Keys;
use crate::options::PosixOptions;
use crate::sys::{self, At};

/// What the mark says: the layout of our own folder.
const MARK: &[u8] = b"1";

/// Which keys the brick uses, leaving the mark.
///
/// A brick that was made without privilege stays one; a new one gets GlusterFS's keys if this process may set them.
pub(crate) fn keys(path: &Path, root: BorrowedFd<'_>) -> Result<Keys, String> {
    let at = At::of(&root);
    if sys::get_xattr(at, Keys::User.gfid(), &mut []).is_ok() {
        return mark(path, root, Keys::User).map(|()| Keys::User);
    }
    match sys::set_xattr(at, Keys::Trusted.mark(), MARK, 0) {
        Ok(()) => return Ok(Keys::Trusted),
        Err(Sys::PERM) => {}
        Err(errno) => return Err(no_xattrs(path, root, errno)),
    }
    // Somebody who may not read `trusted.` sees the folder, but not the gfid on the root.
    if rustix::fs::statat(root, handle::FOLDER, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(format!(
            "brick `{}` keeps its metadata in `trusted.` xattrs, which only a process with CAP_SYS_ADMIN may read",
            path.display()
        ));
    }
    mark(path, root, Keys::User).map(|()| Keys::User)
}

fn mark(path: &Path, root: BorrowedFd<'_>, keys: Keys) -> Result<(), String> {
    sys::set_xattr(At::of(&root), keys.mark(), MARK, 0).map_err(|errno| no_xattrs(path, root, errno))
}

fn no_xattrs(path: &Path, root: BorrowedFd<'_>, errno: Sys) -> String {
    if errno != Sys::OPNOTSUPP {
        return cannot("mark brick", path, errno);
    }
    let kind = fstatfs(root).map_or_else(|_| "unknown".to_owned(), |stat| file_system(stat.f_type as u64));
    format!("brick `{}` is on a file system without extended attributes ({kind})", path.display())
}

const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const TMPFS: u64 = 0x0102_1994;

/// The name of a file system by its magic number (`statfs(2)`).
fn file_system(magic: u64) -> String {
    match magic {
        EXT => "ext".to_owned(),
        XFS => "xfs".to_owned(),
        BTRFS => "btrfs".to_owned(),
        TMPFS => "tmpfs".to_owned(),
        0x4d44 => "vfat".to_owned(),
        0x2011_bab0 => "exfat".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        0x0102_1997 => "9p".to_owned(),
        other => format!("type {other:#x}"),
    }
}

/// Whether every change that somebody could have noticed gets a time of its own on this file system.
///
/// # Source
/// Multigrain timestamps of Linux 6.13, used by ext4, xfs, btrfs and tmpfs.
pub(crate) fn fine_timestamps(root: BorrowedFd<'_>) -> bool {
    let release = rustix::system::uname();
    let fine = fstatfs(root).is_ok_and(|stat| matches!(stat.f_type as u64, EXT | XFS | BTRFS | TMPFS));
    fine && at_least(release.release().to_bytes(), (6, 13))
}

/// Whether the kernel `release` is `wanted` or newer.
fn at_least(release: &[u8], wanted: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|byte| !byte.is_ascii_digit())
        .map_while(|digits| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok()));
    numbers.next().zip(numbers.next()).is_some_and(|found| found >= wanted)
}

/// Checks the gfid of the root, or sets it; returns whether the folder was no brick before.
pub(crate) fn root(path: &Path, root: BorrowedFd<'_>, keys: Keys) -> Result<bool, String> {
    let mut gfid = [0; 16];
    match sys::get_xattr(At::of(&root), keys.gfid(), &mut gfid) {
        Ok(16) if Gfid::from_bytes(gfid) == Gfid::ROOT => Ok(false),
        Ok(16) => Err(format!(
            "`{}` is no brick but a directory inside one: its gfid is {}",
            path.display(),
            Gfid::from_bytes(gfid)
        )),
        Ok(_) | Err(Sys::RANGE) => Err(format!("the gfid of brick `{}` is not 16 bytes long", path.display())),
        Err(Sys::NODATA) => sys::set_xattr(At::of(&root), keys.gfid(), &Gfid::ROOT.to_bytes(), 0)
            .map(|()| true)
            .map_err(|errno| cannot("set the gfid of brick", path, errno)),
        Err(errno) => Err(cannot("read the gfid of brick", path, errno)),
    }
}

/// Checks the volume that the brick belongs to; a new brick gets the one that is `wanted`.
///
/// A brick without one that is not new is refused: it may be the empty folder below a disk that was not mounted.
pub(crate) fn volume(
    path: &Path,
    root: BorrowedFd<'_>,
    keys: Keys,
    wanted: Option<Gfid>,
    fresh: bool,
) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    let mut found = [0; 16];
    match sys::get_xattr(At::of(&root), keys.volume_id(), &mut found) {
        Ok(16) if Gfid::from_bytes(found) == wanted => Ok(()),
        Ok(16) => Err(format!(
            "brick `{}` belongs to volume {}, not to {wanted}; check `directory` and `volume-id`",
            path.display(),
            Gfid::from_bytes(found)
        )),
        Err(Sys::NODATA) if fresh => sys::set_xattr(At::of(&root), keys.volume_id(), &wanted.to_bytes(), 0)
            .map_err(|errno| cannot("set the volume of brick", path, errno)),
        Err(Sys::NODATA) => Err(format!(
            "brick `{}` carries no volume-id, though `volume-id` is {wanted}; is its disk mounted?",
            path.display()
        )),
        Ok(_) | Err(Sys::RANGE) => Err(format!("the volume-id of brick `{}` is not 16 bytes long", path.display())),
        Err(errno) => Err(cannot("read the volume-id of brick", path, errno)),
    }
}

/// Gives the root to `brick-uid` and `brick-gid`.
pub(crate) fn owner(path: &Path, root: BorrowedFd<'_>, options: &PosixOptions) -> Result<(), String> {
    if options.brick_uid.is_none() && options.brick_gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (options.brick_uid.map(Uid::from_raw), options.brick_gid.map(Gid::from_raw));
    rustix::fs::fchown(root, uid, gid).map_err(|errno| cannot("change the owner of brick", path, errno))
}

/// The folder of the handles, with the handle of the root. Its 256 folders are made as handles need them.
pub(crate) fn handles(path: &Path, root: BorrowedFd<'_>) -> Result<OwnedFd, String> {
    let refused = |errno| cannot("make the handles of brick", path, errno);
    make_folder(root, handle::FOLDER).map_err(refused)?;
    let folder = open_folder(root, handle::FOLDER).map_err(refused)?;
    let of_root = HandlePath::of(Gfid::ROOT);
    if sys::stat(At { dir: folder.as_fd(), path: of_root.as_c_str() }).is_err() {
        for part in of_root.folders() {
            make_folder(folder.as_fd(), part).map_err(refused)?;
        }
        rustix::fs::symlinkat(handle::ROOT_TEXT, &folder, of_root.as_c_str()).map_err(refused)?;
    }
    Ok(folder)
}

/// Opens the folder `name` of `parent`, made if need be.
pub(crate) fn folder(path: &Path, parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, String> {
    make_folder(parent, name.as_bytes())
        .and_then(|_| open_folder(parent, name.as_bytes()))
        .map_err(|errno| cannot("make our folder in brick", path, errno))
}

fn make_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Sys> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Sys::EXIST) => return Ok(false),
        made => made?,
    }
    // Nothing that the root's default ACL gives to others may reach in here.
    let folder = open_folder(parent, name)?;
    for acl in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        match sys::remove_xattr(At::of(&folder), acl) {
            Ok(()) | Err(Sys::NODATA | Sys::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fchmod(&folder, Mode::RWXU)?;
    Ok(true)
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Sys> {
    let name = std::ffi::CString::new(name).map_err(|_| Sys::INVAL)?;
    sys::open_name(parent, &name, OFlags::RDONLY | OFlags::DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, newer) in
            [("6.18.44-fc-v595", true), ("6.13", true), ("7.0-rc1", true), ("6.9.1", false), ("x", false)]
        {
            assert_eq!(at_least(release.as_bytes(), (6, 13)), newer, "{release}");
        }
    }
}
