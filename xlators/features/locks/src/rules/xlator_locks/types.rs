//! What goes into [`XlatorLocks`](super::XlatorLocks) and what comes out of it.

use brickwork_api::ranges::ByteRange;
use brickwork_api::{Errno, Name};
use serde::{Deserialize, Serialize};

use crate::table::{Blocker, LockId, Mode, OwnerKey, Tag, WaiterId};

/// The longest name of a domain, in bytes.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Locks and waiters of one domain on one object, unless somebody has a reason for another limit.
pub const DOMAIN_LOCKS_MAX: usize = 16_384;

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Bytes of an object (`inodelk`).
    Range(ByteRange),
    /// One name in a directory (`entrylk`).
    Name(Name),
    /// Every name in a directory (`entrylk`).
    AllNames,
}

impl Scope {
    /// Whether both have something in common.
    #[must_use]
    pub fn overlaps(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Range(one), Scope::Range(other)) => one.overlaps(*other),
            (Scope::Range(_), _) | (_, Scope::Range(_)) => false,
            (Scope::AllNames, _) | (_, Scope::AllNames) => true,
            (Scope::Name(one), Scope::Name(other)) => one == other,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Who.
    pub owner: OwnerKey,
    /// What.
    pub scope: Scope,
    /// How.
    pub mode: Mode,
    /// What is noted with the lock.
    pub tag: Tag,
}

impl Request {
    /// Whether the owners of both cannot hold them at once.
    #[must_use]
    pub fn conflicts(&self, other: &Request) -> bool {
        self.owner != other.owner && self.mode.conflicts(other.mode) && self.scope.overlaps(&other.scope)
    }
}

/// A held lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct XlatorLock {
    /// Its number.
    pub id: LockId,
    /// What was asked for.
    pub request: Request,
}

/// A request in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct XlatorWaiter {
    /// Its number.
    pub id: WaiterId,
    /// What it waits for.
    pub request: Request,
}

/// How much one object may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Domains that have locks or waiters.
    pub domains: usize,
    /// Locks and waiters of one domain.
    pub locks_per_domain: usize,
}

/// A lock that was taken at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XlatorTaken {
    /// Its number.
    pub id: LockId,
    /// Waiters of the same owner that only waited behind others and are granted now, in their order.
    pub granted: Vec<WaiterId>,
}

/// What has become of a request that may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XlatorWaited {
    /// It holds its lock.
    Granted(XlatorTaken),
    /// It is the last in the queue.
    Queued,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XlatorRefused {
    /// This shuts it out, now.
    Conflict(Blocker),
    /// The object has as many domains as it may.
    TooManyDomains,
    /// The domain has as many locks and waiters as it may.
    Full,
    /// The name of the domain is longer than [`DOMAIN_BYTES_MAX`].
    DomainTooLong,
}

impl XlatorRefused {
    /// What the caller is answered.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            XlatorRefused::Conflict(_) => Errno::EAGAIN,
            XlatorRefused::TooManyDomains | XlatorRefused::Full => Errno::ENOLCK,
            XlatorRefused::DomainTooLong => Errno::EINVAL,
        }
    }
}

/// What was taken from a client, and who has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XlatorReleased {
    /// Its locks.
    pub locks: Vec<XlatorLock>,
    /// Its waiters; they were granted nothing.
    pub waiters: Vec<XlatorWaiter>,
    /// Waiters of others that are granted by that, in their order.
    pub granted: Vec<WaiterId>,
}
