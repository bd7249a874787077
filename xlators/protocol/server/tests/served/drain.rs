//! A server that stops in good order.

use std::sync::Arc;

use brickwork_api::*;
use brickwork_testkit::{Faults, MemoryLeaf, NeverGrants};
use brickwork_wire::message::{Notice, Version, Why};

use crate::logs::Logs;
use crate::peer::{Peer, attach_call, hello, lock, mkdir};
use crate::world::World;

#[tokio::test]
async fn stop_says_that_it_is_leaving_answers_what_is_under_way_and_closes() {
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let gate = faults.hold(FopKind::Mkdir, 1);
    let world = World::over(faults.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let under_way = peer.ask::<fop::Mkdir>(1, 1, &mkdir("a"));
    gate.arrivals(1).await;
    let server = world.server.clone();
    let stopped = tokio::spawn(async move { server.stop().await });
    let (_, notice) = peer.notice().await;
    assert_eq!(notice, Notice::Leaving { reason: "the brick is stopping".to_owned() });
    // What comes now is for the next brick.
    peer.ask::<fop::Mkdir>(2, 1, &mkdir("b"));
    let refused = peer.attach(attach_call(ClientId::random())).await.unwrap_err();
    assert_eq!(refused.why, Why::Later);
    assert!(!stopped.is_finished());
    gate.open();
    peer.answer::<fop::Mkdir>(under_way).await.unwrap();
    peer.ended().await;
    stopped.await.unwrap();
    assert_eq!(faults.seen(FopKind::Mkdir), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_a_request_10_seconds_at_most() {
    let logs = Logs::begin();
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let gate = faults.hold(FopKind::Mkdir, 1);
    let world = World::over(faults, &[]);
    let mut peer = Peer::attached(&world).await;
    peer.ask::<fop::Mkdir>(1, 1, &mkdir("a"));
    gate.arrivals(1).await;
    let begun = tokio::time::Instant::now();
    world.server.stop().await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    peer.ended().await;
    logs.must_tell(&["requests are still under way", "waited_s=10"]);
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_wait_for_locks_that_somebody_waits_for() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let wait = peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write));
    locks.waits_begun(1).await;
    let begun = tokio::time::Instant::now();
    world.server.stop().await;
    assert_eq!(begun.elapsed().as_secs(), 0);
    let mut answered = false;
    while let Some(frame) = peer.next().await {
        answered |= frame.prefix.id == wait;
    }
    assert!(!answered, "it asks the next brick for the lock");
}

/// Somebody who was about to be let in when the server stopped got in all the same: its requests were done by a server
/// whose journal was closed, and nobody ended its connection.
#[tokio::test(start_paused = true)]
async fn who_is_being_let_in_when_the_server_stops_is_closed() {
    let world = World::of_memory(&[]);
    let begun = tokio::time::Instant::now();
    let mut peer = Peer::connect(&world.place()).await;
    peer.call(&hello(Version::CURRENT)).await.unwrap();
    let mut silent = Peer::connect(&world.place()).await;
    world.until("both are there", |world| world.status("connections") == 2).await;
    world.server.stop().await;
    peer.ended().await;
    silent.ended().await;
    assert_eq!(begun.elapsed().as_secs(), 0, "it could have gone on until handshake-timeout");
    world.until("nobody is left", |world| world.status("connections") == 0).await;
}

/// When `stop` returned, the socket could still be listening for a moment, and the next server found its place taken.
#[tokio::test]
async fn a_server_that_follows_takes_the_same_port_at_once() {
    let leaf: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
    let first = World::on_tcp(leaf.clone(), &[]);
    let place = first.place();
    let mut peer = Peer::attached(&first).await;
    let gfid = peer.mkdir("kept").await.unwrap().attr.gfid;
    let (_, port) = place.rsplit_once(':').unwrap();
    for _ in 0..5 {
        first.server.stop().await;
        let second = World::on_tcp(leaf.clone(), &[("transport.socket.listen-port", port)]);
        assert_eq!(second.place(), place);
        let mut peer = Peer::attached(&second).await;
        peer.stat(gfid).await.unwrap();
        second.server.stop().await;
    }
}

#[tokio::test]
async fn the_unix_socket_is_gone_when_the_server_has_stopped() {
    let world = World::of_memory(&[]);
    assert!(world.path("socket").exists());
    world.server.stop().await;
    assert!(!world.path("socket").exists());
}

#[tokio::test]
async fn a_server_that_never_started_stops() {
    let leaf: Arc<dyn Xlator> = Arc::new(MemoryLeaf::new());
    let server = crate::world::prepare(&[("leaf", leaf)], &[]).unwrap();
    server.stop().await;
    assert_eq!(server.status()["listening"][0], "");
}
