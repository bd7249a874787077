//! Locks that tools and gateways have a mount hold: taken over from a client that failed, kept until released.
//!
//! They belong to the client that the mount is, under the owner that the tool names, and go with the mount.
//!
//! Always true between calls: an entry has a file that is open, and a range or somebody at work with it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use brickwork_api::locks::{ClientNotice, LockNotice};
use brickwork_api::ranges::ByteRange;
use brickwork_api::{Errno, Event, FopError, FopResult, Gfid, LkKind, LkOwner, OpenId};
use brickwork_volume::{File, How, Lock, Volume};
use parking_lot::Mutex;

/// Locks that tools have one mount hold.
pub const CONTROL_LOCKS_MAX: usize = 1024;

/// What tools may ask of a mount: to take locks over, and to release them.
#[derive(Debug)]
pub struct Control {
    volume: Volume,
    table: Mutex<Table>,
}

/// Whose locks, on what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Whose {
    gfid: Gfid,
    owner: LkOwner,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<Whose, Held>,
    /// Held or being taken.
    locks: usize,
    ended: bool,
}

#[derive(Debug)]
struct Held {
    file: Arc<File>,
    locks: Vec<(LkKind, ByteRange)>,
    /// Calls under way through the file.
    users: usize,
}

impl Control {
    /// For tools of the mount whose client `volume` is.
    pub(crate) fn of(volume: Volume) -> Control {
        Control { volume, table: Mutex::default() }
    }

    /// Takes over `lock` of `owner` on the file at `path` in the volume, and holds it until [`Control::release`].
    ///
    /// # Errors
    /// `ENOLCK`, with [`RECLAIM_REFUSED`](brickwork_api::locks::RECLAIM_REFUSED) when the brick refuses, without at
    /// [`CONTROL_LOCKS_MAX`]; `ENOTCONN` when the mount has ended; `ENOENT` and the like for the path.
    pub async fn reclaim(&self, path: &Path, owner: &LkOwner, lock: Lock) -> FopResult<()> {
        let place = Place::take(&self.table)?;
        let gfid = self.volume.lookup(path).await?.gfid;
        let using = self.open(Whose { gfid, owner: owner.clone() }).await?;
        let taken = using.file.lock(owner, lock, How::Reclaim).await;
        let result = taken.and_then(|()| place.keep(&using.whose, using.file.id().open, (lock.kind, lock.range)));
        using.end().await;
        result
    }

    /// Releases what was taken over for `owner` on the file at `path` within `range`; returns how many locks those were.
    ///
    /// # Errors
    /// `ENOLCK` when there is none; `EINVAL` when `range` has a part of one, and then nothing was released; `ENOENT` and the
    /// like for the path.
    pub async fn release(&self, path: &Path, owner: &LkOwner, kind: LkKind, range: ByteRange) -> FopResult<usize> {
        let gfid = self.volume.lookup(path).await?.gfid;
        let (using, locks) = self.take_locks(Whose { gfid, owner: owner.clone() }, kind, range)?;
        let mut result = Ok(locks.len());
        for range in locks {
            if let Err(error) = using.file.unlock(owner, kind, range).await {
                // The close of the file releases it, if nothing else is held through it.
                result = Err(error);
            }
        }
        using.end().await;
        result
    }

    /// How many locks are held so.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.lock().locks
    }

    /// Acts on an event about locks: probes are sent on, files whose locks were taken are closed.
    pub(crate) fn hear(&self, event: &Event) {
        self.volume.hear(event);
        if let Event::Lock(ClientNotice { client, notice: LockNotice::Lost { opens, .. } }) = event
            && *client == self.volume.client().id()
        {
            self.lose(opens);
        }
    }

    fn lose(&self, opens: &[OpenId]) {
        let mut table = self.table.lock();
        let lost: Vec<Whose> = table
            .files
            .iter()
            .filter(|(_, held)| opens.contains(&held.file.id().open))
            .map(|(whose, _)| whose.clone())
            .collect();
        for whose in lost {
            tracing::warn!(gfid = %whose.gfid, owner = ?whose.owner, "a lock that a tool had this mount hold is gone");
            table.remove(&whose);
        }
    }

    /// Releases everything: the mount has ended.
    pub(crate) async fn end(&self) {
        let files: Vec<Held> = {
            let mut table = self.table.lock();
            table.ended = true;
            table.locks = 0;
            table.files.drain().map(|(_, held)| held).collect()
        };
        for held in files {
            close(held.file).await;
        }
    }

    /// The file through which the locks of `whose` are held, opened if need be.
    async fn open(&self, whose: Whose) -> FopResult<Using<'_>> {
        if let Some(file) = self.table.lock().used(&whose) {
            return Ok(Using { control: self, whose, file });
        }
        let opened = Arc::new(self.volume.open_gfid(whose.gfid, libc::O_RDWR).await?);
        let file = {
            let mut table = self.table.lock();
            // Another call may have opened it meanwhile; or the mount has ended.
            match table.used(&whose) {
                Some(file) => Some(file),
                None if table.ended => None,
                None => {
                    table.files.insert(whose.clone(), Held { file: opened.clone(), locks: Vec::new(), users: 1 });
                    Some(opened.clone())
                }
            }
        };
        match file {
            Some(file) => Ok(Using { control: self, whose, file }),
            None => {
                close(opened).await;
                Err(ended())
            }
        }
    }

    /// Takes the locks of `whose` within `range` out of the table.
    fn take_locks(&self, whose: Whose, kind: LkKind, range: ByteRange) -> FopResult<(Using<'_>, Vec<ByteRange>)> {
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let Some(held) = table.files.get_mut(&whose) else { return Err(Errno::ENOLCK.into()) };
        let inside = |lock: ByteRange| range.start() <= lock.start() && lock.end() <= range.end();
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        for &(its, lock) in &held.locks {
            match its == kind && inside(lock) {
                true => taken.push(lock),
                false if its == kind && lock.overlaps(range) => {
                    return Err(FopError::new(Errno::EINVAL)
                        .doing("releasing a part of a lock that was taken over")
                        .with("first byte", lock.start())
                        .with("end", lock.end()));
                }
                false => kept.push((its, lock)),
            }
        }
        if taken.is_empty() {
            return Err(Errno::ENOLCK.into());
        }
        held.locks = kept;
        held.users += 1;
        let file = held.file.clone();
        table.locks -= taken.len();
        drop(guard);
        Ok((Using { control: self, whose, file }, taken))
    }
}

impl Table {
    /// The file of `whose`, with one more call under way. One that has lost a lock is good for nothing, and forgotten.
    fn used(&mut self, whose: &Whose) -> Option<Arc<File>> {
        if self.files.get(whose)?.file.lost().is_some() {
            self.remove(whose);
            return None;
        }
        let held = self.files.get_mut(whose)?;
        held.users += 1;
        Some(held.file.clone())
    }

    /// Forgets the file of `whose`, which is closed when the last call through it ends.
    fn remove(&mut self, whose: &Whose) -> Option<Held> {
        let held = self.files.remove(whose)?;
        self.locks -= held.locks.len();
        Some(held)
    }
}

/// A place for one more lock; given back when dropped.
struct Place<'a>(&'a Mutex<Table>);

impl<'a> Place<'a> {
    fn take(table: &'a Mutex<Table>) -> FopResult<Place<'a>> {
        let mut held = table.lock();
        if held.ended {
            return Err(ended());
        }
        if held.locks >= CONTROL_LOCKS_MAX {
            return Err(FopError::new(Errno::ENOLCK)
                .doing("holding one more lock for a tool")
                .with("limit", CONTROL_LOCKS_MAX));
        }
        held.locks += 1;
        drop(held);
        Ok(Place(table))
    }

    /// Notes that the lock is held through `open`.
    ///
    /// # Errors
    /// The lock is gone again: the mount has ended, or somebody took it.
    fn keep(self, whose: &Whose, open: OpenId, lock: (LkKind, ByteRange)) -> FopResult<()> {
        let mut guard = self.0.lock();
        let table = &mut *guard;
        let Some(held) = table.files.get_mut(whose).filter(|held| held.file.id().open == open) else {
            return Err(if table.ended { ended() } else { Errno::EIO.into() });
        };
        // Taken over once more: it is the same lock.
        if !held.locks.contains(&lock) {
            held.locks.push(lock);
            table.locks += 1;
        }
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.0.lock();
        // The end counts none.
        table.locks = table.locks.saturating_sub(1);
    }
}

/// A call under way through a file.
struct Using<'a> {
    control: &'a Control,
    whose: Whose,
    file: Arc<File>,
}

impl Using<'_> {
    /// Ends the call; a file through which nothing is held any more is closed.
    async fn end(self) {
        let idle = {
            let mut table = self.control.table.lock();
            let open = self.file.id().open;
            match table.files.get_mut(&self.whose).filter(|held| held.file.id().open == open) {
                Some(held) => {
                    held.users -= 1;
                    let idle = held.users == 0 && (held.locks.is_empty() || held.file.lost().is_some());
                    if idle { table.remove(&self.whose) } else { None }
                }
                None => None,
            }
        };
        if let Some(held) = idle {
            drop(self.file);
            close(held.file).await;
        }
    }
}

/// Closes `file`, or has its last user do so.
async fn close(file: Arc<File>) {
    if let Some(file) = Arc::into_inner(file)
        && let Err(error) = file.close().await
    {
        tracing::warn!(%error, "a file that a tool had locks on could not be closed");
    }
}

fn ended() -> FopError {
    FopError::new(Errno::ENOTCONN).doing("locking for a tool, after the mount has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::locks::{LostBy, RECLAIM_REFUSED};
    use brickwork_testkit::{KeepsLocks, MemoryLeaf, TestHost, block_on};

    /// A file `x` on which a client that fails holds `[0, 10)` and `[20, 30)` as `gateway`, and a mount's control.
    struct Scene {
        locks: Arc<KeepsLocks>,
        control: Control,
        failed: (Volume, File),
        owner: LkOwner,
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn scene() -> Scene {
        let locks = Arc::new(KeepsLocks::over(Arc::new(MemoryLeaf::new())));
        let owner = LkOwner::new(b"gateway").unwrap();
        let failed = Volume::new(locks.clone(), TestHost::new());
        let file = block_on(failed.create("x", 0o600)).unwrap();
        for bytes in [range(0, 10), range(20, 30)] {
            block_on(file.lock(&owner, Lock::exclusive(bytes), How::Try)).unwrap();
        }
        let control = Control::of(Volume::new(locks.clone(), TestHost::new()));
        Scene { locks, control, failed: (failed, file), owner }
    }

    impl Scene {
        fn reclaim(&self, bytes: ByteRange) -> FopResult<()> {
            block_on(self.control.reclaim(Path::new("/x"), &self.owner, Lock::exclusive(bytes)))
        }

        fn release(&self, bytes: ByteRange) -> Result<usize, Errno> {
            let released = self.control.release(Path::new("/x"), &self.owner, LkKind::Posix, bytes);
            block_on(released).map_err(|error| error.errno())
        }

        fn files(&self) -> usize {
            self.control.table.lock().files.len()
        }
    }

    #[test]
    fn a_lock_that_was_taken_over_outlives_its_first_holder_and_goes_when_it_is_released() {
        let scene = scene();
        scene.reclaim(range(0, 10)).unwrap();
        scene.reclaim(range(20, 30)).unwrap();
        assert_eq!((scene.control.count(), scene.files()), (2, 1));
        block_on(scene.failed.1.close()).unwrap();
        assert_eq!(scene.locks.count(), 2);
        let file = block_on(scene.failed.0.open("x", libc::O_RDWR)).unwrap();
        let taken = block_on(file.lock(&scene.owner, Lock::exclusive(range(0, 1)), How::Try));
        assert_eq!(taken.unwrap_err().errno(), Errno::EAGAIN, "it is another client's now");
    }

    #[test]
    fn what_is_released_is_the_locks_within_the_range_and_the_last_closes_the_file() {
        let scene = scene();
        scene.reclaim(range(0, 10)).unwrap();
        scene.reclaim(range(20, 30)).unwrap();
        assert_eq!(scene.release(range(0, 25)), Err(Errno::EINVAL), "a part of a lock");
        assert_eq!(scene.release(range(10, 20)), Err(Errno::ENOLCK));
        assert_eq!(scene.release(range(0, 10)), Ok(1));
        assert_eq!((scene.control.count(), scene.files(), scene.locks.count()), (1, 1, 1));
        assert_eq!(scene.release(ByteRange::ALL), Ok(1));
        assert_eq!((scene.control.count(), scene.files(), scene.locks.count()), (0, 0, 0));
    }

    #[test]
    fn a_refused_takeover_says_why_and_leaves_nothing_behind() {
        let scene = scene();
        let refused = scene.reclaim(range(0, 9)).unwrap_err();
        assert_eq!(refused.errno(), Errno::ENOLCK);
        assert_eq!(refused.xdata().get(&RECLAIM_REFUSED), Ok(Some("no-record".to_owned())));
        assert_eq!((scene.control.count(), scene.files()), (0, 0));
    }

    #[test]
    fn a_lock_taken_over_twice_is_one() {
        let scene = scene();
        scene.reclaim(range(0, 10)).unwrap();
        scene.reclaim(range(0, 10)).unwrap();
        assert_eq!(scene.control.count(), 1);
        assert_eq!(scene.release(range(0, 10)), Ok(1));
        assert_eq!((scene.control.count(), scene.files()), (0, 0));
    }

    #[test]
    fn a_lock_that_is_lost_is_forgotten_and_its_file_closed() {
        let scene = scene();
        scene.reclaim(range(0, 10)).unwrap();
        let file = scene.control.table.lock().files.values().next().unwrap().file.id();
        let notice = |client| {
            let notice = LockNotice::Lost { gfid: file.gfid, opens: vec![file.open], why: LostBy::Drop };
            Event::Lock(ClientNotice { client, notice })
        };
        scene.control.hear(&notice(scene.failed.0.client().id()));
        assert_eq!(scene.control.count(), 1, "that was another client's");
        scene.control.hear(&notice(scene.control.volume.client().id()));
        assert_eq!((scene.control.count(), scene.files()), (0, 0));
        assert_eq!(scene.release(ByteRange::ALL), Err(Errno::ENOLCK));
    }

    #[test]
    fn at_the_limit_a_takeover_is_refused_until_one_is_released() {
        let scene = scene();
        scene.control.table.lock().locks = CONTROL_LOCKS_MAX - 1;
        scene.reclaim(range(0, 10)).unwrap();
        let refused = scene.reclaim(range(20, 30)).unwrap_err();
        assert_eq!((refused.errno(), refused.xdata().is_empty()), (Errno::ENOLCK, true));
        assert_eq!(scene.release(range(0, 10)), Ok(1));
        scene.reclaim(range(20, 30)).unwrap();
    }

    #[test]
    fn when_the_mount_ends_everything_is_released_and_nothing_taken_over_any_more() {
        let scene = scene();
        scene.reclaim(range(0, 10)).unwrap();
        block_on(scene.control.end());
        assert_eq!((scene.control.count(), scene.locks.count()), (0, 1));
        assert_eq!(scene.reclaim(range(20, 30)).unwrap_err().errno(), Errno::ENOTCONN);
        assert_eq!(scene.control.count(), 0);
    }
}
