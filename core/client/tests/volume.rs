//! The promises of the client library, over a graph in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brickwork_api::locks::{
    ClientNotice, DEADLOCKED, Deadlocked, GivenUp, LOCK_LOST, LockNotice, LostBy, PROBE, Probe, RECLAIM_REFUSED,
};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Bytes, Cancel, ClientId, Cx, Errno, Event, FopError, FopResult, Gfid, IpcReply, IpcReq, LkKind, LkOwner, LkReply,
    LkReq, RequestId, Route, Xdata, Xlator, async_trait,
};
use brickwork_testkit::{KeepsLocks, MemoryLeaf, TestHost, block_on, poll_once};
use brickwork_volume::{File, How, Lock, Volume};
use parking_lot::{Condvar, Mutex};

/// Takes the questions about deadlocks.
struct Asked {
    child: Arc<KeepsLocks>,
    seen: Mutex<Vec<IpcReq>>,
    more: Condvar,
    last_lk: Mutex<Option<RequestId>>,
    /// Every lock call is answered so.
    lost: AtomicBool,
}

#[async_trait]
impl Xlator for Asked {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    async fn lk(&self, cx: &Cx, req: &LkReq) -> FopResult<LkReply> {
        *self.last_lk.lock() = Some(cx.request);
        if self.lost.load(Ordering::SeqCst) {
            let why = Xdata::EMPTY.with(&LOCK_LOST, "not held".to_owned());
            return Err(FopError::new(Errno::EIO).with_xdata(why));
        }
        self.child.lk(cx, req).await
    }

    async fn ipc(&self, _: &Cx, req: &IpcReq) -> FopResult<IpcReply> {
        self.seen.lock().push(req.clone());
        self.more.notify_all();
        Ok(IpcReply { payload: Bytes::new(), xdata: Xdata::EMPTY })
    }
}

impl Asked {
    fn next(&self) -> IpcReq {
        let mut seen = self.seen.lock();
        let waited = self.more.wait_while_for(&mut seen, |seen| seen.is_empty(), Duration::from_secs(30));
        assert!(!waited.timed_out(), "nothing was asked");
        seen.remove(0)
    }
}

fn graph() -> Arc<Asked> {
    let child = Arc::new(KeepsLocks::over(Arc::new(MemoryLeaf::new())));
    Arc::new(Asked {
        child,
        seen: Mutex::default(),
        more: Condvar::new(),
        last_lk: Mutex::default(),
        lost: AtomicBool::new(false),
    })
}

fn volume(graph: &Arc<Asked>) -> Volume {
    Volume::new(graph.clone(), TestHost::new())
}

fn owner(name: &str) -> LkOwner {
    LkOwner::new(name.as_bytes()).unwrap()
}

const ALL: Lock = Lock::exclusive(ByteRange::ALL);

fn try_lock(file: &File, name: &str) -> Result<(), Errno> {
    block_on(file.lock(&owner(name), ALL, How::Try)).map_err(|error| error.errno())
}

#[test]
fn what_is_written_through_one_volume_is_read_through_another() {
    let graph = graph();
    let (first, second) = (volume(&graph), volume(&graph));
    block_on(async {
        let file = first.create("/x", 0o640).await.unwrap();
        assert_eq!(file.write_at(3, Bytes::from_static(b"abc")).await.unwrap(), 3);
        file.close().await.unwrap();
        let file = second.open("x", libc::O_RDONLY).await.unwrap();
        assert_eq!(&file.read_at(0, 100).await.unwrap()[..], b"\0\0\0abc");
        assert_eq!(second.lookup("/x").await.unwrap().mode, 0o640);
    });
    assert_ne!(first.client().id(), second.client().id());
}

#[test]
fn what_is_no_file_is_not_opened() {
    let graph = graph();
    let volume = volume(&graph);
    block_on(volume.create("/x", 0o600)).map(drop).unwrap();
    let open = |path: &str| block_on(volume.open(path, libc::O_RDONLY)).map(drop).map_err(|error| error.errno());
    assert_eq!(open("/"), Err(Errno::EISDIR));
    assert_eq!(open("/y"), Err(Errno::ENOENT));
    assert_eq!(open("/x/y"), Err(Errno::ENOTDIR));
    assert_eq!(open("/../x"), Err(Errno::EINVAL));
    assert_eq!(open("//./x"), Ok(()));
    assert_eq!(block_on(volume.create("/x", 0o600)).unwrap_err().errno(), Errno::EEXIST);
    assert_eq!(block_on(volume.create("/", 0o600)).unwrap_err().errno(), Errno::EEXIST);
}

#[test]
fn a_lock_belongs_to_client_and_owner_and_goes_with_unlock_flush_and_close() {
    let graph = graph();
    let (first, second) = (volume(&graph), volume(&graph));
    let file = block_on(first.create("x", 0o600)).unwrap();
    let other = block_on(second.open("x", libc::O_RDWR)).unwrap();
    let ends: [fn(&File); 2] = [
        |file| block_on(file.unlock(&owner("a"), LkKind::Posix, ByteRange::ALL)).unwrap(),
        |file| block_on(file.flush(&owner("a"))).unwrap(),
    ];
    for end in ends {
        assert_eq!(try_lock(&file, "a"), Ok(()));
        assert_eq!(try_lock(&file, "b"), Err(Errno::EAGAIN), "another owner");
        assert_eq!(try_lock(&other, "a"), Err(Errno::EAGAIN), "another client");
        let found = block_on(other.test(&owner("a"), Lock::shared(ByteRange::ALL))).unwrap().unwrap();
        assert_eq!(found.pid, std::process::id());
        end(&file);
        assert_eq!(block_on(other.test(&owner("a"), ALL)).unwrap(), None);
    }
    assert_eq!(try_lock(&file, "a"), Ok(()));
    block_on(file.close()).unwrap();
    assert_eq!(try_lock(&other, "a"), Ok(()));
}

#[test]
fn a_file_that_is_dropped_is_closed() {
    let graph = graph();
    let (first, second) = (volume(&graph), volume(&graph));
    let file = block_on(first.create("x", 0o600)).unwrap();
    let other = block_on(second.open("x", libc::O_RDWR)).unwrap();
    assert_eq!(try_lock(&file, "a"), Ok(()));
    drop(file);
    block_on(other.lock(&owner("a"), ALL, How::Wait(Cancel::never()))).unwrap();
}

#[test]
fn a_wait_has_a_slot_of_its_own_and_ends_by_its_cancel() {
    let graph = graph();
    let volume = volume(&graph);
    let file = block_on(volume.create("x", 0o600)).unwrap();
    assert_eq!(try_lock(&file, "a"), Ok(()));
    let (cancel, waiter) = (Cancel::new(), owner("b"));
    let mut wait = Box::pin(file.lock(&waiter, ALL, How::Wait(cancel.clone())));
    assert!(poll_once(wait.as_mut()).is_pending());
    assert_eq!((volume.client().waits().used(), volume.client().requests().used()), (1, 0));
    cancel.cancel();
    assert_eq!(block_on(wait).unwrap_err().errno(), Errno::EINTR);
    assert_eq!(volume.client().waits().used(), 0);
}

#[test]
fn a_refused_reclaim_says_why() {
    let graph = graph();
    let file = block_on(volume(&graph).create("x", 0o600)).unwrap();
    let refused = block_on(file.lock(&owner("a"), ALL, How::Reclaim)).unwrap_err();
    assert_eq!(refused.errno(), Errno::ENOLCK);
    assert_eq!(refused.xdata().get(&RECLAIM_REFUSED), Ok(Some("no-record".to_owned())));
}

#[test]
fn a_reclaim_takes_over_the_lock_of_another_client() {
    let graph = graph();
    let (first, second) = (volume(&graph), volume(&graph));
    let file = block_on(first.create("x", 0o600)).unwrap();
    let other = block_on(second.open("x", libc::O_RDWR)).unwrap();
    assert_eq!(try_lock(&file, "a"), Ok(()));
    block_on(other.lock(&owner("a"), ALL, How::Reclaim)).unwrap();
    assert_eq!(try_lock(&file, "a"), Err(Errno::EAGAIN));
}

#[test]
fn a_file_hears_that_its_lock_was_taken() {
    let graph = graph();
    let volume = volume(&graph);
    let (file, other) =
        (block_on(volume.create("x", 0o600)).unwrap(), block_on(volume.open("x", libc::O_RDWR)).unwrap());
    let notice = LockNotice::Lost { gfid: file.id().gfid, opens: vec![file.id().open], why: LostBy::Expiry };
    let event = |client| Event::Lock(ClientNotice { client, notice: notice.clone() });
    volume.hear(&event(ClientId::random()));
    assert_eq!(file.lost(), None, "that was another client's");
    volume.hear(&event(volume.client().id()));
    assert_eq!((file.lost(), other.lost()), (Some(LostBy::Expiry.word()), None));
}

#[test]
fn a_file_hears_by_an_answer_that_its_lock_was_taken() {
    let graph = graph();
    let volume = volume(&graph);
    let file = block_on(volume.create("x", 0o600)).unwrap();
    assert_eq!(try_lock(&file, "a"), Ok(()));
    assert_eq!(file.lost(), None);
    graph.lost.store(true, Ordering::SeqCst);
    assert_eq!(try_lock(&file, "a"), Err(Errno::EIO));
    assert_eq!(file.lost(), Some("not held"));
}

#[test]
fn a_probe_goes_on_to_where_its_owner_waits_and_one_that_came_round_ends_the_wait() {
    let graph = graph();
    let volume = volume(&graph);
    let file = block_on(volume.create("x", 0o600)).unwrap();
    assert_eq!(try_lock(&file, "a"), Ok(()));
    let (cancel, waiter) = (Cancel::new(), owner("b"));
    let mut wait = Box::pin(file.lock(&waiter, ALL, How::Wait(cancel.clone())));
    assert!(poll_once(wait.as_mut()).is_pending());

    let tell = |initiator| {
        let probe = Probe { initiator, owner: waiter.clone(), gfid: Gfid::ROOT, path: vec![initiator; 3] };
        let notice = LockNotice::Probe(probe);
        volume.hear(&Event::Lock(ClientNotice { client: volume.client().id(), notice }));
    };
    let hear = |initiator| {
        tell(initiator);
        graph.next()
    };
    let stranger = RequestId { client: ClientId::random(), slot: 7, sequence: 1 };
    let asked = hear(stranger);
    assert_eq!(asked.operation, PROBE);
    let on: Probe = brickwork_codec::decode(&asked.payload).unwrap();
    assert_eq!((on.gfid, on.path.len(), on.initiator), (file.id().gfid, 4, stranger));

    let own = graph.last_lk.lock().unwrap();
    // The first time proves nothing.
    tell(own);
    let told = hear(own);
    assert_eq!(told.operation, DEADLOCKED);
    let found: Deadlocked = brickwork_codec::decode(&told.payload).unwrap();
    assert_eq!(found, Deadlocked { gfid: file.id().gfid, request: GivenUp { slot: own.slot, sequence: own.sequence } });

    cancel.cancel();
    assert_eq!(block_on(wait).unwrap_err().errno(), Errno::EINTR);
    assert!(format!("{:?}", volume.client()).contains("owners: {}"), "it is noted as waiting after its end");
}
