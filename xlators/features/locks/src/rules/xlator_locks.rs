//! The locks between xlators on one object (`inodelk`, `entrylk`), in named domains: which are held, which wait.
//!
//! Pure, and the same calls give the same answers, numbers of locks included: a journal may replay them. Each call costs
//! O(n) in the locks and waiters of the domain it speaks of, which are as many as xlators work on the object at once.
//!
//! Always true between calls:
//! - locks of different owners in one domain overlap only if both are shared; ranges and names never overlap;
//! - what one owner holds is kept as it was taken, one by one: nothing is joined or cut, and each is released by itself;
//! - a waiter stands in the queue only while it is shut out, by a held lock or by an earlier waiter of another owner that
//!   it conflicts with; the latter does not count for an owner that already holds something there or waits ahead of it;
//! - a domain without locks and waiters is not kept.

mod room;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::room::Room;
pub use self::types::{
    DOMAIN_BYTES_MAX, DOMAIN_LOCKS_MAX, Limits, Request, Scope, XlatorLock, XlatorRefused, XlatorReleased, XlatorTaken,
    XlatorWaited, XlatorWaiter,
};
use crate::table::{Blocker, Ids, LockId, OwnerKey, WaiterId};

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XlatorLocks {
    domains: BTreeMap<Box<str>, Domain>,
}

/// Ranges and names of one domain know nothing of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Domain {
    ranges: Room,
    names: Room,
}

impl Domain {
    fn room(&self, scope: &Scope) -> &Room {
        match scope {
            Scope::Range(_) => &self.ranges,
            Scope::Name(_) | Scope::AllNames => &self.names,
        }
    }

    fn room_mut(&mut self, scope: &Scope) -> &mut Room {
        match scope {
            Scope::Range(_) => &mut self.ranges,
            Scope::Name(_) | Scope::AllNames => &mut self.names,
        }
    }

    fn rooms(&self) -> [&Room; 2] {
        [&self.ranges, &self.names]
    }

    fn rooms_mut(&mut self) -> [&mut Room; 2] {
        [&mut self.ranges, &mut self.names]
    }

    fn len(&self) -> usize {
        self.ranges.len() + self.names.len()
    }
}

impl XlatorLocks {
    /// Takes a lock now or not at all. What the owner holds already is no hindrance: it then holds both.
    ///
    /// # Errors
    /// [`XlatorRefused`]; nothing has changed then.
    pub fn try_lock(
        &mut self,
        domain: &str,
        request: Request,
        ids: &Ids,
        limits: Limits,
    ) -> Result<XlatorTaken, XlatorRefused> {
        if let Some(room) = self.domains.get(domain).map(|domain| domain.room(&request.scope))
            && let Some(blocker) = room.first_blocker(&request)
        {
            return Err(XlatorRefused::Conflict(blocker));
        }
        let room = self.room_for_one_more(domain, &request.scope, limits)?;
        Ok(room.take(request, ids))
    }

    /// Takes a lock, if need be after those who came before.
    ///
    /// `id` must be new to this object. The answer to a waiter comes by a later call that returns its number.
    ///
    /// # Errors
    /// [`XlatorRefused`], but for a conflict; nothing has changed then.
    pub fn wait(
        &mut self,
        domain: &str,
        id: WaiterId,
        request: Request,
        ids: &Ids,
        limits: Limits,
    ) -> Result<XlatorWaited, XlatorRefused> {
        let room = self.room_for_one_more(domain, &request.scope, limits)?;
        if room.first_blocker(&request).is_some() {
            room.enqueue(XlatorWaiter { id, request });
            return Ok(XlatorWaited::Queued);
        }
        Ok(XlatorWaited::Granted(room.take(request, ids)))
    }

    /// Releases the lock that `owner` took last on exactly `scope`, and returns it with the waiters that this grants, in
    /// their order.
    ///
    /// `None` when it holds none there (`EINVAL`); nothing has changed then.
    pub fn unlock(
        &mut self,
        domain: &str,
        owner: OwnerKey,
        scope: &Scope,
        ids: &Ids,
    ) -> Option<(XlatorLock, Vec<WaiterId>)> {
        let room = self.domains.get_mut(domain)?.room_mut(scope);
        let lock = room.release_last(|lock| lock.request.owner == owner && lock.request.scope == *scope)?;
        let granted = room.settle(ids);
        self.forget_if_empty(domain);
        Some((lock, granted))
    }

    /// Takes the lock of this number from its owner, and returns it with its domain and the waiters that this grants.
    pub fn take(&mut self, id: LockId, ids: &Ids) -> Option<(Box<str>, XlatorLock, Vec<WaiterId>)> {
        let is_it = |lock: &XlatorLock| lock.id == id;
        let (name, room, lock) = self.domains.iter_mut().find_map(|(name, domain)| {
            let found = |room: &mut Room| room.release_last(is_it);
            domain
                .rooms_mut()
                .into_iter()
                .find_map(|room| found(room).map(|lock| (room, lock)))
                .map(|(room, lock)| (name, room, lock))
        })?;
        let (name, granted) = (name.clone(), room.settle(ids));
        self.forget_if_empty(&name);
        Some((name, lock, granted))
    }

    /// Removes exactly this waiter, which has taken nothing, and returns it with the waiters that may go now.
    pub fn cancel(&mut self, id: WaiterId, ids: &Ids) -> Option<(XlatorWaiter, Vec<WaiterId>)> {
        let (name, room, waiter) = self.domains.iter_mut().find_map(|(name, domain)| {
            let left = |room: &mut Room| room.leave(id);
            domain
                .rooms_mut()
                .into_iter()
                .find_map(|room| left(room).map(|waiter| (room, waiter)))
                .map(|(room, waiter)| (name, room, waiter))
        })?;
        let (name, granted) = (name.clone(), room.settle(ids));
        self.forget_if_empty(&name);
        Some((waiter, granted))
    }

    /// Removes every lock and waiter of the owners that `belongs` names: those of one client.
    pub fn release_client(&mut self, belongs: &dyn Fn(OwnerKey) -> bool, ids: &Ids) -> XlatorReleased {
        let mut released = XlatorReleased::default();
        for room in self.domains.values_mut().flat_map(Domain::rooms_mut) {
            let (locks, waiters) = room.evict(belongs);
            // Only where somebody left can anybody go.
            if !locks.is_empty() || !waiters.is_empty() {
                released.granted.extend(room.settle(ids));
            }
            released.locks.extend(locks);
            released.waiters.extend(waiters);
        }
        self.domains.retain(|_, domain| domain.len() > 0);
        released
    }

    /// What this waiter waits for now: held locks, then earlier waiters, oldest first.
    #[must_use]
    pub fn blockers(&self, id: WaiterId) -> Vec<Blocker> {
        self.rooms().map(|(_, room)| room.blockers(id)).find(|blockers| !blockers.is_empty()).unwrap_or_default()
    }

    /// All held locks with their domains: by domain, ranges before names, oldest first.
    pub fn locks(&self) -> impl Iterator<Item = (&str, &XlatorLock)> {
        self.rooms().flat_map(|(domain, room)| room.held().iter().map(move |lock| (domain, lock)))
    }

    /// All waiters with their domains: by domain, ranges before names, in the order of the queue.
    pub fn waiters(&self) -> impl Iterator<Item = (&str, &XlatorWaiter)> {
        self.rooms().flat_map(|(domain, room)| room.waiting().iter().map(move |waiter| (domain, waiter)))
    }

    /// Takes a lock of a snapshot; it must fit those that are here. Given in the order of [`locks`](XlatorLocks::locks),
    /// and waiters in theirs, they make what the snapshot was taken of.
    pub fn restore(&mut self, domain: &str, lock: XlatorLock) {
        self.domain(domain).room_mut(&lock.request.scope).restore(lock);
    }

    /// Takes a waiter of a snapshot as the last in its queue.
    pub fn restore_waiter(&mut self, domain: &str, waiter: XlatorWaiter) {
        self.domain(domain).room_mut(&waiter.request.scope).enqueue(waiter);
    }

    /// How many locks are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms().map(|(_, room)| room.held().len()).sum()
    }

    /// Whether nothing is held and nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    fn rooms(&self) -> impl Iterator<Item = (&str, &Room)> {
        self.domains.iter().flat_map(|(name, domain)| domain.rooms().map(|room| (&**name, room)))
    }

    fn domain(&mut self, name: &str) -> &mut Domain {
        if !self.domains.contains_key(name) {
            self.domains.insert(name.into(), Domain::default());
        }
        self.domains.get_mut(name).expect("it was put there if it was not")
    }

    /// The room for `scope`, made if need be, if it may have one more lock or waiter.
    fn room_for_one_more(&mut self, domain: &str, scope: &Scope, limits: Limits) -> Result<&mut Room, XlatorRefused> {
        if domain.len() > DOMAIN_BYTES_MAX {
            return Err(XlatorRefused::DomainTooLong);
        }
        match self.domains.get(domain) {
            None if self.domains.len() >= limits.domains => return Err(XlatorRefused::TooManyDomains),
            None if limits.locks_per_domain == 0 => return Err(XlatorRefused::Full),
            Some(known) if known.len() >= limits.locks_per_domain => return Err(XlatorRefused::Full),
            None | Some(_) => {}
        }
        Ok(self.domain(domain).room_mut(scope))
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self.domains.get(name).is_some_and(|domain| domain.len() == 0) {
            self.domains.remove(name);
        }
    }
}
