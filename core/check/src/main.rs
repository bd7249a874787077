//! `lock-history LOG...`: proves from the logs of several processes that the laws of locks held, or shows where not.
//!
//! Answers 0 when they held, 1 when not, 2 when the logs cannot be read.

use std::path::PathBuf;
use std::process::ExitCode;

use brickwork_check::history::History;
use brickwork_check::verdict::Rules;

const USAGE: &str = "usage: lock-history [--losses] [--settle SECONDS] LOG...

Checks the logs of processes that locked, read and wrote files; each LOG is of one process.

  --losses            locks may be lost if their owners are told by EIO
  --settle SECONDS    how long locks of what was closed may still be in the way of others (default 5)

Exit status: 0 the laws held, 1 they did not, 2 the logs cannot be read.";

/// What the command line asks for.
struct Asked {
    rules: Rules,
    logs: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args_os().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match History::read(&asked.logs) {
        Err(malformed) => {
            eprintln!("{malformed}");
            ExitCode::from(2)
        }
        Ok(history) => {
            let verdict = history.check(&asked.rules);
            print!("{}", verdict.report(&history));
            if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
    }
}

/// The command line; `None` asks for help.
fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Asked>, String> {
    let mut asked = Asked { rules: Rules::default(), logs: Vec::new() };
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(None),
            Some("--losses") => asked.rules.losses = true,
            Some("--settle") => {
                let value = arguments.next().ok_or("`--settle` needs seconds")?;
                let seconds: Option<u64> = value.to_str().and_then(|value| value.parse().ok());
                let nanoseconds = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
                asked.rules.settle = nanoseconds.ok_or_else(|| format!("{value:?} is no number of seconds"))?;
            }
            Some(option) if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            _ => asked.logs.push(argument.into()),
        }
    }
    if asked.logs.is_empty() {
        return Err("no log is named".to_owned());
    }
    Ok(Some(asked))
}
