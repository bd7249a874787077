//! Demands to drop something that are not acknowledged yet, and the changes that wait for them.
//!
//! No sockets here: [`Caches`](super::Caches) sends what is opened, and tells what was acknowledged or given up.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::Gfid;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::registry::{NoticeId, Notices, SessionKey};

/// A demand to a session to drop what it keeps of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// What the acknowledgement names.
    pub(crate) id: NoticeId,
    pub(crate) session: SessionKey,
    pub(crate) gfid: Gfid,
    /// Also the names in it.
    pub(crate) names: bool,
}

/// How a notice travels.
pub(crate) trait Tell {
    /// Sends `notice` to its session. Must not wait.
    fn tell(&self, notice: &Notice) -> Reach;
}

impl<T: Fn(&Notice) -> Reach> Tell for T {
    fn tell(&self, notice: &Notice) -> Reach {
        self(notice)
    }
}

/// Whether a session can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is on its way; the session acknowledges it or is silent.
    Sent,
    /// The session has no connection. What it keeps counts until then: its last sign of life and `invalidate-timeout`.
    Detached(Instant),
    /// There is no such session any more, so it keeps nothing.
    Gone,
}

/// Notices that are open.
#[derive(Default)]
pub(crate) struct Acks {
    last: AtomicU64,
    open: Mutex<HashMap<NoticeId, Open>>,
}

struct Open {
    notice: Notice,
    rounds: SmallVec<[Arc<Round>; 1]>,
}

/// What one change waits for.
#[derive(Default)]
pub(super) struct Round {
    waiting: Mutex<SmallVec<[Awaited; 2]>>,
    fewer: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    notice: Notice,
    /// Instead of the deadline of the round: when what is kept by a session that cannot be told no longer counts, or how
    /// long one has that was told again.
    until: Option<Instant>,
}

/// The notices of one change, as the registry finds who has to be told.
pub(super) struct Gathering<'a> {
    acks: &'a Acks,
    /// Made for the first notice: nearly always there is none.
    pub(super) round: Option<Arc<Round>>,
    /// What was opened and has to be sent.
    pub(super) opened: SmallVec<[Notice; 2]>,
}

impl Acks {
    pub(super) fn gather(&self) -> Gathering<'_> {
        Gathering { acks: self, round: None, opened: SmallVec::new() }
    }

    /// Ends `id`, if it is open and of `session`; returns what it was.
    pub(super) fn close(&self, session: SessionKey, id: NoticeId) -> Option<Notice> {
        let closed = {
            let mut open = self.open.lock();
            if open.get(&id)?.notice.session != session {
                return None;
            }
            open.remove(&id)?
        };
        for round in &closed.rounds {
            round.done(id);
        }
        Some(closed.notice)
    }

    /// Notes until when the session of `id` has time, whatever the changes say that wait for it: it cannot be told, and what
    /// it keeps counts until then; or it is told again.
    pub(super) fn ends(&self, id: NoticeId, until: Instant) {
        let open = self.open.lock();
        for round in open.get(&id).iter().flat_map(|open| &open.rounds) {
            round.ends(id, until);
        }
    }

    /// What `session` has not acknowledged.
    pub(super) fn of(&self, session: SessionKey) -> Vec<Notice> {
        self.open.lock().values().map(|open| open.notice).filter(|notice| notice.session == session).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Notices for Gathering<'_> {
    fn open(&mut self, session: SessionKey, gfid: Gfid, names: bool) -> NoticeId {
        let number = self.acks.last.fetch_add(1, Ordering::Relaxed) + 1;
        let id = NonZeroU64::new(number).expect("2^64 notices take longer than the machine lasts");
        let notice = Notice { id, session, gfid, names };
        let round = self.round.get_or_insert_default();
        round.waiting.lock().push(Awaited { notice, until: None });
        let rounds = SmallVec::from([round.clone()]);
        self.acks.open.lock().insert(id, Open { notice, rounds });
        self.opened.push(notice);
        id
    }

    fn join(&mut self, id: NoticeId) {
        let mut open = self.acks.open.lock();
        // Not there: it was acknowledged a moment ago, after all that it covers had been kept.
        let Some(open) = open.get_mut(&id) else { return };
        // What is known of its end is known to the first that waits for it.
        let until = open.rounds.first().and_then(|round| round.end_of(id));
        let round = self.round.get_or_insert_default();
        round.waiting.lock().push(Awaited { notice: open.notice, until });
        open.rounds.push(round.clone());
    }
}

impl Round {
    fn done(&self, id: NoticeId) {
        self.waiting.lock().retain(|awaited| awaited.notice.id != id);
        self.fewer.notify_one();
    }

    fn ends(&self, id: NoticeId, until: Instant) {
        for awaited in self.waiting.lock().iter_mut().filter(|awaited| awaited.notice.id == id) {
            awaited.until = Some(until);
        }
        self.fewer.notify_one();
    }

    fn end_of(&self, id: NoticeId) -> Option<Instant> {
        self.waiting.lock().iter().find(|awaited| awaited.notice.id == id).and_then(|awaited| awaited.until)
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Waits until something is over: every notice acknowledged, or one past its own end or else `deadline`.
    pub(super) async fn next(&self, deadline: Instant) -> Over {
        loop {
            let wake = {
                let waiting = self.waiting.lock();
                if waiting.is_empty() {
                    return Over::All;
                }
                let now = Instant::now();
                let end = |awaited: &Awaited| awaited.until.unwrap_or(deadline);
                let first = waiting.iter().min_by_key(|awaited| end(awaited)).expect("there is one that is waited for");
                if end(first) <= now {
                    return Over::Silent(first.notice);
                }
                end(first)
            };
            // A notice that ends between the look and this wait has left its permit.
            tokio::select! {
                () = self.fewer.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }
}

/// What a wait came to.
#[derive(Debug)]
pub(super) enum Over {
    /// Everything was acknowledged or given up.
    All,
    /// The session was told and did not answer in time, or could not be told, and what it keeps no longer counts.
    Silent(Notice),
}
