//! Opens and their end, and whether the caller may.

use std::os::fd::AsFd;

use brickwork_api::{ClientId, Credentials, Errno, FopResult, Gfid, OpenFile, OpenReq};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Sys;
use tracing::warn;

use crate::brick::Brick;
use crate::create::KEPT;
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
        let fd = match &object {
            Object::Handle(path) if self.identities.is_self(who) => {
                let flags = flags | OFlags::NOFOLLOW;
                self.with_descriptors(|| rustix::fs::openat(&self.handles, path.as_c_str(), flags, Mode::empty()))
                    .map_err(|errno| if errno == Sys::NOENT { Errno::ESTALE } else { errno.into() })?
            }
            _ => self.open_as(who, &self.grip(file.gfid)?.0, flags)?,
        };
        if request.kill_set_id && wanted.contains(OFlags::TRUNC) {
            self.kill_set_id(fd.as_fd())?;
        }
        let open = Open::file(file.gfid, fd, wanted & (OFlags::ACCMODE | KEPT));
        if let Object::Open(other) = &object {
            let parked = other.parked.load(std::sync::atomic::Ordering::Acquire);
            open.parked.store(parked, std::sync::atomic::Ordering::Release);
        }
        self.opens.insert(client, file.open, open)
    }

    /// Opens a directory as `who`.
    pub(crate) fn open_directory(&self, client: ClientId, who: &Credentials, file: OpenFile) -> FopResult<()> {
        self.opens.check_free(client, file.open)?;
        let grip = Grip::Dir(self.dir(file.gfid)?);
        let fd = self.open_as(who, &grip, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        self.opens.insert(client, file.open, Open::directory(file.gfid, fd))
    }

    /// Opens what `grip` is on; its own rights count, and nothing on the way to it.
    fn open_as(&self, who: &Credentials, grip: &Grip, flags: OFlags) -> FopResult<std::os::fd::OwnedFd> {
        let path = sys::proc_path(grip.as_fd());
        let _acting = self.identities.assume(who)?;
        Ok(self.with_descriptors(|| rustix::fs::open(&path, flags, Mode::empty()))?)
    }

    /// Ends an open; never fails for the caller.
    pub(crate) fn release(&self, client: ClientId, file: OpenFile) {
        let Some(last) = self.opens.remove(client, file.open) else { return };
        if !last.parked.load(std::sync::atomic::Ordering::Acquire) {
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
