//! Request ids: the slots of this client and what each has carried.
//!
//! A slot names a request until it is answered, and its sequence counts the requests it carried, so that whoever
//! remembers the last answer of a slot can tell a repetition from a new request.
//!
//! Always true between calls: a slot is with one holder or free, and the sequence of a slot only grows.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

const SLOTS_PER_WORD: u32 = 64;

/// A small number of the calling thread: different for the first threads, so that they use different cache lines.
#[must_use]
pub fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static LANE: Cell<usize> = const { Cell::new(usize::MAX) });
    LANE.with(|lane| {
        if lane.get() == usize::MAX {
            lane.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        lane.get()
    })
}

/// 64 slots: a bit for each that is free, and their sequences from the first use on.
#[repr(align(128))]
struct Word {
    free: AtomicU64,
    sequences: OnceLock<Box<[AtomicU64; 64]>>,
}

/// A bounded set of slots with consecutive numbers.
pub struct Slots {
    first: u32,
    count: u32,
    words: Box<[Word]>,
    waiting: AtomicUsize,
    freed: Notify,
}

/// A slot in use; dropping it frees it.
pub struct Slot<'a> {
    slots: &'a Slots,
    index: u32,
    sequence: u64,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({} of {} from {})", self.used(), self.count, self.first)
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({}, {})", self.number(), self.sequence())
    }
}

impl Slots {
    /// `count` free slots, the first of them with the number `first`.
    #[must_use]
    pub fn new(first: u32, count: u32) -> Slots {
        let words = (0..count.div_ceil(SLOTS_PER_WORD)).map(|word| {
            let in_word = (count - word * SLOTS_PER_WORD).min(SLOTS_PER_WORD);
            Word { free: AtomicU64::new(u64::MAX >> (SLOTS_PER_WORD - in_word)), sequences: OnceLock::new() }
        });
        Slots { first, count, words: words.collect(), waiting: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Takes a slot, near `lane` so that threads do not meet; `None` when all are in use.
    #[must_use]
    pub fn try_take(&self, lane: usize) -> Option<Slot<'_>> {
        let count = self.words.len();
        (0..count).find_map(|step| self.take_in((lane + step) % count))
    }

    /// Takes a slot; waits for one when all are in use.
    pub async fn take(&self, lane: usize) -> Slot<'_> {
        if let Some(slot) = self.try_take(lane) {
            return slot;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let slot = loop {
            let freed = self.freed.notified();
            // After counting ourselves: a slot freed before that is seen here, one freed later wakes us.
            match self.try_take(lane) {
                Some(slot) => break slot,
                None => freed.await,
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        slot
    }

    /// How many slots are in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        let free: u32 = self.words.iter().map(|word| word.free.load(Ordering::Relaxed).count_ones()).sum();
        self.count - free
    }

    fn take_in(&self, word: usize) -> Option<Slot<'_>> {
        let place = &self.words[word];
        let mut free = place.free.load(Ordering::SeqCst);
        while free != 0 {
            let bit = free.trailing_zeros();
            match place.free.compare_exchange_weak(free, free & !(1 << bit), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    let sequences = place.sequences.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 64]));
                    let sequence = sequences[bit as usize].fetch_add(1, Ordering::Relaxed);
                    return Some(Slot { slots: self, index: word as u32 * SLOTS_PER_WORD + bit, sequence });
                }
                Err(now) => free = now,
            }
        }
        None
    }
}

impl Slot<'_> {
    /// The number of the slot.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.slots.first + self.index
    }

    /// How many requests the slot has carried, this one included.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// Begins a further request in the slot; the one before was answered.
    pub fn advance(&mut self) {
        let word = &self.slots.words[(self.index / SLOTS_PER_WORD) as usize];
        if let Some(sequences) = word.sequences.get() {
            self.sequence = sequences[(self.index % SLOTS_PER_WORD) as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let word = &self.slots.words[(self.index / SLOTS_PER_WORD) as usize];
        word.free.fetch_or(1 << (self.index % SLOTS_PER_WORD), Ordering::SeqCst);
        if self.slots.waiting.load(Ordering::SeqCst) > 0 {
            self.slots.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn at_the_limit_there_is_no_slot_until_one_is_freed() {
        for count in [1, 63, 64, 65, 1024] {
            let slots = Slots::new(7, count);
            let mut taken: Vec<_> = std::iter::from_fn(|| slots.try_take(3)).collect();
            assert_eq!((taken.len() as u32, slots.used()), (count, count));
            let mut numbers: Vec<u32> = taken.iter().map(Slot::number).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (7..7 + count).collect::<Vec<_>>());
            let freed = taken.pop().unwrap().number();
            assert_eq!(slots.try_take(0).map(|slot| slot.number()), Some(freed));
        }
    }

    #[test]
    fn the_sequence_of_a_slot_grows_with_each_request() {
        let slots = Slots::new(0, 1);
        for expected in 1..5 {
            assert_eq!(slots.try_take(0).unwrap().sequence(), expected);
        }
    }

    #[test]
    fn a_chain_of_requests_in_one_slot_counts_each() {
        let slots = Slots::new(0, 1);
        let mut slot = slots.try_take(0).unwrap();
        slot.advance();
        assert_eq!(slot.sequence(), 2);
        drop(slot);
        assert_eq!(slots.try_take(0).unwrap().sequence(), 3);
    }

    #[test]
    fn whoever_waits_gets_the_slot_that_is_freed() {
        let slots = Slots::new(0, 1);
        let held = slots.try_take(0).unwrap();
        let mut wait = pin!(slots.take(0));
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        drop(held);
        let Poll::Ready(slot) = wait.as_mut().poll(&mut context) else { panic!("still waiting") };
        assert_eq!(slot.sequence(), 2);
    }

    #[test]
    fn no_two_threads_hold_one_slot() {
        let slots = Slots::new(0, 3);
        let holders: [AtomicU64; 3] = Default::default();
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let (slots, holders) = (&slots, &holders);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let Some(slot) = slots.try_take(lane) else { continue };
                        let holder = &holders[slot.number() as usize];
                        assert_eq!(holder.swap(1, Ordering::SeqCst), 0);
                        holder.store(0, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(slots.used(), 0);
    }
}
