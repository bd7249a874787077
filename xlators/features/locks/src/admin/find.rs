//! Finds what a row that somebody was shown stands for.

use brickwork_api::ranges::ByteRange;
use brickwork_api::{LkKind, LkOwner};

use super::shapes::{Kind, LockRow, RowId};
use crate::rules::xlator_locks::Request;
use crate::store::{Shard, Store};
use crate::table::{LockId, Mode, OwnerKey, WaiterId};

/// What a row stands for.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// A lock of an application.
    Lock(LkKind, OwnerKey, ByteRange),
    /// A request of an application that waits.
    Waiter(LkKind, WaiterId),
    /// A lock between xlators.
    Between(LockId),
    /// A request of an xlator that waits.
    BetweenWaiter(WaiterId),
}

/// The family of locks of applications that a row is of.
pub(super) fn lk_kind(kind: Kind) -> Option<LkKind> {
    match kind {
        Kind::Posix => Some(LkKind::Posix),
        Kind::Flock => Some(LkKind::Flock),
        Kind::Inode | Kind::Entry => None,
    }
}

/// What a lock of this strength is.
pub(super) fn mode(exclusive: bool) -> Mode {
    if exclusive { Mode::Exclusive } else { Mode::Shared }
}

/// What is held or waited for exactly as `row` says; `None` when it has changed, also by a restart that numbers anew.
pub(super) fn find(store: &Store, shard: &Shard, row: &LockRow) -> Option<Found> {
    let inode = shard.inode(row.gfid)?;
    let client = store.clients.get(row.client)?;
    let owner = store.clients.known_key(&client, &owner(&row.owner)?)?;
    let range = ByteRange::new(row.start, row.end);
    let mode = mode(row.exclusive);
    let same = |request: &Request| request.owner == owner && request.mode == mode;
    match (row.id, lk_kind(row.kind)) {
        (RowId::Held(id), Some(kind)) => {
            let range = range?;
            let held = inode.table(kind)?.overlapping(owner, range);
            let is_it = held.iter().any(|lock| (lock.id.0, lock.range, lock.mode) == (id, range, mode));
            is_it.then_some(Found::Lock(kind, owner, range))
        }
        (RowId::Waiting(id), Some(kind)) => {
            let waiter = inode.table(kind)?.waiter(WaiterId(id))?;
            let is_it = waiter.ask.owner == owner && Some(waiter.ask.range) == range && waiter.ask.mode == mode;
            is_it.then_some(Found::Waiter(kind, WaiterId(id)))
        }
        (RowId::Held(id), None) => {
            let mut locks = inode.between()?.locks();
            let (_, lock) = locks.find(|(_, lock)| lock.id.0 == id && same(&lock.request))?;
            Some(Found::Between(lock.id))
        }
        (RowId::Waiting(id), None) => {
            let mut waiters = inode.between()?.waiters();
            let (_, waiter) = waiters.find(|(_, waiter)| waiter.id.0 == id && same(&waiter.request))?;
            Some(Found::BetweenWaiter(waiter.id))
        }
    }
}

/// An owner from its hexadecimal digits.
pub(super) fn owner(hex: &str) -> Option<LkOwner> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
    LkOwner::new(&bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_found_by_the_digits_it_is_shown_with() {
        let name = LkOwner::new(&[0, 0x0a, 0xff]).unwrap();
        assert_eq!(owner(&format!("{name:?}")), Some(name));
        for wrong in ["0", "0g", "é0"] {
            assert_eq!(owner(wrong), None, "{wrong}");
        }
    }
}
