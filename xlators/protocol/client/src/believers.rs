//! What all clients of one brick believe to hold, as requests change it, and what happens to an open whose lock is gone.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::locks::{ClientNotice, LockNotice, LostBy};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    ClientId, Cx, Event, FlushReq, FopKind, FopResult, FopType, Gfid, Hold, LkCommand, LkKind, LkReq, LkType, OpenId,
};
use parking_lot::Mutex;

use crate::beliefs::{Beliefs, Change, Key, Outdated, Ticket};
use crate::brick::Brick;
use crate::opens::Lost;
use crate::options::OnLostLock;

/// The beliefs of all clients.
#[derive(Debug, Default)]
pub(crate) struct Believers {
    of: Mutex<HashMap<ClientId, Beliefs>>,
    /// Opens whose locks were lost, since the start.
    lost: AtomicU64,
}

impl Believers {
    /// Looks at what `client` believes, or changes it.
    pub(crate) fn with<T>(&self, client: ClientId, change: impl FnOnce(&mut Beliefs) -> T) -> T {
        change(self.of.lock().entry(client).or_default())
    }

    /// How many ranges are believed to be held, and how many opens have lost locks since the start.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let ranges = self.of.lock().values().map(Beliefs::ranges).sum();
        (ranges, self.lost.load(Ordering::Relaxed))
    }
}

/// What `request` makes of the locks of its owner.
fn change<F: FopType>(cx: &Cx, request: &F::Request) -> Option<Change> {
    let request: &dyn Any = request;
    let (file, kind, range, to, pid) = match F::KIND {
        FopKind::Lk => {
            let LkReq { file, command, kind, range, .. } = request.downcast_ref()?;
            let bytes = ByteRange::new(range.start, range.end).filter(|_| *command != LkCommand::Get)?;
            (*file, *kind, bytes, range.kind, range.pid)
        }
        FopKind::Flush => {
            let FlushReq { file, .. } = request.downcast_ref()?;
            (*file, LkKind::Posix, ByteRange::ALL, LkType::Unlock, 0)
        }
        _ => return None,
    };
    Some(Change { key: Key { gfid: file.gfid, kind, owner: cx.lk_owner.clone() }, open: file.open, range, to, pid })
}

/// A change of beliefs by a request on its way. Dropped while under way: the request was given up.
pub(crate) struct Changing<'a> {
    brick: &'a Brick,
    client: ClientId,
    change: Change,
    ticket: Option<Ticket>,
}

impl<'a> Changing<'a> {
    /// Of `request`, when it changes any.
    pub(crate) fn of<F: FopType>(brick: &'a Brick, cx: &Cx, request: &F::Request) -> Option<Changing<'a>> {
        let change = change::<F>(cx, request)?;
        Some(Changing { brick, client: cx.client(), change, ticket: None })
    }

    /// The request is being sent, for the first time or again.
    ///
    /// # Errors
    /// `ENOLCK`: there is no room; it must not be sent.
    pub(crate) fn sent(&mut self) -> FopResult<()> {
        if self.ticket.is_none() {
            self.ticket = Some(self.brick.believers.with(self.client, |beliefs| beliefs.sent(&self.change))?);
        }
        Ok(())
    }

    /// The brick has done it, and said so to `incarnation`.
    ///
    /// # Errors
    /// [`Outdated`]: it has to be asked again.
    pub(crate) fn made(&mut self, incarnation: u32) -> Result<(), Outdated> {
        let Some(ticket) = self.ticket else { return Ok(()) };
        let (client, open) = (self.client, self.change.open);
        self.brick.believers.with(client, |beliefs| beliefs.made(&self.change, ticket, incarnation))?;
        self.ticket = None;
        // Released while the answer was on its way: looked for after the belief, as a release ends beliefs after the open.
        if self.change.takes() && !self.brick.clients.holds(client, open) {
            self.brick.believers.with(client, |beliefs| beliefs.end_open(open));
        }
        Ok(())
    }

    /// Nothing of the request has left after all.
    pub(crate) fn not_sent(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.brick.believers.with(self.client, |beliefs| beliefs.not_sent(&self.change, ticket));
        }
    }

    /// The brick has not done it.
    pub(crate) fn refused(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.brick.believers.with(self.client, |beliefs| beliefs.refused(&self.change, ticket));
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.brick.believers.with(self.client, |beliefs| beliefs.given_up(&self.change, ticket));
        }
    }
}

impl Brick {
    /// The brick has said that it does not hold what `client` claimed for `key`.
    pub(crate) fn claim_lost(&self, client: ClientId, key: &Key) {
        let opens = self.believers.with(client, |beliefs| beliefs.lost(key));
        if opens.is_empty() {
            // Its opens were released while the brick was asked.
            return;
        }
        let why = LostBy::Unknown;
        match self.settings.on_lost_lock {
            OnLostLock::Eio => self.locks_lost(client, key.gfid, opens, why),
            OnLostLock::Ignore => {
                opens.into_iter().for_each(|open| self.note_ignored(client, open, why.word()));
                self.tell_old(key.gfid);
            }
        }
    }

    /// Locks that `client` took through `opens` of `gfid` are gone, and the parents hear of it: whoever keeps something for
    /// those opens serves nothing of it any more.
    pub(crate) fn locks_lost(&self, client: ClientId, gfid: Gfid, opens: Vec<OpenId>, why: LostBy) {
        opens.iter().for_each(|open| self.lock_lost(client, *open, why.word()));
        if self.settings.on_lost_lock == OnLostLock::Eio {
            let notice = LockNotice::Lost { gfid, opens, why };
            self.tell(Event::Lock(ClientNotice { client, notice }));
        }
        self.tell_old(gfid);
    }

    /// A lock that `client` took through `open` is gone, so nothing that was taken through it is believed any more.
    pub(crate) fn lock_lost(&self, client: ClientId, open: OpenId, why: &str) {
        let believed = self.believers.with(client, |beliefs| beliefs.end_open(open));
        match self.settings.on_lost_lock {
            OnLostLock::Ignore if believed => self.note_ignored(client, open, why),
            OnLostLock::Ignore => {}
            OnLostLock::Eio => {
                if self.clients.lose(client, open, Lost::Lock(why.into())) {
                    self.believers.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        xlator = %self.name, %client, open = open.0, why,
                        "a lock is lost: the file it was taken through answers EIO until it is closed"
                    );
                }
            }
        }
    }

    fn note_ignored(&self, client: ClientId, open: OpenId, why: &str) {
        self.believers.lost.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            xlator = %self.name, %client, open = open.0, why,
            "a lock is lost, and the file it was taken through is used on as `on-lost-lock ignore` has it"
        );
    }

    /// Others may have changed `gfid` while its lock was believed to be held.
    fn tell_old(&self, gfid: Gfid) {
        self.tell(Event::Invalidate { gfid, names: false, hold: Hold::default() });
    }
}
