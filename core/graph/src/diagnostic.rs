//! What the check of a volfile has to say: a value first, text or JSON when somebody asks.
//!
//! Always true:
//! - every diagnostic has a stable [`Code`] with a page in `explain`;
//! - no rendering shows a secret: [`Diagnostic`]s are built without them, and the lines of the file that stand around
//!   a finding are masked before they are shown.

mod json;
mod mask;
mod render;

use crate::volfile::{SourceId, Sources, Span};
use std::fmt;
use std::time::Duration;

pub use mask::{MASK, is_secret_key, shown_value};
pub use render::Look;

/// The findings kept for one file; the rest is counted. Every one costs the reader time, and a broken first line can
/// break all others.
pub const DIAGNOSTICS_MAX: usize = 200;

macro_rules! codes {
    ($($variant:ident = $number:literal, $title:literal;)*) => {
        /// What kind of finding it is. The numbers are stable: scripts and documentation refer to them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All codes in order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code as it is written: `V0004`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => concat!("V", $number),)* }
            }

            /// What it is about, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    UnclosedVolume = "0001", "a volume without `end-volume`";
    DuplicateVolume = "0002", "two volumes of one name";
    UnknownType = "0003", "an xlator type that is not here";
    UnknownOption = "0004", "an option that the xlator does not have";
    BadValue = "0005", "a value that the option does not take";
    MissingOption = "0006", "a required option is missing";
    UndefinedSubvolume = "0007", "a subvolume that is not defined before its use";
    Cycle = "0008", "volumes that stand on each other in a circle";
    Arity = "0009", "too few or too many subvolumes";
    Unreachable = "0010", "several tops, or a volume below none";
    Deprecated = "0011", "an option under an old name, or one that will go";
    OrderHazard = "0012", "an order of layers that works against its purpose";
    SharedDirectory = "0013", "two bricks in one directory, or one inside the other";
    Secret = "0014", "a secret in plain text";
    Backtick = "0015", "a shell command in backticks";
    PluginAbi = "0016", "a plugin built for another interface";
    DuplicateOption = "0017", "an option given twice";
    Syntax = "0018", "text that is not a volfile";
    Limit = "0019", "a limit is passed";
    WithoutEffect = "0020", "accepted, and nothing is done for it";
    SwitchedOn = "0021", "a feature of GlusterFS is switched on that is not here";
    CommandLine = "0022", "the command line asks for something the volfile does not have";
}

impl Code {
    /// Whether edits of such findings may be applied unseen: they correct the spelling of what is there. Those that
    /// choose another volume, value or layer, or take a layer or an option out, are for a person to decide.
    pub fn fixes_only_spelling(self) -> bool {
        matches!(self, Code::UnclosedVolume | Code::UnknownType | Code::UnknownOption | Code::Syntax)
    }

    /// Reads a code as a person types it: `V0004`, `v4` or `4`.
    pub fn parse(text: &str) -> Option<Code> {
        let digits = text.trim().trim_start_matches(['v', 'V']);
        let number: usize = digits.parse().ok()?;
        Code::ALL.iter().copied().find(|code| code.as_str()[1..].parse() == Ok(number))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// No graph is built.
    Error,
    /// A graph is built; probably not the one that was meant.
    Warning,
    /// A graph is built; the reader should know a consequence.
    Notice,
}

impl Severity {
    /// The word shown before the code.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// Some underlined text with the words beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The words; may be empty.
    pub text: String,
}

/// The corrected text, to be applied all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Replacements that do not overlap; an empty span inserts.
    pub edits: Vec<(Span, String)>,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Help {
    /// In words.
    pub message: String,
    /// As an edit, where there is exactly one plausible one.
    pub fix: Option<Fix>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, with the values in it; lower case, no full stop.
    pub message: String,
    /// Where, if it is at a place: a missing root is not.
    pub primary: Option<Label>,
    /// Other places that explain it.
    pub labels: Vec<Label>,
    /// Facts that help to judge it.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<Help>,
}

impl Diagnostic {
    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            primary: None,
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// Begins an error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Begins a warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Begins a notice.
    pub fn notice(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, message)
    }

    /// Says where, with words beside the underlining (may be empty).
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: text.into() });
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(Help { message: text.into(), fix: None });
        self
    }

    /// Says what to do and offers the edit that does it.
    #[must_use]
    pub fn fix(mut self, text: impl Into<String>, edits: Vec<(Span, String)>) -> Self {
        self.help = Some(Help { message: text.into(), fix: Some(Fix { edits }) });
        self
    }

    /// Whether its edit removes something that the file says well, but that is not known here.
    fn takes_a_statement_out(&self) -> bool {
        let fix = self.help.as_ref().and_then(|help| help.fix.as_ref());
        let removes = fix.is_some_and(|fix| fix.edits.iter().any(|(_, text)| text.is_empty()));
        removes && matches!(self.code, Code::UnknownType | Code::UnknownOption)
    }

    /// The finding as one line: `stack.vol:14:12: unknown option …`, for logs and one-line answers.
    pub fn one_line(&self, sources: &Sources) -> String {
        match &self.primary {
            Some(label) => {
                let source = sources.get(label.span.source);
                let place = source.position(label.span.start);
                format!("{}:{place}: {}", source.name(), self.message)
            }
            None => match sources.iter().next() {
                Some((_, source)) => format!("{}: {}", source.name(), self.message),
                None => self.message.clone(),
            },
        }
    }
}

/// The findings about one volfile, in the order of their places, with what is needed to show them.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding. Beyond [`DIAGNOSTICS_MAX`] it is only counted; but an error takes the place of a lesser one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Notice => {}
        }
        if self.list.len() < DIAGNOSTICS_MAX {
            self.list.push(diagnostic);
            return;
        }
        self.dropped += 1;
        if diagnostic.severity == Severity::Error && self.errors <= DIAGNOSTICS_MAX {
            let lesser = self.list.iter_mut().rev().find(|kept| kept.severity != Severity::Error);
            lesser.into_iter().for_each(|kept| *kept = diagnostic.clone());
        }
    }

    /// Whether there are as many errors as are kept: further ones need no details.
    pub fn is_full_of_errors(&self) -> bool {
        self.errors >= DIAGNOSTICS_MAX
    }

    /// Puts the findings in the order of their places; what has no place comes last.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| {
            let span = diagnostic.primary.as_ref().map(|label| label.span);
            (span.is_none(), span, diagnostic.code)
        });
    }

    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many errors, also those beyond [`DIAGNOSTICS_MAX`].
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// How many warnings, also those beyond [`DIAGNOSTICS_MAX`].
    pub fn warning_count(&self) -> usize {
        self.warnings
    }

    /// How many findings were counted and not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The findings of the first text whose edits may be applied unseen.
    pub fn applicable(&self) -> impl Iterator<Item = &Diagnostic> {
        let in_file = |fix: &Fix| fix.edits.iter().all(|(span, _)| span.source == SourceId(0));
        self.list
            .iter()
            .filter(|d| d.code.fixes_only_spelling())
            .filter(move |d| d.help.as_ref().and_then(|help| help.fix.as_ref()).is_some_and(in_file))
            .filter(|d| !d.takes_a_statement_out())
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

/// The last line of a report: counts of findings, xlators and lines, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The volumes of the file.
    pub xlators: usize,
    /// Its lines.
    pub lines: usize,
    /// How long the check took; `None` leaves it out, which golden files need.
    pub elapsed: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        assert_eq!(Code::parse("V0004"), Some(Code::UnknownOption));
        assert_eq!(Code::parse("v4"), Some(Code::UnknownOption));
        assert_eq!(Code::parse("4"), Some(Code::UnknownOption));
        assert_eq!(Code::parse("V9999"), None);
        assert_eq!(Code::parse("E0004"), None);
    }

    #[test]
    fn codes_are_numbered_without_gaps() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str(), format!("V{:04}", index + 1));
        }
    }

    #[test]
    fn findings_beyond_the_limit_are_counted_and_not_kept() {
        let mut found = Diagnostics::new();
        for _ in 0..=DIAGNOSTICS_MAX {
            found.push(Diagnostic::error(Code::Syntax, "x"));
        }
        assert_eq!(found.iter().count(), DIAGNOSTICS_MAX);
        assert_eq!(found.dropped(), 1);
        assert_eq!(found.error_count(), DIAGNOSTICS_MAX + 1);
    }

    #[test]
    fn an_error_beyond_the_limit_is_shown_in_the_place_of_a_warning() {
        let mut found = Diagnostics::new();
        for _ in 0..DIAGNOSTICS_MAX {
            found.push(Diagnostic::warning(Code::Secret, "x"));
        }
        found.push(Diagnostic::error(Code::Syntax, "y"));
        assert_eq!(found.iter().count(), DIAGNOSTICS_MAX);
        assert_eq!(found.iter().filter(|d| d.severity == Severity::Error).count(), 1);
    }
}
