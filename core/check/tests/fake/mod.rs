//! A brick of one mutex, with bugs that can be switched on, and clients that log what it answers.

mod brick;
mod client;

pub use brick::{Brick, Bug};

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brickwork_check::history::History;
use brickwork_check::log::{Log, What};

/// Clients that work on it at once; one of them is killed.
const CLIENTS: u32 = 6;
/// Files they share.
const FILES: u32 = 2;
/// The number of whoever sends signals, cuts connections and looks at the end.
const OBSERVER: u32 = 99;

/// xorshift64: the same seed, the same numbers.
pub struct Random(u64);

impl Random {
    pub fn from_seed(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The logs of a run; they go with it.
pub struct Run {
    folder: tempfile::TempDir,
    /// How often the bug showed itself.
    pub struck: usize,
}

impl Run {
    /// Lets clients do `calls` things each on a fresh brick with `bug`.
    pub fn of(bug: Bug, seed: u64, calls: usize) -> Run {
        let folder = tempfile::tempdir().expect("a folder for logs");
        let brick = Brick::new(bug, seed);
        let observer = Log::create(&folder.path().join("observer"), OBSERVER).expect("a log");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|process| {
                    let log = Log::create(&folder.path().join(process.to_string()), process).expect("a log");
                    let (brick, observer) = (&brick, &observer);
                    scope.spawn(move || client::work(brick, log, observer, process, seed, calls))
                })
                .collect();
            let disturber = scope.spawn(|| disturb(&brick, &observer, seed, &over));
            // A wait that was forgotten ends when nobody else is left to end it.
            brick.wait_until_only_forgotten_are_left(CLIENTS as usize);
            clients.into_iter().for_each(|client| client.join().expect("a client"));
            over.store(true, Ordering::SeqCst);
            disturber.join().expect("the disturber");
        });
        brick.look(FILES, &observer);
        observer.note(What::End).expect("the log");
        drop(observer);
        Run { folder, struck: brick.struck() }
    }

    /// The logs.
    pub fn logs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).expect("list");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    pub fn history(&self) -> History {
        History::read(&self.logs()).expect("whole logs")
    }
}

/// Sends signals and cuts connections until it is over.
fn disturb(brick: &Brick, observer: &Log, seed: u64, over: &AtomicBool) {
    let mut random = Random::from_seed(seed ^ 0xd157);
    while !over.load(Ordering::SeqCst) {
        let process = random.below(CLIENTS.into()) as u32;
        if random.below(2) == 0 {
            observer.note(What::Signal { process }).expect("the log");
            brick.interrupt(process);
        } else {
            brick.cut(process);
        }
        // The pace of the disturbances; nothing waits for it.
        std::thread::sleep(Duration::from_micros(random.below(400)));
    }
}
