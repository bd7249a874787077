//! The rows of `gluster-compat`: names that GlusterFS 10 and 11 have, and what becomes of them.

use super::performance::{
    IO_CACHE, IO_THREADS, MD_CACHE, NL_CACHE, OPEN_BEHIND, QUICK_READ, READ_AHEAD, READDIR_AHEAD, WRITE_BEHIND,
};
use super::protocol::{CLIENT, CLIENT_IMPLEMENTED, SERVER, SERVER_IMPLEMENTED};
use super::{OptionRow, State, Takes, TypeRow};
use Takes::{Anything, Off, On, Outdated};

pub(super) const fn option(key: &'static str, takes: Takes, consequence: &'static str) -> OptionRow {
    OptionRow { key, takes, consequence }
}

/// An xlator of our own: options of its own table are implemented, these come on top.
const fn own(
    name: &'static str,
    consequence: &'static str,
    implemented: &'static [&'static str],
    options: &'static [OptionRow],
) -> TypeRow {
    TypeRow { name, state: State::Own, consequence, implemented, options }
}

/// A type that is left out of the graph and whose listed options are all there are.
const fn dropped(name: &'static str, consequence: &'static str, options: &'static [OptionRow]) -> TypeRow {
    TypeRow { name, state: State::WithoutEffect, consequence, implemented: &[], options }
}

const fn refused(name: &'static str, consequence: &'static str) -> TypeRow {
    TypeRow { name, state: State::Refused, consequence, implemented: &[], options: &[] }
}

/// Options of every type.
pub const ANY_TYPE: &[OptionRow] = &[
    option("log-level", Anything, "the log level is one for the whole process"),
    option("pass-through", Off, "a layer is switched off by taking it out of the volfile"),
];

const OFF_BY_DEFAULT: &str = "the feature is not here";
const REVOKES: &str = "a lock is taken from its owner by an administrator (`brickwork locks drop`), never by its age";
const PLACE_ONLY: &str = "says where a feature that is off would keep its files";

/// All types, by class and name.
pub const TYPES: &[TypeRow] = &[
    // ---- cluster ----
    own(
        "cluster/distribute",
        "files are spread over the subvolumes by the hash of their names",
        &[],
        &[
            option("lock-migration", Anything, "locks always move with their file"),
            option("cluster.lock-migration", Anything, "locks always move with their file"),
            option(
                "force-migration",
                Off,
                "a file that is being written is moved without losing a write; forcing is not needed",
            ),
        ],
    ),
    refused(
        "cluster/replicate",
        "copies of files on several bricks are not built; without it each brick would hold different files",
    ),
    refused("cluster/disperse", "erasure coding is not built; the bricks hold fragments, not files"),
    refused("cluster/thin-arbiter", "belongs to cluster/replicate, which is not built"),
    refused("cluster/stripe", "GlusterFS itself has dropped it"),
    refused("cluster/tier", "GlusterFS itself has dropped it"),
    refused("cluster/nufa", "a layout that prefers the local brick is not built"),
    refused("cluster/switch", "choosing bricks by file name is not built"),
    // ---- debug ----
    own(
        "debug/io-stats",
        "counts fops, errors and latencies",
        &[],
        &[
            option("global-threading", Anything, "threads belong to the process here, not to a layer"),
            option("threads", Anything, "threads belong to the process here, not to a layer"),
            option("count-fop-hits", Anything, "fops are always counted"),
            option("latency-measurement", Anything, "latencies are always measured"),
            option("unique-id", Anything, "the volume's name identifies it"),
            option("volume-id", Anything, "checked by storage/posix"),
            option("dump-fd-stats", Off, OFF_BY_DEFAULT),
            option(
                "ios-dump-interval",
                Anything,
                "figures are asked for with `brickwork status`, not written to files",
            ),
            option("ios-dump-format", Anything, "figures are asked for with `brickwork status`, not written to files"),
            option("ios-sample-interval", Anything, "single fops are not sampled"),
            option("ios-sample-buf-size", Anything, "single fops are not sampled"),
            option("ios-dnscache-ttl-sec", Anything, "addresses of clients are not looked up"),
            option("sys-log-level", Anything, "the log level is one for the whole process"),
            option("logger", Anything, "the log goes to standard error"),
            option("log-format", Anything, "the log's format is one for the whole process"),
            option("log-buf-size", Anything, "the log is not buffered"),
            option("log-flush-timeout", Anything, "the log is not buffered"),
        ],
    ),
    own(
        "debug/trace",
        "logs fops",
        &[],
        &[
            option("history-size", Anything, "no history of fops is kept"),
            option("log-history", Off, OFF_BY_DEFAULT),
            option("force-log-level", Anything, "the log level is one for the whole process"),
        ],
    ),
    own("debug/error-gen", "makes fops fail, for tests", &[], &[]),
    own("debug/null", "does nothing: the layer to copy for a new one", &[], &[]),
    refused("debug/delay-gen", "delaying fops for tests is not built"),
    refused("debug/sink", "belongs to GlusterFS's own tests"),
    // ---- features ----
    dropped("features/access-control", "POSIX ACLs are checked by storage/posix and the kernel", &[]),
    dropped(
        "system/posix-acl",
        "an old name of features/access-control: POSIX ACLs are checked by storage/posix and the kernel",
        &[],
    ),
    dropped("features/arbiter", "belongs to cluster/replicate, which is refused where it stands", &[]),
    dropped(
        "features/barrier",
        "fops are not held back for snapshots; take them of a stopped brick",
        &[
            option("barrier", Off, "holding fops back for a snapshot is not built"),
            option("barrier-timeout", Anything, "nothing is held back"),
        ],
    ),
    dropped(
        "features/bitrot-stub",
        "files are not signed, signatures of GlusterFS stay as they are and grow stale",
        &[option("bitrot", Off, "signing files against bit rot is not built"), option("export", Anything, PLACE_ONLY)],
    ),
    refused("features/bit-rot", "signing files against bit rot is not built"),
    dropped(
        "features/changelog",
        "no journal of changes is written: geo-replication cannot follow this brick",
        &[
            option("changelog", Off, "the journal of changes is not built; geo-replication would miss every change"),
            option("changelog-notification", Off, "the journal of changes is not built"),
            option("capture-del-path", Off, "the journal of changes is not built"),
            option("changelog-brick", Anything, PLACE_ONLY),
            option("changelog-dir", Anything, PLACE_ONLY),
            option("changelog-barrier-timeout", Anything, "nothing is held back"),
            option("rollover-time", Anything, "no journal is written"),
            option("fsync-interval", Anything, "no journal is written"),
            option("encoding", Anything, "no journal is written"),
        ],
    ),
    refused("features/cloudsync", "files whose content was moved to a cloud store would look empty"),
    refused("features/compress", "data compressed on the wire cannot be read"),
    refused("features/crypt", "GlusterFS itself has dropped it"),
    refused("features/gfid-access", "access by gfid for geo-replication is not built"),
    refused("features/glupy", "GlusterFS itself has dropped it"),
    dropped(
        "features/index",
        "no list of files to heal is kept: only cluster/replicate and cluster/disperse need it",
        &[
            option("index-base", Anything, PLACE_ONLY),
            option("xattrop-pending-watchlist", Anything, "only cluster/replicate writes these marks"),
            option("xattrop-dirty-watchlist", Anything, "only cluster/replicate writes these marks"),
            option("xattrop64-watchlist", Anything, "only cluster/disperse writes these marks"),
        ],
    ),
    dropped(
        "features/leases",
        "no leases are given out",
        &[
            option("leases", Off, "leases are not built; NFS and SMB servers would count on them"),
            option("lease-lock-recall-timeout", Anything, "no lease is ever recalled"),
        ],
    ),
    own(
        "features/locks",
        "keeps file locks",
        &["enforce-mandatory-lock"],
        &[
            option("trace", Off, "`brickwork locks list` shows what is held; debug/trace shows the calls"),
            option("revocation-secs", Anything, REVOKES),
            option("revocation-clear-all", Off, REVOKES),
            option("revocation-max-blocked", Anything, REVOKES),
            option(
                "monkey-unlocking",
                Off,
                "unlocking is not left out at random; debug/error-gen fails fops on purpose",
            ),
            option("notify-contention", Anything, "holders of locks between xlators are not told who waits"),
            option("notify-contention-delay", Anything, "holders of locks between xlators are not told who waits"),
        ],
    ),
    dropped(
        "features/marker",
        "quota and geo-replication marks are not kept",
        &[
            option("quota", Off, "accounting for quota is not built: limits would never be reached"),
            option("inode-quota", Off, "accounting for quota is not built: limits would never be reached"),
            option("quota-version", Anything, "nothing is accounted"),
            option("xtime", Off, "marks for geo-replication are not built"),
            option("gsync-force-xtime", Off, "marks for geo-replication are not built"),
            option("timestamp-file", Anything, PLACE_ONLY),
            option("volume-uuid", Anything, "nothing is marked"),
        ],
    ),
    refused("features/metadisp", "splitting names and data over subvolumes is not built"),
    refused("features/namespace", "counting fops by namespace is not built"),
    dropped(
        "features/quiesce",
        "the graph itself holds fops back while it is switched",
        &[
            option("timeout", Anything, "the graph has its own limit"),
            option("failover-hosts", Anything, "a front-end reaches its bricks itself"),
        ],
    ),
    dropped(
        "features/quota",
        "limits on directories are not enforced",
        &[
            option("server-quota", Off, "limits on directories are not built: users could write past them"),
            option("deem-statfs", Off, "free space is the file system's"),
            option("volume-uuid", Anything, "nothing is accounted"),
            option("default-soft-limit", Anything, "nothing is limited"),
            option("soft-timeout", Anything, "nothing is limited"),
            option("hard-timeout", Anything, "nothing is limited"),
            option("alert-time", Anything, "nothing is limited"),
        ],
    ),
    refused("features/quotad-aggregator", "limits on directories are not built"),
    dropped(
        "features/read-only",
        "writes pass",
        &[option("read-only", Off, "clients would write to what should stay as it is")],
    ),
    refused("features/sdfs", "name operations are serialized in storage/posix; this layer would only slow them down"),
    dropped(
        "features/selinux",
        "SELinux labels are stored like other xattrs, under `security.selinux`; GlusterFS keeps them as `trusted.glusterfs.selinux`",
        &[option("selinux", Anything, "labels that GlusterFS wrote are not shown as `security.selinux`")],
    ),
    refused(
        "features/shard",
        "the bricks hold pieces of files under `.shard`; each file would end after its first piece",
    ),
    refused("features/simple-quota", "limits on directories are not built: users could write past them"),
    refused("features/snapview-client", "`.snaps` folders are not built"),
    refused("features/snapview-server", "`.snaps` folders are not built"),
    refused("features/thin-arbiter", "belongs to cluster/replicate, which is not built"),
    dropped(
        "features/trash",
        "deleted files are gone, nothing is kept in `.trashcan`",
        &[
            option("trash", Off, "deleted files would not be kept in `.trashcan`"),
            option("trash-internal-op", Off, "deleted files would not be kept in `.trashcan`"),
            option("trash-dir", Anything, PLACE_ONLY),
            option("brick-path", Anything, PLACE_ONLY),
            option("trash-max-filesize", Anything, "nothing is kept"),
            option("trash-eliminate-path", Anything, "nothing is kept"),
            option("eliminate", Anything, "nothing is kept"),
        ],
    ),
    dropped(
        "features/upcall",
        "protocol/server itself tells clients what they must not keep, before it answers the change",
        &[
            option("cache-invalidation", Anything, "clients are always told"),
            option("cache-invalidation-timeout", Anything, "who was told of an object is remembered until it drops it"),
        ],
    ),
    dropped(
        "features/utime",
        "times are those of the brick's file system; `trusted.glusterfs.mdata` of GlusterFS stays as it is",
        &[option("noatime", Anything, "the brick's mount options decide about access times")],
    ),
    dropped(
        "features/worm",
        "files can be changed and deleted",
        &[
            option("worm", Off, "files could be changed that must not"),
            option("worm-file-level", Off, "files could be changed that must not"),
            option("worm-files-deletable", Anything, "files can be deleted"),
            option("default-retention-period", Anything, "nothing is retained"),
            option("retention-mode", Anything, "nothing is retained"),
            option("auto-commit-period", Anything, "nothing is retained"),
        ],
    ),
    refused("features/filter", "GlusterFS itself has dropped it"),
    refused("features/mac-compat", "hiding the xattrs of macOS is not built"),
    refused("features/path-convertor", "GlusterFS itself has dropped it"),
    // ---- others ----
    dropped("meta", "the `.meta` folder is not shown; `brickwork status --json` says the same", &[]),
    refused("mgmt/glusterd", "the management daemon of GlusterFS is not a layer of a file system"),
    refused("mount/fuse", "it never stands in a volfile: `brickwork mount` puts it on top"),
    refused("mount/api", "it never stands in a volfile: the client library puts itself on top"),
    refused("global", "options of the process are not given in a volfile"),
    refused(
        "nfs/server",
        "GlusterFS's own NFS server is not built; export a mount with NFS-Ganesha or the kernel's server",
    ),
    // ---- performance ----
    dropped(
        "performance/io-cache",
        "the kernel's page cache keeps file content, and asks the brick whether it still holds",
        IO_CACHE,
    ),
    dropped("performance/io-threads", "threads belong to the process here, not to a layer", IO_THREADS),
    dropped(
        "performance/md-cache",
        "the kernel keeps attributes of a brick over the network until the brick tells of a change (`attribute-timeout`)",
        MD_CACHE,
    ),
    dropped(
        "performance/nl-cache",
        "the kernel keeps absent names of a brick over the network until the brick tells of a change (`negative-timeout`)",
        NL_CACHE,
    ),
    dropped("performance/open-behind", "each open reaches the brick when it is made", OPEN_BEHIND),
    dropped(
        "performance/quick-read",
        "small files are opened and read like others; the kernel's page cache keeps their content",
        QUICK_READ,
    ),
    dropped("performance/read-ahead", "the kernel reads ahead", READ_AHEAD),
    dropped("performance/readdir-ahead", "a folder is read as the kernel asks for it, nothing ahead", READDIR_AHEAD),
    dropped(
        "performance/stat-prefetch",
        "an old name of performance/md-cache: the kernel keeps attributes until the brick tells of a change (`attribute-timeout`)",
        MD_CACHE,
    ),
    dropped("performance/symlink-cache", "symbolic links are not cached: each look asks the brick", &[]),
    dropped(
        "performance/write-behind",
        "each write goes to the brick when it is made, and is answered when the brick has it",
        WRITE_BEHIND,
    ),
    dropped("performance/decompounder", "requests are not bundled, so there is nothing to take apart", &[]),
    // ---- protocol ----
    own("protocol/client", "speaks to a brick over the network", CLIENT_IMPLEMENTED, CLIENT),
    own("protocol/server", "serves clients over the network", SERVER_IMPLEMENTED, SERVER),
    refused("playground/template", "an example for programmers, not a layer to use"),
    refused("encryption/rot-13", "an example for programmers, not a layer to use"),
    // ---- storage ----
    own(
        "storage/posix",
        "a folder of a file system as a brick",
        &["directory", "volume-id", "reserve", "health-check-interval"],
        &[
            option(
                "shared-brick-count",
                Anything,
                "free space is reported as the file system says, also when bricks share one",
            ),
            option("fips-mode-rchecksum", Anything, "checksums of ranges are asked for only by cluster/replicate"),
            option("linux-aio", Outdated, "how a brick reaches its disk is chosen for each request"),
            option("linux-io_uring", Anything, "how a brick reaches its disk is chosen for each request"),
            option("node-uuid-pathinfo", Off, OFF_BY_DEFAULT),
            option("glusterd-uuid", Anything, "there is no management daemon whose id could be shown"),
            option("hostname", Anything, "the machine's own name is shown"),
            option("o-direct", Off, "direct access to the disk is for the application to choose"),
            option("background-unlink", Off, "large files are not deleted behind the caller's back"),
            option("export-statfs-size", On, "free space is always the file system's"),
            option("mandate-attribute", Off, OFF_BY_DEFAULT),
            option("span-devices", Anything, "a brick is one file system"),
            option("janitor-sleep-duration", Outdated, "deleted folders are removed at once"),
            option("aio-*", Outdated, "how a brick reaches its disk is chosen for each request"),
            option("batch-fsync-mode", Anything, "each fsync reaches the disk before it is answered"),
            option("batch-fsync-delay-usec", Anything, "each fsync reaches the disk before it is answered"),
            option("gfid2path-separator", Anything, "paths are listed one by one"),
            option("ctime", Anything, "times are those of the brick's file system"),
            option("update-link-count-parent", Off, "the old record of parents is not kept; `trusted.gfid2path` is"),
            option("disable-landfill-purge", Off, OFF_BY_DEFAULT),
        ],
    ),
];
