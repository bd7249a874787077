//! What a folder remembers: its segments in order, the records in them, and whether all of it is there.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Mode;
use crate::error::{Damage, DamageKind, OpenError, Refusal};
use crate::folder::Folder;
use crate::frame::{self, Ending, Kind, RECORD_MAX, Scan};
use crate::mark::{Boot, Mark};
use crate::segment::{FRAMES, Header, NoHeader, Origin};

/// No segment is ever larger; a header that says so is no header.
pub(crate) const FILE_MAX: u64 = 1 << 36;

/// The records that a log remembers, oldest first: those of the last snapshot, then those appended since.
#[derive(Debug, Default)]
pub struct Records {
    segments: Vec<Vec<u8>>,
    places: Vec<(usize, Range<usize>)>,
}

impl Records {
    /// The records in the order of their appends.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.places.iter().map(|(segment, place)| &self.segments[*segment][place.clone()])
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// How the log ended before it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There was none in the folder.
    New,
    /// It was closed.
    Closed,
    /// The process that had it open ended without closing it. Whatever its mode promised is there.
    Killed,
    /// The machine stopped under a log in [`Mode::Process`]: the latest records may be missing without a trace.
    Doubtful,
}

/// What a folder remembers.
pub(crate) struct Replay {
    pub records: Records,
    pub found: Found,
    pub damage: Option<Damage>,
    /// Segments that count, ascending.
    pub live: Vec<u64>,
    /// Segments before the last snapshot: a killed process had no time to remove them.
    pub obsolete: Vec<u64>,
    /// Bytes of the last snapshot.
    pub snapshot: usize,
    /// Where to go on, unless there is damage or nothing.
    pub last: Option<Last>,
}

/// The segment to go on with.
pub(crate) struct Last {
    pub number: u64,
    pub header: Header,
    /// From the last frame's end to the end of what a dying process left behind it.
    pub torn: Range<usize>,
}

/// Reads all that `folder` remembers. Changes nothing.
///
/// # Errors
/// [`OpenError::Version`], [`OpenError::System`]. Damage is no error: it is told beside the records before it.
pub(crate) fn read(folder: &Folder) -> Result<Replay, OpenError> {
    let numbers = folder.numbers()?;
    let mut headers = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        headers.push(header(&folder.segment(number), number)?);
    }
    let snapshot = headers.iter().rposition(|header| header.is_some_and(|header| header.origin == Origin::Snapshot));
    let mut reader = Reader { folder, records: Records::default(), mark: None, closed: false, end: 0, last: None };
    let first = snapshot.unwrap_or(0);
    let damage = match (snapshot, numbers.first()) {
        (None, None) => None,
        (None, Some(&number)) => Some(reader.without_snapshot(number, headers[0])),
        (Some(_), _) => reader.segments(&numbers[first..], &headers[first..])?,
    };
    let found = if numbers.is_empty() { Found::New } else { reader.found() };
    let (obsolete, live) = numbers.split_at(first);
    Ok(Replay {
        records: reader.records,
        found,
        last: reader.last.filter(|_| damage.is_none()),
        damage,
        snapshot: snapshot.and_then(|index| headers[index]).map_or(0, |header| header.settled as usize - FRAMES),
        live: live.into(),
        obsolete: obsolete.into(),
    })
}

fn header(path: &Path, number: u64) -> Result<Option<Header>, OpenError> {
    let (bytes, _) = bytes(path, FRAMES as u64)?;
    match Header::decode(&bytes) {
        Ok(header) => Ok(Some(header)
            .filter(|header| header.number == number && header.size <= FILE_MAX && header.settled >= FRAMES as u64)),
        Err(NoHeader::Garbage) => Ok(None),
        Err(NoHeader::Version(found)) => Err(OpenError::Version { file: path.into(), found }),
    }
}

/// The first bytes of a file, at most `most`, and how many it has of those.
fn bytes(path: &Path, most: u64) -> Result<(Vec<u8>, u64), Refusal> {
    let refused = |doing| Refusal::of(doing, path);
    let file = File::open(path).map_err(refused("open"))?;
    let length = file.metadata().map_err(refused("look at"))?.len().min(most);
    Ok((read_densely(&file, length as usize).map_err(refused("read"))?, length))
}

/// The first `length` bytes of `file`. Zeros at the end that the file has and a frame cannot need may be left away.
fn read_densely(file: &File, length: usize) -> std::io::Result<Vec<u8>> {
    const PART: usize = 1 << 20;
    let (mut part, mut bytes) = (vec![0; PART.min(length)], Vec::new());
    for from in (0..length).step_by(PART) {
        let part = &mut part[..PART.min(length - from)];
        file.read_exact_at(part, from as u64)?;
        if !frame::is_zero(part) {
            bytes.resize(from, 0);
            bytes.extend_from_slice(part);
        }
    }
    // The last frame may itself end in zeros.
    bytes.resize(frame::next(bytes.len(), RECORD_MAX).min(length), 0);
    Ok(bytes)
}

struct Reader<'a> {
    folder: &'a Folder,
    records: Records,
    /// The latest one.
    mark: Option<Mark>,
    /// Whether the latest frame says that the log was closed.
    closed: bool,
    /// Where the latest segment ended.
    end: usize,
    last: Option<Last>,
}

impl Reader<'_> {
    fn damage(&self, number: u64, offset: usize, kind: DamageKind) -> Damage {
        Damage { file: self.folder.segment(number), offset: offset as u64, kind }
    }

    fn without_snapshot(&self, first: u64, header: Option<Header>) -> Damage {
        match header {
            None => self.damage(first, 0, DamageKind::Header),
            Some(_) => self.damage(first.saturating_sub(1), 0, DamageKind::Missing),
        }
    }

    /// Takes in segments from a snapshot on, up to the first damage.
    fn segments(&mut self, numbers: &[u64], headers: &[Option<Header>]) -> Result<Option<Damage>, Refusal> {
        for (expected, (&number, header)) in (numbers[0]..).zip(numbers.iter().zip(headers)) {
            if number != expected {
                return Ok(Some(self.damage(expected, 0, DamageKind::Missing)));
            }
            let Some(header) = header else { return Ok(Some(self.damage(number, 0, DamageKind::Header))) };
            if let Origin::Overflow { previous_end } = header.origin
                && previous_end != self.end as u64
            {
                return Ok(Some(self.damage(number - 1, self.end, DamageKind::Short)));
            }
            if let Some(damage) = self.segment(header)? {
                return Ok(Some(damage));
            }
        }
        Ok(None)
    }

    fn segment(&mut self, header: &Header) -> Result<Option<Damage>, Refusal> {
        let (bytes, length) = bytes(&self.folder.segment(header.number), header.size)?;
        let Scan { frames, end, ending } = frame::scan(&bytes, header.salt, FRAMES);
        for frame in frames {
            self.closed = frame.kind == Kind::Closed;
            match frame.kind {
                Kind::Record => self.records.places.push((self.records.segments.len(), frame.payload)),
                Kind::Opened => self.mark = Mark::decode(&bytes[frame.payload]),
                Kind::Closed => {}
            }
        }
        let torn = match ending {
            Ending::Torn { to } => end..to,
            Ending::Clean | Ending::Damaged { .. } => end..end,
        };
        if !torn.is_empty() {
            tracing::debug!(
                segment = header.number,
                at = torn.start,
                bytes = torn.len(),
                "the log ends in a torn record"
            );
        }
        let complete = length == header.size;
        self.end = end;
        self.last = Some(Last { number: header.number, header: *header, torn });
        self.records.segments.push(bytes);
        Ok(if matches!(ending, Ending::Damaged { .. }) {
            Some(self.damage(header.number, end, DamageKind::Record))
        } else if (end as u64) < header.settled || !complete {
            Some(self.damage(header.number, end, DamageKind::Short))
        } else {
            None
        })
    }

    fn found(&self) -> Found {
        match self.mark {
            _ if self.closed => Found::Closed,
            Some(Mark { mode: Mode::Disk, .. }) => Found::Killed,
            Some(Mark { boot, .. }) if boot.is_known() && boot == Boot::present() => Found::Killed,
            _ => Found::Doubtful,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::frame::Head;
    use crate::{Journal, Limits};

    /// Rewrites the mark of the first segment as another run of the machine would have left it.
    fn reboot(folder: &Path) {
        let path = folder.join(format!("segment-{:016x}", 1));
        let mut bytes = fs::read(&path).unwrap();
        let salt = Header::decode(&bytes).unwrap().salt;
        let head = Head::decode(&bytes, salt, FRAMES).unwrap();
        let payload = FRAMES + frame::HEADER..FRAMES + frame::HEADER + head.length;
        let mark = Mark::decode(&bytes[payload.clone()]).unwrap();
        let mark = Mark { boot: Boot(mark.boot.0 ^ 1), ..mark }.encode();
        let head = Head { crc: crc32fast::hash(&mark), ..head };
        let encoded = head.encode(salt, FRAMES).map(u64::to_le_bytes).concat();
        bytes[FRAMES..payload.start].copy_from_slice(&encoded);
        bytes[payload].copy_from_slice(&mark);
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn only_a_log_in_pages_that_lost_its_machine_is_doubtful() {
        let cases = [
            (Mode::Process, false, Found::Doubtful),
            (Mode::Process, true, Found::Closed),
            (Mode::Disk, false, Found::Killed),
        ];
        for (mode, close, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let open = || Journal::open(folder.path(), mode, Limits::default()).unwrap();
            let journal = open().journal;
            let _ = journal.append(b"record").unwrap();
            if close {
                journal.close().unwrap();
            } else {
                drop(journal);
            }
            reboot(folder.path());
            let opened = open();
            assert_eq!((opened.found, opened.records.len(), opened.damage), (expected, 1, None), "{mode:?} {close}");
            drop(opened.journal);
            assert_eq!(open().found, Found::Killed, "the open itself is in the log");
        }
    }

    #[test]
    fn zeros_at_the_end_of_the_last_record_are_read_though_the_file_goes_on_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), Mode::Process, Limits::default()).unwrap();
        let record = [vec![1], vec![0; RECORD_MAX - 1]].concat();
        let _ = open().journal.append(&record).unwrap();
        assert_eq!(open().records.iter().collect::<Vec<_>>(), [&record[..]]);
    }
}
