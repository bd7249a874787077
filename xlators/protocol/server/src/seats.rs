//! Where each session can be told something, and when it was last heard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::ClientId;
use tokio::time::Instant;

use crate::caches::SessionKey;
use crate::connection::Connection;
use crate::fops::Destination;
use crate::session::Session;

/// A client on one connection.
pub(crate) struct Member {
    pub(crate) client: ClientId,
    pub(crate) key: SessionKey,
    pub(crate) session: Arc<Session<Destination>>,
    pub(crate) incarnation: u32,
    /// The number of its connection, and its own there.
    pub(crate) connection: u64,
    pub(crate) index: u16,
}

/// Which sessions there are for [`Caches`], and where they can be told.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last: u32,
    by_client: HashMap<ClientId, SessionKey>,
    pub(crate) seats: HashMap<SessionKey, Seat>,
}

/// Where one session can be told something.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) session: Arc<Session<Destination>>,
    /// Connections, the session's number on each, and the incarnation.
    pub(crate) lines: Vec<(Arc<Connection>, u16, u32)>,
    /// The last sign of life of a connection that is gone.
    pub(crate) heard: Instant,
    /// The locks believe that its client is here.
    pub(crate) announced: bool,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Seat {
    /// The last sign of life of its client.
    pub(crate) fn heard(&self) -> Instant {
        self.lines.iter().map(|(line, _, _)| line.heard()).fold(self.heard, Instant::max)
    }
}

impl Keys {
    /// The key of `session`. One that its client had before and that has ended keeps its own, until it is forgotten.
    pub(crate) fn key(&mut self, session: &Arc<Session<Destination>>) -> SessionKey {
        let client = session.client();
        if let Some(key) = self.by_client.get(&client)
            && self.seats.get(key).is_some_and(|seat| Arc::ptr_eq(&seat.session, session))
        {
            return *key;
        }
        // After 2^32 sessions of one process a number may come again; by then the one before it has long gone.
        self.last = self.last.wrapping_add(1);
        let key = SessionKey(self.last);
        self.by_client.insert(client, key);
        let seat = Seat { session: session.clone(), lines: Vec::new(), heard: Instant::now(), announced: false };
        self.seats.insert(key, seat);
        key
    }

    /// The seat of the session of `client` that is not over.
    pub(crate) fn of(&mut self, client: ClientId) -> Option<&mut Seat> {
        self.seats.get_mut(self.by_client.get(&client)?)
    }

    /// Takes every connection away from a session, if it has any and has been silent for `silence`.
    pub(crate) fn disconnect(&mut self, key: SessionKey, silence: Duration) -> Vec<Arc<Connection>> {
        let Some(seat) = self.seats.get_mut(&key) else { return Vec::new() };
        let heard = seat.heard();
        if heard.elapsed() < silence {
            return Vec::new();
        }
        seat.heard = heard;
        std::mem::take(&mut seat.lines).into_iter().map(|(line, _, _)| line).collect()
    }

    /// Whom the locks believe to be here and who is not, with the time since its last sign of life. They are told now.
    pub(crate) fn newly_gone(&mut self, key: SessionKey) -> Option<(ClientId, Duration)> {
        let seat = self.seats.get_mut(&key).filter(|seat| seat.announced && seat.lines.is_empty())?;
        seat.announced = false;
        Some((seat.session.client(), seat.heard.elapsed()))
    }

    /// Sessions that are connected and have been silent for `silence`.
    pub(crate) fn silent(&self, silence: Duration) -> Vec<SessionKey> {
        let is_silent = |seat: &Seat| !seat.lines.is_empty() && seat.heard().elapsed() >= silence;
        self.seats.iter().filter(|(_, seat)| is_silent(seat)).map(|(key, _)| *key).collect()
    }

    /// The key of a session of `client` that has ended; the client may have another since.
    pub(crate) fn ended(&self, client: ClientId) -> Option<SessionKey> {
        let is_it = |seat: &Seat| seat.session.client() == client && seat.session.has_ended();
        self.seats.iter().find(|(_, seat)| is_it(seat)).map(|(key, _)| *key)
    }

    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<Seat> {
        let seat = self.seats.remove(&key)?;
        let client = seat.session.client();
        if self.by_client.get(&client) == Some(&key) {
            self.by_client.remove(&client);
        }
        Some(seat)
    }

    /// The first connection of every client that is connected, by the client's name for people.
    pub(crate) fn lines(&self) -> HashMap<String, Arc<Connection>> {
        let first =
            |seat: &Seat| seat.lines.first().map(|(line, _, _)| (seat.session.client().to_string(), line.clone()));
        self.seats.values().filter_map(first).collect()
    }
}
