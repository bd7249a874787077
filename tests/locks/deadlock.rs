//! A deadlock over two bricks in processes of their own: neither sees more than its half of it.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::locks::{DEADLOCKED, Deadlocked, PROBE, Probe};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    BoxFuture, Cancel, Cx, Each, Errno, FlushReq, FopKind, FopResult, FopType, Gfid, IpcReq, LkKind, LkOwner, LkReq,
    OpenReq, ReleaseReq, Route, Xlator, each_fop,
};
use brickwork_volume::{File, How, Lock, Volume};

use crate::common::brick::Brick;
use crate::library::Library;

const ALL: Lock = Lock::exclusive(ByteRange::ALL);
/// Far less than for ever, and far more than a round of questions takes.
const LONG: Duration = Duration::from_secs(30);

/// Two bricks under one root: a file is on the brick that knows it.
struct Both {
    bricks: [Arc<dyn Xlator>; 2],
    /// The file of the first.
    first: Gfid,
}

impl Both {
    /// The brick of the object that `request` is about.
    fn place<F: FopType>(&self, request: &F::Request) -> &dyn Xlator {
        let request: &dyn Any = request;
        let gfid = match F::KIND {
            FopKind::Lk => request.downcast_ref().map(|lk: &LkReq| lk.file.gfid),
            FopKind::Open => request.downcast_ref().map(|open: &OpenReq| open.file.gfid),
            FopKind::Flush => request.downcast_ref().map(|flush: &FlushReq| flush.file.gfid),
            FopKind::Release => request.downcast_ref().map(|release: &ReleaseReq| release.file.gfid),
            FopKind::Ipc => request.downcast_ref().map(|ipc: &IpcReq| match ipc.operation.as_str() {
                PROBE => brickwork_codec::decode::<Probe>(&ipc.payload).expect("a probe").gfid,
                DEADLOCKED => brickwork_codec::decode::<Deadlocked>(&ipc.payload).expect("a request").gfid,
                other => panic!("{other} was asked"),
            }),
            _ => None,
        };
        let gfid = gfid.unwrap_or_else(|| panic!("{:?} names no object", F::KIND));
        &*self.bricks[usize::from(self.first != gfid)]
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

/// Two bricks with a file each.
struct Scene {
    library: Library,
    bricks: [Brick; 2],
    files: [Gfid; 2],
}

impl Scene {
    fn new() -> Option<Scene> {
        let (library, bricks) = (Library::new(), [Brick::start()?, Brick::start()?]);
        let files = [0, 1].map(|at: usize| {
            let client = library.near(bricks[at].address());
            let volume = library.volume(client.clone());
            library.wait(async {
                let file = volume.create("file", 0o600).await.expect("a file");
                let gfid = file.id().gfid;
                file.close().await.expect("closed");
                client.stop().await;
                gfid
            })
        });
        Some(Scene { library, bricks, files })
    }

    /// One client of both bricks.
    fn volume(&self) -> Arc<Volume> {
        let bricks = [0, 1].map(|at: usize| self.library.near(self.bricks[at].address()));
        self.library.volume(Arc::new(Both { bricks, first: self.files[0] }))
    }

    fn open(&self, volume: &Volume) -> [File; 2] {
        self.files.map(|gfid| self.library.wait(volume.open_gfid(gfid, libc::O_RDWR)).expect("open"))
    }
}

fn owner(name: &str) -> LkOwner {
    LkOwner::new(name.as_bytes()).expect("short")
}

/// Each holds the lock of one file and waits for the other's; returns how that ends, and after how long.
fn cross(scene: &Scene, first: &[File; 2], second: &[File; 2]) -> ([FopResult<()>; 2], Duration) {
    let (one, other) = (owner("one"), owner("other"));
    scene.library.wait(async {
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
        let ((one, at_one), (other, at_other)) =
            tokio::time::timeout(LONG, both).await.expect("a deadlock is for ever");
        ([one, other], at_one.min(at_other) - began)
    })
}

fn is_found((ended, took): ([FopResult<()>; 2], Duration)) {
    eprintln!("a deadlock over two bricks was found after {} ms", took.as_millis());
    let errnos = ended.map(|result| result.expect_err("both got what one holds").errno());
    assert!(errnos.contains(&Errno::EDEADLK), "{errnos:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

#[test]
fn two_owners_of_one_client_that_wait_for_each_other_on_two_bricks_hear_so_within_a_second() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.volume();
    let (first, second) = (scene.open(&volume), scene.open(&volume));
    is_found(cross(&scene, &first, &second));
    // Whoever was refused has what it had, and so has the other.
    let held = scene.library.wait(first[0].test(&owner("another"), ALL)).expect("an answer");
    assert!(held.is_some(), "the lock that was held is held");
}

#[test]
fn two_clients_that_wait_for_each_other_on_two_bricks_hear_so_within_a_second() {
    let Some(scene) = Scene::new() else { return };
    let (one, other) = (scene.volume(), scene.volume());
    let (first, second) = (scene.open(&one), scene.open(&other));
    is_found(cross(&scene, &first, &second));
}

#[test]
fn a_wait_on_one_brick_behind_somebody_who_waits_on_none_is_no_deadlock() {
    let Some(scene) = Scene::new() else { return };
    let (one, other) = (scene.volume(), scene.volume());
    let (first, second) = (scene.open(&one), scene.open(&other));
    let (holder, waiter) = (owner("one"), owner("other"));
    scene.library.wait(async {
        first[0].lock(&holder, ALL, How::Try).await.expect("the first of one");
        second[1].lock(&waiter, ALL, How::Try).await.expect("the second of the other");
        let mut wait = std::pin::pin!(second[0].lock(&waiter, ALL, How::Wait(Cancel::never())));
        // Longer than the first questions take.
        let ended = tokio::time::timeout(Duration::from_millis(500), wait.as_mut()).await;
        assert!(ended.is_err(), "it ended: {ended:?}");
        first[0].unlock(&holder, LkKind::Posix, ByteRange::ALL).await.expect("unlock");
        tokio::time::timeout(LONG, wait).await.expect("in time").expect("it is free");
    });
}
