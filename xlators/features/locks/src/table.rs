//! The locks of one family (fcntl or flock) on one object: which are held, which wait.
//!
//! Pure: no clock, no tasks, no waking. Callers hold the object's mutex and act on what is returned. The same calls give
//! the same answers, numbers of locks included: a journal may replay them.
//!
//! Always true between calls:
//! - held ranges of different owners overlap only if both are shared;
//! - held ranges of one owner are disjoint, and those of one owner and mode do not touch (they would have been joined);
//! - a waiter stands in the queue only while a held lock, or an earlier waiter that it must not overtake, shuts it out
//!   (but see [`Table::hand_over`]).
//!
//! A request is put behind the earlier waiters of other owners that it conflicts with, so that nobody starves. But not
//! behind one whose owner waits for its own, directly or over others, be it for held locks or for places in the queue:
//! behind it, they would all wait for ever. So whatever cycle [`Table::blockers`] shows within one table consists of held
//! locks alone, and `EDEADLK` is never of the queue's making there; how far chains are followed says
//! [`CHAINED_MAX`]. A chain may become a ring when somebody gets a lock or joins the queue. Then a waiter that was in line
//! is in line no more; it may be granted before one that came earlier.
//!
//! Waiters of one owner never wait for each other; a later one that is granted changes what the earlier one got, as with
//! two threads of a process (POSIX).

mod chain;
mod held;
mod queue;
mod spans;
mod types;

use std::ops::ControlFlow;

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;

pub use self::chain::CHAINED_MAX;
use self::held::{Held, Near};
use self::queue::{FIRST, LAST, Obstacle, Place, Queue};
pub use self::types::{
    Ask, Blocker, Effects, Ids, Lock, LockId, Mode, OwnerKey, Refused, Released, Tag, Waited, Waiter, WaiterId,
};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Table {
    held: Held,
    queue: Option<Box<Queue>>,
}

/// What becomes of an owner's locks when it takes or leaves a range.
struct Plan {
    /// These go.
    gone: Near,
    /// What remains of those that are cut, by start; their numbers are still those of the cut ones.
    rest: Near,
    /// What it holds then; `None` when it leaves the range.
    joined: Option<Lock>,
    /// A lock that already covers the range is only noted anew.
    same: bool,
}

impl Table {
    /// The first lock, by start, that shuts `owner` out: what `F_GETLK` answers.
    #[must_use]
    pub fn conflict(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> Option<Lock> {
        let mut first = None;
        self.for_each_conflict(owner, range, mode, &mut |lock| {
            first = Some(*lock);
            ControlFlow::Break(())
        });
        first
    }

    /// Shows the locks that shut `owner` out, by start, until `visit` breaks.
    pub fn for_each_conflict(
        &self,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        visit: &mut dyn FnMut(&Lock) -> ControlFlow<()>,
    ) {
        self.held.for_each_conflict(owner, range, mode, visit);
    }

    /// Takes a lock now or not at all, past all waiters: `F_SETLK`.
    ///
    /// The owner's locks of that mode that overlap the range or touch it join: the new lock has the open and the process
    /// of the ask, is as old as the oldest of them, and is mandatory when the ask is or a part outside of its range was.
    /// Those of the other mode lose the range. A downgrade may free waiters.
    ///
    /// # Errors
    /// [`Refused::Conflict`] with the first lock, by start, that shuts the owner out; [`Refused::Full`] if the table
    /// would grow to more than `max` locks. It is then as before.
    ///
    /// # Source
    /// POSIX.1-2024 `fcntl()`, F_SETLK.
    pub fn set(&mut self, ask: &Ask, ids: &Ids, max: usize) -> Result<Effects, Refused> {
        if let Some(lock) = self.conflict(ask.owner, ask.range, ask.mode) {
            return Err(Refused::Conflict(lock));
        }
        self.take(ask, ids, max)?;
        Ok(self.settle(ids, max))
    }

    /// Takes a lock, if need be after those who came before: `F_SETLKW`. What is held already stays held meanwhile.
    ///
    /// `id` must be new to this table. The answer to a request in the queue comes in [`Effects`], as a rule of a later
    /// call. That it waits may free others, see the [module](self).
    ///
    /// # Errors
    /// [`Refused::Full`] if nothing shuts it out but the table would grow to more than `max` locks; it does not wait then.
    pub fn wait(&mut self, id: WaiterId, ask: &Ask, ids: &Ids, max: usize) -> Result<Waited, Refused> {
        assert!(self.waiter(id).is_none(), "a waiter has one number");
        if let Some(obstacle) = self.obstacle(ask, LAST) {
            let place = self.join(Waiter { id, ask: *ask });
            self.stand_behind(place, obstacle);
            return Ok(Waited::Queued(self.settle(ids, max)));
        }
        self.take(ask, ids, max)?;
        Ok(Waited::Granted(self.settle(ids, max)))
    }

    /// Releases `range` for `owner`: `F_UNLCK`. Locks that stick out are cut; one that sticks out on both sides becomes two.
    ///
    /// # Errors
    /// [`Refused::Full`] if that would make more than `max` locks; nothing is released then.
    pub fn unlock(&mut self, owner: OwnerKey, range: ByteRange, ids: &Ids, max: usize) -> Result<Effects, Refused> {
        let plan = plan_release(&self.held.near(owner, range), range);
        self.carry_out(plan, ids, max)?;
        Ok(self.settle(ids, max))
    }

    /// Removes exactly this waiter, which has taken nothing; others may move up.
    pub fn cancel(&mut self, id: WaiterId, ids: &Ids, max: usize) -> Option<(Waiter, Effects)> {
        let place = self.queue.as_ref()?.place(id)?;
        let waiter = self.leave_queue(place);
        Some((waiter, self.settle(ids, max)))
    }

    /// Removes every lock and waiter of `owner`.
    pub fn release_owner(&mut self, owner: OwnerKey, ids: &Ids, max: usize) -> Released {
        let locks = self.held.near(owner, ByteRange::ALL).into_vec();
        let places = self.queue.iter().flat_map(|queue| queue.of_owner(owner)).collect();
        self.release(locks, places, ids, max)
    }

    /// Removes every lock that was taken last through `open`, and every waiter that came through it, of the owners that
    /// `belongs` names: those of the client that the open is of.
    pub fn release_open(
        &mut self,
        belongs: &dyn Fn(OwnerKey) -> bool,
        open: OpenId,
        ids: &Ids,
        max: usize,
    ) -> Released {
        let locks = self.held.of_open(open).into_iter().filter(|lock| belongs(lock.owner)).collect();
        let waiting = self.queue.iter().flat_map(|queue| queue.of_open(open).map(|place| (place, queue.at(place))));
        let places = waiting.filter(|(_, waiter)| belongs(waiter.ask.owner)).map(|(place, _)| place).collect();
        self.release(locks, places, ids, max)
    }

    /// Gives the lock of `owner` with exactly this range and mode to `to`, with the notes of `tag` but the age it has,
    /// and returns what it was. It keeps its number and place; locks of `to` that it then overlaps or touches join it.
    ///
    /// No waiter leaves the queue, also not one of `to` that waited for this lock alone: the next change, or
    /// [`settle`](Table::settle), grants it.
    pub fn hand_over(
        &mut self,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        to: OwnerKey,
        tag: &Tag,
    ) -> Option<Lock> {
        let old = self.exact(owner, range, mode)?;
        self.drop_lock(&old);
        let ask = Ask { owner: to, range, mode, tag: Tag { since_ms: old.tag.since_ms, ..*tag } };
        let plan = plan_take(&self.held.near(to, range), &ask);
        plan.gone.iter().for_each(|lock| self.drop_lock(lock));
        // A lock of `to` in the range is shared as this one is, so none is cut.
        assert!(plan.rest.is_empty(), "an owner had a range that another one held");
        let joined = plan.joined.expect("a taken range");
        self.add_lock(Lock { id: old.id, ..joined });
        Some(old)
    }

    /// Grants what nothing shuts out any more. Every change but [`hand_over`](Table::hand_over) and the restoring ones
    /// ends with it.
    pub fn settle(&mut self, ids: &Ids, max: usize) -> Effects {
        let mut effects = Effects::default();
        while let Some(place) = self.queue.as_ref().and_then(|queue| queue.next_due()) {
            let queue = self.queue.as_ref().expect("somebody is due");
            let ask = queue.at(place).ask;
            if let Some(obstacle) = self.obstacle(&ask, place) {
                self.stand_behind(place, obstacle);
                continue;
            }
            let waiter = self.leave_queue(place);
            match self.take(&ask, ids, max) {
                Ok(more) => {
                    effects.granted.push(waiter);
                    effects.more.push(more);
                }
                Err(_) => effects.refused.push(waiter),
            }
        }
        effects
    }

    /// Whether `owner` holds a lock with exactly this range and mode.
    #[must_use]
    pub fn holds_exactly(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> bool {
        self.exact(owner, range, mode).is_some()
    }

    /// The locks of `owner` that overlap `range`, by start.
    #[must_use]
    pub fn overlapping(&self, owner: OwnerKey, range: ByteRange) -> Vec<Lock> {
        self.held.near(owner, range).into_iter().filter(|lock| lock.range.overlaps(range)).collect()
    }

    /// What this waiter waits for now: held locks by start, then earlier waiters, oldest first.
    #[must_use]
    pub fn blockers(&self, id: WaiterId) -> Vec<Blocker> {
        let Some((queue, place)) = self.queue.as_ref().and_then(|queue| Some((queue, queue.place(id)?))) else {
            return Vec::new();
        };
        let ask = queue.at(place).ask;
        let mut blockers = Vec::new();
        self.for_each_conflict(ask.owner, ask.range, ask.mode, &mut |lock| {
            blockers.push(Blocker { owner: lock.owner, lock: Some(lock.id), waiter: None });
            ControlFlow::Continue(())
        });
        let exempt = chain::exempt(&self.held, queue, ask.owner, place);
        let earlier = queue.conflicts(&ask, place).into_iter().map(|other| other.waiter);
        let earlier = earlier.filter(|other| !exempt.has(other.ask.owner));
        blockers.extend(earlier.map(|other| Blocker { owner: other.ask.owner, lock: None, waiter: Some(other.id) }));
        blockers
    }

    /// The waiter of that number.
    #[must_use]
    pub fn waiter(&self, id: WaiterId) -> Option<&Waiter> {
        let queue = self.queue.as_ref()?;
        queue.place(id).map(|place| queue.at(place))
    }

    /// All waiters, in the order of the queue.
    pub fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.iter().flat_map(|queue| queue.iter())
    }

    /// All held locks, by start, then by number.
    pub fn locks(&self) -> impl Iterator<Item = Lock> {
        self.held.iter()
    }

    /// How many locks are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// How many locks `owner` holds. Looks at each of them.
    #[must_use]
    pub fn held_by(&self, owner: OwnerKey) -> usize {
        self.held.count_of(owner)
    }

    /// Whether nothing is held and nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.queue.is_none()
    }

    /// The held lock of that number. Looks at every lock.
    #[must_use]
    pub fn find(&self, id: LockId) -> Option<Lock> {
        self.locks().find(|lock| lock.id == id)
    }

    /// Takes a lock of a snapshot as it was; it must fit those that are here.
    pub fn restore(&mut self, lock: Lock) {
        assert!(self.conflict(lock.owner, lock.range, lock.mode).is_none(), "restored locks shut each other out");
        assert!(self.overlapping(lock.owner, lock.range).is_empty(), "restored locks of one owner overlap");
        self.add_lock(lock);
    }

    /// Takes a waiter of a snapshot as the last in the queue.
    pub fn restore_waiter(&mut self, waiter: Waiter) {
        assert!(self.waiter(waiter.id).is_none(), "a waiter has one number");
        self.join(waiter);
    }

    fn exact(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> Option<Lock> {
        self.held.near(owner, range).into_iter().find(|lock| lock.range == range && lock.mode == mode)
    }

    /// Something that a request at this place of the queue has to wait for.
    ///
    /// Waiters come first: whoever stands behind one is left alone until it is his turn.
    fn obstacle(&self, ask: &Ask, place: Place) -> Option<Obstacle> {
        // Whoever asks for no more than it has holds up everyone that it conflicts with.
        let held = self.held.near(ask.owner, ask.range);
        let has =
            |lock: &Lock| lock.range.contains(ask.range) && (lock.mode == Mode::Exclusive || lock.mode == ask.mode);
        if held.iter().any(has) {
            return None;
        }
        let ahead = self.queue.as_ref().and_then(|queue| self.ahead(queue, ask, place));
        let lock =
            || self.held.any_conflict(ask.owner, ask.range, ask.mode, u64::from(ask.owner.0)).map(Obstacle::Lock);
        ahead.map(Obstacle::Waiter).or_else(lock)
    }

    /// An earlier waiter that a request at this place must not overtake.
    fn ahead(&self, queue: &Queue, ask: &Ask, place: Place) -> Option<Place> {
        // Most have nobody ahead, or nobody waits for them.
        let nearest = queue.conflict(ask, place, |_| true)?;
        if !chain::is_waited_for(&self.held, queue, ask.owner, place) {
            return Some(nearest);
        }
        let exempt = chain::exempt(&self.held, queue, ask.owner, place);
        queue.conflict(ask, place, |owner| !exempt.has(owner))
    }

    fn take(&mut self, ask: &Ask, ids: &Ids, max: usize) -> Result<i32, Refused> {
        let before = self.len();
        let plan = plan_take(&self.held.near(ask.owner, ask.range), ask);
        self.carry_out(plan, ids, max)?;
        Ok((self.len() as i64 - before as i64) as i32)
    }

    fn carry_out(&mut self, plan: Plan, ids: &Ids, max: usize) -> Result<(), Refused> {
        let added = plan.rest.len() + usize::from(plan.joined.is_some());
        if added > plan.gone.len() && self.len() - plan.gone.len() + added > max {
            return Err(Refused::Full);
        }
        if plan.same {
            // The same lock with other notes: nobody's way is freer or more blocked.
            plan.gone.iter().for_each(|lock| self.held.remove(lock));
            plan.joined.into_iter().for_each(|lock| self.held.insert(lock));
            return Ok(());
        }
        plan.gone.iter().for_each(|lock| self.drop_lock(lock));
        let added = plan.rest.into_iter().chain(plan.joined);
        added.for_each(|lock| self.add_lock(Lock { id: ids.next(), ..lock }));
        Ok(())
    }

    fn add_lock(&mut self, lock: Lock) {
        self.held.insert(lock);
        if let Some(queue) = &mut self.queue {
            // Whoever waits for the lock waits from now on for whatever its owner waits for.
            queue.look_again_at(lock.owner);
            if chain::are_followed(queue, FIRST) && queue.of_owner(lock.owner).next().is_some() {
                queue.look_again(|_| true);
            }
        }
    }

    fn drop_lock(&mut self, lock: &Lock) {
        self.held.remove(lock);
        if let Some(queue) = &mut self.queue {
            queue.is_gone(Obstacle::Lock(lock.id));
        }
    }

    fn release(&mut self, locks: Vec<Lock>, places: Vec<Place>, ids: &Ids, max: usize) -> Released {
        locks.iter().for_each(|lock| self.drop_lock(lock));
        let waiters = places.into_iter().map(|place| self.leave_queue(place)).collect();
        Released { locks, waiters, effects: self.settle(ids, max) }
    }

    /// Adds a waiter at the end of the queue, where it is due; so are those that its waiting may free.
    fn join(&mut self, waiter: Waiter) -> Place {
        let queue = self.queue.get_or_insert_default();
        let (place, ask) = (queue.push(waiter), waiter.ask);
        let held = &self.held;
        if chain::are_followed(queue, FIRST) {
            // Whoever waits for it waits from now on for whatever it waits for.
            if chain::is_waited_for(held, queue, ask.owner, place) {
                queue.look_again(|_| true);
            }
        } else if queue.len() == CHAINED_MAX + 2 {
            // The others were few enough until now.
            queue.look_again(|_| true);
        } else {
            queue.look_again(|other| held.holds_up(other.owner, &ask));
        }
        place
    }

    fn stand_behind(&mut self, place: Place, obstacle: Obstacle) {
        let queue = self.queue.as_mut().expect("a place in the queue");
        let revocable = chain::may_be_waited_for(&self.held, queue, queue.at(place).ask.owner, place);
        queue.stand_behind(place, obstacle, revocable);
    }

    fn leave_queue(&mut self, place: Place) -> Waiter {
        let queue = self.queue.as_mut().expect("a place in the queue");
        let waiter = queue.remove(place);
        self.queue.take_if(|queue| queue.is_empty());
        waiter
    }
}

/// What becomes of `near`, the locks of one owner about the range that it asks for.
fn plan_take(near: &Near, ask: &Ask) -> Plan {
    let mut plan = plan_release(&near.iter().filter(|lock| lock.mode != ask.mode).copied().collect(), ask.range);
    let mut joined = Lock { id: LockId(0), owner: ask.owner, range: ask.range, mode: ask.mode, tag: ask.tag };
    for lock in near.iter().filter(|lock| lock.mode == ask.mode) {
        let inside = ask.range.contains(lock.range);
        joined.range = joined.range.hull(lock.range);
        joined.tag.since_ms = joined.tag.since_ms.min(lock.tag.since_ms);
        joined.tag.mandatory |= lock.tag.mandatory && !inside;
        plan.same = joined.range == lock.range;
        joined.id = lock.id;
        plan.gone.push(*lock);
    }
    plan.joined = Some(joined);
    plan
}

/// What becomes of `near`, the locks of one owner about a range that it leaves.
fn plan_release(near: &Near, range: ByteRange) -> Plan {
    let gone: Near = near.iter().filter(|lock| lock.range.overlaps(range)).copied().collect();
    let pieces = |lock: &Lock| {
        let before = ByteRange::new(lock.range.start(), range.start());
        let after = ByteRange::new(range.end(), lock.range.end());
        let lock = *lock;
        [before, after].into_iter().flatten().map(move |range| Lock { range, ..lock })
    };
    let rest = gone.iter().flat_map(pieces).collect();
    Plan { gone, rest, joined: None, same: false }
}
