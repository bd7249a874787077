//! An ordered set of spans that finds those that overlap a range: a B+ tree that knows of every subtree how far it reaches.
//!
//! Always true between calls:
//! - entries ascend by (start, number), over all leaves from left to right;
//! - a node has at most [`CAP`] items; but for the root none is empty, and an inner root has at least two;
//! - what a parent notes of a child is what [`Summary`] says of its entries.
//!
//! Finding the first or last of `k` overlapping ones costs O(log n), all of them O(log n + k).

use std::ops::ControlFlow;

use brickwork_api::ranges::ByteRange;

/// Items in a node. A leaf of 16 locks is 14 cache lines.
const CAP: usize = 16;
/// Two neighbours become one when they have no more than this together: a bit less than a node takes, so that the next
/// insertion does not split it again.
const MERGED: usize = CAP - CAP / 8;

/// An entry: (start, number) is unique in its set.
pub(super) trait Span: Copy {
    fn range(&self) -> ByteRange;
    fn number(&self) -> u64;
    fn exclusive(&self) -> bool;

    fn key(&self) -> Key {
        (self.range().start(), self.number())
    }
}

/// Start and number.
pub(super) type Key = (u64, u64);

/// Which entries are looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// They overlap it.
    pub range: ByteRange,
    /// Shared ones do not matter.
    pub exclusive: bool,
    /// Their numbers are below.
    pub before: u64,
}

impl Wanted {
    fn is(&self, span: &impl Span) -> bool {
        span.range().overlaps(self.range) && (!self.exclusive || span.exclusive()) && span.number() < self.before
    }

    /// Whether all from here on start behind the range.
    fn is_past(&self, start: u64) -> bool {
        start >= self.range.end()
    }

    fn may_be_in(&self, of: &Summary) -> bool {
        let reach = if self.exclusive { of.reach_exclusive } else { of.reach };
        reach > self.range.start() && of.lowest < self.before
    }
}

/// What is known of the entries of a subtree.
#[derive(Clone, Copy, Debug)]
struct Summary {
    first: Key,
    /// The farthest end.
    reach: u64,
    /// The farthest end of an exclusive one, or 0.
    reach_exclusive: u64,
    /// The lowest number.
    lowest: u64,
}

impl Summary {
    fn of(span: &impl Span) -> Summary {
        let reach = span.range().end();
        let reach_exclusive = if span.exclusive() { reach } else { 0 };
        Summary { first: span.key(), reach, reach_exclusive, lowest: span.number() }
    }

    fn and(self, other: Summary) -> Summary {
        Summary {
            first: self.first.min(other.first),
            reach: self.reach.max(other.reach),
            reach_exclusive: self.reach_exclusive.max(other.reach_exclusive),
            lowest: self.lowest.min(other.lowest),
        }
    }

    /// Whether it may be another one without `other`.
    fn rests_on(&self, other: &Summary) -> bool {
        self.first == other.first
            || self.reach == other.reach
            || self.reach_exclusive == other.reach_exclusive
            || self.lowest == other.lowest
    }
}

#[derive(Debug)]
pub(super) struct Spans<S> {
    root: Node<S>,
    len: usize,
}

#[derive(Debug)]
enum Node<S> {
    Leaf(Vec<S>),
    Inner(Vec<Child<S>>),
}

#[derive(Debug)]
struct Child<S> {
    summary: Summary,
    node: Node<S>,
}

impl<S> Default for Spans<S> {
    fn default() -> Spans<S> {
        Spans { root: Node::Leaf(Vec::new()), len: 0 }
    }
}

impl<S: Span> Spans<S> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The lowest number; there must be an entry.
    pub fn lowest(&self) -> u64 {
        self.root.summary().lowest
    }

    /// Adds an entry whose key is new.
    pub fn insert(&mut self, span: S) {
        self.len += 1;
        if let Some(right) = self.root.insert(span) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let mut children = Vec::with_capacity(CAP);
            children.extend([Child::new(left), Child::new(right)]);
            self.root = Node::Inner(children);
        }
    }

    /// Takes the entry of that key out.
    pub fn remove(&mut self, key: Key) -> Option<S> {
        let removed = self.root.remove(key)?;
        self.len -= 1;
        while let Node::Inner(children) = &mut self.root
            && children.len() < 2
        {
            self.root = children.pop().map_or(Node::Leaf(Vec::new()), |child| child.node);
        }
        Some(removed)
    }

    /// The entry of that key.
    pub fn get(&self, key: Key) -> Option<&S> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(spans) => return spans.binary_search_by_key(&key, Span::key).ok().map(|at| &spans[at]),
                Node::Inner(children) => node = &children[home(children, key)].node,
            }
        }
    }

    /// Shows those that are wanted, in their order, until `visit` breaks; then it does.
    pub fn visit(&self, wanted: &Wanted, visit: &mut dyn FnMut(&S) -> ControlFlow<()>) -> ControlFlow<()> {
        self.root.visit(wanted, visit)
    }

    /// The last that is wanted and that `accept` accepts.
    pub fn last(&self, wanted: &Wanted, accept: &mut dyn FnMut(&S) -> bool) -> Option<&S> {
        self.root.last(wanted, accept)
    }

    /// All, in their order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &S> + '_> {
        self.root.iter()
    }
}

impl<S: Span> Child<S> {
    fn new(node: Node<S>) -> Child<S> {
        Child { summary: node.summary(), node }
    }
}

/// Which child has the key, or would.
fn home<S>(children: &[Child<S>], key: Key) -> usize {
    children.partition_point(|child| child.summary.first <= key).saturating_sub(1)
}

/// Inserts, and returns the right half if that was too much.
fn insert_or_split<T>(items: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if items.len() < CAP {
        items.insert(at, item);
        return None;
    }
    // What comes in ascending order leaves full nodes behind.
    let middle = if at == CAP { CAP } else { CAP / 2 };
    let mut right = Vec::with_capacity(CAP);
    right.extend(items.drain(middle..));
    if at < middle {
        items.insert(at, item)
    } else {
        right.insert(at - middle, item)
    }
    Some(right)
}

impl<S: Span> Node<S> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(spans) => spans.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn summary(&self) -> Summary {
        let summary = match self {
            Node::Leaf(spans) => spans.iter().map(Summary::of).reduce(Summary::and),
            Node::Inner(children) => children.iter().map(|child| child.summary).reduce(Summary::and),
        };
        summary.expect("no child is empty")
    }

    fn insert(&mut self, span: S) -> Option<Node<S>> {
        match self {
            Node::Leaf(spans) => {
                let at = spans.partition_point(|other| other.key() < span.key());
                insert_or_split(spans, at, span).map(Node::Leaf)
            }
            Node::Inner(children) => {
                let at = home(children, span.key());
                let child = &mut children[at];
                let Some(right) = child.node.insert(span) else {
                    child.summary = child.summary.and(Summary::of(&span));
                    return None;
                };
                child.summary = child.node.summary();
                insert_or_split(children, at + 1, Child::new(right)).map(Node::Inner)
            }
        }
    }

    fn remove(&mut self, key: Key) -> Option<S> {
        match self {
            Node::Leaf(spans) => {
                let at = spans.binary_search_by_key(&key, Span::key).ok()?;
                Some(spans.remove(at))
            }
            Node::Inner(children) => {
                let at = home(children, key);
                let child = &mut children[at];
                let removed = child.node.remove(key)?;
                if child.node.len() == 0 {
                    children.remove(at);
                } else if child.summary.rests_on(&Summary::of(&removed)) {
                    child.summary = child.node.summary();
                }
                merge_about(children, at);
                Some(removed)
            }
        }
    }

    /// Moves all of `right`, which follows, to the end.
    fn append(&mut self, right: Node<S>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(mut right)) => left.append(&mut right),
            (Node::Inner(left), Node::Inner(mut right)) => left.append(&mut right),
            _ => unreachable!("siblings are of one height"),
        }
    }

    fn visit(&self, wanted: &Wanted, visit: &mut dyn FnMut(&S) -> ControlFlow<()>) -> ControlFlow<()> {
        match self {
            Node::Leaf(spans) => {
                let before = spans.iter().take_while(|span| !wanted.is_past(span.range().start()));
                before.filter(|span| wanted.is(*span)).try_for_each(visit)
            }
            Node::Inner(children) => {
                let mut before = children.iter().take_while(|child| !wanted.is_past(child.summary.first.0));
                before.try_for_each(|child| match wanted.may_be_in(&child.summary) {
                    true => child.node.visit(wanted, visit),
                    false => ControlFlow::Continue(()),
                })
            }
        }
    }

    fn last(&self, wanted: &Wanted, accept: &mut dyn FnMut(&S) -> bool) -> Option<&S> {
        match self {
            Node::Leaf(spans) => spans.iter().rev().find(|span| wanted.is(*span) && accept(span)),
            Node::Inner(children) => {
                let end = children.partition_point(|child| !wanted.is_past(child.summary.first.0));
                let likely = children[..end].iter().rev().filter(|child| wanted.may_be_in(&child.summary));
                likely.into_iter().find_map(|child| child.node.last(wanted, accept))
            }
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &S> + '_> {
        match self {
            Node::Leaf(spans) => Box::new(spans.iter()),
            Node::Inner(children) => Box::new(children.iter().flat_map(|child| child.node.iter())),
        }
    }
}

/// Joins the child at `at` with a neighbour when both together leave room, so that nodes are half full on average.
fn merge_about<S: Span>(children: &mut Vec<Child<S>>, at: usize) {
    let fits = |left: usize| match children.get(left..left + 2) {
        Some([left, right]) => left.node.len() + right.node.len() <= MERGED,
        _ => false,
    };
    let Some(left) = [Some(at), at.checked_sub(1)].into_iter().flatten().find(|&left| fits(left)) else { return };
    let right = children.remove(left + 1);
    children[left].summary = children[left].summary.and(right.summary);
    children[left].node.append(right.node);
}

#[cfg(test)]
mod tests;
