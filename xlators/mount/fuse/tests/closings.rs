//! A lock that is tried right after somebody else's close.
//!
//! What was wrong: the kernel returns from the last `close` before RELEASE was answered. A `flock` or open-file-description
//! lock of the closed file was then still in the graph, and a try by somebody who had seen the close was refused.

mod common;

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use brickwork_api::FopKind;
use brickwork_testkit::{Faults, KeepsLocks, MemoryLeaf};
use common::told::Told;
use common::{Rig, rounds};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Rounds of the long test in full.
const ROUNDS: usize = 20_000;

/// A mount over locks in memory.
struct Locked {
    rig: Rig,
    told: Arc<Told>,
    faults: Arc<Faults>,
}

fn locked() -> Option<Locked> {
    locked_with("")
}

fn locked_with(words: &str) -> Option<Locked> {
    let keeps = Arc::new(KeepsLocks::over(Arc::new(MemoryLeaf::new())));
    let faults = Arc::new(Faults::over(keeps));
    let told = Told::over(faults.clone());
    Some(Locked { rig: Rig::over(told.clone(), words, true)?, told, faults })
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// The two families whose locks go with the last close.
#[derive(Clone, Copy, Debug)]
enum Family {
    Flock,
    OpenFile,
}

const BOTH: [Family; 2] = [Family::Flock, Family::OpenFile];

impl Family {
    /// Locks all of `file`, or says at once that it cannot.
    fn try_lock(self, file: &File) -> Result<(), Errno> {
        match self {
            Family::Flock => flock(file, FlockOperation::NonBlockingLockExclusive),
            Family::OpenFile => set_open_file_lock(file, libc::F_WRLCK),
        }
    }

    fn unlock(self, file: &File) {
        match self {
            Family::Flock => flock(file, FlockOperation::Unlock).unwrap(),
            Family::OpenFile => set_open_file_lock(file, libc::F_UNLCK).unwrap(),
        }
    }
}

fn set_open_file_lock(file: &File, kind: libc::c_int) -> Result<(), Errno> {
    // SAFETY: plain numbers; all of them zero is a lock from the start to the end, of pid 0 as F_OFD_SETLK wants it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    // SAFETY: the descriptor is open, and `lock` lives until the call returns.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}

#[test]
fn a_lock_can_be_had_right_after_the_close_of_the_file_that_held_it() {
    let Some(locked) = locked() else { return };
    let path = locked.rig.path().join("x");
    for family in BOTH {
        let other = open(&path);
        for round in 0..rounds(ROUNDS) {
            let held = open(&path);
            family.try_lock(&held).unwrap();
            drop(held);
            assert_eq!(family.try_lock(&other), Ok(()), "{family:?}, round {round}");
            family.unlock(&other);
        }
    }
}

#[test]
fn a_lock_can_be_had_by_whoever_hears_of_the_close() {
    let Some(locked) = locked() else { return };
    let path = locked.rig.path().join("x");
    for family in BOTH {
        let (closed, hear) = mpsc::channel();
        let (tried, next) = mpsc::channel();
        let place = path.clone();
        let closer = std::thread::spawn(move || {
            for _ in 0..rounds(ROUNDS) {
                let held = open(&place);
                family.try_lock(&held).unwrap();
                drop(held);
                closed.send(()).unwrap();
                if next.recv().is_err() {
                    return;
                }
            }
        });
        let other = open(&path);
        for round in 0..rounds(ROUNDS) {
            hear.recv().unwrap();
            assert_eq!(family.try_lock(&other), Ok(()), "{family:?}, round {round}");
            family.unlock(&other);
            tried.send(()).unwrap();
        }
        closer.join().unwrap();
    }
}

#[test]
fn a_try_waits_for_the_release_that_is_under_way_and_for_no_other() {
    for family in BOTH {
        let Some(locked) = locked() else { return };
        let (path, elsewhere) = (locked.rig.path().join("x"), locked.rig.path().join("y"));
        let (held, other) = (open(&path), open(&path));
        family.try_lock(&held).unwrap();
        let release = locked.faults.hold(FopKind::Release, 1);
        drop(held);
        locked.rig.block_on(release.arrivals(1));

        let (first, second) = (open(&elsewhere), open(&elsewhere));
        family.try_lock(&first).unwrap();
        assert_eq!(family.try_lock(&second), Err(Errno::AGAIN), "another file");

        locked.rig.recorder.take();
        let refusal = locked.told.hold_answer(FopKind::Lk);
        let trying = std::thread::spawn(move || family.try_lock(&other));
        locked.rig.block_on(refusal.arrivals(1));
        refusal.open();
        release.open();
        assert_eq!(trying.join().unwrap(), Ok(()));
        assert_eq!(locked.rig.recorder.count(FopKind::Lk), 2, "it was refused, and tried once more");
    }
}

#[test]
fn the_close_of_a_copy_of_a_descriptor_holds_nobody_up_for_long() {
    let Some(locked) = locked() else { return };
    let path = locked.rig.path().join("x");
    let (held, other) = (open(&path), open(&path));
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(held.try_clone().unwrap());
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    // From then on it is known that no release follows.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "100 tries took {:?}", began.elapsed());
}

#[test]
fn a_try_that_waits_for_a_close_leaves_it_the_slot_that_it_needs() {
    // It kept its slot while it waited. When that was the last one, the close had none: both waited for ever.
    for family in BOTH {
        let Some(locked) = locked_with("slots=1") else { return };
        let path = locked.rig.path().join("x");
        let (held, other) = (open(&path), open(&path));
        family.try_lock(&held).unwrap();
        // The try is the next in line, before the release.
        let flush = locked.faults.hold(FopKind::Flush, 1);
        let closing = std::thread::spawn(move || drop(held));
        locked.rig.block_on(flush.arrivals(1));
        let (tried, hear) = mpsc::channel();
        let trying = std::thread::spawn(move || tried.send(family.try_lock(&other)));
        while locked.rig.mounted().status()["requests"]["setlk"] != 2 {
            std::thread::yield_now();
        }
        flush.open();
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok(Ok(())), "{family:?}");
        trying.join().unwrap().unwrap();
        closing.join().unwrap();
    }
}
