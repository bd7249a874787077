//! What a command and a running instance say to each other: one JSON object in a line, one answer in a line.

use std::path::PathBuf;

use brickwork_locks::admin::shapes::{DropAsk, GraceAnswer, GraceEndAsk, Kind, ListAnswer, ListAsk, RestoreAsk};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codes::Code;
use crate::failure::Failure;

/// Longest request, in bytes with its newline. A lock that is to be restored has about 600 bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Longest answer a client takes, in bytes. A dump of 200 xlators has about 2 MiB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is asked of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// An [`InstanceReport`].
    Status,
    /// A [`GraphReport`].
    Graph,
    /// A [`DumpReport`].
    Dump,
    /// Takes a mount away, and ends the process with its last one. Answers how many mounts are left.
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Also while it is in use.
        lazy: bool,
    },
    /// The locks of its bricks: a [`LocksReport`].
    Locks {
        /// Of this brick alone.
        brick: Option<String>,
        /// Of what has these paths in the volume, beside the objects that `ask` means.
        paths: Vec<String>,
        /// Which.
        ask: ListAsk,
    },
    /// Takes locks from their owners. A [`DropAnswer`](brickwork_locks::admin::shapes::DropAnswer).
    LocksDrop {
        /// Of which brick.
        brick: String,
        /// Which.
        ask: DropAsk,
    },
    /// Gives dropped locks back. A [`RestoreAnswer`](brickwork_locks::admin::shapes::RestoreAnswer).
    LocksRestore {
        /// Of which brick.
        brick: String,
        /// Which.
        ask: RestoreAsk,
    },
    /// How the graces of its bricks are going: a list of [`GraceReport`].
    Grace {
        /// Of this brick alone.
        brick: Option<String>,
    },
    /// Ends a grace. A [`GraceEndAnswer`](brickwork_locks::admin::shapes::GraceEndAnswer).
    GraceEnd {
        /// Of which brick.
        brick: String,
        /// How.
        ask: GraceEndAsk,
    },
    /// Takes over a lock, or releases locks, as the client behind a mount.
    MountLock(MountLock),
}

/// A lock of a mount's client, for tools and gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountLock {
    /// The mount point.
    pub mount: PathBuf,
    /// The path of the file below it, as bytes: it need not be UTF-8.
    pub path: Vec<u8>,
    /// The family.
    pub kind: Kind,
    /// The owner's bytes.
    pub owner: Vec<u8>,
    /// First byte.
    pub start: u64,
    /// Byte after the last; `u64::MAX` reaches past any growth.
    pub end: u64,
    /// What to do with it.
    pub act: MountLockAct,
}

/// What to do with a lock of a mount's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountLockAct {
    /// Take over a write lock.
    ReclaimExclusive,
    /// Take over a read lock.
    ReclaimShared,
    /// Release it.
    Release,
}

/// The locks of an instance's bricks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LocksReport {
    /// Those that keep locks.
    pub bricks: Vec<BrickLocks>,
    /// Paths that no brick of the instance has.
    pub unknown: Vec<String>,
}

/// The locks of one brick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrickLocks {
    /// The name that clients ask for.
    pub brick: String,
    /// Its locks, with their paths.
    #[serde(flatten)]
    pub list: ListAnswer,
}

/// The grace of one brick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraceReport {
    /// The name that clients ask for.
    pub brick: String,
    /// How it is going.
    #[serde(flatten)]
    pub grace: GraceAnswer,
}

/// What an instance answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Failed(Failure),
}

/// An instance, for `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReport {
    /// Its name.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// The version that runs.
    pub version: String,
    /// How long it runs.
    pub uptime_seconds: f64,
    /// What is wrong, worst first.
    pub problems: Vec<ProblemReport>,
    /// Where it is mounted.
    pub mounts: Vec<MountReport>,
    /// The directories it serves.
    pub bricks: Vec<BrickReport>,
    /// What it serves to other machines.
    #[serde(default)]
    pub serving: Vec<ServingReport>,
    /// The bricks on other machines that it uses.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// The graph's name.
    pub graph: String,
    /// Counts the graphs of the process.
    pub generation: u64,
    /// Bytes of the volume; `None` when it did not answer in time, and for a process that only serves others.
    pub capacity: Option<CapacityReport>,
    /// The only user who can use the mounts, when only one can.
    pub private_to_uid: Option<u32>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemReport {
    /// What happened.
    pub what: String,
    /// What users notice of it.
    pub effect: String,
    /// What to do.
    pub next: String,
}

/// A mount of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountReport {
    /// Where.
    pub path: PathBuf,
    /// What it says of itself.
    pub status: Value,
}

/// A directory that an instance serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrickReport {
    /// The volume's name.
    pub name: String,
    /// Where.
    pub directory: PathBuf,
}

/// What a `protocol/server` volume says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServingReport {
    /// Where it listens, as `address:port` or `unix:path`.
    pub listening: Vec<String>,
    /// The bricks it serves.
    pub exports: Vec<ExportReport>,
    /// Connections at the moment.
    pub connections: u64,
    /// Connections that were refused, since it started.
    pub refused: u64,
}

/// A brick that is served to other machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExportReport {
    /// Its name.
    pub name: String,
    /// Counts its starts.
    pub boot: u64,
    /// What its memory of operations survives.
    pub eos: String,
    /// How full it is; `None` when it did not say so in time.
    pub capacity: Option<CapacityReport>,
    /// Its clients.
    pub sessions: Vec<SessionReport>,
}

/// A client of a brick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionReport {
    /// Its identity.
    pub client: String,
    /// Its machine.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// What the process calls itself.
    pub process: String,
    /// `attached`, or `detached` when it is waited for.
    pub state: String,
    /// How long it is in this state.
    #[serde(alias = "since_s")]
    pub since_seconds: f64,
    /// Requests under way.
    #[serde(alias = "in_flight")]
    pub in_flight: u64,
    /// Open files.
    pub opens: u64,
}

impl SessionReport {
    /// Whether the client is there.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.state == "attached"
    }
}

/// What a `protocol/client` volume says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkReport {
    /// The volume's name.
    pub name: String,
    /// `up`, `down` or `connecting`.
    pub state: String,
    /// The brick, as `host:port/subvolume`.
    pub brick: String,
    /// How long it is in this state.
    #[serde(alias = "since_s")]
    pub since_seconds: f64,
    /// Why it is not up, as far as it is known.
    pub reason: Option<String>,
    /// What kind of reason: `lost`, `tls`, `stranger`, `version`, `refused`.
    pub cause: Option<String>,
    /// How often the connection was made again.
    pub reconnects: u64,
}

impl LinkReport {
    /// Whether the brick can be used.
    #[must_use]
    pub fn up(&self) -> bool {
        self.state == "up"
    }

    /// What is wrong with it in words, and the code that explains it.
    #[must_use]
    pub fn trouble(&self) -> (Code, &'static str) {
        match self.cause.as_deref() {
            Some("tls") => (Code::TlsRefused, "has no secure connection with this machine"),
            Some("stranger") => (Code::NoBrickThere, "is no brick"),
            Some("version") => (Code::OtherVersion, "speaks another version"),
            Some("refused") => (Code::NotAdmitted, "does not let this client in"),
            _ => (Code::BrickUnreachable, "cannot be reached"),
        }
    }

    /// Why it is not up.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or("it has not answered yet")
    }
}

/// How full a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityReport {
    /// All bytes.
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
}

/// A running graph, for `graph show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphReport {
    /// Its name: that of its root.
    pub name: String,
    /// Counts the graphs of the process.
    pub generation: u64,
    /// Where it is in its life.
    pub phase: String,
    /// How long it runs.
    pub uptime_seconds: f64,
    /// The volfile.
    pub file: String,
    /// Where it is mounted.
    pub mounts: Vec<PathBuf>,
    /// The xlators, the root first, each before its children.
    pub xlators: Vec<XlatorReport>,
}

/// One xlator of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XlatorReport {
    /// The volume's name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its options; secrets are masked.
    pub options: serde_json::Map<String, Value>,
    /// The names of its children.
    pub children: Vec<String>,
    /// What it says of itself.
    pub status: Value,
}

/// Everything, for `dump`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpReport {
    /// As in `status`.
    pub status: InstanceReport,
    /// As in `graph show`.
    pub graph: GraphReport,
    /// The reloads of this process, the last one with its outcome.
    pub reloads: ReloadReport,
    /// What the process may use and uses.
    pub process: ProcessReport,
}

/// The reloads of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// How many were asked for.
    pub count: u64,
    /// Why the last one was refused; `None` when it was not.
    pub refused: Option<Failure>,
}

/// What a process may use and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessReport {
    /// Memory that stands in RAM.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// The most it may open.
    pub open_files_max: Option<u64>,
    /// Threads of the pool at most.
    pub pool_threads: usize,
    /// Connections of the admin socket at most.
    pub admin_connections_max: usize,
}
