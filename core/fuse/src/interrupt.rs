//! Which requests an INTERRUPT can reach.
//!
//! A request is at first with the reader that received it (its `unique` stands in the reader's *slot*) and, if it is
//! pending after the first poll, in the table. It enters the table before it leaves the slot, so whoever looks at the
//! slots first and the table second misses nothing; a request that is in neither was either answered, or read by a
//! reader that has not come to noting it down. The kernel knows which: it is told `EAGAIN`, and sends the INTERRUPT
//! again if the request is still unanswered. An INTERRUPT is never answered `ENOSYS`, which would switch interrupts
//! off for the whole mount.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::abi::INT_REQ_BIT;

/// What an INTERRUPT does to a request: the bridge to the handler's own cancellation.
///
/// Called at most once, by a reader thread: set a flag, wake the waiting future, return. The future then answers
/// `EINTR`, or whatever it had come to before.
pub trait Interruptible: Send + Sync {
    /// Asks the request to end early.
    fn interrupt(&self);
}

impl<F: Fn() + Send + Sync> Interruptible for F {
    fn interrupt(&self) {
        self();
    }
}

type Target = Option<Arc<dyn Interruptible>>;

const SHARDS: usize = 16;

/// The request a reader is at; on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Slot(AtomicU64);

/// The requests of one session that are being handled.
pub(crate) struct Interrupts {
    slots: Box<[Slot]>,
    shards: [Mutex<HashMap<u64, Target>>; SHARDS],
    pending: AtomicUsize,
}

impl Interrupts {
    pub(crate) fn new(readers: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..readers).map(|_| Slot::default()).collect(),
            shards: Default::default(),
            pending: AtomicUsize::new(0),
        })
    }

    /// Notes that `reader` is at the request `unique`.
    pub(crate) fn begin(&self, reader: usize, unique: u64) {
        self.slots[reader].0.store(unique, Ordering::SeqCst);
    }

    /// Notes that `reader` is done with its request.
    pub(crate) fn end(&self, reader: usize) {
        self.slots[reader].0.store(0, Ordering::SeqCst);
    }

    /// Moves the request of `reader` to the table, and interrupts it if that was asked for meanwhile.
    pub(crate) fn park(self: &Arc<Self>, reader: usize, unique: u64, target: Target) -> Parked {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.shard(unique).lock().insert(unique, target);
        let parked = Parked { interrupts: self.clone(), unique };
        if self.slots[reader].0.swap(0, Ordering::SeqCst) == unique | INT_REQ_BIT {
            self.fire(unique);
        }
        parked
    }

    /// Interrupts the request `unique`; `false` if no reader is at it and it is not in the table.
    pub(crate) fn interrupt(&self, unique: u64) -> bool {
        self.mark_slot(unique) || self.fire(unique)
    }

    /// Interrupts everything in the table: the session has ended and nobody waits any more.
    pub(crate) fn interrupt_all(&self) {
        for shard in &self.shards {
            let targets: Vec<_> = shard.lock().values_mut().filter_map(Option::take).collect();
            targets.iter().for_each(|target| target.interrupt());
        }
    }

    /// How many requests are in the table.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    fn mark_slot(&self, unique: u64) -> bool {
        let marked = unique | INT_REQ_BIT;
        self.slots.iter().any(|slot| {
            match slot.0.compare_exchange(unique, marked, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => true,
                Err(now) => now == marked,
            }
        })
    }

    fn fire(&self, unique: u64) -> bool {
        let target = match self.shard(unique).lock().get_mut(&unique) {
            Some(target) => target.take(),
            None => return false,
        };
        // Outside the lock: the target may wake, finish and leave the table.
        if let Some(target) = target {
            target.interrupt();
        }
        true
    }

    fn shard(&self, unique: u64) -> &Mutex<HashMap<u64, Target>> {
        &self.shards[(unique >> 1) as usize % SHARDS]
    }
}

/// A request in the table; leaves it when dropped.
pub(crate) struct Parked {
    interrupts: Arc<Interrupts>,
    unique: u64,
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.interrupts.shard(self.unique).lock().remove(&self.unique);
        self.interrupts.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> (Arc<AtomicUsize>, Target) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        (
            count,
            Some(Arc::new(move || {
                seen.fetch_add(1, Ordering::SeqCst);
            })),
        )
    }

    #[test]
    fn an_interrupt_in_the_first_poll_reaches_the_request_once_it_is_parked() {
        let interrupts = Interrupts::new(2);
        let (count, target) = counter();
        interrupts.begin(1, 40);
        assert!(interrupts.interrupt(40) && interrupts.interrupt(40));
        assert_eq!(count.load(Ordering::SeqCst), 0);
        let _parked = interrupts.park(1, 40, target);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(interrupts.interrupt(40));
        assert_eq!(count.load(Ordering::SeqCst), 1, "interrupted at most once");
    }

    #[test]
    fn a_parked_request_is_interrupted_and_a_finished_one_is_not_known() {
        let interrupts = Interrupts::new(1);
        let (count, target) = counter();
        interrupts.begin(0, 40);
        let parked = interrupts.park(0, 40, target);
        assert_eq!(interrupts.pending(), 1);
        assert!(interrupts.interrupt(40));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        drop(parked);
        assert!(!interrupts.interrupt(40));
        assert_eq!(interrupts.pending(), 0);
    }

    #[test]
    fn a_request_not_noted_yet_is_not_known_so_the_kernel_is_asked_to_come_again() {
        let interrupts = Interrupts::new(1);
        assert!(!interrupts.interrupt(40));
        interrupts.begin(0, 42);
        assert!(!interrupts.interrupt(40));
        interrupts.end(0);
        assert!(!interrupts.interrupt(42));
    }

    #[test]
    fn a_request_without_a_target_is_known_all_the_same() {
        let interrupts = Interrupts::new(1);
        interrupts.begin(0, 40);
        let _parked = interrupts.park(0, 40, None);
        assert!(interrupts.interrupt(40));
    }

    #[test]
    fn no_interrupt_is_lost_between_slot_and_table() {
        let interrupts = Interrupts::new(1);
        for unique in (2..4_000).step_by(2) {
            let (count, target) = counter();
            interrupts.begin(0, unique);
            let table = interrupts.clone();
            let parked = std::thread::scope(|scope| {
                let interrupter = scope.spawn(move || table.interrupt(unique));
                let parked = interrupts.park(0, unique, target);
                assert!(interrupter.join().unwrap());
                parked
            });
            assert_eq!(count.load(Ordering::SeqCst), 1);
            drop(parked);
        }
    }
}
