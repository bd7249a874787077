//! One object of the tree: what it is, its attributes, its names when it is a directory.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use brickwork_api::{Attr, Bytes, Errno, FileKind, Gfid, Name, Timespec, XattrName};

use super::content::{Content, PAGE};

/// An object.
#[derive(Debug)]
pub struct Inode {
    /// What only its kind has.
    pub body: Body,
    /// Everything of [`Attr`] that is not computed; `size` and `blocks` are not kept here.
    pub attr: Attr,
    /// Extended attributes.
    pub xattrs: BTreeMap<XattrName, Bytes>,
    /// Opens that refer to it.
    pub opens: u32,
}

/// What only one kind of object has.
#[derive(Debug)]
pub enum Body {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory(Directory),
    /// A symbolic link.
    Symlink(Bytes),
    /// A device, pipe or socket.
    Special,
}

/// The names in a directory. A cookie is given once and never again, so a listing that goes on after one is
/// never confused by names that come and go.
#[derive(Debug)]
pub struct Directory {
    /// The directory this one is in.
    pub parent: Gfid,
    by_name: HashMap<Name, u64>,
    by_cookie: BTreeMap<u64, (Name, Gfid)>,
    last_cookie: u64,
}

impl Directory {
    /// An empty one in `parent`.
    pub fn new(parent: Gfid) -> Directory {
        Directory { parent, by_name: HashMap::new(), by_cookie: BTreeMap::new(), last_cookie: 0 }
    }

    /// The object under `name`.
    pub fn get(&self, name: &Name) -> Option<Gfid> {
        let cookie = self.by_name.get(name)?;
        self.by_cookie.get(cookie).map(|(_, gfid)| *gfid)
    }

    /// Puts `gfid` under `name`, in place of what was there.
    pub fn put(&mut self, name: &Name, gfid: Gfid) {
        if let Some(entry) = self.by_name.get(name).and_then(|cookie| self.by_cookie.get_mut(cookie)) {
            entry.1 = gfid;
            return;
        }
        self.last_cookie += 1;
        self.by_name.insert(name.clone(), self.last_cookie);
        self.by_cookie.insert(self.last_cookie, (name.clone(), gfid));
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &Name) {
        if let Some(cookie) = self.by_name.remove(name) {
            self.by_cookie.remove(&cookie);
        }
    }

    /// Whether it has no names.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Cookie, name and object of each entry whose cookie is above `cookie`, in a fixed order.
    pub fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Name, Gfid)> {
        let later = self.by_cookie.range((std::ops::Bound::Excluded(cookie), std::ops::Bound::Unbounded));
        later.map(|(cookie, (name, gfid))| (*cookie, name, *gfid))
    }
}

/// The clock, as attributes have it.
pub fn now() -> Timespec {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}

impl Inode {
    /// What `stat` answers.
    pub fn attr(&self) -> Attr {
        let mut attr = self.attr.clone();
        (attr.size, attr.blocks) = match &self.body {
            Body::File(content) => (content.len(), content.pages() * (PAGE / 512)),
            Body::Directory(_) => (PAGE, PAGE / 512),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        attr
    }

    /// Its names, when it is a directory.
    pub fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Its content, when it is a regular file.
    ///
    /// # Errors
    /// `EISDIR`, or `EINVAL` for anything else that has none.
    pub fn content(&self) -> Result<&Content, Errno> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Special => Err(Errno::EINVAL),
        }
    }

    /// [`Inode::content`], to change it.
    ///
    /// # Errors
    /// Those of [`Inode::content`].
    pub fn content_mut(&mut self) -> Result<&mut Content, Errno> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Special => Err(Errno::EINVAL),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.attr.kind == FileKind::Directory
    }

    /// Notes a change of content: `mtime` and `ctime`.
    pub fn touch_content(&mut self) {
        self.attr.modified = now();
        self.attr.changed = self.attr.modified;
    }

    /// Notes a change of attributes: `ctime`.
    pub fn touch_attributes(&mut self) {
        self.attr.changed = now();
    }

    /// Takes the set-id bits away as a write by somebody else than root does.
    pub fn kill_set_id(&mut self) {
        self.attr.mode &= !libc::S_ISUID;
        if self.attr.mode & libc::S_IXGRP != 0 {
            self.attr.mode &= !libc::S_ISGID;
        }
    }
}
