//! One run: a table, its model, and what must agree after each operation.

use std::collections::HashMap;
use std::ops::ControlFlow;

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use brickwork_locks::table::{
    Ask, Blocker, Effects, Ids, Lock, LockId, Mode, OwnerKey, Refused, Released, Table, Tag, Waited, WaiterId,
};

use crate::model::{self, Cell, Model, Moved, Slots};

#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub slots: usize,
    pub owners: usize,
    pub max: usize,
}

#[derive(Clone, Debug)]
pub enum Act {
    Set {
        owner: OwnerKey,
        slots: Slots,
        mode: Mode,
        open: OpenId,
        mandatory: bool,
    },
    Wait {
        owner: OwnerKey,
        slots: Slots,
        mode: Mode,
        open: OpenId,
        mandatory: bool,
    },
    Unlock {
        owner: OwnerKey,
        slots: Slots,
    },
    Cancel {
        nth: usize,
    },
    ReleaseOwner {
        owner: OwnerKey,
    },
    ReleaseOpen {
        client: usize,
        open: OpenId,
    },
    /// Every fourth is of a lock that does not exist.
    HandOver {
        nth: usize,
        to: OwnerKey,
        open: OpenId,
    },
    Settle,
    /// The table goes on as one that was made from its snapshot.
    Restore,
    Probe {
        owner: OwnerKey,
        slots: Slots,
        mode: Mode,
        nth: usize,
    },
}

pub struct Run {
    size: Size,
    table: Table,
    ids: Ids,
    /// Makes the same calls, and is never restored.
    twin: (Table, Ids),
    model: Model,
    clock: u64,
    seen: HashMap<LockId, (ByteRange, Mode)>,
}

fn check_moved(effects: &Effects, moved: &Moved) {
    assert_eq!(effects.granted.as_slice(), moved.granted);
    assert_eq!(effects.refused.as_slice(), moved.refused);
}

impl Run {
    pub fn new(size: Size) -> Run {
        let Size { slots, owners, max } = size;
        Run {
            size,
            table: Table::default(),
            ids: Ids::default(),
            twin: <(Table, Ids)>::default(),
            model: Model::new(slots, owners, max),
            clock: 0,
            seen: HashMap::new(),
        }
    }

    pub fn size(&self) -> &Size {
        &self.size
    }

    pub fn act(&mut self, act: &Act) {
        self.clock += 1;
        self.apply(act);
        self.check(act);
    }

    fn ask(&self, owner: OwnerKey, slots: &Slots, mode: Mode, open: OpenId, mandatory: bool) -> Ask {
        let tag = Tag { open, process: self.clock as u32, since_ms: self.clock, mandatory };
        Ask { owner, range: self.model.range(slots), mode, tag }
    }

    /// Makes the same call on the table and on its twin.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, call: impl Fn(&mut Table, &Ids, usize) -> R) -> R {
        let answer = call(&mut self.table, &self.ids, self.size.max);
        assert_eq!(answer, call(&mut self.twin.0, &self.twin.1, self.size.max), "the same call, another answer");
        answer
    }

    fn apply(&mut self, act: &Act) {
        match *act {
            Act::Set { owner, ref slots, mode, open, mandatory } => {
                self.set(&self.ask(owner, slots, mode, open, mandatory));
            }
            Act::Wait { owner, ref slots, mode, open, mandatory } => {
                self.wait(&self.ask(owner, slots, mode, open, mandatory));
            }
            Act::Unlock { owner, ref slots } => {
                let range = self.model.range(slots);
                let effects = self.both(|table, ids, max| table.unlock(owner, range, ids, max));
                match (effects, self.model.unlock(owner, range)) {
                    (Ok(effects), Some(moved)) => check_moved(&effects, &moved),
                    (Err(Refused::Full), None) => {}
                    (answer, expected) => panic!("{answer:?}, not {expected:?}"),
                }
            }
            Act::Cancel { nth } => self.cancel(nth),
            Act::ReleaseOwner { owner } => {
                let released = self.both(|table, ids, max| table.release_owner(owner, ids, max));
                let expected = self.model.release(&|other| other == owner, None);
                check_released(&released, expected);
            }
            Act::ReleaseOpen { client, open } => {
                let belongs = |owner: OwnerKey| owner.0 as usize % 3 == client;
                let released = self.both(|table, ids, max| table.release_open(&belongs, open, ids, max));
                let expected = self.model.release(&belongs, Some(open));
                check_released(&released, expected);
            }
            Act::HandOver { nth, to, open } => self.hand_over(nth, to, open),
            Act::Settle => {
                let effects = self.both(|table, ids, max| table.settle(ids, max));
                check_moved(&effects, &self.model.settle());
            }
            Act::Restore => self.restore(),
            Act::Probe { owner, ref slots, mode, nth } => self.probe(owner, self.model.range(slots), mode, nth),
        }
    }

    fn set(&mut self, ask: &Ask) {
        let answer = self.both(|table, ids, max| table.set(ask, ids, max));
        match (answer, self.model.set(ask)) {
            (Ok(effects), Ok(moved)) => check_moved(&effects, &moved),
            (Err(Refused::Conflict(lock)), Err(true)) => assert_eq!(Some(lock), self.conflicts(ask).first().copied()),
            (Err(Refused::Full), Err(false)) => {}
            (answer, expected) => panic!("{answer:?}, not {expected:?}"),
        }
    }

    fn wait(&mut self, ask: &Ask) {
        // The order of these numbers means nothing.
        let id = WaiterId(self.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let answer = self.both(|table, ids, max| table.wait(id, ask, ids, max));
        match (answer, self.model.wait(id, ask)) {
            (Ok(Waited::Granted(effects)), Some((false, moved))) => check_moved(&effects, &moved),
            (Ok(Waited::Queued(effects)), Some((true, moved))) => check_moved(&effects, &moved),
            (Err(Refused::Full), None) => {}
            (answer, expected) => panic!("{answer:?}, not {expected:?}"),
        }
    }

    fn cancel(&mut self, nth: usize) {
        let queue = &self.model.queue;
        let id = if queue.is_empty() { WaiterId(0) } else { queue[nth % queue.len()].id };
        let answer = self.both(|table, ids, max| table.cancel(id, ids, max));
        match (answer, self.model.cancel(id)) {
            (Some((waiter, effects)), Some(moved)) => {
                assert_eq!(waiter.id, id);
                check_moved(&effects, &moved);
            }
            (None, None) => {}
            (answer, expected) => panic!("{answer:?}, not {expected:?}"),
        }
    }

    fn hand_over(&mut self, nth: usize, to: OwnerKey, open: OpenId) {
        let runs = self.model.runs();
        let Some(mut run) = runs.get(nth % runs.len().max(1)).copied() else { return };
        if nth.is_multiple_of(4) {
            run.owner = to;
        }
        let tag = Tag { open, process: 7, since_ms: self.clock, mandatory: nth.is_multiple_of(8) };
        let mode = run.cell.mode;
        let old = self.both(|table, _, _| table.hand_over(run.owner, run.range, mode, to, &tag));
        let expected = self.model.hand_over(run.owner, run.range, mode, to, &tag);
        assert_eq!(old.as_ref().map(as_run), expected);
        // It keeps its number, also when it grows by what its new owner has beside it.
        let taken = old.and_then(|old| self.table.find(old.id));
        self.seen.extend(taken.map(|lock| (lock.id, (lock.range, lock.mode))));
    }

    fn restore(&mut self) {
        let mut table = Table::default();
        self.table.locks().for_each(|lock| table.restore(lock));
        self.table.waiters().for_each(|waiter| table.restore_waiter(*waiter));
        self.table = table;
        self.ids = Ids::new(self.ids.upcoming(), 1);
    }

    fn conflicts(&self, ask: &Ask) -> Vec<Lock> {
        self.table.locks().filter(|lock| lock.shuts_out(ask.owner, ask.range, ask.mode)).collect()
    }

    fn probe(&self, owner: OwnerKey, range: ByteRange, mode: Mode, nth: usize) {
        let ask = self.ask(owner, &(0..1), mode, OpenId(0), false);
        let ask = Ask { range, ..ask };
        let conflicts = self.conflicts(&ask);
        assert_eq!(!conflicts.is_empty(), self.model.conflict(owner, range, mode));
        assert_eq!(self.table.conflict(owner, range, mode), conflicts.first().copied());
        let mut seen = Vec::new();
        self.table.for_each_conflict(owner, range, mode, &mut |lock| {
            seen.push(*lock);
            if seen.len() > nth % 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(seen, conflicts[..conflicts.len().min(nth % 8 + 1)]);
        let own: Vec<Lock> = self.table.locks().filter(|lock| lock.owner == owner).collect();
        assert_eq!(self.table.held_by(owner), own.len());
        let near: Vec<Lock> = own.into_iter().filter(|lock| lock.range.overlaps(range)).collect();
        assert_eq!(self.table.overlapping(owner, range), near);
        let exact = near.iter().any(|lock| lock.range == range && lock.mode == mode);
        assert_eq!(self.table.holds_exactly(owner, range, mode), exact);
        self.blockers(nth);
    }

    fn blockers(&self, nth: usize) {
        let queue = &self.model.queue;
        let Some(place) = nth.checked_rem(queue.len()) else { return };
        let waiter = queue[place];
        let locks = self.conflicts(&waiter.ask).into_iter();
        let locks = locks.map(|lock| Blocker { owner: lock.owner, lock: Some(lock.id), waiter: None });
        let ahead = self.model.ahead(place).into_iter();
        let ahead = ahead.map(|other| Blocker { owner: other.ask.owner, lock: None, waiter: Some(other.id) });
        assert_eq!(self.table.blockers(waiter.id), locks.chain(ahead).collect::<Vec<_>>());
        assert_eq!(self.table.waiter(waiter.id), Some(&waiter));
        self.rings();
    }

    /// Nobody waits in line for an owner that waits for his own: what is a ring is one of held locks alone.
    fn rings(&self) {
        let (held, mut all) = (self.model.held_graph(), vec![0; self.size.owners]);
        let waiters: Vec<_> = self.table.waiters().map(|waiter| (waiter, self.table.blockers(waiter.id))).collect();
        for (waiter, blockers) in &waiters {
            blockers.iter().for_each(|blocker| all[waiter.ask.owner.0 as usize] |= 1 << blocker.owner.0);
        }
        for (waiter, blockers) in &waiters {
            let own = model::waiting_for(&all, 1 << waiter.ask.owner.0);
            let in_line = blockers.iter().filter(|blocker| blocker.waiter.is_some());
            in_line.for_each(|blocker| assert_eq!(own >> blocker.owner.0 & 1, 0, "{waiter:?} waits for {blocker:?}"));
        }
        for owner in 0..self.size.owners {
            let ring = |graph| model::waiting_for(graph, 1 << owner) >> owner & 1;
            assert_eq!(ring(&all), ring(&held), "a ring of the queue's making for owner {owner}");
        }
    }

    pub fn waiters(&self) -> usize {
        self.model.queue.len()
    }

    fn check(&mut self, act: &Act) {
        assert_eq!(self.table.len(), self.model.count(), "after {act:?}");
        let mut locks: Vec<Lock> = self.table.locks().collect();
        assert!(locks.is_sorted_by_key(|lock| (lock.range.start(), lock.id)), "out of order after {act:?}");
        assert!(self.twin.0.locks().eq(locks.iter().copied()), "a restored table differs after {act:?}");
        self.check_numbers(&locks);
        locks.sort_unstable_by_key(|lock| (lock.owner, lock.range.start()));
        assert!(
            locks.iter().map(as_run).eq(self.model.runs()),
            "{locks:#?}\nnot\n{:#?}\nafter {act:?}",
            self.model.runs()
        );
        assert!(self.table.waiters().eq(&self.model.queue), "another queue after {act:?}");
        assert_eq!(self.table.is_empty(), locks.is_empty() && self.model.queue.is_empty());
    }

    /// A number is of one range and mode, ever.
    fn check_numbers(&mut self, locks: &[Lock]) {
        for lock in locks {
            let first = *self.seen.entry(lock.id).or_insert((lock.range, lock.mode));
            assert_eq!(first, (lock.range, lock.mode), "number {:?} is of another lock", lock.id);
        }
        if let Some(lock) = locks.first() {
            assert_eq!(self.table.find(lock.id), Some(*lock));
        }
    }
}

fn as_run(lock: &Lock) -> model::Run {
    model::Run { owner: lock.owner, range: lock.range, cell: Cell { mode: lock.mode, tag: lock.tag } }
}

fn check_released(
    released: &Released,
    (mut runs, waiters, moved): (Vec<model::Run>, Vec<brickwork_locks::table::Waiter>, Moved),
) {
    runs.sort_by_key(|run| (run.range.start(), run.owner));
    let mut locks: Vec<model::Run> = released.locks.iter().map(as_run).collect();
    assert!(released.locks.is_sorted_by_key(|lock| (lock.range.start(), lock.id)));
    locks.sort_by_key(|run| (run.range.start(), run.owner));
    assert_eq!(locks, runs);
    assert_eq!(released.waiters, waiters);
    check_moved(&released.effects, &moved);
}
