//! The journal as its owner sees it.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{AppendError, Damage, OpenError, Refusal, RotateError, SyncError};
use crate::folder::{Folder, Unborn};
use crate::frame::Kind;
use crate::log::{Entry, Fresh, Health, Log, Owed, Snapshot, ask_at};
use crate::mark::Mark;
use crate::replay::{self, Found, Last, Records, Replay};
use crate::segment::{FRAMES, Origin, Segment, Zeros};
use crate::sync::{Commit, Durable};
use crate::{Limits, Mode};

/// An append log in a folder of its own.
///
/// May be used by many threads at once; wrap it in an `Arc` to share it.
pub struct Journal {
    shared: Arc<Shared>,
    /// Syncs for the futures. In [`Mode::Disk`] only.
    thread: Option<JoinHandle<()>>,
}

/// What [`Journal::open`] found.
pub struct Opened {
    /// The log, ready for appends unless there is damage.
    pub journal: Journal,
    /// What it remembers.
    pub records: Records,
    /// How it ended before.
    pub found: Found,
    /// Where it is not what was written; `records` are those before. Appends are refused until
    /// [`Journal::rotate`] has replaced the damaged segments, which therefore stay until the owner has decided.
    pub damage: Option<Damage>,
}

/// A record is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may ask for a rotation, and in Mode::Disk it is durable only when that was waited for"]
pub struct Appended {
    /// Its number: 1 for the first that this process appends, and one more for each that follows.
    pub sequence: u64,
    /// The owner is to call [`Journal::rotate`] soon, from where it can wait. Said once, and again after a rotation
    /// that failed and at each overflow segment.
    pub wants_snapshot: bool,
}

/// How much a journal holds at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Files that count.
    pub segments: usize,
    /// Bytes in use in the file that is written to.
    pub bytes: u64,
}

struct Shared {
    folder: Folder,
    log: Mutex<Log>,
    /// Whoever rotates; taken before `log`.
    rotation: Mutex<()>,
    /// The thread whose snapshot is being taken under `log`, or 0.
    rotating: AtomicUsize,
    /// As in `log`, for checks without its mutex.
    appended: AtomicU64,
    commit: Commit,
}

impl Journal {
    /// Opens the log in `folder`, which is made if it does not exist, and reads what it remembers.
    ///
    /// # Errors
    /// [`OpenError`]. A damaged log is none: see [`Opened::damage`].
    pub fn open(folder: &Path, mode: Mode, limits: Limits) -> Result<Opened, OpenError> {
        limits.check()?;
        let folder = Folder::open(folder)?;
        let Replay { records, found, damage, live, obsolete, snapshot, last } = replay::read(&folder)?;
        folder.remove_unborn()?;
        if damage.is_none() {
            if mode == Mode::Disk {
                firm(&folder, &live)?;
            }
            obsolete.iter().try_for_each(|&number| folder.remove(&folder.segment(number)))?;
        }
        let health = if damage.is_some() { Health::Damaged } else { Health::Good };
        let older = if damage.is_some() { [obsolete, live].concat() } else { live };
        let log = Log {
            mode,
            limits,
            health,
            older,
            current: None,
            sequence: 0,
            ask_at: 0,
            asked: false,
            snapshot,
            owed: None,
        };
        let shared = Arc::new(Shared {
            folder,
            log: Mutex::new(log),
            rotation: Mutex::default(),
            rotating: AtomicUsize::new(0),
            appended: AtomicU64::new(0),
            commit: Commit::default(),
        });
        match last {
            Some(last) => shared.resume(&last, found)?,
            None if damage.is_none() => shared.rotate(|_| Ok(())).map_err(first_segment)?,
            None => {}
        }
        let thread = (mode == Mode::Disk).then(|| serve(&shared)).transpose()?;
        Ok(Opened { journal: Self { shared, thread }, records, found, damage })
    }

    /// Appends `record`, which the death of the process does not take any more when this returns.
    ///
    /// In [`Mode::Disk`] it survives the machine too when [`durable`](Self::durable) has said so. The order of the log
    /// is that of the sequences. Waits for other appends, and for a rotation if there is one.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append(&self, record: &[u8]) -> Result<Appended, AppendError> {
        let entry = Entry::record(record).map_err(|bytes| AppendError::TooLong { bytes })?;
        let mut log = self.shared.log();
        let wants_snapshot = log.append(&self.shared.folder, &entry)?;
        self.shared.appended.store(log.sequence, Ordering::Release);
        Ok(Appended { sequence: log.sequence, wants_snapshot })
    }

    /// Waits until the records up to `sequence` are as durable as the mode promises: in [`Mode::Process`] they are
    /// already, in [`Mode::Disk`] one sync serves all who wait. May be dropped at any time; as many may wait at once as
    /// the owner polls.
    ///
    /// # Errors
    /// [`SyncError`]; the records are in the log but the machine's death may take them.
    ///
    /// # Panics
    /// If `sequence` was not appended yet.
    pub fn durable(&self, sequence: u64) -> Durable<'_> {
        self.shared.assert_appended(sequence);
        let commit = self.thread.as_ref().map(|_| &self.shared.commit);
        Durable::new(commit, sequence)
    }

    /// [`durable`](Self::durable) for threads that may wait; often the caller syncs itself, which is faster.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn wait_durable(&self, sequence: u64) -> Result<(), SyncError> {
        self.shared.assert_appended(sequence);
        match self.thread {
            Some(_) => self.shared.commit.wait(sequence, || self.shared.sync()),
            None => Ok(()),
        }
    }

    /// Replaces the whole log by what `snapshot` writes: the records from which a replay makes the owner's present
    /// state.
    ///
    /// Appends wait meanwhile, so the snapshot stands at one place of the order: it must account for every record
    /// appended before, and all later ones follow it. An owner whose state changes beside its appends therefore
    /// keeps both apart from this call, for example by the reading side of a `RwLock` around "append, then change"
    /// and the writing side around this. `snapshot` must not append and must not take a lock that anybody holds while
    /// appending.
    ///
    /// It blocks: for the copy of the snapshot, in [`Mode::Disk`] also for the disk. Killed at any moment, the folder
    /// holds the log from before or the new one. It mends a log that is damaged or whose disk failed.
    ///
    /// # Errors
    /// [`RotateError`]; the log is as it was.
    ///
    /// # Panics
    /// If `snapshot` appends.
    pub fn rotate<F>(&self, snapshot: F) -> Result<(), RotateError>
    where
        F: FnOnce(&mut Snapshot<'_, '_>) -> Result<(), RotateError>,
    {
        self.shared.rotate(snapshot)
    }

    /// Syncs of the current segment fail from here on.
    #[cfg(test)]
    pub(crate) fn lose_disk(&self) {
        let mut log = self.shared.log();
        log.current.as_mut().expect("a segment").1.lose_disk();
    }

    /// The futures that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.commit.waiting()
    }

    /// How much it holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let log = self.shared.log();
        let current = log.current.as_ref().map(|(_, segment)| segment.tail as u64);
        Usage { segments: log.older.len() + usize::from(current.is_some()), bytes: current.unwrap_or(0) }
    }

    /// Brings everything to the disk, in either mode, and says so in the log: [`Found::Closed`].
    ///
    /// A journal that is dropped instead is found [`Killed`](Found::Killed). One that is damaged stays as it is.
    ///
    /// # Errors
    /// [`AppendError`]; the log will be found as if the process had been killed now.
    pub fn close(self) -> Result<(), AppendError> {
        self.shared.close()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.commit.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the journal had panicked");
        }
    }
}

fn first_segment(error: RotateError) -> OpenError {
    match error {
        RotateError::System(refusal) => refusal.into(),
        other => unreachable!("an empty snapshot cannot fail by itself: {other}"),
    }
}

/// Brings segments and their names to the disk, whichever mode wrote them.
fn firm(folder: &Folder, segments: &[u64]) -> Result<(), Refusal> {
    for path in segments.iter().map(|&number| folder.segment(number)) {
        let file = OpenOptions::new().read(true).open(&path).map_err(Refusal::of("open", &path))?;
        rustix::fs::fdatasync(&file).map_err(Refusal::of("sync", &path))?;
    }
    folder.sync().map_err(Refusal::of("sync the folder", folder.path()))
}

fn serve(shared: &Arc<Shared>) -> Result<JoinHandle<()>, Refusal> {
    let name = "journal-sync";
    let thread = std::thread::Builder::new().name(name.into());
    let shared_too = shared.clone();
    let spawned = thread.spawn(move || shared_too.commit.serve(|| shared_too.sync()));
    spawned.map_err(Refusal::of("start the thread for", Path::new(name)))
}

/// Not 0, and no other living thread's.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.try_lock().unwrap_or_else(|| {
            let own = self.rotating.load(Ordering::Relaxed) == this_thread();
            assert!(!own, "a snapshot must not use the journal that it is for");
            self.log.lock()
        })
    }

    fn assert_appended(&self, sequence: u64) {
        assert!(sequence <= self.appended.load(Ordering::Acquire), "waiting for a record that was not appended");
    }

    /// Goes on in the last segment that was found.
    fn resume(&self, last: &Last, found: Found) -> Result<(), OpenError> {
        let mut log = self.log();
        let Last { number, header, ref torn } = *last;
        let path = self.folder.segment(number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Refusal::of("open", &path))?;
        let segment = Segment::resume(file, header.size as usize, header.salt, torn.clone(), &path)?;
        log.older.retain(|&older| older != number);
        log.ask_at = match header.origin {
            Origin::Snapshot => ask_at(header.settled as usize, header.size as usize - header.settled as usize),
            Origin::Overflow { .. } => 0,
        };
        log.current = Some((number, segment));
        let synced = log.mode == Mode::Disk || found == Found::Closed;
        log.owed = Some(if synced { Owed::Synced } else { Owed::Kept });
        match log.mark(&self.folder) {
            // Without room for it the log can still be read, and rotated.
            Err(error @ (AppendError::System(_) | AppendError::Full { .. })) => {
                tracing::warn!(folder = %self.folder.path().display(), %error, "a journal without room was opened");
            }
            Err(AppendError::Broken(error)) => return Err(Refusal::of("sync", &path)(error.0).into()),
            Err(other) => unreachable!("a short mark in a healthy log: {other}"),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Brings all that was appended to the disk and settles it.
    fn sync(&self) {
        let (number, file, tail, sequence) = {
            let log = self.log();
            let Some((number, segment)) = &log.current else { return self.commit.settle(Ok(log.sequence)) };
            (*number, segment.file().clone(), segment.tail, log.sequence)
        };
        let synced = rustix::fs::fdatasync(&file);
        let mut log = self.log();
        // The kernel tells one caller of a failure: a success is only believed when nobody else was told.
        let result = match (synced, log.health) {
            _ if !log.counts(number) => Ok(sequence), // A rotation has brought all of it to the disk meanwhile.
            (Ok(()), Health::Broken(error)) => Err(error),
            (Ok(()), _) => Ok(sequence),
            (Err(errno), _) => Err(log.break_down(errno)),
        };
        if result.is_ok()
            && let Some((current, segment)) = &mut log.current
            && *current == number
        {
            segment.kept = segment.kept.max(tail);
        }
        self.commit.settle(result);
    }

    fn rotate<F>(&self, snapshot: F) -> Result<(), RotateError>
    where
        F: FnOnce(&mut Snapshot<'_, '_>) -> Result<(), RotateError>,
    {
        let _alone = self.rotation.lock();
        let (mode, limits, last) = {
            let log = self.log();
            (log.mode, log.limits, log.snapshot)
        };
        // What takes long is done before appends have to wait.
        let size = FRAMES + 2 * last + limits.segment_bytes.max(last);
        let zeros = if mode == Mode::Disk { Zeros::Synced } else { Zeros::Written };
        let mut fresh = Fresh::create(&self.folder, Unborn::Snapshot, size, zeros)?;
        let mark = Mark::present(mode).encode();
        let mut log = self.log();
        log.asked = false;
        fresh.put(&Entry::mark(Kind::Opened, &mark))?;
        {
            let _here = Rotating::here(&self.rotating);
            let begin = fresh.bytes();
            snapshot(&mut Snapshot { fresh: &mut fresh, begin, limit: limits.snapshot_bytes })?;
        }
        let replaced = log.replace(&self.folder, fresh);
        match &replaced {
            Ok(_) => self.commit.settle(Ok(log.sequence)),
            Err(RotateError::Broken(error)) => self.commit.settle(Err(*error)),
            Err(_) => {}
        }
        drop(log);
        self.commit.tell();
        replaced?.remove(&self.folder);
        Ok(())
    }

    fn close(&self) -> Result<(), AppendError> {
        let mut log = self.log();
        if log.health == Health::Damaged {
            return Ok(());
        }
        let current = log.current.as_ref().map(|(number, _)| *number);
        let all: Vec<u64> = log.older.iter().copied().chain(current).collect();
        firm(&self.folder, &all)?;
        // A process that owes its mark has appended nothing: the log ends as it was found.
        if log.owed.is_none() { log.mark_closed(&self.folder) } else { Ok(()) }
    }
}

/// The thread that takes a snapshot, for as long as this lives.
struct Rotating<'a>(&'a AtomicUsize);

impl<'a> Rotating<'a> {
    fn here(place: &'a AtomicUsize) -> Self {
        place.store(this_thread(), Ordering::Relaxed);
        Self(place)
    }
}

impl Drop for Rotating<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
