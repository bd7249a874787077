//! The clients that use this brick through this xlator: what proves who they are, what the brick knew of them, what they
//! have open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use brickwork_api::{ClientId, Errno, FopError, FopResult, OpenId, Xdata};
use brickwork_wire::message::{AttachCall, Nonce};
use parking_lot::Mutex;

use crate::link::RETRY_LAST;
use crate::opens::{Lost, Open, Opens, Owed, Stale};

/// Clients of one brick; one more is refused.
pub(crate) const CLIENTS_MAX: usize = 256;
/// Opens of all clients, and frames that the brick is owed; one more open is refused.
pub(crate) const OPENS_MAX: usize = 1 << 20;

/// A session of the brick's, as requests need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) client: ClientId,
    /// Its number on the connection.
    pub(crate) number: u16,
    /// Counts how often the brick has forgotten this client.
    pub(crate) memory: u32,
    /// The era of its opens.
    pub(crate) era: u32,
    /// Counts its attaches.
    pub(crate) incarnation: u32,
}

/// One client.
#[derive(Debug)]
struct Known {
    secret: Nonce,
    incarnation: u32,
    memory: u32,
    /// The boot that the opens of the current era were made in; `None` while they have to be made again.
    boot: Option<u64>,
    /// Whether the brick has ever taken it.
    taken: bool,
    refused: Option<(String, Instant)>,
    opens: Opens,
}

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: Mutex<HashMap<ClientId, Known>>,
    /// Opens that are lost: none, nearly always, and then nobody looks for them.
    lost: AtomicUsize,
}

/// What an attach came to.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) session: Session,
    /// To be opened again before requests flow.
    pub(crate) reopen: Vec<(OpenId, Open)>,
}

impl Clients {
    /// Makes `client` known. Its first attach is the rim's part.
    ///
    /// # Errors
    /// `ENOTCONN` when the brick has refused it lately, `EAGAIN` when there are too many.
    pub(crate) fn introduce(&self, client: ClientId, now: Instant) -> FopResult<()> {
        let mut known = self.known.lock();
        if let Some(Known { refused, .. }) = known.get_mut(&client) {
            return match refused {
                Some((reason, at)) if now.duration_since(*at) < RETRY_LAST => {
                    Err(FopError::new(Errno::ENOTCONN).doing("attaching to the brick").with("reason", reason))
                }
                _ => {
                    *refused = None;
                    Ok(())
                }
            };
        }
        if known.len() >= CLIENTS_MAX {
            return Err(FopError::new(Errno::EAGAIN).doing("attaching one more client").with("limit", CLIENTS_MAX));
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| FopError::new(Errno::EIO).doing("drawing a secret").with("error", error))?;
        let opens = Opens::default();
        known.insert(
            client,
            Known { secret, incarnation: 0, memory: 0, boot: None, taken: false, refused: None, opens },
        );
        Ok(())
    }

    /// Those that are known and not refused.
    pub(crate) fn all(&self) -> Vec<ClientId> {
        let known = self.known.lock();
        known.iter().filter(|(_, known)| known.refused.is_none()).map(|(client, _)| *client).collect()
    }

    /// Forgets refusals: another connection may be let in.
    pub(crate) fn forgive(&self) {
        self.known.lock().values_mut().for_each(|known| known.refused = None);
    }

    /// What `client` says to attach, beside `xdata`; its incarnation grows.
    pub(crate) fn attach(&self, client: ClientId, xdata: &Xdata) -> Option<AttachCall> {
        let mut known = self.known.lock();
        let known = known.get_mut(&client)?;
        known.incarnation += 1;
        Some(AttachCall {
            client,
            secret: known.secret,
            incarnation: known.incarnation,
            keep: Vec::new(),
            join: false,
            xdata: xdata.clone(),
        })
    }

    /// The brick, which has started `boot` times, has taken `client` as session `number`, and says whether it knew it.
    pub(crate) fn taken(&self, client: ClientId, number: u16, knew: bool, boot: u64) -> Option<Taken> {
        let mut all = self.known.lock();
        let known = all.get_mut(&client)?;
        let forgotten = known.taken && !knew;
        let stale = known.taken && (!knew || known.boot != Some(boot));
        known.taken = true;
        known.refused = None;
        if forgotten {
            known.memory = known.memory.wrapping_add(1);
        }
        let reopen = if stale { known.opens.begin_era() } else { Vec::new() };
        known.boot = reopen.is_empty().then_some(boot);
        let Known { memory, incarnation, .. } = *known;
        let session = Session { client, number, memory, era: known.opens.era(), incarnation };
        Some(Taken { session, reopen })
    }

    /// The brick does not take `client`.
    pub(crate) fn refused(&self, client: ClientId, reason: String, now: Instant) {
        if let Some(known) = self.known.lock().get_mut(&client) {
            known.refused = Some((reason, now));
        }
    }

    /// All opens of `client` are open again, in `boot`.
    pub(crate) fn reopened(&self, client: ClientId, boot: u64) {
        if let Some(known) = self.known.lock().get_mut(&client) {
            known.boot = Some(boot);
        }
    }

    /// Keeps an open that the brick has answered in `era`.
    ///
    /// # Errors
    /// [`Stale`]: it has to be opened again first.
    pub(crate) fn keep(&self, client: ClientId, era: u32, id: OpenId, open: Open) -> Result<(), Stale> {
        let mut known = self.known.lock();
        let Some(known) = known.get_mut(&client) else { return Err(Stale) };
        let before = known.opens.lost();
        let kept = known.opens.keep(era, id, open);
        self.count_lost(before, known.opens.lost());
        kept
    }

    /// Forgets an open that is being released.
    pub(crate) fn release(&self, client: ClientId, id: OpenId) {
        if let Some(known) = self.known.lock().get_mut(&client) {
            let before = known.opens.lost();
            known.opens.release(id);
            self.count_lost(before, known.opens.lost());
        }
    }

    /// Remembers what the brick has to be told when `client` is attached again.
    pub(crate) fn owe(&self, client: ClientId, owed: Owed) {
        if let Some(known) = self.known.lock().get_mut(&client) {
            known.opens.owe(owed);
        }
    }

    /// Takes what the brick has to be told of `client`.
    pub(crate) fn take_owed(&self, client: ClientId) -> Vec<Owed> {
        self.known.lock().get_mut(&client).map_or_else(Vec::new, |known| known.opens.take_owed())
    }

    /// Takes of it which waits of `client` were given up.
    pub(crate) fn take_cancels(&self, client: ClientId) -> Vec<Owed> {
        self.known.lock().get_mut(&client).map_or_else(Vec::new, |known| known.opens.take_cancels())
    }

    /// Whether `client` has an open, lost or not.
    pub(crate) fn holds(&self, client: ClientId, id: OpenId) -> bool {
        self.known.lock().get(&client).is_some_and(|known| known.opens.holds(id))
    }

    /// An open is lost; whether it was held and not lost before.
    pub(crate) fn lose(&self, client: ClientId, id: OpenId, why: Lost) -> bool {
        let mut known = self.known.lock();
        let lost = known.get_mut(&client).is_some_and(|known| known.opens.lose(id, why));
        self.lost.fetch_add(usize::from(lost), Ordering::Relaxed);
        lost
    }

    /// Why the open is lost, when it is. One load for nearly everybody.
    pub(crate) fn why_lost(&self, client: ClientId, id: OpenId) -> Option<Lost> {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.known.lock().get(&client).and_then(|known| known.opens.why_lost(id))
    }

    /// Whether one more open has room.
    pub(crate) fn has_room(&self) -> bool {
        self.known.lock().values().map(|known| known.opens.len()).sum::<usize>() < OPENS_MAX
    }

    /// How many opens are held, and how many of them are lost.
    pub(crate) fn opens(&self) -> (usize, usize) {
        let held = self.known.lock().values().map(|known| known.opens.held()).sum();
        (held, self.lost.load(Ordering::Relaxed))
    }

    /// All, with their incarnation and why they were refused, for `status`.
    pub(crate) fn list(&self) -> Vec<(ClientId, u32, Option<String>)> {
        let known = self.known.lock();
        let line = |(client, known): (&ClientId, &Known)| {
            (*client, known.incarnation, known.refused.as_ref().map(|(reason, _)| reason.clone()))
        };
        let mut list: Vec<_> = known.iter().map(line).collect();
        list.sort_unstable();
        list
    }

    fn count_lost(&self, before: usize, now: usize) {
        self.lost.fetch_add(now, Ordering::Relaxed);
        self.lost.fetch_sub(before, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::{Credentials, Gfid};
    use brickwork_wire::frame::Kind;

    fn one() -> (Clients, ClientId) {
        let (clients, client) = (Clients::default(), ClientId::random());
        clients.introduce(client, Instant::now()).unwrap();
        (clients, client)
    }

    fn open() -> Open {
        Open::new(Gfid::ROOT, 0, &Credentials::root(), false)
    }

    #[test]
    fn a_client_shows_one_secret_and_a_higher_incarnation_each_time() {
        let (clients, client) = one();
        let (first, second) =
            (clients.attach(client, &Xdata::EMPTY).unwrap(), clients.attach(client, &Xdata::EMPTY).unwrap());
        assert_eq!(first.secret, second.secret);
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
        let other = ClientId::random();
        clients.introduce(other, Instant::now()).unwrap();
        assert_ne!(clients.attach(other, &Xdata::EMPTY).unwrap().secret, first.secret);
    }

    #[test]
    fn opens_are_made_again_after_a_restart_and_not_after_a_mere_loss() {
        let (clients, client) = one();
        let first = clients.taken(client, 1, false, 5).unwrap();
        assert!(first.reopen.is_empty());
        clients.keep(client, first.session.era, OpenId(3), open()).unwrap();
        let same = clients.taken(client, 1, true, 5).unwrap();
        assert!(same.reopen.is_empty());
        assert_eq!((same.session.memory, same.session.era), (first.session.memory, first.session.era));
        let restarted = clients.taken(client, 1, true, 6).unwrap();
        assert_eq!(restarted.reopen, [(OpenId(3), open())]);
        assert_eq!(restarted.session.memory, first.session.memory, "its answers are remembered");
        // Lost before all was open again: it begins anew.
        let again = clients.taken(client, 1, true, 6).unwrap();
        assert_eq!(again.reopen.len(), 1);
        clients.reopened(client, 6);
        assert!(clients.taken(client, 1, true, 6).unwrap().reopen.is_empty());
        let forgotten = clients.taken(client, 1, false, 6).unwrap();
        assert_eq!(forgotten.reopen.len(), 1);
        assert_ne!(forgotten.session.memory, first.session.memory);
    }

    #[test]
    fn waits_that_were_given_up_are_told_by_themselves_and_everything_else_after_them() {
        // A brick that had lost its journal of sessions and not that of its locks kept the lock of a wait that was given
        // up: what was owed was dropped with the memory of the sessions. So it stays owed whatever the brick remembers.
        let (clients, client) = one();
        let owed = |kind| Owed { kind, fop: 0, header: bytes::Bytes::new() };
        clients.taken(client, 1, false, 5).unwrap();
        [Kind::Request, Kind::Cancel].into_iter().for_each(|kind| clients.owe(client, owed(kind)));
        clients.taken(client, 1, false, 6).unwrap();
        assert_eq!(clients.take_cancels(client), [owed(Kind::Cancel)]);
        assert_eq!(clients.take_owed(client), [owed(Kind::Request)]);
        assert_eq!(clients.take_owed(client), []);
    }

    #[test]
    fn a_refused_client_is_told_why_and_may_try_again_later() {
        let (clients, client) = one();
        let now = Instant::now();
        clients.refused(client, "foreign secret".to_owned(), now);
        assert!(clients.all().is_empty());
        let error = clients.introduce(client, now).unwrap_err();
        assert_eq!(error.to_string(), "attaching to the brick: ENOTCONN (reason foreign secret)");
        clients.introduce(client, now + RETRY_LAST).unwrap();
        assert_eq!(clients.all(), [client]);
    }

    #[test]
    fn one_client_more_than_the_limit_is_refused() {
        let (clients, now) = (Clients::default(), Instant::now());
        for number in 0..CLIENTS_MAX {
            clients.introduce(ClientId(number as u128), now).unwrap();
        }
        assert_eq!(clients.introduce(ClientId::random(), now).unwrap_err().errno(), Errno::EAGAIN);
        clients.introduce(ClientId(7), now).unwrap();
    }

    #[test]
    fn lost_opens_are_found_by_their_client_and_id_until_released() {
        let (clients, client) = one();
        let era = clients.taken(client, 1, false, 1).unwrap().session.era;
        clients.keep(client, era, OpenId(1), open()).unwrap();
        assert_eq!(clients.why_lost(client, OpenId(1)), None);
        assert!(clients.lose(client, OpenId(1), Lost::Open(Errno::ESTALE)));
        assert_eq!(clients.why_lost(client, OpenId(1)), Some(Lost::Open(Errno::ESTALE)));
        assert_eq!(clients.why_lost(ClientId::random(), OpenId(1)), None);
        assert_eq!(clients.opens(), (1, 1));
        clients.release(client, OpenId(1));
        assert_eq!((clients.why_lost(client, OpenId(1)), clients.opens()), (None, (0, 0)));
    }
}
