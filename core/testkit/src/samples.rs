//! One valid request and one reply of every fop, and a caller: all different from any default, so that a layer that
//! loses or swaps a field is found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::state::{FenceNumber, Scope, StateRecord};
use brickwork_api::xdata::Key;
use brickwork_api::*;

use crate::host::TestHost;

/// Travels in the xdata of every sample request (1) and reply (2).
pub const MARK: Key<u64> = Key::new("testkit-mark");

/// The file of the samples.
pub const FILE: Gfid = Gfid::from_bytes([0xf1; 16]);
/// Their directory.
pub const DIRECTORY: Gfid = Gfid::from_bytes([0xd1; 16]);
/// The object that samples create.
pub const FRESH: Gfid = Gfid::from_bytes([0xc1; 16]);
/// Another object.
pub const OTHER: Gfid = Gfid::from_bytes([0xe1; 16]);

/// A caller who is not root, with a lock owner, groups and a deadline.
#[must_use]
pub fn caller() -> Cx {
    Cx {
        request: RequestId { client: ClientId(0x51), slot: 3, sequence: 9 },
        lk_owner: LkOwner::from_u64(0x7007),
        credentials: Credentials { uid: 1001, gid: 1002, pid: 4242, groups: Arc::new([1003, 1004]) },
        deadline: Some(Instant::now() + Duration::from_secs(3600)),
        cancel: Cancel::never(),
        host: TestHost::new(),
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a literal name")
}

fn entry(text: &str) -> Entry {
    Entry { parent: DIRECTORY, name: name(text) }
}

fn file() -> OpenFile {
    OpenFile { gfid: FILE, open: OpenId(11) }
}

fn directory() -> OpenFile {
    OpenFile { gfid: DIRECTORY, open: OpenId(12) }
}

fn xattr() -> XattrName {
    XattrName::new(b"user.sample").expect("a literal name")
}

fn range() -> LkRange {
    LkRange { kind: LkType::Write, start: 10, end: 20, pid: 4242 }
}

/// Attributes of `gfid`, a regular file with every field set.
#[must_use]
pub fn attr(gfid: Gfid) -> Attr {
    let time = |seconds| Timespec { seconds, nanoseconds: 7 };
    Attr {
        gfid,
        kind: FileKind::File,
        mode: 0o640,
        links: 2,
        uid: 1001,
        gid: 1002,
        rdev: 0,
        size: 4097,
        blocks: 16,
        block_size: 4096,
        accessed: time(1_700_000_001),
        modified: time(1_700_000_002),
        changed: time(1_700_000_003),
    }
}

fn dir_entry(attr: Option<Attr>) -> DirEntry {
    DirEntry { name: name("listed"), gfid: OTHER, kind: FileKind::File, next: 77, attr }
}

fn record() -> StateRecord {
    StateRecord { kind: "testkit:sample".to_owned(), version: 2, payload: Bytes::from_static(b"state") }
}

/// A valid request of `kind`, with values in every field and [`MARK`] in its xdata.
///
/// `lk`, `inodelk` and `entrylk` ask for an exclusive lock and would wait for it.
#[must_use]
pub fn request(kind: FopKind) -> Fop {
    let xdata = Xdata::EMPTY.with(&MARK, 1);
    let target = Target::from(file());
    match kind {
        FopKind::Lookup => Fop::Lookup(LookupReq { target: Locate::Entry(entry("found")), xdata }),
        FopKind::Stat => Fop::Stat(StatReq { target, xdata }),
        FopKind::Setattr => {
            let time = SetTime::To(Timespec { seconds: 5, nanoseconds: 6 });
            let change = AttrChange {
                mode: Some(0o600),
                uid: Some(1),
                gid: Some(2),
                accessed: Some(time),
                modified: Some(SetTime::Now),
            };
            Fop::Setattr(SetattrReq { target, change, xdata })
        }
        FopKind::Readlink => Fop::Readlink(ReadlinkReq { gfid: OTHER, xdata }),
        FopKind::Mknod => Fop::Mknod(MknodReq {
            entry: entry("device"),
            gfid: FRESH,
            mode: libc::S_IFCHR | 0o660,
            umask: 0o022,
            rdev: 0x0103,
            xdata,
        }),
        FopKind::Mkdir => {
            Fop::Mkdir(MkdirReq { entry: entry("directory"), gfid: FRESH, mode: 0o770, umask: 0o022, xdata })
        }
        FopKind::Unlink => Fop::Unlink(UnlinkReq { entry: entry("gone"), xdata }),
        FopKind::Rmdir => Fop::Rmdir(RmdirReq { entry: entry("empty"), xdata }),
        FopKind::Symlink => Fop::Symlink(SymlinkReq {
            entry: entry("link"),
            gfid: FRESH,
            target: Bytes::from_static(b"../elsewhere"),
            xdata,
        }),
        FopKind::Rename => {
            Fop::Rename(RenameReq { from: entry("old"), to: entry("new"), mode: RenameMode::Exchange, xdata })
        }
        FopKind::Link => Fop::Link(LinkReq { gfid: FILE, entry: entry("second"), xdata }),
        FopKind::Create => Fop::Create(CreateReq {
            entry: entry("created"),
            gfid: FRESH,
            open: OpenId(13),
            flags: libc::O_RDWR as u32,
            mode: 0o640,
            umask: 0o027,
            xdata,
        }),
        FopKind::Open => {
            let flags = (libc::O_RDWR | libc::O_TRUNC) as u32;
            Fop::Open(OpenReq { file: file(), flags, kill_set_id: true, xdata })
        }
        FopKind::Read => Fop::Read(ReadReq { file: file(), offset: 3, size: 5, xdata }),
        FopKind::Write => Fop::Write(WriteReq {
            file: file(),
            offset: 3,
            data: Bytes::from_static(b"payload"),
            append: true,
            kill_set_id: true,
            xdata,
        }),
        FopKind::Flush => Fop::Flush(FlushReq { file: file(), xdata }),
        FopKind::Fsync => Fop::Fsync(FsyncReq { file: file(), data_only: true, xdata }),
        FopKind::Release => Fop::Release(ReleaseReq { file: file(), xdata }),
        FopKind::Truncate => Fop::Truncate(TruncateReq { target, size: 99, kill_set_id: true, xdata }),
        FopKind::Fallocate => Fop::Fallocate(FallocateReq {
            file: file(),
            mode: FallocateMode::Allocate { keep_size: true },
            offset: 4096,
            length: 8192,
            xdata,
        }),
        FopKind::Seek => Fop::Seek(SeekReq { file: file(), offset: 1, what: SeekWhat::Hole, xdata }),
        FopKind::CopyFileRange => Fop::CopyFileRange(CopyFileRangeReq {
            from: file(),
            from_offset: 1,
            to: OpenFile { gfid: OTHER, open: OpenId(14) },
            to_offset: 2,
            length: 3,
            xdata,
        }),
        FopKind::Statfs => Fop::Statfs(StatfsReq { gfid: FILE, xdata }),
        FopKind::Getxattr => Fop::Getxattr(GetxattrReq { target, name: xattr(), xdata }),
        FopKind::Listxattr => Fop::Listxattr(ListxattrReq { target, xdata }),
        FopKind::Setxattr => Fop::Setxattr(SetxattrReq {
            target,
            name: xattr(),
            value: Bytes::from_static(b"value"),
            mode: XattrMode::Create,
            kill_set_gid: true,
            xdata,
        }),
        FopKind::Removexattr => Fop::Removexattr(RemovexattrReq { target, name: xattr(), xdata }),
        FopKind::Opendir => Fop::Opendir(OpendirReq { file: directory(), xdata }),
        FopKind::Readdir => Fop::Readdir(ReaddirReq { file: directory(), offset: 76, size: 4096, xdata }),
        FopKind::Readdirplus => Fop::Readdirplus(ReaddirplusReq { file: directory(), offset: 76, size: 4096, xdata }),
        FopKind::Fsyncdir => Fop::Fsyncdir(FsyncdirReq { file: directory(), data_only: true, xdata }),
        FopKind::Releasedir => Fop::Releasedir(ReleasedirReq { file: directory(), xdata }),
        FopKind::Access => Fop::Access(AccessReq { gfid: FILE, mask: 6, xdata }),
        FopKind::Lk => {
            Fop::Lk(LkReq { file: file(), command: LkCommand::SetWait, kind: LkKind::Posix, range: range(), xdata })
        }
        FopKind::Inodelk => Fop::Inodelk(InodelkReq {
            domain: "testkit".to_owned(),
            target,
            command: XlatorLkCommand::Lock,
            range: range(),
            xdata,
        }),
        FopKind::Entrylk => Fop::Entrylk(EntrylkReq {
            domain: "testkit".to_owned(),
            target: directory().into(),
            name: Some(name("locked")),
            command: XlatorLkCommand::Lock,
            kind: LkType::Write,
            xdata,
        }),
        FopKind::Xattrop => Fop::Xattrop(XattropReq {
            target,
            kind: XattropKind::Add64,
            values: vec![(xattr(), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1]))],
            xdata,
        }),
        FopKind::Lease => {
            Fop::Lease(LeaseReq { target, command: LeaseCommand::Set, kind: LeaseType::Read, id: 0x1ea5e, xdata })
        }
        FopKind::Ipc => {
            let operation = "testkit/sample:question".to_owned();
            Fop::Ipc(IpcReq { operation, payload: Bytes::from_static(b"argument"), xdata })
        }
        FopKind::Discard => Fop::Discard(DiscardReq { file: file(), offset: 4096, length: 4096, xdata }),
        FopKind::Zerofill => Fop::Zerofill(ZerofillReq { file: file(), offset: 4096, length: 4096, xdata }),
        FopKind::Forget => Fop::Forget(ForgetReq { gfids: vec![FILE, OTHER], xdata }),
        FopKind::Fence => {
            Fop::Fence(FenceReq { scope: Scope::Inode(FILE), number: FenceNumber(8), ttl_ms: 30_000, xdata })
        }
        FopKind::Unfence => {
            Fop::Unfence(UnfenceReq { scope: Scope::Inode(FILE), number: FenceNumber(8), moved: true, xdata })
        }
        FopKind::StateExport => {
            Fop::StateExport(StateExportReq { scope: Scope::Inode(FILE), number: FenceNumber(8), xdata })
        }
        FopKind::StateImport => Fop::StateImport(StateImportReq {
            scope: Scope::Inode(FILE),
            number: FenceNumber(8),
            records: vec![record()],
            xdata,
        }),
        FopKind::StateRelease => {
            Fop::StateRelease(StateReleaseReq { scope: Scope::Inode(FILE), number: FenceNumber(8), xdata })
        }
    }
}

/// A reply to [`request`]`(kind)`, with values in every field and [`MARK`] in its xdata.
#[must_use]
pub fn reply(kind: FopKind) -> Reply {
    let xdata = Xdata::EMPTY.with(&MARK, 2);
    let removed = Unnamed { gfid: OTHER, links: 1 };
    match kind {
        FopKind::Lookup => Reply::Lookup(LookupReply { attr: attr(OTHER), xdata }),
        FopKind::Stat => Reply::Stat(StatReply { attr: attr(FILE), xdata }),
        FopKind::Setattr => Reply::Setattr(SetattrReply { attr: attr(FILE), xdata }),
        FopKind::Readlink => Reply::Readlink(ReadlinkReply { target: Bytes::from_static(b"../elsewhere"), xdata }),
        FopKind::Mknod => Reply::Mknod(MknodReply { attr: attr(FRESH), xdata }),
        FopKind::Mkdir => Reply::Mkdir(MkdirReply { attr: attr(FRESH), xdata }),
        FopKind::Unlink => Reply::Unlink(UnlinkReply { removed, xdata }),
        FopKind::Rmdir => Reply::Rmdir(RmdirReply { removed, xdata }),
        FopKind::Symlink => Reply::Symlink(SymlinkReply { attr: attr(FRESH), xdata }),
        FopKind::Rename => Reply::Rename(RenameReply { attr: attr(FILE), replaced: Some(removed), xdata }),
        FopKind::Link => Reply::Link(LinkReply { attr: attr(FILE), xdata }),
        FopKind::Create => Reply::Create(CreateReply { attr: attr(FRESH), xdata }),
        FopKind::Open => Reply::Open(OpenReply { xdata }),
        FopKind::Read => Reply::Read(ReadReply { data: Bytes::from_static(b"bytes"), xdata }),
        FopKind::Write => Reply::Write(WriteReply { written: 7, xdata }),
        FopKind::Flush => Reply::Flush(FlushReply { xdata }),
        FopKind::Fsync => Reply::Fsync(FsyncReply { xdata }),
        FopKind::Release => Reply::Release(ReleaseReply { xdata }),
        FopKind::Truncate => Reply::Truncate(TruncateReply { attr: attr(FILE), xdata }),
        FopKind::Fallocate => Reply::Fallocate(FallocateReply { xdata }),
        FopKind::Seek => Reply::Seek(SeekReply { offset: 5, xdata }),
        FopKind::CopyFileRange => Reply::CopyFileRange(CopyFileRangeReply { copied: 2, xdata }),
        FopKind::Statfs => {
            let stat = FsStat {
                fragment_size: 4096,
                block_size: 8192,
                blocks: 100,
                blocks_free: 50,
                blocks_available: 40,
                files: 30,
                files_free: 20,
                name_max: 255,
            };
            Reply::Statfs(StatfsReply { stat, xdata })
        }
        FopKind::Getxattr => Reply::Getxattr(GetxattrReply { value: Bytes::from_static(b"value"), xdata }),
        FopKind::Listxattr => Reply::Listxattr(ListxattrReply { names: vec![xattr()], xdata }),
        FopKind::Setxattr => Reply::Setxattr(SetxattrReply { xdata }),
        FopKind::Removexattr => Reply::Removexattr(RemovexattrReply { xdata }),
        FopKind::Opendir => Reply::Opendir(OpendirReply { xdata }),
        FopKind::Readdir => Reply::Readdir(ReaddirReply { entries: vec![dir_entry(None)], xdata }),
        FopKind::Readdirplus => {
            Reply::Readdirplus(ReaddirplusReply { entries: vec![dir_entry(Some(attr(OTHER)))], xdata })
        }
        FopKind::Fsyncdir => Reply::Fsyncdir(FsyncdirReply { xdata }),
        FopKind::Releasedir => Reply::Releasedir(ReleasedirReply { xdata }),
        FopKind::Access => Reply::Access(AccessReply { xdata }),
        FopKind::Lk => Reply::Lk(LkReply { range: range(), xdata }),
        FopKind::Inodelk => Reply::Inodelk(InodelkReply { xdata }),
        FopKind::Entrylk => Reply::Entrylk(EntrylkReply { xdata }),
        FopKind::Xattrop => {
            let values = vec![(xattr(), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5]))];
            Reply::Xattrop(XattropReply { values, xdata })
        }
        FopKind::Lease => Reply::Lease(LeaseReply { kind: LeaseType::Read, xdata }),
        FopKind::Ipc => Reply::Ipc(IpcReply { payload: Bytes::from_static(b"answer"), xdata }),
        FopKind::Discard => Reply::Discard(DiscardReply { xdata }),
        FopKind::Zerofill => Reply::Zerofill(ZerofillReply { xdata }),
        FopKind::Forget => Reply::Forget(ForgetReply { xdata }),
        FopKind::Fence => Reply::Fence(FenceReply { xdata }),
        FopKind::Unfence => Reply::Unfence(UnfenceReply { xdata }),
        FopKind::StateExport => Reply::StateExport(StateExportReply { records: vec![record()], xdata }),
        FopKind::StateImport => Reply::StateImport(StateImportReply { hash: 0x4a54, xdata }),
        FopKind::StateRelease => Reply::StateRelease(StateReleaseReply { xdata }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_the_kind_asked_for() {
        for kind in FopKind::ALL.iter().copied() {
            assert_eq!(request(kind).kind(), kind);
            assert_eq!(reply(kind).kind(), kind);
        }
    }
}
