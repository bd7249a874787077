//! Why a mount fails: where, why, and what to do next.

use std::path::PathBuf;

use rustix::io::Errno;

/// Why a mount or an unmount fails; the message has one line, first the place, then the reason, then the way out.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum MountError {
    /// The mount point cannot be reached.
    NoPoint { point: PathBuf, why: std::io::Error },
    /// The mount point is no directory.
    NotADirectory { point: PathBuf },
    /// A live mount of ours is there.
    Busy { point: PathBuf },
    /// A dead mount is there that is not FUSE's, or too many of them.
    DeadStranger { point: PathBuf },
    /// `/dev/fuse` cannot be opened.
    Device { errno: Errno },
    /// mount(2) refused.
    Refused { point: PathBuf, errno: Errno },
    /// A source or subtype that no mount can have.
    Options { source: String, subtype: String },
    /// `fusermount3` is not there, or could not be run.
    NoHelper { why: std::io::Error },
    /// `fusermount3` refused.
    Helper { point: PathBuf, said: String },
    /// `fusermount3` ended well and sent no descriptor.
    NoDescriptor { point: PathBuf, why: String },
    /// Nothing of ours is mounted there.
    NotMounted { point: PathBuf },
    /// Somebody uses the mount.
    InUse { point: PathBuf },
    /// The mount cannot be taken out of the tree.
    Stuck { point: PathBuf, errno: Errno },
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPoint { point, why } => write!(f, "`{}`: {why}; create the directory first", point.display()),
            Self::NotADirectory { point } => {
                write!(f, "`{}`: not a directory; choose an empty directory to mount on", point.display())
            }
            Self::Busy { point } => {
                write!(f, "`{0}`: a brickwork mount is there already; unmount it first: umount {0}", point.display())
            }
            Self::DeadStranger { point } => write!(
                f,
                "`{0}`: a dead mount of another kind is there; take it out first: umount -l {0}",
                point.display()
            ),
            Self::Device { errno: errno @ (Errno::NOENT | Errno::NXIO | Errno::NODEV) } => {
                write!(f, "`/dev/fuse`: {errno}; load the module (modprobe fuse) or give the container the device")
            }
            Self::Device { errno } => write!(f, "`/dev/fuse`: {errno}; its mode should be 0666"),
            Self::Refused { point, errno: Errno::PERM } => write!(
                f,
                "`{}`: the kernel does not let this user mount; become root or install fusermount3 (package fuse3)",
                point.display()
            ),
            Self::Refused { point, errno: Errno::NODEV } => {
                write!(f, "`{}`: this kernel has no FUSE; load the module (modprobe fuse)", point.display())
            }
            Self::Refused { point, errno } => {
                write!(f, "`{}`: the kernel refused the mount: {errno}; dmesg may say more", point.display())
            }
            Self::Options { source, subtype } => write!(
                f,
                "source `{}` and subtype `{}` cannot be mounted; use names without NUL, and a subtype without commas",
                source.escape_default(),
                subtype.escape_default()
            ),
            Self::NoHelper { why } => {
                write!(f, "fusermount3 cannot be run: {why}; install package fuse3, or become root")
            }
            Self::Helper { point, said } if said.contains("user_allow_other") => write!(
                f,
                "`{}`: {said}; add the line user_allow_other to /etc/fuse.conf or mount without allow_other",
                point.display()
            ),
            Self::Helper { point, said } if said.contains("/dev/fuse") => {
                write!(f, "`{}`: {said}; the mode of /dev/fuse should be 0666", point.display())
            }
            Self::Helper { point, said } => {
                write!(f, "`{}`: {said}; the directory must be yours and writable", point.display())
            }
            Self::NoDescriptor { point, why } => {
                write!(f, "`{}`: fusermount3 handed no connection over: {why}; update package fuse3", point.display())
            }
            Self::NotMounted { point } => {
                write!(f, "`{}`: no brickwork mount is there; `mount -t fuse.brickwork` lists them", point.display())
            }
            Self::InUse { point } => write!(
                f,
                "`{0}`: in use, by open files or as somebody's working directory; `fuser -vm {0}` lists who",
                point.display()
            ),
            Self::Stuck { point, errno } => {
                write!(f, "`{0}`: cannot be unmounted: {errno}; as root: umount -l {0}", point.display())
            }
        }
    }
}

impl std::error::Error for MountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoPoint { why, .. } | Self::NoHelper { why } => Some(why),
            Self::Device { errno } | Self::Refused { errno, .. } | Self::Stuck { errno, .. } => Some(errno),
            _ => None,
        }
    }
}
