//! The rules of a table, one by one.

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use brickwork_locks::table::{
    Ask, Blocker, CHAINED_MAX, Effects, Ids, Lock, Mode, OwnerKey, Refused, Table, Tag, Waited, WaiterId,
};

use Mode::{Exclusive, Shared};

const ANN: OwnerKey = OwnerKey(1);
const BOB: OwnerKey = OwnerKey(2);
const CAT: OwnerKey = OwnerKey(3);

/// A table with its numbers and a limit that most tests do not reach.
struct Desk {
    table: Table,
    ids: Ids,
    max: usize,
    clock: u64,
}

fn desk() -> Desk {
    Desk { table: Table::default(), ids: Ids::default(), max: 100, clock: 0 }
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).expect("not empty")
}

impl Desk {
    fn ask(&mut self, owner: OwnerKey, start: u64, end: u64, mode: Mode) -> Ask {
        self.clock += 1;
        let tag = Tag { open: OpenId(u64::from(owner.0)), process: 9, since_ms: self.clock, mandatory: false };
        Ask { owner, range: range(start, end), mode, tag }
    }

    fn set(&mut self, owner: OwnerKey, start: u64, end: u64, mode: Mode) -> Result<Vec<u64>, Refused> {
        let ask = self.ask(owner, start, end, mode);
        self.table.set(&ask, &self.ids, self.max).map(|effects| granted(&effects))
    }

    fn wait(&mut self, id: u64, owner: OwnerKey, start: u64, end: u64, mode: Mode) -> bool {
        match self.wait_and_free(id, owner, start, end, mode) {
            Waited::Queued(effects) => effects.is_empty() || panic!("{effects:?}"),
            Waited::Granted(_) => false,
        }
    }

    fn wait_and_free(&mut self, id: u64, owner: OwnerKey, start: u64, end: u64, mode: Mode) -> Waited {
        let ask = self.ask(owner, start, end, mode);
        self.table.wait(WaiterId(id), &ask, &self.ids, self.max).expect("room")
    }

    fn unlock(&mut self, owner: OwnerKey, start: u64, end: u64) -> Result<Vec<u64>, Refused> {
        self.table.unlock(owner, range(start, end), &self.ids, self.max).map(|effects| granted(&effects))
    }

    fn cancel(&mut self, id: u64) -> Option<Vec<u64>> {
        self.table.cancel(WaiterId(id), &self.ids, self.max).map(|(_, effects)| granted(&effects))
    }

    fn held(&self, owner: OwnerKey) -> Vec<(u64, u64, Mode)> {
        let locks = self.table.overlapping(owner, ByteRange::ALL);
        locks.iter().map(|lock| (lock.range.start(), lock.range.end(), lock.mode)).collect()
    }

    fn only(&self) -> Lock {
        assert_eq!(self.table.len(), 1);
        self.table.locks().next().expect("one")
    }
}

fn granted(effects: &Effects) -> Vec<u64> {
    assert!(effects.refused.is_empty());
    effects.granted.iter().map(|waiter| waiter.id.0).collect()
}

#[test]
fn locks_of_one_owner_and_mode_that_overlap_or_touch_join() {
    let mut desk = desk();
    desk.set(ANN, 0, 4, Shared).expect("free");
    desk.set(ANN, 4, 6, Shared).expect("free");
    desk.set(ANN, 8, 9, Shared).expect("free");
    assert_eq!(desk.held(ANN), [(0, 6, Shared), (8, 9, Shared)]);
    desk.set(ANN, 5, 8, Shared).expect("free");
    assert_eq!(desk.held(ANN), [(0, 9, Shared)]);
    assert_eq!(desk.only().tag.since_ms, 1, "as old as its oldest part");
}

#[test]
fn locks_of_two_owners_do_not_join() {
    let mut desk = desk();
    desk.set(ANN, 0, 4, Shared).expect("free");
    desk.set(BOB, 2, 6, Shared).expect("free");
    assert_eq!((desk.held(ANN), desk.held(BOB)), (vec![(0, 4, Shared)], vec![(2, 6, Shared)]));
}

#[test]
fn another_mode_wins_on_its_range_and_cuts_the_rest() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    desk.set(ANN, 3, 5, Exclusive).expect("free");
    assert_eq!(desk.held(ANN), [(0, 3, Shared), (3, 5, Exclusive), (5, 9, Shared)]);
}

#[test]
fn unlock_in_the_middle_splits_the_range_in_two() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    let old = desk.only().id;
    desk.unlock(ANN, 3, 5).expect("room");
    assert_eq!(desk.held(ANN), [(0, 3, Exclusive), (5, 9, Exclusive)]);
    assert_eq!(desk.table.find(old), None, "another range is another lock");
}

#[test]
fn the_same_lock_again_keeps_its_number_and_age() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    let old = desk.only();
    desk.set(ANN, 2, 5, Exclusive).expect("its own");
    assert_eq!(desk.only(), old);
}

#[test]
fn a_range_to_the_end_of_the_file_conflicts_with_every_later_byte() {
    let mut desk = desk();
    desk.set(ANN, 5, u64::MAX, Exclusive).expect("free");
    let far = range(u64::MAX - 1, u64::MAX);
    assert_eq!(desk.table.conflict(BOB, far, Shared), Some(desk.only()));
    assert_eq!(desk.table.conflict(BOB, range(0, 5), Exclusive), None);
    desk.set(ANN, 0, 5, Exclusive).expect("free");
    assert_eq!(desk.held(ANN), [(0, u64::MAX, Exclusive)]);
}

#[test]
fn a_conflict_is_the_first_by_start() {
    let mut desk = desk();
    desk.set(ANN, 6, 8, Shared).expect("free");
    desk.set(BOB, 2, 3, Exclusive).expect("free");
    let Err(Refused::Conflict(first)) = desk.set(CAT, 0, 9, Exclusive) else { panic!("not refused") };
    assert_eq!((first.owner, first.range), (BOB, range(2, 3)));
    assert_eq!(desk.table.conflict(CAT, range(3, 9), Shared), None, "readers do not shut readers out");
}

#[test]
fn an_upgrade_that_waits_keeps_the_old_lock() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    desk.set(BOB, 0, 9, Shared).expect("readers");
    assert!(desk.wait(1, ANN, 0, 9, Exclusive));
    assert_eq!(desk.held(ANN), [(0, 9, Shared)]);
    assert_eq!(desk.unlock(BOB, 0, 9), Ok(vec![1]));
    assert_eq!(desk.held(ANN), [(0, 9, Exclusive)]);
}

#[test]
fn a_downgrade_frees_readers_that_wait() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 0, 4, Shared));
    assert!(desk.wait(2, CAT, 4, 9, Shared));
    assert_eq!(desk.set(ANN, 0, 4, Shared), Ok(vec![1]));
    assert_eq!(desk.set(ANN, 0, 9, Shared), Ok(vec![2]));
}

#[test]
fn a_reader_does_not_overtake_a_writer_that_waits_but_setlk_does() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    assert!(desk.wait(1, BOB, 0, 9, Exclusive));
    assert!(desk.wait(2, CAT, 0, 9, Shared));
    assert_eq!(desk.set(CAT, 0, 9, Shared), Ok(vec![2]), "which has what it waits for by that");
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![]));
    assert_eq!(desk.unlock(CAT, 0, 9), Ok(vec![1]));
}

#[test]
fn whoever_holds_what_the_one_ahead_waits_for_is_not_put_behind_it() {
    let mut desk = desk();
    desk.set(ANN, 0, 5, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 0, 9, Exclusive));
    assert!(!desk.wait(2, ANN, 5, 9, Exclusive), "behind it, both would wait forever");
    assert_eq!(desk.held(ANN), [(0, 9, Exclusive)]);
}

/// Ann read, Bob waited to write, and Cat, who came to read, waited behind Bob. When Ann asked to write, which nothing held
/// forbade, she was put behind Cat: for Cat did not wait for Ann, only for Bob, who did. So Ann waited for Cat, Cat for Bob
/// and Bob for Ann, and one of them was told `EDEADLK` on a table on which Linux grants at once. The chain counts now,
/// however long it is.
#[test]
fn whoever_the_one_ahead_waits_for_over_others_is_not_put_behind_it() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    assert!(desk.wait(1, BOB, 0, 9, Exclusive));
    assert!(desk.wait(2, CAT, 0, 9, Shared));
    assert!(!desk.wait(3, ANN, 0, 9, Exclusive), "nothing held is in the way");
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![1]), "and the others keep their order");
    assert_eq!(desk.unlock(BOB, 0, 9), Ok(vec![2]));
}

/// Cat stands in line behind Bob, who waits for Ann. When Ann comes to wait for Cat, the line would make a ring of them.
#[test]
fn whoever_stands_in_line_leaves_it_when_it_becomes_a_ring() {
    let mut desk = desk();
    desk.set(CAT, 0, 1, Shared).expect("free");
    desk.set(ANN, 5, 6, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 4, 6, Exclusive));
    assert!(desk.wait(2, CAT, 4, 5, Shared), "behind Bob");
    let Waited::Queued(effects) = desk.wait_and_free(3, ANN, 0, 1, Exclusive) else { panic!("Cat holds it") };
    assert_eq!(granted(&effects), [2]);
    assert_eq!(desk.unlock(CAT, 0, 9), Ok(vec![3]));
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![1]));
}

/// The same ring, closed by a lock that somebody gets past the queue.
#[test]
fn whoever_stands_in_line_leaves_it_when_a_lock_makes_it_a_ring() {
    let mut desk = desk();
    desk.set(CAT, 0, 1, Shared).expect("free");
    desk.set(ANN, 5, 6, Shared).expect("free");
    assert!(desk.wait(1, BOB, 4, 6, Exclusive));
    let dan = OwnerKey(4);
    assert!(desk.wait(2, dan, 0, 1, Exclusive));
    assert!(desk.wait(3, CAT, 4, 5, Shared), "behind Bob");
    assert_eq!(desk.set(dan, 5, 6, Shared), Ok(vec![3]), "Bob waits for Dan by that, and Dan for Cat");
}

/// Among more waiters than chains are followed, whoever holds up somebody waits for held locks only, others in line.
#[test]
fn in_a_crowd_an_owner_that_somebody_waits_for_is_put_behind_nobody() {
    for (others, overtakes) in [(CHAINED_MAX, false), (CHAINED_MAX + 1, true)] {
        let mut desk = desk();
        desk.set(ANN, 0, 1, Exclusive).expect("free");
        desk.set(BOB, 2, 3, Exclusive).expect("free");
        assert!(desk.wait(1, CAT, 2, 4, Exclusive));
        assert!(desk.wait(2, OwnerKey(4), 0, 1, Shared), "for Ann");
        let far = (3..=others as u64).map(|id| (id, OwnerKey(id as u32 + 10)));
        far.for_each(|(id, owner)| assert!(desk.wait(id, owner, 2, 3, Exclusive)));
        assert_eq!(desk.table.waiters().count(), others);
        assert_eq!(!desk.wait(1_000, ANN, 3, 4, Exclusive), overtakes, "behind {others}");
        let next = desk.wait_and_free(1_001, OwnerKey(5), 3, 4, Exclusive);
        let Waited::Queued(effects) = next else { panic!("nobody waits for this one") };
        assert_eq!(granted(&effects), if overtakes { vec![] } else { vec![1_000] }, "it is one more for Ann");
    }
}

#[test]
fn a_cancelled_waiter_lets_others_move_up_and_leaves_no_trace() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    assert!(desk.wait(1, BOB, 0, 9, Exclusive));
    assert!(desk.wait(2, CAT, 0, 9, Shared));
    assert_eq!(desk.cancel(1), Some(vec![2]));
    assert_eq!(desk.cancel(1), None);
    desk.unlock(ANN, 0, 9).expect("whole");
    desk.unlock(CAT, 0, 9).expect("whole");
    assert!(desk.table.is_empty());
}

#[test]
fn waiters_are_granted_in_the_order_in_which_they_came() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    assert!(desk.wait(7, BOB, 4, 9, Shared));
    assert!(desk.wait(3, CAT, 0, 5, Shared));
    assert!(desk.wait(5, OwnerKey(4), 0, 1, Exclusive));
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![7, 3]));
    assert_eq!(desk.unlock(CAT, 0, 1), Ok(vec![5]));
}

#[test]
fn two_threads_of_an_owner_wait_side_by_side() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 0, 9, Exclusive));
    assert!(desk.wait(2, BOB, 3, 5, Shared));
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![1, 2]));
    assert_eq!(desk.held(BOB), [(0, 3, Exclusive), (3, 5, Shared), (5, 9, Exclusive)]);
}

#[test]
fn at_the_limit_nothing_changes_but_what_does_not_grow_is_done() {
    let mut desk = Desk { max: 2, ..desk() };
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    desk.set(BOB, 20, 30, Exclusive).expect("free");
    let before: Vec<Lock> = desk.table.locks().collect();
    assert_eq!(desk.unlock(ANN, 3, 5), Err(Refused::Full));
    assert_eq!(desk.set(CAT, 40, 41, Shared), Err(Refused::Full));
    assert_eq!(desk.set(ANN, 3, 5, Shared), Err(Refused::Full));
    assert_eq!(desk.table.locks().collect::<Vec<_>>(), before);
    assert_eq!(desk.ids.upcoming(), 3, "no number is lost either");
    assert_eq!(desk.unlock(ANN, 0, 5), Ok(vec![]));
}

#[test]
fn a_waiter_that_finds_no_room_is_refused_and_gone() {
    let mut desk = Desk { max: 1, ..desk() };
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 5, 9, Exclusive));
    let effects = desk.table.unlock(ANN, range(5, 9), &desk.ids, 1).expect("no growth");
    assert!(effects.granted.is_empty() && effects.refused[0].id == WaiterId(1));
    assert!(desk.table.waiters().next().is_none());
}

#[test]
fn an_owner_that_goes_takes_its_locks_and_waiters_along() {
    let mut desk = desk();
    desk.set(ANN, 0, 4, Exclusive).expect("free");
    desk.set(BOB, 4, 9, Exclusive).expect("free");
    assert!(desk.wait(1, ANN, 4, 9, Exclusive));
    assert!(desk.wait(2, CAT, 0, 4, Exclusive));
    let released = desk.table.release_owner(ANN, &desk.ids, 100);
    assert_eq!((released.locks.len(), released.waiters[0].id), (1, WaiterId(1)));
    assert_eq!(granted(&released.effects), [2]);
}

#[test]
fn an_open_that_goes_takes_only_what_came_through_it_and_is_of_its_client() {
    let mut desk = desk();
    for (owner, at) in [(ANN, 0), (BOB, 2)] {
        let ask = desk.ask(owner, at, at + 1, Exclusive);
        let ask = Ask { tag: Tag { open: OpenId(7), ..ask.tag }, ..ask };
        desk.table.set(&ask, &desk.ids, 100).expect("free");
    }
    desk.set(ANN, 4, 5, Exclusive).expect("free");
    let released = desk.table.release_open(&|owner| owner == ANN, OpenId(7), &desk.ids, 100);
    assert_eq!(released.locks.iter().map(|lock| lock.range).collect::<Vec<_>>(), [range(0, 1)]);
    assert_eq!((desk.held(ANN), desk.held(BOB)), (vec![(4, 5, Exclusive)], vec![(2, 3, Exclusive)]));
}

#[test]
fn a_lock_handed_over_keeps_number_age_and_range_and_moves_no_waiter() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    let old = desk.only();
    assert!(desk.wait(1, CAT, 0, 9, Exclusive));
    let tag = Tag { open: OpenId(5), process: 6, since_ms: 77, mandatory: false };
    assert_eq!(desk.table.hand_over(ANN, range(0, 8), Exclusive, BOB, &tag), None, "exactly that range");
    assert_eq!(desk.table.hand_over(ANN, range(0, 9), Exclusive, BOB, &tag), Some(old));
    let since_ms = old.tag.since_ms;
    assert_eq!(desk.only(), Lock { owner: BOB, tag: Tag { since_ms, ..tag }, ..old });
    assert_eq!(desk.unlock(ANN, 0, 9), Ok(vec![]), "the old owner changes nothing any more");
    assert_eq!(desk.unlock(BOB, 0, 9), Ok(vec![1]));
}

/// A request of the new owner that waited for the very lock that it was given must not wait for ever.
#[test]
fn a_waiter_of_the_new_owner_is_granted_when_the_table_settles() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Exclusive).expect("free");
    assert!(desk.wait(1, BOB, 0, 4, Exclusive));
    let tag = Tag { open: OpenId(5), process: 6, since_ms: 77, mandatory: false };
    desk.table.hand_over(ANN, range(0, 9), Exclusive, BOB, &tag).expect("held");
    assert_eq!(granted(&desk.table.settle(&desk.ids, 100)), [1]);
}

#[test]
fn blockers_are_the_locks_and_then_the_earlier_waiters() {
    let mut desk = desk();
    desk.set(ANN, 0, 9, Shared).expect("free");
    assert!(desk.wait(1, BOB, 0, 4, Exclusive));
    assert!(desk.wait(2, CAT, 0, 9, Exclusive));
    let lock = Blocker { owner: ANN, lock: Some(desk.only().id), waiter: None };
    let ahead = Blocker { owner: BOB, lock: None, waiter: Some(WaiterId(1)) };
    assert_eq!(desk.table.blockers(WaiterId(2)), [lock, ahead]);
    assert_eq!(desk.table.blockers(WaiterId(3)), []);
}

#[test]
fn a_table_is_small() {
    assert!(size_of::<Table>() <= 64, "{} bytes for an object with one lock or none", size_of::<Table>());
}
