//! A filter that keeps locks of applications, as simply as can be: for tests of what stands above a lock table.

use std::collections::HashMap;
use std::sync::Arc;

use brickwork_api::locks::{RECLAIM_LOCK, RECLAIM_REFUSED};
use brickwork_api::{
    Arity, ClientId, Cx, Errno, FlushReply, FlushReq, FopError, FopResult, Gfid, LkCommand, LkKind, LkOwner, LkRange,
    LkReply, LkReq, LkType, OpenId, ReleaseReply, ReleaseReq, Route, Xdata, Xlator, XlatorType, async_trait,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// `testkit/keeps-locks`, for tests that build a graph from a volfile.
pub const TYPE: XlatorType = XlatorType {
    name: "testkit/keeps-locks",
    about: "locks of applications in memory, for tests",
    options: &[],
    subvolumes: Arity::One,
    prepare: |mut setup| Ok(Arc::new(KeepsLocks::over(setup.only_child()))),
};

/// Keeps POSIX and flock locks by (client, owner) until they are released, flushed, or their open is.
///
/// - whoever waits is tried again with each release: there is no queue and no deadlock detection;
/// - a reclaim takes over the record of the very owner, range and strength, whoever holds it;
/// - nothing is merged, nothing is limited, every call looks at every lock of its file.
///
/// All other fops are the child's.
#[derive(Debug)]
pub struct KeepsLocks {
    child: Arc<dyn Xlator>,
    held: Mutex<HashMap<Gfid, Vec<Held>>>,
    freed: Notify,
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    client: ClientId,
    owner: LkOwner,
    open: OpenId,
    family: LkKind,
    range: LkRange,
}

impl KeepsLocks {
    /// Stands above `child`.
    #[must_use]
    pub fn over(child: Arc<dyn Xlator>) -> KeepsLocks {
        KeepsLocks { child, held: Mutex::default(), freed: Notify::new() }
    }

    /// How many locks are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.lock().values().map(Vec::len).sum()
    }

    fn get(&self, cx: &Cx, req: &LkReq) -> LkRange {
        let held = self.held.lock();
        let in_the_way = held.get(&req.file.gfid).into_iter().flatten().find(|held| held.conflicts(cx, req));
        in_the_way.map_or(LkRange { kind: LkType::Unlock, ..req.range }, |held| held.range)
    }

    /// Takes or releases at once.
    fn set(&self, cx: &Cx, req: &LkReq) -> Result<(), Errno> {
        let mut table = self.held.lock();
        let held = table.entry(req.file.gfid).or_default();
        if req.range.kind != LkType::Unlock && held.iter().any(|held| held.conflicts(cx, req)) {
            return Err(Errno::EAGAIN);
        }
        let kept = held.drain(..).flat_map(|held| held.without(cx, req)).collect();
        *held = kept;
        if req.range.kind != LkType::Unlock {
            held.push(Held {
                client: cx.client(),
                owner: cx.lk_owner.clone(),
                open: req.file.open,
                family: req.kind,
                range: req.range,
            });
        }
        drop(table);
        self.freed.notify_waiters();
        Ok(())
    }

    fn reclaim(&self, cx: &Cx, req: &LkReq) -> FopResult<()> {
        let mut table = self.held.lock();
        let same = |held: &&mut Held| {
            let (ours, its) = (req.range, held.range);
            held.owner == cx.lk_owner
                && held.family == req.kind
                && (ours.kind, ours.start, ours.end) == (its.kind, its.start, its.end)
        };
        let Some(held) = table.get_mut(&req.file.gfid).and_then(|all| all.iter_mut().find(same)) else {
            let why = Xdata::EMPTY.with(&RECLAIM_REFUSED, "no-record".to_owned());
            return Err(FopError::new(Errno::ENOLCK).with_xdata(why));
        };
        (held.client, held.open) = (cx.client(), req.file.open);
        Ok(())
    }

    async fn wait(&self, cx: &Cx, req: &LkReq) -> Result<(), Errno> {
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // Before the try: what is released after it wakes us.
            freed.as_mut().enable();
            match self.set(cx, req) {
                Err(Errno::EAGAIN) => {}
                done => return done,
            }
            tokio::select! {
                () = freed => {}
                () = cx.cancel.cancelled() => return Err(Errno::EINTR),
            }
        }
    }

    fn drop_all(&self, gfid: Gfid, goes: impl Fn(&Held) -> bool) {
        let mut table = self.held.lock();
        if let Some(held) = table.get_mut(&gfid) {
            held.retain(|held| !goes(held));
        }
        drop(table);
        self.freed.notify_waiters();
    }
}

impl Held {
    fn is_of(&self, cx: &Cx) -> bool {
        self.client == cx.client() && self.owner == cx.lk_owner
    }

    fn conflicts(&self, cx: &Cx, req: &LkReq) -> bool {
        let overlap = self.range.start < req.range.end && req.range.start < self.range.end;
        let strong = self.range.kind == LkType::Write || req.range.kind == LkType::Write;
        self.family == req.kind && !self.is_of(cx) && overlap && strong
    }

    /// What is left of it when its owner sets another one.
    fn without(self, cx: &Cx, req: &LkReq) -> Vec<Held> {
        if !self.is_of(cx) || self.family != req.kind {
            return vec![self];
        }
        let before = LkRange { end: self.range.end.min(req.range.start), ..self.range };
        let after = LkRange { start: self.range.start.max(req.range.end), ..self.range };
        let parts = [before, after].into_iter().filter(|part| part.start < part.end);
        parts.map(|range| Held { range, ..self.clone() }).collect()
    }
}

#[async_trait]
impl Xlator for KeepsLocks {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    async fn lk(&self, cx: &Cx, req: &LkReq) -> FopResult<LkReply> {
        let range = match req.command {
            LkCommand::Get => self.get(cx, req),
            _ if req.xdata.get(&RECLAIM_LOCK)? == Some(true) => self.reclaim(cx, req).map(|()| req.range)?,
            LkCommand::Set => self.set(cx, req).map(|()| req.range)?,
            LkCommand::SetWait => self.wait(cx, req).await.map(|()| req.range)?,
        };
        Ok(LkReply { range, xdata: Xdata::EMPTY })
    }

    async fn flush(&self, cx: &Cx, req: &FlushReq) -> FopResult<FlushReply> {
        self.drop_all(req.file.gfid, |held| held.family == LkKind::Posix && held.is_of(cx));
        self.child.flush(cx, req).await
    }

    async fn release(&self, cx: &Cx, req: &ReleaseReq) -> FopResult<ReleaseReply> {
        self.drop_all(req.file.gfid, |held| held.client == cx.client() && held.open == req.file.open);
        self.child.release(cx, req).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryLeaf, block_on, cx};
    use brickwork_api::OpenFile;

    fn request(open: u64, kind: LkType, start: u64, end: u64) -> LkReq {
        LkReq {
            file: OpenFile { gfid: Gfid::ROOT, open: OpenId(open) },
            command: LkCommand::Set,
            kind: LkKind::Posix,
            range: LkRange { kind, start, end, pid: 1 },
            xdata: Xdata::EMPTY,
        }
    }

    #[test]
    fn a_lock_is_held_against_others_and_an_unlock_in_its_middle_splits_it() {
        let locks = KeepsLocks::over(Arc::new(MemoryLeaf::new()));
        let (first, second) = (cx(), cx());
        let set = |cx: &Cx, request: LkReq| block_on(locks.lk(cx, &request)).map(drop).map_err(|error| error.errno());
        set(&first, request(1, LkType::Write, 0, 30)).unwrap();
        assert_eq!(set(&second, request(2, LkType::Read, 10, 20)), Err(Errno::EAGAIN));
        set(&first, request(1, LkType::Unlock, 10, 20)).unwrap();
        assert_eq!(locks.count(), 2);
        set(&second, request(2, LkType::Read, 10, 20)).unwrap();
        assert_eq!(set(&second, request(2, LkType::Read, 10, 21)), Err(Errno::EAGAIN));
        let release = ReleaseReq { file: OpenFile { gfid: Gfid::ROOT, open: OpenId(1) }, xdata: Xdata::EMPTY };
        drop(block_on(locks.release(&first, &release)));
        assert_eq!(locks.count(), 1);
    }
}
