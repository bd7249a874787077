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
