//! A brick for tests: a file system in memory that outlives the process, and the sessions of one process after another.

use std::sync::Arc;

use brickwork_api::*;
use brickwork_testkit::client::entry;
use brickwork_testkit::{MemoryLeaf, TestHost, block_on};
use brickwork_wire::message::AttachCall;
use tempfile::TempDir;

use super::{Answer, Begun, Session, Sessions};
use crate::options::ServerOptions;

/// The client of these tests, and what it has open.
pub const CLIENT: ClientId = ClientId(7);
pub const FILE: OpenFile = OpenFile { gfid: gfid(1), open: OpenId(1) };

pub const fn gfid(number: u8) -> Gfid {
    Gfid::from_bytes([9, 9, 9, 9, 9, 9, 0x40, 9, 0x80, 9, 9, 9, 9, 9, 9, number])
}

pub struct World {
    pub folder: TempDir,
    pub leaf: Arc<MemoryLeaf>,
    pub host: Arc<dyn Host>,
    eos: &'static str,
}

impl World {
    /// `f` (8,202 bytes, `user.a`, open), `g`, the directory `d`.
    pub fn new(eos: &'static str) -> World {
        let (leaf, host) = (Arc::new(MemoryLeaf::new()), TestHost::new());
        let world = World { folder: TempDir::new().unwrap(), leaf, host, eos };
        let make = |name: &str, gfid: Gfid, open: OpenId| {
            let flags = libc_rdwr();
            let entry = entry(Gfid::ROOT, name);
            Fop::Create(CreateReq { entry, gfid, open, flags, mode: 0o644, umask: 0, xdata: Xdata::EMPTY })
        };
        let (value, mode) = (Bytes::from_static(b"old"), XattrMode::Set);
        let name = brickwork_testkit::client::xattr("user.a");
        let target = FILE.into();
        let data = [vec![1; 4096], vec![2; 4096], vec![3; 10]].concat().into();
        world.direct(make("f", FILE.gfid, FILE.open)).unwrap();
        world.direct(make("g", gfid(2), OpenId(2))).unwrap();
        let mkdir =
            MkdirReq { entry: entry(Gfid::ROOT, "d"), gfid: gfid(3), mode: 0o755, umask: 0, xdata: Xdata::EMPTY };
        world.direct(Fop::Mkdir(mkdir)).unwrap();
        let write = WriteReq { file: FILE, offset: 0, data, append: false, kill_set_id: false, xdata: Xdata::EMPTY };
        world.direct(Fop::Write(write)).unwrap();
        let set = SetxattrReq { target, name, value, mode, kill_set_gid: false, xdata: Xdata::EMPTY };
        world.direct(Fop::Setxattr(set)).unwrap();
        world
    }

    /// Does a fop past the sessions.
    pub fn direct(&self, fop: Fop) -> FopResult<Reply> {
        block_on(fop.call(&*self.leaf, &Cx::internal(CLIENT, self.host.clone())))
    }

    /// Opens `f` for another client, under the same id.
    pub fn open_for(&self, client: ClientId) {
        let request = OpenReq { file: FILE, flags: libc_rdwr(), kill_set_id: false, xdata: Xdata::EMPTY };
        block_on(self.leaf.open(&Cx::internal(client, self.host.clone()), &request)).unwrap();
    }

    /// A process that serves the brick, with a small journal.
    pub fn start(&self) -> Sessions<u32> {
        self.start_within(brickwork_journal::Limits { segment_bytes: 64 << 10, ..Default::default() })
    }

    pub fn start_within(&self, limits: brickwork_journal::Limits) -> Sessions<u32> {
        let options = ServerOptions::read(&[("eos", self.eos)].into_iter().collect()).unwrap();
        let sessions = Sessions::open_within(&options, Some(self.folder.path()), limits).unwrap();
        block_on(sessions.decide(&*self.leaf, &self.host));
        sessions
    }

    pub fn cx(&self, slot: u32, sequence: u64) -> Cx {
        self.cx_of(CLIENT, slot, sequence)
    }

    fn cx_of(&self, client: ClientId, slot: u32, sequence: u64) -> Cx {
        let request = RequestId { client, slot, sequence };
        Cx { request, ..Cx::internal(client, self.host.clone()) }
    }

    /// One request from its begin to its finish; `None` when it was joined or stale.
    pub async fn ask(
        &self,
        session: &Session<u32>,
        child: &dyn Xlator,
        (slot, sequence): (u32, u64),
        fop: &Fop,
    ) -> Option<Answer> {
        match session.slots().begin(slot, sequence, fop.kind(), &Cancel::never(), 0).unwrap() {
            Begun::New { remembered, .. } => {
                let (answer, kept) =
                    perform(session, child, &self.cx_of(session.client, slot, sequence), fop, remembered).await;
                session.slots().finish(slot, sequence, kept);
                Some(answer)
            }
            Begun::Unnumbered(_) => {
                Some(perform(session, child, &self.cx_of(session.client, slot, 0), fop, None).await.0)
            }
            Begun::Again(answer, _) => Some(answer),
            Begun::Joined | Begun::Stale | Begun::GivenUp(_) => None,
        }
    }

    /// All that an application can see, without times.
    pub fn observed(&self) -> String {
        let mut seen = String::new();
        for name in ["f", "g", "d", "n", "m", "s", "c", "l", "h"] {
            let target = Locate::Entry(entry(Gfid::ROOT, name));
            let Ok(Reply::Lookup(found)) = self.direct(Fop::Lookup(LookupReq { target, xdata: Xdata::EMPTY })) else {
                continue;
            };
            let Attr { gfid, kind, mode, links, size, .. } = found.attr;
            seen += &format!("{name} {gfid} {kind:?} {mode:o} {links} {size}\n");
        }
        let read = ReadReq { file: FILE, offset: 0, size: 1 << 16, xdata: Xdata::EMPTY };
        let Ok(Reply::Read(ReadReply { data, .. })) = self.direct(Fop::Read(read)) else { panic!("`f` is open") };
        seen += &format!("{:?}\n", data.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect::<Vec<_>>());
        for name in ["user.a", "user.b", "user.count"] {
            let name = brickwork_testkit::client::xattr(name);
            let value = self.direct(Fop::Getxattr(GetxattrReq { target: FILE.into(), name, xdata: Xdata::EMPTY }));
            seen += &format!("{value:?}\n");
        }
        seen
    }
}

pub fn libc_rdwr() -> u32 {
    rustix::fs::OFlags::RDWR.bits()
}

/// A client's incarnation comes.
pub fn attach(sessions: &Sessions<u32>, client: ClientId, incarnation: u32) -> Arc<Session<u32>> {
    sessions.attach(&call(client, incarnation)).unwrap().session
}

pub fn call(client: ClientId, incarnation: u32) -> AttachCall {
    let (secret, keep, xdata) = ([client.0 as u8; 32], Vec::new(), Xdata::EMPTY);
    AttachCall { client, secret, incarnation, keep, join: false, xdata }
}

/// What is sent for a fop, and what its slot keeps.
pub async fn perform(
    session: &Session<u32>,
    child: &dyn Xlator,
    cx: &Cx,
    fop: &Fop,
    remembered: Option<Answer>,
) -> (Answer, Option<Answer>) {
    macro_rules! perform {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match fop {
                $(Fop::$kind(request) => {
                    let performed = session.perform::<fop::$kind>(child, cx, request, remembered).await;
                    let kept = performed.kept.clone();
                    (performed.into_answer(), kept)
                })*
            }
        };
    }
    for_each_fop!(perform)
}
