//! Locks of flock(2): they belong to an open file, not to a process.

use crate::common::until;
use crate::script::{On, promises, with};

promises! {
    an_exclusive_lock_keeps_all_others_out: "
        A open f file rwc
        B open f file rw
        A flock f ex
        B flock f ex = EAGAIN
        B flock f sh = EAGAIN
        A flock f un
        B flock f ex
        A flock f sh = EAGAIN
    ";
    shared_locks_stand_beside_each_other_and_keep_the_exclusive_out: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A flock f sh
        B flock f sh
        C flock f ex = EAGAIN
        A flock f un
        C flock f ex = EAGAIN
        B flock f un
        C flock f ex
    ";
    a_lock_needs_no_mode_of_the_file: "
        A open f file rwc
        A open r file r
        B open f file w
        A flock r ex
        B flock f sh = EAGAIN
    ";
    a_conversion_down_lets_the_others_in_and_up_needs_them_out: "
        A open f file rwc
        B open f file rw
        A flock f ex
        A flock f sh
        B flock f sh
        B flock f un
        A flock f ex
        B flock f sh = EAGAIN
    ";
    a_conversion_that_is_refused_without_waiting_gives_up_the_lock: "
        A open f file rwc
        B open f file rw
        A flock f sh
        B flock f sh
        A flock f ex = EAGAIN
        B flock f ex
    ";
    a_conversion_that_a_signal_ends_has_given_up_the_lock: "
        A open f file rwc
        B open f file rw
        A handle-signals
        A flock f sh
        B flock f sh
        A flock-wait f ex ...
        A signal
        A ... = EINTR
        B flock f ex
    ";
    a_waiter_gets_the_lock_when_its_holder_lets_go: "
        A open f file rwc
        B open f file rw
        A flock f ex
        B flock-wait f ex ...
        A flock f un
        B ... = ok
        A flock f sh = EAGAIN
    ";
    a_signal_ends_a_wait_with_eintr_and_nothing_is_left_behind: "
        A open f file rwc
        B open f file rw
        C open f file rw
        B handle-signals
        A flock f ex
        B flock-wait f ex ...
        B signal
        B ... = EINTR
        A flock f un
        C flock f ex
        C flock f un
        B flock f ex
    ";
    a_waiter_that_is_killed_leaves_nothing_behind: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A flock f ex
        B flock-wait f ex ...
        B kill
        A flock f un
        C flock f ex
    ";
    two_opens_of_one_process_are_two_owners: "
        A open f file rwc
        A open g file rw
        A flock f ex
        A flock g sh = EAGAIN
    ";
    duplicates_share_the_lock_which_ends_with_the_last_of_them: "
        A open f file rwc
        A dup f g
        B open f file rw
        A flock f ex
        A flock g ex
        A close f
        B flock f ex = EAGAIN
        A close g
        B flock-wait f ex
    ";
    an_unlock_through_a_duplicate_is_an_unlock: "
        A open f file rwc
        A dup f g
        B open f file rw
        A flock f ex
        A flock g un
        B flock f ex
    ";
    a_child_shares_the_lock_of_its_parent: "
        A open f file rwc
        B open f file rw
        A flock f ex
        A fork C
        C flock f ex
        A close f
        B flock f sh = EAGAIN
        C exit
        B flock-wait f ex
    ";
    a_child_can_release_what_its_parent_locked: "
        A open f file rwc
        B open f file rw
        A flock f ex
        A fork C
        C flock f un
        B flock f ex
    ";
    closing_another_open_of_the_file_releases_nothing: "
        A open f file rwc
        A open g file rw
        B open f file rw
        A flock f ex
        A close g
        B flock f ex = EAGAIN
    ";
    a_program_that_replaces_its_process_keeps_the_lock: "
        A open f file rwc
        B open f file rw
        A flock f ex
        A exec
        B flock f ex = EAGAIN
        A flock f un
        B flock f ex
    ";
    the_end_of_a_process_releases_its_lock_by_itself_and_by_sigkill: "
        C open f file rwc
        A open f file rwc
        B open f file rwc
        A flock f ex
        A exit
        B flock-wait f ex
        B kill
        C flock-wait f ex
    ";
    flock_and_fcntl_do_not_hinder_each_other: "
        A open f file rwc
        B open f file rw
        A flock f ex
        B lock f w 0 0
        A get f w 0 0 = w 0 0 B
        B lock f u 0 0
        B ofd-lock f w 0 0
        B flock f sh = EAGAIN
    ";
    an_unlinked_file_keeps_its_lock_and_a_new_one_of_the_name_has_none: "
        A open f file rwc
        B open f file rw
        A flock f ex
        A unlink file
        B flock f ex = EAGAIN
        B open g file rwc
        B flock g ex
    ";
    a_renamed_and_truncated_file_keeps_its_lock: "
        A open f file rwc
        B open f file rw
        A flock f ex
        B rename file renamed
        B truncate f 0
        C open f renamed rw
        C flock f sh = EAGAIN
    ";
}

/// Each would wait for the other's shared lock for ever if it kept its own meanwhile; there is no EDEADLK for flock.
#[test]
fn two_readers_who_both_convert_up_get_it_one_after_the_other() {
    for on in [On::Local, On::OneMount, On::TwoMounts] {
        with(on, |stage| {
            for who in ["A", "B"] {
                stage.does(who, "open f file rwc");
                stage.does(who, "flock f sh");
            }
            stage.waits("A", "flock-wait f ex");
            stage.begin("B", "flock-wait f ex");
            // Which of them is first is not promised.
            let first = until("one has it", || ["A", "B"].into_iter().find(|who| stage.has_answered(who)));
            let second = if first == "A" { "B" } else { "A" };
            assert_eq!(stage.answer(first), "ok", "{on:?}");
            stage.does(first, "flock f un");
            assert_eq!(stage.answer(second), "ok", "{on:?}");
        });
    }
}
