//! Group commit: one sync for all who wait.
//!
//! Whoever waits while nobody syncs becomes the leader and syncs all that was appended by then; all others wait for the
//! leader and look again. Futures cannot lead: a thread of the journal does it for them.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::SyncError;

/// Which appends are on the disk, and who waits for which.
#[derive(Default)]
pub(crate) struct Commit {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Every append up to this one is on the disk.
    durable: u64,
    /// Somebody syncs at this moment.
    leading: bool,
    /// The last sync failed.
    broken: Option<SyncError>,
    /// Who waits for which append. As many as there are futures that were polled.
    wakers: HashMap<u64, (u64, Waker)>,
    /// Key of the next waker.
    next: u64,
    /// The journal's thread is to end.
    closing: bool,
}

impl State {
    fn answer(&self, sequence: u64) -> Option<Result<(), SyncError>> {
        (self.durable >= sequence).then_some(Ok(())).or(self.broken.map(Err))
    }

    /// Takes out the wakers that have an answer.
    fn answered(&mut self) -> Vec<Waker> {
        let (durable, broken) = (self.durable, self.broken.is_some());
        let done = self.wakers.extract_if(|_, (sequence, _)| *sequence <= durable || broken);
        done.map(|(_, (_, waker))| waker).collect()
    }
}

impl Commit {
    /// Waits until there is an answer for `sequence`. `sync` brings all appended records to the disk and calls
    /// [`settle`](Self::settle).
    pub fn wait(&self, sequence: u64, sync: impl Fn()) -> Result<(), SyncError> {
        let mut state = self.state.lock();
        loop {
            if let Some(answer) = state.answer(sequence) {
                return answer;
            }
            match state.leading {
                true => self.changed.wait(&mut state),
                false => self.lead(&mut state, &sync),
            }
        }
    }

    /// The life of the journal's thread: leads whenever a future waits and nobody else leads.
    pub fn serve(&self, sync: impl Fn()) {
        let mut state = self.state.lock();
        while !state.closing {
            match state.leading || state.wakers.is_empty() {
                true => self.changed.wait(&mut state),
                false => self.lead(&mut state, &sync),
            }
        }
    }

    fn lead(&self, state: &mut MutexGuard<'_, State>, sync: impl Fn()) {
        state.leading = true;
        MutexGuard::unlocked(state, sync);
        state.leading = false;
        self.tell_all(state);
    }

    fn tell_all(&self, state: &mut MutexGuard<'_, State>) {
        let wakers = state.answered();
        self.changed.notify_all();
        MutexGuard::unlocked(state, || wakers.into_iter().for_each(Waker::wake));
    }

    /// What became of the appends up to `sequence`. The caller holds the log's mutex, so that what is said last is
    /// what happened last; when it has let go of it, [`tell`](Self::tell) follows.
    pub fn settle(&self, result: Result<u64, SyncError>) {
        let mut state = self.state.lock();
        match result {
            Ok(sequence) => (state.durable, state.broken) = (state.durable.max(sequence), None),
            Err(error) => state.broken = Some(error),
        }
    }

    /// Wakes all that have an answer now.
    pub fn tell(&self) {
        self.tell_all(&mut self.state.lock());
    }

    /// The answer for `sequence`, or `waker` is woken when there is one. `key` is that of an earlier call.
    pub fn poll(&self, sequence: u64, key: &mut Option<u64>, waker: &Waker) -> Option<Result<(), SyncError>> {
        let mut state = self.state.lock();
        let answer = state.answer(sequence);
        if answer.is_none() {
            let key = *key.get_or_insert_with(|| {
                state.next += 1;
                state.next
            });
            state.wakers.insert(key, (sequence, waker.clone()));
            self.changed.notify_all();
        }
        answer
    }

    /// A future is gone.
    pub fn forget(&self, key: u64) {
        self.state.lock().wakers.remove(&key);
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.lock().wakers.len()
    }

    /// Ends [`serve`](Self::serve).
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }
}

/// Waits until records are durable: [`Journal::durable`](crate::Journal::durable).
#[must_use = "waits only while it is polled"]
pub struct Durable<'a> {
    /// None: there is nothing to wait for.
    commit: Option<&'a Commit>,
    sequence: u64,
    key: Option<u64>,
}

impl<'a> Durable<'a> {
    pub(crate) fn new(commit: Option<&'a Commit>, sequence: u64) -> Self {
        Self { commit, sequence, key: None }
    }
}

impl Future for Durable<'_> {
    type Output = Result<(), SyncError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { commit, sequence, key } = &mut *self;
        let Some(commit) = commit else { return Poll::Ready(Ok(())) };
        commit.poll(*sequence, key, context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        if let (Some(commit), Some(key)) = (self.commit, self.key) {
            commit.forget(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Barrier, mpsc};
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::*;
    use crate::{AppendError, Journal, Limits, Mode};

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let (waker, mut future) = (Waker::from(Arc::new(Unpark(thread::current()))), pin!(future));
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn on_disk(folder: &tempfile::TempDir) -> Journal {
        Journal::open(folder.path(), Mode::Disk, Limits::default()).unwrap().journal
    }

    #[test]
    fn one_sync_serves_all_who_appended_while_another_ran() {
        const OTHERS: u64 = 20;
        let (commit, appended, syncs) = (Commit::default(), AtomicU64::new(1), AtomicU64::new(0));
        let (entered, has_entered) = mpsc::channel();
        let (release, released) = (Barrier::new(2), Barrier::new(OTHERS as usize + 1));
        let sync = || {
            let upto = appended.load(Ordering::SeqCst);
            if syncs.fetch_add(1, Ordering::SeqCst) == 0 {
                entered.send(()).unwrap();
                release.wait();
            }
            commit.settle(Ok(upto));
        };
        thread::scope(|scope| {
            scope.spawn(|| commit.wait(1, sync).unwrap());
            has_entered.recv().unwrap();
            for _ in 0..OTHERS {
                scope.spawn(|| {
                    let sequence = appended.fetch_add(1, Ordering::SeqCst) + 1;
                    released.wait();
                    commit.wait(sequence, sync).unwrap();
                });
            }
            released.wait();
            release.wait();
        });
        assert_eq!(syncs.into_inner(), 2);
    }

    #[test]
    fn futures_of_many_threads_and_blocking_waits_all_resolve() {
        let folder = tempfile::tempdir().unwrap();
        let journal = on_disk(&folder);
        thread::scope(|scope| {
            for thread in 0..16 {
                let journal = &journal;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let sequence = journal.append(b"record").unwrap().sequence;
                        match thread % 2 {
                            0 => block_on(journal.durable(sequence)).unwrap(),
                            _ => journal.wait_durable(sequence).unwrap(),
                        }
                    }
                });
            }
        });
        assert_eq!(journal.waiting(), 0);
    }

    #[test]
    fn a_future_that_is_dropped_leaves_nothing_behind() {
        let commit = Commit::default();
        let mut keys = [None; 3];
        for key in &mut keys {
            assert_eq!(commit.poll(5, key, Waker::noop()), None);
            assert_eq!(commit.poll(5, key, Waker::noop()), None, "polled again it is still one");
        }
        assert_eq!(commit.waiting(), 3);
        commit.forget(keys[1].unwrap());
        assert_eq!(commit.waiting(), 2);
        commit.settle(Ok(5));
        commit.tell();
        assert_eq!(commit.waiting(), 0);
    }

    #[test]
    fn a_failed_sync_is_told_to_all_and_believed_until_a_rotation_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = on_disk(&folder);
        let first = journal.append(b"kept").unwrap().sequence;
        journal.wait_durable(first).unwrap();
        let doubtful = journal.append(b"doubtful").unwrap().sequence;
        journal.lose_disk();
        let error = journal.wait_durable(doubtful).unwrap_err();
        assert_eq!(block_on(journal.durable(doubtful)), Err(error));
        assert_eq!(journal.wait_durable(doubtful), Err(error), "no second sync is asked");
        journal.wait_durable(first).unwrap();
        assert!(matches!(journal.append(b"no"), Err(AppendError::Broken(told)) if told == error));
        journal.rotate(|out| out.write(b"kept and doubtful")).unwrap();
        journal.wait_durable(doubtful).unwrap();
        let after = journal.append(b"after").unwrap().sequence;
        block_on(journal.durable(after)).unwrap();
        drop(journal);
        let opened = Journal::open(folder.path(), Mode::Disk, Limits::default()).unwrap();
        assert_eq!(opened.records.iter().collect::<Vec<_>>(), [&b"kept and doubtful"[..], b"after"]);
    }
}
