//! Ranges of bytes, and the locks that one owner holds on one object.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::fops::LkType;

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

    /// Whether every byte of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: ByteRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The smallest range that has every byte of both.
    #[must_use]
    pub fn hull(self, other: ByteRange) -> ByteRange {
        ByteRange { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The locks that one owner holds on one object, as POSIX has them.
///
/// Always true: the ranges are disjoint, and two of one type do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// By start: where it ends, and its type, which is never `Unlock`.
    held: BTreeMap<u64, (u64, LkType)>,
}

impl Ranges {
    /// Takes `range`, or leaves it with [`LkType::Unlock`].
    ///
    /// What is held of it so far is cut away; what is held of that type beside it joins.
    pub fn set(&mut self, range: ByteRange, kind: LkType) {
        self.cut(range);
        if kind == LkType::Unlock {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, (until, other))) = self.last_before(range.start)
            && (until, other) == (range.start, kind)
        {
            start = before;
        }
        if let Some(&(until, other)) = self.held.get(&range.end)
            && other == kind
        {
            self.held.remove(&range.end);
            end = until;
        }
        self.held.insert(start, (end, kind));
    }

    /// What is held, by start.
    pub fn iter(&self) -> impl Iterator<Item = (ByteRange, LkType)> {
        self.held.iter().map(|(&start, &(end, kind))| (ByteRange { start, end }, kind))
    }

    /// What is held of `range`, by start: whole ranges, also where they stick out.
    pub fn overlapping(&self, range: ByteRange) -> impl Iterator<Item = (ByteRange, LkType)> {
        let first = self.last_before(range.start).filter(|(_, (end, _))| *end > range.start);
        let rest = self.held.range(range.start..range.end).map(|(&start, &held)| (start, held));
        first.into_iter().chain(rest).map(|(start, (end, kind))| (ByteRange { start, end }, kind))
    }

    /// Whether there is a lock with exactly this range and type.
    #[must_use]
    pub fn contains_exactly(&self, range: ByteRange, kind: LkType) -> bool {
        self.held.get(&range.start) == Some(&(range.end, kind))
    }

    /// How many locks that is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn last_before(&self, start: u64) -> Option<(u64, (u64, LkType))> {
        self.held.range((Bound::Unbounded, Bound::Excluded(start))).next_back().map(|(&start, &held)| (start, held))
    }

    /// Leaves `range`.
    fn cut(&mut self, range: ByteRange) {
        if let Some((start, (end, kind))) = self.last_before(range.start)
            && end > range.start
        {
            self.held.insert(start, (range.start, kind));
            // Where it ends may be past the range, which it then holds on both sides.
            if end > range.end {
                self.held.insert(range.end, (end, kind));
            }
        }
        while let Some((&start, &(end, kind))) = self.held.range(range.start..range.end).next() {
            self.held.remove(&start);
            if end > range.end {
                self.held.insert(range.end, (end, kind));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LkType::{Read, Unlock, Write};

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).expect("not empty")
    }

    fn held(changes: &[(u64, u64, LkType)]) -> Vec<(u64, u64, LkType)> {
        let mut ranges = Ranges::default();
        changes.iter().for_each(|&(start, end, kind)| ranges.set(range(start, end), kind));
        assert_eq!(ranges.len(), ranges.iter().count());
        ranges.iter().map(|(range, kind)| (range.start, range.end, kind)).collect()
    }

    #[test]
    fn ranges_of_one_type_that_overlap_or_touch_join() {
        assert_eq!(held(&[(0, 5, Read), (5, 9, Read)]), [(0, 9, Read)]);
        assert_eq!(held(&[(5, 9, Read), (0, 5, Read)]), [(0, 9, Read)]);
        assert_eq!(held(&[(0, 5, Write), (7, 9, Write), (3, 8, Write)]), [(0, 9, Write)]);
        assert_eq!(held(&[(0, 4, Read), (5, 9, Read)]), [(0, 4, Read), (5, 9, Read)]);
        assert_eq!(held(&[(0, 9, Read), (3, 5, Read)]), [(0, 9, Read)]);
    }

    #[test]
    fn another_type_wins_on_its_range_and_cuts_the_rest() {
        assert_eq!(held(&[(0, 9, Read), (3, 5, Write)]), [(0, 3, Read), (3, 5, Write), (5, 9, Read)]);
        assert_eq!(held(&[(0, 9, Read), (0, 5, Write)]), [(0, 5, Write), (5, 9, Read)]);
        assert_eq!(held(&[(0, 3, Read), (5, 9, Read), (2, 6, Write)]), [(0, 2, Read), (2, 6, Write), (6, 9, Read)]);
        assert_eq!(held(&[(0, 9, Read), (3, 5, Write), (3, 5, Read)]), [(0, 9, Read)]);
    }

    #[test]
    fn unlock_in_the_middle_splits_the_range_in_two() {
        assert_eq!(held(&[(0, 9, Write), (3, 5, Unlock)]), [(0, 3, Write), (5, 9, Write)]);
        assert_eq!(held(&[(2, 9, Write), (0, 5, Unlock)]), [(5, 9, Write)]);
        assert_eq!(held(&[(2, 9, Write), (5, u64::MAX, Unlock)]), [(2, 5, Write)]);
        assert_eq!(held(&[(2, 9, Write), (11, 12, Read), (0, u64::MAX, Unlock)]), []);
    }

    #[test]
    fn a_range_to_the_end_of_the_file_has_every_later_byte() {
        assert_eq!(held(&[(5, u64::MAX, Write), (0, 5, Write)]), [(0, u64::MAX, Write)]);
        assert_eq!(held(&[(0, u64::MAX, Write), (u64::MAX - 1, u64::MAX, Unlock)]), [(0, u64::MAX - 1, Write)]);
    }

    #[test]
    fn overlapping_shows_whole_ranges_and_exactness_is_exact() {
        let mut ranges = Ranges::default();
        ranges.set(range(0, 4), Read);
        ranges.set(range(6, 9), Write);
        let seen: Vec<_> = ranges.overlapping(range(3, 7)).collect();
        assert_eq!(seen, [(range(0, 4), Read), (range(6, 9), Write)]);
        assert_eq!(ranges.overlapping(range(4, 6)).count(), 0);
        assert!(ranges.contains_exactly(range(6, 9), Write));
        assert!(!ranges.contains_exactly(range(6, 9), Read) && !ranges.contains_exactly(range(6, 8), Write));
    }

    /// Every change that is possible on six bytes, after every pair of others that is, against a slot for each byte.
    #[test]
    fn three_changes_leave_what_a_slot_for_each_byte_says() {
        let spans = (0..6).flat_map(|start| (start + 1..=6).map(move |end| (start, end)));
        let changes: Vec<_> = spans.flat_map(|(s, e)| [Read, Write, Unlock].map(|kind| (s, e, kind))).collect();
        for first in &changes {
            for second in &changes {
                for third in &changes {
                    check(&[*first, *second, *third]);
                }
            }
        }
    }

    fn check(changes: &[(u64, u64, LkType)]) {
        let mut slots = [Unlock; 6];
        changes.iter().for_each(|&(start, end, kind)| slots[start as usize..end as usize].fill(kind));
        let mut runs: Vec<(u64, u64, LkType)> = Vec::new();
        for (at, &kind) in slots.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.2 == kind => run.1 += 1,
                _ => runs.push((at as u64, at as u64 + 1, kind)),
            }
        }
        runs.retain(|run| run.2 != Unlock);
        assert_eq!(held(changes), runs, "{changes:?}");
    }
}
