//! What one client believes to hold: for each owner on each object its locks, and the opens through which it took them.
//!
//! Pure. The brick is asked at each attach whether it agrees ([`Beliefs::claims`]). Two mistakes are possible and neither
//! may happen: to claim what was given up (its owner would be told of a loss that is none), and not to claim what the
//! owner relies on (it would not be told of one that is). So a belief is what is held *however* the brick has ordered what
//! was under way together:
//!
//! - a change begins when it is first sent; one that was not sent yet changes nothing;
//! - until it is answered it may have been made or not: the weaker of before and after is claimed. An unlock, a flush or a
//!   downgrade whose answer was lost is thus not claimed, and an upgrade claims the old lock;
//! - when it is answered, it stands above all that was answered before it was sent. With what was answered since then it
//!   was under way together, in an order that nobody knows: the weakest of them is believed;
//! - a `flock` that is converted is given up first when it cannot be had at once: until it is answered it may be gone, and
//!   when it is refused it is;
//! - any other one that was refused has changed nothing; one that was given up may have, and may be undone by the brick: the weaker
//!   is believed;
//! - a release is made when it is asked for, since the brick will hear of it whatever happens. What its owner took through
//!   other opens is not claimed any more either: the brick may have joined it with what goes;
//! - an answer that came over an earlier connection than the last claims is none for a change that takes: the brick may
//!   have lost since then what it granted, and nobody has asked. The request goes again, under its name.
//!
//! A waiting request that is given up while the brick is away was never believed; the brick undoes a grant of it.

use std::collections::{HashMap, HashSet};

use brickwork_api::locks::{CLAIM_RANGES_MAX, Claim};
use brickwork_api::ranges::{ByteRange, Ranges};
use brickwork_api::{Errno, FopError, FopResult, Gfid, LkKind, LkOwner, LkRange, LkType, OpenId};

/// Ranges that one client may believe to hold, and changes of them under way; one more lock is refused.
pub(crate) const BELIEFS_MAX: usize = 1 << 22;

/// Whose belief, about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) gfid: Gfid,
    pub(crate) kind: LkKind,
    pub(crate) owner: LkOwner,
}

/// What a request makes of the locks of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) open: OpenId,
    pub(crate) range: ByteRange,
    pub(crate) to: LkType,
    /// The process, for people.
    pub(crate) pid: u32,
}

impl Change {
    /// Whether it gives the owner something.
    pub(crate) fn takes(&self) -> bool {
        self.to != LkType::Unlock
    }

    /// Whether what the owner holds of another type is given up first.
    fn converts(&self) -> bool {
        self.takes() && self.key.kind == LkKind::Flock
    }
}

/// A change under way; a later one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The answer is from before the last claims: ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outdated;

/// The beliefs of one client.
#[derive(Debug)]
pub(crate) struct Beliefs {
    of: HashMap<Key, Belief>,
    /// Who believes to hold something through an open.
    through: HashMap<OpenId, HashSet<Key>>,
    /// Ranges, changes under way and pieces of all.
    size: usize,
    ranges: usize,
    last: u64,
    /// The incarnation that has claimed last.
    claimed: u32,
    size_max: usize,
}

impl Default for Beliefs {
    fn default() -> Beliefs {
        Beliefs::of_at_most(BELIEFS_MAX)
    }
}

/// What one owner believes about one object.
#[derive(Debug, Default)]
struct Belief {
    /// What it holds at least, when nothing is under way.
    held: Ranges,
    /// Through which it took something; the last one last.
    opens: Vec<OpenId>,
    pid: u32,
    /// In the order in which they were sent.
    under_way: Vec<UnderWay>,
    done: Vec<Done>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    ticket: Ticket,
    range: ByteRange,
    to: LkType,
    /// What is held of another type may have been given up for it.
    converts: bool,
}

/// What was answered while something else was under way on these bytes.
#[derive(Clone, Copy, Debug)]
struct Done {
    range: ByteRange,
    to: LkType,
    /// The last that was sent before it was answered.
    after: Ticket,
}

impl Beliefs {
    fn of_at_most(size_max: usize) -> Beliefs {
        let (of, through) = (HashMap::new(), HashMap::new());
        Beliefs { of, through, size: 0, ranges: 0, last: 0, claimed: 0, size_max }
    }

    /// `change` is sent for the first time.
    ///
    /// # Errors
    /// `ENOLCK`: it takes, and there is no room; it must not be sent.
    pub(crate) fn sent(&mut self, change: &Change) -> FopResult<Ticket> {
        if change.takes() && self.size >= self.size_max {
            return Err(FopError::new(Errno::ENOLCK).doing("keeping one more lock").with("limit", self.size_max));
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let under_way = UnderWay { ticket, range: change.range, to: change.to, converts: change.converts() };
        self.change(&change.key, |belief| belief.under_way.push(under_way));
        Ok(ticket)
    }

    /// The brick has made `change`, and said so to `incarnation`.
    ///
    /// # Errors
    /// [`Outdated`]: it is still under way.
    pub(crate) fn made(&mut self, change: &Change, ticket: Ticket, incarnation: u32) -> Result<(), Outdated> {
        if change.takes() && incarnation < self.claimed {
            return Err(Outdated);
        }
        self.change(&change.key, |belief| belief.made(change, ticket));
        if change.takes() && self.of.get(&change.key).is_some_and(|belief| belief.opens.contains(&change.open)) {
            self.through.entry(change.open).or_default().insert(change.key.clone());
        }
        Ok(())
    }

    /// Nothing of `change` has left.
    pub(crate) fn not_sent(&mut self, change: &Change, ticket: Ticket) {
        self.change(&change.key, |belief| belief.end(ticket));
    }

    /// The brick has not made `change`.
    pub(crate) fn refused(&mut self, change: &Change, ticket: Ticket) {
        self.change(&change.key, |belief| {
            if change.converts() {
                give_up_others(&mut belief.held, change.range, change.to);
            }
            belief.end(ticket);
        });
    }

    /// Nobody will hear whether the brick has made `change`.
    pub(crate) fn given_up(&mut self, change: &Change, ticket: Ticket) {
        self.change(&change.key, |belief| belief.given_up(change, ticket));
    }

    /// `open` ends, or is of no use any more; whether anything was believed to be held through it.
    pub(crate) fn end_open(&mut self, open: OpenId) -> bool {
        let Some(keys) = self.through.remove(&open) else { return false };
        keys.iter().for_each(|key| self.change(key, Belief::forget));
        true
    }

    /// `incarnation` begins to claim; returns what about.
    pub(crate) fn begin_claims(&mut self, incarnation: u32) -> Vec<Key> {
        self.claimed = incarnation;
        self.of.keys().cloned().collect()
    }

    /// What the owner in `key` holds, whatever has become of what is under way.
    pub(crate) fn claims(&self, key: &Key) -> Vec<Claim> {
        let Some((belief, open)) = self.of.get(key).and_then(|belief| Some((belief, *belief.opens.last()?))) else {
            return Vec::new();
        };
        let ranges = belief.at_least();
        let claim = |ranges: &[LkRange]| {
            let Key { gfid, kind, owner } = key.clone();
            Claim { gfid, open, kind, owner, ranges: ranges.to_vec() }
        };
        ranges.chunks(CLAIM_RANGES_MAX).map(claim).collect()
    }

    /// The brick no longer holds what was claimed for `key`; returns the opens through which it was taken.
    pub(crate) fn lost(&mut self, key: &Key) -> Vec<OpenId> {
        let opens = self.of.get(key).map_or_else(Vec::new, |belief| belief.opens.clone());
        self.change(key, Belief::forget);
        opens
    }

    /// How many ranges are believed to be held.
    pub(crate) fn ranges(&self) -> usize {
        self.ranges
    }

    /// Changes the belief of `key`, and keeps the counts and what is found by open in step.
    fn change<T>(&mut self, key: &Key, change: impl FnOnce(&mut Belief) -> T) -> T {
        if !self.of.contains_key(key) {
            self.of.insert(key.clone(), Belief::default());
        }
        let Some(belief) = self.of.get_mut(key) else { unreachable!("it was just put there") };
        let (size, ranges) = (belief.size(), belief.held.len());
        let result = change(belief);
        self.size = self.size - size + belief.size();
        self.ranges = self.ranges - ranges + belief.held.len();
        if belief.held.is_empty() {
            for open in std::mem::take(&mut belief.opens) {
                let Some(keys) = self.through.get_mut(&open) else { continue };
                keys.remove(key);
                if keys.is_empty() {
                    self.through.remove(&open);
                }
            }
        }
        if belief.size() == 0 {
            self.of.remove(key);
        }
        result
    }
}

impl Belief {
    fn size(&self) -> usize {
        self.held.len() + self.under_way.len() + self.done.len()
    }

    fn made(&mut self, change: &Change, ticket: Ticket) {
        self.supersede(change.range, ticket);
        self.held.set(change.range, change.to);
        // What is left there was under way together with this.
        for done in &self.done {
            if let Some(range) = common(done.range, change.range) {
                lower(&mut self.held, range, done.to);
            }
        }
        self.note(change, ticket);
        if change.takes() {
            self.opens.retain(|open| *open != change.open);
            self.opens.push(change.open);
            self.pid = change.pid;
        }
    }

    fn given_up(&mut self, change: &Change, ticket: Ticket) {
        if change.converts() {
            give_up_others(&mut self.held, change.range, change.to);
        }
        lower(&mut self.held, change.range, change.to);
        self.note(change, ticket);
    }

    /// Whatever was held is not any more.
    fn forget(&mut self) {
        self.held = Ranges::default();
    }

    /// What was answered in `range` before `ticket` was sent counts no more.
    fn supersede(&mut self, range: ByteRange, ticket: Ticket) {
        let mut rest = Vec::with_capacity(self.done.len());
        for done in self.done.drain(..) {
            if done.after >= ticket {
                rest.push(done);
            } else {
                let around = without(done.range, range).into_iter().flatten();
                rest.extend(around.map(|range| Done { range, ..done }));
            }
        }
        self.done = rest;
    }

    /// `change` is not under way any more; those that still are may come before or after it.
    fn note(&mut self, change: &Change, ticket: Ticket) {
        self.under_way.retain(|under_way| under_way.ticket != ticket);
        self.done.push(Done { range: change.range, to: change.to, after: Ticket(u64::MAX) });
        self.tidy();
    }

    fn end(&mut self, ticket: Ticket) {
        self.under_way.retain(|under_way| under_way.ticket != ticket);
        self.tidy();
    }

    /// Keeps of what is done what matters to something under way, as few pieces as will do.
    fn tidy(&mut self) {
        let under_way = &self.under_way;
        self.done.retain_mut(|done| {
            let together = |one: &&UnderWay| one.ticket <= done.after && one.range.overlaps(done.range);
            let last = under_way.iter().rev().find(together);
            last.inspect(|last| done.after = last.ticket).is_some()
        });
        self.done.sort_unstable_by_key(|done| (done.after, strength(done.to), done.range));
        self.done.dedup_by(|next, before| {
            let joins = next.after == before.after
                && next.to == before.to
                && (next.range.overlaps(before.range) || next.range.touches(before.range));
            if joins {
                before.range = before.range.hull(next.range);
            }
            joins
        });
    }

    fn at_least(&self) -> Vec<LkRange> {
        let pid = self.pid;
        let plain = |held: &Ranges| {
            held.iter().map(|(range, kind)| LkRange { kind, start: range.start(), end: range.end(), pid }).collect()
        };
        if self.under_way.is_empty() {
            return plain(&self.held);
        }
        let mut held = self.held.clone();
        for one in &self.under_way {
            if one.converts {
                give_up_others(&mut held, one.range, one.to);
            }
            lower(&mut held, one.range, one.to);
        }
        plain(&held)
    }
}

/// Makes what is stronger than `to` in `range` into `to`.
fn lower(held: &mut Ranges, range: ByteRange, to: LkType) {
    let stronger = held.overlapping(range).filter(|(_, kind)| strength(*kind) > strength(to));
    let stronger: Vec<ByteRange> = stronger.filter_map(|(held, _)| common(held, range)).collect();
    stronger.into_iter().for_each(|range| held.set(range, to));
}

/// What is held in `range` of another type than `to` is held no more.
fn give_up_others(held: &mut Ranges, range: ByteRange, to: LkType) {
    let others = held.overlapping(range).filter(|(_, kind)| *kind != to);
    let others: Vec<ByteRange> = others.filter_map(|(held, _)| common(held, range)).collect();
    others.into_iter().for_each(|range| held.set(range, LkType::Unlock));
}

fn strength(kind: LkType) -> u8 {
    match kind {
        LkType::Unlock => 0,
        LkType::Read => 1,
        LkType::Write => 2,
    }
}

/// The bytes of both.
fn common(one: ByteRange, other: ByteRange) -> Option<ByteRange> {
    ByteRange::new(one.start().max(other.start()), one.end().min(other.end()))
}

/// What lies before and behind `cut` of `range`.
fn without(range: ByteRange, cut: ByteRange) -> [Option<ByteRange>; 2] {
    [
        ByteRange::new(range.start(), range.end().min(cut.start())),
        ByteRange::new(range.start().max(cut.end()), range.end()),
    ]
}

#[cfg(test)]
mod tests;
