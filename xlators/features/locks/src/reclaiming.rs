//! Locks that are taken over from a client that failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::locks::RECLAIM_REFUSED;
use brickwork_api::{ClientId, Errno, FopError, FopResult, Xdata};

use crate::brick::Brick;
use crate::clients::Client;
use crate::record::{Lk, Record};
use crate::rules::life::Presence;
use crate::rules::reclaim::{self, Decision, GraceFor, Holder, Reclaim, Rules, same_group};
use crate::store::Shard;
use crate::table::{OwnerKey, Refused, Table};

impl Brick {
    /// Does an `lk` with `reclaim-lock`.
    ///
    /// # Errors
    /// `ENOLCK` with `RECLAIM_REFUSED`; nothing has changed then.
    pub(crate) async fn reclaim(&self, client: &Arc<Client>, asks: Lk) -> FopResult<()> {
        if client.answered(asks.asked).is_some() {
            return self.ledger().settle_all().await;
        }
        self.admit(client, false).await?;
        let (done, place) = self.change(asks.gfid, |shard, _, news| {
            if client.ended.load(Ordering::SeqCst) {
                return (Err(Errno::ENOTCONN.into()), None);
            }
            let owner = self.store.clients.key(client, &asks.owner);
            let namesakes = self.namesakes(client, &asks);
            // Looked at under the shard: what is taken here after the end of a grace is taken after us.
            let grace = self.grace_for(client.id);
            let (found, from) = self.found(shard, &asks, owner, &namesakes);
            match self.rules().decide(Reclaim { grace, ..found }) {
                Decision::Refuse(why) => (Err(refused(why.word())), None),
                Decision::TakeOver => match from {
                    Some((key, name)) if self.rob(name) && self.store.hand_over(shard, key, &asks, news) => {
                        let record = Record::HandOver { from: (name, asks.owner.clone()), to: asks.clone() };
                        (Ok(()), Some(record))
                    }
                    _ => (Err(refused(reclaim::Why::NoRecord.word())), None),
                },
                Decision::Grant => match self.store.set(shard, &asks, news) {
                    Ok(()) => (Ok(()), Some(Record::Set(asks.clone()))),
                    Err(Refused::Conflict(_)) => (Err(refused(reclaim::Why::Conflict.word())), None),
                    Err(full @ Refused::Full) => (Err(crate::calls::refusal(&full)), None),
                },
            }
        });
        done?;
        if let Some(grace) = self.grace.lock().as_mut() {
            grace.reclaimed(client.id, 1, self.now_ms());
        }
        self.ledger().settle(place).await
    }

    fn rob(&self, client: ClientId) -> bool {
        let robbed = self.ledger().rob(client);
        if let Err(reason) = &robbed {
            tracing::error!(brick = &*self.name, %client, reason, "a lock cannot be taken from its owner");
        }
        robbed.is_ok()
    }

    fn rules(&self) -> Rules {
        let options = self.options.load();
        Rules { enabled: options.reclaim, from: options.reclaim_from }
    }

    /// What a running grace means for a client.
    pub(crate) fn grace_for(&self, id: ClientId) -> GraceFor {
        match self.grace.lock().as_ref() {
            None => GraceFor::Nobody,
            Some(grace) if grace.may_reclaim(id, self.now_ms()) => GraceFor::This,
            Some(grace) if grace.is_over(self.now_ms()) => GraceFor::Nobody,
            Some(_) => GraceFor::Others,
        }
    }

    /// Owners of the same name in other clients, and how those stand.
    fn namesakes(&self, client: &Client, asks: &Lk) -> Vec<(OwnerKey, ClientId, Holder)> {
        let group = client.person.lock().group.clone();
        let mut namesakes = Vec::new();
        for other in self.store.clients.all().into_iter().filter(|other| other.id != client.id) {
            let Some(key) = self.store.clients.known_key(&other, &asks.owner) else { continue };
            let person = other.person.lock();
            let same_group = same_group(group.as_ref(), person.group.as_ref());
            let detached = person.life.is_some_and(|life| matches!(life.presence(), Presence::Detached { .. }));
            namesakes.push((key, other.id, Holder { same_group, detached }));
        }
        namesakes
    }

    /// What the table has of the owner, and from whom it would be taken.
    fn found(
        &self,
        shard: &Shard,
        asks: &Lk,
        owner: OwnerKey,
        namesakes: &[(OwnerKey, ClientId, Holder)],
    ) -> (Reclaim, Option<(OwnerKey, ClientId)>) {
        let empty = Table::default();
        let table = shard.inode(asks.gfid).and_then(|inode| inode.table(asks.kind)).unwrap_or(&empty);
        let rules = self.rules();
        let exact = |key: OwnerKey| table.holds_exactly(key, asks.range, asks.mode);
        let mut exactly = namesakes.iter().filter(|(key, ..)| exact(*key));
        let allowed = namesakes.iter().find(|(key, _, holder)| exact(*key) && rules.allows(*holder));
        let other = allowed.or_else(|| exactly.next());
        let has_some = |key: OwnerKey| !table.overlapping(key, asks.range).is_empty();
        let record = match other {
            _ if exact(owner) => reclaim::Record::Own,
            Some((_, _, holder)) => reclaim::Record::Exact(*holder),
            None if has_some(owner) || namesakes.iter().any(|(key, ..)| has_some(*key)) => reclaim::Record::Differs,
            None => reclaim::Record::Nothing,
        };
        let mut conflict = false;
        table.for_each_conflict(owner, asks.range, asks.mode, &mut |lock| {
            conflict |= other.is_none_or(|(key, ..)| *key != lock.owner);
            std::ops::ControlFlow::Continue(())
        });
        (Reclaim { record, conflict, grace: GraceFor::Nobody }, other.map(|(key, id, _)| (*key, *id)))
    }
}

fn refused(why: &'static str) -> FopError {
    let error = FopError::new(Errno::ENOLCK).doing("taking a lock over").with("reason", why);
    error.with_xdata(Xdata::EMPTY.with(&RECLAIM_REFUSED, why.to_owned()))
}
