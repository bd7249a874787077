//! A whole file system in memory: the leaf of stacks in tests and benchmarks.
//!
//! It does what a local file system does, with these limits, which no test should rely on:
//! - permissions are looked at by `access` only: whoever calls may do everything else, as behind a mount whose
//!   kernel checks;
//! - no access times of its own accord, no ACLs, no quotas;
//! - locks, leases and questions answer `EOPNOTSUPP`; client state there is none to move.
//!
//! One lock around everything: readers in parallel, a `stat` in tens of nanoseconds.

mod content;
mod inode;
#[cfg(test)]
mod tests;
mod tree;
mod xattr;

use std::sync::Arc;

use brickwork_api::*;
use parking_lot::RwLock;

use content::{Content, LENGTH_MAX, PAGE};
use inode::{Body, Directory, Inode, now};
use tree::{NewObject, Open, Tree};

/// `testkit/memory`, for tests that build a graph from a volfile.
pub const TYPE: XlatorType = XlatorType {
    name: "testkit/memory",
    about: "a file system in memory, for tests",
    options: &[],
    subvolumes: Arity::Leaf,
    prepare: |_setup| Ok(Arc::new(MemoryLeaf::new())),
};

/// Room in a [`MemoryLeaf`] when none is named, in bytes.
pub const CAPACITY: u64 = 1 << 40;

/// Longest read and copy at once, in bytes.
const TRANSFER_MAX: u32 = 16 << 20;

/// How many objects it says it has room for.
const FILES_MAX: u64 = 1 << 32;

/// A file system in memory, empty but for its root.
#[derive(Debug)]
pub struct MemoryLeaf {
    tree: RwLock<Tree>,
}

impl Default for MemoryLeaf {
    fn default() -> MemoryLeaf {
        MemoryLeaf::new()
    }
}

impl MemoryLeaf {
    /// An empty one with [`CAPACITY`] of room; memory is taken only for what is written.
    #[must_use]
    pub fn new() -> MemoryLeaf {
        MemoryLeaf::with_capacity(CAPACITY)
    }

    /// An empty one with room for `bytes` of content, in whole pages of 4 KiB.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> MemoryLeaf {
        MemoryLeaf { tree: RwLock::new(Tree::new(bytes / PAGE)) }
    }

    /// How many objects there are, the root included.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.tree.read().usage().0
    }

    fn list(&self, cx: &Cx, file: OpenFile, offset: u64, size: u32, plus: bool) -> FopResult<Vec<DirEntry>> {
        let tree = self.tree.read();
        tree.open(cx.client(), file)?;
        let mut room = u64::from(size);
        let mut entries = Vec::new();
        for (next, name, inode) in tree.entries(file.gfid, offset)? {
            let cost = listing_cost(name, plus);
            if cost > room && !entries.is_empty() {
                break;
            }
            room = room.saturating_sub(cost);
            let attr = plus.then(|| inode.attr());
            entries.push(DirEntry { name: name.clone(), gfid: inode.attr.gfid, kind: inode.attr.kind, next, attr });
        }
        Ok(entries)
    }

    fn add(&self, entry: &Entry, object: NewObject<'_>) -> FopResult<Attr> {
        Ok(self.tree.write().add(entry, object)?)
    }
}

/// What an entry takes of the room in a listing: the kernel's headers and the padded name.
fn listing_cost(name: &Name, plus: bool) -> u64 {
    let header = if plus { 152 } else { 24 };
    header + (name.as_bytes().len() as u64).next_multiple_of(8)
}

/// The open with the right to write.
fn writable(tree: &Tree, cx: &Cx, file: OpenFile) -> Result<Open, Errno> {
    let open = tree.open(cx.client(), file)?;
    if open.writes() { Ok(open) } else { Err(Errno::EBADF) }
}

/// `offset` and `length` as a range that a file can have.
fn checked_range(offset: u64, length: u64) -> Result<content::Range, Errno> {
    let end = offset.checked_add(length).filter(|end| *end <= LENGTH_MAX).ok_or(Errno::EFBIG)?;
    Ok(offset..end)
}

fn fallocate(tree: &mut Tree, gfid: Gfid, mode: FallocateMode, offset: u64, length: u64) -> Result<(), Errno> {
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let range = checked_range(offset, length)?;
    if let FallocateMode::Allocate { .. } | FallocateMode::ZeroRange { .. } = mode {
        tree.check_room(gfid, &range)?;
    }
    tree.change_content(gfid, |content| match mode {
        FallocateMode::Allocate { keep_size } => {
            content.allocate(range, keep_size);
            Ok(())
        }
        FallocateMode::PunchHole => {
            content.punch(range);
            Ok(())
        }
        FallocateMode::ZeroRange { keep_size } => {
            content.punch(range.clone());
            content.allocate(range, keep_size);
            Ok(())
        }
        FallocateMode::CollapseRange => content.collapse(range),
        FallocateMode::InsertRange => content.insert(range),
        FallocateMode::UnshareRange => Ok(()),
    })
}

fn write(tree: &mut Tree, gfid: Gfid, offset: u64, data: &[u8]) -> Result<u32, Errno> {
    let range = checked_range(offset, data.len() as u64)?;
    tree.check_room(gfid, &range)?;
    tree.change_content(gfid, |content| {
        content.write(offset, data);
        Ok(data.len() as u32)
    })
}

fn set_attributes(inode: &mut Inode, change: &AttrChange) {
    let time = now();
    let resolve = |set: SetTime| match set {
        SetTime::Now => time,
        SetTime::To(when) => when,
    };
    let attr = &mut inode.attr;
    attr.mode = change.mode.map_or(attr.mode, |mode| mode & MODE_BITS);
    attr.uid = change.uid.unwrap_or(attr.uid);
    attr.gid = change.gid.unwrap_or(attr.gid);
    attr.accessed = change.accessed.map_or(attr.accessed, resolve);
    attr.modified = change.modified.map_or(attr.modified, resolve);
    attr.changed = time;
    let new_owner = change.uid.is_some() || change.gid.is_some();
    if new_owner && change.mode.is_none() && attr.kind == FileKind::File {
        inode.kill_set_id();
    }
}

/// Whether `who` has the rights `mask` (4 read, 2 write, 1 execute) on an object.
fn may(who: &Credentials, attr: &Attr, mask: u32) -> bool {
    if who.uid == 0 {
        return mask & 1 == 0 || attr.kind == FileKind::Directory || attr.mode & 0o111 != 0;
    }
    let shift = if who.uid == attr.uid {
        6
    } else if who.gid == attr.gid || who.groups.contains(&attr.gid) {
        3
    } else {
        0
    };
    attr.mode >> shift & mask & 7 == mask & 7
}

#[async_trait]
impl Xlator for MemoryLeaf {
    fn route(&self) -> Route<'_> {
        Route::Stop(Errno::EOPNOTSUPP)
    }

    async fn lookup(&self, _cx: &Cx, req: &LookupReq) -> FopResult<LookupReply> {
        let attr = self.tree.read().locate(&req.target)?.attr();
        Ok(LookupReply { attr, xdata: Xdata::EMPTY })
    }

    async fn stat(&self, cx: &Cx, req: &StatReq) -> FopResult<StatReply> {
        let tree = self.tree.read();
        let attr = tree.inode(tree.target(cx.client(), req.target)?)?.attr();
        Ok(StatReply { attr, xdata: Xdata::EMPTY })
    }

    async fn setattr(&self, cx: &Cx, req: &SetattrReq) -> FopResult<SetattrReply> {
        let mut tree = self.tree.write();
        let gfid = tree.target(cx.client(), req.target)?;
        let inode = tree.inode_mut(gfid)?;
        set_attributes(inode, &req.change);
        Ok(SetattrReply { attr: inode.attr(), xdata: Xdata::EMPTY })
    }

    async fn readlink(&self, _cx: &Cx, req: &ReadlinkReq) -> FopResult<ReadlinkReply> {
        match &self.tree.read().inode(req.gfid)?.body {
            Body::Symlink(target) => Ok(ReadlinkReply { target: target.clone(), xdata: Xdata::EMPTY }),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    async fn mknod(&self, cx: &Cx, req: &MknodReq) -> FopResult<MknodReply> {
        let body = match FileKind::from_mode(req.mode) {
            None | Some(FileKind::Directory | FileKind::Symlink) => return Err(Errno::EINVAL.into()),
            Some(FileKind::File) => Body::File(Content::default()),
            Some(_) => Body::Special,
        };
        let kind = FileKind::from_mode(req.mode).ok_or(Errno::EINVAL)?;
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
        let rdev = if is_device { req.rdev } else { 0 };
        let owner = &cx.credentials;
        let object = NewObject { gfid: req.gfid, mode: req.mode, umask: req.umask, kind, rdev, body, owner };
        Ok(MknodReply { attr: self.add(&req.entry, object)?, xdata: Xdata::EMPTY })
    }

    async fn mkdir(&self, cx: &Cx, req: &MkdirReq) -> FopResult<MkdirReply> {
        let (kind, owner) = (FileKind::Directory, &cx.credentials);
        let body = Body::Directory(Directory::new(req.entry.parent));
        let object = NewObject { gfid: req.gfid, mode: req.mode, umask: req.umask, kind, rdev: 0, body, owner };
        Ok(MkdirReply { attr: self.add(&req.entry, object)?, xdata: Xdata::EMPTY })
    }

    async fn unlink(&self, _cx: &Cx, req: &UnlinkReq) -> FopResult<UnlinkReply> {
        let removed = self.tree.write().unlink(&req.entry)?;
        Ok(UnlinkReply { removed, xdata: Xdata::EMPTY })
    }

    async fn rmdir(&self, _cx: &Cx, req: &RmdirReq) -> FopResult<RmdirReply> {
        let removed = self.tree.write().rmdir(&req.entry)?;
        Ok(RmdirReply { removed, xdata: Xdata::EMPTY })
    }

    async fn symlink(&self, cx: &Cx, req: &SymlinkReq) -> FopResult<SymlinkReply> {
        if req.target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if req.target.contains(&0) {
            return Err(Errno::EINVAL.into());
        }
        if req.target.len() >= libc::PATH_MAX as usize {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let (kind, owner, body) = (FileKind::Symlink, &cx.credentials, Body::Symlink(req.target.clone()));
        let object = NewObject { gfid: req.gfid, mode: 0o777, umask: 0, kind, rdev: 0, body, owner };
        Ok(SymlinkReply { attr: self.add(&req.entry, object)?, xdata: Xdata::EMPTY })
    }

    async fn rename(&self, _cx: &Cx, req: &RenameReq) -> FopResult<RenameReply> {
        let (attr, replaced) = self.tree.write().rename(&req.from, &req.to, req.mode)?;
        Ok(RenameReply { attr, replaced, xdata: Xdata::EMPTY })
    }

    async fn link(&self, _cx: &Cx, req: &LinkReq) -> FopResult<LinkReply> {
        let attr = self.tree.write().link(req.gfid, &req.entry)?;
        Ok(LinkReply { attr, xdata: Xdata::EMPTY })
    }

    async fn create(&self, cx: &Cx, req: &CreateReq) -> FopResult<CreateReply> {
        let (kind, owner, body) = (FileKind::File, &cx.credentials, Body::File(Content::default()));
        let object = NewObject { gfid: req.gfid, mode: req.mode, umask: req.umask, kind, rdev: 0, body, owner };
        let file = OpenFile { gfid: req.gfid, open: req.open };
        let mut tree = self.tree.write();
        if tree.in_use(cx.client(), req.open) {
            return Err(Errno::EEXIST.into());
        }
        let attr = tree.add(&req.entry, object)?;
        tree.add_open(cx.client(), file, req.flags)?;
        Ok(CreateReply { attr, xdata: Xdata::EMPTY })
    }

    async fn open(&self, cx: &Cx, req: &OpenReq) -> FopResult<OpenReply> {
        let mut tree = self.tree.write();
        let open = Open { gfid: req.file.gfid, flags: req.flags };
        match tree.inode(open.gfid)?.body {
            Body::File(_) => {}
            Body::Directory(_) => return Err(Errno::EISDIR.into()),
            Body::Symlink(_) => return Err(Errno::ELOOP.into()),
            Body::Special => return Err(Errno::ENXIO.into()),
        }
        tree.add_open(cx.client(), req.file, req.flags)?;
        if req.flags & libc::O_TRUNC as u32 != 0 {
            tree.change_content(open.gfid, |content| {
                content.set_len(0);
                Ok(())
            })?;
            if req.kill_set_id {
                tree.inode_mut(open.gfid)?.kill_set_id();
            }
        }
        Ok(OpenReply { xdata: Xdata::EMPTY })
    }

    async fn read(&self, cx: &Cx, req: &ReadReq) -> FopResult<ReadReply> {
        let tree = self.tree.read();
        let open = tree.open(cx.client(), req.file)?;
        if !open.reads() {
            return Err(Errno::EBADF.into());
        }
        if req.size > TRANSFER_MAX || req.offset > LENGTH_MAX {
            return Err(Errno::EINVAL.into());
        }
        let data = tree.inode(open.gfid)?.content()?.read(req.offset, u64::from(req.size));
        Ok(ReadReply { data: data.into(), xdata: Xdata::EMPTY })
    }

    async fn write(&self, cx: &Cx, req: &WriteReq) -> FopResult<WriteReply> {
        let mut tree = self.tree.write();
        let open = writable(&tree, cx, req.file)?;
        let offset = if req.append { tree.inode(open.gfid)?.content()?.len() } else { req.offset };
        let written = write(&mut tree, open.gfid, offset, &req.data)?;
        if req.kill_set_id {
            tree.inode_mut(open.gfid)?.kill_set_id();
        }
        Ok(WriteReply { written, xdata: Xdata::EMPTY })
    }

    async fn flush(&self, cx: &Cx, req: &FlushReq) -> FopResult<FlushReply> {
        self.tree.read().open(cx.client(), req.file)?;
        Ok(FlushReply { xdata: Xdata::EMPTY })
    }

    async fn fsync(&self, cx: &Cx, req: &FsyncReq) -> FopResult<FsyncReply> {
        self.tree.read().open(cx.client(), req.file)?;
        Ok(FsyncReply { xdata: Xdata::EMPTY })
    }

    async fn release(&self, cx: &Cx, req: &ReleaseReq) -> FopResult<ReleaseReply> {
        self.tree.write().remove_open(cx.client(), req.file);
        Ok(ReleaseReply { xdata: Xdata::EMPTY })
    }

    async fn truncate(&self, cx: &Cx, req: &TruncateReq) -> FopResult<TruncateReply> {
        let mut tree = self.tree.write();
        let gfid = match req.target.open {
            Some(open) => writable(&tree, cx, OpenFile { gfid: req.target.gfid, open })?.gfid,
            None => tree.target(cx.client(), req.target)?,
        };
        checked_range(req.size, 0)?;
        tree.change_content(gfid, |content| {
            content.set_len(req.size);
            Ok(())
        })?;
        let inode = tree.inode_mut(gfid)?;
        if req.kill_set_id {
            inode.kill_set_id();
        }
        Ok(TruncateReply { attr: inode.attr(), xdata: Xdata::EMPTY })
    }

    async fn fallocate(&self, cx: &Cx, req: &FallocateReq) -> FopResult<FallocateReply> {
        let mut tree = self.tree.write();
        let open = writable(&tree, cx, req.file)?;
        fallocate(&mut tree, open.gfid, req.mode, req.offset, req.length)?;
        Ok(FallocateReply { xdata: Xdata::EMPTY })
    }

    async fn discard(&self, cx: &Cx, req: &DiscardReq) -> FopResult<DiscardReply> {
        let mut tree = self.tree.write();
        let open = writable(&tree, cx, req.file)?;
        fallocate(&mut tree, open.gfid, FallocateMode::PunchHole, req.offset, req.length)?;
        Ok(DiscardReply { xdata: Xdata::EMPTY })
    }

    async fn zerofill(&self, cx: &Cx, req: &ZerofillReq) -> FopResult<ZerofillReply> {
        let mut tree = self.tree.write();
        let open = writable(&tree, cx, req.file)?;
        let mode = FallocateMode::ZeroRange { keep_size: false };
        fallocate(&mut tree, open.gfid, mode, req.offset, req.length)?;
        Ok(ZerofillReply { xdata: Xdata::EMPTY })
    }

    async fn seek(&self, cx: &Cx, req: &SeekReq) -> FopResult<SeekReply> {
        let tree = self.tree.read();
        let open = tree.open(cx.client(), req.file)?;
        let offset = tree.inode(open.gfid)?.content()?.seek(req.offset, req.what)?;
        Ok(SeekReply { offset, xdata: Xdata::EMPTY })
    }

    async fn copy_file_range(&self, cx: &Cx, req: &CopyFileRangeReq) -> FopResult<CopyFileRangeReply> {
        let mut tree = self.tree.write();
        let (from, to) = (tree.open(cx.client(), req.from)?, writable(&tree, cx, req.to)?);
        if !from.reads() || to.flags & libc::O_APPEND as u32 != 0 {
            return Err(Errno::EBADF.into());
        }
        let source = checked_range(req.from_offset, req.length)?;
        let target = checked_range(req.to_offset, req.length)?;
        if from.gfid == to.gfid && source.start < target.end && target.start < source.end {
            return Err(Errno::EINVAL.into());
        }
        // Fewer than asked is in order.
        let length = req.length.min(u64::from(TRANSFER_MAX));
        let data = tree.inode(from.gfid)?.content()?.read(req.from_offset, length);
        write(&mut tree, to.gfid, req.to_offset, &data)?;
        Ok(CopyFileRangeReply { copied: data.len() as u64, xdata: Xdata::EMPTY })
    }

    async fn statfs(&self, _cx: &Cx, req: &StatfsReq) -> FopResult<StatfsReply> {
        let tree = self.tree.read();
        tree.inode(req.gfid)?;
        let (objects, pages, used) = tree.usage();
        let stat = FsStat {
            fragment_size: PAGE,
            block_size: PAGE,
            blocks: pages,
            blocks_free: pages - used,
            blocks_available: pages - used,
            files: FILES_MAX,
            files_free: FILES_MAX.saturating_sub(objects),
            name_max: Name::MAX as u32,
        };
        Ok(StatfsReply { stat, xdata: Xdata::EMPTY })
    }

    async fn getxattr(&self, cx: &Cx, req: &GetxattrReq) -> FopResult<GetxattrReply> {
        let tree = self.tree.read();
        let inode = tree.inode(tree.target(cx.client(), req.target)?)?;
        Ok(GetxattrReply { value: xattr::get(inode, &cx.credentials, &req.name)?, xdata: Xdata::EMPTY })
    }

    async fn listxattr(&self, cx: &Cx, req: &ListxattrReq) -> FopResult<ListxattrReply> {
        let tree = self.tree.read();
        let inode = tree.inode(tree.target(cx.client(), req.target)?)?;
        Ok(ListxattrReply { names: xattr::list(inode, &cx.credentials), xdata: Xdata::EMPTY })
    }

    async fn setxattr(&self, cx: &Cx, req: &SetxattrReq) -> FopResult<SetxattrReply> {
        let mut tree = self.tree.write();
        let gfid = tree.target(cx.client(), req.target)?;
        let inode = tree.inode_mut(gfid)?;
        xattr::set(inode, &cx.credentials, &req.name, &req.value, req.mode)?;
        if req.kill_set_gid {
            inode.attr.mode &= !libc::S_ISGID;
        }
        Ok(SetxattrReply { xdata: Xdata::EMPTY })
    }

    async fn removexattr(&self, cx: &Cx, req: &RemovexattrReq) -> FopResult<RemovexattrReply> {
        let mut tree = self.tree.write();
        let gfid = tree.target(cx.client(), req.target)?;
        xattr::remove(tree.inode_mut(gfid)?, &cx.credentials, &req.name)?;
        Ok(RemovexattrReply { xdata: Xdata::EMPTY })
    }

    async fn xattrop(&self, cx: &Cx, req: &XattropReq) -> FopResult<XattropReply> {
        let mut tree = self.tree.write();
        let gfid = tree.target(cx.client(), req.target)?;
        let values = xattr::combine(tree.inode_mut(gfid)?, req.kind, &req.values)?;
        Ok(XattropReply { values, xdata: Xdata::EMPTY })
    }

    async fn opendir(&self, cx: &Cx, req: &OpendirReq) -> FopResult<OpendirReply> {
        let mut tree = self.tree.write();
        if !tree.inode(req.file.gfid)?.is_directory() {
            return Err(Errno::ENOTDIR.into());
        }
        tree.add_open(cx.client(), req.file, libc::O_RDONLY as u32)?;
        Ok(OpendirReply { xdata: Xdata::EMPTY })
    }

    async fn readdir(&self, cx: &Cx, req: &ReaddirReq) -> FopResult<ReaddirReply> {
        let entries = self.list(cx, req.file, req.offset, req.size, false)?;
        Ok(ReaddirReply { entries, xdata: Xdata::EMPTY })
    }

    async fn readdirplus(&self, cx: &Cx, req: &ReaddirplusReq) -> FopResult<ReaddirplusReply> {
        let entries = self.list(cx, req.file, req.offset, req.size, true)?;
        Ok(ReaddirplusReply { entries, xdata: Xdata::EMPTY })
    }

    async fn fsyncdir(&self, cx: &Cx, req: &FsyncdirReq) -> FopResult<FsyncdirReply> {
        self.tree.read().open(cx.client(), req.file)?;
        Ok(FsyncdirReply { xdata: Xdata::EMPTY })
    }

    async fn releasedir(&self, cx: &Cx, req: &ReleasedirReq) -> FopResult<ReleasedirReply> {
        self.tree.write().remove_open(cx.client(), req.file);
        Ok(ReleasedirReply { xdata: Xdata::EMPTY })
    }

    async fn access(&self, cx: &Cx, req: &AccessReq) -> FopResult<AccessReply> {
        let allowed = may(&cx.credentials, &self.tree.read().inode(req.gfid)?.attr, req.mask);
        if allowed { Ok(AccessReply { xdata: Xdata::EMPTY }) } else { Err(Errno::EACCES.into()) }
    }

    async fn fence(&self, _cx: &Cx, _req: &FenceReq) -> FopResult<FenceReply> {
        Ok(FenceReply { xdata: Xdata::EMPTY })
    }

    async fn unfence(&self, _cx: &Cx, _req: &UnfenceReq) -> FopResult<UnfenceReply> {
        Ok(UnfenceReply { xdata: Xdata::EMPTY })
    }

    async fn state_export(&self, _cx: &Cx, _req: &StateExportReq) -> FopResult<StateExportReply> {
        Ok(StateExportReply { records: Vec::new(), xdata: Xdata::EMPTY })
    }

    async fn state_import(&self, _cx: &Cx, req: &StateImportReq) -> FopResult<StateImportReply> {
        Ok(StateImportReply { hash: state::import_none(&req.records)?, xdata: Xdata::EMPTY })
    }

    async fn state_release(&self, _cx: &Cx, _req: &StateReleaseReq) -> FopResult<StateReleaseReply> {
        Ok(StateReleaseReply { xdata: Xdata::EMPTY })
    }

    async fn forget(&self, _cx: &Cx, _req: &ForgetReq) -> FopResult<ForgetReply> {
        Ok(ForgetReply { xdata: Xdata::EMPTY })
    }
}
