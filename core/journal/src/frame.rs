//! The frames of a segment: how a record stands in a file, and what a file's bytes say.
//!
//! Pure: bytes in, bytes out.
//!
//! A frame begins at a multiple of [`ALIGN`] bytes; the bytes between its end and the next multiple are zero.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 3 | length of the payload, little endian as everything here |
//! | 3 | 1 | kind: 1 record, 2 the log was opened, 3 it was closed |
//! | 4 | 4 | check: CRC-32 of (salt of the segment, position of the frame, bytes 0 to 4 and 8 to 16 of the frame) |
//! | 8 | 4 | CRC-32 of the payload |
//! | 12 | 4 | unsettled: how many bytes before this frame were not yet known to be kept when it was written |
//! | 16 | length | payload |
//!
//! The first eight bytes are never all zero and are written last, in one store: a frame is there whole or not at all
//! for whoever looks at the pages after the process died. Salt and position are in the check so that bytes of a payload
//! never pass for a frame, whoever chose them.

use std::ops::Range;

/// The most bytes of one record.
pub const RECORD_MAX: usize = 1 << 20;

/// Bytes of a frame before its payload.
pub(crate) const HEADER: usize = 16;

/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A record of the owner.
    Record,
    /// A process opened the log: what follows is its work.
    Opened,
    /// It closed the log; everything before is on the disk.
    Closed,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Opened => 2,
            Self::Closed => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Record, Self::Opened, Self::Closed].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What a frame says about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub kind: Kind,
    /// Bytes of the payload, at most [`RECORD_MAX`].
    pub length: usize,
    /// CRC-32 of the payload.
    pub crc: u32,
    /// Bytes directly before the frame that were not known to be kept when it was written.
    pub unsettled: u32,
}

impl Head {
    /// The two halves of the header of a frame at `position`: the first is written last.
    pub fn encode(self, salt: u64, position: usize) -> [u64; 2] {
        let first = (self.length as u32) | u32::from(self.kind.byte()) << 24;
        let check = check(salt, position, first, self.crc, self.unsettled);
        [u64::from(first) | u64::from(check) << 32, u64::from(self.crc) | u64::from(self.unsettled) << 32]
    }

    /// The header at `position` of a segment, if it is one that was written there.
    pub fn decode(bytes: &[u8], salt: u64, position: usize) -> Option<Self> {
        let [first, stored, crc, unsettled] = words(bytes.get(position..position + HEADER)?);
        let (kind, length) = (Kind::of((first >> 24) as u8)?, (first & 0xff_ffff) as usize);
        let plausible = length <= RECORD_MAX && check(salt, position, first, crc, unsettled) == stored;
        plausible.then_some(Self { kind, length, crc, unsettled })
    }
}

fn words(header: &[u8]) -> [u32; 4] {
    std::array::from_fn(|index| u32::from_le_bytes(std::array::from_fn(|byte| header[4 * index + byte])))
}

fn check(salt: u64, position: usize, first: u32, crc: u32, unsettled: u32) -> u32 {
    let mut bytes = [0; 28];
    bytes[..8].copy_from_slice(&salt.to_le_bytes());
    bytes[8..16].copy_from_slice(&(position as u64).to_le_bytes());
    bytes[16..20].copy_from_slice(&first.to_le_bytes());
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    bytes[24..].copy_from_slice(&unsettled.to_le_bytes());
    crc32fast::hash(&bytes)
}

/// Where the frame after one at `position` with `length` bytes of payload begins.
pub(crate) fn next(position: usize, length: usize) -> usize {
    (position + HEADER + length).next_multiple_of(ALIGN)
}

/// A frame that is there whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: Kind,
    /// Where its payload stands.
    pub payload: Range<usize>,
}

/// How the frames of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Only zeros follow.
    Clean,
    /// Bytes follow, the last of them before `to`, that are no frame: whoever wrote there died before it was kept.
    Torn { to: usize },
    /// A frame follows, at `next`, that was written when the bytes at the end were already kept.
    Damaged { next: usize },
}

/// What the bytes of a segment say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The frames from the start on, in order, all whole.
    pub frames: Vec<Frame>,
    /// Where the last of them ends and the next would begin.
    pub end: usize,
    pub ending: Ending,
}

/// Reads the frames of a segment from `start` on.
///
/// A frame that was not written at its place by [`Head::encode`] with this `salt` ends the log; nothing after it is
/// taken for a record, but it is looked at to tell a torn end from damage.
pub(crate) fn scan(bytes: &[u8], salt: u64, start: usize) -> Scan {
    let mut frames = Vec::new();
    let mut end = start;
    while let Some((head, frame)) = frame(bytes, salt, end) {
        end = next(end, head.length).min(bytes.len());
        frames.push(frame);
    }
    Scan { frames, end, ending: ending(bytes, salt, end) }
}

fn frame(bytes: &[u8], salt: u64, position: usize) -> Option<(Head, Frame)> {
    let head = Head::decode(bytes, salt, position)?;
    let payload = position + HEADER..position + HEADER + head.length;
    let whole = crc32fast::hash(bytes.get(payload.clone())?) == head.crc;
    whole.then_some((head, Frame { kind: head.kind, payload }))
}

/// Whether all of `bytes` are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|part| part == &ZEROS[..part.len()])
}

/// What follows the last frame, which ends at `end`.
fn ending(bytes: &[u8], salt: u64, end: usize) -> Ending {
    let mut ending = Ending::Clean;
    // Frames begin at words; whole pages of zeros are passed over at once.
    for page in (end..bytes.len()).step_by(PAGE) {
        let whole = &bytes[page..bytes.len().min(page + PAGE)];
        if is_zero(whole) {
            continue;
        }
        for position in (page..page + whole.len()).step_by(ALIGN) {
            let word = &bytes[position..bytes.len().min(position + ALIGN)];
            if is_zero(word) {
                continue;
            }
            ending = Ending::Torn { to: position + word.len() };
            // After a power cut later pages may be on the disk and earlier ones not; only a frame that was written
            // when the bytes at `end` had already been kept says that they were lost since.
            let kept = |head: &Head| position - (head.unsettled as usize).min(position) > end;
            if frame(bytes, salt, position).is_some_and(|(head, _)| kept(&head)) {
                return Ending::Damaged { next: position };
            }
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;
    const START: usize = 64;

    /// A segment as appends make it, with where each frame begins, and where the last ends.
    struct Written {
        bytes: Vec<u8>,
        starts: Vec<usize>,
        end: usize,
    }

    /// `kept`: everything before a frame was kept when it was written; else nothing was.
    fn write(records: &[Vec<u8>], kept: bool, spare: usize) -> Written {
        let (mut bytes, mut starts) = (vec![0; START], Vec::new());
        for record in records {
            let position = bytes.len();
            let unsettled = if kept { 0 } else { (position - START) as u32 };
            let head = Head { kind: Kind::Record, length: record.len(), crc: crc32fast::hash(record), unsettled };
            bytes.extend(head.encode(SALT, position).into_iter().flat_map(u64::to_le_bytes));
            bytes.extend(record);
            bytes.resize(next(position, record.len()), 0);
            starts.push(position);
        }
        let end = bytes.len();
        bytes.resize(end + spare, 0);
        Written { bytes, starts, end }
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Scan) {
        let scan = scan(bytes, SALT, START);
        (scan.frames.iter().map(|frame| bytes[frame.payload.clone()].to_vec()).collect(), scan)
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..80), 0..12)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in records(), kept in any::<bool>(), spare in 0_usize..10_000) {
            let Written { bytes, end, .. } = write(&records, kept, spare);
            let (found, scan) = read(&bytes);
            prop_assert_eq!((found, scan.end, scan.ending), (records, end, Ending::Clean));
        }

        #[test]
        fn a_file_cut_anywhere_gives_the_records_before_the_cut(records in records()) {
            let Written { bytes, starts, .. } = write(&records, true, 0);
            for cut in START..=bytes.len() {
                let (found, scan) = read(&bytes[..cut]);
                let whole = |index: usize| starts[index] + HEADER + records[index].len() <= cut;
                let before = (0..records.len()).take_while(|&index| whole(index)).count();
                prop_assert_eq!(&found, &records[..before], "cut at {}", cut);
                let damaged = matches!(scan.ending, Ending::Damaged { .. });
                prop_assert!(!damaged, "a cut is not damage");
            }
        }

        #[test]
        fn a_tail_that_was_zeroed_anywhere_gives_the_records_before_it(records in records()) {
            let Written { bytes, starts, .. } = write(&records, true, 64);
            for from in START..bytes.len() {
                let mut bytes = bytes.clone();
                let lost = bytes[from..].iter().any(|&byte| byte != 0);
                bytes[from..].fill(0);
                let (found, _) = read(&bytes);
                prop_assert!(records.starts_with(&found));
                let untouched = starts.iter().zip(&records).filter(|(start, record)| *start + HEADER + record.len() <= from);
                prop_assert!(found.len() >= untouched.count());
                prop_assert!(lost || found.len() == records.len());
            }
        }

        #[test]
        fn a_flipped_bit_loses_no_record_before_it_and_makes_none(
            records in records(), kept in any::<bool>(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let Written { mut bytes, starts, end } = write(&records, kept, 64);
            let at = START + at.index(bytes.len() - START);
            bytes[at] ^= 1 << bit;
            let (found, scan) = read(&bytes);
            // Where the flip is: in a frame, in the zeros that fill one up to a word, or behind the last.
            let hit = starts.iter().zip(&records).position(|(start, record)| {
                (*start..*start + HEADER + record.len()).contains(&at)
            });
            let before = hit.unwrap_or(records.len());
            prop_assert_eq!(&found, &records[..before]);
            let expected = match hit {
                None if at < end => Ending::Clean,
                None => Ending::Torn { to: (at / ALIGN + 1) * ALIGN },
                Some(hit) if kept && hit + 1 < records.len() => Ending::Damaged { next: starts[hit + 1] },
                Some(_) => scan.ending,
            };
            prop_assert_eq!(scan.ending, expected);
            prop_assert!(kept || !matches!(scan.ending, Ending::Damaged { .. }), "nothing was kept, so nothing was lost");
        }

        #[test]
        fn bytes_of_a_payload_never_pass_for_a_frame(inner in records(), outer in any::<u64>()) {
            // The payload is a whole segment, of the same salt even, but its frames stand elsewhere now.
            let inner = write(&inner, true, 0).bytes;
            let mut torn = write(&[inner, vec![]], true, 64);
            torn.bytes[START..START + 8].copy_from_slice(&outer.to_le_bytes());
            torn.bytes.truncate(torn.starts[1]);
            let (found, scan) = read(&torn.bytes);
            let damaged = matches!(scan.ending, Ending::Damaged { .. });
            prop_assert!(found.is_empty() && !damaged);
        }

        #[test]
        fn garbage_has_no_records(bytes in prop::collection::vec(any::<u8>(), 64..4096)) {
            prop_assert!(read(&bytes).0.is_empty());
        }
    }

    #[test]
    fn a_header_at_the_limits_is_read_and_one_beyond_is_not() {
        for (length, unsettled) in [(0, 0), (RECORD_MAX, u32::MAX), (RECORD_MAX + 1, 0)] {
            let head = Head { kind: Kind::Closed, length, crc: 7, unsettled };
            let bytes: Vec<u8> = head.encode(SALT, 0).into_iter().flat_map(u64::to_le_bytes).collect();
            assert_eq!(Head::decode(&bytes, SALT, 0), (length <= RECORD_MAX).then_some(head));
            assert_eq!(Head::decode(&bytes, SALT + 1, 0), None);
        }
    }
}
