//! Which fops leave something behind, and which of those cannot be done twice.

use brickwork_api::{FopKind, FopSet};

/// Fops after which everything is as before, or that may run again at any time: their answers are not kept.
///
/// `release` and `releasedir` are among them: a second one finds nothing. A question between xlators (`ipc`) is none
/// of the client's operations. Locks happen once all the same: `features/locks` remembers what it has answered, together
/// with the lock, so that nobody is told of one that was taken from it since.
const REPEATABLE: FopSet = FopSet::EMPTY
    .with(FopKind::Lookup)
    .with(FopKind::Stat)
    .with(FopKind::Readlink)
    .with(FopKind::Read)
    .with(FopKind::Fsync)
    .with(FopKind::Release)
    .with(FopKind::Seek)
    .with(FopKind::Statfs)
    .with(FopKind::Getxattr)
    .with(FopKind::Listxattr)
    .with(FopKind::Readdir)
    .with(FopKind::Readdirplus)
    .with(FopKind::Fsyncdir)
    .with(FopKind::Releasedir)
    .with(FopKind::Access)
    .with(FopKind::Ipc)
    .with(FopKind::Forget)
    .with(FopKind::Lk)
    .with(FopKind::Inodelk)
    .with(FopKind::Entrylk)
    .with(FopKind::StateExport);

/// Whether the answer of a fop is kept until the next request in its slot.
#[must_use]
pub const fn is_kept(kind: FopKind) -> bool {
    !REPEATABLE.contains(kind)
}

/// Whether a fop takes or releases a lock: it may wait, and a lock that nobody has heard of has to go.
#[must_use]
pub const fn is_lock(kind: FopKind) -> bool {
    matches!(kind, FopKind::Lk | FopKind::Inodelk | FopKind::Entrylk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_something_is_kept() {
        let kept = [
            FopKind::Setattr,
            FopKind::Mkdir,
            FopKind::Unlink,
            FopKind::Rename,
            FopKind::Create,
            FopKind::Open,
            FopKind::Write,
            FopKind::Truncate,
            FopKind::Flush,
            FopKind::Xattrop,
        ];
        assert!(kept.iter().all(|kind| is_kept(*kind)));
        assert!(!is_kept(FopKind::Read) && !is_kept(FopKind::Lookup));
    }

    #[test]
    fn what_locks_were_answered_is_not_kept_here() {
        let locks: Vec<&FopKind> = FopKind::ALL.iter().filter(|kind| is_lock(**kind)).collect();
        assert_eq!(locks, [&FopKind::Lk, &FopKind::Inodelk, &FopKind::Entrylk]);
        assert!(!locks.into_iter().any(|kind| is_kept(*kind)));
    }
}
