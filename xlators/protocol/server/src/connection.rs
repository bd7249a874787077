//! One client's connection, from the moment it was let in.
//!
//! One task reads it. A fop that can be done at once is done by that task and answered with everything else that came in
//! the same read, by one write; one that has to wait (a disk, a lock, another client's cache) goes on as a task of its
//! own. A fop that has begun is carried to its end, also when the connection is lost: its answer is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use brickwork_api::{Errno, FopError, FopKind, Xdata};
use brickwork_wire::connection::{Inbox, WireError, decode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::{
    Answer, AttachCall, Attached, Call, GivenUp, GoodbyeCall, Notice, Process, Refused, Why,
};
use brickwork_wire::outbox::Outbox;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::auth::Peer;
use crate::export::Export;
use crate::fops;
use crate::greeting::{Greeted, answer_call};
use crate::seats::Member;
use crate::server::Server;
use crate::session::Origin;

/// Clients that share one connection: the mounts of one process.
const SESSIONS_MAX: usize = 256;
/// Answers are written at the latest when this many bytes of them have come together.
const BATCH_MAX: usize = 256 << 10;
/// How long a peer may take to read a farewell.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) export: Arc<Export>,
    pub(crate) outbox: Outbox,
    number: u64,
    peer: Peer,
    process: Process,
    since: Instant,
    heard: Mutex<Instant>,
    /// Nothing is read because of limits of ours: what the peer says meanwhile is not heard.
    unread: AtomicBool,
    sessions: Mutex<Vec<Option<Arc<Member>>>>,
    running: Running,
    leaving: AtomicBool,
}

/// What is under way.
#[derive(Debug, Default)]
struct Running {
    /// Those that make room soon: the connection is not read while there are too many.
    soon: Load,
    /// Those that wait for another client to give up a lock.
    waits: Load,
    /// Those that are done and wait for other clients to drop what they keep.
    done: Load,
    fewer: Notify,
}

/// Requests and their bytes.
#[derive(Debug, Default)]
struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn is_below(&self, requests: usize, bytes: usize) -> bool {
        self.requests() < requests && self.bytes.load(Ordering::SeqCst) < bytes
    }

    fn add(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn subtract(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl Connection {
    pub(crate) fn new(number: u64, server: Arc<Server>, greeted: Greeted, peer: Peer, outbox: Outbox) -> Connection {
        let Greeted { export, process } = greeted;
        Connection {
            server,
            export,
            outbox,
            number,
            peer,
            process,
            since: Instant::now(),
            heard: Mutex::new(Instant::now()),
            unread: AtomicBool::new(false),
            sessions: Mutex::default(),
            running: Running::default(),
            leaving: AtomicBool::new(false),
        }
    }

    /// Its number in this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Who is at the other end, for people.
    pub(crate) fn peer(&self) -> (&Peer, &Process) {
        (&self.peer, &self.process)
    }

    /// Requests under way, waits among them.
    pub(crate) fn in_flight(&self) -> usize {
        let Running { soon, waits, done, .. } = &self.running;
        soon.requests() + waits.requests() + done.requests()
    }

    /// When the peer last said something; while nothing is read, it may be saying something now.
    pub(crate) fn heard(&self) -> Instant {
        match self.unread.load(Ordering::SeqCst) {
            true => Instant::now(),
            false => *self.heard.lock(),
        }
    }

    fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Does what the connection is not read during.
    async fn unread<T>(&self, wait: impl Future<Output = T>) -> T {
        self.unread.store(true, Ordering::SeqCst);
        let done = wait.await;
        self.hear();
        self.unread.store(false, Ordering::SeqCst);
        done
    }

    /// Since when it is connected.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Tells the client that the brick is going, and begins nothing more.
    pub(crate) fn leave(&self, reason: &str) {
        self.leaving.store(true, Ordering::SeqCst);
        let notice = Notice::Leaving { reason: reason.to_owned() };
        // A client that has gone already needs no farewell.
        let _ = self.outbox.send(Prefix::new(Kind::Notice, 0), &notice, Bytes::new());
        self.running.fewer.notify_waiters();
    }

    /// Returns when everything that can be answered is answered and has left; waiting locks are not waited for.
    pub(crate) async fn drained(&self) {
        self.running.until(|running| running.soon.requests() + running.done.requests() == 0).await;
        self.outbox.room(0).await;
    }

    /// Ends it at once.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }

    fn session(&self, index: u16) -> Option<Arc<Member>> {
        self.sessions.lock().get(usize::from(index).checked_sub(1)?)?.clone()
    }

    /// Counts a request as under way until the guard is dropped. `bytes` are its own and those that its answer may have.
    ///
    /// `None` for one that `waits` while as many wait as may: they do not keep the connection from being read, so they are
    /// bounded by themselves.
    pub(crate) fn begin(self: &Arc<Connection>, bytes: usize, waits: bool) -> Option<UnderWay> {
        // One task reads the connection: nobody else begins.
        if waits && !self.has_room_beside(&self.running.waits) {
            return None;
        }
        let stage = if waits { Stage::Waits } else { Stage::Soon };
        self.running.load(stage).add(bytes);
        Some(UnderWay { connection: self.clone(), bytes, stage })
    }

    /// Whether one more request may be under way in `load` without being counted among those that make room soon.
    fn has_room_beside(&self, load: &Load) -> bool {
        let options = &self.server.options;
        load.is_below(options.waiters_max as usize, options.bytes_in_flight.0 as usize)
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    connection: Arc<Connection>,
    bytes: usize,
    stage: Stage,
}

/// Where a request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Soon,
    Waits,
    Done,
}

impl UnderWay {
    /// The connection that it came by.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Says that it waits for other clients from now on. While it does, its connection is read on: were it not, and were
    /// those others' connections full of changes that wait for this client, nobody would hear that anybody has dropped
    /// anything.
    pub(crate) fn waits_for_others(&mut self) {
        let running = &self.connection.running;
        if self.stage == Stage::Soon && self.connection.has_room_beside(&running.done) {
            running.done.add(self.bytes);
            running.soon.subtract(self.bytes);
            self.stage = Stage::Done;
            running.fewer.notify_waiters();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let running = &self.connection.running;
        running.load(self.stage).subtract(self.bytes);
        running.fewer.notify_waiters();
    }
}

impl Running {
    fn load(&self, stage: Stage) -> &Load {
        match stage {
            Stage::Soon => &self.soon,
            Stage::Waits => &self.waits,
            Stage::Done => &self.done,
        }
    }

    async fn until(&self, enough: impl Fn(&Running) -> bool) {
        loop {
            let fewer = self.fewer.notified();
            let mut fewer = std::pin::pin!(fewer);
            // Registered before the look: whoever ends after it wakes us.
            fewer.as_mut().enable();
            if enough(self) {
                return;
            }
            fewer.await;
        }
    }
}

/// Reads the connection to its end, and lets go of its sessions.
pub(crate) async fn run(connection: &Arc<Connection>, mut inbox: Inbox) {
    let ended = read(connection, &mut inbox).await;
    if let Err(error) = &ended
        && !connection.outbox.is_closed()
    {
        tracing::warn!(peer = %connection.peer, why = %error, "a connection was ended");
        // Why it was refused has to reach it.
        let _ = tokio::time::timeout(FAREWELL_MAX, connection.outbox.room(0)).await;
    }
    connection.outbox.close();
    let members = std::mem::take(&mut *connection.sessions.lock());
    for member in members.into_iter().flatten() {
        connection.export.detach(&member, connection.heard());
    }
}

async fn read(connection: &Arc<Connection>, inbox: &mut Inbox) -> Result<(), WireError> {
    loop {
        make_room(connection).await?;
        let frame = match inbox.buffered()? {
            Some(frame) => frame,
            None => {
                connection.outbox.flush();
                if !inbox.more().await? {
                    return Ok(());
                }
                connection.hear();
                continue;
            }
        };
        take(connection, frame).await?;
        if connection.outbox.queued() > BATCH_MAX {
            connection.outbox.flush();
        }
    }
}

/// Waits until the limits of the connection have room for one more request.
async fn make_room(connection: &Connection) -> Result<(), WireError> {
    let options = &connection.server.options;
    let (requests, bytes) = (options.outstanding as usize, options.bytes_in_flight.0 as usize);
    let fits = |running: &Running| running.soon.is_below(requests, bytes);
    if !fits(&connection.running) {
        connection.outbox.flush();
        let room = connection.running.until(|running| fits(running) || connection.outbox.is_closed());
        connection.unread(room).await;
    }
    if connection.outbox.queued() < bytes {
        return Ok(());
    }
    connection.outbox.flush();
    let patience = options.slow_reader_timeout.0;
    let room = connection.outbox.room(bytes / 2);
    let waited = connection.unread(tokio::time::timeout(patience, room)).await;
    waited.map_err(|_| {
        let reason = format!("more than {bytes} bytes of answers were left unread for {patience:?}");
        WireError::Refused(Refused { why: Why::Full, reason })
    })
}

async fn take(connection: &Arc<Connection>, frame: Frame) -> Result<(), WireError> {
    let Prefix { id, kind, session, fop, .. } = frame.prefix;
    match kind {
        // Its client asks again when the brick is back.
        Kind::Request if connection.leaving.load(Ordering::SeqCst) => Ok(()),
        Kind::Request => {
            let member = connection.session(session).ok_or(WireError::Unexpected(kind))?;
            match FopKind::ALL.get(usize::from(fop)) {
                Some(fop) => fops::begin(connection, &member, *fop, frame),
                // Of a later version that has more fops.
                None => {
                    let error = FopError::new(Errno::EOPNOTSUPP).doing("doing a fop that this brick does not know");
                    Ok(connection.outbox.put(Prefix::new(Kind::Failure, id).of(fop, session), &error, Bytes::new())?)
                }
            }
        }
        Kind::Cancel => {
            let member = connection.session(session).ok_or(WireError::Unexpected(kind))?;
            let GivenUp { slot, sequence } = decode(&frame.header)?;
            let by = Origin { connection: connection.number, id };
            connection.export.give_up(&member, slot, sequence, by);
            Ok(())
        }
        Kind::Noticed => {
            let member = connection.session(session).ok_or(WireError::Unexpected(kind))?;
            connection.export.noticed(&member, id);
            Ok(())
        }
        Kind::Ping => Ok(connection.outbox.put(Prefix::new(Kind::Pong, id), &(), Bytes::new())?),
        Kind::Pong => Ok(()),
        Kind::Call => {
            let answer = match decode(&frame.header)? {
                Call::Attach(call) => attach(connection, &call).map(Answer::Attached),
                Call::Goodbye(call) => goodbye(connection, &call).await.map(|()| Answer::Goodbye),
                Call::Hello(_) | Call::Volfile(_) | Call::Subvolume(_) => Err(Refused {
                    why: Why::Protocol,
                    reason: "this connection has chosen its subvolume already".to_owned(),
                }),
            };
            answer_call(&connection.outbox, id, &answer)
        }
        Kind::Answer | Kind::Reply | Kind::Failure | Kind::Notice => Err(WireError::Unexpected(kind)),
    }
}

fn attach(connection: &Arc<Connection>, call: &AttachCall) -> Result<Attached, Refused> {
    if connection.leaving.load(Ordering::SeqCst) {
        return Err(Refused { why: Why::Later, reason: "the brick is stopping".to_owned() });
    }
    let mut sessions = connection.sessions.lock();
    if sessions.len() >= SESSIONS_MAX {
        let reason = format!("one connection carries {SESSIONS_MAX} clients, no more");
        return Err(Refused { why: Why::Full, reason });
    }
    let index = sessions.len() as u16 + 1;
    let (member, known) = connection.export.attach(connection, index, call).inspect_err(|refused| {
        tracing::warn!(peer = %connection.peer, client = %call.client, why = refused.reason, "a client was refused");
    })?;
    sessions.push(Some(member));
    let options = &connection.server.options;
    let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    Ok(Attached {
        session: index,
        known,
        detach_timeout_ms: milliseconds(options.detach_timeout.0),
        invalidate_timeout_ms: milliseconds(options.invalidate_timeout.0),
        slots: options.slots,
        waiters_max: options.waiters_max,
        xdata: Xdata::EMPTY,
    })
}

async fn goodbye(connection: &Arc<Connection>, call: &GoodbyeCall) -> Result<(), Refused> {
    let place = usize::from(call.session).checked_sub(1);
    let member = place.and_then(|place| connection.sessions.lock().get_mut(place)?.take());
    let Some(member) = member else {
        return Err(Refused { why: Why::Protocol, reason: format!("there is no session {} here", call.session) });
    };
    connection.export.goodbye(&member, &connection.server.host).await;
    Ok(())
}
