//! The locks and waiters of one domain, either on ranges or on names.

use std::cell::OnceCell;

use super::types::{Request, XlatorLock, XlatorTaken, XlatorWaiter};
use crate::table::{Blocker, Ids, LockId, OwnerKey, WaiterId};

/// See the [module](self); what always holds is said there above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Oldest first.
    held: Vec<XlatorLock>,
    /// Oldest first.
    waiting: Vec<XlatorWaiter>,
}

impl Room {
    pub(super) fn held(&self) -> &[XlatorLock] {
        &self.held
    }

    pub(super) fn waiting(&self) -> &[XlatorWaiter] {
        &self.waiting
    }

    pub(super) fn len(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    /// The first thing that shuts a newcomer out.
    pub(super) fn first_blocker(&self, request: &Request) -> Option<Blocker> {
        self.shutting_out(request, self.waiting.len()).next()
    }

    /// What the waiter waits for; nothing for one that is not here.
    pub(super) fn blockers(&self, id: WaiterId) -> Vec<Blocker> {
        let place = self.waiting.iter().position(|waiter| waiter.id == id);
        place.map_or_else(Vec::new, |place| self.shutting_out(&self.waiting[place].request, place).collect())
    }

    /// Holds what nothing shuts out, with what follows from that.
    pub(super) fn take(&mut self, request: Request, ids: &Ids) -> XlatorTaken {
        let owner = request.owner;
        let first_of_owner = self.held.iter().all(|lock| lock.request.owner != owner);
        let id = self.hold(request, ids);
        // An owner that holds something is not behind other waiters any more: those of its own may go now.
        let granted = if first_of_owner { self.settle(ids) } else { Vec::new() };
        XlatorTaken { id, granted }
    }

    fn hold(&mut self, request: Request, ids: &Ids) -> LockId {
        let id = ids.next();
        self.held.push(XlatorLock { id, request });
        id
    }

    pub(super) fn enqueue(&mut self, waiter: XlatorWaiter) {
        assert!(self.waiting.iter().all(|other| other.id != waiter.id), "a waiter has one number");
        self.waiting.push(waiter);
    }

    pub(super) fn restore(&mut self, lock: XlatorLock) {
        let fits = |held: &XlatorLock| held.id != lock.id && !held.request.conflicts(&lock.request);
        assert!(self.held.iter().all(fits), "restored locks shut each other out");
        self.held.push(lock);
    }

    /// Removes the newest lock that `is_it`.
    pub(super) fn release_last(&mut self, is_it: impl Fn(&XlatorLock) -> bool) -> Option<XlatorLock> {
        let place = self.held.iter().rposition(is_it)?;
        Some(self.held.remove(place))
    }

    /// Removes a waiter.
    pub(super) fn leave(&mut self, id: WaiterId) -> Option<XlatorWaiter> {
        let place = self.waiting.iter().position(|waiter| waiter.id == id)?;
        Some(self.waiting.remove(place))
    }

    /// Removes everything of the owners that `belongs` names.
    pub(super) fn evict(&mut self, belongs: &dyn Fn(OwnerKey) -> bool) -> (Vec<XlatorLock>, Vec<XlatorWaiter>) {
        let locks = self.held.extract_if(.., |lock| belongs(lock.request.owner)).collect();
        (locks, self.waiting.extract_if(.., |waiter| belongs(waiter.request.owner)).collect())
    }

    /// Grants what nothing shuts out any more, oldest first.
    pub(super) fn settle(&mut self, ids: &Ids) -> Vec<WaiterId> {
        let mut granted = Vec::new();
        let mut place = 0;
        while place < self.waiting.len() {
            if self.shutting_out(&self.waiting[place].request, place).next().is_some() {
                place += 1;
                continue;
            }
            let XlatorWaiter { id, request } = self.waiting.remove(place);
            // As in `take`: one of its own further ahead may go now.
            let ahead = self.waiting[..place].iter().position(|waiter| waiter.request.owner == request.owner);
            place = ahead.unwrap_or(place);
            self.hold(request, ids);
            granted.push(id);
        }
        granted
    }

    /// What shuts out a request that stands before the waiter at `place`: held locks, then waiters ahead of it.
    fn shutting_out(&self, request: &Request, place: usize) -> impl Iterator<Item = Blocker> {
        let held = self.held.iter().filter(|lock| lock.request.conflicts(request));
        let ahead = &self.waiting[..place];
        let conflicting = ahead.iter().filter(|waiter| waiter.request.conflicts(request));
        // Whoever holds something here is waited for, perhaps by the very ones ahead: behind them, all would wait forever.
        let stands_here = move || {
            let requests = self.held.iter().map(|lock| &lock.request);
            let mut requests = requests.chain(ahead.iter().map(|waiter| &waiter.request));
            requests.any(|other| other.owner == request.owner)
        };
        let overtakes = OnceCell::new();
        let behind = conflicting.take_while(move |_| !*overtakes.get_or_init(stands_here));
        let by_lock = |lock: &XlatorLock| Blocker { owner: lock.request.owner, lock: Some(lock.id), waiter: None };
        let by_waiter =
            |other: &XlatorWaiter| Blocker { owner: other.request.owner, lock: None, waiter: Some(other.id) };
        held.map(by_lock).chain(behind.map(by_waiter))
    }
}
