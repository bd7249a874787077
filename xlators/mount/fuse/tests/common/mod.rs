//! A graph mounted for a test, and what the graph saw.
//!
//! Whatever a test does, its mounts are gone afterwards.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod recorder;
pub mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brickwork_api::{ClientId, Xlator};
use brickwork_mount::{FuseOptions, Mount, MountConfig, Roots, StartError};
use brickwork_testkit::{MemoryLeaf, TestHost};
use parking_lot::{Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub use recorder::Recorder;

/// A graph that never changes.
struct Fixed {
    root: Arc<dyn Xlator>,
    keeps_locks: bool,
}

impl Roots for Fixed {
    fn root(&self) -> Arc<dyn Xlator> {
        self.root.clone()
    }

    fn keeps_locks(&self) -> bool {
        self.keeps_locks
    }
}

/// One test at a time: a child that one forks holds, until its exec, a copy of every file that another has open.
static ALONE: Mutex<()> = Mutex::new(());

/// One graph with its mounts.
pub struct Rig {
    pub recorder: Arc<Recorder>,
    mounts: Vec<Arc<Mount>>,
    points: TempDir,
    runtime: Runtime,
    keeps_locks: bool,
    // Last, so that the next test begins when nothing of this one is left.
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    /// A file system in memory, mounted once with the words of `-o`; `None`, said loudly, where nothing can be mounted.
    pub fn memory(words: &str) -> Option<Rig> {
        Rig::over(Arc::new(MemoryLeaf::new()), words, false)
    }

    /// As [`Rig::memory`], of `leaf`, which keeps locks or not.
    pub fn over(leaf: Arc<dyn Xlator>, words: &str, keeps_locks: bool) -> Option<Rig> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED: this test mounts, which needs root and /dev/fuse");
            return None;
        }
        let alone = ALONE.lock();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let points = tempfile::Builder::new().prefix("brickwork-mount-test-").tempdir().unwrap();
        let recorder = Recorder::over(leaf);
        let mut rig = Rig { recorder, mounts: Vec::new(), points, runtime, keeps_locks, _alone: alone };
        rig.mount(words);
        Some(rig)
    }

    /// Mounts the graph once more and returns where.
    pub fn mount(&mut self, words: &str) -> PathBuf {
        let point = self.points.path().join(self.mounts.len().to_string());
        std::fs::create_dir(&point).unwrap();
        let mount = self.start(point.clone(), FuseOptions::from_words(words).unwrap());
        self.mounts.push(Arc::new(mount.unwrap_or_else(|error| panic!("{error}"))));
        point
    }

    /// Why the graph cannot be mounted with `options`.
    pub fn refused(&self, options: FuseOptions) -> StartError {
        let point = self.points.path().join("refused");
        std::fs::create_dir_all(&point).unwrap();
        self.start(point, options).expect_err("it is mounted")
    }

    fn start(&self, point: PathBuf, options: FuseOptions) -> Result<Mount, StartError> {
        let roots = Arc::new(Fixed { root: self.recorder.clone(), keeps_locks: self.keeps_locks });
        let config = MountConfig { point, source: "test".to_owned(), options };
        self.runtime.block_on(Mount::start(roots, TestHost::new(), config))
    }

    pub fn mounts(&self) -> &[Arc<Mount>] {
        &self.mounts
    }

    /// Where the first mount is.
    pub fn path(&self) -> PathBuf {
        self.mounts[0].point().to_owned()
    }

    /// Where each mount is.
    pub fn points(&self) -> Vec<PathBuf> {
        self.mounts.iter().map(|mount| mount.point().to_owned()).collect()
    }

    /// The first mount.
    pub fn mounted(&self) -> &Mount {
        &self.mounts[0]
    }

    pub fn clients(&self) -> Vec<ClientId> {
        self.mounts.iter().map(|mount| mount.client()).collect()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Takes the first mount out of the tree and waits for its end.
    pub fn unmount(&mut self) -> Arc<Mount> {
        let mount = self.mounts.remove(0);
        self.runtime.block_on(async {
            mount.unmount().await.unwrap();
            mount.ended().await;
        });
        mount
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for mount in self.mounts.drain(..) {
            let end = async {
                if let Err(error) = mount.abort().await {
                    eprintln!("{}: {error}", mount.point().display());
                }
                mount.ended().await;
            };
            self.runtime.block_on(end);
        }
    }
}

/// The rounds of a long test: those that the issue names with `BRICKWORK_ROUNDS=full`, else a tenth.
pub fn rounds(full: usize) -> usize {
    let all = std::env::var("BRICKWORK_ROUNDS").is_ok_and(|value| value == "full");
    if all { full } else { full / 10 }
}
