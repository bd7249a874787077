//! How sessions are taken up on a fresh connection: attached, told what was given up, asked what is held, what was open
//! opened again, told what was ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::xdata::REOPEN;
use brickwork_api::{
    ClientId, Credentials, Errno, FopError, FopKind, LkOwner, OpenFile, OpenId, OpenReq, OpendirReq, Xdata,
};
use brickwork_wire::connection::decode;
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::{Answer, Attached, Call, RequestHead, Why};
use bytes::Bytes;

use crate::brick::Brick;
use crate::claims::claim;
use crate::clients::{Session, Taken};
use crate::line::Line;
use crate::link::Failure;
use crate::opens::{Lost, Open, Owed};
use crate::pulse::Bounds;
use crate::waits::{Outcome, Wait};

/// Requests under way at once while everything is opened again.
const REOPENS_AT_ONCE: usize = 1024;

/// Attaches `clients`; those that the brick refuses are noted.
///
/// # Errors
/// The connection is lost, or cannot be used.
pub(crate) async fn attach(
    brick: &Brick,
    line: &Line,
    boot: u64,
    clients: Vec<ClientId>,
) -> Result<Vec<Taken>, Failure> {
    let mut taken = Vec::new();
    for client in clients {
        let Some(call) = brick.clients.attach(client, &brick.settings.failover) else { continue };
        match line.call(&Call::Attach(call)).await? {
            Ok(Answer::Attached(attached)) => {
                line.pulse.lock().bound(bounds(&attached));
                // Pings may be due earlier now.
                line.stir.notify_one();
                line.attached(attached.session, client);
                taken.extend(brick.clients.taken(client, attached.session, attached.known, boot));
            }
            Ok(_) => return Err(Failure::lost("another answer than of an attach came")),
            Err(refused) if refused.why == Why::Later => return Err(Failure::lost(refused.reason)),
            Err(refused) => {
                tracing::warn!(xlator = %brick.name, %client, reason = refused.reason, "the brick refuses a client");
                brick.clients.refused(client, refused.reason, Instant::now());
            }
        }
    }
    Ok(taken)
}

fn bounds(attached: &Attached) -> Bounds {
    Bounds {
        detach: Duration::from_millis(attached.detach_timeout_ms.into()),
        invalidate: Duration::from_millis(attached.invalidate_timeout_ms.into()),
    }
}

/// Takes up the sessions in `taken`: what they have given up, what they hold, what they have open, what they have ended.
///
/// # Errors
/// The connection is lost.
pub(crate) async fn take_up(
    brick: &Arc<Brick>,
    line: &Arc<Line>,
    boot: u64,
    taken: Vec<Taken>,
) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for Taken { session, mut reopen } in taken {
        compare_locks(brick, line, session).await?;
        reopen.retain(|(id, _)| brick.clients.why_lost(session.client, *id).is_none());
        if !reopen.is_empty() {
            reopen_all(brick, line, session, reopen).await?;
        }
        brick.clients.reopened(session.client, boot);
        pay(brick, line, session, brick.clients.take_owed(session.client));
        sessions.push(session);
    }
    Ok(sessions)
}

/// Tells the brick which waits were given up, so that it undoes what it granted of them, and then compares what is held.
async fn compare_locks(brick: &Brick, line: &Line, session: Session) -> Result<(), Failure> {
    let mut told = Told { brick, client: session.client, cancels: brick.clients.take_cancels(session.client) };
    let limit = Instant::now() + brick.patience.load().frame;
    told.cancels.iter().for_each(|owed| drop(put_owed(line, session, owed, limit)));
    claim(brick, line, session).await?;
    told.cancels.clear();
    Ok(())
}

/// What the brick was told and may not have heard, as nobody answers a cancel: it was heard when what was sent after it is
/// answered. It is owed again when this is dropped before, as it is in the middle of a wait when the connection ends.
struct Told<'a> {
    brick: &'a Brick,
    client: ClientId,
    cancels: Vec<Owed>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.cancels.drain(..).for_each(|owed| self.brick.clients.owe(self.client, owed));
    }
}

async fn reopen_all(brick: &Brick, line: &Line, session: Session, opens: Vec<(OpenId, Open)>) -> Result<(), Failure> {
    tracing::info!(xlator = %brick.name, client = %session.client, count = opens.len(), "opening again what was open");
    let limit = Instant::now() + brick.patience.load().frame;
    let mut under_way = VecDeque::new();
    for (id, open) in opens {
        if under_way.len() == REOPENS_AT_ONCE {
            line.outbox.flush();
            reopened(brick, session, under_way.pop_front()).await?;
        }
        under_way.push_back((id, put_reopen(line, session, id, &open, limit)?));
    }
    line.outbox.flush();
    while !under_way.is_empty() {
        reopened(brick, session, under_way.pop_front()).await?;
    }
    Ok(())
}

fn cut() -> Failure {
    Failure::lost("the connection was lost while everything was opened again")
}

fn put_reopen<'a>(
    line: &'a Line,
    session: Session,
    id: OpenId,
    open: &Open,
    limit: Instant,
) -> Result<Wait<'a, Frame>, Failure> {
    let wait = line.waits.begin(0, Some(limit)).ok_or_else(cut)?;
    let head = head(&open.credentials);
    let file = OpenFile { gfid: open.gfid, open: id };
    let xdata = Xdata::EMPTY.with(&REOPEN, true);
    let prefix = |kind: FopKind| Prefix::new(Kind::Request, wait.number()).of(kind as u8, session.number);
    let put = match open.directory {
        true => {
            let request = OpendirReq { file, xdata };
            line.outbox.put(prefix(FopKind::Opendir), &(head, request), Bytes::new())
        }
        false => {
            let request = OpenReq { file, flags: open.flags, kill_set_id: false, xdata };
            line.outbox.put(prefix(FopKind::Open), &(head, request), Bytes::new())
        }
    };
    put.map_err(|_| cut())?;
    Ok(wait)
}

/// The head of a request that has no number.
pub(crate) fn head(credentials: &Credentials) -> RequestHead {
    let Credentials { uid, gid, pid, groups } = credentials.clone();
    RequestHead { slot: 0, sequence: 0, lk_owner: LkOwner::default(), uid, gid, pid, groups }
}

async fn reopened(brick: &Brick, session: Session, one: Option<(OpenId, Wait<'_, Frame>)>) -> Result<(), Failure> {
    let Some((id, wait)) = one else { return Ok(()) };
    let error = match wait.await {
        Outcome::Came(frame) if frame.prefix.kind == Kind::Reply => return Ok(()),
        Outcome::Came(frame) => decode(&frame.header).unwrap_or_else(|_| FopError::new(Errno::EIO)),
        Outcome::Lost => return Err(cut()),
        Outcome::TooLate => return Err(Failure::lost("the brick has not opened in time what was open")),
    };
    if brick.clients.lose(session.client, id, Lost::Open(error.errno())) {
        tracing::error!(
            xlator = %brick.name, client = %session.client, open = id.0, %error,
            "an open file could not be opened again: it answers EIO until it is closed"
        );
    }
    Ok(())
}

/// Tells the brick beside everything else what it has missed; what it does not hear now it hears at the next attach.
pub(crate) fn pay(brick: &Arc<Brick>, line: &Arc<Line>, session: Session, owed: Vec<Owed>) {
    if owed.is_empty() {
        return;
    }
    let (brick, line) = (brick.clone(), line.clone());
    tokio::spawn(async move {
        let limit = Instant::now() + brick.patience.load().frame;
        let put: Vec<_> = owed.into_iter().map(|owed| (put_owed(&line, session, &owed, limit), owed)).collect();
        line.outbox.flush();
        for (wait, owed) in put {
            let heard = match wait {
                // Nobody answers a cancel.
                Some(_) if owed.kind == Kind::Cancel => true,
                Some(wait) => !matches!(wait.await, Outcome::Lost),
                None => false,
            };
            if !heard {
                brick.clients.owe(session.client, owed);
            }
        }
    });
}

fn put_owed<'a>(line: &'a Line, session: Session, owed: &Owed, limit: Instant) -> Option<Wait<'a, Frame>> {
    let wait = line.waits.begin(0, Some(limit))?;
    let prefix = Prefix::new(owed.kind, wait.number()).of(owed.fop, session.number);
    line.outbox.put_encoded(prefix, &owed.header, Bytes::new()).ok()?;
    Some(wait)
}
