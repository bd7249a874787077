//! Who waits for an owner, over any chain of held locks and places in the queue.
//!
//! A waiter *waits for* the owners of the held locks that shut it out, and for those of the earlier waiters that it
//! conflicts with. An owner waits for whom any of its waiters waits for; that is how a search for deadlocks sees it.
//!
//! Seen from a place in the queue only the earlier places count, but all held locks do. Of a cycle that a place in the
//! queue is part of, the last such place is seen from itself with all the others: so when nobody is put behind a waiter
//! whose owner waits, as seen from there, for his own one, only held locks make cycles.
//!
//! Following chains costs at most a look for each pair of waiters and for each lock of theirs, so it ends with
//! [`CHAINED_MAX`] waiters. Among more, an owner that a waiter waits for is put behind nobody: then the order suffers, for
//! whoever holds up somebody overtakes, but still no cycle is of the queue's making. An owner that holds up nobody waits
//! in line as ever.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::held::Held;
use super::queue::{LAST, Place, Placed, Queue};
use super::types::OwnerKey;

/// Other waiters of a table among which chains are followed.
pub const CHAINED_MAX: usize = 256;

/// Whose waiters do not count for somebody.
#[derive(Debug)]
pub(super) enum Exempt {
    Everybody,
    These(BTreeSet<OwnerKey>),
}

impl Exempt {
    pub fn has(&self, owner: OwnerKey) -> bool {
        match self {
            Exempt::Everybody => true,
            Exempt::These(owners) => owners.contains(&owner),
        }
    }
}

/// How many others there are for whoever stands at `place`.
fn others(queue: &Queue, place: Place) -> usize {
    queue.len() - usize::from(place != LAST)
}

/// Whether chains are followed for whoever stands at `place`.
pub(super) fn are_followed(queue: &Queue, place: Place) -> bool {
    others(queue, place) <= CHAINED_MAX
}

/// Behind whose waiters `owner` is not put at `place`: who waits for it, as seen from there.
pub(super) fn exempt(held: &Held, queue: &Queue, owner: OwnerKey, place: Place) -> Exempt {
    if !are_followed(queue, place) {
        return match is_waited_for(held, queue, owner, place) {
            true => Exempt::Everybody,
            false => Exempt::These(BTreeSet::new()),
        };
    }
    let (mut found, mut next) = (BTreeSet::new(), vec![owner]);
    while let Some(one) = next.pop() {
        _ = for_each_behind(held, queue, one, place, &mut |waiter| {
            if found.insert(waiter.waiter.ask.owner) {
                next.push(waiter.waiter.ask.owner);
            }
            ControlFlow::Continue(())
        });
    }
    Exempt::These(found)
}

/// Whether a waiter may wait for `owner`, as seen from `place`: certain where chains are followed; among more waiters
/// an earlier one of its own is enough.
pub(super) fn is_waited_for(held: &Held, queue: &Queue, owner: OwnerKey, place: Place) -> bool {
    let any = &mut |_: &Placed| ControlFlow::Break(());
    match are_followed(queue, place) {
        true => for_each_behind(held, queue, owner, place, any).is_break(),
        false => has_earlier(queue, owner, place) || for_each_shut_out(held, queue, owner, any).is_break(),
    }
}

/// Whether a waiter may ever wait for `owner` as seen from `place`, with the locks that it has.
pub(super) fn may_be_waited_for(held: &Held, queue: &Queue, owner: OwnerKey, place: Place) -> bool {
    held.any_of(owner) || has_earlier(queue, owner, place)
}

fn has_earlier(queue: &Queue, owner: OwnerKey, place: Place) -> bool {
    queue.of_owner(owner).next().is_some_and(|first| first < place)
}

/// Shows the waiters that wait for `owner` itself, as seen from `place`; some more than once.
fn for_each_behind(
    held: &Held,
    queue: &Queue,
    owner: OwnerKey,
    place: Place,
    visit: &mut dyn FnMut(&Placed) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for_each_shut_out(held, queue, owner, visit)?;
    let mut earlier = queue.of_owner(owner).take_while(|earlier| *earlier < place);
    earlier.try_for_each(|earlier| queue.for_each_between(earlier, place, visit))
}

/// Shows the waiters that a lock of `owner` shuts out; some more than once. Looks at its locks or at the waiters,
/// whichever are fewer.
fn for_each_shut_out(
    held: &Held,
    queue: &Queue,
    owner: OwnerKey,
    visit: &mut dyn FnMut(&Placed) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match held.few_of(owner, queue.len()) {
        Some(locks) => locks.iter().try_for_each(|lock| queue.for_each_shut_out(lock, visit)),
        None => {
            queue.placed().filter(|waiter| held.holds_up(owner, &waiter.waiter.ask)).try_for_each(|one| visit(&one))
        }
    }
}
