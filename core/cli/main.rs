//! The `brickwork` command: one file for each verb, and `daemon` for the process that serves.

mod args;
mod background;
mod brick;
mod client;
mod codes;
mod completion;
mod daemon;
mod dev;
mod dump;
mod explain;
mod failure;
mod grace;
mod graph;
mod helper;
mod instance;
mod locks;
mod mount;
mod mountinfo;
mod output;
mod protocol;
mod registry;
mod remote;
mod spec;
mod stack;
mod status;
mod umount;
mod version;
mod volfile;
mod xlator;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Verb};
use codes::Code;
use failure::{Exit, Failure, Outcome};
use output::Output;

fn main() -> ExitCode {
    if helper::is_meant() {
        return helper::main(|cli| run(cli, Output::new(&cli.globals)));
    }
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli.globals.words = std::env::args_os().skip(1).collect();
    let output = Output::new(&cli.globals);
    match run(&cli, output) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // A process in the background has told the command that started it.
            if !cli.globals.daemonized {
                output.failure(&failure);
            }
            failure.code().exit().into()
        }
    }
}

fn run(cli: &Cli, output: Output) -> Outcome {
    let globals = &cli.globals;
    match &cli.verb {
        Verb::Dev(dev) => dev.run(globals, output),
        Verb::Mount(mount) => mount.run(globals, output),
        Verb::Umount(umount) => umount.run(globals, output),
        Verb::Status(status) => status.run(globals, output),
        Verb::Graph(graph) => graph.run(globals, output),
        Verb::Locks(locks) => locks.run(globals, output),
        Verb::Grace(grace) => grace.run(globals, output),
        Verb::Volfile(volfile) => volfile.run(output),
        Verb::Brick(brick) => brick.run(globals, output),
        Verb::Xlator(xlator) => xlator.run(output),
        Verb::Dump(dump) => dump.run(globals, output),
        Verb::Explain(explain) => explain.run(output),
        Verb::Completion(completion) => completion.run(output),
        Verb::Version => version::run(output),
    }
}

/// Ends for a command line that cannot be read, or that asks for help.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if json && !asked {
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        eprintln!("{}", Failure::new(Code::Usage, what).next("brickwork help").to_json());
    } else {
        // A stdout or stderr that is closed has no reader to tell.
        let _ = error.print();
    }
    if asked { Exit::Done.into() } else { Exit::Usage.into() }
}
