//! Requests as they come from a wire whose other end means harm: any value that the types let through.
//!
//! Values are drawn from what is likely to break something (ends of ranges, numbers with a second meaning, names and
//! gfids that the brick uses itself) and from what earlier replies told, so that many requests also succeed. Lengths
//! are either small or beyond any file system: none asks for space that could be had.

use std::sync::Arc;

use brickwork_api::state::{FenceNumber, Scope, StateRecord};
use brickwork_api::*;

use crate::samples;

/// Opens of each client, and objects that are remembered.
const OPENS: u64 = 8;
const OBJECTS: usize = 32;

/// Draws requests; the same for the same seed.
#[derive(Debug)]
pub struct Hostile {
    state: u64,
    objects: Vec<Gfid>,
    directories: Vec<Gfid>,
    opens: Vec<OpenFile>,
}

impl Hostile {
    /// Starts from `seed`, which a test prints.
    #[must_use]
    pub fn new(seed: u64) -> Hostile {
        Hostile { state: seed, objects: vec![Gfid::ROOT], directories: vec![Gfid::ROOT], opens: Vec::new() }
    }

    /// Remembers what the reply to a request told of.
    pub fn learn(&mut self, request: &Fop, reply: &Reply) {
        match request {
            Fop::Create(request) => self.learn_open(OpenFile { gfid: request.gfid, open: request.open }),
            Fop::Open(request) => self.learn_open(request.file),
            Fop::Opendir(request) => self.learn_open(request.file),
            _ => {}
        }
        match reply {
            Reply::Lookup(reply) => self.learn_object(&reply.attr),
            Reply::Mknod(reply) => self.learn_object(&reply.attr),
            Reply::Mkdir(reply) => self.learn_object(&reply.attr),
            Reply::Symlink(reply) => self.learn_object(&reply.attr),
            Reply::Create(reply) => self.learn_object(&reply.attr),
            _ => {}
        }
    }

    fn learn_object(&mut self, attr: &Attr) {
        let list = if attr.kind == FileKind::Directory { &mut self.directories } else { &mut self.objects };
        // The first is the root and stays; of the others the oldest goes.
        if list.len() == OBJECTS {
            list.remove(1);
        }
        list.push(attr.gfid);
    }

    fn learn_open(&mut self, file: OpenFile) {
        self.opens.retain(|other| other.open != file.open);
        self.opens.push(file);
    }

    /// Whose request comes next, in the context `cx`: one of two clients, for anybody.
    pub fn caller(&mut self, cx: &Cx) -> Cx {
        let request = RequestId { client: ClientId(u128::from(self.below(2))), ..cx.request };
        let id = |own: &mut Hostile| own.pick(&[0, 0, 0, 0, 1, 1000, 65_534, u32::MAX]);
        let (uid, gid, pid) = (id(self), id(self), self.half());
        let groups: Arc<[u32]> = match self.below(8) {
            0 => vec![7; Credentials::GROUPS_MAX + 1].into(),
            1 => [0, u32::MAX].into(),
            2 => [1000, 1001].into(),
            _ => Arc::default(),
        };
        Cx { request, credentials: Credentials { uid, gid, pid, groups }, ..cx.clone() }
    }

    /// The next request, of any kind.
    pub fn request(&mut self) -> Fop {
        let kind = self.pick(FopKind::ALL);
        self.request_of(kind)
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// An offset or a length.
    fn number(&mut self) -> u64 {
        const ENDS: [u64; 7] =
            [1 << 62, i64::MAX as u64 - 1, i64::MAX as u64, 1 << 63, u64::MAX - 4095, u64::MAX - 1, u64::MAX];
        match self.below(4) {
            0 => self.pick(&ENDS),
            1 => self.pick(&[0, 1, 4095, 4096, 65_536]),
            _ => self.below(1 << 18),
        }
    }

    /// A mode, mask, size or flags.
    fn half(&mut self) -> u32 {
        match self.below(4) {
            0 => self.pick(&[0, 1, 0o777, 0o7777, 4096, 16 << 20, (16 << 20) + 1, i32::MAX as u32, u32::MAX]),
            1 => self.next() as u32,
            _ => self.below(0o10000) as u32,
        }
    }

    fn gfid(&mut self) -> Gfid {
        match self.below(8) {
            0 => self.pick(&[Gfid::from_bytes([0; 16]), Gfid::from_bytes([0xff; 16]), Gfid::ROOT, samples::FILE]),
            1 | 2 => self.directory(),
            _ => self.pick(&self.objects.clone()),
        }
    }

    fn directory(&mut self) -> Gfid {
        self.pick(&self.directories.clone())
    }

    /// The gfid of something new, mostly.
    fn fresh(&mut self) -> Gfid {
        if self.below(6) == 0 {
            self.gfid()
        } else {
            Gfid::from_bytes((u128::from(self.next()) << 64 | 5).to_be_bytes())
        }
    }

    fn name(&mut self) -> Name {
        let long = [b'n'; Name::MAX];
        let special: [&[u8]; 5] = [b".glusterfs", b"...", "\u{6f22}\u{5b57}\\\n".as_bytes(), b" ", &long];
        let plain = [b'a' + self.below(16) as u8];
        let name = if self.below(4) == 0 { self.pick(&special) } else { &plain };
        Name::new(name).expect("each can stand in a directory")
    }

    fn entry(&mut self) -> Entry {
        let parent = if self.below(4) == 0 { self.gfid() } else { self.directory() };
        Entry { parent, name: self.name() }
    }

    fn open(&mut self) -> OpenId {
        OpenId(if self.below(16) == 0 { u64::MAX } else { self.below(OPENS) })
    }

    fn file(&mut self) -> OpenFile {
        if self.below(4) == 0 || self.opens.is_empty() {
            return OpenFile { gfid: self.gfid(), open: self.open() };
        }
        self.pick(&self.opens.clone())
    }

    fn target(&mut self) -> Target {
        if self.flag() { self.file().into() } else { self.gfid().into() }
    }

    fn flags(&mut self) -> u32 {
        let some =
            [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR | libc::O_TRUNC, libc::O_RDWR | libc::O_DIRECT];
        if self.below(4) == 0 { self.next() as u32 } else { self.pick(&some) as u32 }
    }

    fn xattr(&mut self) -> XattrName {
        let long = [b'x'; XattrName::MAX];
        let names: [&[u8]; 15] = [
            b"user.a",
            b"user.b",
            b"trusted.a",
            b"trusted.gfid",
            b"trusted.gfid2path.0123456789abcdef",
            b"trusted.glusterfs.volume-id",
            b"trusted.brickwork.brick",
            b"user.brickwork.gfid",
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"security.capability",
            b"glusterfs.gfidtopath",
            b"trusted.glusterfs.pathinfo",
            b"user.",
            &long,
        ];
        XattrName::new(self.pick(&names)).expect("each can name an xattr")
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.pick(&[0, 1, 4, 8, 16, 100, 4096, 65_536, 70_000]);
        Bytes::from(vec![self.next() as u8; length])
    }

    fn link_text(&mut self) -> Bytes {
        let root = format!("../../00/00/{}/.glusterfs", Gfid::ROOT);
        let long = [b'l'; 5000];
        let texts: [&[u8]; 7] = [b"", b"../outside", b"/", b"../outside/file", b"a\0b", root.as_bytes(), &long];
        Bytes::copy_from_slice(self.pick(&texts))
    }

    fn time(&mut self) -> Option<SetTime> {
        let nanoseconds = self.pick(&[0, 999_999_999, 1_000_000_000, 0x3fff_ffff, 0x3fff_fffe, u32::MAX]);
        let seconds = self.pick(&[0, 1_700_000_000, -1, i64::MIN, i64::MAX]);
        match self.below(3) {
            0 => None,
            1 => Some(SetTime::Now),
            _ => Some(SetTime::To(Timespec { seconds, nanoseconds })),
        }
    }

    fn change(&mut self) -> AttrChange {
        let id = |own: &mut Hostile| {
            let some = own.pick(&[0, 1000, u32::MAX]);
            own.flag().then_some(some)
        };
        let (uid, gid, mode) = (id(self), id(self), self.half());
        let mode = self.flag().then_some(mode);
        AttrChange { mode, uid, gid, accessed: self.time(), modified: self.time() }
    }

    fn rename_mode(&mut self) -> RenameMode {
        self.pick(&[RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange])
    }

    fn fallocate_mode(&mut self) -> FallocateMode {
        let keep_size = self.flag();
        self.pick(&[
            FallocateMode::Allocate { keep_size },
            FallocateMode::PunchHole,
            FallocateMode::ZeroRange { keep_size },
            FallocateMode::CollapseRange,
            FallocateMode::InsertRange,
            FallocateMode::UnshareRange,
        ])
    }

    fn xattrop(&mut self) -> XattropReq {
        let kinds = [XattropKind::Add32, XattropKind::Add64, XattropKind::Or, XattropKind::And, XattropKind::GetAndSet];
        let values = (0..self.below(4)).map(|_| (self.xattr(), self.bytes())).collect();
        XattropReq { target: self.target(), kind: self.pick(&kinds), values, xdata: Xdata::EMPTY }
    }

    fn scope(&mut self) -> Scope {
        let scopes = [Scope::Inode(self.gfid()), Scope::Client(ClientId(1)), Scope::Brick];
        self.pick(&scopes)
    }

    fn records(&mut self) -> Vec<StateRecord> {
        let record = StateRecord { kind: String::new(), version: u16::MAX, payload: self.bytes() };
        vec![record; self.below(2) as usize]
    }

    fn request_of(&mut self, kind: FopKind) -> Fop {
        let xdata = Xdata::EMPTY;
        let number = FenceNumber(self.number());
        match kind {
            FopKind::Lookup => {
                let target = if self.flag() { Locate::Gfid(self.gfid()) } else { Locate::Entry(self.entry()) };
                Fop::Lookup(LookupReq { target, xdata })
            }
            FopKind::Stat => Fop::Stat(StatReq { target: self.target(), xdata }),
            FopKind::Setattr => Fop::Setattr(SetattrReq { target: self.target(), change: self.change(), xdata }),
            FopKind::Readlink => Fop::Readlink(ReadlinkReq { gfid: self.gfid(), xdata }),
            FopKind::Mknod => {
                let kind = self.pick(&[libc::S_IFREG, libc::S_IFIFO, libc::S_IFCHR, libc::S_IFDIR, libc::S_IFMT, 0]);
                let (entry, gfid, mode, umask) = (self.entry(), self.fresh(), kind | self.half(), self.half());
                Fop::Mknod(MknodReq { entry, gfid, mode, umask, rdev: self.next(), xdata })
            }
            FopKind::Mkdir => {
                let (entry, gfid, mode, umask) = (self.entry(), self.fresh(), self.half(), self.half());
                Fop::Mkdir(MkdirReq { entry, gfid, mode, umask, xdata })
            }
            FopKind::Unlink => Fop::Unlink(UnlinkReq { entry: self.entry(), xdata }),
            FopKind::Rmdir => Fop::Rmdir(RmdirReq { entry: self.entry(), xdata }),
            FopKind::Symlink => {
                let (entry, gfid, target) = (self.entry(), self.fresh(), self.link_text());
                Fop::Symlink(SymlinkReq { entry, gfid, target, xdata })
            }
            FopKind::Rename => {
                let (from, to, mode) = (self.entry(), self.entry(), self.rename_mode());
                Fop::Rename(RenameReq { from, to, mode, xdata })
            }
            FopKind::Link => Fop::Link(LinkReq { gfid: self.gfid(), entry: self.entry(), xdata }),
            FopKind::Create => {
                let (entry, gfid, open, flags) = (self.entry(), self.fresh(), self.open(), self.flags());
                Fop::Create(CreateReq { entry, gfid, open, flags, mode: self.half(), umask: self.half(), xdata })
            }
            FopKind::Open => {
                Fop::Open(OpenReq { file: self.file(), flags: self.flags(), kill_set_id: self.flag(), xdata })
            }
            FopKind::Read => Fop::Read(ReadReq { file: self.file(), offset: self.number(), size: self.half(), xdata }),
            FopKind::Write => {
                let (file, offset, data, append) = (self.file(), self.number(), self.bytes(), self.flag());
                Fop::Write(WriteReq { file, offset, data, append, kill_set_id: self.flag(), xdata })
            }
            FopKind::Flush => Fop::Flush(FlushReq { file: self.file(), xdata }),
            FopKind::Fsync => Fop::Fsync(FsyncReq { file: self.file(), data_only: self.flag(), xdata }),
            FopKind::Release => Fop::Release(ReleaseReq { file: self.file(), xdata }),
            FopKind::Truncate => {
                let (target, size) = (self.target(), self.number());
                Fop::Truncate(TruncateReq { target, size, kill_set_id: self.flag(), xdata })
            }
            FopKind::Fallocate => {
                let (file, mode, offset, length) = (self.file(), self.fallocate_mode(), self.number(), self.number());
                Fop::Fallocate(FallocateReq { file, mode, offset, length, xdata })
            }
            FopKind::Seek => {
                let what = self.pick(&[SeekWhat::Data, SeekWhat::Hole]);
                Fop::Seek(SeekReq { file: self.file(), offset: self.number(), what, xdata })
            }
            FopKind::CopyFileRange => {
                let (from, from_offset, to, to_offset) = (self.file(), self.number(), self.file(), self.number());
                let length = self.number();
                Fop::CopyFileRange(CopyFileRangeReq { from, from_offset, to, to_offset, length, xdata })
            }
            FopKind::Statfs => Fop::Statfs(StatfsReq { gfid: self.gfid(), xdata }),
            FopKind::Getxattr => Fop::Getxattr(GetxattrReq { target: self.target(), name: self.xattr(), xdata }),
            FopKind::Listxattr => Fop::Listxattr(ListxattrReq { target: self.target(), xdata }),
            FopKind::Setxattr => {
                let mode = self.pick(&[XattrMode::Set, XattrMode::Create, XattrMode::Replace]);
                let (target, name, value) = (self.target(), self.xattr(), self.bytes());
                Fop::Setxattr(SetxattrReq { target, name, value, mode, kill_set_gid: self.flag(), xdata })
            }
            FopKind::Removexattr => {
                Fop::Removexattr(RemovexattrReq { target: self.target(), name: self.xattr(), xdata })
            }
            FopKind::Opendir => Fop::Opendir(OpendirReq { file: self.file(), xdata }),
            FopKind::Readdir => {
                Fop::Readdir(ReaddirReq { file: self.file(), offset: self.number(), size: self.half(), xdata })
            }
            FopKind::Readdirplus => {
                Fop::Readdirplus(ReaddirplusReq { file: self.file(), offset: self.number(), size: self.half(), xdata })
            }
            FopKind::Fsyncdir => Fop::Fsyncdir(FsyncdirReq { file: self.file(), data_only: self.flag(), xdata }),
            FopKind::Releasedir => Fop::Releasedir(ReleasedirReq { file: self.file(), xdata }),
            FopKind::Access => Fop::Access(AccessReq { gfid: self.gfid(), mask: self.half(), xdata }),
            FopKind::Xattrop => Fop::Xattrop(self.xattrop()),
            FopKind::Discard => {
                Fop::Discard(DiscardReq { file: self.file(), offset: self.number(), length: self.number(), xdata })
            }
            FopKind::Zerofill => {
                Fop::Zerofill(ZerofillReq { file: self.file(), offset: self.number(), length: self.number(), xdata })
            }
            FopKind::Forget => Fop::Forget(ForgetReq { gfids: vec![self.gfid(), self.gfid()], xdata }),
            FopKind::Fence => Fop::Fence(FenceReq { scope: self.scope(), number, ttl_ms: self.half(), xdata }),
            FopKind::Unfence => Fop::Unfence(UnfenceReq { scope: self.scope(), number, moved: self.flag(), xdata }),
            FopKind::StateExport => Fop::StateExport(StateExportReq { scope: self.scope(), number, xdata }),
            FopKind::StateImport => {
                let (scope, records) = (self.scope(), self.records());
                Fop::StateImport(StateImportReq { scope, number, records, xdata })
            }
            FopKind::StateRelease => Fop::StateRelease(StateReleaseReq { scope: self.scope(), number, xdata }),
            FopKind::Lk | FopKind::Inodelk | FopKind::Entrylk | FopKind::Lease | FopKind::Ipc => samples::request(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryLeaf, block_on, cx};

    #[test]
    fn no_request_makes_the_memory_leaf_panic_and_many_succeed() {
        let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
        println!("BRICKWORK_SEED={seed}");
        let leaf = MemoryLeaf::with_capacity(64 << 20);
        let (mut hostile, cx) = (Hostile::new(seed), cx());
        let mut done = [0; FopKind::ALL.len()];
        for _ in 0..50_000 {
            let request = hostile.request();
            if let Ok(reply) = block_on(request.call(&leaf, &hostile.caller(&cx))) {
                done[request.kind() as usize] += 1;
                hostile.learn(&request, &reply);
            }
        }
        assert!(done.iter().sum::<usize>() > 2_500, "hardly anything succeeded: {done:?}");
        for kind in [FopKind::Create, FopKind::Write, FopKind::Setattr, FopKind::Mkdir] {
            assert!(done[kind as usize] > 0, "`{}` never succeeded: {done:?}", kind.name());
        }
    }
}
