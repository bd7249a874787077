//! From tokens to the tree, by GlusterFS's grammar, reporting every problem of a file in one run.
//!
//! ```text
//! file       := volume+
//! volume     := "volume" WORD type ( option* subvolumes? option* ) "end-volume"
//! type       := "type" WORD
//! option     := "option" WORD WORD
//! subvolumes := "subvolumes" WORD+
//! ```
//!
//! One thing is wider than there: a volume may consist of its type alone, where GlusterFS wants an option or a
//! subvolume. Whether a type can do without is a question to the type, not to the grammar.
//!
//! After a problem the parser goes on with what was probably meant, so that one mistake gives one message.

mod shape;
mod statements;

use super::lexer::{Keyword, Token, TokenKind, tokens};
use super::source::{FILE_BYTES_MAX, SourceFault, SourceId, Sources, Span};
use super::tree::{Comment, Entry, Volfile, Volume, Word};
use crate::diagnostic::{Code, Diagnostic};
use std::collections::HashSet;

/// The volumes of one file.
pub const VOLUMES_MAX: usize = 4096;
/// The options of one volume.
pub const OPTIONS_PER_VOLUME_MAX: usize = 1024;
/// The subvolumes of one volume.
pub const SUBVOLUMES_PER_VOLUME_MAX: usize = 4096;

/// A tree, complete as far as the text allowed, and what was wrong with the text.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The tree.
    pub tree: Volfile,
    /// The problems in the order they were met; empty means that the text is a volfile.
    pub problems: Vec<Diagnostic>,
}

/// Reads the text numbered `id`.
pub fn parse(sources: &Sources, id: SourceId) -> Parsed {
    let source = sources.get(id);
    let mut problems = Vec::new();
    match source.fault() {
        Some(SourceFault::TooLarge(len)) => {
            let message = format!("the file has {len} bytes; the limit is {FILE_BYTES_MAX}");
            problems.push(Diagnostic::error(Code::Limit, message));
            return Parsed { tree: Volfile::default(), problems };
        }
        Some(SourceFault::NotUtf8(at)) => problems.push(
            Diagnostic::error(Code::Syntax, "the file is not UTF-8")
                .at(replacement_at(source.text(), id, at), "the first byte that is not")
                .help("save it as UTF-8, or check that it is a volfile at all"),
        ),
        None => {}
    }
    let tokens = tokens(id, source.text(), &mut |problem| problems.push(problem));
    let mut parser = Parser { source: id, text: source.text(), tokens, at: 0, names: HashSet::new(), problems };
    let tree = parser.file();
    Parsed { tree, problems: parser.problems }
}

/// The place of the replacement character that stands for the bytes at `at`: before it everything is as it was.
fn replacement_at(text: &str, id: SourceId, at: usize) -> Span {
    let len = text[at..].chars().next().map_or(0, char::len_utf8);
    Span::new(id, at..at + len)
}

struct Parser<'a> {
    source: SourceId,
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    /// The names of the volumes so far: what a word of the list of subvolumes may be.
    names: HashSet<String>,
    problems: Vec<Diagnostic>,
}

/// What stands next, comments aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Keyword(Keyword),
    /// A word that is not quoted and looks like this keyword.
    Near(Keyword),
    Word,
    End,
}

impl<'a> Parser<'a> {
    // ---- looking ----

    /// The index of the next token that is no comment.
    fn peek_at(&self) -> Option<usize> {
        (self.at..self.tokens.len()).find(|i| !matches!(self.tokens[*i].kind, TokenKind::Comment(_)))
    }

    fn next(&self) -> Next {
        self.peek_at().map_or(Next::End, |at| self.classify(at))
    }

    fn classify(&self, at: usize) -> Next {
        match &self.tokens[at].kind {
            TokenKind::Keyword(keyword) => Next::Keyword(*keyword),
            TokenKind::Word { text, quoted: false } => Keyword::near(text).map_or(Next::Word, Next::Near),
            _ => Next::Word,
        }
    }

    fn next_span(&self) -> Span {
        let end = Span::new(self.source, self.text.len()..self.text.len());
        self.peek_at().map_or(end, |at| self.tokens[at].span)
    }

    fn problem(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    fn syntax(&mut self, message: impl Into<String>, span: Span, label: &str) -> &mut Diagnostic {
        self.problems.push(Diagnostic::error(Code::Syntax, message).at(span, label));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    // ---- taking ----

    /// Takes the comments that stand next.
    fn comments(&mut self) -> Vec<Comment> {
        let mut out = Vec::new();
        while let Some(comment) = self.comment() {
            out.push(comment);
        }
        out
    }

    fn comment(&mut self) -> Option<Comment> {
        let token = self.tokens.get(self.at)?;
        let TokenKind::Comment(text) = token.kind else {
            return None;
        };
        let comment = Comment { text: text.to_owned(), span: token.span, after_blank_line: token.after_blank_line };
        self.at += 1;
        Some(comment)
    }

    /// Takes the next token that is no comment; comments before it go to the statement's own.
    fn take<T>(&mut self, entry: &mut Entry<T>) -> Token<'a> {
        while let Some(mut comment) = self.comment() {
            comment.after_blank_line = entry.leading.is_empty() && entry.after_blank_line;
            entry.after_blank_line &= !entry.leading.is_empty();
            entry.leading.push(comment);
        }
        let token = self.tokens[self.at].clone();
        self.at += 1;
        if entry.span.end <= entry.span.start {
            entry.span = token.span;
        } else {
            entry.span = entry.span.to(token.span);
        }
        token
    }

    /// Begins an entry: the comments above and the keyword that stands next.
    fn begin<T>(&mut self, leading: Vec<Comment>, node: T) -> Entry<T> {
        let after_blank_line = self.tokens[self.at].after_blank_line;
        let mut entry = Entry { node, span: Span::default(), leading, trailing: None, after_blank_line };
        self.take(&mut entry);
        entry
    }

    /// Ends an entry: the comment behind it.
    fn finish<T>(&mut self, entry: &mut Entry<T>) {
        if self.tokens.get(self.at).is_some_and(|t| !t.first_of_line) {
            entry.trailing = self.comment();
        }
    }

    fn word_of(token: Token<'a>) -> Word {
        let text = match token.kind {
            TokenKind::Word { text, .. } => text.into_owned(),
            TokenKind::Keyword(keyword) => keyword.as_str().to_owned(),
            TokenKind::Comment(text) => text.to_owned(),
        };
        Word { text, span: token.span }
    }

    /// Takes a word of a statement. A keyword in its place is taken for a word when it is the last of a line that
    /// the statement began, where only a missing pair of quotes makes sense.
    fn word<T>(&mut self, entry: &mut Entry<T>, first_of_line: bool) -> Option<Word> {
        let at = self.peek_at()?;
        let token = &self.tokens[at];
        match token.kind {
            TokenKind::Word { .. } => {}
            TokenKind::Keyword(keyword) => {
                let last_of_line = self.tokens.get(at + 1).is_none_or(|t| t.first_of_line);
                let meant = first_of_line && !token.first_of_line && last_of_line && keyword != Keyword::EndVolume;
                if !meant {
                    return None;
                }
                let span = token.span;
                let word = keyword.as_str();
                self.syntax(format!("`{word}` is a keyword"), span, "").help_fix(
                    "quote it to use it as a word",
                    span,
                    format!("\"{word}\""),
                );
            }
            TokenKind::Comment(_) => return None,
        }
        Some(Self::word_of(self.take(entry)))
    }

    /// Takes the words that stand next on this line.
    fn rest_of_line<T>(&mut self, entry: &mut Entry<T>) -> Vec<Word> {
        let mut out = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            let is_word = matches!(token.kind, TokenKind::Word { .. });
            if !is_word || token.first_of_line {
                break;
            }
            out.push(Self::word_of(self.take(entry)));
        }
        out
    }

    // ---- the file ----

    fn file(&mut self) -> Volfile {
        let mut out = Volfile::default();
        loop {
            let leading = self.comments();
            match self.next() {
                Next::End => {
                    out.closing = leading;
                    break;
                }
                Next::Keyword(Keyword::Volume) => {
                    if !self.volume_or_limit(leading, &mut out) {
                        break;
                    }
                }
                Next::Near(Keyword::Volume) => {
                    self.misspelt(Keyword::Volume);
                    if !self.volume_or_limit(leading, &mut out) {
                        break;
                    }
                }
                _ => self.outside(),
            }
        }
        if out.volumes.is_empty() && self.problems.is_empty() {
            let only = if out.closing.is_empty() { "the file is empty" } else { "the file has only comments" };
            let diagnostic = Diagnostic::error(Code::Syntax, format!("{only}; a volfile has at least one volume"))
                .help("begin with `volume NAME`, `type storage/posix`, `option directory PATH`, `end-volume`");
            self.problem(diagnostic);
        }
        settle_blank_lines(&mut out);
        out
    }

    /// Reads a volume; false when there are too many.
    fn volume_or_limit(&mut self, leading: Vec<Comment>, out: &mut Volfile) -> bool {
        if out.volumes.len() == VOLUMES_MAX {
            let span = self.next_span();
            self.problem(
                Diagnostic::error(Code::Limit, format!("more than {VOLUMES_MAX} volumes in a file"))
                    .at(span, "the rest is not looked at"),
            );
            return false;
        }
        let volume = self.volume(leading);
        out.volumes.push(volume);
        true
    }

    /// Skips what stands between volumes and says so once.
    fn outside(&mut self) {
        let start = self.next_span();
        let first = self.next();
        let mut closed = false;
        let mut last = start;
        while let Some(at) = self.peek_at() {
            if matches!(self.classify(at), Next::Keyword(Keyword::Volume) | Next::Near(Keyword::Volume)) {
                break;
            }
            self.at = at + 1;
            if self.tokens[at].span.start == start.start || !self.tokens[at].first_of_line {
                last = self.tokens[at].span;
            }
            if self.classify(at) == Next::Keyword(Keyword::EndVolume) {
                closed = true;
                break;
            }
        }
        let span = self.first_line_of(start.to(last));
        match first {
            Next::Keyword(Keyword::EndVolume) => {
                self.syntax("`end-volume` without a volume to close", start, "").help_fix(
                    "remove it",
                    start,
                    String::new(),
                );
            }
            Next::Keyword(keyword) => {
                let word = keyword.as_str();
                let d = self.syntax(format!("`{word}` outside a volume"), span, "");
                if closed {
                    d.add_help("a line `volume NAME` is missing above");
                } else {
                    d.add_help("move it between `volume NAME` and `end-volume`");
                }
            }
            _ => {
                let word = shorten(&self.text[start.range()]);
                self.syntax(format!("`{word}` outside a volume"), span, "")
                    .add_help("a volfile consists of volumes: `volume NAME` … `end-volume`");
            }
        }
    }

    fn first_line_of(&self, span: Span) -> Span {
        let text = &self.text[span.range()];
        let end = span.start as usize + text.split('\n').next().unwrap_or(text).trim_end().len();
        Span::new(self.source, span.start as usize..end)
    }

    fn misspelt(&mut self, keyword: Keyword) {
        let span = self.next_span();
        let found = shorten(&self.text[span.range()]);
        let right = keyword.as_str();
        let d = if found.to_lowercase() == right {
            self.syntax(format!("keywords are lower case: `{found}`"), span, "")
        } else {
            self.syntax(format!("unknown keyword `{found}`"), span, "")
        };
        d.help_fix(&format!("write `{right}`"), span, right.to_owned());
    }

    // ---- a volume ----

    fn volume(&mut self, leading: Vec<Comment>) -> Volume {
        let nowhere = Span::new(self.source, 0..0);
        let none = Word { text: String::new(), span: nowhere };
        let first_of_line = self.tokens[self.at].first_of_line;
        let mut head = self.begin(leading, none);
        let keyword = head.span;
        match self.word(&mut head, first_of_line) {
            Some(name) => {
                if name.text.is_empty() {
                    self.syntax("a volume needs a name", name.span, "an empty string is none");
                }
                self.names.insert(name.text.clone());
                head.node = name;
            }
            None => {
                self.syntax("`volume` without a name", keyword, "")
                    .add_help("write `volume NAME`; the name is how other volumes and messages refer to it");
                head.node.span = keyword;
            }
        }
        let extra = self.rest_of_line(&mut head);
        self.too_many(&extra, "`volume` takes one name", head.node.span);
        self.finish(&mut head);
        let mut volume = Volume {
            end: Entry { node: (), span: head.span, leading: Vec::new(), trailing: None, after_blank_line: false },
            head,
            body: Vec::new(),
        };
        self.body(&mut volume);
        self.shape(&volume);
        volume
    }

    fn body(&mut self, volume: &mut Volume) {
        let mut options = 0;
        loop {
            let leading = self.comments();
            let keyword = match self.next() {
                Next::End => return self.unclosed(volume, leading),
                Next::Keyword(keyword) => keyword,
                Next::Near(keyword) => {
                    self.misspelt(keyword);
                    keyword
                }
                Next::Word => {
                    self.stray_words(volume, leading);
                    continue;
                }
            };
            match keyword {
                Keyword::Volume => return self.unclosed(volume, leading),
                Keyword::EndVolume => {
                    volume.end = self.begin(leading, ());
                    self.finish(&mut volume.end);
                    return;
                }
                Keyword::Type => self.type_statement(volume, leading),
                Keyword::Subvolumes => self.subvolumes_statement(volume, leading),
                Keyword::Option => {
                    options += 1;
                    if options == OPTIONS_PER_VOLUME_MAX + 1 {
                        let span = self.next_span();
                        let message = format!("more than {OPTIONS_PER_VOLUME_MAX} options in a volume");
                        self.problem(Diagnostic::error(Code::Limit, message).at(span, "from here on"));
                    }
                    self.option_statement(volume, leading, options <= OPTIONS_PER_VOLUME_MAX);
                }
            }
        }
    }
}

impl<T> Entry<T> {
    fn with<U>(self, node: U) -> Entry<U> {
        Entry {
            node,
            span: self.span,
            leading: self.leading,
            trailing: self.trailing,
            after_blank_line: self.after_blank_line,
        }
    }
}

impl Diagnostic {
    fn add_help(&mut self, text: &str) {
        *self = std::mem::replace(self, Diagnostic::error(self.code, "")).help(text);
    }

    fn help_fix(&mut self, text: &str, span: Span, replacement: String) {
        *self = std::mem::replace(self, Diagnostic::error(self.code, "")).fix(text, vec![(span, replacement)]);
    }
}

/// A word as it may stand in a message: long ones are cut, control characters shown as escapes.
pub(crate) fn shorten(word: &str) -> std::borrow::Cow<'_, str> {
    const SHOWN_CHARS_MAX: usize = 80;
    let long = word.chars().nth(SHOWN_CHARS_MAX).is_some();
    if !long && !word.contains(char::is_control) {
        return word.into();
    }
    let mut out = String::new();
    for c in word.chars().take(SHOWN_CHARS_MAX) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if long {
        out.push('…');
    }
    out.into()
}

/// Forgets the empty lines that the printed form prescribes: one between volumes, none after `volume` and before
/// `end-volume`, none at the top of the file.
fn settle_blank_lines(file: &mut Volfile) {
    let mut first = true;
    for volume in &mut file.volumes {
        *first_gap(&mut volume.head.leading, Some(&mut volume.head.after_blank_line)) = !first;
        first = false;
        if let Some(entry) = volume.body.first_mut() {
            *first_gap(&mut entry.leading, Some(&mut entry.after_blank_line)) = false;
        }
        if volume.body.is_empty() {
            *first_gap(&mut volume.end.leading, Some(&mut volume.end.after_blank_line)) = false;
        }
        volume.end.after_blank_line = false;
    }
    if !file.closing.is_empty() {
        *first_gap(&mut file.closing, None) = !first;
    }
}

fn first_gap<'a>(comments: &'a mut [Comment], own: Option<&'a mut bool>) -> &'a mut bool {
    match (comments.first_mut(), own) {
        (Some(comment), _) => &mut comment.after_blank_line,
        (None, Some(own)) => own,
        (None, None) => unreachable!("callers pass comments or a place of their own"),
    }
}
