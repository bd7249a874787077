//! The syntax tree of a volfile: what was written, where, with its comments.
//!
//! Equality of [`Word`], [`Comment`] and all above ignores places, so that two texts can be compared by what they say.

use super::source::Span;

/// A whole volfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volfile {
    /// The volumes in the order of the text.
    pub volumes: Vec<Volume>,
    /// Comments after the last volume.
    pub closing: Vec<Comment>,
}

/// `volume NAME … end-volume`.
///
/// In a tree that the parser made without finding anything, `body` holds one type, then options and at most one
/// subvolumes statement. In a broken one anything may be missing or doubled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name and the comments around.
    pub head: Entry<Word>,
    /// The statements in the order of the text.
    pub body: Vec<Entry<Statement>>,
    /// `end-volume`, with the comments before it.
    pub end: Entry<()>,
}

impl Volume {
    /// The name.
    pub fn name(&self) -> &Word {
        &self.head.node
    }

    /// The type, the first one if there are several; `None` in a broken volume.
    pub fn kind(&self) -> Option<&Word> {
        self.body.iter().find_map(|entry| match &entry.node {
            Statement::Type(word) => Some(word),
            _ => None,
        })
    }

    /// The options: key, value and the whole statement's place.
    pub fn options(&self) -> impl Iterator<Item = (&Word, &Word, Span)> {
        self.body.iter().filter_map(|entry| match &entry.node {
            Statement::Option { key, value } => Some((key, value, entry.span)),
            _ => None,
        })
    }

    /// Whether a problem at `span` is one of an option's value or keyword, so that no other statement can be hidden in
    /// what was misread.
    pub(crate) fn is_whole_despite(&self, span: Span) -> bool {
        self.body.iter().any(|entry| match &entry.node {
            Statement::Option { key, value } => {
                let inside = entry.span.start <= span.start && span.end <= entry.span.end;
                inside && (span.start >= value.span.start || span.end <= key.span.start)
            }
            _ => false,
        })
    }

    /// The names after `subvolumes`.
    pub fn subvolumes(&self) -> impl Iterator<Item = &Word> {
        self.body.iter().flat_map(|entry| match &entry.node {
            Statement::Subvolumes(words) => words.as_slice(),
            _ => &[],
        })
    }
}

/// One statement of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `type WORD`
    Type(Word),
    /// `option KEY VALUE`
    Option {
        /// The name.
        key: Word,
        /// The value.
        value: Word,
    },
    /// `subvolumes WORD…`
    Subvolumes(Vec<Word>),
}

/// Something with a line of its own and the comments that belong to it.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// What it is.
    pub node: T,
    /// From its keyword to its last word.
    pub span: Span,
    /// Comments on lines before it.
    pub leading: Vec<Comment>,
    /// The comment behind it on the same line.
    pub trailing: Option<Comment>,
    /// Whether an empty line stands right before it, below its leading comments.
    pub after_blank_line: bool,
}

impl<T: PartialEq> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.leading == other.leading
            && self.trailing == other.trailing
            && self.after_blank_line == other.after_blank_line
    }
}

impl<T: Eq> Eq for Entry<T> {}

/// A word or the content of a string.
#[derive(Debug, Clone)]
pub struct Word {
    /// The value, without quotes and escapes.
    pub text: String,
    /// Its place, with the quotes.
    pub span: Span,
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Word {}

/// `#` and the rest of the line, without blanks at its end.
#[derive(Debug, Clone)]
pub struct Comment {
    /// The text, with its `#`.
    pub text: String,
    /// Its place.
    pub span: Span,
    /// Whether an empty line stands before it.
    pub after_blank_line: bool,
}

impl PartialEq for Comment {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.after_blank_line == other.after_blank_line
    }
}

impl Eq for Comment {}
