//! What may be done twice, and what waits: the same for whoever sends a request again and for whoever remembers it.
//!
//! Pure.

use std::any::Any;

use brickwork_api::{
    EntrylkReq, FallocateMode, FallocateReq, FopKind, FopType, InodelkReq, LeaseCommand, LeaseReq, LkCommand, LkReq,
    SetxattrReq, WriteReq, XattrMode, XlatorLkCommand,
};

/// Whether `request` may be executed a second time when nobody knows whether it was executed before: a second time, with
/// nothing in between, leaves and answers what the first would have.
///
/// What creates or takes names answers something else the second time; what counts, appends or moves the content of a
/// file does it once more.
#[must_use]
pub fn may_repeat<F: FopType>(request: &F::Request) -> bool {
    let request: &dyn Any = request;
    match F::KIND {
        FopKind::Mknod
        | FopKind::Mkdir
        | FopKind::Symlink
        | FopKind::Create
        | FopKind::Link
        | FopKind::Unlink
        | FopKind::Rmdir
        | FopKind::Rename
        | FopKind::Removexattr
        | FopKind::Xattrop => false,
        FopKind::Write => request.downcast_ref::<WriteReq>().is_some_and(|write| !write.append),
        FopKind::Setxattr => request.downcast_ref::<SetxattrReq>().is_some_and(|set| set.mode == XattrMode::Set),
        FopKind::Fallocate => request.downcast_ref::<FallocateReq>().is_some_and(|change| match change.mode {
            FallocateMode::CollapseRange | FallocateMode::InsertRange => false,
            FallocateMode::Allocate { .. }
            | FallocateMode::PunchHole
            | FallocateMode::ZeroRange { .. }
            | FallocateMode::UnshareRange => true,
        }),
        FopKind::Lookup
        | FopKind::Stat
        | FopKind::Setattr
        | FopKind::Readlink
        | FopKind::Open
        | FopKind::Read
        | FopKind::Flush
        | FopKind::Fsync
        | FopKind::Release
        | FopKind::Truncate
        | FopKind::Seek
        | FopKind::CopyFileRange
        | FopKind::Statfs
        | FopKind::Getxattr
        | FopKind::Listxattr
        | FopKind::Opendir
        | FopKind::Readdir
        | FopKind::Readdirplus
        | FopKind::Fsyncdir
        | FopKind::Releasedir
        | FopKind::Access
        | FopKind::Lk
        | FopKind::Inodelk
        | FopKind::Entrylk
        | FopKind::Lease
        | FopKind::Ipc
        | FopKind::Discard
        | FopKind::Zerofill
        | FopKind::Forget
        | FopKind::Fence
        | FopKind::Unfence
        | FopKind::StateExport
        | FopKind::StateImport
        | FopKind::StateRelease => true,
    }
}

/// Whether `request` may wait for somebody else for as long as it likes: no time limit counts for it, and only such a
/// request can be given up with [`Kind::Cancel`](crate::frame::Kind::Cancel).
#[must_use]
pub fn may_wait<F: FopType>(request: &F::Request) -> bool {
    let request: &dyn Any = request;
    match F::KIND {
        FopKind::Lk => request.downcast_ref::<LkReq>().is_some_and(|lock| lock.command == LkCommand::SetWait),
        FopKind::Inodelk => {
            request.downcast_ref::<InodelkReq>().is_some_and(|lock| lock.command == XlatorLkCommand::Lock)
        }
        FopKind::Entrylk => {
            request.downcast_ref::<EntrylkReq>().is_some_and(|lock| lock.command == XlatorLkCommand::Lock)
        }
        FopKind::Lease => request.downcast_ref::<LeaseReq>().is_some_and(|lease| lease.command == LeaseCommand::Set),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::{Fop, FopSet, fop, for_each_fop};
    use brickwork_testkit::samples;

    fn judged(request: &Fop) -> (bool, bool) {
        macro_rules! judge {
            ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
                match request {
                    $(Fop::$kind(request) => {
                        (may_repeat::<fop::$kind>(request), may_wait::<fop::$kind>(request))
                    })*
                }
            };
        }
        for_each_fop!(judge)
    }

    /// Those of the samples: a `write` that appends, a `setxattr` that creates.
    #[test]
    fn what_creates_takes_counts_or_appends_is_not_repeated_and_all_else_is() {
        let once = "mknod,mkdir,symlink,create,link,unlink,rmdir,rename,removexattr,xattrop,write,setxattr";
        let once: FopSet = brickwork_api::options::OptionValue::parse(once).unwrap();
        for kind in FopKind::ALL.iter().copied() {
            let mut request = samples::request(kind);
            if let Fop::Write(write) = &mut request {
                write.append = true;
            }
            assert_eq!(judged(&request).0, !once.contains(kind), "{}", kind.name());
        }
    }

    #[test]
    fn a_write_at_an_offset_and_a_plain_setxattr_are_repeated() {
        let Fop::Write(mut write) = samples::request(FopKind::Write) else { panic!("no write") };
        write.append = false;
        assert!(may_repeat::<fop::Write>(&write));
        let Fop::Setxattr(mut set) = samples::request(FopKind::Setxattr) else { panic!("no setxattr") };
        for (mode, repeats) in [(XattrMode::Set, true), (XattrMode::Create, false), (XattrMode::Replace, false)] {
            set.mode = mode;
            assert_eq!(may_repeat::<fop::Setxattr>(&set), repeats, "{mode:?}");
        }
    }

    #[test]
    fn ranges_that_move_the_content_are_not_repeated() {
        let Fop::Fallocate(mut change) = samples::request(FopKind::Fallocate) else { panic!("no fallocate") };
        for (mode, repeats) in [
            (FallocateMode::Allocate { keep_size: false }, true),
            (FallocateMode::PunchHole, true),
            (FallocateMode::ZeroRange { keep_size: true }, true),
            (FallocateMode::UnshareRange, true),
            (FallocateMode::CollapseRange, false),
            (FallocateMode::InsertRange, false),
        ] {
            change.mode = mode;
            assert_eq!(may_repeat::<fop::Fallocate>(&change), repeats, "{mode:?}");
        }
    }

    #[test]
    fn only_locks_and_leases_that_are_waited_for_wait() {
        for kind in FopKind::ALL.iter().copied() {
            let waits = matches!(kind, FopKind::Lk | FopKind::Inodelk | FopKind::Entrylk | FopKind::Lease);
            assert_eq!(judged(&samples::request(kind)).1, waits, "{}", kind.name());
        }
        let Fop::Lk(mut lock) = samples::request(FopKind::Lk) else { panic!("no lk") };
        for command in [LkCommand::Get, LkCommand::Set] {
            lock.command = command;
            assert!(!may_wait::<fop::Lk>(&lock));
        }
        let Fop::Inodelk(mut lock) = samples::request(FopKind::Inodelk) else { panic!("no inodelk") };
        for command in [XlatorLkCommand::TryLock, XlatorLkCommand::Unlock] {
            lock.command = command;
            assert!(!may_wait::<fop::Inodelk>(&lock));
        }
    }
}
