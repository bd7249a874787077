//! What the process lends to its xlators. A plugin gets the same through a table, so nothing here is tokio's.

use std::fmt;

use tokio::sync::oneshot;

use crate::error::{Errno, FopError, FopResult};
use crate::xlator::BoxFuture;

/// Work for the pool.
pub type Job = Box<dyn FnOnce() + Send>;

/// The process around a graph.
///
/// Futures of fops may be polled by any thread of the process, a reader of `/dev/fuse` among them:
/// what must block for long goes to [`Host::run_blocking`].
pub trait Host: Send + Sync + fmt::Debug {
    /// Runs `job` on a thread of the bounded pool (`pool-threads`); it waits in a queue when all are busy.
    fn run_blocking(&self, job: Job);

    /// Runs `task` to its end beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Whether the calling thread can be spared while it waits for a disk; each yes is followed by one
    /// [`Host::end_wait`]. [`waiting`] asks.
    ///
    /// No unless a host knows how many threads it must keep free.
    fn begin_wait(&self) -> bool {
        false
    }

    /// Ends a wait that [`Host::begin_wait`] allowed.
    fn end_wait(&self) {}
}

/// Runs `work`, which waits for a disk as long as one transfer takes, and returns what it returned: on the calling
/// thread where `host` can spare it, else on the pool.
///
/// A hop to the pool and back is two wake-ups of 30 to 57 µs, about as long as the disk itself takes.
///
/// # Errors
/// As [`blocking`].
pub async fn waiting<T: Send + 'static>(host: &dyn Host, work: impl FnOnce() -> T + Send + 'static) -> FopResult<T> {
    match Wait::begin(host) {
        Some(_here) => Ok(work()),
        None => blocking(host, work).await,
    }
}

/// A wait that a host allowed; ends when dropped.
struct Wait<'a>(&'a dyn Host);

impl<'a> Wait<'a> {
    fn begin(host: &'a dyn Host) -> Option<Wait<'a>> {
        host.begin_wait().then(|| Wait(host))
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}

/// Runs `work` on the pool of `host` and returns what it returned.
///
/// # Errors
/// `EIO` when `work` panicked or the pool is shutting down.
pub async fn blocking<T: Send + 'static>(host: &dyn Host, work: impl FnOnce() -> T + Send + 'static) -> FopResult<T> {
    let (sender, receiver) = oneshot::channel();
    host.run_blocking(Box::new(move || {
        // Nobody receives when the caller's process is going down.
        let _ = sender.send(work());
    }));
    receiver.await.map_err(|_| FopError::new(Errno::EIO).doing("running a job on the pool, which lost it"))
}
