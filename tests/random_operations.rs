//! fsx-style: the same random operations on a file of the mount and on a local file give the same answers.

mod common;

use common::{Mounted, Random, fsx, rounds};

fn compare(mmap: bool) {
    let Some(mounted) = Mounted::dev() else { return };
    let mut random = Random::from_env();
    let steps = rounds(10_000, 100_000);
    fsx::compare(mounted.path(), mmap, &mut random, |done| done == steps);
}

#[test]
fn random_operations_answer_as_on_a_local_file() {
    compare(false);
}

#[test]
fn random_operations_with_shared_mappings_answer_as_on_a_local_file() {
    compare(true);
}
