//! New objects: complete before they have a name.
//!
//! A regular file is created without a name in its directory (`O_TMPFILE`), where the kernel gives it owner, group,
//! mode and ACL as the caller; then come its xattrs, then its name, then its handle. Everything else, and files
//! where there are no unnamed ones, is made in the staging folder, dressed there, given its handle, and moved to its name.
//! So no name ever lacks its gfid. A crash leaves at worst a name without a handle, which a lookup makes, or something
//! in the staging folder, which the next start removes.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use brickwork_api::{
    Attr, ClientId, CreateReq, Credentials, Errno, FileKind, FopError, FopResult, Gfid, MODE_BITS, MkdirReq, MknodReq,
    SymlinkReq,
};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Statx, Uid};
use rustix::io::Errno as Sys;

use crate::acl;
use crate::attr::{attr, is_dir};
use crate::brick::Brick;
use crate::handle::{self, HandlePath};
use crate::keys;
use crate::opens::Open;
use crate::resolve::Place;
use crate::sys::{self, At};

/// Flags of an open that the descriptor on the brick has too.
pub(crate) const KEPT: OFlags = OFlags::DSYNC.union(OFlags::SYNC).union(OFlags::DIRECT).union(OFlags::NOATIME);

/// What a new object is to be.
#[derive(Clone, Copy)]
struct New<'a> {
    gfid: Gfid,
    who: &'a Credentials,
    /// Type and permissions, before the umask.
    mode: u32,
    umask: u32,
}

impl New<'_> {
    fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

impl Brick {
    /// Creates a regular file and opens it.
    pub(crate) fn create(&self, client: ClientId, who: &Credentials, request: &CreateReq) -> FopResult<Attr> {
        self.check_new(request.gfid)?;
        self.opens.check_free(client, request.open)?;
        let place = self.place(&request.entry)?;
        let mode = libc::S_IFREG | self.file_mode(request.mode);
        let new = New { gfid: request.gfid, who, mode, umask: request.umask };
        let flags = OFlags::from_bits_retain(request.flags);
        let _name = self.names.name(place.key().0, place.key().1);
        let (fd, stat) = self.new_file(&place, new, flags & KEPT)?;
        self.opens.insert(client, request.open, Open::file(request.gfid, fd, flags & (OFlags::ACCMODE | KEPT)))?;
        attr(request.gfid, &stat)
    }

    /// Creates a file, device, pipe or socket.
    pub(crate) fn mknod(&self, who: &Credentials, request: &MknodReq) -> FopResult<Attr> {
        self.check_new(request.gfid)?;
        let kind = FileKind::from_mode(request.mode).unwrap_or(FileKind::File);
        let place = self.place(&request.entry)?;
        let mode = kind.mode() | self.file_mode(request.mode & MODE_BITS);
        let new = New { gfid: request.gfid, who, mode, umask: request.umask };
        let device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
        match kind {
            FileKind::Directory | FileKind::Symlink => return Err(Errno::EINVAL.into()),
            // As `mknod(2)`: a whiteout is no device that could be used.
            _ if device && who.uid != 0 && (kind == FileKind::BlockDevice || request.rdev != 0) => {
                return Err(Errno::EPERM.into());
            }
            _ => {}
        }
        let _name = self.names.name(place.key().0, place.key().1);
        if kind == FileKind::File {
            let (_, stat) = self.new_file(&place, new, OFlags::empty())?;
            return attr(request.gfid, &stat);
        }
        let stat = self.stage(&place, new, |name| {
            let kind = rustix::fs::FileType::from_raw_mode(new.mode);
            rustix::fs::mknodat(&self.staging, name, kind, Mode::RUSR | Mode::WUSR, request.rdev)
        })?;
        attr(request.gfid, &stat)
    }

    /// Creates a directory.
    pub(crate) fn mkdir(&self, who: &Credentials, request: &MkdirReq) -> FopResult<Attr> {
        self.check_new(request.gfid)?;
        let place = self.place(&request.entry)?;
        let settings = self.settings();
        // As `mkdir(2)`: the set-id bits are not for the caller to say.
        let mode = request.mode & 0o1777;
        let mode = mode & (settings.directory_mask | 0o1000) | settings.directory_force;
        let new = New { gfid: request.gfid, who, mode: libc::S_IFDIR | mode, umask: request.umask };
        let _name = self.names.name(place.key().0, place.key().1);
        let stat = self.stage(&place, new, |name| rustix::fs::mkdirat(&self.staging, name, Mode::RWXU))?;
        attr(request.gfid, &stat)
    }

    /// Creates a symbolic link.
    pub(crate) fn symlink(&self, who: &Credentials, request: &SymlinkReq) -> FopResult<Attr> {
        self.check_new(request.gfid)?;
        let text = CString::new(&request.target[..]).map_err(|_| Errno::EINVAL)?;
        match text.as_bytes().len() {
            0 => return Err(Errno::ENOENT.into()),
            length if length >= libc::PATH_MAX as usize => return Err(Errno::ENAMETOOLONG.into()),
            _ => {}
        }
        let place = self.place(&request.entry)?;
        let new = New { gfid: request.gfid, who, mode: libc::S_IFLNK | 0o777, umask: 0 };
        let _name = self.names.name(place.key().0, place.key().1);
        let stat = self.stage(&place, new, |name| rustix::fs::symlinkat(&text, &self.staging, name))?;
        attr(request.gfid, &stat)
    }

    fn check_new(&self, gfid: Gfid) -> FopResult<()> {
        if gfid.is_null() || gfid == Gfid::ROOT {
            return Err(FopError::new(Errno::EINVAL)
                .doing("creating an object with a reserved gfid")
                .with("gfid", gfid));
        }
        self.check_space()
    }

    fn file_mode(&self, mode: u32) -> u32 {
        let settings = self.settings();
        mode & MODE_BITS & (settings.file_mask | !0o777) | settings.file_force
    }

    /// A regular file with name and handle, open for reading and writing. The caller holds the name.
    fn new_file(&self, place: &Place, new: New<'_>, flags: OFlags) -> FopResult<(OwnedFd, Statx)> {
        if self.no_unnamed.load(Ordering::Relaxed) {
            return self.new_file_staged(place, new, flags);
        }
        let fd = match self.unnamed(place, new, flags)? {
            Some(fd) => fd,
            None => return self.new_file_staged(place, new, flags),
        };
        let (parent, name) = place.key();
        rustix::fs::fsetxattr(&fd, self.keys.gfid(), &new.gfid.to_bytes(), rustix::fs::XattrFlags::empty())?;
        if self.keeps_paths() {
            let (key, value) = keys::path_xattr(parent, name);
            rustix::fs::fsetxattr(&fd, &key, &value, rustix::fs::XattrFlags::empty())?;
        }
        self.final_mode(&fd, new)?;
        link_unnamed(&fd, place)?;
        self.link_handle(place, new.gfid).inspect_err(|_| {
            let undone = rustix::fs::unlinkat(&place.dir.fd, place.name.as_c_str(), AtFlags::empty());
            left_behind("a name without a handle", new.gfid, undone.map_err(FopError::from));
        })?;
        let stat = sys::stat(At::of(&fd))?;
        Ok((fd, stat))
    }

    /// An unnamed file in the directory, made as the caller; `None` where the file system has none.
    fn unnamed(&self, place: &Place, new: New<'_>, flags: OFlags) -> FopResult<Option<OwnedFd>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | flags;
        // Without privilege our xattrs need an owner who may read and write; what is too much goes in `final_mode`.
        let extra = if self.keys == keys::Keys::User { 0o600 } else { 0 };
        let mode = Mode::from_raw_mode(new.mode & MODE_BITS | extra);
        let mut acting = self.identities.assume(new.who)?;
        let by_kernel = acting.with_umask(new.umask & !extra);
        let made = self.with_descriptors(|| rustix::fs::openat(&place.dir.fd, c".", flags, mode));
        drop(acting);
        let fd = match made {
            Ok(fd) => fd,
            Err(Sys::OPNOTSUPP | Sys::ISDIR) => {
                self.no_unnamed.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            Err(errno) => return Err(errno.into()),
        };
        if !by_kernel && self.default_acl(place)?.is_none() {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode((new.mode & MODE_BITS & !new.umask) | extra))?;
        }
        Ok(Some(fd))
    }

    /// Without privilege: takes away what only our xattrs needed.
    fn final_mode(&self, fd: &OwnedFd, new: New<'_>) -> FopResult<()> {
        let extra = 0o600 & !(new.mode & !new.umask);
        if self.keys != keys::Keys::User || extra == 0 {
            return Ok(());
        }
        let stat = sys::stat(At::of(fd))?;
        let mode = u32::from(stat.stx_mode) & MODE_BITS & !extra;
        self.keep_gfid_readable(new.gfid, &stat, mode)?;
        Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
    }

    /// Links the handle of `gfid` to the file at `place`, whose name the caller holds.
    fn link_handle(&self, place: &Place, gfid: Gfid) -> FopResult<()> {
        let (path, at) = (HandlePath::of(gfid), place.at());
        let link = || rustix::fs::linkat(at.dir, at.path, &self.handles, path.as_c_str(), AtFlags::empty());
        match self.make_handle(&path, link) {
            Err(Sys::EXIST) => {
                // It may be the rest of an object that is gone; if not, it stays and so does the error.
                self.drop_orphan(gfid)?;
                Ok(link().map_err(|errno| in_use(errno, gfid))?)
            }
            other => Ok(other?),
        }
    }

    fn new_file_staged(&self, place: &Place, new: New<'_>, flags: OFlags) -> FopResult<(OwnedFd, Statx)> {
        let stat = self.stage(place, new, |name| {
            let kind = rustix::fs::FileType::RegularFile;
            rustix::fs::mknodat(&self.staging, name, kind, Mode::RUSR | Mode::WUSR, 0)
        })?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
        let path = HandlePath::of(new.gfid);
        let open = || rustix::fs::openat(&self.handles, path.as_c_str(), flags, Mode::empty());
        Ok((self.with_descriptors(open)?, stat))
    }

    /// Makes an object in the staging folder by `make`, dresses it, and moves it to its name. The caller holds the name.
    fn stage(
        &self,
        place: &Place,
        new: New<'_>,
        make: impl Fn(&std::ffi::CStr) -> Result<(), Sys>,
    ) -> FopResult<Statx> {
        {
            let _acting = self.identities.assume(new.who)?;
            sys::access(place.dir.fd.as_fd(), 3)?;
        }
        match sys::stat(place.at()) {
            Ok(_) => return Err(Errno::EEXIST.into()),
            Err(Sys::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let path = HandlePath::of(new.gfid);
        let staged = path.name();
        make(staged).map_err(|errno| in_use(errno, new.gfid))?;
        let placed = self.dress(place, new).and_then(|()| self.put_in_place(place, new.gfid));
        placed.inspect_err(|_| {
            let kind = if new.kind() == libc::S_IFDIR { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let undone = rustix::fs::unlinkat(&self.staging, staged, kind);
            left_behind("an object in `staging/`", new.gfid, undone.map_err(FopError::from));
        })?;
        Ok(sys::stat(place.at())?)
    }

    /// Gives a staged object its gfid and names, its owner, ACLs and mode.
    fn dress(&self, place: &Place, new: New<'_>) -> FopResult<()> {
        let path = HandlePath::of(new.gfid);
        let at = At { dir: self.staging.as_fd(), path: path.name() };
        let (directory, link) = (new.kind() == libc::S_IFDIR, new.kind() == libc::S_IFLNK);
        let parent = sys::stat(At::of(&place.dir.fd))?;
        let default = if link { None } else { self.default_acl(place)? };
        let inherited = acl::inherit(default.as_deref(), new.mode & MODE_BITS, new.umask, directory);
        let setgid = u32::from(parent.stx_mode) & libc::S_ISGID != 0;
        let gid = if setgid { parent.stx_gid } else { new.who.gid };
        let mode = match setgid {
            true => acl::in_setgid_directory(inherited.mode, directory, new.who.uid == 0 || in_group(new.who, gid)),
            false => inherited.mode,
        };
        if self.needs_side_entry(new.kind() | mode) {
            self.put_side_entry(sys::stat(at)?.stx_ino, new.gfid)?;
        }
        if !self.needs_side_entry(new.kind() | 0o700) {
            sys::set_xattr(at, self.keys.gfid(), &new.gfid.to_bytes(), 0)?;
        }
        if !directory && self.keeps_paths() {
            let (key, value) = keys::path_xattr(place.key().0, place.key().1);
            sys::set_xattr(at, &key, &value, 0)?;
        }
        self.give(at, new.who.uid, gid)?;
        for (key, acl) in [(ACCESS, &inherited.access), (DEFAULT, &inherited.default)] {
            if let Some(acl) = acl {
                sys::set_xattr(at, key, acl, 0)?;
            }
        }
        if !link {
            rustix::fs::chmodat(at.dir, at.path, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Makes `uid` and `gid` the owner of a staged object.
    fn give(&self, at: At<'_>, uid: u32, gid: u32) -> FopResult<()> {
        let uid = self.identities.switches().then(|| Uid::from_raw(uid));
        let foreign = gid != rustix::process::getegid().as_raw();
        let gid = (foreign && (self.identities.switches() || is_member(gid))).then(|| Gid::from_raw(gid));
        if uid.is_none_or(|uid| uid.is_root()) && gid.is_none() {
            return Ok(());
        }
        Ok(rustix::fs::chownat(at.dir, at.path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives a staged object its handle and moves it to its name.
    fn put_in_place(&self, place: &Place, gfid: Gfid) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let staged = path.name();
        let directory = is_dir(&sys::stat(At { dir: self.staging.as_fd(), path: staged })?);
        let text = directory.then(|| handle::directory_text(place.key().0, place.key().1));
        let make = || match &text {
            Some(text) => rustix::fs::symlinkat(&text[..], &self.handles, path.as_c_str()),
            None => rustix::fs::linkat(&self.staging, staged, &self.handles, path.as_c_str(), AtFlags::empty()),
        };
        self.make_handle(&path, make).map_err(|errno| in_use(errno, gfid))?;
        self.move_in(&path, place).inspect_err(|_| left_behind("a handle without a name", gfid, self.drop_handle(gfid)))
    }

    fn move_in(&self, path: &HandlePath, place: &Place) -> FopResult<()> {
        let (staged, name) = (path.name(), place.name.as_c_str());
        match rustix::fs::renameat_with(&self.staging, staged, &place.dir.fd, name, RenameFlags::NOREPLACE) {
            // A file system that cannot refuse to replace; we hold the name, so a look before is as good.
            Err(Sys::INVAL) if matches!(sys::stat(place.at()), Err(Sys::NOENT)) => {
                Ok(rustix::fs::renameat(&self.staging, staged, &place.dir.fd, name)?)
            }
            other => Ok(other?),
        }
    }

    /// The default ACL of a directory.
    fn default_acl(&self, place: &Place) -> FopResult<Option<Vec<u8>>> {
        match crate::xattr::read(At { dir: place.dir.fd.as_fd(), path: c"." }, DEFAULT) {
            Ok(acl) => Ok(Some(acl)),
            Err(Sys::NODATA | Sys::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

fn in_group(who: &Credentials, gid: u32) -> bool {
    who.gid == gid || who.groups.contains(&gid)
}

/// Whether this process may give its files to `gid`.
fn is_member(gid: u32) -> bool {
    rustix::process::getgroups().is_ok_and(|groups| groups.contains(&Gid::from_raw(gid)))
}

/// Logs that undoing a failed creation failed as well: the caller gets the first error, which says why.
fn left_behind(what: &'static str, gfid: Gfid, undone: FopResult<()>) {
    if let Err(error) = undone {
        tracing::warn!(what, %gfid, %error, "a failed creation left something behind");
    }
}

fn in_use(errno: Sys, gfid: Gfid) -> FopError {
    match errno {
        Sys::EXIST => {
            FopError::new(Errno::EEXIST).doing("creating an object with a gfid that is in use").with("gfid", gfid)
        }
        errno => errno.into(),
    }
}

fn link_unnamed(fd: &OwnedFd, place: &Place) -> Result<(), Sys> {
    link_descriptor(fd, place.dir.fd.as_fd(), place.name.as_c_str())
}

/// Gives the file of `fd` one more name.
pub(crate) fn link_descriptor(
    fd: &OwnedFd,
    dir: std::os::fd::BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> Result<(), Sys> {
    match rustix::fs::linkat(fd, c"", dir, name, AtFlags::EMPTY_PATH) {
        // The short way needs a capability, or a recent kernel and the very credentials of the open.
        Err(Sys::NOENT | Sys::PERM) => {
            let path = sys::proc_path(fd.as_fd());
            rustix::fs::linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    }
}
