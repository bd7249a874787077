//! The table as it would be written for a machine without time: one slot for each byte.

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use brickwork_locks::table::{Ask, CHAINED_MAX, Mode, OwnerKey, Tag, Waiter, WaiterId};

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

/// Who waits for whom: by owner, a bit for each of those that it waits for.
type Graph = Vec<u64>;

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
        self.holders(owner, range, mode) != 0
    }

    /// A bit for each owner of a held byte that shuts this out.
    fn holders(&self, owner: OwnerKey, range: ByteRange, mode: Mode) -> u64 {
        let slots = self.slots(range);
        let clash = |cell: &Option<Cell>| cell.is_some_and(|cell| cell.mode.conflicts(mode));
        let others = self.cells.iter().enumerate().filter(|(other, _)| *other != owner.0 as usize);
        let holders = others.filter(|(_, cells)| cells[slots.clone()].iter().any(clash));
        holders.map(|(other, _)| 1 << other).sum()
    }

    fn conflicts(&self, ask: &Ask, earlier: &Ask) -> bool {
        ask.owner != earlier.owner && ask.mode.conflicts(earlier.mode) && ask.range.overlaps(earlier.range)
    }

    /// Who waits for whom by held bytes alone.
    pub fn held_graph(&self) -> Graph {
        let mut graph = vec![0; self.cells.len()];
        for Waiter { ask, .. } in &self.queue {
            graph[ask.owner.0 as usize] |= self.holders(ask.owner, ask.range, ask.mode);
        }
        graph
    }

    /// Adds whom the waiter at `place` would wait for, were it behind all earlier ones that it conflicts with.
    fn add_place(&self, graph: &mut Graph, place: usize) {
        let ask = self.queue[place].ask;
        let earlier = self.queue[..place].iter().filter(|earlier| self.conflicts(&ask, &earlier.ask));
        earlier.for_each(|earlier| graph[ask.owner.0 as usize] |= 1 << earlier.ask.owner.0);
    }

    /// A bit for each owner behind whose waiters `owner` is not put at `place`; `graph` has all earlier places.
    fn exempt(&self, graph: &Graph, owner: OwnerKey, place: usize) -> u64 {
        let own = 1_u64 << owner.0;
        if self.queue.len() - usize::from(place < self.queue.len()) > CHAINED_MAX {
            let holds_up = |Waiter { ask, .. }: &Waiter| self.holders(ask.owner, ask.range, ask.mode) & own != 0;
            let earlier = self.queue[..place].iter().any(|earlier| earlier.ask.owner == owner);
            return if earlier || self.queue.iter().any(holds_up) { u64::MAX } else { 0 };
        }
        waiting_for(graph, own)
    }

    /// The waiters that the one at `place` must not overtake.
    pub fn ahead(&self, place: usize) -> Vec<Waiter> {
        let mut graph = self.held_graph();
        (0..place).for_each(|place| self.add_place(&mut graph, place));
        let ask = self.queue[place].ask;
        self.ahead_of(&graph, &ask, place).copied().collect()
    }

    fn ahead_of<'a>(&'a self, graph: &Graph, ask: &'a Ask, place: usize) -> impl Iterator<Item = &'a Waiter> {
        let mut earlier = self.queue[..place].iter().filter(|earlier| self.conflicts(ask, &earlier.ask)).peekable();
        let exempt = if earlier.peek().is_some() { self.exempt(graph, ask.owner, place) } else { 0 };
        earlier.filter(move |earlier| exempt >> earlier.ask.owner.0 & 1 == 0)
    }

    fn waits(&self, graph: &Graph, ask: &Ask, place: usize) -> bool {
        self.conflict(ask.owner, ask.range, ask.mode) || self.ahead_of(graph, ask, place).next().is_some()
    }

    /// The first in the queue that nothing shuts out.
    fn first_free(&self) -> Option<usize> {
        let mut graph = self.held_graph();
        (0..self.queue.len()).find(|&place| {
            let free = !self.waits(&graph, &self.queue[place].ask, place);
            self.add_place(&mut graph, place);
            free
        })
    }

    fn waits_at_the_end(&self, ask: &Ask) -> bool {
        let mut graph = self.held_graph();
        (0..self.queue.len()).for_each(|place| self.add_place(&mut graph, place));
        self.waits(&graph, ask, self.queue.len())
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
        let mut tag = ask.tag;
        for at in whole.clone() {
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
        while let Some(at) = self.first_free() {
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

    /// Whether it waits, and who moved by that; `None` for want of room.
    pub fn wait(&mut self, id: WaiterId, ask: &Ask) -> Option<(bool, Moved)> {
        let waits = self.waits_at_the_end(ask);
        if waits {
            self.queue.push(Waiter { id, ask: *ask });
        }
        (waits || self.take(ask)).then(|| (waits, self.settle()))
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

/// A bit for each owner that waits, over any number of others, for one of `owners`.
pub fn waiting_for(graph: &Graph, owners: u64) -> u64 {
    let mut found = 0;
    loop {
        let waits = |owner: &usize| graph[*owner] & (owners | found) != 0;
        let more = (0..graph.len()).filter(waits).map(|owner| 1 << owner).sum();
        if more == found {
            return found;
        }
        found = more;
    }
}
