//! The task that keeps the connection: makes it, takes up the sessions, opens again what was open, pings, and begins
//! anew when it is lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::{ClientId, Event, Hold, Xdata};
use brickwork_wire::connection::{self, Inbox};
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::{Call, GoodbyeCall};
use brickwork_wire::outbox::Outbox;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until, timeout};

use crate::brick::Brick;
use crate::dial::dial;
use crate::greet::{choose, greet, process};
use crate::line::{self, Line, Up};
use crate::link::{Failure, Phase};
use crate::sessions::{attach, pay, take_up};

/// How long a connection may take until the brick has let us in.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
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
    tokio::spawn(line::flush_together(kept.0.clone()));
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
            pay(brick, line, *session, brick.clients.take_owed(session.client));
        }
        let known = |client: &ClientId| sessions.iter().any(|session| session.client == *client);
        let newcomers: Vec<ClientId> = brick.clients.all().into_iter().filter(|client| !known(client)).collect();
        let taken = attach(brick, line, boot, newcomers).await?;
        sessions.extend(take_up(brick, line, boot, taken).await?);
        brick.publish(Up { line: line.clone(), boot, sessions: sessions.clone().into() });
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
