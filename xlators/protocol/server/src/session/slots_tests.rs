use super::*;
use proptest::prelude::*;

/// The connections of the tests are numbered in the order in which their client made them.
impl Destination for u32 {
    fn replaces(&self, former: &u32) -> bool {
        self >= former
    }

    fn origin(&self) -> Origin {
        origin(*self)
    }
}

fn origin(connection: u32) -> Origin {
    Origin { connection: connection.into(), id: 1 }
}

/// Ends a request that was not given up, and returns where its answer goes.
fn finish(slots: &Slots<u32>, slot: u32, sequence: u64, answer: Option<Answer>) -> Option<u32> {
    slots.finish(slot, sequence, answer).map(|finished| {
        assert!(!finished.given_up);
        finished.destination
    })
}

fn begin_lock(slots: &Slots<u32>, slot: u32, sequence: u64, destination: u32) -> (Begun<u32>, Cancel) {
    let cancel = Cancel::new();
    (slots.begin(slot, sequence, FopKind::Lk, &cancel, destination).unwrap(), cancel)
}

fn answer(text: &str) -> Answer {
    Answer { failure: false, header: text.as_bytes().to_vec().into(), payload: Default::default() }
}

fn begin(slots: &Slots<u32>, slot: u32, sequence: u64, destination: u32) -> Begun<u32> {
    slots.begin(slot, sequence, FopKind::Mkdir, &Cancel::never(), destination).unwrap()
}

fn is_new(begun: &Begun<u32>) -> bool {
    matches!(begun, Begun::New { remembered: None, .. })
}

#[test]
fn a_repeat_is_answered_as_the_first_time_and_where_it_came_from() {
    let slots = Slots::new(8, 0);
    assert!(is_new(&begin(&slots, 3, 1, 10)));
    assert_eq!(finish(&slots, 3, 1, Some(answer("done"))), Some(10));
    assert!(matches!(begin(&slots, 3, 1, 11), Begun::Again(again, 11) if again == answer("done")));
}

#[test]
fn a_repeat_of_what_is_under_way_takes_over_its_answer() {
    let slots = Slots::new(8, 0);
    begin(&slots, 3, 1, 10);
    assert!(matches!(begin(&slots, 3, 1, 11), Begun::Joined));
    assert_eq!(slots.running(), 1);
    assert_eq!(finish(&slots, 3, 1, Some(answer("done"))), Some(11));
}

/// A connection was lost, its client came back and asked again on the next one, and only then a task that had lagged behind
/// read the rest of the first: it took the answer over, put it where nobody listened, and the client waited until its
/// `frame-timeout`.
#[test]
fn a_request_read_late_from_a_lost_connection_does_not_take_the_answer_from_the_next_one() {
    let slots = Slots::new(8, 0);
    begin(&slots, 3, 1, 10);
    assert!(matches!(begin(&slots, 3, 1, 11), Begun::Joined));
    assert!(matches!(begin(&slots, 3, 1, 10), Begun::Joined));
    assert_eq!(finish(&slots, 3, 1, Some(answer("done"))), Some(11));
}

#[test]
fn a_lower_sequence_is_dropped_and_a_higher_one_cancels_what_is_under_way() {
    let slots = Slots::new(8, 0);
    let cancel = Cancel::new();
    slots.begin(0, 5, FopKind::Lk, &cancel, 10).unwrap();
    assert!(matches!(begin(&slots, 0, 4, 11), Begun::Stale));
    let Begun::New { superseded: Some(superseded), .. } = begin(&slots, 0, 6, 12) else { panic!("a new one") };
    superseded.cancel();
    assert!(cancel.is_cancelled());
    assert_eq!(finish(&slots, 0, 5, Some(answer("late"))), None);
    assert_eq!(finish(&slots, 0, 6, Some(answer("done"))), Some(12));
    assert!(matches!(begin(&slots, 0, 6, 13), Begun::Again(again, 13) if again == answer("done")));
}

#[test]
fn what_has_no_effect_is_done_again() {
    let slots = Slots::new(8, 0);
    for destination in 0..2 {
        let begun = slots.begin(0, 1, FopKind::Read, &Cancel::never(), destination).unwrap();
        assert!(is_new(&begun));
        assert_eq!(finish(&slots, 0, 1, Some(answer("bytes"))), Some(destination));
    }
}

#[test]
fn what_was_not_begun_may_be_asked_again() {
    let slots = Slots::new(8, 0);
    assert!(is_new(&begin(&slots, 0, 1, 10)));
    assert_eq!(finish(&slots, 0, 1, None), Some(10));
    assert!(is_new(&begin(&slots, 0, 1, 11)));
}

#[test]
fn a_request_without_a_number_leaves_no_trace() {
    let slots = Slots::new(8, 0);
    assert!(matches!(begin(&slots, 0, 0, 10), Begun::Unnumbered(10)));
    assert!(matches!(begin(&slots, 0, 0, 11), Begun::Unnumbered(11)));
    assert!(is_new(&begin(&slots, 0, 1, 12)));
}

#[test]
fn a_sequence_that_named_another_fop_is_refused() {
    let slots = Slots::new(8, 0);
    begin(&slots, 0, 1, 10);
    assert_eq!(slots.begin(0, 1, FopKind::Rmdir, &Cancel::never(), 11).unwrap_err(), Errno::EINVAL);
}

#[test]
fn there_are_so_many_slots_and_no_more() {
    let slots = Slots::new(100, 3);
    assert!(is_new(&begin(&slots, 99, 1, 0)) && is_new(&begin(&slots, 102, 1, 0)));
    assert_eq!(slots.begin(103, 1, FopKind::Lk, &Cancel::never(), 0).unwrap_err(), Errno::EINVAL);
    assert_eq!(slots.begin(u32::MAX, 1, FopKind::Lk, &Cancel::never(), 0).unwrap_err(), Errno::EINVAL);
}

#[test]
fn a_given_up_request_is_found_by_slot_and_sequence_only() {
    let slots = Slots::new(1, 1);
    let (_, cancel) = begin_lock(&slots, 1, 7, 0);
    assert!(matches!(slots.give_up(1, 6, origin(0)), Abandoned::Nothing));
    assert!(matches!(slots.give_up(2, 7, origin(0)), Abandoned::Nothing));
    assert!(matches!(slots.give_up(1, 0, origin(0)), Abandoned::Nothing));
    let Abandoned::Running(found) = slots.give_up(1, 7, origin(0)) else { panic!("it is under way") };
    found.cancel();
    assert!(cancel.is_cancelled());
    // Whoever waits for the answer hears it.
    assert_eq!(finish(&slots, 1, 7, None), Some(0));
}

#[test]
fn a_lock_call_that_is_done_runs_again_under_its_sequence() {
    let slots = Slots::new(1, 1);
    for destination in 0..3 {
        assert!(is_new(&begin_lock(&slots, 1, 7, destination).0));
        assert_eq!(finish(&slots, 1, 7, Some(answer("granted"))), Some(destination));
    }
}

/// A cancel and the answer to the call it cancels may meet on the way. The client then hears that it has the lock, so that
/// must be true.
#[test]
fn an_answer_that_its_client_will_hear_is_not_given_up_by_the_cancel_that_met_it() {
    let slots = Slots::new(1, 1);
    begin_lock(&slots, 1, 7, 10);
    finish(&slots, 1, 7, None);
    assert!(matches!(slots.give_up(1, 7, origin(10)), Abandoned::Nothing));
    let other = Origin { id: 2, ..origin(10) };
    assert!(matches!(slots.give_up(1, 7, other), Abandoned::Unheard { superseded: None }));
}

#[test]
fn a_lock_call_that_was_given_up_for_good_is_not_begun_again() {
    let slots = Slots::new(1, 1);
    begin_lock(&slots, 1, 7, 10);
    assert!(matches!(slots.give_up(1, 7, origin(11)), Abandoned::Running(_)));
    assert_eq!(slots.finish(1, 7, None), Some(Finished { destination: 10, given_up: true }));
    assert!(matches!(begin_lock(&slots, 1, 7, 10).0, Begun::GivenUp(10)));
    assert!(is_new(&begin_lock(&slots, 1, 8, 11).0));
}

#[test]
fn a_lock_call_that_comes_after_it_was_given_up_is_not_begun() {
    let slots = Slots::new(1, 1);
    let (_, before) = begin_lock(&slots, 1, 7, 10);
    let Abandoned::Unheard { superseded: Some(superseded) } = slots.give_up(1, 9, origin(11)) else {
        panic!("the one before it is under way")
    };
    superseded.cancel();
    assert!(before.is_cancelled());
    assert_eq!(slots.finish(1, 7, None), None);
    assert!(matches!(begin_lock(&slots, 1, 8, 10).0, Begun::Stale));
    assert!(matches!(begin_lock(&slots, 1, 9, 10).0, Begun::GivenUp(10)));
    // What is no lock call was never waited for.
    assert!(is_new(&begin(&slots, 1, 9, 10)));
}

#[test]
fn an_answer_that_is_kept_cannot_be_given_up() {
    let slots = Slots::new(8, 0);
    begin(&slots, 3, 1, 10);
    finish(&slots, 3, 1, Some(answer("done")));
    assert!(matches!(slots.give_up(3, 1, origin(11)), Abandoned::Nothing));
    assert!(matches!(begin(&slots, 3, 1, 11), Begun::Again(..)));
}

#[test]
fn an_open_of_before_the_restart_is_made_again_once() {
    let slots = Slots::new(8, 0);
    let open = Remembered { slot: 2, sequence: 9, kind: FopKind::Open, answer: answer("open") };
    slots.restore(open.clone()).unwrap();
    let begun = slots.begin(2, 9, FopKind::Open, &Cancel::never(), 10).unwrap();
    assert!(matches!(begun, Begun::New { remembered: Some(remembered), .. } if remembered == answer("open")));
    assert_eq!(slots.remembered(), [open]);
    assert_eq!(finish(&slots, 2, 9, Some(answer("open"))), Some(10));
    let again = slots.begin(2, 9, FopKind::Open, &Cancel::never(), 11).unwrap();
    assert!(matches!(again, Begun::Again(_, 11)));
}

#[test]
fn a_snapshot_has_an_answer_that_is_not_given_out_yet() {
    let slots = Slots::new(8, 0);
    begin(&slots, 1, 4, 10);
    assert!(slots.remembered().is_empty());
    slots.answered(1, 4, &answer("done"));
    assert_eq!(slots.remembered().len(), 1);
    assert!(matches!(begin(&slots, 1, 4, 11), Begun::Joined));
}

/// What one slot should do, in the plainest words.
#[derive(Default)]
struct Plain {
    sequence: u64,
    running: Option<u32>,
    done: Option<Answer>,
}

proptest! {
    #[test]
    fn slots_do_what_the_rules_say(steps in prop::collection::vec((0u32..3, 1u64..6, any::<bool>()), 1..80)) {
        let slots = Slots::new(2, 1);
        let mut plain: [Plain; 3] = Default::default();
        for (number, (slot, sequence, begins)) in (0u32..).zip(steps) {
            let one = &mut plain[slot as usize];
            if !begins {
                let text = answer(&number.to_string());
                let expected = (sequence == one.sequence).then(|| one.running.take()).flatten();
                if expected.is_some() {
                    one.done = Some(text.clone());
                }
                prop_assert_eq!(finish(&slots, slot, sequence, Some(text)), expected);
                continue;
            }
            let begun = begin(&slots, slot, sequence, number);
            if sequence < one.sequence {
                prop_assert!(matches!(begun, Begun::Stale));
            } else if sequence > one.sequence {
                let Begun::New { superseded, remembered: None } = &begun else { panic!("a new one") };
                prop_assert_eq!(superseded.is_some(), one.running.is_some());
                *one = Plain { sequence, running: Some(number), done: None };
            } else if one.running.is_some() {
                prop_assert!(matches!(begun, Begun::Joined));
                one.running = Some(number);
            } else {
                let matches = matches!(&begun, Begun::Again(again, to) if Some(again) == one.done.as_ref() && *to == number);
                prop_assert!(matches);
            }
        }
    }
}

#[test]
fn of_many_threads_that_begin_one_request_one_does_it_and_all_get_its_answer() {
    let slots = Slots::new(1, 0);
    let begun: Vec<Begun<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                scope.spawn({
                    let slots = &slots;
                    move || begin(slots, 0, 1, thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(begun.iter().filter(|begun| is_new(begun)).count(), 1);
    assert_eq!(begun.iter().filter(|begun| matches!(begun, Begun::Joined)).count(), 7);
}
