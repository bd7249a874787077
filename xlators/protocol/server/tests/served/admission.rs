//! Who is let in, how many, and for how long they may stand in the door.

use std::time::Duration;

use brickwork_api::{ClientId, Xdata};
use brickwork_wire::frame::{Kind, PREFIX, Prefix};
use brickwork_wire::message::*;
use tokio::time::{Instant, timeout};

use crate::logs::Logs;
use crate::peer::{Peer, SECRET, attach_call, hello, stream};
use crate::world::{World, text};

#[tokio::test]
async fn one_connection_beyond_connections_max_is_closed_and_those_before_it_live_on() {
    let logs = Logs::begin();
    let world = World::of_memory(&[("connections-max", "2")]);
    let (mut first, _second) = (Peer::attached(&world).await, Peer::attached(&world).await);
    Peer::connect(&world.place()).await.ended().await;
    logs.must_tell(&["a connection was refused: there are too many", "limit=2"]);
    assert_eq!(world.status("refused"), 1);
    first.stat(brickwork_api::Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_place_among_the_connections_is_free_again_when_one_ends() {
    let world = World::of_memory(&[("connections-max", "1")]);
    drop(Peer::attached(&world).await);
    world.until("nobody is connected", |world| world.status("connections") == 0).await;
    Peer::attached(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_closed_after_handshake_timeout() {
    let logs = Logs::begin();
    let world = World::of_memory(&[("handshake-timeout", "3s")]);
    let begun = Instant::now();
    Peer::connect(&world.place()).await.ended().await;
    assert_eq!(begun.elapsed().as_secs(), 3);
    logs.must_tell(&["a connection was refused", "not said who it is within 3s"]);
}

#[tokio::test(start_paused = true)]
async fn who_greets_and_then_only_pings_is_closed_after_handshake_timeout_too() {
    let world = World::of_memory(&[("handshake-timeout", "3s")]);
    let begun = Instant::now();
    let mut peer = Peer::connect(&world.place()).await;
    peer.call(&hello(Version::CURRENT)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    peer.ping().await;
    peer.ended().await;
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_let_in_may_be_silent_for_longer_than_handshake_timeout() {
    let world = World::of_memory(&[("handshake-timeout", "1s")]);
    let mut peer = Peer::attached(&world).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    peer.ping().await;
}

/// A stranger could send pings and read no pong, 10 seconds long and as fast as it could: every pong was kept for it in
/// memory. Now nothing more is read from whoever leaves so much unread.
#[tokio::test(start_paused = true)]
async fn a_stranger_that_pings_and_reads_nothing_is_not_read_beyond_a_greeting() {
    let world = World::of_memory(&[]);
    let stream = stream(&world.place()).await;
    let brickwork_wire::stream::Stream::Unix(stream) = stream else { panic!("a unix socket") };
    let pings = Prefix::new(Kind::Ping, 1).to_bytes().repeat(4096);
    let mut sent = 0;
    // Until the brick no longer takes it, or has ended the connection.
    let ended = timeout(Duration::from_secs(5), async {
        loop {
            stream.writable().await.unwrap();
            match stream.try_write(&pings[sent % PREFIX..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            assert!(sent < 16 << 20, "the brick takes pings without end");
        }
    });
    // The time is up: it waits, and so does the brick.
    ended.await.unwrap_err();
}

#[tokio::test]
async fn one_client_beyond_clients_max_is_refused_and_one_that_is_known_comes_back() {
    let logs = Logs::begin();
    let world = World::of_memory(&[("clients-max", "1")]);
    let first = Peer::attached(&world).await;
    let mut second = Peer::greeted(&world).await;
    let refused = second.attach(attach_call(ClientId::random())).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::Full, "1 clients have a session (`clients-max`)"));
    logs.must_tell(&["a client was refused", "clients-max"]);
    let again = Peer::again(&world, &first, 2).await;
    assert!(again.attached.as_ref().unwrap().known);
}

#[tokio::test]
async fn a_login_is_taken_with_its_password_and_refused_with_another_in_words_that_tell_nothing() {
    let logs = Logs::begin();
    let auth = [
        ("auth.addr.leaf.allow", "10.0.0.1"),
        ("auth.login.leaf.allow", "anna"),
        ("auth.login.anna.password", "secret"),
    ];
    let world = World::of_memory(&auth);
    Peer::connect(&world.place()).await.choose(Some(("anna", "secret"))).await.unwrap();
    let mut wrong = Peer::connect(&world.place()).await;
    let refused = wrong.choose(Some(("anna", "guess"))).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::NotAllowed, "the login is not accepted"));
    logs.must_tell(&["a client was refused", "`anna` has another password"]);
    wrong.ended().await;
    let refused = Peer::connect(&world.place()).await.choose(None).await.unwrap_err();
    assert_eq!(refused.reason, "this client may not have `leaf`");
}

#[tokio::test]
async fn a_rejected_address_may_not_have_the_subvolume_nor_learn_what_there_is() {
    let logs = Logs::begin();
    let world = World::of_memory(&[("auth.addr.leaf.reject", "127.0.0.1")]);
    let refused = Peer::connect(&world.place()).await.choose(None).await.unwrap_err();
    assert_eq!(refused.reason, "this address may not have `leaf`");
    logs.must_tell(&["auth.addr.leaf.reject"]);
    let mut peer = Peer::connect(&world.place()).await;
    peer.call(&hello(Version::CURRENT)).await.unwrap();
    let refused = peer.call(&volfile("gd1")).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::NotAllowed, "this address may not ask for volfiles"));
    let other = SubvolumeCall { name: "other".to_owned(), login: None, xdata: Xdata::EMPTY };
    assert_eq!(peer.call(&Call::Subvolume(other)).await.unwrap_err().reason, "no such subvolume `other`");
}

#[tokio::test]
async fn who_asks_for_a_subvolume_that_is_not_there_learns_which_there_are() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::connect(&world.place()).await;
    peer.call(&hello(Version::CURRENT)).await.unwrap();
    let other = SubvolumeCall { name: "other".to_owned(), login: None, xdata: Xdata::EMPTY };
    let refused = peer.call(&Call::Subvolume(other)).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::NotFound, "no such subvolume `other` (it serves: leaf)"));
    peer.ended().await;
}

#[tokio::test]
async fn new_rules_of_reconfigure_hold_for_whoever_comes_next() {
    let world = World::of_memory(&[]);
    let map = [("auth.addr.leaf.reject", "*"), ("transport.socket.listen-path", "/s"), ("transport-type", "unix")];
    world.server.reconfigure(&map.into_iter().collect()).unwrap();
    assert!(Peer::connect(&world.place()).await.choose(None).await.is_err());
}

fn volfile(volume: &str) -> Call {
    Call::Volfile(VolfileCall { volume: volume.to_owned(), xdata: Xdata::EMPTY })
}

#[tokio::test]
async fn client_volfile_is_handed_out_before_a_subvolume_is_chosen_and_another_volume_is_refused() {
    let folder = crate::world::folder();
    let path = folder.path().join("gd1.vol");
    std::fs::write(&path, "volume brick\nend-volume\n").unwrap();
    let world = World::of_memory(&[("client-volfile", &format!("gd1={}", text(&path)))]);
    let mut peer = Peer::connect(&world.place()).await;
    peer.call(&hello(Version::CURRENT)).await.unwrap();
    let Answer::Volfile(first) = peer.call(&volfile("gd1")).await.unwrap() else { panic!("no volfile") };
    assert_eq!((first.text.as_str(), first.generation), ("volume brick\nend-volume\n", 1));
    std::fs::write(&path, "changed").unwrap();
    let Answer::Volfile(second) = peer.call(&volfile("gd1")).await.unwrap() else { panic!("no volfile") };
    assert_eq!((second.text.as_str(), second.generation), ("changed", 2));
    assert_ne!(first.sha256, second.sha256);
    let refused = peer.call(&volfile("gd2")).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::NotFound, "no such volume `gd2` (it serves: gd1)"));
    // The connection goes on.
    let subvolume = SubvolumeCall { name: "leaf".to_owned(), login: None, xdata: Xdata::EMPTY };
    peer.call(&Call::Subvolume(subvolume)).await.unwrap();
}

#[tokio::test]
async fn a_client_id_with_another_secret_is_refused_and_the_real_one_keeps_its_session() {
    let logs = Logs::begin();
    let world = World::of_memory(&[]);
    let mut real = Peer::attached(&world).await;
    let mut thief = Peer::greeted(&world).await;
    let call = AttachCall { secret: [1; 32], incarnation: 2, ..attach_call(real.client) };
    let refused = thief.attach(call).await.unwrap_err();
    assert_eq!(refused.why, Why::Identity);
    assert!(refused.reason.contains("another secret"), "{}", refused.reason);
    logs.must_tell(&["a client was refused", "another secret"]);
    assert_ne!(SECRET, [1; 32]);
    real.stat(brickwork_api::Gfid::ROOT).await.unwrap();
}
