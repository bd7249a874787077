//! What the kernel is to drop and may not have dropped yet.
//!
//! It drops beside everything else, by threads of the pool, and a drop may take long: it waits for each page that a READ has
//! under way, of files that come before, too. A lock can be handed round faster than that, so whoever gets one first looks
//! here; see [`crate::front::Front::dropped_before_lock`].
//!
//! A drop is noted before anybody can know that it is needed: before an event is taken as heard, before the answer that
//! makes it needed is told to the kernel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::Gfid;
use parking_lot::Mutex;

/// The drops that are noted.
#[derive(Default)]
pub(crate) struct Drops {
    /// All of them: mostly none, which is the whole question then.
    count: AtomicUsize,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    /// How many of everything.
    everything: usize,
    of: HashMap<Gfid, usize>,
}

/// One drop, until it has been done.
#[must_use = "it is over when this is dropped"]
pub(crate) struct Dropping {
    drops: Arc<Drops>,
    /// Of everything without one.
    gfid: Option<Gfid>,
}

impl Drops {
    /// Notes a drop of what the kernel keeps of `gfid`.
    pub(crate) fn note(self: &Arc<Drops>, gfid: Gfid) -> Dropping {
        *self.noted.lock().of.entry(gfid).or_default() += 1;
        self.begun(Some(gfid))
    }

    /// Notes a drop of all that the kernel keeps.
    pub(crate) fn note_everything(self: &Arc<Drops>) -> Dropping {
        self.noted.lock().everything += 1;
        self.begun(None)
    }

    /// Whether something that the kernel keeps of `gfid` may have to go yet.
    pub(crate) fn concern(&self, gfid: Gfid) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let noted = self.noted.lock();
        noted.everything > 0 || noted.of.contains_key(&gfid)
    }

    fn begun(self: &Arc<Drops>, gfid: Option<Gfid>) -> Dropping {
        self.count.fetch_add(1, Ordering::SeqCst);
        Dropping { drops: self.clone(), gfid }
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.drops.count.fetch_sub(1, Ordering::SeqCst);
        let mut noted = self.drops.noted.lock();
        let Some(gfid) = self.gfid else {
            noted.everything -= 1;
            return;
        };
        if let Some(count) = noted.of.get_mut(&gfid) {
            *count -= 1;
            if *count == 0 {
                noted.of.remove(&gfid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_concerned_until_the_last_drop_of_it_is_over() {
        let drops = Arc::new(Drops::default());
        let (gfid, other) = (Gfid::random(), Gfid::random());
        let (first, second) = (drops.note(gfid), drops.note(gfid));
        assert!(drops.concern(gfid) && !drops.concern(other));
        drop(first);
        assert!(drops.concern(gfid));
        drop(second);
        assert!(!drops.concern(gfid) && drops.noted.lock().of.is_empty());
    }

    #[test]
    fn a_drop_of_everything_concerns_every_file() {
        let drops = Arc::new(Drops::default());
        let everything = drops.note_everything();
        assert!(drops.concern(Gfid::random()));
        drop(everything);
        assert!(!drops.concern(Gfid::random()));
    }
}
