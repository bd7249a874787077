//! Putting right, when a name is looked up, what a crash or somebody at the brick left incomplete.
//!
//! - A name whose object has no gfid: somebody made it on the brick itself. It gets the gfid that the lookup wants
//!   ([`GFID_REQ`]) or a random one, so a plain folder becomes a volume as it is walked.
//! - An object without a handle, or a directory whose handle leads elsewhere: the handle is made anew.
//! - Two objects that carry one gfid, as after a copy with xattrs on the brick: `EIO`, and an error in the log.

use std::os::fd::AsFd;

use brickwork_api::xdata::Key;
use brickwork_api::{Bytes, Errno, FopError, FopResult, Gfid};
use rustix::fs::{AtFlags, Statx};
use rustix::io::Errno as Sys;
use tracing::{error, info};

use crate::attr::is_dir;
use crate::brick::Brick;
use crate::handle::{self, HandlePath};
use crate::keys;
use crate::resolve::{Found, Place};
use crate::sys::{self, At};

/// Beside a lookup: the gfid that an object without one is to get, 16 bytes. Cluster xlators send the one that the other
/// bricks have.
pub const GFID_REQ: Key<Bytes> = Key::new("gfid-req");

impl Brick {
    /// Puts right what `place` stands for. The caller holds the name.
    pub(crate) fn heal(&self, place: &Place, wanted: Option<Gfid>) -> FopResult<Found> {
        let stat = sys::stat(place.at())?;
        let gfid = match self.gfid_at(place.at(), &stat)? {
            Some(gfid) => gfid,
            None => self.give_gfid(place, &stat, wanted)?,
        };
        if is_dir(&stat) {
            self.heal_directory(place, gfid, &stat)?;
        } else if stat.stx_nlink == 1 {
            self.heal_handle(place, gfid, &stat)?;
        }
        Ok(Found { gfid, stat: sys::stat(place.at())? })
    }

    fn give_gfid(&self, place: &Place, stat: &Statx, wanted: Option<Gfid>) -> FopResult<Gfid> {
        let gfid = wanted.unwrap_or_else(Gfid::random);
        if wanted.is_some() && self.object(gfid).is_ok() {
            let error = FopError::new(Errno::EEXIST).doing("giving an object a gfid that is in use");
            return Err(error.with("gfid", gfid));
        }
        let mode = u32::from(stat.stx_mode);
        if self.needs_side_entry(mode) {
            self.put_side_entry(stat.stx_ino, gfid)?;
        } else {
            match sys::set_xattr(place.at(), self.keys.gfid(), &gfid.to_bytes(), libc::XATTR_CREATE) {
                Ok(()) => {}
                // Another name of the same file was quicker.
                Err(Sys::EXIST) => return self.gfid_at(place.at(), stat)?.ok_or_else(|| Errno::EIO.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        let (parent, name) = place.key();
        if !is_dir(stat) && self.keeps_paths() {
            let (key, value) = keys::path_xattr(parent, name);
            sys::set_xattr(place.at(), &key, &value, 0)?;
        }
        info!(%gfid, %parent, name = %String::from_utf8_lossy(name), "an object made on the brick itself got a gfid");
        Ok(gfid)
    }

    fn heal_handle(&self, place: &Place, gfid: Gfid, stat: &Statx) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let link = || {
            let at = place.at();
            rustix::fs::linkat(at.dir, at.path, &self.handles, path.as_c_str(), AtFlags::empty())
        };
        for _ in 0..2 {
            match self.make_handle(&path, link) {
                Err(Sys::EXIST) => {}
                other => return Ok(other?),
            }
            let there = sys::stat(self.handle(&path))?;
            if there.stx_ino == stat.stx_ino {
                return Ok(());
            }
            if there.stx_nlink > 1 || u32::from(there.stx_mode) & libc::S_IFMT == libc::S_IFLNK {
                return Err(twice(gfid, place));
            }
            // The rest of an object that is gone.
            self.drop_handle(gfid)?;
        }
        Err(twice(gfid, place))
    }

    fn heal_directory(&self, place: &Place, gfid: Gfid, stat: &Statx) -> FopResult<()> {
        if let Some(known) = self.known_dir(gfid).filter(|known| known.ino != stat.stx_ino) {
            if gfid == Gfid::ROOT || sys::stat(At::of(&known.fd))?.stx_nlink > 0 {
                return Err(twice(gfid, place));
            }
            self.dirs.remove(gfid);
        }
        let (parent, name) = place.key();
        let text = handle::directory_text(parent, name);
        let path = HandlePath::of(gfid);
        match rustix::fs::readlinkat(&self.handles, path.as_c_str(), Vec::new()) {
            Ok(there) if there.to_bytes() == text => {}
            Ok(_) if self.dir(gfid).is_ok_and(|other| other.ino != stat.stx_ino) => return Err(twice(gfid, place)),
            Ok(_) | Err(Sys::NOENT) => {
                let staged = self.stage_directory_handle(gfid, &text)?;
                self.install_directory_handle(gfid, &staged)?;
            }
            Err(Sys::INVAL) => return Err(twice(gfid, place)),
            Err(errno) => return Err(errno.into()),
        }
        self.open_dir(place, gfid).map(drop)
    }

    /// Removes a handle that is the only link of its object, unless somebody has the object open.
    pub(crate) fn drop_orphan(&self, gfid: Gfid) -> FopResult<()> {
        let _held = self.objects.object(gfid);
        let path = HandlePath::of(gfid);
        let orphan = match sys::stat(self.handle(&path)) {
            Ok(stat) => {
                let link = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFLNK;
                (stat.stx_nlink == 1 && !link && self.opens.of(gfid).is_none()).then_some(stat)
            }
            Err(Sys::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let Some(stat) = orphan else { return Ok(()) };
        info!(%gfid, "the handle of an object that has no name was removed");
        self.drop_handle(gfid)?;
        self.remove_side_entry(stat.stx_ino)
    }

    /// Writes the new handle of a directory beside the staged objects and returns its name there.
    pub(crate) fn stage_directory_handle(&self, gfid: Gfid, text: &[u8]) -> FopResult<String> {
        let staged = staged_handle_name(gfid);
        for _ in 0..2 {
            match rustix::fs::symlinkat(text, &self.staging, &staged) {
                Err(Sys::EXIST) => rustix::fs::unlinkat(&self.staging, &staged, AtFlags::empty())?,
                Err(errno) => return Err(errno.into()),
                Ok(()) => return Ok(staged),
            }
        }
        Err(FopError::new(Errno::EIO).doing("staging the handle of a directory").with("gfid", gfid))
    }

    /// Puts a staged handle in place of the one that is there.
    pub(crate) fn install_directory_handle(&self, gfid: Gfid, staged: &str) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let install = || rustix::fs::renameat(&self.staging, staged, &self.handles, path.as_c_str());
        Ok(self.make_handle(&path, install)?)
    }

    /// Takes a staged handle back.
    pub(crate) fn unstage_directory_handle(&self, staged: &str) -> FopResult<()> {
        Ok(rustix::fs::unlinkat(self.staging.as_fd(), staged, AtFlags::empty())?)
    }
}

/// The name of a staged handle: told from a staged object by its ending.
pub(crate) fn staged_handle_name(gfid: Gfid) -> String {
    format!("{gfid}{}", STAGED_HANDLE)
}

/// What the name of a staged handle ends in.
pub(crate) const STAGED_HANDLE: &str = ".handle";

fn twice(gfid: Gfid, place: &Place) -> FopError {
    let (parent, name) = place.key();
    let name = String::from_utf8_lossy(name);
    error!(%gfid, %parent, %name, "two objects carry one gfid; remove the xattrs of the one that was copied in");
    FopError::new(Errno::EIO).doing("looking up an object whose gfid another one has").with("gfid", gfid)
}
