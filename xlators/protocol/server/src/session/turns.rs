//! Who may change a name, a file's length or an object's xattrs, one after the other.
//!
//! A fop that cannot be done twice notes what is there before it begins. That is only true if nobody else changes it in
//! between, so it holds the *turn* of what it changes from that look until its answer is written down. Fops that change a
//! file's length as well, but can be repeated, share its turn with each other.
//!
//! A turn is no mutex: it is waited for without a thread, in order of arrival, and whoever holds one waits for nothing but
//! its child. Of two turns the lower number is taken first, so two fops never wait for each other.
//! What an xlator below must not do is to wait, inside of a fop that holds a turn, for a fop of another client that needs
//! the same turn; locks of applications and leases take none.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as Place, HashMap};
use std::hash::{BuildHasher, RandomState};

use brickwork_api::{Entry, Errno, Gfid};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

/// Fops that wait for one turn.
pub const WAITERS_MAX: usize = 65_536;

const SHARDS: usize = 64;

/// Whether others may have the same turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With others that share it.
    Shared,
    /// Alone.
    Alone,
}

/// A turn that a fop needs. Two things that fall on one number take turns for nothing, and no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    number: u64,
    mode: Mode,
}

/// The turns of one subvolume.
#[derive(Debug)]
pub struct Turns {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<u64, Line>>]>,
}

/// Who has a turn and who waits for it. There is one only while somebody has it.
#[derive(Debug, Default)]
struct Line {
    shared: usize,
    alone: bool,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    mode: Mode,
    granted: oneshot::Sender<()>,
}

/// A turn that is held until this is dropped.
#[derive(Debug)]
pub struct Turn<'t> {
    turns: &'t Turns,
    claim: Claim,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    /// Of a name.
    #[must_use]
    pub fn name(&self, entry: &Entry) -> Claim {
        self.claim(&(0u8, entry), Mode::Alone)
    }

    /// Of a file's length.
    #[must_use]
    pub fn length(&self, gfid: Gfid, mode: Mode) -> Claim {
        self.claim(&(1u8, gfid), mode)
    }

    /// Of an object's xattrs.
    #[must_use]
    pub fn xattrs(&self, gfid: Gfid) -> Claim {
        self.claim(&(2u8, gfid), Mode::Alone)
    }

    /// Takes the turn of each claim, at once when it is free, else after everybody who came before.
    ///
    /// # Errors
    /// `EBUSY` when [`WAITERS_MAX`] wait already; then nothing is held.
    pub async fn take(&self, claims: &[Claim]) -> Result<SmallVec<[Turn<'_>; 2]>, Errno> {
        let mut ordered: SmallVec<[Claim; 2]> = claims.into();
        ordered.sort_unstable_by_key(|claim| claim.number);
        ordered.dedup_by_key(|claim| claim.number);
        let mut held = SmallVec::new();
        for claim in ordered {
            held.push(self.take_one(claim).await?);
        }
        Ok(held)
    }

    async fn take_one(&self, claim: Claim) -> Result<Turn<'_>, Errno> {
        let wait = {
            let mut lines = self.shard(claim.number).lock();
            let line = lines.entry(claim.number).or_default();
            match line.admits(claim.mode) && line.waiting.is_empty() {
                true => {
                    line.grant(claim.mode);
                    None
                }
                false if line.waiting.len() >= WAITERS_MAX => return Err(Errno::EBUSY),
                false => Some(line.join(claim.mode)),
            }
        };
        if let Some(wait) = wait {
            Waiting { turns: self, claim, wait: Some(wait) }.granted().await;
        }
        Ok(Turn { turns: self, claim })
    }

    fn give_back(&self, claim: Claim) {
        let mut lines = self.shard(claim.number).lock();
        let Place::Occupied(mut line) = lines.entry(claim.number) else {
            unreachable!("a turn that is held has a line")
        };
        line.get_mut().give_back(claim.mode);
        line.get_mut().grant_waiting();
        if line.get().is_free() {
            line.remove();
        }
    }

    fn claim(&self, what: &impl std::hash::Hash, mode: Mode) -> Claim {
        Claim { number: self.hasher.hash_one(what), mode }
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Line>> {
        &self.shards[number as usize % SHARDS]
    }
}

impl Line {
    fn admits(&self, mode: Mode) -> bool {
        !self.alone && (mode == Mode::Shared || self.shared == 0)
    }

    fn grant(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.shared += 1,
            Mode::Alone => self.alone = true,
        }
    }

    fn give_back(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.shared -= 1,
            Mode::Alone => self.alone = false,
        }
    }

    fn join(&mut self, mode: Mode) -> oneshot::Receiver<()> {
        let (granted, wait) = oneshot::channel();
        self.waiting.push_back(Waiter { mode, granted });
        wait
    }

    fn grant_waiting(&mut self) {
        while self.waiting.front().is_some_and(|next| self.admits(next.mode)) {
            let Some(next) = self.waiting.pop_front() else { return };
            // One whose future was dropped has left the line.
            if next.granted.send(()).is_ok() {
                self.grant(next.mode);
            }
        }
    }

    fn is_free(&self) -> bool {
        self.shared == 0 && !self.alone && self.waiting.is_empty()
    }
}

/// A place in the line. Dropped between the grant and the look at it, it gives the turn back.
struct Waiting<'t> {
    turns: &'t Turns,
    claim: Claim,
    wait: Option<oneshot::Receiver<()>>,
}

impl Waiting<'_> {
    async fn granted(mut self) {
        if let Some(wait) = &mut self.wait {
            wait.await.expect("a line with waiters outlives them");
        }
        self.wait = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(mut wait) = self.wait.take() {
            wait.close();
            if wait.try_recv().is_ok() {
                self.turns.give_back(self.claim);
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.give_back(self.claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::{block_on, poll_once};
    use std::pin::pin;

    const FILE: Gfid = Gfid::ROOT;

    fn lines(turns: &Turns) -> usize {
        turns.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[test]
    fn those_who_share_go_together_and_one_alone_waits_for_all_of_them() {
        let turns = Turns::default();
        let (shared, alone) = (turns.length(FILE, Mode::Shared), turns.length(FILE, Mode::Alone));
        let first = block_on(turns.take(&[shared])).unwrap();
        let second = block_on(turns.take(&[shared])).unwrap();
        let claims = [alone];
        let mut waits = pin!(turns.take(&claims));
        assert!(poll_once(waits.as_mut()).is_pending());
        drop(first);
        assert!(poll_once(waits.as_mut()).is_pending());
        drop(second);
        assert!(poll_once(waits.as_mut()).is_ready());
    }

    #[test]
    fn who_shares_does_not_pass_one_that_waits_alone() {
        let turns = Turns::default();
        let (shared, alone) = ([turns.length(FILE, Mode::Shared)], [turns.length(FILE, Mode::Alone)]);
        let first = block_on(turns.take(&shared)).unwrap();
        let mut waits = Box::pin(turns.take(&alone));
        assert!(poll_once(waits.as_mut()).is_pending());
        let mut behind = Box::pin(turns.take(&shared));
        assert!(poll_once(behind.as_mut()).is_pending());
        drop(first);
        assert!(poll_once(behind.as_mut()).is_pending());
        let held = match poll_once(waits.as_mut()) {
            std::task::Poll::Ready(held) => held.unwrap(),
            std::task::Poll::Pending => panic!("the first in the line has its turn"),
        };
        drop(held);
        assert!(poll_once(behind.as_mut()).is_ready());
    }

    #[test]
    fn a_waiter_that_goes_away_leaves_no_trace_granted_or_not() {
        let turns = Turns::default();
        let alone = [turns.length(FILE, Mode::Alone)];
        let held = block_on(turns.take(&alone)).unwrap();
        let mut left = Box::pin(turns.take(&alone));
        let mut granted = Box::pin(turns.take(&alone));
        assert!(poll_once(left.as_mut()).is_pending());
        assert!(poll_once(granted.as_mut()).is_pending());
        drop(left);
        drop(held);
        drop(granted);
        assert_eq!(lines(&turns), 0);
    }

    #[test]
    fn two_names_are_taken_in_one_order_whatever_the_order_of_the_rename() {
        let turns = Turns::default();
        let name = |text: &str| turns.name(&brickwork_testkit::client::entry(FILE, text));
        let (there, back) = ([name("a"), name("b")], [name("b"), name("a")]);
        let held = block_on(turns.take(&there)).unwrap();
        let mut waits = Box::pin(turns.take(&back));
        assert!(poll_once(waits.as_mut()).is_pending());
        drop(held);
        assert!(poll_once(waits.as_mut()).is_ready());
        drop(waits);
        assert_eq!(block_on(turns.take(&[name("a"), name("a")])).unwrap().len(), 1);
        assert_eq!(lines(&turns), 0);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let turns = Turns::default();
        let alone = [turns.length(FILE, Mode::Alone)];
        let held = block_on(turns.take(&alone)).unwrap();
        let mut waiting: Vec<_> = (0..WAITERS_MAX).map(|_| Box::pin(turns.take(&alone))).collect();
        assert!(waiting.iter_mut().all(|wait| poll_once(wait.as_mut()).is_pending()));
        assert_eq!(block_on(turns.take(&alone)).unwrap_err(), Errno::EBUSY);
        drop(waiting);
        drop(held);
        assert_eq!(lines(&turns), 0);
    }
}
