//! Which opens a request goes through, and which it makes or ends.
//!
//! Pure. All is known when compiled: of a `lookup` nothing is left.

use std::any::Any;

use brickwork_api::{
    CopyFileRangeReq, CreateReq, FopKind, FopType, OpenFile, OpenId, OpenReq, OpendirReq, ReleaseReq, ReleasedirReq,
};

/// An open that a request makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) file: OpenFile,
    pub(crate) flags: u32,
    pub(crate) directory: bool,
}

/// `value` as a `B`, when it is one.
pub(crate) fn same<A: Any, B: Any>(value: A) -> Option<B> {
    let mut value = Some(value);
    let value: &mut dyn Any = &mut value;
    value.downcast_mut::<Option<B>>()?.take()
}

/// What `request` opens.
pub(crate) fn opening<F: FopType>(request: &F::Request) -> Option<Opening> {
    let request: &dyn Any = request;
    match F::KIND {
        FopKind::Open => request.downcast_ref::<OpenReq>().map(|open| Opening {
            file: open.file,
            flags: open.flags,
            directory: false,
        }),
        FopKind::Opendir => {
            request.downcast_ref::<OpendirReq>().map(|open| Opening { file: open.file, flags: 0, directory: true })
        }
        FopKind::Create => request.downcast_ref::<CreateReq>().map(|create| Opening {
            file: OpenFile { gfid: create.gfid, open: create.open },
            flags: create.flags,
            directory: false,
        }),
        _ => None,
    }
}

/// What `request` ends.
pub(crate) fn ending<F: FopType>(request: &F::Request) -> Option<OpenFile> {
    let request: &dyn Any = request;
    match F::KIND {
        FopKind::Release => request.downcast_ref::<ReleaseReq>().map(|release| release.file),
        FopKind::Releasedir => request.downcast_ref::<ReleasedirReq>().map(|release| release.file),
        _ => None,
    }
}

/// The opens that `request` goes through.
pub(crate) fn opens<F: FopType>(request: &F::Request) -> [Option<OpenId>; 2] {
    let request: &dyn Any = request;
    macro_rules! field {
        ($request:ident, $field:ident) => {
            [request.downcast_ref::<brickwork_api::$request>().and_then(|request| open_of(&request.$field)), None]
        };
    }
    match F::KIND {
        FopKind::Read => field!(ReadReq, file),
        FopKind::Write => field!(WriteReq, file),
        FopKind::Flush => field!(FlushReq, file),
        FopKind::Fsync => field!(FsyncReq, file),
        FopKind::Fallocate => field!(FallocateReq, file),
        FopKind::Seek => field!(SeekReq, file),
        FopKind::Readdir => field!(ReaddirReq, file),
        FopKind::Readdirplus => field!(ReaddirplusReq, file),
        FopKind::Fsyncdir => field!(FsyncdirReq, file),
        FopKind::Lk => field!(LkReq, file),
        FopKind::Discard => field!(DiscardReq, file),
        FopKind::Zerofill => field!(ZerofillReq, file),
        FopKind::Stat => field!(StatReq, target),
        FopKind::Setattr => field!(SetattrReq, target),
        FopKind::Truncate => field!(TruncateReq, target),
        FopKind::Getxattr => field!(GetxattrReq, target),
        FopKind::Listxattr => field!(ListxattrReq, target),
        FopKind::Setxattr => field!(SetxattrReq, target),
        FopKind::Removexattr => field!(RemovexattrReq, target),
        FopKind::Inodelk => field!(InodelkReq, target),
        FopKind::Entrylk => field!(EntrylkReq, target),
        FopKind::Xattrop => field!(XattropReq, target),
        FopKind::Lease => field!(LeaseReq, target),
        FopKind::CopyFileRange => request
            .downcast_ref::<CopyFileRangeReq>()
            .map_or([None, None], |copy| [Some(copy.from.open), Some(copy.to.open)]),
        FopKind::Lookup
        | FopKind::Readlink
        | FopKind::Mknod
        | FopKind::Mkdir
        | FopKind::Unlink
        | FopKind::Rmdir
        | FopKind::Symlink
        | FopKind::Rename
        | FopKind::Link
        | FopKind::Create
        | FopKind::Open
        | FopKind::Opendir
        | FopKind::Release
        | FopKind::Releasedir
        | FopKind::Statfs
        | FopKind::Access
        | FopKind::Ipc
        | FopKind::Forget
        | FopKind::Fence
        | FopKind::Unfence
        | FopKind::StateExport
        | FopKind::StateImport
        | FopKind::StateRelease => [None, None],
    }
}

/// A file or a target, and the open in it.
trait Through {
    fn open(&self) -> Option<OpenId>;
}

impl Through for OpenFile {
    fn open(&self) -> Option<OpenId> {
        Some(self.open)
    }
}

impl Through for brickwork_api::Target {
    fn open(&self) -> Option<OpenId> {
        self.open
    }
}

fn open_of(through: &impl Through) -> Option<OpenId> {
    through.open()
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::{Fop, fop, for_each_fop};
    use brickwork_testkit::samples;

    /// Opens that a request names, found without knowing its type.
    fn named(request: &Fop) -> Vec<u64> {
        fn find(value: &serde_json::Value, found: &mut Vec<u64>) {
            let Some(fields) = value.as_object() else { return };
            if let (Some(_), Some(open)) = (fields.get("gfid"), fields.get("open").and_then(serde_json::Value::as_u64))
            {
                found.push(open);
            }
            fields.values().for_each(|value| find(value, found));
        }
        let mut found = Vec::new();
        // As text first: a gfid is wider than the numbers of a value.
        let text = serde_json::to_string(request).unwrap();
        find(&serde_json::from_str(&text).unwrap(), &mut found);
        found
    }

    #[test]
    fn every_open_that_a_request_names_is_found() {
        macro_rules! told {
            ($request:expr; $($name:ident $kind:ident $req:ident $reply:ident;)*) => {
                match $request {
                    $(Fop::$kind(request) => {
                        let made = opening::<fop::$kind>(request).map(|opening| opening.file.open);
                        let ended = ending::<fop::$kind>(request).map(|file| file.open);
                        let through = opens::<fop::$kind>(request);
                        [made, ended, through[0], through[1]]
                    })*
                }
            };
        }
        for kind in FopKind::ALL.iter().copied() {
            let request = &samples::request(kind);
            macro_rules! tell {
                ($($line:tt)*) => { told!(request; $($line)*) };
            }
            let told: Vec<u64> = for_each_fop!(tell).into_iter().flatten().map(|open| open.0).collect();
            let mut named = named(request);
            let mut sorted = told.clone();
            sorted.sort_unstable();
            named.sort_unstable();
            assert_eq!(sorted, named, "{}", kind.name());
        }
    }

    #[test]
    fn a_value_is_itself_and_nothing_else() {
        assert_eq!(same::<u32, u32>(7), Some(7));
        assert_eq!(same::<u32, u64>(7), None);
    }
}
