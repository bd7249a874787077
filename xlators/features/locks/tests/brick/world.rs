//! A brick with locks over a file system in memory, and clients that come by way of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use brickwork_api::locks::{
    ATTACHED, Attaching, CLAIM, Claim, Claims, DETACHED, Detaching, ENDED, FailoverGroup, Verdict,
};
use brickwork_api::options::OptionMap;
use brickwork_api::*;
use brickwork_codec::{decode, encode};
use brickwork_graph::host::TokioHost;
use brickwork_testkit::MemoryLeaf;
use parking_lot::Mutex;
use tempfile::TempDir;

/// How long the locks of a client that is away are protected in these tests.
pub const PROTECTED: Duration = Duration::from_millis(300);
/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

pub const FILE: OpenFile = OpenFile { gfid: Gfid::ROOT, open: OpenId(7) };

/// One process of a brick after the other, with the same folder.
pub struct World {
    folder: TempDir,
    options: Vec<(&'static str, String)>,
    leaf: Arc<dyn Xlator>,
    pub locks: Arc<dyn Xlator>,
    pub host: Arc<dyn Host>,
    pub events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub fn new(options: &[(&'static str, &str)]) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let host: Arc<dyn Host> = Arc::new(TokioHost::new(tokio::runtime::Handle::current()));
        let leaf: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
        let events = Arc::default();
        let locks = leaf.clone();
        let mut world = World { folder, options, leaf, locks, host, events };
        world.start();
        world
    }

    fn start(&mut self) {
        let mut options: OptionMap = self.options.iter().map(|(key, value)| (*key, value.clone())).collect();
        options.insert("journal-directory", self.folder.path().to_str().expect("UTF-8"));
        let events = self.events.clone();
        let setup = Setup {
            name: "locks".into(),
            options,
            children: vec![self.leaf.clone()],
            subvolumes: vec!["posix".into()],
            up: Upward::new(move |event| events.lock().push(event)),
            host: self.host.clone(),
        };
        self.locks = (brickwork_locks::TYPE.prepare)(setup).expect("prepared");
        self.locks.start().expect("started");
    }

    /// The process ends in good order, and another begins.
    pub async fn restart(&mut self) {
        self.locks.stop().await;
        self.start();
    }

    /// The process is killed, and another begins: what only memory had is lost.
    pub async fn kill(&mut self) {
        let former = std::mem::replace(&mut self.locks, self.leaf.clone());
        // The journal of a process that is gone is nobody's: closing writes that it was closed, so it is put back.
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(self.folder.path(), copy.path());
        former.stop().await;
        drop(former);
        self.folder = copy;
        self.start();
    }

    pub fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    /// The process ends and its journal of locks is lost.
    pub async fn lose_the_journal(&mut self) {
        self.locks.stop().await;
        std::fs::remove_dir_all(self.journal()).expect("there was one");
        self.start();
    }

    pub fn client(&self) -> Client {
        let client = Client { id: ClientId::random(), sequence: Arc::new(AtomicU64::new(1)) };
        self.attach(&client, 1, None);
        client
    }

    /// A client of the brick's own process.
    pub fn local_client(&self) -> Client {
        Client { id: ClientId::random(), sequence: Arc::new(AtomicU64::new(1)) }
    }

    pub fn attach(&self, client: &Client, incarnation: u32, group: Option<(&str, &str)>) {
        let group = group.map(|(name, secret)| {
            let mut hash = [0; 32];
            hash[..secret.len()].copy_from_slice(secret.as_bytes());
            FailoverGroup { name: name.to_owned(), secret: hash }
        });
        let detach_timeout_ms = PROTECTED.as_millis() as u32;
        let attaching = Attaching { incarnation, keep: vec![], detach_timeout_ms, host: "web01".to_owned(), group };
        self.ask_now(client, ATTACHED, encode(&attaching));
    }

    pub fn detach(&self, client: &Client) {
        self.ask_now(client, DETACHED, encode(&Detaching { silent_ms: 0 }));
    }

    pub fn end(&self, client: &Client) {
        self.ask_now(client, ENDED, encode(&()));
    }

    /// Asks what is answered at the first poll.
    pub fn ask_now(&self, client: &Client, operation: &str, payload: Vec<u8>) -> Bytes {
        let cx = Cx::internal(client.id, self.host.clone());
        let request = IpcReq { operation: operation.to_owned(), payload: payload.into(), xdata: Xdata::EMPTY };
        let mut asked = self.locks.ipc(&cx, &request);
        match brickwork_testkit::poll_once(asked.as_mut()) {
            std::task::Poll::Ready(answer) => answer.expect("answered").payload,
            std::task::Poll::Pending => panic!("{operation} is answered at the first poll"),
        }
    }

    pub async fn claim(&self, client: &Client, claims: &[Claim]) -> Vec<Verdict> {
        let cx = Cx::internal(client.id, self.host.clone());
        let claims = encode(&Claims { claims: claims.to_vec(), complete: true }).into();
        let request = IpcReq { operation: CLAIM.to_owned(), payload: claims, xdata: Xdata::EMPTY };
        decode(&self.locks.ipc(&cx, &request).await.expect("verdicts").payload).expect("verdicts")
    }

    pub fn request(&self, client: &Client, owner: u64) -> Call {
        let sequence = client.sequence.fetch_add(1, Ordering::Relaxed);
        // One slot for each call: these tests have many under way.
        let request = RequestId { client: client.id, slot: sequence as u32, sequence: 1 };
        let cx = Cx {
            request,
            lk_owner: LkOwner::from_u64(owner),
            cancel: Cancel::new(),
            ..Cx::internal(client.id, self.host.clone())
        };
        Call { cx, locks: self.locks.clone(), open: FILE.open, xdata: Xdata::EMPTY }
    }
}

/// A client of a brick.
#[derive(Clone)]
pub struct Client {
    pub id: ClientId,
    sequence: Arc<AtomicU64>,
}

/// One call of one owner, which may be made again.
#[derive(Clone)]
pub struct Call {
    pub cx: Cx,
    pub locks: Arc<dyn Xlator>,
    pub open: OpenId,
    pub xdata: Xdata,
}

pub fn claim(owner: u64, ranges: &[(LkType, u64, u64)]) -> Claim {
    let range = |(kind, start, end): &(LkType, u64, u64)| LkRange { kind: *kind, start: *start, end: *end, pid: 1 };
    let (gfid, open, owner) = (FILE.gfid, FILE.open, LkOwner::from_u64(owner));
    Claim { gfid, open, kind: LkKind::Posix, owner, ranges: ranges.iter().map(range).collect() }
}

impl Call {
    pub async fn lk(&self, command: LkCommand, kind: LkType, start: u64, end: u64) -> Result<LkRange, FopError> {
        let range = LkRange { kind, start, end, pid: 42 };
        let file = OpenFile { gfid: FILE.gfid, open: self.open };
        let request = LkReq { file, command, kind: LkKind::Posix, range, xdata: self.xdata.clone() };
        let called = self.locks.lk(&self.cx, &request);
        tokio::time::timeout(LONG, called).await.expect("answered in time").map(|reply| reply.range)
    }

    pub async fn take(&self, start: u64, end: u64) -> Result<(), Errno> {
        self.lk(LkCommand::Set, LkType::Write, start, end).await.map(drop).map_err(|error| error.errno())
    }

    pub async fn unlock(&self, start: u64, end: u64) -> Result<(), Errno> {
        self.lk(LkCommand::Set, LkType::Unlock, start, end).await.map(drop).map_err(|error| error.errno())
    }

    /// Begins to wait; returns when the call stands in the queue or has its answer.
    pub async fn wait(&self, start: u64, end: u64) -> tokio::task::JoinHandle<Result<(), Errno>> {
        let call = self.clone();
        let waiting = |locks: &Arc<dyn Xlator>| locks.status()["waiting"].as_u64();
        let before = waiting(&self.locks);
        let wait = tokio::spawn(async move {
            call.lk(LkCommand::SetWait, LkType::Write, start, end).await.map(drop).map_err(|error| error.errno())
        });
        while waiting(&self.locks) == before && !wait.is_finished() {
            tokio::task::yield_now().await;
        }
        wait
    }

    /// Asks again for what waits since before a restart; returns when the call was looked at.
    pub async fn wait_again(&self, start: u64, end: u64) -> tokio::task::JoinHandle<Result<(), Errno>> {
        let call = self.clone();
        let mut waiting = Box::pin(async move {
            call.lk(LkCommand::SetWait, LkType::Write, start, end).await.map(drop).map_err(|error| error.errno())
        });
        match brickwork_testkit::poll_once(waiting.as_mut()) {
            std::task::Poll::Ready(answer) => tokio::spawn(std::future::ready(answer)),
            std::task::Poll::Pending => tokio::spawn(waiting),
        }
    }

    pub async fn holder(&self, start: u64, end: u64) -> LkRange {
        self.lk(LkCommand::Get, LkType::Write, start, end).await.expect("a test never fails")
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("a folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}
