//! A mount from its start to its end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brickwork_api::xdata::{FINE_TIMESTAMPS, INVALIDATES};
use brickwork_api::{ClientId, Event, FileKind, FopError, Gfid, Host, Locate, LookupReq, StatfsReq, Xdata};
use brickwork_fuse::{InitFlags, Limits, Mount as Mounted, MountError, MountOptions, Session, SessionError, Wanted};
use brickwork_volume::Client;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::control::Control;
use crate::front::{Front, Roots, Treatment};
use crate::handler::FrontHandler;
use crate::options::{Choice, FuseOptions, LockKeeper, Timeout};
use crate::readers::Readers;

/// What to mount where.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// The directory to mount on.
    pub point: PathBuf,
    /// What `df` shows as the source unless `fsname` says another.
    pub source: String,
    /// What `-o` said.
    pub options: FuseOptions,
}

/// A graph in the tree of files. Dropped, it is taken out and whatever is open on it fails.
pub struct Mount {
    session: Arc<Session>,
    front: Arc<Front>,
    point: PathBuf,
    locks_in_graph: bool,
    ended: watch::Receiver<bool>,
}

/// What a mount that was taken out of the tree still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing was open: the mount is ending.
    Nothing,
    /// It is out of the tree, and lives on for what is open until that is closed.
    Open {
        /// Files.
        files: usize,
        /// Directories.
        directories: usize,
    },
}

impl Mount {
    /// Mounts the graph of `roots` at `config.point`; when it returns, the mount answers.
    ///
    /// Futures that are not done at the reader's first poll are finished by the runtime of the caller.
    ///
    /// # Errors
    /// The graph does not answer, the place cannot be mounted on, or the kernel is too old; nothing is mounted then.
    pub async fn start(roots: Arc<dyn Roots>, host: Arc<dyn Host>, config: MountConfig) -> Result<Mount, StartError> {
        let options = config.options;
        let client = Arc::new(Client::new(ClientId::random(), options.slots, options.waiters_max));
        let promises = ask_root(&*roots, &host, client.id()).await?;
        let treatment = treatment(&options, promises)?;
        let locks_in_graph = match options.locks {
            LockKeeper::Auto => roots.keeps_locks(),
            LockKeeper::Graph => true,
            LockKeeper::Local => false,
        };
        let (wanted, limits) = (wanted(&options, locks_in_graph, &treatment), limits(&options));
        let host = Readers::of(host, limits.readers);
        let front = Arc::new(Front::new(roots, host, client, treatment));
        let (ended, end) = watch::channel(false);
        let handler = Arc::new(FrontHandler { front: front.clone(), ended });
        let (point, runtime) = (config.point, Handle::current());
        let mounting = mount_options(&options, config.source);
        let session = blocking(move || {
            let (mounted, lane) = Mounted::new(&point, &mounting).map_err(StartError::Mount)?;
            Session::start(Arc::new(lane), Some(mounted), &wanted, limits, handler, &runtime)
                .map_err(StartError::Session)
        })
        .await?;
        if let Some(option) = options.names_option().filter(|_| !session.granted().has_epoch()) {
            let minor = session.granted().kernel_minor;
            // What is not mounted cannot be unmounted; the session ends by itself.
            blocking(move || session.abort()).await.map_err(StartError::Mount)?;
            return Err(StartError::Kernel { option, minor });
        }
        let point = session.mount().map(|mounted| mounted.point().to_owned()).unwrap_or_default();
        Ok(Mount { session: Arc::new(session), front, point, locks_in_graph, ended: end })
    }

    /// Where it is mounted: absolute, without links.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// The client that this mount is to the graph.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.front.client.id()
    }

    /// Waits until the mount is gone, by whoever's hand, and everything open through it was released in the graph.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error says that the session is gone without having ended, which only a lost runtime brings about.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Takes the mount out of the tree if nobody uses it; it ends then: [`Mount::ended`].
    ///
    /// # Errors
    /// [`MountError::InUse`] while a file is open on it or a process works in it; the mount is then as before, as with
    /// any other error.
    pub async fn unmount_unused(&self) -> Result<(), MountError> {
        let session = self.session.clone();
        blocking(move || session.mount().map_or(Ok(()), Mounted::unmount_unused)).await
    }

    /// Takes the mount out of the tree at once. It ends when the last file open on it is closed: [`Mount::ended`].
    ///
    /// # Errors
    /// Where, why and what to do; the mount is then as before.
    pub async fn unmount(&self) -> Result<Left, MountError> {
        let session = self.session.clone();
        blocking(move || session.unmount()).await?;
        Ok(match self.front.opens.count() {
            (0, 0) => Left::Nothing,
            (files, directories) => Left::Open { files, directories },
        })
    }

    /// Takes the mount out of the tree and ends it now: what is open on it fails from here on.
    ///
    /// # Errors
    /// Where, why and what to do; the mount is then as before.
    pub async fn abort(&self) -> Result<(), MountError> {
        let session = self.session.clone();
        blocking(move || session.abort()).await
    }

    /// Tells the kernel of an event of the graph: what it cached of what changed is dropped.
    ///
    /// Returns at once; the kernel is told from the pool, as it may make the teller wait for requests under way.
    /// The event's hold is kept until the kernel has dropped it, or, for a file that is being changed through this
    /// mount, until it has dropped its attributes (README, Coherence).
    pub fn notify(&self, event: &Event) {
        self.front.hear(event);
    }

    /// Locks that tools and gateways have this mount hold.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.front.control
    }

    /// What the mount holds and has done, for `status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let front = &self.front;
        let (files, directories) = front.opens.count();
        let granted = self.session.granted();
        let mut status = front.counters.status();
        let more = json!({
            "mountpoint": self.point.to_string_lossy(),
            "client": front.client.id().to_string(),
            "ended": *self.ended.borrow(),
            "nodes": front.nodes.len(),
            "open_files": files,
            "open_directories": directories,
            "pending": self.session.pending(),
            "slots_used": front.client.requests().used(),
            "locks_waiting": front.client.waits().used(),
            "locks_for_tools": front.control.count(),
            "locks": if self.locks_in_graph { "graph" } else { "local" },
            "direct_io": front.treatment.direct_io,
            "told_of_changes": front.treatment.invalidates,
            "max_write": granted.max_write,
            "protocol": format!("7.{}", granted.minor),
        });
        if let Value::Object(more) = more {
            status.extend(more);
        }
        status.into()
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("point", &self.point).finish_non_exhaustive()
    }
}

/// What a graph promises of changes.
#[derive(Clone, Copy)]
struct Promises {
    /// Timestamps tell changes of content apart.
    fine_timestamps: bool,
    /// It tells of changes by others before they are answered.
    invalidates: bool,
}

/// Asks the graph for its root and what it promises.
async fn ask_root(roots: &dyn Roots, host: &Arc<dyn Host>, client: ClientId) -> Result<Promises, StartError> {
    let root = roots.root();
    let cx = brickwork_api::Cx::internal(client, host.clone());
    let lookup = LookupReq { target: Locate::Gfid(Gfid::ROOT), xdata: Xdata::EMPTY };
    let found = root.lookup(&cx, &lookup).await.map_err(StartError::Graph)?;
    if found.attr.kind != FileKind::Directory {
        let error = FopError::new(brickwork_api::Errno::ENOTDIR).doing("looking at the root of the graph");
        return Err(StartError::Graph(error));
    }
    let statfs = StatfsReq { gfid: Gfid::ROOT, xdata: Xdata::EMPTY };
    let counted = root.statfs(&cx, &statfs).await.map_err(StartError::Graph)?;
    let promise = |key| Ok(counted.xdata.get(key).map_err(StartError::Graph)?.unwrap_or(false));
    Ok(Promises { fine_timestamps: promise(&FINE_TIMESTAMPS)?, invalidates: promise(&INVALIDATES)? })
}

/// How the kernel is to treat what it is told by a graph that `promises`.
///
/// # Errors
/// A timeout above 0 over a graph that does not tell of changes.
fn treatment(options: &FuseOptions, promises: Promises) -> Result<Treatment, StartError> {
    let Promises { fine_timestamps, invalidates } = promises;
    if let Some(option) = options.timeout_above_zero().filter(|_| !invalidates) {
        return Err(StartError::Timeout(option));
    }
    let valid = |timeout: Timeout| timeout.span(invalidates);
    Ok(Treatment {
        entry_valid: valid(options.entry_timeout),
        attr_valid: valid(options.attribute_timeout),
        negative_valid: valid(options.negative_timeout),
        invalidates,
        direct_io: match options.direct_io {
            Choice::On => true,
            Choice::Off => false,
            Choice::Auto => !fine_timestamps && !invalidates,
        },
        fine_timestamps,
    })
}

fn wanted(options: &FuseOptions, locks_in_graph: bool, treatment: &Treatment) -> Wanted {
    let mut wanted = Wanted::default();
    if treatment.invalidates {
        // With it the kernel would ask for size and time before each read and listing, once the timeout is over.
        wanted.flags = wanted.flags.without(InitFlags::AUTO_INVAL_DATA);
    }
    // The brick takes set-id bits and capabilities away when it is told to: the kernel need not ask for them before
    // each write.
    wanted.flags = wanted.flags | InitFlags::HANDLE_KILLPRIV_V2;
    if !locks_in_graph {
        wanted.flags = wanted.flags.without(InitFlags::POSIX_LOCKS | InitFlags::FLOCK_LOCKS);
    }
    let worth_it = !treatment.attr_valid.is_zero() || !treatment.entry_valid.is_zero();
    if options.readdirplus == Choice::Off || options.readdirplus == Choice::Auto && !worth_it {
        wanted.flags = wanted.flags.without(InitFlags::DO_READDIRPLUS | InitFlags::READDIRPLUS_AUTO);
    }
    wanted
}

fn limits(options: &FuseOptions) -> Limits {
    let mut limits = Limits {
        max_background: options.max_background,
        congestion_threshold: options.congestion_threshold,
        // Those that wait for locks and those that wait for their answers, each with a window of its own.
        pending_max: options.waiters_max as usize + options.slots as usize,
        ..Limits::default()
    };
    if let Some(readers) = options.readers {
        limits.readers = readers as usize;
    }
    limits
}

fn mount_options(options: &FuseOptions, source: String) -> MountOptions {
    let default = MountOptions::default();
    // The default of the crate below: yes for root.
    let root = default.allow_other;
    MountOptions {
        source: options.fsname.clone().unwrap_or(source),
        allow_other: options.allow_other.unwrap_or(root),
        read_only: options.read_only,
        suid: options.suid.unwrap_or(root),
        devices: options.dev.unwrap_or(root),
        exec: options.exec,
        ..default
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the runtime ended while a mount began or ended: {error}"),
        },
    }
}

/// Why a mount did not start; says what, where, why, and what to do next.
#[derive(Debug)]
pub enum StartError {
    /// The root of the graph does not answer.
    Graph(FopError),
    /// The place cannot be mounted on.
    Mount(MountError),
    /// The kernel and we do not agree.
    Session(SessionError),
    /// This timeout is above 0 and the graph does not tell of changes.
    Timeout(&'static str),
    /// This timeout is above 0 and the kernel cannot be told of changed names.
    Kernel {
        /// The option.
        option: &'static str,
        /// The minor version of the kernel's FUSE.
        minor: u32,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Graph(error) => {
                write!(f, "the root of the graph does not answer: {error}; see the log for the brick behind it")
            }
            StartError::Mount(error) => error.fmt(f),
            StartError::Session(error) => error.fmt(f),
            StartError::Timeout(option) => write!(
                f,
                "`{option}` can only be 0 or `auto` here: nothing tells this mount when another client changes a file, \
                 so the kernel has to ask each time; leave the option out, or mount bricks that are served by \
                 protocol/server"
            ),
            StartError::Kernel { option, minor } => write!(
                f,
                "`{option}` above 0 needs Linux 6.16 (FUSE 7.44): this kernel, with FUSE 7.{minor}, cannot be told of names \
                 that another client changed; leave the option out or use a newer kernel"
            ),
        }
    }
}

impl std::error::Error for StartError {}
