//! What one client has open, so that it can be opened again after the brick has lost it.

use std::collections::HashMap;

use brickwork_api::{Gfid, OpenId};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// Opens of one session at once.
pub const OPENS_MAX: usize = 1 << 20;

/// Flags of an open that belong to its beginning, not to what it is.
const ONCE: u32 = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::TRUNC).bits();

/// One open: what a brick needs to make it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenRecord {
    /// The object.
    pub gfid: Gfid,
    /// `O_*` flags, without those that make or empty a file.
    pub flags: u32,
    /// Whether it is a directory.
    pub directory: bool,
}

impl OpenRecord {
    /// Of a file, opened with `flags`.
    #[must_use]
    pub fn file(gfid: Gfid, flags: u32) -> OpenRecord {
        OpenRecord { gfid, flags: flags & !ONCE, directory: false }
    }

    /// Of a directory.
    #[must_use]
    pub fn directory(gfid: Gfid) -> OpenRecord {
        OpenRecord { gfid, flags: 0, directory: true }
    }
}

/// What is known of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing, or it is of another object.
    No,
    /// The child has it.
    Open,
    /// It was open before the brick restarted.
    Lost(OpenRecord),
}

/// What a session had open when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOpen {
    /// Its name.
    pub open: OpenId,
    /// What it is.
    pub record: OpenRecord,
    /// Whether the child has it; else it was open before a restart.
    pub alive: bool,
}

/// Why an open is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// The session has ended: nobody would ever release it.
    Ended,
    /// The client has [`OPENS_MAX`] already.
    Full,
}

/// The opens of one session.
#[derive(Debug, Default)]
pub struct Opens(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    ended: bool,
    opens: HashMap<OpenId, Kept>,
}

#[derive(Debug)]
struct Kept {
    record: OpenRecord,
    /// Whether the child has it, as far as is known.
    alive: bool,
}

impl Opens {
    /// Keeps an open that the child has.
    ///
    /// # Errors
    /// [`NotKept`]; the child then has to release it.
    pub fn add(&self, open: OpenId, record: OpenRecord) -> Result<(), NotKept> {
        let mut table = self.0.lock();
        if table.ended {
            return Err(NotKept::Ended);
        }
        if table.opens.len() >= OPENS_MAX {
            return Err(NotKept::Full);
        }
        table.opens.insert(open, Kept { record, alive: true });
        Ok(())
    }

    /// Keeps an open of before the restart.
    pub fn restore(&self, open: OpenId, record: OpenRecord) {
        self.0.lock().opens.insert(open, Kept { record, alive: false });
    }

    /// Lets an open go; whether it was there.
    pub fn remove(&self, open: OpenId) -> bool {
        self.0.lock().opens.remove(&open).is_some()
    }

    /// Whether there is an open of this id.
    #[must_use]
    pub fn contains(&self, open: OpenId) -> bool {
        self.0.lock().opens.contains_key(&open)
    }

    /// What is known of `open` on `gfid`.
    #[must_use]
    pub fn known(&self, open: OpenId, gfid: Gfid, directory: bool) -> Known {
        match self.0.lock().opens.get(&open) {
            Some(Kept { record, .. }) if record.gfid != gfid || record.directory != directory => Known::No,
            Some(Kept { alive: true, .. }) => Known::Open,
            Some(Kept { record, .. }) => Known::Lost(*record),
            None => Known::No,
        }
    }

    /// Says that the child has it again.
    pub fn revived(&self, open: OpenId) {
        if let Some(kept) = self.0.lock().opens.get_mut(&open) {
            kept.alive = true;
        }
    }

    /// Every open, by id.
    #[must_use]
    pub fn all(&self) -> Vec<(OpenId, OpenRecord)> {
        let mut all: Vec<_> = self.0.lock().opens.iter().map(|(open, kept)| (*open, kept.record)).collect();
        all.sort_unstable_by_key(|(open, _)| *open);
        all
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().opens.len()
    }

    /// How many the child does not have since a restart.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.0.lock().opens.values().filter(|kept| !kept.alive).count()
    }

    /// Whether [`Opens::end`] was called.
    #[must_use]
    pub fn have_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// Ends them: no other is kept from now on. What was open is to be released.
    #[must_use]
    pub fn end(&self) -> Vec<LeftOpen> {
        let mut table = self.0.lock();
        table.ended = true;
        let opens = std::mem::take(&mut table.opens);
        opens.into_iter().map(|(open, Kept { record, alive })| LeftOpen { open, record, alive }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: OpenId = OpenId(4);

    #[test]
    fn an_open_of_before_the_restart_matches_only_its_own_object_and_loses_the_flags_of_its_beginning() {
        let opens = Opens::default();
        let record = OpenRecord::file(Gfid::ROOT, (OFlags::RDWR | OFlags::APPEND | OFlags::TRUNC).bits());
        opens.restore(OPEN, record);
        assert_eq!(record.flags, (OFlags::RDWR | OFlags::APPEND).bits());
        assert_eq!(opens.known(OPEN, Gfid::ROOT, false), Known::Lost(record));
        assert_eq!(opens.known(OPEN, Gfid::ROOT, true), Known::No);
        assert_eq!(opens.known(OPEN, Gfid::random(), false), Known::No);
        assert_eq!(opens.known(OpenId(5), Gfid::ROOT, false), Known::No);
        opens.revived(OPEN);
        assert_eq!(opens.known(OPEN, Gfid::ROOT, false), Known::Open);
    }

    #[test]
    fn the_end_hands_out_what_was_open_and_nothing_is_kept_after_it() {
        let opens = Opens::default();
        opens.add(OpenId(2), OpenRecord::directory(Gfid::ROOT)).unwrap();
        assert_eq!(opens.end(), [LeftOpen { open: OpenId(2), record: OpenRecord::directory(Gfid::ROOT), alive: true }]);
        assert_eq!(opens.add(OpenId(3), OpenRecord::directory(Gfid::ROOT)), Err(NotKept::Ended));
        assert_eq!(opens.count(), 0);
    }

    #[test]
    fn a_client_has_so_many_opens_and_no_more() {
        let opens = Opens::default();
        let record = OpenRecord::directory(Gfid::ROOT);
        for open in 0..OPENS_MAX as u64 {
            opens.restore(OpenId(open), record);
        }
        assert_eq!(opens.add(OpenId(u64::MAX), record), Err(NotKept::Full));
    }
}
