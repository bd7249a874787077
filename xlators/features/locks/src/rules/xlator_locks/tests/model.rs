//! Random steps, against rules so plain that they are read at a glance: a slot for each byte and each name.

use proptest::prelude::*;

use super::*;

/// What a random step does.
#[derive(Clone, Debug)]
enum Step {
    Try(Request),
    Wait(Request),
    /// Of the held lock, or else of any scope, that the number leads to.
    Unlock(usize),
    UnlockAt(OwnerKey, Scope),
    Cancel(usize),
    Gone(OwnerKey),
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        4 => (0u64..6, 1u64..4).prop_map(|(start, len)| range(start, start + len)),
        3 => (0usize..3).prop_map(|which| name(["a", "b", "c"][which])),
        1 => Just(Scope::AllNames),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    (1u32..5, scopes(), any::<bool>()).prop_map(|(owner, scope, writes)| {
        request(OwnerKey(owner), scope, if writes { Mode::Exclusive } else { Mode::Shared })
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => requests().prop_map(Step::Try),
        5 => requests().prop_map(Step::Wait),
        4 => any::<usize>().prop_map(Step::Unlock),
        1 => (1u32..5, scopes()).prop_map(|(owner, scope)| Step::UnlockAt(OwnerKey(owner), scope)),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => (1u32..5).prop_map(|owner| Step::Gone(OwnerKey(owner))),
    ]
}

/// The naive model: one slot for each byte and each name, and every rule as a sentence about slots.
#[derive(Clone, Debug, Default)]
struct Plain {
    held: Vec<Request>,
    waiting: Vec<(u64, Request)>,
}

/// Bytes are slots 0 to 9, names 10 to 12.
fn slots(scope: &Scope) -> u16 {
    match scope {
        Scope::Range(range) => (range.start()..range.end()).map(|byte| 1 << byte).sum(),
        Scope::Name(name) => 1 << (10 + name.as_bytes()[0] - b'a'),
        Scope::AllNames => 0b111 << 10,
    }
}

impl Plain {
    fn clash(one: &Request, other: &Request) -> bool {
        let both_read = one.mode == Mode::Shared && other.mode == Mode::Shared;
        one.owner != other.owner && !both_read && slots(&one.scope) & slots(&other.scope) != 0
    }

    /// Whether `request` has to wait when the first `ahead` waiters came before it.
    fn must_wait(&self, request: &Request, ahead: usize) -> bool {
        let ahead = || self.waiting[..ahead].iter().map(|(_, waiter)| waiter);
        let of_its_kind = |other: &&Request| (slots(&other.scope) < 1 << 10) == (slots(&request.scope) < 1 << 10);
        let stands = self.held.iter().chain(ahead()).filter(of_its_kind).any(|other| other.owner == request.owner);
        let held = self.held.iter().any(|lock| Plain::clash(lock, request));
        held || (!stands && ahead().any(|waiter| Plain::clash(waiter, request)))
    }

    /// Takes it if that can be, or else queues it under `number`; says whether it was taken and who goes with it.
    fn arrive(&mut self, request: &Request, number: Option<u64>) -> (bool, Vec<u64>) {
        let waits = self.must_wait(request, self.waiting.len());
        match number {
            _ if !waits => self.held.push(request.clone()),
            Some(number) => self.waiting.push((number, request.clone())),
            None => {}
        }
        (!waits, self.settle_all())
    }

    /// Grants the first waiter that need not wait, of the ranges or of the names, until there is none.
    fn settle(&mut self, names: bool) -> Vec<u64> {
        let mut granted = Vec::new();
        let is_of = |request: &Request| (slots(&request.scope) >= 1 << 10) == names;
        while let Some(place) = (0..self.waiting.len())
            .find(|place| is_of(&self.waiting[*place].1) && !self.must_wait(&self.waiting[*place].1, *place))
        {
            let (id, request) = self.waiting.remove(place);
            self.held.push(request);
            granted.push(id);
        }
        granted
    }

    fn settle_all(&mut self) -> Vec<u64> {
        [self.settle(false), self.settle(true)].concat()
    }
}

/// Does `step` to both and returns what each says, as text where they answer and as numbers whom they grant.
fn do_step(
    object: &mut Object,
    plain: &mut Plain,
    number: u64,
    step: &Step,
) -> ((String, Vec<u64>), (String, Vec<u64>)) {
    let Object { locks, ids } = object;
    let say = |text: &str| text.to_owned();
    match step {
        Step::Try(request) => {
            let got = locks.try_lock(DOMAIN, request.clone(), ids, LIMITS);
            let got = got.map_or(("refused", vec![]), |taken| ("took", numbers(&taken.granted)));
            let (said, granted) = plain.arrive(request, None);
            ((say(got.0), got.1), (say(if said { "took" } else { "refused" }), granted))
        }
        Step::Wait(request) => {
            let got = match locks.wait(DOMAIN, WaiterId(number), request.clone(), ids, LIMITS).unwrap() {
                XlatorWaited::Granted(taken) => ("took", numbers(&taken.granted)),
                XlatorWaited::Queued => ("waits", vec![]),
            };
            let (said, granted) = plain.arrive(request, Some(number));
            ((say(got.0), got.1), (say(if said { "took" } else { "waits" }), granted))
        }
        Step::Unlock(which) => match plain.held.get(which % plain.held.len().max(1)).cloned() {
            Some(lock) => do_step(object, plain, number, &Step::UnlockAt(lock.owner, lock.scope)),
            None => ((say("none"), vec![]), (say("none"), vec![])),
        },
        Step::UnlockAt(owner, scope) => {
            let got = locks.unlock(DOMAIN, *owner, scope, ids);
            let place = plain.held.iter().rposition(|lock| lock.owner == *owner && lock.scope == *scope);
            let lock = place.map(|place| plain.held.remove(place));
            let (got, granted) = got.map_or((None, vec![]), |(lock, granted)| (Some(lock.request), numbers(&granted)));
            ((format!("{got:?}"), granted), (format!("{lock:?}"), plain.settle_all()))
        }
        Step::Cancel(which) => {
            let place = which % (plain.waiting.len() + 1);
            let id = plain.waiting.get(place).map_or(u64::MAX, |(id, _)| *id);
            let got = locks.cancel(WaiterId(id), ids);
            let waiter = (place < plain.waiting.len()).then(|| plain.waiting.remove(place).1);
            let (got, granted) =
                got.map_or((None, vec![]), |(waiter, granted)| (Some(waiter.request), numbers(&granted)));
            ((format!("{got:?}"), granted), (format!("{waiter:?}"), plain.settle_all()))
        }
        Step::Gone(owner) => {
            let got = locks.release_client(&|other| other == *owner, ids);
            let before = plain.held.len() + plain.waiting.len();
            plain.held.retain(|lock| lock.owner != *owner);
            plain.waiting.retain(|(_, waiter)| waiter.owner != *owner);
            let gone = before - plain.held.len() - plain.waiting.len();
            let got_gone = got.locks.len() + got.waiters.len();
            ((got_gone.to_string(), numbers(&got.granted)), (gone.to_string(), plain.settle_all()))
        }
    }
}

/// What a snapshot of `locks` restores.
fn restored(locks: &XlatorLocks) -> XlatorLocks {
    let mut again = XlatorLocks::default();
    locks.locks().for_each(|(domain, lock)| again.restore(domain, lock.clone()));
    locks.waiters().for_each(|(domain, waiter)| again.restore_waiter(domain, waiter.clone()));
    again
}

fn cases() -> u32 {
    if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { 50_000 } else { 500 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn they_do_what_the_plain_rules_say_and_survive_a_snapshot_at_any_point(steps in prop::collection::vec(steps(), 1..60)) {
        let (mut object, mut plain) = (Object::default(), Plain::default());
        for (number, step) in (0u64..).zip(&steps) {
            let (got, expected) = do_step(&mut object, &mut plain, number, step);
            prop_assert_eq!(got, expected, "step {} of {:?}", number, steps);
            prop_assert_eq!(object.locks.len(), plain.held.len());
            prop_assert_eq!(object.locks.waiters().count(), plain.waiting.len());
            prop_assert_eq!(object.locks.is_empty(), plain.held.is_empty() && plain.waiting.is_empty());
            for (_, waiter) in object.locks.waiters() {
                prop_assert!(!object.locks.blockers(waiter.id).is_empty(), "{:?} waits for nothing", waiter);
            }
            for (at, one) in plain.held.iter().enumerate() {
                prop_assert!(plain.held[..at].iter().all(|other| !Plain::clash(one, other)));
            }
            object.locks = restored(&object.locks);
        }
    }
}
