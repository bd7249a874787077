//! A range of bytes as people write it.

use std::fmt;
use std::str::FromStr;

/// Bytes from `start` to before `end`; `end == u64::MAX` reaches past any growth. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

impl fmt::Display for Range {
    /// First and last byte: `0-99`, `100-EOF`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            u64::MAX => write!(f, "{}-EOF", self.start),
            end => write!(f, "{}-{}", self.start, end - 1),
        }
    }
}

impl FromStr for Range {
    type Err = String;

    /// Reads `0-99` and `100-EOF` (with the last byte), `0..100` and `100..` (with the byte after it), and `7`.
    fn from_str(text: &str) -> Result<Range, String> {
        let wrong = || format!("`{text}` is no range: write `0-99`, `100-EOF` or `0..100`");
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+')).ok_or_else(wrong);
        let to_eof = |end: &str| end.is_empty() || end.eq_ignore_ascii_case("eof");
        let last = |end: &str| number(end)?.checked_add(1).filter(|&end| end < u64::MAX).ok_or_else(wrong);
        let (start, end) = match (text.split_once(".."), text.split_once('-')) {
            (Some((start, end)), _) if to_eof(end) => (number(start)?, u64::MAX),
            (Some((start, end)), _) => (number(start)?, number(end)?),
            (None, Some((start, end))) if end.eq_ignore_ascii_case("eof") => (number(start)?, u64::MAX),
            (None, Some((start, end))) => (number(start)?, last(end)?),
            (None, None) => (number(text)?, last(text)?),
        };
        if start < end { Ok(Range { start, end }) } else { Err(format!("`{text}` has no byte in it")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_tables_show_it_and_as_programmers_write_it() {
        let range = |start, end| Ok(Range { start, end });
        for (text, read) in [
            ("0-99", range(0, 100)),
            ("0..100", range(0, 100)),
            ("7", range(7, 8)),
            ("100-EOF", range(100, u64::MAX)),
            ("100-eof", range(100, u64::MAX)),
            ("100..", range(100, u64::MAX)),
            ("0..EOF", range(0, u64::MAX)),
        ] {
            assert_eq!(text.parse::<Range>(), read, "{text}");
        }
        for text in ["", "-", "..", "9-0", "5..5", "a-b", "-5", "+1-2", "1-+2", "1-18446744073709551615"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_shown_as_it_is_read() {
        for text in ["0-99", "100-EOF", "7-7"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
    }
}
