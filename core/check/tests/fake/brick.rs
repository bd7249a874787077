//! The brick: locks, a queue, cells and records, all under one mutex.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard};

use brickwork_check::log::{Answer, CELL, Log, Mode, Span, What};

use super::Random;

/// Cells of a file; the rest of it counts as one more.
pub const CELLS: usize = 8;

pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const EAGAIN: i32 = 11;
pub const EDEADLK: i32 = 35;

/// What is wrong with a brick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing.
    None,
    /// Sometimes it does not look whether a lock conflicts.
    GrantsConflicting,
    /// When a connection is cut, the locks go, and nobody is told.
    DropsAtCut,
    /// The same, but the owner is told: no bug where losses are allowed.
    TellsOfCut,
    /// Of those that can be granted it takes the last.
    GrantsOutOfOrder,
    /// An append that is sent again is done again.
    AppendsTwice,
    /// An append is acknowledged and not done.
    LosesAppends,
    /// Two appends change places.
    SwapsAppends,
    /// A wait that was interrupted gets its lock all the same, and keeps it.
    KeepsAfterEintr,
    /// A wait that was interrupted is answered again when its lock is free.
    AnswersAfterEintr,
    /// Sometimes nobody wakes a waiter again.
    ForgetsWaiters,
    /// A write is acknowledged and not done.
    LosesWrites,
    /// A read answers what was there before.
    ReadsStale,
    /// Whoever asks hears that the lock is free.
    SaysFree,
    /// It refuses a lock that nobody holds.
    RefusesForNobody,
    /// Waits end with an error that a lock call cannot have.
    FailsStrangely,
    /// A wait is told of a deadlock where there is none.
    SeesDeadlocks,
    /// A wait ends with `EINTR` without a signal.
    InterruptsItself,
    /// Whoever waits for more loses what it holds.
    DropsAtUpgrade,
    /// To release some bytes releases all.
    ReleasesAll,
    /// A released lock stays.
    KeepsReleased,
}

impl Bug {
    /// How many of its occasions it takes, in hundred.
    fn eagerness(self) -> u64 {
        match self {
            // It shows only when another, who holds the same, wants more just then.
            Bug::DropsAtUpgrade => 100,
            _ => 20,
        }
    }
}

type Held = [Option<Mode>; CELLS + 1];

#[derive(Default)]
struct File {
    held: BTreeMap<u32, Held>,
    /// In the order in which they came.
    queue: Vec<Waiter>,
    cells: [(u64, u64); CELLS],
    records: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Waiter {
    owner: u32,
    span: Span,
    mode: Mode,
}

struct State {
    files: BTreeMap<u32, File>,
    random: Random,
    interrupted: BTreeSet<u32>,
    /// Owners that were granted, and do not know it yet.
    granted: BTreeSet<u32>,
    forgotten: BTreeSet<u32>,
    /// Files and owners that are to be told of a loss.
    lost: BTreeSet<(u32, u32)>,
    ended: usize,
    over: bool,
    struck: usize,
}

pub struct Brick {
    bug: Bug,
    state: Mutex<State>,
    changed: Condvar,
}

fn cells_of(span: Span) -> std::ops::Range<usize> {
    let end = span.1.div_ceil(CELL).min(CELLS as u64 + 1);
    (span.0 / CELL) as usize..end as usize
}

impl File {
    /// Whether another owner holds what conflicts.
    fn conflicts(&self, owner: u32, span: Span, mode: Mode) -> bool {
        let others = self.held.iter().filter(|(other, _)| **other != owner);
        others.flat_map(|(_, held)| &held[cells_of(span)]).flatten().any(|held| held.conflicts(mode))
    }

    fn take(&mut self, owner: u32, span: Span, mode: Option<Mode>) {
        self.held.entry(owner).or_default()[cells_of(span)].fill(mode);
    }

    fn holds_against(&self, owner: u32, waiter: &Waiter) -> bool {
        let held = self.held.get(&owner).copied().unwrap_or_default();
        held[cells_of(waiter.span)].iter().flatten().any(|held| held.conflicts(waiter.mode))
    }

    /// Whether the waiter at `place` has to go on waiting.
    fn blocked(&self, place: usize) -> bool {
        let waiter = self.queue[place];
        let behind = self.ahead_of(place).any(|ahead| !self.waits_for(ahead, waiter.owner));
        behind || self.conflicts(waiter.owner, waiter.span, waiter.mode)
    }

    /// The places of earlier waiters that conflict with the one at `place`.
    fn ahead_of(&self, place: usize) -> impl Iterator<Item = usize> {
        let waiter = self.queue[place];
        (0..place).filter(move |&ahead| {
            let ahead = self.queue[ahead];
            ahead.mode.conflicts(waiter.mode) && ahead.span.overlaps(waiter.span)
        })
    }

    /// Whether the waiter at `place` waits for `owner`, be it by way of others.
    fn waits_for(&self, place: usize, owner: u32) -> bool {
        self.holds_against(owner, &self.queue[place]) || self.ahead_of(place).any(|ahead| self.waits_for(ahead, owner))
    }
}

impl Brick {
    pub fn new(bug: Bug, seed: u64) -> Brick {
        let state = State {
            files: BTreeMap::new(),
            random: Random::from_seed(seed ^ 0xb51c),
            interrupted: BTreeSet::new(),
            granted: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            lost: BTreeSet::new(),
            ended: 0,
            over: false,
            struck: 0,
        };
        Brick { bug, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it was held")
    }

    /// Whether `bug` is switched on and takes this occasion.
    fn strikes(&self, state: &mut State, bug: Bug) -> bool {
        let strikes = self.bug == bug && state.random.below(100) < bug.eagerness();
        state.struck += usize::from(strikes);
        strikes
    }

    pub fn struck(&self) -> usize {
        self.lock().struck
    }

    /// What an owner is told that lost a lock of the file.
    fn lost(state: &State, file: u32, owner: u32) -> Option<Answer> {
        state.lost.contains(&(file, owner)).then_some(Answer::Failed(EIO))
    }

    /// F_SETLK.
    pub fn try_lock(&self, file: u32, owner: u32, span: Span, mode: Mode) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        let conflicts = state.files.entry(file).or_default().conflicts(owner, span, mode);
        if conflicts && !self.strikes(&mut state, Bug::GrantsConflicting)
            || !conflicts && self.strikes(&mut state, Bug::RefusesForNobody)
        {
            return Answer::Failed(EAGAIN);
        }
        state.files.entry(file).or_default().take(owner, span, Some(mode));
        self.serve(&mut state, file);
        Answer::Ok
    }

    /// F_SETLKW; `queued` is called when it waits. `None` when it is never answered. The second answer comes later.
    pub fn wait(
        &self,
        file: u32,
        owner: u32,
        span: Span,
        mode: Mode,
        queued: impl FnOnce(),
    ) -> (Option<Answer>, Option<Answer>) {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return (Some(lost), None);
        }
        for (bug, number) in [(Bug::FailsStrangely, 22), (Bug::SeesDeadlocks, EDEADLK), (Bug::InterruptsItself, EINTR)]
        {
            if self.strikes(&mut state, bug) {
                return (Some(Answer::Failed(number)), None);
            }
        }
        let there = state.files.entry(file).or_default();
        let upgrades = there.held.get(&owner).is_some_and(|held| held.iter().any(Option::is_some));
        let waits_on_it = |waiter: &Waiter| {
            there.holds_against(owner, waiter)
                && there.held.get(&waiter.owner).is_some_and(|held| held.iter().any(Option::is_some))
        };
        if upgrades && there.queue.iter().any(waits_on_it) {
            return (Some(Answer::Failed(EDEADLK)), None);
        }
        state.interrupted.remove(&owner);
        let there = state.files.entry(file).or_default();
        there.queue.push(Waiter { owner, span, mode });
        let waits = there.blocked(there.queue.len() - 1);
        if waits {
            queued();
        }
        if waits && upgrades && self.strikes(&mut state, Bug::DropsAtUpgrade) {
            state.files.entry(file).or_default().take(owner, Span::ALL, None);
        }
        self.serve(&mut state, file);
        loop {
            if state.granted.remove(&owner) {
                return (Some(Answer::Ok), None);
            }
            if state.over && state.forgotten.contains(&owner) {
                return (None, None);
            }
            if state.interrupted.remove(&owner) && !state.forgotten.contains(&owner) {
                return self.end_wait(state, file, owner, span, mode);
            }
            state = self.changed.wait(state).expect("no panic while it was held");
        }
    }

    /// A signal ends a wait.
    fn end_wait(
        &self,
        mut state: MutexGuard<'_, State>,
        file: u32,
        owner: u32,
        span: Span,
        mode: Mode,
    ) -> (Option<Answer>, Option<Answer>) {
        state.files.entry(file).or_default().queue.retain(|waiter| waiter.owner != owner);
        if self.strikes(&mut state, Bug::KeepsAfterEintr) {
            // For an owner that nobody is: it will never be released.
            state.files.entry(file).or_default().take(owner + 1_000, span, Some(mode));
        }
        self.serve(&mut state, file);
        let again = self.strikes(&mut state, Bug::AnswersAfterEintr).then_some(Answer::Ok);
        (Some(Answer::Failed(EINTR)), again)
    }

    /// Grants what can be granted.
    fn serve(&self, state: &mut State, file: u32) {
        loop {
            let there = state.files.entry(file).or_default();
            let mut free = (0..there.queue.len())
                .filter(|&place| !there.blocked(place) && !state.forgotten.contains(&there.queue[place].owner));
            let last = (0..there.queue.len()).rev().find(|&place| {
                let waiter = there.queue[place];
                !there.conflicts(waiter.owner, waiter.span, waiter.mode)
            });
            let place = match (self.bug, last) {
                (Bug::GrantsOutOfOrder, Some(last)) => {
                    state.struck += usize::from(there.blocked(last));
                    last
                }
                _ => match free.next() {
                    Some(place) => place,
                    None => break,
                },
            };
            drop(free);
            let waiter = there.queue[place];
            if self.strikes(state, Bug::ForgetsWaiters) {
                state.files.entry(file).or_default().queue.remove(place);
                state.forgotten.insert(waiter.owner);
                continue;
            }
            let there = state.files.entry(file).or_default();
            there.queue.remove(place);
            there.take(waiter.owner, waiter.span, Some(waiter.mode));
            state.granted.insert(waiter.owner);
        }
        self.changed.notify_all();
    }

    pub fn unlock(&self, file: u32, owner: u32, span: Span) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        if !self.strikes(&mut state, Bug::KeepsReleased) {
            let all = span != Span::ALL && self.strikes(&mut state, Bug::ReleasesAll);
            let span = if all { Span::ALL } else { span };
            state.files.entry(file).or_default().take(owner, span, None);
        }
        self.serve(&mut state, file);
        Answer::Ok
    }

    /// A close: the owner's locks on the file go, and what it was to be told with them.
    pub fn close(&self, file: u32, owner: u32) {
        let mut state = self.lock();
        state.files.entry(file).or_default().held.remove(&owner);
        state.lost.remove(&(file, owner));
        self.serve(&mut state, file);
    }

    pub fn test(&self, file: u32, owner: u32, span: Span, mode: Mode) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        let there = state.files.entry(file).or_default();
        if !there.conflicts(owner, span, mode) {
            return Answer::Free;
        }
        let others = there.held.iter().filter(|(other, _)| **other != owner);
        let mut cells = others.flat_map(|(_, held)| cells_of(span).map(move |cell| (cell, held[cell])));
        let (cell, mode) = cells
            .find_map(|(cell, held)| Some((cell, held.filter(|held| held.conflicts(mode))?)))
            .expect("it conflicts");
        drop(cells);
        if self.strikes(&mut state, Bug::SaysFree) {
            return Answer::Free;
        }
        let start = cell as u64 * CELL;
        let end = if cell == CELLS { u64::MAX } else { start + CELL };
        Answer::Held { pid: -1, mode, span: Span(start, end) }
    }

    pub fn read(&self, file: u32, owner: u32, at: u64) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        let (before, now) = state.files.entry(file).or_default().cells[(at / CELL) as usize];
        Answer::Token(if self.strikes(&mut state, Bug::ReadsStale) { before } else { now })
    }

    pub fn write(&self, file: u32, owner: u32, at: u64, token: u64) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        if !self.strikes(&mut state, Bug::LosesWrites) {
            let cell = &mut state.files.entry(file).or_default().cells[(at / CELL) as usize];
            *cell = (cell.1, token);
        }
        Answer::Ok
    }

    pub fn append(&self, file: u32, owner: u32, token: u64) -> Answer {
        let mut state = self.lock();
        if let Some(lost) = Brick::lost(&state, file, owner) {
            return lost;
        }
        let times = if self.strikes(&mut state, Bug::AppendsTwice) { 2 } else { 1 };
        let times = if self.strikes(&mut state, Bug::LosesAppends) { 0 } else { times };
        let swaps = self.strikes(&mut state, Bug::SwapsAppends);
        let records = &mut state.files.entry(file).or_default().records;
        records.extend(std::iter::repeat_n(token, times));
        if swaps && records.len() > 20 {
            let last = records.len() - 1;
            records.swap(last, last - 20);
        }
        Answer::Ok
    }

    /// A signal for the owner.
    pub fn interrupt(&self, owner: u32) {
        self.lock().interrupted.insert(owner);
        self.changed.notify_all();
    }

    /// The connection of the owner is cut, and comes back.
    pub fn cut(&self, owner: u32) {
        let mut state = self.lock();
        let drops = self.strikes(&mut state, Bug::DropsAtCut);
        let tells = self.strikes(&mut state, Bug::TellsOfCut);
        if !drops && !tells {
            return;
        }
        let files: Vec<u32> = state.files.keys().copied().collect();
        for file in files {
            let held = state.files.entry(file).or_default().held.remove(&owner).unwrap_or_default();
            if tells && held.iter().any(Option::is_some) {
                state.lost.insert((file, owner));
            }
            self.serve(&mut state, file);
        }
    }

    /// A client is gone, with its locks.
    pub fn end(&self, owner: u32) {
        let mut state = self.lock();
        state.ended += 1;
        let files: Vec<u32> = state.files.keys().copied().collect();
        for file in files {
            state.files.entry(file).or_default().held.remove(&owner);
            self.serve(&mut state, file);
        }
        self.changed.notify_all();
    }

    /// Waits until of `clients` those that are left wait for what never comes, and lets them go.
    pub fn wait_until_only_forgotten_are_left(&self, clients: usize) {
        let state = self.lock();
        let busy = |state: &mut State| state.ended + state.stuck() < clients;
        let mut state = self.changed.wait_while(state, busy).expect("no panic while it was held");
        state.over = true;
        let waiting: Vec<u32> = state.files.values().flat_map(|file| &file.queue).map(|waiter| waiter.owner).collect();
        // Who waits for a lock that was never released waits as long.
        state.forgotten.extend(waiting);
        self.changed.notify_all();
    }

    /// Logs what the files hold.
    pub fn look(&self, files: u32, log: &Log) {
        let mut state = self.lock();
        for file in 0..files {
            let there = state.files.entry(file).or_default();
            for (cell, (_, token)) in there.cells.iter().enumerate() {
                // The last cell of each is a counter.
                let counts = cell + 1 == CELLS;
                log.note(What::Cell { file, at: cell as u64 * CELL, token: *token, counts }).expect("the log");
            }
            log.note(What::Appended { file, tokens: there.records.clone() }).expect("the log");
        }
    }
}

impl State {
    /// Clients that wait and can never be granted by what the brick does.
    fn stuck(&self) -> usize {
        let waiting = self.files.values().flat_map(|file| &file.queue).map(|waiter| waiter.owner);
        waiting.chain(self.forgotten.iter().copied()).collect::<BTreeSet<u32>>().len()
    }
}
