//! The life of one client: here, or away since when, and until when its locks are protected against everyone.
//!
//! A client that is gone for good has no life: whoever keeps it removes it.
//!
//! Always true between calls:
//! - a client that is here is protected without end;
//! - one that is away is protected for its whole timeout from its last sign of life, and what was said of it later never
//!   shortens that;
//! - from the deadline on it stays unprotected until it attaches again.

use std::cmp::Reverse;

use brickwork_api::ClientId;

/// One client: of this process, or one that has attached at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    incarnation: u32,
    detach_timeout_ms: u32,
    presence: Presence,
}

/// Whether a client has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has one.
    Attached,
    /// It has none.
    Detached {
        /// Its last sign of life.
        since_ms: u64,
    },
}

impl Life {
    /// The life of a client that attaches for the first time.
    ///
    /// `detach_timeout_ms` is how long its locks are protected once it is away. Which older incarnations stay alive is
    /// the matter of whoever lets clients in: locks belong to the client, whichever of its graphs took them.
    #[must_use]
    pub const fn begin(incarnation: u32, detach_timeout_ms: u32) -> Life {
        Life { incarnation, detach_timeout_ms, presence: Presence::Attached }
    }

    /// The life of a client of this very process, which is here for as long as the process is.
    ///
    /// Attaching makes it one like all others.
    #[must_use]
    pub const fn local() -> Life {
        Life::begin(0, 0)
    }

    /// The life of a client that was known before the brick restarted, at `now_ms`: away as of this moment, whatever it
    /// was before, so that it has one full timeout to come back.
    #[must_use]
    pub const fn restored(incarnation: u32, detach_timeout_ms: u32, now_ms: u64) -> Life {
        Life { incarnation, detach_timeout_ms, presence: Presence::Detached { since_ms: now_ms } }
    }

    /// The client is here, again or with one more connection.
    pub fn attach(&mut self, incarnation: u32, detach_timeout_ms: u32) {
        // One more connection of an older graph that stays alive does not make the client older.
        self.incarnation = self.incarnation.max(incarnation);
        self.detach_timeout_ms = detach_timeout_ms;
        self.presence = Presence::Attached;
    }

    /// The last connection of the client was lost at `at_ms`, and nothing had been heard of it for `silent_ms`.
    /// Attaching is a sign of life: the silence is no longer than the time since.
    ///
    /// Nothing changes for one that is away already: it has shown no life in between.
    pub fn detach(&mut self, at_ms: u64, silent_ms: u64) {
        if self.presence == Presence::Attached {
            self.presence = Presence::Detached { since_ms: at_ms.saturating_sub(silent_ms) };
        }
    }

    /// When its locks stop being protected; `None` as long as it is here.
    #[must_use]
    pub fn protected_until(&self) -> Option<u64> {
        match self.presence {
            Presence::Attached => None,
            Presence::Detached { since_ms } => Some(since_ms.saturating_add(u64::from(self.detach_timeout_ms))),
        }
    }

    /// Whether somebody who wants its locks gets them at `now_ms`.
    #[must_use]
    pub fn may_expire(&self, now_ms: u64) -> bool {
        self.protected_until().is_some_and(|deadline| deadline <= now_ms)
    }

    /// Whether it is here.
    #[must_use]
    pub const fn presence(&self) -> Presence {
        self.presence
    }

    /// The newest incarnation that has attached.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// How long its locks are protected once it is away.
    #[must_use]
    pub const fn detach_timeout_ms(&self) -> u32 {
        self.detach_timeout_ms
    }
}

/// A client with what it costs to keep its locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Who.
    pub client: ClientId,
    /// Its life.
    pub life: Life,
    /// How many locks it holds.
    pub locks: u64,
}

/// Who loses their locks at `now_ms` although nobody wants them, so that clients that are away hold at most `locks_max`
/// in all: the longest away first, and none that is protected.
///
/// When protected ones alone hold more, that stays so until the deadline of one of them ([`Life::protected_until`]).
#[must_use]
pub fn beyond_limit(clients: impl IntoIterator<Item = Keeping>, locks_max: u64, now_ms: u64) -> Vec<ClientId> {
    let away = |keeping: &Keeping| keeping.life.presence() != Presence::Attached && keeping.locks > 0;
    let mut away: Vec<Keeping> = clients.into_iter().filter(away).collect();
    let mut held: u64 = away.iter().map(|keeping| keeping.locks).sum();
    away.retain(|keeping| keeping.life.may_expire(now_ms));
    // By client where times are equal, so that a journal that is read again chooses the same.
    away.sort_unstable_by_key(|keeping| Reverse((keeping.life.since_ms(), keeping.client)));
    let mut chosen = Vec::new();
    while held > locks_max
        && let Some(oldest) = away.pop()
    {
        held -= oldest.locks;
        chosen.push(oldest.client);
    }
    chosen
}

impl Life {
    /// Its last sign of life; for one that is here, later than all others.
    fn since_ms(&self) -> u64 {
        match self.presence {
            Presence::Attached => u64::MAX,
            Presence::Detached { since_ms } => since_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: u32 = 10_000;

    #[test]
    fn a_client_that_is_here_is_protected_without_end() {
        let life = Life::begin(1, TIMEOUT);
        assert_eq!(life.protected_until(), None);
        assert!(!life.may_expire(u64::MAX));
    }

    #[test]
    fn a_client_that_went_away_is_protected_for_its_timeout_from_its_last_sign_of_life() {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(50_000, 3_000);
        assert_eq!(life.protected_until(), Some(57_000));
        assert!(!life.may_expire(56_999));
        assert!(life.may_expire(57_000));
    }

    #[test]
    fn a_client_that_was_silent_for_longer_than_its_timeout_is_unprotected_at_once() {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(50_000, 10_001);
        assert!(life.may_expire(50_000));
    }

    #[test]
    fn attaching_again_protects_again_with_the_new_timeout() {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(50_000, 0);
        life.attach(2, 20_000);
        assert!(!life.may_expire(1_000_000));
        life.detach(1_000_000, 0);
        assert_eq!(life.protected_until(), Some(1_020_000));
        assert_eq!(life.incarnation(), 2);
    }

    #[test]
    fn one_more_connection_of_an_older_graph_does_not_make_the_client_older() {
        let mut life = Life::begin(7, TIMEOUT);
        life.attach(6, TIMEOUT);
        assert_eq!(life.incarnation(), 7);
    }

    #[test]
    fn a_second_loss_of_a_client_that_is_away_changes_nothing() {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(50_000, 0);
        let before = life;
        life.detach(55_000, 0);
        life.detach(55_000, 30_000);
        assert_eq!(life, before);
    }

    #[test]
    fn a_restart_gives_every_client_one_full_timeout() {
        let life = Life::restored(4, TIMEOUT, 70);
        assert_eq!(life.protected_until(), Some(10_070));
        assert_eq!(life.incarnation(), 4);
    }

    #[test]
    fn a_silence_from_before_the_clock_began_protects_from_its_beginning() {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(5, 1_000);
        assert_eq!(life.protected_until(), Some(10_000));
    }

    fn away(client: u128, since_ms: u64, locks: u64) -> Keeping {
        let mut life = Life::begin(1, TIMEOUT);
        life.detach(since_ms, 0);
        Keeping { client: ClientId(client), life, locks }
    }

    #[test]
    fn the_longest_away_go_first_and_only_as_many_as_need_be() {
        let clients = [away(1, 300, 10), away(2, 100, 10), away(3, 200, 10)];
        assert_eq!(beyond_limit(clients, 30, 50_000), []);
        assert_eq!(beyond_limit(clients, 29, 50_000), [ClientId(2)]);
        assert_eq!(beyond_limit(clients, 10, 50_000), [ClientId(2), ClientId(3)]);
        assert_eq!(beyond_limit(clients, 0, 50_000), [ClientId(2), ClientId(3), ClientId(1)]);
    }

    #[test]
    fn those_that_are_protected_or_here_do_not_go_but_the_protected_count() {
        let here = Keeping { client: ClientId(1), life: Life::begin(1, TIMEOUT), locks: 1_000 };
        let clients = [here, away(2, 45_000, 10), away(3, 100, 10)];
        assert_eq!(beyond_limit(clients, 20, 50_000), []);
        assert_eq!(beyond_limit(clients, 0, 50_000), [ClientId(3)]);
    }

    #[test]
    fn those_that_hold_nothing_are_left_alone() {
        assert_eq!(beyond_limit([away(1, 100, 0), away(2, 200, 5)], 0, 50_000), [ClientId(2)]);
    }

    proptest! {
        #[test]
        fn whoever_is_chosen_was_away_for_longer_than_whoever_could_have_been(
            clients in prop::collection::vec((any::<bool>(), 0u64..40_000, 0u64..5), 0..12),
            locks_max in 0u64..30,
            now_ms in 0u64..60_000,
        ) {
            let clients: Vec<Keeping> = (0u128..).zip(clients).map(|(number, (here, since_ms, locks))| match here {
                true => Keeping { client: ClientId(number), life: Life::begin(1, TIMEOUT), locks },
                false => away(number, since_ms, locks),
            }).collect();
            let chosen = beyond_limit(clients.clone(), locks_max, now_ms);
            let goes = |keeping: &&Keeping| chosen.contains(&keeping.client);
            let could = |keeping: &&Keeping| keeping.life.may_expire(now_ms) && keeping.locks > 0;
            prop_assert!(clients.iter().filter(goes).all(|keeping| could(&keeping)));
            let newest_chosen = clients.iter().filter(goes).map(|keeping| keeping.life.since_ms()).max();
            let oldest_left = clients.iter().filter(could).filter(|keeping| !goes(keeping)).map(|keeping| keeping.life.since_ms()).min();
            prop_assert!(newest_chosen.is_none() || oldest_left.is_none() || newest_chosen <= oldest_left);
            let away = |keeping: &&Keeping| keeping.life.presence() != Presence::Attached;
            let left: u64 = clients.iter().filter(away).filter(|keeping| !goes(keeping)).map(|keeping| keeping.locks).sum();
            prop_assert!(left <= locks_max || oldest_left.is_none());
            // Without the last one chosen it would still have been too many.
            let last = chosen.last().map(|last| clients.iter().find(|keeping| keeping.client == *last).unwrap().locks);
            prop_assert!(last.is_none_or(|last| left + last > locks_max));
        }
    }
}
