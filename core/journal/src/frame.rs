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

/// What follows the last frame, which ends at `end`.
fn ending(bytes: &[u8], salt: u64, end: usize) -> Ending {
    let mut ending = Ending::Clean;
    for position in (end..bytes.len()).step_by(ALIGN) {
        let word = &bytes[position..bytes.len().min(position + ALIGN)];
        if word == &[0; ALIGN][..word.len()] {
            continue;
        }
        ending = Ending::Torn { to: position + word.len() };
        // After a power cut later pages may be on the disk and earlier ones not; only a frame that was written when
        // the bytes at `end` had already been kept says that they were lost since.
        let kept = |head: &Head| position - (head.unsettled as usize).min(position) > end;
        if frame(bytes, salt, position).is_some_and(|(head, _)| kept(&head)) {
            return Ending::Damaged { next: position };
        }
    }
    ending
}
