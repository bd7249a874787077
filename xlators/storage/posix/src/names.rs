//! Names that come, go and change: link, unlink, rmdir, rename.
//!
//! The call that changes the name runs as the caller; everything around it as ourselves. What a crash in between leaves:
//!
//! | step | what is left | put right by |
//! | --- | --- | --- |
//! | last unlink: handle taken, name not | a name without a handle | lookup |
//! | the same while it is open: parked, name not taken | an entry of `unlink/` with two links | next start |
//! | rmdir or replaced directory: name taken, handle not | a handle that leads nowhere | next start, by the intent |
//! | directory renamed, handle not | a staged handle | next start |
//! | file renamed, linked, unlinked: xattrs of two names | one name too many, never one too few | next start, by the intent |

use brickwork_api::{
    Attr, Credentials, Entry, Errno, FopError, FopResult, Gfid, LinkReq, RenameMode, RenameReq, Unnamed,
};
use rustix::fs::{AtFlags, Mode, RenameFlags, Statx};
use rustix::io::Errno as Sys;
use std::ffi::CString;
use std::os::fd::AsFd;
use tracing::warn;

use crate::attr::{attr, is_dir, links};
use crate::brick::{Brick, PARKED};
use crate::handle::{self, HandlePath};
use crate::intents::Intent;
use crate::keys;
use crate::resolve::{Found, Grip, Place};
use crate::sys::{self, At};

/// What became of a handle whose object is about to lose its last name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Removed,
    Parked,
}

/// What an object needs for its new name before it has it.
enum Prepared {
    /// A directory: its next handle.
    Handle(String),
    /// Anything else: the xattr of the new name is there.
    Path,
}

impl Brick {
    /// Takes a name from a file.
    pub(crate) fn unlink(&self, who: &Credentials, entry: &Entry) -> FopResult<Unnamed> {
        let place = self.place(entry)?;
        let _name = self.names.name(place.key().0, place.key().1);
        let found = self.named_held(&place, None)?;
        if is_dir(&found.stat) {
            return Err(Errno::EISDIR.into());
        }
        let gfid = found.gfid;
        let _object = self.objects.object(gfid);
        let stat = sys::stat(place.at())?;
        let unlink = || -> FopResult<()> {
            let _acting = self.identities.assume(who)?;
            Ok(rustix::fs::unlinkat(&place.dir.fd, place.name.as_c_str(), AtFlags::empty())?)
        };
        if links(gfid, &stat) > 1 {
            let _intent = self.note_change(self.keeps_paths(), gfid, None)?;
            unlink()?;
            self.after(gfid, self.forget_path(gfid, &place));
        } else {
            if who.uid != 0 {
                // Most refusals show here, before anything has moved.
                let _acting = self.identities.assume(who)?;
                sys::access(place.dir.fd.as_fd(), 3)?;
            }
            let taken = self.take_handle(gfid)?;
            if let Err(error) = unlink() {
                self.put_handle_back(gfid, taken, &place)?;
                return Err(error);
            }
            self.after(gfid, self.lost_last_name(gfid, taken, &stat));
        }
        Ok(Unnamed { gfid, links: links(gfid, &stat).saturating_sub(1) })
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&self, who: &Credentials, entry: &Entry) -> FopResult<Unnamed> {
        let place = self.place(entry)?;
        let _name = self.names.name(place.key().0, place.key().1);
        let found = self.named_held(&place, None)?;
        if !is_dir(&found.stat) {
            return Err(Errno::ENOTDIR.into());
        }
        let gfid = found.gfid;
        let _object = self.objects.object(gfid);
        let _intent = self.intents.begin(gfid, None)?;
        {
            let _acting = self.identities.assume(who)?;
            rustix::fs::unlinkat(&place.dir.fd, place.name.as_c_str(), AtFlags::REMOVEDIR)?;
        }
        self.after(gfid, self.lost_directory(gfid, &found.stat));
        Ok(Unnamed { gfid, links: 0 })
    }

    /// Gives a file one more name.
    pub(crate) fn link(&self, who: &Credentials, request: &LinkReq) -> FopResult<Attr> {
        self.check_space()?;
        let gfid = request.gfid;
        let place = self.place(&request.entry)?;
        let (grip, stat) = self.grip(gfid)?;
        if is_dir(&stat) {
            return Err(Errno::EPERM.into());
        }
        let Grip::Path(fd) = grip else { return Err(Errno::ENOENT.into()) };
        let _name = self.names.name(place.key().0, place.key().1);
        let _object = self.objects.object(gfid);
        let stat = sys::stat(At::of(&fd))?;
        if links(gfid, &stat) == 0 {
            return Err(Errno::ENOENT.into());
        }
        let most = self.settings().max_hardlinks;
        if most != 0 && links(gfid, &stat) >= most {
            return Err(FopError::new(Errno::EMLINK).doing("linking a file").with("max-hardlinks", most));
        }
        if sys::stat(place.at()).is_ok() {
            return Err(Errno::EEXIST.into());
        }
        let _intent = self.note_change(self.keeps_paths(), gfid, None)?;
        self.note_path(gfid, &place)?;
        let linked = self
            .identities
            .assume(who)
            .and_then(|_acting| Ok(crate::create::link_descriptor(&fd, place.dir.fd.as_fd(), place.name.as_c_str())?));
        if let Err(error) = linked {
            self.forget_path(gfid, &place)?;
            return Err(error);
        }
        attr(gfid, &sys::stat(At::of(&fd))?)
    }

    /// Gives an object another name in place of one it has.
    pub(crate) fn rename(&self, who: &Credentials, request: &RenameReq) -> FopResult<(Attr, Option<Unnamed>)> {
        let (from, to) = (self.place(&request.from)?, self.place(&request.to)?);
        let _names = self.names.two_names(from.key(), to.key());
        let source = self.named_held(&from, None)?;
        let target = match self.named_held(&to, None) {
            Ok(found) => Some(found),
            Err(error) if error.errno() == Errno::ENOENT => None,
            Err(error) => return Err(error),
        };
        match (request.mode, &target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST.into()),
            (RenameMode::Exchange, None) => return Err(Errno::ENOENT.into()),
            // Two names of one object: POSIX has it that nothing happens.
            (_, Some(target)) if target.gfid == source.gfid => {
                return Ok((attr(source.gfid, &source.stat)?, None));
            }
            _ => {}
        }
        let _objects = self.objects.two_objects(source.gfid, target.map(|target| target.gfid));
        // A renamed directory has its staged handle for that.
        let needed = self.keeps_paths() || target.is_some_and(|target| is_dir(&target.stat));
        let _intent = self.note_change(needed, source.gfid, target.map(|target| target.gfid))?;
        let replaced = match (request.mode, target) {
            (RenameMode::Exchange, Some(target)) => Some(self.exchange(who, (&from, source), (&to, target))?),
            (_, Some(target)) => Some(self.replace(who, (&from, source), (&to, target))?),
            (_, None) => {
                self.move_to(who, (&from, source), &to, RenameFlags::NOREPLACE)?;
                None
            }
        };
        Ok((attr(source.gfid, &sys::stat(to.at())?)?, replaced))
    }

    /// Renames to a name that is free.
    fn move_to(&self, who: &Credentials, source: (&Place, Found), to: &Place, flags: RenameFlags) -> FopResult<()> {
        let (from, found) = source;
        let prepared = self.prepare_name(&found, to)?;
        if let Err(error) = self.rename_as(who, from, to, flags) {
            self.unprepare_name(&found, to, prepared)?;
            return Err(error);
        }
        self.after(found.gfid, self.finish_name(&found, from, prepared));
        Ok(())
    }

    fn replace(&self, who: &Credentials, source: (&Place, Found), target: (&Place, Found)) -> FopResult<Unnamed> {
        let (to, lost) = target;
        match (is_dir(&source.1.stat), is_dir(&lost.stat)) {
            (true, false) => return Err(Errno::ENOTDIR.into()),
            (false, true) => return Err(Errno::EISDIR.into()),
            (true, true) => {
                self.move_to(who, source, to, RenameFlags::empty())?;
                self.after(lost.gfid, self.lost_directory(lost.gfid, &lost.stat));
                return Ok(Unnamed { gfid: lost.gfid, links: 0 });
            }
            (false, false) => {}
        }
        let stat = sys::stat(to.at())?;
        let left = links(lost.gfid, &stat).saturating_sub(1);
        if left > 0 {
            self.move_to(who, source, to, RenameFlags::empty())?;
            self.after(lost.gfid, self.forget_path(lost.gfid, to));
        } else {
            let taken = self.take_handle(lost.gfid)?;
            if let Err(error) = self.move_to(who, source, to, RenameFlags::empty()) {
                self.put_handle_back(lost.gfid, taken, to)?;
                return Err(error);
            }
            self.after(lost.gfid, self.lost_last_name(lost.gfid, taken, &stat));
        }
        Ok(Unnamed { gfid: lost.gfid, links: left })
    }

    fn exchange(&self, who: &Credentials, one: (&Place, Found), two: (&Place, Found)) -> FopResult<Unnamed> {
        let ((from, source), (to, other)) = (one, two);
        let first = self.prepare_name(&source, to)?;
        let second = match self.prepare_name(&other, from) {
            Ok(second) => second,
            Err(error) => {
                self.unprepare_name(&source, to, first)?;
                return Err(error);
            }
        };
        if let Err(error) = self.rename_as(who, from, to, RenameFlags::EXCHANGE) {
            self.unprepare_name(&source, to, first)?;
            self.unprepare_name(&other, from, second)?;
            return Err(error);
        }
        self.after(source.gfid, self.finish_name(&source, from, first));
        self.after(other.gfid, self.finish_name(&other, to, second));
        Ok(Unnamed { gfid: other.gfid, links: links(other.gfid, &sys::stat(from.at())?) })
    }

    fn rename_as(&self, who: &Credentials, from: &Place, to: &Place, flags: RenameFlags) -> FopResult<()> {
        let _acting = self.identities.assume(who)?;
        let (old, new) = (from.name.as_c_str(), to.name.as_c_str());
        match rustix::fs::renameat_with(&from.dir.fd, old, &to.dir.fd, new, flags) {
            // A file system without these flags. We hold both names, so nobody has come to the new one since we looked.
            Err(Sys::INVAL) if flags == RenameFlags::NOREPLACE => {
                Ok(rustix::fs::renameat(&from.dir.fd, old, &to.dir.fd, new)?)
            }
            other => Ok(other?),
        }
    }

    fn prepare_name(&self, found: &Found, place: &Place) -> FopResult<Prepared> {
        if !is_dir(&found.stat) {
            self.note_path(found.gfid, place)?;
            return Ok(Prepared::Path);
        }
        let text = handle::directory_text(place.key().0, place.key().1);
        self.stage_directory_handle(found.gfid, &text).map(Prepared::Handle)
    }

    fn unprepare_name(&self, found: &Found, place: &Place, prepared: Prepared) -> FopResult<()> {
        match prepared {
            Prepared::Handle(staged) => self.unstage_directory_handle(&staged),
            Prepared::Path => self.forget_path(found.gfid, place),
        }
    }

    fn finish_name(&self, found: &Found, old: &Place, prepared: Prepared) -> FopResult<()> {
        match prepared {
            Prepared::Handle(staged) => self.install_directory_handle(found.gfid, &staged),
            Prepared::Path => self.forget_path(found.gfid, old),
        }
    }

    /// Notes what the next start has to look at if this process dies before the change is whole.
    fn note_change(&self, needed: bool, one: Gfid, two: Option<Gfid>) -> FopResult<Option<Intent<'_>>> {
        needed.then(|| self.intents.begin(one, two)).transpose()
    }

    /// Writes on an object that it has the name `place`.
    fn note_path(&self, gfid: Gfid, place: &Place) -> FopResult<()> {
        if !self.keeps_paths() {
            return Ok(());
        }
        let (key, value) = keys::path_xattr(place.key().0, place.key().1);
        Ok(sys::set_xattr(self.handle(&HandlePath::of(gfid)), &key, &value, 0)?)
    }

    /// Takes the name `place` off an object again.
    pub(crate) fn forget_path(&self, gfid: Gfid, place: &Place) -> FopResult<()> {
        if !self.keeps_paths() {
            return Ok(());
        }
        let (key, _) = keys::path_xattr(place.key().0, place.key().1);
        match sys::remove_xattr(self.handle(&HandlePath::of(gfid)), &key) {
            Ok(()) | Err(Sys::NODATA) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the handle of an object that is about to lose its last name. While it is open it goes to `unlink/`.
    fn take_handle(&self, gfid: Gfid) -> FopResult<Taken> {
        // A client that is not back yet may have had it open.
        if self.opens.of(gfid).is_none() && !self.returning.awaited() {
            self.drop_handle(gfid)?;
            return Ok(Taken::Removed);
        }
        let path = HandlePath::of(gfid);
        let park = || rustix::fs::renameat(&self.handles, path.as_c_str(), &self.handles, parked(gfid));
        match park() {
            Err(Sys::NOENT) => match rustix::fs::mkdirat(&self.handles, PARKED, Mode::RWXU) {
                Ok(()) | Err(Sys::EXIST) => park()?,
                Err(errno) => return Err(errno.into()),
            },
            other => other?,
        }
        Ok(Taken::Parked)
    }

    fn put_handle_back(&self, gfid: Gfid, taken: Taken, place: &Place) -> FopResult<()> {
        let path = HandlePath::of(gfid);
        let at = place.at();
        match taken {
            Taken::Removed => {
                rustix::fs::linkat(at.dir, at.path, &self.handles, path.as_c_str(), AtFlags::empty())?;
            }
            Taken::Parked => rustix::fs::renameat(&self.handles, parked(gfid), &self.handles, path.as_c_str())?,
        }
        Ok(())
    }

    fn lost_last_name(&self, gfid: Gfid, taken: Taken, stat: &Statx) -> FopResult<()> {
        if taken == Taken::Removed {
            return self.remove_side_entry(stat.stx_ino);
        }
        self.opens.park(gfid);
        if self.opens.of(gfid).is_some() || self.returning.awaited() {
            return Ok(());
        }
        // It was closed while we worked, too early to know.
        self.drop_parked(gfid, stat.stx_ino)
    }

    fn lost_directory(&self, gfid: Gfid, stat: &Statx) -> FopResult<()> {
        self.dirs.remove(gfid);
        self.drop_handle(gfid)?;
        self.remove_side_entry(stat.stx_ino)
    }

    /// Lets the content of an object go that has neither a name nor an open.
    pub(crate) fn drop_parked(&self, gfid: Gfid, ino: u64) -> FopResult<()> {
        match rustix::fs::unlinkat(&self.handles, parked(gfid), AtFlags::empty()) {
            Ok(()) | Err(Sys::NOENT) => self.remove_side_entry(ino),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The deed is done and cannot fail any more; what went wrong in tidying up is put right by the next lookup or start.
    fn after(&self, gfid: Gfid, result: FopResult<()>) {
        if let Err(error) = result {
            warn!(%gfid, %error, "a change of names is done, but not tidied up");
        }
    }
}

/// [`parked`] as system calls take it.
pub(crate) fn parked_path(gfid: Gfid) -> CString {
    CString::new(parked(gfid)).expect("no NUL")
}

/// Where the content of an open object without a name is kept.
pub(crate) fn parked(gfid: Gfid) -> String {
    format!("{PARKED}/{gfid}")
}
