//! What a command and a running instance say to each other: one JSON object in a line, one answer in a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// Longest request, in bytes with its newline. A path has at most 4096 bytes.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
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
    /// The graph's name.
    pub graph: String,
    /// Counts the graphs of the process.
    pub generation: u64,
    /// Bytes of the volume; `None` when it did not answer in time.
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
