//! From a request to its answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use brickwork_api::xdata::UNCACHED;
use brickwork_api::{
    Cancel, Credentials, Cx, Errno, FopError, FopKind, FopResult, FopType, ForgetReq, IpcReq, LkCommand, LkReq,
    ReadReq, ReaddirReq, ReaddirplusReq, RequestId, XlatorLkCommand, fop,
};
use brickwork_api::{EntrylkReq, InodelkReq};
use brickwork_wire::connection::{WireError, decode};
use brickwork_wire::frame::{Frame, FrameLimits, Kind, Prefix};
use brickwork_wire::message::{GROUPS_MAX, RequestHead};
use brickwork_wire::outbox::Outbox;
use brickwork_wire::payload;

use crate::caches::mark_uncached;
use crate::connection::{Connection, UnderWay};
use crate::locks;
use crate::seats::Member;
use crate::session::{self, Answer, Begun, Finished, Origin, Performed, is_lock};

/// Questions between xlators that are not for clients: those of the leaf. Those of the locks are told apart one by one.
const PRIVATE_IPC: &str = "storage/";

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    outbox: Outbox,
    /// The number of its connection.
    connection: u64,
    /// Of the client that asked.
    incarnation: u32,
    id: u64,
    fop: u8,
    session: u16,
}

impl session::Destination for Destination {
    fn replaces(&self, former: &Destination) -> bool {
        self.incarnation >= former.incarnation
    }

    fn origin(&self) -> Origin {
        Origin { connection: self.connection, id: self.id }
    }
}

impl Destination {
    /// Puts `answer` among what leaves next. Whoever asked and has gone asks again, and is answered from memory.
    fn put(&self, answer: Answer) {
        let kind = if answer.failure { Kind::Failure } else { Kind::Reply };
        let prefix = Prefix::new(kind, self.id).of(self.fop, self.session);
        let _ = self.outbox.put_encoded(prefix, &answer.header, answer.payload);
    }

    fn flush(&self) {
        self.outbox.flush();
    }
}

/// Begins the fop in `frame`; what can be done at once is done when it returns.
///
/// # Errors
/// A request that is none: the connection ends.
pub(crate) fn begin(
    connection: &Arc<Connection>,
    member: &Arc<Member>,
    kind: FopKind,
    frame: Frame,
) -> Result<(), WireError> {
    macro_rules! dispatch {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match kind {
                $(FopKind::$kind => begin_fop::<fop::$kind>(connection, member, frame),)*
            }
        };
    }
    brickwork_api::for_each_fop!(dispatch)
}

fn begin_fop<F: FopType>(connection: &Arc<Connection>, member: &Arc<Member>, frame: Frame) -> Result<(), WireError> {
    let Prefix { id, fop, session, .. } = frame.prefix;
    let own_bytes = frame.header.len() + frame.payload.len();
    let (head, mut request): (RequestHead, F::Request) = decode(&frame.header)?;
    if !payload::give(&mut request, frame.payload) {
        return Err(WireError::Header(format!("a payload beside a {}", F::KIND.name())));
    }
    if head.groups.len() > GROUPS_MAX {
        return Err(WireError::Header(format!("{} groups, {GROUPS_MAX} are possible", head.groups.len())));
    }
    let (outbox, incarnation) = (connection.outbox.clone(), member.incarnation);
    let destination = Destination { outbox, connection: connection.number(), incarnation, id, fop, session };
    let waits = waits::<F>(&request);
    let Some(under_way) = connection.begin(own_bytes + answer_max::<F>(&request), waits) else {
        let error = FopError::new(Errno::ENOLCK).doing("waiting beside as many others as may");
        destination.put(Answer::failure(&error));
        return Ok(());
    };
    let cancel = if waits { Cancel::new() } else { Cancel::never() };
    let (slot, sequence) = (head.slot, head.sequence);
    let (own, remembered) = match member.session.slots().begin(slot, sequence, F::KIND, &cancel, destination.clone()) {
        Ok(Begun::New { superseded, remembered }) => {
            if let Some(superseded) = superseded {
                superseded.cancel();
            }
            (None, remembered)
        }
        Ok(Begun::Unnumbered(destination)) => (Some(destination), None),
        Ok(Begun::Again(answer, destination)) => {
            destination.put(of_the_past::<F>(&answer));
            return Ok(());
        }
        Ok(Begun::Joined | Begun::Stale) => return Ok(()),
        Ok(Begun::GivenUp(destination)) => {
            destination.put(Answer::failure(&Errno::EINTR.into()));
            return Ok(());
        }
        Err(errno) => {
            let error = FopError::new(errno).doing("taking a slot").with("slot", slot).with("sequence", sequence);
            destination.put(Answer::failure(&error));
            return Ok(());
        }
    };
    let job = Job::<F> { under_way, member: member.clone(), head, request, own, cancel };
    run_or_spawn(job.run(remembered), &connection.outbox);
    Ok(())
}

/// An answer that is given again. It tells of a moment that has passed, and nobody has noted who was told: not to be kept.
fn of_the_past<F: FopType>(answer: &Answer) -> Answer {
    let mut result = answer.result::<F>();
    mark_uncached::<F>(&mut result);
    Answer::of::<F>(&result)
}

/// Polls `job` once; what is not done then goes on beside the connection.
fn run_or_spawn(job: impl Future<Output = ()> + Send + 'static, outbox: &Outbox) {
    let mut job = Box::pin(job);
    // An xlator that panics must not take the connection with it, and all that others have under way on it.
    let poll = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    match poll {
        // The slot was answered as the future fell, and the panic is in the log by the hook of the process.
        Err(_) | Ok(Poll::Ready(())) => {}
        Ok(Poll::Pending) => {
            let outbox = outbox.clone();
            // Polled again at once, by a waker that counts.
            tokio::spawn(async move {
                job.await;
                outbox.flush();
            });
        }
    }
}

/// One request on its way.
struct Job<F: FopType> {
    under_way: UnderWay,
    member: Arc<Member>,
    head: RequestHead,
    request: F::Request,
    /// Where the answer of a request without a number goes.
    own: Option<Destination>,
    cancel: Cancel,
}

impl<F: FopType> Job<F> {
    async fn run(self, remembered: Option<Answer>) {
        let Job { mut under_way, member, head, request, own, cancel } = self;
        let connection = under_way.connection().clone();
        let (server, export) = (&connection.server, &connection.export);
        let RequestHead { slot, sequence, lk_owner, uid, gid, pid, groups } = head;
        let mut unanswered = Unanswered { member: &member, slot, sequence, own };
        let said = Credentials { uid, gid, pid, groups };
        let identities = server.identities.load_full();
        let performed = match identities.of(&*server.host, said).await {
            Err(error) => Performed::<F>::refused(error),
            Ok(credentials) => {
                let request_id = RequestId { client: member.client, slot, sequence };
                let host = server.host.clone();
                let cx = Cx { request: request_id, lk_owner, credentials, deadline: None, cancel, host };
                match refusal::<F>(&request) {
                    Some(errno) => Performed::refused(errno.into()),
                    None => coherent::<F>(&mut under_way, &member, &cx, &request, remembered).await,
                }
            }
        };
        if let Some(forget) = (&request as &dyn Any).downcast_ref::<ForgetReq>() {
            export.caches.forgotten(member.key, &forget.gfids);
        }
        let locked = is_lock(F::KIND) && performed.result.is_ok();
        if locked && member.session.has_ended() {
            export.locked_too_late(member.client);
        }
        let kept = performed.kept.clone();
        let finished = unanswered.finish(kept);
        // A lock that nobody will hear of has to go.
        let unheard = locked && finished.as_ref().is_none_or(|finished| finished.given_up);
        if unheard {
            export.locks.given_up(member.client, slot, sequence);
        }
        if let Some(Finished { destination, .. }) = finished {
            destination.put(if unheard { Answer::failure(&Errno::EINTR.into()) } else { performed.into_answer() });
            // Its own connection writes when everything that came in is done.
            if !destination.outbox.is_same(&connection.outbox) {
                destination.flush();
            }
        }
        drop(under_way);
    }
}

/// A request whose slot waits for an answer. Dropped without one, by a panic below, it answers `EIO`: the slot is free for
/// the next request, and nobody waits for ever.
struct Unanswered<'m> {
    member: &'m Member,
    slot: u32,
    sequence: u64,
    own: Option<Destination>,
}

impl Unanswered<'_> {
    /// Where the answer goes, which the slot remembers from now on; `None` when a later request has taken the slot.
    fn finish(&mut self, kept: Option<Answer>) -> Option<Finished<Destination>> {
        let own = self.own.take().map(|destination| Finished { destination, given_up: false });
        own.or_else(|| self.member.session.slots().finish(self.slot, self.sequence, kept))
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Answered, or given up with the whole process: its client asks again.
            return;
        }
        let answer = Answer::failure(&FopError::new(Errno::EIO).doing("doing a fop that panicked in the brick"));
        if let Some(Finished { destination, .. }) = self.finish(Some(answer.clone())) {
            destination.put(answer);
            destination.flush();
        }
    }
}

/// Does the fop, and waits until nobody keeps what it changed.
async fn coherent<F: FopType>(
    under_way: &mut UnderWay,
    member: &Arc<Member>,
    cx: &Cx,
    request: &F::Request,
    remembered: Option<Answer>,
) -> Performed<F> {
    let connection = under_way.connection().clone();
    let export = &connection.export;
    let timeout = connection.server.options.invalidate_timeout.0;
    let moment = export.caches.now();
    let is_of_the_past = remembered.is_some();
    let mut performed = member.session.perform::<F>(&*export.child, cx, request, remembered).await;
    let after =
        export.caches.after::<F>(member.key, moment, request, &mut performed.result, &|notice: &_| export.tell(notice));
    if let Some(waiting) = after.aside {
        let export = export.clone();
        tokio::spawn(async move { waiting.all(timeout, |silent| export.cut_off(silent)).await });
    }
    if let Some(waiting) = after.change {
        under_way.waits_for_others();
        waiting.all(timeout, |silent| export.cut_off(silent)).await;
    }
    if is_of_the_past {
        mark_uncached::<F>(&mut performed.result);
    }
    if is_marked::<F>(&mut performed.result) {
        // What the slot remembers was encoded before.
        performed.kept = performed.kept.map(|_| Answer::of::<F>(&performed.result));
    }
    performed
}

fn is_marked<F: FopType>(result: &mut FopResult<F::Reply>) -> bool {
    let xdata = match result {
        Ok(reply) => &*F::reply_xdata(reply),
        Err(error) => error.xdata(),
    };
    xdata.get(&UNCACHED) == Ok(Some(true))
}

/// Bytes that the answer may have, where the request says how many it wants.
fn answer_max<F: FopType>(request: &F::Request) -> usize {
    let request = request as &dyn Any;
    let asked = match F::KIND {
        FopKind::Read => request.downcast_ref().map(|read: &ReadReq| read.size),
        FopKind::Readdir => request.downcast_ref().map(|list: &ReaddirReq| list.size),
        FopKind::Readdirplus => request.downcast_ref().map(|list: &ReaddirplusReq| list.size),
        _ => None,
    };
    // Whoever wants more than a frame has room for does not get it.
    asked.map_or(0, |asked| asked.min(FrameLimits::FULL.payload) as usize)
}

/// Why a client may not ask this.
fn refusal<F: FopType>(request: &F::Request) -> Option<Errno> {
    let ipc = (request as &dyn Any).downcast_ref::<IpcReq>()?;
    let private = ipc.operation.starts_with(PRIVATE_IPC) || locks::is_private(&ipc.operation);
    private.then_some(Errno::EPERM)
}

/// Whether the fop may wait for another client, so that it is not counted among those that make room soon.
fn waits<F: FopType>(request: &F::Request) -> bool {
    let request = request as &dyn Any;
    if let Some(lk) = request.downcast_ref::<LkReq>() {
        return lk.command == LkCommand::SetWait;
    }
    if let Some(lk) = request.downcast_ref::<InodelkReq>() {
        return lk.command == XlatorLkCommand::Lock;
    }
    if let Some(lk) = request.downcast_ref::<EntrylkReq>() {
        return lk.command == XlatorLkCommand::Lock;
    }
    F::KIND == FopKind::Lease
}
