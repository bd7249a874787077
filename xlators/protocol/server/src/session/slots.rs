//! The slots of one session: which request each carries, and what the last one was answered.
//!
//! Pure: no clock, no tasks, no waking. A mutex per slot: threads meet only where a client names one slot twice.
//!
//! Always true between calls:
//! - the sequence of a slot only grows;
//! - a slot has at most one request under way, and at most one remembered answer, both of its sequence;
//! - whoever began a request and finishes it gets its destination once, unless a later request took the slot;
//! - a lock call that its client has given up is not begun any more.

use std::collections::HashMap;
use std::sync::OnceLock;

use brickwork_api::{Cancel, Errno, FopKind};
use parking_lot::Mutex;

use super::Answer;
use super::kinds::{is_kept, is_lock};

/// Slots are made this many at a time: most clients use few of theirs.
const CHUNK: u32 = 64;

/// Where the answer of a request goes.
pub trait Destination {
    /// Whether an answer goes here instead of to `former`, from where the same request came before.
    ///
    /// What is read last was not always sent last: the rest of a lost connection may be read after the client has asked
    /// again on the next one, and an answer that is put there is lost.
    fn replaces(&self, former: &Self) -> bool;

    /// The frame that asked.
    fn origin(&self) -> Origin;
}

/// Names a frame that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The number of its connection.
    pub connection: u64,
    /// Its id there.
    pub id: u64,
}

/// What a request that came is.
#[derive(Debug)]
pub enum Begun<D> {
    /// To be done.
    New {
        /// The request that this one takes the place of, if it is still under way.
        superseded: Option<Cancel>,
        /// Its answer from before the brick's restart: what it opened has to be opened again, and no more.
        remembered: Option<Answer>,
    },
    /// Not numbered, so nothing is known of it: to be done, and answered to where it came from.
    Unnumbered(D),
    /// Done before.
    Again(Answer, D),
    /// Under way: its answer goes to the new destination, if that [replaces](Destination::replaces) the former.
    Joined,
    /// Its client has gone on: nobody waits for it.
    Stale,
    /// A lock call that its client had given up before it came.
    GivenUp(D),
}

/// A request that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished<D> {
    /// Where its answer goes.
    pub destination: D,
    /// Its client gave it up meanwhile and expects nothing of it.
    pub given_up: bool,
}

/// What a request is that its client gives up.
#[derive(Debug)]
pub enum Abandoned {
    /// Under way: its flag.
    Running(Cancel),
    /// Not under way. What it may have come to, here or in a process before this one, was never heard of. Should it come
    /// yet, it is not begun.
    Unheard {
        /// The request before it in the slot, if it is still under way.
        superseded: Option<Cancel>,
    },
    /// Answered, or nothing that is waited for.
    Nothing,
}

/// The slots of one session. `D` is where an answer goes.
#[derive(Debug)]
pub struct Slots<D> {
    count: u32,
    waiters_max: u32,
    ordinary: Box<[OnceLock<Chunk<D>>]>,
    /// Of calls that wait, by number; they are few, or slow.
    waiting: Mutex<HashMap<u32, Slot<D>>>,
}

type Chunk<D> = Box<[Mutex<Slot<D>>]>;

#[derive(Debug)]
struct Slot<D> {
    sequence: u64,
    kind: FopKind,
    state: State<D>,
}

#[derive(Debug)]
enum State<D> {
    /// Nothing to tell of the last request: it may run again. If it was answered, then to this frame.
    Idle(Option<Origin>),
    /// A lock call that is not to run any more.
    GivenUp,
    Running {
        cancel: Cancel,
        /// Its client expects nothing of it.
        given_up: bool,
        destination: D,
        /// Its answer, when it has one but is not finished: it is of before the restart, or others are told of it first.
        remembered: Option<Answer>,
    },
    Done {
        answer: Answer,
        /// It opened something before the restart of the brick.
        reopens: bool,
    },
}

/// An answer with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The slot.
    pub slot: u32,
    /// The request.
    pub sequence: u64,
    /// The fop.
    pub kind: FopKind,
    /// What it was answered.
    pub answer: Answer,
}

impl<D> Slots<D> {
    /// `count` slots for ordinary requests, and after them `waiters_max` for calls that wait.
    #[must_use]
    pub fn new(count: u32, waiters_max: u32) -> Slots<D> {
        let ordinary = (0..count.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Slots { count, waiters_max, ordinary, waiting: Mutex::default() }
    }

    /// Says what a request is that came in `slot` with `sequence`; a new one is under way from here to [`Slots::finish`].
    ///
    /// # Errors
    /// `EINVAL` for a slot beyond the limits, and for a sequence that named another fop before.
    pub fn begin(
        &self,
        slot: u32,
        sequence: u64,
        kind: FopKind,
        cancel: &Cancel,
        destination: D,
    ) -> Result<Begun<D>, Errno>
    where
        D: Destination,
    {
        if sequence == 0 {
            return Ok(Begun::Unnumbered(destination));
        }
        self.with(slot, |slot| slot.begin(sequence, kind, cancel, destination))?
    }

    /// Ends a request and returns where `answer` goes; `None` when a later one has taken the slot.
    ///
    /// Without `answer` the request may run again.
    pub fn finish(&self, slot: u32, sequence: u64, answer: Option<Answer>) -> Option<Finished<D>>
    where
        D: Destination,
    {
        self.with(slot, |slot| slot.finish(sequence, answer)).ok().flatten()
    }

    /// Notes the answer of a request that goes on for a while, so that a snapshot has it.
    pub fn answered(&self, slot: u32, sequence: u64, answer: &Answer) {
        // A slot that is none has nothing to note.
        let _ = self.with(slot, |slot| match &mut slot.state {
            State::Running { remembered, .. } if slot.sequence == sequence => *remembered = Some(answer.clone()),
            _ => {}
        });
    }

    /// Notes that its client gives a request up, and says what that is. `by` is the frame that says so: one with the
    /// request's own origin leaves the answer to be heard, whatever it is; with any other the client expects nothing more.
    pub fn give_up(&self, slot: u32, sequence: u64, by: Origin) -> Abandoned
    where
        D: Destination,
    {
        // What is not numbered cannot be named, and a slot that is none has nothing.
        let abandoned = (sequence > 0).then(|| self.with(slot, |slot| slot.give_up(sequence, by)));
        abandoned.and_then(Result::ok).unwrap_or(Abandoned::Nothing)
    }

    /// Remembers an answer of before the restart; a later request in the slot stays.
    ///
    /// # Errors
    /// `EINVAL` for a slot beyond the limits, which were higher then.
    pub fn restore(&self, remembered: Remembered) -> Result<(), Errno> {
        let Remembered { slot, sequence, kind, answer } = remembered;
        self.with(slot, |slot| {
            if sequence > slot.sequence {
                let opens = matches!(kind, FopKind::Create | FopKind::Open | FopKind::Opendir);
                let reopens = opens && !answer.failure;
                *slot = Slot { sequence, kind, state: State::Done { answer, reopens } };
            }
        })
    }

    /// Every remembered answer, by slot.
    #[must_use]
    pub fn remembered(&self) -> Vec<Remembered> {
        let mut all = Vec::new();
        for (chunk, slots) in self.ordinary.iter().enumerate() {
            let slots = slots.get().map_or(&[][..], |slots| slots);
            let first = chunk as u32 * CHUNK;
            all.extend((first..).zip(slots).filter_map(|(number, slot)| slot.lock().remembered(number)));
        }
        let ordinary = all.len();
        all.extend(self.waiting.lock().iter().filter_map(|(number, slot)| slot.remembered(*number)));
        all[ordinary..].sort_unstable_by_key(|remembered| remembered.slot);
        all
    }

    /// The flags of all requests that are under way.
    #[must_use]
    pub fn cancels(&self) -> Vec<Cancel> {
        let chunks = self.ordinary.iter().filter_map(OnceLock::get);
        let mut all: Vec<Cancel> = chunks.flatten().filter_map(|slot| slot.lock().cancel()).collect();
        all.extend(self.waiting.lock().values().filter_map(Slot::cancel));
        all
    }

    /// How many requests are under way.
    #[must_use]
    pub fn running(&self) -> usize {
        let chunks = self.ordinary.iter().filter_map(OnceLock::get);
        let ordinary = chunks.flatten().filter(|slot| slot.lock().is_running()).count();
        ordinary + self.waiting.lock().values().filter(|slot| slot.is_running()).count()
    }

    fn with<T>(&self, slot: u32, act: impl FnOnce(&mut Slot<D>) -> T) -> Result<T, Errno> {
        if slot < self.count {
            let chunk = self.ordinary[(slot / CHUNK) as usize].get_or_init(new_chunk);
            return Ok(act(&mut chunk[(slot % CHUNK) as usize].lock()));
        }
        if slot - self.count >= self.waiters_max {
            return Err(Errno::EINVAL);
        }
        Ok(act(self.waiting.lock().entry(slot).or_default()))
    }
}

fn new_chunk<D>() -> Chunk<D> {
    (0..CHUNK).map(|_| Mutex::default()).collect()
}

impl<D> Default for Slot<D> {
    fn default() -> Slot<D> {
        Slot { sequence: 0, kind: FopKind::Lookup, state: State::Idle(None) }
    }
}

impl<D> Slot<D> {
    fn begin(&mut self, sequence: u64, kind: FopKind, cancel: &Cancel, destination: D) -> Result<Begun<D>, Errno>
    where
        D: Destination,
    {
        if sequence < self.sequence {
            return Ok(Begun::Stale);
        }
        if sequence == self.sequence {
            return self.repeat(kind, cancel, destination);
        }
        (self.sequence, self.kind) = (sequence, kind);
        let superseded = match self.run(cancel, destination, None) {
            State::Running { cancel, .. } => Some(cancel),
            State::Idle(_) | State::GivenUp | State::Done { .. } => None,
        };
        Ok(Begun::New { superseded, remembered: None })
    }

    fn repeat(&mut self, kind: FopKind, cancel: &Cancel, destination: D) -> Result<Begun<D>, Errno>
    where
        D: Destination,
    {
        if let State::GivenUp = self.state {
            return Ok(match is_lock(kind) {
                true => Begun::GivenUp(destination),
                false => {
                    // Nobody waits for such a fop, so nobody can have meant it.
                    self.kind = kind;
                    self.run(cancel, destination, None);
                    Begun::New { superseded: None, remembered: None }
                }
            });
        }
        if kind != self.kind {
            return Err(Errno::EINVAL);
        }
        match &mut self.state {
            State::Running { destination: current, .. } => {
                if destination.replaces(current) {
                    *current = destination;
                }
                Ok(Begun::Joined)
            }
            State::Done { answer, reopens: false } => Ok(Begun::Again(answer.clone(), destination)),
            State::Done { answer, .. } => {
                let remembered = Some(answer.clone());
                self.run(cancel, destination, remembered.clone());
                Ok(Begun::New { superseded: None, remembered })
            }
            State::Idle(_) | State::GivenUp => {
                self.run(cancel, destination, None);
                Ok(Begun::New { superseded: None, remembered: None })
            }
        }
    }

    fn run(&mut self, cancel: &Cancel, destination: D, remembered: Option<Answer>) -> State<D> {
        let running = State::Running { cancel: cancel.clone(), given_up: false, destination, remembered };
        std::mem::replace(&mut self.state, running)
    }

    fn finish(&mut self, sequence: u64, answer: Option<Answer>) -> Option<Finished<D>>
    where
        D: Destination,
    {
        if self.sequence != sequence || !self.is_running() {
            return None;
        }
        let State::Running { destination, given_up, .. } = std::mem::replace(&mut self.state, State::Idle(None)) else {
            unreachable!("it was running");
        };
        self.state = match answer.filter(|_| is_kept(self.kind)) {
            Some(answer) => State::Done { answer, reopens: false },
            None if given_up && is_lock(self.kind) => State::GivenUp,
            None => State::Idle(Some(destination.origin())),
        };
        Some(Finished { destination, given_up })
    }

    fn give_up(&mut self, sequence: u64, by: Origin) -> Abandoned
    where
        D: Destination,
    {
        if sequence < self.sequence {
            return Abandoned::Nothing;
        }
        if sequence > self.sequence {
            self.sequence = sequence;
            let superseded = match std::mem::replace(&mut self.state, State::GivenUp) {
                State::Running { cancel, .. } => Some(cancel),
                State::Idle(_) | State::GivenUp | State::Done { .. } => None,
            };
            return Abandoned::Unheard { superseded };
        }
        match &mut self.state {
            State::Running { cancel, given_up, destination, .. } => {
                *given_up |= destination.origin() != by;
                Abandoned::Running(cancel.clone())
            }
            State::Idle(answered) if is_lock(self.kind) && *answered != Some(by) => {
                self.state = State::GivenUp;
                Abandoned::Unheard { superseded: None }
            }
            State::GivenUp => Abandoned::Unheard { superseded: None },
            State::Idle(_) | State::Done { .. } => Abandoned::Nothing,
        }
    }

    fn cancel(&self) -> Option<Cancel> {
        match &self.state {
            State::Running { cancel, .. } => Some(cancel.clone()),
            State::Idle(_) | State::GivenUp | State::Done { .. } => None,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn remembered(&self, slot: u32) -> Option<Remembered> {
        let (State::Done { answer, .. } | State::Running { remembered: Some(answer), .. }) = &self.state else {
            return None;
        };
        Some(Remembered { slot, sequence: self.sequence, kind: self.kind, answer: answer.clone() })
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
