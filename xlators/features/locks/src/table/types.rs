//! What goes into a table and what comes out of it.

use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// An owner, (client, lk-owner), as its brick has numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnerKey(pub u32);

/// A held lock, for people. A lock whose range or type changes becomes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockId(pub u64);

/// A waiting request, as its brick has numbered it; unique in the brick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WaiterId(pub u64);

/// Whom a lock shuts out: writers, or everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Any number of owners hold it.
    Shared,
    /// One owner holds it, and nobody else anything.
    Exclusive,
}

impl Mode {
    /// Whether locks of two owners on one byte shut each other out.
    #[must_use]
    pub const fn conflicts(self, other: Mode) -> bool {
        matches!(self, Mode::Exclusive) || matches!(other, Mode::Exclusive)
    }
}

/// What travels with a lock for others than the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// The open through which it was taken last.
    pub open: OpenId,
    /// The process that took it last, for people.
    pub process: u32,
    /// Since when its owner has held some of it without a gap, in milliseconds of the brick's clock.
    pub since_ms: u64,
    /// Others' I/O on the range is refused under `mandatory-locking optimal`.
    pub mandatory: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ask {
    /// Who.
    pub owner: OwnerKey,
    /// Where.
    pub range: ByteRange,
    /// How.
    pub mode: Mode,
    /// What is noted with the lock.
    pub tag: Tag,
}

/// A held lock, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lock {
    /// Its number.
    pub id: LockId,
    /// Who holds it.
    pub owner: OwnerKey,
    /// Where.
    pub range: ByteRange,
    /// How.
    pub mode: Mode,
    /// What was noted with it.
    pub tag: Tag,
}

impl Lock {
    /// Whether `owner` may not have `mode` on `range` while this is held.
    #[must_use]
    pub fn shuts_out(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> bool {
        self.owner != owner && self.mode.conflicts(mode) && self.range.overlaps(range)
    }
}

/// A request in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waiter {
    /// Its number.
    pub id: WaiterId,
    /// What it waits for.
    pub ask: Ask,
}

/// Waiters that have left the queue, oldest first: to answer and wake them is the caller's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// They hold their locks now, taken in this order.
    pub granted: SmallVec<[Waiter; 1]>,
    /// How many locks more the owner of each of `granted` has by that: fewer where it was joined to others, two where it
    /// split one.
    pub more: SmallVec<[i32; 1]>,
    /// Nothing stood in their way, but the table had no room: `ENOLCK`.
    pub refused: SmallVec<[Waiter; 0]>,
}

impl Effects {
    /// How many locks more the table has by what it granted.
    #[must_use]
    pub fn let_in(&self) -> i64 {
        self.more.iter().copied().map(i64::from).sum()
    }

    /// Whether no waiter has left the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.refused.is_empty()
    }
}

/// Why a change was not made; the table is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another owner holds this one: `EAGAIN`.
    Conflict(Lock),
    /// It would have more locks than it may: `ENOLCK`.
    Full,
}

/// What has become of a request that may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It holds its lock; a downgrade may have freed others.
    Granted(Effects),
    /// It is the last in the queue. That may have freed others; whom that freed in turn may be itself, which is then
    /// answered as they are.
    Queued(Effects),
}

/// What was taken from an owner, and who has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Its locks, by start.
    pub locks: Vec<Lock>,
    /// Its waiters, oldest first; they were granted nothing.
    pub waiters: Vec<Waiter>,
    /// Waiters of others that left the queue by that.
    pub effects: Effects,
}

/// Something that a waiter waits for: either a held lock or an earlier waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocker {
    /// Whose it is.
    pub owner: OwnerKey,
    /// The held lock.
    pub lock: Option<LockId>,
    /// The earlier waiter.
    pub waiter: Option<WaiterId>,
}

/// Hands out the numbers of locks: `first`, `first + step`, and so on.
///
/// Tables whose calls a journal replays in another order than they were made in need one each: a shard of `n` takes
/// its own number as `first` and `n` as `step`, and the numbers of a brick are unique all the same.
#[derive(Debug)]
pub struct Ids {
    next: AtomicU64,
    step: u64,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids::new(1, 1)
    }
}

impl Ids {
    /// The next is `first`; `step` is at least 1.
    #[must_use]
    pub const fn new(first: u64, step: u64) -> Ids {
        assert!(step > 0, "numbers must differ");
        Ids { next: AtomicU64::new(first), step }
    }

    /// Another one; unique among those of this object.
    pub fn next(&self) -> LockId {
        LockId(self.next.fetch_add(self.step, Ordering::Relaxed))
    }

    /// What [`next`](Ids::next) will answer, for a snapshot; [`new`](Ids::new) goes on from there.
    #[must_use]
    pub fn upcoming(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}
