//! The supplementary groups of callers, which the kernel does not send.
//!
//! They are read from `/proc/PID/status` and kept for a second. The caller cannot end before its request is answered,
//! so the process that is read is the one that asks. Within the second an entry counts only for the same process, user
//! and group. The process is told by the inode of `/proc/PID`, which the kernel makes anew for each process, also when its
//! number comes round: that takes 1 µs, reading the start time from `stat` 6 and the groups from `status` 9.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long groups are believed: as long as a `setgroups` may take to be seen here.
const BELIEVED: Duration = Duration::from_secs(1);
const SHARDS: usize = 16;
/// Callers remembered in one shard; at the limit those not believed any more go, or if there are none, all.
const CALLERS_MAX: usize = 256;

/// Who a caller says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The thread that asks; 0 when it is in another pid namespace.
    pub(crate) pid: u32,
}

/// Which process has a number: the inode of its directory in `/proc`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Process(u64);

impl Process {
    fn of(pid: u32) -> Option<Process> {
        std::fs::metadata(format!("/proc/{pid}")).ok().map(|directory| Process(directory.ino()))
    }
}

struct Known {
    identity: Identity,
    process: Process,
    groups: Arc<[u32]>,
    read: Instant,
}

/// The groups of recent callers.
pub(crate) struct Groups {
    shards: [Mutex<HashMap<u32, Known>>; SHARDS],
    none: Arc<[u32]>,
}

impl Groups {
    pub(crate) fn new() -> Groups {
        Groups { shards: Default::default(), none: Arc::new([]) }
    }

    /// No groups at all.
    pub(crate) fn none(&self) -> Arc<[u32]> {
        self.none.clone()
    }

    /// The supplementary groups of `caller`.
    ///
    /// Empty for root, whom they would give nothing. `None` when they cannot be read: the caller is in another pid
    /// namespace, `/proc` hides it, or it is gone.
    pub(crate) fn of(&self, caller: Identity) -> Option<Arc<[u32]>> {
        if caller.uid == 0 {
            return Some(self.none());
        }
        if caller.pid == 0 {
            return None;
        }
        let process = Process::of(caller.pid)?;
        let shard = &self.shards[caller.pid as usize % SHARDS];
        let now = Instant::now();
        if let Some(known) = shard.lock().get(&caller.pid)
            && known.identity == caller
            && known.process == process
            && now.duration_since(known.read) < BELIEVED
        {
            return Some(known.groups.clone());
        }
        let status = std::fs::read(format!("/proc/{}/status", caller.pid)).ok()?;
        let groups: Arc<[u32]> = parse(&status)?.into();
        let mut shard = shard.lock();
        if shard.len() >= CALLERS_MAX {
            shard.retain(|_, known| now.duration_since(known.read) < BELIEVED);
        }
        if shard.len() >= CALLERS_MAX {
            shard.clear();
        }
        shard.insert(caller.pid, Known { identity: caller, process, groups: groups.clone(), read: now });
        Some(groups)
    }
}

/// The numbers in the line `Groups:` of a `/proc/PID/status`.
fn parse(status: &[u8]) -> Option<Vec<u32>> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Groups:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, pid: u32) -> Identity {
        Identity { uid, gid: uid, pid }
    }

    #[test]
    fn the_line_of_the_groups_is_found_and_may_be_empty() {
        assert_eq!(parse(b"Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t1\n"), Some(vec![4, 24, 1000]));
        assert_eq!(parse(b"Name:\tx\nGroups:\t \n"), Some(vec![]));
        assert_eq!(parse(b"Name:\tGroups: 5\n"), None);
    }

    #[test]
    fn root_has_none_and_is_not_looked_up() {
        let groups = Groups::new();
        assert_eq!(groups.of(caller(0, u32::MAX)).as_deref(), Some(&[][..]));
    }

    #[test]
    fn a_caller_that_cannot_be_read_has_unknown_groups() {
        let groups = Groups::new();
        assert!(groups.of(caller(7, 0)).is_none());
        assert!(groups.of(caller(7, u32::MAX)).is_none());
    }

    fn known(identity: Identity, process: Process, groups: &[u32]) -> Known {
        Known { identity, process, groups: groups.into(), read: Instant::now() }
    }

    #[test]
    fn a_process_with_another_user_does_not_inherit_what_its_number_was_known_for() {
        let groups = Groups::new();
        let pid = std::process::id();
        let shard = &groups.shards[pid as usize % SHARDS];
        shard.lock().insert(pid, known(caller(7, pid), Process::of(pid).unwrap(), &[4711]));
        assert_eq!(groups.of(caller(7, pid)).as_deref(), Some(&[4711][..]));
        assert_ne!(groups.of(caller(8, pid)).as_deref(), Some(&[4711][..]));
    }

    #[test]
    fn a_process_whose_number_came_round_does_not_inherit_the_groups_of_the_one_before() {
        let groups = Groups::new();
        let pid = std::process::id();
        let ended = Process(Process::of(pid).unwrap().0 - 1);
        groups.shards[pid as usize % SHARDS].lock().insert(pid, known(caller(7, pid), ended, &[4711]));
        assert_ne!(groups.of(caller(7, pid)).as_deref(), Some(&[4711][..]));
    }

    #[test]
    fn the_inode_of_a_process_stays_and_is_that_of_no_other() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (of_child, own) = (Process::of(child.id()), Process::of(std::process::id()));
        let again = Process::of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(of_child.is_some() && of_child == again && of_child != own);
    }

    #[test]
    fn the_cache_ends_at_its_limit() {
        let groups = Groups::new();
        let pid = std::process::id();
        let index = pid as usize % SHARDS;
        for number in 0..CALLERS_MAX as u32 {
            let known = known(caller(7, number), Process(0), &[]);
            groups.shards[index].lock().insert(1 << 24 | number, known);
        }
        assert!(groups.of(caller(7, pid)).is_some());
        assert_eq!(groups.shards[index].lock().len(), 1);
    }
}
