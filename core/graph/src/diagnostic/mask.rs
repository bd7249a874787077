//! Keeps secrets out of everything that is shown.
//!
//! A word is a secret when it follows a word that names one. This is decided on tokens, not on the tree, so that
//! it also holds in text that does not parse.

use crate::volfile::{Keyword, Source, Span};
use std::borrow::Cow;

/// What stands for a secret; its length says nothing about the secret's.
pub const MASK: &str = "********";

/// The last parts of option names whose values are secrets.
const SECRET_NAMES: [&str; 5] = ["password", "passwd", "passphrase", "secret", "token"];

/// Whether the value of an option of this name is a secret: `password`, `auth.login.USER.password`, also mistyped.
///
/// `password-file` and the like name a place, not a secret.
pub fn is_secret_key(key: &str) -> bool {
    let last = key.rsplit(['.', '=']).next().unwrap_or(key);
    let last = last.rsplit_once("xlator-option").map_or(last, |(_, rest)| rest);
    if last.len() > 32 {
        return false;
    }
    let last = last.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|name| {
        let close = name.len() > 6 && strsim::osa_distance(&last, name) <= 2;
        last.ends_with(name) || close
    })
}

/// The value as it may stand in a message.
pub fn shown_value<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_key(key) { MASK.into() } else { crate::volfile::shorten(value) }
}

/// A text with its secrets replaced, and the way from places in the text to places in the replaced one.
pub(super) struct Masked {
    pub text: String,
    /// Replaced ranges of the original text, in order.
    secrets: Vec<(usize, usize)>,
}

impl Masked {
    pub fn new(source: &Source) -> Self {
        let original = source.text();
        let secrets = secrets(original);
        let mut text = String::with_capacity(original.len());
        let mut at = 0;
        for (start, end) in &secrets {
            text.push_str(&original[at..*start]);
            text.push_str(MASK);
            at = *end;
        }
        text.push_str(&original[at..]);
        Self { text, secrets }
    }

    /// The place in [`Self::text`] of a place in the original; a part of a secret becomes the whole mask.
    pub fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = self.map(span.start as usize, false);
        let end = self.map(span.end as usize, true);
        start..end.max(start)
    }

    /// Whether `span` reaches into a secret.
    pub fn hides(&self, span: Span) -> bool {
        self.secrets.iter().any(|(start, end)| (span.start as usize) < *end && *start < span.end as usize)
    }

    fn map(&self, offset: usize, is_end: bool) -> usize {
        let mut shift = 0isize;
        for (start, end) in &self.secrets {
            if offset <= *start {
                break;
            }
            let mapped_start = start.wrapping_add_signed(shift);
            if offset < *end {
                return if is_end { mapped_start + MASK.len() } else { mapped_start };
            }
            shift += MASK.len() as isize - (*end - *start) as isize;
        }
        offset.wrapping_add_signed(shift)
    }
}

/// The secrets of a text: what follows a word that names one, to the end of the line or, where the line ends with the
/// name, on the next line.
///
/// An override (`*.password=x`) carries its secret in the same word.
fn secrets(text: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut line_start = 0;
    let (mut owed, mut in_string) = (false, false);
    for line in text.split_inclusive('\n') {
        let end = line.trim_end().len();
        let start = line.len() - line.trim_start().len();
        let begins_statement = Keyword::exact(first_word(line)).is_some();
        if owed && start < end && !begins_statement {
            out.push((line_start + start, line_start + end));
            owed = line.matches('"').count() % 2 == 0 && in_string;
        } else if start < end {
            let found = secret_of_line(line);
            if let Some((start, end)) = found.filter(|(start, end)| start < end) {
                out.push((line_start + start, line_start + end));
            }
            // The string, or the whole value, is on the next line.
            in_string = found.is_some_and(|(start, end)| line[start..end].matches('"').count() % 2 == 1);
            owed = in_string || found.is_some_and(|(start, end)| start == end);
        }
        line_start += line.len();
    }
    out
}

fn first_word(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or("")
}

/// The place of a line's secret; empty if the line ends with its name.
fn secret_of_line(line: &str) -> Option<(usize, usize)> {
    let end = line.trim_end().len();
    let free = Keyword::exact(first_word(line)).is_none();
    let mut at = 0;
    let (mut before, mut last) = ("", "");
    for piece in line.split_inclusive([' ', '\t', '"', '=']) {
        let word = piece.trim_end_matches([' ', '\t', '"', '=', '\r', '\n']);
        at += piece.len();
        if word.is_empty() {
            continue;
        }
        let is_key = Keyword::near(last) == Some(Keyword::Option) || (free && before != "option");
        if is_key && is_secret_key(word) {
            let rest = &line[at.min(end)..end];
            // A quote that closes the name is no part of the value; one that opens the value may go with it.
            let start = at.min(end) + (rest.len() - rest.trim_start().len());
            return Some((start, end_of_secret(line, start, end)));
        }
        (before, last) = (last, word);
    }
    None
}

/// A whole volume may stand on one line: the secret ends where `option`, `subvolumes` or `end-volume` goes on.
fn end_of_secret(line: &str, start: usize, end: usize) -> usize {
    [" option ", " subvolumes ", " end-volume"]
        .iter()
        .filter_map(|next| line[start..end].find(next))
        .min()
        .map_or(end, |at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volfile::SourceId;

    #[test]
    fn names_of_secrets_are_known_also_mistyped() {
        for key in ["password", "auth.login.u.password", "Passwrd", "ssl-passphrase", "auth-token"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["password-file", "username", "directory", "auth.login.u.allow"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_secret_is_replaced_and_places_behind_it_still_fit() {
        let source = Source::new("a", "option password hunter2hunter2\noption x y\n");
        let masked = Masked::new(&source);
        assert_eq!(masked.text, "option password ********\noption x y\n");
        let at = source.text().find('y').unwrap();
        let range = masked.range(Span::new(SourceId(0), at..at + 1));
        assert_eq!(&masked.text[range], "y");
        let secret = Span::new(SourceId(0), 18..20);
        assert!(masked.hides(secret));
        assert_eq!(&masked.text[masked.range(secret)], MASK);
    }

    #[test]
    fn a_secret_in_broken_text_or_on_the_command_line_is_replaced() {
        for text in [
            "option password \"a b",
            "optoin auth.login.x.password hunter2",
            "option \"password\" hunter2 hunter3",
            "*.password=hunter2",
            "option password\n  hunter2\n",
            "option password \"a\nhunter2\nhunter2\"\n",
            "x.auth.login.y.password=hunter2",
            "volume a type b option password hunter2 option c d end-volume",
        ] {
            let masked = Masked::new(&Source::new("a", text));
            assert!(masked.text.contains(MASK), "{text}");
            assert!(!masked.text.contains("hunter"), "{text} -> {}", masked.text);
        }
    }
}
