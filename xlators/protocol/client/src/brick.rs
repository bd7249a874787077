//! One brick, as requests and the rim see it: the connection when there is one, and who waits for it.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use brickwork_api::{Errno, Event, FopError, Hold, Upward};
use brickwork_wire::tls::TlsClient;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::believers::Believers;
use crate::clients::Clients;
use crate::line::{Line, Up};
use crate::link::{Cause, Failure, Link, Phase, Tell};
use crate::options::{Patience, Settings};

/// The brick.
pub(crate) struct Brick {
    /// The xlator's name in the volfile.
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) patience: ArcSwap<Patience>,
    pub(crate) clients: Clients,
    pub(crate) believers: Believers,
    /// Set while requests flow.
    up: ArcSwapOption<Up>,
    link: Mutex<Link>,
    /// Something changed that a request may wait for.
    pub(crate) changed: Notify,
    /// A client has come that is not attached, or the brick is owed something.
    pub(crate) newcomer: Notify,
    pub(crate) stopping: Notify,
    /// The patience has changed.
    pub(crate) reconfigured: Notify,
    upward: Upward,
}

impl Brick {
    pub(crate) fn new(name: Arc<str>, settings: Settings, tls: Option<TlsClient>, upward: Upward) -> Brick {
        Brick {
            name,
            patience: ArcSwap::from_pointee(settings.patience),
            settings,
            tls,
            clients: Clients::default(),
            believers: Believers::default(),
            up: ArcSwapOption::empty(),
            link: Mutex::new(Link::new(Instant::now())),
            changed: Notify::new(),
            newcomer: Notify::new(),
            stopping: Notify::new(),
            reconfigured: Notify::new(),
            upward,
        }
    }

    /// The brick, for people: `HOST:PORT/SUBVOLUME`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.settings.server, self.settings.subvolume.trim_start_matches('/'))
    }

    /// The connection, when requests flow.
    pub(crate) fn up(&self) -> Option<Arc<Up>> {
        self.up.load_full()
    }

    /// Why requests no longer wait for the brick; `None` while they do.
    pub(crate) fn gave_up(&self, now: Instant) -> Option<FopError> {
        let link = self.link.lock();
        let at = link.gives_up_at(self.patience.load().reconnect)?;
        (at <= now).then(|| {
            FopError::new(Errno::ENOTCONN)
                .doing("waiting for the brick")
                .with("brick", self.label())
                .with("down for", format_args!("{} s", now.duration_since(link.since()).as_secs()))
                .with("reason", link.reason())
        })
    }

    /// When requests no longer wait for the brick; `None` while it is up.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.link.lock().gives_up_at(self.patience.load().reconnect)
    }

    /// No more requests go over `line`.
    pub(crate) fn retire(&self, line: &Arc<Line>) {
        self.up.rcu(|up| up.clone().filter(|up| !Arc::ptr_eq(&up.line, line)));
    }

    /// The rim goes on to `phase`.
    pub(crate) fn advance(&self, phase: Phase) {
        self.link.lock().advance(phase);
    }

    /// What was kept before this connection is old.
    pub(crate) fn forget_what_was_kept(&self) {
        let tell = self.link.lock().before_up();
        tell.into_iter().for_each(|tell| self.pass_on(tell));
    }

    /// Takes another patience.
    pub(crate) fn reconsider(&self, patience: Patience) {
        self.patience.store(Arc::new(patience));
        self.reconfigured.notify_one();
        self.changed.notify_waiters();
    }

    /// Requests flow over `up`.
    pub(crate) fn rise(&self, up: Up) {
        let (now, boot) = (Instant::now(), up.boot);
        let tell = self.link.lock().up(now, boot);
        self.publish(up);
        tracing::info!(xlator = %self.name, brick = self.label(), boot, "the brick is up");
        self.pass_on(tell);
    }

    /// Requests flow over `up`, on the connection that is up already.
    pub(crate) fn publish(&self, up: Up) {
        self.up.store(Some(Arc::new(up)));
        self.changed.notify_waiters();
    }

    /// The try failed, or the connection was lost.
    pub(crate) fn fail(&self, failure: Failure) {
        self.up.store(None);
        let mut link = self.link.lock();
        let news = link.reason() != failure.reason;
        let told = link.fail(Instant::now(), failure.clone());
        drop(link);
        if news {
            tracing::warn!(xlator = %self.name, brick = self.label(), reason = failure.reason, "the brick is not there");
        }
        told.into_iter().for_each(|tell| self.pass_on(tell));
        self.changed.notify_waiters();
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.up.store(None);
        self.link.lock().stop();
        self.changed.notify_waiters();
    }

    /// How long until the next try.
    pub(crate) fn retry_in(&self) -> std::time::Duration {
        let mut random = [0; 4];
        // Without random numbers all clients come at once: late, not wrong.
        let _ = getrandom::fill(&mut random);
        self.link.lock().retry_in(u32::from_ne_bytes(random))
    }

    /// Tells the parents.
    pub(crate) fn tell(&self, event: Event) {
        self.upward.notify(event);
    }

    fn pass_on(&self, tell: Tell) {
        self.tell(match tell {
            Tell::Old => Event::InvalidateAll { hold: Hold::default() },
            Tell::Up => Event::ChildUp,
            Tell::Down(reason) => {
                Event::ChildDown { reason: format!("brick {} is not reachable: {reason}", self.label()) }
            }
        });
    }

    /// What is known at the moment.
    pub(crate) fn status(&self) -> Value {
        let up = self.up();
        let clients = self.clients.list();
        let clients: Vec<Value> = clients.into_iter().map(|client| client_status(up.as_deref(), client)).collect();
        let (opens, lost_opens) = self.clients.opens();
        let (locks, locks_lost) = self.believers.counts();
        let link = self.link.lock();
        json!({
            "state": link.word(),
            "brick": self.label(),
            "since_s": link.since().elapsed().as_secs_f64(),
            "reason": link.reason(),
            "cause": link.cause().map(Cause::word),
            "reconnects": link.reconnects(),
            "in_flight": up.as_ref().map_or(0, |up| up.line.waits.count()),
            "queued_bytes": up.as_ref().map_or(0, |up| up.line.outbox.queued()),
            "opens": opens,
            "lost_opens": lost_opens,
            "locks": locks,
            "locks_lost": locks_lost,
            "boot": up.as_ref().map(|up| up.boot),
            "version": up.as_ref().map(|up| up.line.version.to_string()),
            "clients": clients,
        })
    }
}

fn client_status(
    up: Option<&Up>,
    (client, incarnation, refused): (brickwork_api::ClientId, u32, Option<String>),
) -> Value {
    json!({
        "client": client.to_string(),
        "incarnation": incarnation,
        "attached": up.is_some_and(|up| up.session(client).is_some()),
        "refused": refused,
    })
}

impl std::fmt::Debug for Brick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brick").field("name", &self.name).field("label", &self.label()).finish_non_exhaustive()
    }
}
