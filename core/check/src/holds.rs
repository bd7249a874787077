//! When each lock was certainly held, and when it possibly was, by what its owner did and was told.
//!
//! A lock is *certainly* held from the return of its grant to the beginning of whatever releases it. It is *possibly* held
//! from the beginning of the call that takes it to the return of what releases it. Where an owner makes several calls at
//! once for the same bytes their order is not known: nothing is certain of those bytes until its next call that is alone.
//!
//! A call that fails leaves a `fcntl` lock as it was; a conversion of a `flock` that fails may have lost it.
//!
//! Where losses are allowed, a lock is certainly held only up to the beginning of the last call through its open file that
//! was answered as if it was, reads excepted: those may come from a cache that knows of nothing.

use std::collections::HashMap;

use crate::history::{History, Operation};
use crate::log::{Answer, Call, Family, Mode, Span};
use crate::spans::Spans;
use crate::verdict::{EINTR, EIO, Rules};

/// An owner, numbered.
pub(crate) type Owner = u32;

/// A lock, or a part of one, in a stretch of time: from `from` to before `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) owner: Owner,
    pub(crate) file: u32,
    pub(crate) family: Family,
    pub(crate) span: Span,
    pub(crate) mode: Mode,
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// The operation that took it.
    pub(crate) grant: usize,
}

/// What owners held.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// Certainly.
    pub(crate) sure: Vec<Hold>,
    /// Possibly.
    pub(crate) maybe: Vec<Hold>,
    /// The owner of each operation that has one.
    pub(crate) owners: Vec<Option<Owner>>,
    /// Reads under a lock from their beginning to their end; writes under an exclusive one at their beginning.
    pub(crate) covered: Vec<bool>,
    /// Operations that were told of a loss.
    pub(crate) told: Vec<usize>,
}

/// A certain lock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grip {
    mode: Mode,
    since: u64,
    open: u32,
    grant: usize,
}

/// What an owner has of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct State {
    sure: Option<Grip>,
    /// What was certain before the call that is under way.
    before: Option<Grip>,
    maybe: Option<Grip>,
    /// Calls under way that change it.
    busy: u32,
    /// Since it was last not busy, several were.
    mixed: bool,
}

impl State {
    /// A call begins, of which `taken` says whether it may take the lock that `grip` describes.
    fn begin_lock(&mut self, family: Family, grip: Grip, taken: bool) {
        let sure = self.sure;
        if self.begin() {
            self.before = sure;
            self.sure = match sure {
                Some(held) if held.mode == grip.mode => Some(held),
                // One `fcntl` lock becomes the other with nothing between: the weaker of both is held all the time.
                Some(held) if family == Family::Posix && held.mode == Mode::Read => Some(held),
                Some(held) if family == Family::Posix => Some(Grip { mode: Mode::Read, since: grip.since, ..held }),
                _ => None,
            };
        }
        let stronger = self.maybe.is_none_or(|held| held.mode < grip.mode);
        if taken && stronger {
            self.maybe = Some(grip);
        }
    }

    fn end_lock(&mut self, family: Family, grip: Grip, done: bool) {
        let before = self.before;
        if !self.end() {
            return;
        }
        let unchanged = before.filter(|before| self.sure == Some(*before));
        self.sure = match (done, unchanged) {
            (true, Some(held)) if held.mode == grip.mode => Some(held),
            (true, _) => Some(grip),
            (false, Some(held)) => Some(held),
            (false, None) if family == Family::Posix => before.map(|held| Grip { since: grip.since, ..held }),
            (false, None) => None,
        };
        if done && self.maybe.is_none_or(|held| held.mode != grip.mode) {
            self.maybe = Some(grip);
        }
    }

    fn begin_release(&mut self) {
        self.begin();
        self.sure = None;
    }

    fn end_release(&mut self, done: bool) {
        if self.end() && done {
            self.maybe = None;
        }
    }

    /// Whether the call is alone until now.
    fn begin(&mut self) -> bool {
        let alone = self.busy == 0;
        self.busy += 1;
        if !alone {
            *self = State { sure: None, before: None, mixed: true, ..*self };
        }
        alone
    }

    /// Whether the call was alone.
    fn end(&mut self) -> bool {
        let alone = !self.mixed;
        self.busy -= 1;
        self.before = None;
        self.mixed &= self.busy > 0;
        alone
    }
}

/// Locks of one owner on one file.
type Key = (Owner, u32, Family);

/// Follows all calls in the order of time.
struct Follower<'a> {
    history: &'a History,
    rules: &'a Rules,
    holds: Holds,
    /// By process, mount and the process's own number.
    numbers: HashMap<(usize, u32, u32), Owner>,
    /// The process of each owner.
    processes: Vec<usize>,
    states: HashMap<Key, Spans<State>>,
    /// The last call through each open file that proves that no lock of it was lost.
    proofs: HashMap<(usize, u32), u64>,
    /// Reads that wait for such a proof.
    unproven: HashMap<(usize, u32), Vec<usize>>,
}

/// Finds what owners held in `history`.
pub(crate) fn find(history: &History, rules: &Rules) -> Holds {
    let mut follower = Follower {
        history,
        rules,
        holds: Holds::default(),
        numbers: HashMap::new(),
        processes: Vec::new(),
        states: HashMap::new(),
        proofs: HashMap::new(),
        unproven: HashMap::new(),
    };
    follower.holds.owners = history.operations.iter().map(|operation| follower.owner_of(operation)).collect();
    follower.holds.covered = vec![false; history.operations.len()];
    for (at, begins, place) in events(history) {
        if begins { follower.begin(place, at) } else { follower.end(place, at) }
    }
    follower.finish();
    follower.holds
}

/// Beginnings and ends of all operations; at one moment ends come first.
fn events(history: &History) -> Vec<(u64, bool, usize)> {
    let mut events = Vec::with_capacity(history.operations.len() * 2);
    for (place, operation) in history.operations.iter().enumerate() {
        events.push((operation.invoked, true, place));
        events.extend(operation.returned.map(|(at, _)| (at, false, place)));
    }
    events.sort_unstable();
    events
}

/// Whether the answer shows that no lock of its open file was lost when it began.
fn proves(operation: &Operation) -> bool {
    operation.done().is_some() && !matches!(operation.does, Call::Read { .. } | Call::Close { .. })
}

impl Follower<'_> {
    fn number(&mut self, operation: &Operation, owner: u32) -> Owner {
        let next = self.processes.len() as Owner;
        let number = *self.numbers.entry((operation.process, operation.mount, owner)).or_insert(next);
        if number == next {
            self.processes.push(operation.process);
        }
        number
    }

    fn owner_of(&mut self, operation: &Operation) -> Option<Owner> {
        match operation.does {
            Call::Lock { owner, .. }
            | Call::Unlock { owner, .. }
            | Call::Test { owner, .. }
            | Call::Read { owner, .. }
            | Call::Write { owner, .. } => Some(self.number(operation, owner)),
            Call::Close { .. } | Call::Append { .. } => None,
        }
    }

    /// What an operation of an owner works on.
    fn key(&self, place: usize, family: Family) -> Key {
        let owner = self.holds.owners[place].expect("the call of an owner");
        (owner, self.history.operations[place].file, family)
    }

    fn begin(&mut self, place: usize, at: u64) {
        let history = self.history;
        let operation = &history.operations[place];
        if proves(operation) {
            let open = (operation.process, operation.does.open());
            self.proofs.insert(open, at);
            for read in self.unproven.remove(&open).unwrap_or_default() {
                self.holds.covered[read] = true;
            }
        }
        match operation.does {
            Call::Lock { open, mode, span, family, .. } => {
                let taken = !matches!(operation.answer(), Some(Answer::Failed(number)) if number != EIO);
                let grip = Grip { mode, since: at, open, grant: place };
                self.change(self.key(place, family), span, at, 0, |state| state.begin_lock(family, grip, taken));
            }
            Call::Unlock { span, family, .. } => {
                self.change(self.key(place, family), span, at, 0, State::begin_release);
            }
            Call::Close { ref owners, ref soon, .. } => {
                for &owner in owners.iter().chain(soon) {
                    self.change_all(operation, owner, at, 0, State::begin_release);
                }
            }
            Call::Write { at: cell, .. } => {
                let held = self.held(place, Span::cell(cell));
                self.holds.covered[place] = held.is_some_and(|grip| grip.mode == Mode::Write);
            }
            Call::Test { .. } | Call::Read { .. } | Call::Append { .. } => (),
        }
    }

    fn end(&mut self, place: usize, at: u64) {
        let history = self.history;
        let operation = &history.operations[place];
        let done = operation.done().is_some();
        match operation.does {
            Call::Lock { open, mode, span, family, .. } => {
                let grip = Grip { mode, since: at, open, grant: place };
                self.change(self.key(place, family), span, at, 0, |state| state.end_lock(family, grip, done));
            }
            Call::Unlock { span, family, .. } => {
                self.change(self.key(place, family), span, at, 0, |state| state.end_release(done));
            }
            Call::Close { ref owners, ref soon, .. } => {
                // What close(2) answers says nothing of locks: they go in any case.
                for &owner in owners {
                    self.change_all(operation, owner, at, 0, |state| state.end_release(true));
                }
                for &owner in soon {
                    self.change_all(operation, owner, at, self.rules.settle, |state| state.end_release(true));
                }
            }
            Call::Read { at: cell, open, .. } if done => {
                let held = self.held(place, Span::cell(cell)).is_some_and(|grip| grip.since <= operation.invoked);
                if held && self.rules.losses {
                    self.unproven.entry((operation.process, open)).or_default().push(place);
                }
                self.holds.covered[place] = held && !self.rules.losses;
            }
            Call::Test { .. } | Call::Read { .. } | Call::Write { .. } | Call::Append { .. } => (),
        }
        if let (Some(Answer::Failed(EINTR)), Call::Lock { span, mode, family, open, .. }) =
            (operation.answer(), &operation.does)
        {
            // Where the keeper cannot be reached it hears later that the wait is over, and may have granted it meanwhile.
            let grip = Grip { mode: *mode, since: operation.invoked, open: *open, grant: place };
            self.emit_maybe(self.key(place, *family), *span, Some(grip), at.saturating_add(self.rules.settle));
        }
        if operation.answer() == Some(Answer::Failed(EIO)) {
            self.lose(operation, at);
            self.holds.told.push(place);
        }
    }

    /// Nothing is certain any more of what was locked through the open file of `operation`.
    fn lose(&mut self, operation: &Operation, at: u64) {
        let open = operation.does.open();
        self.unproven.remove(&(operation.process, open));
        let of_process = |key: &&Key| key.1 == operation.file && self.processes[key.0 as usize] == operation.process;
        let keys: Vec<Key> = self.states.keys().filter(of_process).copied().collect();
        for key in keys {
            self.change(key, Span::ALL, at, 0, |state| {
                state.sure = state.sure.filter(|grip| grip.open != open);
                state.before = state.before.filter(|grip| grip.open != open);
            });
        }
    }

    /// What is certain of a cell for the owner of an operation.
    fn held(&self, place: usize, cell: Span) -> Option<Grip> {
        [Family::Posix, Family::Flock].into_iter().find_map(|family| {
            let spans = self.states.get(&self.key(place, family))?;
            spans.within(cell).find(|(span, _)| span.covers(cell)).and_then(|(_, state)| state.sure)
        })
    }

    /// The same for all that an owner holds of the file of an operation.
    fn change_all(&mut self, operation: &Operation, owner: u32, at: u64, linger: u64, change: fn(&mut State)) {
        let owner = self.number(operation, owner);
        for family in [Family::Posix, Family::Flock] {
            self.change((owner, operation.file, family), Span::ALL, at, linger, change);
        }
    }

    /// Changes the state of some bytes at the moment `at`; what possibly ends by it ends after `linger`.
    fn change(&mut self, key: Key, span: Span, at: u64, linger: u64, mut change: impl FnMut(&mut State)) {
        let mut spans = self.states.remove(&key).unwrap_or_default();
        spans.change(span, |part, old| {
            let old = old.unwrap_or_default();
            let mut new = old;
            change(&mut new);
            if new.sure != old.sure {
                self.emit_sure(key, part, old.sure, at);
            }
            if new.maybe != old.maybe {
                self.emit_maybe(key, part, old.maybe, at.saturating_add(linger));
            }
            (new != State::default()).then_some(new)
        });
        if !spans.is_empty() {
            self.states.insert(key, spans);
        }
    }

    fn emit_sure(&mut self, key: Key, span: Span, grip: Option<Grip>, until: u64) {
        let Some(grip) = grip else { return };
        let until = match self.proofs.get(&(self.processes[key.0 as usize], grip.open)) {
            Some(&proof) if self.rules.losses => until.min(proof),
            _ => until,
        };
        if grip.since < until {
            self.holds.sure.push(hold(key, span, grip, until));
        }
    }

    fn emit_maybe(&mut self, key: Key, span: Span, grip: Option<Grip>, until: u64) {
        self.holds.maybe.extend(grip.filter(|grip| grip.since < until).map(|grip| hold(key, span, grip, until)));
    }

    /// What is held in the end goes with its process.
    fn finish(&mut self) {
        for (key, spans) in std::mem::take(&mut self.states) {
            let process = &self.history.processes[self.processes[key.0 as usize]];
            let gone = process.gone_by.map_or(u64::MAX, |gone| gone.saturating_add(self.rules.settle));
            for (span, state) in spans.within(Span::ALL) {
                self.emit_sure(key, span, state.sure, process.alive_until);
                self.emit_maybe(key, span, state.maybe, gone);
            }
        }
    }
}

fn hold(key: Key, span: Span, grip: Grip, until: u64) -> Hold {
    let (owner, file, family) = key;
    Hold { owner, file, family, span, mode: grip.mode, from: grip.since, until, grant: grip.grant }
}
