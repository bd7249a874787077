//! The locks of a brick in memory, and each change of them.
//!
//! No clock, no tasks, no journal: a change is applied under the shard of its object, by the same function when it is made
//! and when a restart makes it again. What has to be done afterwards (calls to answer, clients to tell) comes back as
//! [`News`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use brickwork_api::locks::{Attaching, ClientNotice, LockNotice, LostBy};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{ClientId, Gfid, LkKind, LkOwner, OpenId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::between::BetweenLk;
use crate::clients::{Before, Client, Clients, Done, Remembered};
use crate::fences::Fences;
use crate::inode::Inode;
use crate::record::{Asked, Lk, Record};
use crate::rules::xlator_locks::XlatorLocks;
use crate::table::{Ask, Effects, Ids, Lock, Mode, OwnerKey, Refused, Released, Table, Tag, Waited, Waiter, WaiterId};
use crate::waits::{Outcome, Queue, Waiting, Waits};

/// Objects are spread over so many mutexes.
const SHARDS: usize = 64;
/// Keys of owners from which on unused ones are looked for.
const KEYS_MIN: usize = 65_536;

/// Both families of locks of applications.
pub(crate) const KINDS: [LkKind; 2] = [LkKind::Posix, LkKind::Flock];

/// The locks of a brick.
#[derive(Debug)]
pub(crate) struct Store {
    shards: Box<[Mutex<Shard>]>,
    pub(crate) clients: Clients,
    pub(crate) waits: Waits,
    pub(crate) fences: Fences,
    inode_max: AtomicU64,
    held: AtomicI64,
    /// Keys of owners that were in use after the last sweep.
    swept: AtomicU64,
}

/// Some of the objects.
#[derive(Debug)]
pub(crate) struct Shard {
    inodes: HashMap<Gfid, Box<Inode>>,
    /// Of its own, so that a restart, which knows the order in each shard, gives the same numbers.
    ids: Ids,
}

impl Shard {
    fn new(number: u64) -> Shard {
        // From 1 on: 0 is no lock.
        Shard { inodes: HashMap::new(), ids: Ids::new(number + 1, SHARDS as u64) }
    }

    /// What is locked on an object, if anything is.
    pub(crate) fn inode(&self, gfid: Gfid) -> Option<&Inode> {
        self.inodes.get(&gfid).map(|inode| &**inode)
    }

    /// Every object on which something is locked or somebody waits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Gfid, &Inode)> {
        self.inodes.iter().map(|(gfid, inode)| (*gfid, &**inode))
    }
}

/// What is left to do after a change, when no mutex is held.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Calls that have an answer; a grant waits for the record of the change.
    pub(crate) answered: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    /// Clients to tell.
    pub(crate) tell: Vec<ClientNotice>,
    /// Where the last record stands that was written on the way.
    pub(crate) place: Option<u64>,
}

impl News {
    /// Answers calls; `place` is where the record of the change stands.
    pub(crate) fn answer(&mut self, place: Option<u64>) {
        let place = place.max(self.place);
        for (call, outcome) in self.answered.drain(..) {
            let outcome = if let Outcome::Granted(_) = outcome { Outcome::Granted(place) } else { outcome };
            // A call that has just given up takes what it was granted from its own channel.
            let _ = call.send(outcome);
        }
    }
}

impl Store {
    pub(crate) fn new(inode_max: u64) -> Store {
        Store {
            shards: (0..SHARDS as u64).map(|number| Mutex::new(Shard::new(number))).collect(),
            clients: Clients::default(),
            waits: Waits::default(),
            fences: Fences::default(),
            inode_max: AtomicU64::new(inode_max),
            held: AtomicI64::new(0),
            swept: AtomicU64::new(0),
        }
    }

    fn number(gfid: Gfid) -> usize {
        // Of the random part of a UUID.
        usize::from(gfid.to_bytes()[15]) % SHARDS
    }

    /// The shard of an object.
    pub(crate) fn shard(&self, gfid: Gfid) -> MutexGuard<'_, Shard> {
        self.shards[Store::number(gfid)].lock()
    }

    /// Every shard, one after the other.
    pub(crate) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock())
    }

    /// Every shard at once; whoever takes them so may hold none.
    pub(crate) fn all(&self) -> AllShards<'_> {
        AllShards(self.shards.iter().map(|shard| shard.lock()).collect())
    }

    /// Locks of applications, all together.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed).max(0) as u64
    }

    /// The limit on the locks of one object.
    pub(crate) fn inode_max(&self) -> u64 {
        self.inode_max.load(Ordering::Relaxed)
    }

    /// Sets that limit.
    pub(crate) fn set_inode_max(&self, inode_max: u64) {
        self.inode_max.store(inode_max, Ordering::Relaxed);
    }

    /// Changes what one owner has in a table, and counts its locks. Those of whom this lets in are counted by
    /// [`Store::moved_up`].
    fn change_of<T>(
        &self,
        shard: &mut Shard,
        (gfid, kind, owner): (Gfid, LkKind, OwnerKey),
        act: impl FnOnce(&mut Table, &Ids, usize) -> T,
    ) -> T
    where
        T: LetsIn,
    {
        let (result, more) = self.change(shard, gfid, kind, |table, ids, max| {
            // Not the owner's own, one by one: it may have a million.
            let before = table.len() as i64;
            let result = act(table, ids, max);
            let more = table.len() as i64 - before - result.let_in();
            (result, more)
        });
        if more != 0 {
            self.clients.owner(owner).count(more);
        }
        result
    }

    /// Changes a table, and sees to the count of all and to objects that come and go.
    fn change<T>(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        kind: LkKind,
        act: impl FnOnce(&mut Table, &Ids, usize) -> T,
    ) -> T {
        let max = usize::try_from(self.inode_max()).unwrap_or(usize::MAX);
        let inode = shard.inodes.entry(gfid).or_default();
        let table = inode.table_mut(kind);
        let before = table.len() as i64;
        let result = act(table, &shard.ids, max);
        self.held.fetch_add(table.len() as i64 - before, Ordering::Relaxed);
        if inode.is_empty() {
            shard.inodes.remove(&gfid);
        }
        result
    }

    /// Changes the locks between xlators of an object.
    pub(crate) fn between<T>(&self, shard: &mut Shard, gfid: Gfid, act: impl FnOnce(&mut XlatorLocks, &Ids) -> T) -> T {
        let inode = shard.inodes.entry(gfid).or_default();
        let result = act(inode.between_mut(), &shard.ids);
        if inode.is_empty() {
            shard.inodes.remove(&gfid);
        }
        result
    }

    /// Takes a lock at once.
    pub(crate) fn set(&self, shard: &mut Shard, lk: &Lk, news: &mut News) -> Result<(), Refused> {
        let (client, ask) = self.ask(lk);
        let before = self.before(shard, lk, ask.owner);
        let effects =
            self.change_of(shard, (lk.gfid, lk.kind, ask.owner), |table, ids, max| table.set(&ask, ids, max))?;
        self.took(&client, lk, ask.owner, before);
        self.moved_up(lk.gfid, lk.kind, effects, news);
        Ok(())
    }

    /// Takes a lock, or joins the queue for it; whether it was granted at once. `call` hears of the end of the wait.
    pub(crate) fn wait(
        &self,
        shard: &mut Shard,
        lk: &Lk,
        id: WaiterId,
        call: Option<oneshot::Sender<Outcome>>,
        news: &mut News,
    ) -> Result<bool, Refused> {
        let (client, ask) = self.ask(lk);
        let before = self.before(shard, lk, ask.owner);
        match self.change_of(shard, (lk.gfid, lk.kind, ask.owner), |table, ids, max| table.wait(id, &ask, ids, max))? {
            Waited::Granted(effects) => {
                self.took(&client, lk, ask.owner, before);
                self.moved_up(lk.gfid, lk.kind, effects, news);
                Ok(true)
            }
            Waited::Queued(effects) => {
                self.waits.add(id, self.waiting(&client, lk, ask.owner, before, call));
                self.moved_up(lk.gfid, lk.kind, effects, news);
                Ok(false)
            }
        }
    }

    fn waiting(
        &self,
        client: &Arc<Client>,
        lk: &Lk,
        owner: OwnerKey,
        before: Before,
        call: Option<oneshot::Sender<Outcome>>,
    ) -> Waiting {
        Waiting { before, ..Waiting::new(lk.gfid, Queue::Lk(lk.kind), owner, client.clone(), lk.asked, call) }
    }

    /// Releases a range.
    pub(crate) fn unlock(&self, shard: &mut Shard, lk: &Lk, news: &mut News) -> Result<(), Refused> {
        let (client, ask) = self.ask(lk);
        if shard.inode(lk.gfid).is_some() {
            let effects = self.change_of(shard, (lk.gfid, lk.kind, ask.owner), |table, ids, max| {
                table.unlock(ask.owner, ask.range, ids, max)
            })?;
            self.moved_up(lk.gfid, lk.kind, effects, news);
        }
        self.remember(&client, lk, ask.owner, false, Before::new());
        Ok(())
    }

    /// Takes a call out of its queue; `None` when it was answered meanwhile.
    pub(crate) fn cancel(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        kind: LkKind,
        id: WaiterId,
        news: &mut News,
    ) -> Option<Waiting> {
        let (_, effects) = self.change(shard, gfid, kind, |table, ids, max| table.cancel(id, ids, max))?;
        let waiting = self.waits.take(id);
        self.moved_up(gfid, kind, effects, news);
        waiting
    }

    /// Releases the POSIX locks of an owner that closed a descriptor; whether there were any.
    pub(crate) fn flush(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        client: ClientId,
        owner: &LkOwner,
        news: &mut News,
    ) -> bool {
        let known = self.clients.get(client).and_then(|client| self.clients.known_key(&client, owner));
        let Some(key) = known.filter(|_| shard.inode(gfid).is_some()) else { return false };
        let released = self.change(shard, gfid, LkKind::Posix, |table, ids, max| table.release_owner(key, ids, max));
        self.released(gfid, LkKind::Posix, released, news)
    }

    /// Releases what was taken through an open that ends; whether anything changed.
    pub(crate) fn release(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        client: ClientId,
        open: OpenId,
        news: &mut News,
    ) -> bool {
        let mut changed = self.fences.lift(client, open);
        for kind in KINDS {
            if shard.inode(gfid).and_then(|inode| inode.table(kind)).is_none_or(Table::is_empty) {
                continue;
            }
            let belongs = |owner: OwnerKey| self.clients.owner(owner).client.id == client;
            let released =
                self.change(shard, gfid, kind, |table, ids, max| table.release_open(&belongs, open, ids, max));
            changed |= self.released(gfid, kind, released, news);
        }
        changed
    }

    /// How many locks of applications a client holds.
    pub(crate) fn held_by(&self, client: &Client) -> u64 {
        let keys = client.keys();
        let of = |inode: &Inode| -> usize {
            let tables = KINDS.iter().filter_map(|kind| inode.table(*kind));
            tables.map(|table| table.locks().filter(|lock| keys.contains(&lock.owner)).count()).sum()
        };
        self.shards().map(|shard| shard.iter().map(|(_, inode)| of(inode)).sum::<usize>() as u64).sum()
    }

    /// Where a client holds locks of applications.
    pub(crate) fn places_of(&self, client: &Client) -> Vec<(Gfid, LkKind)> {
        let keys = client.keys();
        let mut places: Vec<(Gfid, LkKind)> =
            self.shards().flat_map(|shard| places(&shard, &keys)).map(|(gfid, kind, _)| (gfid, kind)).collect();
        places.dedup();
        places
    }

    /// Which of these owners hold locks there.
    pub(crate) fn holders(shard: &Shard, gfid: Gfid, kind: LkKind, keys: &HashSet<OwnerKey>) -> Vec<OwnerKey> {
        let table = shard.inode(gfid).and_then(|inode| inode.table(kind));
        let mut holders: Vec<OwnerKey> =
            table.map_or_else(Vec::new, |table| table.locks().map(|lock| lock.owner).collect());
        holders.retain(|owner| keys.contains(owner));
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Releases everything of a client that is gone, in one shard; whether there was anything.
    pub(crate) fn end_in(&self, shard: &mut Shard, client: &Client, news: &mut News) -> bool {
        let keys = client.keys();
        // Nearly all clients that say goodbye never had a lock.
        if keys.is_empty() {
            return false;
        }
        let mut theirs = places(shard, &keys);
        // By what a restart knows too, which gives others numbers: it is they who move up meanwhile.
        theirs.sort_by_cached_key(|(gfid, kind, owner)| (*gfid, *kind as u8, self.clients.owner(*owner).name.clone()));
        for (gfid, kind, owner) in &theirs {
            let released = self.change(shard, *gfid, *kind, |table, ids, max| table.release_owner(*owner, ids, max));
            self.released(*gfid, *kind, released, news);
        }
        let mut between: Vec<Gfid> = shard
            .iter()
            .filter(|(_, inode)| {
                inode.between().is_some_and(|between| owners(between).any(|owner| keys.contains(&owner)))
            })
            .map(|(gfid, _)| gfid)
            .collect();
        between.sort_unstable();
        for gfid in &between {
            self.between_end(shard, *gfid, &|owner| keys.contains(&owner), news);
        }
        !theirs.is_empty() || !between.is_empty()
    }

    /// Takes from an owner what it holds in a range; the opens through which it was taken are fenced if `fence`.
    pub(crate) fn take(
        &self,
        shard: &mut Shard,
        (gfid, kind, owner): (Gfid, LkKind, OwnerKey),
        range: ByteRange,
        (why, fence): (LostBy, bool),
        news: &mut News,
    ) -> Result<Vec<OpenId>, Refused> {
        let Some(table) = shard.inode(gfid).and_then(|inode| inode.table(kind)) else { return Ok(Vec::new()) };
        let taken = table.overlapping(owner, range);
        let effects =
            self.change_of(shard, (gfid, kind, owner), |table, ids, max| table.unlock(owner, range, ids, max))?;
        // Before others move up: what one of the owner's own calls is granted by that is not lost.
        let opens = self.lost(gfid, kind, owner, &taken, (why, fence), news);
        self.moved_up(gfid, kind, effects, news);
        Ok(opens)
    }

    /// Gives a lock another owner: the very record, in its place.
    pub(crate) fn hand_over(&self, shard: &mut Shard, from: OwnerKey, to: &Lk, news: &mut News) -> bool {
        let (client, ask) = self.ask(to);
        let (handed, more) = self.change(shard, to.gfid, to.kind, |table, _, _| {
            let before = table.len() as i64;
            let handed = table.hand_over(from, ask.range, ask.mode, ask.owner, &ask.tag);
            (handed, table.len() as i64 - before)
        });
        let Some(old) = handed else { return false };
        self.clients.owner(from).count(-1);
        // Fewer where it was joined to others.
        self.clients.owner(ask.owner).count(1 + more);
        // Somebody of the new owner may have waited for what it has now.
        let effects = self.change(shard, to.gfid, to.kind, |table, ids, max| table.settle(ids, max));
        self.moved_up(to.gfid, to.kind, effects, news);
        self.lost(to.gfid, to.kind, from, &[old], (LostBy::Reclaim, true), news);
        self.took(&client, to, ask.owner, Before::new());
        true
    }

    /// Takes back a grant of which its client was never told, as far as others' locks let it.
    pub(crate) fn undo(&self, shard: &mut Shard, client: &Client, asked: Asked, news: &mut News) -> bool {
        let Some(grant) = client.answered(Some(asked)).filter(|one| one.took) else { return false };
        client.forget(asked.slot);
        let gfid = grant.gfid;
        match grant.done {
            Done::Lk { kind, owner, range, before, .. } => {
                self.undo_lk(shard, (gfid, kind, owner), range, &before, news);
            }
            Done::Between { owner, domain, scope } => {
                let released = self.between(shard, gfid, |between, ids| between.unlock(&domain, owner, &scope, ids));
                if let Some((_, granted)) = released {
                    self.between_granted(gfid, &granted, news);
                }
            }
        }
        true
    }

    /// What the owner still holds of `granted` becomes what it was before, and the rest is released. What it held before and
    /// holds still is never free in between; where others keep it from a stronger lock that it had, it keeps the weaker one.
    fn undo_lk(
        &self,
        shard: &mut Shard,
        (gfid, kind, owner): (Gfid, LkKind, OwnerKey),
        granted: ByteRange,
        before: &Before,
        news: &mut News,
    ) {
        let Some(table) = shard.inode(gfid).and_then(|inode| inode.table(kind)) else { return };
        let held = table.overlapping(owner, granted);
        for (range, mode) in before {
            for (range, tag) in held.iter().filter_map(|lock| Some((cut(lock.range, *range)?, lock.tag))) {
                let ask = Ask { owner, range, mode: *mode, tag };
                let set = self.change_of(shard, (gfid, kind, owner), |table, ids, max| table.set(&ask, ids, max));
                set.into_iter().for_each(|effects| self.moved_up(gfid, kind, effects, news));
            }
        }
        for range in without(granted, before) {
            // Where the table has no room for two instead of one, it stays: its open or its owner ends it.
            let unlocked =
                self.change_of(shard, (gfid, kind, owner), |table, ids, max| table.unlock(owner, range, ids, max));
            unlocked.into_iter().for_each(|effects| self.moved_up(gfid, kind, effects, news));
        }
    }

    /// Notes that locks were taken from their owner: it is not told any more that it got them, and its opens are fenced.
    fn lost(
        &self,
        gfid: Gfid,
        kind: LkKind,
        owner: OwnerKey,
        taken: &[Lock],
        (why, fence): (LostBy, bool),
        news: &mut News,
    ) -> Vec<OpenId> {
        let owner_of = self.clients.owner(owner);
        let client = &owner_of.client;
        client.forget_grants(gfid, kind, owner);
        if !fence || taken.is_empty() {
            return Vec::new();
        }
        let mut opens: Vec<OpenId> = taken.iter().map(|lock| lock.tag.open).collect();
        opens.sort_unstable();
        opens.dedup();
        for open in &opens {
            self.fences.put(client.id, *open, why);
        }
        let notice = LockNotice::Lost { gfid, opens: opens.clone(), why };
        news.tell.push(ClientNotice { client: client.id, notice });
        opens
    }

    fn released(&self, gfid: Gfid, kind: LkKind, released: Released, news: &mut News) -> bool {
        let Released { locks, waiters, effects } = released;
        let mut counts: HashMap<OwnerKey, i64> = HashMap::new();
        locks.iter().for_each(|lock| *counts.entry(lock.owner).or_default() -= 1);
        for (key, count) in counts {
            let owner = self.clients.owner(key);
            owner.count(count);
            owner.client.forget_grants(gfid, kind, key);
        }
        for waiter in &waiters {
            self.end_wait(waiter.id, Outcome::Gone, news);
        }
        self.moved_up(gfid, kind, effects, news);
        !locks.is_empty() || !waiters.is_empty()
    }

    fn moved_up(&self, gfid: Gfid, kind: LkKind, effects: Effects, news: &mut News) {
        for (Waiter { id, ask }, more) in effects.granted.into_iter().zip(effects.more) {
            self.clients.owner(ask.owner).count(i64::from(more));
            let Some(waiting) = self.waits.take(id) else { continue };
            if let Some(Asked { slot, sequence }) = waiting.asked {
                let Ask { owner, range, mode, .. } = ask;
                let before = waiting.before;
                let one =
                    Remembered { sequence, gfid, took: true, done: Done::Lk { kind, owner, range, mode, before } };
                waiting.client.remember(slot, one);
            }
            news.answered.extend(waiting.call.map(|call| (call, Outcome::Granted(None))));
        }
        for Waiter { id, .. } in effects.refused {
            self.end_wait(id, Outcome::NoRoom, news);
        }
    }

    pub(crate) fn end_wait(&self, id: WaiterId, outcome: Outcome, news: &mut News) {
        let call = self.waits.take(id).and_then(|waiting| waiting.call);
        news.answered.extend(call.map(|call| (call, outcome)));
    }

    fn took(&self, client: &Client, lk: &Lk, owner: OwnerKey, before: Before) {
        self.remember(client, lk, owner, true, before);
    }

    fn remember(&self, client: &Client, lk: &Lk, owner: OwnerKey, took: bool, before: Before) {
        if let Some(Asked { slot, sequence }) = lk.asked {
            let Lk { gfid, kind, range, mode, .. } = *lk;
            client.remember(
                slot,
                Remembered { sequence, gfid, took, done: Done::Lk { kind, owner, range, mode, before } },
            );
        }
    }

    fn ask(&self, lk: &Lk) -> (Arc<Client>, Ask) {
        let client = self.clients.of(lk.client);
        let owner = self.clients.key(&client, &lk.owner);
        (client, Ask { owner, range: lk.range, mode: lk.mode, tag: lk.tag })
    }

    /// Whether the owner of `lk` holds something in its range.
    pub(crate) fn holds_some(&self, shard: &Shard, lk: &Lk) -> bool {
        let owner = self.clients.get(lk.client).and_then(|client| self.clients.known_key(&client, &lk.owner));
        !owner.map_or_else(Before::new, |owner| self.before(shard, lk, owner)).is_empty()
    }

    fn before(&self, shard: &Shard, lk: &Lk, owner: OwnerKey) -> Before {
        let table = shard.inode(lk.gfid).and_then(|inode| inode.table(lk.kind));
        let own = table.map_or_else(Vec::new, |table| table.overlapping(owner, lk.range));
        own.iter().filter_map(|lock| Some((cut(lock.range, lk.range)?, lock.mode))).collect()
    }

    /// Lets go of waiters whom nothing stops: what they waited for did not outlive a restart.
    pub(crate) fn settle(&self, news: &mut News) {
        for place in self.waits.places() {
            let Queue::Lk(kind) = place.queue else { continue };
            let mut shard = self.shard(place.gfid);
            let effects = self.change(&mut shard, place.gfid, kind, |table, ids, max| table.settle(ids, max));
            self.moved_up(place.gfid, kind, effects, news);
        }
    }

    /// What an owner holds or asks for, with names instead of keys.
    pub(crate) fn named(
        &self,
        gfid: Gfid,
        kind: LkKind,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        tag: Tag,
    ) -> Lk {
        let owner = self.clients.owner(owner);
        Lk { gfid, kind, client: owner.client.id, owner: owner.name.clone(), range, mode, tag, asked: None }
    }

    /// Looks for keys of owners that nothing uses any more, when there are many more than the last time. Nothing may change meanwhile.
    pub(crate) fn sweep(&self) {
        if self.sweep_is_due() {
            self.sweep_now();
        }
    }

    /// Whether there are many more keys of owners than were in use.
    pub(crate) fn sweep_is_due(&self) -> bool {
        let keys = self.clients.keys();
        keys >= KEYS_MIN && keys as u64 >= 2 * self.swept.load(Ordering::Relaxed)
    }

    /// As [`Store::sweep`], however many there are.
    pub(crate) fn sweep_now(&self) {
        let mut used: HashSet<OwnerKey> = HashSet::new();
        for shard in self.shards() {
            for (_, inode) in shard.iter() {
                for table in KINDS.iter().filter_map(|kind| inode.table(*kind)) {
                    used.extend(table.locks().map(|lock| lock.owner));
                    used.extend(table.waiters().map(|waiter| waiter.ask.owner));
                }
                inode.between().into_iter().for_each(|between| used.extend(owners(between)));
            }
        }
        for client in self.clients.all() {
            used.extend(client.answers().into_iter().map(|(_, one)| one.done.owner()));
        }
        self.clients.sweep(|key| used.contains(&key));
        self.swept.store(used.len() as u64, Ordering::Relaxed);
    }
}

/// Every shard.
pub(crate) struct AllShards<'s>(Vec<MutexGuard<'s, Shard>>);

impl AllShards<'_> {
    /// The shard of an object.
    pub(crate) fn of(&mut self, gfid: Gfid) -> &mut Shard {
        &mut self.0[Store::number(gfid)]
    }
}

/// What of a change of a table is of others than whoever made it.
trait LetsIn {
    /// How many locks more those have whom it let in.
    fn let_in(&self) -> i64;
}

impl LetsIn for () {
    fn let_in(&self) -> i64 {
        0
    }
}

impl LetsIn for Result<Effects, Refused> {
    fn let_in(&self) -> i64 {
        self.as_ref().map_or(0, Effects::let_in)
    }
}

impl LetsIn for Result<Waited, Refused> {
    fn let_in(&self) -> i64 {
        match self {
            Ok(Waited::Granted(effects) | Waited::Queued(effects)) => effects.let_in(),
            Err(_) => 0,
        }
    }
}

/// Where owners hold locks of applications or wait for one.
fn places(shard: &Shard, keys: &HashSet<OwnerKey>) -> Vec<(Gfid, LkKind, OwnerKey)> {
    let mut theirs = Vec::new();
    for (gfid, inode) in shard.iter() {
        for kind in KINDS {
            let Some(table) = inode.table(kind) else { continue };
            let owners = table.locks().map(|lock| lock.owner).chain(table.waiters().map(|one| one.ask.owner));
            let mut owners: Vec<OwnerKey> = owners.filter(|owner| keys.contains(owner)).collect();
            owners.sort_unstable();
            owners.dedup();
            theirs.extend(owners.into_iter().map(|owner| (gfid, kind, owner)));
        }
    }
    theirs
}

/// Whoever holds a lock between xlators or waits for one.
pub(crate) fn owners(between: &XlatorLocks) -> impl Iterator<Item = OwnerKey> {
    let held = between.locks().map(|(_, lock)| lock.request.owner);
    held.chain(between.waiters().map(|(_, waiter)| waiter.request.owner))
}

/// What both have in common.
fn cut(one: ByteRange, other: ByteRange) -> Option<ByteRange> {
    ByteRange::new(one.start().max(other.start()), one.end().min(other.end()))
}

/// What of `range` is in none of `parts`, which are disjoint and in order.
fn without(range: ByteRange, parts: &Before) -> Vec<ByteRange> {
    let (mut rest, mut from) = (Vec::new(), range.start());
    for (part, _) in parts {
        rest.extend(ByteRange::new(from, part.start()));
        from = part.end();
    }
    rest.extend(ByteRange::new(from, range.end()));
    rest
}

/// What a restart does.
impl Store {
    /// Makes a change again, as a process before this one wrote it down.
    pub(crate) fn replay(&self, record: &Record) {
        let mut news = News::default();
        let news = &mut news;
        match record {
            Record::InodeMax(max) => self.set_inode_max(*max),
            Record::Client(id, attaching) => self.announce(*id, attaching.clone()),
            Record::Ended(id) => {
                self.end(*id, news, &mut |_| {});
            }
            Record::EndedIn { client, shard } => {
                if let (Some(client), Some(shard)) = (self.clients.get(*client), self.shards.get(*shard as usize)) {
                    self.end_in(&mut shard.lock(), &client, news);
                }
            }
            // What was refused then was not written down; what is refused now was granted beside a lock that was not.
            Record::Set(lk) => drop(self.set(&mut self.shard(lk.gfid), lk, news)),
            Record::Wait(lk, id) => drop(self.wait(&mut self.shard(lk.gfid), lk, *id, None, news)),
            Record::Unlock(lk) => drop(self.unlock(&mut self.shard(lk.gfid), lk, news)),
            Record::Cancel(gfid, kind, id) => drop(self.cancel(&mut self.shard(*gfid), *gfid, *kind, *id, news)),
            Record::Undo(gfid, id, asked) => {
                if let Some(client) = self.clients.get(*id) {
                    self.undo(&mut self.shard(*gfid), &client, *asked, news);
                }
            }
            Record::Flush { gfid, client, owner } => {
                self.flush(&mut self.shard(*gfid), *gfid, *client, owner, news);
            }
            Record::Release { gfid, client, open } => {
                self.release(&mut self.shard(*gfid), *gfid, *client, *open, news);
            }
            Record::Take { gfid, kind, client, owner, range, why, fence } => {
                let key = self.clients.key(&self.clients.of(*client), owner);
                drop(self.take(&mut self.shard(*gfid), (*gfid, *kind, key), *range, (*why, *fence), news));
            }
            Record::HandOver { from: (client, owner), to } => {
                let from = self.clients.key(&self.clients.of(*client), owner);
                self.hand_over(&mut self.shard(to.gfid), from, to, news);
            }
            Record::Fence { client, open, why } => {
                self.fences.put(*client, *open, *why);
            }
            Record::Told { client, open } => {
                self.fences.told(*client, *open);
            }
            Record::Ids { shard, next } => {
                if let Some(shard) = self.shards.get(*shard as usize) {
                    shard.lock().ids = Ids::new(*next, SHARDS as u64);
                }
            }
            Record::Held(lk, id) => {
                let (_, Ask { owner, range, mode, tag }) = self.ask(lk);
                self.change_of(&mut self.shard(lk.gfid), (lk.gfid, lk.kind, owner), |table, _, _| {
                    table.restore(Lock { id: *id, owner, range, mode, tag });
                });
            }
            Record::Waiting(lk, id, before) => {
                let (client, ask) = self.ask(lk);
                self.change(&mut self.shard(lk.gfid), lk.gfid, lk.kind, |table, _, _| {
                    table.restore_waiter(Waiter { id: *id, ask });
                });
                self.waits.add(*id, self.waiting(&client, lk, ask.owner, before.iter().copied().collect(), None));
            }
            Record::Answered { lk, took, before } => {
                let (client, ask) = self.ask(lk);
                self.remember(&client, lk, ask.owner, *took, before.iter().copied().collect());
            }
            between => self.replay_between(between, news),
        }
    }

    /// Makes a client known, as one that comes over a network.
    pub(crate) fn announce(&self, id: ClientId, attaching: Attaching) {
        let client = self.clients.welcome(id);
        client.remote.store(true, Ordering::Relaxed);
        let mut person = client.person.lock();
        person.host = attaching.host.as_str().into();
        person.group.clone_from(&attaching.group);
        person.attaching = Some(attaching);
    }

    /// Ends a client: everything of it goes. Whether it was known.
    ///
    /// `write` gets a record for each shard, under the shard: others take there what the client had as soon as it is free,
    /// and what they write must stand behind it.
    pub(crate) fn end(&self, id: ClientId, news: &mut News, write: &mut dyn FnMut(&Record)) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        // Seen under each shard by whoever takes something for it there: before us, and then it goes, or never.
        client.ended.store(true, Ordering::SeqCst);
        client.turned.notify_waiters();
        for (number, mut shard) in self.shards().enumerate() {
            if self.end_in(&mut shard, &client, news) {
                write(&Record::EndedIn { client: id, shard: number as u32 });
            }
        }
        self.fences.lift_client(id);
        self.clients.remove(id);
        true
    }

    /// The shortest history of the present state. Nothing may change meanwhile.
    pub(crate) fn snapshot(&self, write: &mut dyn FnMut(&Record)) {
        write(&Record::InodeMax(self.inode_max()));
        for (number, shard) in self.shards().enumerate() {
            write(&Record::Ids { shard: number as u32, next: shard.ids.upcoming() });
        }
        let clients = self.clients.all();
        for client in &clients {
            let attaching = client.person.lock().attaching.clone();
            attaching.into_iter().for_each(|attaching| write(&Record::Client(client.id, attaching)));
        }
        for shard in self.shards() {
            for (gfid, inode) in shard.iter() {
                KINDS.iter().for_each(|kind| self.snapshot_table(gfid, *kind, inode.table(*kind), write));
                self.snapshot_between(gfid, &shard, write);
            }
        }
        for client in &clients {
            for (slot, one) in client.answers() {
                write(&self.answered(client, slot, one));
            }
        }
        for (client, open, why) in self.fences.all() {
            write(&Record::Fence { client, open, why });
        }
    }

    fn answered(&self, client: &Client, slot: u32, one: Remembered) -> Record {
        let Remembered { sequence, gfid, took, done } = one;
        let tag = Tag { open: OpenId(0), process: 0, since_ms: 0, mandatory: false };
        let asked = Some(Asked { slot, sequence });
        let owner = self.clients.owner(done.owner()).name.clone();
        let client = client.id;
        match done {
            Done::Lk { kind, range, mode, before, .. } => {
                let lk = Lk { gfid, kind, client, owner, range, mode, tag, asked };
                Record::Answered { lk, took, before: before.to_vec() }
            }
            Done::Between { domain, scope, .. } => {
                let mode = Mode::Shared;
                Record::BetweenAnswered { lk: BetweenLk { gfid, client, owner, domain, scope, mode, tag, asked }, took }
            }
        }
    }

    fn snapshot_table(&self, gfid: Gfid, kind: LkKind, table: Option<&Table>, write: &mut dyn FnMut(&Record)) {
        let Some(table) = table else { return };
        for Lock { id, owner, range, mode, tag } in table.locks() {
            write(&Record::Held(self.named(gfid, kind, owner, range, mode, tag), id));
        }
        for Waiter { id, ask } in table.waiters() {
            let mut lk = self.named(gfid, kind, ask.owner, ask.range, ask.mode, ask.tag);
            let (asked, before) = self.waits.with(*id, |one| (one.asked, one.before.to_vec())).unwrap_or_default();
            lk.asked = asked;
            write(&Record::Waiting(lk, *id, before));
        }
    }
}
