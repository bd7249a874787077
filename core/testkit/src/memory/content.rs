//! The content of a regular file: pages that exist, and holes between them.
//!
//! Always true between calls:
//! - bytes of a page at or past the length are zero, so that growing the file needs no cleaning;
//! - a page that does not exist reads as zeros.

use std::collections::BTreeMap;

use brickwork_api::{Errno, SeekWhat};

/// Bytes of a page; also the unit that `collapse` and `insert` keep to.
pub const PAGE: u64 = 4096;

/// The longest file: what fits in a signed 64-bit offset.
pub const LENGTH_MAX: u64 = i64::MAX as u64;

/// A byte range, half-open.
pub type Range = std::ops::Range<u64>;

/// Pages by number, and the length.
#[derive(Debug, Default)]
pub struct Content {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    len: u64,
}

impl Content {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many pages exist.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// The pages of `range` that do not exist yet.
    pub fn missing_pages(&self, range: &Range) -> u64 {
        let numbers = page_numbers(range);
        numbers.end - numbers.start - self.pages.range(numbers).count() as u64
    }

    /// At most `size` bytes from `offset` on; fewer only at the end of the file.
    pub fn read(&self, offset: u64, size: u64) -> Vec<u8> {
        let end = offset.saturating_add(size).min(self.len);
        if offset >= end {
            return Vec::new();
        }
        let mut bytes = vec![0; (end - offset) as usize];
        for (number, page) in self.pages.range(page_numbers(&(offset..end))) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let target = &mut bytes[(from - offset) as usize..(to - offset) as usize];
            target.copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        bytes
    }

    /// Puts `data` at `offset`; the file grows to its end. The caller checked the end against [`LENGTH_MAX`].
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        for number in page_numbers(&(offset..end)) {
            let page = self.pages.entry(number).or_insert_with(zero_page);
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let source = &data[(from - offset) as usize..(to - offset) as usize];
            page[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
        }
        if !data.is_empty() {
            self.len = self.len.max(end);
        }
    }

    /// Sets the length; what is added reads as zeros.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            self.zero_within_page(len..len.next_multiple_of(PAGE));
        }
        self.len = len;
    }

    /// Makes the pages of `range` exist; the file grows to its end unless `keep_size`.
    pub fn allocate(&mut self, range: Range, keep_size: bool) {
        for number in page_numbers(&range) {
            self.pages.entry(number).or_insert_with(zero_page);
        }
        if !keep_size {
            self.len = self.len.max(range.end);
        }
    }

    /// Makes `range` zeros and lets the pages go that lie wholly in it. The length stays.
    pub fn punch(&mut self, range: Range) {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        if whole.start >= whole.end {
            let middle = range.start.next_multiple_of(PAGE).min(range.end);
            self.zero_within_page(range.start..middle);
            self.zero_within_page(middle..range.end);
            return;
        }
        self.zero_within_page(range.start..whole.start * PAGE);
        self.zero_within_page(whole.end * PAGE..range.end);
        let mut from_start = self.pages.split_off(&whole.start);
        let mut after = from_start.split_off(&whole.end);
        self.pages.append(&mut after);
    }

    /// Cuts `range` out; what follows moves down.
    ///
    /// # Errors
    /// `EINVAL` unless `range` keeps to pages and ends before the end of the file.
    pub fn collapse(&mut self, range: Range) -> Result<(), Errno> {
        if !on_pages(&range) || range.end >= self.len {
            return Err(Errno::EINVAL);
        }
        let after = self.pages.split_off(&(range.end / PAGE));
        self.pages.split_off(&(range.start / PAGE));
        let moved = (range.end - range.start) / PAGE;
        self.pages.extend(after.into_iter().map(|(number, page)| (number - moved, page)));
        self.len -= range.end - range.start;
        Ok(())
    }

    /// Makes room for a hole of the size of `range`; what follows moves up.
    ///
    /// # Errors
    /// `EINVAL` unless `range` keeps to pages and begins before the end of the file; `EFBIG` when it would be too long.
    pub fn insert(&mut self, range: Range) -> Result<(), Errno> {
        if !on_pages(&range) || range.start >= self.len {
            return Err(Errno::EINVAL);
        }
        let added = range.end - range.start;
        if self.len + added > LENGTH_MAX {
            return Err(Errno::EFBIG);
        }
        let after = self.pages.split_off(&(range.start / PAGE));
        self.pages.extend(after.into_iter().map(|(number, page)| (number + added / PAGE, page)));
        self.len += added;
        Ok(())
    }

    /// The next byte of data or of a hole at or after `offset`; the end of the file counts as a hole.
    ///
    /// # Errors
    /// `ENXIO` when `offset` is at or past the end, or there is no more data.
    pub fn seek(&self, offset: u64, what: SeekWhat) -> Result<u64, Errno> {
        if offset >= self.len {
            return Err(Errno::ENXIO);
        }
        let mut existing = self.pages.range(offset / PAGE..);
        let found = match what {
            SeekWhat::Data => {
                let (number, _) = existing.next().ok_or(Errno::ENXIO)?;
                (number * PAGE).max(offset)
            }
            SeekWhat::Hole => {
                let mut hole = offset / PAGE;
                while existing.next().is_some_and(|(number, _)| *number == hole) {
                    hole += 1;
                }
                return Ok((hole * PAGE).max(offset).min(self.len));
            }
        };
        if found < self.len { Ok(found) } else { Err(Errno::ENXIO) }
    }

    /// Writes zeros over `range`, which lies within one page; a page that does not exist stays away.
    fn zero_within_page(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        if let Some(page) = self.pages.get_mut(&(range.start / PAGE)) {
            let start = range.start / PAGE * PAGE;
            page[(range.start - start) as usize..(range.end - start) as usize].fill(0);
        }
    }
}

fn zero_page() -> Box<[u8; PAGE as usize]> {
    Box::new([0; PAGE as usize])
}

fn page_numbers(range: &Range) -> Range {
    if range.is_empty() { 0..0 } else { range.start / PAGE..range.end.div_ceil(PAGE) }
}

fn on_pages(range: &Range) -> bool {
    range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(len: usize) -> Content {
        let mut content = Content::default();
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251 + 1) as u8).collect();
        content.write(0, &bytes);
        content
    }

    #[test]
    fn what_lies_between_two_writes_is_a_hole_of_zeros() {
        let mut content = Content::default();
        content.write(1, b"a");
        content.write(3 * PAGE, b"b");
        assert_eq!(content.pages(), 2);
        assert_eq!(content.read(0, 3), [0, b'a', 0]);
        assert_eq!(content.read(3 * PAGE - 1, 10), [0, b'b']);
        assert_eq!(content.seek(1, SeekWhat::Hole), Ok(PAGE));
        assert_eq!(content.seek(PAGE, SeekWhat::Data), Ok(3 * PAGE));
        assert_eq!(content.seek(3 * PAGE, SeekWhat::Hole), Ok(3 * PAGE + 1));
        assert_eq!(content.seek(3 * PAGE + 1, SeekWhat::Data), Err(Errno::ENXIO));
    }

    #[test]
    fn bytes_cut_off_do_not_come_back_when_the_file_grows_again() {
        let mut content = filled(10);
        content.set_len(3);
        content.set_len(10);
        assert_eq!(content.read(0, 10), [1, 2, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn every_punch_equals_writing_zeros() {
        let len = 3 * PAGE;
        for (start, end) in [(5, 9), (0, PAGE), (PAGE - 1, PAGE + 1), (7, 2 * PAGE + 9), (PAGE, 3 * PAGE), (0, len)] {
            let (mut punched, mut written) = (filled(len as usize), filled(len as usize));
            punched.punch(start..end);
            written.write(start, &vec![0; (end - start) as usize]);
            assert_eq!(punched.read(0, len), written.read(0, len), "{start}..{end}");
        }
    }

    #[test]
    fn collapse_and_insert_are_each_others_opposite() {
        let before = filled(3 * PAGE as usize + 5);
        let mut content = filled(3 * PAGE as usize + 5);
        content.insert(PAGE..2 * PAGE).unwrap();
        assert_eq!(content.read(PAGE, PAGE), vec![0; PAGE as usize]);
        content.collapse(PAGE..2 * PAGE).unwrap();
        assert_eq!(content.read(0, u64::MAX), before.read(0, u64::MAX));
        assert_eq!(content.collapse(1..PAGE), Err(Errno::EINVAL));
    }
}
