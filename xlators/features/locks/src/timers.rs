//! What the brick has to look at later, by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::table::WaiterId;

/// Something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Later {
    /// Whether somebody waits for what a client held that is not protected any more.
    Expiry,
    /// Whether a wait is part of a cycle over several bricks; how often it was asked.
    Probe(WaiterId, u32),
    /// Whether the grace is over.
    Grace,
    /// A snapshot of the journal that could not be written.
    Snapshot,
}

/// What is to be looked at, by its time in milliseconds of the brick's clock.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<(u64, Later)>>>,
    /// There is something earlier than before.
    pub(crate) earlier: Notify,
}

impl Timers {
    /// Looks at `later` when `at_ms` has come.
    pub(crate) fn at(&self, at_ms: u64, later: Later) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|Reverse((first, _))| at_ms < *first);
        heap.push(Reverse((at_ms, later)));
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    /// What is due at `now_ms`, each once: every waiter before the lock of a client that is away asks for the same look.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<Later> {
        let mut heap = self.heap.lock();
        let (mut due, mut seen) = (Vec::new(), HashSet::new());
        while let Some(Reverse((at_ms, later))) = heap.peek().copied()
            && at_ms <= now_ms
        {
            heap.pop();
            if seen.insert(later) {
                due.push(later);
            }
        }
        due
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.lock().peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_its_time() {
        let timers = Timers::default();
        timers.at(30, Later::Grace);
        timers.at(10, Later::Probe(WaiterId(1), 0));
        timers.at(20, Later::Expiry);
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.due(20), [Later::Probe(WaiterId(1), 0), Later::Expiry]);
        assert_eq!((timers.due(29), timers.next()), (vec![], Some(30)));
    }

    /// Each of ten thousand waiters asked for a look at all ten thousand when the client before them was given up.
    #[test]
    fn what_many_ask_for_is_looked_at_once() {
        let timers = Timers::default();
        (0..10).for_each(|at_ms| timers.at(at_ms / 2, Later::Expiry));
        assert_eq!(timers.due(20), [Later::Expiry]);
        assert_eq!(timers.next(), None);
    }
}
