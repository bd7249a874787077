//! How the last records of a log may look after a death, and what is made of them.

mod common;

use std::fs;
use std::path::Path;

use brickwork_journal::{DamageKind, Mode, Opened};
use common::{append, open, records};

/// Makes the bytes of the record `text` zero, as a page that never came to the disk is.
fn lose(folder: &Path, text: &[u8]) {
    let segment = common::segment_paths(folder).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(text.len()).position(|part| part == text).expect("the record");
    bytes[at - 16..at + text.len()].fill(0);
    fs::write(&segment, bytes).unwrap();
}

#[test]
fn what_a_power_cut_tore_was_not_waited_for_and_ends_the_log() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Disk);
    let waited = append(&journal, b"waited for");
    journal.wait_durable(waited).unwrap();
    append(&journal, b"page that was lost");
    append(&journal, &b"page that was not, ".repeat(20));
    drop(journal);
    lose(folder.path(), b"page that was lost");
    let opened = open(folder.path(), Mode::Disk);
    assert_eq!((records(&opened), opened.damage), (vec![b"waited for".to_vec()], None));
    // Nothing of the torn end comes back when the log grows over it.
    append(&opened.journal, b"grows over it");
    drop(opened.journal);
    let opened = open(folder.path(), Mode::Disk);
    assert_eq!(records(&opened).len(), 2);
    let bytes = fs::read(common::segment_paths(folder.path()).remove(0)).unwrap();
    assert!(!bytes.windows(4).any(|part| part == b"page"));
}

#[test]
fn a_record_that_was_waited_for_and_is_not_there_is_damage() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Disk);
    let waited = append(&journal, b"waited for");
    journal.wait_durable(waited).unwrap();
    append(&journal, b"follows");
    drop(journal);
    lose(folder.path(), b"waited for");
    let opened = open(folder.path(), Mode::Disk);
    assert!(opened.records.is_empty());
    assert_eq!(opened.damage.unwrap().kind, DamageKind::Record);
}

#[test]
fn a_record_lost_between_others_is_damage_in_the_pages_of_a_process() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    for record in [b"one..", b"two..", b"three"] {
        append(&journal, record);
    }
    drop(journal);
    lose(folder.path(), b"two..");
    let opened = open(folder.path(), Mode::Process);
    assert_eq!(records(&opened), [b"one.."]);
    assert_eq!(opened.damage.unwrap().kind, DamageKind::Record);
}

#[test]
fn a_log_goes_on_behind_a_torn_record() {
    for mode in [Mode::Process, Mode::Disk] {
        let folder = common::folder();
        let Opened { journal, .. } = open(folder.path(), mode);
        append(&journal, b"whole");
        append(&journal, b"torn, and long enough to reach behind what follows");
        drop(journal);
        lose(folder.path(), b"torn");
        for round in 1..5 {
            let opened = open(folder.path(), mode);
            assert_eq!((opened.records.len(), &opened.damage), (round, &None));
            append(&opened.journal, b"next");
        }
    }
}

#[test]
fn a_snapshot_that_lost_its_end_is_damage() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    common::rotate(&journal, &[b"first of two", b"last of two"]);
    drop(journal);
    lose(folder.path(), b"last of two");
    let opened = open(folder.path(), Mode::Process);
    assert_eq!(records(&opened), [b"first of two"]);
    assert_eq!(opened.damage.unwrap().kind, DamageKind::Short);
}

#[test]
fn a_segment_that_was_not_finished_is_removed() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    append(&journal, b"record");
    drop(journal);
    for name in ["overflow.new", "snapshot.new"] {
        fs::write(folder.path().join(name), b"half").unwrap();
    }
    // As if the process had been killed between the rename of a snapshot and the removal of what it replaces.
    let segment = common::segment_paths(folder.path()).remove(0);
    let opened = open(folder.path(), Mode::Process);
    let old = fs::read(&segment).unwrap();
    common::rotate(&opened.journal, &[b"snapshot"]);
    drop(opened);
    fs::write(&segment, old).unwrap();
    let opened = open(folder.path(), Mode::Process);
    assert_eq!(records(&opened), [b"snapshot"]);
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the lock and one segment");
}
