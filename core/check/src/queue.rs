//! L6: who waits in a queue is granted before those who came to it later and conflict with it.
//!
//! When a wait came to its queue no log of a client can tell; it has to be seen there. Without such sightings nothing is
//! checked here. Two waits that conflict cannot both hold their locks, so the one that returned first was granted first.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{History, Operation};
use crate::holds::{Hold, Holds, Owner};
use crate::log::{Answer, Call, Family, Mode, Span, What};
use crate::verdict::{Law, Violation};

/// A wait that was granted.
struct Wait {
    place: usize,
    owner: Owner,
    mode: Mode,
    span: Span,
    invoked: u64,
    granted: u64,
}

impl Wait {
    fn of(history: &History, holds: &Holds, place: usize) -> Option<((u32, Family), Wait)> {
        let operation = &history.operations[place];
        let (granted, Answer::Ok) = operation.returned? else { return None };
        let Call::Lock { family, mode, span, wait: true, .. } = operation.does else { return None };
        let wait = Wait { place, owner: holds.owners[place]?, mode, span, invoked: operation.invoked, granted };
        Some(((operation.file, family), wait))
    }

    fn conflicts(&self, other: &Wait) -> bool {
        self.owner != other.owner && self.mode.conflicts(other.mode) && self.span.overlaps(other.span)
    }
}

/// What the sightings prove.
#[derive(Default)]
pub(crate) struct Order {
    pub(crate) violations: Vec<Violation>,
    /// Waits whose place in the queue is known.
    pub(crate) known: usize,
    /// Pairs of waits of which the second had to be granted after the first.
    pub(crate) compared: usize,
}

/// Checks all waits whose place in the queue is known.
pub(crate) fn check(history: &History, holds: &Holds) -> Order {
    let queued = queued(history);
    let mut order = Order::default();
    if queued.is_empty() {
        return order;
    }
    let unordered: Vec<(u64, u64)> = history
        .notes
        .iter()
        .filter_map(|note| if let What::Unordered { until } = note.is { Some((note.at, until)) } else { None })
        .collect();
    let mut files: BTreeMap<(u32, Family), Vec<Wait>> = BTreeMap::new();
    for place in 0..history.operations.len() {
        if let Some((file, wait)) = Wait::of(history, holds, place) {
            files.entry(file).or_default().push(wait);
        }
    }
    let mut owned: HashMap<(u32, Family, Owner), Vec<&Hold>> = HashMap::new();
    for hold in &holds.maybe {
        owned.entry((hold.file, hold.family, hold.owner)).or_default().push(hold);
    }
    // A lock that was lost before its grant arrived was free for others: nothing follows from who heard first.
    let told: HashSet<(usize, u32)> = holds.told.iter().map(|&place| open_of(&history.operations[place])).collect();
    for (&(file, family), waits) in &files {
        for first in waits {
            let Some(&since) = queued.get(&first.place) else { continue };
            if told.contains(&open_of(&history.operations[first.place])) {
                continue;
            }
            if unordered.iter().any(|&(from, until)| from < first.granted && since < until) {
                continue;
            }
            order.known += 1;
            // Waits are in the order of their beginning.
            let later = waits.iter().skip(waits.partition_point(|wait| wait.invoked <= since));
            let later: Vec<&Wait> = later
                .take_while(|wait| wait.invoked < first.granted)
                .filter(|wait| wait.conflicts(first) && !excused(&owned, (file, family), wait))
                .collect();
            order.compared += later.len();
            let overtook = later.into_iter().find(|wait| wait.granted < first.granted);
            order.violations.extend(overtook.map(|wait| overtaken(first, since, wait)));
        }
    }
    order
}

fn open_of(operation: &Operation) -> (usize, u32) {
    (operation.process, operation.does.open())
}

/// Whether the later wait may have been put before the earlier one, which waits, be it by way of others, for what the later
/// one's own owner holds.
fn excused(owned: &HashMap<(u32, Family, Owner), Vec<&Hold>>, (file, family): (u32, Family), later: &Wait) -> bool {
    // What the later wait itself took is no excuse.
    let during = |hold: &&Hold| hold.grant != later.place && hold.from <= later.granted && later.invoked <= hold.until;
    owned.get(&(file, family, later.owner)).is_some_and(|holds| holds.iter().any(during))
}

fn overtaken(first: &Wait, since: u64, by: &Wait) -> Violation {
    let waited = (by.invoked - since) / 1_000;
    Violation {
        law: Law::L6,
        at: by.granted,
        why: format!("a wait that came {waited} us later, or more, was granted first"),
        operations: vec![first.place, by.place],
    }
}

/// Since when waits have certainly been in their queues.
fn queued(history: &History) -> HashMap<usize, u64> {
    let mut queued = HashMap::new();
    let mut note = |place, at: u64| {
        queued.entry(place).and_modify(|since: &mut u64| *since = at.min(*since)).or_insert(at);
    };
    let mut calls: Option<HashMap<(u32, u64), usize>> = None;
    let numbered = |operation: &Operation| (history.processes[operation.process].number, operation.call);
    for line in &history.notes {
        match line.is {
            What::Queued { process, call } => {
                let calls = calls.get_or_insert_with(|| {
                    let places = history.operations.iter().enumerate();
                    places.map(|(place, operation)| (numbered(operation), place)).collect()
                });
                calls.get(&(process, call)).into_iter().for_each(|&place| note(place, line.at));
            }
            What::Seen { until, pid, file, family, mode, span } => {
                let seen = Sighting { from: line.at, until, pid, file, family, mode, span };
                seen.wait(history).into_iter().for_each(|place| note(place, until));
            }
            _ => (),
        }
    }
    queued
}

/// A look at a queue in which a wait stood.
struct Sighting {
    from: u64,
    until: u64,
    pid: u32,
    file: u32,
    family: Family,
    mode: Mode,
    span: Span,
}

impl Sighting {
    /// The wait that was seen, if it can have been no other.
    fn wait(&self, history: &History) -> Option<usize> {
        let begun = history.operations.partition_point(|operation| operation.invoked < self.until);
        let mut alike = (0..begun).filter(|&place| self.fits(history, &history.operations[place]));
        let only = alike.next().filter(|_| alike.next().is_none())?;
        // One that began during the look is not certainly the one that the keeper meant by what it said.
        (history.operations[only].invoked < self.from).then_some(only)
    }

    /// Whether the operation waited during some of the look.
    fn fits(&self, history: &History, operation: &Operation) -> bool {
        let Call::Lock { family, mode, span, wait: true, .. } = operation.does else { return false };
        operation.ended() > self.from
            && history.processes[operation.process].pid == self.pid
            && (operation.file, family, mode, span) == (self.file, self.family, self.mode, self.span)
    }
}
