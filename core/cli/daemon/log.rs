//! The log of a serving process: to stderr, as text or JSON, as much as BRICKWORK_LOG asks for.

use std::io::IsTerminal;

use brickwork_graph::check::Checked;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object in a line.
    Json,
}

/// Starts logging what the command line `asked` for; else what BRICKWORK_LOG says (`debug`, `info,brickwork_fuse=trace`);
/// else what is at least `least`.
pub fn start(format: Format, asked: Option<&str>, least: &str) {
    let filter = match asked {
        Some(asked) => EnvFilter::new(asked),
        None => EnvFilter::try_from_env("BRICKWORK_LOG").unwrap_or_else(|_| EnvFilter::new(least)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if let Err(error) = started {
        // Somebody else in this process logs already: then everything goes there.
        tracing::debug!(%error, "logging was started before");
    }
}

/// Logs what a check found, a line for each.
pub fn findings(checked: &Checked) {
    for finding in &checked.findings {
        tracing::warn!("{}", finding.one_line(&checked.sources));
    }
}
