//! Lock calls of applications, from the fop to its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use brickwork_api::locks::{COMMAND, MANDATORY, RECLAIM_LOCK};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Cx, Errno, FopError, FopResult, Gfid, LkCommand, LkKind, LkOwner, LkRange, LkReply, LkReq, LkType, OpenId, Xdata,
};
use tokio::sync::oneshot;

use crate::brick::Brick;
use crate::clients::Client;
use crate::journal::Held;
use crate::record::{Asked, Lk, Record};
use crate::table::{Lock, Mode, Refused, Tag, WaiterId};
use crate::waits::{Outcome, Place, Queue};

/// What has become of a call at its first look.
pub(crate) enum Begun {
    /// It is done, and may be answered when this record is durable.
    Done(Option<u64>),
    /// It was done before.
    Again,
    /// It waits.
    Waits(WaiterId, oneshot::Receiver<Outcome>),
}

/// How a call that waited has ended, unless it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It has its lock.
    Granted,
    /// It has lost its place: its client was away for too long.
    Away,
}

impl Brick {
    /// Does an `lk`.
    pub(crate) async fn lk(&self, cx: &Cx, request: &LkReq) -> FopResult<LkReply> {
        self.store.fences.check(cx.client(), request.file.open)?;
        let asks = self.asked(cx, request)?;
        let found = match (request.command, request.range.kind) {
            (LkCommand::Get, _) => self.test(cx, request, asks.range)?,
            (_, LkType::Unlock) => {
                self.unlock(asks).await?;
                request.range
            }
            (command, _) => {
                let client = self.known(cx, &asks, request)?;
                match request.xdata.get(&RECLAIM_LOCK)? {
                    Some(true) => self.reclaim(&client, asks).await?,
                    _ => self.take_lock(cx, &client, asks, command == LkCommand::SetWait).await?,
                }
                request.range
            }
        };
        Ok(LkReply { range: found, xdata: Xdata::EMPTY })
    }

    /// What is asked for, checked.
    fn asked(&self, cx: &Cx, request: &LkReq) -> FopResult<Lk> {
        let LkRange { kind, start, end, pid } = request.range;
        let empty = || FopError::new(Errno::EINVAL).doing("reading a lock call").with("reason", "an empty range");
        let range = ByteRange::new(start, end).ok_or_else(empty)?;
        self.check_owner(&cx.lk_owner)?;
        let asked = Asked::of(cx);
        let mandatory = request.xdata.get(&MANDATORY)?.unwrap_or(false);
        Ok(Lk {
            gfid: request.file.gfid,
            kind: request.kind,
            client: cx.client(),
            owner: cx.lk_owner.clone(),
            range,
            mode: if kind == LkType::Write { Mode::Exclusive } else { Mode::Shared },
            tag: Tag { open: request.file.open, process: pid, since_ms: self.today_ms(), mandatory },
            asked,
        })
    }

    /// Whether an owner may own.
    ///
    /// # Errors
    /// `EINVAL` for an empty one and for one that is longer than `lk-owner-max`.
    pub(crate) fn check_owner(&self, owner: &LkOwner) -> FopResult<()> {
        let invalid = |why: &'static str| {
            Err(FopError::new(Errno::EINVAL).doing("reading the owner of a lock").with("reason", why))
        };
        match owner.as_bytes().len() {
            0 => invalid("it is empty"),
            bytes if bytes > self.options.load().owner_bytes_max as usize => {
                invalid("it is longer than `lk-owner-max`")
            }
            _ => Ok(()),
        }
    }

    /// The client that asks, and the command of its process.
    fn known(&self, cx: &Cx, asks: &Lk, request: &LkReq) -> FopResult<Arc<Client>> {
        let client = self.store.clients.calling(cx.client())?;
        // Another shape under the key says nothing.
        if let Ok(Some(command)) = request.xdata.get(&COMMAND) {
            client.name(asks.tag.process, &command);
        }
        Ok(client)
    }

    /// F_GETLK.
    fn test(&self, cx: &Cx, request: &LkReq, range: ByteRange) -> FopResult<LkRange> {
        let none = LkRange { kind: LkType::Unlock, ..request.range };
        let mode = match request.range.kind {
            LkType::Read => Mode::Shared,
            LkType::Write => Mode::Exclusive,
            LkType::Unlock => return Ok(none),
        };
        let client = self.store.clients.get(cx.client());
        let owner = client.and_then(|client| self.store.clients.known_key(&client, &cx.lk_owner));
        let shard = self.store.shard(request.file.gfid);
        let table = shard.inode(request.file.gfid).and_then(|inode| inode.table(request.kind));
        // An owner that has no key holds nothing.
        let owner = owner.unwrap_or(crate::table::OwnerKey(u32::MAX));
        Ok(table.and_then(|table| table.conflict(owner, range, mode)).map_or(none, |lock| shown(&lock)))
    }

    async fn unlock(&self, asks: Lk) -> FopResult<()> {
        let client = self.store.clients.calling(asks.client)?;
        if client.answered(asks.asked).is_some() {
            return self.ledger().settle_all().await;
        }
        let (done, place) = self.change(asks.gfid, |shard, _, news| {
            if client.ended.load(Ordering::SeqCst) {
                return (Err(Errno::ENOTCONN.into()), None);
            }
            let done = self.store.unlock(shard, &asks, news).map_err(|refused| refusal(&refused));
            let record = done.is_ok().then(|| Record::Unlock(asks.clone()));
            (done, record)
        });
        done?;
        self.ledger().settle(place).await
    }

    async fn take_lock(&self, cx: &Cx, client: &Arc<Client>, asks: Lk, waits: bool) -> FopResult<()> {
        while self.try_to_take(cx, client, asks.clone(), waits).await? == Ended::Away {
            self.until_back(cx, client).await?;
        }
        Ok(())
    }

    async fn try_to_take(&self, cx: &Cx, client: &Arc<Client>, asks: Lk, waits: bool) -> FopResult<Ended> {
        if client.answered(asks.asked).is_some() {
            return self.ledger().settle_all().await.map(|()| Ended::Granted);
        }
        // Before anything that may refuse it: it has been let in, and would wait on with nobody to answer.
        if let Some((place, heard)) = self.waits_already(client, asks.asked) {
            if let Queue::Lk(kind) = place.queue {
                self.waits_on(place.gfid, kind, place.id);
            }
            return self.wait(cx, place.gfid, place.queue, place.id, heard).await;
        }
        self.until_no_grace(cx).await?;
        self.admit(client, waits).await?;
        self.preempt(cx, &asks).await?;
        let gfid = asks.gfid;
        let queue = Queue::Lk(asks.kind);
        match self.begin(client, asks, waits)? {
            Begun::Done(place) => self.ledger().settle(place).await?,
            Begun::Again => self.ledger().settle_all().await?,
            Begun::Waits(id, heard) => return self.wait(cx, gfid, queue, id, heard).await,
        }
        Ok(Ended::Granted)
    }

    /// The place of a call that stands in a queue already: from before a restart, or by way of another connection or graph.
    pub(crate) fn waits_already(
        &self,
        client: &Client,
        asked: Option<Asked>,
    ) -> Option<(Place, oneshot::Receiver<Outcome>)> {
        let place = self.store.waits.find(client.id, asked?)?;
        let (call, heard) = oneshot::channel();
        self.store.waits.adopt(place.id, call).then_some((place, heard))
    }

    fn begin(&self, client: &Arc<Client>, asks: Lk, waits: bool) -> FopResult<Begun> {
        let (begun, place) = self.change(asks.gfid, |shard, held, news| {
            if client.ended.load(Ordering::SeqCst) {
                return (Err(Errno::ENOTCONN.into()), None);
            }
            // The same call by way of another connection was faster: looked at here, it is either done or not.
            if client.answered(asks.asked).is_some() {
                return (Ok(Begun::Again), None);
            }
            if let Some((place, heard)) = self.waits_already(client, asks.asked) {
                return (Ok(Begun::Waits(place.id, heard)), None);
            }
            let owner = self.store.clients.key(client, &asks.owner);
            self.expire(shard, held, &asks, owner, news);
            if waits {
                self.begin_wait(shard, held, asks.clone(), news)
            } else {
                let set = self.store.set(shard, &asks, news);
                let record = match &set {
                    Ok(()) => Some(Record::Set(asks.clone())),
                    Err(_) => self.converts(shard, &asks, news),
                };
                (set.map(|()| Begun::Done(None)).map_err(|refused| refusal(&refused)), record)
            }
        });
        match begun? {
            Begun::Done(_) => Ok(Begun::Done(place)),
            Begun::Again => Ok(Begun::Again),
            Begun::Waits(id, heard) => {
                if asks.kind == LkKind::Posix {
                    self.refuse_cycle(asks.gfid, id);
                }
                self.waits_on(asks.gfid, asks.kind, id);
                Ok(Begun::Waits(id, heard))
            }
        }
    }

    fn begin_wait(
        &self,
        shard: &mut crate::store::Shard,
        held: &Held<'_>,
        asks: Lk,
        news: &mut crate::store::News,
    ) -> (FopResult<Begun>, Option<Record>) {
        let id = self.store.waits.next();
        let (call, heard) = oneshot::channel();
        let granted = match self.store.wait(shard, &asks, id, Some(call), news) {
            Ok(granted) => granted,
            Err(refused) => return (Err(refusal(&refused)), None),
        };
        if granted {
            return (Ok(Begun::Done(None)), Some(Record::Set(asks)));
        }
        news.place = held.append(&Record::Wait(asks.clone(), id)).max(news.place);
        (Ok(Begun::Waits(id, heard)), self.converts(shard, &asks, news))
    }

    /// A `flock` that is converted and cannot be had at once is given up first, as on Linux: else two readers that both
    /// become writers would wait for each other for ever, and no `flock` answers `EDEADLK`.
    fn converts(&self, shard: &mut crate::store::Shard, asks: &Lk, news: &mut crate::store::News) -> Option<Record> {
        let given_up = Lk { asked: None, ..asks.clone() };
        let converts = asks.kind == LkKind::Flock && self.store.holds_some(shard, asks);
        // What is not to be cut needs no room.
        (converts && self.store.unlock(shard, &given_up, news).is_ok()).then(|| Record::Unlock(given_up))
    }

    /// Sees to it that a wait ends when the time of those in its way is up, or when it is part of a cycle over several bricks.
    fn waits_on(&self, gfid: Gfid, kind: LkKind, id: WaiterId) {
        if kind == LkKind::Posix {
            self.probe_later(id, 0);
        }
        self.expire_later(gfid, Queue::Lk(kind), id);
    }

    /// Looks again when the time of those in the way of a waiter is up.
    pub(crate) fn expire_later(&self, gfid: Gfid, queue: Queue, id: WaiterId) {
        if !self.any_away() {
            return;
        }
        // Keys of owners are good meanwhile.
        let held = self.ledger().hold();
        let shard = self.store.shard(gfid);
        let blockers = shard.inode(gfid).map_or_else(Vec::new, |inode| match queue {
            Queue::Lk(kind) => inode.table(kind).map_or_else(Vec::new, |table| table.blockers(id)),
            Queue::Between => inode.between().map_or_else(Vec::new, |between| between.blockers(id)),
        });
        drop(shard);
        for blocker in blockers {
            let owner = self.store.clients.owner(blocker.owner);
            let until = owner.client.person.lock().life.and_then(|life| life.protected_until());
            until.into_iter().for_each(|at_ms| self.timers.at(at_ms, crate::timers::Later::Expiry));
        }
        drop(held);
    }

    /// Waits until a client is here that was away for too long, or is given up or ends.
    ///
    /// Its call may be asked again by way of another connection at any moment, and is this one then: what it would be
    /// answered now the client would hear.
    pub(crate) async fn until_back(&self, cx: &Cx, client: &Client) -> FopResult<()> {
        loop {
            let mut turned = std::pin::pin!(client.turned.notified());
            turned.as_mut().enable();
            if client.ended.load(Ordering::SeqCst) {
                return Err(Errno::ENOTCONN.into());
            }
            if !client.may_expire(self.now_ms()) {
                return Ok(());
            }
            tokio::select! {
                () = turned => {}
                () = cx.cancel.cancelled() => return Err(Errno::EINTR.into()),
            }
        }
    }

    /// Waits until a call has its answer, or is given up.
    pub(crate) async fn wait(
        &self,
        cx: &Cx,
        gfid: Gfid,
        queue: Queue,
        id: WaiterId,
        mut heard: oneshot::Receiver<Outcome>,
    ) -> FopResult<Ended> {
        let outcome = tokio::select! {
            biased;
            outcome = &mut heard => outcome,
            () = cx.cancel.cancelled() => {
                if self.end_wait(gfid, queue, id, Outcome::Gone) {
                    return Err(Errno::EINTR.into());
                }
                // It was answered meanwhile.
                heard.await
            }
        };
        match outcome.unwrap_or(Outcome::Gone) {
            Outcome::Granted(place) => self.ledger().settle(place).await.map(|()| Ended::Granted),
            Outcome::Away => Ok(Ended::Away),
            Outcome::NoRoom => Err(refusal(&Refused::Full)),
            Outcome::Deadlock => Err(Errno::EDEADLK.into()),
            Outcome::Fenced => Err(Errno::EBUSY.into()),
            // The descriptor was closed, or the client has ended: nobody could use the lock.
            Outcome::Gone => Err(Errno::EBADF.into()),
        }
    }

    /// A descriptor of `owner` was closed.
    pub(crate) async fn flushed(&self, cx: &Cx, gfid: Gfid) -> FopResult<()> {
        if cx.lk_owner.as_bytes().is_empty() || self.store.clients.get(cx.client()).is_none() {
            return Ok(());
        }
        let (client, owner) = (cx.client(), &cx.lk_owner);
        let (_, place) = self.change(gfid, |shard, _, news| {
            let flushed = self.store.flush(shard, gfid, client, owner, news);
            (flushed, flushed.then(|| Record::Flush { gfid, client, owner: owner.clone() }))
        });
        self.ledger().settle(place).await
    }

    /// An open has ended.
    pub(crate) async fn released(&self, cx: &Cx, gfid: Gfid, open: OpenId) -> FopResult<()> {
        if self.store.clients.get(cx.client()).is_none() {
            return Ok(());
        }
        let client = cx.client();
        let (_, place) = self.change(gfid, |shard, _, news| {
            let released = self.store.release(shard, gfid, client, open, news);
            (released, released.then_some(Record::Release { gfid, client, open }))
        });
        self.ledger().settle(place).await
    }
}

/// A held lock as a call sees it.
fn shown(lock: &Lock) -> LkRange {
    let kind = if lock.mode == Mode::Exclusive { LkType::Write } else { LkType::Read };
    LkRange { kind, start: lock.range.start(), end: lock.range.end(), pid: lock.tag.process }
}

/// What a refused call answers.
pub(crate) fn refusal(refused: &Refused) -> FopError {
    match refused {
        Refused::Conflict(_) => Errno::EAGAIN.into(),
        Refused::Full => {
            FopError::new(Errno::ENOLCK).doing("taking one more lock").with("limit", "locks-max-per-inode")
        }
    }
}
