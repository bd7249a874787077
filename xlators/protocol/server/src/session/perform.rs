//! Does one fop so that it happens once: the only place where sessions wait.
//!
//! Fops without effect go straight to the child. All others: take the turns of what they change, write the intent if they
//! cannot be done twice, are done, and their answer is written before it is given out. With `eos memory` nothing is
//! written and no turn is needed: what is not remembered need not be decided.

use std::any::Any;

use brickwork_api::xdata::REOPEN;
use brickwork_api::*;
use smallvec::SmallVec;
use tracing::warn;

use super::answer::{Answer, Performed};
use super::kinds::is_kept;
use super::ledger::PendingPlace;
use super::look::Look;
use super::opens::{Known, NotKept, OpenRecord};
use super::plan::Plan;
use super::record::{Record, Undecided};
use super::session::Session;
use super::turns::Turn;

/// The longest answer that is written down as it is. Answers of fops with effect are attributes and counts; one that is
/// longer (by its xdata) is remembered in memory, and after a restart as `EIO`: done, but the answer is lost.
pub const ANSWER_MAX: usize = 256 << 10;

/// What a fop holds while it is done.
#[derive(Default)]
struct Prepared<'t> {
    _turns: SmallVec<[Turn<'t>; 2]>,
    pending: Option<PendingPlace>,
}

/// What a fop does to the opens of its client.
#[derive(Clone, Copy, Debug)]
enum OpenChange {
    Opens(OpenFile, OpenRecord),
    Closes(OpenId),
}

impl<D> Session<D> {
    /// Does `request` on `child`, or, for one that is `remembered` from before the restart, opens again what it opened.
    ///
    /// What [`Performed::kept`] holds is what its slot is finished with.
    pub async fn perform<F: FopType>(
        &self,
        child: &dyn Xlator,
        cx: &Cx,
        request: &F::Request,
        remembered: Option<Answer>,
    ) -> Performed<F> {
        if remembered.is_none() && !is_kept(F::KIND) && !is_release(F::KIND) {
            return Performed { result: F::call(child, cx, request).await, kept: None };
        }
        let change = open_change(F::KIND, request);
        if let (Some(answer), Some(OpenChange::Opens(file, record))) = (&remembered, change) {
            return self.revive::<F>(child, cx, file, record, answer).await;
        }
        if let Some(OpenChange::Opens(file, record)) = change
            && asks_for_reopen(F::KIND, request)
            && let Some(answer) = self.reopen::<F>(child, cx, file, record.directory).await
        {
            return answer;
        }
        Box::pin(self.effect::<F>(child, cx, request, change)).await
    }

    async fn effect<F: FopType>(
        &self,
        child: &dyn Xlator,
        cx: &Cx,
        request: &F::Request,
        change: Option<OpenChange>,
    ) -> Performed<F> {
        let prepared = match self.prepare(child, cx, F::KIND, request).await {
            Ok(prepared) => prepared,
            Err(error) => return Performed::refused(error),
        };
        let mut result = F::call(child, cx, request).await;
        if let (Ok(_), Some(OpenChange::Opens(file, record))) = (&result, change)
            && let Err(error) = self.keep_open(child, cx, file, record).await
        {
            result = Err(error);
        }
        self.conclude(cx, result, change, prepared).await
    }

    /// Takes the turns of a fop and writes its intent.
    ///
    /// # Errors
    /// The fop must not begin: this is its answer.
    async fn prepare(
        &self,
        child: &dyn Xlator,
        cx: &Cx,
        kind: FopKind,
        request: &(dyn Any + Sync),
    ) -> FopResult<Prepared<'_>> {
        if !self.ledger.is_written() {
            return Ok(Prepared::default());
        }
        // A release never fails.
        if !is_release(kind) {
            self.ledger.check()?;
        }
        let plan = Plan::of(kind, request);
        let claims = plan.claims(&self.turns);
        let turns = if claims.is_empty() { SmallVec::new() } else { self.turns.take(&claims).await? };
        let pending = match self.key(cx.request) {
            Some(key) => match plan.intent(&Look::at(child, cx.client(), &cx.host)).await? {
                Some(intent) => Some(self.ledger.intend(Undecided { key, kind, intent }).await?),
                None => None,
            },
            None => None,
        };
        Ok(Prepared { _turns: turns, pending })
    }

    /// Writes the answer, and with it what it opened or closed; then the turns end.
    async fn conclude<F: FopType>(
        &self,
        cx: &Cx,
        result: FopResult<F::Reply>,
        change: Option<OpenChange>,
        prepared: Prepared<'_>,
    ) -> Performed<F> {
        let change = change.filter(|_| result.is_ok());
        let kept = (cx.request.sequence != 0 && is_kept(F::KIND)).then(|| Answer::of::<F>(&result));
        let record = self.record_of(cx, F::KIND, kept.as_ref(), change);
        let act = || {
            if let Some(OpenChange::Closes(open)) = change {
                self.opens.remove(open);
            }
            if let Some(answer) = kept.as_ref().filter(|_| self.ledger.is_written()) {
                self.slots.answered(cx.request.slot, cx.request.sequence, answer);
            }
            if let Some(pending) = prepared.pending {
                self.ledger.decided(pending);
            }
        };
        match record.filter(|_| self.ledger.is_written()) {
            Some(record) => {
                // It was done and its answer is true; that the journal does not know it is said in the log, and stops
                // all others until a snapshot has mended it.
                if let Ok(place) = self.ledger.write(&record, act) {
                    let _ = self.ledger.settle(place).await;
                }
            }
            None => act(),
        }
        drop(prepared);
        Performed { result, kept }
    }

    fn record_of(&self, cx: &Cx, kind: FopKind, kept: Option<&Answer>, change: Option<OpenChange>) -> Option<Record> {
        let session = self.number;
        match (self.key(cx.request), kept, change) {
            (Some(key), Some(answer), change) => {
                let opened = match change {
                    Some(OpenChange::Opens(file, record)) => Some((file.open, record)),
                    _ => None,
                };
                let Answer { failure, header, .. } = writable(kind, answer);
                Some(Record::Answered { key, kind, failure, header, opened })
            }
            (_, _, Some(OpenChange::Opens(file, record))) => Some(Record::Opened { session, open: file.open, record }),
            // What is not known need not be forgotten.
            (_, _, Some(OpenChange::Closes(open))) if self.opens.contains(open) => {
                Some(Record::Closed { session, open })
            }
            _ => None,
        }
    }

    /// Keeps an open that the child has made, or takes it back.
    async fn keep_open(&self, child: &dyn Xlator, cx: &Cx, file: OpenFile, record: OpenRecord) -> FopResult<()> {
        let errno = match self.opens.add(file.open, record) {
            Ok(()) => return Ok(()),
            Err(NotKept::Ended) => Errno::ENOTCONN,
            Err(NotKept::Full) => Errno::EMFILE,
        };
        release(child, cx, file, record).await;
        Err(FopError::new(errno).doing("keeping what was opened"))
    }

    /// Opens again what a request of before the restart opened, and answers as it was answered then.
    async fn revive<F: FopType>(
        &self,
        child: &dyn Xlator,
        cx: &Cx,
        file: OpenFile,
        record: OpenRecord,
        answer: &Answer,
    ) -> Performed<F> {
        match self.open_again(child, cx, file, record.directory).await {
            Some(Err(error)) => Performed::refused(error),
            // Released meanwhile, or there: its answer is what it was.
            Some(Ok(())) | None => Performed { result: answer.result::<F>(), kept: Some(answer.clone()) },
        }
    }

    /// Answers a client that wants back an open that is on record; `None` when there is no such record.
    async fn reopen<F: FopType>(
        &self,
        child: &dyn Xlator,
        cx: &Cx,
        file: OpenFile,
        directory: bool,
    ) -> Option<Performed<F>> {
        let opened = self.open_again(child, cx, file, directory).await?;
        let result = opened.and_then(|()| empty_reply::<F>());
        let kept = (cx.request.sequence != 0).then(|| Answer::of::<F>(&result));
        Some(Performed { result, kept })
    }

    /// Makes sure that the child has an open that is on record; `None` when there is no such record.
    async fn open_again(&self, child: &dyn Xlator, cx: &Cx, file: OpenFile, directory: bool) -> Option<FopResult<()>> {
        let opened = match self.opens.known(file.open, file.gfid, directory) {
            Known::No => return None,
            Known::Open => return Some(Ok(())),
            Known::Lost(record) => open(child, cx, file, record).await,
        };
        if opened.is_ok() {
            self.opens.revived(file.open);
        }
        Some(opened)
    }
}

/// Whether it ends an open: not kept, but written.
fn is_release(kind: FopKind) -> bool {
    matches!(kind, FopKind::Release | FopKind::Releasedir)
}

fn open_change(kind: FopKind, request: &dyn Any) -> Option<OpenChange> {
    match kind {
        FopKind::Create => request.downcast_ref().map(|req: &CreateReq| {
            let file = OpenFile { gfid: req.gfid, open: req.open };
            OpenChange::Opens(file, OpenRecord::file(req.gfid, req.flags))
        }),
        FopKind::Open => request
            .downcast_ref()
            .map(|req: &OpenReq| OpenChange::Opens(req.file, OpenRecord::file(req.file.gfid, req.flags))),
        FopKind::Opendir => request
            .downcast_ref()
            .map(|req: &OpendirReq| OpenChange::Opens(req.file, OpenRecord::directory(req.file.gfid))),
        FopKind::Release => request.downcast_ref().map(|req: &ReleaseReq| OpenChange::Closes(req.file.open)),
        FopKind::Releasedir => request.downcast_ref().map(|req: &ReleasedirReq| OpenChange::Closes(req.file.open)),
        _ => None,
    }
}

/// Whether the client had this open before. Another shape under the key is no such claim.
fn asks_for_reopen(kind: FopKind, request: &dyn Any) -> bool {
    let xdata = match kind {
        FopKind::Open => request.downcast_ref().map(|req: &OpenReq| &req.xdata),
        FopKind::Opendir => request.downcast_ref().map(|req: &OpendirReq| &req.xdata),
        _ => None,
    };
    xdata.is_some_and(|xdata| xdata.get(&REOPEN) == Ok(Some(true)))
}

/// Opens as root what is on record: the rights were checked when it was opened first.
async fn open(child: &dyn Xlator, cx: &Cx, file: OpenFile, record: OpenRecord) -> FopResult<()> {
    let cx = Cx::internal(cx.client(), cx.host.clone());
    let opened = match record.directory {
        true => child.opendir(&cx, &OpendirReq { file, xdata: Xdata::EMPTY }).await.map(drop),
        false => child.open(&cx, &request(file, record)).await.map(drop),
    };
    match opened {
        // It is there.
        Err(error) if error.errno() == Errno::EEXIST => Ok(()),
        other => other,
    }
}

fn request(file: OpenFile, record: OpenRecord) -> OpenReq {
    OpenReq { file, flags: record.flags, kill_set_id: false, xdata: Xdata::EMPTY }
}

async fn release(child: &dyn Xlator, cx: &Cx, file: OpenFile, record: OpenRecord) {
    let released = match record.directory {
        true => child.releasedir(cx, &ReleasedirReq { file, xdata: Xdata::EMPTY }).await.map(drop),
        false => child.release(cx, &ReleaseReq { file, xdata: Xdata::EMPTY }).await.map(drop),
    };
    if let Err(error) = released {
        warn!(client = %cx.client(), gfid = %file.gfid, %error, "an open that nobody has was not released");
    }
}

/// The reply to an `open` or `opendir`: nothing but an empty xdata.
fn empty_reply<F: FopType>() -> FopResult<F::Reply> {
    brickwork_codec::decode(&brickwork_codec::encode(&Xdata::EMPTY))
        .map_err(|_| FopError::new(Errno::EIO).doing("answering a reopen"))
}

/// `answer` as it is written down.
fn writable(kind: FopKind, answer: &Answer) -> Answer {
    if answer.header.len() <= ANSWER_MAX {
        return answer.clone();
    }
    warn!(fop = kind.name(), bytes = answer.header.len(), "an answer is too long to be remembered beyond a restart");
    Answer::failure(&FopError::new(Errno::EIO).doing("answering again what was answered at too great length"))
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
