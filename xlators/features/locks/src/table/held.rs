//! The locks that are held, and how they are found.

use std::ops::ControlFlow;

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use smallvec::SmallVec;

use super::types::{Lock, LockId, Mode, OwnerKey};

/// Locks of one owner that a change touches.
pub(super) type Near = SmallVec<[Lock; 2]>;

#[derive(Debug, Default)]
pub(super) struct Held {
    /// By start, then by number.
    locks: Vec<Lock>,
}

impl Held {
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Lock> {
        self.locks.iter().copied()
    }

    pub fn find(&self, id: LockId) -> Option<Lock> {
        self.iter().find(|lock| lock.id == id)
    }

    pub fn insert(&mut self, lock: Lock) {
        let key = (lock.range.start(), lock.id);
        let at = self.locks.partition_point(|other| (other.range.start(), other.id) < key);
        self.locks.insert(at, lock);
    }

    pub fn remove(&mut self, lock: &Lock) {
        let at = self.locks.iter().position(|other| other.id == lock.id);
        self.locks.remove(at.expect("a lock of this table"));
    }

    /// Those of `owner` that overlap `range` or touch it, by start.
    pub fn near(&self, owner: OwnerKey, range: ByteRange) -> Near {
        let near = |lock: &Lock| lock.owner == owner && (lock.range.overlaps(range) || lock.range.touches(range));
        self.iter().filter(near).collect()
    }

    pub fn count_of(&self, owner: OwnerKey) -> usize {
        self.locks.iter().filter(|lock| lock.owner == owner).count()
    }

    pub fn of_open(&self, open: OpenId) -> Vec<Lock> {
        self.iter().filter(|lock| lock.tag.open == open).collect()
    }

    /// Those that shut `owner` out, by start, until `visit` breaks.
    pub fn for_each_conflict(
        &self,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        visit: &mut dyn FnMut(&Lock) -> ControlFlow<()>,
    ) {
        _ = self.locks.iter().filter(|lock| lock.shuts_out(owner, range, mode)).try_for_each(visit);
    }
}
