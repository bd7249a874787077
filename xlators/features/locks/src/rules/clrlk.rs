//! GlusterFS's way to clear locks: a getxattr whose name says which, answered with how many went.
//!
//! `glusterfs.clrlk.t<inode|entry|posix>.k<blocked|granted|all>`, then for `inode` and `posix` perhaps `.<whence>,<start>-<len>`,
//! for `entry` perhaps `.<name>`.

use std::fmt;

use brickwork_api::Name;
use brickwork_api::ranges::ByteRange;

/// How the names of these attributes begin.
pub const PREFIX: &[u8] = b"glusterfs.clrlk.";

/// Which locks and waiters of one object are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearLocks {
    /// Of what kind.
    pub what: What,
    /// Held ones, waiters, or both.
    pub which: Which,
}

/// Of what kind, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Locks between xlators that overlap the range, or all, in every domain.
    Inode(Option<ByteRange>),
    /// Locks between xlators on the name, or all, in every domain.
    Entry(Option<Name>),
    /// Locks of applications that overlap the range, or all.
    Posix(Option<ByteRange>),
}

/// Held ones, waiters, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Waiters.
    Blocked,
    /// Held ones.
    Granted,
    /// Both.
    All,
}

impl Which {
    /// Whether waiters are meant.
    #[must_use]
    pub const fn waiters(self) -> bool {
        matches!(self, Which::Blocked | Which::All)
    }

    /// Whether held locks are meant.
    #[must_use]
    pub const fn held(self) -> bool {
        matches!(self, Which::Granted | Which::All)
    }
}

/// What is wrong with a request: `EINVAL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClrlkError(String);

impl fmt::Display for ClrlkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClrlkError {}

impl ClearLocks {
    /// Reads the name of an extended attribute; `None` when it is no such request.
    ///
    /// # Errors
    /// What in it is wrong, for people.
    pub fn parse(attribute: &[u8]) -> Result<Option<ClearLocks>, ClrlkError> {
        let Some(request) = attribute.strip_prefix(PREFIX) else { return Ok(None) };
        // A name may have dots of its own: it is whatever follows the second one.
        let mut parts = request.splitn(3, |byte| *byte == b'.');
        let kind = parts.next().unwrap_or_default();
        let which = parse_which(parts.next().unwrap_or_default())?;
        let place = parts.next();
        let what = match kind {
            b"tinode" => What::Inode(place.map(parse_range).transpose()?),
            b"tposix" => What::Posix(place.map(parse_range).transpose()?),
            b"tentry" => What::Entry(place.map(parse_name).transpose()?),
            _ => return Err(unknown(kind, "`tinode`, `tentry`, `tposix`")),
        };
        Ok(Some(ClearLocks { what, which }))
    }

    /// What GlusterFS's tools expect as the value: how many went.
    #[must_use]
    pub fn answer(&self, waiters: usize, held: usize) -> String {
        let kind = match self.what {
            What::Inode(_) => "inode",
            What::Entry(_) => "entry",
            What::Posix(_) => "posix",
        };
        format!("{kind} blocked locks={waiters} granted locks={held}")
    }
}

fn parse_which(word: &[u8]) -> Result<Which, ClrlkError> {
    match word {
        b"kblocked" => Ok(Which::Blocked),
        b"kgranted" => Ok(Which::Granted),
        b"kall" => Ok(Which::All),
        _ => Err(unknown(word, "`kblocked`, `kgranted`, `kall`")),
    }
}

/// `<whence>,<start>-<len>`; a length of 0 reaches past any growth.
fn parse_range(text: &[u8]) -> Result<ByteRange, ClrlkError> {
    let shape = || ClrlkError(format!("{} is no range: `0,<start>-<length>`, in bytes", shown(text)));
    let text_of = std::str::from_utf8(text).map_err(|_| shape())?;
    let (whence, bytes) = text_of.split_once(',').ok_or_else(shape)?;
    let (start, len) = bytes.split_once('-').ok_or_else(shape)?;
    let (whence, start, len) =
        (number(whence).ok_or_else(shape)?, number(start).ok_or_else(shape)?, number(len).ok_or_else(shape)?);
    if whence != 0 {
        let reason = "a range counts from the start of the file (`0,`): a brick knows no position";
        return Err(ClrlkError(format!("{}: {reason}", shown(text))));
    }
    // As `fcntl` has it: a lock ends at the largest offset at most.
    let end = match len {
        0 => Some(u64::MAX),
        _ => start.checked_add(len).filter(|end| *end <= i64::MAX as u64 + 1),
    };
    let range = end.filter(|_| start <= i64::MAX as u64).and_then(|end| ByteRange::new(start, end));
    range.ok_or_else(|| ClrlkError(format!("{} reaches past the largest offset, {}", shown(text), i64::MAX)))
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn parse_name(bytes: &[u8]) -> Result<Name, ClrlkError> {
    Name::new(bytes).map_err(|_| ClrlkError(format!("{} is not the name of an entry", shown(bytes))))
}

fn unknown(word: &[u8], known: &str) -> ClrlkError {
    let word = if word.is_empty() { "nothing".to_owned() } else { shown(word) };
    ClrlkError(format!("{word} stands where one of {known} is expected"))
}

/// Bytes from elsewhere, for people.
fn shown(bytes: &[u8]) -> String {
    format!("`{}`", bytes.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(attribute: &str) -> ClearLocks {
        ClearLocks::parse(attribute.as_bytes()).unwrap().unwrap()
    }

    fn error(attribute: &str) -> String {
        ClearLocks::parse(attribute.as_bytes()).unwrap_err().to_string()
    }

    fn range(start: u64, end: u64) -> Option<ByteRange> {
        Some(ByteRange::new(start, end).unwrap())
    }

    #[test]
    fn every_kind_and_every_choice_is_read() {
        assert_eq!(
            parse("glusterfs.clrlk.tinode.kblocked"),
            ClearLocks { what: What::Inode(None), which: Which::Blocked }
        );
        assert_eq!(
            parse("glusterfs.clrlk.tentry.kgranted"),
            ClearLocks { what: What::Entry(None), which: Which::Granted }
        );
        assert_eq!(parse("glusterfs.clrlk.tposix.kall"), ClearLocks { what: What::Posix(None), which: Which::All });
    }

    #[test]
    fn choices_name_waiters_held_ones_or_both() {
        let meant = |which: Which| (which.waiters(), which.held());
        assert_eq!(
            [Which::Blocked, Which::Granted, Which::All].map(meant),
            [(true, false), (false, true), (true, true)]
        );
    }

    #[test]
    fn a_range_has_start_and_length_and_a_length_of_none_reaches_to_the_end() {
        assert_eq!(parse("glusterfs.clrlk.tposix.kall.0,7-1").what, What::Posix(range(7, 8)));
        assert_eq!(parse("glusterfs.clrlk.tinode.kall.0,0-0").what, What::Inode(range(0, u64::MAX)));
        let last = i64::MAX as u64;
        assert_eq!(parse(&format!("glusterfs.clrlk.tposix.kall.0,{last}-1")).what, What::Posix(range(last, last + 1)));
    }

    #[test]
    fn a_name_may_have_dots() {
        let name = Name::new(b"a.tar.gz").unwrap();
        assert_eq!(parse("glusterfs.clrlk.tentry.kall.a.tar.gz").what, What::Entry(Some(name)));
    }

    #[test]
    fn other_attributes_are_not_meant() {
        for other in ["user.note", "glusterfs.clrlk", "trusted.glusterfs.clrlk.tposix.kall", ""] {
            assert_eq!(ClearLocks::parse(other.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let kinds = "stands where one of `tinode`, `tentry`, `tposix` is expected";
        assert_eq!(error("glusterfs.clrlk.tfoo.kall"), format!("`tfoo` {kinds}"));
        assert_eq!(error("glusterfs.clrlk..kall"), format!("nothing {kinds}"));
        let choices = "stands where one of `kblocked`, `kgranted`, `kall` is expected";
        assert_eq!(error("glusterfs.clrlk.tposix"), format!("nothing {choices}"));
        assert_eq!(error("glusterfs.clrlk.tposix.all"), format!("`all` {choices}"));
        let shape = "is no range: `0,<start>-<length>`, in bytes";
        for garbage in
            ["", "0", "0,", "0,1", "0,1-", "0,-1-1", "0,1--1", "0,+1-1", "0, 1-1", "x,1-1", "0,1-99999999999999999999"]
        {
            assert_eq!(error(&format!("glusterfs.clrlk.tposix.kall.{garbage}")), format!("`{garbage}` {shape}"));
        }
        assert_eq!(
            error("glusterfs.clrlk.tposix.kall.2,0-1"),
            "`2,0-1`: a range counts from the start of the file (`0,`): a brick knows no position"
        );
        for beyond in ["0,9223372036854775808-1", "0,9223372036854775807-2", "0,1-18446744073709551615"] {
            let expected = format!("`{beyond}` reaches past the largest offset, 9223372036854775807");
            assert_eq!(error(&format!("glusterfs.clrlk.tinode.kall.{beyond}")), expected);
        }
        assert_eq!(error("glusterfs.clrlk.tentry.kall.a/b"), "`a/b` is not the name of an entry");
        assert_eq!(error("glusterfs.clrlk.tentry.kall."), "`` is not the name of an entry");
    }

    #[test]
    fn the_answer_counts_as_glusterfs_does() {
        assert_eq!(parse("glusterfs.clrlk.tposix.kall").answer(2, 1), "posix blocked locks=2 granted locks=1");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_harm(garbage in prop::collection::vec(any::<u8>(), 0..64)) {
            let attribute = [PREFIX, &garbage].concat();
            prop_assert!(ClearLocks::parse(&attribute).is_err());
        }

        #[test]
        fn every_range_is_read_as_it_was_written(start in 0u64..1 << 62, len in 1u64..1 << 62) {
            let request = parse(&format!("glusterfs.clrlk.tinode.kgranted.0,{start}-{len}"));
            prop_assert_eq!(request.what, What::Inode(range(start, start + len)));
        }
    }
}
