//! The sessions of one served subvolume: who comes, who goes, and what outlives the brick.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::{
    Cancel, ClientId, Cx, FopKind, Host, OpenFile, OpenId, ReleaseReq, ReleasedirReq, Xdata, Xlator, blocking,
};
use brickwork_wire::message::{AttachCall, Refused, Why};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::{error, info};

use super::Answer;
use super::ledger::{Ledger, PendingPlace};
use super::opens::{LeftOpen, OpenRecord, Opens};
use super::probe::{self, Outcome};
use super::record::{Record, SessionImage, SessionNumber, State, Undecided};
use super::roster::{Outdated, Roster};
use super::session::Session;
use super::slots::{Remembered, Slots};
use super::turns::Turns;
use crate::options::{ExactlyOnce, ServerOptions};

/// The sessions of one subvolume. `D` is where answers go.
#[derive(Debug)]
pub struct Sessions<D>(Arc<Shared<D>>);

#[derive(Debug)]
struct Shared<D> {
    boot: u64,
    limits: Limits,
    ledger: Arc<Ledger>,
    turns: Arc<Turns>,
    /// Taken after the ledger is held, never before.
    table: Mutex<Table<D>>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    slots: u32,
    waiters_max: u32,
    clients_max: usize,
    session_timeout: Duration,
}

#[derive(Debug)]
struct Table<D> {
    rows: HashMap<ClientId, Row<D>>,
    last: SessionNumber,
    /// What was under way when the brick before this one died.
    undecided: Vec<(Undecided, PendingPlace)>,
}

#[derive(Debug)]
struct Row<D> {
    session: Arc<Session<D>>,
    secret: [u8; 32],
    roster: Roster,
    /// Since when nobody is connected.
    detached: Option<Instant>,
}

/// A client that was let in.
#[derive(Debug)]
pub struct Attached<D> {
    /// Its session.
    pub session: Arc<Session<D>>,
    /// Whether it was known: its answers and opens are as they were.
    pub known: bool,
    /// Its incarnations that count no more: their connections are to be closed.
    pub fenced: Vec<u32>,
}

/// A session that has ended, with what it left open.
#[must_use]
#[derive(Debug)]
pub struct Ended<D> {
    session: Arc<Session<D>>,
    left: Vec<LeftOpen>,
}

impl<D> Ended<D> {
    /// Ends what it waits for: a lock that it got now would be nobody's.
    fn of(session: Arc<Session<D>>, left: Vec<LeftOpen>) -> Ended<D> {
        session.slots.cancels().iter().for_each(Cancel::cancel);
        Ended { session, left }
    }

    /// Whose it was.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.session.client
    }

    /// Whether it was `session`.
    #[must_use]
    pub fn is_of(&self, session: &Arc<Session<D>>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// Releases what it left open at the child.
    pub async fn put_away(self, child: &dyn Xlator, host: &Arc<dyn Host>) {
        release(child, host, self.session.client, self.left).await;
    }
}

impl<D: Send + Sync + 'static> Sessions<D> {
    /// Opens the sessions as the process before this one left them in `folder`; without one, none.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn open(options: &ServerOptions, folder: Option<&Path>) -> Result<Sessions<D>, String> {
        Sessions::open_within(options, folder, brickwork_journal::Limits::default())
    }

    /// As [`Sessions::open`], with a journal of another size.
    pub(super) fn open_within(
        options: &ServerOptions,
        folder: Option<&Path>,
        journal: brickwork_journal::Limits,
    ) -> Result<Sessions<D>, String> {
        let limits = Limits {
            slots: options.slots,
            waiters_max: options.waiters_max,
            clients_max: options.clients_max as usize,
            session_timeout: options.session_timeout.0,
        };
        let (ledger, mut state) = match (options.eos, folder) {
            (ExactlyOnce::Memory, _) => (Ledger::memory(), State::of_boot(random_boot()?)),
            (eos, Some(folder)) => Ledger::open(eos, folder, journal)?,
            (_, None) => return Err("`eos` other than `memory` needs a folder for the journal".to_owned()),
        };
        state.boot += 1;
        let (ledger, turns) = (Arc::new(ledger), Arc::default());
        let table = Table::restore(&state, limits, &ledger, &turns);
        let shared = Shared { boot: state.boot, limits, ledger, turns, table: Mutex::new(table) };
        // The new number of starts, and all that is remembered in one piece.
        shared.rotate()?;
        Ok(Sessions(Arc::new(shared)))
    }

    /// How often the brick has started; with `eos memory` a number that no start before it had.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.0.boot
    }

    /// Decides, of every fop that was under way when the brick died, whether it was done. Nobody may be let in before.
    ///
    /// What cannot be decided, because the brick does not answer, is answered `EIO`: it is not done a second time.
    pub async fn decide(&self, child: &dyn Xlator, host: &Arc<dyn Host>) {
        let undecided = std::mem::take(&mut self.0.table.lock().undecided);
        let count = undecided.len();
        for (undecided, pending) in undecided {
            let outcome = probe::decide(child, host, &undecided).await;
            self.0.record(&undecided, pending, outcome);
        }
        if count > 0 {
            info!(count, "what was under way when the brick died is decided");
        }
    }

    /// Lets a client in.
    ///
    /// # Errors
    /// Why not: another's id, an incarnation that was left behind, no room.
    pub fn attach(&self, call: &AttachCall) -> Result<Attached<D>, Refused> {
        self.0.attach(call)
    }

    /// Notes that a connection of an incarnation is gone.
    pub fn detach(&self, session: &Session<D>, incarnation: u32) {
        self.0.detach(session, incarnation);
    }

    /// Ends an incarnation; with the last one the session ends.
    pub fn goodbye(&self, session: &Arc<Session<D>>, incarnation: u32) -> Option<Ended<D>> {
        self.0.goodbye(session, incarnation).map(|left| Ended::of(session.clone(), left))
    }

    /// The clients that have been away for `session-timeout`.
    #[must_use]
    pub fn overdue(&self) -> Vec<ClientId> {
        self.0.overdue(Instant::now())
    }

    /// For how long a client has been away, if it is.
    #[must_use]
    pub fn away(&self, client: ClientId) -> Option<Duration> {
        self.0.table.lock().rows.get(&client)?.detached.map(|since| since.elapsed())
    }

    /// Ends the session of a client that has been away for `session-timeout`.
    pub fn end_overdue(&self, client: ClientId) -> Option<Ended<D>> {
        self.0.end_overdue(client, Instant::now()).map(|(session, left)| Ended::of(session, left))
    }

    /// Whether `client` has a session.
    #[must_use]
    pub fn knows(&self, client: ClientId) -> bool {
        self.0.table.lock().rows.contains_key(&client)
    }

    /// Writes a snapshot when one is due.
    pub async fn rotate_if_due(&self, host: &Arc<dyn Host>) {
        if self.0.ledger.is_due() {
            let shared = self.0.clone();
            match blocking(&**host, move || shared.rotate()).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => error!(reason, "no snapshot of the sessions could be written"),
                Err(error) => error!(%error, "no snapshot of the sessions could be written"),
            }
        }
    }

    /// Whether nothing is open that a client has still to open again after the restart of the brick.
    #[must_use]
    pub fn all_are_back(&self) -> bool {
        self.0.table.lock().rows.values().all(|row| row.session.opens.lost() == 0)
    }

    /// Ends the journal in good order. No fop is under way any more.
    pub async fn close(&self) {
        self.0.ledger.close();
    }

    /// For people: clients, what they have open and under way.
    #[must_use]
    pub fn status(&self) -> Value {
        let table = self.0.table.lock();
        let clients: Vec<Value> = table.rows.values().map(Row::status).collect();
        json!({ "boot": self.0.boot, "undecided": self.0.ledger.undecided(), "clients": clients })
    }
}

impl<D> Table<D> {
    fn restore(state: &State, limits: Limits, ledger: &Arc<Ledger>, turns: &Arc<Turns>) -> Table<D> {
        let last = state.sessions.keys().next_back().copied().unwrap_or(SessionNumber(0));
        let rows = state.sessions.iter().map(|(number, image)| {
            let session = limits.session(*number, image.client, ledger, turns);
            image.opens.iter().for_each(|(open, record)| session.opens.restore(*open, *record));
            image.slots.values().for_each(|remembered| {
                // A slot beyond the limit is none any more; its client learns the new limit.
                let _ = session.slots.restore(remembered.clone());
            });
            let roster = Roster::restore(image.highest, &image.live);
            let (session, detached) = (Arc::new(session), Some(Instant::now()));
            (image.client, Row { session, secret: image.secret, roster, detached })
        });
        let rows = rows.collect();
        let undecided = state.undecided().map(|undecided| (undecided.clone(), ledger.restore(undecided.clone())));
        Table { rows, last, undecided: undecided.collect() }
    }

    /// The row of `session`, unless it has ended.
    fn row(&mut self, session: &Session<D>) -> Option<&mut Row<D>> {
        self.rows.get_mut(&session.client).filter(|row| row.session.number == session.number)
    }

    fn images(&self) -> Vec<Record> {
        let mut rows: Vec<&Row<D>> = self.rows.values().collect();
        rows.sort_unstable_by_key(|row| row.session.number);
        rows.iter().flat_map(|row| row.image().records(row.session.number)).collect()
    }
}

impl<D> Row<D> {
    fn attached(&self) -> Record {
        Record::Attached {
            client: self.session.client,
            session: self.session.number,
            secret: self.secret,
            highest: self.roster.highest(),
            live: self.roster.live(),
        }
    }

    fn image(&self) -> SessionImage {
        let remembered = self.session.slots.remembered();
        SessionImage {
            client: self.session.client,
            secret: self.secret,
            highest: self.roster.highest(),
            live: self.roster.live(),
            opens: self.session.opens.all().into_iter().collect(),
            slots: remembered.into_iter().map(|remembered| (remembered.slot, remembered)).collect(),
        }
    }

    fn status(&self) -> Value {
        json!({
            "client": self.session.client.to_string(),
            "incarnations": self.roster.live(),
            "connections": self.roster.connections(),
            "open": self.session.opens.count(),
            "under_way": self.session.slots.running(),
            "away_s": self.detached.map(|since| since.elapsed().as_secs()),
        })
    }
}

impl Limits {
    fn session<D>(
        &self,
        number: SessionNumber,
        client: ClientId,
        ledger: &Arc<Ledger>,
        turns: &Arc<Turns>,
    ) -> Session<D> {
        let slots = Slots::new(self.slots, self.waiters_max);
        let (ledger, turns) = (ledger.clone(), turns.clone());
        Session { number, client, slots, opens: Opens::default(), ledger, turns }
    }
}

impl<D> Shared<D> {
    fn attach(&self, call: &AttachCall) -> Result<Attached<D>, Refused> {
        let held = self.ledger.hold();
        let mut table = self.table.lock();
        let secret: [u8; 32] = Sha256::digest(call.secret).into();
        let known = table.rows.contains_key(&call.client);
        if !known {
            self.begin(&mut table, call, secret)?;
        }
        let row = table.rows.get_mut(&call.client).expect("known, or just begun");
        if row.secret != secret {
            return Err(refused(
                Why::Identity,
                format!("the client {} showed another secret than at first", call.client),
            ));
        }
        let fenced = match call.join {
            true => row.roster.join(call.incarnation).map(|()| Vec::new()),
            false => row.roster.attach(call.incarnation, &call.keep),
        };
        let fenced = fenced.map_err(|outdated| refused(Why::Identity, outdated.words(call.incarnation)))?;
        row.detached = None;
        let attached = Attached { session: row.session.clone(), known, fenced };
        let place = if call.join { Ok(None) } else { held.append(&row.attached()) };
        drop((table, held));
        let settled = place.and_then(|place| self.ledger.settle_here(place));
        if let Err(error) = settled {
            self.detach(&attached.session, call.incarnation);
            return Err(refused(Why::Later, format!("the session cannot be written down: {error}")));
        }
        Ok(attached)
    }

    fn detach(&self, session: &Session<D>, incarnation: u32) {
        let mut table = self.table.lock();
        if let Some(row) = table.row(session) {
            row.roster.detach(incarnation);
            if row.roster.is_detached() {
                row.detached.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Makes room for a client that was not known.
    fn begin(&self, table: &mut Table<D>, call: &AttachCall, secret: [u8; 32]) -> Result<(), Refused> {
        if call.join {
            let reason = "it wants to join an incarnation, and none is attached".to_owned();
            return Err(refused(Why::Identity, reason));
        }
        if call.incarnation == 0 {
            return Err(refused(Why::Protocol, "incarnations count from 1".to_owned()));
        }
        let clients_max = self.limits.clients_max;
        if table.rows.len() >= clients_max {
            return Err(refused(Why::Full, format!("{clients_max} clients have a session (`clients-max`)")));
        }
        table.last.0 += 1;
        let session = Arc::new(self.limits.session(table.last, call.client, &self.ledger, &self.turns));
        table.rows.insert(call.client, Row { session, secret, roster: Roster::default(), detached: None });
        Ok(())
    }

    /// Ends an incarnation; what was open when the session ended with it.
    fn goodbye(&self, session: &Session<D>, incarnation: u32) -> Option<Vec<LeftOpen>> {
        let held = self.ledger.hold();
        let mut table = self.table.lock();
        let row = table.row(session)?;
        if !row.roster.goodbye(incarnation) {
            return None;
        }
        let ended = row.roster.is_empty();
        let record = if ended { Record::Gone { session: session.number } } else { row.attached() };
        if ended {
            table.rows.remove(&session.client);
        }
        // Said in the log already; a snapshot puts it right.
        let _ = held.append(&record);
        ended.then(|| session.opens.end())
    }

    /// The clients that nobody is connected for since `session-timeout` before `now`.
    fn overdue(&self, now: Instant) -> Vec<ClientId> {
        let table = self.table.lock();
        table.rows.iter().filter(|(_, row)| self.is_overdue(row, now)).map(|(client, _)| *client).collect()
    }

    /// Ends the session of `client`, unless it has come back.
    fn end_overdue(&self, client: ClientId, now: Instant) -> Option<(Arc<Session<D>>, Vec<LeftOpen>)> {
        let held = self.ledger.hold();
        let mut table = self.table.lock();
        table.rows.get(&client).filter(|row| self.is_overdue(row, now))?;
        let row = table.rows.remove(&client)?;
        // Said in the log already; a snapshot puts it right.
        let _ = held.append(&Record::Gone { session: row.session.number });
        let left = row.session.opens.end();
        Some((row.session, left))
    }

    fn is_overdue(&self, row: &Row<D>, now: Instant) -> bool {
        row.detached.is_some_and(|since| now.saturating_duration_since(since) >= self.limits.session_timeout)
    }

    /// Writes down what was decided of a fop, and gives its slot the answer.
    fn record(&self, undecided: &Undecided, pending: PendingPlace, outcome: Outcome) {
        let Undecided { key, kind, intent } = undecided;
        let session = {
            let table = self.table.lock();
            table.rows.values().find(|row| row.session.number == key.session).map(|row| row.session.clone())
        };
        let written = match (outcome, session) {
            (Outcome::Done(answer), Some(session)) => {
                let opened = intent.opens().filter(|_| !answer.failure);
                let record = answered(undecided, &answer, opened);
                self.ledger.write(&record, || {
                    opened.into_iter().for_each(|(open, record)| session.opens.restore(open, record));
                    let remembered = Remembered { slot: key.slot, sequence: key.sequence, kind: *kind, answer };
                    // A slot beyond the limit is none any more.
                    let _ = session.slots.restore(remembered);
                    self.ledger.decided(pending);
                })
            }
            (Outcome::NotDone, _) | (_, None) => self.ledger.forget(*key, pending),
        };
        // Said in the log already; a snapshot puts it right.
        let _ = written;
    }

    fn rotate(&self) -> Result<(), String> {
        let rotated = self.ledger.rotate(|| {
            let mut records = vec![Record::Boot { number: self.boot }];
            records.extend(self.table.lock().images());
            records
        });
        rotated.map_err(|error| error.to_string())
    }
}

fn answered(undecided: &Undecided, answer: &Answer, opened: Option<(OpenId, OpenRecord)>) -> Record {
    let (failure, header) = (answer.failure, answer.header.clone());
    Record::Answered { key: undecided.key, kind: undecided.kind, failure, header, opened }
}

impl Outdated {
    fn words(self, incarnation: u32) -> String {
        match self {
            Outdated::NotAbove(highest) => {
                format!("its incarnation {incarnation} was left behind: {highest} has been here")
            }
            Outdated::NotCurrent(highest) => {
                format!("it wants to join its incarnation {incarnation}, and {highest} is the current one")
            }
        }
    }
}

fn refused(why: Why, reason: String) -> Refused {
    Refused { why, reason }
}

/// A number that is no other start's, and far from the end.
fn random_boot() -> Result<u64, String> {
    getrandom::u64().map(|number| number >> 1).map_err(|error| format!("no random numbers: {error}"))
}

/// Releases what a session left open at the child.
async fn release(child: &dyn Xlator, host: &Arc<dyn Host>, client: ClientId, left: Vec<LeftOpen>) {
    let cx = Cx::internal(client, host.clone());
    for LeftOpen { open, record, .. } in left.into_iter().filter(|left| left.alive) {
        let file = OpenFile { gfid: record.gfid, open };
        let released = match record.directory {
            true => child.releasedir(&cx, &ReleasedirReq { file, xdata: Xdata::EMPTY }).await.map(drop),
            false => child.release(&cx, &ReleaseReq { file, xdata: Xdata::EMPTY }).await.map(drop),
        };
        if let Err(error) = released {
            let fop = if record.directory { FopKind::Releasedir } else { FopKind::Release };
            tracing::warn!(%client, fop = fop.name(), %error, "what a session left open was not released");
        }
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
