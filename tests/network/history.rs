//! What clients did and were told, in an order that can be trusted.
//!
//! A clock of ticks stands for time: what ended before another began has lower ticks, whatever threads they ran on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives out ticks.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// The next tick.
    pub fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// An inode's number: the identity of a file, wherever it is renamed to.
pub type Identity = u64;

/// One operation on a name, in a folder that the history belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `open` with O_CREAT and O_EXCL; answers with the new file's identity.
    Create(String),
    /// `mkdir`.
    Mkdir(String),
    /// `unlink`.
    Unlink(String),
    /// `rmdir`.
    Rmdir(String),
    /// `rename` within the folder; the target is replaced.
    Rename(String, String),
    /// `link` of the first as the second.
    Link(String, String),
    /// Writes this number as the whole content of a file and syncs it.
    Write(String, u64),
    /// `lstat`; answers with what is there.
    Look(String),
    /// `rename` of a file that only this worker knows onto a name; it has this identity.
    Put(String, Identity),
    /// `rename` of a name to one that only this worker knows; answers with what was taken.
    Take(String),
}

/// What an operation answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is done, and this is the file that was met.
    File(Identity),
    /// It is done, and a directory was met.
    Directory,
    /// The error number.
    Failed(i32),
}

/// An operation with its outcome and the ticks between which it happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who.
    pub worker: usize,
    /// What.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
    /// A tick before the call.
    pub invoked: u64,
    /// A tick after it.
    pub returned: u64,
}

/// An entry that no execution of each operation exactly once can explain.
#[derive(Debug)]
pub struct Violation(pub String);

/// Fails with all `violations`, at most a screenful of them.
#[track_caller]
pub fn expect_none(what: &str, violations: &[Violation]) {
    let shown: Vec<&str> = violations.iter().take(20).map(|violation| violation.0.as_str()).collect();
    assert!(violations.is_empty(), "{what}: {} violations, the first:\n{}", violations.len(), shown.join("\n"));
}
