//! All objects, their names and who has them open. Pure: no lock, no task.
//!
//! Always true between calls:
//! - an object exists while it has a name or an open; the root always;
//! - `links` is the number of its names, for a directory 2 and one more per directory in it, 0 without a name;
//! - a directory is found from its `parent`;
//! - `pages_used` is the sum of the pages of all files.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use brickwork_api::{
    Attr, ClientId, Credentials, Entry, Errno, FileKind, Gfid, Locate, MODE_BITS, Name, OpenFile, OpenId, RenameMode,
    Target, Unnamed,
};

use super::content::{Content, PAGE, Range};
use super::inode::{Body, Directory, Inode, now};

/// An open file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// The object.
    pub gfid: Gfid,
    /// `O_*` flags.
    pub flags: u32,
}

impl Open {
    /// Whether it may read.
    pub fn reads(self) -> bool {
        self.flags & libc::O_ACCMODE as u32 != libc::O_WRONLY as u32
    }

    /// Whether it may write.
    pub fn writes(self) -> bool {
        self.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
    }
}

/// What a new object is to be.
pub struct NewObject<'a> {
    /// Its identity.
    pub gfid: Gfid,
    /// Permissions before the umask.
    pub mode: u32,
    /// The caller's umask.
    pub umask: u32,
    /// Its kind.
    pub kind: FileKind,
    /// Device number.
    pub rdev: u64,
    /// What only its kind has.
    pub body: Body,
    /// Whose it is.
    pub owner: &'a Credentials,
}

/// Gfids are random already: one multiplication spreads them well enough.
#[derive(Default)]
pub struct GfidHasher(u64);

impl Hasher for GfidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64((number >> 64) as u64 ^ number as u64);
    }
}

type Quick<K, V> = HashMap<K, V, BuildHasherDefault<GfidHasher>>;

/// All of it.
#[derive(Debug)]
pub struct Tree {
    inodes: Quick<Gfid, Inode>,
    opens: Quick<(ClientId, OpenId), Open>,
    pages_max: u64,
    pages_used: u64,
}

impl Tree {
    /// A tree with an empty root that belongs to root, and room for `pages_max` pages.
    pub fn new(pages_max: u64) -> Tree {
        let mut tree = Tree { inodes: Quick::default(), opens: Quick::default(), pages_max, pages_used: 0 };
        let root = NewObject {
            gfid: Gfid::ROOT,
            mode: 0o755,
            umask: 0,
            kind: FileKind::Directory,
            rdev: 0,
            body: Body::Directory(Directory::new(Gfid::ROOT)),
            owner: &Credentials::root(),
        };
        tree.inodes.insert(Gfid::ROOT, make_inode(root, None));
        tree
    }

    /// The object.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    pub fn inode(&self, gfid: Gfid) -> Result<&Inode, Errno> {
        self.inodes.get(&gfid).ok_or(Errno::ESTALE)
    }

    /// The object, to change it.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    pub fn inode_mut(&mut self, gfid: Gfid) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&gfid).ok_or(Errno::ESTALE)
    }

    /// How many objects there are, and pages: all and used.
    pub fn usage(&self) -> (u64, u64, u64) {
        (self.inodes.len() as u64, self.pages_max, self.pages_used)
    }

    /// The object that `locate` names.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ESTALE`.
    pub fn locate(&self, locate: &Locate) -> Result<&Inode, Errno> {
        match locate {
            Locate::Gfid(gfid) => self.inode(*gfid),
            Locate::Entry(entry) => self.inode(self.named(entry)?),
        }
    }

    /// The object that `target` names, by way of its open when it has one.
    ///
    /// # Errors
    /// `ESTALE`; `EBADF` when the open is unknown or is of another object.
    pub fn target(&self, client: ClientId, target: Target) -> Result<Gfid, Errno> {
        match target.open {
            Some(open) => self.open(client, OpenFile { gfid: target.gfid, open }).map(|open| open.gfid),
            None => self.inode(target.gfid).map(|inode| inode.attr.gfid),
        }
    }

    /// The open of `client`.
    ///
    /// # Errors
    /// `EBADF` when there is none, or it is of another object.
    pub fn open(&self, client: ClientId, file: OpenFile) -> Result<Open, Errno> {
        let open = self.opens.get(&(client, file.open)).ok_or(Errno::EBADF)?;
        if open.gfid == file.gfid { Ok(*open) } else { Err(Errno::EBADF) }
    }

    /// Whether the client uses this id already.
    pub fn in_use(&self, client: ClientId, open: OpenId) -> bool {
        self.opens.contains_key(&(client, open))
    }

    /// Opens an object.
    ///
    /// # Errors
    /// `ESTALE`; `EEXIST` when the client uses this id already.
    pub fn add_open(&mut self, client: ClientId, file: OpenFile, flags: u32) -> Result<(), Errno> {
        if self.in_use(client, file.open) {
            return Err(Errno::EEXIST);
        }
        self.inode_mut(file.gfid)?.opens += 1;
        self.opens.insert((client, file.open), Open { gfid: file.gfid, flags });
        Ok(())
    }

    /// Ends an open, and the object with it when that was all it had. An unknown open is let be.
    pub fn remove_open(&mut self, client: ClientId, file: OpenFile) {
        if self.open(client, file).is_err() {
            return;
        }
        self.opens.remove(&(client, file.open));
        if let Ok(inode) = self.inode_mut(file.gfid) {
            inode.opens -= 1;
        }
        self.reap(file.gfid);
    }

    /// Puts a new object under a name.
    ///
    /// # Errors
    /// `EEXIST` for a name or gfid in use, `EINVAL` for the null gfid, `ENOTDIR`, `ESTALE`, `ENOENT` in a directory
    /// that was removed.
    pub fn add(&mut self, entry: &Entry, object: NewObject<'_>) -> Result<Attr, Errno> {
        self.free_name(entry)?;
        let gfid = object.gfid;
        if gfid.is_null() {
            return Err(Errno::EINVAL);
        }
        if self.inodes.contains_key(&gfid) {
            return Err(Errno::EEXIST);
        }
        let inode = make_inode(object, Some(&self.inode(entry.parent)?.attr));
        let (attr, is_directory) = (inode.attr(), inode.is_directory());
        self.inodes.insert(gfid, inode);
        self.put_name(entry, gfid, is_directory)?;
        Ok(attr)
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// `EPERM` for a directory, `ENOENT` for a file without any name, and those of [`Tree::add`].
    pub fn link(&mut self, gfid: Gfid, entry: &Entry) -> Result<Attr, Errno> {
        let inode = self.inode(gfid)?;
        if inode.is_directory() {
            return Err(Errno::EPERM);
        }
        if inode.attr.links == 0 {
            return Err(Errno::ENOENT);
        }
        self.free_name(entry)?;
        self.put_name(entry, gfid, false)?;
        let inode = self.inode_mut(gfid)?;
        inode.attr.links += 1;
        inode.touch_attributes();
        Ok(inode.attr())
    }

    /// Takes a name from something that is no directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOTDIR`, `ESTALE`.
    pub fn unlink(&mut self, entry: &Entry) -> Result<Unnamed, Errno> {
        let gfid = self.named(entry)?;
        if self.inode(gfid)?.is_directory() {
            return Err(Errno::EISDIR);
        }
        self.take_name(entry, false)?;
        self.lose_name(gfid)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `ESTALE`.
    pub fn rmdir(&mut self, entry: &Entry) -> Result<Unnamed, Errno> {
        let gfid = self.named(entry)?;
        let directory = self.inode(gfid)?.directory().ok_or(Errno::ENOTDIR)?;
        if !directory.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.take_name(entry, true)?;
        self.lose_name(gfid)
    }

    /// Renames as `rename(2)` does. The object that lost the new name, or got the old one, comes with it.
    ///
    /// # Errors
    /// Those of `renameat2(2)`: `ENOENT`, `EEXIST`, `ENOTDIR`, `EISDIR`, `ENOTEMPTY`, `EINVAL` into itself, `ESTALE`.
    pub fn rename(&mut self, from: &Entry, to: &Entry, mode: RenameMode) -> Result<(Attr, Option<Unnamed>), Errno> {
        let moved = self.named(from)?;
        let in_the_way = self.named_or_free(to)?;
        self.check_rename(from, to, mode, moved, in_the_way)?;
        if in_the_way == Some(moved) {
            return Ok((self.inode(moved)?.attr(), None));
        }
        let replaced = match in_the_way {
            Some(other) if mode == RenameMode::Exchange => Some(self.exchange(from, to, moved, other)?),
            other => self.replace(from, to, moved, other)?,
        };
        let inode = self.inode_mut(moved)?;
        inode.touch_attributes();
        Ok((inode.attr(), replaced))
    }

    /// Whether the pages that `range` of a file still lacks are there.
    ///
    /// # Errors
    /// `ENOSPC` when not, `EISDIR` or `EINVAL` for what is no regular file, `ESTALE`.
    pub fn check_room(&self, gfid: Gfid, range: &Range) -> Result<(), Errno> {
        let missing = self.inode(gfid)?.content()?.missing_pages(range);
        if self.pages_max - self.pages_used < missing { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// The content of a file, for a change that `change` makes of it; the pages are counted anew afterwards.
    ///
    /// # Errors
    /// `EISDIR` or `EINVAL` for what is no regular file, `ESTALE`, and what `change` answers.
    pub fn change_content<T>(
        &mut self,
        gfid: Gfid,
        change: impl FnOnce(&mut Content) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let inode = self.inode_mut(gfid)?;
        let content = inode.content_mut()?;
        let before = content.pages();
        let done = change(content)?;
        let after = content.pages();
        inode.touch_content();
        self.pages_used = self.pages_used + after - before;
        Ok(done)
    }

    fn named(&self, entry: &Entry) -> Result<Gfid, Errno> {
        self.directory(entry.parent)?.get(&entry.name).ok_or(Errno::ENOENT)
    }

    fn named_or_free(&self, entry: &Entry) -> Result<Option<Gfid>, Errno> {
        let directory = self.directory(entry.parent)?;
        if self.inode(entry.parent)?.attr.links == 0 {
            return Err(Errno::ENOENT);
        }
        Ok(directory.get(&entry.name))
    }

    fn free_name(&self, entry: &Entry) -> Result<(), Errno> {
        self.named_or_free(entry)?.map_or(Ok(()), |_| Err(Errno::EEXIST))
    }

    fn directory(&self, gfid: Gfid) -> Result<&Directory, Errno> {
        self.inode(gfid)?.directory().ok_or(Errno::ENOTDIR)
    }

    fn directory_mut(&mut self, gfid: Gfid) -> Result<(&mut Attr, &mut Directory), Errno> {
        let inode = self.inode_mut(gfid)?;
        inode.touch_content();
        match &mut inode.body {
            Body::Directory(directory) => Ok((&mut inode.attr, directory)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Puts `gfid` under a name, in place of what was there, and counts a directory in its parent.
    fn put_name(&mut self, entry: &Entry, gfid: Gfid, is_directory: bool) -> Result<(), Errno> {
        let (attr, directory) = self.directory_mut(entry.parent)?;
        directory.put(&entry.name, gfid);
        attr.links += u32::from(is_directory);
        if let Body::Directory(moved) = &mut self.inode_mut(gfid)?.body {
            moved.parent = entry.parent;
        }
        Ok(())
    }

    fn take_name(&mut self, entry: &Entry, is_directory: bool) -> Result<(), Errno> {
        let (attr, directory) = self.directory_mut(entry.parent)?;
        directory.remove(&entry.name);
        attr.links -= u32::from(is_directory);
        Ok(())
    }

    /// Counts a name less; a directory has none left.
    fn lose_name(&mut self, gfid: Gfid) -> Result<Unnamed, Errno> {
        let inode = self.inode_mut(gfid)?;
        inode.attr.links = if inode.is_directory() { 0 } else { inode.attr.links - 1 };
        inode.touch_attributes();
        let links = inode.attr.links;
        self.reap(gfid);
        Ok(Unnamed { gfid, links })
    }

    fn reap(&mut self, gfid: Gfid) {
        let gone = self.inodes.get(&gfid).is_some_and(|inode| inode.attr.links == 0 && inode.opens == 0);
        if gone && let Some(Inode { body: Body::File(content), .. }) = self.inodes.remove(&gfid) {
            self.pages_used -= content.pages();
        }
    }

    fn check_rename(
        &self,
        from: &Entry,
        to: &Entry,
        mode: RenameMode,
        moved: Gfid,
        in_the_way: Option<Gfid>,
    ) -> Result<(), Errno> {
        if self.inode(moved)?.is_directory() && self.is_within(to.parent, moved)? {
            return Err(Errno::EINVAL);
        }
        let Some(other) = in_the_way else {
            return if mode == RenameMode::Exchange { Err(Errno::ENOENT) } else { Ok(()) };
        };
        match mode {
            RenameMode::NoReplace => Err(Errno::EEXIST),
            RenameMode::Exchange => {
                let into_itself = self.inode(other)?.is_directory() && self.is_within(from.parent, other)?;
                if into_itself { Err(Errno::EINVAL) } else { Ok(()) }
            }
            RenameMode::Replace if other == moved => Ok(()),
            RenameMode::Replace => match (self.inode(moved)?.is_directory(), self.inode(other)?.directory()) {
                (true, None) => Err(Errno::ENOTDIR),
                (false, Some(_)) => Err(Errno::EISDIR),
                (true, Some(directory)) if !directory.is_empty() => Err(Errno::ENOTEMPTY),
                _ => Ok(()),
            },
        }
    }

    /// Whether `gfid` is `above` or lies below it.
    fn is_within(&self, gfid: Gfid, above: Gfid) -> Result<bool, Errno> {
        let mut at = gfid;
        loop {
            if at == above {
                return Ok(true);
            }
            if at == Gfid::ROOT {
                return Ok(false);
            }
            at = self.directory(at)?.parent;
        }
    }

    fn exchange(&mut self, from: &Entry, to: &Entry, moved: Gfid, other: Gfid) -> Result<Unnamed, Errno> {
        let (moved_is_directory, other_is_directory) =
            (self.inode(moved)?.is_directory(), self.inode(other)?.is_directory());
        self.directory_mut(from.parent)?.0.links -= u32::from(moved_is_directory);
        self.directory_mut(to.parent)?.0.links -= u32::from(other_is_directory);
        self.put_name(from, other, other_is_directory)?;
        self.put_name(to, moved, moved_is_directory)?;
        let inode = self.inode_mut(other)?;
        inode.touch_attributes();
        Ok(Unnamed { gfid: other, links: inode.attr.links })
    }

    fn replace(
        &mut self,
        from: &Entry,
        to: &Entry,
        moved: Gfid,
        other: Option<Gfid>,
    ) -> Result<Option<Unnamed>, Errno> {
        let is_directory = self.inode(moved)?.is_directory();
        self.take_name(from, is_directory)?;
        let mut replaced = None;
        if let Some(other) = other {
            self.take_name(to, self.inode(other)?.is_directory())?;
            replaced = Some(self.lose_name(other)?);
        }
        self.put_name(to, moved, is_directory)?;
        Ok(replaced)
    }

    /// Name, cookie and object of the entries of a directory after `cookie`.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`.
    pub fn entries(&self, gfid: Gfid, cookie: u64) -> Result<impl Iterator<Item = (u64, &Name, &Inode)>, Errno> {
        let after = self.directory(gfid)?.after(cookie);
        Ok(after.filter_map(|(cookie, name, gfid)| Some((cookie, name, self.inodes.get(&gfid)?))))
    }
}

/// The inode of a new object in a directory with the attributes `parent`.
fn make_inode(object: NewObject<'_>, parent: Option<&Attr>) -> Inode {
    let inherits_group = parent.is_some_and(|parent| parent.mode & libc::S_ISGID != 0);
    let is_directory = object.kind == FileKind::Directory;
    let mut mode = object.mode & !object.umask & MODE_BITS;
    if inherits_group && is_directory {
        mode |= libc::S_ISGID;
    }
    let gid = parent.filter(|_| inherits_group).map_or(object.owner.gid, |parent| parent.gid);
    let time = now();
    let attr = Attr {
        gfid: object.gfid,
        kind: object.kind,
        mode,
        links: if is_directory { 2 } else { 1 },
        uid: object.owner.uid,
        gid,
        rdev: object.rdev,
        size: 0,
        blocks: 0,
        block_size: PAGE as u32,
        accessed: time,
        modified: time,
        changed: time,
    };
    Inode { body: object.body, attr, xattrs: Default::default(), opens: 0 }
}
