//! Group commit: one sync for all who wait.
//!
//! Whoever waits while nobody syncs becomes the leader and syncs all that was appended by then; all others wait for the
//! leader and look again. Futures cannot lead: a thread of the journal does it for them.

use std::collections::BTreeMap;
use std::task::Waker;

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
    wakers: BTreeMap<u64, (u64, Waker)>,
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
        let done = self.wakers.extract_if(.., |_, (sequence, _)| *sequence <= durable || broken);
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

    /// Ends [`serve`](Self::serve).
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }
}
