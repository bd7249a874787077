//! What lockers tell of locks that were granted, waited for, interrupted and killed holds together.

use brickwork_check::history::History;
use brickwork_check::verdict::{Figures, Rules};

use crate::common::{Random, rounds};
use crate::locker::{Load, Lockers};

/// Fails with all that is wrong in `history`, which is shown; returns what there was to be checked.
#[track_caller]
pub fn expect_lawful(history: &History, rules: &Rules) -> Figures {
    let verdict = history.check(rules);
    let report = verdict.report(history);
    eprint!("{report}");
    assert!(verdict.holds(), "the laws of locks were violated:\n{report}");
    verdict.figures
}

/// The control: what others find is not the fault of the lockers or of the checker.
#[test]
fn a_local_file_system_passes_the_checker() {
    let folder = tempfile::tempdir().expect("a local folder");
    let mut random = Random::from_env();
    for load in [Load::counters(), Load::random(), Load::random().interrupted()] {
        let mut lockers = Lockers::start(&[folder.path(), folder.path()], random.draw(), load);
        lockers.wait_for_calls(rounds(20_000, 200_000));
        expect_lawful(&lockers.stop(), &Rules::default());
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
        let figures = expect_lawful(&lockers.stop(), &Rules::default());
        assert!(figures.killed > 0);
    }
}
