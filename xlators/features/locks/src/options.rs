//! The options of features/locks, in GlusterFS's names where it has them.

use brickwork_api::option_enum;
use brickwork_api::options::{AbsolutePath, Seconds, options};

pub use crate::rules::mandatory::Mandatory;
pub use crate::rules::reclaim::ReclaimFrom;

option_enum! {
    /// What the locks of clients on other machines survive.
    pub enum LockJournal {
        /// A lost connection.
        Memory = "memory",
        /// The death of the brick's process too.
        Process = "process",
        /// The death of its machine too: every lock call waits for the disk.
        Disk = "disk",
    }
}

options! {
    /// Options of `features/locks`.
    pub struct LocksOptions {
        /// Whose I/O a lock keeps away: nobody's (`off`), everybody else's on files with set-gid and without group execution
        /// (`file`), on all files (`forced`), or where the lock was taken as a mandatory one (`optimal`).
        mandatory: Mandatory = "mandatory-locking" [default("off"), aliases(&["locks.mandatory-locking"]), live()],
        /// Files with the xattr `trusted.glusterfs.enforce-mandatory-lock` belong to the owner of the newest lock alone.
        enforce: bool = "enforce-mandatory-lock" [default("off"), aliases(&["features.enforce-mandatory-lock"])],
        /// A client may take over the locks of another one that failed.
        reclaim: bool = "reclaim-lock" [default("off"), aliases(&["features.locks-reclaim-lock"]), live()],
        /// From whom: a client of the same failover group, one that is away, or any.
        reclaim_from: ReclaimFrom = "reclaim-from" [default("group"), live()],
        /// What the locks survive: a lost connection (`memory`), the death of the process (`process`), or of the machine (`disk`).
        journal: LockJournal = "lock-journal" [default("process")],
        /// Where that is kept. Not given: in the working folder of the brick.
        journal_directory: Option<AbsolutePath> = "journal-directory" [],
        /// How long clients may take to claim their locks after a start without a good journal. Other lock calls wait meanwhile.
        grace_timeout: Seconds = "grace-timeout" [default("30s"), range(1, 3_600)],
        /// Locks on one object; one more answers ENOLCK.
        inode_max: u32 = "locks-max-per-inode" [default("4194304"), range(1, 100_000_000), live()],
        /// Locks of one client.
        client_max: u32 = "locks-max-per-client" [default("4194304"), range(1, 100_000_000), live()],
        /// Locks of all clients.
        brick_max: u32 = "locks-max" [default("4194304"), range(1, 1_000_000_000), live()],
        /// Locks of clients that are away; beyond, the longest away lose theirs.
        detached_max: u32 = "detached-locks-max" [default("4194304"), range(0, 100_000_000), live()],
        /// Lock calls that wait.
        waiters_max: u32 = "waiters-max" [default("1048576"), range(1, 16_777_216), live()],
        /// Bytes of a lock owner; a longer one answers EINVAL.
        owner_bytes_max: u32 = "lk-owner-max" [default("1024"), range(8, 1_024), live()],
        /// Domains of locks between xlators on one object.
        domains_max: u32 = "domains-max-per-inode" [default("64"), range(1, 65_536), live()],
    }
}
