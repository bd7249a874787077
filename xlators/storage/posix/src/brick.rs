//! A brick that is open: the folder, what it is known by, and what is kept in memory about it.
//!
//! One process serves a brick, and it opens it once: graphs that follow each other in a process (a reload) share what is
//! here, opens included. A `flock` on the root keeps other processes out.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use brickwork_api::{Errno, FopError, FopResult, Gfid};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno as Sys;

use crate::buffers::Buffers;
use crate::dirs::{Dir, Dirs};
use crate::handle::HandlePath;
use crate::identity::Identities;
use crate::intents::Intents;
use crate::io::Waits;
use crate::keys::Keys;
use crate::locks::Stripes;
use crate::opens::Opens;
use crate::options::PosixOptions;
use crate::returning::Returning;
use crate::sys::{self, At};

/// Our own folder below that of the handles.
pub(crate) const OWN: &str = "brickwork";
/// Below [`OWN`]: objects that have no name yet.
pub(crate) const STAGING: &str = "staging";
/// Below [`OWN`]: the records of the xlators above, a folder for each.
pub(crate) const WORK: &str = "work";
/// Below [`OWN`], without privilege: gfids of objects that cannot carry them.
pub(crate) const INODES: &str = "inode";
/// Below the folder of the handles: content that is open and has lost its last name.
pub(crate) const PARKED: &str = "unlink";

/// What the options say about fops; a running brick takes new ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_hardlinks: u32,
    pub(crate) paths: bool,
    pub(crate) file_mask: u32,
    pub(crate) file_force: u32,
    pub(crate) directory_mask: u32,
    pub(crate) directory_force: u32,
}

impl Settings {
    pub(crate) fn of(options: &PosixOptions) -> Settings {
        Settings {
            max_hardlinks: options.max_hardlinks,
            paths: options.gfid2path,
            file_mask: options.create_mask.0,
            file_force: options.force_create_mode.0,
            directory_mask: options.create_directory_mask.0,
            directory_force: options.force_directory_mode.0,
        }
    }
}

/// A brick that is open.
#[derive(Debug)]
pub(crate) struct Brick {
    pub(crate) path: PathBuf,
    pub(crate) root: Arc<Dir>,
    pub(crate) handles: OwnedFd,
    pub(crate) own: OwnedFd,
    pub(crate) staging: OwnedFd,
    pub(crate) keys: Keys,
    pub(crate) identities: Identities,
    pub(crate) dirs: Dirs,
    pub(crate) opens: Opens,
    pub(crate) names: Stripes,
    pub(crate) objects: Stripes,
    pub(crate) intents: Intents,
    pub(crate) buffers: Buffers,
    pub(crate) settings: RwLock<Settings>,
    pub(crate) returning: Returning,
    pub(crate) waits: Waits,
    /// Every change that somebody could have noticed gets a time of its own.
    pub(crate) fine_timestamps: bool,
    /// Less space is free than `reserve`.
    pub(crate) full: AtomicBool,
    /// Bytes kept back by `reserve`.
    pub(crate) reserved: AtomicU64,
    /// The file system has no unnamed files (`O_TMPFILE`).
    pub(crate) no_unnamed: AtomicBool,
    /// The file system cannot say whether a read would wait (`RWF_NOWAIT`).
    pub(crate) no_nowait: AtomicBool,
}

/// Device and inode of a root.
type Key = (u64, u64);

/// The bricks that this process has open.
static BRICKS: LazyLock<Mutex<HashMap<Key, Weak<Brick>>>> = LazyLock::new(Mutex::default);

impl Brick {
    /// Opens the brick of `options`, making one of a folder that is none yet, and puts right what a crash left.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn open(options: &PosixOptions) -> Result<Arc<Brick>, String> {
        let path = &options.directory.0;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| cannot_open(path, errno))?;
        let stat = sys::stat(At::of(&fd)).map_err(|errno| cannot_open(path, errno))?;
        let key = (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino);
        let mut bricks = BRICKS.lock();
        bricks.retain(|_, brick| brick.strong_count() > 0);
        if let Some(brick) = bricks.get(&key).and_then(Weak::upgrade) {
            brick.check_volume(options.volume_id)?;
            return Ok(brick);
        }
        let brick = Arc::new(Brick::open_first(options, fd, stat.stx_ino)?);
        bricks.insert(key, Arc::downgrade(&brick));
        Ok(brick)
    }

    fn open_first(options: &PosixOptions, fd: OwnedFd, ino: u64) -> Result<Brick, String> {
        let path = options.directory.0.clone();
        lock(&path, fd.as_fd())?;
        sys::probe_xattrat(fd.as_fd());
        let keys = crate::adopt::keys(&path, fd.as_fd())?;
        let fresh = crate::adopt::root(&path, fd.as_fd(), keys)?;
        crate::adopt::volume(&path, fd.as_fd(), keys, options.volume_id, fresh)?;
        crate::adopt::owner(&path, fd.as_fd(), options)?;
        let handles = crate::adopt::handles(&path, fd.as_fd())?;
        let own = crate::adopt::folder(&path, handles.as_fd(), OWN)?;
        let staging = crate::adopt::folder(&path, own.as_fd(), STAGING)?;
        let intents = Intents::open(own.as_fd()).map_err(|errno| cannot("open the list of intents", &path, errno))?;
        let brick = Brick {
            fine_timestamps: crate::adopt::fine_timestamps(fd.as_fd()),
            root: Arc::new(Dir { gfid: Gfid::ROOT, fd, ino }),
            handles,
            own,
            staging,
            keys,
            identities: Identities::of_process(),
            dirs: Dirs::new(options.dirfd_cache.min(descriptors() / 4)),
            opens: Opens::new(),
            names: Stripes::new(),
            objects: Stripes::new(),
            intents,
            buffers: Buffers::new(),
            settings: RwLock::new(Settings::of(options)),
            returning: Returning::default(),
            waits: Waits::default(),
            full: AtomicBool::new(false),
            reserved: AtomicU64::new(0),
            no_unnamed: AtomicBool::new(false),
            no_nowait: AtomicBool::new(false),
            path,
        };
        brick.recover().map_err(|error| format!("cannot put brick `{}` right: {error}", brick.path.display()))?;
        Ok(brick)
    }

    fn check_volume(&self, wanted: Option<Gfid>) -> Result<(), String> {
        crate::adopt::volume(&self.path, self.root.fd.as_fd(), self.keys, wanted, false)
    }

    pub(crate) fn settings(&self) -> Settings {
        *self.settings.read()
    }

    /// Whether objects are to carry their names.
    pub(crate) fn keeps_paths(&self) -> bool {
        self.keys.has_paths() && self.settings().paths
    }

    /// The handle of `gfid` as an object.
    pub(crate) fn handle<'a>(&'a self, path: &'a HandlePath) -> At<'a> {
        At { dir: self.handles.as_fd(), path: path.as_c_str() }
    }

    /// Does `make`, which puts something at the handle of `gfid`; if folders on the way are missing, makes those first.
    pub(crate) fn make_handle(&self, path: &HandlePath, make: impl Fn() -> Result<(), Sys>) -> Result<(), Sys> {
        match make() {
            Err(Sys::NOENT) => {}
            other => return other,
        }
        let [outer, inner] = path.folders();
        let folder = |path| match rustix::fs::mkdirat(&self.handles, path, Mode::RWXU) {
            Ok(()) | Err(Sys::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        };
        // The outer one is there but for the first of 256 objects.
        if folder(inner) == Err(Sys::NOENT) {
            folder(outer)?;
            folder(inner)?;
        }
        make()
    }

    /// Takes the handle of `gfid` away; one that is not there is fine.
    pub(crate) fn drop_handle(&self, gfid: Gfid) -> FopResult<()> {
        match rustix::fs::unlinkat(&self.handles, HandlePath::of(gfid).as_c_str(), AtFlags::empty()) {
            Ok(()) | Err(Sys::NOENT) => Ok(()),
            Err(errno) => Err(FopError::from(errno).doing("removing a handle").with("gfid", gfid)),
        }
    }

    /// `ENOSPC` while less than `reserve` is free.
    pub(crate) fn check_space(&self) -> FopResult<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(FopError::new(Errno::ENOSPC).doing("keeping the reserve free")),
            false => Ok(()),
        }
    }

    /// Takes our folder away if nothing is in it; what a brick of GlusterFS did not have, it then has not.
    ///
    /// The records of a server stay, and the folder with them.
    pub(crate) fn tidy(&self) -> FopResult<()> {
        self.intents.remove(self.own.as_fd())?;
        remove_folder(self.own.as_fd(), self.handles.as_fd())?;
        Ok(())
    }
}

/// Takes our folder away as far as nothing of worth is in it.
pub(crate) fn remove_folder(own: BorrowedFd<'_>, handles: BorrowedFd<'_>) -> FopResult<()> {
    match rustix::fs::unlinkat(own, crate::watch::FILE, AtFlags::empty()) {
        Ok(()) | Err(Sys::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    crate::returning::remove_work_folders(own)?;
    for (parent, name) in [(own, STAGING), (handles, OWN)] {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Sys::NOENT | Sys::NOTEMPTY | Sys::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Keeps other processes away from the brick for as long as `root` is open.
pub(crate) fn lock(path: &Path, root: BorrowedFd<'_>) -> Result<(), String> {
    rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Sys::WOULDBLOCK => format!("brick `{}` is served by another process already", path.display()),
        errno => cannot("lock", path, errno),
    })
}

/// "cannot WHAT `PATH`: reason".
pub(crate) fn cannot(what: &str, path: &Path, errno: Sys) -> String {
    format!("cannot {what} `{}`: {}", path.display(), std::io::Error::from(errno))
}

fn cannot_open(path: &Path, errno: Sys) -> String {
    match errno {
        Sys::NOENT => format!("brick directory `{}` does not exist", path.display()),
        Sys::NOTDIR => format!("brick `{}` is not a directory", path.display()),
        errno => cannot("open brick", path, errno),
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
