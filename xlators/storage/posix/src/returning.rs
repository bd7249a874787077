//! Clients of a server that may come back, after its process died, for what they had open.
//!
//! The server keeps records of them in a folder of its own on the brick, [`SESSIONS`]. When there are any at the start,
//! content that had lost its last name while it was open stays in `unlink/`, where it can be opened by its gfid; and from
//! the moment that a server asks for its folder, nothing that loses its last name goes, since somebody who is not back yet
//! may have it open.
//! Both end when the server says that all are back ([`DROP_UNLINKED`](brickwork_api::ipc::DROP_UNLINKED)).
//!
//! A brick that is served without a server in between keeps what was kept, and adds nothing. What other xlators keep in
//! folders of theirs, beside that of the server, says nothing of opens.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::ipc::SESSIONS;
use brickwork_api::{Bytes, Errno, FopError, FopResult};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno as Sys;
use tracing::info;

use crate::attr::is_dir;
use crate::brick::{Brick, OWN, PARKED, WORK};
use crate::handle;
use crate::recover::names_in;
use crate::sys::{self, At};

/// Bytes of a name on Linux.
const NAME_MAX: usize = 255;

/// Whether clients may come back, and whether there is a server that they can come back to.
#[derive(Debug, Default)]
pub(crate) struct Returning {
    may: AtomicBool,
    server: AtomicBool,
}

impl Returning {
    /// Whether content may be kept for somebody who has not opened it.
    pub(crate) fn may(&self) -> bool {
        self.may.load(Ordering::Acquire)
    }

    /// Whether what loses its last name now may be open for somebody who is not back yet.
    pub(crate) fn awaited(&self) -> bool {
        self.may() && self.server.load(Ordering::Acquire)
    }
}

impl Brick {
    /// The folder `name` for the records of an xlator above, made if need be.
    ///
    /// # Errors
    /// `EINVAL` for a name that is no plain component of a path.
    pub(crate) fn work_folder(&self, name: &[u8]) -> FopResult<Bytes> {
        let name = component(name)?;
        let failed =
            |reason| FopError::new(Errno::EIO).doing("making the folder of an xlator above").with("reason", reason);
        crate::adopt::folder(&self.path, self.own.as_fd(), WORK)
            .and_then(|work| crate::adopt::folder(&self.path, work.as_fd(), name))
            .map_err(failed)?;
        if name == SESSIONS {
            self.returning.server.store(true, Ordering::Release);
        }
        let path = self.path.join(own()).join(WORK).join(name);
        Ok(Bytes::from(path.into_os_string().into_encoded_bytes()))
    }

    /// Notes whether a server left records behind. Nobody else is at the brick.
    pub(crate) fn look_for_records(&self) -> FopResult<()> {
        let records = match open_folder(self.own.as_fd(), WORK)? {
            Some(work) => match open_folder(work.as_fd(), SESSIONS)? {
                Some(folder) => !names_in(folder.as_fd())?.is_empty(),
                None => false,
            },
            None => false,
        };
        self.returning.may.store(records, Ordering::Release);
        Ok(())
    }

    /// Lets go of what was kept for clients and that nobody has open now.
    pub(crate) fn drop_unlinked(&self) -> FopResult<()> {
        // First: whoever closes something from now on lets it go by himself.
        self.returning.may.store(false, Ordering::Release);
        let Some(folder) = self.parked_folder()? else { return Ok(()) };
        let mut dropped = 0_u64;
        for name in names_in(folder.as_fd())? {
            let Some(gfid) = handle::parse_gfid(name.to_bytes()) else { continue };
            let _held = self.objects.object(gfid);
            if self.opens.of(gfid).is_some() {
                // It goes with its last release, also where that was in doubt so far.
                self.opens.park(gfid);
                continue;
            }
            let stat = match sys::stat(At { dir: folder.as_fd(), path: &name }) {
                Ok(stat) => stat,
                Err(Sys::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if !is_dir(&stat) && stat.stx_nlink == 1 {
                self.drop_parked(gfid, stat.stx_ino)?;
                dropped += 1;
            }
        }
        info!(dropped, "what was kept for clients that did not come back is gone");
        Ok(())
    }

    /// Takes the records of all xlators above away, and what was kept for clients.
    pub(crate) fn forget_server(&self) -> FopResult<()> {
        self.drop_unlinked()?;
        match std::fs::remove_dir_all(self.path.join(own()).join(WORK)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FopError::from(Sys::from_io_error(&error).unwrap_or(Sys::IO))),
        }
    }

    /// The folder of content without names, if there is one.
    pub(crate) fn parked_folder(&self) -> FopResult<Option<OwnedFd>> {
        open_folder(self.handles.as_fd(), PARKED)
    }
}

/// Takes away what is empty among the folders of the xlators above, and then the folder of them all.
pub(crate) fn remove_work_folders(own: BorrowedFd<'_>) -> FopResult<()> {
    let Some(work) = open_folder(own, WORK)? else { return Ok(()) };
    for name in names_in(work.as_fd())? {
        remove_if_empty(work.as_fd(), &name)?;
    }
    remove_if_empty(own, &CString::new(WORK).expect("no NUL"))
}

fn remove_if_empty(parent: BorrowedFd<'_>, name: &CStr) -> FopResult<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        // A file among them is nothing of ours, and stays.
        Ok(()) | Err(Sys::NOENT | Sys::NOTEMPTY | Sys::EXIST | Sys::NOTDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &str) -> FopResult<Option<OwnedFd>> {
    let name = CString::new(name).expect("no NUL");
    match sys::open_name(parent, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(folder) => Ok(Some(folder)),
        Err(Sys::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// `name`, if it is one component of a path and goes nowhere else.
fn component(name: &[u8]) -> FopResult<&str> {
    let plain = !name.is_empty() && name.len() <= NAME_MAX && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    match std::str::from_utf8(name) {
        Ok(name) if plain && name != "." && name != ".." => Ok(name),
        _ => Err(FopError::new(Errno::EINVAL).doing("naming a work folder")),
    }
}

/// Our folder, from the root of the brick.
fn own() -> std::path::PathBuf {
    std::path::Path::new(std::str::from_utf8(handle::FOLDER).expect("ASCII")).join(OWN)
}
