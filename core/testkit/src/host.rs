//! A host on plain threads: no runtime, no time, nothing shared between tests.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use brickwork_api::host::Job;
use brickwork_api::{BoxFuture, ClientId, Cx, Host};
use parking_lot::Mutex;

use crate::executor::block_on;

/// Threads of the pool of a [`TestHost`].
pub const POOL_THREADS: usize = 4;

/// Lends a pool of [`POOL_THREADS`] threads, and a thread of its own to every spawned task. The threads of a test may
/// wait for a disk: nobody else needs them.
///
/// The threads start with the first job and end when the host is dropped and the queue is empty.
#[derive(Debug, Default)]
pub struct TestHost {
    queue: Mutex<Option<Sender<Job>>>,
}

impl TestHost {
    /// A host without threads so far.
    #[must_use]
    pub fn new() -> Arc<TestHost> {
        Arc::default()
    }

    fn start_pool() -> Sender<Job> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..POOL_THREADS {
            let receiver = Arc::clone(&receiver);
            let worker = move || work(&receiver);
            thread::Builder::new().name(format!("test-pool-{number}")).spawn(worker).expect("a thread for a test");
        }
        sender
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The guard ends with the statement: the job runs without it.
        let job = queue.lock().recv();
        match job {
            Ok(job) => job(),
            Err(mpsc::RecvError) => return,
        }
    }
}

impl Host for TestHost {
    fn run_blocking(&self, job: Job) {
        let mut queue = self.queue.lock();
        let sender = queue.get_or_insert_with(TestHost::start_pool);
        sender.send(job).expect("the pool lives as long as its queue");
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        thread::Builder::new().name("test-task".to_owned()).spawn(move || block_on(task)).expect("a thread for a test");
    }

    fn wait_here(&self, work: &mut dyn FnMut()) -> bool {
        work();
        true
    }
}

/// A context of a fresh client that acts as root, on a fresh [`TestHost`].
#[must_use]
pub fn cx() -> Cx {
    Cx::internal(ClientId::random(), TestHost::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::blocking;

    #[test]
    fn jobs_run_on_other_threads_and_answer() {
        let host = TestHost::new();
        let here = thread::current().id();
        let there = block_on(blocking(&*host, || thread::current().id())).unwrap();
        assert_ne!(here, there);
    }

    #[test]
    fn a_spawned_task_runs_to_its_end() {
        let (sender, receiver) = mpsc::channel();
        TestHost::new().spawn(Box::pin(async move { sender.send(1).unwrap() }));
        assert_eq!(receiver.recv(), Ok(1));
    }
}
