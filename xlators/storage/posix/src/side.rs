//! Without privilege: gfids of objects that cannot show one of their own.
//!
//! Symbolic links and special files cannot carry `user.` xattrs, and those of a file or directory that its owner may not
//! read are out of reach. Their gfid is the text of a symbolic link `inode/<inode number in hexadecimal>` in our folder. An
//! entry counts only if the handle of its gfid is the very inode: one left behind by an object that is gone says nothing.

use std::ffi::CString;
use std::os::fd::AsFd;

use brickwork_api::{FopResult, Gfid};
use rustix::fs::{AtFlags, Mode, Statx};
use rustix::io::Errno as Sys;

use crate::attr::is_dir;
use crate::brick::{Brick, INODES};
use crate::handle::{self, HandlePath};
use crate::keys::Keys;
use crate::sys::{self, At};

impl Brick {
    /// Whether the xattr of an object of this mode cannot be read, and so its gfid needs an entry.
    pub(crate) fn needs_side_entry(&self, mode: u32) -> bool {
        let carries = matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR);
        self.keys == Keys::User && !(carries && mode & 0o400 != 0)
    }

    /// The gfid in the entry of the inode of `stat`, if it is true.
    pub(crate) fn side_gfid(&self, stat: &Statx) -> FopResult<Option<Gfid>> {
        if self.keys != Keys::User {
            return Ok(None);
        }
        let text = match rustix::fs::readlinkat(&self.own, path(stat.stx_ino), Vec::new()) {
            Ok(text) => text,
            Err(Sys::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let Some(gfid) = handle::parse_gfid(text.to_bytes()) else { return Ok(None) };
        let same = match is_dir(stat) {
            true => self.leads_to(gfid, stat.stx_ino),
            false => sys::stat(self.handle(&HandlePath::of(gfid))).is_ok_and(|found| found.stx_ino == stat.stx_ino),
        };
        Ok(same.then_some(gfid))
    }

    /// Whether the handle of the directory `gfid` leads to `ino`.
    fn leads_to(&self, gfid: Gfid, ino: u64) -> bool {
        if let Some(dir) = self.known_dir(gfid) {
            return dir.ino == ino;
        }
        let Ok(text) = rustix::fs::readlinkat(&self.handles, HandlePath::of(gfid).as_c_str(), Vec::new()) else {
            return false;
        };
        let Some((parent, name)) = handle::parse_directory_text(text.to_bytes()) else { return false };
        let Ok(parent) = self.dir(parent) else { return false };
        let name = crate::resolve::CName::new(&name);
        sys::stat(At { dir: parent.fd.as_fd(), path: name.as_c_str() }).is_ok_and(|found| found.stx_ino == ino)
    }

    /// Writes the entry of an inode, in place of what one before it left.
    pub(crate) fn put_side_entry(&self, ino: u64, gfid: Gfid) -> FopResult<()> {
        let (path, text) = (path(ino), gfid.to_string());
        loop {
            match rustix::fs::symlinkat(&text, &self.own, &path) {
                Ok(()) => return Ok(()),
                Err(Sys::EXIST) => self.remove_side_entry(ino)?,
                Err(Sys::NOENT) => match rustix::fs::mkdirat(&self.own, INODES, Mode::RWXU) {
                    Ok(()) | Err(Sys::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                },
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Removes the entry of an inode that is gone.
    pub(crate) fn remove_side_entry(&self, ino: u64) -> FopResult<()> {
        if self.keys != Keys::User {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.own, path(ino), AtFlags::empty()) {
            Ok(()) | Err(Sys::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes sure that the gfid of an object can be read after its mode becomes `mode`.
    pub(crate) fn keep_gfid_readable(&self, gfid: Gfid, stat: &Statx, mode: u32) -> FopResult<()> {
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        match self.needs_side_entry(kind | mode) {
            true => self.put_side_entry(stat.stx_ino, gfid),
            false => Ok(()),
        }
    }
}

fn path(ino: u64) -> CString {
    CString::new(format!("{INODES}/{ino:x}")).expect("no NUL")
}
