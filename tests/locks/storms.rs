//! Locks under load while bricks are killed, connections cut, and nobody may notice: what every client was told is checked
//! against the laws of locks.

use crate::common::brick::Brick;
use crate::common::{Mounted, Random, can_mount, rounds};
use crate::history::expect_lawful;
use crate::locker::{Load, Lockers};
use brickwork_check::verdict::Rules;

/// Clients, each with a mount and a process of its own.
const CLIENTS: usize = 8;
/// Calls between two kills, at most.
const BETWEEN_MAX: u64 = 300;

/// Kills the brick `kills` times while 8 clients do `load`.
fn kills(load: Load, kills: usize) {
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let client = brick.client("");
    let mounts: Vec<Mounted> = (0..CLIENTS).filter_map(|_| Mounted::client(&client, &[])).collect();
    let folders: Vec<_> = mounts.iter().map(Mounted::path).collect();
    let mut random = Random::from_env();
    let mut lockers = Lockers::start(&folders, random.draw(), load);
    for _ in 0..kills {
        lockers.wait_for_calls(random.below(BETWEEN_MAX) as usize);
        brick.kill9();
        brick.start_again();
    }
    // So that the last kill has an after.
    lockers.wait_for_calls(BETWEEN_MAX as usize);
    // No losses are allowed for: whoever is told of an error fails the check.
    let figures = expect_lawful(&lockers.stop(), &Rules::default());
    assert!(figures.grants > 0, "{figures:?}");
    mounts.iter().for_each(Mounted::unmount);
    brick.wait_for_locks("held", 0);
    assert_eq!(brick.locks("waiting"), 0, "nothing outlives who could release it");
}

#[test]
fn a_brick_that_is_killed_under_the_counters_of_eight_clients_loses_no_lock_and_nobody_notices() {
    kills(Load::counters(), rounds(3, 50));
}

#[test]
fn a_brick_that_is_killed_under_locks_of_all_kinds_of_eight_clients_loses_none_and_nobody_notices() {
    kills(Load { processes: CLIENTS as u32, ..Load::random() }, rounds(3, 50));
}
