//! How large a journal may grow.

use crate::error::OpenError;

/// How large a journal may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Room for appends in a segment, set aside on the disk when it is made. 4 KiB to 1 GiB, default 16 MiB.
    ///
    /// A segment that begins with a larger snapshot has as much room as the snapshot, so that rotations cost a
    /// constant share of the appends. One for a record that is larger has room for that.
    pub segment_bytes: usize,
    /// Segments beside the first that are filled while the owner does not rotate. Default 7.
    pub overflow_segments: usize,
    /// Bytes of a snapshot: its records and 16 to 23 bytes for each. At most 16 GiB, default 1 GiB.
    pub snapshot_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, overflow_segments: 7, snapshot_bytes: 1 << 30 }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if !(4 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(OpenError::Limit { what: "`segment_bytes` may be 4 KiB to 1 GiB" });
        }
        if self.snapshot_bytes > 16 << 30 {
            return Err(OpenError::Limit { what: "`snapshot_bytes` may be at most 16 GiB" });
        }
        Ok(())
    }
}
