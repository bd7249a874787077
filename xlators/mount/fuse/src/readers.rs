//! The readers of one mount as what they are to its requests: threads that may wait for a disk, but not all of them.
//!
//! Half of them may, rounded down. So at least one goes on taking requests, INTERRUPT among them, and a deep queue of
//! reads reaches the disk as deep as it is: what finds nobody to spare goes to the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::host::Job;
use brickwork_api::{BoxFuture, Host};

/// The host of a process, that also lends half of the readers of one mount.
#[derive(Debug)]
pub(crate) struct Readers {
    host: Arc<dyn Host>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Readers {
    /// `host` with the readers of a mount that has `count`.
    pub(crate) fn of(host: Arc<dyn Host>, count: usize) -> Arc<Readers> {
        Arc::new(Readers { host, waiting: AtomicUsize::new(0), waiting_max: count / 2 })
    }
}

impl Host for Readers {
    fn run_blocking(&self, job: Job) {
        self.host.run_blocking(job);
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.host.spawn(task);
    }

    fn wait_here(&self, work: &mut dyn FnMut()) -> bool {
        // A fop that waited for something else goes on as a task, and whoever runs that is none of the readers.
        if tokio::task::try_id().is_some() {
            return self.host.wait_here(work);
        }
        let Some(_lent) = Lent::one_of(self) else { return false };
        work();
        true
    }
}

/// A reader that waits; it is free again when dropped, also by a panic.
struct Lent<'a>(&'a Readers);

impl<'a> Lent<'a> {
    fn one_of(readers: &'a Readers) -> Option<Lent<'a>> {
        // Relaxed: a count, which guards nothing but itself.
        let one_more = |waiting| (waiting < readers.waiting_max).then_some(waiting + 1);
        readers.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Lent(readers))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::waiting;
    use brickwork_testkit::{TestHost, block_on};
    use std::thread;

    fn lent(count: usize) -> usize {
        waits_within_waits(&Readers::of(TestHost::new(), count))
    }

    /// How many may wait at once: each waits while the next one asks.
    fn waits_within_waits(readers: &Readers) -> usize {
        let mut inner = 0;
        let waited = readers.wait_here(&mut || inner = waits_within_waits(readers));
        inner + usize::from(waited)
    }

    #[test]
    fn half_of_the_readers_may_wait_and_one_never_may() {
        assert_eq!([1, 2, 3, 4, 64].map(lent), [0, 1, 1, 2, 32]);
    }

    #[test]
    fn what_finds_no_reader_to_spare_waits_on_the_pool_and_each_end_makes_room() {
        let readers = Readers::of(TestHost::new(), 2);
        let place = |readers: &Readers| block_on(waiting(readers, || thread::current().id())).unwrap();
        let here = thread::current().id();
        assert_eq!(place(&readers), here);
        assert!(readers.wait_here(&mut || assert_ne!(place(&readers), here)));
        assert_eq!(place(&readers), here);
    }

    #[test]
    fn a_wait_that_panics_gives_its_reader_back() {
        let readers = Readers::of(TestHost::new(), 2);
        let panics = || block_on(waiting(&*readers, || panic!("told to"))).unwrap();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(waits_within_waits(&readers), 1);
    }
}
