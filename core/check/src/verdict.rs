//! What is found in a history.

use std::fmt::{self, Write};

use crate::history::History;
use crate::log::{Answer, Call};

/// What is asked of a history beside the laws themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Locks may be lost, as long as their owners are told by `EIO`: clients were away for longer than their locks are
    /// protected, or somebody took the locks away. Without this, `EIO` is a violation by itself.
    pub losses: bool,
    /// How long after an open file was closed, its process was gone, or a wait was interrupted, locks of it may still be in
    /// the way of others, in nanoseconds. Nobody waits for whoever keeps the locks to hear of these.
    pub settle: u64,
}

impl Default for Rules {
    /// No losses, and five seconds.
    fn default() -> Rules {
        Rules { losses: false, settle: 5_000_000_000 }
    }
}

/// What must always hold of locks: `locks.md`, section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// No two owners hold conflicting locks at any instant.
    L1,
    /// What is held stays held until its owner releases it or is told, and what nobody holds is in nobody's way.
    L2,
    /// Who lost a lock is told before acting on the belief: what is read under a lock is what was written last.
    L3,
    /// What was acknowledged once has happened once.
    L4,
    /// Every call is answered, once, and with what it can be answered.
    L5,
    /// Waits of one file are granted in the order of their queue.
    L6,
}

/// A part of a history that no keeper of these laws can have brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// When it shows.
    pub at: u64,
    /// In a sentence.
    pub why: String,
    /// The operations that prove it: places in [`History::operations`].
    pub operations: Vec<usize>,
}

/// How much a verdict is worth: what there was to be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Processes.
    pub processes: usize,
    /// Processes that were killed.
    pub killed: usize,
    /// Calls.
    pub calls: usize,
    /// Locks that were granted.
    pub grants: usize,
    /// Of those, after a wait that others would have to respect.
    pub queued: usize,
    /// Pairs of waits that conflict, of which one was seen in the queue before the other began: their order was checked.
    pub ordered: usize,
    /// Locks that were refused because of others.
    pub refused: usize,
    /// Waits that ended with `EINTR`.
    pub interrupted: usize,
    /// Waits that would have closed a cycle.
    pub deadlocks: usize,
    /// Answers to whether a lock could be taken.
    pub tests: usize,
    /// Stretches of time and bytes that were certainly held.
    pub holds: usize,
    /// Reads under a lock.
    pub reads: usize,
    /// Writes.
    pub writes: usize,
    /// Appends.
    pub appends: usize,
    /// Open files that were told of a lost lock.
    pub told: usize,
}

/// What [`History::check`] finds.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// In the order of time.
    pub violations: Vec<Violation>,
    /// What there was to be checked.
    pub figures: Figures,
}

// As Linux counts them; the logs come from there.
pub(crate) const EINTR: i32 = 4;
pub(crate) const EIO: i32 = 5;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EDEADLK: i32 = 35;

/// Violations that a report shows.
const SHOWN: usize = 20;
/// Operations of the same file that a report shows around each.
const AROUND: usize = 12;

impl Verdict {
    /// Whether nothing was found.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// The violations for people, with what happened around them, and the figures.
    #[must_use]
    pub fn report(&self, history: &History) -> String {
        let mut out = String::new();
        self.write(history, &mut out).expect("a string takes everything");
        out
    }

    fn write(&self, history: &History, out: &mut String) -> fmt::Result {
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(out, "{:?} violated at {}: {}", violation.law, seconds(violation.at), violation.why)?;
            for &operation in &violation.operations {
                writeln!(out, "  > {}", describe(history, operation))?;
            }
            for operation in around(history, violation) {
                writeln!(out, "    {}", describe(history, operation))?;
            }
        }
        if self.violations.len() > SHOWN {
            writeln!(out, "... and {} more", self.violations.len() - SHOWN)?;
        }
        let Figures { processes, killed, calls, grants, queued, refused, interrupted, deadlocks, tests, .. } =
            self.figures;
        let Figures { ordered, holds, reads, writes, appends, told, .. } = self.figures;
        writeln!(out, "{processes} processes ({killed} killed), {calls} calls, {holds} holds")?;
        writeln!(
            out,
            "locks: {grants} granted ({queued} with a known place, {ordered} times before another one), {refused} refused,"
        )?;
        writeln!(out, "       {interrupted} interrupted, {deadlocks} deadlocks, {tests} tests, {told} told of a loss")?;
        writeln!(out, "data:  {reads} reads under a lock, {writes} writes, {appends} appends")?;
        writeln!(out, "{} violations", self.violations.len())
    }
}

/// Operations of the file of a violation that were under way nearest to it, in the order of time.
fn around(history: &History, violation: &Violation) -> Vec<usize> {
    let Some(file) = violation.operations.first().map(|&operation| history.operations[operation].file) else {
        return Vec::new();
    };
    let middle = history.operations.partition_point(|operation| operation.invoked < violation.at);
    let of_file =
        |operation: &usize| history.operations[*operation].file == file && !violation.operations.contains(operation);
    let mut near: Vec<usize> = (0..middle).rev().filter(of_file).take(AROUND * 2 / 3).collect();
    near.reverse();
    near.extend((middle..history.operations.len()).filter(of_file).take(AROUND / 3));
    near
}

/// An operation in a line.
fn describe(history: &History, place: usize) -> String {
    let operation = &history.operations[place];
    let process = &history.processes[operation.process];
    let (number, file, mount) = (process.number, operation.file, operation.mount);
    let answer = match operation.returned {
        None => "never returned".to_owned(),
        Some((at, answer)) => format!("{}: {}", seconds(at), answered(answer)),
    };
    let does = called(&operation.does);
    format!(
        "process {number} mount {mount} file {file}, call {}: {}: {does} -> {answer}",
        operation.call,
        seconds(operation.invoked)
    )
}

fn called(call: &Call) -> String {
    match call {
        Call::Lock { owner, family, mode, span, wait, .. } => {
            let verb = if *wait { "wait for" } else { "try" };
            format!("{verb} {family:?} {mode:?} {}..{} as {owner}", span.0, end(span.1))
        }
        Call::Unlock { owner, family, span, .. } => {
            format!("unlock {family:?} {}..{} as {owner}", span.0, end(span.1))
        }
        Call::Test { owner, family, mode, span, .. } => {
            format!("test {family:?} {mode:?} {}..{} as {owner}", span.0, end(span.1))
        }
        Call::Close { open, owners, soon } => format!("close {open} of {owners:?} and {soon:?}"),
        Call::Read { owner, at, .. } => format!("read at {at} as {owner}"),
        Call::Write { owner, at, token, .. } => format!("write {token:#x} at {at} as {owner}"),
        Call::Append { token, .. } => format!("append {token:#x}"),
    }
}

fn answered(answer: Answer) -> String {
    match answer {
        Answer::Ok => "ok".to_owned(),
        Answer::Token(token) => format!("{token:#x}"),
        Answer::Free => "free".to_owned(),
        Answer::Held { pid, mode, span } => format!("{mode:?} {}..{} of pid {pid}", span.0, end(span.1)),
        Answer::Failed(number) => std::io::Error::from_raw_os_error(number).to_string(),
    }
}

fn end(end: u64) -> String {
    if end == u64::MAX { "EOF".to_owned() } else { end.to_string() }
}

/// A time in seconds.
pub(crate) fn seconds(at: u64) -> String {
    if at == u64::MAX {
        return "the end".to_owned();
    }
    format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
}
