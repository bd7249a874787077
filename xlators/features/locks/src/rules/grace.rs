//! The grace of a brick whose journal of locks is missing or damaged: who may have their locks back, and until when
//! everybody else waits.
//!
//! Always true between calls:
//! - whoever is not on the record reclaims nothing, nor does one that has said that it is complete or that is gone;
//! - nor does one from whom something was taken that it has not heard of: it would claim that too, perhaps before the next
//!   holder does. It is waited for all the same: until it hears that it has lost everything it trusts what it held;
//! - a grace that is over stays over, as long as the times handed in do not go back;
//! - it is over as soon as nobody may reclaim any more, at its end, and at twice its timeout in any case.

use std::collections::BTreeMap;

use brickwork_api::ClientId;

/// What an accepted reclaim leaves until the end, at least: whoever is in the middle of its reclaims gets to the next one.
pub const RECLAIM_EXTENDS_MS: u64 = 1_000;

/// Why locks are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no journal, and clients held locks.
    JournalMissing,
    /// The journal cannot be read to its end.
    JournalDamaged,
}

impl Reason {
    /// For people and for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Reason::JournalMissing => "lock journal missing",
            Reason::JournalDamaged => "lock journal damaged",
        }
    }
}

/// One grace, running or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    reason: Reason,
    begun_ms: u64,
    timeout_ms: u64,
    ends_ms: u64,
    clients: BTreeMap<ClientId, Reclaims>,
    /// How many of `clients` are [`Standing::Awaited`].
    awaited: usize,
}

/// A client on the durable record: it held locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Who.
    pub client: ClientId,
    /// A lock was taken from it (by expiry, reclaim, drop or fence), and it has not answered for it since, by a claim or by
    /// releasing the open. The record has to say so before the lock is given away.
    pub robbed: bool,
}

impl From<ClientId> for Recorded {
    /// A client from which nothing was taken.
    fn from(client: ClientId) -> Recorded {
        Recorded { client, robbed: false }
    }
}

/// How far one client on the record has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaims {
    /// Whether it may reclaim nothing; see [`Recorded::robbed`].
    pub robbed: bool,
    /// Locks that it has back.
    pub reclaimed: u64,
    /// Whether there may be more.
    pub standing: Standing,
}

/// Whether a client on the record is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has claims to make.
    #[default]
    Awaited,
    /// It has said that it was all.
    Complete,
    /// It has ended: it never comes.
    Gone,
}

/// A grace in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that held locks before.
    pub clients: usize,
    /// Those of them that have not completed.
    pub awaited: usize,
    /// Locks that are back.
    pub reclaimed: u64,
}

impl Grace {
    /// Begins at `now_ms` for the clients on the durable record; without any it is over at once.
    ///
    /// `timeout_ms` is at least the longest `detach-timeout` of them: so long does a client that is cut off trust its
    /// locks.
    #[must_use]
    pub fn begin(
        reason: Reason,
        recorded: impl IntoIterator<Item: Into<Recorded>>,
        now_ms: u64,
        timeout_ms: u64,
    ) -> Grace {
        let fresh = |Recorded { client, robbed }| (client, Reclaims { robbed, ..Reclaims::default() });
        let clients: BTreeMap<_, _> = recorded.into_iter().map(|recorded| fresh(recorded.into())).collect();
        let awaited = clients.len();
        Grace { reason, begun_ms: now_ms, timeout_ms, ends_ms: now_ms.saturating_add(timeout_ms), clients, awaited }
    }

    /// Whether ordinary lock requests are served.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.awaited == 0 || self.ends_ms <= now_ms
    }

    /// Whether `client` may have its locks back.
    #[must_use]
    pub fn may_reclaim(&self, client: ClientId, now_ms: u64) -> bool {
        let may = |reclaims: &Reclaims| reclaims.standing == Standing::Awaited && !reclaims.robbed;
        !self.is_over(now_ms) && self.clients.get(&client).is_some_and(may)
    }

    /// Counts `locks` that `client` has back, and puts the end off so that at least [`RECLAIM_EXTENDS_MS`] are left, up
    /// to twice the timeout in all. A grace that is over is not put off, nor is one by a client that may not reclaim.
    pub fn reclaimed(&mut self, client: ClientId, locks: u64, now_ms: u64) {
        let in_time = self.may_reclaim(client, now_ms);
        // Counted in any case: it was granted while the grace ran, whatever another thread has said meanwhile.
        if let Some(reclaims) = self.clients.get_mut(&client) {
            reclaims.reclaimed += locks;
        }
        if in_time {
            let latest = self.begun_ms.saturating_add(self.timeout_ms.saturating_mul(2));
            self.ends_ms = self.ends_ms.max(latest.min(now_ms.saturating_add(RECLAIM_EXTENDS_MS)));
        }
    }

    /// `client` has claimed all that it held.
    pub fn complete(&mut self, client: ClientId) {
        self.settle(client, Standing::Complete);
    }

    /// `client` has ended: it is not waited for any more.
    pub fn gone(&mut self, client: ClientId) {
        self.settle(client, Standing::Gone);
    }

    /// Ends it now, whoever is still awaited.
    pub fn end_now(&mut self, now_ms: u64) {
        self.ends_ms = self.ends_ms.min(now_ms);
    }

    /// When it ends if nobody reclaims or completes any more.
    #[must_use]
    pub const fn ends_at(&self) -> u64 {
        self.ends_ms
    }

    /// When it began.
    #[must_use]
    pub const fn begun_at(&self) -> u64 {
        self.begun_ms
    }

    /// Why it is.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Every client on the record, by id.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, Reclaims)> {
        self.clients.iter().map(|(client, reclaims)| (*client, *reclaims))
    }

    /// Who has not completed, by id: when the grace is over, what they held and have not claimed is nobody's.
    pub fn awaited(&self) -> impl Iterator<Item = ClientId> {
        self.clients().filter(|(_, reclaims)| reclaims.standing == Standing::Awaited).map(|(client, _)| client)
    }

    /// How far it has got.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let reclaimed = self.clients.values().map(|reclaims| reclaims.reclaimed).sum();
        Counts { clients: self.clients.len(), awaited: self.awaited, reclaimed }
    }

    fn settle(&mut self, client: ClientId, standing: Standing) {
        if let Some(reclaims) = self.clients.get_mut(&client)
            && reclaims.standing == Standing::Awaited
        {
            reclaims.standing = standing;
            self.awaited -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);
    const STRANGER: ClientId = ClientId(3);

    /// From 1,000 to 31,000, for A and B.
    fn grace() -> Grace {
        Grace::begin(Reason::JournalMissing, [A, B], 1_000, 30_000)
    }

    #[test]
    fn without_anybody_on_the_record_it_is_over_at_once() {
        assert!(Grace::begin(Reason::JournalMissing, [] as [Recorded; 0], 1_000, 30_000).is_over(1_000));
    }

    #[test]
    fn only_clients_on_the_record_may_reclaim_and_only_until_they_are_complete() {
        let mut grace = grace();
        assert!(grace.may_reclaim(A, 1_000));
        assert!(!grace.may_reclaim(STRANGER, 1_000));
        grace.complete(A);
        assert!(!grace.may_reclaim(A, 1_000));
        assert!(grace.may_reclaim(B, 1_000));
    }

    /// B had taken a lock over from A when the brick lost its journal: A, which had not heard of it and came first, got it
    /// back. Not waiting for A at all was no better: when B was complete, the grace ended and others took what A went on
    /// trusting that it held.
    #[test]
    fn a_client_that_was_robbed_reclaims_nothing_and_is_waited_for() {
        let robbed = Recorded { client: A, robbed: true };
        let mut grace = Grace::begin(Reason::JournalMissing, [robbed, B.into()], 1_000, 30_000);
        assert!(!grace.may_reclaim(A, 1_000));
        grace.complete(B);
        assert!(!grace.is_over(30_999));
        grace.complete(A);
        assert!(grace.is_over(2_000));
    }

    #[test]
    fn it_is_over_as_soon_as_all_have_completed_or_are_gone() {
        let mut grace = grace();
        grace.complete(A);
        grace.complete(A);
        grace.complete(STRANGER);
        assert!(!grace.is_over(2_000));
        grace.gone(B);
        assert!(grace.is_over(2_000));
        assert_eq!(grace.awaited().count(), 0);
    }

    #[test]
    fn it_ends_at_its_timeout_and_says_who_has_not_completed() {
        let mut grace = grace();
        grace.complete(B);
        assert!(!grace.is_over(30_999));
        assert!(grace.is_over(31_000));
        assert!(!grace.may_reclaim(A, 31_000));
        assert_eq!(grace.awaited().collect::<Vec<_>>(), [A]);
    }

    #[test]
    fn a_reclaim_leaves_a_second_for_the_next_one_up_to_twice_the_timeout() {
        let mut grace = grace();
        grace.reclaimed(A, 1, 2_000);
        assert_eq!(grace.ends_at(), 31_000, "a reclaim long before the end does not put it off");
        let mut now_ms = 30_999;
        while !grace.is_over(now_ms) {
            grace.reclaimed(A, 1, now_ms);
            now_ms += RECLAIM_EXTENDS_MS - 1;
        }
        assert_eq!(grace.ends_at(), 61_000);
    }

    #[test]
    fn an_administrator_ends_it_at_once_and_nothing_brings_it_back() {
        let mut grace = grace();
        grace.end_now(5_000);
        assert!(grace.is_over(5_000));
        assert!(!grace.may_reclaim(A, 5_000));
        grace.end_now(9_000);
        assert_eq!(grace.ends_at(), 5_000);
    }

    #[test]
    fn it_counts_what_is_back_and_who_is_awaited() {
        let mut grace = grace();
        grace.reclaimed(A, 3, 2_000);
        grace.reclaimed(A, 1, 2_000);
        grace.complete(A);
        assert_eq!(grace.counts(), Counts { clients: 2, awaited: 1, reclaimed: 4 });
        let of_a = grace.clients().find(|(client, _)| *client == A).map(|(_, reclaims)| reclaims);
        assert_eq!(of_a, Some(Reclaims { robbed: false, reclaimed: 4, standing: Standing::Complete }));
        assert_eq!((grace.reason().word(), grace.begun_at()), ("lock journal missing", 1_000));
    }

    #[test]
    fn a_reclaim_that_is_counted_late_does_not_bring_a_grace_back() {
        let mut grace = grace();
        grace.reclaimed(A, 1, 31_000);
        grace.reclaimed(STRANGER, 1, 30_999);
        assert!(grace.is_over(31_000));
        assert_eq!(grace.counts().reclaimed, 1);
    }

    proptest! {
        #[test]
        fn whatever_happens_it_ends_once_and_in_time(
            recorded in prop::collection::btree_map(0u128..4, any::<bool>(), 0..4),
            timeout_ms in 0u64..5_000,
            steps in prop::collection::vec((0u64..1_500, 0u128..5, 0u8..6), 0..40),
        ) {
            let (begun, mut now_ms, mut over, mut done) = (100, 100, false, std::collections::BTreeSet::new());
            let mut grace = Grace::begin(Reason::JournalDamaged, recorded.iter().map(|(number, robbed)| Recorded { client: ClientId(*number), robbed: *robbed }), begun, timeout_ms);
            for (wait_ms, number, action) in steps {
                now_ms += wait_ms;
                let client = ClientId(number);
                prop_assert!(!over || grace.is_over(now_ms), "it came back");
                over = grace.is_over(now_ms);
                let allowed = !over && recorded.get(&number) == Some(&false) && !done.contains(&number);
                prop_assert_eq!(grace.may_reclaim(client, now_ms), allowed);
                match action {
                    0..=2 => grace.reclaimed(client, 1, now_ms),
                    3 => { grace.complete(client); done.insert(number); }
                    4 => { grace.gone(client); done.insert(number); }
                    5 if wait_ms == 7 => grace.end_now(now_ms),
                    _ => {}
                }
                prop_assert!(grace.ends_at() <= begun + 2 * timeout_ms);
                let left = recorded.keys().filter(|number| !done.contains(*number)).count();
                prop_assert_eq!(grace.awaited().count(), left);
                prop_assert_eq!(grace.counts().awaited, left);
                prop_assert_eq!(grace.is_over(now_ms), left == 0 || grace.ends_at() <= now_ms);
            }
        }
    }
}
