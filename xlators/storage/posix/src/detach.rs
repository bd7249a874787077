//! Leaving a brick: what Brickwork added to it goes.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno as Sys;

use crate::brick::{OWN, cannot};
use crate::handle;
use crate::keys::Keys;
use crate::options::PosixOptions;
use crate::sys::{self, At};

/// What `detach` took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Xattrs that were removed from the root.
    pub xattrs: Vec<String>,
    /// Whether our folder below `.glusterfs` was there and is gone.
    pub folder: bool,
}

/// Why a brick was not detached; shown as a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetachError {
    /// The folder carries no mark of ours that this user can see.
    NotOurs(String),
    /// Somebody serves it.
    InUse(String),
    /// The folder cannot be opened, or a call failed.
    Failed(String),
}

impl fmt::Display for DetachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (DetachError::NotOurs(text) | DetachError::InUse(text) | DetachError::Failed(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for DetachError {}

impl From<String> for DetachError {
    fn from(text: String) -> DetachError {
        DetachError::Failed(text)
    }
}

/// Takes `trusted.brickwork.*` off the root of the brick `directory`, and our folder out of it.
///
/// What a process that died left is put right first; the records of a server go, with what was kept for its clients. The brick is then as GlusterFS knows it; on a brick that was made
/// without privilege the gfids stay, since nothing else knows them.
///
/// # Errors
/// It is no brick of ours, somebody serves it, or a call failed. Nothing is then removed, or what was can be done again.
pub fn detach(directory: &Path) -> Result<Detached, DetachError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| cannot("open", directory, errno))?;
    let mark = |keys: Keys| sys::get_xattr(At::of(&root), keys.mark(), &mut [0; 64]).is_ok();
    if !mark(Keys::Trusted) && !mark(Keys::User) {
        let text = format!("`{}` carries no mark of Brickwork: there is nothing to detach", directory.display());
        return Err(DetachError::NotOurs(text));
    }
    // Nobody may serve it, this process included. What follows opens it once more and needs the lock itself.
    alone(directory, root.as_fd())?;
    rustix::fs::flock(&root, FlockOperation::Unlock).map_err(|errno| cannot("unlock", directory, errno))?;
    let mut detached = Detached { folder: put_right(directory)?, xattrs: Vec::new() };
    alone(directory, root.as_fd())?;
    let names = crate::xattr::list(At::of(&root)).map_err(|errno| cannot("list the xattrs of", directory, errno))?;
    for name in names {
        if !name.starts_with(b"trusted.brickwork.") && name != Keys::User.mark().to_bytes() {
            continue;
        }
        let key = CString::new(name).map_err(|error| error.to_string())?;
        sys::remove_xattr(At::of(&root), &key).map_err(|errno| cannot("remove an xattr of", directory, errno))?;
        detached.xattrs.push(key.to_string_lossy().into_owned());
    }
    Ok(detached)
}

/// Takes the lock that whoever serves the brick holds.
fn alone(directory: &Path, root: BorrowedFd<'_>) -> Result<(), DetachError> {
    rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Sys::WOULDBLOCK => DetachError::InUse(format!("`{}` is served by another process", directory.display())),
        errno => cannot("lock", directory, errno).into(),
    })
}

/// Opens the brick, which recovers it, and takes our folder away; returns whether it is gone.
fn put_right(directory: &Path) -> Result<bool, String> {
    let absolute = std::path::absolute(directory).map_err(|error| error.to_string())?;
    let options = PosixOptions::at(&absolute)?;
    let brick = crate::brick::Brick::open(&options)?;
    brick
        .forget_server()
        .map_err(|error| format!("cannot remove the records in `{}`: {error}", directory.display()))?;
    brick.tidy().map_err(|error| format!("cannot remove our folder from `{}`: {error}", directory.display()))?;
    let own = Path::new(std::str::from_utf8(handle::FOLDER).expect("ASCII")).join(OWN);
    match rustix::fs::statat(&brick.root.fd, &own, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Sys::NOENT) => Ok(true),
        Err(errno) => Err(cannot("look at", directory, errno)),
        Ok(_) => Ok(false),
    }
}
