//! A volume as one client of a graph: paths become open files, events find whom they concern.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::{Arc, OnceLock, Weak};

use brickwork_api::locks::{LockNotice, LostBy};
use brickwork_api::{
    Attr, Cancel, ClientId, CreateReq, Credentials, Cx, Entry, Errno, Event, FileKind, FopError, FopResult, FopType,
    Gfid, Host, LkOwner, Locate, LookupReq, MODE_BITS, Name, OpenFile, OpenId, OpenReq, RequestId, Xdata, Xlator, fop,
};
use parking_lot::Mutex;

use crate::client::Client;
use crate::file::File;
use crate::slots::{Slot, lane};

/// Requests of a [`Volume::new`] under way; more wait.
pub const SLOTS: u32 = 1024;
/// Lock calls of a [`Volume::new`] that wait; one more answers `ENOLCK`.
pub const WAITERS_MAX: u32 = 65_536;

/// A volume; clones are the same one.
#[derive(Clone)]
pub struct Volume {
    pub(crate) shared: Arc<Shared>,
}

/// What a volume and its files share.
pub(crate) struct Shared {
    pub(crate) client: Arc<Client>,
    root: Box<dyn Fn() -> Arc<dyn Xlator> + Send + Sync>,
    pub(crate) host: Arc<dyn Host>,
    /// Who its locks belong to, for people.
    pub(crate) command: String,
    opens: Mutex<HashMap<OpenId, Weak<Opened>>>,
}

/// One open file.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: OpenFile,
    /// Why a lock that was taken through it is gone.
    pub(crate) lost: OnceLock<String>,
}

impl Volume {
    /// The graph under `root` as seen by a client of its own, with [`SLOTS`] and [`WAITERS_MAX`]. It acts as root.
    ///
    /// Events of the graph go to [`Volume::hear`].
    #[must_use]
    pub fn new(root: Arc<dyn Xlator>, host: Arc<dyn Host>) -> Volume {
        let client = Arc::new(Client::new(ClientId::random(), SLOTS, WAITERS_MAX));
        Volume::of(client, move || root.clone(), host, command_of_this_process())
    }

    /// The graph that `root` answers, asked for each fop, as seen by `client`; people see `command` beside its locks.
    #[must_use]
    pub fn of(
        client: Arc<Client>,
        root: impl Fn() -> Arc<dyn Xlator> + Send + Sync + 'static,
        host: Arc<dyn Host>,
        command: String,
    ) -> Volume {
        Volume { shared: Arc::new(Shared { client, root: Box::new(root), host, command, opens: Mutex::default() }) }
    }

    /// The client that this volume is to the graph.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.shared.client
    }

    /// Acts on an event of the graph: probes are sent on, files whose locks were taken are marked ([`File::lost`]).
    /// Returns at once.
    pub fn hear(&self, event: &Event) {
        let Event::Lock(notice) = event else { return };
        if notice.client != self.shared.client.id() {
            return;
        }
        match &notice.notice {
            LockNotice::Probe(probe) => {
                self.shared.client.hear_probe(probe, || (self.shared.root)(), &self.shared.host);
            }
            LockNotice::Lost { opens, why, .. } => self.lose(opens, *why),
        }
    }

    /// Marks files whose locks were taken.
    fn lose(&self, opens: &[OpenId], why: LostBy) {
        let table = self.shared.opens.lock();
        for opened in opens.iter().filter_map(|open| table.get(open)?.upgrade()) {
            // Lost once is lost.
            let _ = opened.lost.set(why.word().to_owned());
        }
    }

    /// The object at `path`, which starts at the root of the volume. Symbolic links are not followed.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`; `EINVAL` for a path with `..`; `ENAMETOOLONG`; what the graph answers.
    pub async fn lookup(&self, path: impl AsRef<Path> + Send) -> FopResult<Attr> {
        let mut locate = Locate::Gfid(Gfid::ROOT);
        for name in names(path.as_ref())? {
            let parent = self.find(locate).await?;
            if parent.kind != FileKind::Directory {
                return Err(Errno::ENOTDIR.into());
            }
            locate = Locate::Entry(Entry { parent: parent.gfid, name });
        }
        self.find(locate).await
    }

    async fn find(&self, target: Locate) -> FopResult<Attr> {
        let request = LookupReq { target, xdata: Xdata::EMPTY };
        Ok(self.shared.ask::<fop::Lookup>(&LkOwner::default(), &request).await?.attr)
    }

    /// Opens the file at `path` with `flags` (`O_RDWR`, `O_TRUNC`, ...). Symbolic links are not followed.
    ///
    /// # Errors
    /// As [`Volume::lookup`]; `EISDIR`, `ELOOP` for a link, `EINVAL` for what else is no file.
    pub async fn open(&self, path: impl AsRef<Path> + Send, flags: i32) -> FopResult<File> {
        let attr = self.lookup(path).await?;
        match attr.kind {
            FileKind::File => self.open_gfid(attr.gfid, flags).await,
            FileKind::Directory => Err(Errno::EISDIR.into()),
            FileKind::Symlink => Err(Errno::ELOOP.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Opens the file `gfid` with `flags`.
    ///
    /// # Errors
    /// What the graph answers.
    pub async fn open_gfid(&self, gfid: Gfid, flags: i32) -> FopResult<File> {
        let file = OpenFile { gfid, open: self.shared.client.fresh_open() };
        let request = OpenReq { file, flags: flags.cast_unsigned(), kill_set_id: false, xdata: Xdata::EMPTY };
        self.shared.ask::<fop::Open>(&LkOwner::default(), &request).await?;
        Ok(self.opened(file))
    }

    /// Makes the file at `path` with the permissions `mode` and opens it for reading and writing.
    ///
    /// # Errors
    /// As [`Volume::lookup`] for its directory; `EEXIST` when there is something.
    pub async fn create(&self, path: impl AsRef<Path> + Send, mode: u32) -> FopResult<File> {
        let path = path.as_ref();
        let Some(name) = names(path)?.pop() else { return Err(Errno::EEXIST.into()) };
        let parent = self.lookup(path.parent().unwrap_or(Path::new(""))).await?;
        if parent.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        let file = OpenFile { gfid: self.shared.client.fresh_gfid(), open: self.shared.client.fresh_open() };
        let request = CreateReq {
            entry: Entry { parent: parent.gfid, name },
            gfid: file.gfid,
            open: file.open,
            flags: libc::O_RDWR.cast_unsigned(),
            mode: mode & MODE_BITS,
            umask: 0,
            xdata: Xdata::EMPTY,
        };
        self.shared.ask::<fop::Create>(&LkOwner::default(), &request).await?;
        Ok(self.opened(file))
    }

    fn opened(&self, file: OpenFile) -> File {
        let opened = Arc::new(Opened { file, lost: OnceLock::new() });
        self.shared.opens.lock().insert(file.open, Arc::downgrade(&opened));
        File::new(self.shared.clone(), opened)
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("client", &self.shared.client.id()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Does one fop for `owner`, as a request of its own.
    pub(crate) async fn ask<F: FopType>(&self, owner: &LkOwner, request: &F::Request) -> FopResult<F::Reply> {
        let slot = self.client.requests().take(lane()).await;
        let cx = self.cx(&slot, owner, Cancel::never());
        F::call(&*self.root(), &cx, request).await
    }

    /// The root of the graph of this moment.
    pub(crate) fn root(&self) -> Arc<dyn Xlator> {
        (self.root)()
    }

    /// The context of the request in `slot`.
    pub(crate) fn cx(&self, slot: &Slot<'_>, owner: &LkOwner, cancel: Cancel) -> Cx {
        let client = self.client.id();
        Cx {
            request: RequestId { client, slot: slot.number(), sequence: slot.sequence() },
            lk_owner: owner.clone(),
            credentials: Credentials { pid: std::process::id(), ..Credentials::root() },
            cancel,
            ..Cx::internal(client, self.host.clone())
        }
    }

    /// Notes that an open has ended.
    pub(crate) fn closed(&self, open: OpenId) {
        self.opens.lock().remove(&open);
    }
}

/// The names on the way from the root.
fn names(path: &Path) -> Result<Vec<Name>, FopError> {
    let name = |component| match component {
        Component::RootDir | Component::CurDir => None,
        Component::Normal(name) => Some(Name::new(name.as_bytes()).map_err(FopError::from)),
        Component::ParentDir | Component::Prefix(_) => Some(Err(Errno::EINVAL.into())),
    };
    path.components().filter_map(name).collect()
}

fn command_of_this_process() -> String {
    let comm = std::fs::read("/proc/self/comm").unwrap_or_default();
    String::from_utf8_lossy(&comm).trim_end().to_owned()
}
