//! Events of the graph, told to the kernel: what it keeps is old.
//!
//! The kernel drops pages under their locks, and holds the locks of those that a request of ours is about. A write under way
//! may itself wait until another mount has dropped what *it* keeps, and so on round. So the sender of an event is not
//! kept waiting for a file that this mount is changing at the moment: the kernel is told all the same, by a thread
//! that nobody waits for, and does it when the change is answered.
//!
//! A change that begins after an event came, and before the kernel has the locks, closes no ring: each mount in it would have
//! sent its change after the event that its neighbour's change caused, and so after its own.
//!
//! Not every page is locked while it is written: one may be dropped, and read again from a graph that has not executed
//! the write yet. Such pages are dropped once more when the write was answered ([`Front::drop_read_over`]).
//!
//! Names are dropped all at once, by the kernel's epoch: its call for one name takes the lock of the directory, which
//! is held by every operation of ours in it.
//!
//! Whoever gets a lock waits for what is to go of its file ([`Front::dropped_before_lock`]), and for no more than that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::locks::{ClientNotice, LockNotice, LostBy};
use brickwork_api::{Cancel, Event, Gfid, Hold, OpenId, blocking};
use brickwork_fuse::{NodeId, Notified, Notifier, NotifyError};
use parking_lot::Mutex;

use crate::drops::Dropping;
use crate::front::Front;

/// Nodes that one job tells the kernel of when everything is old.
const BATCH: usize = 256;
/// How often the kernel is told of a node that it does not know yet, and how long it is left alone in between.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);
/// How long an answer that grants a lock waits for the kernel to drop what it keeps of the file.
const BEFORE_LOCK_MAX: Duration = Duration::from_secs(30);

/// Files whose pages go when the changes under way are answered, and the thread that waits for it.
#[derive(Default)]
pub(crate) struct Later(Mutex<LaterFiles>);

#[derive(Default)]
struct LaterFiles {
    waiting: VecDeque<(NodeId, Gfid, Dropping)>,
    has_thread: bool,
}

impl Front {
    /// Acts on an event of the graph. Returns at once: the kernel is told from the pool.
    pub(crate) fn hear(self: &Arc<Front>, event: &Event) {
        match event {
            Event::Invalidate { gfid, names, hold } => self.invalidate(*gfid, *names, hold.clone()),
            Event::InvalidateAll { hold } => self.invalidate_all(hold),
            Event::ChildDown { .. } if self.flushes.is_away(true) => {
                let front = self.clone();
                self.host.spawn(Box::pin(async move { front.flushes.look(&*front.host).await }));
            }
            Event::Lock(ClientNotice { client, notice }) if *client == self.client.id() => {
                self.control.hear(event);
                if let LockNotice::Lost { gfid, opens, why } = notice {
                    self.tell_of_lost(*gfid, opens, *why);
                }
            }
            Event::ChildUp => drop(self.flushes.is_away(false)),
            _ => {}
        }
    }

    fn tell_of_lost(self: &Arc<Front>, gfid: Gfid, opens: &[OpenId], why: LostBy) {
        let count = self.lose(gfid, opens);
        if count > 0 {
            tracing::warn!(%gfid, opens = count, why = why.word(), "locks are gone; their open files answer EIO until they are closed");
        }
    }

    /// Notes that locks of `opens` of `gfid` are gone, and drops the pages that the kernel would show through them; returns
    /// how many of them are news.
    pub(crate) fn lose(self: &Arc<Front>, gfid: Gfid, opens: &[OpenId]) -> usize {
        let count = opens.iter().filter(|open| self.opens.lose(**open)).count();
        if count > 0
            && let Some(node) = self.nodes.find(gfid)
        {
            self.drop_untellable(node);
        }
        count
    }

    fn invalidate(self: &Arc<Front>, gfid: Gfid, names: bool, hold: Hold) {
        // Before the look at the table: an answer that is not in it yet finds the mark.
        self.coherence.invalidated(gfid);
        let node = self.nodes.find(gfid);
        if node.is_none() && !names {
            return;
        }
        let (front, dropping) = (self.clone(), self.drops.note(gfid));
        self.host.run_blocking(Box::new(move || {
            let Some(notifier) = front.notifier() else { return };
            if names {
                front.drop_names(notifier);
            }
            if let Some(node) = node {
                front.drop_object(notifier, node, gfid);
            }
            drop(dropping);
            drop(hold);
        }));
    }

    fn invalidate_all(self: &Arc<Front>, hold: &Hold) {
        self.coherence.all_invalidated();
        let dropping = Arc::new(self.drops.note_everything());
        let nodes = self.nodes.all();
        // At least one job: the names go also where the kernel knows of nothing else.
        for batch in nodes.chunks(BATCH).chain(nodes.is_empty().then_some(&[][..])) {
            let (front, batch, hold, dropping) = (self.clone(), batch.to_vec(), hold.clone(), dropping.clone());
            self.host.run_blocking(Box::new(move || {
                let Some(notifier) = front.notifier() else { return };
                front.drop_names(notifier);
                for (node, gfid) in batch {
                    front.drop_object(notifier, node, gfid);
                }
                drop(dropping);
                drop(hold);
            }));
        }
    }

    /// Drops what the kernel was just told of `node` and cannot be told not to keep.
    pub(crate) fn drop_untellable(self: &Arc<Front>, node: NodeId) {
        let Some(gfid) = self.nodes.gfid(node) else { return };
        self.drop_noted(node, gfid, self.drops.note(gfid));
    }

    /// As [`Front::drop_untellable`], of a drop that was noted before the kernel was told.
    pub(crate) fn drop_noted(self: &Arc<Front>, node: NodeId, gfid: Gfid, dropping: Dropping) {
        let front = self.clone();
        self.host.run_blocking(Box::new(move || {
            if let Some(notifier) = front.notifier() {
                front.drop_object(notifier, node, gfid);
            }
            drop(dropping);
        }));
    }

    /// Returns when the kernel keeps nothing of `gfid` that was noted to go before the call: what is shown under a lock is
    /// what the graph had when the lock was granted, or later.
    ///
    /// Done here once more and not waited for: a drop that is under way may be held up by other files. What it does wait
    /// for, pages of this file that a request has under way, waits for no lock; it ends without that after 30 s, and
    /// when `killed` is set, as then nobody looks.
    pub(crate) async fn dropped_before_lock(self: &Arc<Front>, gfid: Gfid, killed: &Cancel) {
        if !self.drops.concern(gfid) {
            return;
        }
        let Some(node) = self.nodes.find(gfid) else { return };
        let front = self.clone();
        let dropped = blocking(&*self.host, move || {
            if let Some(notifier) = front.notifier() {
                front.tell(gfid, || notifier.inval_inode(node, 0, 0));
            }
        });
        tokio::select! {
            dropped = tokio::time::timeout(BEFORE_LOCK_MAX, dropped) => match dropped {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, %gfid, "a lock is granted, and what was cached before is shown"),
                Err(_) => tracing::warn!(
                    %gfid, waited_s = BEFORE_LOCK_MAX.as_secs(),
                    "a lock is granted, and what was cached before may be shown: the kernel has not dropped it yet"
                ),
            },
            () = killed.cancelled() => {}
        }
    }

    /// Drops pages of `gfid` that were read while a change of this mount to them was under way, now that it was answered.
    pub(crate) fn drop_read_over(self: &Arc<Front>, gfid: Gfid) {
        if let Some(node) = self.nodes.find(gfid) {
            self.drop_later(node, gfid);
        }
    }

    /// Drops the listing and the names that the kernel has of the directory `node`.
    pub(crate) fn drop_listing(self: &Arc<Front>, node: NodeId, gfid: Gfid) {
        let front = self.clone();
        self.host.run_blocking(Box::new(move || {
            let Some(notifier) = front.notifier() else { return };
            front.drop_names(notifier);
            front.drop_object(notifier, node, gfid);
        }));
    }

    fn notifier(&self) -> Option<&Notifier> {
        self.started.get().map(|started| &started.notifier)
    }

    fn drop_names(&self, notifier: &Notifier) {
        if !self.keeps_names() {
            return;
        }
        if let Err(error @ (NotifyError::Changed(_) | NotifyError::Name | NotifyError::Refused(_))) =
            notifier.inc_epoch()
        {
            tracing::warn!(%error, "the kernel keeps names that may be old");
        }
    }

    /// Has the kernel drop attributes and pages of `node`; the pages later where a change of our own may hold them.
    fn drop_object(self: &Arc<Front>, notifier: &Notifier, node: NodeId, gfid: Gfid) {
        if self.coherence.is_changing(gfid) {
            self.tell(gfid, || notifier.inval_attributes(node));
            self.drop_later(node, gfid);
        } else {
            self.tell(gfid, || notifier.inval_inode(node, 0, 0));
        }
    }

    /// Tells the kernel until it knows the object, or we know that it has forgotten it.
    fn tell(&self, gfid: Gfid, tell: impl Fn() -> Result<Notified, NotifyError>) {
        for _ in 0..ATTEMPTS {
            match tell() {
                // The kernel takes a reply in after our write of it returned, and has no word for having done so. Until
                // then it does not know an object that we have told it of.
                Ok(Notified::NotKnown) if self.nodes.find(gfid).is_some() => std::thread::sleep(PAUSE),
                Ok(_) | Err(NotifyError::Ended) => return,
                Err(error) => {
                    tracing::warn!(%error, %gfid, "the kernel keeps what it cached of a changed object");
                    return;
                }
            }
        }
        tracing::debug!(%gfid, "the kernel does not know an object that it was told of");
    }

    fn drop_later(self: &Arc<Front>, node: NodeId, gfid: Gfid) {
        {
            let mut later = self.later.0.lock();
            if !later.waiting.iter().any(|(waiting, of, _)| (*waiting, *of) == (node, gfid)) {
                later.waiting.push_back((node, gfid, self.drops.note(gfid)));
            }
            if std::mem::replace(&mut later.has_thread, true) {
                return;
            }
        }
        let front = self.clone();
        let work = move || front.drop_waiting();
        if let Err(error) = std::thread::Builder::new().name("fuse-later".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread to wait for pages of files that are being written; the pool does it");
            let front = self.clone();
            self.host.run_blocking(Box::new(move || front.drop_waiting()));
        }
    }

    fn drop_waiting(&self) {
        let Some(notifier) = self.notifier() else { return };
        loop {
            let (node, gfid, _dropping) = {
                let mut later = self.later.0.lock();
                match later.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        later.has_thread = false;
                        return;
                    }
                }
            };
            self.tell(gfid, || notifier.inval_inode(node, 0, 0));
        }
    }
}
