//! A mounted [`MemFs`] for one test, gone with it whatever becomes of the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_fuse::{Limits, Mount, MountOptions, Session, Wanted};
use tempfile::TempDir;

use super::{MemFs, Served};

pub struct Place {
    pub session: Session,
    pub fs: Arc<MemFs>,
    pub runtime: tokio::runtime::Runtime,
    pub folder: TempDir,
}

impl Place {
    pub fn new(fs: MemFs) -> Self {
        Self::with(fs, Limits::default(), &MountOptions::default())
    }

    pub fn with(fs: MemFs, limits: Limits, options: &MountOptions) -> Self {
        let folder = TempDir::new().expect("a folder");
        let fs = Arc::new(fs);
        let runtime = runtime();
        let session = serve(folder.path(), &fs, limits, options, &runtime);
        Self { session, fs, runtime, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub fn serve(
    point: &Path,
    fs: &Arc<MemFs>,
    limits: Limits,
    options: &MountOptions,
    runtime: &tokio::runtime::Runtime,
) -> Session {
    let (mount, lane) = Mount::new(point, options).unwrap_or_else(|why| panic!("{why}"));
    let handler = Arc::new(Served(fs.clone()));
    Session::start(Arc::new(lane), Some(mount), &Wanted::default(), limits, handler, runtime.handle())
        .unwrap_or_else(|why| panic!("{why}"))
}

/// Whether mounts can be made here; says loudly why not.
pub fn can_mount() -> bool {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let helper = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("fusermount3").exists()));
    match device {
        Ok(_) if rustix::process::geteuid().is_root() || helper => true,
        Ok(_) => skip("neither root nor fusermount3"),
        Err(why) => skip(&format!("/dev/fuse: {why}")),
    }
}

fn skip(why: &str) -> bool {
    eprintln!("\n*** SKIPPED, nothing was tested: no mounts here ({why}) ***\n");
    false
}

/// Waits until `done`, looking again and again, and fails the test after ten seconds.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited ten seconds until {what}");
        std::thread::yield_now();
    }
}
