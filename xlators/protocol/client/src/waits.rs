//! Those who wait for an answer: each under a number, each told once.
//!
//! Always true: a number is given out once; whoever waits is told `Came`, `Lost` or `TooLate`, whichever is first, and
//! what comes later finds nobody. After [`Waits::end`] nobody waits any more.
//!
//! Telling happens on the thread of the one who tells; the waker is woken after the lock is released.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;

/// Tables, so that threads do not meet.
const SHARDS: u32 = 16;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// What became of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// The answer.
    Came(T),
    /// No answer will come any more.
    Lost,
    /// The limit was reached.
    TooLate,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Waits<T> {
    shards: [Mutex<Shard<T>>; SHARDS as usize],
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    ended: bool,
}

#[derive(Debug)]
struct Place<T> {
    /// Counts those who had the place: a number of an earlier one means nobody.
    turn: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Free,
    Waiting { waker: Option<Waker>, limit: Option<Instant> },
    Told(Outcome<T>),
}

/// One who waits. Dropped before it was told: the answer finds nobody.
#[derive(Debug)]
pub(crate) struct Wait<'a, T> {
    waits: &'a Waits<T>,
    number: u64,
}

impl<T> Default for Shard<T> {
    fn default() -> Shard<T> {
        Shard { places: Vec::new(), free: Vec::new(), ended: false }
    }
}

impl<T> Waits<T> {
    pub(crate) fn new() -> Waits<T> {
        Waits { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Begins to wait, until `limit` if there is one; those of one `lane` share a lock. `None` after [`Waits::end`].
    pub(crate) fn begin(&self, lane: u32, limit: Option<Instant>) -> Option<Wait<'_, T>> {
        let lane = lane % SHARDS;
        let mut shard = self.shards[lane as usize].lock();
        if shard.ended {
            return None;
        }
        let index = shard.take_place();
        let place = &mut shard.places[index as usize];
        place.turn = place.turn.wrapping_add(1);
        place.state = State::Waiting { waker: None, limit };
        let number = u64::from(place.turn) << 32 | u64::from(index << SHARD_BITS | lane);
        Some(Wait { waits: self, number })
    }

    /// Tells the one who waits under `number`; whether there was one.
    pub(crate) fn tell(&self, number: u64, answer: T) -> bool {
        let (mut shard, index) = self.at(number);
        let Some(place) = shard.places.get_mut(index).filter(|place| place.turn == turn(number)) else { return false };
        let State::Waiting { waker, .. } = &mut place.state else { return false };
        let waker = waker.take();
        place.state = State::Told(Outcome::Came(answer));
        drop(shard);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Tells all that nothing will come, and whoever begins from now on.
    pub(crate) fn end(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.ended = true;
            let wakers = shard.tell_some(|| Outcome::Lost, |_| true);
            drop(shard);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Tells those whose limit is reached; how many they were.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let mut expired = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            let wakers = shard.tell_some(|| Outcome::TooLate, |limit| limit.is_some_and(|limit| limit <= now));
            drop(shard);
            expired += wakers.len();
            wakers.into_iter().for_each(Waker::wake);
        }
        expired
    }

    /// How many wait, or have not looked at their answer yet.
    pub(crate) fn count(&self) -> usize {
        let used = |shard: &Mutex<Shard<T>>| {
            let shard = shard.lock();
            shard.places.len() - shard.free.len()
        };
        self.shards.iter().map(used).sum()
    }

    fn at(&self, number: u64) -> (parking_lot::MutexGuard<'_, Shard<T>>, usize) {
        let low = number as u32;
        (self.shards[(low % SHARDS) as usize].lock(), (low >> SHARD_BITS) as usize)
    }
}

fn turn(number: u64) -> u32 {
    (number >> 32) as u32
}

impl<T> Shard<T> {
    fn take_place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { turn: 0, state: State::Free });
            u32::try_from(self.places.len() - 1).expect("fewer requests than numbers: each occupies a slot of a client")
        })
    }

    /// Tells `outcome` to those whose limit is one of `which`; returns whom to wake.
    fn tell_some(&mut self, outcome: fn() -> Outcome<T>, which: impl Fn(Option<Instant>) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for place in &mut self.places {
            let State::Waiting { waker, limit } = &mut place.state else { continue };
            if !which(*limit) {
                continue;
            }
            wakers.push(waker.take().unwrap_or_else(|| Waker::noop().clone()));
            place.state = State::Told(outcome());
        }
        wakers
    }
}

impl<T> Wait<'_, T> {
    /// The number that the answer has to carry.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl<T> Future for Wait<'_, T> {
    type Output = Outcome<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<T>> {
        let (mut shard, index) = self.waits.at(self.number);
        let state = &mut shard.places[index].state;
        match state {
            State::Waiting { waker, .. } => {
                match waker {
                    Some(old) => old.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            State::Told(_) => match std::mem::replace(state, State::Free) {
                State::Told(outcome) => Poll::Ready(outcome),
                State::Waiting { .. } | State::Free => unreachable!("it was told"),
            },
            State::Free => panic!("a wait that has ended is polled again"),
        }
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        let (mut shard, index) = self.waits.at(self.number);
        // What was never looked at is dropped after the lock.
        let state = std::mem::replace(&mut shard.places[index].state, State::Free);
        shard.free.push(index as u32);
        drop(shard);
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::{block_on, poll_once};
    use std::pin::pin;
    use std::time::Duration;

    #[test]
    fn an_answer_reaches_the_one_who_waits_under_its_number() {
        let waits = Waits::new();
        let (one, other) = (waits.begin(3, None).unwrap(), waits.begin(3, None).unwrap());
        let (first, second) = (one.number(), other.number());
        assert_ne!(first, second);
        assert!(waits.tell(second, "second") && waits.tell(first, "first"));
        assert_eq!(block_on(one), Outcome::Came("first"));
        assert_eq!(block_on(other), Outcome::Came("second"));
        assert_eq!(waits.count(), 0);
    }

    #[test]
    fn a_second_answer_and_one_for_somebody_who_has_gone_find_nobody() {
        let waits = Waits::new();
        let gone = waits.begin(0, None).unwrap();
        let old = gone.number();
        drop(gone);
        let here = waits.begin(0, None).unwrap();
        assert_ne!(here.number(), old, "the place is taken again under another number");
        assert!(!waits.tell(old, 1));
        assert!(waits.tell(here.number(), 2));
        assert!(!waits.tell(here.number(), 3));
        assert_eq!(block_on(here), Outcome::Came(2));
        assert!(!waits.tell(u64::MAX, 4));
    }

    #[test]
    fn whoever_waits_on_another_thread_is_woken() {
        let waits = Waits::new();
        let wait = waits.begin(9, None).unwrap();
        let number = wait.number();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| block_on(wait));
            assert!(waits.tell(number, 7));
            assert_eq!(waiting.join().unwrap(), Outcome::Came(7));
        });
    }

    #[test]
    fn the_end_tells_all_who_wait_and_nobody_begins_after_it() {
        let waits = Waits::<()>::new();
        let all: Vec<_> = (0..40).map(|lane| waits.begin(lane, None).unwrap()).collect();
        let answered = waits.begin(1, None).unwrap();
        assert!(waits.tell(answered.number(), ()));
        waits.end();
        assert!(all.into_iter().all(|wait| block_on(wait) == Outcome::Lost));
        assert_eq!(block_on(answered), Outcome::Came(()), "an answer that came before the end is not lost");
        assert!(waits.begin(1, None).is_none());
    }

    #[test]
    fn the_limit_ends_a_wait_and_those_without_one_go_on() {
        let (waits, now) = (Waits::<()>::new(), Instant::now());
        let second = Duration::from_secs(1);
        let short = waits.begin(0, Some(now + second)).unwrap();
        let mut endless = pin!(waits.begin(0, None).unwrap());
        assert_eq!(waits.expire(now), 0);
        assert_eq!(waits.expire(now + second), 1);
        assert_eq!(block_on(short), Outcome::TooLate);
        assert!(poll_once(endless.as_mut()).is_pending());
    }
}
