//! Locks of open file descriptions (F_OFD_SETLK): ranges as POSIX has them, owners as flock(2) has them.

use crate::script::promises;

promises! {
    two_opens_of_one_process_are_two_owners: "
        A open f file rwc
        A open g file rw
        A ofd-lock f w 0 10
        A ofd-lock g w 5 1 = EAGAIN
        A ofd-lock g w 10 10
        A ofd-get f w 0 0 = w 10 10 pid:-1
        A ofd-get g w 0 0 = w 0 10 pid:-1
    ";
    ranges_join_and_split_as_those_of_processes_do: "
        A open f file rwc
        B open f file rw
        A ofd-lock f w 0 10
        A ofd-lock f w 10 10
        A ofd-lock f r 5 10
        A ofd-lock f u 8 2
        B ofd-get f w 0 5 = w 0 5 pid:-1
        B ofd-get f w 5 3 = r 5 3 pid:-1
        B ofd-get f w 8 2 = free
        B ofd-get f w 10 5 = r 10 5 pid:-1
        B ofd-get f w 15 5 = w 15 5 pid:-1
    ";
    locks_of_processes_and_of_opens_conflict_even_in_one_process: "
        A open f file rwc
        A ofd-lock f w 0 10
        A lock f w 0 10 = EAGAIN
        A lock f w 10 10
        A ofd-lock f r 10 1 = EAGAIN
        B open f file rw
        B lock f w 0 1 = EAGAIN
    ";
    duplicates_and_children_share_the_locks_which_end_with_the_last_of_them: "
        A open f file rwc
        A dup f g
        B open f file rw
        A ofd-lock f w 0 10
        A fork C
        C ofd-lock f w 0 10
        A close f
        A close g
        B ofd-lock f w 0 10 = EAGAIN
        C exit
        B ofd-wait f w 0 10
    ";
    closing_another_open_of_the_file_releases_nothing: "
        A open f file rwc
        A open g file rw
        B open f file rw
        A ofd-lock f w 0 10
        A close g
        B ofd-lock f w 0 10 = EAGAIN
        A close f
        B ofd-wait f w 0 10
    ";
    an_unlock_through_a_duplicate_is_an_unlock: "
        A open f file rwc
        A dup f g
        B open f file rw
        A ofd-lock f w 0 0
        A ofd-lock g u 0 0
        B ofd-lock f w 0 0
    ";
    a_waiter_gets_the_lock_when_its_holder_lets_go: "
        A open f file rwc
        B open f file rw
        A ofd-lock f w 0 10
        B ofd-wait f w 5 10 ...
        A ofd-lock f u 0 10
        B ... = ok
        A ofd-lock f r 14 1 = EAGAIN
    ";
    a_signal_ends_a_wait_with_eintr_and_nothing_is_left_behind: "
        A open f file rwc
        B open f file rw
        C open f file rw
        B handle-signals
        A ofd-lock f w 0 10
        B ofd-wait f w 0 10 ...
        B signal
        B ... = EINTR
        A ofd-lock f u 0 10
        C ofd-lock f w 0 10
    ";
    a_process_that_is_killed_releases_them: "
        B open f file rwc
        A open f file rwc
        A ofd-lock f w 0 10
        B ofd-lock f w 0 10 = EAGAIN
        A kill
        B ofd-wait f w 0 10
    ";
    a_program_that_replaces_its_process_keeps_them: "
        A open f file rwc
        B open f file rw
        A ofd-lock f w 0 10
        A exec
        B ofd-lock f w 0 10 = EAGAIN
        A ofd-lock f u 0 10
        B ofd-lock f w 0 10
    ";
    a_lock_needs_a_file_that_is_open_for_what_it_excludes: "
        A open f file rwc
        A open r file r
        A open w file w
        A ofd-lock r w 0 1 = EBADF
        A ofd-lock w r 0 1 = EBADF
        A ofd-lock r r 0 1
        A ofd-lock w w 1 1
    ";
    a_lock_to_the_end_and_a_negative_length_are_as_with_processes: "
        A open f file rwc
        B open f file rw
        A ofd-lock f w 100 0
        A ofd-lock f w 20 -10
        A ofd-lock f w 5 -10 = EINVAL
        B ofd-get f w 0 50 = w 10 10 pid:-1
        B ofd-get f w 1000000 1 = w 100 0 pid:-1
    ";
    getlk_for_a_process_names_no_process_when_an_open_holds_the_lock: "
        A open f file rwc
        B open f file rw
        A ofd-lock f w 0 10
        B get f w 0 0 = w 0 10 pid:-1 / fuse: w 0 10 A
        A lock f r 20 10
        B ofd-get f w 20 10 = r 20 10 A / fuse: r 20 10 pid:-1
    ";
}
