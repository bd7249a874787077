//! Checks the operations of many workers on the same names: is there an order in which each was done exactly once?
//!
//! Names are looked at one by one, since each operation of a shared folder changes one shared name only. An order is
//! sought that respects time (what ended before another began stands before it) and in which a single thread would
//! have been told the same: linearizability, by the search of Wing and Gong with remembered states (Lowe 2017). An
//! operation that was done twice, or not at all, leaves no such order. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::history::{Entry, Identity, Operation, Outcome, Violation};

/// What a shared name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Absent,
    File(Identity),
    Directory,
}

/// Finds the names whose `entries` no order explains; no name exists at the beginning.
pub fn check(entries: &[Entry]) -> Vec<Violation> {
    let mut names: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        names.entry(name_of(&entry.operation)).or_default().push(entry);
    }
    let told = names.into_iter().map(|(name, entries)| (name, until_told(&entries)));
    told.filter_map(|(name, entries)| search(name, entries.iter().collect()).err()).collect()
}

/// The same entries, each that ended within a change of its name counted as ended with that change.
///
/// A change is promised to be seen by everyone when it has returned. Before that one client may have seen it, at the
/// brick, and another not yet, whose cache is being told: what was seen within a change has no order among itself.
fn until_told(entries: &[&Entry]) -> Vec<Entry> {
    let changes: Vec<(u64, u64)> = entries
        .iter()
        .filter(|entry| !matches!(entry.operation, Operation::Look(_)) && !matches!(entry.outcome, Outcome::Failed(_)))
        .map(|entry| (entry.invoked, entry.returned))
        .collect();
    let told = |entry: &Entry| {
        let within = changes.iter().filter(|(begun, ended)| *begun < entry.returned && entry.returned < *ended);
        within.map(|(_, ended)| *ended).fold(entry.returned, u64::max)
    };
    entries.iter().map(|entry| Entry { returned: told(entry), ..(*entry).clone() }).collect()
}

fn name_of(operation: &Operation) -> &str {
    match operation {
        Operation::Create(name)
        | Operation::Mkdir(name)
        | Operation::Unlink(name)
        | Operation::Rmdir(name)
        | Operation::Look(name)
        | Operation::Put(name, _)
        | Operation::Take(name) => name,
        Operation::Rename(..) | Operation::Link(..) | Operation::Write(..) => {
            unreachable!("these are for folders of one worker")
        }
    }
}

/// The state after `operation` in `state`, if it would have answered `outcome`.
fn step(state: State, operation: &Operation, outcome: Outcome) -> Option<State> {
    let (expected, after) = match (operation, state) {
        // Whatever identity the new file has is the one it got.
        (Operation::Create(_), State::Absent) => match outcome {
            Outcome::File(identity) => (outcome, State::File(identity)),
            _ => return None,
        },
        (Operation::Mkdir(_), State::Absent) => (Outcome::Done, State::Directory),
        (Operation::Create(_) | Operation::Mkdir(_), _) => (Outcome::Failed(libc::EEXIST), state),
        (Operation::Put(..), State::Directory) => (Outcome::Failed(libc::EISDIR), state),
        (Operation::Put(_, identity), _) => (Outcome::Done, State::File(*identity)),
        (Operation::Unlink(_), State::File(_)) | (Operation::Rmdir(_), State::Directory) => {
            (Outcome::Done, State::Absent)
        }
        (Operation::Unlink(_), State::Directory) => (Outcome::Failed(libc::EISDIR), state),
        (Operation::Rmdir(_), State::File(_)) => (Outcome::Failed(libc::ENOTDIR), state),
        (Operation::Look(_) | Operation::Take(_), State::File(identity)) => (Outcome::File(identity), state),
        (Operation::Look(_) | Operation::Take(_), State::Directory) => (Outcome::Directory, state),
        (_, State::Absent) => (Outcome::Failed(libc::ENOENT), State::Absent),
        (Operation::Rename(..) | Operation::Link(..) | Operation::Write(..), _) => return None,
    };
    let taken = matches!(operation, Operation::Take(_)) && state != State::Absent;
    (expected == outcome).then_some(if taken { State::Absent } else { after })
}

/// How far a search has come: which entries stand in the order already, and what the name stands for then.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    /// All entries before this one are in the order.
    first: usize,
    /// Of those after it, these are, too.
    beyond: Vec<usize>,
    state: State,
}

impl Place {
    fn has(&self, entry: usize) -> bool {
        entry < self.first || self.beyond.contains(&entry)
    }

    /// The place after `entry`.
    fn with(&self, entry: usize, state: State) -> Place {
        let mut next = Place { first: self.first, beyond: self.beyond.clone(), state };
        if entry != self.first {
            let at = next.beyond.partition_point(|&other| other < entry);
            next.beyond.insert(at, entry);
            return next;
        }
        next.first += 1;
        while next.beyond.first() == Some(&next.first) {
            next.beyond.remove(0);
            next.first += 1;
        }
        next
    }
}

fn search(name: &str, mut entries: Vec<&Entry>) -> Result<(), Violation> {
    entries.sort_by_key(|entry| entry.invoked);
    let mut open = vec![Place { first: 0, beyond: Vec::new(), state: State::Absent }];
    let mut seen: HashSet<Place> = HashSet::new();
    let mut furthest = open[0].clone();
    while let Some(place) = open.pop() {
        if place.first == entries.len() {
            return Ok(());
        }
        if place.first + place.beyond.len() > furthest.first + furthest.beyond.len() {
            furthest = place.clone();
        }
        let mut nexts = candidates(&entries, &place);
        let after = |entry: usize| step(place.state, &entries[entry].operation, entries[entry].outcome);
        // What may be next and changes nothing is next: whatever order has it later has it here as well. Without this, so
        // many looks at once have more orders than can be tried.
        if let Some(idle) = nexts.iter().copied().find(|&entry| after(entry) == Some(place.state)) {
            nexts = vec![idle];
        }
        for entry in nexts {
            let Some(state) = after(entry) else { continue };
            let next = place.with(entry, state);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Err(unexplained(name, &entries, &furthest))
}

/// The entries that may be next: those that began before any other that is left had ended.
fn candidates(entries: &[&Entry], place: &Place) -> Vec<usize> {
    let mut found = Vec::new();
    let mut ended = u64::MAX;
    for (index, entry) in entries.iter().enumerate().skip(place.first) {
        if entry.invoked > ended {
            break;
        }
        if !place.has(index) {
            ended = ended.min(entry.returned);
            found.push(index);
        }
    }
    found.retain(|&index| entries[index].invoked < ended);
    found
}

fn unexplained(name: &str, entries: &[&Entry], place: &Place) -> Violation {
    let left: Vec<String> = candidates(entries, place).iter().map(|&index| format!("{:?}", entries[index])).collect();
    let before: Vec<String> =
        (place.first.saturating_sub(6)..place.first).map(|index| format!("{:?}", entries[index])).collect();
    Violation(format!(
        "{name}: is {:?} and then none of these can be:\n    {}\n  after, in the order of their beginnings:\n    {}",
        place.state,
        left.join("\n    "),
        before.join("\n    ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries on the name `n` as (invoked, returned, operation, outcome).
    fn violations(log: &[(u64, u64, Operation, Outcome)]) -> usize {
        let entry = |(worker, entry): (usize, &(u64, u64, Operation, Outcome))| Entry {
            worker,
            operation: entry.2.clone(),
            outcome: entry.3,
            invoked: entry.0,
            returned: entry.1,
        };
        check(&log.iter().enumerate().map(entry).collect::<Vec<_>>()).len()
    }

    fn n() -> String {
        "n".to_owned()
    }

    const ENOENT: Outcome = Outcome::Failed(libc::ENOENT);
    const EEXIST: Outcome = Outcome::Failed(libc::EEXIST);

    #[test]
    fn what_one_order_explains_is_no_violation() {
        let log = [
            (0, 9, Operation::Mkdir(n()), EEXIST),
            (1, 8, Operation::Create(n()), Outcome::File(5)),
            (2, 3, Operation::Look(n()), ENOENT),
            (10, 14, Operation::Unlink(n()), Outcome::Done),
            (11, 12, Operation::Unlink(n()), ENOENT),
            (13, 20, Operation::Put(n(), 6), Outcome::Done),
            (15, 18, Operation::Take(n()), Outcome::File(6)),
            (21, 22, Operation::Look(n()), ENOENT),
        ];
        assert_eq!(violations(&log), 0);
    }

    #[test]
    fn an_unlink_that_was_done_twice_is_found() {
        // The second execution took the file that another worker had made in between.
        let log = [
            (0, 1, Operation::Create(n()), Outcome::File(5)),
            (2, 3, Operation::Unlink(n()), Outcome::Done),
            (4, 5, Operation::Create(n()), Outcome::File(6)),
            (6, 7, Operation::Look(n()), ENOENT),
        ];
        assert_eq!(violations(&log), 1);
    }

    #[test]
    fn a_mkdir_that_was_done_twice_is_found() {
        let log = [(0, 1, Operation::Mkdir(n()), EEXIST), (2, 3, Operation::Rmdir(n()), Outcome::Done)];
        assert_eq!(violations(&log), 1);
    }

    #[test]
    fn a_rename_that_was_done_twice_is_found() {
        let log = [
            (0, 1, Operation::Put(n(), 5), Outcome::Done),
            (2, 9, Operation::Take(n()), ENOENT),
            (3, 4, Operation::Look(n()), Outcome::File(5)),
            (10, 11, Operation::Look(n()), ENOENT),
        ];
        assert_eq!(violations(&log), 1);
        assert_eq!(violations(&[(0, 1, Operation::Put(n(), 5), ENOENT)]), 1, "its source was the worker's alone");
    }

    #[test]
    fn an_operation_that_was_lost_is_found() {
        let made = (0, 1, Operation::Mkdir(n()), Outcome::Done);
        assert_eq!(violations(&[made.clone(), (2, 3, Operation::Look(n()), ENOENT)]), 1);
        assert_eq!(violations(&[made, (2, 3, Operation::Mkdir(n()), Outcome::Done)]), 1);
    }

    #[test]
    fn an_old_view_is_found_however_short_it_lasts() {
        let log = [
            (0, 1, Operation::Put(n(), 5), Outcome::Done),
            (2, 3, Operation::Put(n(), 6), Outcome::Done),
            (4, 5, Operation::Look(n()), Outcome::File(5)),
            (6, 7, Operation::Look(n()), Outcome::File(6)),
        ];
        assert_eq!(violations(&log), 1);
        let meanwhile = [log[0].clone(), (2, 6, Operation::Put(n(), 6), Outcome::Done), log[2].clone()];
        assert_eq!(violations(&meanwhile), 0, "while the change is under way either may be seen");
    }

    #[test]
    fn an_error_that_no_folder_answers_is_found() {
        assert_eq!(violations(&[(0, 1, Operation::Look(n()), Outcome::Failed(libc::ENOTCONN))]), 1);
    }

    /// The search of a test did not end within ten minutes: many clients had looked at one name while it was changed, and each
    /// order of their looks was tried.
    #[test]
    fn many_looks_at_once_are_no_trouble() {
        let file = Outcome::File(1);
        let mut log = vec![(0, 1_000, Operation::Create(n()), file)];
        log.extend((0..200).map(|at| {
            (1 + at, 1_001 + at, Operation::Look(n()), if at % 2 == 0 { file } else { Outcome::Failed(libc::ENOENT) })
        }));
        assert_eq!(violations(&log), 0);
        log.push((2_000, 2_001, Operation::Look(n()), Outcome::Directory));
        assert_eq!(violations(&log), 1);
    }

    #[test]
    fn a_long_history_of_eight_workers_at_once_is_searched() {
        let mut log = Vec::new();
        for batch in 0..100 {
            let start = batch * 100;
            for worker in 0..8 {
                let put = Operation::Put(n(), batch * 8 + worker);
                log.push((start + worker, start + 50 + worker, put, Outcome::Done));
            }
            // Whichever was the last one is seen.
            log.push((start + 90, start + 91, Operation::Look(n()), Outcome::File(batch * 8 + batch % 8)));
        }
        assert_eq!(violations(&log), 0);
        log.push((20_000, 20_001, Operation::Look(n()), Outcome::File(0)));
        assert_eq!(violations(&log), 1);
    }
}
