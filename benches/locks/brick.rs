//! features/locks over a file system in memory, and one client that calls it as protocol/server does.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use brickwork_api::locks::{ATTACHED, Attaching};
use brickwork_api::options::OptionMap;
use brickwork_api::{
    ClientId, Cx, Gfid, Host, IpcReq, LkCommand, LkKind, LkOwner, LkRange, LkReply, LkReq, LkType, OpenFile, OpenId,
    RequestId, Setup, Upward, Xdata, Xlator, XlatorType,
};
use brickwork_codec::encode;
use brickwork_graph::host::TokioHost;
use brickwork_testkit::{MemoryLeaf, block_on, poll_once};
use tokio::runtime::{Builder, Runtime};

/// A runtime as that of a process with few clients.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A prepared and started xlator.
pub fn make(
    kind: &XlatorType,
    options: &[(&str, &str)],
    below: Option<Arc<dyn Xlator>>,
    on: &Runtime,
) -> Arc<dyn Xlator> {
    let setup = Setup {
        name: kind.name.into(),
        options: options.iter().copied().collect::<OptionMap>(),
        subvolumes: below.iter().map(|_| "below".into()).collect(),
        children: below.into_iter().collect(),
        up: Upward::new(|_| {}),
        host: host(on),
    };
    let _in_runtime = on.enter();
    let xlator = (kind.prepare)(setup).expect("options of this bench");
    xlator.start().expect("a start");
    xlator
}

/// What a process lends.
pub fn host(on: &Runtime) -> Arc<dyn Host> {
    Arc::new(TokioHost::new(on.handle().clone()))
}

/// A started features/locks, whose journal is in `folder`.
pub fn locks(journal: &str, folder: &Path, on: &Runtime) -> Arc<dyn Xlator> {
    let options = [("lock-journal", journal), ("journal-directory", folder.to_str().expect("UTF-8"))];
    make(&brickwork_locks::TYPE, &options, Some(Arc::new(MemoryLeaf::new())), on)
}

/// An attached client that makes one call after the other.
pub struct Caller {
    locks: Arc<dyn Xlator>,
    cx: Cx,
}

impl Caller {
    pub fn new(locks: &Arc<dyn Xlator>, on: &Runtime) -> Caller {
        let cx = Cx::internal(ClientId::random(), host(on));
        let (incarnation, keep, detach_timeout_ms) = (1, Vec::new(), 10_000);
        let attaching = Attaching { incarnation, keep, detach_timeout_ms, host: "here".to_owned(), group: None };
        let (operation, payload) = (ATTACHED.to_owned(), encode(&attaching).into());
        block_on(locks.ipc(&cx, &IpcReq { operation, payload, xdata: Xdata::EMPTY })).expect("let in");
        let mut caller = Caller { locks: locks.clone(), cx };
        // The first lock of a client waits for the disk; what is measured comes later.
        let lock = caller.request(0, 0, 0);
        block_on(caller.locks.lk(&caller.cx, &lock)).expect("a first lock");
        caller.call(LkCommand::Set, LkType::Unlock, 0, 0, 0);
        caller
    }

    /// Takes the lock that has this number among those of `file`.
    pub fn take(&mut self, owner: u64, file: u64, place: u64) {
        self.call(LkCommand::Set, LkType::Write, owner, file, place);
    }

    /// Releases it.
    pub fn release(&mut self, owner: u64, file: u64, place: u64) {
        self.call(LkCommand::Set, LkType::Unlock, owner, file, place);
    }

    /// Looks who has it.
    pub fn probe(&mut self, owner: u64, file: u64, place: u64) -> LkType {
        self.call(LkCommand::Get, LkType::Write, owner, file, place).range.kind
    }

    fn request(&mut self, owner: u64, file: u64, place: u64) -> LkReq {
        let sequence = self.cx.request.sequence + 1;
        self.cx.request = RequestId { slot: (sequence % 64) as u32, sequence, ..self.cx.request };
        self.cx.lk_owner = LkOwner::from_u64(owner);
        // Every second kilobyte, so that none joins.
        let range = LkRange { kind: LkType::Write, start: place * 2048, end: place * 2048 + 1024, pid: 1 };
        let file = OpenFile { gfid: gfid(file), open: OpenId(file) };
        LkReq { file, command: LkCommand::Set, kind: LkKind::Posix, range, xdata: Xdata::EMPTY }
    }

    fn call(&mut self, command: LkCommand, kind: LkType, owner: u64, file: u64, place: u64) -> LkReply {
        let mut request = self.request(owner, file, place);
        (request.command, request.range.kind) = (command, kind);
        let mut called = self.locks.lk(&self.cx, &request);
        match poll_once(called.as_mut()) {
            Poll::Ready(answer) => answer.expect("nobody is in the way"),
            Poll::Pending => panic!("nothing here waits"),
        }
    }
}

/// A gfid as random ones are spread.
fn gfid(number: u64) -> Gfid {
    let mixed = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Gfid::from_bytes((mixed | 1 << 127).rotate_left(64).to_be_bytes())
}
