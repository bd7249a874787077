//! The table against one sample of every fop: a new fop stands here or the test fails.

use brickwork_testkit::samples::{DIRECTORY, FILE, FRESH, OTHER};

use super::super::registry::Kept;
use super::super::touch::{Touch, touches};
use super::*;

/// A line for each thing touched: `tells`, `opens` or `changes`, with `names` when only names, `+names` when both.
fn words(touch: &Touch) -> Vec<String> {
    let object = |gfid: Gfid| match gfid {
        FILE => "file",
        DIRECTORY => "directory",
        FRESH => "fresh",
        OTHER => "other",
        _ => "?",
    };
    let part = |kept: Kept| match kept {
        Kept::OBJECT => "",
        Kept::NAMES => " names",
        _ => "+names",
    };
    let told = touch.told.iter().map(|told| {
        let verb = if told.shown { "tells" } else { "opens" };
        format!("{verb} {}{}", object(told.gfid), part(told.kept))
    });
    let changed = touch.changed.iter().map(|changed| format!("changes {}{}", object(changed.gfid), part(changed.what)));
    told.chain(changed).collect()
}

/// What the sample of `kind` touches when it succeeds.
fn expected(kind: FopKind) -> &'static [&'static str] {
    match kind {
        FopKind::Lookup => &["tells other", "tells directory names"],
        FopKind::Stat | FopKind::Access | FopKind::Read | FopKind::Seek => &["tells file"],
        FopKind::Getxattr | FopKind::Listxattr => &["tells file"],
        FopKind::Readlink => &["tells other"],
        FopKind::Setattr | FopKind::Truncate | FopKind::Write | FopKind::Xattrop => &["tells file", "changes file"],
        FopKind::Mknod | FopKind::Mkdir | FopKind::Symlink | FopKind::Create => {
            &["tells fresh", "tells directory names", "changes directory+names"]
        }
        FopKind::Unlink => &["changes directory+names", "changes other"],
        FopKind::Rmdir => &["changes directory+names", "changes other+names"],
        FopKind::Rename => &[
            "tells file",
            "tells directory names",
            "tells directory names",
            "changes directory+names",
            "changes file",
            "changes other+names",
        ],
        FopKind::Link => &["tells file", "tells directory names", "changes directory+names", "changes file"],
        FopKind::Open => &["opens file", "changes file"],
        FopKind::Opendir => &["opens directory names"],
        FopKind::Readdir => &["tells directory names"],
        FopKind::Readdirplus => &["tells directory names", "tells other"],
        FopKind::Fallocate | FopKind::Discard | FopKind::Zerofill => &["changes file"],
        FopKind::Setxattr | FopKind::Removexattr => &["changes file"],
        FopKind::CopyFileRange => &["changes other"],
        FopKind::Flush | FopKind::Fsync | FopKind::Release | FopKind::Statfs => &[],
        FopKind::Fsyncdir | FopKind::Releasedir | FopKind::Forget => &[],
        FopKind::Lk | FopKind::Inodelk | FopKind::Entrylk | FopKind::Lease | FopKind::Ipc => &[],
        FopKind::Fence | FopKind::Unfence => &[],
        FopKind::StateExport | FopKind::StateImport | FopKind::StateRelease => &[],
    }
}

/// What `request` touches with `outcome`, by the marker type of its kind.
macro_rules! touched {
    ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
        fn touched(request: &Fop, outcome: FopResult<Reply>) -> Touch {
            match (request, outcome) {
                $(
                    (Fop::$kind(request), Ok(Reply::$kind(reply))) => touches::<fop::$kind>(request, &Ok(reply)),
                    (Fop::$kind(request), Err(error)) => touches::<fop::$kind>(request, &Err(error)),
                )*
                _ => panic!("request and reply are of two kinds"),
            }
        }
    };
}
brickwork_api::for_each_fop!(touched);

#[test]
fn every_fop_touches_what_the_table_says() {
    for kind in FopKind::ALL.iter().copied() {
        let touch = touched(&samples::request(kind), Ok(samples::reply(kind)));
        assert_eq!(words(&touch), expected(kind), "{}", kind.name());
    }
}

#[test]
fn a_fop_that_failed_half_way_counts_as_done() {
    for kind in FopKind::ALL.iter().copied() {
        let of = |touch: &Touch| words(touch).into_iter().filter(|line| line.starts_with("changes")).collect();
        let done: Vec<String> = of(&touched(&samples::request(kind), Ok(samples::reply(kind))));
        let broken: Vec<String> = of(&touched(&samples::request(kind), Err(Errno::EIO.into())));
        // What only the reply names cannot be known.
        let only_in_the_reply = match kind {
            FopKind::Unlink => &["changes other"][..],
            FopKind::Rmdir => &["changes other+names"],
            FopKind::Rename => &["changes file", "changes other+names"],
            _ => &[],
        };
        let rest: Vec<_> = done.iter().filter(|line| !only_in_the_reply.contains(&line.as_str())).collect();
        assert_eq!(broken.iter().collect::<Vec<_>>(), rest, "{}", kind.name());
        let refused = touched(&samples::request(kind), Err(Errno::EACCES.into()));
        assert_eq!(words(&refused), Vec::<String>::new(), "{}: a refusal changes nothing", kind.name());
    }
}

#[test]
fn a_name_that_is_not_there_and_an_xattr_that_is_not_there_are_told_of() {
    let missing = touched(&samples::request(FopKind::Lookup), Err(Errno::ENOENT.into()));
    assert_eq!(words(&missing), ["tells directory names"]);
    let missing = touched(&samples::request(FopKind::Getxattr), Err(Errno::ENODATA.into()));
    assert_eq!(words(&missing), ["tells file"]);
}

#[test]
fn an_open_changes_the_file_when_it_empties_it_and_a_write_of_nothing_does_not() {
    let Fop::Open(mut open) = samples::request(FopKind::Open) else { unreachable!() };
    for (flags, touches) in
        [(0, &["opens file"][..]), (rustix::fs::OFlags::TRUNC.bits(), &["opens file", "changes file"])]
    {
        open.flags = flags;
        assert_eq!(words(&touched(&Fop::Open(open.clone()), Ok(samples::reply(FopKind::Open)))), touches);
    }
    let nothing = Reply::Write(WriteReply { written: 0, xdata: Xdata::EMPTY });
    assert_eq!(words(&touched(&samples::request(FopKind::Write), Ok(nothing))), ["tells file"]);
}

/// What a reply says after it was marked as not to be kept.
macro_rules! marked {
    ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
        fn marked(reply: Reply) -> Option<bool> {
            match reply {
                $(Reply::$kind(reply) => {
                    let mut outcome = Ok(reply);
                    mark_uncached::<fop::$kind>(&mut outcome);
                    outcome.unwrap().xdata.get(&UNCACHED).unwrap()
                })*
            }
        }
    };
}
brickwork_api::for_each_fop!(marked);

#[test]
fn every_fop_can_be_marked_as_not_to_be_kept() {
    for kind in FopKind::ALL.iter().copied() {
        assert_eq!(marked(samples::reply(kind)), Some(true), "{}", kind.name());
    }
}
