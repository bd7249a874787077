//! What is asked of `features/locks` beside its fops, and what it says unasked: names and shapes.
//!
//! Questions are asked by `ipc`; argument and answer are in the encoding of `core/codec`, those for administrators in
//! JSON. Whoever does not know a question hands it to its child; a leaf refuses it with `EOPNOTSUPP`.
//!
//! [`ATTACHED`], [`DETACHED`], [`ENDED`], [`HOLDS`] and [`GIVEN_UP`] come from whoever lets clients in (protocol/server) and
//! are about the client of the `Cx`; they are answered at the first poll. A client that was never announced so is one of
//! this process: its locks end with the process.

use serde::{Deserialize, Serialize};

use crate::fops::{LkKind, LkRange};
use crate::types::{ClientId, Gfid, LkOwner, OpenId, RequestId};
use crate::xdata::Key;

/// The client is here, for the first time or again. Argument: [`Attaching`]. Answer: `()`.
pub const ATTACHED: &str = "features/locks:attached";
/// No connection of the client is left. Argument: [`Detaching`]. Answer: `()`.
pub const DETACHED: &str = "features/locks:detached";
/// The client is gone for good: its locks and waiters go now. Argument and answer: `()`.
pub const ENDED: &str = "features/locks:ended";
/// Whether the client holds a lock or waits for one: its session must not end by time. Argument: `()`. Answer: `bool`.
pub const HOLDS: &str = "features/locks:holds";
/// The client has given up a call whose fop is not under way here: a waiter without a call goes, a grant that was never
/// answered is undone. Argument: [`GivenUp`]. Answer: `()`.
pub const GIVEN_UP: &str = "features/locks:given-up";

/// A client that is back compares beliefs, before any other request of it. Argument: [`Claims`]. Answer: one [`Verdict`]
/// for each claim, in their order.
pub const CLAIM: &str = "features/locks:claim";
/// Whether the wait of an owner of this client is part of a cycle. Argument: [`Probe`]. Answer: `()`.
pub const PROBE: &str = "features/locks:probe";
/// A wait of this client closes a cycle over several bricks: it is answered `EDEADLK`. Argument: [`Deadlocked`]. Answer:
/// `()`, also when nobody waits so any more.
pub const DEADLOCKED: &str = "features/locks:deadlocked";

/// The questions that clients may ask; all others are for this process alone.
pub const FOR_CLIENTS: [&str; 3] = [CLAIM, PROBE, DEADLOCKED];
/// How every question to `features/locks` begins.
pub const PREFIX: &str = "features/locks:";

/// Argument of [`ATTACHED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attaching {
    /// Above every earlier one of this client, or a known one that has one more connection.
    pub incarnation: u32,
    /// Older incarnations that stay alive.
    pub keep: Vec<u32>,
    /// How long its locks are protected against everyone once it is detached, in milliseconds.
    pub detach_timeout_ms: u32,
    /// The host of its process, for people.
    pub host: String,
    /// With whom it shares the right to take over locks.
    pub group: Option<FailoverGroup>,
}

/// Clients that may take over each other's locks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverGroup {
    /// Its name; not empty.
    pub name: String,
    /// SHA-256 of the secret that all of them know.
    pub secret: [u8; 32],
}

/// Argument of [`DETACHED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detaching {
    /// For how long it has been silent, in milliseconds: its time runs from its last sign of life.
    pub silent_ms: u64,
}

/// Argument of [`GIVEN_UP`]: a request of the client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Its slot.
    pub slot: u32,
    /// Its sequence: another request in the slot is left alone.
    pub sequence: u64,
}

/// Argument of [`CLAIM`]: what a client believes it holds, in pieces of at most [`CLAIMS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Each by itself.
    pub claims: Vec<Claim>,
    /// These are the last: what this client held and has not claimed is not its own any more when a grace ends.
    pub complete: bool,
}

/// Claims in one question.
pub const CLAIMS_MAX: usize = 1024;
/// Ranges in one claim; an owner that holds more makes several.
pub const CLAIM_RANGES_MAX: usize = 4096;

/// What one owner believes it holds on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The object.
    pub gfid: Gfid,
    /// The open through which the locks were taken last.
    pub open: OpenId,
    /// The family.
    pub kind: LkKind,
    /// The owner.
    pub owner: LkOwner,
    /// Disjoint, in order; none is [`Unlock`](crate::LkType::Unlock).
    pub ranges: Vec<LkRange>,
}

/// What has become of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All of it is held.
    Held,
    /// Some of it is not: others may have held it meanwhile.
    Lost,
}

/// Argument of [`PROBE`], and what [`LockNotice::Probe`] carries: somebody waits, over however many others, for what
/// `owner` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The waiting request that asks. When `owner` turns out to be the one that made it, it closes a cycle.
    pub initiator: RequestId,
    /// The owner in the client that is asked.
    pub owner: LkOwner,
    /// Where that owner waits; the client that forwards the probe says so.
    pub gfid: Gfid,
    /// The waits over which it has come, in their order; at most [`PROBE_HOPS_MAX`].
    pub path: Vec<RequestId>,
}

/// Argument of [`DEADLOCKED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlocked {
    /// Where the request waits: whoever stands above several bricks knows by it which one to tell.
    pub gfid: Gfid,
    /// The request.
    pub request: GivenUp,
}

/// The longest cycle that is found.
pub const PROBE_HOPS_MAX: usize = 64;

/// What `features/locks` tells a client unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockNotice {
    /// See [`Probe`]; its `gfid` means nothing yet.
    Probe(Probe),
    /// Locks that were taken through these opens are gone, and the brick answers `EIO` to them until they are released.
    Lost {
        /// The object.
        gfid: Gfid,
        /// The opens.
        opens: Vec<OpenId>,
        /// Why.
        why: LostBy,
    },
}

/// Who took a lock from its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostBy {
    /// Its client was away for longer than its locks are protected, and somebody wanted them.
    Expiry,
    /// Another client has taken it over with reclaim-lock.
    Reclaim,
    /// An administrator.
    Drop,
    /// It was not claimed before a grace ended.
    Grace,
    /// A lock of another owner on a file with `trusted.glusterfs.enforce-mandatory-lock`.
    Fence,
    /// Found by its client, after a connection was lost: the brick does not hold it, and does not say why.
    Unknown,
}

impl LostBy {
    /// For people and for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LostBy::Expiry => "expired",
            LostBy::Reclaim => "reclaimed",
            LostBy::Drop => "dropped",
            LostBy::Grace => "grace over",
            LostBy::Fence => "fenced",
            LostBy::Unknown => "not held any more",
        }
    }
}

/// A notice with the client that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNotice {
    /// Whom to tell.
    pub client: ClientId,
    /// What.
    pub notice: LockNotice,
}

/// Beside an `lk` that takes a lock: take it over from the client that holds it, or, in a grace, have it back.
///
/// A record with the very owner, range and type must exist, or a grace must run; else `ENOLCK` with [`RECLAIM_REFUSED`].
pub const RECLAIM_LOCK: Key<bool> = Key::new("reclaim-lock");

/// Beside `ENOLCK`: why a reclaim was refused: `no-record`, `no-grace`, `range-mismatch`, `conflict`, `not-allowed`, `off`.
pub const RECLAIM_REFUSED: Key<String> = Key::new("reclaim-refused");

/// Beside `EIO`: a lock that was taken through this open is gone, so the open is good for nothing but its release. The
/// value is [`LostBy::word`].
pub const LOCK_LOST: Key<String> = Key::new("lock-lost");

/// Beside an `lk` that takes a lock: the command of the process, for people.
pub const COMMAND: Key<String> = Key::new("command");

/// Beside an `lk` that takes a lock: others' I/O on the range is refused under `mandatory-locking optimal`.
pub const MANDATORY: Key<bool> = Key::new("mandatory");

/// Beside an attach (protocol/client): the name of the failover group.
pub const FAILOVER_GROUP: Key<String> = Key::new("failover-group");
/// Beside an attach (protocol/client): the secret of the failover group.
pub const FAILOVER_SECRET: Key<String> = Key::new("failover-secret");
