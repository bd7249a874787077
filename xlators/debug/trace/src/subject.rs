//! What a line says of a request: the object, the name, and the numbers - never a payload.

use std::any::Any;
use std::fmt::{self, Write as _};

use brickwork_api::*;

/// The object and name a request is about, and its other arguments as `key=value` words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The object; for a name, the directory it is in.
    pub gfid: Option<Gfid>,
    /// The name.
    pub name: Option<Name>,
    /// The rest.
    pub args: String,
}

impl Subject {
    fn of(gfid: Gfid) -> Subject {
        Subject { gfid: Some(gfid), ..Subject::default() }
    }

    fn entry(entry: &Entry) -> Subject {
        Subject { gfid: Some(entry.parent), name: Some(entry.name.clone()), args: String::new() }
    }

    fn file(file: OpenFile) -> Subject {
        Subject::of(file.gfid).with("open", file.open.0)
    }

    fn target(target: Target) -> Subject {
        match target.open {
            Some(open) => Subject::file(OpenFile { gfid: target.gfid, open }),
            None => Subject::of(target.gfid),
        }
    }

    fn with(mut self, key: &str, value: impl fmt::Display) -> Subject {
        let separator = if self.args.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(self.args, "{separator}{key}={value}");
        self
    }

    fn with_debug(self, key: &str, value: impl fmt::Debug) -> Subject {
        self.with(key, format_args!("{value:?}"))
    }

    fn with_octal(self, key: &str, value: u32) -> Subject {
        self.with(key, format_args!("{value:#o}"))
    }

    fn with_range(self, offset: u64, length: u64) -> Subject {
        self.with("offset", offset).with("length", length)
    }
}

/// A request that can be told in one line.
trait Told {
    fn told(&self) -> Subject;
}

macro_rules! told {
    ($($request:ident($self:ident) => $subject:expr;)*) => {
        $(impl Told for $request {
            fn told(&self) -> Subject {
                let $self = self;
                $subject
            }
        })*
    };
}

told! {
    LookupReq(r) => match &r.target {
        Locate::Gfid(gfid) => Subject::of(*gfid),
        Locate::Entry(entry) => Subject::entry(entry),
    };
    StatReq(r) => Subject::target(r.target);
    SetattrReq(r) => Subject::target(r.target).with_debug("change", r.change);
    ReadlinkReq(r) => Subject::of(r.gfid);
    MknodReq(r) => Subject::entry(&r.entry).with("new", r.gfid).with_octal("mode", r.mode).with_octal("umask", r.umask);
    MkdirReq(r) => Subject::entry(&r.entry).with("new", r.gfid).with_octal("mode", r.mode).with_octal("umask", r.umask);
    UnlinkReq(r) => Subject::entry(&r.entry);
    RmdirReq(r) => Subject::entry(&r.entry);
    SymlinkReq(r) => Subject::entry(&r.entry).with("new", r.gfid).with("length", r.target.len());
    RenameReq(r) => Subject::entry(&r.from).with("to", r.to.parent).with_debug("as", &r.to.name).with_debug("mode", r.mode);
    LinkReq(r) => Subject::entry(&r.entry).with("file", r.gfid);
    CreateReq(r) => Subject::entry(&r.entry).with("new", r.gfid).with("open", r.open.0).with_octal("flags", r.flags)
        .with_octal("mode", r.mode).with_octal("umask", r.umask);
    OpenReq(r) => Subject::file(r.file).with_octal("flags", r.flags);
    ReadReq(r) => Subject::file(r.file).with_range(r.offset, r.size.into());
    WriteReq(r) => Subject::file(r.file).with_range(r.offset, r.data.len() as u64);
    FlushReq(r) => Subject::file(r.file);
    FsyncReq(r) => Subject::file(r.file).with("data_only", r.data_only);
    ReleaseReq(r) => Subject::file(r.file);
    TruncateReq(r) => Subject::target(r.target).with("size", r.size);
    FallocateReq(r) => Subject::file(r.file).with_debug("mode", r.mode).with_range(r.offset, r.length);
    SeekReq(r) => Subject::file(r.file).with("offset", r.offset).with_debug("what", r.what);
    CopyFileRangeReq(r) => Subject::file(r.from).with_range(r.from_offset, r.length).with("to", r.to.gfid)
        .with("to_open", r.to.open.0).with("to_offset", r.to_offset);
    StatfsReq(r) => Subject::of(r.gfid);
    GetxattrReq(r) => Subject::target(r.target).with_debug("xattr", &r.name);
    ListxattrReq(r) => Subject::target(r.target);
    SetxattrReq(r) => Subject::target(r.target).with_debug("xattr", &r.name).with("length", r.value.len())
        .with_debug("mode", r.mode);
    RemovexattrReq(r) => Subject::target(r.target).with_debug("xattr", &r.name);
    OpendirReq(r) => Subject::file(r.file);
    ReaddirReq(r) => Subject::file(r.file).with("offset", r.offset).with("size", r.size);
    ReaddirplusReq(r) => Subject::file(r.file).with("offset", r.offset).with("size", r.size);
    FsyncdirReq(r) => Subject::file(r.file).with("data_only", r.data_only);
    ReleasedirReq(r) => Subject::file(r.file);
    AccessReq(r) => Subject::of(r.gfid).with_octal("mask", r.mask);
    LkReq(r) => locked(Subject::file(r.file).with_debug("command", r.command).with_debug("family", r.kind), &r.range);
    InodelkReq(r) => locked(Subject::target(r.target).with_debug("domain", &r.domain).with_debug("command", r.command), &r.range);
    EntrylkReq(r) => Subject { name: r.name.clone(), ..Subject::target(r.target) }.with_debug("domain", &r.domain)
        .with_debug("command", r.command).with_debug("lock", r.kind);
    XattropReq(r) => r.values.iter().fold(Subject::target(r.target).with_debug("kind", r.kind), |subject, (name, value)| {
        subject.with_debug("xattr", name).with("length", value.len())
    });
    LeaseReq(r) => Subject::target(r.target).with_debug("command", r.command).with_debug("lease", r.kind);
    IpcReq(r) => Subject::default().with_debug("operation", &r.operation).with("length", r.payload.len());
    DiscardReq(r) => Subject::file(r.file).with_range(r.offset, r.length);
    ZerofillReq(r) => Subject::file(r.file).with_range(r.offset, r.length);
    ForgetReq(r) => Subject { gfid: r.gfids.first().copied(), ..Subject::default() }.with("objects", r.gfids.len());
    FenceReq(r) => Subject::default().with_debug("scope", r.scope).with("number", r.number.0).with("ttl_ms", r.ttl_ms);
    UnfenceReq(r) => Subject::default().with_debug("scope", r.scope).with("number", r.number.0).with("moved", r.moved);
    StateExportReq(r) => Subject::default().with_debug("scope", r.scope).with("number", r.number.0);
    StateImportReq(r) => Subject::default().with_debug("scope", r.scope).with("number", r.number.0)
        .with("records", r.records.len());
    StateReleaseReq(r) => Subject::default().with_debug("scope", r.scope).with("number", r.number.0);
}

fn locked(subject: Subject, range: &LkRange) -> Subject {
    let end: &dyn fmt::Display = if range.end == u64::MAX { &"end" } else { &range.end };
    subject.with_debug("lock", range.kind).with("range", format_args!("{}..{end}", range.start))
}

/// What a line says of `request`, a request of the fop `F`.
pub fn subject<F: FopType>(request: &F::Request) -> Subject {
    let request: &dyn Any = request;
    macro_rules! tell {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match F::KIND {
                $(FopKind::$kind => request.downcast_ref::<$request>().map(Told::told),)*
            }
        };
    }
    let told = for_each_fop!(tell);
    told.expect("the table has one type of request per fop")
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::samples;

    #[test]
    fn a_rename_tells_both_names() {
        let Fop::Rename(request) = samples::request(FopKind::Rename) else { unreachable!("a sample of its kind") };
        let subject = subject::<fop::Rename>(&request);
        assert_eq!((subject.gfid, subject.name), (Some(samples::DIRECTORY), Some(request.from.name)));
        assert_eq!(subject.args, format!("to={} as=\"new\" mode=Exchange", samples::DIRECTORY));
    }

    #[test]
    fn a_lock_to_the_end_says_so() {
        let range = LkRange { kind: LkType::Read, start: 5, end: u64::MAX, pid: 1 };
        assert_eq!(locked(Subject::default(), &range).args, "lock=Read range=5..end");
    }
}
