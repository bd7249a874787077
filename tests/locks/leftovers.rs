//! What programs that are killed leave in a brick: nothing, and at once.

use std::time::{Duration, Instant};

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount};
use crate::script::perform;
use crate::stage::Stage;

/// Within which those who wait for a program that is killed go on.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn programs_that_are_killed_hold_nothing_and_wait_for_nothing_in_the_brick() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let mut stage = Stage::on(&[first.path(), second.path()]);
    let locked = "
        A open p posix rwc
        A open o ofd rwc
        A open f flock rwc
        B open p posix rw
        C open o ofd rw
        D open f flock rw
        W open p posix rw
        A lock p w 0 10
        A lock p r 20 10
        A ofd-lock o w 0 0
        A flock f ex
    ";
    perform(&mut stage, locked, true);
    perform(
        &mut stage,
        "B wait p w 0 10 ...\n C ofd-wait o w 0 0 ...\n D flock-wait f ex ...\n W wait p w 5 1 ...",
        true,
    );
    brick.wait_for_locks("waiting", 4);
    // One in the middle of the queue: only its own place goes.
    stage.kill9("B");
    brick.wait_for_locks("waiting", 3);
    perform(&mut stage, "E open p posix rw\n E lock p w 20 1 = EAGAIN", true);
    let killed = Instant::now();
    stage.kill9("A");
    perform(&mut stage, "W ... = ok\n C ... = ok\n D ... = ok", true);
    assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
    assert_eq!(brick.locks("waiting"), 0);
    for who in ["W", "C", "D", "E"] {
        stage.kill9(who);
    }
    brick.wait_for_locks("held", 0);
    assert_eq!(brick.locks("waiting"), 0);
    first.unmount();
    second.unmount();
}
