//! What a process writes down of what it does with files and locks: one line of JSON for each thing, in a file of its own.
//!
//! A line goes to the file by one `write` with `O_APPEND`, that of a call before it is made, that of its answer after it
//! has come: `kill -9` loses nothing that was acknowledged, and a call is never outside the times that are logged for it.
//! Times are `CLOCK_MONOTONIC`, so those of all processes of a machine can be compared.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// What.
    pub is: What,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The first line of each log: whose it is. No two logs of a history have the same `process`.
    Start {
        /// Its number in the history.
        process: u32,
        /// Its number in the kernel.
        pid: u32,
    },
    /// The process has a file open.
    Open {
        /// The number of the open file in the process; each is used once.
        open: u32,
        /// Through which mount.
        mount: u32,
        /// Which file; the same number in all processes and through all mounts.
        file: u32,
    },
    /// A call is about to be made.
    Invoke {
        /// Its number in the process.
        call: u64,
        /// The call.
        does: Call,
    },
    /// The call has returned.
    Return {
        /// Its number.
        call: u64,
        /// What it returned.
        answer: Answer,
    },
    /// The process is about to end: what it still holds goes now. Nothing follows.
    End,
    /// A signal is about to be sent to a process, for which one call may return `EINTR`.
    Signal {
        /// To whom.
        process: u32,
    },
    /// A process is about to be killed: calls of it may never return.
    Kill {
        /// Whom.
        process: u32,
    },
    /// A process is no more; the kernel has closed its files.
    Reaped {
        /// Which.
        process: u32,
    },
    /// The call waits in the queue of its file since this moment at the latest.
    Queued {
        /// The process.
        process: u32,
        /// The number of its call.
        call: u64,
    },
    /// Between this moment and `until` a wait of this shape was seen in the queue of its file, at whoever keeps the locks.
    Seen {
        /// The end of the look.
        until: u64,
        /// Whose wait, as the kernel numbers processes.
        pid: u32,
        /// Which file.
        file: u32,
        /// Which family.
        family: Family,
        /// What is wanted.
        mode: Mode,
        /// Of which bytes.
        span: Span,
    },
    /// The queues of all files lost their order between this moment and `until`.
    Unordered {
        /// The end.
        until: u64,
    },
    /// What a cell of a file holds when everybody has ended.
    Cell {
        /// Which file.
        file: u32,
        /// Where the cell begins.
        at: u64,
        /// What it holds.
        token: u64,
        /// The tokens are numbers, each write one more than the one before: a counter.
        counts: bool,
    },
    /// All that was appended to a file, when everybody has ended.
    Appended {
        /// Which file.
        file: u32,
        /// In the order of the file.
        tokens: Vec<u64>,
    },
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Takes a lock: `F_SETLK`, `F_SETLKW` and their like.
    Lock {
        /// Through which open file.
        open: u32,
        /// For whom: a number of the process.
        owner: u32,
        /// In which family.
        family: Family,
        /// Shared or not.
        mode: Mode,
        /// Of which bytes.
        span: Span,
        /// Waits until it is granted.
        wait: bool,
    },
    /// Releases what the owner holds of these bytes.
    Unlock {
        /// Through which open file.
        open: u32,
        /// For whom.
        owner: u32,
        /// In which family.
        family: Family,
        /// Of which bytes.
        span: Span,
    },
    /// Asks whether the lock could be taken: `F_GETLK`.
    Test {
        /// Through which open file.
        open: u32,
        /// For whom.
        owner: u32,
        /// In which family.
        family: Family,
        /// Shared or not.
        mode: Mode,
        /// Of which bytes.
        span: Span,
    },
    /// Closes an open file, and so releases all that these owners hold of the file.
    Close {
        /// Which.
        open: u32,
        /// Whose locks go: with the return, when the owner is a process.
        owners: Vec<u32>,
        /// Whose locks go soon after the return: those of the open file itself, with `flock` and OFD locks.
        soon: Vec<u32>,
    },
    /// Reads the cell of 8 bytes at an offset.
    Read {
        /// Through which open file.
        open: u32,
        /// Under whose lock.
        owner: u32,
        /// Where the cell begins.
        at: u64,
    },
    /// Writes the cell of 8 bytes at an offset. No token is written twice to one cell.
    Write {
        /// Through which open file.
        open: u32,
        /// Under whose lock.
        owner: u32,
        /// Where the cell begins.
        at: u64,
        /// What; not 0, which is what a cell holds in the beginning.
        token: u64,
    },
    /// Appends a token to the file, and none twice.
    Append {
        /// Through which open file.
        open: u32,
        /// What.
        token: u64,
    },
}

impl Call {
    /// Through which open file it is made.
    #[must_use]
    pub fn open(&self) -> u32 {
        match self {
            Call::Lock { open, .. }
            | Call::Unlock { open, .. }
            | Call::Test { open, .. }
            | Call::Close { open, .. }
            | Call::Read { open, .. }
            | Call::Write { open, .. }
            | Call::Append { open, .. } => *open,
        }
    }
}

/// What a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done; a lock is granted.
    Ok,
    /// What was read.
    Token(u64),
    /// Nothing is in the way of a lock.
    Free,
    /// A lock is in the way.
    Held {
        /// Of whom, as the kernel numbers processes; -1 when it does not say.
        pid: i32,
        /// Shared or not.
        mode: Mode,
        /// Of which bytes.
        span: Span,
    },
    /// An error number.
    Failed(i32),
}

/// Locks of different families have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `fcntl`, of processes and of open files.
    Posix,
    /// `flock`.
    Flock,
}

/// How a lock tolerates others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Others may read, too.
    Read,
    /// Nobody else.
    Write,
}

impl Mode {
    /// Whether locks of these modes cannot be held at once by two owners.
    #[must_use]
    pub fn conflicts(self, other: Mode) -> bool {
        self == Mode::Write || other == Mode::Write
    }
}

/// Bytes from the first number to before the second; `u64::MAX` reaches past any growth. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span(pub u64, pub u64);

impl Span {
    /// Every byte.
    pub const ALL: Span = Span(0, u64::MAX);

    /// The bytes of the cell at an offset.
    #[must_use]
    pub fn cell(at: u64) -> Span {
        Span(at, at + CELL)
    }

    /// Whether both have a byte in common.
    #[must_use]
    pub fn overlaps(self, other: Span) -> bool {
        self.0 < other.1 && other.0 < self.1
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(self, other: Span) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }
}

/// Bytes of a cell.
pub const CELL: u64 = 8;

/// Now, as logs count time.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock counts from the start of the machine.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The log that a process writes; its threads share it.
#[derive(Debug)]
pub struct Log {
    file: File,
    calls: AtomicU64,
}

impl Log {
    /// A new log of this process, which is `process` in the history.
    ///
    /// # Errors
    /// What the file system says; `EEXIST` when there is one already.
    pub fn create(path: &Path, process: u32) -> io::Result<Log> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        let log = Log { file, calls: AtomicU64::new(0) };
        log.note(What::Start { process, pid: std::process::id() })?;
        Ok(log)
    }

    /// Makes the call `does` and logs it before and after.
    ///
    /// # Errors
    /// What the file system of the log says; the call may have been made.
    pub fn call(&self, does: Call, make: impl FnOnce() -> Answer) -> io::Result<Answer> {
        let call = self.begin(does)?;
        let answer = make();
        self.end(call, answer)?;
        Ok(answer)
    }

    /// Logs that `does` is about to be made, and answers with the number of the call.
    ///
    /// # Errors
    /// What the file system of the log says.
    pub fn begin(&self, does: Call) -> io::Result<u64> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.note(What::Invoke { call, does })?;
        Ok(call)
    }

    /// Logs that a call has returned.
    ///
    /// # Errors
    /// What the file system of the log says.
    pub fn end(&self, call: u64, answer: Answer) -> io::Result<()> {
        self.note(What::Return { call, answer })
    }

    /// Logs `what` as happening now: what is about to happen is logged before, what has happened after.
    ///
    /// # Errors
    /// What the file system of the log says.
    pub fn note(&self, what: What) -> io::Result<()> {
        self.note_at(now(), what)
    }

    /// Logs `what` as happening at `at`.
    ///
    /// # Errors
    /// What the file system of the log says.
    pub fn note_at(&self, at: u64, what: What) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { at, is: what })?;
        line.push(b'\n');
        (&self.file).write_all(&line)
    }
}
