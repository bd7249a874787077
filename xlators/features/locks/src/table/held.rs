//! The locks that are held, and how they are found.
//!
//! One is kept in place, a few in a list, and many in a tree by position with an index by owner and one by open: what is
//! small costs nothing beside its locks, what is large costs O(log n).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use smallvec::SmallVec;

use super::spans::{Span, Spans, Wanted};
use super::types::{Ask, Lock, LockId, Mode, OwnerKey};

/// Locks of one owner that a change touches, by start.
pub(super) type Near = SmallVec<[Lock; 2]>;

/// The longest list; a tree becomes a list again when half as many are left.
const FEW: usize = 16;

#[derive(Debug)]
pub(super) enum Held {
    One(Lock),
    /// By start, then by number; none or several.
    Few(Vec<Lock>),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
pub(super) struct Many {
    locks: Spans<Lock>,
    /// By owner and start.
    owners: BTreeMap<(OwnerKey, u64), LockId>,
    /// With the start.
    opens: BTreeSet<(OpenId, u64, LockId)>,
}

impl Span for Lock {
    fn range(&self) -> ByteRange {
        self.range
    }

    fn number(&self) -> u64 {
        self.id.0
    }

    fn exclusive(&self) -> bool {
        self.mode == Mode::Exclusive
    }
}

impl Default for Held {
    fn default() -> Held {
        Held::Few(Vec::new())
    }
}

fn conflicting(range: ByteRange, mode: Mode) -> Wanted {
    Wanted { range, exclusive: mode == Mode::Shared, before: u64::MAX }
}

fn is_near(lock: &Lock, owner: OwnerKey, range: ByteRange) -> bool {
    lock.owner == owner && (lock.range.overlaps(range) || lock.range.touches(range))
}

impl Held {
    pub fn len(&self) -> usize {
        match self {
            Held::One(_) => 1,
            Held::Few(locks) => locks.len(),
            Held::Many(many) => many.locks.len(),
        }
    }

    /// By start, then by number.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Lock> + '_> {
        match self.few() {
            Ok(locks) => Box::new(locks.iter().copied()),
            Err(many) => Box::new(many.locks.iter().copied()),
        }
    }

    fn few(&self) -> Result<&[Lock], &Many> {
        match self {
            Held::One(lock) => Ok(std::slice::from_ref(lock)),
            Held::Few(locks) => Ok(locks),
            Held::Many(many) => Err(many),
        }
    }

    pub fn insert(&mut self, lock: Lock) {
        match self {
            Held::Few(locks) if locks.is_empty() => *self = Held::One(lock),
            Held::One(first) => {
                let mut both = vec![*first, lock];
                both.sort_unstable_by_key(Span::key);
                *self = Held::Few(both);
            }
            Held::Few(locks) if locks.len() < FEW => {
                let at = locks.partition_point(|other| other.key() < lock.key());
                locks.insert(at, lock);
            }
            Held::Few(locks) => {
                let mut many = Box::<Many>::default();
                locks.iter().for_each(|lock| many.insert(*lock));
                many.insert(lock);
                *self = Held::Many(many);
            }
            Held::Many(many) => many.insert(lock),
        }
    }

    /// Takes a lock of this table out.
    pub fn remove(&mut self, lock: &Lock) {
        match self {
            Held::One(one) => {
                assert_eq!(one.id, lock.id, "a lock of this table");
                *self = Held::default();
            }
            Held::Few(locks) => {
                let at = locks.iter().position(|other| other.id == lock.id);
                locks.remove(at.expect("a lock of this table"));
                if let [one] = locks[..] {
                    *self = Held::One(one);
                }
            }
            Held::Many(many) => {
                many.remove(lock);
                if many.locks.len() <= FEW / 2 {
                    *self = Held::Few(many.locks.iter().copied().collect());
                }
            }
        }
    }

    /// Those of `owner` that overlap `range` or touch it, by start.
    pub fn near(&self, owner: OwnerKey, range: ByteRange) -> Near {
        match self.few() {
            Ok(locks) => locks.iter().filter(|lock| is_near(lock, owner, range)).copied().collect(),
            Err(many) => many.near(owner, range),
        }
    }

    pub fn count_of(&self, owner: OwnerKey) -> usize {
        match self.few() {
            Ok(locks) => locks.iter().filter(|lock| lock.owner == owner).count(),
            Err(many) => many.owners.range((owner, 0)..=(owner, u64::MAX)).count(),
        }
    }

    pub fn any_of(&self, owner: OwnerKey) -> bool {
        match self.few() {
            Ok(locks) => locks.iter().any(|lock| lock.owner == owner),
            Err(many) => many.owners.range((owner, 0)..=(owner, u64::MAX)).next().is_some(),
        }
    }

    /// Those of `owner`, by start, unless there are more than `limit`.
    pub fn few_of(&self, owner: OwnerKey, limit: usize) -> Option<Near> {
        let found: Near = match self.few() {
            Ok(locks) => locks.iter().filter(|lock| lock.owner == owner).take(limit + 1).copied().collect(),
            Err(many) => {
                let keys = many.owners.range((owner, 0)..=(owner, u64::MAX)).take(limit + 1);
                keys.map(|(&(_, start), &id)| many.get(start, id)).collect()
            }
        };
        (found.len() <= limit).then_some(found)
    }

    /// Whether `owner` has a lock that `ask` waits for.
    pub fn holds_up(&self, owner: OwnerKey, ask: &Ask) -> bool {
        let shuts_out = |lock: &Lock| lock.owner == owner && lock.shuts_out(ask.owner, ask.range, ask.mode);
        match self.few() {
            Ok(locks) => locks.iter().any(shuts_out),
            Err(many) => many.about(owner, ask.range).any(|lock| shuts_out(&lock)),
        }
    }

    /// Those that were taken last through an open of that number, by start, then by number.
    pub fn of_open(&self, open: OpenId) -> Vec<Lock> {
        match self.few() {
            Ok(locks) => locks.iter().filter(|lock| lock.tag.open == open).copied().collect(),
            Err(many) => {
                let keys = many.opens.range((open, 0, LockId(0))..=(open, u64::MAX, LockId(u64::MAX)));
                keys.map(|&(_, start, id)| many.get(start, id)).collect()
            }
        }
    }

    /// Those that shut `owner` out, by start, then by number, until `visit` breaks.
    pub fn for_each_conflict(
        &self,
        owner: OwnerKey,
        range: ByteRange,
        mode: Mode,
        visit: &mut dyn FnMut(&Lock) -> ControlFlow<()>,
    ) {
        match self.few() {
            Ok(locks) => _ = locks.iter().filter(|lock| lock.shuts_out(owner, range, mode)).try_for_each(visit),
            Err(many) => {
                _ = many.locks.visit(&conflicting(range, mode), &mut |lock| match lock.owner == owner {
                    true => ControlFlow::Continue(()),
                    false => visit(lock),
                })
            }
        }
    }

    /// Any of those. The choice differs with `salt`, so that a crowd does not stand behind one lock and then behind the
    /// next one, in whichever order they go.
    pub fn any_conflict(&self, owner: OwnerKey, range: ByteRange, mode: Mode, salt: u64) -> Option<LockId> {
        let any = match self.few() {
            Ok(locks) => locks.iter().find(|lock| lock.shuts_out(owner, range, mode)),
            Err(many) => many.any_conflict(owner, &conflicting(range, mode), salt),
        };
        any.map(|lock| lock.id)
    }
}

impl Many {
    fn get(&self, start: u64, id: LockId) -> Lock {
        *self.locks.get((start, id.0)).expect("an index of what is held")
    }

    fn insert(&mut self, lock: Lock) {
        self.owners.insert((lock.owner, lock.range.start()), lock.id);
        self.opens.insert((lock.tag.open, lock.range.start(), lock.id));
        self.locks.insert(lock);
    }

    fn remove(&mut self, lock: &Lock) {
        let removed = self.locks.remove(lock.key()).expect("a lock of this table");
        self.owners.remove(&(removed.owner, removed.range.start()));
        self.opens.remove(&(removed.tag.open, removed.range.start(), removed.id));
    }

    fn any_conflict(&self, owner: OwnerKey, wanted: &Wanted, salt: u64) -> Option<&Lock> {
        let mut of_others = |lock: &Lock| lock.owner != owner;
        let last = self.locks.last(wanted, &mut of_others)?;
        let lowest = self.locks.lowest();
        let mixed = (salt ^ last.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let before = lowest + 1 + mixed % (last.id.0 - lowest + 1);
        self.locks.last(&Wanted { before, ..*wanted }, &mut of_others).or(Some(last))
    }

    fn near(&self, owner: OwnerKey, range: ByteRange) -> Near {
        self.about(owner, range).filter(|lock| is_near(lock, owner, range)).collect()
    }

    /// All of `owner` that overlap the range or touch it, and at most one more.
    fn about(&self, owner: OwnerKey, range: ByteRange) -> impl Iterator<Item = Lock> {
        // Only the last that starts before the range can reach it: they are disjoint.
        let before = self.owners.range((owner, 0)..(owner, range.start())).next_back();
        let rest = self.owners.range((owner, range.start())..=(owner, range.end()));
        before.into_iter().chain(rest).map(|(&(_, start), &id)| self.get(start, id))
    }
}
