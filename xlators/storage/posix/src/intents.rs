//! Which objects are in the middle of a change that several system calls make.
//!
//! A file of fixed slots, each two gfids; a slot is written before the first call and cleared after the last. Written
//! through the page cache, so it survives the death of the process; what it says is looked at by the next start
//! ([`recover`](crate::recover)). A power cut may lose it: what then stays is found and put right by lookups.

use std::os::fd::{BorrowedFd, OwnedFd};

use brickwork_api::{FopError, FopResult, Gfid};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags};

const NAME: &str = "intents";
const SLOT: usize = 32;
/// Slots that have their place on disk from the start; more are made when more calls run at once.
const SLOTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Intents {
    file: OwnedFd,
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    slots: Vec<usize>,
    all: usize,
}

/// A slot that names one or two objects until this goes.
#[derive(Debug)]
pub(crate) struct Intent<'a> {
    intents: &'a Intents,
    slot: usize,
}

impl Intents {
    pub(crate) fn open(own: BorrowedFd<'_>) -> rustix::io::Result<Intents> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(own, NAME, flags, Mode::RUSR | Mode::WUSR)?;
        let free = Free { slots: (0..SLOTS).rev().collect(), all: SLOTS };
        Ok(Intents { file, free: Mutex::new(free) })
    }

    /// The objects that a process before us left in the middle of a change.
    pub(crate) fn left(&self) -> FopResult<Vec<Gfid>> {
        let length = rustix::fs::fstat(&self.file)?.st_size as usize;
        // Anything longer was not written by us; slots are reused, so their number is that of calls at one time.
        let mut bytes = vec![0; length.min(1 << 20)];
        let mut read = 0;
        while read < bytes.len() {
            match rustix::io::pread(&self.file, &mut bytes[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        let gfids = bytes[..read].chunks_exact(16).filter_map(|chunk| chunk.try_into().ok()).map(Gfid::from_bytes);
        Ok(gfids.filter(|gfid| !gfid.is_null()).collect())
    }

    /// Forgets what was left and gives the first slots their place on disk.
    pub(crate) fn clear(&self) -> FopResult<()> {
        rustix::fs::ftruncate(&self.file, 0)?;
        rustix::io::pwrite(&self.file, &[0; SLOT * SLOTS], 0)?;
        Ok(())
    }

    /// Notes that `one` and `two` are being changed.
    pub(crate) fn begin(&self, one: Gfid, two: Option<Gfid>) -> FopResult<Intent<'_>> {
        let slot = {
            let mut free = self.free.lock();
            free.slots.pop().unwrap_or_else(|| {
                free.all += 1;
                free.all - 1
            })
        };
        let intent = Intent { intents: self, slot };
        let mut bytes = [0; SLOT];
        bytes[..16].copy_from_slice(&one.to_bytes());
        bytes[16..].copy_from_slice(&two.map_or([0; 16], Gfid::to_bytes));
        intent.write(&bytes).map_err(|error| error.doing("noting what is being changed"))?;
        Ok(intent)
    }

    /// Takes the file away.
    pub(crate) fn remove(&self, own: BorrowedFd<'_>) -> FopResult<()> {
        match rustix::fs::unlinkat(own, NAME, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Intent<'_> {
    fn write(&self, bytes: &[u8; SLOT]) -> FopResult<()> {
        match rustix::io::pwrite(&self.intents.file, bytes, (self.slot * SLOT) as u64)? {
            SLOT => Ok(()),
            _ => Err(FopError::new(brickwork_api::Errno::ENOSPC)),
        }
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.write(&[0; SLOT]) {
            // The next start then looks at an object that is in order.
            tracing::warn!(%error, "an intent stays behind");
        }
        self.intents.free.lock().slots.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_under_way_is_left_and_what_is_done_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = rustix::fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let intents = Intents::open(own.as_fd()).unwrap();
        intents.clear().unwrap();
        let (a, b, c) = (Gfid::random(), Gfid::random(), Gfid::random());
        drop(intents.begin(a, None).unwrap());
        let under_way = intents.begin(b, Some(c)).unwrap();
        let next = Intents::open(own.as_fd()).unwrap();
        assert_eq!(next.left().unwrap(), [b, c]);
        drop(under_way);
        assert_eq!(next.left().unwrap(), []);
    }

    #[test]
    fn more_calls_than_slots_get_slots_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let own = rustix::fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let intents = Intents::open(own.as_fd()).unwrap();
        intents.clear().unwrap();
        let held: Vec<_> = (0..3 * SLOTS).map(|_| intents.begin(Gfid::random(), None).unwrap()).collect();
        assert_eq!(intents.left().unwrap().len(), 3 * SLOTS);
        drop(held);
        assert_eq!(intents.left().unwrap().len(), 0);
    }
}
