//! The options of GlusterFS's `protocol/client` and `protocol/server`: those that work here under the same names, and
//! what becomes of the others.
//!
//! None is a pattern for all that a transport may have: an option of TLS with a typing error would be taken for one
//! without effect.

use super::table::option;
use super::{Kind, OptionRow, Takes};
use Takes::{Anything, Off, On, Outdated};

const SWITCH: Takes = Takes::Kind(Kind::Switch);
const SIZE: Takes = Takes::Kind(Kind::Size);
const NUMBER: Takes = Takes::Kind(Kind::Number);

const KERNEL: &str = "the kernel chooses the size";
const THREADS: &str = "threads belong to the process here, not to a transport";
const NODELAY: &str = "small messages are never held back";
const LOGGED: &str = "a connection that ends is always logged";
const CIPHERS: &str = "TLS 1.2 and 1.3 are spoken, with ciphers that are sound";
const REVOKED: &str = "lists of revoked certificates are not read: a revoked one would be believed";
const PORT: &str = "the port that a client comes from says nothing about who it is";

/// What [`CLIENT`] has in its own table.
pub const CLIENT_IMPLEMENTED: &[&str] = &[
    "transport-type",
    "transport.address-family",
    "transport.tcp-user-timeout",
    "transport.socket.connect-path",
    "transport.socket.remote-port",
    "transport.socket.keepalive",
    "transport.socket.keepalive-time",
    "transport.socket.keepalive-interval",
    "transport.socket.keepalive-count",
    "transport.socket.ssl-enabled",
    "transport.socket.ssl-own-cert",
    "transport.socket.ssl-private-key",
    "transport.socket.ssl-ca-list",
    "transport.socket.ssl-cert-depth",
    "remote-host",
    "remote-port",
    "remote-subvolume",
    "username",
    "password",
    "ping-timeout",
    "frame-timeout",
    "send-gids",
];

/// What [`SERVER`] has in its own table.
pub const SERVER_IMPLEMENTED: &[&str] = &[
    "transport-type",
    "transport.address-family",
    "transport.listen-backlog",
    "transport.tcp-user-timeout",
    "transport.socket.bind-address",
    "transport.socket.listen-path",
    "transport.socket.listen-port",
    "transport.socket.keepalive",
    "transport.socket.keepalive-time",
    "transport.socket.keepalive-interval",
    "transport.socket.keepalive-count",
    "transport.socket.ssl-enabled",
    "transport.socket.ssl-own-cert",
    "transport.socket.ssl-private-key",
    "transport.socket.ssl-ca-list",
    "transport.socket.ssl-cert-depth",
    "listen-port",
    "auth-path",
    "auth.addr.*.allow",
    "auth.addr.*.reject",
    "auth.login.*.allow",
    "auth.login.*.password",
    "auth.login.*.ssl-allow",
    "root-squash",
    "all-squash",
    "anonuid",
    "anongid",
    "manage-gids",
    "gid-timeout",
    "outstanding-rpc-limit",
];

/// `protocol/client`, beyond its own table.
pub const CLIENT: &[OptionRow] = &[
    option(
        "strict-locks",
        SWITCH,
        "locks belong to a client, not to its connection: a file with locks is opened again together with them",
    ),
    option("lk-heal", Outdated, "locks belong to a client, not to its connection"),
    option("filter-O_DIRECT", Off, "direct access to the disk is for the application to choose"),
    option("bind-insecure", SWITCH, PORT),
    option("client-bind-insecure", SWITCH, PORT),
    option("transport.socket.bind-address", Anything, "the kernel chooses the address that a connection comes from"),
    option("tcp-window-size", SIZE, KERNEL),
    option("transport.socket.window-size", SIZE, KERNEL),
    option("transport.socket.nodelay", SWITCH, NODELAY),
    option("transport.socket.lowlat", Outdated, NODELAY),
    option("transport.socket.own-thread", SWITCH, THREADS),
    option("transport.socket.read-fail-log", SWITCH, LOGGED),
    option("transport.socket.ssl-cipher-list", Anything, CIPHERS),
    option("transport.socket.ssl-dh-param", Anything, CIPHERS),
    option("transport.socket.ssl-ec-curve", Anything, CIPHERS),
    option("transport.socket.ssl-crl-path", Off, REVOKED),
    option("event-threads", NUMBER, THREADS),
];

/// `protocol/server`, beyond its own table.
pub const SERVER: &[OptionRow] = &[
    option("inode-lru-limit", NUMBER, "no table of inodes is kept"),
    option("strict-auth-accept", Off, "one rule that lets a client in is enough"),
    option("allow-insecure", On, PORT),
    option("rpc-auth-allow-insecure", On, PORT),
    option("rpc-auth.ports.*.insecure", On, PORT),
    option("statedump-path", Anything, "what a dump shows is asked for with `brickwork brick status`"),
    option("grace-timeout", Outdated, "`session-timeout` and `detach-timeout` say how long a client is waited for"),
    option("lk-heal", Outdated, "locks belong to a client, not to its connection"),
    option("tcp-window-size", SIZE, KERNEL),
    option("transport.socket.window-size", SIZE, KERNEL),
    option("transport.socket.nodelay", SWITCH, NODELAY),
    option("transport.socket.lowlat", Outdated, NODELAY),
    option("transport.socket.own-thread", SWITCH, THREADS),
    option("transport.socket.read-fail-log", SWITCH, LOGGED),
    option("transport.socket.ssl-cipher-list", Anything, CIPHERS),
    option("transport.socket.ssl-dh-param", Anything, CIPHERS),
    option("transport.socket.ssl-ec-curve", Anything, CIPHERS),
    option("transport.socket.ssl-crl-path", Off, REVOKED),
    option("event-threads", NUMBER, THREADS),
];
