//! A deadlock over two bricks, which neither of them can see: each knows its own locks only.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use brickwork_api::locks::{DEADLOCKED, Deadlocked, PROBE, Probe};
use brickwork_api::options::OptionMap;
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    BoxFuture, Cancel, Cx, Each, Errno, Event, FopKind, FopResult, FopType, Gfid, Host, IpcReq, LkKind, LkOwner, LkReq,
    Locate, LookupReq, OpenReq, ReleaseReq, Route, Setup, Upward, Xlator, each_fop,
};
use brickwork_graph::host::TokioHost;
use brickwork_testkit::{Client, MemoryLeaf};
use brickwork_volume::{File, How, Lock, Volume};
use parking_lot::Mutex;

/// Far less than for ever, and far more than a round of questions takes.
const LONG: Duration = Duration::from_secs(30);

/// Two bricks under one root: a file is on the brick that knows it.
struct Both {
    bricks: [Arc<dyn Xlator>; 2],
    /// The file of the first.
    first: Gfid,
    /// Who hears of events.
    volumes: Arc<Mutex<Vec<Weak<Volume>>>>,
}

impl Both {
    /// The brick of the object that `request` is about.
    fn place<F: FopType>(&self, request: &F::Request) -> &dyn Xlator {
        let request: &dyn std::any::Any = request;
        let of = |gfid: Gfid| &*self.bricks[usize::from(self.first != gfid)];
        let gfid = match F::KIND {
            FopKind::Lk => request.downcast_ref().map(|lk: &LkReq| lk.file.gfid),
            FopKind::Open => request.downcast_ref().map(|open: &OpenReq| open.file.gfid),
            FopKind::Release => request.downcast_ref().map(|release: &ReleaseReq| release.file.gfid),
            FopKind::Lookup => request.downcast_ref().and_then(|lookup: &LookupReq| match lookup.target {
                Locate::Gfid(gfid) => Some(gfid),
                Locate::Entry(_) => None,
            }),
            FopKind::Ipc => request.downcast_ref().map(|ipc: &IpcReq| match ipc.operation.as_str() {
                PROBE => brickwork_codec::decode::<Probe>(&ipc.payload).expect("a probe").gfid,
                DEADLOCKED => brickwork_codec::decode::<Deadlocked>(&ipc.payload).expect("a request").gfid,
                other => panic!("{other} was asked"),
            }),
            _ => None,
        };
        of(gfid.unwrap_or_else(|| panic!("{:?} names no object", F::KIND)))
    }
}

impl Xlator for Both {
    fn route(&self) -> Route<'_> {
        Route::Stop(Errno::EOPNOTSUPP)
    }

    each_fop!();
}

impl Each for Both {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        F::call(self.place::<F>(request), cx, request)
    }
}

struct Scene {
    root: Arc<Both>,
    host: Arc<dyn Host>,
    files: [Gfid; 2],
}

impl Scene {
    /// A file on each of two bricks.
    fn new() -> Scene {
        let host: Arc<dyn Host> = Arc::new(TokioHost::new(tokio::runtime::Handle::current()));
        let volumes: Arc<Mutex<Vec<Weak<Volume>>>> = Arc::default();
        let (bricks, files): (Vec<_>, Vec<_>) = (0..2).map(|_| brick(&host, &volumes)).unzip();
        let files: [Gfid; 2] = files.try_into().expect("two");
        let bricks = bricks.try_into().map_err(drop).expect("two");
        let root = Arc::new(Both { bricks, first: files[0], volumes });
        Scene { root, host, files }
    }

    /// A client of both bricks.
    fn volume(&self) -> Arc<Volume> {
        let volume = Arc::new(Volume::new(self.root.clone(), self.host.clone()));
        self.root.volumes.lock().push(Arc::downgrade(&volume));
        volume
    }

    async fn open(&self, volume: &Volume) -> [File; 2] {
        let open = async |gfid| volume.open_gfid(gfid, libc::O_RDWR).await.expect("open");
        [open(self.files[0]).await, open(self.files[1]).await]
    }
}

fn brick(host: &Arc<dyn Host>, volumes: &Arc<Mutex<Vec<Weak<Volume>>>>) -> (Arc<dyn Xlator>, Gfid) {
    let leaf = Arc::new(MemoryLeaf::new());
    let file = Client::new(leaf.clone()).put(Gfid::ROOT, "x", b"").expect("put");
    let volumes = volumes.clone();
    let up = move |event: Event| {
        let volumes = volumes.lock().clone();
        volumes.iter().filter_map(Weak::upgrade).for_each(|volume| volume.hear(&event));
    };
    let mut options = OptionMap::default();
    options.insert("lock-journal", "memory");
    let setup = Setup {
        name: "locks".into(),
        options,
        children: vec![leaf],
        subvolumes: vec!["posix".into()],
        up: Upward::new(up),
        host: host.clone(),
    };
    let locks = (brickwork_locks::TYPE.prepare)(setup).expect("prepared");
    locks.start().expect("started");
    (locks, file)
}

fn owner(name: &str) -> LkOwner {
    LkOwner::new(name.as_bytes()).expect("short")
}

const ALL: Lock = Lock::exclusive(ByteRange::ALL);

/// Each holds the lock of one file and waits for the other's.
async fn cross(first: &[File; 2], second: &[File; 2]) -> (FopResult<()>, FopResult<()>, Duration) {
    let (one, other) = (owner("one"), owner("other"));
    first[0].lock(&one, ALL, How::Try).await.expect("the first of one");
    second[1].lock(&other, ALL, How::Try).await.expect("the second of the other");
    let began = Instant::now();
    let (cancel_one, cancel_other) = (Cancel::new(), Cancel::new());
    let wait_one = async {
        let result = first[1].lock(&one, ALL, How::Wait(cancel_one.clone())).await;
        cancel_other.cancel();
        (result, Instant::now())
    };
    let wait_other = async {
        let result = second[0].lock(&other, ALL, How::Wait(cancel_other.clone())).await;
        cancel_one.cancel();
        (result, Instant::now())
    };
    let both = async { tokio::join!(wait_one, wait_other) };
    let ((one, at_one), (other, at_other)) = tokio::time::timeout(LONG, both).await.expect("a deadlock is for ever");
    (one, other, at_one.min(at_other) - began)
}

fn is_found((one, other, took): (FopResult<()>, FopResult<()>, Duration)) {
    let errnos = [one, other].map(|result| result.expect_err("both got what one holds").errno());
    assert!(errnos.contains(&Errno::EDEADLK), "{errnos:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_of_one_client_that_wait_for_each_other_on_two_bricks_hear_so_within_a_second() {
    let scene = Scene::new();
    let volume = scene.volume();
    let (first, second) = (scene.open(&volume).await, scene.open(&volume).await);
    is_found(cross(&first, &second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_wait_for_each_other_on_two_bricks_hear_so_within_a_second() {
    let scene = Scene::new();
    let (one, other) = (scene.volume(), scene.volume());
    let (first, second) = (scene.open(&one).await, scene.open(&other).await);
    is_found(cross(&first, &second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_behind_somebody_who_does_not_wait_is_no_deadlock() {
    let scene = Scene::new();
    let volume = scene.volume();
    let (first, second) = (scene.open(&volume).await, scene.open(&volume).await);
    let (one, other) = (owner("one"), owner("other"));
    first[0].lock(&one, ALL, How::Try).await.expect("the first of one");
    second[1].lock(&other, ALL, How::Try).await.expect("the second of the other");
    let mut wait = std::pin::pin!(second[0].lock(&other, ALL, How::Wait(Cancel::never())));
    // Longer than the first questions take.
    let ended = tokio::time::timeout(Duration::from_millis(500), wait.as_mut()).await;
    assert!(ended.is_err(), "it ended: {ended:?}");
    first[0].unlock(&one, LkKind::Posix, ByteRange::ALL).await.expect("unlock");
    wait.await.expect("it is free");
}
