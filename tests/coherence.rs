//! Two mounts of one brick: the second sees what the first did as soon as the first call has returned.

mod common;

use common::Mounted;
use common::two_mounts::{Two, promises_of_two_mounts};

fn two() -> Option<(Mounted, Two)> {
    let mounted = Mounted::twice()?;
    let two = Two::new(mounted.path(), mounted.second());
    Some((mounted, two))
}

promises_of_two_mounts! {
    two:
    a_write_of_the_same_length_is_seen_through_a_file_that_is_open
    a_truncation_is_seen_at_once
    a_rename_is_seen_at_once_under_both_names
    a_change_of_mode_is_seen_at_once
    an_unlink_is_seen_at_once_and_the_open_file_stays_readable
    a_new_name_replaces_the_enoent_that_was_seen_before
    appends_from_two_mounts_lose_nothing
    a_write_whose_time_is_set_back_is_seen_by_the_next_open
    a_listing_shows_what_the_other_mount_just_made_renamed_and_removed
}
