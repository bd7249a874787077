//! Checks the operations of a worker in a folder that is its alone: one after another, so each outcome is known.
//!
//! `EEXIST` for a name that was not there, or `ENOENT` for one that was, is an operation that was done twice; success
//! that the next operation does not find is one that was lost. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Entry, Identity, Operation, Outcome, Violation};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File(Identity),
    /// An empty directory.
    Directory,
}

/// The folder as it must be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What is in it.
    pub names: BTreeMap<String, Node>,
    /// What was written to the files and synced.
    pub contents: HashMap<Identity, u64>,
}

impl Model {
    /// Applies `entries` in their order; the outcomes that differ from what the folder must answer.
    ///
    /// One fault may be seen in several of them: the first is the one to look at.
    pub fn apply(&mut self, entries: &[Entry]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for entry in entries {
            let expected = self.expected(&entry.operation, entry.outcome);
            if expected != entry.outcome {
                violations.push(Violation(format!(
                    "worker {}, tick {}: {:?} answered {:?}, must be {expected:?}",
                    entry.worker, entry.invoked, entry.operation, entry.outcome
                )));
            }
            self.follow(&entry.operation, entry.outcome);
        }
        violations
    }

    /// What `operation` must answer now. A file that is created may have any new identity, so `answered` says it.
    fn expected(&self, operation: &Operation, answered: Outcome) -> Outcome {
        let there = |name: &String| self.names.get(name).copied();
        match operation {
            Operation::Create(name) => match (there(name), answered) {
                (Some(_), _) => Outcome::Failed(libc::EEXIST),
                (None, Outcome::File(identity)) => Outcome::File(identity),
                (None, _) => Outcome::Done,
            },
            Operation::Mkdir(name) => there(name).map_or(Outcome::Done, |_| Outcome::Failed(libc::EEXIST)),
            Operation::Unlink(name) => match there(name) {
                None => Outcome::Failed(libc::ENOENT),
                Some(Node::Directory) => Outcome::Failed(libc::EISDIR),
                Some(Node::File(_)) => Outcome::Done,
            },
            Operation::Rmdir(name) => match there(name) {
                None => Outcome::Failed(libc::ENOENT),
                Some(Node::File(_)) => Outcome::Failed(libc::ENOTDIR),
                Some(Node::Directory) => Outcome::Done,
            },
            Operation::Rename(from, to) => match (there(from), there(to)) {
                (None, _) => Outcome::Failed(libc::ENOENT),
                (Some(Node::File(_)), Some(Node::Directory)) => Outcome::Failed(libc::EISDIR),
                (Some(Node::Directory), Some(Node::File(_))) => Outcome::Failed(libc::ENOTDIR),
                _ => Outcome::Done,
            },
            Operation::Link(from, to) => match (there(from), there(to)) {
                (None, _) => Outcome::Failed(libc::ENOENT),
                (Some(_), Some(_)) => Outcome::Failed(libc::EEXIST),
                (Some(Node::Directory), None) => Outcome::Failed(libc::EPERM),
                (Some(Node::File(_)), None) => Outcome::Done,
            },
            Operation::Write(name, _) => match there(name) {
                None => Outcome::Failed(libc::ENOENT),
                Some(Node::Directory) => Outcome::Failed(libc::EISDIR),
                Some(Node::File(_)) => Outcome::Done,
            },
            Operation::Look(name) => there(name).map_or(Outcome::Failed(libc::ENOENT), outcome_of),
            Operation::Put(..) | Operation::Take(_) => unreachable!("these are for folders that are shared"),
        }
    }

    /// Changes what the folder holds by `operation`, if it says that it was done.
    fn follow(&mut self, operation: &Operation, outcome: Outcome) {
        if matches!(outcome, Outcome::Failed(_)) {
            return;
        }
        match operation {
            Operation::Create(name) => {
                if let Outcome::File(identity) = outcome {
                    self.names.insert(name.clone(), Node::File(identity));
                    // The number of an inode that is gone comes round.
                    self.contents.remove(&identity);
                }
            }
            Operation::Mkdir(name) => {
                self.names.insert(name.clone(), Node::Directory);
            }
            Operation::Unlink(name) | Operation::Rmdir(name) => {
                self.names.remove(name);
            }
            Operation::Rename(from, to) => self.rename(from, to),
            Operation::Link(from, to) => {
                if let Some(&node) = self.names.get(from) {
                    self.names.insert(to.clone(), node);
                }
            }
            Operation::Write(name, number) => {
                if let Some(Node::File(identity)) = self.names.get(name) {
                    self.contents.insert(*identity, *number);
                }
            }
            Operation::Look(_) | Operation::Put(..) | Operation::Take(_) => (),
        }
    }

    /// Two names of one file stay as they are: POSIX has `rename` do nothing then.
    fn rename(&mut self, from: &str, to: &str) {
        let Some(&node) = self.names.get(from) else { return };
        let same_file = matches!(node, Node::File(_)) && self.names.get(to) == Some(&node);
        if from != to && !same_file {
            self.names.remove(from);
            self.names.insert(to.to_owned(), node);
        }
    }

    /// What differs between the folder as it must be and `found`: its names, what they are, and the files' contents.
    pub fn differences(&self, found: &BTreeMap<String, (Node, Option<u64>)>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (name, node) in &self.names {
            let content = match node {
                Node::File(identity) => self.contents.get(identity).copied(),
                Node::Directory => None,
            };
            if found.get(name) != Some(&(*node, content)) {
                violations.push(Violation(format!("{name}: must be {node:?} {content:?}, is {:?}", found.get(name))));
            }
        }
        let unknown = found.keys().filter(|name| !self.names.contains_key(*name));
        violations.extend(unknown.map(|name| Violation(format!("{name}: is there, and must not be"))));
        violations
    }
}

fn outcome_of(node: Node) -> Outcome {
    match node {
        Node::File(identity) => Outcome::File(identity),
        Node::Directory => Outcome::Directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(log: &[(Operation, Outcome)]) -> Vec<Entry> {
        let entry = |(at, (operation, outcome)): (usize, &(Operation, Outcome))| Entry {
            worker: 0,
            operation: operation.clone(),
            outcome: *outcome,
            invoked: 2 * at as u64,
            returned: 2 * at as u64 + 1,
        };
        log.iter().enumerate().map(entry).collect()
    }

    fn violations(log: &[(Operation, Outcome)]) -> usize {
        Model::default().apply(&entries(log)).len()
    }

    fn name(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn what_a_folder_answers_is_no_violation() {
        let log = [
            (Operation::Mkdir(name("d")), Outcome::Done),
            (Operation::Mkdir(name("d")), Outcome::Failed(libc::EEXIST)),
            (Operation::Create(name("f")), Outcome::File(7)),
            (Operation::Rename(name("f"), name("g")), Outcome::Done),
            (Operation::Link(name("g"), name("h")), Outcome::Done),
            (Operation::Rename(name("g"), name("h")), Outcome::Done),
            (Operation::Look(name("g")), Outcome::File(7)),
            (Operation::Unlink(name("g")), Outcome::Done),
            (Operation::Look(name("g")), Outcome::Failed(libc::ENOENT)),
            (Operation::Rename(name("h"), name("d")), Outcome::Failed(libc::EISDIR)),
            (Operation::Rmdir(name("d")), Outcome::Done),
        ];
        assert_eq!(violations(&log), 0);
    }

    #[test]
    fn an_operation_that_was_done_twice_is_found() {
        assert_eq!(violations(&[(Operation::Mkdir(name("d")), Outcome::Failed(libc::EEXIST))]), 1);
        assert_eq!(violations(&[(Operation::Create(name("f")), Outcome::Failed(libc::EEXIST))]), 1);
        let created = (Operation::Create(name("f")), Outcome::File(7));
        for twice in [
            Operation::Unlink(name("f")),
            Operation::Rename(name("f"), name("g")),
            Operation::Link(name("f"), name("f2")),
        ] {
            let errno = if matches!(twice, Operation::Link(..)) { libc::EEXIST } else { libc::ENOENT };
            assert_eq!(violations(&[created.clone(), (twice, Outcome::Failed(errno))]), 1);
        }
    }

    #[test]
    fn an_operation_that_was_lost_is_found() {
        let created = (Operation::Create(name("f")), Outcome::File(7));
        assert_eq!(violations(&[created.clone(), (Operation::Look(name("f")), Outcome::Failed(libc::ENOENT))]), 1);
        let gone = (Operation::Unlink(name("f")), Outcome::Done);
        assert_eq!(violations(&[created.clone(), gone, (Operation::Look(name("f")), Outcome::File(7))]), 1);
        assert_eq!(violations(&[created, (Operation::Look(name("f")), Outcome::File(8))]), 1, "another file");
    }

    #[test]
    fn an_error_that_no_folder_answers_is_found() {
        for errno in [libc::EIO, libc::ENOTCONN, libc::ESTALE, libc::EINTR] {
            assert_eq!(violations(&[(Operation::Mkdir(name("d")), Outcome::Failed(errno))]), 1);
        }
    }

    #[test]
    fn what_lies_there_at_the_end_is_compared_by_name_kind_and_content() {
        let mut model = Model::default();
        let log = [
            (Operation::Create(name("f")), Outcome::File(7)),
            (Operation::Write(name("f"), 42), Outcome::Done),
            (Operation::Mkdir(name("d")), Outcome::Done),
        ];
        assert!(model.apply(&entries(&log)).is_empty());
        let whole = BTreeMap::from([(name("f"), (Node::File(7), Some(42))), (name("d"), (Node::Directory, None))]);
        assert!(model.differences(&whole).is_empty());
        for (damaged, node) in
            [("f", (Node::File(7), None)), ("f", (Node::File(8), Some(42))), ("x", (Node::Directory, None))]
        {
            let mut found = whole.clone();
            found.insert(name(damaged), node);
            assert_eq!(model.differences(&found).len(), 1, "{damaged} {node:?}");
        }
        assert_eq!(model.differences(&BTreeMap::new()).len(), 2);
    }
}
