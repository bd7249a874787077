mod model;

use brickwork_api::ranges::ByteRange;
use brickwork_api::{Errno, Name, OpenId};

use super::*;
use crate::table::{Mode, Tag};

const A: OwnerKey = OwnerKey(1);
const B: OwnerKey = OwnerKey(2);
const C: OwnerKey = OwnerKey(3);
const LIMITS: Limits = Limits { domains: 4, locks_per_domain: 100 };
const DOMAIN: &str = "gd1-dht";

fn range(start: u64, end: u64) -> Scope {
    Scope::Range(ByteRange::new(start, end).unwrap())
}

fn name(text: &str) -> Scope {
    Scope::Name(Name::new(text.as_bytes()).unwrap())
}

fn request(owner: OwnerKey, scope: Scope, mode: Mode) -> Request {
    Request { owner, scope, mode, tag: Tag { open: OpenId(0), process: 1, since_ms: 0, mandatory: false } }
}

fn exclusive(owner: OwnerKey, scope: Scope) -> Request {
    request(owner, scope, Mode::Exclusive)
}

fn shared(owner: OwnerKey, scope: Scope) -> Request {
    request(owner, scope, Mode::Shared)
}

/// One object, with its numbers, and short words for what tests do to it.
#[derive(Default)]
struct Object {
    locks: XlatorLocks,
    ids: Ids,
}

impl Object {
    fn take(&mut self, request: Request) -> LockId {
        self.locks.try_lock(DOMAIN, request, &self.ids, LIMITS).unwrap().id
    }

    fn is_refused(&mut self, request: Request) -> bool {
        matches!(self.locks.try_lock(DOMAIN, request, &self.ids, LIMITS), Err(XlatorRefused::Conflict(_)))
    }

    fn queue(&mut self, id: u64, request: Request) {
        assert_eq!(self.locks.wait(DOMAIN, WaiterId(id), request, &self.ids, LIMITS), Ok(XlatorWaited::Queued));
    }

    /// The numbers of the waiters that are granted by it.
    fn unlock(&mut self, owner: OwnerKey, scope: &Scope) -> Vec<u64> {
        let (_, granted) = self.locks.unlock(DOMAIN, owner, scope, &self.ids).unwrap();
        numbers(&granted)
    }
}

fn numbers(waiters: &[WaiterId]) -> Vec<u64> {
    waiters.iter().map(|id| id.0).collect()
}

#[test]
fn ranges_of_different_owners_conflict_when_one_is_exclusive() {
    let mut object = Object::default();
    object.take(shared(A, range(0, 10)));
    object.take(shared(B, range(5, 15)));
    assert!(object.is_refused(exclusive(C, range(9, 20))));
    object.take(exclusive(C, range(15, 20)));
    assert!(object.is_refused(shared(A, range(19, 21))));
}

#[test]
fn every_name_conflicts_with_all_names_and_no_name_with_another() {
    let mut object = Object::default();
    object.take(exclusive(A, name("a")));
    object.take(exclusive(B, name("b")));
    assert!(object.is_refused(exclusive(C, Scope::AllNames)));
    object.unlock(A, &name("a"));
    object.unlock(B, &name("b"));
    object.take(shared(C, Scope::AllNames));
    assert!(object.is_refused(exclusive(A, name("c"))));
    object.take(shared(A, name("c")));
}

#[test]
fn ranges_names_and_domains_know_nothing_of_each_other() {
    let mut object = Object::default();
    object.take(exclusive(A, range(0, u64::MAX)));
    object.take(exclusive(B, Scope::AllNames));
    assert!(object.locks.try_lock("other", exclusive(C, range(0, 1)), &object.ids, LIMITS).is_ok());
}

#[test]
fn an_owner_may_take_the_same_lock_again_and_releases_each_by_itself() {
    let mut object = Object::default();
    let first = object.take(shared(A, range(0, 10)));
    let second = object.take(exclusive(A, range(0, 10)));
    object.take(exclusive(A, range(5, 15)));
    assert!(object.is_refused(shared(B, range(0, 1))));
    let (released, _) = object.locks.unlock(DOMAIN, A, &range(0, 10), &object.ids).unwrap();
    assert_eq!(released.id, second);
    object.take(shared(B, range(0, 1)));
    let (released, _) = object.locks.unlock(DOMAIN, A, &range(0, 10), &object.ids).unwrap();
    assert_eq!(released.id, first);
    assert_eq!(object.locks.unlock(DOMAIN, A, &range(0, 10), &object.ids), None);
}

#[test]
fn an_unlock_that_does_not_match_exactly_changes_nothing() {
    let mut object = Object::default();
    object.take(exclusive(A, range(0, 10)));
    object.take(exclusive(A, name("a")));
    let before = object.locks.clone();
    for (owner, scope) in [(A, range(0, 9)), (A, range(0, 11)), (B, range(0, 10)), (A, Scope::AllNames), (A, name("b"))]
    {
        assert_eq!(object.locks.unlock(DOMAIN, owner, &scope, &object.ids), None);
    }
    assert_eq!(object.locks.unlock("other", A, &range(0, 10), &object.ids), None);
    assert_eq!(object.locks, before);
}

#[test]
fn waiters_are_granted_in_their_order() {
    let mut object = Object::default();
    object.take(exclusive(A, name("a")));
    object.queue(1, exclusive(B, name("a")));
    object.queue(2, exclusive(C, name("a")));
    assert_eq!(object.unlock(A, &name("a")), [1]);
    assert_eq!(object.unlock(B, &name("a")), [2]);
}

#[test]
fn shared_waiters_next_to_each_other_are_granted_together() {
    let mut object = Object::default();
    object.take(exclusive(A, range(0, 10)));
    object.queue(1, shared(B, range(0, 10)));
    object.queue(2, shared(C, range(0, 10)));
    object.queue(3, exclusive(OwnerKey(4), range(0, 10)));
    assert_eq!(object.unlock(A, &range(0, 10)), [1, 2]);
}

#[test]
fn a_newcomer_that_conflicts_with_a_waiter_waits_too() {
    let mut object = Object::default();
    object.take(shared(A, range(0, 10)));
    object.queue(1, exclusive(B, range(0, 10)));
    assert!(object.is_refused(shared(C, range(0, 10))));
    object.queue(2, shared(C, range(0, 10)));
    assert_eq!(object.unlock(A, &range(0, 10)), [1]);
    assert_eq!(object.unlock(B, &range(0, 10)), [2]);
}

#[test]
fn an_owner_that_holds_something_is_not_put_behind_waiters() {
    let mut object = Object::default();
    object.take(shared(A, range(0, 10)));
    object.queue(1, exclusive(B, range(0, 20)));
    object.take(shared(A, range(10, 20)));
    assert!(object.unlock(A, &range(0, 10)).is_empty());
    assert_eq!(object.unlock(A, &range(10, 20)), [1]);
}

#[test]
fn an_owner_that_waits_already_is_not_put_behind_those_after_it() {
    let mut object = Object::default();
    object.take(exclusive(A, range(0, 10)));
    object.queue(1, exclusive(B, range(0, 10)));
    object.queue(2, exclusive(C, range(5, 30)));
    object.take(exclusive(B, range(20, 30)));
}

/// B waits behind C's request for all only because that came first; with its first lock it stands here itself. It was
/// left waiting for nothing, until somebody unlocked.
#[test]
fn a_lock_that_is_taken_at_once_frees_the_owners_own_waiter() {
    let mut object = Object::default();
    object.take(shared(A, range(0, 10)));
    object.queue(1, exclusive(C, range(0, 10)));
    object.queue(2, shared(B, range(0, 10)));
    let taken = object.locks.try_lock(DOMAIN, shared(B, range(20, 30)), &object.ids, LIMITS).unwrap();
    assert_eq!(numbers(&taken.granted), [2]);
}

/// C waits behind B for the second range only because B came first. When C is granted the first one it holds something
/// and does not wait behind B any more; granting in one walk over the queue left it there until the next unlock.
#[test]
fn a_grant_frees_the_owners_own_waiter_further_ahead() {
    let mut object = Object::default();
    object.take(shared(A, range(10, 20)));
    object.take(exclusive(OwnerKey(4), range(30, 40)));
    object.queue(1, exclusive(B, range(10, 20)));
    object.queue(2, shared(C, range(10, 20)));
    object.queue(3, exclusive(C, range(30, 40)));
    assert_eq!(object.unlock(OwnerKey(4), &range(30, 40)), [3, 2]);
}

#[test]
fn a_cancelled_waiter_leaves_no_trace_and_lets_those_behind_it_go() {
    let mut object = Object::default();
    object.take(shared(A, range(0, 10)));
    let before = object.locks.clone();
    object.queue(1, exclusive(B, range(0, 10)));
    assert_eq!(object.locks.cancel(WaiterId(1), &object.ids).unwrap().1, []);
    assert_eq!(object.locks, before);
    object.queue(1, exclusive(B, range(0, 10)));
    object.queue(2, shared(C, range(0, 10)));
    let (waiter, granted) = object.locks.cancel(WaiterId(1), &object.ids).unwrap();
    assert_eq!((waiter.request.owner, numbers(&granted)), (B, vec![2]));
    assert_eq!(object.locks.cancel(WaiterId(1), &object.ids), None);
}

#[test]
fn a_client_that_is_gone_leaves_nothing_and_frees_those_who_waited_for_it() {
    let mut object = Object::default();
    object.take(exclusive(A, range(0, 10)));
    object.take(exclusive(A, name("a")));
    object.queue(1, exclusive(B, range(0, 10)));
    object.queue(2, exclusive(C, range(0, 10)));
    object.queue(3, exclusive(C, name("a")));
    let released = object.locks.release_client(&|owner| owner == A || owner == B, &object.ids);
    assert_eq!((released.locks.len(), released.waiters.len(), numbers(&released.granted)), (2, 1, vec![2, 3]));
    object.locks.release_client(&|_| true, &object.ids);
    assert!(object.locks.is_empty());
}

#[test]
fn a_lock_is_taken_by_its_number() {
    let mut object = Object::default();
    let lock = object.take(exclusive(A, range(0, 10)));
    object.queue(1, exclusive(B, range(0, 10)));
    let (domain, taken, granted) = object.locks.take(lock, &object.ids).unwrap();
    assert_eq!((&*domain, taken.request.owner, numbers(&granted)), (DOMAIN, A, vec![1]));
    assert_eq!(object.locks.take(lock, &object.ids), None);
}

#[test]
fn blockers_are_the_locks_and_the_waiters_that_are_in_the_way() {
    let mut object = Object::default();
    let lock = object.take(shared(A, range(0, 10)));
    object.queue(1, exclusive(B, range(0, 10)));
    object.queue(2, exclusive(C, range(0, 10)));
    let expected = [
        Blocker { owner: A, lock: Some(lock), waiter: None },
        Blocker { owner: B, lock: None, waiter: Some(WaiterId(1)) },
    ];
    assert_eq!(object.locks.blockers(WaiterId(2)), expected);
    assert_eq!(object.locks.blockers(WaiterId(9)), []);
}

#[test]
fn the_limits_hold_and_refuse_without_leaving_anything() {
    let (mut locks, ids) = (XlatorLocks::default(), Ids::default());
    let limits = Limits { domains: 2, locks_per_domain: 2 };
    locks.try_lock("a", exclusive(A, range(0, 1)), &ids, limits).unwrap();
    locks.wait("a", WaiterId(1), exclusive(B, range(0, 1)), &ids, limits).unwrap();
    let full = locks.clone();
    assert_eq!(locks.wait("a", WaiterId(2), exclusive(C, range(0, 1)), &ids, limits), Err(XlatorRefused::Full));
    assert_eq!(locks.try_lock("a", exclusive(C, name("a")), &ids, limits), Err(XlatorRefused::Full));
    assert_eq!(locks, full);
    locks.try_lock("b", exclusive(A, range(0, 1)), &ids, limits).unwrap();
    assert_eq!(locks.try_lock("c", exclusive(A, range(0, 1)), &ids, limits), Err(XlatorRefused::TooManyDomains));
    locks.unlock("b", A, &range(0, 1), &ids).unwrap();
    locks.try_lock("c", exclusive(A, range(0, 1)), &ids, limits).unwrap();
    let nothing = Limits { domains: 9, locks_per_domain: 0 };
    assert_eq!(locks.try_lock("d", exclusive(A, range(0, 1)), &ids, nothing), Err(XlatorRefused::Full));
    assert_eq!(XlatorRefused::Full.errno(), Errno::ENOLCK);
}

#[test]
fn a_name_of_a_domain_at_the_limit_is_taken_and_a_longer_one_is_refused() {
    let mut object = Object::default();
    let longest = "d".repeat(DOMAIN_BYTES_MAX);
    assert!(object.locks.try_lock(&longest, exclusive(A, range(0, 1)), &object.ids, LIMITS).is_ok());
    let longer = "d".repeat(DOMAIN_BYTES_MAX + 1);
    let refused = object.locks.try_lock(&longer, exclusive(A, range(0, 1)), &object.ids, LIMITS);
    assert_eq!(refused.map_err(XlatorRefused::errno), Err(Errno::EINVAL));
}
