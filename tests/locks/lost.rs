//! Locks that are lost, and how their owners learn it.
//!
//! What a client that was cut off finds is in `gluster_cases.rs` (E8); here are the other ways to lose a lock, the other
//! kinds of locks, and the client that does not want to know.

use std::time::Duration;

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount};
use crate::proxy::{Fault, Proxy};
use crate::script::perform;
use crate::stage::Stage;

/// For how long a client that is away is protected.
const SOON: Duration = Duration::from_secs(2);

/// A brick; a client that comes by way of a proxy, and one that comes directly.
struct Cut {
    brick: Brick,
    proxy: Proxy,
    first: Mounted,
    second: Mounted,
}

impl Cut {
    /// `options` are those of the first client, `locks` those of features/locks.
    fn new(options: &str, locks: &str) -> Option<Cut> {
        let server = format!("    option auth.addr.stats.allow *\n    option detach-timeout {}\n", SOON.as_secs());
        let brick = Brick::locking(&server, locks).filter(|_| can_mount())?;
        let proxy = Proxy::to(brick.address());
        let first = Mounted::client(&brick.client_at(proxy.port(), options), &[])?;
        let second = Mounted::client(&brick.client(""), &[])?;
        Some(Cut { brick, proxy, first, second })
    }

    fn stage(&self) -> Stage {
        Stage::on(&[self.first.path(), self.second.path()])
    }
}

const IGNORE: &str = "    option on-lost-lock ignore\n";

#[test]
fn each_kind_of_lock_that_somebody_took_makes_its_file_bad_and_no_other() {
    let Some(cut) = Cut::new("", "") else { return };
    let mut stage = cut.stage();
    let before = "
        A open p posix rwc
        A open o ofd rwc
        A open f flock rwc
        A open k kept rwc
        A open p2 posix rw
        B open p posix rw
        B open o ofd rw
        B open f flock rw
        B open k kept rw
        A lock p w 0 10
        A ofd-lock o w 0 10
        A flock f ex
        A lock k w 0 10
    ";
    perform(&mut stage, before, true);
    cut.proxy.away();
    perform(&mut stage, "B wait p r 5 1\n B ofd-wait o w 0 0\n B flock-wait f sh", true);
    cut.proxy.back();
    let after = "
        A write p 0 x = EIO
        A lock p w 50 1 = EIO
        A read o 0 1 = EIO
        A ofd-lock o u 0 0 = EIO
        A write f 0 x = EIO
        A flock f ex = EIO
        A truncate p 5 = EIO
        A write k 0 fine
        A write p2 0 fine
        B lock k w 0 1 = EAGAIN
        A close p
        A close p2
        A open p posix rw
        A write p 0 fine
        A lock p r 0 10
    ";
    perform(&mut stage, after, true);
}

#[test]
fn a_client_whose_connection_swallows_everything_learns_of_its_loss() {
    // Nobody tells it of the end of its connection.
    let Some(cut) = Cut::new("    option ping-timeout 3\n", "") else { return };
    let mut stage = cut.stage();
    let before = "
        A open f file rwc
        B open f file rw
        A write f 0 before
        A read f 0 6 = before
        A lock f w 0 10
    ";
    perform(&mut stage, before, true);
    cut.proxy.strike(Fault::Blackhole);
    perform(&mut stage, "B wait f w 0 10\n B write f 0 theirs", true);
    // Nothing that the kernel has kept is shown meanwhile.
    perform(&mut stage, "A read f 0 6 = EIO\n A write f 0 silent = EIO\n B read f 0 6 = theirs", true);
    perform(&mut stage, "A close f\n A open f file rw\n A read f 0 6 = theirs", true);
}

#[test]
fn a_client_that_slept_for_too_long_learns_of_its_loss_when_it_wakes_up() {
    let Some(cut) = Cut::new("", "") else { return };
    let mut stage = cut.stage();
    perform(&mut stage, "A open f file rwc\n B open f file rw\n A write f 0 before\n A lock f w 0 10", true);
    cut.first.pause();
    perform(&mut stage, "B wait f w 0 10\n B write f 0 theirs", true);
    cut.first.resume();
    perform(&mut stage, "A write f 0 silent = EIO\n A read f 0 6 = EIO\n B read f 0 6 = theirs", true);
    perform(&mut stage, "A close f\n A open f file rw\n A read f 0 6 = theirs\n A lock f w 0 1 = EAGAIN", true);
}

/// The brick went on refusing the file of a client that had asked for no such thing.
#[test]
fn with_on_lost_lock_ignore_the_file_is_used_on_and_the_log_warns() {
    let Some(cut) = Cut::new(IGNORE, "") else { return };
    let mut stage = cut.stage();
    perform(&mut stage, "A open f file rwc\n B open f file rw\n A lock f w 0 10\n A lock f w 20 10", true);
    cut.proxy.away();
    perform(&mut stage, "B wait f w 0 10", true);
    cut.proxy.back();
    let after = "
        A write f 0 on
        B read f 0 2 = on
        A read f 0 2 = on
        A lock f w 0 1 = EAGAIN
        B lock f u 0 10
        A lock f w 0 10
        B lock f w 0 1 = EAGAIN
        A lock f u 0 0
        B lock f w 0 0
    ";
    perform(&mut stage, after, true);
    let log = cut.first.log();
    let warned = |line: &str| line.contains("WARN") && line.contains("a lock is lost, and the file");
    assert_eq!(log.lines().filter(|line| warned(line)).count(), 1, "{log}");
    assert!(!log.contains("answers EIO until it is closed"), "{log}");
}

#[test]
fn with_on_lost_lock_ignore_too_nobody_acts_through_a_file_whose_lock_another_client_has_taken_over() {
    let Some(cut) = Cut::new(IGNORE, "    option reclaim-lock on\n    option reclaim-from any\n") else { return };
    let mut stage = cut.stage();
    perform(&mut stage, "A open f file rwc\n B open f file rw\n A lock f w 0 10", true);
    cut.proxy.away();
    let document = cut.brick.command(&["locks", "list", "--json"]).output().expect("it runs");
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).expect("JSON");
    let owner = document["items"][0]["owner"].as_str().expect("an owner").to_owned();
    let path = cut.second.path().join("file").display().to_string();
    crate::common::run(&mut cut.second.command(&["locks", "reclaim", &path, "--owner", &owner, "--range", "0..10"]));
    cut.proxy.back();
    let after = "
        A write f 0 silent = EIO
        A lock f u 0 0 = EIO
        B lock f w 0 1 = EAGAIN
        A close f
        A open f file rw
        A write f 0 fine
    ";
    perform(&mut stage, after, true);
}
