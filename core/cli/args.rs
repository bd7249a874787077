//! The command line: every verb with what it takes.

use std::ffi::OsString;
use std::time::Duration;

use brickwork_api::options::{OptionValue, Seconds};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{brick, completion, dev, dump, explain, grace, graph, locks, mount, status, umount, volfile, xlator};

/// A distributed file system of stackable translators whose locks survive.
#[derive(Parser, Debug)]
#[command(name = "brickwork", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub color: Colour,
    /// The instance to talk to; needed when more than one runs
    #[arg(short, long, global = true, env = "BRICKWORK_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
    /// How long to wait for an answer of an instance
    #[arg(long, global = true, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
    /// Set on the process that is left in the background: it reports on its stdout
    #[arg(long, global = true, hide = true)]
    pub daemonized: bool,
    /// The command line behind the name of the command, to start it again
    #[arg(skip)]
    pub words: Vec<OsString>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Start a playground: a brick, a graph and a mount in one command, without root
    Dev(dev::Dev),
    /// Mount a volume: one that bricks on other machines serve, or one that a volfile describes
    Mount(Box<mount::Mount>),
    /// Unmount, and wait until the process behind the mount has ended
    Umount(umount::Umount),
    /// Show what runs, problems first
    Status(status::Status),
    /// Show a running graph
    #[command(subcommand)]
    Graph(graph::Graph),
    /// Show and change the locks of bricks
    #[command(subcommand)]
    Locks(locks::Locks),
    /// Show or end the grace of a brick that lost its journal of locks
    #[command(subcommand)]
    Grace(grace::Grace),
    /// Check or format volfiles
    #[command(subcommand)]
    Volfile(volfile::Volfile),
    /// Serve bricks and take care of their directories
    #[command(subcommand)]
    Brick(brick::Brick),
    /// Show the types of xlators and their options
    #[command(subcommand)]
    Xlator(xlator::Xlator),
    /// Write down everything an instance knows about itself
    Dump(dump::Dump),
    /// Explain the code of an error or finding
    Explain(explain::Explain),
    /// Print a completion script for a shell
    Completion(completion::Completion),
    /// Print the version
    Version,
}

/// Reads a span of time as volfiles spell it.
pub fn duration(text: &str) -> Result<Duration, String> {
    Seconds::parse(text).map(|seconds| seconds.0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_spelled_as_in_volfiles() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").is_err());
    }
}
