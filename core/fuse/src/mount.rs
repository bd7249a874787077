//! Putting a connection into the tree of files, and taking it out.
//!
//! As root by mount(2); without root by `fusermount3`, which mounts and hands the descriptor over. What a killed server
//! leaves behind, a mount that answers `ENOTCONN`, is recognised and cleared away by the next mount at the same place.

mod error;
mod helper;
mod table;

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

pub use error::MountError;

use crate::transport::DevFuse;
use table::Mounted;

/// File system type of these mounts: `fuse.` and [`MountOptions::subtype`]'s default.
pub const MOUNT_TYPE: &str = "fuse.brickwork";
/// Dead mounts one above the other that are cleared away before it is given up.
const DEAD_MAX: usize = 16;

/// How to mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// What `mount` and `df` show as the source. Default: `brickwork`.
    pub source: String,
    /// The type shown is `fuse.` and this. Default: `brickwork`.
    pub subtype: String,
    /// Others than the mounting user may use the mount. Default: yes for root.
    ///
    /// Without root it needs `user_allow_other` in `/etc/fuse.conf`.
    pub allow_other: bool,
    /// The kernel checks permissions by mode and ACL. Default: yes.
    pub default_permissions: bool,
    /// Nothing may be written. Default: no.
    pub read_only: bool,
    /// Set-user-id and set-group-id have effect. Default: no. By root only.
    pub suid: bool,
    /// Device files can be opened. Default: no. By root only.
    pub devices: bool,
    /// Programs can be run. Default: yes.
    pub exec: bool,
    /// Largest READ, in bytes. Default: none but the pages of a request.
    pub max_read: Option<u32>,
    /// Which way to mount. Default: whichever works.
    pub way: Way,
}

/// Which way to mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// mount(2), and where that is not permitted `fusermount3`.
    #[default]
    Any,
    /// mount(2) alone.
    Direct,
    /// `fusermount3` alone.
    Helper,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            source: "brickwork".into(),
            subtype: "brickwork".into(),
            allow_other: rustix::process::geteuid().is_root(),
            default_permissions: true,
            read_only: false,
            suid: false,
            devices: false,
            exec: true,
            max_read: None,
            way: Way::Any,
        }
    }
}

/// A mount of ours in the tree. Dropping it aborts it and takes it out.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    connection: Option<u32>,
    gone: AtomicBool,
}

impl Mount {
    /// Mounts at the directory `point`; the lane is for [`crate::Session::start`].
    ///
    /// A dead mount of a killed server at `point` is cleared away first. Nothing in `point` answers before the session
    /// has started, so whoever looks at it meanwhile waits.
    ///
    /// # Errors
    /// What, where, why and what to do next: see [`MountError`].
    pub fn new(point: &Path, options: &MountOptions) -> Result<(Self, DevFuse), MountError> {
        clear_dead(point)?;
        let point = checked(point)?;
        let lane = match options.way {
            Way::Direct => direct(&point, options)?,
            Way::Helper => helper::mount(&point, options)?,
            Way::Any => match direct(&point, options) {
                Err(MountError::Refused { errno: Errno::PERM, .. } | MountError::Device { errno: Errno::ACCESS }) => {
                    helper::mount(&point, options)?
                }
                other => other?,
            },
        };
        let connection = table::top(&point).map(|mounted| mounted.device_minor);
        Ok((Self { point, connection, gone: AtomicBool::new(false) }, lane))
    }

    /// A mount that another process made and handed over, at the absolute path `point`.
    ///
    /// # Errors
    /// There is no mount of type [`MOUNT_TYPE`] there.
    pub fn adopt(point: &Path) -> Result<Self, MountError> {
        let mounted = table::top(point).filter(Mounted::is_fuse);
        let mounted = mounted.ok_or_else(|| MountError::NotMounted { point: point.to_owned() })?;
        Ok(Self { point: point.to_owned(), connection: Some(mounted.device_minor), gone: AtomicBool::new(false) })
    }

    /// Where it is mounted: absolute, without links.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// The number of the connection: its folder in `/sys/fs/fuse/connections`.
    pub fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Whether this very mount is the one seen at its point.
    pub fn is_mounted(&self) -> bool {
        let top = table::top(&self.point);
        top.is_some_and(|mounted| self.connection.is_none_or(|minor| mounted.device_minor == minor))
    }

    /// Gives the mount up without touching it: it is in the hands of another process now.
    pub fn leave(self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Takes the mount out of the tree; it lives on until the last file open on it is closed.
    ///
    /// # Errors
    /// See [`MountError`]. A mount that is gone already is none.
    pub fn unmount(&self) -> Result<(), MountError> {
        if self.gone.load(Ordering::Relaxed) || !self.is_mounted() {
            return Ok(());
        }
        detach(&self.point, UnmountFlags::DETACH)
    }

    /// Takes the mount out of the tree if nobody uses it.
    ///
    /// # Errors
    /// [`MountError::InUse`] while a file is open on it or a process works in it; see [`MountError`] for others.
    pub fn unmount_unused(&self) -> Result<(), MountError> {
        if self.gone.load(Ordering::Relaxed) || !self.is_mounted() {
            return Ok(());
        }
        detach(&self.point, UnmountFlags::empty())
    }

    /// Takes the mount out of the tree and, as root, ends the connection: what is open on it fails from now on.
    ///
    /// Without root the connection ends with the last descriptor of its lanes: [`crate::Session::abort`] does both.
    ///
    /// # Errors
    /// See [`MountError`]. A mount that is gone already is none.
    pub fn abort(&self) -> Result<(), MountError> {
        if self.gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.is_mounted() {
            return Ok(());
        }
        detach(&self.point, UnmountFlags::DETACH | UnmountFlags::FORCE)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = self.abort() {
            tracing::error!(%why, "a mount could not be removed");
        }
    }
}

/// Takes whatever mount of type [`MOUNT_TYPE`] is at `point`, dead or alive, out of the tree.
///
/// # Errors
/// There is none, or it cannot be taken out: see [`MountError`].
pub fn unmount(point: &Path) -> Result<(), MountError> {
    let point = placed(point)?;
    match table::top(&point) {
        Some(mounted) if mounted.is_fuse() => detach(&point, UnmountFlags::DETACH),
        _ => Err(MountError::NotMounted { point }),
    }
}

/// Takes whatever mount of type [`MOUNT_TYPE`] is at `point` out of the tree if nobody uses it.
///
/// # Errors
/// There is none, [`MountError::InUse`], or it cannot be taken out: see [`MountError`].
pub fn unmount_unused(point: &Path) -> Result<(), MountError> {
    let point = placed(point)?;
    match table::top(&point) {
        Some(mounted) if mounted.is_fuse() => detach(&point, UnmountFlags::empty()),
        _ => Err(MountError::NotMounted { point }),
    }
}

/// Whether the server of the mount at `point` is gone: everything there answers `ENOTCONN`.
pub fn is_dead(point: &Path) -> bool {
    // O_PATH asks the server nothing; the attributes are asked of a dead connection at once, of a live one by its server.
    matches!(rustix::fs::stat(point), Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CONNREFUSED))
}

/// Clears dead mounts of ours at `point` away.
fn clear_dead(point: &Path) -> Result<(), MountError> {
    for _ in 0..DEAD_MAX {
        if !is_dead(point) {
            return Ok(());
        }
        let place = placed(point)?;
        let Some(dead) = table::top(&place).filter(Mounted::is_fuse) else {
            return Err(MountError::DeadStranger { point: place });
        };
        tracing::info!(point = %place.display(), connection = dead.device_minor, "clearing a dead mount away");
        detach(&place, UnmountFlags::DETACH)?;
    }
    Err(MountError::DeadStranger { point: point.to_owned() })
}

/// `point` without links in its parents, found without asking what is mounted at it.
fn placed(point: &Path) -> Result<PathBuf, MountError> {
    let no_point = |why| MountError::NoPoint { point: point.to_owned(), why };
    match (point.parent(), point.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize().map_err(no_point)?.join(name))
        }
        // `/`, or a path that ends in `..`.
        _ => point.canonicalize().map_err(no_point),
    }
}

/// `point` as an absolute path without links, if a mount can go there.
fn checked(point: &Path) -> Result<PathBuf, MountError> {
    let point = point.canonicalize().map_err(|why| MountError::NoPoint { point: point.to_owned(), why })?;
    if !point.is_dir() {
        return Err(MountError::NotADirectory { point });
    }
    if table::top(&point).is_some_and(|mounted| mounted.is_ours()) {
        return Err(MountError::Busy { point });
    }
    Ok(point)
}

/// Mounts by mount(2).
fn direct(point: &Path, options: &MountOptions) -> Result<DevFuse, MountError> {
    let lane = DevFuse::open().map_err(|errno| MountError::Device { errno })?;
    let data = options.data(std::os::fd::AsFd::as_fd(&lane).as_raw_fd());
    let data = CString::new(data).map_err(|_| options.impossible())?;
    let kind = format!("fuse.{}", options.subtype);
    let mounted = rustix::mount::mount(options.source.as_str(), point, kind.as_str(), options.flags(), &*data);
    mounted.map_err(|errno| MountError::Refused { point: point.to_owned(), errno })?;
    Ok(lane)
}

impl MountOptions {
    fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::NODEV, !self.devices);
        flags.set(MountFlags::NOEXEC, !self.exec);
        flags
    }

    /// The options of mount(2) for the connection on the descriptor `fd`.
    fn data(&self, fd: i32) -> String {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // The kernel reads rootmode in octal: a directory.
        let mut data = format!("fd={fd},rootmode={:o},user_id={user},group_id={group}", libc::S_IFDIR);
        self.common().iter().for_each(|option| {
            data.push(',');
            data.push_str(option);
        });
        data
    }

    /// The options that mount(2) and `fusermount3` spell alike.
    fn common(&self) -> Vec<String> {
        let mut options = Vec::new();
        if self.allow_other {
            options.push("allow_other".into());
        }
        if self.default_permissions {
            options.push("default_permissions".into());
        }
        options.extend(self.max_read.map(|bytes| format!("max_read={bytes}")));
        options
    }

    fn impossible(&self) -> MountError {
        MountError::Options { source: self.source.clone(), subtype: self.subtype.clone() }
    }
}

/// Takes what is at `point` out of the tree, by `fusermount3` where we may not.
fn detach(point: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    match rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        // Somebody was faster.
        Err(Errno::INVAL | Errno::NOENT) if !table::is_mounted(point) => Ok(()),
        Err(Errno::PERM) => helper::unmount(point, flags.contains(UnmountFlags::DETACH)),
        Err(Errno::BUSY) => Err(MountError::InUse { point: point.to_owned() }),
        Err(errno) => Err(MountError::Stuck { point: point.to_owned(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootmode_is_octal_and_every_option_is_there_as_chosen() {
        let options = MountOptions {
            allow_other: true,
            default_permissions: true,
            max_read: Some(65536),
            ..MountOptions::default()
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let expected =
            format!("fd=7,rootmode=40000,user_id={uid},group_id={gid},allow_other,default_permissions,max_read=65536");
        assert_eq!(options.data(7), expected);
        let none = MountOptions { allow_other: false, default_permissions: false, ..MountOptions::default() };
        assert_eq!(none.data(7), format!("fd=7,rootmode=40000,user_id={uid},group_id={gid}"));
    }

    #[test]
    fn suid_and_devices_are_off_unless_asked_for() {
        let flags = MountOptions::default().flags();
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NODEV);
        let open = MountOptions { suid: true, devices: true, exec: false, read_only: true, ..MountOptions::default() };
        assert_eq!(open.flags(), MountFlags::NOEXEC | MountFlags::RDONLY);
    }

    #[test]
    fn a_point_that_is_missing_or_a_file_is_refused_with_its_name() {
        let missing = Mount::new(Path::new("/no/such/brickwork/point"), &MountOptions::default()).unwrap_err();
        assert!(missing.to_string().starts_with("`/no/such/brickwork/point`: "), "{missing}");
        let file = Mount::new(Path::new("/proc/self/status"), &MountOptions::default()).unwrap_err();
        assert!(matches!(file, MountError::NotADirectory { .. }), "{file}");
    }
}
