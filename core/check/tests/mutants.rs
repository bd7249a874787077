//! The checker fails on every brick that has a bug, for the law that the bug breaks, and passes the one that has none.

mod fake;

use std::collections::BTreeSet;
use std::process::Command;

use brickwork_check::verdict::{Law, Rules};
use fake::{Bug, Run};

/// What each client does in a run.
const CALLS: usize = 300;
/// Runs in which each bug must be caught.
const CAUGHT: usize = 4;
/// Of so many at most: threads decide what a bug does, and one that has harmed nobody cannot be seen.
const SEEDS: u64 = 20;
/// Nobody is in the way of others after a close: the fake has no network.
const AT_ONCE: Rules = Rules { losses: false, settle: 0 };

/// Fails unless `bug` is found by one of `laws`, again and again.
#[track_caller]
fn expect_caught(bug: Bug, laws: &[Law]) {
    let mut caught = 0;
    for seed in 0..SEEDS {
        let run = Run::of(bug, seed, CALLS);
        let found: BTreeSet<Law> = run.history().check(&AT_ONCE).violations.iter().map(|found| found.law).collect();
        caught += usize::from(run.struck > 0 && laws.iter().any(|law| found.contains(law)));
        if caught == CAUGHT {
            return;
        }
        assert!(found.is_empty() || run.struck > 0, "{bug:?}, seed {seed}: found {found:?} of a bug that did not show");
    }
    panic!("{bug:?} was caught by {laws:?} in {caught} of {SEEDS} runs only");
}

#[test]
fn a_brick_without_bugs_passes() {
    for seed in 0..30 {
        let history = Run::of(Bug::None, seed, CALLS).history();
        let verdict = history.check(&AT_ONCE);
        assert!(verdict.holds(), "seed {seed}:\n{}", verdict.report(&history));
        let figures = verdict.figures;
        let checked = [figures.grants, figures.queued, figures.refused, figures.tests, figures.reads, figures.appends];
        assert!(checked.iter().all(|&count| count > 50), "seed {seed}: too little to be checked: {figures:?}");
        assert!(figures.ordered > 0, "seed {seed}: no two waits to be compared: {figures:?}");
        assert_eq!(figures.killed, 1);
    }
}

/// Makes a test for each bug.
macro_rules! caught {
    ($($name:ident: $bug:ident by $($law:ident)+;)*) => {$(
        #[test]
        fn $name() {
            expect_caught(Bug::$bug, &[$(Law::$law),+]);
        }
    )*};
}

caught! {
    a_conflicting_lock_that_is_granted_is_caught: GrantsConflicting by L1;
    a_lock_that_vanishes_when_a_connection_is_cut_is_caught: DropsAtCut by L1 L2;
    a_loss_that_nothing_justifies_is_caught: TellsOfCut by L2;
    a_grant_out_of_order_is_caught: GrantsOutOfOrder by L6;
    an_append_that_is_done_twice_is_caught: AppendsTwice by L4;
    an_append_that_is_lost_is_caught: LosesAppends by L4;
    an_append_out_of_order_is_caught: SwapsAppends by L4;
    a_lock_that_is_kept_after_eintr_is_caught: KeepsAfterEintr by L2 L5;
    a_grant_after_eintr_is_caught: AnswersAfterEintr by L5;
    a_waiter_that_is_forgotten_is_caught: ForgetsWaiters by L5;
    a_write_that_is_lost_is_caught: LosesWrites by L3;
    a_stale_read_is_caught: ReadsStale by L3;
    a_held_lock_that_is_found_free_is_caught: SaysFree by L2;
    a_refusal_without_a_reason_is_caught: RefusesForNobody by L2;
    an_answer_that_cannot_be_is_caught: FailsStrangely by L5;
    a_deadlock_of_one_is_caught: SeesDeadlocks by L5;
    an_interruption_without_a_signal_is_caught: InterruptsItself by L5;
    a_lock_that_is_lost_by_waiting_for_more_is_caught: DropsAtUpgrade by L1 L2 L3;
    a_release_of_too_much_is_caught: ReleasesAll by L1 L2 L3;
    a_release_that_does_nothing_is_caught: KeepsReleased by L2 L5;
}

#[test]
fn where_losses_are_allowed_an_owner_that_is_told_passes_and_one_that_is_not_is_caught() {
    let rules = Rules { losses: true, ..AT_ONCE };
    for seed in 0..CAUGHT as u64 {
        let told = Run::of(Bug::TellsOfCut, seed, CALLS).history();
        let verdict = told.check(&rules);
        assert!(verdict.holds(), "seed {seed}:\n{}", verdict.report(&told));
        assert!(verdict.figures.told > 0);
        let silent = Run::of(Bug::DropsAtCut, seed, CALLS).history();
        assert!(!silent.check(&rules).holds(), "seed {seed}");
    }
}

#[test]
fn the_command_answers_0_when_the_laws_held_1_when_not_and_2_when_it_cannot_tell() {
    let command = |arguments: &[&str], run: &Run| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lock-history"));
        let output = command.args(arguments).args(run.logs()).output().expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = command(&[], &Run::of(Bug::None, 1, CALLS));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\n0 violations\n"), "{said}");
    let (code, said) = command(&["--settle", "0"], &Run::of(Bug::GrantsConflicting, 1, CALLS));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("L1 violated at ") && said.contains("a lock was granted while another owner held"), "{said}");
    let (code, said) = command(&["--losses"], &Run::of(Bug::TellsOfCut, 1, CALLS));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = command(&["/nowhere/log"], &Run::of(Bug::None, 1, 1));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/nowhere/log: No such file"), "{said}");
    let (code, said) = command(&["--loses"], &Run::of(Bug::None, 1, 1));
    assert_eq!((code, said.contains("there is no option `--loses`")), (Some(2), true), "{said}");
}
