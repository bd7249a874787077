//! Directories kept open (`O_PATH`), by gfid.
//!
//! A descriptor stays right when its directory is renamed, and every one was checked to carry its gfid when it came in. It
//! is dropped when the directory is removed. The number is bounded; the ones not used of late go first.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::Gfid;
use parking_lot::RwLock;

const SHARDS: usize = 16;

/// A directory that is held open.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) gfid: Gfid,
    pub(crate) fd: OwnedFd,
    /// Its inode on the brick, to tell it from a copy that carries the same gfid.
    pub(crate) ino: u64,
}

#[derive(Debug, Default)]
struct Shard {
    dirs: HashMap<Gfid, (Arc<Dir>, AtomicBool)>,
    /// Oldest first; one that was used since it came to the front gets another round.
    order: VecDeque<Gfid>,
}

/// The directories that are held open.
#[derive(Debug)]
pub(crate) struct Dirs {
    shards: [RwLock<Shard>; SHARDS],
    per_shard: usize,
}

impl Dirs {
    /// Room for about `capacity` directories.
    pub(crate) fn new(capacity: usize) -> Dirs {
        Dirs { shards: std::array::from_fn(|_| RwLock::default()), per_shard: capacity.div_ceil(SHARDS).max(1) }
    }

    pub(crate) fn get(&self, gfid: Gfid) -> Option<Arc<Dir>> {
        let shard = self.shard(gfid).read();
        let (dir, used) = shard.dirs.get(&gfid)?;
        used.store(true, Ordering::Relaxed);
        Some(Arc::clone(dir))
    }

    /// Takes `dir` in; if somebody was first, that one stays and is returned.
    pub(crate) fn insert(&self, dir: Dir) -> Arc<Dir> {
        let gfid = dir.gfid;
        let mut shard = self.shard(gfid).write();
        if let Some((known, _)) = shard.dirs.get(&gfid) {
            return Arc::clone(known);
        }
        while shard.dirs.len() >= self.per_shard {
            shard.evict();
        }
        let dir = Arc::new(dir);
        shard.dirs.insert(gfid, (Arc::clone(&dir), AtomicBool::new(false)));
        shard.order.push_back(gfid);
        dir
    }

    pub(crate) fn remove(&self, gfid: Gfid) {
        let mut shard = self.shard(gfid).write();
        if shard.dirs.remove(&gfid).is_some() {
            shard.order.retain(|other| *other != gfid);
        }
    }

    /// Lets half of them go: the process has no descriptor left.
    pub(crate) fn shed(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            for _ in 0..shard.dirs.len().div_ceil(2) {
                shard.evict();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().dirs.len()).sum()
    }

    fn shard(&self, gfid: Gfid) -> &RwLock<Shard> {
        // Gfids are random; the last byte is as good as a hash.
        &self.shards[gfid.ino() as usize % SHARDS]
    }
}

impl Shard {
    /// Lets one go. There must be one.
    fn evict(&mut self) {
        loop {
            let gfid = self.order.pop_front().expect("as many in the queue as in the map");
            let (_, used) = &self.dirs[&gfid];
            if !used.swap(false, Ordering::Relaxed) {
                self.dirs.remove(&gfid);
                return;
            }
            self.order.push_back(gfid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(number: u8) -> Dir {
        // The same shard for all.
        let mut bytes = [0; 16];
        bytes[0] = number;
        let fd = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        Dir { gfid: Gfid::from_bytes(bytes), fd, ino: 0 }
    }

    #[test]
    fn the_bound_holds_and_the_one_in_use_stays() {
        let dirs = Dirs::new(2 * SHARDS);
        let first = dirs.insert(dir(1)).gfid;
        let second = dirs.insert(dir(2)).gfid;
        assert!(dirs.get(first).is_some());
        dirs.insert(dir(3));
        assert_eq!(dirs.len(), 2);
        assert!(dirs.get(first).is_some());
        assert!(dirs.get(second).is_none());
    }

    #[test]
    fn a_removed_one_leaves_room_and_nothing_behind() {
        let dirs = Dirs::new(SHARDS);
        let first = dirs.insert(dir(1)).gfid;
        dirs.remove(first);
        assert_eq!(dirs.len(), 0);
        dirs.insert(dir(2));
        dirs.insert(dir(3));
        assert_eq!(dirs.len(), 1);
        dirs.shed();
        assert_eq!(dirs.len(), 0);
    }
}
