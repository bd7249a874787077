//! Eight workers on two mounts, what they log, and what must be true of it in the end.
//!
//! A worker has a folder of its own, where each answer is known beforehand; it works on the names of a shared folder
//! with all others; and it appends records to a shared file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use crate::appends;
use crate::common::Random;
use crate::history::{Clock, Entry, Operation, Outcome, Violation, expect_none};
use crate::linear;
use crate::model::{Model, Node};

/// Workers, on both mounts alike.
pub const WORKERS: usize = 8;
/// Names that a worker uses in its folder.
const OWN_NAMES: u64 = 24;
/// Shared names that are in use at once.
const SHARED_NAMES: u64 = 6;
/// Operations after which other shared names are taken, so that no name has a long history.
const GENERATION: u64 = 500;
/// The longest content, in bytes.
const CONTENT_MAX: u64 = 20_000;

/// What the workers share.
pub struct Workload<'a> {
    mounts: [&'a Path; 2],
    clock: Clock,
    /// Operations on shared names until now.
    shared: AtomicU64,
    stop: AtomicBool,
}

/// What one worker has to tell.
#[derive(Default)]
pub struct Log {
    own: Vec<Entry>,
    shared: Vec<Entry>,
    appended: u64,
    /// Failures of what cannot fail.
    faults: Vec<Violation>,
}

impl<'a> Workload<'a> {
    /// A workload on two mounts of a brick that is empty.
    pub fn on(first: &'a Path, second: &'a Path) -> Workload<'a> {
        let (shared, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let workload = Workload { mounts: [first, second], clock: Clock::default(), shared, stop };
        fs::create_dir(first.join("shared")).expect("a shared folder");
        fs::write(first.join("records"), "").expect("a file for records");
        for worker in 0..WORKERS {
            fs::create_dir(first.join(own(worker))).expect("a folder for the worker");
            fs::create_dir(first.join(private(worker))).expect("a folder for the worker");
        }
        workload
    }

    /// Lets the workers end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether [`Workload::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Works as `worker` until it is stopped; tells `done` of each operation.
    pub fn work(&self, worker: usize, seed: u64, done: &Sender<()>) -> Log {
        let mount = self.mounts[worker % 2];
        let mut random = Random::from_seed(seed);
        let mut log = Log::default();
        let mut records = OpenOptions::new().append(true).open(mount.join("records")).expect("open the records");
        while !self.stopped() {
            match random.below(20) {
                0..=9 => {
                    let operation = draw_own(&mut random);
                    let entry = self.timed(worker, operation, |operation| do_own(&mount.join(own(worker)), operation));
                    log.own.push(entry);
                }
                10..=16 => self.on_a_shared_name(worker, &mut random, &mut log),
                _ => match records.write_all(&appends::record(worker, log.appended)) {
                    Ok(()) => log.appended += 1,
                    Err(error) => log.faults.push(Violation(format!("worker {worker}: append: {error}"))),
                },
            }
            // Nobody listens once the faults are over.
            let _ = done.send(());
        }
        log
    }

    fn timed(&self, worker: usize, operation: Operation, act: impl FnOnce(&Operation) -> io::Result<Outcome>) -> Entry {
        let invoked = self.clock.tick();
        let outcome = act(&operation).unwrap_or_else(|error| Outcome::Failed(error.raw_os_error().unwrap_or(0)));
        Entry { worker, operation, outcome, invoked, returned: self.clock.tick() }
    }

    fn on_a_shared_name(&self, worker: usize, random: &mut Random, log: &mut Log) {
        let mount = self.mounts[worker % 2];
        let turn = self.shared.fetch_add(1, Ordering::SeqCst);
        let name = format!("g{}-{}", turn / GENERATION, random.below(SHARED_NAMES));
        let path = mount.join("shared").join(&name);
        let mine = mount.join(private(worker)).join(format!("x{turn}"));
        let entry = match random.below(7) {
            0 => self.timed(worker, Operation::Create(name), |_| create(&path)),
            1 => self.timed(worker, Operation::Mkdir(name), |_| fs::create_dir(&path).map(|()| Outcome::Done)),
            2 => self.timed(worker, Operation::Unlink(name), |_| unlink(&path)),
            3 => self.timed(worker, Operation::Rmdir(name), |_| fs::remove_dir(&path).map(|()| Outcome::Done)),
            4 => self.timed(worker, Operation::Look(name), |_| look(&path)),
            5 => match create(&mine) {
                Ok(Outcome::File(identity)) => {
                    let put = Operation::Put(name, identity);
                    let entry = self.timed(worker, put, |_| fs::rename(&mine, &path).map(|()| Outcome::Done));
                    if entry.outcome != Outcome::Done {
                        log.must(worker, "unlink what could not be put", fs::remove_file(&mine));
                    }
                    entry
                }
                made => return log.must(worker, "create a new name", made.map(drop)),
            },
            _ => {
                let entry = self.timed(worker, Operation::Take(name), |_| {
                    fs::rename(&path, &mine)?;
                    look(&mine)
                });
                match entry.outcome {
                    Outcome::File(_) => log.must(worker, "unlink what was taken", fs::remove_file(&mine)),
                    Outcome::Directory => log.must(worker, "rmdir what was taken", fs::remove_dir(&mine)),
                    _ => (),
                }
                entry
            }
        };
        log.shared.push(entry);
    }

    /// Checks what the workers tell, and what lies in the folders in the end.
    pub fn check(&self, logs: &[Log]) {
        let alone: usize = logs.iter().map(|log| log.own.len()).sum();
        let shared: Vec<Entry> = logs.iter().flat_map(|log| log.shared.iter().cloned()).collect();
        let appended: HashMap<usize, u64> =
            logs.iter().enumerate().map(|(worker, log)| (worker, log.appended)).collect();
        eprintln!(
            "{alone} operations in own folders, {} on shared names, {} appends",
            shared.len(),
            appended.values().sum::<u64>()
        );
        for (worker, log) in logs.iter().enumerate() {
            expect_none("what cannot fail", &log.faults);
            let mut model = Model::default();
            expect_none("own folders", &model.apply(&log.own));
            for mount in self.mounts {
                expect_none("own folders in the end", &model.differences(&found(&mount.join(own(worker)))));
                let private = fs::read_dir(mount.join(private(worker))).expect("list").count();
                assert_eq!(private, 0, "worker {worker} removed all that it made of its own");
            }
        }
        expect_none("shared names", &linear::check(&shared));
        for mount in self.mounts {
            let content = fs::read(mount.join("records")).expect("read the records");
            expect_none("appended records", &appends::check(&content, &appended));
        }
    }
}

impl Log {
    /// Notes that `what` failed, which nothing that was done once allows.
    fn must(&mut self, worker: usize, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.faults.push(Violation(format!("worker {worker}: {what}: {error}")));
        }
    }
}

fn own(worker: usize) -> String {
    format!("own-{worker}")
}

fn private(worker: usize) -> String {
    format!("private-{worker}")
}

fn draw_own(random: &mut Random) -> Operation {
    let mut name = || format!("n{}", random.below(OWN_NAMES));
    let (first, second) = (name(), name());
    match random.below(9) {
        0 | 1 => Operation::Create(first),
        2 => Operation::Mkdir(first),
        3 => Operation::Unlink(first),
        4 => Operation::Rmdir(first),
        5 => Operation::Rename(first, second),
        6 => Operation::Link(first, second),
        7 => Operation::Write(first, random.draw()),
        _ => Operation::Look(first),
    }
}

fn do_own(folder: &Path, operation: &Operation) -> io::Result<Outcome> {
    let at = |name: &String| folder.join(name);
    match operation {
        Operation::Create(name) => return create(&at(name)),
        Operation::Look(name) => return look(&at(name)),
        Operation::Mkdir(name) => fs::create_dir(at(name))?,
        Operation::Unlink(name) => return unlink(&at(name)),
        Operation::Rmdir(name) => fs::remove_dir(at(name))?,
        Operation::Rename(from, to) => fs::rename(at(from), at(to))?,
        Operation::Link(from, to) => fs::hard_link(at(from), at(to))?,
        Operation::Write(name, number) => {
            let mut file = OpenOptions::new().write(true).truncate(true).open(at(name))?;
            file.write_all(&content(*number))?;
            file.sync_all()?;
        }
        Operation::Put(..) | Operation::Take(_) => unreachable!("these are for shared names"),
    }
    Ok(Outcome::Done)
}

fn create(path: &Path) -> io::Result<Outcome> {
    Ok(Outcome::File(File::create_new(path)?.metadata()?.ino()))
}

fn unlink(path: &Path) -> io::Result<Outcome> {
    fs::remove_file(path).map(|()| Outcome::Done)
}

/// Looks at a name that changes under each of them.
const LOOKS_MAX: usize = 8;

/// A mount that is not told of changes asks twice: what the name is, and what that is. The kernel asks again, once, when
/// it is gone in between; where names go as quickly as here, that may happen twice in a row, and then `ESTALE` comes out.
fn look(path: &Path) -> io::Result<Outcome> {
    let mut metadata = fs::symlink_metadata(path);
    for _ in 0..LOOKS_MAX {
        if !metadata.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ESTALE)) {
            break;
        }
        metadata = fs::symlink_metadata(path);
    }
    let metadata = metadata?;
    Ok(if metadata.is_dir() { Outcome::Directory } else { Outcome::File(metadata.ino()) })
}

/// The content that stands for `number`: it begins with it, and no other number's is the same.
fn content(number: u64) -> Vec<u8> {
    let mut content = number.to_le_bytes().to_vec();
    content.extend(Random::from_seed(number).bytes((number % CONTENT_MAX) as usize));
    content
}

/// What lies in `folder`.
fn found(folder: &Path) -> BTreeMap<String, (Node, Option<u64>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("list") {
        let entry = entry.expect("an entry");
        let metadata = fs::symlink_metadata(entry.path()).expect("what is listed is there");
        let name = entry.file_name().into_string().expect("UTF-8");
        let node = if metadata.is_dir() {
            (Node::Directory, None)
        } else {
            (Node::File(metadata.ino()), written(&fs::read(entry.path()).expect("read")))
        };
        assert!(found.insert(name.clone(), node).is_none(), "{name} is listed once");
    }
    found
}

/// The number whose content this is; 0 stands for damaged content.
fn written(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    Some(if content(number) == bytes { number } else { 0 })
}
