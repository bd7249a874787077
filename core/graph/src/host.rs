//! The host of this process: tokio's runtime and its bounded pool of blocking threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::BoxFuture;
use brickwork_api::host::{Host, Job};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Lends the pool and the tasks of a tokio runtime. Works from any thread.
///
/// The pool is the runtime's own; its size is `max_blocking_threads` of the runtime (`pool-threads`), its queue is
/// bounded by the callers: each waits for its job.
///
/// A task that waits for a disk keeps its thread, and one of the pool takes over the thread's other tasks: one wake-up
/// beside the task instead of two in its way. Half of the pool is lent so; beyond that, and for whoever is no task, waits
/// are jobs like others. Clones lend together.
#[derive(Clone, Debug)]
pub struct TokioHost {
    runtime: Handle,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl TokioHost {
    /// The host of `runtime`, of whose pool nothing is lent to tasks that wait.
    #[must_use]
    pub fn new(runtime: Handle) -> TokioHost {
        TokioHost { runtime, waiting: Arc::default(), waiting_max: 0 }
    }

    /// The same for a runtime whose pool has `pool_threads`, half of which, rounded down, are lent to tasks that wait.
    #[must_use]
    pub fn with_pool(runtime: Handle, pool_threads: usize) -> TokioHost {
        TokioHost { waiting_max: pool_threads / 2, ..TokioHost::new(runtime) }
    }
}

impl Host for TokioHost {
    fn run_blocking(&self, job: Job) {
        self.runtime.spawn_blocking(job);
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn wait_here(&self, work: &mut dyn FnMut()) -> bool {
        // Only a task of a runtime with several threads has somebody to take over from it.
        if tokio::task::try_id().is_none() || self.runtime.runtime_flavor() != RuntimeFlavor::MultiThread {
            return false;
        }
        let Some(_lent) = Lent::one_of(self) else { return false };
        tokio::task::block_in_place(work);
        true
    }
}

/// One thread of the pool that stands in for a task that waits, until dropped.
struct Lent<'a>(&'a TokioHost);

impl<'a> Lent<'a> {
    fn one_of(host: &'a TokioHost) -> Option<Lent<'a>> {
        // Relaxed: a count, which guards nothing but itself.
        let one_more = |waiting| (waiting < host.waiting_max).then_some(waiting + 1);
        host.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Lent(host))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use brickwork_api::waiting;

    use super::*;

    fn runtime(workers: usize) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).max_blocking_threads(4).build().unwrap()
    }

    /// Whether a wait of a task stays on the thread of the task.
    async fn stays(host: &TokioHost) -> bool {
        let here = thread::current().id();
        waiting(host, || thread::current().id()).await.unwrap() == here
    }

    #[test]
    fn half_of_the_pool_is_lent_to_tasks_and_each_end_makes_room() {
        let runtime = runtime(2);
        let host = TokioHost::with_pool(runtime.handle().clone(), 4);
        let task = async move {
            fn waits_within_waits(host: &TokioHost) -> usize {
                let mut inner = 0;
                let waited = host.wait_here(&mut || inner = waits_within_waits(host));
                inner + usize::from(waited)
            }
            (waits_within_waits(&host), waits_within_waits(&host.clone()), stays(&host).await)
        };
        assert_eq!(runtime.block_on(runtime.spawn(task)).unwrap(), (2, 2, true));
    }

    #[test]
    fn who_is_no_task_and_a_host_that_lends_nothing_wait_on_the_pool() {
        let runtime = runtime(1);
        let lends = TokioHost::with_pool(runtime.handle().clone(), 4);
        let _inside = runtime.enter();
        assert!(!lends.wait_here(&mut || panic!("a thread that is no task waited")));
        let lends_none = TokioHost::new(runtime.handle().clone());
        assert!(!runtime.block_on(runtime.spawn(async move { stays(&lends_none).await })).unwrap());
        let single = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let host = TokioHost::with_pool(single.handle().clone(), 4);
        assert!(!single.block_on(single.spawn(async move { stays(&host).await })).unwrap());
    }

    #[test]
    fn other_tasks_of_the_only_thread_go_on_while_one_waits() {
        let runtime = runtime(1);
        let host = TokioHost::with_pool(runtime.handle().clone(), 4);
        let (sender, receiver) = std::sync::mpsc::channel();
        let waits = runtime.spawn(async move { waiting(&host, move || receiver.recv()).await });
        runtime.spawn(async move { sender.send(7) });
        assert_eq!(runtime.block_on(waits).unwrap(), Ok(Ok(7)));
    }
}
