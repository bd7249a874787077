//! Creating, looking at, listing, renaming and removing files.
//!
//! Each thread works in a folder of its own; a step begins when all threads have ended the one before.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use crate::target::Target;

/// Listing is much faster than the rest, so it is done this often.
const LISTINGS: usize = 5;

type Step = (&'static str, usize, fn(&Path, usize) -> io::Result<()>);

/// The steps in order: name, how often each file is met, what is done for a folder of so many files.
const STEPS: [Step; 6] = [
    ("create", 1, create),
    ("stat", 1, stat),
    ("list", LISTINGS, list),
    ("list + stat", 1, list_and_stat),
    ("rename", 1, rename),
    ("unlink", 1, unlink),
];

/// All steps over `files` files by `threads` threads.
pub struct Job {
    files: usize,
    threads: usize,
}

impl Job {
    /// All jobs, in the order of the table.
    pub fn all(quick: bool) -> Vec<Self> {
        let files = if quick { 600 } else { 3000 };
        [1, 4].map(|threads| Self { files, threads }).into()
    }

    /// The names of its rows.
    pub fn titles(&self) -> Vec<String> {
        STEPS.iter().map(|(name, ..)| format!("{name} {} files x{}", self.files, self.threads)).collect()
    }

    /// Does it all; the rate of each step in files per second.
    ///
    /// # Errors
    /// Those of the first call that fails.
    pub fn run(&self, target: &Target) -> io::Result<Vec<f64>> {
        let share = self.files / self.threads;
        let folders: Vec<PathBuf> = (0..self.threads).map(|n| target.directory.join(format!("files-{n}"))).collect();
        folders.iter().try_for_each(fs::create_dir)?;
        let mut rates = Vec::new();
        for (_, times, step) in STEPS {
            let seconds = together(&folders, |folder| step(folder, share))?;
            rates.push((self.files * times) as f64 / seconds);
        }
        folders.iter().try_for_each(fs::remove_dir)?;
        Ok(rates)
    }
}

/// Runs `step` in every folder at once; the seconds from the first start to the last end.
fn together(folders: &[PathBuf], step: impl Fn(&Path) -> io::Result<()> + Sync) -> io::Result<f64> {
    let barrier = Barrier::new(folders.len());
    let timed = |folder: &PathBuf| {
        barrier.wait();
        let start = Instant::now();
        step(folder)?;
        Ok((start, Instant::now()))
    };
    let times = thread::scope(|scope| {
        let workers: Vec<_> = folders.iter().map(|folder| scope.spawn(|| timed(folder))).collect();
        workers.into_iter().map(join).collect::<io::Result<Vec<_>>>()
    })?;
    let start = times.iter().map(|(start, _)| *start).min();
    let end = times.iter().map(|(_, end)| *end).max();
    Ok(start.zip(end).map_or(0.0, |(start, end)| (end - start).as_secs_f64()))
}

fn join<T>(worker: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    worker.join().map_err(|_| io::Error::other("a worker panicked"))?
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("file-{number:05}"))
}

fn renamed(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("renamed-{number:05}"))
}

fn create(folder: &Path, files: usize) -> io::Result<()> {
    (0..files).try_for_each(|n| OpenOptions::new().write(true).create_new(true).open(file(folder, n)).map(drop))
}

fn stat(folder: &Path, files: usize) -> io::Result<()> {
    (0..files).try_for_each(|n| fs::symlink_metadata(file(folder, n)).map(drop))
}

fn list(folder: &Path, files: usize) -> io::Result<()> {
    (0..LISTINGS).try_for_each(|_| {
        let mut found = 0;
        for entry in fs::read_dir(folder)? {
            entry?;
            found += 1;
        }
        expect(found, files)
    })
}

fn list_and_stat(folder: &Path, files: usize) -> io::Result<()> {
    let mut found = 0;
    for entry in fs::read_dir(folder)? {
        entry?.metadata()?;
        found += 1;
    }
    expect(found, files)
}

fn rename(folder: &Path, files: usize) -> io::Result<()> {
    (0..files).try_for_each(|n| fs::rename(file(folder, n), renamed(folder, n)))
}

fn unlink(folder: &Path, files: usize) -> io::Result<()> {
    (0..files).try_for_each(|n| fs::remove_file(renamed(folder, n)))
}

fn expect(found: usize, files: usize) -> io::Result<()> {
    if found == files { Ok(()) } else { Err(io::Error::other(format!("listed {found} of {files} files"))) }
}
