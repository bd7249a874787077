//! Opens with locks that are being closed, as far as this mount can know.
//!
//! A `flock` or open-file-description lock goes with RELEASE, and the kernel returns from the last `close` before RELEASE is
//! answered, or even read. Whoever tries a lock right after somebody's close must not be refused for a lock that is gone to
//! everybody who looks: a try that was refused waits for the closes that were under way, and tries once more.
//!
//! A close sends FLUSH first, and waits for it; RELEASE is in the kernel's queue before `close` returns. So an open whose
//! FLUSH has been here may be closing, and its RELEASE is then on its way to a reader, or in the hands of one. Or a copy of
//! its descriptor was closed (a child that has ended), and no RELEASE comes: that is waited for [`PATIENCE`], once for each
//! FLUSH.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use brickwork_api::{Gfid, OpenFile, OpenId};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;

/// How long a refused try waits for the RELEASE of an open whose FLUSH has been here.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

const SHARDS: usize = 16;

/// How far an open is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A descriptor of it was closed, and nothing says that it was not the last.
    Flushed,
    /// RELEASE is under way.
    Releasing,
    /// It is closed, or in use after all.
    Over,
}

/// The opens with locks that may be closing.
#[derive(Default)]
pub(crate) struct Closings {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    objects: Mutex<HashMap<Gfid, SmallVec<[Closing; 1]>>>,
    /// How many have closed so far.
    closed: AtomicU64,
}

struct Closing {
    open: OpenId,
    state: watch::Sender<State>,
}

/// A moment in the closes of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed(u64);

impl Closings {
    /// Notes a FLUSH of `file`, when it is read.
    pub(crate) fn flushed(&self, file: OpenFile) {
        let mut objects = self.shard(file.gfid).objects.lock();
        let closings = objects.entry(file.gfid).or_default();
        if !closings.iter().any(|closing| closing.open == file.open) {
            closings.push(Closing { open: file.open, state: watch::Sender::new(State::Flushed) });
        }
    }

    /// Notes that `file` is in use: that FLUSH was not of its last descriptor.
    pub(crate) fn in_use(&self, file: OpenFile) {
        self.over(file, |state| state == State::Flushed);
    }

    /// Notes a RELEASE of `file`, when it is read; it is over when what is returned is dropped.
    pub(crate) fn releasing(self: &Arc<Closings>, file: OpenFile) -> Releasing {
        let mut objects = self.shard(file.gfid).objects.lock();
        let closings = objects.entry(file.gfid).or_default();
        match closings.iter().find(|closing| closing.open == file.open) {
            Some(closing) => drop(closing.state.send_replace(State::Releasing)),
            None => closings.push(Closing { open: file.open, state: watch::Sender::new(State::Releasing) }),
        }
        Releasing { closings: self.clone(), file }
    }

    /// The moment before a try on `gfid`.
    pub(crate) fn now(&self, gfid: Gfid) -> Closed {
        Closed(self.shard(gfid).closed.load(Ordering::SeqCst))
    }

    /// Waits for the closes of other opens of the object than `file`; whether there were any, or one has ended since `since`.
    pub(crate) async fn settle(&self, file: OpenFile, since: Closed) -> bool {
        let under_way: SmallVec<[(OpenId, watch::Receiver<State>); 1]> = {
            let objects = self.shard(file.gfid).objects.lock();
            let others = objects.get(&file.gfid).into_iter().flatten().filter(|closing| closing.open != file.open);
            others.map(|closing| (closing.open, closing.state.subscribe())).collect()
        };
        // After the look: what ended before it is counted.
        let mut any = self.now(file.gfid) != since;
        let patience = tokio::time::Instant::now() + PATIENCE;
        for (open, mut state) in under_way {
            // An error says that it is over, too.
            let released = async { state.wait_for(|state| *state != State::Flushed).await.map(|_| ()) };
            if tokio::time::timeout_at(patience, released).await.is_err() {
                self.in_use(OpenFile { open, ..file });
            }
            any |= *state.borrow() != State::Flushed;
            let _ = state.wait_for(|state| *state == State::Over).await;
        }
        any
    }

    fn over(&self, file: OpenFile, is: impl Fn(State) -> bool) {
        let mut objects = self.shard(file.gfid).objects.lock();
        let Some(closings) = objects.get_mut(&file.gfid) else { return };
        closings.retain(|closing| {
            let ends = closing.open == file.open && is(*closing.state.borrow());
            if ends {
                closing.state.send_replace(State::Over);
            }
            !ends
        });
        if closings.is_empty() {
            objects.remove(&file.gfid);
        }
    }

    fn shard(&self, gfid: Gfid) -> &Shard {
        &self.shards[gfid.ino() as usize % SHARDS]
    }
}

/// A RELEASE under way.
pub(crate) struct Releasing {
    closings: Arc<Closings>,
    file: OpenFile,
}

impl Drop for Releasing {
    fn drop(&mut self) {
        // Before it leaves the table: who does not find it there sees that one has closed.
        self.closings.shard(self.file.gfid).closed.fetch_add(1, Ordering::SeqCst);
        self.closings.over(self.file, |_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::poll_once;
    use std::pin::pin;
    use std::task::Poll;

    fn file(open: u64) -> OpenFile {
        OpenFile { gfid: Gfid::ROOT, open: OpenId(open) }
    }

    fn is_empty(closings: &Closings) -> bool {
        closings.shards.iter().all(|shard| shard.objects.lock().is_empty())
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_closes_is_not_repeated() {
        let closings = Arc::new(Closings::default());
        closings.flushed(file(1));
        assert!(!closings.settle(file(1), closings.now(Gfid::ROOT)).await, "its own open");
        let other = OpenFile { gfid: Gfid::random(), open: OpenId(2) };
        assert!(!closings.settle(other, closings.now(other.gfid)).await, "another object");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_waits_for_the_release_under_way() {
        let closings = Arc::new(Closings::default());
        closings.flushed(file(1));
        let since = closings.now(Gfid::ROOT);
        let releasing = closings.releasing(file(1));
        let mut settle = pin!(closings.settle(file(2), since));
        assert_eq!(poll_once(settle.as_mut()), Poll::Pending);
        tokio::time::sleep(10 * PATIENCE).await;
        assert_eq!(poll_once(settle.as_mut()), Poll::Pending, "a release is waited for to its end");
        drop(releasing);
        assert!(settle.await);
        assert!(is_empty(&closings));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_waits_for_a_release_that_is_not_read_yet() {
        let closings = Arc::new(Closings::default());
        closings.flushed(file(1));
        let mut settle = pin!(closings.settle(file(2), closings.now(Gfid::ROOT)));
        assert_eq!(poll_once(settle.as_mut()), Poll::Pending);
        drop(closings.releasing(file(1)));
        assert!(settle.await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_without_a_release_is_waited_for_once() {
        let closings = Arc::new(Closings::default());
        closings.flushed(file(1));
        let began = tokio::time::Instant::now();
        closings.settle(file(2), closings.now(Gfid::ROOT)).await;
        assert!(began.elapsed() >= PATIENCE);
        assert!(is_empty(&closings));
        assert!(!closings.settle(file(2), closings.now(Gfid::ROOT)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_that_is_used_after_its_flush_is_not_waited_for() {
        let closings = Arc::new(Closings::default());
        closings.flushed(file(1));
        closings.in_use(file(1));
        assert!(!closings.settle(file(2), closings.now(Gfid::ROOT)).await);
        assert!(is_empty(&closings));
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_that_ended_while_the_try_was_under_way_counts() {
        let closings = Arc::new(Closings::default());
        let since = closings.now(Gfid::ROOT);
        drop(closings.releasing(file(1)));
        assert!(closings.settle(file(2), since).await);
    }
}
