//! What a session is, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use brickwork_api::*;
use brickwork_testkit::{MemoryLeaf, MockChild, NeverGrants};
use brickwork_wire::message::{AttachCall, Why};

use crate::logs::Logs;
use crate::peer::{Peer, attach_call, lock};
use crate::world::{Options, World};

#[tokio::test]
async fn attached_tells_the_limits_and_timeouts_that_the_client_goes_by() {
    let world = World::of_memory(&[
        ("slots", "17"),
        ("waiters-max-per-client", "18"),
        ("detach-timeout", "19s"),
        ("invalidate-timeout", "20s"),
    ]);
    let attached = Peer::attached(&world).await.attached.clone().unwrap();
    assert_eq!((attached.session, attached.known), (1, false));
    assert_eq!((attached.slots, attached.waiters_max), (17, 18));
    assert_eq!((attached.detach_timeout_ms, attached.invalidate_timeout_ms), (19_000, 20_000));
}

#[tokio::test]
async fn a_lower_incarnation_is_refused_and_the_current_one_lives_on() {
    let world = World::of_memory(&[]);
    let first = Peer::attached(&world).await;
    let mut current = Peer::again(&world, &first, 5).await;
    for incarnation in [1, 4, 5] {
        let mut late = Peer::greeted(&world).await;
        let refused = late.attach(AttachCall { incarnation, ..attach_call(first.client) }).await.unwrap_err();
        assert_eq!(refused.why, Why::Identity);
        assert!(refused.reason.contains("was left behind: 5 has been here"), "{}", refused.reason);
    }
    current.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_higher_incarnation_closes_the_connection_of_the_older_one() {
    let world = World::of_memory(&[]);
    let mut older = Peer::attached(&world).await;
    let mut newer = Peer::again(&world, &older, 2).await;
    older.ended().await;
    assert!(newer.attached.as_ref().unwrap().known);
    newer.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn an_older_incarnation_that_is_kept_stays_connected() {
    let world = World::of_memory(&[]);
    let mut older = Peer::attached(&world).await;
    let mut newer = Peer::greeted(&world).await;
    newer.attach(AttachCall { incarnation: 2, keep: vec![1], ..attach_call(older.client) }).await.unwrap();
    older.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_second_connection_joins_the_current_incarnation_and_no_other() {
    let world = World::of_memory(&[]);
    let mut first = Peer::attached(&world).await;
    let mut second = Peer::greeted(&world).await;
    let join = |incarnation| AttachCall { join: true, incarnation, ..attach_call(first.client) };
    assert_eq!(second.attach(join(2)).await.unwrap_err().why, Why::Identity);
    assert!(second.attach(join(1)).await.unwrap().known);
    let stranger = AttachCall { join: true, ..attach_call(ClientId::random()) };
    assert!(second.attach(stranger).await.unwrap_err().reason.contains("none is attached"));
    second.sequence_from(100);
    second.stat(Gfid::ROOT).await.unwrap();
    first.sequence_from(200);
    first.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn several_clients_share_one_connection_under_numbers_of_their_own() {
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[]);
    let mut peer = Peer::greeted(&world).await;
    let (one, two) = (ClientId::random(), ClientId::random());
    for (client, session) in [(one, 1), (two, 2)] {
        assert_eq!(peer.attach(attach_call(client)).await.unwrap().session, session);
        // The same slot and sequence: each has its own.
        let id = peer.ask::<fop::Stat>(0, 1, &StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY });
        peer.answer::<fop::Stat>(id).await.unwrap();
    }
    let clients: Vec<ClientId> = mock.calls().iter().map(|call| call.cx.client()).collect();
    assert_eq!(clients, [one, two]);
}

#[tokio::test]
async fn one_connection_carries_256_clients_and_no_more() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::greeted(&world).await;
    for _ in 0..256 {
        peer.attach(attach_call(ClientId::random())).await.unwrap();
    }
    assert_eq!(peer.attach(attach_call(ClientId::random())).await.unwrap_err().why, Why::Full);
}

#[tokio::test]
async fn goodbye_releases_what_was_open_and_ends_the_session() {
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let file = peer.create("file", 4).await.unwrap();
    peer.goodbye(peer.session()).await.unwrap();
    let released = Fop::Release(ReleaseReq { file, xdata: Xdata::EMPTY });
    assert!(mock.fops().contains(&released), "{:?}", mock.fops());
    assert_eq!(world.export("sessions").as_array().map(Vec::len), Some(0));
    // It is nobody now; a second goodbye finds nothing.
    assert_eq!(peer.goodbye(1).await.unwrap_err().why, Why::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_its_connection_and_ends_after_session_timeout_with_its_opens() {
    let logs = Logs::begin();
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[("session-timeout", "30s")]);
    let mut peer = Peer::attached(&world).await;
    let file = peer.create("file", 4).await.unwrap();
    peer.outbox.close();
    tokio::time::sleep(Duration::from_secs(29)).await;
    let released = Fop::Release(ReleaseReq { file, xdata: Xdata::EMPTY });
    assert!(!mock.fops().contains(&released));
    assert_eq!(world.export("sessions")[0]["opens"], 1);
    assert_eq!(world.export("sessions")[0]["state"], "detached");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(mock.fops().contains(&released));
    assert_eq!(world.export("sessions").as_array().map(Vec::len), Some(0));
    logs.must_tell(&["a client stayed away; its session has ended"]);
    assert!(!Peer::again(&world, &peer, 2).await.attached.clone().unwrap().known);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_within_session_timeout_keeps_its_session() {
    let world = World::of_memory(&[("session-timeout", "30s")]);
    let mut peer = Peer::attached(&world).await;
    let file = peer.create("file", 4).await.unwrap();
    peer.outbox.close();
    tokio::time::sleep(Duration::from_secs(25)).await;
    let mut again = Peer::again(&world, &peer, 2).await;
    assert!(again.attached.as_ref().unwrap().known);
    tokio::time::sleep(Duration::from_secs(60)).await;
    again.write(file, 0, b"still open").await.unwrap();
}

/// A lock that a client waited for when it left stayed in the queue for ever: it could be granted to nobody, and whoever
/// came after it waited for that. Now the wait ends with the session.
#[tokio::test(start_paused = true)]
async fn what_a_session_waits_for_ends_with_it() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[("session-timeout", "30s")]);
    let (mut leaves, mut stays_away) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let ids = [&mut leaves, &mut stays_away].map(|peer| peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write)));
    locks.waits_begun(2).await;
    leaves.goodbye(leaves.session()).await.unwrap();
    assert_eq!(leaves.answer::<fop::Lk>(ids[0]).await.unwrap_err().errno(), Errno::EINTR);
    let watched = locks.clone();
    stays_away.outbox.close();
    tokio::time::sleep(Duration::from_secs(32)).await;
    drop(leaves);
    world.until("nobody holds the child", |_| Arc::strong_count(&watched) == 3).await;
}

/// A client came back while what its ended session had left open was still being released. The brick then forgot where
/// the *new* session can be told of changes, so the client went on with old caches for good.
#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_while_its_old_session_is_put_away_is_told_of_changes() {
    use brickwork_testkit::Faults;
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let gate = faults.hold(FopKind::Release, 1);
    let world = World::over(faults, &[("session-timeout", "30s")]);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    b.create("file", 4).await.unwrap();
    let gfid = b.mkdir("shared").await.unwrap().attr.gfid;
    b.outbox.close();
    let pings = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            a.ping().await;
        }
    };
    tokio::select! {
        () = pings => {}
        () = gate.arrivals(1) => {}
    }
    let mut again = Peer::again(&world, &b, 1).await;
    again.lookup("shared").await.unwrap();
    gate.open();
    world.until("the old session is put away", |world| world.export("sessions").as_array().unwrap().len() == 2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let change = SetattrReq {
        target: gfid.into(),
        change: AttrChange { mode: Some(0o700), ..AttrChange::default() },
        xdata: Xdata::EMPTY,
    };
    let change = a.ask::<fop::Setattr>(1, 1, &change);
    let (id, _) = again.notice().await;
    again.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
}

#[tokio::test]
async fn status_tells_who_is_connected_from_where() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::attached(&world).await;
    peer.create("file", 4).await.unwrap();
    let session = &world.export("sessions")[0];
    assert_eq!(session["client"], peer.client.to_string());
    assert_eq!((&session["state"], &session["opens"]), (&"attached".into(), &1.into()));
    assert_eq!((&session["host"], &session["pid"], &session["process"]), (&"far".into(), &77.into(), &"peer".into()));
    assert_eq!(session["address"], "unix socket");
}

#[tokio::test]
async fn the_child_sees_the_caller_as_the_rules_of_squashing_have_it() {
    let root = Credentials { uid: 0, gid: 0, pid: 5, groups: Arc::new([0, 7]) };
    let user = Credentials { uid: 1000, gid: 100, pid: 5, groups: Arc::new([7]) };
    let nobody = [("anonuid", "99"), ("anongid", "98")];
    /// Rules, who is said, and who acts: user, group, groups.
    type Case<'a> = (Options<'a>, &'a Credentials, (u32, u32, &'a [u32]));
    let cases: [Case<'_>; 5] = [
        (&[], &root, (0, 0, &[])),
        (&[("root-squash", "on")], &root, (99, 98, &[98, 7])),
        (&[("root-squash", "on")], &user, (1000, 100, &[7])),
        (&[("all-squash", "on")], &user, (99, 98, &[])),
        (&[], &user, (1000, 100, &[7])),
    ];
    for (rules, said, (uid, gid, groups)) in cases {
        let mock = MockChild::new();
        let world = World::over(mock.clone(), &[rules, &nobody].concat());
        let mut peer = Peer::attached(&world).await;
        peer.caller = said.clone();
        peer.stat(Gfid::ROOT).await.unwrap();
        let acts = &mock.calls()[0].cx.credentials;
        assert_eq!((acts.uid, acts.gid, &*acts.groups), (uid, gid, groups), "{rules:?} {said:?}");
    }
}

#[tokio::test]
async fn with_manage_gids_the_groups_are_those_of_this_machine_for_as_long_as_gid_timeout() {
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[("manage-gids", "on"), ("gid-timeout", "5s")]);
    let mut peer = Peer::attached(&world).await;
    // A user that no machine has.
    peer.caller = Credentials { uid: 4_294_000_001, gid: 1, pid: 5, groups: Arc::new([0, 7]) };
    peer.stat(Gfid::ROOT).await.unwrap();
    assert_eq!(&*mock.calls()[0].cx.credentials.groups, &[] as &[u32]);
}
