//! POSIX locks: what fcntl(2) promises.

use crate::script::promises;

promises! {
    an_exclusive_lock_keeps_all_others_out_of_its_range_and_of_nothing_else: "
        A open f file rwc
        B open f file rw
        A lock f w 10 10
        B lock f w 10 1 = EAGAIN
        B lock f r 19 1 = EAGAIN
        B lock f w 5 6 = EAGAIN
        B lock f w 0 0 = EAGAIN
        B lock f w 0 10
        B lock f w 20 0
    ";
    shared_locks_stand_beside_each_other_and_keep_writers_out: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A lock f r 0 10
        B lock f r 5 10
        C lock f w 0 1 = EAGAIN
        C lock f w 14 1 = EAGAIN
        C lock f r 0 0
        A lock f w 0 1 = EAGAIN
    ";
    adjacent_and_overlapping_locks_of_one_owner_and_type_join: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A lock f w 20 10
        B see f = w 0 10 A, w 20 10 A
        A lock f w 10 5
        B see f = w 0 15 A, w 20 10 A
        A lock f w 15 5
        B see f = w 0 30 A
        A lock f w 25 75
        B see f = w 0 100 A
    ";
    locks_of_another_type_do_not_join: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A lock f r 10 10
        B see f = w 0 10 A, r 10 10 A
    ";
    another_type_in_the_middle_cuts_a_lock_in_three_and_back_again: "
        A open f file rwc
        B open f file rw
        A lock f w 0 100
        A lock f r 40 20
        B see f = w 0 40 A, r 40 20 A, w 60 40 A
        A lock f w 40 20
        B see f = w 0 100 A
    ";
    a_new_lock_swallows_all_of_its_owner_that_it_covers: "
        A open f file rwc
        B open f file rw
        A lock f w 10 1
        A lock f r 20 1
        A lock f w 30 1
        A lock f r 0 100
        B see f = r 0 100 A
    ";
    unlock_in_the_middle_splits_the_range_in_two: "
        A open f file rwc
        B open f file rw
        A lock f w 0 100
        A lock f u 40 20
        B see f = w 0 40 A, w 60 40 A
        B lock f w 40 20
        B lock f w 39 1 = EAGAIN
    ";
    unlock_over_several_locks_releases_and_cuts_them: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A lock f r 20 10
        A lock f w 40 10
        A lock f u 5 40
        B see f = w 0 5 A, w 45 5 A
        A lock f u 0 0
        B see f = free
    ";
    unlock_of_what_is_not_locked_is_no_error: "
        A open f file rwc
        A lock f u 0 0
        A lock f u 5 5
    ";
    a_downgrade_lets_readers_in_and_an_upgrade_needs_them_out: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        B lock f r 0 10 = EAGAIN
        A lock f r 0 10
        B lock f r 0 10
        A lock f w 0 10 = EAGAIN
        B get f w 0 10 = r 0 10 A
        B lock f u 0 10
        A lock f w 0 10
    ";
    a_downgrade_wakes_the_reader_that_waits: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        B wait f r 0 10 ...
        A lock f r 0 10
        B ... = ok
    ";
    an_upgrade_that_waits_keeps_the_old_lock_meanwhile: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A lock f r 0 10
        B lock f r 0 10
        A wait f w 0 10 ...
        B lock f u 0 10
        A ... = ok
        C get f w 0 0 = w 0 10 A
        A lock f r 0 10
        B lock f r 0 10
        A wait f w 0 10 ...
        C lock f w 0 10 = EAGAIN
        B exit
        A ... = ok
    ";
    getlk_names_type_range_and_process_of_the_lock_in_the_way: "
        A open f file rwc
        B open f file rw
        A lock f r 10 20
        B get f w 0 0 = r 10 20 A
        B get f w 15 1 = r 10 20 A
        B get f w 0 11 = r 10 20 A
        B get f r 0 0 = free
        B get f w 0 10 = free
        B get f w 30 0 = free
    ";
    getlk_sees_no_lock_of_its_own_process: "
        A open f file rwc
        A lock f w 0 0
        A get f w 0 0 = free
    ";
    getlk_gives_a_lock_that_reaches_past_the_end_the_length_0: "
        A open f file rwc
        B open f file rw
        A lock f w 100 0
        B get f r 0 0 = w 100 0 A
        B get f r 5000000000 1 = w 100 0 A
        B get f r 99 1 = free
    ";
    a_negative_length_locks_the_bytes_before_the_start: "
        A open f file rwc
        B open f file rw
        A lock f w 20 -10
        B see f = w 10 10 A
        A lock f u 0 0
        A lock f w 5 -10 = EINVAL
        A lock f w 5 -5
        B see f = w 0 5 A
    ";
    a_range_counts_from_the_position_and_from_the_end: "
        A open f file rwc
        B open f file rw
        A write f 0 0123456789
        A seek f 4
        A lock f w cur+1 2
        A lock f w cur-2 1
        A lock f w end-1 1
        A lock f w end+5 1
        B see f = w 2 1 A, w 5 2 A, w 9 1 A, w 15 1 A
        A lock f u 0 0
        A lock f w end+0 0
        B see f = w 10 0 A
        A lock f w end-4 -3
        B see f = w 3 3 A, w 10 0 A
    ";
    a_lock_to_the_end_holds_for_what_is_appended_later: "
        A open f file rwc
        B open f file rw
        A lock f w 0 0
        B write f 100000 grown
        B lock f w 100000 5 = EAGAIN
        A lock f u 0 50000
        B lock f w 0 50000
        B lock f w 50000 1 = EAGAIN
        B lock f w 9000000000000000000 1 = EAGAIN
    ";
    the_last_byte_of_all_can_be_locked_and_none_after_it: "
        A open f file rwc
        B open f file rw
        A lock f w 9223372036854775807 1
        B lock f w 9223372036854775807 0 = EAGAIN
        B lock f w 9223372036854775806 1
        A lock f w 9223372036854775807 2 = EOVERFLOW
        B get f r 9223372036854775807 1 = w 9223372036854775807 0 A
    ";
    a_length_up_to_the_last_byte_is_a_lock_to_the_end: "
        A open f file rwc
        B open f file rw
        A lock f w 0 9223372036854775807
        B get f w 0 0 = w 0 9223372036854775807 A
        A lock f w 9223372036854775807 0
        B get f w 0 0 = w 0 0 A
    ";
    a_lock_needs_a_file_that_is_open_for_what_it_excludes: "
        A open f file rwc
        A open r file r
        A open w file w
        A lock r w 0 1 = EBADF
        A lock w r 0 1 = EBADF
        A lock r r 0 1
        A lock w w 1 1
        A get r w 0 1 = free
        A lock r u 0 0
    ";
    a_type_that_is_none_is_einval: "
        A open f file rwc
        A lock f invalid 0 1 = EINVAL
        A get f invalid 0 1 = EINVAL
        A get f u 0 1 = EINVAL
    ";
    a_waiter_gets_the_lock_when_its_holder_lets_go: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        B wait f w 0 10 ...
        A lock f u 0 10
        B ... = ok
        A get f r 0 0 = w 0 10 B
    ";
    a_waiter_needs_all_of_its_range: "
        A open f file rwc
        B open f file rw
        A lock f w 0 30
        B wait f w 10 10 ...
        A lock f u 0 11
        A lock f u 12 18
        A lock f u 11 1
        B ... = ok
    ";
    readers_that_wait_come_in_together: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A lock f w 0 10
        B wait f r 0 10 ...
        C wait f r 5 10 ...
        A lock f u 0 10
        B ... = ok
        C ... = ok
    ";
    waiters_for_different_ranges_are_served_each_when_its_own_is_free: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A lock f w 0 20
        B wait f w 0 10 ...
        C wait f w 10 10 ...
        A lock f u 10 10
        C ... = ok
        A lock f u 0 10
        B ... = ok
    ";
    a_waiter_is_served_when_its_holder_is_killed: "
        A open f file rwc
        B open f file rw
        C open f file rw
        B lock f w 0 10
        A wait f w 0 10 ...
        B kill
        A ... = ok
        C lock f w 0 10 = EAGAIN
    ";
    a_signal_ends_a_wait_with_eintr_and_nothing_is_left_behind: "
        A open f file rwc
        B open f file rw
        C open f file rw
        B handle-signals
        A lock f w 0 10
        B wait f w 0 10 ...
        B signal
        B ... = EINTR
        A get f w 0 0 = free
        A lock f u 0 10
        C lock f w 0 10
        C lock f u 0 10
        B wait f w 0 10
        C get f w 0 0 = w 0 10 B
    ";
    a_wait_that_a_signal_ended_keeps_what_the_process_held: "
        A open f file rwc
        B open f file rw
        B handle-signals
        A lock f r 0 10
        B lock f r 0 10
        B wait f w 0 10 ...
        B signal
        B ... = EINTR
        A get f w 0 0 = r 0 10 B
    ";
    a_waiter_that_is_killed_leaves_nothing_behind: "
        A open f file rwc
        B open f file rw
        C open f file rw
        A lock f w 0 10
        B wait f w 0 10 ...
        B kill
        A lock f u 0 10
        C lock f w 0 10
        A get f w 0 0 = w 0 10 C
    ";
    two_who_wait_for_each_other_the_second_is_told: "
        A open f file rwc
        B open f file rw
        A lock f w 0 1
        B lock f w 1 1
        A wait f w 1 1 ...
        B wait f w 0 1 = EDEADLK
        B lock f u 1 1
        A ... = ok
    ";
    two_who_wait_for_each_other_over_two_files_the_second_is_told: "
        A open f file rwc
        A open g other rwc
        B open f file rw
        B open g other rw
        A lock f w 0 1
        B lock g w 0 1
        A wait g w 0 1 ...
        B wait f w 0 1 = EDEADLK
        C open f file rw
        C see f = w 0 1 A
        B lock g u 0 1
        A ... = ok
    ";
    three_in_a_circle_the_last_is_told: "
        A open f one rwc
        A open g two rwc
        B open g two rw
        B open h three rwc
        C open h three rw
        C open f one rw
        A lock f w 0 0
        B lock g w 0 0
        C lock h w 0 0
        A wait g r 0 1 ...
        B wait h r 0 1 ...
        C wait f r 0 1 = EDEADLK
        C exit
        B ... = ok
        B exit
        A ... = ok
    ";
    a_deadlock_that_a_signal_dissolved_is_none: "
        A open f file rwc
        B open f file rw
        A handle-signals
        A lock f w 0 1
        B lock f w 1 1
        A wait f w 1 1 ...
        A signal
        A ... = EINTR
        B wait f w 0 1 ...
        A lock f u 0 1
        B ... = ok
    ";
    a_child_inherits_no_locks_and_its_end_releases_none: "
        A open f file rwc
        A lock f w 0 10
        A fork C
        C lock f w 0 10 = EAGAIN
        C get f w 0 0 = w 0 10 A
        C lock f u 0 10
        C get f w 0 0 = w 0 10 A
        C lock f w 10 10
        C close f
        A get f w 0 0 = free
        C exit
        B open f file rw
        B see f = w 0 10 A
    ";
    a_child_that_is_killed_takes_no_lock_of_its_parent_along: "
        A open f file rwc
        A lock f w 0 10
        A fork C
        C kill
        B open f file rw
        B lock f w 0 10 = EAGAIN
    ";
    a_program_that_replaces_its_process_keeps_the_locks: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A exec
        B get f w 0 0 = w 0 10 A
        A lock f w 10 10
        B see f = w 0 20 A
        A lock f u 0 0
        B lock f w 0 0
    ";
    closing_any_descriptor_of_the_file_releases_all_of_the_process: "
        A open f file rwc
        A open other file r
        A lock f w 0 10
        B open f file rw
        B see f = w 0 10 A
        A close other
        B see f = free
        A lock f w 0 10
        A dup f g
        A close g
        B see f = free
        A lock f r 0 10
        A close f
        B lock f w 0 10
    ";
    closing_another_file_releases_nothing: "
        A open f file rwc
        A open g other rwc
        A lock f w 0 10
        A lock g w 0 10
        A close g
        B open f file rw
        B open g other rw
        B lock f w 0 10 = EAGAIN
        B lock g w 0 10
    ";
    the_end_of_a_process_releases_its_locks: "
        B open f file rwc
        A open f file rwc
        A lock f w 0 10
        A lock f r 20 10
        B lock f w 0 30 = EAGAIN
        A exit
        B lock f w 0 30
    ";
    a_process_that_is_killed_releases_its_locks: "
        B open f file rwc
        A open f file rwc
        A lock f w 0 10
        B lock f w 0 10 = EAGAIN
        A kill
        B lock f w 0 10
    ";
    the_descriptors_of_a_process_are_one_owner: "
        A open f file rwc
        A open g file rw
        B open f file rw
        A lock f w 0 10
        A lock g w 0 10
        A lock g r 0 5
        B see f = r 0 5 A, w 5 5 A
        A lock g u 0 0
        B see f = free
    ";
    an_unlinked_file_keeps_its_locks_and_a_new_one_of_the_name_has_none: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        A unlink file
        B lock f w 0 10 = EAGAIN
        B open g file rwc
        B lock g w 0 10
        A lock f u 0 10
        B lock f w 0 10
    ";
    a_renamed_file_keeps_its_locks: "
        A open f file rwc
        B open f file rw
        A lock f w 0 10
        B wait f w 0 10 ...
        A rename file renamed
        C open f renamed rw
        C get f w 0 0 = w 0 10 A
        A lock f u 0 10
        B ... = ok
        C get f w 0 0 = w 0 10 B
    ";
    a_rename_over_a_locked_file_leaves_each_its_own_locks: "
        A open f file rwc
        A open g other rwc
        B open f file rw
        A lock f w 0 10
        B open g other rw
        B lock g w 20 10
        B rename file other
        C open h other rw
        C see h = w 0 10 A
        A get g w 0 0 = w 20 10 B
    ";
    a_truncation_changes_no_lock: "
        A open f file rwc
        B open f file rw
        A truncate f 1000
        A lock f w 500 100
        A lock f w 900 0
        B truncate f 0
        B see f = w 500 100 A, w 900 0 A
        B open t file rwt
        B get f w 0 0 = w 500 100 A
    ";
    a_lock_hinders_neither_reads_nor_writes_of_others: "
        A open f file rwc
        B open f file rw
        A write f 0 before
        A lock f w 0 0
        B read f 0 6 = before
        B write f 0 after!
        A read f 0 6 = after!
    ";
    locks_under_two_links_are_locks_of_one_file: "
        A open f file rwc
        A lock f w 0 10
        A link file twin
        B open g twin rw
        B lock g w 5 10 = EAGAIN
        B wait g w 5 10 ...
        A open other twin r
        A close other
        B ... = ok
    ";
}
