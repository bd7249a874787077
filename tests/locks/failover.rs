//! A client fails, and another takes its locks over: at once, by who may, and while nobody else gets a byte of them.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount, run};
use crate::proxy::Proxy;
use crate::script::perform;
use crate::stage::Stage;

/// For how long a client that is away is protected: for longer than any of these tests takes.
const PROTECTED: Duration = Duration::from_secs(600);
/// What the two gateways of a pair share.
const PAIR: &str = "    option failover-group nfs\n    option failover-secret s3cret\n";

/// A brick with the gateways of a pair, of which the first comes by way of a proxy, and somebody else.
struct Pair {
    brick: Brick,
    proxy: Proxy,
    failing: Mounted,
    gateway: Mounted,
    other: Mounted,
}

impl Pair {
    fn new() -> Option<Pair> {
        let server = format!("    option auth.addr.stats.allow *\n    option detach-timeout {}\n", PROTECTED.as_secs());
        let brick = Brick::locking(&server, "    option reclaim-lock on\n").filter(|_| can_mount())?;
        let proxy = Proxy::to(brick.address());
        let failing = Mounted::client(&brick.client_at(proxy.port(), PAIR), &[])?;
        let gateway = Mounted::client(&brick.client(PAIR), &[])?;
        let other = Mounted::client(&brick.client(""), &[])?;
        Some(Pair { brick, proxy, failing, gateway, other })
    }

    /// A is on the client that will fail; everybody else is on the one that is not of the pair.
    fn stage(&self) -> Stage {
        Stage::on(&[self.failing.path(), self.other.path()])
    }

    /// The only lock that is held.
    #[track_caller]
    fn held(&self) -> Value {
        let document = run(&mut self.brick.command(&["locks", "list", "--json"]));
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let locks = document["items"].as_array().expect("items");
        let held: Vec<&Value> = locks.iter().filter(|lock| lock["state"] == "held").collect();
        assert_eq!(held.len(), 1, "{document}");
        held[0].clone()
    }
}

/// Its number, which another range or mode would have changed, and whose it is.
fn which(lock: &Value) -> [&Value; 4] {
    ["id", "client", "start", "end"].map(|key| &lock[key])
}

/// Asks `by` to take a range of its file over.
fn reclaim(by: &Mounted, owner: &str, range: &str) -> Output {
    let path = path_of(by.path());
    by.command(&["locks", "reclaim", &path, "--owner", owner, "--range", range]).output().expect("it runs")
}

fn release(by: &Mounted, owner: &str) {
    run(&mut by.command(&["locks", "release", &path_of(by.path()), "--owner", owner]));
}

fn path_of(mount: &Path) -> String {
    mount.join("file").display().to_string()
}

#[track_caller]
fn expect_refused(answer: &Output, why: &str) {
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.code() == Some(1) && said.contains("E0407") && said.contains(why), "not {why}: {answer:?}");
}

#[track_caller]
fn expect_done(answer: &Output) {
    assert!(answer.status.success(), "{answer:?}");
}

#[test]
fn what_a_killed_client_held_is_taken_over_by_its_pair_at_once_and_never_free_in_between() {
    let Some(pair) = Pair::new() else { return };
    let Some(impostor) =
        Mounted::client(&pair.brick.client("    option failover-group nfs\n    option failover-secret guessed\n"), &[])
    else {
        return;
    };
    let mut stage = pair.stage();
    perform(&mut stage, "A open f file rwc\n W open f file rw\n B open f file rw\n A lock f w 0 100", true);
    let before = pair.held();
    let owner = before["owner"].as_str().expect("an owner");
    stage.waits("W", "wait f w 50 10");
    pair.brick.wait_for_locks("waiting", 1);
    pair.failing.kill9();
    let begun = Instant::now();
    // Who is not of the pair, who only says so, and who asks for something else.
    expect_refused(&reclaim(&pair.other, owner, "0..100"), "not-allowed");
    expect_refused(&reclaim(&impostor, owner, "0..100"), "not-allowed");
    expect_refused(&reclaim(&pair.gateway, owner, "0..50"), "range-mismatch");
    expect_refused(&reclaim(&pair.gateway, owner, "200..300"), "no-record");
    perform(&mut stage, "B lock f w 0 1 = EAGAIN", true);
    expect_done(&reclaim(&pair.gateway, owner, "0..100"));
    assert!(begun.elapsed() < PROTECTED / 10, "before the time of the former holder is up: {:?}", begun.elapsed());
    let after = pair.held();
    assert_ne!(after["client"], before["client"]);
    assert_eq!((&after["owner"], &after["start"], &after["end"]), (&before["owner"], &0.into(), &99.into()));
    // Whoever waits would have got what was free for a moment.
    perform(&mut stage, "B lock f w 0 1 = EAGAIN\n B lock f r 99 1 = EAGAIN", true);
    pair.brick.wait_for_locks("waiting", 1);
    release(&pair.gateway, owner);
    perform(&mut stage, "W ... = ok\n B lock f w 50 1 = EAGAIN\n B lock f w 0 50", true);
}

#[test]
fn a_client_that_was_cut_off_and_is_back_finds_its_file_bad_and_can_undo_nothing_of_the_takeover() {
    let Some(pair) = Pair::new() else { return };
    let mut stage = pair.stage();
    let before = "
        A open f file rwc
        A open g other rwc
        W open f file rw
        B open f file rw
        A write f 0 before
        A lock f w 0 100
    ";
    perform(&mut stage, before, true);
    let owner = pair.held()["owner"].as_str().expect("an owner").to_owned();
    stage.waits("W", "wait f w 50 10");
    pair.brick.wait_for_locks("waiting", 1);
    pair.proxy.away();
    expect_done(&reclaim(&pair.gateway, &owner, "0..100"));
    let taken = pair.held();
    pair.proxy.back();
    let back = "
        A write f 0 silent = EIO
        A read f 0 6 = EIO
        A lock f w 200 1 = EIO
        A lock f u 0 100 = EIO
        B read f 0 6 = before
        B lock f w 0 1 = EAGAIN
        A write g 0 fine
        A close f
        A open f file rw
        A lock f w 0 1 = EAGAIN
        A write f 200 fine
    ";
    perform(&mut stage, back, true);
    assert_eq!(which(&pair.held()), which(&taken), "neither unlock nor close nor a new open has changed it");
    stage.exit("A");
    pair.failing.unmount();
    perform(&mut stage, "B lock f w 0 1 = EAGAIN", true);
    release(&pair.gateway, &owner);
    perform(&mut stage, "W ... = ok", true);
}

#[test]
fn a_connected_holder_is_fenced_in_the_moment_its_lock_is_taken_over() {
    let Some(pair) = Pair::new() else { return };
    let mut stage = pair.stage();
    perform(&mut stage, "A open f file rwc\n A write f 0 before\n A lock f w 0 100\n B open f file rw", true);
    let owner = pair.held()["owner"].as_str().expect("an owner").to_owned();
    expect_done(&reclaim(&pair.gateway, &owner, "0..100"));
    perform(&mut stage, "A write f 0 silent = EIO\n A read f 0 6 = EIO\n A lock f u 0 0 = EIO", true);
    perform(&mut stage, "B lock f w 0 1 = EAGAIN\n B read f 0 6 = before\n A close f\n B lock f w 0 1 = EAGAIN", true);
    release(&pair.gateway, &owner);
    perform(&mut stage, "B lock f w 0 100", true);
}
