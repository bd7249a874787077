//! The text of a volfile: its tokens, its tree, its canonical print.
//!
//! The grammar is GlusterFS's, except that text in backticks is refused, not run. Nothing here knows an xlator:
//! whether types, options and the graph make sense is [`crate::check`]'s part.

mod lexer;
mod parser;
mod printer;
mod source;
mod tree;

pub use lexer::{Keyword, WORD_BYTES_MAX};
pub(crate) use parser::shorten;
pub use parser::{OPTIONS_PER_VOLUME_MAX, Parsed, SUBVOLUMES_PER_VOLUME_MAX, VOLUMES_MAX, parse};
pub use printer::{print, word as printed_word};
pub use source::{COMMAND_LINE, FILE_BYTES_MAX, Position, Source, SourceFault, SourceId, Sources, Span};

/// Reads, checks, prints and shows `data`, whatever it is, with no types but those of [`crate::compat`]: the body of
/// the fuzz target. The tests do the same with types.
///
/// # Panics
/// On what would be a bug.
pub fn fuzz_volfile(data: &[u8]) {
    crate::check::fuzz_volfile(data, &crate::registry::Registry::default());
}

pub use tree::{Comment, Entry, Statement, Volfile, Volume, Word};
