//! What a journal promises to one owner in one process.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use brickwork_journal::{
    AppendError, DamageKind, Found, Journal, Limits, Mode, OpenError, Opened, RECORD_MAX, RotateError,
};
use common::{append, open, records, rotate, segments, small};

const MODES: [Mode; 2] = [Mode::Process, Mode::Disk];

#[test]
fn what_was_appended_is_there_in_order_after_a_close() {
    for mode in MODES {
        let folder = common::folder();
        let Opened { journal, records: before, found, damage } = open(folder.path(), mode);
        assert!(before.is_empty() && found == Found::New && damage.is_none());
        let written = [b"one".to_vec(), vec![], vec![7; RECORD_MAX], b"four".to_vec()];
        for (record, sequence) in written.iter().zip(1..) {
            assert_eq!(append(&journal, record), sequence);
        }
        journal.close().unwrap();
        let opened = open(folder.path(), mode);
        assert_eq!((records(&opened), opened.found, opened.damage), (written.to_vec(), Found::Closed, None));
    }
}

#[test]
fn a_journal_that_was_not_closed_is_found_killed_and_whole() {
    for mode in MODES {
        let folder = common::folder();
        for round in 0..3 {
            let opened = open(folder.path(), mode);
            assert_eq!(opened.records.len(), round);
            assert_eq!(opened.found == Found::New, round == 0);
            assert!(round == 0 || opened.found == Found::Killed);
            append(&opened.journal, b"record");
        }
    }
}

#[test]
fn a_rotation_replaces_the_log_by_the_snapshot_and_what_follows_it() {
    for mode in MODES {
        let folder = common::folder();
        let Opened { journal, .. } = open(folder.path(), mode);
        (0..100).for_each(|_| _ = append(&journal, b"before"));
        rotate(&journal, &[b"snapshot a", b"snapshot b"]);
        append(&journal, b"after");
        drop(journal);
        let opened = open(folder.path(), mode);
        assert_eq!(records(&opened), [&b"snapshot a"[..], b"snapshot b", b"after"]);
        assert_eq!(segments(folder.path()).len(), 1);
    }
}

#[test]
fn a_full_segment_asks_once_goes_on_in_others_and_refuses_at_the_limit() {
    for mode in MODES {
        let folder = common::folder();
        let Opened { journal, .. } = open(folder.path(), mode);
        let mut asked = Vec::new();
        let refused = loop {
            match journal.append(&[1; 100]) {
                Ok(appended) => asked.extend(appended.wants_snapshot.then_some(journal.usage().segments)),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AppendError::Full { overflow_segments: 2 }), "{refused}");
        assert_eq!(asked, [1, 2, 3], "asked before the first is full, and in each overflow segment");
        let appended = small().segment_bytes * 3 / 120;
        drop(journal);
        let opened = open(folder.path(), mode);
        assert!(opened.records.len() > appended * 95 / 100, "{} of about {appended}", opened.records.len());
        assert!(matches!(opened.journal.append(&[1; 100]), Err(AppendError::Full { .. })));
        rotate(&opened.journal, &[b"all"]);
        append(&opened.journal, b"works again");
        assert_eq!(segments(folder.path()).len(), 1);
    }
}

#[test]
fn a_snapshot_may_be_larger_than_a_segment_and_is_bounded() {
    let folder = common::folder();
    let limits = Limits { snapshot_bytes: 3 * (RECORD_MAX + 16), ..small() };
    let Opened { journal, .. } = Journal::open(folder.path(), Mode::Disk, limits).unwrap();
    append(&journal, b"kept");
    let record = vec![3; RECORD_MAX];
    let large = |records: usize| journal.rotate(|out| (0..records).try_for_each(|_| out.write(&record)));
    assert!(matches!(large(4), Err(RotateError::TooLarge { .. })));
    let too_long = journal.rotate(|out| out.write(&vec![0; RECORD_MAX + 1]));
    assert!(matches!(too_long, Err(RotateError::TooLong { .. })));
    let abandoned = journal.rotate(|_| Err(RotateError::Abandoned("no state".into())));
    assert!(matches!(abandoned, Err(RotateError::Abandoned(_))));
    append(&journal, b"kept too");
    drop(journal);
    let Opened { journal, records, .. } = Journal::open(folder.path(), Mode::Disk, limits).unwrap();
    assert_eq!(records.iter().collect::<Vec<_>>(), [&b"kept"[..], b"kept too"], "a failed rotation changes nothing");
    journal.rotate(|out| (0..3).try_for_each(|_| out.write(&record))).unwrap();
    append(&journal, b"after");
    drop(journal);
    let opened = Journal::open(folder.path(), Mode::Disk, limits).unwrap();
    assert_eq!(opened.records.len(), 4);
}

#[test]
fn a_record_beyond_the_limit_is_refused_and_one_at_it_is_not() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    let refused = journal.append(&vec![0; RECORD_MAX + 1]);
    assert!(matches!(refused, Err(AppendError::TooLong { bytes }) if bytes == RECORD_MAX + 1));
    append(&journal, &vec![0; RECORD_MAX]);
}

#[test]
fn limits_out_of_range_are_refused_by_name() {
    let folder = common::folder();
    for limits in [
        Limits { segment_bytes: 4095, ..small() },
        Limits { segment_bytes: (1 << 30) + 1, ..small() },
        Limits { snapshot_bytes: (16 << 30) + 1, ..small() },
    ] {
        let refused = Journal::open(folder.path(), Mode::Process, limits).err().unwrap().to_string();
        assert!(refused.contains("_bytes` may be"), "{refused}");
    }
}

#[test]
fn a_second_open_is_told_which_process_has_it() {
    let folder = common::folder();
    let first = open(folder.path(), Mode::Process);
    let second = Journal::open(folder.path(), Mode::Process, small()).err().unwrap();
    assert!(matches!(second, OpenError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{second}");
    drop(first);
    open(folder.path(), Mode::Process);
}

#[test]
fn folder_and_files_are_for_their_owner_alone() {
    let folder = common::folder();
    let path = folder.path().join("new/deep");
    let _opened = open(&path, Mode::Process);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[test]
fn a_version_of_the_future_is_refused_and_left_alone() {
    let folder = common::folder();
    drop(open(folder.path(), Mode::Process));
    let segment = common::segment_paths(folder.path()).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 2;
    fs::write(&segment, &bytes).unwrap();
    let refused = Journal::open(folder.path(), Mode::Process, small()).err().unwrap();
    assert!(matches!(refused, OpenError::Version { found: 2, .. }), "{refused}");
    assert_eq!(fs::read(&segment).unwrap(), bytes);
}

/// A log of three segments with records 0.. in order, closed; its segments.
fn three_segments(folder: &Path) -> Vec<PathBuf> {
    let Opened { journal, .. } = open(folder, Mode::Process);
    let mut number = 0_u32;
    while journal.usage().segments < 3 {
        append(&journal, &[&number.to_le_bytes()[..], &[0xaa; 96]].concat());
        number += 1;
    }
    journal.close().unwrap();
    common::segment_paths(folder)
}

/// The records are 0, 1, 2 … without a gap; how many.
fn consecutive(opened: &Opened) -> u32 {
    for (record, number) in opened.records.iter().zip(0_u32..) {
        assert_eq!(record[..4], number.to_le_bytes());
    }
    opened.records.len() as u32
}

/// Makes the last record of a segment zero.
fn lose_the_last_record(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    bytes[end - 116..end].fill(0);
    fs::write(segment, bytes).unwrap();
}

fn flip(segment: &Path, at: usize) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[at] ^= 0x10;
    fs::write(segment, bytes).unwrap();
}

#[test]
fn damage_is_told_with_its_place_and_the_records_before_it() {
    type Harm = fn(&[PathBuf]);
    let cases: [(&str, usize, DamageKind, Harm); 8] = [
        ("a record in the middle", 0, DamageKind::Record, |all| flip(&all[0], 5_000)),
        ("the second segment is missing", 1, DamageKind::Missing, |all| fs::remove_file(&all[1]).unwrap()),
        ("the first is missing", 0, DamageKind::Missing, |all| fs::remove_file(&all[0]).unwrap()),
        ("the header of the first", 0, DamageKind::Header, |all| flip(&all[0], 20)),
        ("the header of the last", 2, DamageKind::Header, |all| flip(&all[2], 40)),
        ("the second is cut", 1, DamageKind::Short, |all| common::truncate(&all[1], 3_000)),
        ("the end of the second", 1, DamageKind::Short, |all| lose_the_last_record(&all[1])),
        ("the last is empty", 2, DamageKind::Header, |all| common::truncate(&all[2], 0)),
    ];
    for (name, segment, kind, harm) in cases {
        let folder = common::folder();
        let all = three_segments(folder.path());
        harm(&all);
        let opened = open(folder.path(), Mode::Process);
        let damage = opened.damage.clone().unwrap_or_else(|| panic!("{name}: not noticed"));
        assert_eq!((&damage.file, damage.kind), (&all[segment], kind), "{name}: {damage}");
        let records = consecutive(&opened);
        assert!(segment == 0 || records > 100 * segment as u32, "{name}: {records} records");
        assert!(matches!(opened.journal.append(b"no"), Err(AppendError::Damaged)), "{name}");
        drop(opened);
        let opened = open(folder.path(), Mode::Process);
        assert_eq!(opened.damage, Some(damage), "{name}: it stays until the owner has decided");
        rotate(&opened.journal, &[b"decided"]);
        append(&opened.journal, b"goes on");
        drop(opened);
        let opened = open(folder.path(), Mode::Process);
        assert_eq!((records_of(&opened), opened.damage), (vec!["decided".into(), "goes on".into()], None), "{name}");
        assert_eq!(segments(folder.path()).len(), 1, "{name}");
    }
}

fn records_of(opened: &Opened) -> Vec<String> {
    opened.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
}

#[test]
#[should_panic(expected = "a snapshot must not use the journal that it is for")]
fn a_snapshot_that_appends_panics_instead_of_waiting_for_itself() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    let _ = journal.rotate(|_| journal.append(b"no").map(drop).map_err(|_| RotateError::Abandoned(String::new())));
}

#[test]
fn a_snapshot_that_panics_leaves_the_log_as_it_was() {
    let folder = common::folder();
    let Opened { journal, .. } = open(folder.path(), Mode::Process);
    append(&journal, b"one");
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| journal.rotate(|_| panic!("the owner's bug"))));
    assert!(panicked.is_err());
    append(&journal, b"two");
    rotate(&journal, &[b"one and two"]);
    drop(journal);
    assert_eq!(records(&open(folder.path(), Mode::Process)), [&b"one and two"[..]]);
}

#[test]
fn a_rotation_that_cannot_take_its_name_changes_nothing() {
    for mode in MODES {
        let folder = common::folder();
        let Opened { journal, .. } = open(folder.path(), mode);
        append(&journal, b"one");
        let taken = folder.path().join(format!("segment-{:016x}", 2));
        fs::create_dir(&taken).unwrap();
        let refused = journal.rotate(|out| out.write(b"snapshot")).unwrap_err();
        assert!(matches!(refused, RotateError::System(_)), "{refused}");
        assert!(!folder.path().join("snapshot.new").exists());
        fs::remove_dir(taken).unwrap();
        append(&journal, b"two");
        drop(journal);
        assert_eq!(records(&open(folder.path(), mode)), [b"one", b"two"]);
    }
}
