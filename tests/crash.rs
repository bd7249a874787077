//! `kill -9` of the process under load: the next mount finds everything that was acknowledged, and a whole brick.

mod common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use common::whole::{check_brick, walk};
use common::{Mounted, Random, needs, needs_root, rounds};

/// Threads that work on the mount when it dies.
const WORKERS: usize = 4;
/// Names that each worker uses.
const NAMES: u64 = 40;

/// What the application was told of a name.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// `fsync` acknowledged this content.
    Content(Vec<u8>),
    /// It is gone.
    Gone,
    /// An operation on it failed with the mount; it may have happened.
    Unsure,
}

/// All names that the application touched.
type Told = HashMap<PathBuf, Known>;

#[test]
fn what_was_synced_before_a_kill_is_there_after_it_and_the_brick_is_whole() {
    if !(needs_root("reading trusted.* xattrs") && needs("getfattr")) {
        return;
    }
    let Some(mut mounted) = Mounted::dev() else { return };
    let mut random = Random::from_env();
    let mut known = Told::new();
    for round in 0..rounds(8, 60) {
        work_until_killed(&mounted, &mut random, &mut known);
        mounted.mount_again();
        for (path, known) in &known {
            let found = match fs::read(mounted.path().join(path)) {
                Ok(content) => Known::Content(content),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Known::Gone,
                Err(error) => panic!("round {round}: {path:?}: {error}"),
            };
            assert!(*known == Known::Unsure || *known == found, "round {round}: {path:?} is not what was acknowledged");
        }
        walk(mounted.path());
        check_brick(&mounted.brick());
    }
}

/// Runs the workers, kills the process after a random number of their operations, and adds to `known` what they know.
fn work_until_killed(mounted: &Mounted, random: &mut Random, known: &mut Told) {
    let (done, progress) = mpsc::channel();
    let deadly = 50 + random.below(600);
    let results: Vec<Told> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (done, seed) = (done.clone(), random.draw());
                scope.spawn(move || work(mounted.path(), worker, seed, &done))
            })
            .collect();
        for _ in 0..deadly {
            progress.recv().expect("the workers go on until they fail");
        }
        mounted.kill9();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect()
    });
    known.extend(results.into_iter().flatten());
}

/// Creates, syncs, renames and unlinks until an operation fails; returns what was acknowledged.
fn work(mount: &Path, worker: usize, seed: u64, done: &mpsc::Sender<()>) -> Told {
    let mut random = Random::from_seed(seed);
    let folder = PathBuf::from(format!("w{worker}"));
    let mut told = Told::new();
    loop {
        let names: Vec<PathBuf> = (0..2).map(|_| folder.join(format!("n{}", random.below(NAMES)))).collect();
        match step(mount, &folder, &names, &mut random, &mut told) {
            Ok(()) => {
                // The other end stops listening once it has killed the process.
                let _ = done.send(());
            }
            Err(_) => {
                // The operation that failed may have happened or not: nothing is known of its names.
                for name in names {
                    told.insert(name, Known::Unsure);
                }
                return told;
            }
        }
    }
}

fn step(mount: &Path, folder: &Path, names: &[PathBuf], random: &mut Random, told: &mut Told) -> std::io::Result<()> {
    let [first, second] = names else { unreachable!("two names") };
    fs::create_dir_all(mount.join(folder))?;
    match random.below(4) {
        0 | 1 => {
            let length = random.below(20_000) as usize;
            let content = random.bytes(length);
            let mut file = File::create(mount.join(first))?;
            file.write_all(&content)?;
            file.sync_all()?;
            File::open(mount.join(folder))?.sync_all()?;
            told.insert(first.clone(), Known::Content(content));
        }
        2 => {
            if first != second && fs::rename(mount.join(first), mount.join(second)).is_ok() {
                File::open(mount.join(folder))?.sync_all()?;
                let moved = fs::read(mount.join(second))?;
                told.insert(second.clone(), Known::Content(moved));
                told.insert(first.clone(), Known::Gone);
            } else {
                // A name that is not there is no failure; a mount that died is.
                fs::metadata(mount.join(folder))?;
            }
        }
        _ => match fs::remove_file(mount.join(first)) {
            Ok(()) => {
                told.insert(first.clone(), Known::Gone);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        },
    }
    Ok(())
}
