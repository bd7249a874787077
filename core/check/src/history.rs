//! The logs of all processes, read and put together: operations with the times between which they happened.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::log::{Answer, Call, Line, What};

/// What several processes did, as they tell it themselves.
#[derive(Debug, Default)]
pub struct History {
    /// In the order of their logs.
    pub processes: Vec<Process>,
    /// In the order of their beginning.
    pub operations: Vec<Operation>,
    /// What was told beside calls, in the order of time, with the log's process.
    pub notes: Vec<Line>,
    /// Answers that came twice: the operation and when.
    pub answered_again: Vec<(usize, u64)>,
}

/// A process, and how it ended.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number in the history.
    pub number: u32,
    /// Its number in the kernel.
    pub pid: u32,
    /// It certainly lived until here.
    pub alive_until: u64,
    /// It was certainly gone from here on.
    pub gone_by: Option<u64>,
    /// It was killed: what it had begun may have happened or not.
    pub killed: bool,
    /// It ended by itself, and said so.
    pub ended: bool,
}

/// A call, from before it was made to after it returned.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its process: a place in [`History::processes`].
    pub process: usize,
    /// Its number in the process.
    pub call: u64,
    /// Through which mount.
    pub mount: u32,
    /// On which file.
    pub file: u32,
    /// What.
    pub does: Call,
    /// A moment before it.
    pub invoked: u64,
    /// A moment after it, and what it returned; `None` when it never did.
    pub returned: Option<(u64, Answer)>,
}

impl Operation {
    /// What it returned.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        self.returned.map(|(_, answer)| answer)
    }

    /// When it returned with success.
    #[must_use]
    pub fn done(&self) -> Option<u64> {
        self.returned.filter(|(_, answer)| !matches!(answer, Answer::Failed(_))).map(|(at, _)| at)
    }

    /// When it returned; never is the end of time.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.returned.map_or(u64::MAX, |(at, _)| at)
    }
}

/// Logs that no process can have written so.
#[derive(Debug)]
pub enum Malformed {
    /// The log cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A line of the log (counted from 1) says what cannot be.
    Line(PathBuf, usize, String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Unreadable(path, error) => write!(out, "{}: {error}", path.display()),
            Malformed::Line(path, line, why) => write!(out, "{}:{line}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Malformed {}

impl History {
    /// Reads `logs`, one for each process.
    ///
    /// The last line of a log may be cut off: its process was killed while it wrote it, and what the line would have
    /// said is then not known.
    ///
    /// # Errors
    /// A log that cannot be read, or that says what cannot be.
    pub fn read<P: AsRef<Path>>(logs: &[P]) -> Result<History, Malformed> {
        let mut history = History::default();
        for log in logs {
            Reader::read(&mut history, log.as_ref())?;
        }
        history.resolve_endings();
        history.sort();
        Ok(history)
    }

    /// The place of process `number` in [`History::processes`].
    #[must_use]
    pub fn process(&self, number: u32) -> Option<usize> {
        self.processes.iter().position(|process| process.number == number)
    }

    /// What others tell of the end of processes.
    fn resolve_endings(&mut self) {
        let places: HashMap<u32, usize> =
            self.processes.iter().enumerate().map(|(place, process)| (process.number, place)).collect();
        for note in &self.notes {
            match note.is {
                What::Kill { process } => {
                    if let Some(process) = places.get(&process).map(|&place| &mut self.processes[place]) {
                        process.killed = true;
                        process.alive_until = process.alive_until.max(note.at);
                    }
                }
                What::Reaped { process } => {
                    if let Some(process) = places.get(&process).map(|&place| &mut self.processes[place]) {
                        process.gone_by = Some(note.at);
                    }
                }
                _ => (),
            }
        }
    }

    /// Lines of several threads come to a log in another order than their times have.
    fn sort(&mut self) {
        self.notes.sort_by_key(|note| note.at);
        let mut order: Vec<usize> = (0..self.operations.len()).collect();
        order.sort_by_key(|&operation| self.operations[operation].invoked);
        let mut places = vec![0; order.len()];
        for (place, &operation) in order.iter().enumerate() {
            places[operation] = place;
        }
        for (operation, _) in &mut self.answered_again {
            *operation = places[*operation];
        }
        self.operations.sort_by_key(|operation| operation.invoked);
    }
}

/// Reads one log.
struct Reader<'a> {
    history: &'a mut History,
    /// Of the process, once the first line was read.
    process: Option<usize>,
    /// Mount and file of each open file.
    opens: HashMap<u32, (u32, u32)>,
    /// The operation of each call.
    calls: HashMap<u64, usize>,
}

impl<'a> Reader<'a> {
    fn read(history: &'a mut History, path: &'a Path) -> Result<(), Malformed> {
        let unreadable = |error| Malformed::Unreadable(path.to_owned(), error);
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(unreadable)?);
        let mut reader = Reader { history, process: None, opens: HashMap::new(), calls: HashMap::new() };
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
                break;
            }
            if bytes.pop() != Some(b'\n') {
                // The rest of this line was never written.
                break;
            }
            let malformed = |why: String| Malformed::Line(path.to_owned(), number, why);
            let line = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
            reader.take(line).map_err(malformed)?;
        }
        Ok(())
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        let Line { at, is } = line;
        let Some(place) = self.process else {
            let What::Start { process, pid } = is else { return Err("a log begins with `start`".to_owned()) };
            if self.history.process(process).is_some() {
                return Err(format!("process {process} has another log already"));
            }
            self.process = Some(self.history.processes.len());
            let process = Process { number: process, pid, alive_until: at, gone_by: None, killed: false, ended: false };
            self.history.processes.push(process);
            return Ok(());
        };
        let process = &mut self.history.processes[place];
        if process.ended {
            return Err(format!("something after the end of process {}", process.number));
        }
        process.alive_until = process.alive_until.max(at);
        match is {
            What::Start { .. } => return Err("a log begins once".to_owned()),
            What::End => process.ended = true,
            What::Open { open, mount, file } => {
                if self.opens.insert(open, (mount, file)).is_some() {
                    return Err(format!("open file {open} is opened twice"));
                }
            }
            What::Invoke { call, does } => self.invoke(place, at, call, does)?,
            What::Return { call, answer } => self.returns(at, call, answer)?,
            is => self.history.notes.push(Line { at, is }),
        }
        Ok(())
    }

    fn invoke(&mut self, process: usize, invoked: u64, call: u64, does: Call) -> Result<(), String> {
        let open = does.open();
        let &(mount, file) = self.opens.get(&open).ok_or_else(|| format!("nobody opened open file {open}"))?;
        if self.calls.insert(call, self.history.operations.len()).is_some() {
            return Err(format!("call {call} is made twice"));
        }
        self.history.operations.push(Operation { process, call, mount, file, does, invoked, returned: None });
        Ok(())
    }

    fn returns(&mut self, at: u64, call: u64, answer: Answer) -> Result<(), String> {
        let &place = self.calls.get(&call).ok_or_else(|| format!("call {call} returns without having been made"))?;
        let operation = &mut self.history.operations[place];
        if operation.returned.is_some() {
            self.history.answered_again.push((place, at));
        } else if at < operation.invoked {
            return Err(format!("call {call} returns before it was made"));
        } else {
            // A moment later than it was is as good a bound, and nothing then takes no time at all.
            operation.returned = Some((at.max(operation.invoked + 1), answer));
        }
        Ok(())
    }
}
