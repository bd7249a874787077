//! What lockers tell of locks that were granted, waited for, interrupted and killed holds together.

use brickwork_check::history::History;
use brickwork_check::verdict::{Figures, Rules};

use crate::common::brick::Brick;
use crate::common::{Mounted, Random, can_mount, rounds};
use crate::locker::{Load, Lockers};
use crate::proxy::{Fault, Proxy};

/// Fails with all that is unlawful in `history`; returns what there was to be checked.
#[track_caller]
pub fn expect_lawful(history: &History, rules: &Rules) -> Figures {
    let verdict = history.check(rules);
    let report = verdict.report(history);
    eprint!("{report}");
    assert!(verdict.holds(), "the laws of locks were violated:\n{report}");
    verdict.figures
}

/// A local file system needs no time to hear of anything.
const AT_ONCE: Rules = Rules { losses: false, settle: 0 };

/// The control: what others find is not the fault of the lockers or of the checker.
#[test]
fn a_local_file_system_passes_the_checker() {
    let folder = tempfile::tempdir().expect("a local folder");
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random(), Load::random().interrupted()] {
        let mut lockers = Lockers::start(&[folder.path(), folder.path()], random.draw(), load);
        lockers.wait_for_calls(rounds(20_000, 200_000));
        lockers.expect_lawful(&AT_ONCE);
    }
}

#[test]
fn lockers_that_are_killed_on_a_local_file_system_pass_the_checker() {
    let folder = tempfile::tempdir().expect("a local folder");
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random()] {
        let mut lockers = Lockers::start(&[folder.path(), folder.path()], random.draw(), load);
        for _ in 0..rounds(5, 50) {
            lockers.wait_for_calls(1_000);
            let running = lockers.running();
            lockers.kill(running[random.below(running.len() as u64) as usize]);
            lockers.start_one();
        }
        let figures = lockers.expect_lawful(&AT_ONCE);
        assert!(figures.killed > 0);
    }
}

/// Makes a client notice a silent connection early enough for a test, and well before its locks are given away.
const PATIENT_CLIENT: &str = "    option ping-timeout 2\n";

/// Two mounts of one brick, each a client of its own.
fn two_mounts(brick: &Brick, port: u16) -> Option<[Mounted; 2]> {
    let client = brick.client_at(port, PATIENT_CLIENT);
    Some([Mounted::client(&client, &[])?, Mounted::client(&client, &[])?])
}

fn start(mounts: &[Mounted; 2], random: &mut Random, load: Load) -> Lockers {
    Lockers::start(&[mounts[0].path(), mounts[1].path()], random.draw(), load)
}

#[test]
fn counters_of_eight_processes_on_two_mounts_lose_no_update_and_have_no_two_holders() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let Some(mounts) = two_mounts(&brick, brick.address().port()) else { return };
    let mut lockers = start(&mounts, &mut Random::from_env(), Load::counters());
    lockers.wait_for_calls(rounds(8_000, 400_000));
    let figures = lockers.expect_lawful(&Rules::default());
    assert!(figures.writes > 1_000);
}

#[test]
fn random_locks_through_two_mounts_are_lawful() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let Some(mounts) = two_mounts(&brick, brick.address().port()) else { return };
    let mut random = Random::from_env();
    for load in [Load::random(), Load::random().interrupted()] {
        let mut lockers = start(&mounts, &mut random, load);
        lockers.wait_for_calls(rounds(8_000, 200_000));
        lockers.expect_lawful(&Rules::default());
    }
}

#[test]
fn lockers_that_are_killed_leave_nothing_in_the_way_of_others() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let Some(mounts) = two_mounts(&brick, brick.address().port()) else { return };
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random()] {
        let mut lockers = start(&mounts, &mut random, load);
        for _ in 0..rounds(5, 100) {
            lockers.wait_for_calls(1_000);
            let running = lockers.running();
            lockers.kill(running[random.below(running.len() as u64) as usize]);
            lockers.start_one();
        }
        lockers.expect_lawful(&Rules::default());
    }
}

#[test]
fn locks_are_lawful_while_connections_are_cut() {
    if !can_mount() {
        return;
    }
    let Some(brick) = Brick::start() else { return };
    let proxy = Proxy::to(brick.address());
    let Some(mounts) = two_mounts(&brick, proxy.port()) else { return };
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random().interrupted()] {
        let mut lockers = start(&mounts, &mut random, load);
        for round in 0..rounds(10, 200) {
            lockers.wait_for_calls(random.below(600) as usize);
            proxy.strike(if round % 2 == 0 { Fault::Reset } else { Fault::Close });
        }
        lockers.wait_for_calls(600);
        lockers.expect_lawful(&Rules::default());
    }
}

#[test]
fn locks_are_lawful_while_the_brick_is_killed_again_and_again() {
    if !can_mount() {
        return;
    }
    let Some(mut brick) = Brick::start() else { return };
    let Some(mounts) = two_mounts(&brick, brick.address().port()) else { return };
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random().interrupted()] {
        let mut lockers = start(&mounts, &mut random, load);
        for _ in 0..rounds(5, 50) {
            lockers.wait_for_calls(random.below(600) as usize);
            brick.kill9();
            brick.start_again();
        }
        lockers.wait_for_calls(600);
        lockers.expect_lawful(&Rules::default());
    }
}
