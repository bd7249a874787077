//! Who may have cached what, and who has to be told of a change.
//!
//! One [`Caches`] for each export. Around every fop of a session:
//!
//! ```ignore
//! let moment = caches.now();                                     // before the child is asked
//! let mut outcome = F::call(&*child, &cx, &request).await;
//! let after = caches.after::<F>(session, moment, &request, &mut outcome, &tell);
//! if let Some(waiting) = after.aside {
//!     tokio::spawn(waiting.all(invalidate_timeout, detach));      // room was made; nobody's reply waits for it
//! }
//! if let Some(waiting) = after.change {
//!     waiting.all(invalidate_timeout, detach).await;              // the others have dropped what was changed
//! }
//! // Only now the reply, which says `UNCACHED` if nothing of it may be kept.
//! ```
//!
//! `tell` sends an `Invalidate` and says whether the session can be reached ([`Tell`]); its acknowledgement comes back by
//! [`Caches::acknowledged`]. `detach` is asked for a session that stayed silent: it closes its connection, and returns
//! until when what the session keeps counts (its last sign of life and `invalidate-timeout`), or `None` if it is gone.
//!
//! What a session must do for this to hold: once it has heard nothing of the server for `invalidate-timeout`, counted from
//! the *sending* of its last answered ping, it keeps nothing any more. What a session that was detached keeps still counts when
//! it comes back, until then and after it: it is told again what it has not acknowledged ([`Caches::tell_again`]). Of what was
//! kept in an earlier life of the server nothing is known here, so a client that meets another life drops it before it
//! attaches.
//!
//! Why what an answer tells is noted after the fop and not before: a change that came in between may have been told and
//! acknowledged before the fop read anything, and the next one would then find nobody. So the answer's moment is compared with
//! the last change by another session; when that is later, the answer may not be kept.

mod acks;
mod registry;
#[cfg(test)]
mod tests;
mod touch;

use std::sync::Arc;
use std::time::Duration;

use brickwork_api::xdata::UNCACHED;
use brickwork_api::{FopError, FopResult, FopType, Gfid};
use tokio::time::Instant;

pub(crate) use acks::{Notice, Reach, Tell};
pub(crate) use registry::{Limits, Moment, NoticeId, SessionKey};

use acks::{Acks, Over, Round};
use registry::Registry;
use touch::touches;

/// What the sessions of one export may keep, and the notices on their way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caches(Arc<Inner>);

struct Inner {
    registry: Registry,
    acks: Acks,
}

/// What is to be done after a fop, before and beside its reply.
#[must_use]
pub(crate) struct After {
    /// The reply waits for it.
    pub(crate) change: Option<Waiting>,
    /// To be waited for by somebody: objects that were asked back to make room.
    pub(crate) aside: Option<Waiting>,
}

/// Sessions that were told to drop something.
#[must_use]
pub(crate) struct Waiting {
    caches: Caches,
    round: Arc<Round>,
}

impl Caches {
    pub(crate) fn new(limits: Limits) -> Caches {
        Caches(Arc::new(Inner { registry: Registry::new(limits), acks: Acks::default() }))
    }

    /// The moment before a fop is done.
    pub(crate) fn now(&self) -> Moment {
        self.0.registry.now()
    }

    /// Notes what `request` of `session`, begun at `since` and done with `outcome`, told of and changed. Tells those who
    /// kept what was changed, and marks an outcome that may not be kept.
    pub(crate) fn after<F: FopType>(
        &self,
        session: SessionKey,
        since: Moment,
        request: &F::Request,
        outcome: &mut FopResult<F::Reply>,
        tell: &impl Tell,
    ) -> After {
        let Inner { registry, acks } = &*self.0;
        let touch = touches::<F>(request, outcome);
        let mut aside = acks.gather();
        let mut kept = true;
        for told in &touch.told {
            let since = told.shown.then_some(since);
            kept &= registry.told(session, told.gfid, told.kept, since, &mut aside);
        }
        if !kept {
            mark_uncached::<F>(outcome);
        }
        let mut change = acks.gather();
        for changed in &touch.changed {
            registry.changed(session, changed.gfid, changed.what, &mut change);
        }
        let (aside, change) = ((aside.opened, aside.round), (change.opened, change.round));
        let waiting = |(opened, round): (_, Option<Arc<Round>>)| {
            self.send(opened, tell);
            round.filter(|round| !round.is_done()).map(|round| Waiting { caches: self.clone(), round })
        };
        After { change: waiting(change), aside: waiting(aside) }
    }

    /// Notes that `session` has dropped what the notice `id` named. A number that is not one of its own says nothing.
    pub(crate) fn acknowledged(&self, session: SessionKey, id: NoticeId) {
        if let Some(notice) = self.0.acks.close(session, id) {
            self.0.registry.acknowledged(session, notice.gfid, id);
        }
    }

    /// Notes that `session` keeps nothing of `gfids` any more: it said so by `forget`.
    pub(crate) fn forgotten(&self, session: SessionKey, gfids: &[Gfid]) {
        for gfid in gfids {
            self.0.registry.forgotten(session, *gfid);
        }
    }

    /// Notes that `session` keeps nothing at all: it has ended, or has said so when it came back.
    pub(crate) fn drop_session(&self, session: SessionKey) {
        self.0.registry.drop_session(session);
        for notice in self.0.acks.of(session) {
            self.acknowledged(session, notice.id);
        }
    }

    /// Tells `session`, which has come back, what it has not acknowledged; from now it has `timeout` to do so.
    pub(crate) fn tell_again(&self, session: SessionKey, timeout: Duration, tell: &impl Tell) {
        let deadline = Instant::now() + timeout;
        let open = self.0.acks.of(session);
        open.iter().for_each(|notice| self.0.acks.ends(notice.id, deadline));
        self.send(open, tell);
    }

    /// Objects that somebody may keep, and notices that are not acknowledged, for `status`.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.0.registry.len(), self.0.acks.len())
    }

    fn send(&self, opened: impl IntoIterator<Item = Notice>, tell: &impl Tell) {
        for notice in opened {
            match tell.tell(&notice) {
                Reach::Sent => {}
                Reach::Detached(until) => self.0.acks.ends(notice.id, until),
                Reach::Gone => self.acknowledged(notice.session, notice.id),
            }
        }
    }
}

impl Waiting {
    /// Waits until every session that was told has dropped what it kept, or what it keeps no longer counts.
    ///
    /// One that was told and does not answer within `timeout` is handed to `silent`, which cuts it off and says until when
    /// what it keeps counts; `None` when that is over already. So is one that could not be told when its end comes: it may
    /// have come back meanwhile.
    ///
    /// # Cancel
    /// Safe: the notices stay open, and whoever changes the same object next waits for them.
    pub(crate) async fn all(self, timeout: Duration, mut silent: impl FnMut(SessionKey) -> Option<Instant>) {
        let deadline = Instant::now() + timeout;
        loop {
            match self.round.next(deadline).await {
                Over::All => return,
                Over::Silent(notice) => match silent(notice.session).filter(|until| *until > Instant::now()) {
                    Some(until) => self.caches.0.acks.ends(notice.id, until),
                    None => self.caches.acknowledged(notice.session, notice.id),
                },
            }
        }
    }
}

/// Marks an outcome of which nothing may be kept.
pub(crate) fn mark_uncached<F: FopType>(outcome: &mut FopResult<F::Reply>) {
    match outcome {
        Ok(reply) => F::reply_xdata(reply).insert(&UNCACHED, true),
        Err(error) => {
            let bare = FopError::new(error.errno());
            let bare = std::mem::replace(error, bare);
            let xdata = bare.xdata().clone().with(&UNCACHED, true);
            *error = bare.with_xdata(xdata);
        }
    }
}
