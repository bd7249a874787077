//! L1 and L2: nobody gets, or is shown, what another certainly holds; nobody is refused because of what nobody holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::History;
use crate::holds::{Hold, Holds, Owner};
use crate::log::{Answer, Call, Family, Mode, Span};
use crate::spans::Spans;
use crate::verdict::{EACCES, EAGAIN, EDEADLK, Law, Violation};

/// Checks every pair of holds, every grant, every refusal and every test.
pub(crate) fn check(history: &History, holds: &Holds) -> Vec<Violation> {
    let mut files: BTreeMap<(u32, Family), File> = BTreeMap::new();
    for hold in &holds.sure {
        files.entry((hold.file, hold.family)).or_default().sure.push(hold);
    }
    for hold in &holds.maybe {
        files.entry((hold.file, hold.family)).or_default().maybe.push(hold);
    }
    for place in 0..history.operations.len() {
        if let Some((family, question)) = Question::of(history, holds, place) {
            files.entry((history.operations[place].file, family)).or_default().questions.push(question);
        }
    }
    let mut violations: Vec<Violation> = files.values().flat_map(File::check).collect();
    violations.extend(deadlocks(history, holds));
    violations
}

/// What there is to check of one file in one family.
#[derive(Default)]
struct File<'a> {
    sure: Vec<&'a Hold>,
    maybe: Vec<&'a Hold>,
    questions: Vec<Question>,
}

/// An operation whose answer says something of what others held while it was under way.
struct Question {
    place: usize,
    owner: Owner,
    mode: Mode,
    span: Span,
    from: u64,
    until: u64,
    says: Says,
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The lock was granted: at some moment nobody held one in its way.
    Granted,
    /// The lock could be taken: the same.
    Free,
    /// At some moment somebody held a lock in its way.
    InTheWay,
}

impl Question {
    fn of(history: &History, holds: &Holds, place: usize) -> Option<(Family, Question)> {
        let operation = &history.operations[place];
        let (until, answer) = operation.returned?;
        let (family, mode, mut span, says) = match (&operation.does, answer) {
            (Call::Lock { family, mode, span, .. }, Answer::Ok) => (*family, *mode, *span, Says::Granted),
            (Call::Lock { family, mode, span, wait: false, .. }, Answer::Failed(EAGAIN | EACCES)) => {
                (*family, *mode, *span, Says::InTheWay)
            }
            (Call::Test { family, mode, span, .. }, Answer::Free) => (*family, *mode, *span, Says::Free),
            (Call::Test { family, mode, span, .. }, Answer::Held { .. }) => (*family, *mode, *span, Says::InTheWay),
            _ => return None,
        };
        if let Answer::Held { span: shown, .. } = answer {
            let common = Span(span.0.max(shown.0), span.1.min(shown.1));
            // What is shown without being in the way is in nobody's way: no hold overlaps an empty span.
            span = common;
        }
        let owner = holds.owners[place]?;
        Some((family, Question { place, owner, mode, span, from: operation.invoked, until, says }))
    }

    fn meets(&self, hold: &Hold) -> bool {
        hold.owner != self.owner && hold.mode.conflicts(self.mode) && hold.span.overlaps(self.span)
    }
}

/// What happens at a moment, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    HoldEnds(usize),
    HoldBegins(usize),
    QuestionBegins(usize),
    QuestionEnds(usize),
}

/// The holds of one moment, by the bytes they cover.
struct Moment<'a> {
    holds: &'a [&'a Hold],
    held: Spans<Vec<usize>>,
}

impl Moment<'_> {
    fn begin(&mut self, hold: usize) {
        self.held.change(self.holds[hold].span, |_, there| {
            let mut there = there.unwrap_or_default();
            there.push(hold);
            Some(there)
        });
    }

    fn end(&mut self, hold: usize) {
        self.held.change(self.holds[hold].span, |_, there| {
            let mut there = there.unwrap_or_default();
            there.retain(|&other| other != hold);
            Some(there).filter(|there| !there.is_empty())
        });
    }

    /// The holds that have bytes of `span`; one may come several times.
    fn within(&self, span: Span) -> impl Iterator<Item = usize> {
        self.held.within(span).flat_map(|(_, there)| there.iter().copied())
    }
}

impl File<'_> {
    fn check(&self) -> Vec<Violation> {
        let mut violations = self.check_sure();
        violations.extend(self.check_refusals());
        violations
    }

    /// The holds and questions in the order of time.
    fn events(&self, holds: &[&Hold], wanted: impl Fn(Says) -> bool) -> Vec<(u64, Event)> {
        let mut events = Vec::with_capacity(2 * (holds.len() + self.questions.len()));
        for (place, hold) in holds.iter().enumerate() {
            events.extend([(hold.from, Event::HoldBegins(place)), (hold.until, Event::HoldEnds(place))]);
        }
        for (place, question) in self.questions.iter().enumerate().filter(|(_, question)| wanted(question.says)) {
            events.push((question.from, Event::QuestionBegins(place)));
            events.push((question.until, Event::QuestionEnds(place)));
        }
        events.sort_unstable();
        events
    }

    /// No two certain holds conflict, and no lock is granted or found free that another certainly held all the while.
    fn check_sure(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut reported = HashSet::new();
        let mut moment = Moment { holds: &self.sure, held: Spans::default() };
        for (at, event) in self.events(&self.sure, |says| says != Says::InTheWay) {
            match event {
                Event::HoldEnds(hold) => moment.end(hold),
                Event::HoldBegins(place) => {
                    let hold = self.sure[place];
                    for other in moment.within(hold.span).map(|other| self.sure[other]) {
                        let conflicts = other.owner != hold.owner && other.mode.conflicts(hold.mode);
                        if conflicts && reported.insert((other.grant, hold.grant)) {
                            violations.push(overlap(at, other, hold));
                        }
                    }
                    moment.begin(place);
                }
                Event::QuestionBegins(place) => {
                    let question = &self.questions[place];
                    let all_the_while = |hold: &Hold| question.meets(hold) && hold.until >= question.until;
                    for other in moment.within(question.span).map(|other| self.sure[other]) {
                        if all_the_while(other) && reported.insert((other.grant, question.place)) {
                            violations.push(ignored(question, other));
                        }
                    }
                }
                Event::QuestionEnds(_) => (),
            }
        }
        violations
    }

    /// For each refusal there is somebody who possibly held what was in the way.
    fn check_refusals(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut moment = Moment { holds: &self.maybe, held: Spans::default() };
        // Those that found nobody until now.
        let mut open: Vec<usize> = Vec::new();
        for (_, event) in self.events(&self.maybe, |says| says == Says::InTheWay) {
            match event {
                Event::HoldEnds(hold) => moment.end(hold),
                Event::HoldBegins(hold) => {
                    moment.begin(hold);
                    open.retain(|&question| !self.questions[question].meets(self.maybe[hold]));
                }
                Event::QuestionBegins(place) => {
                    let question = &self.questions[place];
                    if !moment.within(question.span).any(|hold| question.meets(self.maybe[hold])) {
                        open.push(place);
                    }
                }
                Event::QuestionEnds(place) => {
                    if open.contains(&place) {
                        open.retain(|&question| question != place);
                        violations.push(unfounded(&self.questions[place]));
                    }
                }
            }
        }
        violations
    }
}

fn overlap(at: u64, first: &Hold, second: &Hold) -> Violation {
    Violation {
        law: Law::L1,
        at,
        why: format!(
            "two owners hold bytes of {}..{}",
            first.span.0.max(second.span.0),
            first.span.1.min(second.span.1)
        ),
        operations: vec![first.grant, second.grant],
    }
}

fn ignored(question: &Question, hold: &Hold) -> Violation {
    let (law, what) = match question.says {
        Says::Granted => (Law::L1, "a lock was granted"),
        _ => (Law::L2, "a lock was found free"),
    };
    let why = format!("{what} while another owner held {}..{} all the time", hold.span.0, hold.span.1);
    Violation { law, at: question.from, why, operations: vec![hold.grant, question.place] }
}

fn unfounded(question: &Question) -> Violation {
    Violation {
        law: Law::L2,
        at: question.until,
        why: "a lock was refused, or shown to be in the way, that nobody can have held".to_owned(),
        operations: vec![question.place],
    }
}

/// Who waits for ever because of what it holds holds something.
fn deadlocks(history: &History, holds: &Holds) -> Vec<Violation> {
    let refused = |place: &usize| history.operations[*place].answer() == Some(Answer::Failed(EDEADLK));
    let refused: Vec<usize> = (0..history.operations.len()).filter(refused).collect();
    if refused.is_empty() {
        return Vec::new();
    }
    let mut owners: HashMap<Owner, Vec<&Hold>> = HashMap::new();
    for hold in &holds.maybe {
        owners.entry(hold.owner).or_default().push(hold);
    }
    let unfounded = refused.into_iter().filter(|&place| {
        let operation = &history.operations[place];
        let during = |hold: &&Hold| hold.from <= operation.ended() && operation.invoked <= hold.until;
        let own = holds.owners[place].and_then(|owner| owners.get(&owner));
        own.is_none_or(|holds| !holds.iter().any(during))
    });
    let violation = |place: usize| Violation {
        law: Law::L5,
        at: history.operations[place].ended(),
        why: "EDEADLK for an owner that held nothing that others could wait for".to_owned(),
        operations: vec![place],
    };
    unfounded.map(violation).collect()
}
