//! Opens and their end, and whether the caller may.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::{ClientId, Credentials, Errno, FopResult, Gfid, OpenFile, OpenReq};
use rustix::fs::{Mode, OFlags};
use tracing::warn;

use crate::brick::Brick;
use crate::create::KEPT;
use crate::handle::HandlePath;
use crate::names::parked_path;
use crate::opens::Open;
use crate::resolve::{Grip, Object};
use crate::sys::{self, At};

impl Brick {
    /// Opens a regular file as `who`.
    ///
    /// # Errors
    /// `EISDIR` for a directory, `ELOOP` for a symbolic link, `ENXIO` for what a front-end opens itself.
    pub(crate) fn open_file(&self, client: ClientId, who: &Credentials, request: &OpenReq) -> FopResult<()> {
        let file = request.file;
        self.opens.check_free(client, file.open)?;
        let wanted = OFlags::from_bits_retain(request.flags);
        let flags = wanted & (OFlags::ACCMODE | KEPT | OFlags::TRUNC) | OFlags::CLOEXEC;
        let (object, stat) = self.object(file.gfid)?;
        match u32::from(stat.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR.into()),
            libc::S_IFLNK => return Err(Errno::ELOOP.into()),
            // Opening a device does things, opening a pipe waits.
            _ => return Err(Errno::ENXIO.into()),
        }
        // Held until the open is known: an unlink of the last name then sees it and keeps the content.
        let _held = self.objects.object(file.gfid);
        let (fd, parked) = self.open_object(who, file.gfid, &object, flags)?;
        if request.kill_set_id && wanted.contains(OFlags::TRUNC) {
            self.kill_set_id(fd.as_fd())?;
        }
        let open = Open::file(file.gfid, fd, wanted & (OFlags::ACCMODE | KEPT));
        open.parked.store(parked, Ordering::Release);
        self.opens.insert(client, file.open, open)
    }

    /// Opens what `object` was a moment ago, where it is now; tells whether it has lost its last name.
    fn open_object(&self, who: &Credentials, gfid: Gfid, object: &Object, flags: OFlags) -> FopResult<(OwnedFd, bool)> {
        let (named, parked) = (HandlePath::of(gfid), parked_path(gfid));
        let mut places = [(named.as_c_str(), false), (&*parked, true)];
        if !matches!(object, Object::Handle(_)) {
            places.reverse();
        }
        for (path, parked) in places {
            match self.open_place(who, path, flags) {
                Ok(fd) => return Ok((fd, parked)),
                Err(error) if error.errno() == Errno::ENOENT => {}
                Err(error) => return Err(error),
            }
        }
        match object {
            // Its last name and its handle were taken on the brick itself.
            Object::Open(other) => Ok((self.open_as(who, &Grip::Open(Arc::clone(other)), flags)?, false)),
            _ => Err(Errno::ESTALE.into()),
        }
    }

    /// Opens what stands at `path` below the folder of the handles.
    fn open_place(&self, who: &Credentials, path: &CStr, flags: OFlags) -> FopResult<OwnedFd> {
        if self.identities.is_self(who) {
            let flags = flags | OFlags::NOFOLLOW;
            return Ok(self.with_descriptors(|| rustix::fs::openat(&self.handles, path, flags, Mode::empty()))?);
        }
        self.open_as(who, &Grip::Path(self.open_path(path)?), flags)
    }

    /// Opens a directory as `who`.
    pub(crate) fn open_directory(&self, client: ClientId, who: &Credentials, file: OpenFile) -> FopResult<()> {
        self.opens.check_free(client, file.open)?;
        let grip = Grip::Dir(self.dir(file.gfid)?);
        let fd = self.open_as(who, &grip, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        self.opens.insert(client, file.open, Open::directory(file.gfid, fd))
    }

    /// Opens what `grip` is on; its own rights count, and nothing on the way to it.
    fn open_as(&self, who: &Credentials, grip: &Grip, flags: OFlags) -> FopResult<OwnedFd> {
        let path = sys::proc_path(grip.as_fd());
        let _acting = self.identities.assume(who)?;
        Ok(self.with_descriptors(|| rustix::fs::open(&path, flags, Mode::empty()))?)
    }

    /// Ends an open; never fails for the caller.
    pub(crate) fn release(&self, client: ClientId, file: OpenFile) {
        let Some(last) = self.opens.remove(client, file.gfid, file.open) else { return };
        if !last.parked.load(Ordering::Acquire) {
            return;
        }
        let _held = self.objects.object(file.gfid);
        if self.opens.of(file.gfid).is_some() || self.returning.awaited() {
            return;
        }
        let dropped =
            sys::stat(At::of(&last.fd)).map_err(Into::into).and_then(|stat| self.drop_parked(file.gfid, stat.stx_ino));
        if let Err(error) = dropped {
            warn!(gfid = %file.gfid, %error, "the content of an unlinked file stays until the next start");
        }
    }

    /// Whether `who` may do `mask` with the object.
    pub(crate) fn access(&self, who: &Credentials, gfid: Gfid, mask: u32) -> FopResult<()> {
        let (grip, _) = self.grip(gfid)?;
        let _acting = self.identities.assume(who)?;
        Ok(sys::access(grip.as_fd(), mask & 7)?)
    }
}
