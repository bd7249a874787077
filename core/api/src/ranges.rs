//! Ranges of bytes, and the locks that one owner holds on one object.

use serde::{Deserialize, Serialize};

/// Bytes from `start` to before `end`; `end == u64::MAX` reaches past any growth. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Every byte.
    pub const ALL: ByteRange = ByteRange { start: 0, end: u64::MAX };

    /// `[start, end)`; `None` when it is empty.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<ByteRange> {
        if start < end { Some(ByteRange { start, end }) } else { None }
    }

    /// Its first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The byte after its last.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Whether both have a byte in common.
    #[must_use]
    pub const fn overlaps(self, other: ByteRange) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether one begins where the other ends.
    #[must_use]
    pub const fn touches(self, other: ByteRange) -> bool {
        self.start == other.end || other.start == self.end
    }

    /// The smallest range that has every byte of both.
    #[must_use]
    pub fn hull(self, other: ByteRange) -> ByteRange {
        ByteRange { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}
