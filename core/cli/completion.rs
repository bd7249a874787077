//! `brickwork completion`: a script that lets a shell complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::{Exit, Outcome};
use crate::output::Output;

/// Print a completion script for a shell.
///
/// For bash: brickwork completion bash > ~/.local/share/bash-completion/completions/brickwork
#[derive(clap::Args, Debug)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the script; with `--json`, as a document.
    pub fn run(&self, output: Output) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "brickwork", &mut script);
        let script = String::from_utf8_lossy(&script);
        if output.is_json() {
            let item = serde_json::json!({"shell": self.shell.to_string(), "script": script});
            output.document("CompletionScript", &[item])?;
        } else {
            output.text(&script)?;
        }
        Ok(Exit::Done)
    }
}
