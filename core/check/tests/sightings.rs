//! What somebody saw in a queue proves the order of waits, and proves nothing when it can have been something else.

use std::fs;
use std::path::{Path, PathBuf};

use brickwork_check::history::History;
use brickwork_check::log::{Answer, Call, Family, Line, Mode, Span, What};
use brickwork_check::verdict::{Law, Rules, Verdict};

const FILE: u32 = 7;
const SPAN: Span = Span(0, 8);

/// The kernel's number of a process.
fn pid(process: u32) -> u32 {
    1000 + process
}

/// A wait that was granted, and a release: when they were called, when they returned, and what they were.
fn turn(invoked: u64, granted: u64, released: u64) -> [(u64, u64, Call); 2] {
    let (open, owner, family, mode, span) = (0, 0, Family::Posix, Mode::Write, SPAN);
    [
        (invoked, granted, Call::Lock { open, owner, family, mode, span, wait: true }),
        (released - 5, released, Call::Unlock { open, owner, family, span }),
    ]
}

fn write(folder: &Path, process: u32, lines: impl IntoIterator<Item = (u64, What)>) -> PathBuf {
    let log = folder.join(process.to_string());
    let start = (0, What::Start { process, pid: pid(process) });
    let lines = [start].into_iter().chain(lines).chain([(1_000, What::End)]);
    let lines = lines.map(|(at, is)| serde_json::to_string(&Line { at, is }).expect("JSON"));
    fs::write(&log, lines.map(|line| line + "\n").collect::<String>()).expect("a log");
    log
}

/// What is found when process 0 has the lock until 200, the others wait for it from the first to the second moments and
/// have it for 20, and somebody saw process 1 wait.
fn verdict(ones: &[(u64, u64)], twos: (u64, u64), look: (u64, u64)) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder");
    let turns = |waits: &[(u64, u64)]| {
        waits.iter().flat_map(|&(invoked, granted)| turn(invoked, granted, granted + 20)).collect::<Vec<_>>()
    };
    let mut logs = Vec::new();
    for (process, calls) in [turn(10, 20, 200).to_vec(), turns(ones), turns(&[twos])].into_iter().enumerate() {
        let calls = calls.into_iter().zip(0..).flat_map(|((invoked, returned, does), call)| {
            [(invoked, What::Invoke { call, does }), (returned, What::Return { call, answer: Answer::Ok })]
        });
        let open = (1, What::Open { open: 0, mount: 0, file: FILE });
        logs.push(write(folder.path(), process as u32, [open].into_iter().chain(calls)));
    }
    let (family, mode) = (Family::Posix, Mode::Write);
    let seen = What::Seen { until: look.1, pid: pid(1), file: FILE, family, mode, span: SPAN };
    logs.push(write(folder.path(), 3, [(look.0, seen)]));
    History::read(&logs).expect("logs").check(&Rules::default())
}

#[test]
fn who_was_seen_to_wait_and_is_granted_first_is_in_order() {
    let verdict = verdict(&[(100, 300)], (150, 400), (110, 140));
    assert!(verdict.holds(), "{:?}", verdict.violations);
    assert_eq!((verdict.figures.queued, verdict.figures.ordered), (1, 1));
}

#[test]
fn who_was_seen_to_wait_and_is_granted_after_one_that_began_later_was_overtaken() {
    let verdict = verdict(&[(100, 400)], (150, 300), (110, 140));
    let laws: Vec<Law> = verdict.violations.iter().map(|found| found.law).collect();
    assert_eq!((laws, verdict.figures.ordered), (vec![Law::L6], 1));
}

#[test]
fn who_began_during_the_look_may_have_come_first() {
    let verdict = verdict(&[(100, 400)], (130, 300), (110, 140));
    assert!(verdict.holds(), "{:?}", verdict.violations);
    assert_eq!((verdict.figures.queued, verdict.figures.ordered), (1, 0));
}

#[test]
fn a_wait_that_began_during_the_look_was_not_certainly_the_one_that_was_seen() {
    let verdict = verdict(&[(120, 400)], (150, 300), (110, 140));
    assert!(verdict.holds(), "{:?}", verdict.violations);
    assert_eq!((verdict.figures.queued, verdict.figures.ordered), (0, 0));
}

#[test]
fn of_two_waits_alike_during_one_look_neither_was_certainly_seen() {
    let verdict = verdict(&[(100, 210), (230, 400)], (260, 300), (110, 250));
    assert!(verdict.holds(), "{:?}", verdict.violations);
    assert_eq!((verdict.figures.queued, verdict.figures.ordered), (0, 0));
}
