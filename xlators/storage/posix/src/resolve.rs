//! From gfids and names to what system calls take.
//!
//! Nothing here follows a link: the handles of directories are read and walked one name at a time, beneath the root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use brickwork_api::{ClientId, Entry, Errno, FopError, FopResult, Gfid, Name, Target};
use rustix::fs::{OFlags, Statx};
use rustix::io::Errno as Sys;

use crate::attr::is_dir;
use crate::brick::Brick;
use crate::dirs::Dir;
use crate::handle::{self, HandlePath};
use crate::names::parked_path;
use crate::opens::Open;
use crate::sys::{self, At};

/// Deepest directory that is looked for by its gfid, in levels.
const DEPTH_MAX: usize = 4096;
/// How often a search goes again after somebody renamed a directory on the way.
const TRIES: usize = 8;

/// A name as system calls take it.
#[derive(Clone, Copy)]
pub(crate) struct CName([u8; 256]);

impl CName {
    pub(crate) fn new(name: &Name) -> CName {
        let mut bytes = [0; 256];
        bytes[..name.as_bytes().len()].copy_from_slice(name.as_bytes());
        CName(bytes)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).expect("names have at most 255 bytes")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.as_c_str().to_bytes()
    }
}

/// A name in a directory that is open.
pub(crate) struct Place {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: CName,
}

impl Place {
    pub(crate) fn at(&self) -> At<'_> {
        At { dir: self.dir.fd.as_fd(), path: self.name.as_c_str() }
    }

    /// What locks and gfid2path know it by.
    pub(crate) fn key(&self) -> (Gfid, &[u8]) {
        (self.dir.gfid, self.name.as_bytes())
    }
}

/// What a name stands for.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) gfid: Gfid,
    pub(crate) stat: Statx,
}

/// An object, found by its gfid.
pub(crate) enum Object {
    Dir(Arc<Dir>),
    Handle(HandlePath),
    Open(Arc<Open>),
    /// Without a name, kept for a client that may come back for it.
    Parked(CString),
}

impl Object {
    pub(crate) fn at<'a>(&'a self, brick: &'a Brick) -> At<'a> {
        match self {
            Object::Dir(dir) => At::of(&dir.fd),
            Object::Handle(path) => brick.handle(path),
            Object::Open(open) => At::of(&open.fd),
            Object::Parked(path) => At { dir: brick.handles.as_fd(), path },
        }
    }
}

/// An object with a descriptor on it, `O_PATH` or more.
pub(crate) enum Grip {
    Dir(Arc<Dir>),
    Open(Arc<Open>),
    Path(OwnedFd),
}

impl AsFd for Grip {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Grip::Dir(dir) => dir.fd.as_fd(),
            Grip::Open(open) => open.fd.as_fd(),
            Grip::Path(fd) => fd.as_fd(),
        }
    }
}

fn stale() -> FopError {
    Errno::ESTALE.into()
}

impl Brick {
    /// The directory `gfid`.
    ///
    /// # Errors
    /// `ESTALE` when there is none, `ENOTDIR` when it is something else.
    pub(crate) fn dir(&self, gfid: Gfid) -> FopResult<Arc<Dir>> {
        if let Some(dir) = self.known_dir(gfid) {
            return Ok(dir);
        }
        let mut tries = 0;
        loop {
            match self.search(gfid) {
                Ok(dir) => return Ok(dir),
                Err((Some(moved), _)) if tries < TRIES => {
                    // Its handle is rewritten after the rename, under this lock. Wait for that and look again.
                    drop(self.objects.object(moved));
                    tries += 1;
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    pub(crate) fn known_dir(&self, gfid: Gfid) -> Option<Arc<Dir>> {
        if gfid == Gfid::ROOT { Some(Arc::clone(&self.root)) } else { self.dirs.get(gfid) }
    }

    /// Walks handles up to a directory that is known, then names down. An error comes with the directory it failed at, if
    /// another try may go better.
    fn search(&self, gfid: Gfid) -> Result<Arc<Dir>, (Option<Gfid>, FopError)> {
        let mut below: Vec<(Gfid, Name)> = Vec::new();
        let mut at = gfid;
        let mut dir = loop {
            if let Some(dir) = self.known_dir(at) {
                break dir;
            }
            if below.len() == DEPTH_MAX {
                return Err((None, Errno::ELOOP.into()));
            }
            let (parent, name) = self.read_directory_handle(at).map_err(|error| (Some(at), error))?;
            below.push((at, name));
            at = parent;
        };
        while let Some((gfid, name)) = below.pop() {
            let place = Place { dir, name: CName::new(&name) };
            dir = self.open_dir(&place, gfid).map_err(|error| (Some(gfid), error))?;
        }
        Ok(dir)
    }

    /// Parent and name of a directory, as its handle has them.
    fn read_directory_handle(&self, gfid: Gfid) -> FopResult<(Gfid, Name)> {
        let mut text = [0; handle::TEXT_MAX];
        let path = HandlePath::of(gfid);
        let length = match rustix::fs::readlinkat_raw(&self.handles, path.as_c_str(), &mut text) {
            Ok(length) => length,
            Err(Sys::NOENT) => return Err(stale()),
            Err(Sys::INVAL) => return Err(Errno::ENOTDIR.into()),
            Err(errno) => return Err(errno.into()),
        };
        // A handle that is a symbolic link but leads nowhere like this is that of a symbolic link.
        handle::parse_directory_text(&text[..length]).ok_or_else(|| Errno::ENOTDIR.into())
    }

    /// Opens the directory at `place` and keeps it open, if it is `gfid`.
    pub(crate) fn open_dir(&self, place: &Place, gfid: Gfid) -> FopResult<Arc<Dir>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = match self.with_descriptors(|| sys::open_name(place.dir.fd.as_fd(), place.name.as_c_str(), flags)) {
            Ok(fd) => fd,
            Err(Sys::NOENT | Sys::NOTDIR | Sys::LOOP) => return Err(stale()),
            Err(errno) => return Err(errno.into()),
        };
        let stat = sys::stat(At::of(&fd))?;
        if self.gfid_at(At::of(&fd), &stat)? != Some(gfid) {
            return Err(stale());
        }
        Ok(self.dirs.insert(Dir { gfid, fd, ino: stat.stx_ino }))
    }

    /// Does `open`, and when the process has no descriptor left, lets directories go and does it again.
    pub(crate) fn with_descriptors<T>(&self, open: impl Fn() -> Result<T, Sys>) -> Result<T, Sys> {
        match open() {
            Err(Sys::MFILE | Sys::NFILE) => {
                self.dirs.shed();
                open()
            }
            other => other,
        }
    }

    /// The object `gfid` with its attributes.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    pub(crate) fn object(&self, gfid: Gfid) -> FopResult<(Object, Statx)> {
        if let Some(found) = self.find_object(gfid)? {
            return Ok(found);
        }
        // Somebody may be between two steps of a change to it.
        drop(self.objects.object(gfid));
        self.find_object(gfid)?.ok_or_else(stale)
    }

    fn find_object(&self, gfid: Gfid) -> FopResult<Option<(Object, Statx)>> {
        if let Some(dir) = self.known_dir(gfid) {
            return self.stat_dir(dir);
        }
        let path = HandlePath::of(gfid);
        let stat = match sys::stat(self.handle(&path)) {
            Ok(stat) => stat,
            Err(Sys::NOENT) => return self.stat_open(gfid),
            Err(errno) => return Err(errno.into()),
        };
        if stat.stx_nlink > 1 {
            return Ok(Some((Object::Handle(path), stat)));
        }
        if u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFLNK {
            self.drop_orphan(gfid)?;
            return self.stat_open(gfid);
        }
        match self.dir(gfid) {
            Ok(dir) => self.stat_dir(dir),
            Err(error) if matches!(error.errno(), Errno::ESTALE | Errno::ENOTDIR) => self.stat_open(gfid),
            Err(error) => Err(error),
        }
    }

    fn stat_dir(&self, dir: Arc<Dir>) -> FopResult<Option<(Object, Statx)>> {
        let stat = sys::stat(At::of(&dir.fd))?;
        if stat.stx_nlink > 0 {
            return Ok(Some((Object::Dir(dir), stat)));
        }
        self.dirs.remove(dir.gfid);
        self.stat_open(dir.gfid)
    }

    /// An object that has no name any more, through one of its opens or where it is kept for one to come.
    fn stat_open(&self, gfid: Gfid) -> FopResult<Option<(Object, Statx)>> {
        if let Some(open) = self.opens.of(gfid) {
            let stat = sys::stat(At::of(&open.fd))?;
            return Ok(Some((Object::Open(open), stat)));
        }
        if !self.returning.may() {
            return Ok(None);
        }
        let path = parked_path(gfid);
        match sys::stat(At { dir: self.handles.as_fd(), path: &path }) {
            Ok(stat) => Ok(Some((Object::Parked(path), stat))),
            Err(Sys::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A descriptor on the object `gfid`, good for calls as the caller.
    pub(crate) fn grip(&self, gfid: Gfid) -> FopResult<(Grip, Statx)> {
        let (object, stat) = self.object(gfid)?;
        let path = match object {
            Object::Dir(dir) => return Ok((Grip::Dir(dir), stat)),
            Object::Open(open) => return Ok((Grip::Open(open), stat)),
            Object::Handle(path) => path.as_c_str().to_owned(),
            Object::Parked(path) => path,
        };
        match self.open_path(&path) {
            Ok(fd) => Ok((Grip::Path(fd), stat)),
            // Its last name went in between.
            Err(Sys::NOENT) => match self.opens.of(gfid) {
                Some(open) => Ok((Grip::Open(open), stat)),
                None => Err(stale()),
            },
            Err(errno) => Err(errno.into()),
        }
    }

    /// A descriptor on what stands at `path` below the folder of the handles, for calls as the caller.
    pub(crate) fn open_path(&self, path: &CStr) -> Result<OwnedFd, Sys> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.with_descriptors(|| rustix::fs::openat(&self.handles, path, flags, rustix::fs::Mode::empty()))
    }

    /// A descriptor on `target`: that of the open when there is one.
    pub(crate) fn hold(&self, client: ClientId, target: Target) -> FopResult<Grip> {
        match target.open {
            Some(open) => Ok(Grip::Open(self.opens.get(client, target.gfid, open)?)),
            None => Ok(self.grip(target.gfid)?.0),
        }
    }

    /// The place of `entry`.
    ///
    /// # Errors
    /// `EPERM` for `.glusterfs` in the root.
    pub(crate) fn place(&self, entry: &Entry) -> FopResult<Place> {
        if entry.parent == Gfid::ROOT && entry.name.as_bytes() == handle::FOLDER {
            return Err(Errno::EPERM.into());
        }
        Ok(Place { dir: self.dir(entry.parent)?, name: CName::new(&entry.name) })
    }

    /// What the name at `place` stands for. An object that lacks something is put right first.
    pub(crate) fn named(&self, place: &Place, wanted: Option<Gfid>) -> FopResult<Found> {
        let (parent, name) = place.key();
        if let Some(Some(found)) = self.names.unchanged(parent, name, || self.glance(place)).transpose()? {
            return Ok(found);
        }
        let _held = self.names.name(parent, name);
        self.named_held(place, wanted)
    }

    /// The same for a caller that holds the name.
    pub(crate) fn named_held(&self, place: &Place, wanted: Option<Gfid>) -> FopResult<Found> {
        match self.glance(place)? {
            Some(found) => Ok(found),
            None => self.heal(place, wanted),
        }
    }

    /// What the name stands for; `None` when something is missing that has to be made.
    fn glance(&self, place: &Place) -> FopResult<Option<Found>> {
        let stat = sys::stat(place.at())?;
        let Some(gfid) = self.gfid_at(place.at(), &stat)? else { return Ok(None) };
        let complete = match is_dir(&stat) {
            true => self.known_dir(gfid).is_some_and(|dir| dir.ino == stat.stx_ino),
            false => stat.stx_nlink > 1,
        };
        Ok(complete.then_some(Found { gfid, stat }))
    }

    /// The gfid that the object `at` carries.
    pub(crate) fn gfid_at(&self, at: At<'_>, stat: &Statx) -> FopResult<Option<Gfid>> {
        let mut bytes = [0; 16];
        match sys::get_xattr(at, self.keys.gfid(), &mut bytes) {
            Ok(16) => Ok(Some(Gfid::from_bytes(bytes)).filter(|gfid| !gfid.is_null())),
            Ok(_) | Err(Sys::RANGE) => {
                let error = FopError::new(Errno::EIO).doing("reading a gfid that is not 16 bytes long");
                Err(error.with("inode", stat.stx_ino))
            }
            Err(Sys::NODATA | Sys::PERM | Sys::ACCESS | Sys::OPNOTSUPP) => self.side_gfid(stat),
            Err(errno) => Err(errno.into()),
        }
    }
}
