//! What the locks below are told of clients, and what clients are told of their locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brickwork_api::locks::*;
use brickwork_api::*;
use brickwork_codec::{decode, encode};
use brickwork_testkit::{Gate, MemoryLeaf};
use brickwork_wire::message::{AttachCall, Notice, Why};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::logs::Logs;
use crate::peer::{Peer, attach_call, lock};
use crate::world::{LEAF, Options, World};

/// What a child with locks was told or asked.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Attached(ClientId, Attaching),
    Detached(ClientId, u64),
    Ended(ClientId),
    Holds(ClientId),
    GivenUp(ClientId, GivenUp),
    Released(ClientId, OpenId),
    Lk(RequestId),
}

/// A child that remembers what it was told. A lock that waits is granted when the gate opens, all others at once.
struct Listener {
    leaf: MemoryLeaf,
    told: Mutex<Vec<Told>>,
    holds: AtomicBool,
    refuses: AtomicBool,
    gate: Gate,
}

impl Listener {
    fn new() -> Arc<Listener> {
        let (holds, refuses) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Listener { leaf: MemoryLeaf::new(), told: Mutex::default(), holds, refuses, gate: Gate::new() })
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }

    /// What it was told but for requests and for questions.
    fn lives(&self) -> Vec<Told> {
        let of_life = |told: &Told| matches!(told, Told::Attached(..) | Told::Detached(..) | Told::Ended(..));
        self.told().into_iter().filter(of_life).collect()
    }

    fn note(&self, told: Told) {
        self.told.lock().push(told);
    }

    fn answer(&self, cx: &Cx, request: &IpcReq) -> FopResult<Vec<u8>> {
        let (client, argument) = (cx.client(), &request.payload[..]);
        match request.operation.as_str() {
            ATTACHED => self.note(Told::Attached(client, decode(argument).unwrap())),
            DETACHED => self.note(Told::Detached(client, decode::<Detaching>(argument).unwrap().silent_ms)),
            ENDED => self.note(Told::Ended(client)),
            GIVEN_UP => self.note(Told::GivenUp(client, decode(argument).unwrap())),
            HOLDS => {
                self.note(Told::Holds(client));
                return Ok(encode(&self.holds.load(Ordering::SeqCst)));
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
        Ok(encode(&()))
    }
}

#[async_trait]
impl Xlator for Listener {
    fn route(&self) -> Route<'_> {
        Route::Through(&self.leaf)
    }

    async fn ipc(&self, cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Errno::EIO.into());
        }
        Ok(IpcReply { payload: self.answer(cx, request)?.into(), xdata: Xdata::EMPTY })
    }

    async fn release(&self, cx: &Cx, request: &ReleaseReq) -> FopResult<ReleaseReply> {
        self.note(Told::Released(cx.client(), request.file.open));
        self.leaf.release(cx, request).await
    }

    async fn lk(&self, cx: &Cx, request: &LkReq) -> FopResult<LkReply> {
        self.note(Told::Lk(cx.request));
        if request.command == LkCommand::SetWait {
            self.gate.pass().await;
        }
        Ok(LkReply { range: request.range, xdata: Xdata::EMPTY })
    }
}

fn world(listener: &Arc<Listener>, options: Options<'_>) -> World {
    World::with_locks(&[(LEAF, listener.clone())], options)
}

fn attaching(incarnation: u32, keep: &[u32]) -> Attaching {
    Attaching { incarnation, keep: keep.to_vec(), detach_timeout_ms: 10_000, host: "far".to_owned(), group: None }
}

#[tokio::test]
async fn the_locks_are_told_of_every_attach_and_of_the_loss_of_the_last_connection_only() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let first = Peer::attached(&world).await;
    let client = first.client;
    assert_eq!(listener.told(), [Told::Attached(client, attaching(1, &[]))]);
    let mut second = Peer::greeted(&world).await;
    second.attach(AttachCall { join: true, ..attach_call(client) }).await.unwrap();
    drop(first);
    world.until("one is left", |world| world.status("connections") == 1).await;
    let mut third = Peer::greeted(&world).await;
    third.attach(AttachCall { incarnation: 2, keep: vec![1], ..attach_call(client) }).await.unwrap();
    drop(second);
    world.until("one is left", |world| world.status("connections") == 1).await;
    let attached = [attaching(1, &[]), attaching(1, &[]), attaching(2, &[1])];
    let mut told: Vec<Told> = attached.into_iter().map(|attaching| Told::Attached(client, attaching)).collect();
    assert_eq!(listener.told(), told);
    drop(third);
    world.until("nobody is left", |world| world.status("connections") == 0).await;
    told.push(Told::Detached(client, 0));
    assert_eq!(listener.lives().len(), 4);
    assert!(matches!(listener.lives()[3], Told::Detached(gone, _) if gone == client));
}

#[tokio::test(start_paused = true)]
async fn detached_says_for_how_long_the_client_was_silent_before() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    peer.ping().await;
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    peer.outbox.close();
    world.until("it is gone", |world| world.status("connections") == 0).await;
    assert_eq!(listener.lives().last(), Some(&Told::Detached(peer.client, 4_000)));
}

/// A client that comes back closes the connection of its former incarnation. That it is gone must not be told after the
/// client was said to be here.
#[tokio::test]
async fn a_connection_that_the_next_incarnation_closes_is_not_told_as_a_loss() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut older = Peer::attached(&world).await;
    let _newer = Peer::again(&world, &older, 2).await;
    older.ended().await;
    world.until("one is left", |world| world.status("connections") == 1).await;
    let client = older.client;
    assert_eq!(listener.told(), [Told::Attached(client, attaching(1, &[])), Told::Attached(client, attaching(2, &[]))]);
}

#[tokio::test]
async fn goodbye_ends_the_locks_before_it_releases_what_was_open() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    peer.create("file", 4).await.unwrap();
    peer.goodbye(peer.session()).await.unwrap();
    let client = peer.client;
    let told = listener.told();
    assert_eq!(told[1..], [Told::Ended(client), Told::Released(client, OpenId(4))], "{told:?}");
    drop(peer);
    world.until("nobody is left", |world| world.status("connections") == 0).await;
    assert_eq!(listener.told().len(), 3, "it is not here any more: {:?}", listener.told());
}

#[tokio::test]
async fn goodbye_of_one_of_two_incarnations_ends_nothing() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut older = Peer::attached(&world).await;
    let mut newer = Peer::greeted(&world).await;
    newer.attach(AttachCall { incarnation: 2, keep: vec![1], ..attach_call(older.client) }).await.unwrap();
    newer.goodbye(newer.session()).await.unwrap();
    assert_eq!(listener.lives().len(), 2);
    older.goodbye(older.session()).await.unwrap();
    assert_eq!(listener.lives()[2..], [Told::Ended(older.client)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_locks_keeps_its_session_beyond_session_timeout_and_one_without_does_not() {
    let listener = Listener::new();
    let world = world(&listener, &[("session-timeout", "30s")]);
    let mut peer = Peer::attached(&world).await;
    peer.create("file", 4).await.unwrap();
    peer.outbox.close();
    listener.holds.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let client = peer.client;
    assert!(listener.told().contains(&Told::Holds(client)));
    assert!(!listener.told().contains(&Told::Ended(client)));
    assert_eq!(world.export("sessions")[0]["opens"], 1);
    listener.holds.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = listener.told();
    let end = [Told::Holds(client), Told::Ended(client), Told::Released(client, OpenId(4))];
    assert_eq!(told[told.len() - 3..], end);
    assert_eq!(world.export("sessions").as_array().map(Vec::len), Some(0));
}

/// A client died with a lock on a file that had no name any more: nobody would ever want that lock, and the session kept the
/// space of the file for ever.
#[tokio::test(start_paused = true)]
async fn a_client_with_locks_that_nobody_wants_loses_its_session_after_locked_session_timeout() {
    let listener = Listener::new();
    let world = world(&listener, &[("session-timeout", "30s"), ("locked-session-timeout", "10min")]);
    let mut peer = Peer::attached(&world).await;
    peer.create("file", 4).await.unwrap();
    peer.outbox.close();
    listener.holds.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert!(!listener.told().contains(&Told::Ended(peer.client)));
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(listener.told().contains(&Told::Ended(peer.client)));
    assert_eq!(world.export("sessions").as_array().map(Vec::len), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_connected_client_that_says_nothing_for_detach_timeout_is_cut_off_and_detached_from_its_last_sign_of_life() {
    let logs = Logs::begin();
    let listener = Listener::new();
    let world = world(&listener, &[("detach-timeout", "8s")]);
    let (mut dead, mut alive) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let begun = tokio::time::Instant::now();
    let pings = async {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            alive.ping().await;
        }
    };
    tokio::select! {
        () = pings => {}
        () = dead.ended() => {}
    }
    let silent_s = begun.elapsed().as_secs();
    assert!((8..=9).contains(&silent_s), "{silent_s}");
    let client = dead.client;
    let detached = listener.lives().into_iter().find(|told| matches!(told, Told::Detached(..)));
    let Some(Told::Detached(gone, silent_ms)) = detached else { panic!("{:?}", listener.told()) };
    assert_eq!(gone, client);
    assert!((8_000..=9_100).contains(&silent_ms), "{silent_ms}");
    logs.must_tell(&["a client says nothing any more, and is cut off", "timeout_ms=8000"]);
    alive.stat(Gfid::ROOT).await.unwrap();
    let mut again = Peer::again(&world, &dead, 2).await;
    assert!(again.attached.as_ref().unwrap().known);
    again.stat(Gfid::ROOT).await.unwrap();
    world.until("its old connection is put away", |world| world.status("connections") == 2).await;
    let detached = listener.lives().into_iter().filter(|told| matches!(told, Told::Detached(..)));
    assert_eq!(detached.count(), 1, "it was told once, not again by the connection that was closed");
}

/// Somebody whose requests fill the connection is not read, and so not heard, however alive it is.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_because_of_limits_is_not_taken_for_silent() {
    let listener = Listener::new();
    let faults = Arc::new(brickwork_testkit::Faults::over(listener.clone()));
    let gate = faults.hold(FopKind::Mkdir, 1);
    let options = [("detach-timeout", "8s"), ("outstanding-rpc-limit", "1")];
    let world = World::with_locks(&[(LEAF, faults)], &options);
    let mut peer = Peer::attached(&world).await;
    let id = peer.ask::<fop::Mkdir>(0, 1, &crate::peer::mkdir("slow"));
    gate.arrivals(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    gate.open();
    peer.answer::<fop::Mkdir>(id).await.unwrap();
    assert_eq!(listener.lives().len(), 1);
}

/// A frame of 16 MiB takes longer than `detach-timeout` on a slow line.
#[tokio::test(start_paused = true)]
async fn a_client_whose_frame_comes_in_pieces_is_heard() {
    use brickwork_wire::frame::{Kind, Prefix};
    use brickwork_wire::stream::Stream;
    let listener = Listener::new();
    let world = world(&listener, &[("detach-timeout", "2s"), ("handshake-timeout", "300s")]);
    let mut peer = Peer::attached(&world).await;
    let file = peer.create("file", 4).await.unwrap();
    let client = peer.client;
    // The same client on a connection that the test writes by itself.
    let mut bytes = Vec::new();
    let mut frame = |kind, id, fop, session, header: Vec<u8>| {
        let prefix = Prefix { header: header.len() as u32, ..Prefix::new(kind, id).of(fop, session) };
        bytes.extend_from_slice(&prefix.to_bytes());
        bytes.extend_from_slice(&header);
    };
    let call = brickwork_wire::message::Call::Attach(AttachCall { incarnation: 2, ..attach_call(client) });
    frame(Kind::Call, 1, 0, 0, encode(&crate::peer::hello(brickwork_wire::message::Version::CURRENT)));
    frame(Kind::Call, 2, 0, 0, encode(&crate::peer::choice(LEAF)));
    frame(Kind::Call, 3, 0, 0, encode(&call));
    let greeting = bytes.len();
    let request = StatReq { target: file.into(), xdata: Xdata::EMPTY };
    let mut frame = |kind, id, fop, session, header: Vec<u8>| {
        let prefix = Prefix { header: header.len() as u32, ..Prefix::new(kind, id).of(fop, session) };
        bytes.extend_from_slice(&prefix.to_bytes());
        bytes.extend_from_slice(&header);
    };
    frame(Kind::Request, 4, FopKind::Stat as u8, 1, encode(&(peer.head(9, 1), &request)));
    let Stream::Unix(stream) = crate::peer::stream(&world.place()).await else { panic!("a unix socket") };
    assert_eq!(stream.try_write(&bytes[..greeting]).unwrap(), greeting);
    world.until("it has attached", |_| listener.lives().len() == 2).await;
    for byte in &bytes[greeting..] {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert_eq!(stream.try_write(std::slice::from_ref(byte)).unwrap(), 1);
    }
    assert!(!listener.lives().iter().any(|told| matches!(told, Told::Detached(..))), "{:?}", listener.lives());
}

#[tokio::test]
async fn a_failover_group_is_told_with_the_hash_of_its_secret_and_half_of_one_is_refused() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let (name, secret) = (&FAILOVER_GROUP, &FAILOVER_SECRET);
    let empty = Xdata::EMPTY;
    let refused = [
        (empty.clone().with(name, "pair".to_owned()), "without a secret"),
        (empty.clone().with(secret, "word".to_owned()), "without its name"),
        (empty.clone().with(name, String::new()).with(secret, "word".to_owned()), "is empty"),
        (empty.clone().with(name, "x".repeat(256)).with(secret, "word".to_owned()), "longer than 255 bytes"),
        (empty.clone().with(&xdata::Key::<bool>::new(name.name()), true), "both text"),
    ];
    let mut peer = Peer::greeted(&world).await;
    for (xdata, why) in refused {
        let refused = peer.attach(AttachCall { xdata, ..attach_call(peer.client) }).await.unwrap_err();
        assert_eq!(refused.why, Why::Protocol);
        assert!(refused.reason.contains(why), "{}", refused.reason);
    }
    assert_eq!(listener.told(), []);
    let xdata = empty.with(name, "x".repeat(255)).with(secret, "word".to_owned());
    assert!(!peer.attach(AttachCall { xdata, ..attach_call(peer.client) }).await.unwrap().known);
    let group = FailoverGroup { name: "x".repeat(255), secret: Sha256::digest("word").into() };
    assert_eq!(listener.told(), [Told::Attached(peer.client, Attaching { group: Some(group), ..attaching(1, &[]) })]);
}

#[tokio::test]
async fn a_client_whose_locks_cannot_be_looked_after_is_not_let_in_and_may_try_again() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    listener.refuses.store(true, Ordering::SeqCst);
    let mut peer = Peer::greeted(&world).await;
    let refused = peer.attach(attach_call(peer.client)).await.unwrap_err();
    assert_eq!(refused.why, Why::Later);
    listener.refuses.store(false, Ordering::SeqCst);
    let attached = peer.attach(AttachCall { incarnation: 2, ..attach_call(peer.client) }).await.unwrap();
    assert_eq!(listener.told(), [Told::Attached(peer.client, attaching(2, &[]))]);
    assert_eq!(attached.session, 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_without_locks_is_asked_once() {
    /// Counts questions.
    struct Counts(MemoryLeaf, Mutex<u32>);
    #[async_trait]
    impl Xlator for Counts {
        fn route(&self) -> Route<'_> {
            Route::Through(&self.0)
        }
        async fn ipc(&self, _cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
            *self.1.lock() += u32::from(request.operation.starts_with(PREFIX));
            Err(Errno::EOPNOTSUPP.into())
        }
    }
    let counts = Arc::new(Counts(MemoryLeaf::new(), Mutex::new(0)));
    let world = World::with_locks(&[(LEAF, counts.clone())], &[("session-timeout", "30s"), ("detach-timeout", "1s")]);
    let (mut left, mut silent) = (Peer::attached(&world).await, Peer::attached(&world).await);
    left.goodbye(left.session()).await.unwrap();
    drop(left);
    let away = Peer::attached(&world).await;
    away.cancel(1024, 9);
    away.outbox.close();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Nobody waits for its locks, so it may be as silent as it likes.
    silent.ping().await;
    assert_eq!(world.export("sessions").as_array().map(Vec::len), Some(1));
    assert_eq!(*counts.1.lock(), 1);
}

#[tokio::test]
async fn a_lock_call_sent_again_while_it_waits_is_joined_and_one_that_is_done_goes_to_the_locks_again() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut first = Peer::attached(&world).await;
    let request = lock(true, LkType::Write);
    first.ask::<fop::Lk>(1024, 1, &request);
    listener.gate.arrivals(1).await;
    first.outbox.close();
    let mut second = Peer::again(&world, &first, 2).await;
    let again = second.ask::<fop::Lk>(1024, 1, &request);
    assert!(!second.is_answered(again).await);
    listener.gate.open();
    second.answer::<fop::Lk>(again).await.unwrap();
    let id = RequestId { client: first.client, slot: 1024, sequence: 1 };
    let calls = || listener.told().into_iter().filter(|told| *told == Told::Lk(id)).count();
    assert_eq!(calls(), 1);
    let mut third = Peer::again(&world, &second, 3).await;
    let again = third.ask::<fop::Lk>(1024, 1, &request);
    third.answer::<fop::Lk>(again).await.unwrap();
    assert_eq!(calls(), 2, "the locks remember, not the session");
}

fn given_up(peer: &Peer, slot: u32, sequence: u64) -> Told {
    Told::GivenUp(peer.client, GivenUp { slot, sequence })
}

#[tokio::test]
async fn a_wait_that_is_given_up_after_a_restart_is_told_to_the_locks_and_not_begun_when_it_comes_late() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    peer.cancel(1024, 7);
    peer.ping().await;
    assert_eq!(listener.told()[1..], [given_up(&peer, 1024, 7)]);
    let late = peer.ask::<fop::Lk>(1024, 7, &lock(false, LkType::Write));
    assert_eq!(peer.answer::<fop::Lk>(late).await.unwrap_err().errno(), Errno::EINTR);
    assert_eq!(listener.told().len(), 2);
    let next = peer.ask::<fop::Lk>(1024, 8, &lock(false, LkType::Write));
    peer.answer::<fop::Lk>(next).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_was_granted_to_a_lost_connection_and_is_given_up_is_told_to_the_locks() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut first = Peer::attached(&world).await;
    let id = first.ask::<fop::Lk>(1024, 1, &lock(false, LkType::Write));
    first.answer::<fop::Lk>(id).await.unwrap();
    // The answer was on its way; this client says that it did not hear it.
    let mut second = Peer::again(&world, &first, 2).await;
    second.cancel(1024, 1);
    second.ping().await;
    assert_eq!(listener.told().last(), Some(&given_up(&second, 1024, 1)));
}

/// A cancel and the answer that it meets on the way: the client hears that it has the lock, so it must have it.
#[tokio::test]
async fn a_cancel_that_meets_the_answer_takes_no_lock_from_who_hears_it() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    let id = peer.ask::<fop::Lk>(1024, 1, &lock(false, LkType::Write));
    peer.cancel_as(id, 1024, 1);
    peer.answer::<fop::Lk>(id).await.unwrap();
    peer.ping().await;
    assert!(!listener.told().contains(&given_up(&peer, 1024, 1)));
}

#[tokio::test]
async fn a_lock_that_is_granted_while_its_client_gives_it_up_for_good_is_undone_and_answered_eintr() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    let id = peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write));
    listener.gate.arrivals(1).await;
    peer.cancel(1024, 1);
    peer.ping().await;
    // The grant was under way already: it does not look at the cancel any more.
    listener.gate.open();
    assert_eq!(peer.answer::<fop::Lk>(id).await.unwrap_err().errno(), Errno::EINTR);
    assert_eq!(listener.told().last(), Some(&given_up(&peer, 1024, 1)));
}

/// A lock call may be on its way to the child while its session ends. What it takes then is nobody's.
#[tokio::test]
async fn a_lock_that_is_granted_after_its_session_has_ended_is_let_go_of() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write));
    listener.gate.arrivals(1).await;
    peer.goodbye(peer.session()).await.unwrap();
    let ends = || listener.told().into_iter().filter(|told| *told == Told::Ended(peer.client)).count();
    assert_eq!(ends(), 1);
    listener.gate.open();
    world.until("the grant is let go of", |_| ends() == 2).await;
}

#[tokio::test]
async fn cancels_reach_the_locks_before_the_claims_and_all_that_comes_after_them() {
    /// Takes claims.
    struct TakesClaims(Arc<Listener>, Mutex<Vec<String>>);
    #[async_trait]
    impl Xlator for TakesClaims {
        fn route(&self) -> Route<'_> {
            Route::Through(&*self.0)
        }
        async fn ipc(&self, cx: &Cx, request: &IpcReq) -> FopResult<IpcReply> {
            self.1.lock().push(request.operation.clone());
            match request.operation.as_str() {
                CLAIM => Ok(IpcReply { payload: encode(&Vec::<Verdict>::new()).into(), xdata: Xdata::EMPTY }),
                _ => self.0.ipc(cx, request).await,
            }
        }
        async fn lk(&self, cx: &Cx, request: &LkReq) -> FopResult<LkReply> {
            self.1.lock().push("lk".to_owned());
            self.0.lk(cx, request).await
        }
    }
    let claims = Arc::new(TakesClaims(Listener::new(), Mutex::default()));
    let world = World::with_locks(&[(LEAF, claims.clone())], &[]);
    let mut peer = Peer::attached(&world).await;
    let payload = encode(&Claims { claims: Vec::new(), complete: true }).into();
    let claim = IpcReq { operation: CLAIM.to_owned(), payload, xdata: Xdata::EMPTY };
    peer.cancel(1024, 7);
    peer.ask::<fop::Ipc>(0, 1, &claim);
    let last = peer.ask::<fop::Lk>(1, 1, &lock(false, LkType::Write));
    peer.answer::<fop::Lk>(last).await.unwrap();
    assert_eq!(*claims.1.lock(), [ATTACHED, GIVEN_UP, CLAIM, "lk"]);
}

fn lost(client: ClientId) -> (Event, LockNotice) {
    let notice = LockNotice::Lost { gfid: Gfid::ROOT, opens: vec![OpenId(4)], why: LostBy::Expiry };
    (Event::Lock(ClientNotice { client, notice: notice.clone() }), notice)
}

#[tokio::test]
async fn what_the_locks_say_to_a_client_reaches_it_once_and_nobody_else_and_goes_no_further() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let (mut told, mut other) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let mut joined = Peer::greeted(&world).await;
    joined.attach(AttachCall { join: true, ..attach_call(told.client) }).await.unwrap();
    let (event, notice) = lost(told.client);
    assert_eq!(world.server.notify(&event), Onward::Stop);
    assert_eq!(told.notice().await, (0, Notice::Lock(notice)));
    assert!(!told.has_notice().await && !other.has_notice().await && !joined.has_notice().await);
    // Nobody is there: it learns it when it comes back and claims what it holds.
    assert_eq!(world.server.notify(&lost(ClientId::random()).0), Onward::Stop);
    assert_eq!(world.server.notify(&Event::ChildUp), Onward::Up);
}

#[tokio::test]
async fn what_the_locks_say_reaches_a_client_by_the_connection_that_is_left() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let first = Peer::attached(&world).await;
    let mut second = Peer::greeted(&world).await;
    second.attach(AttachCall { join: true, ..attach_call(first.client) }).await.unwrap();
    let client = first.client;
    drop(first);
    world.until("one is left", |world| world.status("connections") == 1).await;
    let (event, notice) = lost(client);
    world.server.notify(&event);
    assert_eq!(second.notice().await.1, Notice::Lock(notice));
}

#[tokio::test]
async fn what_the_locks_say_is_told_at_each_subvolume_that_the_client_has() {
    let (one, two): (Arc<dyn Xlator>, Arc<dyn Xlator>) = (Listener::new(), Listener::new());
    let world = World::with_locks(&[(LEAF, one), ("second", two)], &[]);
    let mut at_one = Peer::attached(&world).await;
    let mut at_two = Peer::connect(&world.place()).await;
    at_two.choose_of("second", None).await.unwrap();
    at_two.attach(attach_call(at_one.client)).await.unwrap();
    let (event, notice) = lost(at_one.client);
    world.server.notify(&event);
    assert_eq!(at_one.notice().await.1, Notice::Lock(notice.clone()));
    assert_eq!(at_two.notice().await.1, Notice::Lock(notice));
}

#[tokio::test(start_paused = true)]
async fn a_stop_tells_the_locks_nothing_of_the_clients_and_waits_for_no_wait() {
    let listener = Listener::new();
    let world = world(&listener, &[]);
    let mut peer = Peer::attached(&world).await;
    let wait = peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write));
    listener.gate.arrivals(1).await;
    let (begun, before) = (tokio::time::Instant::now(), listener.told());
    world.server.stop().await;
    assert_eq!(begun.elapsed().as_secs(), 0);
    // A grant that comes between the stop and the end of the process is not heard of.
    listener.gate.open();
    while let Some(frame) = peer.next().await {
        assert_ne!(frame.prefix.id, wait, "it asks the next brick for the lock");
    }
    world.until("its connection is put away", |world| world.status("connections") == 0).await;
    assert_eq!(listener.told(), before);
}
