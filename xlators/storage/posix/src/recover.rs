//! Putting right at the start what a process that died left: no object without its gfid, no handle without its object.
//!
//! Works on what was under way, never on the whole brick: the staging folder, `unlink/`, and the intents. What is found
//! by looking at a name, as a missing handle, is left to lookups.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use brickwork_api::{Errno, FopError, FopResult, Gfid};
use rustix::fs::{AtFlags, Dir as Listing};
use rustix::io::Errno as Sys;
use tracing::{info, warn};

use crate::attr::is_dir;
use crate::brick::Brick;
use crate::handle::{self, HandlePath};
use crate::heal::STAGED_HANDLE;
use crate::keys;
use crate::names::parked;
use crate::resolve::{CName, Place};
use crate::sys::{self, At};

impl Brick {
    /// Puts right what is left. Nobody else is at the brick.
    pub(crate) fn recover(&self) -> FopResult<()> {
        for name in names_in(self.staging.as_fd())? {
            self.recover_staged(&name).map_err(|error| error.with("staged", name.to_string_lossy()))?;
        }
        self.look_for_records()?;
        self.recover_parked()?;
        for gfid in self.intents.left()? {
            self.recover_intent(gfid).map_err(|error| error.with("gfid", gfid))?;
        }
        self.intents.clear()
    }

    fn recover_staged(&self, name: &CStr) -> FopResult<()> {
        let bytes = name.to_bytes();
        if let Some(gfid) = bytes.strip_suffix(STAGED_HANDLE.as_bytes()).and_then(handle::parse_gfid) {
            return self.recover_staged_handle(gfid, name);
        }
        let Some(gfid) = handle::parse_gfid(bytes) else {
            warn!(name = %name.to_string_lossy(), "something that is not ours lies in the staging folder");
            return Ok(());
        };
        let stat = sys::stat(At { dir: self.staging.as_fd(), path: name })?;
        self.drop_handle_of_staged(gfid, &stat)?;
        self.remove_side_entry(stat.stx_ino)?;
        let kind = if is_dir(&stat) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        info!(%gfid, "an object that never got its name was removed");
        Ok(rustix::fs::unlinkat(&self.staging, name, kind)?)
    }

    /// Removes the handle that a staged object already had.
    fn drop_handle_of_staged(&self, gfid: Gfid, staged: &rustix::fs::Statx) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let stat = match sys::stat(self.handle(&path)) {
            Ok(stat) => stat,
            Err(Sys::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let its = match is_dir(staged) {
            true => !self.directory_handle_is_true(gfid)?,
            false => stat.stx_ino == staged.stx_ino,
        };
        if its { self.drop_handle(gfid) } else { Ok(()) }
    }

    /// A directory was about to be renamed: its next handle is true if it was.
    fn recover_staged_handle(&self, gfid: Gfid, name: &CStr) -> FopResult<()> {
        let staged = name.to_str().map_err(|_| Errno::EIO)?;
        let text = rustix::fs::readlinkat(&self.staging, name, Vec::new())?;
        match self.text_leads_to(text.to_bytes(), gfid)? {
            true => {
                info!(%gfid, "the handle of a renamed directory was completed");
                self.install_directory_handle(gfid, staged)
            }
            false => self.unstage_directory_handle(staged),
        }
    }

    fn directory_handle_is_true(&self, gfid: Gfid) -> FopResult<bool> {
        match rustix::fs::readlinkat(&self.handles, HandlePath::of(gfid).as_c_str(), Vec::new()) {
            Ok(text) => self.text_leads_to(text.to_bytes(), gfid),
            Err(Sys::NOENT | Sys::INVAL) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the text of a handle leads to the directory `gfid`.
    fn text_leads_to(&self, text: &[u8], gfid: Gfid) -> FopResult<bool> {
        let Some((parent, name)) = handle::parse_directory_text(text) else { return Ok(false) };
        let dir = match self.dir(parent) {
            Ok(dir) => dir,
            Err(error) if matches!(error.errno(), Errno::ESTALE | Errno::ENOTDIR) => return Ok(false),
            Err(error) => return Err(error),
        };
        let place = Place { dir, name: CName::new(&name) };
        match sys::stat(place.at()) {
            Ok(stat) => Ok(is_dir(&stat) && self.gfid_at(place.at(), &stat)? == Some(gfid)),
            Err(Sys::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Content that was kept while it was open: nobody has it open now, but a client of a server may come back for it. Where
    /// the name was not taken after all, the handle goes back.
    fn recover_parked(&self) -> FopResult<()> {
        let kept = self.returning.may();
        let Some(folder) = self.parked_folder()? else { return Ok(()) };
        for name in names_in(folder.as_fd())? {
            let Some(gfid) = handle::parse_gfid(name.to_bytes()) else { continue };
            let stat = sys::stat(At { dir: folder.as_fd(), path: &name })?;
            if is_dir(&stat) {
                continue;
            }
            if stat.stx_nlink == 1 {
                if !kept {
                    self.drop_parked(gfid, stat.stx_ino)?;
                }
                continue;
            }
            let path = HandlePath::of(gfid);
            let back = || rustix::fs::linkat(&folder, &*name, &self.handles, path.as_c_str(), AtFlags::empty());
            match self.make_handle(&path, back) {
                Ok(()) | Err(Sys::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            rustix::fs::unlinkat(&self.handles, parked(gfid), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Looks at an object that was being changed: its handle must lead to it, and it must have the names that it carries.
    fn recover_intent(&self, gfid: Gfid) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let stat = match sys::stat(self.handle(&path)) {
            Ok(stat) => stat,
            Err(Sys::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        if stat.stx_nlink == 1 && u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFLNK {
            return match self.directory_handle_is_true(gfid)? {
                true => Ok(()),
                false => self.drop_handle(gfid),
            };
        }
        if stat.stx_nlink == 1 {
            return self.drop_orphan(gfid);
        }
        if !self.keys.has_paths() {
            return Ok(());
        }
        for key in crate::xattr::list(self.handle(&path))? {
            if key.starts_with(keys::PATH_PREFIX) {
                self.recover_path(gfid, &key)?;
            }
        }
        Ok(())
    }

    /// Removes the xattr of a name that the object does not have.
    fn recover_path(&self, gfid: Gfid, key: &[u8]) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let at = self.handle(&path);
        let key = CString::new(key).map_err(|_| FopError::new(Errno::EIO))?;
        let value = crate::xattr::read(at, &key)?;
        let true_name = keys::parse_path_value(&value).is_some_and(|name| self.is_name_of(name, gfid));
        if !true_name {
            info!(%gfid, name = %String::from_utf8_lossy(&value), "the xattr of a name that is not one was removed");
            sys::remove_xattr(at, &key)?;
        }
        Ok(())
    }
}

pub(crate) fn names_in(folder: BorrowedFd<'_>) -> FopResult<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Listing::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}
