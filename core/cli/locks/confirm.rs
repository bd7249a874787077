//! Asks before something that could lose data.

use std::io::{BufRead, IsTerminal, Write};

use crate::codes::Code;
use crate::failure::Failure;

/// Asks for `word` to be typed, unless `yes` was said on the command line.
///
/// # Errors
/// `Unconfirmed` for anything else that is typed, also for nothing.
pub fn confirm(question: &str, word: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    // A question that cannot be shown is answered by nobody.
    let _ = write!(std::io::stderr(), "{question} type {word} to confirm: ");
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if !std::io::stdin().is_terminal() {
        let _ = writeln!(std::io::stderr());
    }
    let refused = |why: String| {
        Failure::new(Code::Unconfirmed, "nothing was changed").because(why).next("-y in a script; --dry-run only shows")
    };
    match read {
        Err(error) => Err(refused(error.to_string())),
        Ok(_) if typed.trim() == word => Ok(()),
        Ok(_) => Err(refused(format!("what was typed is not `{word}`"))),
    }
}
