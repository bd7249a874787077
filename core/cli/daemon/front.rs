//! One mount of a serving process: started, watched, ended, and its failures in words.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use brickwork_api::{Host, Xlator};
use brickwork_fuse::MountError;
use brickwork_graph::graph::Graph;
use brickwork_graph::swap::{Running, Slot};
use brickwork_mount::{FuseOptions, Mount, MountConfig, Roots, StartError};
use tokio::sync::{mpsc, oneshot};

use crate::codes::Code;
use crate::failure::Failure;
use crate::protocol::MountReport;

/// The types whose presence means that the graph keeps the locks of applications, here or in the brick. A brick that
/// keeps none refuses them: better than locks that only this machine sees.
const LOCKS: [&str; 2] = ["features/locks", super::CLIENT];

/// Where the mounts find the running graph.
///
/// Mounts hold it until their last thread has ended, whichever that is; then the slot comes out at the other end.
#[derive(Debug)]
pub struct Root {
    slot: Option<Slot>,
    out: Option<oneshot::Sender<Slot>>,
}

impl Root {
    /// A root with its first graph, and what gets the slot when nobody holds the root any more.
    pub fn new(graph: Arc<Graph>) -> (Arc<Root>, oneshot::Receiver<Slot>) {
        let (out, slot) = oneshot::channel();
        (Arc::new(Root { slot: Some(Slot::new(graph)), out: Some(out) }), slot)
    }

    /// The graph that runs.
    pub fn load(&self) -> Arc<Running> {
        self.slot.as_ref().expect("there until the root is dropped").load()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let (Some(slot), Some(out)) = (self.slot.take(), self.out.take()) {
            // Nobody waits for the slot when the start failed half-way.
            let _ = out.send(slot);
        }
    }
}

impl Roots for Root {
    fn root(&self) -> Arc<dyn Xlator> {
        self.load()
    }

    fn keeps_locks(&self) -> bool {
        self.load().graph().nodes().iter().any(|node| LOCKS.contains(&node.kind.name))
    }
}

/// A mount.
#[derive(Clone, Debug)]
pub struct Front {
    mount: Arc<Mount>,
    private_to_uid: Option<u32>,
}

impl Front {
    /// Mounts `root` at `point`; `ended` hears the point when the mount is gone, by whoever's hand.
    ///
    /// # Errors
    /// What, where, why; nothing is mounted then.
    pub async fn mount(
        root: &Arc<Root>,
        point: &Path,
        options: &FuseOptions,
        source: &str,
        host: &Arc<dyn Host>,
        ended: mpsc::Sender<PathBuf>,
    ) -> Result<Front, Failure> {
        let config = MountConfig { point: point.to_owned(), source: source.to_owned(), options: options.clone() };
        let mount = Mount::start(root.clone(), host.clone(), config).await.map_err(|error| start_failure(&error))?;
        let mount = Arc::new(mount);
        let watched = mount.clone();
        tokio::spawn(async move {
            watched.ended().await;
            // The driver is gone only when the process ends.
            let _ = ended.send(watched.point().to_owned()).await;
        });
        let user = rustix::process::geteuid();
        let private = !options.allow_other.unwrap_or(user.is_root());
        Ok(Front { mount, private_to_uid: private.then_some(user.as_raw()) })
    }

    /// The mount itself.
    pub fn mount_of(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// Where it is.
    pub fn point(&self) -> &Path {
        self.mount.point()
    }

    /// The only user who can use it, when only one can.
    pub fn private_to_uid(&self) -> Option<u32> {
        self.private_to_uid
    }

    /// For `status` and `dump`.
    pub fn report(&self) -> MountReport {
        let status = self.mount.status();
        MountReport { path: self.point().to_owned(), status }
    }

    /// Asks the kernel about the mount and waits for the answer, at most for `limit`.
    ///
    /// # Errors
    /// `MountSilent`.
    pub async fn answers(&self, limit: Duration) -> Result<(), Failure> {
        let silent = |why: String| {
            Failure::new(Code::MountSilent, format!("`{}` was mounted but does not answer", self.point().display()))
                .because(why)
        };
        let point = self.point().to_owned();
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statfs(&point));
        match tokio::time::timeout(limit, asked).await {
            Err(_) => Err(silent(format!("statfs took longer than {limit:?}"))),
            Ok(Err(error)) => Err(silent(error.to_string())),
            Ok(Ok(Err(errno))) => Err(silent(format!("statfs: {errno}"))),
            Ok(Ok(Ok(_))) => Ok(()),
        }
    }

    /// Takes the mount out of the tree; without `lazy` only if nobody uses it.
    ///
    /// # Errors
    /// `MountBusy`, `UnmountRefused`.
    pub async fn unmount(&self, lazy: bool) -> Result<(), Failure> {
        let taken = if lazy {
            self.mount.unmount().await.map(drop)
        } else {
            let point = self.point().to_owned();
            let taken = tokio::task::spawn_blocking(move || brickwork_fuse::mount::unmount_unused(&point)).await;
            taken.map_err(|error| Failure::new(Code::UnmountRefused, "unmounting panicked").because(error))?
        };
        taken.map_err(|error| mount_failure(&error))
    }

    /// Takes the mount out of the tree and ends it, open files or not; logs when that fails.
    pub async fn cut(&self) -> bool {
        let cut = self.mount.abort().await;
        if let Err(error) = &cut {
            tracing::error!(%error, "a mount could not be ended");
        }
        cut.is_ok()
    }
}

fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::Mount(error) => mount_failure(error),
        StartError::Graph(_) => in_words(Code::GraphRefused, error),
        StartError::Session(_) => in_words(Code::MountRefused, error),
        StartError::Timeout(_) | StartError::Kernel { .. } => in_words(Code::MountOption, error),
    }
}

/// The failure that a mount or unmount ended with.
pub fn mount_failure(error: &MountError) -> Failure {
    use rustix::io::Errno;
    let code = match error {
        MountError::NoPoint { .. } => Code::MountPointMissing,
        MountError::NotADirectory { .. } => Code::MountPointNotDirectory,
        MountError::Busy { .. } | MountError::DeadStranger { .. } => Code::MountPointTaken,
        MountError::Device { errno: Errno::NOENT | Errno::NXIO | Errno::NODEV } => Code::FuseMissing,
        MountError::Options { .. } => Code::MountOption,
        MountError::NoHelper { .. } => Code::HelperMissing,
        MountError::NotMounted { .. } => Code::NotMounted,
        MountError::InUse { .. } => Code::MountBusy,
        MountError::Stuck { .. } => Code::UnmountRefused,
        MountError::Device { .. }
        | MountError::Refused { .. }
        | MountError::Helper { .. }
        | MountError::NoDescriptor { .. } => Code::MountRefused,
    };
    let failure = in_words(code, error);
    match error {
        // The library knows `umount` alone; ours also waits for the process.
        MountError::Busy { point } => {
            failure.next(format!("brickwork umount {}, or choose another directory", point.display()))
        }
        _ => failure,
    }
}

/// Errors of the mount end with what to do, behind the last semicolon.
fn in_words(code: Code, error: &dyn std::fmt::Display) -> Failure {
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((what, next)) => Failure::new(code, what).next(next),
        None => Failure::new(code, text),
    }
}
