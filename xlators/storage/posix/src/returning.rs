//! Clients of a server that may come back, after its process died, for what they had open.
//!
//! The server keeps records of them in a folder of its own on the brick. When there are any at the start, content that had
//! lost its last name while it was open stays in `unlink/`, where it can be opened by its gfid; and from the moment that a
//! server asks for its folder, nothing that loses its last name goes, since somebody who is not back yet may have it open.
//! Both end when the server says that all are back ([`DROP_UNLINKED`](brickwork_api::ipc::DROP_UNLINKED)).
//!
//! A brick that is served without a server in between keeps what was kept, and adds nothing.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::{Bytes, Errno, FopError, FopResult};
use rustix::fs::OFlags;
use rustix::io::Errno as Sys;
use tracing::info;

use crate::attr::is_dir;
use crate::brick::{Brick, OWN, PARKED, SERVER};
use crate::handle;
use crate::recover::names_in;
use crate::sys::{self, At};

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
    /// The folder for the records of a server, made if need be.
    pub(crate) fn work_folder(&self) -> FopResult<Bytes> {
        let made = crate::adopt::folder(&self.path, self.own.as_fd(), SERVER);
        made.map_err(|reason| FopError::new(Errno::EIO).doing("making the folder of a server").with("reason", reason))?;
        self.returning.server.store(true, Ordering::Release);
        let path = self.path.join(own()).join(SERVER);
        Ok(Bytes::from(path.into_os_string().into_encoded_bytes()))
    }

    /// Notes whether a server left records behind. Nobody else is at the brick.
    pub(crate) fn look_for_records(&self) -> FopResult<()> {
        let records = match self.open_folder(self.own.as_fd(), SERVER)? {
            Some(folder) => !names_in(folder.as_fd())?.is_empty(),
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

    /// Takes the records of a server away, and what was kept for its clients.
    pub(crate) fn forget_server(&self) -> FopResult<()> {
        self.drop_unlinked()?;
        match std::fs::remove_dir_all(self.path.join(own()).join(SERVER)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FopError::from(Sys::from_io_error(&error).unwrap_or(Sys::IO))),
        }
    }

    /// The folder of content without names, if there is one.
    pub(crate) fn parked_folder(&self) -> FopResult<Option<OwnedFd>> {
        self.open_folder(self.handles.as_fd(), PARKED)
    }

    fn open_folder(&self, parent: std::os::fd::BorrowedFd<'_>, name: &str) -> FopResult<Option<OwnedFd>> {
        let name = CString::new(name).expect("no NUL");
        match sys::open_name(parent, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => Ok(Some(folder)),
            Err(Sys::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Our folder, from the root of the brick.
fn own() -> std::path::PathBuf {
    std::path::Path::new(std::str::from_utf8(handle::FOLDER).expect("ASCII")).join(OWN)
}
