//! What the journal holds: each change of the locks, as it was applied.
//!
//! A restart applies the same records by the same functions, in the order of the journal. A snapshot is the shortest such
//! history of the present state.

use brickwork_api::locks::{Attaching, LostBy};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{ClientId, Gfid, LkKind, LkOwner, OpenId};
use serde::{Deserialize, Serialize};

use crate::between::BetweenLk;
use crate::table::{LockId, Mode, Tag, WaiterId};

/// One request of a client: its slot and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
}

impl Asked {
    /// The request of `cx`; `None` when it has no number.
    pub(crate) fn of(cx: &brickwork_api::Cx) -> Option<Asked> {
        let brickwork_api::RequestId { slot, sequence, .. } = cx.request;
        (sequence != 0).then_some(Asked { slot, sequence })
    }
}

/// What one owner asks of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lk {
    pub(crate) gfid: Gfid,
    pub(crate) kind: LkKind,
    pub(crate) client: ClientId,
    pub(crate) owner: LkOwner,
    pub(crate) range: ByteRange,
    pub(crate) mode: Mode,
    pub(crate) tag: Tag,
    /// Under which name; `None` for a call that has none.
    pub(crate) asked: Option<Asked>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The limit on the locks of one object from here on.
    InodeMax(u64),
    /// A client is let in.
    Client(ClientId, Attaching),
    /// A client is gone; what it had in the shards is gone already.
    Ended(ClientId),
    /// What a client that is gone had in a shard goes.
    EndedIn { client: ClientId, shard: u32 },
    /// A lock is granted at once.
    Set(Lk),
    /// A call joins the queue.
    Wait(Lk, WaiterId),
    /// A range is released.
    Unlock(Lk),
    /// A call leaves the queue.
    Cancel(Gfid, LkKind, WaiterId),
    /// A grant that nobody was told of is taken back: what the owner held before is there again where it can.
    Undo(Gfid, ClientId, Asked),
    /// A descriptor was closed: the POSIX locks of the owner go.
    Flush { gfid: Gfid, client: ClientId, owner: LkOwner },
    /// An open ends: what was taken through it goes.
    Release { gfid: Gfid, client: ClientId, open: OpenId },
    /// What an owner holds in a range is taken from it, and its opens are fenced if `fence`.
    Take { gfid: Gfid, kind: LkKind, client: ClientId, owner: LkOwner, range: ByteRange, why: LostBy, fence: bool },
    /// A lock gets another owner.
    HandOver { from: (ClientId, LkOwner), to: Lk },
    /// An open is good for its release only.
    Fence { client: ClientId, open: OpenId, why: LostBy },
    /// The next number of a lock in a shard.
    Ids { shard: u32, next: u64 },
    /// A lock of a snapshot.
    Held(Lk, LockId),
    /// A waiter of a snapshot, and what its owner held in the range when it began to wait.
    Waiting(Lk, WaiterId, Vec<(ByteRange, Mode)>),
    /// A remembered answer of a snapshot; what was held in its place before.
    Answered { lk: Lk, took: bool, before: Vec<(ByteRange, Mode)> },
    /// A lock between xlators is granted at once.
    BetweenSet(BetweenLk),
    /// A call of an xlator joins the queue.
    BetweenWait(BetweenLk, WaiterId),
    /// A lock between xlators is released.
    BetweenUnlock(BetweenLk),
    /// A lock between xlators is taken from its owner.
    BetweenTake(Gfid, LockId),
    /// A call of an xlator leaves the queue.
    BetweenCancel(Gfid, WaiterId),
    /// A lock between xlators of a snapshot.
    BetweenHeld(BetweenLk, LockId),
    /// A waiter for one of a snapshot.
    BetweenWaiting(BetweenLk, WaiterId),
    /// A remembered answer about one of a snapshot.
    BetweenAnswered { lk: BetweenLk, took: bool },
    /// The client of an open hears that a lock of it is gone, and decides itself whether it uses the open on.
    Told { client: ClientId, open: OpenId },
}
