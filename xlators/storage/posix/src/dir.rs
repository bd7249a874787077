//! Listing directories.
//!
//! Cookies are those of the directory on the brick, through a descriptor of this open's own: they are good for as long as it
//! is open. What was read and did not fit the reply is read again. `.glusterfs` is not listed.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use brickwork_api::{ClientId, DirEntry, Errno, FileKind, FopResult, Gfid, Name, OpenFile};
use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::Errno as Sys;
use tracing::warn;

use crate::attr::{attr, kind};
use crate::brick::Brick;
use crate::handle;
use crate::opens::Open;
use crate::resolve::{CName, Place};
use crate::sys::At;

/// What FUSE needs for an entry besides its name, in bytes; the estimate of how many fit a reply.
const HEADER: usize = 24;
/// The same with attributes.
const HEADER_PLUS: usize = 152;
/// Most entries of one reply: a bound on how long a reader is busy with one.
const ENTRIES_MAX: usize = 1024;

/// Where the descriptor of an open directory stands.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    position: u64,
}

/// An entry as the directory has it.
struct Raw {
    name: Name,
    kind: Option<FileKind>,
    next: u64,
}

impl Brick {
    /// Lists entries from `offset` on; none means the end.
    pub(crate) fn read_directory(
        &self,
        client: ClientId,
        file: OpenFile,
        offset: u64,
        size: u32,
        plus: bool,
    ) -> FopResult<Vec<DirEntry>> {
        let open = self.opens.get(client, file.gfid, file.open)?;
        let Some(stream) = &open.stream else { return Err(Errno::ENOTDIR.into()) };
        let mut stream = stream.lock();
        let mut from = offset;
        loop {
            let raw = read_raw(&open, &mut stream, from, size as usize, plus)?;
            let Some(last) = raw.last() else { return Ok(Vec::new()) };
            from = last.next;
            let mut entries = Vec::with_capacity(raw.len());
            for raw in raw {
                entries.extend(self.entry(&open, raw, plus));
            }
            // All of a batch may be hidden or gone; that is not the end.
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// The entry with what its object says; `None` when it is hidden or vanished.
    fn entry(&self, open: &Open, raw: Raw, plus: bool) -> Option<DirEntry> {
        if open.gfid == Gfid::ROOT && raw.name.as_bytes() == handle::FOLDER {
            return None;
        }
        let name = CName::new(&raw.name);
        let quick = match (plus, raw.kind) {
            (false, Some(kind)) => self.gfid_by_name(open, &name).map(|gfid| (gfid, kind)),
            _ => None,
        };
        let (gfid, kind, attr) = match quick {
            Some((gfid, kind)) => (gfid, kind, None),
            None => match self.entry_in_full(open.gfid, name) {
                Ok((gfid, kind, attr)) => (gfid, kind, plus.then_some(attr)),
                Err(error) => {
                    if error.errno() != Errno::ENOENT {
                        warn!(parent = %open.gfid, name = %raw.name, %error, "an entry is left out of a listing");
                    }
                    return None;
                }
            },
        };
        Some(DirEntry { name: raw.name, gfid, kind, next: raw.next, attr })
    }

    /// The gfid of an entry that has one in an xattr.
    fn gfid_by_name(&self, open: &Open, name: &CName) -> Option<Gfid> {
        let mut bytes = [0; 16];
        let at = At { dir: open.fd.as_fd(), path: name.as_c_str() };
        let read = crate::sys::get_xattr(at, self.keys.gfid(), &mut bytes);
        (read == Ok(16)).then(|| Gfid::from_bytes(bytes)).filter(|gfid| !gfid.is_null())
    }

    fn entry_in_full(&self, parent: Gfid, name: CName) -> FopResult<(Gfid, FileKind, brickwork_api::Attr)> {
        let place = Place { dir: self.dir(parent)?, name };
        let found = self.named(&place, None)?;
        Ok((found.gfid, kind(&found.stat)?, attr(found.gfid, &found.stat)?))
    }
}

/// Reads about as many entries as `size` bytes of reply hold, from `offset` on.
fn read_raw(open: &Open, stream: &mut Stream, offset: u64, size: usize, plus: bool) -> FopResult<Vec<Raw>> {
    if stream.position != offset {
        rustix::fs::seek(&open.fd, SeekFrom::Start(offset))?;
        stream.position = offset;
    }
    let header = if plus { HEADER_PLUS } else { HEADER };
    let mut room = size;
    let mut entries = Vec::new();
    // The directory's own form of an entry is shorter than the reply's, and of a name of 255 bytes one must fit.
    let mut buffer = [MaybeUninit::uninit(); 8192];
    loop {
        let limit = (room / header * (HEADER + 16)).clamp(512, buffer.len());
        let mut directory = RawDir::new(&open.fd, &mut buffer[..limit]);
        let mut none = true;
        while let Some(entry) = directory.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed while it was open.
                Err(Sys::NOENT) => return Ok(entries),
                Err(errno) => return Err(errno.into()),
            };
            none = false;
            let next = entry.next_entry_cookie();
            stream.position = next;
            if let Ok(name) = Name::new(entry.file_name().to_bytes()) {
                room = room.saturating_sub(header + name.as_bytes().len().next_multiple_of(8));
                entries.push(Raw { name, kind: kind_of(entry.file_type()), next });
            }
            // Whoever asks again asks after the last entry that it got, so the descriptor is put back there.
            if !entries.is_empty() && (room < header || entries.len() >= ENTRIES_MAX) {
                none = true;
                if !directory.is_buffer_empty() {
                    rustix::fs::seek(&open.fd, SeekFrom::Start(next))?;
                }
                break;
            }
            if directory.is_buffer_empty() {
                break;
            }
        }
        if none {
            return Ok(entries);
        }
    }
}

fn kind_of(file_type: FileType) -> Option<FileKind> {
    Some(match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::Unknown => return None,
    })
}
