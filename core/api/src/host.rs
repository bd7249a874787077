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

    /// Runs `work`, which waits for a disk, on the calling thread and answers yes, if the thread can be spared for that
    /// long; else does nothing and answers no. [`waiting`] asks.
    ///
    /// No unless a host knows how many threads it must keep free.
    fn wait_here(&self, work: &mut dyn FnMut()) -> bool {
        let _ = work;
        false
    }
}

/// Runs `work`, which waits for a disk as long as one transfer takes, and returns what it returned: on the calling
/// thread where `host` can spare it, else on the pool.
///
/// A hop to the pool and back is two wake-ups of 30 to 57 µs, about as long as the disk itself takes.
///
/// # Errors
/// As [`blocking`].
pub async fn waiting<T: Send + 'static>(host: &dyn Host, work: impl FnOnce() -> T + Send + 'static) -> FopResult<T> {
    let mut work = Some(work);
    let mut done = None;
    let here = host.wait_here(&mut || done = work.take().map(|work| work()));
    match (here, done, work) {
        (true, Some(done), None) => Ok(done),
        (false, None, Some(work)) => blocking(host, work).await,
        _ => panic!("the host said {here} to a wait and did otherwise"),
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
