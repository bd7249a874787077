//! L3 and L4: what is read under a lock is what was written last; each increment and each append happened once.
//!
//! Writes of cells are made under exclusive locks, so that they have an order. A write that never returned, or failed, may
//! have happened or not; if it did, then before another owner got a lock that its own excluded.

use std::collections::{BTreeMap, HashMap};

use crate::history::History;
use crate::holds::Holds;
use crate::log::{Answer, Call, Line, Span, What};
use crate::verdict::{Law, Violation, seconds};

/// A cell: its file and where it begins.
type CellId = (u32, u64);

/// A write, or what stands for several of the same token.
#[derive(Clone, Copy)]
struct Written {
    from: u64,
    /// It has happened by then, if it has.
    until: u64,
    /// It has happened.
    acknowledged: bool,
    place: Option<usize>,
}

/// A read under a lock, or what the cell was found to hold in the end.
struct Read {
    token: u64,
    from: u64,
    until: u64,
    place: Option<usize>,
}

#[derive(Default)]
struct Cell {
    writes: HashMap<u64, Written>,
    reads: Vec<Read>,
    acknowledged: u64,
    uncertain: u64,
}

/// Checks all cells and appends.
pub(crate) fn check(history: &History, holds: &Holds) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut cells: BTreeMap<CellId, Cell> = BTreeMap::new();
    let bounds = Bounds::of(history, holds);
    for (place, operation) in history.operations.iter().enumerate() {
        match (&operation.does, operation.returned) {
            (Call::Write { at, token, .. }, returned) => {
                let cell = cells.entry((operation.file, *at)).or_default();
                let acknowledged = matches!(returned, Some((_, Answer::Ok)));
                let until = if acknowledged { operation.ended() } else { bounds.of_write(place) };
                let written = Written { from: operation.invoked, until, acknowledged, place: Some(place) };
                violations.extend(cell.write(*token, written));
            }
            (Call::Read { at, .. }, Some((until, Answer::Token(token)))) if holds.covered[place] => {
                let cell = cells.entry((operation.file, *at)).or_default();
                cell.reads.push(Read { token, from: operation.invoked, until, place: Some(place) });
            }
            _ => (),
        }
    }
    for line in &history.notes {
        if let What::Cell { file, at, token, counts } = line.is {
            let cell = cells.entry((file, at)).or_default();
            cell.reads.push(Read { token, from: line.at, until: line.at + 1, place: None });
            violations.extend(counts.then(|| cell.count(token, line.at)).flatten());
        }
    }
    violations.extend(cells.iter().flat_map(|(&(file, at), cell)| cell.check(file, at)));
    violations.extend(appends(history));
    violations
}

impl Cell {
    fn write(&mut self, token: u64, written: Written) -> Option<Violation> {
        if written.acknowledged {
            self.acknowledged += 1;
        } else {
            self.uncertain += 1;
        }
        let before = self.writes.insert(token, written)?;
        // Whichever it is that a reader sees.
        let (from, until) = (before.from.min(written.from), before.until.max(written.until));
        let acknowledged = before.acknowledged || written.acknowledged;
        self.writes.insert(token, Written { from, until, acknowledged, ..written });
        // One that is uncertain need not have happened: then nothing is lost.
        (before.acknowledged && written.acknowledged).then(|| Violation {
            law: Law::L4,
            at: written.from,
            why: format!("{token:#x} was written twice: one of two updates is lost"),
            operations: [before.place, written.place].into_iter().flatten().collect(),
        })
    }

    /// A counter holds the number of its increments.
    fn count(&self, token: u64, at: u64) -> Option<Violation> {
        let most = self.acknowledged + self.uncertain;
        (token < self.acknowledged || token > most).then(|| Violation {
            law: Law::L4,
            at,
            why: format!(
                "after {} increments, and {} uncertain ones, the counter is {token}",
                self.acknowledged, self.uncertain
            ),
            operations: Vec::new(),
        })
    }

    /// Each read sees what no other write or read certainly came after.
    fn check(&self, file: u32, at: u64) -> Vec<Violation> {
        // What the cell held at some moments: beginning, end, token, and who says so.
        let written = self.writes.iter().filter(|(_, written)| written.acknowledged);
        let written = written.map(|(&token, written)| (written.from, written.until, token, written.place));
        let read = self.reads.iter().map(|read| (read.from, read.until, read.token, read.place));
        let mut known: Vec<(u64, u64, u64, Option<usize>)> = written.chain(read).collect();
        known.sort_unstable_by_key(|&(_, until, ..)| until);
        let mut reads: Vec<&Read> = self.reads.iter().collect();
        reads.sort_unstable_by_key(|read| read.from);
        let (mut latest, mut next) = (Latest::default(), 0);
        let mut violations = Vec::new();
        for read in reads {
            while let Some(&(from, _, token, place)) = known.get(next).filter(|(_, until, ..)| *until <= read.from) {
                latest.take(from, token, place);
                next += 1;
            }
            let initial = Written { from: 0, until: 0, acknowledged: true, place: None };
            let written = self.writes.get(&read.token).copied().or((read.token == 0).then_some(initial));
            let why = match written {
                None => format!("{:#x} in cell {at} of file {file} was never written", read.token),
                Some(written) if written.from >= read.until => {
                    format!("{:#x} in cell {at} of file {file} is read before it is written", read.token)
                }
                Some(written) => match latest.other_than(read.token).filter(|(from, ..)| *from >= written.until) {
                    None => continue,
                    Some((from, token, place)) => {
                        let what = format!("{token:#x} was there after {}", seconds(from));
                        violations.push(stale(
                            read,
                            written.place,
                            place,
                            format!("{:#x} is read, but {what}", read.token),
                        ));
                        continue;
                    }
                },
            };
            violations.push(stale(read, written.and_then(|written| written.place), None, why));
        }
        violations
    }
}

fn stale(read: &Read, written: Option<usize>, other: Option<usize>, why: String) -> Violation {
    Violation {
        law: Law::L3,
        at: read.from,
        why,
        operations: [written, other, read.place].into_iter().flatten().collect(),
    }
}

/// Of all that was known so far, what began last, and what began last with another token.
#[derive(Default)]
struct Latest {
    first: Option<(u64, u64, Option<usize>)>,
    second: Option<(u64, u64, Option<usize>)>,
}

impl Latest {
    fn take(&mut self, from: u64, token: u64, place: Option<usize>) {
        let new = Some((from, token, place));
        match self.first {
            Some((first, same, _)) if same == token => {
                if from > first {
                    self.first = new;
                }
            }
            Some((first, ..)) if from > first => {
                self.second = self.first;
                self.first = new;
            }
            Some(_) if self.second.is_none_or(|(second, ..)| from > second) => self.second = new,
            Some(_) => (),
            None => self.first = new,
        }
    }

    fn other_than(&self, token: u64) -> Option<(u64, u64, Option<usize>)> {
        self.first.filter(|(_, first, _)| *first != token).or(self.second)
    }
}

/// By when a write that was not acknowledged has happened, if it has.
struct Bounds<'a> {
    history: &'a History,
    holds: &'a Holds,
    /// Grants of each file in the order of their returns.
    grants: HashMap<u32, Vec<(u64, usize)>>,
}

impl<'a> Bounds<'a> {
    fn of(history: &'a History, holds: &'a Holds) -> Bounds<'a> {
        let mut grants: HashMap<u32, Vec<(u64, usize)>> = HashMap::new();
        for (place, operation) in history.operations.iter().enumerate() {
            if let (Call::Lock { .. }, Some((at, Answer::Ok))) = (&operation.does, operation.returned) {
                grants.entry(operation.file).or_default().push((at, place));
            }
        }
        grants.values_mut().for_each(|grants| grants.sort_unstable());
        Bounds { history, holds, grants }
    }

    fn of_write(&self, place: usize) -> u64 {
        let write = &self.history.operations[place];
        let (Call::Write { at, .. }, true) = (&write.does, self.holds.covered[place]) else { return u64::MAX };
        let grants = self.grants.get(&write.file).map_or(&[][..], Vec::as_slice);
        let later = &grants[grants.partition_point(|&(granted, _)| granted <= write.invoked)..];
        let excluded = later.iter().find(|&&(_, grant)| {
            let covers = matches!(self.history.operations[grant].does, Call::Lock { span, .. } if span.overlaps(Span::cell(*at)));
            covers && self.holds.owners[grant] != self.holds.owners[place]
        });
        excluded.map_or(u64::MAX, |&(granted, _)| granted)
    }
}

/// Each acknowledged append is in its file once, after those that were acknowledged before it began.
fn appends(history: &History) -> Vec<Violation> {
    let found = |note: &Line| match &note.is {
        What::Appended { file, tokens } => Some((*file, note.at, tokens.clone())),
        _ => None,
    };
    history
        .notes
        .iter()
        .filter_map(found)
        .flat_map(|(file, at, tokens)| appends_to(history, file, at, &tokens))
        .collect()
}

fn appends_to(history: &History, file: u32, at: u64, tokens: &[u64]) -> Vec<Violation> {
    let violation = |why: String, operations| Violation { law: Law::L4, at, why, operations };
    let mut violations = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for (place, &token) in tokens.iter().enumerate() {
        if places.insert(token, place).is_some() {
            violations
                .push(violation(format!("{token:#x} was appended twice to file {file}"), made(history, file, token)));
        }
    }
    let mut events = Vec::new();
    for (place, operation) in history.operations.iter().enumerate().filter(|(_, operation)| operation.file == file) {
        let Call::Append { token, .. } = operation.does else { continue };
        match (places.remove(&token), operation.returned) {
            (Some(position), returned) => {
                events.push((operation.invoked, true, position, place));
                events.extend(
                    returned.filter(|(_, answer)| *answer == Answer::Ok).map(|(at, _)| (at, false, position, place)),
                );
            }
            (None, Some((_, Answer::Ok))) => {
                violations.push(violation(format!("the append of {token:#x} to file {file} is lost"), vec![place]));
            }
            (None, _) => (),
        }
    }
    violations
        .extend(places.keys().map(|token| violation(format!("nobody appended {token:#x} to file {file}"), Vec::new())));
    events.sort_unstable();
    let mut last: Option<(usize, usize)> = None;
    for (_, begins, position, place) in events {
        match last {
            Some((before, earlier)) if begins && position < before => {
                let why = format!("an append to file {file} stands before one that had ended when it began");
                violations.push(violation(why, vec![earlier, place]));
            }
            _ if !begins => last = last.max(Some((position, place))),
            _ => (),
        }
    }
    violations
}

/// The appends of a token.
fn made(history: &History, file: u32, token: u64) -> Vec<usize> {
    let appends = |place: &usize| {
        let operation = &history.operations[*place];
        operation.file == file && matches!(operation.does, Call::Append { token: other, .. } if other == token)
    };
    (0..history.operations.len()).filter(appends).collect()
}
