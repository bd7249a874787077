//! Locks of names and of objects within this process: what makes several system calls one step.
//!
//! A brick is served by one process, so these are all the locks there are. Always taken in this order, and each
//! kind at once: names, then objects; names of one call, and objects of one call, in the order of their stripes. No lock
//! is held over an await, nor while a directory is looked for by its gfid.
//!
//! Readers of a name take no lock: they read a version before and after, and only where it changed in between
//! do they wait their turn.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::Gfid;
use parking_lot::{Mutex, MutexGuard};

const STRIPES: usize = 1024;

#[derive(Debug, Default)]
struct Stripe {
    lock: Mutex<()>,
    /// Odd while somebody changes what the stripe stands for.
    version: AtomicU64,
}

/// Locks for any number of keys, several of which may share one.
#[derive(Debug)]
pub(crate) struct Stripes {
    stripes: Box<[Stripe]>,
    hasher: RandomState,
}

/// One stripe, held.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    stripe: &'a Stripe,
    _guard: MutexGuard<'a, ()>,
}

impl Stripes {
    pub(crate) fn new() -> Stripes {
        Stripes { stripes: (0..STRIPES).map(|_| Stripe::default()).collect(), hasher: RandomState::new() }
    }

    /// Locks one name of a directory.
    pub(crate) fn name(&self, parent: Gfid, name: &[u8]) -> Held<'_> {
        self.hold(self.index_of_name(parent, name))
    }

    /// Locks two names, which may be the same.
    pub(crate) fn two_names<'a>(&'a self, one: (Gfid, &[u8]), two: (Gfid, &[u8])) -> (Held<'a>, Option<Held<'a>>) {
        self.hold_two(self.index_of_name(one.0, one.1), self.index_of_name(two.0, two.1))
    }

    /// Locks an object.
    pub(crate) fn object(&self, gfid: Gfid) -> Held<'_> {
        self.hold(self.index_of(gfid))
    }

    /// Locks one or two objects.
    pub(crate) fn two_objects(&self, one: Gfid, two: Option<Gfid>) -> (Held<'_>, Option<Held<'_>>) {
        self.hold_two(self.index_of(one), self.index_of(two.unwrap_or(one)))
    }

    /// What `read` says about a name while nobody changed it; `None` when somebody did.
    pub(crate) fn unchanged<T>(&self, parent: Gfid, name: &[u8], read: impl FnOnce() -> T) -> Option<T> {
        let stripe = &self.stripes[self.index_of_name(parent, name)];
        let before = stripe.version.load(Ordering::Acquire);
        if before % 2 == 1 {
            return None;
        }
        let seen = read();
        (stripe.version.load(Ordering::Acquire) == before).then_some(seen)
    }

    fn index_of_name(&self, parent: Gfid, name: &[u8]) -> usize {
        self.hasher.hash_one((parent, name)) as usize % STRIPES
    }

    fn index_of(&self, gfid: Gfid) -> usize {
        self.hasher.hash_one(gfid) as usize % STRIPES
    }

    fn hold_two(&self, one: usize, two: usize) -> (Held<'_>, Option<Held<'_>>) {
        let first = self.hold(one.min(two));
        (first, (one != two).then(|| self.hold(one.max(two))))
    }

    fn hold(&self, index: usize) -> Held<'_> {
        let stripe = &self.stripes[index];
        let guard = stripe.lock.lock();
        stripe.version.fetch_add(1, Ordering::AcqRel);
        Held { stripe, _guard: guard }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The guard goes after this body, so the version is even again before the next holder makes it odd.
        self.stripe.version.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_learns_that_a_name_changed_under_it() {
        let stripes = Stripes::new();
        let read = |change: bool| {
            stripes.unchanged(Gfid::ROOT, b"a", || change.then(|| drop(stripes.name(Gfid::ROOT, b"a"))).is_some())
        };
        assert_eq!(read(false), Some(false));
        assert_eq!(read(true), None);
        let held = stripes.name(Gfid::ROOT, b"a");
        assert_eq!(read(false), None);
        drop(held);
        assert_eq!(read(false), Some(false));
    }

    #[test]
    fn the_same_name_twice_is_locked_once() {
        let stripes = Stripes::new();
        let (_first, second) = stripes.two_names((Gfid::ROOT, b"a"), (Gfid::ROOT, b"a"));
        assert!(second.is_none());
    }

    #[test]
    fn two_threads_that_name_the_same_pair_in_either_order_both_end() {
        let stripes = Stripes::new();
        let (a, b) = ((Gfid::ROOT, &b"a"[..]), (Gfid::ROOT, &b"b"[..]));
        std::thread::scope(|scope| {
            for (one, two) in [(a, b), (b, a)] {
                let stripes = &stripes;
                scope.spawn(move || (0..10_000).for_each(|_| drop(stripes.two_names(one, two))));
            }
        });
    }
}
