//! Which fops leave something behind, and which of those cannot be done twice.

use brickwork_api::{FopKind, FopSet};

/// Fops after which everything is as before, or that may run again at any time: their answers are not kept.
///
/// `release` and `releasedir` are among them: a second one finds nothing. A question between xlators (`ipc`) is none
/// of the client's operations.
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
    .with(FopKind::StateExport);

/// Whether the answer of a fop is kept until the next request in its slot.
#[must_use]
pub const fn is_kept(kind: FopKind) -> bool {
    !REPEATABLE.contains(kind)
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
            FopKind::Lk,
            FopKind::Xattrop,
        ];
        assert!(kept.iter().all(|kind| is_kept(*kind)));
        assert!(!is_kept(FopKind::Read) && !is_kept(FopKind::Lookup));
    }
}
