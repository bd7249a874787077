//! A process that appends is killed in the middle of it; whatever it was told is in the log is there.

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_journal::{AppendError, Found, Journal, Limits, Mode, Opened};
use common::Random;

const FOLDER: &str = "BRICKWORK_JOURNAL_FOLDER";
const WORK: &str = "BRICKWORK_JOURNAL_WORK";
const THREADS: usize = 4;
/// Kills after which a log that is not rotated gives way to a new one.
const KILLS_OF_A_LOG: usize = 20;
/// Bytes of what the child says of each append: thread, number, sequence.
const SIGN: usize = 24;

/// What a child does until it is killed.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Appends only.
    Append,
    /// Segments so small that somebody rotates all the time.
    Rotate,
    /// The same, and waits for the disk.
    Disk,
}

impl Work {
    const ALL: [(&str, Self); 3] = [("append", Self::Append), ("rotate", Self::Rotate), ("disk", Self::Disk)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, work)| *work == self).unwrap().0
    }

    fn open(self, folder: &Path) -> Opened {
        let mode = if self == Self::Disk { Mode::Disk } else { Mode::Process };
        let small = Limits { segment_bytes: 32 << 10, overflow_segments: 3, ..Limits::default() };
        Journal::open(folder, mode, if self == Self::Append { Limits::default() } else { small }).unwrap()
    }
}

/// The record `number` of `thread`: of any length, and it says so itself.
fn record(thread: usize, number: u64) -> Vec<u8> {
    let filler = (number * 37 % 400) as usize;
    [&(thread as u64).to_le_bytes()[..], &number.to_le_bytes(), &vec![number as u8; filler]].concat()
}

fn field(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * index..8 * (index + 1)].try_into().unwrap())
}

/// What the records say: the number that each thread has come to.
///
/// Each thread's numbers follow each other; the first of a thread may be any where snapshots stand for what was before.
fn last_numbers(opened: &Opened, work: Work) -> [u64; THREADS] {
    let mut last = [None; THREADS];
    for found in opened.records.iter() {
        let (thread, number) = (field(found, 0) as usize, field(found, 1));
        assert_eq!(found, record(thread, number), "a record that nobody wrote");
        let follows = last[thread].map_or(number == 1 || work != Work::Append, |last| number == last + 1);
        assert!(follows, "thread {thread}: {number} after {:?}", last[thread]);
        last[thread] = Some(number);
    }
    last.map(Option::unwrap_or_default)
}

/// Not a test by itself: the process that is killed.
#[test]
fn child_that_appends_until_it_is_killed() {
    let (Ok(folder), Ok(work)) = (std::env::var(FOLDER), std::env::var(WORK)) else { return };
    let work = Work::ALL.iter().find(|(name, _)| *name == work).unwrap().1;
    let opened = work.open(Path::new(&folder));
    // The reading side around "append, then change", the writing side around rotations.
    let apart = RwLock::new(());
    let numbers = last_numbers(&opened, work).map(AtomicU64::new);
    let journal = opened.journal;
    let rotate = || {
        let _alone = apart.write().unwrap();
        let record = |thread: usize| record(thread, numbers[thread].load(Ordering::Relaxed));
        journal.rotate(|out| (0..THREADS).try_for_each(|thread| out.write(&record(thread)))).unwrap();
    };
    let append = |thread: usize| {
        let _together = apart.read().unwrap();
        let number = numbers[thread].load(Ordering::Relaxed) + 1;
        let appended = journal.append(&record(thread, number))?;
        numbers[thread].store(number, Ordering::Relaxed);
        Ok::<_, AppendError>((number, appended))
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (append, rotate, journal) = (&append, &rotate, &journal);
            scope.spawn(move || {
                loop {
                    let (number, appended) = match append(thread) {
                        Ok(done) => done,
                        Err(AppendError::Full { .. }) => {
                            rotate();
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    journal.wait_durable(appended.sequence).unwrap();
                    let sign = [thread as u64, number, appended.sequence].map(u64::to_le_bytes).concat();
                    std::io::stderr().write_all(&sign).unwrap();
                    if appended.wants_snapshot && work != Work::Append {
                        rotate();
                    }
                }
            });
        }
    });
}

/// Lets a child append for a while and kills it. What it was told: thread, number, sequence.
fn append_and_die(folder: &Path, work: Work, random: &mut Random) -> Vec<[u64; 3]> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(WORK, work.name())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut signs = vec![0; SIGN * (1 + random.below(3_000) as usize)];
    let mut output = child.stderr.take().unwrap();
    let alive = output.read_exact(&mut signs);
    // A few microseconds more or less: the kill is to fall anywhere in an append or a rotation.
    (0..random.below(50_000)).for_each(|_| std::hint::spin_loop());
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_end(&mut signs).unwrap();
    let panicked = signs.windows(8).any(|part| part == b"panicked");
    assert!(alive.is_ok() && !panicked, "the child ended by itself: {}", String::from_utf8_lossy(&signs));
    assert_eq!(signs.len() % SIGN, 0);
    signs.chunks(SIGN).map(|sign| std::array::from_fn(|index| field(sign, index))).collect()
}

fn kill_again_and_again(work: Work, rounds: usize) {
    let (mut folder, mut random) = (common::folder(), Random::new());
    // What the log had at the end of the round before: records, and the number of each thread.
    let (mut records, mut before) = (0, [0; THREADS]);
    let (mut appended, mut snapshots) = (0, std::collections::BTreeSet::new());
    for round in 0..rounds {
        if work == Work::Append && round % KILLS_OF_A_LOG == 0 {
            (folder, records, before) = (common::folder(), 0, [0; THREADS]);
        }
        let told = append_and_die(folder.path(), work, &mut random);
        let opened = work.open(folder.path());
        assert_eq!((opened.found, &opened.damage), (Found::Killed, &None), "round {round}");
        let after = last_numbers(&opened, work);
        for thread in 0..THREADS {
            let numbers = told.iter().filter(|sign| sign[0] == thread as u64).map(|sign| sign[1]);
            let last = numbers.max().unwrap_or(before[thread]);
            // One append of each thread may have been done without being told of.
            assert!((last..=last + 1).contains(&after[thread]), "round {round}: {last} was told, {after:?} is there");
        }
        if work == Work::Append {
            let all: Vec<_> = opened.records.iter().collect();
            for &[thread, number, sequence] in &told {
                let found = all[records + sequence as usize - 1];
                assert_eq!((field(found, 0), field(found, 1)), (thread, number), "the order is that of the sequences");
            }
        }
        appended += told.len();
        snapshots.extend(common::segments(folder.path()));
        (records, before) = (opened.records.len(), after);
    }
    println!("{}: {rounds} kills, {appended} appends that were told, all there", work.name());
    assert!(work == Work::Append || snapshots.len() > rounds / 2, "rotated all the time: {snapshots:?}");
}

#[test]
fn a_killed_process_loses_no_append_that_it_was_told_of() {
    kill_again_and_again(Work::Append, common::rounds(20, 200));
}

#[test]
fn a_process_killed_in_rotations_loses_nothing() {
    kill_again_and_again(Work::Rotate, common::rounds(20, 200));
}

#[test]
fn a_process_killed_in_syncs_and_rotations_loses_nothing() {
    kill_again_and_again(Work::Disk, common::rounds(5, 100));
}
