//! What the tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use brickwork_journal::{Appended, Journal, Limits, Mode, Opened};

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Segments that fill quickly.
pub fn small() -> Limits {
    Limits { segment_bytes: 16 << 10, overflow_segments: 2, ..Limits::default() }
}

pub fn open(folder: &Path, mode: Mode) -> Opened {
    Journal::open(folder, mode, small()).unwrap()
}

pub fn append(journal: &Journal, record: &[u8]) -> u64 {
    let Appended { sequence, .. } = journal.append(record).unwrap();
    sequence
}

pub fn rotate(journal: &Journal, snapshot: &[&[u8]]) {
    journal.rotate(|out| snapshot.iter().try_for_each(|record| out.write(record))).unwrap();
}

pub fn records(opened: &Opened) -> Vec<Vec<u8>> {
    opened.records.iter().map(<[u8]>::to_vec).collect()
}

/// The names of the segments, valid or not, ascending.
pub fn segments(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name.starts_with("segment")).collect();
    names.sort();
    names
}

pub fn segment_paths(folder: &Path) -> Vec<PathBuf> {
    segments(folder).iter().map(|name| folder.join(name)).collect()
}

pub fn truncate(file: &Path, bytes: u64) {
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

/// `full` sizes are those that the issue names.
pub fn rounds(few: usize, full: usize) -> usize {
    if std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full") { full } else { few }
}

/// Repeatable randomness; prints its seed, which `BRICKWORK_SEED` sets.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("BRICKWORK_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        println!("seed: {seed}");
        Self(seed)
    }

    /// A number less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
