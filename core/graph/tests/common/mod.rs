//! Types for the tests: tables like those of the real xlators, which nothing is built from.

#![allow(dead_code, reason = "each test file uses a part")]

use brickwork_api::options::{AbsolutePath, OptionSpec, Percent, PercentOrSize, Seconds, Size};
use brickwork_api::options::{joined, option_enum, options};
use brickwork_api::{Arity, Gfid, Setup, SetupError, Xlator, XlatorType};
use brickwork_graph::registry::Registry;
use std::path::PathBuf;
use std::sync::Arc;

options! {
    /// Like storage/posix.
    pub struct Posix {
        /// The brick's directory.
        directory: AbsolutePath = "directory" [required()],
        /// The volume it belongs to.
        volume_id: Option<Gfid> = "volume-id" [],
        /// Free space that is kept.
        reserve: PercentOrSize = "reserve" [default("1"), live()],
        /// How often the disk is looked at.
        health_check_interval: Seconds = "health-check-interval" [default("30"), live()],
    }
}

options! {
    /// Like debug/io-stats.
    pub struct IoStats {
        /// Whether latencies are measured.
        latency_measurement: bool = "latency-measurement" [default("off"), live()],
        /// Whether fops are counted.
        count_fop_hits: bool = "count-fop-hits" [default("off"), live()],
    }
}

option_enum! {
    /// Which locks are enforced.
    pub enum Mandatory { Off = "off", File = "file", Forced = "forced", Optimal = "optimal" }
}

options! {
    /// Like features/locks.
    pub struct Locks {
        /// Which locks are enforced.
        enforce_mandatory_lock: Mandatory = "enforce-mandatory-lock" [default("off")],
        /// How many locks a file may have.
        locks_max: u32 = "locks-max" [default("10000"), range(1, 1_000_000)],
        /// How long a lock may be held against others.
        revocation_secs: Seconds = "revocation-secs" [default("0")],
    }
}

options! {
    /// Like debug/error-gen.
    pub struct ErrorGen {
        /// How many fops fail, in percent.
        failure: Percent = "failure" [default("10"), aliases(&["failure-rate"])],
        /// The error.
        error_no: Option<String> = "error-no" [],
        /// The most memory.
        history: Size = "history" [default("64KB")],
    }
}

options! {
    /// Like protocol/server.
    pub struct Server {
        /// Of what kind the network is.
        transport_type: String = "transport-type" [default("tcp"), aliases(&["transport.type"])],
        /// Of what family addresses are.
        family: Option<String> = "transport.address-family" [],
        /// Connections that wait.
        backlog: u32 = "transport.listen-backlog" [default("1024")],
        /// The port.
        port: u16 = "listen-port" [default("24007"), aliases(&["transport.socket.listen-port"])],
        /// The path that clients name.
        auth_path: Option<String> = "auth-path" [],
    }
}

/// What [`Server`] takes besides: that there is such an option is all that the check needs.
const SERVER: [OptionSpec; 29] = joined(&[
    Server::SPECS,
    &[
        text("transport.tcp-user-timeout"),
        text("transport.socket.bind-address"),
        text("transport.socket.listen-path"),
        text("auth.addr.*.allow"),
        text("auth.addr.*.reject"),
        text("auth.login.*.allow"),
        text("auth.login.*.password").secret(),
        text("auth.login.*.ssl-allow"),
        text("root-squash"),
        text("all-squash"),
        text("anonuid"),
        text("anongid"),
        text("manage-gids"),
        text("gid-timeout"),
        text("outstanding-rpc-limit"),
    ],
    SOCKET,
]);

/// What [`Client`] takes besides.
const CLIENT: [OptionSpec; 22] = joined(&[
    Client::SPECS,
    &[text("transport.socket.connect-path"), text("transport.socket.remote-port"), text("frame-timeout")],
    SOCKET,
]);

const SOCKET: &[OptionSpec] = &[
    text("transport.socket.keepalive"),
    text("transport.socket.keepalive-time"),
    text("transport.socket.keepalive-interval"),
    text("transport.socket.keepalive-count"),
    text("transport.socket.ssl-enabled"),
    text("transport.socket.ssl-own-cert"),
    text("transport.socket.ssl-private-key"),
    text("transport.socket.ssl-ca-list"),
    text("transport.socket.ssl-cert-depth"),
];

const fn text(key: &'static str) -> OptionSpec {
    OptionSpec::of::<String>(key, "An option.")
}

options! {
    /// Like protocol/client.
    pub struct Client {
        /// The machine.
        host: Option<String> = "remote-host" [],
        /// The port.
        port: Option<u16> = "remote-port" [],
        /// The brick.
        subvolume: String = "remote-subvolume" [required()],
        /// When a silent brick is taken for dead.
        ping_timeout: Seconds = "ping-timeout" [default("42"), live()],
        /// Who asks.
        username: Option<String> = "username" [],
        /// The secret.
        password: Option<String> = "password" [secret()],
        /// Whether groups are sent.
        send_gids: bool = "send-gids" [default("on")],
        /// Of what kind the network is.
        transport_type: String = "transport-type" [default("tcp")],
        /// Of what family addresses are.
        family: Option<String> = "transport.address-family" [],
        /// When an unanswered packet ends a connection.
        user_timeout: Seconds = "transport.tcp-user-timeout" [default("0")],
    }
}

options! {
    /// Like cluster/distribute.
    pub struct Distribute {
        /// Free space that is kept on a brick.
        min_free_disk: PercentOrSize = "min-free-disk" [default("10%"), live()],
    }
}

fn prepare(setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    Err(SetupError::Failed(format!("`{}` is of a type for tests of the check", setup.name)))
}

const fn kind(name: &'static str, options: &'static [OptionSpec], subvolumes: Arity) -> XlatorType {
    XlatorType { name, about: "a type for tests of the check", options, subvolumes, prepare }
}

static LOCAL: [XlatorType; 5] = [
    kind("storage/posix", Posix::SPECS, Arity::Leaf),
    kind("debug/io-stats", IoStats::SPECS, Arity::One),
    kind("debug/error-gen", ErrorGen::SPECS, Arity::One),
    kind("debug/trace", &[], Arity::One),
    kind("debug/null", &[], Arity::One),
];

static NETWORK: [XlatorType; 4] = [
    kind("features/locks", Locks::SPECS, Arity::One),
    kind("protocol/server", &SERVER, Arity::Some),
    kind("protocol/client", &CLIENT, Arity::Leaf),
    kind("cluster/distribute", Distribute::SPECS, Arity::Some),
];

/// The types of a brick on one machine, without locks and network.
pub fn local() -> Registry {
    Registry::new(&LOCAL)
}

/// All types.
pub fn all() -> Registry {
    Registry::new(LOCAL.iter().chain(&NETWORK))
}

/// A place in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// The files `*.EXTENSION` of a folder of the repository, sorted.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = repository(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut out: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    out.sort();
    out
}
