//! L5: every call is answered, once, and with what it can be answered.

use crate::history::{History, Operation};
use crate::log::{Answer, Call, Family, What};
use crate::verdict::{EACCES, EAGAIN, EDEADLK, EINTR, EIO, Law, Rules, Violation};

/// Checks the answers of all operations.
pub(crate) fn check(history: &History, rules: &Rules) -> Vec<Violation> {
    let violation =
        |operation: usize, at, why: String| Violation { law: Law::L5, at, why, operations: vec![operation] };
    let mut violations = Vec::new();
    for &(place, at) in &history.answered_again {
        violations.push(violation(place, at, "a call returned a second time".to_owned()));
    }
    for (place, operation) in history.operations.iter().enumerate() {
        match operation.returned {
            None if history.processes[operation.process].killed => (),
            None => violations.push(violation(place, operation.invoked, "a call never returned".to_owned())),
            Some((at, Answer::Failed(number))) if !expected(operation, number, rules) => {
                let error = std::io::Error::from_raw_os_error(number);
                let mut unexpected = violation(place, at, format!("a call cannot fail with: {error}"));
                if number == EIO {
                    unexpected.law = Law::L2;
                    unexpected.why = "a lock is lost, which nothing took from its owner".to_owned();
                }
                violations.push(unexpected);
            }
            Some(_) => (),
        }
    }
    violations.extend(history.processes.iter().filter(|process| !process.killed && !process.ended).map(|process| {
        let why = format!("process {} ended without saying so", process.number);
        Violation { law: Law::L5, at: process.alive_until, why, operations: Vec::new() }
    }));
    violations.extend(uncalled_for(history));
    violations
}

fn expected(operation: &Operation, number: i32, rules: &Rules) -> bool {
    match (&operation.does, number) {
        (_, EIO) => rules.losses,
        (Call::Lock { wait: false, .. }, EAGAIN | EACCES) => true,
        (Call::Lock { wait: true, family: Family::Posix, .. }, EDEADLK) => true,
        // For each there is a signal: see below.
        (_, EINTR) => true,
        _ => false,
    }
}

/// A signal interrupts one call at most.
fn uncalled_for(history: &History) -> Vec<Violation> {
    let mut signals: Vec<Vec<u64>> = vec![Vec::new(); history.processes.len()];
    for note in &history.notes {
        let What::Signal { process } = note.is else { continue };
        if let Some(place) = history.process(process) {
            signals[place].push(note.at);
        }
    }
    let interrupted = |operation: &Operation| operation.answer() == Some(Answer::Failed(EINTR));
    let mut interrupted: Vec<usize> =
        (0..history.operations.len()).filter(|&place| interrupted(&history.operations[place])).collect();
    interrupted.sort_by_key(|&place| history.operations[place].ended());
    let mut counts = vec![0; history.processes.len()];
    let mut violations = Vec::new();
    for place in interrupted {
        let operation = &history.operations[place];
        counts[operation.process] += 1;
        let sent = signals[operation.process].partition_point(|&at| at < operation.ended());
        if sent < counts[operation.process] {
            violations.push(Violation {
                law: Law::L5,
                at: operation.ended(),
                why: format!("{} calls were interrupted by {sent} signals", counts[operation.process]),
                operations: vec![place],
            });
        }
    }
    violations
}
