//! The host of this process: tokio's runtime and its bounded pool of blocking threads.

use brickwork_api::BoxFuture;
use brickwork_api::host::{Host, Job};
use tokio::runtime::Handle;

/// Lends the pool and the tasks of a tokio runtime. Works from any thread.
///
/// The pool is the runtime's own; its size is `max_blocking_threads` of the runtime (`pool-threads`), its queue is
/// bounded by the callers: each waits for its job.
#[derive(Clone, Debug)]
pub struct TokioHost(Handle);

impl TokioHost {
    /// The host of `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> TokioHost {
        TokioHost(runtime)
    }
}

impl Host for TokioHost {
    fn run_blocking(&self, job: Job) {
        self.0.spawn_blocking(job);
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}
