//! `compare NAME=DIR...`: does the same work in each folder, turn by turn, and prints medians and ratios.
//!
//! The folders are the same disk seen in different ways: through a mount of ours, through the passthrough, directly.
//! Other load on the machine hits all alike when their turns alternate, so the ratio of a row is the median of the
//! ratios of its rounds, not the ratio of two medians. The order of the targets shifts by one from round to round.

mod data;
mod locks;
mod metadata;
mod report;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use crate::report::{Report, Row};
use crate::target::Target;

const USAGE: &str = "usage: compare [--locks] [--quick] [--rounds N] [--only TEXT] [--ratio NAME/NAME]... [--require RATIO] \
                     [--json FILE] NAME=DIR...";

struct Options {
    /// Locks instead of data and names.
    locks: bool,
    quick: bool,
    rounds: usize,
    only: String,
    /// Which targets are divided by which; without any, each by the next.
    ratios: Vec<(String, String)>,
    /// What the first of the ratios has to reach, in rows without a target of their own.
    require: f64,
    json: Option<PathBuf>,
    targets: Vec<Target>,
}

impl Options {
    fn none() -> Options {
        let (only, ratios, targets) = (String::new(), Vec::new(), Vec::new());
        Options { locks: false, quick: false, rounds: 5, only, ratios, require: 0.0, json: None, targets }
    }

    /// The ratios, as places of their targets.
    fn pairs(&self) -> Result<Vec<(usize, usize)>, String> {
        if self.ratios.is_empty() {
            return Ok((1..self.targets.len()).map(|right| (right - 1, right)).collect());
        }
        let place = |name: &String| {
            self.targets.iter().position(|target| target.name == *name).ok_or(format!("no target is named {name}"))
        };
        self.ratios.iter().map(|(left, right)| Ok((place(left)?, place(right)?))).collect()
    }
}

/// One piece of work; it yields one figure per row of the table.
enum Work {
    Data(data::Job),
    Metadata(metadata::Job),
    Locks(locks::Job),
}

impl Work {
    /// The rows this work fills.
    fn rows(&self) -> Vec<Row> {
        let row = |title, unit| Row { title, unit, floor: None };
        match self {
            Self::Data(job) => vec![row(job.title(), job.unit())],
            Self::Metadata(job) => job.titles().into_iter().map(|title| row(title, "ops/s")).collect(),
            Self::Locks(job) => vec![Row { floor: Some(job.floor()), ..row(job.title(), "pair/s") }],
        }
    }

    /// Does the work in `target`: one rate per row.
    fn run(&self, target: &Target) -> io::Result<Vec<f64>> {
        match self {
            Self::Data(job) => Ok(vec![job.run(target)?]),
            Self::Metadata(job) => job.run(target),
            Self::Locks(job) => Ok(vec![job.run(target)?]),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((locks::WORKER, arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return match locks::work(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("compare: {message}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match compare(&options) {
        Ok(met) if met => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::none();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--locks" => options.locks = true,
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
            "--only" => options.only = value()?,
            "--ratio" => {
                let value = value()?;
                let (left, right) = value.split_once('/').ok_or("--ratio needs NAME/NAME")?;
                options.ratios.push((left.to_owned(), right.to_owned()));
            }
            "--require" => options.require = value()?.parse().map_err(|_| "--require needs a ratio")?,
            "--json" => options.json = Some(value()?.into()),
            pair => {
                let (name, directory) = pair.split_once('=').ok_or(format!("{pair} is not NAME=DIR"))?;
                options.targets.push(Target::open(name, directory).map_err(|error| format!("{directory}: {error}"))?);
            }
        }
    }
    match (options.targets.len(), options.rounds) {
        (0, _) => Err("no targets".to_owned()),
        (_, 0) => Err("no rounds".to_owned()),
        _ => options.pairs().map(|_| options),
    }
}

/// Runs everything and reports; whether every ratio reached what was required.
fn compare(options: &Options) -> io::Result<bool> {
    let work = selected(options);
    let rows = work.iter().flat_map(Work::rows).collect();
    let targets = options.targets.iter().map(|target| target.name.clone()).collect();
    let mut report = Report::new(rows, targets, options.pairs().map_err(io::Error::other)?);
    for target in options.targets.iter().filter(|_| !options.locks) {
        data::prepare(target, data::file_bytes(options.quick))?;
    }
    for round in 0..options.rounds {
        let mut row = 0;
        for piece in &work {
            let count = piece.rows().len();
            for turn in 0..options.targets.len() {
                let index = (turn + round) % options.targets.len();
                let rates = piece.run(&options.targets[index])?;
                report.add(row, index, &rates);
            }
            row += count;
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    print!("{}", report.table(options.require));
    if let Some(path) = &options.json {
        fs::write(path, report.json(options.quick, options.rounds))?;
    }
    Ok(report.meets(options.require))
}

fn selected(options: &Options) -> Vec<Work> {
    let wanted = |work: &Work| work.rows().iter().any(|row| row.title.contains(&options.only));
    if options.locks {
        return locks::Job::all(options.quick).into_iter().map(Work::Locks).filter(wanted).collect();
    }
    let data = data::Job::all(options.quick).into_iter().map(Work::Data);
    let metadata = metadata::Job::all(options.quick).into_iter().map(Work::Metadata);
    data.chain(metadata).filter(wanted).collect()
}
