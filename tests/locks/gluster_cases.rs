//! The situations in which GlusterFS 10 loses locks, and what happens here; by the numbers under which they are known.
//!
//! E8 and the plain restart of a brick are below. E1 to E6 are migrations with lock migration on, E7 one without: they come
//! with the move of a file (issue 5, cluster/distribute). E9 is a waiter while the graph is switched: it comes with the
//! switch (issue 6).

use std::fs::File;
use std::time::{Duration, Instant};

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount, rounds};
use crate::proxy::Proxy;
use crate::script::perform;
use crate::stage::Stage;

/// Protects the locks of a client that is away for this long, where a test is to see its end.
const SOON: Duration = Duration::from_secs(2);

/// A brick; a client that comes by way of a proxy, and one that comes directly.
struct Cut {
    brick: Brick,
    proxy: Proxy,
    first: Mounted,
    second: Mounted,
}

impl Cut {
    fn new(detach_timeout: Duration) -> Option<Cut> {
        let options =
            format!("    option auth.addr.stats.allow *\n    option detach-timeout {}\n", detach_timeout.as_secs());
        let brick = Brick::with(&options).filter(|_| can_mount())?;
        let proxy = Proxy::to(brick.address());
        let first = Mounted::client(&brick.client_at(proxy.port(), ""), &[])?;
        let second = Mounted::client(&brick.client(""), &[])?;
        Some(Cut { brick, proxy, first, second })
    }

    fn stage(&self) -> Stage {
        Stage::on(&[self.first.path(), self.second.path()])
    }
}

#[test]
fn e8_a_lock_whose_owner_is_cut_off_is_nobody_elses_and_is_held_when_it_is_back() {
    let Some(cut) = Cut::new(Duration::from_secs(60)) else { return };
    let mut stage = cut.stage();
    let before = "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A lock f r 20 10
        A open g other rwc
        B open g other rw
        A flock g ex
    ";
    perform(&mut stage, before, true);
    for _ in 0..rounds(2, 20) {
        cut.proxy.away();
        let meanwhile = "
            B lock f w 0 10 = EAGAIN
            B lock f w 25 1 = EAGAIN
            B lock f r 25 1
            B lock f u 25 1
            B see f = w 0 10 A, r 20 10 A
            B flock g sh = EAGAIN
            B wait f w 0 10 ...
        ";
        perform(&mut stage, meanwhile, true);
        cut.proxy.back();
        let after = "
            A write f 0 mine
            A lock f u 5 5
            A lock f w 5 5
            A lock f u 0 10
            B ... = ok
            A get f w 0 10 = w 0 10 B
            B lock f u 0 10
            A lock f w 0 10
        ";
        perform(&mut stage, after, true);
    }
    perform(&mut stage, "B see f = w 0 10 A, r 20 10 A", true);
}

#[test]
fn e8_a_waiter_that_is_cut_off_keeps_its_place() {
    let Some(cut) = Cut::new(Duration::from_secs(60)) else { return };
    let mut stage = cut.stage();
    // The first to be named is the one behind the proxy.
    perform(&mut stage, "W open f file rwc\n B open f file rw\n C open f file rw\n B lock f w 0 10", true);
    perform(&mut stage, "W wait f w 0 10 ...", true);
    cut.brick.wait_for_locks("waiting", 1);
    perform(&mut stage, "C wait f w 5 10 ...", true);
    cut.brick.wait_for_locks("waiting", 2);
    cut.proxy.away();
    perform(&mut stage, "B lock f u 0 1", true);
    cut.proxy.back();
    perform(&mut stage, "B lock f u 0 10\n W ... = ok\n B get f w 0 0 = w 0 10 W\n W lock f u 0 10\n C ... = ok", true);
}

#[test]
fn e8_a_lock_that_somebody_took_after_the_detach_timeout_is_eio_to_its_owner_until_it_closes() {
    let Some(cut) = Cut::new(SOON) else { return };
    let mut stage = cut.stage();
    let before = "
        A open f file rwc
        A open other second rwc
        B open f file rw
        A write f 0 before
        A lock f w 0 10
        B lock f w 0 10 = EAGAIN
    ";
    perform(&mut stage, before, true);
    cut.proxy.away();
    let begun = Instant::now();
    perform(&mut stage, "B wait f w 0 10", true);
    let waited = begun.elapsed();
    // Its time runs from the last sign of life, which was as long ago as a third of it.
    assert!(waited > SOON / 2, "protected for as long as it is said: {waited:?}");
    assert!(waited < SOON + Duration::from_secs(2), "and given away then: {waited:?}");
    perform(&mut stage, "B write f 0 theirs", true);
    cut.proxy.back();
    let after = "
        A write f 0 silent = EIO
        A read f 0 6 = EIO
        A lock f w 20 1 = EIO
        A write other 0 fine
        B read f 0 6 = theirs
        A lock f u 0 10 = EIO
        B lock f u 0 10
        A close f
        A open f file rw
        A lock f w 0 10
        A write f 0 again!
        B read f 0 6 = again!
    ";
    perform(&mut stage, after, true);
}

#[test]
fn e8_a_lock_that_nobody_wanted_is_kept_for_longer_than_the_detach_timeout() {
    let Some(cut) = Cut::new(SOON) else { return };
    let mut stage = cut.stage();
    let before = "
        A open f file rwc
        A open g other rwc
        B open f file rw
        B open g other rw
        A lock f w 0 10
        A lock g w 0 10
    ";
    perform(&mut stage, before, true);
    cut.proxy.away();
    // Granted when the time is up.
    perform(&mut stage, "B wait g w 0 10", true);
    cut.proxy.back();
    perform(&mut stage, "A write f 0 mine\n A write g 0 lost = EIO\n B lock f w 0 10 = EAGAIN", true);
}

/// How a brick goes.
#[derive(Clone, Copy)]
enum Going {
    Stopped,
    Killed,
}

impl Brick {
    fn goes(&mut self, going: Going) {
        match going {
            Going::Stopped => self.stop(),
            Going::Killed => self.kill9(),
        }
    }
}

fn a_restart_leaves_locks_as_they_were(going: Going) {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut stage = Stage::on(&[first.path(), second.path()]);
    let before = "
        A open f file rwc
        A open g other rwc
        A open o third rwc
        B open f file rw
        C open f file rw
        D open f file rw
        D open g other rw
        D open o third rw
        A lock f w 0 10
        A lock f r 20 10
        A lock f u 4 2
        A flock g ex
        A ofd-lock o w 100 0
    ";
    perform(&mut stage, before, true);
    stage.waits("B", "wait f w 0 4");
    brick.wait_for_locks("waiting", 1);
    stage.waits("C", "wait f w 2 2");
    brick.wait_for_locks("waiting", 2);
    for _ in 0..rounds(2, 10) {
        brick.goes(going);
        // Asked while nobody is there, so that it is among the first that the brick hears of.
        stage.begin("D", "lock f w 0 1");
        brick.start_again();
        assert_eq!(stage.answer("D"), "EAGAIN");
        let held = "
            D see f = w 0 4 A, w 6 4 A, r 20 10 A
            D flock g sh = EAGAIN
            D ofd-lock o r 5000 1 = EAGAIN
            D lock f w 4 2
            D lock f u 4 2
            A write f 0 mine
        ";
        perform(&mut stage, held, true);
        brick.wait_for_locks("waiting", 2);
    }
    let in_their_order = "
        A lock f u 0 4
        B ... = ok
        B lock f u 0 0
        C ... = ok
        A flock g un
        D flock g ex
        A close o
        D ofd-wait o w 0 0
        D see f = w 2 2 C
    ";
    // What D sees is of one owner only when A has nothing any more.
    perform(&mut stage, "A lock f u 6 100", true);
    perform(&mut stage, in_their_order, true);
}

#[test]
fn a_brick_that_is_told_to_stop_and_started_again_has_every_lock_and_waiter_as_before() {
    a_restart_leaves_locks_as_they_were(Going::Stopped);
}

#[test]
fn a_brick_that_is_killed_and_started_again_has_every_lock_and_waiter_as_before() {
    a_restart_leaves_locks_as_they_were(Going::Killed);
}

#[test]
fn what_was_released_and_who_went_while_the_brick_was_down_holds_nothing_afterwards() {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut stage = Stage::on(&[first.path(), second.path()]);
    let before = "
        A open f file rwc
        K open f file rw
        D open f file rw
        A lock f w 0 10
        A lock f w 20 10
        K lock f w 40 10
    ";
    perform(&mut stage, before, true);
    brick.kill9();
    stage.begin("A", "lock f u 0 10");
    stage.begin_kill9("K");
    brick.start_again();
    assert_eq!(stage.answer("A"), "ok");
    stage.kill9("K");
    perform(&mut stage, "D see f = w 20 10 A\n D lock f w 0 10\n D lock f w 40 10", true);
}

#[test]
fn a_brick_that_lost_its_lock_journal_lets_owners_claim_while_others_wait() {
    let Some(mut brick) = Brick::locking("    option auth.addr.stats.allow *\n", "    option grace-timeout 10m\n")
        .filter(|_| can_mount())
    else {
        return;
    };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut stage = Stage::on(&[first.path(), second.path()]);
    perform(
        &mut stage,
        "A open f file rwc\n B open f file rw\n C open f file rw\n A lock f w 0 10\n B lock f w 20 10",
        true,
    );
    // A client that cannot claim yet.
    first.pause();
    brick.stop();
    std::fs::remove_file(brick.lock_journal().join("journal"))
        .or_else(|_| std::fs::remove_dir_all(brick.lock_journal().join("journal")))
        .expect("the journal of the locks");
    brick.start_again();
    let grace = |brick: &Brick| brick.command(&["grace", "status"]).output().expect("it runs");
    assert_eq!(grace(&brick).status.code(), Some(75), "{:?}", grace(&brick));
    // Neither what is held nor what is free is given to anybody.
    stage.waits("B", "lock f w 0 10");
    stage.waits("C", "lock f w 100 10");
    first.resume();
    assert_eq!(stage.answer("B"), "EAGAIN");
    assert_eq!(stage.answer("C"), "ok");
    assert_eq!(grace(&brick).status.code(), Some(0), "{:?}", grace(&brick));
    perform(&mut stage, "A write f 0 mine\n B write f 20 mine\n A lock f w 20 1 = EAGAIN", true);
}

#[test]
fn many_locks_held_through_a_mount_are_held_again_and_the_next_is_granted_within_a_second_of_the_start() {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut stage = Stage::on(&[first.path(), second.path()]);
    // A hundred thousand, taken over the wire: restart.rs.
    let count = rounds(10_000, 20_000);
    stage.does("A", "open f file rwc");
    stage.does("B", "open f file rw");
    stage.does("A", &format!("many f {count} 2"));
    brick.kill9();
    stage.begin("B", "lock f w 1 1");
    let begun = Instant::now();
    brick.start_again();
    assert_eq!(stage.answer("B"), "ok");
    let took = begun.elapsed();
    eprintln!("{count} locks: the first grant {took:?} after the start");
    // Without optimization everything takes several times as long.
    let limit = if cfg!(debug_assertions) { Duration::from_secs(5) } else { Duration::from_secs(1) };
    assert!(took < limit, "{took:?}");
    for place in [0, count, 2 * count - 2] {
        assert_eq!(stage.ask("B", &format!("lock f w {} 1", place / 2 * 2)), "EAGAIN");
    }
    stage.does("A", "lock f u 0 0");
    stage.does("B", "lock f w 0 0");
    File::open(first.path().join("file")).expect("the mount works");
}
