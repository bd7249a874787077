//! How a request travels: it waits for the connection, is sent, waits for its answer, and is sent again under the same
//! name when the connection is lost.
//!
//! Nothing is kept of it but what the caller holds anyway: it is encoded into the connection's queue each time.

use std::sync::Arc;
use std::time::Instant;

use brickwork_api::locks::LOCK_LOST;
use brickwork_api::xdata::{INVALIDATES, REOPEN, UNCACHED};
use brickwork_api::{
    Cx, Errno, FopError, FopKind, FopResult, FopType, OpenId, OpenReq, OpendirReq, ReleaseReply, ReleaseReq,
    ReleasedirReply, ReleasedirReq, RequestId, Xdata, fop,
};
use brickwork_codec::{decode, encode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::{GivenUp, RequestHead};
use brickwork_wire::payload;
use brickwork_wire::repeat::{may_repeat, may_wait};

use crate::believers::Changing;
use crate::brick::Brick;
use crate::clients::{OPENS_MAX, Session};
use crate::line::{UnderWay, Up};
use crate::opens::{Open, Owed, Stale};
use crate::through::{self, Opening};
use crate::waits::{Outcome, Wait};

/// Bytes that may wait to leave before further requests wait for room.
const QUEUED_MAX: usize = 8 << 20;

/// An answer, and where it came from.
struct Answered<T> {
    reply: T,
    session: Session,
    /// Sent in an earlier era already: the answer may be a remembered one.
    repeated: bool,
}

/// Does `request` on the brick.
///
/// # Cancel
/// Waits answer `EINTR`; nothing was taken.
pub(crate) async fn call<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<F::Reply> {
    match F::KIND {
        FopKind::Release | FopKind::Releasedir => release::<F>(brick, cx, request).await,
        FopKind::Open | FopKind::Opendir | FopKind::Create => open::<F>(brick, cx, request).await,
        FopKind::Flush => flush::<F>(brick, cx, request).await,
        FopKind::Statfs => {
            let mut reply = travel::<F>(brick, cx, request).await?.reply;
            F::reply_xdata(&mut reply).insert(&INVALIDATES, true);
            Ok(reply)
        }
        _ => Ok(travel::<F>(brick, cx, request).await?.reply),
    }
}

/// Flushes, also through an open that is lost: its owner gives up what it took through others too. It is told of the loss
/// all the same.
async fn flush<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<F::Reply> {
    let flushed = travel::<F>(brick, cx, request).await;
    not_lost::<F>(brick, cx, request)?;
    Ok(flushed?.reply)
}

async fn travel<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<Answered<F::Reply>> {
    let mut first: Option<Session> = None;
    let mut changing = Changing::of::<F>(brick, cx, request);
    let answer = go_until_answered::<F>(brick, cx, request, &mut first, &mut changing).await;
    if first.is_some() && answer.as_ref().is_err_and(|end| matches!(end, End::GaveUp(_))) {
        give_up::<F>(brick, cx, request);
    }
    answer.map_err(|(End::Answered(error) | End::GaveUp(error))| error)
}

/// Why there is no reply.
enum End {
    /// The brick answered an error, or nothing is left to be told to it.
    Answered(FopError),
    /// Nobody waits for its answer any more, and it may come to something yet.
    GaveUp(FopError),
}

async fn go_until_answered<F: FopType>(
    brick: &Brick,
    cx: &Cx,
    request: &F::Request,
    first: &mut Option<Session>,
    changing: &mut Option<Changing<'_>>,
) -> Result<Answered<F::Reply>, End> {
    let waits = may_wait::<F>(request);
    let limit = limit(brick, cx, waits);
    loop {
        let (up, session) = attached(brick, cx).await.map_err(End::GaveUp)?;
        if let Some(before) = first {
            may_go_again::<F>(cx, request, before, &session).map_err(End::Answered)?;
        }
        if F::KIND != FopKind::Flush {
            // Of what was sent before, the brick may keep a wait.
            not_lost::<F>(brick, cx, request).map_err(End::GaveUp)?;
        }
        if up.line.outbox.queued() > QUEUED_MAX {
            up.line.outbox.room(QUEUED_MAX).await;
        }
        if let Some(changing) = changing {
            changing.sent().map_err(End::Answered)?;
        }
        let wait = up.line.waits.begin(cx.request.slot, limit);
        let sent = wait.and_then(|wait| Some((send::<F>(brick, cx, request, &up, session, &wait)?, wait)));
        let Some((under_way, wait)) = sent else {
            // Not even its first bytes have left.
            if let (None, Some(changing)) = (&first, changing.as_mut()) {
                changing.not_sent();
            }
            brick.retire(&up.line);
            continue;
        };
        // A wait says nothing of how busy the connection is.
        let _under_way = (!waits).then_some(under_way);
        let repeated = first.get_or_insert(session).era != session.era;
        match answer(wait, cx, waits, &up, session, F::KIND).await {
            Outcome::Came(frame) => {
                let mut reply = match read::<F>(frame) {
                    Ok(reply) => reply,
                    Err(error) => {
                        refused::<F>(brick, cx, request, changing, &error);
                        return Err(End::Answered(error));
                    }
                };
                if changing.as_mut().is_some_and(|changing| changing.made(session.incarnation).is_err()) {
                    continue;
                }
                if up.line.is_silent() {
                    F::reply_xdata(&mut reply).insert(&UNCACHED, true);
                }
                return Ok(Answered { reply, session, repeated });
            }
            Outcome::Lost => brick.retire(&up.line),
            Outcome::TooLate => return Err(End::GaveUp(too_late(brick, F::KIND))),
        }
    }
}

/// The brick has answered `error`.
fn refused<F: FopType>(
    brick: &Brick,
    cx: &Cx,
    request: &F::Request,
    changing: &mut Option<Changing<'_>>,
    error: &FopError,
) {
    // A flush that could not write may have released.
    if let Some(changing) = changing.as_mut().filter(|_| F::KIND != FopKind::Flush) {
        changing.refused();
    }
    // Whatever else may stand there is not for us.
    let Ok(Some(why)) = error.xdata().get(&LOCK_LOST) else { return };
    through::opens::<F>(request).into_iter().flatten().for_each(|open| brick.lock_lost(cx.client(), open, &why));
}

fn limit(brick: &Brick, cx: &Cx, waits: bool) -> Option<Instant> {
    if waits {
        return cx.deadline;
    }
    let limit = Instant::now() + brick.patience.load().frame;
    Some(cx.deadline.map_or(limit, |deadline| deadline.min(limit)))
}

fn too_late(brick: &Brick, kind: FopKind) -> FopError {
    FopError::new(Errno::ETIMEDOUT)
        .doing("waiting for the brick's answer")
        .with("brick", brick.label())
        .with("fop", kind.name())
}

/// The connection, with the session of the caller; waits for both.
async fn attached(brick: &Brick, cx: &Cx) -> FopResult<(Arc<Up>, Session)> {
    loop {
        if let Some(attached) = attached_now(brick, cx) {
            return Ok(attached);
        }
        let changed = brick.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // Registered before the second look: a change after it wakes us.
        changed.as_mut().enable();
        if let Some(attached) = attached_now(brick, cx) {
            return Ok(attached);
        }
        if let Some(error) = brick.gave_up(Instant::now()) {
            return Err(error);
        }
        brick.clients.introduce(cx.client(), Instant::now())?;
        brick.newcomer.notify_one();
        tokio::select! {
            () = changed => {}
            // A wait that is given up, or a caller that is being killed.
            () = cx.cancel.cancelled() => return Err(Errno::EINTR.into()),
        }
    }
}

fn attached_now(brick: &Brick, cx: &Cx) -> Option<(Arc<Up>, Session)> {
    let up = brick.up()?;
    let session = up.session(cx.client())?;
    Some((up, session))
}

/// Whether a request that was sent to `before` may be sent to `now`.
fn may_go_again<F: FopType>(cx: &Cx, request: &F::Request, before: &Session, now: &Session) -> FopResult<()> {
    let remembered = cx.request.sequence != 0 && before.memory == now.memory;
    if remembered || may_repeat::<F>(request) {
        return Ok(());
    }
    let why = match cx.request.sequence {
        0 => "the connection was lost, and the request has no number under which the brick would know it",
        _ => "the brick forgot whether it did it",
    };
    Err(FopError::new(Errno::EIO).doing("asking the brick again").with("fop", F::KIND.name()).with("reason", why))
}

/// Whether everything that `request` goes through is open.
fn not_lost<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<()> {
    let opens = through::opens::<F>(request).into_iter().flatten();
    let found = opens.filter_map(|open| Some((open, brick.clients.why_lost(cx.client(), open)?))).next();
    found.map_or(Ok(()), |(open, lost)| Err(lost.error(open)))
}

fn send<'a, F: FopType>(
    brick: &Brick,
    cx: &Cx,
    request: &F::Request,
    up: &'a Up,
    session: Session,
    wait: &Wait<'_, Frame>,
) -> Option<UnderWay<'a>> {
    let prefix = Prefix::new(Kind::Request, wait.number()).of(F::KIND as u8, session.number);
    up.line.send(prefix, &(head(brick, cx), request), payload::of(request))
}

fn head(brick: &Brick, cx: &Cx) -> RequestHead {
    let mut head = RequestHead::of(cx);
    if !brick.settings.send_gids {
        head.groups = Arc::default();
    }
    head
}

/// Waits for the answer; tells the brick when the caller gives a wait up, and goes on waiting for what comes of it.
async fn answer(
    mut wait: Wait<'_, Frame>,
    cx: &Cx,
    waits: bool,
    up: &Up,
    session: Session,
    kind: FopKind,
) -> Outcome<Frame> {
    if !waits {
        return wait.await;
    }
    tokio::select! {
        biased;
        outcome = &mut wait => return outcome,
        () = cx.cancel.cancelled() => {}
    }
    let prefix = Prefix::new(Kind::Cancel, wait.number()).of(kind as u8, session.number);
    // A closed connection: the wait ends with it.
    let _ = up.line.outbox.send(prefix, &given_up(cx), bytes::Bytes::new());
    wait.await
}

fn given_up(cx: &Cx) -> GivenUp {
    GivenUp { slot: cx.request.slot, sequence: cx.request.sequence }
}

fn read<F: FopType>(frame: Frame) -> FopResult<F::Reply> {
    let unreadable = |why: &dyn std::fmt::Display| {
        FopError::new(Errno::EIO).doing("reading the brick's answer").with("fop", F::KIND.name()).with("why", why)
    };
    match frame.prefix.kind {
        _ if frame.prefix.fop != F::KIND as u8 => Err(unreadable(&"it answers another fop")),
        Kind::Reply => {
            let mut reply: F::Reply = decode(&frame.header).map_err(|error| unreadable(&error))?;
            match payload::give(&mut reply, frame.payload) {
                true => Ok(reply),
                false => Err(unreadable(&"it carries bytes that belong to nothing")),
            }
        }
        Kind::Failure => Err(decode(&frame.header).unwrap_or_else(|error| unreadable(&error))),
        kind => Err(unreadable(&format_args!("it is a {kind:?}"))),
    }
}

/// Owes the brick what undoes a request that may come to something yet.
fn give_up<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) {
    if may_wait::<F>(request) {
        let header = encode(&given_up(cx)).into();
        owe(brick, cx, Owed { kind: Kind::Cancel, fop: F::KIND as u8, header });
    }
    if let Some(opening) = through::opening::<F>(request) {
        owe(brick, cx, owed_release(brick, cx, &opening));
    }
}

fn owe(brick: &Brick, cx: &Cx, owed: Owed) {
    brick.clients.owe(cx.client(), owed);
    // When the connection has just come back; else the next attach sees to it.
    brick.newcomer.notify_one();
}

fn owed_release(brick: &Brick, cx: &Cx, Opening { file, directory, .. }: &Opening) -> Owed {
    let head = RequestHead { sequence: 0, ..head(brick, cx) };
    let (file, xdata) = (*file, Xdata::EMPTY);
    let (fop, header) = match directory {
        true => (FopKind::Releasedir, encode(&(head, ReleasedirReq { file, xdata }))),
        false => (FopKind::Release, encode(&(head, ReleaseReq { file, xdata }))),
    };
    Owed { kind: Kind::Request, fop: fop as u8, header: header.into() }
}

/// Opens, and keeps what is needed to open again.
async fn open<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<F::Reply> {
    let Some(opening) = through::opening::<F>(request) else { unreachable!("only what opens comes here") };
    if !brick.clients.has_room() {
        return Err(FopError::new(Errno::ENFILE).doing("keeping one more open").with("limit", OPENS_MAX));
    }
    let Answered { reply, mut session, repeated } = travel::<F>(brick, cx, request).await?;
    let Opening { file, flags, directory } = opening;
    let kept = Open::new(file.gfid, flags, &cx.credentials, directory);
    // An answer that the brick remembered from before a restart: what it opened then is not open now.
    let mut open_now = !repeated;
    loop {
        if !open_now {
            session = reopen(brick, cx, file.open, &kept).await?;
        }
        match brick.clients.keep(cx.client(), session.era, file.open, kept.clone()) {
            Ok(()) => return Ok(reply),
            Err(Stale) => open_now = false,
        }
    }
}

/// Opens again what the brick has lost since it answered.
async fn reopen(brick: &Brick, cx: &Cx, id: OpenId, open: &Open) -> FopResult<Session> {
    let request = RequestId { sequence: 0, ..cx.request };
    let cx = Cx { request, ..cx.clone() };
    let file = brickwork_api::OpenFile { gfid: open.gfid, open: id };
    let xdata = Xdata::EMPTY.with(&REOPEN, true);
    match open.directory {
        true => {
            let request = OpendirReq { file, xdata };
            Ok(travel::<fop::Opendir>(brick, &cx, &request).await?.session)
        }
        false => {
            let request = OpenReq { file, flags: open.flags, kill_set_id: false, xdata };
            Ok(travel::<fop::Open>(brick, &cx, &request).await?.session)
        }
    }
}

/// Ends an open: at once for the caller when the brick cannot be told now, which then hears of it when it is back.
async fn release<F: FopType>(brick: &Brick, cx: &Cx, request: &F::Request) -> FopResult<F::Reply> {
    let Some(file) = through::ending::<F>(request) else { unreachable!("only what ends an open comes here") };
    brick.clients.release(cx.client(), file.open);
    // After the open, so that a grant on its way finds either.
    brick.believers.with(cx.client(), |beliefs| beliefs.end_open(file.open));
    let limit = limit(brick, cx, false);
    if let Some((up, session)) = attached_now(brick, cx)
        && let Some(wait) = up.line.waits.begin(cx.request.slot, limit)
        && let Some(_under_way) = send::<F>(brick, cx, request, &up, session, &wait)
    {
        match wait.await {
            Outcome::Came(frame) => return read::<F>(frame),
            Outcome::Lost | Outcome::TooLate => brick.retire(&up.line),
        }
    }
    let directory = F::KIND == FopKind::Releasedir;
    owe(brick, cx, owed_release(brick, cx, &Opening { file, flags: 0, directory }));
    Ok(released::<F>())
}

fn released<F: FopType>() -> F::Reply {
    let xdata = Xdata::EMPTY;
    let reply = match F::KIND {
        FopKind::Releasedir => through::same(ReleasedirReply { xdata }),
        _ => through::same(ReleaseReply { xdata }),
    };
    reply.unwrap_or_else(|| unreachable!("only what ends an open comes here"))
}
