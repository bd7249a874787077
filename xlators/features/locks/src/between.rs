//! Lock calls between xlators (`inodelk`, `entrylk`), from the fop to its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::ClientId;
use brickwork_api::locks::LostBy;
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Cx, EntrylkReq, Errno, FopError, FopResult, Gfid, InodelkReq, LkOwner, LkType, OpenId, Target, XlatorLkCommand,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::brick::Brick;
use crate::calls::{Begun, Ended};
use crate::clients::{Client, Done, Remembered};
use crate::record::{Asked, Record};
use crate::rules::xlator_locks::{
    DOMAIN_LOCKS_MAX, Limits, Request, Scope, XlatorLock, XlatorRefused, XlatorReleased, XlatorWaited, XlatorWaiter,
};
use crate::store::{News, Shard, Store};
use crate::table::{LockId, Mode, OwnerKey, Tag, WaiterId};
use crate::waits::{Outcome, Queue, Waiting};

/// What one xlator asks of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BetweenLk {
    pub(crate) gfid: Gfid,
    pub(crate) client: ClientId,
    pub(crate) owner: LkOwner,
    pub(crate) domain: String,
    pub(crate) scope: Scope,
    pub(crate) mode: Mode,
    pub(crate) tag: Tag,
    pub(crate) asked: Option<Asked>,
}

impl Store {
    fn between_request(&self, lk: &BetweenLk) -> (Arc<Client>, Request) {
        let client = self.clients.of(lk.client);
        let owner = self.clients.key(&client, &lk.owner);
        (client, Request { owner, scope: lk.scope.clone(), mode: lk.mode, tag: lk.tag })
    }

    fn between_done(&self, client: &Client, lk: &BetweenLk, owner: OwnerKey, took: bool) {
        if let Some(Asked { slot, sequence }) = lk.asked {
            let done = Done::Between { owner, domain: lk.domain.clone(), scope: lk.scope.clone() };
            client.remember(slot, Remembered { sequence, gfid: lk.gfid, took, done });
        }
    }

    /// Takes a lock at once.
    pub(crate) fn between_set(
        &self,
        shard: &mut Shard,
        lk: &BetweenLk,
        domains: usize,
        news: &mut News,
    ) -> Result<(), XlatorRefused> {
        let (client, request) = self.between_request(lk);
        let owner = request.owner;
        let taken = self.between(shard, lk.gfid, |between, ids| {
            between.try_lock(&lk.domain, request, ids, Limits { domains, locks_per_domain: DOMAIN_LOCKS_MAX })
        })?;
        self.between_done(&client, lk, owner, true);
        self.between_granted(lk.gfid, &taken.granted, news);
        Ok(())
    }

    /// Takes a lock, or joins the queue for it; whether it was granted at once.
    pub(crate) fn between_wait(
        &self,
        shard: &mut Shard,
        lk: &BetweenLk,
        id: WaiterId,
        call: Option<oneshot::Sender<Outcome>>,
        domains: usize,
        news: &mut News,
    ) -> Result<bool, XlatorRefused> {
        let (client, request) = self.between_request(lk);
        let owner = request.owner;
        let waited = self.between(shard, lk.gfid, |between, ids| {
            between.wait(&lk.domain, id, request, ids, Limits { domains, locks_per_domain: DOMAIN_LOCKS_MAX })
        })?;
        match waited {
            XlatorWaited::Granted(taken) => {
                self.between_done(&client, lk, owner, true);
                self.between_granted(lk.gfid, &taken.granted, news);
                Ok(true)
            }
            XlatorWaited::Queued => {
                self.waits.add(id, between_waiting(client, lk, owner, call));
                Ok(false)
            }
        }
    }

    /// Releases a lock; whether there was one.
    pub(crate) fn between_unlock(&self, shard: &mut Shard, lk: &BetweenLk, news: &mut News) -> bool {
        let (client, request) = self.between_request(lk);
        let released =
            self.between(shard, lk.gfid, |between, ids| between.unlock(&lk.domain, request.owner, &lk.scope, ids));
        let Some((_, granted)) = released else { return false };
        self.between_done(&client, lk, request.owner, false);
        self.between_granted(lk.gfid, &granted, news);
        true
    }

    /// Takes a call out of its queue.
    pub(crate) fn between_cancel(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        id: WaiterId,
        news: &mut News,
    ) -> Option<Waiting> {
        let (_, granted) = self.between(shard, gfid, |between, ids| between.cancel(id, ids))?;
        let waiting = self.waits.take(id);
        self.between_granted(gfid, &granted, news);
        waiting
    }

    /// Takes a lock from its owner.
    pub(crate) fn between_take(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        id: LockId,
        news: &mut News,
    ) -> Option<XlatorLock> {
        let (_, lock, granted) = self.between(shard, gfid, |between, ids| between.take(id, ids))?;
        let owner = self.clients.owner(lock.request.owner);
        owner.client.forget_between(gfid, lock.request.owner);
        self.between_granted(gfid, &granted, news);
        Some(lock)
    }

    /// Releases everything of the owners that `belongs` names on an object.
    pub(crate) fn between_end(
        &self,
        shard: &mut Shard,
        gfid: Gfid,
        belongs: &dyn Fn(OwnerKey) -> bool,
        news: &mut News,
    ) {
        let XlatorReleased { waiters, granted, .. } =
            self.between(shard, gfid, |between, ids| between.release_client(belongs, ids));
        for XlatorWaiter { id, .. } in waiters {
            self.end_wait(id, Outcome::Gone, news);
        }
        self.between_granted(gfid, &granted, news);
    }

    pub(crate) fn between_granted(&self, gfid: Gfid, granted: &[WaiterId], news: &mut News) {
        for id in granted {
            let Some(waiting) = self.waits.take(*id) else { continue };
            if let (Some(Asked { slot, sequence }), Some(done)) = (waiting.asked, waiting.between) {
                waiting.client.remember(slot, Remembered { sequence, gfid, took: true, done });
            }
            news.answered.extend(waiting.call.map(|call| (call, Outcome::Granted(None))));
        }
    }

    /// Makes a change again, or a lock of a snapshot.
    pub(crate) fn replay_between(&self, record: &Record, news: &mut News) {
        match record {
            Record::BetweenSet(lk) => drop(self.between_set(&mut self.shard(lk.gfid), lk, usize::MAX, news)),
            Record::BetweenWait(lk, id) => {
                let _ = self.between_wait(&mut self.shard(lk.gfid), lk, *id, None, usize::MAX, news);
            }
            Record::BetweenUnlock(lk) => drop(self.between_unlock(&mut self.shard(lk.gfid), lk, news)),
            Record::BetweenTake(gfid, id) => drop(self.between_take(&mut self.shard(*gfid), *gfid, *id, news)),
            Record::BetweenCancel(gfid, id) => drop(self.between_cancel(&mut self.shard(*gfid), *gfid, *id, news)),
            Record::BetweenHeld(lk, id) => {
                let (_, request) = self.between_request(lk);
                self.between(&mut self.shard(lk.gfid), lk.gfid, |between, _| {
                    between.restore(&lk.domain, XlatorLock { id: *id, request });
                });
            }
            Record::BetweenWaiting(lk, id) => {
                let (client, request) = self.between_request(lk);
                let owner = request.owner;
                self.between(&mut self.shard(lk.gfid), lk.gfid, |between, _| {
                    between.restore_waiter(&lk.domain, XlatorWaiter { id: *id, request });
                });
                self.waits.add(*id, between_waiting(client, lk, owner, None));
            }
            Record::BetweenAnswered { lk, took } => {
                let (client, request) = self.between_request(lk);
                self.between_done(&client, lk, request.owner, *took);
            }
            _ => {}
        }
    }

    /// What an object has of them, for a snapshot.
    pub(crate) fn snapshot_between(&self, gfid: Gfid, shard: &Shard, write: &mut dyn FnMut(&Record)) {
        let Some(between) = shard.inode(gfid).and_then(|inode| inode.between()) else { return };
        for (domain, lock) in between.locks() {
            self.write_between(gfid, domain, &lock.request, write, |lk| Record::BetweenHeld(lk, lock.id));
        }
        for (domain, waiter) in between.waiters() {
            let asked = self.waits.with(waiter.id, |one| one.asked).flatten();
            self.write_between(gfid, domain, &waiter.request, write, |lk| {
                Record::BetweenWaiting(BetweenLk { asked, ..lk }, waiter.id)
            });
        }
    }

    fn write_between(
        &self,
        gfid: Gfid,
        domain: &str,
        request: &Request,
        write: &mut dyn FnMut(&Record),
        record: impl FnOnce(BetweenLk) -> Record,
    ) {
        let owner = self.clients.owner(request.owner);
        let (client, owner, domain) = (owner.client.id, owner.name.clone(), domain.to_owned());
        let Request { scope, mode, tag, .. } = request.clone();
        write(&record(BetweenLk { gfid, client, owner, domain, scope, mode, tag, asked: None }));
    }
}

fn between_waiting(
    client: Arc<Client>,
    lk: &BetweenLk,
    owner: OwnerKey,
    call: Option<oneshot::Sender<Outcome>>,
) -> Waiting {
    let between = Some(Done::Between { owner, domain: lk.domain.clone(), scope: lk.scope.clone() });
    Waiting { between, ..Waiting::new(lk.gfid, Queue::Between, owner, client, lk.asked, call) }
}

impl Brick {
    /// Does an `inodelk`.
    pub(crate) async fn inodelk(&self, cx: &Cx, request: &InodelkReq) -> FopResult<()> {
        let range = ByteRange::new(request.range.start, request.range.end).ok_or(Errno::EINVAL)?;
        let mode = if request.range.kind == LkType::Write { Mode::Exclusive } else { Mode::Shared };
        let asks =
            self.between_asked(cx, &request.domain, request.target, Scope::Range(range), mode, request.range.pid)?;
        self.between_call(cx, asks, request.command).await
    }

    /// Does an `entrylk`.
    pub(crate) async fn entrylk(&self, cx: &Cx, request: &EntrylkReq) -> FopResult<()> {
        let scope = request.name.clone().map_or(Scope::AllNames, Scope::Name);
        let mode = if request.kind == LkType::Write { Mode::Exclusive } else { Mode::Shared };
        let asks = self.between_asked(cx, &request.domain, request.target, scope, mode, cx.credentials.pid)?;
        self.between_call(cx, asks, request.command).await
    }

    fn between_asked(
        &self,
        cx: &Cx,
        domain: &str,
        target: Target,
        scope: Scope,
        mode: Mode,
        pid: u32,
    ) -> FopResult<BetweenLk> {
        self.check_owner(&cx.lk_owner)?;
        let asked = Asked::of(cx);
        let tag =
            Tag { open: target.open.unwrap_or(OpenId(0)), process: pid, since_ms: self.today_ms(), mandatory: false };
        let (client, owner, domain) = (cx.client(), cx.lk_owner.clone(), domain.to_owned());
        Ok(BetweenLk { gfid: target.gfid, client, owner, domain, scope, mode, tag, asked })
    }

    async fn between_call(&self, cx: &Cx, asks: BetweenLk, command: XlatorLkCommand) -> FopResult<()> {
        let client = self.store.clients.calling(cx.client())?;
        while self.between_try(cx, &client, asks.clone(), command).await? == Ended::Away {
            self.until_back(cx, &client).await?;
        }
        Ok(())
    }

    async fn between_try(
        &self,
        cx: &Cx,
        client: &Arc<Client>,
        asks: BetweenLk,
        command: XlatorLkCommand,
    ) -> FopResult<Ended> {
        if client.answered(asks.asked).is_some() {
            return self.ledger().settle_all().await.map(|()| Ended::Granted);
        }
        if let Some((place, heard)) = self.waits_already(client, asks.asked) {
            self.expire_later(place.gfid, place.queue, place.id);
            return self.wait(cx, place.gfid, place.queue, place.id, heard).await;
        }
        let waits = match command {
            XlatorLkCommand::Unlock => return self.between_release(client, asks).await.map(|()| Ended::Granted),
            XlatorLkCommand::TryLock => false,
            XlatorLkCommand::Lock => true,
        };
        self.until_no_grace(cx).await?;
        self.admit(client, waits).await?;
        let domains = self.options.load().domains_max as usize;
        let gfid = asks.gfid;
        let (begun, place) = self.change(gfid, |shard, held, news| {
            if client.ended.load(Ordering::SeqCst) {
                return (Err(Errno::ENOTCONN.into()), None);
            }
            // The same call by way of another connection was faster.
            if client.answered(asks.asked).is_some() {
                return (Ok(Begun::Again), None);
            }
            if let Some((place, heard)) = self.waits_already(client, asks.asked) {
                return (Ok(Begun::Waits(place.id, heard)), None);
            }
            self.expire_between(shard, held, &asks, news);
            if !waits {
                let set = self.store.between_set(shard, &asks, domains, news);
                let set = set.map(|()| Begun::Done(None)).map_err(refusal);
                let record = set.is_ok().then_some(Record::BetweenSet(asks));
                return (set, record);
            }
            let id = self.store.waits.next();
            let (call, heard) = oneshot::channel();
            match self.store.between_wait(shard, &asks, id, Some(call), domains, news) {
                Err(refused) => (Err(refusal(refused)), None),
                Ok(true) => (Ok(Begun::Done(None)), Some(Record::BetweenSet(asks))),
                Ok(false) => (Ok(Begun::Waits(id, heard)), Some(Record::BetweenWait(asks, id))),
            }
        });
        match begun? {
            Begun::Done(_) => self.ledger().settle(place).await.map(|()| Ended::Granted),
            Begun::Again => self.ledger().settle_all().await.map(|()| Ended::Granted),
            Begun::Waits(id, heard) => {
                self.expire_later(gfid, Queue::Between, id);
                self.wait(cx, gfid, Queue::Between, id, heard).await
            }
        }
    }

    async fn between_release(&self, client: &Client, asks: BetweenLk) -> FopResult<()> {
        let (found, place) = self.change(asks.gfid, |shard, _, news| {
            // What it had is gone.
            if client.ended.load(Ordering::SeqCst) {
                return (false, None);
            }
            let found = self.store.between_unlock(shard, &asks, news);
            (found, found.then_some(Record::BetweenUnlock(asks)))
        });
        if !found {
            return Err(FopError::new(Errno::EINVAL).doing("releasing a lock between xlators that is not held"));
        }
        self.ledger().settle(place).await
    }

    fn expire_between(&self, shard: &mut Shard, held: &crate::journal::Held<'_>, asks: &BetweenLk, news: &mut News) {
        if !self.any_away() {
            return;
        }
        let now_ms = self.now_ms();
        let client = self.store.clients.of(asks.client);
        let owner = self.store.clients.key(&client, &asks.owner);
        let wanted = Request { owner, scope: asks.scope.clone(), mode: asks.mode, tag: asks.tag };
        let Some(between) = shard.inode(asks.gfid).and_then(|inode| inode.between()) else { return };
        let over: Vec<(LockId, BetweenLk)> = between
            .locks()
            .filter(|(domain, lock)| *domain == asks.domain && lock.request.conflicts(&wanted))
            .filter_map(|(domain, lock)| {
                let holder = self.store.clients.owner(lock.request.owner);
                let Request { scope, mode, tag, .. } = lock.request.clone();
                let (client, owner) = (holder.client.id, holder.name.clone());
                let lk = BetweenLk {
                    gfid: asks.gfid,
                    client,
                    owner,
                    domain: domain.to_owned(),
                    scope,
                    mode,
                    tag,
                    asked: None,
                };
                holder.client.may_expire(now_ms).then_some((lock.id, lk))
            })
            .collect();
        for (id, lk) in over {
            if self.store.between_take(shard, asks.gfid, id, news).is_some() {
                tracing::warn!(client = %lk.client, gfid = %lk.gfid, why = LostBy::Expiry.word(), "a lock between xlators was taken");
                news.place = held.append(&Record::BetweenTake(lk.gfid, id)).max(news.place);
            }
        }
    }

    /// Takes a lock from its owner; whether it was there.
    pub(crate) fn take_between(&self, gfid: Gfid, id: LockId) -> bool {
        let (taken, _) = self.change(gfid, |shard, _, news| {
            let taken = self.store.between_take(shard, gfid, id, news).is_some();
            (taken, taken.then_some(Record::BetweenTake(gfid, id)))
        });
        taken
    }

    fn between_named(&self, gfid: Gfid, domain: &str, request: &Request) -> BetweenLk {
        let owner = self.store.clients.owner(request.owner);
        let Request { scope, mode, tag, .. } = request.clone();
        let (client, owner, domain) = (owner.client.id, owner.name.clone(), domain.to_owned());
        BetweenLk { gfid, client, owner, domain, scope, mode, tag, asked: None }
    }

    /// Takes their locks from those in the way of a waiter whose time is up.
    pub(crate) fn expire_before_waiter(&self, gfid: Gfid, id: WaiterId) {
        self.change(gfid, |shard, held, news| {
            let asks = shard.inode(gfid).and_then(|inode| inode.between()).and_then(|between| {
                let (domain, waiter) = between.waiters().find(|(_, waiter)| waiter.id == id)?;
                Some(self.between_named(gfid, domain, &waiter.request))
            });
            if let Some(asks) = asks {
                self.expire_between(shard, held, &asks, news);
            }
            ((), None)
        });
    }
}

/// Ends a wait before its time; whether it was there.
pub(crate) fn end_wait(brick: &Brick, gfid: Gfid, id: WaiterId, outcome: Outcome) -> bool {
    let (ended, _) = brick.change(gfid, |shard, _, news| {
        let Some(waiting) = brick.store.between_cancel(shard, gfid, id, news) else { return (false, None) };
        news.answered.extend(waiting.call.map(|call| (call, outcome)));
        (true, Some(Record::BetweenCancel(gfid, id)))
    });
    ended
}

fn refusal(refused: XlatorRefused) -> FopError {
    let error = FopError::new(refused.errno());
    match refused {
        XlatorRefused::Conflict(_) => error,
        XlatorRefused::TooManyDomains => {
            error.doing("taking a lock between xlators").with("limit", "domains-max-per-inode")
        }
        XlatorRefused::Full => error.doing("taking a lock between xlators").with("limit", DOMAIN_LOCKS_MAX),
        XlatorRefused::DomainTooLong => {
            error.doing("taking a lock between xlators").with("reason", "a long domain name")
        }
    }
}
