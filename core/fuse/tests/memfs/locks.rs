//! Whole-range locks, exclusive between owners of one kind, with waiters that can be interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use brickwork_fuse::request::{Lock, LockKind};
use brickwork_fuse::{Errno, Handled, Interruptible, LockOwner, Reply};
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub struct Locks {
    held: Mutex<Vec<(u64, Lock)>>,
    changed: Notify,
    pub waiting: AtomicUsize,
    pub interrupted: AtomicUsize,
}

#[derive(Default)]
struct Cancel {
    asked: AtomicBool,
    wake: Notify,
}

impl Interruptible for Cancel {
    fn interrupt(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

impl Locks {
    fn blocker(held: &[(u64, Lock)], node: u64, lock: &Lock) -> Option<Lock> {
        let meets = |other: &Lock| other.start <= lock.end && lock.start <= other.end;
        let excludes = |other: &Lock| other.kind == LockKind::Write || lock.kind == LockKind::Write;
        let other = |(n, held): &&(u64, Lock)| {
            *n == node && held.flock == lock.flock && held.owner != lock.owner && meets(held) && excludes(held)
        };
        held.iter().find(other).map(|(_, held)| *held)
    }

    /// What is in the way of `lock`.
    pub fn conflict(&self, node: u64, lock: &Lock) -> Lock {
        Self::blocker(&self.held.lock(), node, lock).unwrap_or(Lock { kind: LockKind::Unlock, ..*lock })
    }

    /// How many locks of this kind are held.
    pub fn held(&self, flock: bool) -> usize {
        self.held.lock().iter().filter(|(_, lock)| lock.flock == flock).count()
    }

    fn try_set(&self, node: u64, lock: &Lock) -> Result<(), Errno> {
        let mut held = self.held.lock();
        if lock.kind == LockKind::Unlock {
            held.retain(|(n, other)| (*n, other.owner, other.flock) != (node, lock.owner, lock.flock));
            self.changed.notify_waiters();
            return Ok(());
        }
        if Self::blocker(&held, node, lock).is_some() {
            return Err(Errno::AGAIN);
        }
        held.push((node, *lock));
        Ok(())
    }

    pub fn release(&self, node: u64, flock: bool, owner: LockOwner) {
        self.held.lock().retain(|(n, other)| (*n, other.owner, other.flock) != (node, owner, flock));
        self.changed.notify_waiters();
    }

    async fn wait(&self, node: u64, lock: &Lock, cancel: &Cancel) -> Result<(), Errno> {
        loop {
            let changed = self.changed.notified();
            match self.try_set(node, lock) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
            if cancel.asked.load(Ordering::SeqCst) {
                self.interrupted.fetch_add(1, Ordering::SeqCst);
                return Err(Errno::INTR);
            }
            let mut changed = std::pin::pin!(changed);
            let mut woken = std::pin::pin!(cancel.wake.notified());
            std::future::poll_fn(|cx| {
                let ready = changed.as_mut().poll(cx).is_ready() | woken.as_mut().poll(cx).is_ready();
                if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
    }
}

fn give(reply: Reply, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    };
}

pub fn set(locks: &Arc<Locks>, node: u64, lock: Lock, wait: bool, reply: Reply) -> Handled {
    if !wait {
        give(reply, locks.try_set(node, &lock));
        return Handled::Done;
    }
    let cancel = Arc::new(Cancel::default());
    let (locks, watched) = (locks.clone(), cancel.clone());
    let waiting = async move {
        locks.waiting.fetch_add(1, Ordering::SeqCst);
        let result = locks.wait(node, &lock, &watched).await;
        locks.waiting.fetch_sub(1, Ordering::SeqCst);
        give(reply, result);
    };
    Handled::interruptible(waiting, cancel)
}
