//! Processes that lock, write and read through mounts, and log what they do: the load of tests, and their witnesses.
//!
//! A locker is this very test binary, started again for the one test in `locker/worker.rs`. It works until its stdin ends, so none
//! outlives its test. Works on any folder: what a local file system does with locks passes the checker, too.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use brickwork_check::history::History;
use brickwork_check::log::{CELL, Log, What, now};
use brickwork_check::verdict::{Figures, Rules};
use serde::{Deserialize, Serialize};

use crate::common::until;

mod sys;
mod worker;

/// Tells a process of this binary that it is a locker: [`Orders`] as JSON.
const ORDERS: &str = "BRICKWORK_LOCKER";
/// Cells of each file; the rest of it is locked, too, but not written.
const CELLS: u64 = 16;
/// The number of the test itself in histories.
const OBSERVER: u32 = u32::MAX;

/// What lockers do, and how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// What each thread does.
    pub work: Work,
    /// Processes; the first works on the first mount, the second on the second, and so on.
    pub processes: u32,
    /// Threads of each, which are owners of their own.
    pub threads: u32,
    /// Files that they share.
    pub files: u32,
    /// Threads are sent signals, which end waits.
    pub signals: bool,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Increments a counter under an exclusive lock that it waits for: lock, read, write, unlock.
    Counters,
    /// Waits for shared and exclusive locks, which it holds for a while: there are queues to be seen.
    Queues,
    /// Takes and releases, tries and waits for locks of all kinds, reads and writes under them, and appends.
    Random,
}

impl Load {
    /// 8 processes on 4 counters.
    pub fn counters() -> Load {
        Load { work: Work::Counters, processes: 8, threads: 1, files: 4, signals: false }
    }

    /// 8 processes, each with one wait at a time, on 2 files.
    pub fn queues() -> Load {
        Load { work: Work::Queues, processes: 8, threads: 1, files: 2, signals: false }
    }

    /// 4 processes with 2 threads each on 6 files: 2 with fcntl locks, 2 with OFD locks, 2 with flock.
    pub fn random() -> Load {
        Load { work: Work::Random, processes: 4, threads: 2, files: 6, signals: false }
    }

    /// The same with signals.
    pub fn interrupted(self) -> Load {
        Load { signals: true, ..self }
    }
}

/// What a locker is told at its start.
#[derive(Serialize, Deserialize)]
struct Orders {
    process: u32,
    seed: u64,
    /// The folder with the files, through its mount.
    folder: PathBuf,
    mount: u32,
    log: PathBuf,
    load: Load,
}

/// Lockers at work; those that are left are killed when this is dropped.
pub struct Lockers {
    logs: tempfile::TempDir,
    /// The folder they work in, through each mount.
    folders: Vec<PathBuf>,
    load: Load,
    seed: u64,
    observer: Log,
    running: Vec<Locker>,
    /// What was read of each log until now: bytes and lines.
    read: Vec<(u64, usize)>,
}

struct Locker {
    process: u32,
    child: Child,
    /// Its end ends the process.
    orders: Option<ChildStdin>,
}

/// Lines of calls that a test waits for at once.
const CALLS_IN_TIME: usize = 10_000;

impl Lockers {
    /// Makes a folder with files on the first of `mounts`, which all show the same, and starts lockers on it.
    pub fn start(mounts: &[&Path], seed: u64, load: Load) -> Lockers {
        assert!(load.work != Work::Random || load.files.is_multiple_of(3), "there are three kinds of locks");
        let logs = tempfile::tempdir().expect("a folder for the logs");
        let made = tempfile::Builder::new().prefix("lockers-").tempdir_in(mounts[0]).expect("a folder on the mount");
        // It goes with the mount's test, which may have ended the mount before this is dropped.
        let name = made.keep().file_name().expect("a name").to_owned();
        let folders: Vec<PathBuf> = mounts.iter().map(|mount| mount.join(&name)).collect();
        for file in 0..load.files {
            fs::write(folders[0].join(cells_name(file)), [0; (CELLS * CELL) as usize]).expect("a file of cells");
            fs::write(folders[0].join(records_name(file)), "").expect("a file of records");
        }
        let observer = Log::create(&log_path(logs.path(), OBSERVER), OBSERVER).expect("a log");
        let processes = load.processes;
        let mut lockers = Lockers { logs, folders, load, seed, observer, running: Vec::new(), read: Vec::new() };
        (0..processes).for_each(|_| lockers.start_one());
        lockers
    }

    /// Starts one more; its number is one more than that of the last.
    pub fn start_one(&mut self) {
        let process = self.started();
        self.read.push((0, 0));
        let mount = process as usize % self.folders.len();
        let orders = Orders {
            process,
            seed: self.seed.wrapping_add(u64::from(process).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            folder: self.folders[mount].clone(),
            mount: mount as u32,
            log: log_path(self.logs.path(), process),
            load: self.load.clone(),
        };
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args([
            "--exact",
            "locker::worker::a_process_that_locks",
            "--ignored",
            "--test-threads=1",
            "--nocapture",
        ]);
        command.env(ORDERS, serde_json::to_string(&orders).expect("JSON"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a locker");
        let orders = child.stdin.take();
        self.running.push(Locker { process, child, orders });
    }

    fn started(&self) -> u32 {
        self.read.len() as u32
    }

    /// The numbers of those that run.
    pub fn running(&self) -> Vec<u32> {
        self.running.iter().map(|locker| locker.process).collect()
    }

    /// Kills one with SIGKILL and waits until it is gone.
    pub fn kill(&mut self, process: u32) {
        let place = self.running.iter().position(|locker| locker.process == process).expect("it runs");
        self.note(What::Kill { process });
        let mut locker = self.running.swap_remove(place);
        locker.child.kill().expect("a child");
        locker.child.wait().expect("a child");
        self.note(What::Reaped { process });
    }

    /// Logs what the test knows: see [`What`].
    pub fn note(&self, what: What) {
        self.observer.note(what).expect("the log");
    }

    /// Logs what began at `at`.
    pub fn note_at(&self, at: u64, what: What) {
        self.observer.note_at(at, what).expect("the log");
    }

    /// Which of their files is at `path` in the volume: the number of one with cells.
    pub fn file_at(&self, path: &str) -> Option<u32> {
        let folder = Path::new("/").join(self.folders[0].file_name()?);
        (0..self.load.files).find(|&file| folder.join(cells_name(file)) == Path::new(path))
    }

    /// Lines that all have logged until now; each call makes two.
    fn lines(&mut self) -> usize {
        for (process, (offset, lines)) in self.read.iter_mut().enumerate() {
            // A locker that has just been started has no log yet.
            let Ok(mut log) = File::open(log_path(self.logs.path(), process as u32)) else { continue };
            log.seek(SeekFrom::Start(*offset)).expect("seek");
            let mut more = Vec::new();
            log.read_to_end(&mut more).expect("read a log");
            *offset += more.len() as u64;
            *lines += more.iter().filter(|&&byte| byte == b'\n').count();
        }
        self.read.iter().map(|(_, lines)| lines).sum()
    }

    /// Waits until `calls` more calls have been made, of all lockers together.
    #[track_caller]
    pub fn wait_for_calls(&mut self, calls: usize) {
        let mut lines = self.lines();
        let enough = lines + 2 * calls;
        // Each part in time: how long all of them take is the machine's affair.
        while lines < enough {
            lines = (lines + CALLS_IN_TIME).min(enough);
            until("the lockers go on", || (self.lines() >= lines).then_some(()));
        }
    }

    /// Lets all end, waits for them, looks at what they leave in the files, and returns what all have told.
    ///
    /// Who does not end in time is killed: a call that never returned is then in the history.
    pub fn stop(mut self) -> History {
        self.end();
        self.history()
    }

    /// Ends as [`Lockers::stop`] does, and fails with all that is unlawful in what they tell; their logs are then kept.
    /// Returns what there was to be checked.
    #[track_caller]
    pub fn expect_lawful(mut self, rules: &Rules) -> Figures {
        self.end();
        crate::history::expect_lawful(&self.history(), rules)
    }

    fn end(&mut self) {
        for locker in &mut self.running {
            drop(locker.orders.take());
        }
        let mut failed = Vec::new();
        for mut locker in std::mem::take(&mut self.running) {
            let Some(status) = in_time(&mut locker.child) else {
                eprintln!("locker {} does not end; it is killed", locker.process);
                locker.child.kill().expect("a child");
                locker.child.wait().expect("a child");
                continue;
            };
            if !status.success() {
                failed.push((locker.process, status));
            }
            self.note(What::Reaped { process: locker.process });
        }
        assert!(failed.is_empty(), "lockers that ended otherwise than they were told to: {failed:?}");
        self.look();
        self.note(What::End);
    }

    /// What all have told, once they have ended.
    fn history(&self) -> History {
        let numbers = (0..self.started()).chain([OBSERVER]);
        let logs: Vec<PathBuf> = numbers.map(|process| log_path(self.logs.path(), process)).collect();
        // One that was killed at once has told nothing.
        let logs: Vec<&PathBuf> = logs.iter().filter(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0)).collect();
        History::read(&logs).expect("logs that were written as they are to be")
    }

    /// Logs what the files hold, by way of the last mount.
    fn look(&self) {
        let folder = self.folders.last().expect("a mount");
        for file in 0..self.load.files {
            let cells = File::open(folder.join(cells_name(file))).expect("open the cells");
            for at in (0..CELLS).map(|cell| cell * CELL) {
                let mut token = [0; CELL as usize];
                cells.read_exact_at(&mut token, at).expect("read a cell");
                let counts = self.load.work == Work::Counters;
                self.note(What::Cell { file, at, token: u64::from_le_bytes(token), counts });
            }
            let records = fs::read(folder.join(records_name(file))).expect("read the records");
            let (tokens, rest) = records.as_chunks();
            assert!(rest.is_empty(), "an append was torn");
            let tokens = tokens.iter().map(|token| u64::from_le_bytes(*token)).collect();
            self.note(What::Appended { file: self.load.files + file, tokens });
        }
    }
}

impl Drop for Lockers {
    fn drop(&mut self) {
        for locker in &mut self.running {
            // It may have ended by itself, and is in any case no more after this.
            let _ = locker.child.kill();
            let _ = locker.child.wait();
        }
        if std::thread::panicking() {
            let kept = std::mem::replace(&mut self.logs, tempfile::tempdir().expect("a folder")).keep();
            eprintln!("the logs of the lockers are kept in {}, seen at {}", kept.display(), now());
        }
    }
}

/// The status of a process that ends in time.
fn in_time(child: &mut Child) -> Option<std::process::ExitStatus> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < END_PATIENCE {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status);
        }
        // Not to wait for anything: to leave the processor to who is waited for.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    None
}

/// How long a locker may take to end: as long as its last wait.
const END_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn log_path(folder: &Path, process: u32) -> PathBuf {
    folder.join(if process == OBSERVER { "observer".to_owned() } else { format!("locker-{process}") })
}

fn cells_name(file: u32) -> String {
    format!("cells-{file}")
}

fn records_name(file: u32) -> String {
    format!("records-{file}")
}
