//! The calls that wait for locks, by their place in a queue, by their request and by their owner.
//!
//! Always true: a call is here exactly as long as its waiter stands in the table of its object; whoever changes one
//! changes the other under the same shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use brickwork_api::{ClientId, Gfid, LkKind};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::clients::{Before, Client, Done};
use crate::record::Asked;
use crate::table::{OwnerKey, WaiterId};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The lock is the owner's; the answer may go when this record is as durable as it has to be.
    Granted(Option<u64>),
    /// There was no room for the lock.
    NoRoom,
    /// It would never have ended.
    Deadlock,
    /// Its owner, open or client is gone, or it was given up.
    Gone,
    /// Another lock has fenced the object.
    Fenced,
    /// Its client is away for so long that others are not kept waiting behind it.
    Away,
}

/// Which queue of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Queue {
    /// Of locks of applications.
    Lk(LkKind),
    /// Of locks between xlators.
    Between,
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) gfid: Gfid,
    pub(crate) queue: Queue,
    pub(crate) owner: OwnerKey,
    pub(crate) client: Arc<Client>,
    pub(crate) asked: Option<Asked>,
    /// What its owner held in the range when it began to wait.
    pub(crate) before: Before,
    /// What an xlator waits for.
    pub(crate) between: Option<Done>,
    /// Nobody yet, when it was waiting before a restart.
    pub(crate) call: Option<oneshot::Sender<Outcome>>,
    pub(crate) since: Instant,
}

impl Waiting {
    /// A call that begins to wait now.
    pub(crate) fn new(
        gfid: Gfid,
        queue: Queue,
        owner: OwnerKey,
        client: Arc<Client>,
        asked: Option<Asked>,
        call: Option<oneshot::Sender<Outcome>>,
    ) -> Waiting {
        let (before, since) = (Before::new(), Instant::now());
        Waiting { gfid, queue, owner, client, asked, before, between: None, call, since }
    }
}

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: WaiterId,
    pub(crate) gfid: Gfid,
    pub(crate) queue: Queue,
}

/// All calls that wait.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    by_id: HashMap<WaiterId, Waiting>,
    by_request: HashMap<(ClientId, u32), WaiterId>,
    by_owner: HashMap<OwnerKey, SmallVec<[WaiterId; 1]>>,
}

impl Waits {
    /// A number for one more waiter.
    pub(crate) fn next(&self) -> WaiterId {
        let mut inner = self.0.lock();
        inner.last += 1;
        WaiterId(inner.last)
    }

    /// Adds a call.
    pub(crate) fn add(&self, id: WaiterId, waiting: Waiting) {
        let mut inner = self.0.lock();
        inner.last = inner.last.max(id.0);
        if let Some(asked) = waiting.asked {
            inner.by_request.insert((waiting.client.id, asked.slot), id);
        }
        inner.by_owner.entry(waiting.owner).or_default().push(id);
        inner.by_id.insert(id, waiting);
    }

    /// Takes a call out.
    pub(crate) fn take(&self, id: WaiterId) -> Option<Waiting> {
        let mut inner = self.0.lock();
        let waiting = inner.by_id.remove(&id)?;
        if let Some(asked) = waiting.asked {
            let name = (waiting.client.id, asked.slot);
            if inner.by_request.get(&name) == Some(&id) {
                inner.by_request.remove(&name);
            }
        }
        if let Some(others) = inner.by_owner.get_mut(&waiting.owner) {
            others.retain(|other| *other != id);
            if others.is_empty() {
                inner.by_owner.remove(&waiting.owner);
            }
        }
        Some(waiting)
    }

    /// Where the call of this name stands.
    pub(crate) fn find(&self, client: ClientId, asked: Asked) -> Option<Place> {
        let inner = self.0.lock();
        let id = *inner.by_request.get(&(client, asked.slot))?;
        let waiting = inner.by_id.get(&id)?;
        (waiting.asked == Some(asked)).then_some(Place { id, gfid: waiting.gfid, queue: waiting.queue })
    }

    /// Gives a waiter another call to answer; whoever waited by the former hears that it is gone.
    pub(crate) fn adopt(&self, id: WaiterId, call: oneshot::Sender<Outcome>) -> bool {
        let mut inner = self.0.lock();
        let Some(waiting) = inner.by_id.get_mut(&id) else { return false };
        if let Some(former) = waiting.call.replace(call) {
            // It may have given up by itself.
            let _ = former.send(Outcome::Gone);
        }
        true
    }

    /// What is known of one.
    pub(crate) fn with<T>(&self, id: WaiterId, look: impl FnOnce(&Waiting) -> T) -> Option<T> {
        self.0.lock().by_id.get(&id).map(look)
    }

    /// Where an owner waits.
    pub(crate) fn of_owner(&self, owner: OwnerKey) -> SmallVec<[Place; 1]> {
        let inner = self.0.lock();
        let ids = inner.by_owner.get(&owner);
        let place = |id: &WaiterId| {
            let waiting = inner.by_id.get(id)?;
            Some(Place { id: *id, gfid: waiting.gfid, queue: waiting.queue })
        };
        ids.map_or_else(SmallVec::new, |ids| ids.iter().filter_map(place).collect())
    }

    /// Every waiter, oldest first.
    pub(crate) fn places(&self) -> Vec<Place> {
        let inner = self.0.lock();
        let place = |(id, waiting): (&WaiterId, &Waiting)| Place { id: *id, gfid: waiting.gfid, queue: waiting.queue };
        let mut places: Vec<_> = inner.by_id.iter().map(place).collect();
        places.sort_unstable_by_key(|place| place.id);
        places
    }

    /// The waiters of one client.
    pub(crate) fn of_client(&self, client: ClientId) -> Vec<Place> {
        let inner = self.0.lock();
        let theirs = inner.by_id.iter().filter(|(_, waiting)| waiting.client.id == client);
        theirs.map(|(id, waiting)| Place { id: *id, gfid: waiting.gfid, queue: waiting.queue }).collect()
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_id.len()
    }
}
