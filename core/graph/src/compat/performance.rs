//! The options of GlusterFS's `performance/*`, by the names that its documentation of `gluster volume set` gives them.
//!
//! The layers are left out and their options do nothing; but a name or value that GlusterFS would not know is a
//! mistake here as there.

use super::table::option;
use super::{Kind, OptionRow, Takes};

const SWITCH: Takes = Takes::Kind(Kind::Switch);
const SIZE: Takes = Takes::Kind(Kind::Size);
const SECONDS: Takes = Takes::Kind(Kind::Seconds);
const NUMBER: Takes = Takes::Kind(Kind::Number);

const CACHED: &str = "this layer keeps no cache";
const COLLECTED: &str = "no write is held back";
const THREADS: &str = "threads belong to the process here, not to a layer";
const OPENED: &str = "opens are not delayed";
const AHEAD: &str = "this layer reads nothing ahead";

pub const IO_CACHE: &[OptionRow] = &[
    option("io-cache", SWITCH, CACHED),
    option("cache-size", SIZE, CACHED),
    option("io-cache-size", SIZE, CACHED),
    option("cache-timeout", SECONDS, CACHED),
    option("force-revalidate-timeout", SECONDS, CACHED),
    option("min-file-size", SIZE, CACHED),
    option("max-file-size", SIZE, CACHED),
    option("priority", Takes::Anything, CACHED),
];

pub const IO_THREADS: &[OptionRow] = &[
    option("thread-count", NUMBER, THREADS),
    option("high-prio-threads", NUMBER, THREADS),
    option("normal-prio-threads", NUMBER, THREADS),
    option("low-prio-threads", NUMBER, THREADS),
    option("least-prio-threads", NUMBER, THREADS),
    option("enable-least-priority", SWITCH, THREADS),
    option("least-rate-limit", NUMBER, THREADS),
    option("idle-time", SECONDS, THREADS),
    option("watchdog-secs", SECONDS, THREADS),
    option("cleanup-disconnected-reqs", SWITCH, THREADS),
];

pub const MD_CACHE: &[OptionRow] = &[
    option("stat-prefetch", SWITCH, CACHED),
    option("md-cache-timeout", SECONDS, CACHED),
    option("md-cache-statfs", SWITCH, CACHED),
    option("cache-selinux", SWITCH, CACHED),
    option("cache-capability-xattrs", SWITCH, CACHED),
    option("cache-ima-xattrs", SWITCH, CACHED),
    option("cache-posix-acl", SWITCH, CACHED),
    option("cache-glusterfs-acl", SWITCH, CACHED),
    option("cache-swift-metadata", SWITCH, CACHED),
    option("cache-samba-metadata", SWITCH, CACHED),
    option("xattr-cache-list", Takes::Anything, CACHED),
    option("force-readdirp", SWITCH, "the kernel chooses whether names come with their attributes"),
    option("cache-invalidation", SWITCH, CACHED),
    option("global-cache-invalidation", SWITCH, CACHED),
];

pub const NL_CACHE: &[OptionRow] = &[
    option("nl-cache", SWITCH, CACHED),
    option("nl-cache-timeout", SECONDS, CACHED),
    option("nl-cache-limit", SIZE, CACHED),
    option("nl-cache-positive-entry", SWITCH, CACHED),
];

pub const OPEN_BEHIND: &[OptionRow] = &[
    option("open-behind", SWITCH, OPENED),
    option("lazy-open", SWITCH, OPENED),
    option("use-anonymous-fd", SWITCH, OPENED),
    option("read-after-open", SWITCH, OPENED),
];

pub const QUICK_READ: &[OptionRow] = &[
    option("quick-read", SWITCH, CACHED),
    option("cache-size", SIZE, CACHED),
    option("quick-read-cache-size", SIZE, CACHED),
    option("cache-timeout", SECONDS, CACHED),
    option("quick-read-cache-timeout", SECONDS, CACHED),
    option("max-file-size", SIZE, CACHED),
    option("priority", Takes::Anything, CACHED),
    option("cache-invalidation", SWITCH, CACHED),
    option("quick-read-cache-invalidation", SWITCH, CACHED),
    option("ctime-invalidation", SWITCH, CACHED),
];

pub const READ_AHEAD: &[OptionRow] = &[
    option("read-ahead", SWITCH, AHEAD),
    option("page-count", NUMBER, AHEAD),
    option("page-size", SIZE, AHEAD),
    option("force-atime-update", SWITCH, "the brick's mount options decide about access times"),
];

pub const READDIR_AHEAD: &[OptionRow] = &[
    option("readdir-ahead", SWITCH, AHEAD),
    option("parallel-readdir", SWITCH, AHEAD),
    option("rda-request-size", SIZE, AHEAD),
    option("rda-low-wmark", SIZE, AHEAD),
    option("rda-high-wmark", SIZE, AHEAD),
    option("rda-cache-limit", SIZE, AHEAD),
];

pub const WRITE_BEHIND: &[OptionRow] = &[
    option("write-behind", SWITCH, COLLECTED),
    option("cache-size", SIZE, COLLECTED),
    option("window-size", SIZE, COLLECTED),
    option("aggregate-size", SIZE, COLLECTED),
    option("flush-behind", SWITCH, "a close is answered when the brick has answered"),
    option("trickling-writes", SWITCH, COLLECTED),
    option("strict-O_DIRECT", SWITCH, COLLECTED),
    option("strict-write-ordering", SWITCH, COLLECTED),
    option("resync-failed-syncs-after-fsync", SWITCH, "no write fails after it was answered"),
    option("enable-O_SYNC", SWITCH, COLLECTED),
    option("disable-for-first-nbytes", SIZE, COLLECTED),
];
