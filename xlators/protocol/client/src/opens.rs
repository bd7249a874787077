//! What one client has open on the brick, so that it can be opened again.
//!
//! Pure. An *era* is the time in which the brick knows what is open; it ends when the brick has restarted or has forgotten
//! the client. Always true: what is held was open, or was asked for again, in the current era.

use std::collections::HashMap;
use std::sync::Arc;

use brickwork_api::locks::LOCK_LOST;
use brickwork_api::{Credentials, Errno, FopError, Gfid, OpenId, Xdata};
use brickwork_wire::frame::Kind;
use bytes::Bytes;

/// One open.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    pub(crate) gfid: Gfid,
    /// `O_*`, without what only the first time means.
    pub(crate) flags: u32,
    pub(crate) credentials: Credentials,
    pub(crate) directory: bool,
    /// Why it is good for nothing but its release.
    pub(crate) lost: Option<Lost>,
}

/// Why an open is good for nothing but its release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The brick could not open it again.
    Open(Errno),
    /// A lock that was taken through it is gone; in a word, why.
    Lock(Arc<str>),
}

impl Lost {
    /// What whoever uses the open `id` is answered.
    pub(crate) fn error(&self, id: OpenId) -> FopError {
        let error = FopError::new(Errno::EIO);
        match self {
            Lost::Open(errno) => error
                .doing("using an open file that the brick could not open again")
                .with("open", id.0)
                .with("why", errno),
            Lost::Lock(why) => error
                .doing("using an open file whose lock is gone")
                .with("open", id.0)
                .with("why", why)
                .with_xdata(Xdata::EMPTY.with(&LOCK_LOST, why.to_string())),
        }
    }
}

/// What only the first time means.
const ONCE: u32 = (libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY) as u32;

impl Open {
    pub(crate) fn new(gfid: Gfid, flags: u32, credentials: &Credentials, directory: bool) -> Open {
        Open { gfid, flags: flags & !ONCE, credentials: credentials.clone(), directory, lost: None }
    }
}

/// The brick was restarted between its answer and now: what it said is open is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// A frame that the brick is owed from a time when it could not be reached: a release, or that a wait was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) kind: Kind,
    pub(crate) fop: u8,
    pub(crate) header: Bytes,
}

/// The opens of one client.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    era: u32,
    held: HashMap<OpenId, Open>,
    owed: Vec<Owed>,
    lost: usize,
}

impl Opens {
    /// Keeps an open that the brick has answered in `era`.
    ///
    /// # Errors
    /// [`Stale`]: it has to be opened again first.
    pub(crate) fn keep(&mut self, era: u32, id: OpenId, open: Open) -> Result<(), Stale> {
        if era != self.era {
            return Err(Stale);
        }
        let lost = open.lost.is_some();
        let before = self.held.insert(id, open);
        self.lost += usize::from(lost);
        self.lost -= usize::from(before.is_some_and(|open| open.lost.is_some()));
        Ok(())
    }

    /// Forgets an open; whether it was held.
    pub(crate) fn release(&mut self, id: OpenId) -> bool {
        let open = self.held.remove(&id);
        self.lost -= usize::from(open.as_ref().is_some_and(|open| open.lost.is_some()));
        open.is_some()
    }

    /// Remembers what the brick has to be told.
    pub(crate) fn owe(&mut self, owed: Owed) {
        self.owed.push(owed);
    }

    /// Takes what the brick has to be told.
    pub(crate) fn take_owed(&mut self) -> Vec<Owed> {
        std::mem::take(&mut self.owed)
    }

    /// Takes of it which waits were given up.
    pub(crate) fn take_cancels(&mut self) -> Vec<Owed> {
        self.owed.extract_if(.., |owed| owed.kind == Kind::Cancel).collect()
    }

    /// Begins a new era; returns what has to be opened again.
    pub(crate) fn begin_era(&mut self) -> Vec<(OpenId, Open)> {
        self.era = self.era.wrapping_add(1);
        let found = self.held.iter().filter(|(_, open)| open.lost.is_none());
        found.map(|(id, open)| (*id, open.clone())).collect()
    }

    /// The current era.
    pub(crate) fn era(&self) -> u32 {
        self.era
    }

    /// An open is lost; whether it was held and not lost before.
    pub(crate) fn lose(&mut self, id: OpenId, why: Lost) -> bool {
        let Some(open) = self.held.get_mut(&id).filter(|open| open.lost.is_none()) else { return false };
        open.lost = Some(why);
        self.lost += 1;
        true
    }

    /// Why the open is lost, when it is.
    pub(crate) fn why_lost(&self, id: OpenId) -> Option<Lost> {
        self.held.get(&id).and_then(|open| open.lost.clone())
    }

    /// Whether it is held, lost or not.
    pub(crate) fn holds(&self, id: OpenId) -> bool {
        self.held.contains_key(&id)
    }

    /// How many are held, those that are lost and what is owed among them.
    pub(crate) fn len(&self) -> usize {
        self.held.len() + self.owed.len()
    }

    /// How many are open or lost.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many are lost.
    pub(crate) fn lost(&self) -> usize {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: OpenId = OpenId(7);

    fn open(flags: i32) -> Open {
        Open::new(Gfid::ROOT, flags as u32, &Credentials::root(), false)
    }

    #[test]
    fn a_reopen_creates_and_empties_nothing() {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_APPEND;
        assert_eq!(open(flags).flags, (libc::O_RDWR | libc::O_APPEND) as u32);
    }

    #[test]
    fn what_was_answered_in_an_earlier_era_is_not_held() {
        let mut opens = Opens::default();
        let era = opens.era();
        assert_eq!(opens.keep(era, ID, open(0)), Ok(()));
        assert_eq!(opens.begin_era(), [(ID, open(0))]);
        assert_eq!(opens.keep(era, OpenId(8), open(0)), Err(Stale));
        assert_eq!(opens.keep(opens.era(), OpenId(8), open(0)), Ok(()));
    }

    #[test]
    fn a_lost_open_stays_lost_until_it_is_released_and_is_not_asked_for_again() {
        let mut opens = Opens::default();
        opens.keep(0, ID, open(0)).unwrap();
        assert!(opens.lose(ID, Lost::Open(Errno::ESTALE)));
        assert!(!opens.lose(ID, Lost::Lock("expired".into())), "the first reason stays");
        assert_eq!((opens.why_lost(ID), opens.lost()), (Some(Lost::Open(Errno::ESTALE)), 1));
        assert_eq!(opens.begin_era(), []);
        assert!(opens.release(ID) && !opens.release(ID));
        assert_eq!((opens.why_lost(ID), opens.lost(), opens.held()), (None, 0, 0));
    }

    #[test]
    fn what_is_owed_is_taken_once_and_in_order() {
        let mut opens = Opens::default();
        let owed = |fop| Owed { kind: Kind::Request, fop, header: Bytes::new() };
        opens.owe(owed(1));
        opens.owe(owed(2));
        assert_eq!(opens.len(), 2);
        assert_eq!(opens.take_owed(), [owed(1), owed(2)]);
        assert_eq!(opens.take_owed(), []);
    }
}
