//! The counts: one shard per few threads, so that threads do not fight for cache lines.
//!
//! A shard takes memory for a fop when it first counts one: about 4 KiB.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use brickwork_api::{Errno, FopKind};

use crate::histogram::{Durations, Histogram};

/// How many shards there are at most; a power of two.
const SHARDS_MAX: usize = 32;

/// Above every error number that Linux has; larger ones are counted as 0.
const ERRNOS: usize = 134;

const FOPS: usize = FopKind::ALL.len();

/// All counts of one xlator.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[Shard]>,
}

/// Lines come in pairs on x86: 128 bytes keep two shards apart.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    fops: [OnceLock<Box<FopCounters>>; FOPS],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Shard {
    fn new() -> Shard {
        let fops = [const { OnceLock::new() }; FOPS];
        Shard { fops, read_bytes: AtomicU64::new(0), written_bytes: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
#[repr(align(128))]
struct FopCounters {
    calls: AtomicU64,
    latency: Histogram,
    errors: [AtomicU64; ERRNOS],
}

impl FopCounters {
    fn new() -> Box<FopCounters> {
        Box::new(FopCounters {
            calls: AtomicU64::new(0),
            latency: Histogram::default(),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }
}

/// Which shard this thread counts in, before it is folded to their number.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Default for Counters {
    /// All zero.
    fn default() -> Counters {
        let threads = std::thread::available_parallelism().map_or(SHARDS_MAX, usize::from);
        let shards = (2 * threads).next_power_of_two().min(SHARDS_MAX);
        Counters { shards: (0..shards).map(|_| Shard::new()).collect() }
    }
}

impl Counters {
    fn shard(&self) -> &Shard {
        &self.shards[thread_number() & (self.shards.len() - 1)]
    }

    /// Counts a call of `kind`, its error if it had one, and its duration if that was measured.
    pub fn add(&self, kind: FopKind, error: Option<Errno>, elapsed_ns: Option<u64>) {
        let fop = self.shard().fops[kind as usize].get_or_init(FopCounters::new);
        match elapsed_ns {
            Some(elapsed_ns) => fop.latency.add(elapsed_ns),
            None => _ = fop.calls.fetch_add(1, Ordering::Relaxed),
        }
        if let Some(errno) = error {
            let number = usize::try_from(errno.raw()).ok().filter(|number| *number < ERRNOS);
            fop.errors[number.unwrap_or(0)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts bytes that were read.
    pub fn add_read(&self, bytes: usize) {
        self.shard().read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that were written.
    pub fn add_written(&self, bytes: u32) {
        self.shard().written_bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    /// All counts, at about this moment: fops that end meanwhile may be in it or not.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let fops = FopKind::ALL.iter().filter_map(|kind| self.fop(*kind)).collect();
        let sum = |count: fn(&Shard) -> &AtomicU64| -> u64 {
            self.shards.iter().map(|shard| count(shard).load(Ordering::Relaxed)).sum()
        };
        Snapshot { fops, read_bytes: sum(|shard| &shard.read_bytes), written_bytes: sum(|shard| &shard.written_bytes) }
    }

    /// The sum over the shards, or `None` for a fop that never came.
    fn fop(&self, kind: FopKind) -> Option<FopSnapshot> {
        let mut sum = FopSnapshot { kind, calls: 0, durations: Durations::default(), errors: Vec::new() };
        let mut errors = [0; ERRNOS];
        for fop in self.shards.iter().filter_map(|shard| shard.fops[kind as usize].get()) {
            sum.calls += fop.calls.load(Ordering::Relaxed);
            fop.latency.add_to(&mut sum.durations);
            for (total, count) in errors.iter_mut().zip(&fop.errors) {
                *total += count.load(Ordering::Relaxed);
            }
        }
        sum.calls += sum.durations.count();
        let seen = errors.iter().zip(0..).filter(|(count, _)| **count > 0);
        sum.errors = seen.map(|(count, number)| (Errno::from_raw(number), *count)).collect();
        (sum.calls > 0).then_some(sum)
    }
}

/// What was counted up to a moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The fops that came, in the order of the table.
    pub fops: Vec<FopSnapshot>,
    /// Bytes that `read` brought.
    pub read_bytes: u64,
    /// Bytes that `write` took.
    pub written_bytes: u64,
}

/// What was counted of one fop.
#[derive(Clone, Debug)]
pub struct FopSnapshot {
    /// The fop.
    pub kind: FopKind,
    /// How often it came, failures included.
    pub calls: u64,
    /// How long it took, failures included, when that was measured.
    pub durations: Durations,
    /// How often each error came, by number; 0 stands for numbers that Linux does not have.
    pub errors: Vec<(Errno, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_between_threads() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let counters = &counters;
                scope.spawn(move || {
                    for number in 0..1000 {
                        let error = (number % 10 == 0).then_some(Errno::ENOENT);
                        counters.add(FopKind::Lookup, error, (thread % 2 == 0).then_some(number));
                        counters.add_read(3);
                        counters.add_written(5);
                    }
                });
            }
        });
        let snapshot = counters.snapshot();
        assert_eq!((snapshot.read_bytes, snapshot.written_bytes), (24_000, 40_000));
        let [lookup] = &snapshot.fops[..] else { panic!("only lookups came: {:?}", snapshot.fops) };
        assert_eq!((lookup.kind, lookup.calls, lookup.durations.count()), (FopKind::Lookup, 8000, 4000));
        assert_eq!(lookup.errors, [(Errno::ENOENT, 800)]);
    }

    #[test]
    fn an_error_number_that_linux_does_not_have_is_counted_as_0() {
        let counters = Counters::default();
        for number in [0, -5, 134, i32::MAX] {
            counters.add(FopKind::Stat, Some(Errno::from_raw(number)), None);
        }
        assert_eq!(counters.snapshot().fops[0].errors, [(Errno::from_raw(0), 4)]);
    }
}
