//! The inodes that the kernel knows: one `O_PATH` descriptor each.
//!
//! Always true between calls:
//! - a node's id is its inode number on the source, so two names of one file are one node; the root's id is 1;
//! - a node is here exactly while the kernel has lookups of it, and its descriptor keeps the number from reuse.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use fuser::{Errno, FileAttr, INodeNo};
use parking_lot::RwLock;
use rustix::fs::{CWD, Mode, OFlags, fstat, open, openat};

use crate::attributes::file_attr;
use crate::files::errno;

const SHARDS: usize = 64;
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Node {
    descriptor: Arc<OwnedFd>,
    lookups: u64,
}

/// The table; shared by all threads.
pub struct Inodes {
    device: u64,
    root_number: u64,
    root: Arc<OwnedFd>,
    shards: Vec<RwLock<HashMap<u64, Node>>>,
}

impl Inodes {
    /// Opens `source` as the root.
    ///
    /// # Errors
    /// Those of `open` and `fstat`.
    pub fn open(source: &Path) -> io::Result<Self> {
        let root = open(source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&root)?;
        let shards = (0..SHARDS).map(|_| RwLock::new(HashMap::new())).collect();
        Ok(Self { device: stat.st_dev, root_number: stat.st_ino, root: Arc::new(root), shards })
    }

    /// The descriptor of a node.
    ///
    /// # Errors
    /// `ESTALE` for an id that no lookup gave out.
    pub fn get(&self, ino: INodeNo) -> Result<Arc<OwnedFd>, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        self.shard(ino).read().get(&ino.0).map(|node| node.descriptor.clone()).ok_or(Errno::ESTALE)
    }

    /// Finds `name` in `parent` and counts one lookup.
    ///
    /// # Errors
    /// Those of `openat`; `EXDEV` where another file system begins.
    pub fn lookup(&self, parent: impl AsFd, name: &OsStr) -> Result<FileAttr, Errno> {
        let descriptor = openat(parent, name, LOOK, Mode::empty()).map_err(errno)?;
        self.count(descriptor)
    }

    /// Counts one lookup of the file that `file` is open on.
    ///
    /// # Errors
    /// Those of `openat` on `/proc`.
    pub fn lookup_open(&self, file: impl AsFd) -> Result<FileAttr, Errno> {
        let descriptor = openat(CWD, proc_path(file), LOOK.difference(OFlags::NOFOLLOW), Mode::empty());
        self.count(descriptor.map_err(errno)?)
    }

    /// Takes back `lookups` of `ino`; with the last, the node goes.
    pub fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut shard = self.shard(ino).write();
        if let Entry::Occupied(mut node) = shard.entry(ino.0) {
            node.get_mut().lookups = node.get().lookups.saturating_sub(lookups);
            if node.get().lookups == 0 {
                node.remove();
            }
        }
    }

    fn count(&self, descriptor: OwnedFd) -> Result<FileAttr, Errno> {
        let stat = fstat(&descriptor).map_err(errno)?;
        if stat.st_dev != self.device {
            return Err(Errno::EXDEV);
        }
        if stat.st_ino == self.root_number {
            return Ok(file_attr(INodeNo::ROOT, &stat));
        }
        let ino = INodeNo(stat.st_ino);
        match self.shard(ino).write().entry(ino.0) {
            Entry::Occupied(mut node) => node.get_mut().lookups += 1,
            Entry::Vacant(free) => {
                free.insert(Node { descriptor: Arc::new(descriptor), lookups: 1 });
            }
        }
        Ok(file_attr(ino, &stat))
    }

    fn shard(&self, ino: INodeNo) -> &RwLock<HashMap<u64, Node>> {
        &self.shards[ino.0 as usize % SHARDS]
    }
}

/// The name under which the kernel reopens what `descriptor` is open on, also when that is an `O_PATH` descriptor.
pub fn proc_path(descriptor: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}
