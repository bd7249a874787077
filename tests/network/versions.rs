//! Peers of other versions: understood, or refused with a sentence that says what to do.

use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::{Answer, Call, Version, Why};

use crate::common::brick::Brick;
use crate::peer::{Heard, Peer, hello};

const NEWER: Version = Version { minor: Version::CURRENT.minor + 1, ..Version::CURRENT };

#[test]
fn a_client_of_a_newer_minor_version_is_spoken_to_in_ours() {
    let Some(brick) = Brick::start() else { return };
    let mut peer = Peer::connect(brick.address());
    match peer.call(&Call::Hello(hello(NEWER))) {
        Some(Ok(Answer::Welcome(welcome))) => assert_eq!(welcome.version, Version::CURRENT),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_of_another_major_version_is_told_which_one_the_brick_speaks() {
    let Some(brick) = Brick::start() else { return };
    for major in [0, Version::CURRENT.major + 1, u16::MAX] {
        let position = brick.log_length();
        let mut peer = Peer::connect(brick.address());
        let refused = match peer.call(&Call::Hello(hello(Version { major, minor: 0 }))) {
            Some(Err(refused)) => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused.why, Why::Version);
        assert!(refused.reason.contains(&major.to_string()), "{refused:?}");
        peer.expect_end();
        brick.wait_for_log(position, &refused.reason);
    }
}

/// A word of a newer minor version, from a peer that forgot which one was agreed on.
#[test]
fn a_frame_of_a_newer_minor_version_ends_its_connection_with_a_reason_and_the_next_one_is_served() {
    let Some(brick) = Brick::start() else { return };
    let position = brick.log_length();
    let (mut peer, _) = Peer::attached(brick.address());
    let mut bytes = Prefix::new(Kind::Call, 3).to_bytes();
    bytes[16] = 200;
    peer.send(&bytes);
    peer.expect_end();
    brick.wait_for_log(position, "200");
    let (mut next, _) = Peer::attached(brick.address());
    next.put(Prefix::new(Kind::Ping, 1), &(), &[]);
    assert!(matches!(next.hear(), Heard::Frame(frame) if frame.prefix.kind == Kind::Pong));
}
