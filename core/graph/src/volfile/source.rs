//! The texts a diagnostic may point into, and the places in them.
//!
//! A place is a [`Span`]: which text, and which bytes of it. Lines and columns are computed when somebody asks.
//! The command line is a text like any other, so that an override can be underlined like a line of the file.

use std::fmt;
use std::ops::Range;

/// Largest volfile that is read, in bytes. A volfile of 200 xlators has about 40 KiB.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// The name under which overrides appear in diagnostics.
pub const COMMAND_LINE: &str = "command line";

/// One text with the name under which messages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    fault: Option<SourceFault>,
    line_starts: Vec<u32>,
}

/// Why a text cannot be a volfile at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFault {
    /// It is longer than [`FILE_BYTES_MAX`]; the length in bytes is given, the text is not kept.
    TooLarge(usize),
    /// It is not UTF-8; the first offending byte stands at this offset.
    NotUtf8(usize),
}

impl Source {
    /// Takes `text` as the volfile `name`; a text beyond [`FILE_BYTES_MAX`] is noted as a fault and dropped.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text: String = text.into();
        if text.len() > FILE_BYTES_MAX {
            let fault = Some(SourceFault::TooLarge(text.len()));
            return Self::build(name.into(), String::new(), fault);
        }
        Self::build(name.into(), text, None)
    }

    /// Takes the bytes of a file. What is not UTF-8 is replaced for display, and the first such place is noted.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        if bytes.len() > FILE_BYTES_MAX {
            return Self::build(name.into(), String::new(), Some(SourceFault::TooLarge(bytes.len())));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::build(name.into(), text.to_owned(), None),
            Err(error) => Self::build(
                name.into(),
                String::from_utf8_lossy(bytes).into_owned(),
                Some(SourceFault::NotUtf8(error.valid_up_to())),
            ),
        }
    }

    fn build(name: String, text: String, fault: Option<SourceFault>) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at as u32 + 1)).collect();
        Self { name, text, fault, line_starts }
    }

    /// The name shown in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What makes the text unreadable as a volfile, if anything.
    pub fn fault(&self) -> Option<SourceFault> {
        self.fault
    }

    /// How many lines the text has; a last line without newline counts.
    pub fn line_count(&self) -> usize {
        match self.text.as_bytes().last() {
            None => 0,
            Some(b'\n') => self.line_starts.len() - 1,
            Some(_) => self.line_starts.len(),
        }
    }

    /// The line and column of the byte at `offset`; an offset beyond the text gives its end.
    pub fn position(&self, offset: u32) -> Position {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start as usize <= offset);
        let start = self.line_starts[line - 1] as usize;
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }
}

/// A line and a column, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Which of several [`Sources`] a span points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SourceId(pub u32);

/// Some bytes of one text: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// Names the bytes `range` of `source`. Texts are shorter than 4 GiB by [`FILE_BYTES_MAX`].
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        Self { source, start: range.start as u32, end: range.end as u32 }
    }

    /// The bytes as a range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// From the start of `self` to the end of `last`, which must be of the same text.
    pub fn to(self, last: Span) -> Span {
        debug_assert_eq!(self.source, last.source);
        Span { end: last.end.max(self.end), ..self }
    }

    /// The whole lines of `text` that hold nothing but the span, so that they can go with it; else the span.
    pub(crate) fn whole_lines(self, text: &str) -> Span {
        let (before, after) = (&text[..self.start as usize], &text[self.end as usize..]);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = after.find('\n').map_or(after.len(), |newline| newline + 1);
        if before[begin..].trim().is_empty() && after[..end].trim().is_empty() {
            Span { start: begin as u32, end: self.end + end as u32, ..self }
        } else {
            self
        }
    }
}

/// Texts, numbered in the order they were added.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// No texts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text and returns its number.
    pub fn add(&mut self, source: Source) -> SourceId {
        self.0.push(source);
        SourceId(self.0.len() as u32 - 1)
    }

    /// The text numbered `id`.
    ///
    /// # Panics
    /// If `id` was not given out by this very value.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0 as usize]
    }

    /// All texts with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        (0..).map(SourceId).zip(&self.0)
    }

    /// Where `span` begins.
    pub fn position(&self, span: Span) -> Position {
        self.get(span.source).position(span.start)
    }

    /// The text that `span` covers.
    pub fn snippet(&self, span: Span) -> &str {
        self.get(span.source).text().get(span.range()).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("a.vol", "ab\nåäö x\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(2), Position { line: 1, column: 3 });
        let x = source.text().find('x').unwrap() as u32;
        assert_eq!(source.position(x), Position { line: 2, column: 5 });
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_line_goes_with_a_statement_only_if_nothing_else_stands_on_it() {
        let id = SourceId(0);
        let whole = |text: &str, start, end| Span::new(id, start..end).whole_lines(text).range();
        assert_eq!(whole("a\n  bc \nd", 4, 6), 2..8);
        assert_eq!(whole("a\r\n  bc\r\nd", 5, 7), 3..9);
        assert_eq!(whole("a\n  bc", 4, 6), 2..6);
        assert_eq!(whole("a\n  bc # d\n", 4, 6), 4..6);
        assert_eq!(whole("a bc\n", 2, 4), 2..4);
    }

    #[test]
    fn a_last_line_without_newline_counts() {
        assert_eq!(Source::new("a", "").line_count(), 0);
        assert_eq!(Source::new("a", "x").line_count(), 1);
        assert_eq!(Source::new("a", "x\n").line_count(), 1);
        assert_eq!(Source::new("a", "x\ny").line_count(), 2);
    }

    #[test]
    fn a_file_at_the_limit_is_kept_and_one_byte_more_is_not() {
        assert_eq!(Source::new("a", " ".repeat(FILE_BYTES_MAX)).fault(), None);
        let large = Source::from_bytes("a", &vec![b' '; FILE_BYTES_MAX + 1]);
        assert_eq!(large.fault(), Some(SourceFault::TooLarge(FILE_BYTES_MAX + 1)));
        assert!(large.text().is_empty());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_noted_where_they_begin() {
        let source = Source::from_bytes("a", b"volume \xff\n");
        assert_eq!(source.fault(), Some(SourceFault::NotUtf8(7)));
    }
}
