//! Asks instances for their locks.

use brickwork_locks::admin::shapes::ROWS_MAX;

use super::row::Row;
use super::select::Selection;
use crate::args::Globals;
use crate::client::{Client, chosen};
use crate::codes::Code;
use crate::failure::Failure;
use crate::instance::Runtime;
use crate::output::Output;
use crate::protocol::{LocksReport, Request};

/// The locks that are meant, of all bricks that were asked.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that are shown; a brick's and in it an object's together.
    pub rows: Vec<Row>,
    /// How many held ones there are.
    pub held: u64,
    /// How many waiting ones there are.
    pub waiting: u64,
    /// Whether there are more than are shown.
    pub cut: bool,
    /// How many bricks were asked.
    pub bricks: usize,
}

/// Asks every instance that is meant.
///
/// # Errors
/// `NoInstance`, `NoLocks` when none that is meant keeps locks, `NoSuchObject` for a path that no brick has.
pub fn look(globals: &Globals, output: Output, runtime: &Runtime, selection: &Selection) -> Result<Found, Failure> {
    let request =
        Request::Locks { brick: selection.brick.clone(), paths: selection.paths.clone(), ask: selection.ask.clone() };
    let mut found = Found::default();
    let mut unknown = selection.paths.clone();
    for (instance, report) in ask_all::<LocksReport>(globals, output, runtime, &request)? {
        unknown.retain(|path| report.unknown.contains(path));
        for brick in report.bricks {
            found.bricks += 1;
            found.held += brick.list.held;
            found.waiting += brick.list.waiting;
            found.cut |= brick.list.cut;
            let row = |lock| Row { instance: instance.clone(), brick: brick.brick.clone(), lock };
            found.rows.extend(brick.list.locks.into_iter().map(row));
        }
    }
    match unknown.first() {
        None => Ok(found),
        Some(path) => Err(Failure::new(Code::NoSuchObject, format!("no brick has `{path}`"))
            .next("paths are those in the volume, as brickwork locks list shows them")),
    }
}

/// Asks every instance that is meant, and returns what those say that keep locks.
///
/// # Errors
/// `NoInstance`; when none keeps locks, why not.
pub fn ask_all<T: serde::de::DeserializeOwned>(
    globals: &Globals,
    output: Output,
    runtime: &Runtime,
    request: &Request,
) -> Result<Vec<(String, T)>, Failure> {
    let (mut told, mut silent): (Vec<(String, T)>, Vec<Failure>) = (Vec::new(), Vec::new());
    for name in chosen(globals, runtime)? {
        match Client::connect(runtime, &name, globals.timeout).and_then(|mut client| client.ask(request)) {
            Ok(answer) => told.push((name, answer)),
            Err(failure) => silent.push(failure),
        }
    }
    // Mounts of bricks elsewhere keep no locks: that is worth a word only when nobody does.
    let is_mount = |failure: &Failure| failure.code() == Code::NoLocks;
    match silent.iter().find(|failure| !is_mount(failure)).or(silent.first().filter(|_| told.is_empty())) {
        Some(failure) if told.is_empty() => Err(failure.clone()),
        // The others are there to be seen; who is silent is a problem that is told beside them.
        Some(failure) => {
            output.failure(failure);
            Ok(told)
        }
        None => Ok(told),
    }
}

impl Found {
    /// What is to be known about an answer that does not show everything.
    #[must_use]
    pub fn cut_note(&self) -> Option<String> {
        let shown = self.rows.len();
        let all = self.held + self.waiting;
        self.cut.then(|| {
            format!("{shown} of {all} are shown (at most {ROWS_MAX} of each brick): select by path, client or brick")
        })
    }
}
