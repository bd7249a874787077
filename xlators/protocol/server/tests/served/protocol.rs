//! Words out of place: refused or ended, with a reason, and nobody else is harmed.

use brickwork_api::*;
use brickwork_testkit::MockChild;
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::*;
use brickwork_wire::stream::Stream;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::logs::Logs;
use crate::peer::{Peer, attach_call, hello, stream};
use crate::world::World;

fn stat() -> StatReq {
    StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY }
}

/// A world with somebody in it who must not notice anything.
async fn inhabited() -> (Logs, World, Peer) {
    let logs = Logs::begin();
    let world = World::of_memory(&[]);
    let witness = Peer::attached(&world).await;
    (logs, world, witness)
}

#[tokio::test]
async fn a_connection_begins_with_a_greeting() {
    let (logs, world, mut witness) = inhabited().await;
    let mut peer = Peer::connect(&world.place()).await;
    let refused = peer.call(&Call::Attach(attach_call(ClientId::random()))).await.unwrap_err();
    assert_eq!((refused.why, refused.reason.as_str()), (Why::Protocol, "a connection begins with a greeting"));
    peer.ended().await;
    logs.must_tell(&["a connection was refused", "begins with a greeting"]);
    witness.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_greeting_with_another_magic_is_refused() {
    let (logs, world, mut witness) = inhabited().await;
    let mut peer = Peer::connect(&world.place()).await;
    let Call::Hello(greeting) = hello(Version::CURRENT) else { panic!("a greeting") };
    let refused = peer.call(&Call::Hello(Hello { magic: 1, ..greeting })).await.unwrap_err();
    assert_eq!(refused.why, Why::Version);
    peer.ended().await;
    logs.must_tell(&["a connection was refused", "no greeting of Brickwork"]);
    witness.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn another_major_version_is_refused_and_told_which_is_spoken_here() {
    let (logs, world, _witness) = inhabited().await;
    let mut peer = Peer::connect(&world.place()).await;
    let refused = peer.call(&hello(Version { major: 2, minor: 0 })).await.unwrap_err();
    assert_eq!(refused.why, Why::Version);
    assert!(refused.reason.starts_with("the client speaks protocol 2.0, this side 1.0"), "{}", refused.reason);
    peer.ended().await;
    logs.must_tell(&["a connection was refused", "speaks protocol 2.0"]);
}

#[tokio::test]
async fn a_higher_minor_version_is_spoken_to_in_ours() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::connect(&world.place()).await;
    let newer = Version { minor: Version::CURRENT.minor + 7, ..Version::CURRENT };
    let Answer::Welcome(welcome) = peer.call(&hello(newer)).await.unwrap() else { panic!("no welcome") };
    assert_eq!(welcome.version, Version::CURRENT);
    let subvolume = SubvolumeCall { name: "leaf".to_owned(), login: None, xdata: Xdata::EMPTY };
    peer.call(&Call::Subvolume(subvolume)).await.unwrap();
    peer.attach(attach_call(peer.client)).await.unwrap();
    peer.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_fop_that_the_brick_does_not_know_is_answered_and_the_connection_lives_on() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::attached(&world).await;
    peer.send(Prefix::new(Kind::Request, 900).of(FopKind::ALL.len() as u8, 1), &(peer.head(0, 1), 7u64));
    let frame = peer.next().await.unwrap();
    assert_eq!((frame.prefix.kind, frame.prefix.id), (Kind::Failure, 900));
    let error: FopError = brickwork_codec::decode(&frame.header).unwrap();
    assert_eq!(error.errno(), Errno::EOPNOTSUPP);
    peer.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_second_greeting_is_refused_and_the_connection_lives_on() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::attached(&world).await;
    let refused = peer.call(&hello(Version::CURRENT)).await.unwrap_err();
    assert_eq!(
        (refused.why, refused.reason.as_str()),
        (Why::Protocol, "this connection has chosen its subvolume already")
    );
    peer.stat(Gfid::ROOT).await.unwrap();
}

/// Sends something wrong, and expects the end of the connection, `words` in the log, and nobody else harmed.
async fn ends(words: &[&str], wrong: impl FnOnce(&Peer)) {
    let (logs, world, mut witness) = inhabited().await;
    let mut peer = Peer::attached(&world).await;
    wrong(&peer);
    peer.ended().await;
    logs.must_tell(words);
    witness.stat(Gfid::ROOT).await.unwrap();
    world.until("the place is free", |world| world.status("connections") == 1).await;
}

const ENDED: &str = "a connection was ended";

#[tokio::test]
async fn a_request_on_a_session_that_is_none_ends_the_connection() {
    for session in [0, 2, u16::MAX] {
        ends(&[ENDED, "unexpected Request"], |peer| {
            peer.send(Prefix::new(Kind::Request, 1).of(FopKind::Stat as u8, session), &(peer.head(0, 1), stat()));
        })
        .await;
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_read_ends_the_connection() {
    ends(&[ENDED, "a header that cannot be read"], |peer| {
        peer.send(Prefix::new(Kind::Request, 1).of(FopKind::Stat as u8, 1), &7u8);
    })
    .await;
    ends(&[ENDED, "a header that cannot be read"], |peer| peer.send(Prefix::new(Kind::Call, 1), &u64::MAX)).await;
    ends(&[ENDED, "a header that cannot be read"], |peer| peer.send(Prefix::new(Kind::Cancel, 1).of(0, 1), &0u8)).await;
}

#[tokio::test]
async fn a_payload_beside_a_fop_that_takes_none_ends_the_connection() {
    ends(&[ENDED, "a payload beside a stat"], |peer| {
        let prefix = Prefix::new(Kind::Request, 1).of(FopKind::Stat as u8, 1);
        let _ = peer.outbox.send(prefix, &(peer.head(0, 1), stat()), Bytes::from_static(b"x"));
    })
    .await;
}

#[tokio::test]
async fn more_groups_than_linux_has_end_the_connection() {
    ends(&[ENDED, "65537 groups, 65536 are possible"], |peer| {
        let head = RequestHead { groups: vec![1; GROUPS_MAX + 1].into(), ..peer.head(0, 1) };
        peer.send(Prefix::new(Kind::Request, 1).of(FopKind::Stat as u8, 1), &(head, stat()));
    })
    .await;
}

#[tokio::test]
async fn frames_that_only_a_brick_sends_end_the_connection() {
    for kind in [Kind::Answer, Kind::Reply, Kind::Failure, Kind::Notice] {
        ends(&[ENDED, "unexpected"], |peer| peer.send(Prefix::new(kind, 1), &())).await;
    }
}

/// Bytes that are no frame, from somebody who was let in or not.
async fn garbage(bytes: &[u8], words: &[&str]) {
    let (logs, world, mut witness) = inhabited().await;
    let Stream::Unix(mut stream) = stream(&world.place()).await else { panic!("a unix socket") };
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // However it ends: the brick may not have read all of it.
    let _ = stream.read_to_end(&mut rest).await;
    logs.must_tell(words);
    witness.stat(Gfid::ROOT).await.unwrap();
    world.until("the place is free", |world| world.status("connections") == 1).await;
}

#[tokio::test]
async fn a_frame_of_an_unknown_kind_ends_the_connection() {
    let mut prefix = Prefix::new(Kind::Call, 1).to_bytes();
    prefix[16] = 99;
    garbage(&prefix, &["a connection was refused", "a frame of the unknown kind 99"]).await;
}

#[tokio::test]
async fn a_greeting_of_more_than_16_kib_is_refused_before_it_is_read() {
    let prefix = Prefix { header: (16 << 10) + 1, ..Prefix::new(Kind::Call, 1) };
    garbage(&prefix.to_bytes(), &["a connection was refused", "a header of 16385 bytes, 16384 are allowed here"]).await;
    let prefix = Prefix { payload: 1, ..Prefix::new(Kind::Call, 1) };
    garbage(&prefix.to_bytes(), &["a connection was refused", "a payload of 1 bytes, 0 are allowed here"]).await;
}

#[tokio::test]
async fn http_is_no_language_of_ours() {
    garbage(b"GET / HTTP/1.1\r\nHost: brick\r\n\r\n", &["a connection was refused", "not spoken in this protocol"])
        .await;
}

#[tokio::test]
async fn questions_that_are_not_for_clients_are_refused_with_eperm_and_do_not_reach_the_child() {
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let question =
        |operation: &str| IpcReq { operation: operation.to_owned(), payload: Bytes::new(), xdata: Xdata::EMPTY };
    let of_locks =
        [locks::ATTACHED, locks::DETACHED, locks::ENDED, locks::HOLDS, locks::GIVEN_UP, "features/locks:list"];
    for operation in [ipc::WORK_FOLDER, ipc::DROP_UNLINKED, "storage/anything"].into_iter().chain(of_locks) {
        assert_eq!(peer.fop::<fop::Ipc>(&question(operation)).await.unwrap_err().errno(), Errno::EPERM, "{operation}");
    }
    for operation in ["cluster/hello"].into_iter().chain(locks::FOR_CLIENTS) {
        peer.fop::<fop::Ipc>(&question(operation)).await.unwrap();
        assert!(mock.fops().contains(&Fop::Ipc(question(operation))), "{operation}");
    }
    let asked = mock.fops().into_iter().filter(|fop| matches!(fop, Fop::Ipc(ipc) if ipc.operation == "cluster/hello"));
    assert_eq!(asked.count(), 1);
    for operation in ["storage/anything"].into_iter().chain(of_locks) {
        assert!(!mock.fops().contains(&Fop::Ipc(question(operation))), "{operation}");
    }
}

#[tokio::test]
async fn noticed_and_cancel_of_things_that_are_not_there_are_nothing() {
    let world = World::of_memory(&[]);
    let mut peer = Peer::attached(&world).await;
    for id in [0, 1, u64::MAX] {
        peer.noticed(id);
    }
    peer.cancel(0, 1);
    peer.cancel(u32::MAX, u64::MAX);
    peer.stat(Gfid::ROOT).await.unwrap();
}
