//! A brick that is down: what its clients' callers are told, when, and what `brickwork status` says.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount, until};

/// A client that gives up early.
const IMPATIENT: &str = "    option reconnect-wait 2\n";

#[test]
fn a_brick_that_stays_away_is_enotconn_after_the_wait_and_served_again_when_it_is_back() {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let Some(mount) = Mounted::client(&brick.client(IMPATIENT), &[]) else { return };
    fs::write(mount.path().join("f"), "before").expect("write");
    brick.kill9();
    let asked = Instant::now();
    let error = fs::write(mount.path().join("f"), "meanwhile").expect_err("nobody is there");
    let waited = asked.elapsed();
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    assert!(waited > Duration::from_secs(1), "it waits for the brick: {waited:?}");
    assert!(waited < Duration::from_secs(30), "not for long: {waited:?}");
    // From then on it is said at once.
    let asked = Instant::now();
    assert_eq!(fs::metadata(mount.path().join("g")).expect_err("nobody is there").kind(), ErrorKind::NotConnected);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    brick.start_again();
    until("the mount works again", || fs::write(mount.path().join("f"), "after").ok());
    assert_eq!(fs::read_to_string(mount.path().join("f")).expect("read"), "after");
}

#[test]
fn status_names_the_brick_that_is_away_since_when_and_why() {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let Some(mount) = Mounted::client(&brick.client(IMPATIENT), &[]) else { return };
    let told = |mount: &Mounted| String::from_utf8(mount.status(&[]).stdout).expect("UTF-8");
    let address = brick.address().to_string();
    brick.kill9();
    fs::metadata(mount.path().join("f")).expect_err("nobody is there");
    let status = told(&mount);
    eprintln!("{status}");
    assert!(status.contains(&address), "which brick: {status}");
    assert!(status.contains("refused"), "why: {status}");
    let json = mount.status(&["--json"]);
    let text = String::from_utf8(json.stdout).expect("UTF-8");
    assert!(text.contains(&address) && text.contains("refused") && text.contains("since"), "{text}");
    brick.start_again();
    until("the mount works again", || fs::write(mount.path().join("f"), "after").ok());
    assert!(!told(&mount).contains("refused"), "{}", told(&mount));
}
