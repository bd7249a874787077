#![doc = include_str!("../README.md")]

mod answers;
mod data;
mod exclusion;
pub mod history;
mod holds;
pub mod log;
mod queue;
mod spans;
pub mod verdict;

use history::History;
use log::{Answer, Call};
use verdict::{EACCES, EAGAIN, EDEADLK, EINTR, Figures, Rules, Verdict};

impl History {
    /// Looks for what contradicts the laws of locks.
    #[must_use]
    pub fn check(&self, rules: &Rules) -> Verdict {
        let holds = holds::find(self, rules);
        let mut violations = exclusion::check(self, &holds);
        violations.extend(answers::check(self, rules));
        violations.extend(data::check(self, &holds));
        let queue::Order { violations: overtaken, known, compared } = queue::check(self, &holds);
        violations.extend(overtaken);
        violations.sort_by_key(|violation| (violation.at, violation.law));
        Verdict { violations, figures: Figures { queued: known, ordered: compared, ..figures(self, &holds) } }
    }
}

/// Those that no law has to be checked for; L6 brings its own.
fn figures(history: &History, holds: &holds::Holds) -> Figures {
    let count = |wanted: fn(&Call, Option<Answer>) -> bool| {
        history.operations.iter().filter(|operation| wanted(&operation.does, operation.answer())).count()
    };
    let reads = |place: &usize| holds.covered[*place] && matches!(history.operations[*place].does, Call::Read { .. });
    Figures {
        processes: history.processes.len(),
        killed: history.processes.iter().filter(|process| process.killed).count(),
        calls: history.operations.len(),
        grants: count(|does, answer| matches!((does, answer), (Call::Lock { .. }, Some(Answer::Ok)))),
        refused: count(|does, answer| {
            matches!((does, answer), (Call::Lock { .. }, Some(Answer::Failed(EAGAIN | EACCES))))
        }),
        interrupted: count(|_, answer| answer == Some(Answer::Failed(EINTR))),
        deadlocks: count(|_, answer| answer == Some(Answer::Failed(EDEADLK))),
        tests: count(|does, answer| {
            matches!((does, answer), (Call::Test { .. }, Some(Answer::Free | Answer::Held { .. })))
        }),
        holds: holds.sure.len(),
        reads: (0..history.operations.len()).filter(reads).count(),
        writes: count(|does, _| matches!(does, Call::Write { .. })),
        appends: count(|does, _| matches!(does, Call::Append { .. })),
        told: holds.told.len(),
        ..Figures::default()
    }
}
