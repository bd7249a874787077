//! Two mounts of one graph: what one has done, the other sees as soon as the call returned.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use common::{Rig, rounds};

fn two_mounts(words: &str) -> Option<(Rig, PathBuf, PathBuf)> {
    let mut rig = Rig::memory(words)?;
    let (first, second) = (rig.path(), rig.mount(words));
    Some((rig, first, second))
}

#[test]
fn names_attributes_and_lengths_are_seen_at_once() {
    let Some((_rig, first, second)) = two_mounts("") else { return };
    for round in 0..rounds(1000) {
        let name = format!("file-{}", round % 3);
        let (here, there) = (first.join(&name), second.join(&name));
        assert!(!there.exists());
        fs::write(&here, b"12345").unwrap();
        assert_eq!(fs::metadata(&there).unwrap().len(), 5);
        fs::set_permissions(&there, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(fs::metadata(&here).unwrap().mode() & 0o777, 0o604);
        OpenOptions::new().write(true).open(&there).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read(&here).unwrap(), b"12");
        fs::rename(&there, second.join("moved")).unwrap();
        assert!(!here.exists() && first.join("moved").exists());
        fs::remove_file(first.join("moved")).unwrap();
        assert!(!second.join("moved").exists());
    }
}

#[test]
fn an_open_file_shows_what_the_other_mount_wrote_over_it_at_the_same_length() {
    for words in ["direct-io=off", "direct-io=on"] {
        let Some((_rig, first, second)) = two_mounts(words) else { return };
        fs::write(first.join("x"), [0; 5000]).unwrap();
        let writer = OpenOptions::new().write(true).open(first.join("x")).unwrap();
        let reader = File::open(second.join("x")).unwrap();
        for round in 0..rounds(1000) {
            let expected = [round as u8; 5000];
            writer.write_all_at(&expected, 0).unwrap();
            let mut found = [0; 5000];
            reader.read_exact_at(&mut found, 0).unwrap();
            assert!(found == expected, "{words}: round {round} read {} and {}", found[0], found[4999]);
        }
    }
}

#[test]
fn appends_from_two_mounts_lose_nothing() {
    let Some((_rig, first, second)) = two_mounts("direct-io=off") else { return };
    let each = rounds(1000);
    fs::write(first.join("log"), b"").unwrap();
    std::thread::scope(|scope| {
        for (mark, point) in [(b'a', &first), (b'b', &second)] {
            scope.spawn(move || {
                let mut log = OpenOptions::new().append(true).open(point.join("log")).unwrap();
                for number in 0..each {
                    let line = format!("{}{number:06}\n", mark as char);
                    assert_eq!(log.write(line.as_bytes()).unwrap(), line.len());
                }
            });
        }
    });
    let text = fs::read_to_string(first.join("log")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 * each);
    lines.sort_unstable();
    let expected: Vec<String> =
        ['a', 'b'].iter().flat_map(|mark| (0..each).map(move |number| format!("{mark}{number:06}"))).collect();
    assert_eq!(lines, expected);
}

#[test]
fn creating_one_name_from_two_mounts_opens_one_file() {
    let Some((_rig, first, second)) = two_mounts("") else { return };
    for round in 0..rounds(2000) {
        let name = format!("race-{round}");
        let inodes: Vec<u64> = std::thread::scope(|scope| {
            let open = |point: &PathBuf| {
                let path = point.join(&name);
                move || {
                    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
                    file.metadata().unwrap().ino()
                }
            };
            let threads = [scope.spawn(open(&first)), scope.spawn(open(&second))];
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(inodes[0], inodes[1]);
        let exclusive = |point: &PathBuf| File::create_new(point.join(format!("{name}-x")));
        let made = std::thread::scope(|scope| {
            let threads = [scope.spawn(|| exclusive(&first)), scope.spawn(|| exclusive(&second))];
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).count()
        });
        assert_eq!(made, 1, "O_EXCL made it {made} times");
    }
}
