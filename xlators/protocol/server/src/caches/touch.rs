//! What each fop tells of, and what it changes.
//!
//! Pure. "Tells of": whoever got the answer may keep something of the object, be it only that a name does not exist.
//! "Changes": what others keep of it is old. Times of last read are nobody's business: they are kept as they were.

use std::any::Any;

use brickwork_api::{Errno, FopError, FopKind, FopResult, FopType, Gfid, Locate, Target, fop};
use smallvec::SmallVec;

use super::registry::Kept;

/// Something of an object that an answer tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) gfid: Gfid,
    pub(crate) kept: Kept,
    /// Whether the answer shows it as it was, so that it is old when another change came in between. An open shows
    /// nothing: whoever makes it may keep what it kept before.
    pub(crate) shown: bool,
}

/// Something of an object that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) gfid: Gfid,
    pub(crate) what: Kept,
}

/// What one fop touched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) told: SmallVec<[Told; 2]>,
    pub(crate) changed: SmallVec<[Changed; 4]>,
}

impl Touch {
    fn tells(mut self, gfid: Gfid) -> Touch {
        self.told.push(Told { gfid, kept: Kept::OBJECT, shown: true });
        self
    }

    fn tells_names(mut self, gfid: Gfid) -> Touch {
        self.told.push(Told { gfid, kept: Kept::NAMES, shown: true });
        self
    }

    fn opens(mut self, gfid: Gfid, kept: Kept) -> Touch {
        self.told.push(Told { gfid, kept, shown: false });
        self
    }

    fn changes(mut self, gfid: Gfid) -> Touch {
        self.changed.push(Changed { gfid, what: Kept::OBJECT });
        self
    }

    /// A change of the names of a directory changes its times too.
    fn changes_names(mut self, gfid: Gfid) -> Touch {
        if !self.changed.contains(&Changed { gfid, what: Kept::BOTH }) {
            self.changed.push(Changed { gfid, what: Kept::BOTH });
        }
        self
    }

    fn changes_if(self, changed: bool, gfid: Gfid) -> Touch {
        if changed { self.changes(gfid) } else { self }
    }
}

/// What `request` with its `outcome` tells of and changes.
///
/// A fop that failed may have done a part, as a write that met a full disk: it counts as done unless its error is one
/// that is found before anything is changed.
pub(crate) fn touches<F: FopType>(request: &F::Request, outcome: &FopResult<F::Reply>) -> Touch {
    match outcome {
        Ok(reply) => after_success::<F>(request, reply),
        Err(error) => after_failure::<F>(request, error),
    }
}

/// `request` as the request of `G`, which is `F`.
fn asked<F: FopType, G: FopType>(request: &F::Request) -> &G::Request {
    (request as &dyn Any).downcast_ref().expect("the kind of a fop names its types")
}

/// `reply` as the reply of `G`, which is `F`.
fn answered<F: FopType, G: FopType>(reply: &F::Reply) -> &G::Reply {
    (reply as &dyn Any).downcast_ref().expect("the kind of a fop names its types")
}

fn after_success<F: FopType>(request: &F::Request, reply: &F::Reply) -> Touch {
    let touch = Touch::default();
    match F::KIND {
        FopKind::Lookup => {
            let found = answered::<F, fop::Lookup>(reply).attr.gfid;
            match &asked::<F, fop::Lookup>(request).target {
                Locate::Gfid(_) => touch.tells(found),
                Locate::Entry(entry) => touch.tells(found).tells_names(entry.parent),
            }
        }
        FopKind::Stat => touch.tells(asked::<F, fop::Stat>(request).target.gfid),
        FopKind::Readlink => touch.tells(asked::<F, fop::Readlink>(request).gfid),
        FopKind::Access => touch.tells(asked::<F, fop::Access>(request).gfid),
        FopKind::Getxattr => touch.tells(asked::<F, fop::Getxattr>(request).target.gfid),
        FopKind::Listxattr => touch.tells(asked::<F, fop::Listxattr>(request).target.gfid),
        FopKind::Read => touch.tells(asked::<F, fop::Read>(request).file.gfid),
        FopKind::Seek => touch.tells(asked::<F, fop::Seek>(request).file.gfid),
        FopKind::Opendir => touch.opens(asked::<F, fop::Opendir>(request).file.gfid, Kept::NAMES),
        FopKind::Readdir => touch.tells_names(asked::<F, fop::Readdir>(request).file.gfid),
        FopKind::Readdirplus => {
            let entries = &answered::<F, fop::Readdirplus>(reply).entries;
            let touch = touch.tells_names(asked::<F, fop::Readdirplus>(request).file.gfid);
            entries.iter().filter_map(|entry| entry.attr.as_ref()).fold(touch, |touch, attr| touch.tells(attr.gfid))
        }
        FopKind::Open => {
            let request = asked::<F, fop::Open>(request);
            let emptied = request.flags & o_trunc() != 0;
            touch.opens(request.file.gfid, Kept::OBJECT).changes_if(emptied, request.file.gfid)
        }
        FopKind::Setattr => changed_and_shown(asked::<F, fop::Setattr>(request).target),
        FopKind::Truncate => changed_and_shown(asked::<F, fop::Truncate>(request).target),
        FopKind::Xattrop => changed_and_shown(asked::<F, fop::Xattrop>(request).target),
        FopKind::Write => {
            // Whoever writes may keep what it wrote.
            let gfid = asked::<F, fop::Write>(request).file.gfid;
            touch.tells(gfid).changes_if(answered::<F, fop::Write>(reply).written > 0, gfid)
        }
        FopKind::Fallocate => touch.changes(asked::<F, fop::Fallocate>(request).file.gfid),
        FopKind::Discard => touch.changes(asked::<F, fop::Discard>(request).file.gfid),
        FopKind::Zerofill => touch.changes(asked::<F, fop::Zerofill>(request).file.gfid),
        FopKind::CopyFileRange => {
            let copied = answered::<F, fop::CopyFileRange>(reply).copied > 0;
            touch.changes_if(copied, asked::<F, fop::CopyFileRange>(request).to.gfid)
        }
        FopKind::Setxattr => touch.changes(asked::<F, fop::Setxattr>(request).target.gfid),
        FopKind::Removexattr => touch.changes(asked::<F, fop::Removexattr>(request).target.gfid),
        FopKind::Mknod => {
            made(asked::<F, fop::Mknod>(request).entry.parent, answered::<F, fop::Mknod>(reply).attr.gfid)
        }
        FopKind::Mkdir => {
            made(asked::<F, fop::Mkdir>(request).entry.parent, answered::<F, fop::Mkdir>(reply).attr.gfid)
        }
        FopKind::Symlink => {
            made(asked::<F, fop::Symlink>(request).entry.parent, answered::<F, fop::Symlink>(reply).attr.gfid)
        }
        FopKind::Create => {
            made(asked::<F, fop::Create>(request).entry.parent, answered::<F, fop::Create>(reply).attr.gfid)
        }
        FopKind::Link => {
            let request = asked::<F, fop::Link>(request);
            made(request.entry.parent, request.gfid).changes(request.gfid)
        }
        FopKind::Unlink => {
            let removed = answered::<F, fop::Unlink>(reply).removed.gfid;
            touch.changes_names(asked::<F, fop::Unlink>(request).entry.parent).changes(removed)
        }
        FopKind::Rmdir => {
            let removed = answered::<F, fop::Rmdir>(reply).removed.gfid;
            touch.changes_names(asked::<F, fop::Rmdir>(request).entry.parent).changes_names(removed)
        }
        FopKind::Rename => {
            let (request, reply) = (asked::<F, fop::Rename>(request), answered::<F, fop::Rename>(reply));
            let (from, to, moved) = (request.from.parent, request.to.parent, reply.attr.gfid);
            let touch = touch.tells(moved).tells_names(from).tells_names(to);
            let touch = touch.changes_names(from).changes_names(to).changes(moved);
            reply.replaced.iter().fold(touch, |touch, replaced| touch.changes_names(replaced.gfid))
        }
        // Space and inodes of a volume change all the time: nobody may keep them.
        FopKind::Statfs => touch,
        FopKind::Flush | FopKind::Fsync | FopKind::Fsyncdir => touch,
        FopKind::Release | FopKind::Releasedir | FopKind::Forget => touch,
        FopKind::Lk | FopKind::Inodelk | FopKind::Entrylk | FopKind::Lease | FopKind::Ipc => touch,
        FopKind::Fence | FopKind::Unfence => touch,
        FopKind::StateExport | FopKind::StateImport | FopKind::StateRelease => touch,
    }
}

fn after_failure<F: FopType>(request: &F::Request, error: &FopError) -> Touch {
    let touch = Touch::default();
    if let (FopKind::Lookup, Errno::ENOENT) = (F::KIND, error.errno()) {
        return match &asked::<F, fop::Lookup>(request).target {
            Locate::Entry(entry) => touch.tells_names(entry.parent),
            Locate::Gfid(_) => touch,
        };
    }
    if let (FopKind::Getxattr, Errno::ENODATA) = (F::KIND, error.errno()) {
        return touch.tells(asked::<F, fop::Getxattr>(request).target.gfid);
    }
    if found_before_any_change(error.errno()) {
        return touch;
    }
    match F::KIND {
        FopKind::Open => {
            let request = asked::<F, fop::Open>(request);
            touch.changes_if(request.flags & o_trunc() != 0, request.file.gfid)
        }
        FopKind::Setattr => touch.changes(asked::<F, fop::Setattr>(request).target.gfid),
        FopKind::Truncate => touch.changes(asked::<F, fop::Truncate>(request).target.gfid),
        FopKind::Xattrop => touch.changes(asked::<F, fop::Xattrop>(request).target.gfid),
        FopKind::Write => touch.changes(asked::<F, fop::Write>(request).file.gfid),
        FopKind::Fallocate => touch.changes(asked::<F, fop::Fallocate>(request).file.gfid),
        FopKind::Discard => touch.changes(asked::<F, fop::Discard>(request).file.gfid),
        FopKind::Zerofill => touch.changes(asked::<F, fop::Zerofill>(request).file.gfid),
        FopKind::CopyFileRange => touch.changes(asked::<F, fop::CopyFileRange>(request).to.gfid),
        FopKind::Setxattr => touch.changes(asked::<F, fop::Setxattr>(request).target.gfid),
        FopKind::Removexattr => touch.changes(asked::<F, fop::Removexattr>(request).target.gfid),
        FopKind::Mknod => touch.changes_names(asked::<F, fop::Mknod>(request).entry.parent),
        FopKind::Mkdir => touch.changes_names(asked::<F, fop::Mkdir>(request).entry.parent),
        FopKind::Symlink => touch.changes_names(asked::<F, fop::Symlink>(request).entry.parent),
        FopKind::Create => touch.changes_names(asked::<F, fop::Create>(request).entry.parent),
        FopKind::Unlink => touch.changes_names(asked::<F, fop::Unlink>(request).entry.parent),
        FopKind::Rmdir => touch.changes_names(asked::<F, fop::Rmdir>(request).entry.parent),
        FopKind::Link => {
            let request = asked::<F, fop::Link>(request);
            touch.changes_names(request.entry.parent).changes(request.gfid)
        }
        FopKind::Rename => {
            let request = asked::<F, fop::Rename>(request);
            touch.changes_names(request.from.parent).changes_names(request.to.parent)
        }
        _ => touch,
    }
}

fn changed_and_shown(target: Target) -> Touch {
    Touch::default().tells(target.gfid).changes(target.gfid)
}

/// `gfid` got a name in `parent`.
fn made(parent: Gfid, gfid: Gfid) -> Touch {
    Touch::default().tells(gfid).tells_names(parent).changes_names(parent)
}

/// `O_TRUNC`, as every Linux that we run on has it.
const fn o_trunc() -> u32 {
    rustix::fs::OFlags::TRUNC.bits()
}

/// Whether a fop that answers `errno` has changed nothing.
fn found_before_any_change(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EPERM
            | Errno::ENOENT
            | Errno::EBADF
            | Errno::EACCES
            | Errno::EBUSY
            | Errno::EEXIST
            | Errno::EXDEV
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::EINVAL
            | Errno::ETXTBSY
            | Errno::EFBIG
            | Errno::EROFS
            | Errno::EMLINK
            | Errno::ERANGE
            | Errno::ENAMETOOLONG
            | Errno::ENOSYS
            | Errno::ENOTEMPTY
            | Errno::ELOOP
            | Errno::ENODATA
            | Errno::EOPNOTSUPP
            | Errno::ESTALE
    )
}
