//! Asking for a volfile, against a brick whose every word is the test's.

mod peer;

use std::time::Duration;

use brickwork_api::Xdata;
use brickwork_client::{FetchError, Fetched, Server, fetch_volfile};
use brickwork_wire::message::{Answer, Call, Process, Version, Volfile, Welcome, Why};
use sha2::{Digest, Sha256};

use peer::{Door, Peer, SOON};

fn volfile(text: &str) -> Volfile {
    let sha256 = Sha256::digest(text.as_bytes()).into();
    Volfile { generation: 3, sha256, text: text.to_owned(), xdata: Xdata::EMPTY }
}

/// Asks for `gd1` at a brick that does `speak`.
async fn asked(speak: impl AsyncFnOnce(&mut Peer)) -> Result<Fetched, FetchError> {
    let door = Door::open().await;
    let server = Server::tcp("127.0.0.1", door.port());
    let fetch = tokio::spawn(async move { fetch_volfile(&server, None, "gd1", SOON).await });
    let mut peer = door.accept().await;
    speak(&mut peer).await;
    let fetched = fetch.await.unwrap();
    peer.ended().await;
    fetched
}

async fn volfile_call(peer: &mut Peer) -> u64 {
    peer.greet().await;
    let (id, call) = peer.call().await;
    let Call::Volfile(call) = call else { panic!("{call:?} instead of a volfile") };
    assert_eq!(call.volume, "gd1");
    id
}

#[tokio::test]
async fn a_long_volfile_comes_whole_with_its_generation_and_hash() {
    let text = "volume x\n".repeat(100_000);
    let given = volfile(&text);
    let fetched = asked(async |peer| {
        let id = volfile_call(peer).await;
        peer.answer(id, Ok(Answer::Volfile(given.clone())));
    });
    assert_eq!(fetched.await, Ok(Fetched { generation: 3, sha256: given.sha256, text }));
}

#[tokio::test]
async fn a_damaged_volfile_is_refused() {
    let fetched = asked(async |peer| {
        let id = volfile_call(peer).await;
        peer.answer(id, Ok(Answer::Volfile(Volfile { text: "volume y".to_owned(), ..volfile("volume x") })));
    });
    let error = fetched.await.unwrap_err();
    assert_eq!(error.to_string(), "the volfile was damaged on its way");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (why, expected) in [
        (Why::NotFound, FetchError::NoSuchVolume { reason: "because".to_owned() }),
        (Why::NotAllowed, FetchError::Refused { reason: "because".to_owned() }),
        (Why::Later, FetchError::Unreachable { why: "because".to_owned() }),
    ] {
        let fetched = asked(async |peer| {
            let id = volfile_call(peer).await;
            peer.refuse(id, why, "because");
        });
        assert_eq!(fetched.await, Err(expected));
    }
}

#[tokio::test]
async fn another_version_is_no_failure_to_reach() {
    let fetched = asked(async |peer| {
        let (id, _) = peer.call().await;
        let version = Version { major: 9, minor: 0 };
        let welcome =
            Welcome { version, features: 0, process: Process::default(), nonce: [0; 32], xdata: Xdata::EMPTY };
        peer.answer(id, Ok(Answer::Welcome(welcome)));
    });
    assert!(matches!(fetched.await, Err(FetchError::Version { .. })));
}

#[tokio::test]
async fn nobody_there_no_answer_and_an_early_end_are_told_apart() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = fetch_volfile(&Server::tcp("127.0.0.1", port), None, "gd1", SOON).await;
    assert_eq!(nobody, Err(FetchError::Unreachable { why: format!("connection refused 127.0.0.1:{port}") }));
    let door = Door::open().await;
    let after = Duration::from_millis(50);
    let mute = fetch_volfile(&Server::tcp("127.0.0.1", door.port()), None, "gd1", after).await;
    assert_eq!(mute, Err(FetchError::Timeout { after }));
    let early = asked(async |peer| {
        peer.greet().await;
        peer.cut();
    });
    assert!(matches!(early.await, Err(FetchError::Unreachable { .. })));
}
