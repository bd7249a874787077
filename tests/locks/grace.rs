//! A brick that starts without its journal of locks: whoever held some claims it back by himself, others wait, and not for
//! longer than they must.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount, run, until};
use crate::script::perform;
use crate::stage::Stage;

/// What a grace lasts at most, where a test is to see its end; longer than `detach-timeout`, which is the least.
const SHORT: Duration = Duration::from_secs(4);
/// What it may last longer: a client that claims in its last second puts it off by one.
const EXTENDED: Duration = Duration::from_secs(1);
/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(600);
/// Everything beside the waiting that is measured.
const SLACK: Duration = Duration::from_secs(20);

/// A brick that two clients use.
struct Two {
    brick: Brick,
    first: Mounted,
    second: Mounted,
}

impl Two {
    fn new(grace: Duration) -> Option<Two> {
        let locks = format!("    option grace-timeout {}\n", grace.as_secs());
        let server = "    option auth.addr.stats.allow *\n    option detach-timeout 2\n";
        let brick = Brick::locking(server, &locks).filter(|_| can_mount())?;
        let client = brick.client("");
        let first = Mounted::client(&client, &[])?;
        let second = Mounted::client(&client, &[])?;
        Some(Two { brick, first, second })
    }

    /// Both clients hold locks: A those of the first, B and C those of the second.
    fn locked(&self) -> Stage {
        let mut stage = Stage::on(&[self.first.path(), self.second.path()]);
        let locks = "
            A open f file rwc
            A open g other rwc
            A open o third rwc
            B open f file rw
            C open f file rw
            C open g other rw
            C open o third rw
            A lock f w 0 10
            A lock f r 20 10
            A flock g ex
            A ofd-lock o w 0 0
            B lock f w 40 10
        ";
        perform(&mut stage, locks, true);
        stage
    }

    /// Stops the brick and starts it without its journal.
    fn starts_without_its_journal(&mut self) {
        self.stops();
        self.forgets();
        self.brick.start_again();
    }

    fn stops(&mut self) {
        self.brick.stop();
    }

    fn forgets(&self) {
        std::fs::remove_dir_all(self.brick.lock_journal().join("journal")).expect("the journal of the locks");
    }

    fn grace(&self) -> Output {
        self.brick.command(&["grace", "status"]).output().expect("it runs")
    }

    #[track_caller]
    fn is_in_grace(&self) {
        let grace = self.grace();
        assert_eq!(grace.status.code(), Some(75), "{grace:?}");
    }

    #[track_caller]
    fn is_not_in_grace(&self) {
        let grace = self.grace();
        assert_eq!(grace.status.code(), Some(0), "{grace:?}");
    }
}

#[test]
fn clients_claim_by_themselves_and_the_grace_ends_with_the_last_of_them() {
    let Some(mut two) = Two::new(LONG) else { return };
    let mut stage = two.locked();
    // Asked while nobody is there: one that is in the way of a lock to be claimed, and one that is not.
    two.stops();
    two.forgets();
    stage.begin("B", "lock f w 0 1");
    stage.begin("C", "wait f w 100 1");
    let begun = Instant::now();
    two.brick.start_again();
    assert_eq!(stage.answer("B"), "EAGAIN");
    assert_eq!(stage.answer("C"), "ok");
    assert!(begun.elapsed() < LONG / 10, "{:?}", begun.elapsed());
    two.is_not_in_grace();
    let held = "
        C lock f w 5 1 = EAGAIN
        C lock f w 25 1 = EAGAIN
        C lock f r 25 1
        C lock f w 45 1 = EAGAIN
        C flock g sh = EAGAIN
        C ofd-lock o r 7 1 = EAGAIN
        A write f 0 mine
        B write f 40 mine
        A lock f u 0 0
        C lock f w 0 10
        A flock g un
        C flock g ex
    ";
    perform(&mut stage, held, true);
    stage.exit("A");
    stage.exit("B");
    stage.exit("C");
    two.brick.wait_for_locks("held", 0);
}

#[test]
fn a_client_that_does_not_come_back_is_waited_for_until_the_grace_timeout_and_no_longer() {
    let Some(mut two) = Two::new(SHORT) else { return };
    let mut stage = two.locked();
    two.first.kill9();
    let begun = Instant::now();
    two.starts_without_its_journal();
    two.is_in_grace();
    // Neither what the other one may still claim, nor what was free.
    stage.begin("B", "lock f w 0 10");
    stage.begin("C", "lock f w 100 10");
    assert_eq!(stage.answer("B"), "ok");
    assert_eq!(stage.answer("C"), "ok");
    let waited = begun.elapsed();
    assert!(waited >= SHORT, "for as long as is said: {waited:?}");
    assert!(waited < SHORT + EXTENDED + SLACK, "and no longer: {waited:?}");
    two.is_not_in_grace();
    perform(&mut stage, "C lock f w 40 1 = EAGAIN\n C flock g ex\n C ofd-lock o w 0 0\n B write f 40 mine", true);
}

#[test]
fn an_administrator_ends_a_grace_for_a_client_that_will_not_come_back() {
    let Some(mut two) = Two::new(LONG) else { return };
    let mut stage = two.locked();
    two.first.kill9();
    two.starts_without_its_journal();
    two.is_in_grace();
    stage.begin("C", "lock f w 0 10");
    // Waits for whom nobody knows: the client that is back has claimed.
    until("the living client has claimed", || {
        let status = String::from_utf8_lossy(&two.grace().stdout).into_owned();
        status.contains("waiting for 1 of 2 clients").then_some(())
    });
    let refused = two.brick.command(&["grace", "end"]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    two.is_in_grace();
    assert!(!stage.has_answered("C"), "nothing is granted while the grace runs");
    run(&mut two.brick.command(&["grace", "end", "--force"]));
    assert_eq!(stage.answer("C"), "ok");
    two.is_not_in_grace();
    perform(&mut stage, "C lock f w 40 1 = EAGAIN\n B write f 40 mine\n C flock g ex", true);
}
