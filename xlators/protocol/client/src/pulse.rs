//! Whether the brick is still there: pings, and how long ago the last answered one was sent.
//!
//! Pure. The brick gives a silent client up after `detach-timeout`, with its locks, and its caches after
//! `invalidate-timeout`; both count from something the client sent. So the client counts from the *sending* of its last answered ping, which is never
//! later, and acts before the brick does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pings that may be unanswered; older ones are forgotten.
const UNANSWERED_MAX: usize = 64;
/// The shortest distance between two pings.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long the brick waits for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) detach: Duration,
    pub(crate) invalidate: Duration,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Send a ping of this number.
    pub(crate) ping: Option<u64>,
    /// What is kept is to be held for old.
    pub(crate) old: bool,
    /// The connection is lost; how long the silence was.
    pub(crate) lost: Option<Duration>,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    bounds: Option<Bounds>,
    /// When the last answered ping was sent.
    answered: Instant,
    unanswered: VecDeque<(u64, Instant)>,
    sent: Instant,
    next: u64,
    silent: bool,
}

impl Pulse {
    /// Of a connection that has just heard its brick.
    pub(crate) fn new(now: Instant) -> Pulse {
        Pulse { bounds: None, answered: now, unanswered: VecDeque::new(), sent: now, next: 1, silent: false }
    }

    /// The brick has said how long it waits for one of our clients; the shortest of all counts.
    pub(crate) fn bound(&mut self, bounds: Bounds) {
        let old = self.bounds.unwrap_or(bounds);
        self.bounds =
            Some(Bounds { detach: old.detach.min(bounds.detach), invalidate: old.invalidate.min(bounds.invalidate) });
    }

    /// The brick has answered ping `number`; whether a silence has ended with it.
    pub(crate) fn answered(&mut self, number: u64) -> bool {
        while let Some((first, sent)) = self.unanswered.front().copied() {
            if first > number {
                break;
            }
            if first == number {
                self.answered = sent;
            }
            self.unanswered.pop_front();
        }
        std::mem::take(&mut self.silent)
    }

    /// What there is to do at `now`, when a silence of `timeout` means that the connection is lost.
    pub(crate) fn beat(&mut self, now: Instant, timeout: Duration) -> Beat {
        let age = now.duration_since(self.answered);
        if age >= timeout {
            return Beat { lost: Some(age), ..Beat::default() };
        }
        let old = !self.silent && self.old_after().is_some_and(|after| age >= after);
        self.silent |= old;
        let due = now.duration_since(self.sent) >= self.interval(timeout);
        Beat { ping: due.then(|| self.send(now)), old, lost: None }
    }

    /// When there is something to do next.
    pub(crate) fn next(&self, timeout: Duration) -> Instant {
        let ping = self.sent + self.interval(timeout);
        let lost = self.answered + timeout;
        let old = self.old_after().filter(|_| !self.silent).map(|after| self.answered + after);
        ping.min(lost).min(old.unwrap_or(lost))
    }

    fn send(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.sent = now;
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((number, now));
        number
    }

    fn interval(&self, timeout: Duration) -> Duration {
        let patience = self.bounds.map_or(timeout, |bounds| bounds.detach.min(bounds.invalidate).min(timeout));
        (patience / 3).max(INTERVAL_MIN)
    }

    /// Three quarters of the shorter bound: whatever was kept is dropped when the brick stops waiting for it, or may give
    /// the locks under which it was read to others, not begun to be dropped.
    fn old_after(&self) -> Option<Duration> {
        self.bounds.map(|bounds| bounds.invalidate.min(bounds.detach) * 3 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(42);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn bounded(now: Instant, detach: u64, invalidate: u64) -> Pulse {
        let mut pulse = Pulse::new(now);
        pulse.bound(Bounds { detach: seconds(detach), invalidate: seconds(invalidate) });
        pulse
    }

    #[test]
    fn a_ping_goes_out_every_third_of_the_shortest_patience() {
        let now = Instant::now();
        for (mut pulse, third) in
            [(Pulse::new(now), 14), (bounded(now, 30, 60), 10), (bounded(now, 90, 15), 5), (bounded(now, 900, 900), 14)]
        {
            assert_eq!(pulse.next(TIMEOUT), now + seconds(third));
            assert_eq!(pulse.beat(now + seconds(third) - seconds(1), TIMEOUT), Beat::default());
            let beat = pulse.beat(now + seconds(third), TIMEOUT);
            assert_eq!(beat, Beat { ping: Some(1), ..Beat::default() });
        }
    }

    #[test]
    fn the_shortest_patience_of_all_clients_counts() {
        let now = Instant::now();
        let mut pulse = bounded(now, 30, 60);
        pulse.bound(Bounds { detach: seconds(90), invalidate: seconds(9) });
        assert_eq!(pulse.next(TIMEOUT), now + seconds(3));
    }

    #[test]
    fn age_counts_from_the_sending_of_the_ping_that_was_answered() {
        let now = Instant::now();
        let mut pulse = bounded(now, 12, 12);
        assert_eq!(pulse.beat(now + seconds(4), TIMEOUT).ping, Some(1));
        assert_eq!(pulse.beat(now + seconds(8), TIMEOUT).ping, Some(2));
        // Three quarters of 12 s after the beginning.
        let beat = pulse.beat(now + seconds(9), TIMEOUT);
        assert!(beat.old);
        assert!(!pulse.beat(now + seconds(10), TIMEOUT).old, "once for each silence");
        assert!(pulse.answered(1), "the silence has ended");
        assert!(!pulse.beat(now + seconds(12), TIMEOUT).old, "8 s since the answered ping was sent");
        assert!(pulse.beat(now + seconds(13), TIMEOUT).old, "9 s since then");
    }

    #[test]
    fn what_is_kept_is_old_before_the_brick_may_give_locks_to_others() {
        // Pages that were read under a lock would else be served while somebody else already holds it.
        let now = Instant::now();
        for (detach, invalidate) in [(12, 60), (60, 12)] {
            let mut pulse = bounded(now, detach, invalidate);
            assert_eq!(pulse.beat(now + seconds(4), TIMEOUT), Beat { ping: Some(1), ..Beat::default() });
            assert!(!pulse.beat(now + seconds(8), TIMEOUT).old);
            assert_eq!(pulse.next(TIMEOUT), now + seconds(9));
            assert!(pulse.beat(now + seconds(9), TIMEOUT).old, "{detach} {invalidate}");
        }
    }

    #[test]
    fn a_silence_of_the_timeout_is_the_end() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert_eq!(pulse.beat(now + TIMEOUT - seconds(1), TIMEOUT).lost, None);
        assert_eq!(pulse.beat(now + TIMEOUT, TIMEOUT).lost, Some(TIMEOUT));
    }

    #[test]
    fn an_answer_to_a_later_ping_answers_the_earlier_ones_and_an_unknown_one_answers_nothing() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        for third in 1..=2 {
            pulse.beat(now + seconds(14 * third), TIMEOUT).ping.unwrap();
        }
        pulse.answered(2);
        assert_eq!(pulse.beat(now + seconds(69), TIMEOUT).lost, None);
        assert!(pulse.beat(now + seconds(70), TIMEOUT).lost.is_some(), "42 s after the second at 28 s");
        let mut pulse = Pulse::new(now);
        pulse.answered(7);
        assert!(pulse.beat(now + TIMEOUT, TIMEOUT).lost.is_some());
    }

    #[test]
    fn unanswered_pings_are_bounded() {
        let now = Instant::now();
        let mut pulse = bounded(now, 1, 1);
        for tenth in 1..1000u32 {
            pulse.beat(now + Duration::from_millis(400) * tenth, seconds(1000));
        }
        assert!(pulse.unanswered.len() <= UNANSWERED_MAX);
    }
}
