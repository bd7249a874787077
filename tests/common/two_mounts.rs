//! What two mounts of one brick owe each other: the second sees what the first did as soon as the first call has
//! returned. Whether both are of one process or of two with a network between them makes no difference.
#![allow(unused_macros, unused_imports, reason = "each test file uses its part")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::rounds;

/// One file, seen from both sides.
pub struct Two {
    /// Through the mount that changes it.
    pub here: PathBuf,
    /// Through the mount that looks at it.
    pub there: PathBuf,
}

impl Two {
    /// A new file in the roots of two mounts of one brick.
    pub fn new(here: &Path, there: &Path) -> Two {
        let (here, there) = (here.join("f"), there.join("f"));
        std::fs::write(&here, "as it was").expect("write");
        Two { here, there }
    }
}

/// Makes a test of each promise, on what `$two` prepares: `Option<(a guard, Two)>`.
macro_rules! promises_of_two_mounts {
    ($two:path: $($promise:ident)*) => {$(
        #[test]
        fn $promise() {
            let Some((_guard, two)) = $two() else { return };
            $crate::common::two_mounts::$promise(&two);
        }
    )*};
}
pub(crate) use promises_of_two_mounts;

pub fn a_write_of_the_same_length_is_seen_through_a_file_that_is_open(two: &Two) {
    let writer = OpenOptions::new().write(true).open(&two.here).expect("open");
    let reader = File::open(&two.there).expect("open");
    for round in 0..rounds(1_000, 20_000) {
        let text = format!("{round:09}");
        writer.write_all_at(text.as_bytes(), 0).expect("write");
        let mut seen = [0; 9];
        reader.read_exact_at(&mut seen, 0).expect("read");
        assert_eq!(String::from_utf8_lossy(&seen), text, "round {round}");
    }
}

pub fn a_truncation_is_seen_at_once(two: &Two) {
    let reader = File::open(&two.there).expect("open");
    let mut content = [0; 9];
    reader.read_exact_at(&mut content, 0).expect("read");
    OpenOptions::new().write(true).open(&two.here).expect("open").set_len(2).expect("truncate");
    assert_eq!(reader.metadata().expect("fstat").len(), 2);
    assert_eq!(reader.read_at(&mut content, 0).expect("read"), 2);
}

pub fn a_rename_is_seen_at_once_under_both_names(two: &Two) {
    assert!(two.there.exists());
    std::fs::rename(&two.here, two.here.with_file_name("g")).expect("rename");
    assert!(!two.there.exists());
    assert_eq!(std::fs::read_to_string(two.there.with_file_name("g")).expect("read"), "as it was");
}

pub fn a_change_of_mode_is_seen_at_once(two: &Two) {
    for mode in [0o600, 0o640, 0o755] {
        std::fs::set_permissions(&two.here, PermissionsExt::from_mode(mode)).expect("chmod");
        assert_eq!(std::fs::metadata(&two.there).expect("stat").mode() & 0o777, mode);
    }
}

pub fn an_unlink_is_seen_at_once_and_the_open_file_stays_readable(two: &Two) {
    let reader = File::open(&two.there).expect("open");
    std::fs::remove_file(&two.here).expect("unlink");
    assert!(!two.there.exists());
    let mut content = [0; 9];
    reader.read_exact_at(&mut content, 0).expect("read");
    assert_eq!(&content, b"as it was");
}

pub fn a_new_name_replaces_the_enoent_that_was_seen_before(two: &Two) {
    for round in 0..rounds(200, 2_000) {
        let (here, there) =
            (two.here.with_file_name(format!("n{round}")), two.there.with_file_name(format!("n{round}")));
        assert!(!there.exists());
        File::create(&here).expect("create");
        assert!(there.exists(), "round {round}");
        assert!(File::create_new(&there).is_err(), "O_EXCL sees it too");
    }
}

pub fn appends_from_two_mounts_lose_nothing(two: &Two) {
    let each = rounds(500, 5_000);
    std::thread::scope(|scope| {
        for (path, mark) in [(&two.here, 'a'), (&two.there, 'b')] {
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).expect("open");
                for number in 0..each {
                    file.write_all(format!("{mark}{number:07}\n").as_bytes()).expect("append");
                }
            });
        }
    });
    let text = std::fs::read_to_string(&two.here).expect("read");
    let lines: Vec<&str> = text.strip_prefix("as it was").expect("the beginning").lines().collect();
    assert_eq!(lines.len(), 2 * each);
    for mark in ['a', 'b'] {
        let numbers: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(mark)).collect();
        let expected: Vec<String> = (0..each).map(|number| format!("{number:07}")).collect();
        assert_eq!(numbers, expected, "appends of {mark} in order");
    }
    let seen = std::fs::read_to_string(&two.there).expect("read");
    assert!(seen == text, "both mounts read the same");
}

/// What one mount had cached was kept over a close by its time alone; a copy that sets the time back (`cp -p`, `tar`,
/// `rsync -t`) then showed the old content. Kept is now only what has a time that nobody set.
pub fn a_write_whose_time_is_set_back_is_seen_by_the_next_open(two: &Two) {
    let time = std::fs::metadata(&two.here).expect("stat").modified().expect("mtime");
    assert_eq!(std::fs::read_to_string(&two.there).expect("read"), "as it was");
    let writer = OpenOptions::new().write(true).open(&two.here).expect("open");
    writer.write_all_at(b"changed!!", 0).expect("write");
    writer.set_modified(time).expect("utimes");
    assert_eq!(std::fs::read_to_string(&two.there).expect("read"), "changed!!");
}

pub fn a_listing_shows_what_the_other_mount_just_made_renamed_and_removed(two: &Two) {
    let names = |folder: &Path| {
        let names = std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    };
    let (here, there) = (two.here.with_file_name("d"), two.there.with_file_name("d"));
    std::fs::create_dir(&here).expect("mkdir");
    let time = std::fs::metadata(&here).expect("stat").modified().expect("mtime");
    for round in 0..rounds(200, 2_000) {
        assert!(names(&there).is_empty(), "round {round}");
        File::create(here.join("a")).expect("create");
        assert_eq!(names(&there), ["a"], "round {round}");
        std::fs::rename(here.join("a"), here.join("b")).expect("rename");
        if round % 2 == 0 {
            File::open(&here).expect("open").set_modified(time).expect("utimes");
        }
        assert_eq!(names(&there), ["b"], "round {round}");
        std::fs::remove_file(here.join("b")).expect("unlink");
    }
}
