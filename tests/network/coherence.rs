//! Two clients with mounts of their own: each sees at once what the other did.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

use crate::common::brick::Brick;
use crate::common::two_mounts::{Two, promises_of_two_mounts};
use crate::common::{Mounted, can_mount, rounds, until};

/// Bytes of the mappings.
const MAPPED: usize = 4 * 4096;

/// The brick and its two clients; in the order in which they go.
struct Clients {
    first: Mounted,
    second: Mounted,
    _brick: Brick,
}

/// Two clients that keep names and attributes for a minute: what they see in time they see because the brick tells.
fn clients() -> Option<Clients> {
    if !can_mount() {
        return None;
    }
    let brick = Brick::start()?;
    let client = brick.client("");
    let options = ["-o", "attribute-timeout=60,entry-timeout=60,negative-timeout=60"];
    let (first, second) = (Mounted::client(&client, &options)?, Mounted::client(&client, &options)?);
    Some(Clients { first, second, _brick: brick })
}

fn two() -> Option<(Clients, Two)> {
    let clients = clients()?;
    let two = Two::new(clients.first.path(), clients.second.path());
    Some((clients, two))
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

/// A file mapped whole and shared.
struct Mapping {
    at: *mut u8,
}

impl Mapping {
    fn of(path: &Path) -> Mapping {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping that only this value refers to, and that ends with it.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), MAPPED, protection, MapFlags::SHARED, &file, 0) };
        Mapping { at: at.expect("mmap").cast() }
    }

    fn write(&self, offset: usize, byte: u8) {
        assert!(offset < MAPPED);
        // SAFETY: inside the mapping; the file is as long and no test makes it shorter.
        unsafe { self.at.add(offset).write_volatile(byte) }
    }

    fn read(&self, offset: usize) -> u8 {
        assert!(offset < MAPPED);
        // SAFETY: as above.
        unsafe { self.at.add(offset).read_volatile() }
    }

    fn sync(&self) {
        // SAFETY: the whole of the mapping.
        unsafe { rustix::mm::msync(self.at.cast(), MAPPED, MsyncFlags::SYNC) }.expect("msync");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        unsafe { rustix::mm::munmap(self.at.cast(), MAPPED) }.expect("munmap");
    }
}

#[test]
fn what_one_client_wrote_into_a_mapping_and_synced_the_other_reads_and_sees_in_its_mapping() {
    let Some((_guard, two)) = two() else { return };
    fs::write(&two.here, [0; MAPPED]).expect("write");
    let (here, there) = (Mapping::of(&two.here), Mapping::of(&two.there));
    let reader = File::open(&two.there).expect("open");
    for round in 0..rounds(100, 2_000) {
        let (byte, offset) = (round as u8, round * 37 % MAPPED);
        here.write(offset, byte);
        here.sync();
        let mut seen = [0];
        reader.read_exact_at(&mut seen, offset as u64).expect("read");
        assert_eq!(seen, [byte], "by a read, round {round}");
        assert_eq!(there.read(offset), byte, "in the mapping, round {round}");
    }
}

/// Neither client's dirty page is thrown away for the other's sake. When both write at once, each is told of the other's
/// write as soon as its own is answered: soon, not before.
#[test]
fn what_both_clients_write_into_pages_of_their_own_stays_and_soon_both_see_it() {
    let Some((_guard, two)) = two() else { return };
    fs::write(&two.here, [0; MAPPED]).expect("write");
    let (here, there) = (Mapping::of(&two.here), Mapping::of(&two.there));
    for round in 0..rounds(50, 500) {
        let byte = round as u8;
        here.write(10, byte);
        there.write(4096 + 10, byte);
        here.sync();
        there.sync();
        assert_eq!((here.read(10), there.read(4096 + 10)), (byte, byte), "round {round}");
        until("each sees the other's", || (here.read(4096 + 10) == byte && there.read(10) == byte).then_some(()));
    }
}

#[test]
fn names_that_come_and_go_are_seen_by_the_other_at_each_step() {
    let Some(clients) = clients() else { return };
    let (here, there) = (clients.first.path(), clients.second.path());
    fs::create_dir(here.join("d")).expect("mkdir");
    for round in 0..rounds(100, 2_000) {
        let (made, moved) = (format!("d/a{}", round % 3), format!("d/b{}", round % 3));
        // Each look leaves an entry in the kernel's cache of the other: that it is not there, or that it is.
        assert!(!there.join(&made).exists(), "round {round}: not there yet");
        fs::create_dir(here.join(&made)).expect("mkdir");
        assert!(there.join(&made).is_dir(), "round {round}: made");
        assert!(!there.join(&moved).exists());
        fs::rename(here.join(&made), here.join(&moved)).expect("rename");
        assert!(!there.join(&made).exists(), "round {round}: moved away");
        assert!(there.join(&moved).is_dir(), "round {round}: moved here");
        fs::remove_dir(here.join(&moved)).expect("rmdir");
        assert!(!there.join(&moved).exists(), "round {round}: removed");
    }
}

#[test]
fn a_link_count_an_owner_and_an_xattr_are_seen_at_once() {
    use std::os::unix::fs::MetadataExt;
    let Some((_guard, two)) = two() else { return };
    assert_eq!(fs::metadata(&two.there).expect("stat").nlink(), 1);
    fs::hard_link(&two.here, two.here.with_file_name("g")).expect("link");
    assert_eq!(fs::metadata(&two.there).expect("stat").nlink(), 2);
    std::os::unix::fs::chown(&two.here, Some(1234), Some(567)).expect("chown");
    let metadata = fs::metadata(two.there.with_file_name("g")).expect("stat");
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 567));
    let mut value = [0; 16];
    for text in ["first", "second"] {
        rustix::fs::setxattr(&two.here, "user.mark", text.as_bytes(), rustix::fs::XattrFlags::empty()).expect("set");
        let length = rustix::fs::getxattr(&two.there, "user.mark", &mut value).expect("get");
        assert_eq!(&value[..length], text.as_bytes());
    }
}
