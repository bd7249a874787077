//! What a record costs: appends in the pages and on the disk, rotations, replays.
//!
//! `cargo bench -p brickwork-journal` takes about ten seconds and works in `TMPDIR`, which is to be on a disk.
//! Records have 100 bytes; each figure is the median of its rounds unless it says otherwise.

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use brickwork_journal::{Journal, Limits, Mode};

const RECORD: [u8; 100] = [0x5a; 100];
const LIVE: usize = 50_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("in {}", folder.path().display());
    for (mode, name) in [(Mode::Process, "process"), (Mode::Disk, "disk")] {
        let open = || Journal::open(folder.path(), mode, Limits::default()).expect("a journal").journal;
        report(&format!("{name}: append, rotations included"), &appends(&open(), 1));
        report(&format!("{name}: append, 4 threads, wall time each"), &appends(&open(), 4));
        report(&format!("{name}: append and wait"), &waits(&open(), false));
        report(&format!("{name}: append and await"), &waits(&open(), true));
        report(&format!("{name}: 64 appends, one wait, for all"), &batches(&open()));
        report(&format!("{name}: 64 threads append and wait, each"), &crowd(&open()));
        let (whole, held) = rotations(&open());
        report(&format!("{name}: rotation, {LIVE} records live"), &whole);
        report(&format!("{name}: of that, in the snapshot"), &held);
    }
    report(&format!("open, {LIVE} records"), &opens(folder.path()));
}

fn report(name: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100].as_nanos() as f64 / 1000.0;
    println!("{name:<44} p50 {:>10.3} µs   p99 {:>10.3} µs", at(50), at(99));
}

fn append(journal: &Journal) -> u64 {
    let appended = journal.append(black_box(&RECORD)).expect("room");
    if appended.wants_snapshot {
        journal.rotate(|out| out.write(&RECORD)).expect("room");
    }
    appended.sequence
}

/// Time per append, in rounds of 10,000.
fn appends(journal: &Journal, threads: u32) -> Vec<Duration> {
    let round = || {
        let begin = Instant::now();
        (0..10_000).for_each(|_| _ = append(journal));
        begin.elapsed() / 10_000
    };
    let rounds = || (0..200).map(|_| round()).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(rounds)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let (waker, mut future) = (Waker::from(Arc::new(Unpark(std::thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn wait(journal: &Journal, sequence: u64, future: bool) {
    let waited = if future { block_on(journal.durable(sequence)) } else { journal.wait_durable(sequence) };
    waited.expect("a disk that takes it");
}

fn waits(journal: &Journal, future: bool) -> Vec<Duration> {
    timed(2_000, || wait(journal, append(journal), future))
}

fn batches(journal: &Journal) -> Vec<Duration> {
    timed(500, || {
        let last = (0..64).fold(0, |_, _| append(journal));
        wait(journal, last, false);
    })
}

fn crowd(journal: &Journal) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let one = || timed(100, || wait(journal, append(journal), false));
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Whole rotations, and the part in which the owner writes its snapshot.
fn rotations(journal: &Journal) -> (Vec<Duration>, Vec<Duration>) {
    let mut held = Vec::new();
    let whole = timed(20, || {
        let rotated = journal.rotate(|out| {
            let begin = Instant::now();
            (0..LIVE).try_for_each(|_| out.write(&RECORD))?;
            held.push(begin.elapsed());
            Ok(())
        });
        rotated.expect("room");
    });
    (whole, held)
}

fn opens(folder: &Path) -> Vec<Duration> {
    timed(20, || {
        let opened = Journal::open(folder, Mode::Process, Limits::default()).expect("a journal");
        assert_eq!(opened.records.len(), LIVE);
        black_box(opened);
    })
}

fn timed(rounds: usize, mut act: impl FnMut()) -> Vec<Duration> {
    let mut one = || {
        let begin = Instant::now();
        act();
        begin.elapsed()
    };
    (0..rounds).map(|_| one()).collect()
}
