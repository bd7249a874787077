//! Clients that come, go, and compare beliefs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::locks::{
    Attaching, CLAIM_RANGES_MAX, CLAIMS_MAX, Claim, Claims, Deadlocked, GivenUp, LostBy, PROBE_HOPS_MAX, Probe, Verdict,
};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{ClientId, Errno, FopError, FopResult, LkRange, LkType};

use crate::brick::Brick;
use crate::clients::Client;
use crate::record::{Asked, Record};
use crate::rules::life::{Keeping, Life, Presence, beyond_limit};
use crate::rules::reclaim::{ClaimDecision, GraceFor, decide_claim};
use crate::store::{KINDS, News, Store, owners};
use crate::table::{Mode, OwnerKey, Tag};
use crate::timers::Later;
use crate::waits::Outcome;

impl Brick {
    /// A client is here.
    pub(crate) fn attached(&self, id: ClientId, attaching: Attaching) {
        let held = self.ledger().hold();
        self.store.announce(id, attaching.clone());
        let client = self.store.clients.of(id);
        let mut person = client.person.lock();
        let (incarnation, timeout_ms) = (attaching.incarnation, attaching.detach_timeout_ms);
        match &mut person.life {
            Some(life) => {
                if matches!(life.presence(), Presence::Detached { .. }) {
                    self.away.fetch_sub(1, Ordering::Relaxed);
                }
                life.attach(incarnation, timeout_ms);
            }
            none => *none = Some(Life::begin(incarnation, timeout_ms)),
        }
        drop(person);
        client.turned.notify_waiters();
        // What it holds is written; that it was here too, a snapshot would say.
        let _ = held.append(&Record::Client(id, attaching));
    }

    /// No connection of a client is left.
    pub(crate) fn detached(&self, id: ClientId, silent_ms: u64) {
        let Some(client) = self.store.clients.get(id) else { return };
        let mut person = client.person.lock();
        let Some(life) = &mut person.life else { return };
        if matches!(life.presence(), Presence::Attached) {
            self.away.fetch_add(1, Ordering::Relaxed);
        }
        life.detach(self.now_ms(), silent_ms);
        let until = life.protected_until();
        drop(person);
        until.into_iter().for_each(|at_ms| self.timers.at(at_ms, Later::Expiry));
        self.keep_detached_within_limit();
    }

    /// A client is gone for good.
    pub(crate) fn ended(&self, id: ClientId) {
        let mut news = News::default();
        let held = self.ledger().hold();
        let was_away = self.store.clients.get(id).is_some_and(|client| {
            client.person.lock().life.is_some_and(|life| matches!(life.presence(), Presence::Detached { .. }))
        });
        let known = self.store.end(id, &mut news, &mut |record| _ = held.append(record));
        let place = known.then(|| held.append(&Record::Ended(id))).flatten();
        drop(held);
        if was_away {
            self.away.fetch_sub(1, Ordering::Relaxed);
        }
        self.publish(news, place);
        self.ledger().holds_nothing(id);
        if let Some(grace) = self.grace.lock().as_mut() {
            grace.gone(id);
        }
        self.end_grace_if_over();
    }

    /// Whether a client holds a lock or waits for one.
    pub(crate) fn holds(&self, id: ClientId) -> bool {
        let Some(client) = self.store.clients.get(id) else { return false };
        if client.held.load(Ordering::Relaxed) > 0 || !self.store.waits.of_client(id).is_empty() {
            return true;
        }
        let keys = client.keys();
        // Nearly all clients that are away never had a lock.
        if keys.is_empty() {
            return false;
        }
        self.store.shards().any(|shard| {
            shard.iter().any(|(_, inode)| {
                let mut tables = KINDS.iter().filter_map(|kind| inode.table(*kind));
                tables.any(|table| table.locks().any(|lock| keys.contains(&lock.owner)))
                    || inode.between().is_some_and(|between| owners(between).any(|owner| keys.contains(&owner)))
            })
        })
    }

    /// A client has given up a call that is not under way here.
    pub(crate) fn given_up(&self, id: ClientId, GivenUp { slot, sequence }: GivenUp) {
        let asked = Asked { slot, sequence };
        if let Some(place) = self.store.waits.find(id, asked)
            && self.end_wait(place.gfid, place.queue, place.id, Outcome::Gone)
        {
            return;
        }
        let Some(client) = self.store.clients.get(id) else { return };
        let Some(grant) = client.answered(Some(asked)) else { return };
        self.change(grant.gfid, |shard, _, news| {
            let undone = self.store.undo(shard, &client, asked, news);
            ((), undone.then_some(Record::Undo(grant.gfid, id, asked)))
        });
    }

    /// A wait of a client closes a cycle over several bricks.
    pub(crate) fn deadlocked(&self, id: ClientId, Deadlocked { request: GivenUp { slot, sequence }, .. }: Deadlocked) {
        if let Some(place) = self.store.waits.find(id, Asked { slot, sequence }) {
            self.end_wait(place.gfid, place.queue, place.id, Outcome::Deadlock);
        }
    }

    /// Passes a probe on to those for whom an owner of the client waits.
    pub(crate) fn probed(&self, id: ClientId, probe: &Probe) {
        if probe.path.len() > PROBE_HOPS_MAX {
            return;
        }
        let client = self.store.clients.get(id);
        let owner = client.and_then(|client| self.store.clients.known_key(&client, &probe.owner));
        for place in owner.map(|owner| self.store.waits.of_owner(owner)).unwrap_or_default() {
            self.probe_blockers(place.gfid, place.queue, place.id, probe);
        }
    }

    /// Compares what a client believes with what is so.
    ///
    /// # Errors
    /// `EINVAL` for more than a question may hold.
    pub(crate) async fn claimed(&self, id: ClientId, claims: Claims) -> FopResult<Vec<Verdict>> {
        let too_many =
            claims.claims.len() > CLAIMS_MAX || claims.claims.iter().any(|claim| claim.ranges.len() > CLAIM_RANGES_MAX);
        if too_many {
            return Err(FopError::new(Errno::EINVAL).doing("reading the claims of a client"));
        }
        let client = self.store.clients.calling(id)?;
        let mut verdicts = Vec::with_capacity(claims.claims.len());
        let mut place = None;
        for claim in &claims.claims {
            let (verdict, written) = self.judge(&client, claim).await?;
            verdicts.push(verdict);
            place = place.max(written);
        }
        if claims.complete {
            self.ledger().forgive(id);
        }
        if claims.complete && self.in_grace.load(Ordering::Acquire) {
            if let Some(grace) = self.grace.lock().as_mut() {
                grace.complete(id);
            }
            self.end_grace_if_over();
        }
        self.ledger().settle(place).await?;
        Ok(verdicts)
    }

    /// Takes their locks from the clients that are away longest while all of those hold more than `detached-locks-max`.
    pub(crate) fn keep_detached_within_limit(&self) {
        let (max, now_ms) = (u64::from(self.options.load().detached_max), self.now_ms());
        if self.store.held() <= max {
            return;
        }
        let keeping = self.store.clients.all().into_iter().filter_map(|client| {
            let life = client.person.lock().life?;
            matches!(life.presence(), Presence::Detached { .. }).then(|| Keeping {
                client: client.id,
                life,
                locks: self.store.held_by(&client),
            })
        });
        for client in beyond_limit(keeping, max, now_ms) {
            self.expire_client(client);
        }
    }

    /// Takes everything that a client holds, although nobody wants it.
    fn expire_client(&self, id: ClientId) {
        let Some(client) = self.store.clients.get(id) else { return };
        for (gfid, kind) in self.store.places_of(&client) {
            self.change(gfid, |shard, held, news| {
                // It may be back.
                let owners = match client.may_expire(self.now_ms()) {
                    true => Store::holders(shard, gfid, kind, &client.keys()),
                    false => Vec::new(),
                };
                for owner in owners {
                    // Releasing whole ranges needs no room.
                    let _ = self.take(shard, held, (gfid, kind, owner), ByteRange::ALL, (LostBy::Expiry, true), news);
                }
                ((), None)
            });
        }
    }

    async fn judge(&self, client: &Arc<Client>, claim: &Claim) -> FopResult<(Verdict, Option<u64>)> {
        let ranges = claim.ranges.iter().map(claimed_range).collect::<FopResult<Vec<_>>>()?;
        if self.grace_for(client.id) == GraceFor::This {
            self.admit(client, false).await?;
        }
        Ok(self.change(claim.gfid, |shard, held, news| {
            // What it had is gone, and nothing is taken for it.
            if client.ended.load(Ordering::SeqCst) {
                return (Verdict::Lost, None);
            }
            let key = self.store.clients.key(client, &claim.owner);
            // Looked at under the shard: what is taken here after the end of a grace is taken after us.
            let grace = self.grace_for(client.id);
            let (mut got, mut lost) = (0, false);
            for (range, mode, pid) in &ranges {
                let table = shard.inode(claim.gfid).and_then(|inode| inode.table(claim.kind));
                let is_held = table.is_some_and(|table| covers(table, key, *range, *mode));
                let conflict = table.is_some_and(|table| table.conflict(key, *range, *mode).is_some());
                let tag = Tag { open: claim.open, process: *pid, since_ms: self.today_ms(), mandatory: false };
                let lk = self.store.named(claim.gfid, claim.kind, key, *range, *mode, tag);
                match decide_claim(is_held, conflict, grace) {
                    ClaimDecision::Held => {}
                    ClaimDecision::Grant if self.store.set(shard, &lk, news).is_ok() => {
                        news.place = held.append(&Record::Set(lk)).max(news.place);
                        got += 1;
                    }
                    ClaimDecision::Grant | ClaimDecision::Lost => {
                        lost = true;
                        break;
                    }
                }
            }
            if got > 0
                && let Some(grace) = self.grace.lock().as_mut()
            {
                grace.reclaimed(client.id, got, self.now_ms());
            }
            if !lost {
                return (Verdict::Held, None);
            }
            let told = self.store.fences.told(client.id, claim.open);
            (Verdict::Lost, told.then_some(Record::Told { client: client.id, open: claim.open }))
        }))
    }
}

fn claimed_range(range: &LkRange) -> FopResult<(ByteRange, Mode, u32)> {
    let mode = match range.kind {
        LkType::Read => Mode::Shared,
        LkType::Write => Mode::Exclusive,
        LkType::Unlock => return Err(Errno::EINVAL.into()),
    };
    let bytes = ByteRange::new(range.start, range.end).ok_or(Errno::EINVAL)?;
    Ok((bytes, mode, range.pid))
}

/// Whether an owner holds all of a range in this mode or a stronger one: of a change whose answer was lost a client claims
/// the weaker of before and after.
fn covers(table: &crate::table::Table, owner: OwnerKey, range: ByteRange, mode: Mode) -> bool {
    let mut reached = range.start();
    for lock in table.overlapping(owner, range) {
        if (mode, lock.mode) == (Mode::Exclusive, Mode::Shared) || lock.range.start() > reached {
            return false;
        }
        reached = lock.range.end();
    }
    reached >= range.end()
}
