//! Opens through which nothing is done any more: a lock that was taken through them is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::locks::{LOCK_LOST, LostBy};
use brickwork_api::{ClientId, Errno, FopError, FopResult, OpenId, Xdata};
use parking_lot::RwLock;

/// All fenced opens: none, nearly always, and then nobody looks for one.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    count: AtomicUsize,
    by_open: RwLock<HashMap<(ClientId, OpenId), LostBy>>,
}

impl Fences {
    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Refuses what goes through a fenced open.
    ///
    /// # Errors
    /// `EIO` with `LOCK_LOST`.
    pub(crate) fn check(&self, client: ClientId, open: OpenId) -> FopResult<()> {
        if !self.any() {
            return Ok(());
        }
        match self.by_open.read().get(&(client, open)) {
            None => Ok(()),
            Some(why) => Err(lost(*why).with("open", open.0)),
        }
    }

    /// Fences an open. What somebody did to it on purpose stays the reason.
    pub(crate) fn put(&self, client: ClientId, open: OpenId, why: LostBy) {
        let mut by_open = self.by_open.write();
        let known = by_open.entry((client, open)).or_insert(why);
        if !ends_when_told(why) {
            *known = why;
        }
        self.count.store(by_open.len(), Ordering::Relaxed);
    }

    /// Lifts the fence of an open whose client hears what it lost: whether it uses the open on is its own decision then.
    /// Whether there was one; what somebody did to it on purpose stays.
    pub(crate) fn told(&self, client: ClientId, open: OpenId) -> bool {
        if !self.any() {
            return false;
        }
        let mut by_open = self.by_open.write();
        let ends = by_open.get(&(client, open)).is_some_and(|why| ends_when_told(*why));
        if ends {
            by_open.remove(&(client, open));
            self.count.store(by_open.len(), Ordering::Relaxed);
        }
        ends
    }

    /// Lifts the fence of an open that ends.
    pub(crate) fn lift(&self, client: ClientId, open: OpenId) -> bool {
        if !self.any() {
            return false;
        }
        self.retain(|name| name != (client, open))
    }

    /// Lifts all fences of a client that is gone.
    pub(crate) fn lift_client(&self, client: ClientId) {
        self.retain(|(other, _)| other != client);
    }

    fn retain(&self, stays: impl Fn((ClientId, OpenId)) -> bool) -> bool {
        let mut by_open = self.by_open.write();
        let before = by_open.len();
        by_open.retain(|name, _| stays(*name));
        self.count.store(by_open.len(), Ordering::Relaxed);
        by_open.len() != before
    }

    /// Every fence.
    pub(crate) fn all(&self) -> Vec<(ClientId, OpenId, LostBy)> {
        let by_open = self.by_open.read();
        by_open.iter().map(|((client, open), why)| (*client, *open, *why)).collect()
    }
}

/// Whether time took the lock, and nobody who relies on it that the open is used no more.
fn ends_when_told(why: LostBy) -> bool {
    matches!(why, LostBy::Expiry | LostBy::Grace)
}

/// What whoever lost a lock is answered.
pub(crate) fn lost(why: LostBy) -> FopError {
    // Whoever lost to a newer lock knows that it may and asks again.
    let errno = if why == LostBy::Fence { Errno::EBUSY } else { Errno::EIO };
    let error = FopError::new(errno).doing("using an open file whose lock is gone").with("why", why.word());
    error.with_xdata(Xdata::EMPTY.with(&LOCK_LOST, why.word().to_owned()))
}
