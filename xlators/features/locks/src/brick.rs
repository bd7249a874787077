//! The locks of one brick at work: the store, its journal, the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use brickwork_api::locks::{ClientNotice, LockNotice, LostBy, Probe};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    ClientId, Cx, Errno, Event, FopError, FopResult, Gfid, Host, LkKind, RequestId, Upward, Xlator, blocking,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clients::Client;
use crate::journal::{Held, Holder, Ledger, Past};
use crate::options::{LockJournal, LocksOptions};
use crate::record::{Lk, Record};
use crate::rules::deadlock::find_cycle;
use crate::rules::grace::{Grace, Recorded};
use crate::rules::life::{Life, Presence};
use crate::rules::lockinfo::LockinfoKey;
use crate::store::{AllShards, News, Shard, Store};
use crate::table::{Lock, OwnerKey, Refused, WaiterId};
use crate::timers::{Later, Timers};
use crate::waits::{Outcome, Queue};

/// After how long a wait is looked at for a cycle over several bricks, and how much longer each further time.
const PROBE_AFTER_MS: u64 = 100;
const PROBE_FACTOR: u32 = 4;
/// The longest distance between two such looks, as a power of the factor.
const PROBE_POWER_MAX: u32 = 5;

/// After how long a snapshot is tried again that could not be written.
const SNAPSHOT_AGAIN_MS: u64 = 1_000;

/// One brick.
pub(crate) struct Brick {
    pub(crate) name: Arc<str>,
    pub(crate) child: Arc<dyn Xlator>,
    pub(crate) host: Arc<dyn Host>,
    up: Upward,
    pub(crate) options: ArcSwap<LocksOptions>,
    pub(crate) store: Store,
    ledger: OnceLock<Arc<Ledger>>,
    pub(crate) timers: Timers,
    pub(crate) grace: Mutex<Option<Grace>>,
    /// Whether there may be one: a look at every call that takes a lock.
    pub(crate) in_grace: AtomicBool,
    pub(crate) grace_over: Notify,
    /// Lock calls that wait for its end.
    pub(crate) grace_waits: AtomicUsize,
    /// Clients that are away: none, nearly always, and then nobody's time can be up.
    pub(crate) away: AtomicUsize,
    pub(crate) lockinfo: OnceLock<LockinfoKey>,
    began: Instant,
    stop: watch::Sender<bool>,
}

impl Brick {
    pub(crate) fn new(
        name: Arc<str>,
        child: Arc<dyn Xlator>,
        host: Arc<dyn Host>,
        up: Upward,
        options: LocksOptions,
    ) -> Brick {
        Brick {
            name,
            child,
            host,
            up,
            store: Store::new(u64::from(options.inode_max)),
            options: ArcSwap::from_pointee(options),
            ledger: OnceLock::new(),
            timers: Timers::default(),
            grace: Mutex::default(),
            in_grace: AtomicBool::new(false),
            grace_over: Notify::new(),
            grace_waits: AtomicUsize::new(0),
            away: AtomicUsize::new(0),
            lockinfo: OnceLock::new(),
            began: Instant::now(),
            stop: watch::channel(false).0,
        }
    }

    /// Milliseconds since this process has begun to keep these locks.
    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The journal; before the start, and without one, nothing is written.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        self.ledger.get_or_init(|| Arc::new(Ledger::closed()))
    }

    /// Takes up what the process before this one left.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn start(self: &Arc<Brick>) -> Result<(), String> {
        let options = self.options.load();
        let folder = match (&options.journal_directory, options.journal) {
            (Some(path), _) => Some(path.0.clone()),
            (None, kind) => match crate::folder::of_child(&*self.child, &self.host) {
                Ok(folder) => Some(folder),
                // Nothing outlives the process, and nobody asked for it.
                Err(_) if kind == LockJournal::Memory => None,
                Err(why) => {
                    return Err(format!(
                        "`lock-journal` other than `memory` needs a folder, and the brick below has none ({why}); set \
                         `journal-directory`, or `lock-journal memory`"
                    ));
                }
            },
        };
        if let Some(folder) = folder {
            self.read_key(&folder)?;
            let (ledger, past) = Ledger::open(options.journal, &folder)?;
            self.take_up(&ledger, past)?;
            assert!(self.ledger.set(Arc::new(ledger)).is_ok(), "a brick starts once");
        }
        let brick = self.clone();
        self.host.spawn(Box::pin(async move { brick.keep_time().await }));
        Ok(())
    }

    fn take_up(&self, ledger: &Ledger, past: Past) -> Result<(), String> {
        let now_ms = self.now_ms();
        past.records.iter().for_each(|record| self.store.replay(record));
        let mut news = News::default();
        for client in self.store.clients.all().into_iter().filter(|client| !client.is_remote()) {
            // Of the process that is gone: their locks were written because others' depended on them. One of this process
            // may have the same id.
            self.store.end(client.id, &mut news, &mut |_| {});
            self.store.clients.may_come(client.id);
        }
        for client in self.store.clients.all() {
            let mut person = client.person.lock();
            let Some(attaching) = &person.attaching else { continue };
            let life = Life::restored(attaching.incarnation, attaching.detach_timeout_ms, now_ms);
            person.life = Some(life);
            client.recorded.store(past.holders.contains_key(&client.id), Ordering::Relaxed);
            self.away.fetch_add(1, Ordering::Relaxed);
            self.timers.at(life.protected_until().unwrap_or(now_ms), Later::Expiry);
        }
        self.store.set_inode_max(u64::from(self.options.load().inode_max));
        self.store.settle(&mut news);
        if let Some(reason) = past.lost {
            // A client that is cut off trusts its locks for so long.
            let trusted_ms = past.holders.values().map(|holder| u64::from(holder.detach_timeout_ms)).max().unwrap_or(0);
            let timeout_ms = trusted_ms.max(self.options.load().grace_timeout.0.as_millis() as u64);
            tracing::warn!(
                brick = &*self.name,
                reason = reason.word(),
                clients = past.holders.len(),
                timeout_ms,
                "a grace begins: clients claim their locks, other lock calls wait"
            );
            let recorded = |(client, holder): (&ClientId, &Holder)| Recorded { client: *client, robbed: holder.robbed };
            let grace = Grace::begin(reason, past.holders.iter().map(recorded), now_ms, timeout_ms);
            self.timers.at(grace.ends_at(), Later::Grace);
            *self.grace.lock() = Some(grace);
            self.in_grace.store(true, Ordering::Release);
        }
        if !past.records.is_empty() {
            let (locks, waiting) = (self.store.held(), self.store.waits.count());
            tracing::info!(brick = &*self.name, locks, waiting, "locks are as they were");
        }
        ledger.still().rotate(|write| self.store.snapshot(write))
    }

    /// Takes the options that can change in place.
    pub(crate) fn reconfigure(&self, options: LocksOptions) {
        let inode_max = u64::from(options.inode_max);
        self.options.store(Arc::new(options));
        let held = self.ledger().hold();
        // The journal has to make the same of the changes before and after: none is under way meanwhile.
        let _shards = self.store.all();
        self.store.set_inode_max(inode_max);
        let _ = held.append(&Record::InodeMax(inode_max));
    }

    /// Ends the tasks, and the journal in good order.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.ledger().close();
    }

    async fn keep_time(self: Arc<Brick>) {
        let mut stopping = self.stop.subscribe();
        loop {
            let now_ms = self.now_ms();
            for later in self.timers.due(now_ms) {
                self.look(later);
            }
            if self.ledger().is_due() {
                self.rotate().await;
            }
            let next = self.timers.next().map(|at_ms| self.began + Duration::from_millis(at_ms));
            tokio::select! {
                () = until(next) => {}
                () = self.timers.earlier.notified() => {}
                () = self.ledger().wants.notified() => {}
                // An error says that the brick is gone.
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    fn look(&self, later: Later) {
        match later {
            Later::Expiry => {
                self.expire_contended();
                self.keep_detached_within_limit();
            }
            Later::Probe(id, power) => self.probe_again(id, power),
            Later::Grace => self.end_grace_if_over(),
            // One that is due is written next.
            Later::Snapshot => {}
        }
    }

    async fn rotate(self: &Arc<Brick>) {
        let brick = self.clone();
        let rotated = blocking(&*self.host, move || {
            let still = brick.ledger().still();
            brick.store.sweep();
            still.rotate(|write| brick.store.snapshot(write))
        })
        .await;
        if !matches!(rotated, Ok(Ok(()))) {
            // Also when nobody asks for a lock meanwhile: all are refused until there is one.
            self.timers.at(self.now_ms() + SNAPSHOT_AGAIN_MS, Later::Snapshot);
        }
        match rotated {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                tracing::error!(brick = &*self.name, reason, "no snapshot of the locks could be written")
            }
            Err(error) => tracing::error!(brick = &*self.name, %error, "no snapshot of the locks could be written"),
        }
    }

    /// Finishes a change: calls are answered, clients told. No mutex may be held.
    pub(crate) fn publish(&self, mut news: News, place: Option<u64>) {
        // Before others are told that they have what is lost.
        for notice in std::mem::take(&mut news.tell) {
            if let LockNotice::Lost { gfid, opens, why } = &notice.notice {
                tracing::warn!(
                    brick = &*self.name, client = %notice.client, %gfid, opens = opens.len(), why = why.word(),
                    "locks were taken from their owner"
                );
            }
            self.up.notify(Event::Lock(notice));
        }
        news.answer(place);
    }

    /// Whether any client is away: none, nearly always, and then nobody's time can be up.
    pub(crate) fn any_away(&self) -> bool {
        self.away.load(Ordering::Relaxed) != 0
    }

    /// The time of day in milliseconds, for people.
    pub(crate) fn today_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// Changes one object and writes it down: `act` says which record stands for what it did. Where the last one stands.
    pub(crate) fn change<T>(
        &self,
        gfid: Gfid,
        act: impl FnOnce(&mut Shard, &Held<'_>, &mut News) -> (T, Option<Record>),
    ) -> (T, Option<u64>) {
        let mut news = News::default();
        let held = self.ledger().hold();
        let mut shard = self.store.shard(gfid);
        let (result, record) = act(&mut shard, &held, &mut news);
        let place = record.and_then(|record| held.append(&record)).max(news.place);
        drop(shard);
        drop(held);
        if self.store.clients.have_grown() && self.store.sweep_is_due() {
            self.ledger().want();
        }
        self.publish(news, place);
        (result, place)
    }

    /// Takes their locks from those in the way of `lk` whose time is up.
    pub(crate) fn expire(&self, shard: &mut Shard, held: &Held<'_>, lk: &Lk, owner: OwnerKey, news: &mut News) {
        if !self.any_away() {
            return;
        }
        let now_ms = self.now_ms();
        let mut over: Vec<OwnerKey> = Vec::new();
        if let Some(table) = shard.inode(lk.gfid).and_then(|inode| inode.table(lk.kind)) {
            table.for_each_conflict(owner, lk.range, lk.mode, &mut |lock: &Lock| {
                if !over.contains(&lock.owner) && self.store.clients.owner(lock.owner).client.may_expire(now_ms) {
                    over.push(lock.owner);
                }
                std::ops::ControlFlow::Continue(())
            });
        }
        for owner in over {
            // Releasing whole ranges needs no room.
            let _ = self.take(shard, held, (lk.gfid, lk.kind, owner), ByteRange::ALL, (LostBy::Expiry, true), news);
        }
    }

    /// Takes what an owner holds in a range, and writes it down.
    pub(crate) fn take(
        &self,
        shard: &mut Shard,
        held: &Held<'_>,
        (gfid, kind, owner): (Gfid, LkKind, OwnerKey),
        range: ByteRange,
        (why, fence): (LostBy, bool),
        news: &mut News,
    ) -> Result<usize, Refused> {
        let client = &self.store.clients.owner(owner).client.clone();
        if fence
            && client.is_remote()
            && let Err(reason) = self.ledger().rob(client.id)
        {
            tracing::error!(brick = &*self.name, client = %client.id, reason, "a lock cannot be taken from its owner");
            return Err(Refused::Full);
        }
        let opens = self.store.take(shard, (gfid, kind, owner), range, (why, fence), news)?;
        let owner = self.store.clients.owner(owner);
        let (client, owner) = (owner.client.id, owner.name.clone());
        news.place = held.append(&Record::Take { gfid, kind, client, owner, range, why, fence }).max(news.place);
        Ok(opens.len())
    }

    /// Grants to whoever waits what was held by clients whose time is up.
    pub(crate) fn expire_contended(&self) {
        let now_ms = self.now_ms();
        for place in self.store.waits.places() {
            // Whoever is behind it need not wait for a call that nobody may ever hear of; it begins again when its client is
            // back.
            if self.store.waits.with(place.id, |one| one.client.may_expire(now_ms)) == Some(true) {
                self.end_wait(place.gfid, place.queue, place.id, Outcome::Away);
                continue;
            }
            let Queue::Lk(kind) = place.queue else {
                self.expire_before_waiter(place.gfid, place.id);
                continue;
            };
            self.change(place.gfid, |shard, held, news| {
                let table = shard.inode(place.gfid).and_then(|inode| inode.table(kind));
                if let Some(waiter) = table.and_then(|table| table.waiter(place.id)).copied() {
                    let ask = waiter.ask;
                    let lk = self.store.named(place.gfid, kind, ask.owner, ask.range, ask.mode, ask.tag);
                    self.expire(shard, held, &lk, ask.owner, news);
                }
                ((), None)
            });
        }
    }

    /// Refuses a wait that closes a cycle on this brick. Of two that begin at once one is refused.
    pub(crate) fn refuse_cycle(&self, gfid: Gfid, id: WaiterId) {
        let held = self.ledger().hold();
        // It was answered meanwhile.
        let Some(owner) = self.store.waits.with(id, |one| one.owner) else { return };
        // Nobody waits for whom holds nothing and waits for one thing only: so it is in a crowd before one lock.
        if !self.store.clients.owner(owner).may_be_waited_for() && self.store.waits.of_owner(owner).len() < 2 {
            return;
        }
        let waits_for = &mut |owner: OwnerKey| -> Vec<OwnerKey> {
            let places = self.store.waits.of_owner(owner);
            places
                .iter()
                .flat_map(|place| self.blockers(&self.store.shard(place.gfid), place.gfid, place.queue, place.id))
                .collect()
        };
        if find_cycle(owner, waits_for).is_none() {
            return;
        }
        // What was seen one after the other may never have been so at once.
        let mut shards: AllShards<'_> = self.store.all();
        let at_once = &mut |owner: OwnerKey| -> Vec<OwnerKey> {
            let places = self.store.waits.of_owner(owner);
            places
                .iter()
                .flat_map(|place| self.blockers(shards.of(place.gfid), place.gfid, place.queue, place.id))
                .collect()
        };
        if find_cycle(owner, at_once).is_none() {
            return;
        }
        let mut news = News::default();
        let kind = LkKind::Posix;
        let Some(waiting) = self.store.cancel(shards.of(gfid), gfid, kind, id, &mut news) else { return };
        news.answered.extend(waiting.call.map(|call| (call, Outcome::Deadlock)));
        let place = held.append(&Record::Cancel(gfid, kind, id));
        drop(shards);
        drop(held);
        self.publish(news, place);
    }

    /// Whom a waiter of a POSIX lock waits for; other families know no deadlock, as on Linux.
    fn blockers(&self, shard: &Shard, gfid: Gfid, queue: Queue, id: WaiterId) -> Vec<OwnerKey> {
        if queue != Queue::Lk(LkKind::Posix) {
            return Vec::new();
        }
        let table = shard.inode(gfid).and_then(|inode| inode.table(LkKind::Posix));
        table.map_or_else(Vec::new, |table| table.blockers(id).into_iter().map(|blocker| blocker.owner).collect())
    }

    /// Looks at a wait later, whether it is part of a cycle over several bricks.
    pub(crate) fn probe_later(&self, id: WaiterId, power: u32) {
        let after = PROBE_AFTER_MS * u64::from(PROBE_FACTOR.pow(power));
        self.timers.at(self.now_ms() + after, Later::Probe(id, power));
    }

    fn probe_again(&self, id: WaiterId, power: u32) {
        let asked =
            self.store.waits.with(id, |one| (one.gfid, one.queue, one.asked.map(|asked| (one.client.id, asked))));
        let Some((gfid, queue, Some((client, asked)))) = asked else { return };
        let initiator = RequestId { client, slot: asked.slot, sequence: asked.sequence };
        let probe = Probe { initiator, owner: brickwork_api::LkOwner::default(), gfid, path: Vec::new() };
        self.probe_blockers(gfid, queue, id, &probe);
        self.probe_later(id, (power + 1).min(PROBE_POWER_MAX));
    }

    /// Asks the clients of those for whom a waiter waits.
    pub(crate) fn probe_blockers(&self, gfid: Gfid, queue: Queue, id: WaiterId, probe: &Probe) {
        let held = self.ledger().hold();
        let mut blockers = self.blockers(&self.store.shard(gfid), gfid, queue, id);
        blockers.sort_unstable();
        blockers.dedup();
        let owners: Vec<_> = blockers.into_iter().map(|blocker| self.store.clients.owner(blocker)).collect();
        drop(held);
        for owner in owners {
            let probe = Probe { owner: owner.name.clone(), gfid, ..probe.clone() };
            self.up.notify(Event::Lock(ClientNotice { client: owner.client.id, notice: LockNotice::Probe(probe) }));
        }
    }

    /// Ends a wait before its time; whether it was there.
    pub(crate) fn end_wait(&self, gfid: Gfid, queue: Queue, id: WaiterId, outcome: Outcome) -> bool {
        let Queue::Lk(kind) = queue else { return crate::between::end_wait(self, gfid, id, outcome) };
        let (ended, _) = self.change(gfid, |shard, _, news| {
            let Some(waiting) = self.store.cancel(shard, gfid, kind, id, news) else { return (false, None) };
            news.answered.extend(waiting.call.map(|call| (call, outcome)));
            (true, Some(Record::Cancel(gfid, kind, id)))
        });
        ended
    }

    /// Ends the grace if its time is up or everybody has claimed.
    pub(crate) fn end_grace_if_over(&self) {
        let now_ms = self.now_ms();
        let mut grace = self.grace.lock();
        let Some(running) = grace.as_ref() else { return };
        if !running.is_over(now_ms) {
            self.timers.at(running.ends_at(), Later::Grace);
            return;
        }
        let counts = running.counts();
        let silent: Vec<ClientId> = running.awaited().collect();
        tracing::info!(
            brick = &*self.name,
            clients = counts.clients,
            silent = silent.len(),
            reclaimed = counts.reclaimed,
            "the grace is over"
        );
        *grace = None;
        drop(grace);
        // Those have nothing, and are told so when they claim. Who was cut off in the middle of its claims has some.
        for client in silent.into_iter().filter(|client| !self.holds(*client)) {
            if let Some(client) = self.store.clients.get(client) {
                client.recorded.store(false, Ordering::Release);
            }
            self.ledger().holds_nothing(client);
        }
        self.in_grace.store(false, Ordering::Release);
        self.grace_over.notify_waiters();
    }

    /// Waits until no grace runs.
    ///
    /// # Errors
    /// `EINTR` when the caller gives up.
    pub(crate) async fn until_no_grace(&self, cx: &Cx) -> FopResult<()> {
        while self.in_grace.load(Ordering::Acquire) {
            let over = self.grace_over.notified();
            let mut over = std::pin::pin!(over);
            over.as_mut().enable();
            if !self.in_grace.load(Ordering::Acquire) {
                break;
            }
            let _one = Counted::of(&self.grace_waits);
            tokio::select! {
                () = over => {}
                () = cx.cancel.cancelled() => return Err(Errno::EINTR.into()),
            }
        }
        Ok(())
    }

    /// Whether one more lock of `client` has room.
    ///
    /// # Errors
    /// `ENOLCK` with the limit's name.
    pub(crate) async fn admit(&self, client: &Client, waits: bool) -> FopResult<()> {
        let options = self.options.load();
        let full = |limit: &'static str, value: u32| {
            Err(FopError::new(Errno::ENOLCK).doing("taking one more lock").with(limit, value))
        };
        if self.store.held() >= u64::from(options.brick_max) {
            return full("locks-max", options.brick_max);
        }
        let client_max = i64::from(options.client_max);
        if client.held.load(Ordering::Relaxed) >= client_max && client.recounted() {
            client.held.store(self.store.held_by(client) as i64, Ordering::Relaxed);
        }
        if client.held.load(Ordering::Relaxed) >= client_max {
            return full("locks-max-per-client", options.client_max);
        }
        if waits && self.store.waits.count() >= options.waiters_max as usize {
            return full("waiters-max", options.waiters_max);
        }
        self.ledger().check()?;
        if client.is_remote() && !client.recorded.load(Ordering::Acquire) {
            let (ledger, id) = (self.ledger().clone(), client.id);
            let timeout_ms = client.person.lock().life.map_or(0, |life| life.detach_timeout_ms());
            // Once for each client: it waits for the disk.
            blocking(&*self.host, move || ledger.holds(id, timeout_ms)).await??;
            client.recorded.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// What is known at the moment.
    pub(crate) fn status(&self) -> serde_json::Value {
        let clients = self.store.clients.all();
        let away = |client: &Arc<Client>| {
            client.person.lock().life.is_some_and(|life| matches!(life.presence(), Presence::Detached { .. }))
        };
        serde_json::json!({
            "locks": self.store.held(),
            "waiting": self.store.waits.count(),
            "clients": clients.len(),
            "away": clients.iter().filter(|client| away(client)).count(),
            "fenced_opens": self.store.fences.all().len(),
            "in_grace": self.in_grace.load(Ordering::Acquire),
        })
    }
}

impl std::fmt::Debug for Brick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brick").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Counts as one until it is dropped.
struct Counted<'c>(&'c AtomicUsize);

impl Counted<'_> {
    fn of(count: &AtomicUsize) -> Counted<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
