//! A disk without space.

mod common;

use std::ffi::CString;
use std::fs;
use std::path::Path;

use brickwork_journal::{AppendError, Journal, Limits, Mode, OpenError, Opened, RotateError};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

/// Runs `test` on a disk of 1 MiB that only its thread sees and that goes with it.
fn on_a_small_disk(test: impl FnOnce(&Path) + Send) {
    let folder = common::folder();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: only the table of mounts and the working directory, which tests do not use, become this
            // thread's own; descriptors stay shared with the other threads.
            if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.is_err() {
                println!("SKIPPED: a mount namespace needs root; nothing was tested");
                return;
            }
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            let options = CString::new("size=1m").unwrap();
            rustix::mount::mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), Some(&*options)).unwrap();
            test(folder.path());
        });
    });
}

fn limits() -> Limits {
    Limits { segment_bytes: 64 << 10, ..Limits::default() }
}

/// Takes all space that is left.
fn fill(disk: &Path) {
    let file = disk.join("filler");
    let mut bytes = vec![1; 2 << 20];
    while fs::write(&file, &bytes).is_err() {
        bytes.truncate(bytes.len() - 4096);
    }
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing_and_ends_with_the_want_of_space() {
    for mode in [Mode::Process, Mode::Disk] {
        on_a_small_disk(|disk| {
            let folder = disk.join("journal");
            let Opened { journal, .. } = Journal::open(&folder, mode, limits()).unwrap();
            fill(disk);
            let mut written = 0_u32;
            let append = |journal: &Journal, number: u32| journal.append(&[number as u8; 1000]);
            let refused = loop {
                match append(&journal, written) {
                    Ok(appended) => written = appended.sequence as u32,
                    Err(error) => break error,
                }
            };
            assert!(matches!(&refused, AppendError::System(refusal) if is_full(&refusal.source)), "{refused}");
            assert!(written > 50, "the space that was set aside is used: {written}");
            let refused = journal.rotate(|out| out.write(b"snapshot")).unwrap_err();
            assert!(matches!(&refused, RotateError::System(refusal) if is_full(&refusal.source)), "{refused}");
            drop(journal);

            let Opened { journal, records, damage, .. } = Journal::open(&folder, mode, limits()).unwrap();
            assert_eq!((records.len(), damage), (written as usize, None));
            assert!(records.iter().zip(0_u32..).all(|(record, number)| record == [number as u8; 1000]));
            assert!(matches!(append(&journal, 7), Err(AppendError::System(_))), "still full");
            fs::remove_file(disk.join("filler")).unwrap();
            let appended = append(&journal, 7).unwrap();
            assert!(appended.wants_snapshot && appended.sequence == 1);
            journal.wait_durable(1).unwrap();
            journal.rotate(|out| out.write(b"snapshot")).unwrap();
            assert_eq!(common::segments(&folder).len(), 1);
        });
    }
}

#[test]
fn a_new_journal_on_a_full_disk_is_refused_and_leaves_only_its_lock() {
    on_a_small_disk(|disk| {
        fill(disk);
        let refused = Journal::open(&disk.join("journal"), Mode::Process, limits()).err().unwrap();
        assert!(matches!(&refused, OpenError::System(refusal) if is_full(&refusal.source)), "{refused}");
        let left = disk.join("journal").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["lock"]);
    });
}
