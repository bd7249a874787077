//! The way to one brick: whether it is there, since when, why not, and when to try again.
//!
//! Pure: no clock, no task, no I/O. The rim does what is returned, and tells what happened.
//!
//! ```text
//! Down -> Connecting -> Greeting -> Attaching -> Reopening -> Up -> Down ...
//!           any of them -> Down      any of them -> Stopped
//! ```
//!
//! Always true: parents are told of an end only after a beginning or of the first failure, never twice in a row; what
//! was kept is held for old at each end, and again before each further beginning.

use std::time::{Duration, Instant};

/// The wait before the second try; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between two tries, and the one after a refusal.
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(3);
/// A connection that lasted less is not tried again at once.
const STABLE: Duration = Duration::from_secs(1);

/// Where the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no connection; the next try comes.
    Down,
    /// The transport is made.
    Connecting,
    /// Versions and the right to be there.
    Greeting,
    /// Sessions are taken up.
    Attaching,
    /// What was open is opened again.
    Reopening,
    /// Requests flow.
    Up {
        /// The brick's count of its starts.
        boot: u64,
    },
    /// For good.
    Stopped,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For people, without the brick's name.
    pub(crate) reason: String,
    /// For programs.
    pub(crate) cause: Cause,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody answers, or the connection was lost.
    Lost,
    /// There is no agreement on how to encrypt.
    Tls,
    /// What answers there is no brick.
    Stranger,
    /// The brick speaks another version.
    Version,
    /// The brick said no.
    Refused,
}

impl Cause {
    /// In a word, for `status`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Cause::Lost => "lost",
            Cause::Tls => "tls",
            Cause::Stranger => "stranger",
            Cause::Version => "version",
            Cause::Refused => "refused",
        }
    }

    /// Whether trying again soon will not help.
    fn lasts(self) -> bool {
        matches!(self, Cause::Version | Cause::Refused)
    }
}

impl Failure {
    pub(crate) fn lost(reason: impl ToString) -> Failure {
        Failure { reason: reason.to_string(), cause: Cause::Lost }
    }
}

/// What the parents are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Whatever was kept is old.
    Old,
    /// The brick serves.
    Up,
    /// The brick cannot be reached.
    Down(String),
}

/// The state.
#[derive(Debug)]
pub(crate) struct Link {
    phase: Phase,
    /// Of being up, or of not being up.
    since: Instant,
    /// Tries since the link was last up for a while.
    tries: u32,
    failure: Option<Failure>,
    told_down: bool,
    connects: u64,
}

impl Link {
    pub(crate) fn new(now: Instant) -> Link {
        Link { phase: Phase::Down, since: now, tries: 0, failure: None, told_down: false, connects: 0 }
    }

    /// Goes on to `phase`, the next one before [`Phase::Up`].
    ///
    /// # Panics
    /// When that is not the next one: the rim has lost its way.
    pub(crate) fn advance(&mut self, phase: Phase) {
        let next = match self.phase {
            Phase::Down => Phase::Connecting,
            Phase::Connecting => Phase::Greeting,
            Phase::Greeting => Phase::Attaching,
            Phase::Attaching => Phase::Reopening,
            Phase::Reopening | Phase::Up { .. } | Phase::Stopped => panic!("{phase:?} after {:?}", self.phase),
        };
        assert_eq!(phase, next, "after {:?}", self.phase);
        self.phase = phase;
    }

    /// What the parents are told before requests flow again.
    pub(crate) fn before_up(&self) -> Option<Tell> {
        (self.connects > 0).then_some(Tell::Old)
    }

    /// Requests flow.
    ///
    /// # Panics
    /// When nothing was reopened before.
    pub(crate) fn up(&mut self, now: Instant, boot: u64) -> Tell {
        assert_eq!(self.phase, Phase::Reopening, "requests flow when everything is open again");
        *self = Link {
            phase: Phase::Up { boot },
            since: now,
            tries: self.tries,
            failure: None,
            told_down: false,
            connects: self.connects + 1,
        };
        Tell::Up
    }

    /// The try failed, or the connection was lost.
    pub(crate) fn fail(&mut self, now: Instant, failure: Failure) -> Vec<Tell> {
        if self.phase == Phase::Stopped {
            return Vec::new();
        }
        let was_up = matches!(self.phase, Phase::Up { .. });
        self.tries = match was_up {
            true if now.duration_since(self.since) >= STABLE => 0,
            true => 1,
            false => self.tries.saturating_add(1),
        };
        if was_up {
            self.since = now;
        }
        self.phase = Phase::Down;
        let mut told = Vec::new();
        if was_up {
            told.push(Tell::Old);
        }
        if !self.told_down {
            told.push(Tell::Down(failure.reason.clone()));
        }
        self.told_down = true;
        self.failure = Some(failure);
        told
    }

    /// The end.
    pub(crate) fn stop(&mut self) {
        self.phase = Phase::Stopped;
    }

    /// How long to wait before the next try; `random` spreads those of many clients over the second half of it.
    pub(crate) fn retry_in(&self, random: u32) -> Duration {
        let whole = match (self.tries, &self.failure) {
            (_, Some(Failure { cause, .. })) if cause.lasts() => RETRY_LAST,
            (0, _) => return Duration::ZERO,
            (tries, _) => RETRY_FIRST.saturating_mul(1 << (tries - 1).min(16)).min(RETRY_LAST),
        };
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// When requests no longer wait for the brick, given that they wait for `patience`; `None` while it is up.
    pub(crate) fn gives_up_at(&self, patience: Duration) -> Option<Instant> {
        match self.phase {
            Phase::Up { .. } => None,
            // Nothing is waited for after the end.
            Phase::Stopped => Some(self.since),
            _ => Some(self.since + patience),
        }
    }

    /// Of being up, or of not being up.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Why it is not up.
    pub(crate) fn reason(&self) -> &str {
        match (self.phase, &self.failure) {
            (Phase::Stopped, _) => "the graph is stopped",
            (_, Some(failure)) => &failure.reason,
            (_, None) => "",
        }
    }

    /// What kind of reason; `None` when there is none.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.failure.as_ref().map(|failure| failure.cause)
    }

    /// How often it was up again after it had been lost.
    pub(crate) fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    /// In a word, for `status`.
    pub(crate) fn word(&self) -> &'static str {
        match self.phase {
            Phase::Up { .. } => "up",
            Phase::Down | Phase::Stopped => "down",
            Phase::Connecting | Phase::Greeting | Phase::Attaching | Phase::Reopening => "connecting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: [Phase; 4] = [Phase::Connecting, Phase::Greeting, Phase::Attaching, Phase::Reopening];

    fn rise(link: &mut Link, now: Instant) -> Tell {
        WAY.into_iter().for_each(|phase| link.advance(phase));
        link.up(now, 1)
    }

    fn refused() -> Failure {
        Failure { reason: "wrong password".to_owned(), cause: Cause::Refused }
    }

    #[test]
    fn parents_hear_of_the_first_failure_and_then_of_changes_only() {
        let now = Instant::now();
        let mut link = Link::new(now);
        link.advance(Phase::Connecting);
        assert_eq!(link.fail(now, Failure::lost("refused")), [Tell::Down("refused".to_owned())]);
        link.advance(Phase::Connecting);
        assert_eq!(link.fail(now, Failure::lost("refused again")), []);
        assert_eq!(link.reason(), "refused again");
        assert_eq!(link.before_up(), None, "nothing was kept of a brick that was never up");
        assert_eq!(rise(&mut link, now), Tell::Up);
        assert_eq!(link.fail(now, Failure::lost("cut")), [Tell::Old, Tell::Down("cut".to_owned())]);
        assert_eq!(link.before_up(), Some(Tell::Old));
        assert_eq!(rise(&mut link, now), Tell::Up);
        assert_eq!((link.reconnects(), link.reason()), (1, ""));
    }

    #[test]
    fn the_first_retry_is_at_once_and_the_waits_double_up_to_three_seconds() {
        let now = Instant::now();
        let mut link = Link::new(now);
        rise(&mut link, now);
        link.fail(now + STABLE, Failure::lost("cut"));
        let mut waits = vec![link.retry_in(u32::MAX).as_millis()];
        for _ in 0..8 {
            link.advance(Phase::Connecting);
            link.fail(now, Failure::lost("refused"));
            waits.push(link.retry_in(u32::MAX).as_millis());
        }
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(link.retry_in(0).as_millis(), 1500);
    }

    #[test]
    fn a_connection_that_does_not_last_is_not_tried_again_at_once() {
        let now = Instant::now();
        let mut link = Link::new(now);
        rise(&mut link, now);
        link.fail(now + STABLE / 2, Failure::lost("cut"));
        assert_eq!(link.retry_in(u32::MAX), RETRY_FIRST);
    }

    #[test]
    fn a_refusal_is_tried_again_at_the_slowest_pace() {
        let mut link = Link::new(Instant::now());
        link.advance(Phase::Connecting);
        link.fail(Instant::now(), refused());
        assert_eq!(link.retry_in(u32::MAX), RETRY_LAST);
    }

    #[test]
    fn requests_wait_from_the_loss_on_whatever_the_tries_come_to() {
        let (now, patience) = (Instant::now(), Duration::from_secs(60));
        let mut link = Link::new(now);
        assert_eq!(link.gives_up_at(patience), Some(now + patience));
        rise(&mut link, now);
        assert_eq!(link.gives_up_at(patience), None);
        let lost = now + Duration::from_secs(5);
        link.fail(lost, Failure::lost("cut"));
        link.advance(Phase::Connecting);
        link.fail(lost + Duration::from_secs(9), Failure::lost("refused"));
        assert_eq!(link.gives_up_at(patience), Some(lost + patience));
        link.stop();
        assert_eq!(link.gives_up_at(patience), Some(lost), "nothing is waited for after the end");
    }

    #[test]
    #[should_panic(expected = "after Down")]
    fn no_phase_is_left_out() {
        Link::new(Instant::now()).advance(Phase::Attaching);
    }
}
