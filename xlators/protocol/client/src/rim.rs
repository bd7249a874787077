//! The task that keeps the connection: makes it, takes up the sessions, opens again what was open, pings, and begins
//! anew when it is lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::xdata::REOPEN;
use brickwork_api::{
    ClientId, Credentials, Errno, Event, FopError, FopKind, Hold, LkOwner, OpenFile, OpenId, OpenReq, OpendirReq, Xdata,
};
use brickwork_wire::connection::{self, Inbox, decode};
use brickwork_wire::frame::{Frame, Kind, Prefix};
use brickwork_wire::message::{Answer, Attached, Call, GoodbyeCall, RequestHead, Why};
use brickwork_wire::outbox::Outbox;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until, timeout};

use crate::brick::Brick;
use crate::clients::{Session, Taken};
use crate::dial::dial;
use crate::greet::{choose, greet, process};
use crate::line::{self, Line, Up};
use crate::link::{Failure, Phase};
use crate::opens::{Open, Owed};
use crate::pulse::Bounds;
use crate::waits::{Outcome, Wait};

/// How long a connection may take until the brick has let us in.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// Requests under way at once while everything is opened again.
const REOPENS_AT_ONCE: usize = 1024;
/// How long the goodbyes may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// The distance between two looks at what is left to a brick that goes down.
const LEFT_LOOK: Duration = Duration::from_millis(20);
/// The longest distance between two looks at requests whose time is up.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Runs until it is told to stop; `done` is dropped then.
pub(crate) async fn run(brick: Arc<Brick>, done: oneshot::Sender<()>) {
    let connected = keep_connected(&brick);
    let clock = give_up_in_time(&brick);
    tokio::pin!(connected, clock);
    tokio::select! {
        never = &mut connected => match never {},
        never = &mut clock => match never {},
        () = brick.stopping.notified() => {}
    }
    // While the connection is still kept: it ends when `connected` is dropped.
    if let Some(up) = brick.up() {
        brick.retire(&up.line);
        say_goodbye(&up).await;
    }
    brick.end();
    drop(done);
}

async fn keep_connected(brick: &Arc<Brick>) -> Infallible {
    loop {
        let Err(failure) = connect(brick).await;
        brick.fail(failure);
        sleep(brick.retry_in()).await;
    }
}

/// Wakes those who wait for the brick when they need not wait any longer.
async fn give_up_in_time(brick: &Brick) -> Infallible {
    loop {
        let changed = brick.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        match brick.gives_up_at() {
            Some(at) if Instant::now() < at => {
                tokio::select! {
                    () = sleep_until(at.into()) => brick.changed.notify_waiters(),
                    () = changed => {}
                }
            }
            _ => changed.await,
        }
    }
}

/// Ends a connection when whoever keeps it is gone.
struct Kept(Arc<Line>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.end(Failure::lost("the connection was closed"));
    }
}

async fn connect(brick: &Arc<Brick>) -> Result<Infallible, Failure> {
    brick.advance(Phase::Connecting);
    let let_in = timeout(ATTEMPT_MAX, enter(brick)).await;
    let late = || Failure::lost(format!("the brick has not let us in within {} s", ATTEMPT_MAX.as_secs()));
    let (line, inbox, boot) = let_in.map_err(|_| late())??;
    let kept = Kept(Arc::new(line));
    tokio::spawn(line::read(inbox, kept.0.clone(), brick.clone()));
    brick.advance(Phase::Attaching);
    let Err(failure) = tokio::select! {
        failure = beat(brick, &kept.0) => Err(failure),
        failed = serve(brick, &kept.0, boot) => failed,
    };
    // What ended the connection says more than what was noticed of it.
    Err(kept.0.over().unwrap_or(failure))
}

/// Closes a connection unless it is kept.
pub(crate) struct Closing(Option<Outbox>);

impl Closing {
    pub(crate) fn new(outbox: &Outbox) -> Closing {
        Closing(Some(outbox.clone()))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(outbox) = &self.0 {
            outbox.close();
        }
    }
}

async fn enter(brick: &Brick) -> Result<(Line, Inbox, u64), Failure> {
    let settings = &brick.settings;
    let stream = dial(&settings.server, &settings.tcp, brick.tls.as_ref()).await?;
    brick.advance(Phase::Greeting);
    let (outbox, mut inbox) = connection::open(stream);
    // Closed here when it fails, or when the time is up.
    let closing = Closing::new(&outbox);
    let greeting = greet(&outbox, &mut inbox, process(&brick.name)).await?;
    let boot = choose(&outbox, &mut inbox, &greeting, &settings.subvolume, settings.login.as_ref()).await?;
    closing.keep();
    Ok((Line::new(outbox, greeting.welcome.version, Instant::now()), inbox, boot))
}

/// Takes up all sessions, lets requests flow, and takes up those of clients that come later.
async fn serve(brick: &Arc<Brick>, line: &Arc<Line>, boot: u64) -> Result<Infallible, Failure> {
    brick.clients.forgive();
    let taken = attach(brick, line, boot, brick.clients.all()).await?;
    brick.advance(Phase::Reopening);
    let mut sessions = take_up(brick, line, boot, taken).await?;
    brick.forget_what_was_kept();
    brick.rise(Up { line: line.clone(), boot, sessions: sessions.clone().into() });
    loop {
        brick.newcomer.notified().await;
        if line.is_left() {
            continue;
        }
        for session in &sessions {
            pay(brick, line, *session, brick.clients.take_owed(session.client)).await?;
        }
        let known = |client: &ClientId| sessions.iter().any(|session| session.client == *client);
        let newcomers: Vec<ClientId> = brick.clients.all().into_iter().filter(|client| !known(client)).collect();
        let taken = attach(brick, line, boot, newcomers).await?;
        sessions.extend(take_up(brick, line, boot, taken).await?);
        brick.publish(Up { line: line.clone(), boot, sessions: sessions.clone().into() });
    }
}

/// Attaches `clients`; those that the brick refuses are noted.
async fn attach(brick: &Brick, line: &Line, boot: u64, clients: Vec<ClientId>) -> Result<Vec<Taken>, Failure> {
    let mut taken = Vec::new();
    for client in clients {
        let Some(call) = brick.clients.attach(client) else { continue };
        match line.call(&Call::Attach(call)).await? {
            Ok(Answer::Attached(attached)) => {
                line.pulse.lock().bound(bounds(&attached));
                // Pings may be due earlier now.
                line.stir.notify_one();
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

/// Opens again what was open, and tells the brick what it is owed.
async fn take_up(brick: &Brick, line: &Line, boot: u64, taken: Vec<Taken>) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for Taken { session, reopen, owed } in taken {
        if !reopen.is_empty() {
            reopen_all(brick, line, session, reopen).await?;
            brick.clients.reopened(session.client, boot);
        }
        pay(brick, line, session, owed).await?;
        // What was released meanwhile.
        pay(brick, line, session, brick.clients.take_owed(session.client)).await?;
        sessions.push(session);
    }
    Ok(sessions)
}

async fn reopen_all(brick: &Brick, line: &Line, session: Session, opens: Vec<(OpenId, Open)>) -> Result<(), Failure> {
    tracing::info!(xlator = %brick.name, client = %session.client, count = opens.len(), "opening again what was open");
    let mut under_way = VecDeque::new();
    for (id, open) in opens {
        if under_way.len() == REOPENS_AT_ONCE {
            line.outbox.flush();
            reopened(brick, session, under_way.pop_front()).await?;
        }
        under_way.push_back((id, send_reopen(line, session, id, &open)?));
    }
    line.outbox.flush();
    while !under_way.is_empty() {
        reopened(brick, session, under_way.pop_front()).await?;
    }
    Ok(())
}

fn send_reopen<'a>(line: &'a Line, session: Session, id: OpenId, open: &Open) -> Result<Wait<'a, Frame>, Failure> {
    let lost = || Failure::lost("the connection was lost while everything was opened again");
    let wait = line.waits.begin(0, None).ok_or_else(lost)?;
    let head = head(&open.credentials);
    let file = OpenFile { gfid: open.gfid, open: id };
    let xdata = Xdata::EMPTY.with(&REOPEN, true);
    let prefix = Prefix::new(Kind::Request, wait.number());
    let put = match open.directory {
        true => {
            let prefix = prefix.of(FopKind::Opendir as u8, session.number);
            line.outbox.put(prefix, &(head, OpendirReq { file, xdata }), Bytes::new())
        }
        false => {
            let prefix = prefix.of(FopKind::Open as u8, session.number);
            line.outbox.put(
                prefix,
                &(head, OpenReq { file, flags: open.flags, kill_set_id: false, xdata }),
                Bytes::new(),
            )
        }
    };
    put.map_err(|_| lost())?;
    Ok(wait)
}

/// The head of a request that nobody gave a number.
pub(crate) fn head(credentials: &Credentials) -> RequestHead {
    let Credentials { uid, gid, pid, groups } = credentials.clone();
    RequestHead { slot: 0, sequence: 0, lk_owner: LkOwner::default(), uid, gid, pid, groups }
}

async fn reopened(brick: &Brick, session: Session, one: Option<(OpenId, Wait<'_, Frame>)>) -> Result<(), Failure> {
    let Some((id, wait)) = one else { return Ok(()) };
    let error = match wait.await {
        Outcome::Came(frame) if frame.prefix.kind == Kind::Reply => return Ok(()),
        Outcome::Came(frame) => decode(&frame.header).unwrap_or_else(|_| FopError::new(Errno::EIO)),
        Outcome::Lost | Outcome::TooLate => {
            return Err(Failure::lost("the connection was lost while everything was opened again"));
        }
    };
    lost(brick, session.client, id, &error);
    Ok(())
}

/// Notes that an open could not be opened again.
pub(crate) fn lost(brick: &Brick, client: ClientId, id: OpenId, error: &FopError) {
    if brick.clients.lose(client, id, error.errno()) {
        tracing::error!(
            xlator = %brick.name, %client, open = id.0, %error,
            "an open file could not be opened again: it answers EIO until it is closed"
        );
    }
}

/// Tells the brick what it is owed, and waits until it has heard it.
async fn pay(brick: &Brick, line: &Line, session: Session, owed: Vec<Owed>) -> Result<(), Failure> {
    let mut left = owed.into_iter();
    while let Some(next) = left.next() {
        let paid = pay_one(line, session, &next).await;
        if let Err(failure) = paid {
            std::iter::once(next).chain(left).for_each(|owed| brick.clients.owe(session.client, owed));
            return Err(failure);
        }
    }
    Ok(())
}

async fn pay_one(line: &Line, session: Session, owed: &Owed) -> Result<(), Failure> {
    let lost = || Failure::lost("the connection was lost while the brick was told what was missed");
    let wait = line.waits.begin(0, None).ok_or_else(lost)?;
    let prefix = Prefix::new(owed.kind, wait.number()).of(owed.fop, session.number);
    line.outbox.put_encoded(prefix, &owed.header, Bytes::new()).map_err(|_| lost())?;
    line.outbox.flush();
    if owed.kind == Kind::Cancel {
        // Not answered.
        return Ok(());
    }
    match wait.await {
        Outcome::Came(_) => Ok(()),
        Outcome::Lost | Outcome::TooLate => Err(lost()),
    }
}

/// Pings, and looks after requests whose time is up, until the connection is over; returns why.
async fn beat(brick: &Brick, line: &Line) -> Failure {
    loop {
        let (now, patience) = (Instant::now(), **brick.patience.load());
        let beat = line.pulse.lock().beat(now, patience.ping);
        if let Some(silence) = beat.lost {
            line.end(Failure::lost(format!("it has answered no ping for {} s", silence.as_secs())));
        }
        if beat.old {
            line.set_silent(true);
            tracing::warn!(xlator = %brick.name, brick = brick.label(), "the brick is silent: nothing kept is believed");
            brick.tell(Event::InvalidateAll { hold: Hold::default() });
        }
        if let Some(number) = beat.ping {
            // A closed connection: seen below.
            let _ = line.outbox.send(Prefix::new(Kind::Ping, number), &(), Bytes::new());
        }
        let late = line.waits.expire(now);
        if late > 0 {
            tracing::warn!(xlator = %brick.name, brick = brick.label(), count = late, "requests were not answered in time");
        }
        line.end_if_left(now);
        if let Some(failure) = line.over() {
            return failure;
        }
        let look = (patience.frame / 8).min(LOOK_MAX);
        let look = if line.is_left() { look.min(LEFT_LOOK) } else { look };
        let next = line.pulse.lock().next(patience.ping).min(now + look);
        tokio::select! {
            () = sleep_until(next.into()) => {}
            () = line.stir.notified() => {}
            () = brick.reconfigured.notified() => {}
        }
    }
}

async fn say_goodbye(up: &Up) {
    let goodbyes = async {
        for session in &up.sessions {
            let call = GoodbyeCall { session: session.number, xdata: Xdata::EMPTY };
            match up.line.call(&Call::Goodbye(call)).await {
                Ok(Ok(_)) => {}
                Ok(Err(refused)) => tracing::debug!(%refused, "a goodbye was refused"),
                Err(failure) => return tracing::debug!(reason = failure.reason, "a goodbye was not heard"),
            }
        }
    };
    if timeout(GOODBYE_MAX, goodbyes).await.is_err() {
        tracing::debug!("the goodbyes were not answered in time");
    }
}
