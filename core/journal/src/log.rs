//! The end of the log: the segment that is written to, and the way to the next.

use rustix::io::Errno;

use crate::error::{AppendError, Refusal, RotateError, SyncError};
use crate::folder::{Folder, Unborn};
use crate::frame::{self, Head, Kind, RECORD_MAX};
use crate::mark::Mark;
use crate::segment::{FRAMES, Header, Origin, Segment, Zeros};
use crate::{Limits, Mode};

/// A record or mark with its checksum, which is computed before the log's mutex is taken.
pub(crate) struct Entry<'a> {
    kind: Kind,
    payload: &'a [u8],
    crc: u32,
}

impl<'a> Entry<'a> {
    /// A record of the owner.
    ///
    /// # Errors
    /// Its bytes, if they are more than [`RECORD_MAX`].
    pub fn record(payload: &'a [u8]) -> Result<Self, usize> {
        if payload.len() > RECORD_MAX { Err(payload.len()) } else { Ok(Self::mark(Kind::Record, payload)) }
    }

    pub fn mark(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, payload, crc: crc32fast::hash(payload) }
    }

    fn put(&self, segment: &mut Segment, unsettled: usize) {
        let unsettled = unsettled.try_into().unwrap_or(u32::MAX);
        let head = Head { kind: self.kind, length: self.payload.len(), crc: self.crc, unsettled };
        segment.put(head, self.payload);
    }
}

/// What stands between the owner and appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    /// Found so at the open.
    Damaged,
    /// A sync failed.
    Broken(SyncError),
}

/// The end of the log. Callers hold its mutex.
pub(crate) struct Log {
    pub mode: Mode,
    pub limits: Limits,
    pub health: Health,
    /// Numbers of the segments that count before the current one, ascending.
    pub older: Vec<u64>,
    /// What is written to, and its number. None: damaged.
    pub current: Option<(u64, Segment)>,
    /// The latest record's. The first of this process is 1.
    pub sequence: u64,
    /// Where the owner is asked for a snapshot, in the current segment.
    pub ask_at: usize,
    /// The owner was asked and has not rotated since.
    pub asked: bool,
    /// Bytes of the last snapshot.
    pub snapshot: usize,
    /// The mark of this process is not in the log yet; no record comes before it.
    pub owed: Option<Owed>,
}

/// A mark that this process has still to put into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// In the pages.
    Kept,
    /// On the disk: what the disk has now says that the log was closed, or the mode asks for it.
    Synced,
}

impl Log {
    /// Appends a record and says whether the owner is to rotate.
    pub fn append(&mut self, folder: &Folder, entry: &Entry<'_>) -> Result<bool, AppendError> {
        match self.health {
            Health::Good => {}
            Health::Damaged => return Err(AppendError::Damaged),
            Health::Broken(error) => return Err(AppendError::Broken(error)),
        }
        if self.owed.is_some() {
            self.mark(folder)?;
        }
        self.put(folder, entry)?;
        self.sequence += 1;
        let tail = self.current.as_ref().map_or(0, |(_, segment)| segment.tail);
        let wants = tail >= self.ask_at && !self.asked;
        self.asked |= wants;
        Ok(wants)
    }

    /// Puts the mark of this process into the log, if it owes one.
    ///
    /// # Errors
    /// [`AppendError`]; it is owed on.
    pub fn mark(&mut self, folder: &Folder) -> Result<(), AppendError> {
        let Some(owed) = self.owed else { return Ok(()) };
        self.put(folder, &Entry::mark(Kind::Opened, &Mark::present(self.mode).encode()))?;
        if owed == Owed::Synced {
            self.sync(folder)?;
        }
        self.owed = None;
        Ok(())
    }

    /// Marks the log as closed. Everything in it is on the disk.
    pub fn mark_closed(&mut self, folder: &Folder) -> Result<(), AppendError> {
        self.put(folder, &Entry::mark(Kind::Closed, &[]))?;
        Ok(self.sync(folder)?)
    }

    /// Brings the current segment and the names to the disk.
    fn sync(&mut self, folder: &Folder) -> Result<(), SyncError> {
        let Some((_, segment)) = &mut self.current else { return Ok(()) };
        let synced = rustix::fs::fdatasync(segment.file()).and_then(|()| folder.sync());
        segment.kept = segment.tail;
        synced.map_err(|errno| self.break_down(errno))
    }

    fn put(&mut self, folder: &Folder, entry: &Entry<'_>) -> Result<(), AppendError> {
        let full = self.current.as_ref().is_none_or(|(_, segment)| !segment.fits(entry.payload.len()));
        if full {
            self.overflow(folder, entry.payload.len())?;
        }
        let (_, segment) = self.current.as_mut().expect("a healthy log has one, and so does one that overflowed");
        let unsettled = match self.mode {
            // What the pages have, the death of the process does not take.
            Mode::Process => 0,
            Mode::Disk => segment.tail - segment.kept,
        };
        entry.put(segment, unsettled);
        Ok(())
    }

    /// Goes on in a further segment, of a size for `length` bytes at least.
    fn overflow(&mut self, folder: &Folder, length: usize) -> Result<(), AppendError> {
        if self.older.len() >= self.limits.overflow_segments {
            return Err(AppendError::Full { overflow_segments: self.limits.overflow_segments });
        }
        let (previous, full) = self.current.as_mut().expect("only a damaged log has none, and it takes no appends");
        let (previous, previous_end) = (*previous, full.tail as u64);
        if self.mode == Mode::Disk {
            // Only the last segment may lack anything after a power cut.
            let synced = rustix::fs::fdatasync(full.file());
            synced.map_err(|errno| self.break_down(errno))?;
        }
        let size = self.limits.segment_bytes.max(frame::next(FRAMES, length));
        // No zeros: other appends wait for this one.
        let mut fresh = Fresh::create(folder, Unborn::Overflow, size, Zeros::None)?;
        fresh.publish(self.mode == Mode::Disk, previous + 1, Origin::Overflow { previous_end })?;
        self.current = Some((previous + 1, fresh.into_segment()));
        self.older.push(previous);
        (self.ask_at, self.asked) = (0, false);
        if self.mode == Mode::Disk {
            folder.sync().map_err(|errno| self.break_down(errno))?;
        }
        Ok(())
    }

    /// Takes no appends until a rotation has mended it.
    pub fn break_down(&mut self, errno: Errno) -> SyncError {
        self.health = Health::Broken(SyncError(errno));
        SyncError(errno)
    }

    /// Whether segment `number` is one of those that count.
    pub fn counts(&self, number: u64) -> bool {
        self.older.contains(&number) || self.current.as_ref().is_some_and(|(current, _)| *current == number)
    }

    /// Puts `fresh`, which begins with a snapshot, in the place of all segments.
    ///
    /// # Errors
    /// [`RotateError`]. With [`RotateError::Broken`] it is in their place, but they count on; all else changes nothing.
    pub fn replace(&mut self, folder: &Folder, mut fresh: Fresh<'_>) -> Result<Replaced, RotateError> {
        let snapshot = fresh.bytes();
        let room = self.limits.segment_bytes.max(snapshot);
        fresh.make_room(room)?;
        // The first segment, and one that replaces a damaged log, is to be found also after a power cut.
        let firm = self.mode == Mode::Disk || self.current.is_none();
        let number = self.next_number();
        fresh.publish(firm, number, Origin::Snapshot)?;
        let segment = fresh.into_segment();
        (self.snapshot, self.ask_at) = (snapshot, ask_at(segment.tail, room));
        let mut numbers = std::mem::take(&mut self.older);
        let current = self.current.replace((number, segment));
        numbers.extend(current.as_ref().map(|(number, _)| *number));
        if firm && let Err(errno) = folder.sync() {
            self.older = numbers;
            return Err(RotateError::Broken(self.break_down(errno)));
        }
        (self.health, self.owed) = (Health::Good, None);
        Ok(Replaced { numbers, _segment: current.map(|(_, segment)| segment) })
    }

    /// The number of the next segment.
    pub fn next_number(&self) -> u64 {
        let current = self.current.as_ref().map(|(number, _)| *number);
        current.or(self.older.last().copied()).map_or(1, |number| number + 1)
    }
}

/// Where a segment with `room` behind `start` asks for a snapshot: the owner has a quarter of it to react.
pub(crate) fn ask_at(start: usize, room: usize) -> usize {
    start + room / 4 * 3
}

/// Segments that do not count any more.
pub(crate) struct Replaced {
    numbers: Vec<u64>,
    /// Unmapped with this, which takes a while.
    _segment: Option<Segment>,
}

impl Replaced {
    /// Removes their files. One that cannot be removed is in nobody's way; the next open tries again.
    pub fn remove(self, folder: &Folder) {
        for number in self.numbers {
            if let Err(refusal) = folder.remove(&folder.segment(number)) {
                tracing::warn!(%refusal, "an obsolete segment stays until the journal is opened again");
            }
        }
    }
}

/// A segment that is not valid yet. Dropped before it is published, it leaves no trace.
pub(crate) struct Fresh<'a> {
    folder: &'a Folder,
    name: Unborn,
    published: bool,
    segment: Option<Segment>,
}

impl<'a> Fresh<'a> {
    pub fn create(folder: &'a Folder, name: Unborn, bytes: usize, zeros: Zeros) -> Result<Self, Refusal> {
        // One may be left of an attempt whose removal was refused.
        folder.remove(&folder.unborn(name))?;
        let mut fresh = Self { folder, name, published: false, segment: None };
        // A file that was made and found no space goes with `fresh`.
        fresh.segment = Some(Segment::create(&folder.unborn(name), bytes, zeros)?);
        Ok(fresh)
    }

    fn segment(&mut self) -> &mut Segment {
        self.segment.as_mut().expect("present until published")
    }

    /// Appends to what is not valid yet, which grows as needed.
    pub fn put(&mut self, entry: &Entry<'_>) -> Result<(), Refusal> {
        let path = self.folder.unborn(self.name);
        let segment = self.segment();
        if !segment.fits(entry.payload.len()) {
            let least = frame::next(segment.tail, entry.payload.len());
            segment.grow(least.max(2 * segment.size()), &path)?;
        }
        entry.put(segment, 0);
        Ok(())
    }

    /// Bytes that were put.
    pub fn bytes(&self) -> usize {
        self.segment.as_ref().map_or(0, |segment| segment.tail - FRAMES)
    }

    /// Makes sure that `room` bytes follow what was put.
    pub fn make_room(&mut self, room: usize) -> Result<(), Refusal> {
        let path = self.folder.unborn(self.name);
        let segment = self.segment();
        let wanted = segment.tail + room;
        if wanted > segment.size() { segment.grow(wanted, &path) } else { Ok(()) }
    }

    /// Makes it valid as segment `number`, in one step; what was put is settled.
    ///
    /// `firm`: its content is on the disk before. The name is the caller's part: [`Folder::sync`].
    pub fn publish(&mut self, firm: bool, number: u64, origin: Origin) -> Result<(), Refusal> {
        let (folder, path) = (self.folder, self.folder.unborn(self.name));
        let segment = self.segment();
        let (settled, size) = (segment.tail as u64, segment.size() as u64);
        segment.put_header(&Header { origin, number, salt: segment.salt, settled, size });
        segment.kept = segment.tail;
        if firm {
            rustix::fs::fsync(segment.file()).map_err(Refusal::of("sync", &path))?;
        }
        folder.publish(self.name, number)?;
        self.published = true;
        Ok(())
    }

    /// The segment of a published one.
    pub fn into_segment(mut self) -> Segment {
        self.segment.take().expect("present until here")
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(refusal) = self.folder.remove(&self.folder.unborn(self.name))
        {
            tracing::warn!(%refusal, "a segment that was given up stays until the next rotation");
        }
    }
}

/// Takes the records of a snapshot.
pub struct Snapshot<'a, 'b> {
    pub(crate) fresh: &'a mut Fresh<'b>,
    /// Bytes of the segment before it.
    pub(crate) begin: usize,
    pub(crate) limit: usize,
}

impl Snapshot<'_, '_> {
    /// Writes one record.
    ///
    /// # Errors
    /// [`RotateError`]; pass it on.
    pub fn write(&mut self, record: &[u8]) -> Result<(), RotateError> {
        let entry = Entry::record(record).map_err(|bytes| RotateError::TooLong { bytes })?;
        if frame::next(self.fresh.bytes(), record.len()) > self.begin + self.limit {
            return Err(RotateError::TooLarge { snapshot_bytes: self.limit });
        }
        Ok(self.fresh.put(&entry)?)
    }
}
