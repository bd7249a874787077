//! What is true of answers on their way when the graph says that an object changed, and which objects this mount is
//! changing itself.
//!
//! An invalidation may overtake an answer that shows the object as it was. The kernel looks after what it knew before it
//! asked; of an object that it is told of for the first time it cannot know. So each invalidation leaves a mark with its
//! moment, and an answer to a question that was asked before that moment is told to the kernel as good for no time at
//! all. Objects share marks: an answer then loses its caching for nothing, which the next look repairs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::Gfid;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::front::Front;

const MARKS: usize = 4096;
const SHARDS: usize = 16;

/// A point in the order of invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// What one answer, or the last of a chain, says about being kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    /// When it was asked.
    pub(crate) since: Moment,
    /// Nobody tells when it changes.
    pub(crate) uncached: bool,
}

/// Invalidations that came, and changes of our own that are under way.
pub(crate) struct Coherence {
    moments: AtomicU64,
    /// The last time that everything was called old.
    all: AtomicU64,
    marks: Box<[AtomicU64]>,
    changes: AtomicU64,
    changing: [Mutex<HashMap<Gfid, SmallVec<[Change; 1]>>>; SHARDS],
}

/// A change of the content of one object that is under way.
struct Change {
    number: u64,
    bytes: Range<u64>,
    /// Some of the bytes were read from the graph meanwhile.
    read: bool,
}

impl Coherence {
    pub(crate) fn new() -> Coherence {
        Coherence {
            moments: AtomicU64::new(0),
            all: AtomicU64::new(0),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            changes: AtomicU64::new(0),
            changing: Default::default(),
        }
    }

    /// The moment before a question.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.moments.load(Ordering::SeqCst))
    }

    /// Notes that what was answered of `gfid` so far is old.
    pub(crate) fn invalidated(&self, gfid: Gfid) {
        let moment = self.moments.fetch_add(1, Ordering::SeqCst) + 1;
        self.mark(gfid).fetch_max(moment, Ordering::SeqCst);
    }

    /// Notes that everything answered so far is old.
    pub(crate) fn all_invalidated(&self) {
        let moment = self.moments.fetch_add(1, Ordering::SeqCst) + 1;
        self.all.fetch_max(moment, Ordering::SeqCst);
    }

    /// Whether an answer about `gfid`, asked for at `since`, was overtaken.
    pub(crate) fn overtaken(&self, gfid: Gfid, since: Moment) -> bool {
        self.mark(gfid).load(Ordering::SeqCst).max(self.all.load(Ordering::SeqCst)) > since.0
    }

    /// Notes that this mount begins to change `bytes` of `gfid`; one [`Coherence::changed`] with the number follows.
    fn change(&self, gfid: Gfid, bytes: Range<u64>) -> u64 {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        self.shard(gfid).lock().entry(gfid).or_default().push(Change { number, bytes, read: false });
        number
    }

    /// Ends a change; whether some of its bytes were read meanwhile.
    fn changed(&self, gfid: Gfid, number: u64) -> bool {
        let mut shard = self.shard(gfid).lock();
        let Some(changes) = shard.get_mut(&gfid) else { return false };
        let Some(place) = changes.iter().position(|change| change.number == number) else { return false };
        let read = changes.swap_remove(place).read;
        if changes.is_empty() {
            shard.remove(&gfid);
        }
        read
    }

    /// Notes that the kernel reads `bytes` of `gfid` from the graph.
    ///
    /// It does so while it writes the same bytes only when an invalidation took the page away in between: the page it gets
    /// may be from before its own write, about which nobody will tell it.
    pub(crate) fn reads(&self, gfid: Gfid, bytes: &Range<u64>) {
        if let Some(changes) = self.shard(gfid).lock().get_mut(&gfid) {
            for change in changes.iter_mut() {
                change.read |= change.bytes.start < bytes.end && bytes.start < change.bytes.end;
            }
        }
    }

    /// Whether a change of the content of `gfid` by this mount is under way.
    pub(crate) fn is_changing(&self, gfid: Gfid) -> bool {
        self.shard(gfid).lock().contains_key(&gfid)
    }

    fn mark(&self, gfid: Gfid) -> &AtomicU64 {
        &self.marks[gfid.ino() as usize % MARKS]
    }

    fn shard(&self, gfid: Gfid) -> &Mutex<HashMap<Gfid, SmallVec<[Change; 1]>>> {
        &self.changing[gfid.ino() as usize % SHARDS]
    }
}

/// A change of our own under way; the kernel may hold pages of the file locked until it is answered.
pub(crate) struct Changing {
    front: Arc<Front>,
    gfid: Gfid,
    number: u64,
}

impl Changing {
    pub(crate) fn begin(front: Arc<Front>, gfid: Gfid, bytes: Range<u64>) -> Changing {
        let number = front.coherence.change(gfid, bytes);
        Changing { front, gfid, number }
    }
}

impl Drop for Changing {
    /// Ends when its answer has come: what was read over it goes.
    fn drop(&mut self) {
        if self.front.coherence.changed(self.gfid, self.number) {
            self.front.drop_read_over(self.gfid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gfid(low: u64) -> Gfid {
        Gfid::from_bytes(u128::from(low).to_be_bytes())
    }

    #[test]
    fn an_answer_asked_for_before_an_invalidation_is_overtaken_and_a_later_one_is_not() {
        let coherence = Coherence::new();
        let before = coherence.now();
        coherence.invalidated(gfid(7));
        assert!(coherence.overtaken(gfid(7), before));
        assert!(!coherence.overtaken(gfid(8), before), "another object");
        assert!(!coherence.overtaken(gfid(7), coherence.now()));
    }

    #[test]
    fn when_everything_is_old_every_answer_on_its_way_is_overtaken() {
        let coherence = Coherence::new();
        let before = coherence.now();
        coherence.all_invalidated();
        assert!(coherence.overtaken(gfid(7), before) && coherence.overtaken(gfid(8), before));
        assert!(!coherence.overtaken(gfid(7), coherence.now()));
    }

    #[test]
    fn a_file_is_changing_until_the_last_of_its_changes_is_over() {
        let coherence = Coherence::new();
        let (first, second) = (coherence.change(gfid(7), 0..10), coherence.change(gfid(7), 10..20));
        coherence.reads(gfid(7), &(10..30));
        coherence.reads(gfid(8), &(0..30));
        assert!(!coherence.changed(gfid(7), first), "other bytes were read");
        assert!(coherence.is_changing(gfid(7)) && !coherence.is_changing(gfid(7 + SHARDS as u64)));
        assert!(coherence.changed(gfid(7), second), "read over the change");
        assert!(!coherence.is_changing(gfid(7)));
        assert!(coherence.changing.iter().all(|shard| shard.lock().is_empty()));
    }
}
