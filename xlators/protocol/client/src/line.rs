//! One connection, from the greeting to its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::locks::{ClientNotice, LockNotice};
use brickwork_api::{ClientId, Event, Hold};
use brickwork_wire::connection::{Inbox, WireError, decode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::{Answer, Call, Notice, Refused, Version, Why};
use brickwork_wire::outbox::Outbox;
use brickwork_wire::tls;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::brick::Brick;
use crate::clients::Session;
use crate::link::{Cause, Failure};
use crate::pulse::Pulse;
use crate::waits::{Outcome, Waits};

/// How long a call about the connection may take.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How long answers are waited for from a brick that said that it goes down.
const LEAVING_MAX: Duration = Duration::from_secs(10);

/// Requests under way from which on their writes are put together.
const TOGETHER_MIN: usize = 8;

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) outbox: Outbox,
    pub(crate) waits: Waits<Frame>,
    pub(crate) pulse: Mutex<Pulse>,
    pub(crate) version: Version,
    /// Whether the brick is silent: what it says late may be old already.
    silent: AtomicBool,
    over: Mutex<Option<Failure>>,
    leaving: Mutex<Option<(String, Instant)>>,
    /// Whose sessions they are, by number, from the attach on.
    clients: Mutex<HashMap<u16, ClientId>>,
    /// The brick has said that it keeps no locks.
    keeps_no_locks: AtomicBool,
    /// The rim has to look.
    pub(crate) stir: Notify,
    /// Requests under way.
    in_flight: AtomicUsize,
    /// Something waits to be written with what comes next.
    to_flush: Notify,
}

/// A connection on which requests flow.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) line: Arc<Line>,
    pub(crate) boot: u64,
    pub(crate) sessions: Box<[Session]>,
}

impl Up {
    pub(crate) fn session(&self, client: ClientId) -> Option<Session> {
        self.sessions.iter().find(|session| session.client == client).copied()
    }
}

impl Line {
    pub(crate) fn new(outbox: Outbox, version: Version, now: Instant) -> Line {
        Line {
            outbox,
            waits: Waits::new(),
            pulse: Mutex::new(Pulse::new(now)),
            version,
            silent: AtomicBool::new(false),
            over: Mutex::new(None),
            leaving: Mutex::new(None),
            clients: Mutex::default(),
            keeps_no_locks: AtomicBool::new(false),
            stir: Notify::new(),
            in_flight: AtomicUsize::new(0),
            to_flush: Notify::new(),
        }
    }

    /// Ends it; the first reason stays. Whoever waits for an answer is told.
    pub(crate) fn end(&self, failure: Failure) {
        self.over.lock().get_or_insert(failure);
        self.outbox.close();
        self.waits.end();
        self.stir.notify_one();
        self.to_flush.notify_one();
    }

    /// Sends a request; `false` when the connection is closed. Counts it as under way until the guard is dropped.
    ///
    /// With few under way it is written here and now. With many, and where other tasks come after this one, it is left
    /// to a task that writes what all of them have put in: a write of TCP costs more than all else.
    pub(crate) fn send<H: Serialize>(&self, prefix: Prefix, header: &H, payload: Bytes) -> Option<UnderWay<'_>> {
        self.outbox.put(prefix, header, payload).ok()?;
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if others >= TOGETHER_MIN && tokio::runtime::Handle::try_current().is_ok() {
            self.to_flush.notify_one();
        } else {
            self.outbox.flush();
        }
        Some(UnderWay(self))
    }

    /// Why it has ended, if it has.
    pub(crate) fn over(&self) -> Option<Failure> {
        self.over.lock().clone()
    }

    /// Whether what the brick says may be kept.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Session `number` is that of `client`.
    pub(crate) fn attached(&self, number: u16, client: ClientId) {
        self.clients.lock().insert(number, client);
    }

    fn client(&self, number: u16) -> Option<ClientId> {
        self.clients.lock().get(&number).copied()
    }

    /// Whether the brick has said that it keeps no locks.
    pub(crate) fn keeps_no_locks(&self) -> bool {
        self.keeps_no_locks.load(Ordering::Relaxed)
    }

    pub(crate) fn set_keeps_no_locks(&self) {
        self.keeps_no_locks.store(true, Ordering::Relaxed);
    }

    /// Ends it when the brick goes down and nobody waits for an answer any more, or too long.
    pub(crate) fn end_if_left(&self, now: Instant) {
        let Some((reason, since)) = self.leaving.lock().clone() else { return };
        if self.waits.count() == 0 || now.duration_since(since) >= LEAVING_MAX {
            self.end(Failure::lost(format!("the brick is going down: {reason}")));
        }
    }

    /// Whether the brick has said that it goes down.
    pub(crate) fn is_left(&self) -> bool {
        self.leaving.lock().is_some()
    }

    /// Asks a call and waits for its answer.
    ///
    /// # Errors
    /// The brick refuses, the connection is lost, or the answer does not come.
    pub(crate) async fn call(&self, call: &Call) -> Result<Result<Answer, Refused>, Failure> {
        let lost = || self.over().unwrap_or_else(|| Failure::lost("the connection was closed"));
        let wait = self.waits.begin(0, Some(Instant::now() + CALL_MAX)).ok_or_else(lost)?;
        self.outbox.send(Prefix::new(Kind::Call, wait.number()), call, Bytes::new()).map_err(|_| lost())?;
        match wait.await {
            Outcome::Came(frame) if frame.prefix.kind == Kind::Answer => Ok(decode(&frame.header)?),
            Outcome::Came(frame) => Err(WireError::Unexpected(frame.prefix.kind).into()),
            Outcome::Lost => Err(lost()),
            Outcome::TooLate => Err(Failure::lost(format!("no answer to a call in {} s", CALL_MAX.as_secs()))),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Line);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The task that writes what many requests have put in, until the end of `line`.
pub(crate) async fn flush_together(line: Arc<Line>) {
    while line.over().is_none() {
        line.to_flush.notified().await;
        // Behind those who were woken together with the one who asked.
        tokio::task::yield_now().await;
        line.outbox.flush();
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        match error {
            // A brick that starts or stops says so, and is asked again soon.
            WireError::Refused(refused) => {
                let cause = match refused.why {
                    Why::Later => Cause::Lost,
                    Why::Version => Cause::Version,
                    _ => Cause::Refused,
                };
                Failure { reason: refused.reason, cause }
            }
            WireError::Lost(error) => match tls::reason(&error) {
                Some(reason) => Failure { reason, cause: Cause::Tls },
                None => Failure::lost(error),
            },
            error @ (WireError::Frame(_) | WireError::Header(_) | WireError::Unexpected(_)) => {
                Failure { reason: error.to_string(), cause: Cause::Stranger }
            }
            error @ (WireError::CutShort | WireError::Ended | WireError::Closed) => Failure::lost(error),
        }
    }
}

/// The task that reads `line` to its end.
pub(crate) async fn read(mut inbox: Inbox, line: Arc<Line>, brick: Arc<Brick>) {
    let failure = loop {
        match inbox.next().await {
            Ok(Some(frame)) => {
                if let Err(error) = take(frame, &line, &brick) {
                    break Failure::from(error);
                }
            }
            Ok(None) => break Failure::from(WireError::Ended),
            Err(error) => break Failure::from(error),
        }
    };
    line.end(failure);
}

fn take(frame: Frame, line: &Arc<Line>, brick: &Arc<Brick>) -> Result<(), WireError> {
    let id = frame.prefix.id;
    match frame.prefix.kind {
        Kind::Reply | Kind::Failure | Kind::Answer => {
            // Nobody may wait any more: the time of the request was up.
            line.waits.tell(id, frame);
        }
        Kind::Ping => line.outbox.send(Prefix::new(Kind::Pong, id), &(), Bytes::new())?,
        Kind::Pong => {
            if line.pulse.lock().answered(id) {
                // What came meanwhile may be old.
                line.set_silent(false);
                brick.tell(Event::InvalidateAll { hold: Hold::default() });
            }
        }
        Kind::Notice => notice(&frame, line, brick)?,
        kind @ (Kind::Call | Kind::Request | Kind::Cancel | Kind::Noticed) => return Err(WireError::Unexpected(kind)),
    }
    Ok(())
}

fn notice(frame: &Frame, line: &Arc<Line>, brick: &Arc<Brick>) -> Result<(), WireError> {
    match decode(&frame.header)? {
        Notice::Invalidate { gfid, names } => {
            let (id, session) = (frame.prefix.id, frame.prefix.session);
            let outbox = line.outbox.clone();
            let hold = Hold::new(move || {
                // A closed connection: the brick no longer waits for us.
                let _ = outbox.send(Prefix::new(Kind::Noticed, id).of(0, session), &(), Bytes::new());
            });
            brick.tell(Event::Invalidate { gfid, names, hold });
        }
        Notice::Leaving { reason } => {
            *line.leaving.lock() = Some((reason, Instant::now()));
            brick.retire(line);
            line.stir.notify_one();
        }
        Notice::Lock(notice) => match line.client(frame.prefix.session) {
            Some(client) => lock_notice(brick, client, notice),
            // Before the answer to its attach was read: what was lost until then is found by the claims that follow.
            None => tracing::debug!(session = frame.prefix.session, "a notice for a client that is not attached"),
        },
    }
    Ok(())
}

fn lock_notice(brick: &Brick, client: ClientId, notice: LockNotice) {
    match notice {
        LockNotice::Lost { gfid, opens, why } => brick.locks_lost(client, gfid, opens, why),
        LockNotice::Probe(_) => brick.tell(Event::Lock(ClientNotice { client, notice })),
    }
}
