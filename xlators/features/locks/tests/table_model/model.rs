//! The table as it would be written for a machine without time: one slot for each byte.

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use brickwork_locks::table::{Ask, Mode, OwnerKey, Tag, Waiter, WaiterId};

/// What an owner has on a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub mode: Mode,
    pub tag: Tag,
}

/// A run of slots, half-open; the last slot of a model stands for all bytes to the end of the file.
pub type Slots = std::ops::Range<usize>;

#[derive(Clone, Debug)]
pub struct Model {
    slots: usize,
    pub max: usize,
    /// By owner, then by slot.
    cells: Vec<Vec<Option<Cell>>>,
    pub queue: Vec<Waiter>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub granted: Vec<Waiter>,
    pub refused: Vec<Waiter>,
}

/// A run of one owner: what the table calls a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub owner: OwnerKey,
    pub range: ByteRange,
    pub cell: Cell,
}

impl Model {
    pub fn new(slots: usize, owners: usize, max: usize) -> Model {
        Model { slots, max, cells: vec![vec![None; slots]; owners], queue: Vec::new() }
    }

    pub fn range(&self, slots: &Slots) -> ByteRange {
        let end = if slots.end == self.slots { u64::MAX } else { slots.end as u64 };
        ByteRange::new(slots.start as u64, end).expect("not empty")
    }

    fn slots(&self, range: ByteRange) -> Slots {
        range.start() as usize..range.end().min(self.slots as u64) as usize
    }

    /// All runs by owner, then by start.
    pub fn runs(&self) -> Vec<Run> {
        (0..self.cells.len()).flat_map(|owner| self.runs_of(owner)).collect()
    }

    fn runs_of(&self, owner: usize) -> Vec<Run> {
        let mut runs: Vec<(Slots, Cell)> = Vec::new();
        for (at, cell) in self.cells[owner].iter().enumerate() {
            match (cell, runs.last_mut()) {
                (Some(cell), Some((run, last))) if run.end == at && last.mode == cell.mode => run.end = at + 1,
                (Some(cell), _) => runs.push((at..at + 1, *cell)),
                (None, _) => {}
            }
        }
        let run = |(slots, cell)| Run { owner: OwnerKey(owner as u32), range: self.range(&slots), cell };
        runs.into_iter().map(run).collect()
    }

    pub fn count(&self) -> usize {
        let begins = |cells: &[Option<Cell>], at: usize| {
            cells[at].is_some_and(|cell| at == 0 || cells[at - 1].is_none_or(|before| before.mode != cell.mode))
        };
        self.cells.iter().map(|cells| (0..self.slots).filter(|&at| begins(cells, at)).count()).sum()
    }

    /// Whether a held byte shuts this out.
    pub fn conflict(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> bool {
        let slots = self.slots(range);
        let clash = |cell: &Option<Cell>| cell.is_some_and(|cell| cell.mode.conflicts(mode));
        let others = self.cells.iter().enumerate().filter(|(other, _)| *other != owner.0 as usize);
        others.into_iter().any(|(_, cells)| cells[slots.clone()].iter().any(clash))
    }

    /// Whether `ask` must not overtake `earlier`.
    pub fn behind(&self, ask: &Ask, earlier: &Ask) -> bool {
        let clash = |cell: &Option<Cell>| cell.is_some_and(|cell| cell.mode.conflicts(earlier.mode));
        let holds_up = self.cells[ask.owner.0 as usize][self.slots(earlier.range)].iter().any(clash);
        let mut shared = self.slots(ask.range).filter(|slot| self.slots(earlier.range).contains(slot));
        ask.owner != earlier.owner && ask.mode.conflicts(earlier.mode) && shared.next().is_some() && !holds_up
    }

    fn waits(&self, ask: &Ask, place: usize) -> bool {
        self.conflict(ask.owner, ask.range, ask.mode)
            || self.queue[..place].iter().any(|earlier| self.behind(ask, &earlier.ask))
    }

    /// Whether there was room.
    fn write(&mut self, owner: OwnerKey, slots: Slots, cell: Option<Cell>) -> bool {
        let (before, old) = (self.count(), self.cells[owner.0 as usize].clone());
        self.cells[owner.0 as usize][slots].fill(cell);
        let after = self.count();
        let fits = after <= self.max || after <= before;
        if !fits {
            self.cells[owner.0 as usize] = old;
        }
        fits
    }

    fn take(&mut self, ask: &Ask) -> bool {
        let slots = self.slots(ask.range);
        let before = self.cells[ask.owner.0 as usize].clone();
        if !self.write(ask.owner, slots.clone(), Some(Cell { mode: ask.mode, tag: ask.tag })) {
            return false;
        }
        // The run about the range is one lock now: as old as its oldest part, as mandatory as what was not replaced.
        let run = self.runs_of(ask.owner.0 as usize).into_iter().find(|run| run.range.overlaps(ask.range));
        let mut whole = self.slots(run.expect("just taken").range);
        let near = whole.clone();
        let mut tag = ask.tag;
        for at in near.clone() {
            if let Some(cell) = before[at].filter(|cell| cell.mode == ask.mode) {
                tag.since_ms = tag.since_ms.min(cell.tag.since_ms);
                // A part within the range is replaced only if no part of its old lock is left beside it.
                let mut old = at..at + 1;
                let same = |at: usize| before[at].is_some_and(|cell| cell.mode == ask.mode);
                while old.start > 0 && same(old.start - 1) {
                    old.start -= 1;
                }
                while old.end < self.slots && same(old.end) {
                    old.end += 1;
                }
                let inside = slots.start <= old.start && old.end <= slots.end;
                tag.mandatory |= cell.tag.mandatory && !inside;
            }
        }
        whole.by_ref().for_each(|at| self.cells[ask.owner.0 as usize][at] = Some(Cell { mode: ask.mode, tag }));
        true
    }

    /// Grants the first in the queue that nothing shuts out, until there is none.
    pub fn settle(&mut self) -> Moved {
        let mut moved = Moved::default();
        while let Some(at) = (0..self.queue.len()).find(|&at| !self.waits(&self.queue[at].ask, at)) {
            let waiter = self.queue.remove(at);
            let fits = self.take(&waiter.ask);
            if fits { moved.granted.push(waiter) } else { moved.refused.push(waiter) }
        }
        moved
    }

    /// `None` when it does not get it: by a conflict (`true`) or for want of room.
    pub fn set(&mut self, ask: &Ask) -> Result<Moved, bool> {
        if self.conflict(ask.owner, ask.range, ask.mode) {
            return Err(true);
        }
        if self.take(ask) { Ok(self.settle()) } else { Err(false) }
    }

    /// `Ok(None)` when it waits.
    pub fn wait(&mut self, id: WaiterId, ask: &Ask) -> Result<Option<Moved>, ()> {
        if self.waits(ask, self.queue.len()) {
            self.queue.push(Waiter { id, ask: *ask });
            return Ok(None);
        }
        if self.take(ask) { Ok(Some(self.settle())) } else { Err(()) }
    }

    pub fn unlock(&mut self, owner: OwnerKey, range: ByteRange) -> Option<Moved> {
        let slots = self.slots(range);
        self.write(owner, slots, None).then(|| self.settle())
    }

    pub fn cancel(&mut self, id: WaiterId) -> Option<Moved> {
        let at = self.queue.iter().position(|waiter| waiter.id == id)?;
        self.queue.remove(at);
        Some(self.settle())
    }

    /// The runs and waiters that go, for those owners and that open, or any.
    pub fn release(&mut self, of: &dyn Fn(OwnerKey) -> bool, open: Option<OpenId>) -> (Vec<Run>, Vec<Waiter>, Moved) {
        let meant = |owner: OwnerKey, tag: &Tag| of(owner) && open.is_none_or(|open| open == tag.open);
        let runs: Vec<Run> = self.runs().into_iter().filter(|run| meant(run.owner, &run.cell.tag)).collect();
        for run in &runs {
            let slots = self.slots(run.range);
            self.cells[run.owner.0 as usize][slots].fill(None);
        }
        let gone = |waiter: &Waiter| meant(waiter.ask.owner, &waiter.ask.tag);
        let waiters = self.queue.iter().filter(|waiter| gone(waiter)).copied().collect();
        self.queue.retain(|waiter| !gone(waiter));
        (runs, waiters, self.settle())
    }

    pub fn hand_over(&mut self, owner: OwnerKey, range: ByteRange, mode: Mode, to: OwnerKey, tag: &Tag) -> Option<Run> {
        let exact = |run: &Run| run.range == range && run.cell.mode == mode;
        let run = self.runs_of(owner.0 as usize).into_iter().find(exact)?;
        let slots = self.slots(range);
        self.cells[owner.0 as usize][slots].fill(None);
        let tag = Tag { since_ms: run.cell.tag.since_ms, ..*tag };
        let max = std::mem::replace(&mut self.max, usize::MAX);
        assert!(self.take(&Ask { owner: to, range, mode, tag }), "room without limit");
        self.max = max;
        Some(run)
    }
}
