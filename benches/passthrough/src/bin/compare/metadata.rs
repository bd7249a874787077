//! Creating, looking at, listing, renaming and removing files.
//!
//! Each thread works in a folder of its own; a step begins when all threads have ended the one before. Steps that look
//! at attributes begin after a pause: what a mount kept for a second from the step before, it does not have any more.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::target::Target;

/// Listing is much faster than the rest, so it is done this often.
const LISTINGS: usize = 5;

/// Longer than attributes and names are kept by default where that is for a time, as by GlusterFS: 1 s.
const PAUSE: Duration = Duration::from_millis(1_200);

struct Step {
    name: &'static str,
    /// How often each file is met.
    times: usize,
    /// Whether there is a pause before it.
    after_pause: bool,
    /// What is done for a folder of so many files.
    work: fn(&Path, usize) -> io::Result<()>,
}

/// The steps in their order.
const STEPS: [Step; 6] = [
    Step { name: "create", times: 1, after_pause: false, work: create },
    Step { name: "stat", times: 1, after_pause: true, work: stat },
    Step { name: "list", times: LISTINGS, after_pause: false, work: list },
    Step { name: "list + stat", times: 1, after_pause: true, work: list_and_stat },
    Step { name: "rename", times: 1, after_pause: false, work: rename },
    Step { name: "unlink", times: 1, after_pause: false, work: unlink },
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
        STEPS.iter().map(|Step { name, .. }| format!("{name} {} files x{}", self.files, self.threads)).collect()
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
        for Step { times, after_pause, work, .. } in STEPS {
            if after_pause {
                thread::sleep(PAUSE);
            }
            let seconds = together(&folders, |folder| work(folder, share))?;
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
