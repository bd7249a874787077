//! The requests that wait, in the order in which they came.
//!
//! Each waiter stands behind one *obstacle*, a held lock or an earlier waiter; there may be more in its way, but while this
//! one is, nothing needs to be looked at. When it goes, the waiter is *due*: looked at again, oldest first, until another
//! obstacle is found or it is granted. So a release costs what it frees, not what waits.
//!
//! An earlier waiter stops being an obstacle for one whose owner it waits for by now, over whichever chain. Those whose
//! owners may be waited for are therefore noted: few, as most that wait hold nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;

use super::spans::{Span, Spans, Wanted};
use super::types::{Ask, Lock, LockId, Mode, OwnerKey, Waiter, WaiterId};

/// A place in the queue: earlier ones are lower.
pub(super) type Place = u64;

/// Nobody's is before it.
pub(super) const FIRST: Place = 0;

/// Behind all.
pub(super) const LAST: Place = u64::MAX;

/// What a waiter certainly has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    Lock(LockId),
    Waiter(Place),
}

/// A waiter with its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub place: Place,
    pub waiter: Waiter,
}

impl Span for Placed {
    fn range(&self) -> ByteRange {
        self.waiter.ask.range
    }

    fn number(&self) -> u64 {
        self.place
    }

    fn exclusive(&self) -> bool {
        self.waiter.ask.mode == Mode::Exclusive
    }
}

#[derive(Debug)]
struct Entry {
    waiter: Waiter,
    /// `None` while it is due.
    obstacle: Option<Obstacle>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Place, Entry>,
    next: Place,
    places: BTreeMap<WaiterId, Place>,
    spans: Spans<Placed>,
    owners: BTreeSet<(OwnerKey, Place)>,
    opens: BTreeSet<(OpenId, Place)>,
    behind: BTreeSet<(Obstacle, Place)>,
    due: BTreeSet<Place>,
    /// Those that stand behind a waiter and whose owners may be waited for.
    revocable: BTreeSet<Place>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.entries.values().map(|entry| &entry.waiter)
    }

    /// Oldest first.
    pub fn placed(&self) -> impl Iterator<Item = Placed> {
        self.entries.iter().map(|(&place, entry)| Placed { place, waiter: entry.waiter })
    }

    pub fn place(&self, id: WaiterId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    pub fn at(&self, place: Place) -> &Waiter {
        &self.entries[&place].waiter
    }

    /// Waiters of `owner`, oldest first.
    pub fn of_owner(&self, owner: OwnerKey) -> impl Iterator<Item = Place> {
        self.owners.range((owner, 0)..=(owner, LAST)).map(|(_, place)| *place)
    }

    /// Waiters that came through an open of that number, oldest first.
    pub fn of_open(&self, open: OpenId) -> impl Iterator<Item = Place> {
        self.opens.range((open, 0)..=(open, LAST)).map(|(_, place)| *place)
    }

    /// Adds a waiter at the end, where it is due.
    pub fn push(&mut self, waiter: Waiter) -> Place {
        let place = self.next;
        self.next += 1;
        self.places.insert(waiter.id, place);
        self.spans.insert(Placed { place, waiter });
        self.owners.insert((waiter.ask.owner, place));
        self.opens.insert((waiter.ask.tag.open, place));
        self.entries.insert(place, Entry { waiter, obstacle: None });
        self.due.insert(place);
        place
    }

    /// Takes a waiter out; those behind it are due.
    pub fn remove(&mut self, place: Place) -> Waiter {
        let Entry { waiter, obstacle } = self.entries.remove(&place).expect("a place in the queue");
        self.places.remove(&waiter.id);
        self.spans.remove((waiter.ask.range.start(), place));
        self.owners.remove(&(waiter.ask.owner, place));
        self.opens.remove(&(waiter.ask.tag.open, place));
        self.revocable.remove(&place);
        match obstacle {
            Some(obstacle) => _ = self.behind.remove(&(obstacle, place)),
            None => _ = self.due.remove(&place),
        }
        self.is_gone(Obstacle::Waiter(place));
        waiter
    }

    /// Whoever stands behind it is due.
    pub fn is_gone(&mut self, obstacle: Obstacle) {
        while let Some(&(_, place)) = self.behind.range((obstacle, 0)..=(obstacle, LAST)).next() {
            self.is_due(place);
        }
    }

    /// The waiters of `owner` that stand behind others are due.
    pub fn look_again_at(&mut self, owner: OwnerKey) {
        let behind = |place: &Place| matches!(self.entries[place].obstacle, Some(Obstacle::Waiter(_)));
        let due: Vec<Place> = self.of_owner(owner).filter(behind).collect();
        due.into_iter().for_each(|place| self.is_due(place));
    }

    /// Those that stand behind others, whose owners may be waited for and that `pick` picks are due.
    pub fn look_again(&mut self, pick: impl Fn(&Ask) -> bool) {
        let picked = |place: &Place| pick(&self.entries[place].waiter.ask);
        let due: Vec<Place> = self.revocable.iter().copied().filter(picked).collect();
        due.into_iter().for_each(|place| self.is_due(place));
    }

    fn is_due(&mut self, place: Place) {
        let entry = self.entries.get_mut(&place).expect("a place in the queue");
        if let Some(obstacle) = entry.obstacle.take() {
            self.behind.remove(&(obstacle, place));
        }
        self.revocable.remove(&place);
        self.due.insert(place);
    }

    /// The oldest that is due, until it is removed or stands behind something.
    pub fn next_due(&self) -> Option<Place> {
        self.due.first().copied()
    }

    /// The waiter is not due any more. `revocable` is whether its owner may be waited for.
    pub fn stand_behind(&mut self, place: Place, obstacle: Obstacle, revocable: bool) {
        self.due.remove(&place);
        if revocable && matches!(obstacle, Obstacle::Waiter(_)) {
            self.revocable.insert(place);
        }
        self.behind.insert((obstacle, place));
        self.entries.get_mut(&place).expect("a place in the queue").obstacle = Some(obstacle);
    }

    /// A waiter before `place` that conflicts with `ask` and whose owner `counts`: of those with one range the
    /// nearest, so that a crowd forms a line and each stands behind another one.
    pub fn conflict(&self, ask: &Ask, place: Place, counts: impl Fn(OwnerKey) -> bool) -> Option<Place> {
        let mut accept = |other: &Placed| other.waiter.ask.owner != ask.owner && counts(other.waiter.ask.owner);
        self.spans.last(&conflicting(ask, place), &mut accept).map(|other| other.place)
    }

    /// All waiters before `place` that conflict with `ask`, oldest first.
    pub fn conflicts(&self, ask: &Ask, place: Place) -> Vec<Placed> {
        let mut found = Vec::new();
        _ = self.spans.visit(&conflicting(ask, place), &mut |other| {
            found.extend((other.waiter.ask.owner != ask.owner).then_some(*other));
            ControlFlow::Continue(())
        });
        found.sort_unstable_by_key(|other| other.place);
        found
    }

    /// Shows the waiters that `lock` shuts out.
    pub fn for_each_shut_out(&self, lock: &Lock, visit: &mut dyn FnMut(&Placed) -> ControlFlow<()>) -> ControlFlow<()> {
        let wanted = Wanted { range: lock.range, exclusive: lock.mode == Mode::Shared, before: LAST };
        self.spans.visit(&wanted, &mut |other| match other.waiter.ask.owner == lock.owner {
            true => ControlFlow::Continue(()),
            false => visit(other),
        })
    }

    /// Shows the waiters after `first` and before `last` that conflict with the one at `first`.
    pub fn for_each_between(
        &self,
        first: Place,
        last: Place,
        visit: &mut dyn FnMut(&Placed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let ask = self.at(first).ask;
        self.spans.visit(&conflicting(&ask, last), &mut |other| match other.place <= first
            || other.waiter.ask.owner == ask.owner
        {
            true => ControlFlow::Continue(()),
            false => visit(other),
        })
    }
}

fn conflicting(ask: &Ask, before: Place) -> Wanted {
    Wanted { range: ask.range, exclusive: ask.mode == Mode::Shared, before }
}
