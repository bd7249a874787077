//! From text to tokens, by GlusterFS's rules.
//!
//! - Blanks are space, tab, CR and LF; a newline ends a comment and means nothing else.
//! - `#` begins a comment only where a token may begin: inside a word it is an ordinary character.
//! - A word is the longest run of characters other than blanks, `"` and `\`. So `a"b"` is two tokens.
//! - A string stands in quotes; backslash and a character stand for that character.
//! - The five keywords are lower case. GlusterFS lets `subvolumeS` pass, and so do we: what runs there runs here.
//!
//! Where GlusterFS guesses, this is an error: a newline in a string (it drops it and prints it on its stdout), a
//! backslash in a word (it drops it), a backtick (it runs what follows in a shell).
//! The lexer never stops: a broken token is reported and taken for what it probably was.

use super::source::{SourceId, Span};
use crate::diagnostic::{Code, Diagnostic};
use std::borrow::Cow;

/// Longest word or string, in bytes. Four times the longest path.
pub const WORD_BYTES_MAX: usize = 16 << 10;

/// The reserved words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyword {
    /// `volume NAME`
    Volume,
    /// `type CLASS/NAME`
    Type,
    /// `option KEY VALUE`
    Option,
    /// `subvolumes NAME...`
    Subvolumes,
    /// `end-volume`
    EndVolume,
}

impl Keyword {
    /// All of them.
    pub const ALL: [Keyword; 5] =
        [Keyword::Volume, Keyword::Type, Keyword::Option, Keyword::Subvolumes, Keyword::EndVolume];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Keyword::Volume => "volume",
            Keyword::Type => "type",
            Keyword::Option => "option",
            Keyword::Subvolumes => "subvolumes",
            Keyword::EndVolume => "end-volume",
        }
    }

    /// The keyword that `word` is, exactly.
    pub fn exact(word: &str) -> Option<Keyword> {
        if word == "subvolumeS" {
            return Some(Keyword::Subvolumes);
        }
        Keyword::ALL.into_iter().find(|k| k.as_str() == word)
    }

    /// The keyword that `word` was probably meant to be: another case, or one or two letters off.
    pub fn near(word: &str) -> Option<Keyword> {
        if word.len() > 16 {
            return None;
        }
        let lower = word.to_lowercase();
        Keyword::ALL
            .into_iter()
            .map(|k| (strsim::osa_distance(&lower, k.as_str()), k))
            .filter(|(distance, k)| *distance <= if k.as_str().len() > 5 { 2 } else { 1 })
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, keyword)| keyword)
    }
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind<'a> {
    /// A reserved word.
    Keyword(Keyword),
    /// A word or the content of a string.
    Word {
        /// The value: without quotes, with escapes undone.
        text: Cow<'a, str>,
        /// Whether it stood in quotes.
        quoted: bool,
    },
    /// `#` and the rest of its line.
    Comment(&'a str),
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind<'a>,
    /// Where.
    pub span: Span,
    /// Whether it is the first of its line.
    pub first_of_line: bool,
    /// Whether an empty line stands before it.
    pub after_blank_line: bool,
}

/// Cuts `text` into tokens and hands every problem to `report`.
pub fn tokens<'a>(source: SourceId, text: &'a str, report: &mut dyn FnMut(Diagnostic)) -> Vec<Token<'a>> {
    let mut lexer =
        Lexer { source, text, at: 0, commands: Commands::find(source, text, report), report, out: Vec::new() };
    lexer.byte_order_mark();
    while lexer.token() {}
    lexer.out
}

struct Lexer<'a, 'r> {
    source: SourceId,
    text: &'a str,
    at: usize,
    commands: Commands,
    report: &'r mut dyn FnMut(Diagnostic),
    out: Vec<Token<'a>>,
}

impl<'a> Lexer<'a, '_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, start..end)
    }

    fn byte_order_mark(&mut self) {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
            let span = self.span(0, self.at);
            (self.report)(
                syntax_error("the file begins with a byte order mark")
                    .at(span, "")
                    .note("an editor of another system put it there; GlusterFS takes it for a part of the first word")
                    .fix("remove it", vec![(span, String::new())]),
            );
        }
    }

    /// Reads one token; false at the end of the text.
    fn token(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        let before = self.at;
        while self.at < bytes.len() && is_blank(bytes[self.at]) {
            self.at += 1;
        }
        if self.at == bytes.len() {
            return false;
        }
        let newlines = bytes[before..self.at].iter().filter(|b| **b == b'\n').count();
        let start = self.at;
        let kind = match bytes[start] {
            b'#' => self.comment(),
            b'"' => self.string(),
            _ => self.word(),
        };
        self.out.push(Token {
            kind,
            span: self.span(start, self.at),
            first_of_line: newlines > 0 || before == 0,
            after_blank_line: newlines > 1,
        });
        true
    }

    fn comment(&mut self) -> TokenKind<'a> {
        let rest = &self.text[self.at..];
        let line = rest.split('\n').next().unwrap_or(rest);
        self.at += line.len();
        TokenKind::Comment(line.trim_end())
    }

    fn string(&mut self) -> TokenKind<'a> {
        let open = self.at;
        let bytes = self.text.as_bytes();
        let mut value = String::new();
        let mut piece = open + 1;
        let mut at = piece;
        let mut escaped = false;
        let closed = loop {
            match bytes.get(at) {
                None | Some(b'\n') => break false,
                Some(b'"') => break true,
                // A backslash before the newline does not carry a string over it either.
                Some(b'\\') if !matches!(bytes.get(at + 1), None | Some(b'\n')) => {
                    value.push_str(&self.text[piece..at]);
                    escaped = true;
                    piece = at + 1;
                    at = piece + 1;
                }
                Some(_) => at += 1,
            }
        };
        // An escaped character may be longer than the one byte that was stepped over; `piece` is a boundary all the
        // same, because a backslash is one byte and no part of another character.
        let content: Cow<'a, str> = if escaped {
            value.push_str(&self.text[piece..at]);
            Cow::Owned(value)
        } else {
            Cow::Borrowed(&self.text[piece..at])
        };
        if !closed {
            return self.unclosed_string(open, at);
        }
        self.at = at + 1;
        self.long_word(open, content.len());
        self.nul_byte(open, &content);
        TokenKind::Word { text: content, quoted: true }
    }

    /// A string that its line does not close. If it is closed soon after, and no statement begins in between, it is
    /// taken to go over these lines; otherwise it ends with its line.
    fn unclosed_string(&mut self, open: usize, line_end: usize) -> TokenKind<'a> {
        let rest = &self.text[line_end..];
        let (end, replacement, over_lines) = match rest.find('"').filter(|close| continues_string(&rest[..*close])) {
            Some(close) => {
                (line_end + close + 1, self.text[open..line_end + close + 1].replace(['\r', '\n'], ""), true)
            }
            None => {
                let end = open + self.text[open..line_end].trim_end().len();
                (end, format!("{}\"", &self.text[open..end]), false)
            }
        };
        let span = self.span(open, end);
        let (label, help) = match over_lines {
            true => ("it goes over the end of the line", "write it on one line"),
            false => ("no `\"` follows on this line", "close the string"),
        };
        (self.report)(
            syntax_error("a string is not closed on its line")
                .at(span, label)
                .note("GlusterFS joins the lines, drops the newline and prints it on its standard output")
                .fix(help, vec![(span, replacement)]),
        );
        self.at = if over_lines { end } else { line_end };
        let content_end = if over_lines { end - 1 } else { end };
        let content = self.text[open + 1..content_end].replace(['\r', '\n'], "");
        TokenKind::Word { text: Cow::Owned(content), quoted: true }
    }

    fn word(&mut self) -> TokenKind<'a> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut stray = None;
        let mut command = false;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'`' => {
                    let end = self.commands.end_of(self.at);
                    command |= end.is_some();
                    self.at = end.unwrap_or(self.at + 1);
                }
                b'"' => break,
                b'\\' => {
                    stray.get_or_insert(self.at);
                    self.at += 1;
                    // What it would escape in a shell, also a blank, belongs to the same word.
                    if bytes.get(self.at).is_some_and(|b| !matches!(b, b'\r' | b'\n')) {
                        self.at += 1;
                    }
                }
                b if is_blank(*b) => break,
                _ => self.at += 1,
            }
        }
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if let (Some(at), false) = (stray, command) {
            self.stray_backslash(at, start);
        }
        if !command {
            if let Some(keyword) = Keyword::exact(text) {
                return TokenKind::Keyword(keyword);
            }
            self.long_word(start, text.len());
            self.nul_byte(start, text);
        }
        TokenKind::Word { text: Cow::Borrowed(text), quoted: false }
    }

    fn stray_backslash(&mut self, at: usize, start: usize) {
        let word = &self.text[start..self.at];
        // Before a blank it was meant as in a shell.
        let value = word.replace("\\ ", " ").replace('\\', "\\\\").replace('"', "\\\"");
        let quoted = format!("\"{value}\"");
        let (span, whole) = (self.span(at, at + 1), self.span(start, self.at));
        (self.report)(
            syntax_error("a backslash outside quotes")
                .at(span, "")
                .note("GlusterFS drops it and takes what follows for another word")
                .fix("quote the word; in quotes a backslash is doubled, and a blank needs none", vec![(whole, quoted)]),
        );
    }

    fn long_word(&mut self, start: usize, len: usize) {
        if len > WORD_BYTES_MAX {
            let message = format!("a word of {len} bytes; the limit is {WORD_BYTES_MAX}");
            // Underline the beginning only: the whole would fill the screen.
            let mut end = start + 16;
            while !self.text.is_char_boundary(end) {
                end += 1;
            }
            let span = self.span(start, end);
            (self.report)(Diagnostic::error(Code::Limit, message).at(span, "it begins here"));
        }
    }

    fn nul_byte(&mut self, start: usize, word: &str) {
        if word.contains('\0') {
            let span = self.span(start, self.at);
            (self.report)(syntax_error("a word contains a NUL byte").at(span, ""));
        }
    }
}

/// Whether `text`, from the end of a line to the next quote, may be the rest of a string: a few lines, and none begins
/// like a statement or a comment.
fn continues_string(text: &str) -> bool {
    const LINES_MAX: usize = 3;
    let lines = || text.split('\n').skip(1);
    let begins_anew = |line: &str| {
        let first = line.split_ascii_whitespace().next().unwrap_or("");
        first.starts_with('#') || Keyword::near(first).is_some() || line.contains('`')
    };
    lines().count() <= LINES_MAX && !text.contains('\\') && !lines().any(begins_anew)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The backtick commands of a text, which GlusterFS runs before it looks for tokens, hence also in comments and
/// strings. A backslash before a backtick takes its meaning away.
struct Commands(Vec<(usize, usize)>);

impl Commands {
    fn find(source: SourceId, text: &str, report: &mut dyn FnMut(Diagnostic)) -> Self {
        let mut found = Vec::new();
        let mut open = None;
        let mut escaped = false;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'`' if !escaped => match open.take() {
                    None => open = Some(at),
                    Some(start) => found.push((start, at + 1)),
                },
                _ => {}
            }
            escaped = byte == b'\\' && !escaped;
        }
        for (start, end) in &found {
            report(
                backtick("a shell command in backticks is refused")
                    .at(Span::new(source, *start..*end), "GlusterFS runs this in `/bin/sh`")
                    .help("write the command's output in its place, or generate the file before it is loaded"),
            );
        }
        if let Some(start) = open {
            let line = text[start..].find('\n').map_or(text.len(), |n| start + n);
            let end = start + text[start..line].trim_end().len();
            report(
                backtick("a backtick without its partner")
                    .at(Span::new(source, start..end), "")
                    .note("GlusterFS refuses the whole file for it")
                    .help("if it belongs to a value, quote the value and put a backslash before the backtick"),
            );
        }
        Commands(found)
    }

    /// The end of the command that begins at `at`.
    fn end_of(&self, at: usize) -> Option<usize> {
        let index = self.0.binary_search_by_key(&at, |(start, _)| *start).ok()?;
        Some(self.0[index].1)
    }
}

fn syntax_error(message: &str) -> Diagnostic {
    Diagnostic::error(Code::Syntax, message)
}

fn backtick(message: &str) -> Diagnostic {
    Diagnostic::error(Code::Backtick, message)
        .note("a volfile may come over the network; nothing in it is ever executed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> (Vec<String>, Vec<String>) {
        let mut found = Vec::new();
        let list = tokens(SourceId(0), text, &mut |d| found.push(d.message));
        let shown = list
            .iter()
            .map(|token| match &token.kind {
                TokenKind::Keyword(keyword) => format!("<{}>", keyword.as_str()),
                TokenKind::Word { text, quoted: true } => format!("\"{text}\""),
                TokenKind::Word { text, .. } => text.to_string(),
                TokenKind::Comment(text) => format!("({text})"),
            })
            .collect();
        (shown, found)
    }

    fn clean(text: &str) -> Vec<String> {
        let (tokens, found) = lex(text);
        assert_eq!(found, Vec::<String>::new());
        tokens
    }

    #[test]
    fn a_hash_begins_a_comment_only_where_a_token_begins() {
        assert_eq!(clean("a#b #c d\ne"), ["a#b", "(#c d)", "e"]);
        assert_eq!(clean("\"#a\"#b"), ["\"#a\"", "(#b)"]);
    }

    #[test]
    fn keywords_are_lower_case_but_for_the_last_letter_of_subvolumes() {
        assert_eq!(
            clean("volume VOLUME subvolumes subvolumeS SUBVOLUMES"),
            ["<volume>", "VOLUME", "<subvolumes>", "<subvolumes>", "SUBVOLUMES"]
        );
    }

    #[test]
    fn a_quoted_keyword_is_a_word_and_a_longer_word_is_no_keyword() {
        assert_eq!(clean("\"volume\" volumes end-volume-2"), ["\"volume\"", "volumes", "end-volume-2"]);
    }

    #[test]
    fn a_word_ends_at_a_quote() {
        assert_eq!(clean("a\"b c\"d"), ["a", "\"b c\"", "d"]);
    }

    #[test]
    fn a_backslash_in_a_string_stands_for_the_next_character() {
        assert_eq!(clean(r#""a\"b\\c\nä\ö""#), ["\"a\"b\\cnäö\""]);
    }

    #[test]
    fn a_string_that_is_not_closed_ends_with_its_line() {
        let (tokens, found) = lex("\"a b\nc");
        assert_eq!(tokens, ["\"a b\"", "c"]);
        assert_eq!(found, ["a string is not closed on its line"]);
        assert_eq!(lex("\"a\nb\" c").0, ["\"ab\"", "c"]);
        assert_eq!(lex("\"a\noption \"b\"").0, ["\"a\"", "<option>", "\"b\""]);
        assert_eq!(lex("\"a\\\nc").0, ["\"a\\\"", "c"]);
        assert_eq!(lex("\"a\\").1.len(), 1);
    }

    #[test]
    fn a_backslash_in_a_word_is_an_error_and_the_word_stays_whole() {
        let (tokens, found) = lex("a\\b c\\ d\\ö e\\");
        assert_eq!(tokens, ["a\\b", "c\\ d\\ö", "e\\"]);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn backticks_are_refused_in_words_strings_and_comments() {
        for text in ["`date`", "a`date -u`b", "\"x `date` y\"", "# see `date`\n", "`a\nb`"] {
            let (tokens, found) = lex(text);
            assert_eq!(tokens.len(), 1, "{text}");
            assert_eq!(found, ["a shell command in backticks is refused"], "{text}");
        }
        assert_eq!(lex("a ` b").1, ["a backtick without its partner"]);
        assert_eq!(clean("\"a\\`b\""), ["\"a`b\""]);
    }

    #[test]
    fn a_word_at_the_limit_passes_and_one_byte_more_does_not() {
        clean(&"x".repeat(WORD_BYTES_MAX));
        let (_, found) = lex(&"x".repeat(WORD_BYTES_MAX + 1));
        assert_eq!(found, ["a word of 16385 bytes; the limit is 16384"]);
    }

    #[test]
    fn a_mistyped_keyword_is_recognised() {
        assert_eq!(Keyword::near("Volume"), Some(Keyword::Volume));
        assert_eq!(Keyword::near("optoin"), Some(Keyword::Option));
        assert_eq!(Keyword::near("endvolume"), Some(Keyword::EndVolume));
        assert_eq!(Keyword::near("subvolume"), Some(Keyword::Subvolumes));
        assert_eq!(Keyword::near("posix"), None);
    }
}
