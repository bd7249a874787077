//! Mounts of a real brick: what only a file system on a disk can show.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::options::OptionMap;
use brickwork_api::{Event, FopKind, Gfid, Hold, Setup, Upward, Xlator};
use brickwork_testkit::TestHost;
use common::{Rig, rounds};

/// A brick in `directory`, mounted with the words of `-o`.
fn brick(directory: &Path, words: &str) -> Option<Rig> {
    let setup = Setup {
        name: "posix".into(),
        options: OptionMap::from_iter([("directory", directory.to_str().unwrap())]),
        children: Vec::new(),
        subvolumes: Vec::new(),
        up: Upward::new(|_| {}),
        host: TestHost::new(),
    };
    let leaf: Arc<dyn Xlator> = (brickwork_posix::TYPE.prepare)(setup).unwrap();
    leaf.start().unwrap();
    Rig::over(leaf, words, false)
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("brickwork-mount-brick-").tempdir().unwrap()
}

/// Overwrites a file in one mount, at the same length and faster than a clock ticks, and reads it in another where it
/// is open all the time.
fn overwritten_in_one_seen_in_the_other(rig: &mut Rig, words: &str) {
    let (first, second) = (rig.path(), rig.mount(words));
    fs::write(first.join("x"), [0; 5000]).unwrap();
    let writer = OpenOptions::new().write(true).open(first.join("x")).unwrap();
    let reader = File::open(second.join("x")).unwrap();
    for round in 0..rounds(1000) {
        let expected = [round as u8; 5000];
        writer.write_all_at(&expected, 0).unwrap();
        let mut found = [0; 5000];
        reader.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected, "round {round} read {} and {}", found[0], found[4999]);
    }
}

/// As above, with the file opened anew for each look, which maps it and reads nothing.
fn reopened_and_mapped_after_each_change(rig: &Rig) {
    use rustix::mm::{MapFlags, ProtFlags};
    let points = rig.points();
    let writer = OpenOptions::new().write(true).open(points[0].join("x")).unwrap();
    for round in 0..rounds(1000) {
        writer.write_all_at(&[round as u8; 5000], 0).unwrap();
        let file = File::open(points[1].join("x")).unwrap();
        // SAFETY: a fresh mapping at an address of the kernel's choice; nobody shortens the file.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), 5000, ProtFlags::READ, MapFlags::SHARED, &file, 0).unwrap()
        };
        // SAFETY: the mapping has 5,000 bytes, and nobody writes to it while the slice lives.
        let found = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), 5000) };
        assert_eq!((found[0], found[4999]), (round as u8, round as u8), "round {round}");
        // SAFETY: the mapping is ours and `found` is not used after this.
        unsafe { rustix::mm::munmap(start, 5000).unwrap() };
    }
}

#[test]
fn a_cached_file_shows_each_change_where_the_bricks_timestamps_tell_them_apart() {
    let folder = folder();
    let Some(mut rig) = brick(folder.path(), "") else { return };
    if rig.mounted().status()["direct_io"] == true {
        eprintln!("SKIPPED: the timestamps of {} are too coarse for a page cache", folder.path().display());
        return;
    }
    overwritten_in_one_seen_in_the_other(&mut rig, "");
    reopened_and_mapped_after_each_change(&rig);
    let reads = rig.recorder.take();
    let reads = reads.iter().filter(|seen| seen.fop == FopKind::Read).count();
    assert!(reads >= rounds(1000), "the content came from a cache: {reads} reads");
    // And it is a cache: what does not change is read once.
    let path = rig.path().join("still");
    fs::write(&path, [1; 4096]).unwrap();
    let mut bytes = [0; 4096];
    let mut read = || File::open(&path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    read();
    rig.recorder.take();
    (0..10).for_each(|_| read());
    assert_eq!(rig.recorder.count(FopKind::Read), 0, "opened again, it was read again");
}

#[test]
fn what_the_graph_says_is_old_goes_even_where_it_is_mapped() {
    use rustix::mm::{MapFlags, ProtFlags};
    let folder = folder();
    let Some(mut rig) = brick(folder.path(), "") else { return };
    let (first, second) = (rig.path(), rig.mount(""));
    fs::write(first.join("x"), [1; 4096]).unwrap();
    let file = File::open(first.join("x")).unwrap();
    // SAFETY: a fresh mapping at an address of the kernel's choice, kept to the end; nobody shortens the file.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
    let byte = start.unwrap().cast::<u8>();
    // SAFETY: the mapping has 4,096 bytes and stays.
    let mapped = || unsafe { byte.read_volatile() };
    assert_eq!(mapped(), 1);
    OpenOptions::new().write(true).open(second.join("x")).unwrap().write_all_at(&[2; 4096], 0).unwrap();
    let opened = rig.recorder.take().into_iter().find(|seen| seen.fop == FopKind::Open).unwrap().request;
    let gfid = opened.split("gfid: ").nth(1).unwrap()[..36].parse().unwrap();
    rig.mounted().notify(&Event::Invalidate { gfid, names: false, hold: Hold::default() });
    let start = Instant::now();
    while mapped() == 1 {
        assert!(start.elapsed() < Duration::from_secs(30), "the mapped page was never dropped");
        std::thread::yield_now();
    }
    assert_eq!(mapped(), 2);
    // Nobody refers to it: nothing to say, nothing to fail.
    rig.mounted().notify(&Event::Invalidate { gfid: Gfid::random(), names: false, hold: Hold::default() });
}

#[test]
fn a_file_past_the_cache_shows_each_change_whatever_the_timestamps() {
    let folder = folder();
    let Some(mut rig) = brick(folder.path(), "direct-io=on") else { return };
    overwritten_in_one_seen_in_the_other(&mut rig, "direct-io=on");
}

#[test]
fn a_write_by_somebody_else_takes_the_set_id_bits_away_and_asks_nothing_before() {
    let folder = folder();
    let Some(rig) = brick(folder.path(), "") else { return };
    let path = rig.path().join("tool");
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&path, b"tool").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
    rig.recorder.take();
    let run = |script: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=4242", "--regid=4243", "--clear-groups", "sh", "-c", script, "sh"]).arg(&path);
        assert!(command.status().unwrap().success());
    };
    run("printf x >> \"$1\"");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777, "after a write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
    run(": > \"$1\"");
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.len()), (0o777, 0), "after emptying it by open");
}

#[test]
fn default_acls_and_the_umask_meet_on_the_brick() {
    let folder = folder();
    let Some(rig) = brick(folder.path(), "") else { return };
    let directory = rig.path().join("d");
    fs::create_dir(&directory).unwrap();
    // Version 2: owner rwx, group r-x, user 4242 rwx, mask rwx, others none.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 4242), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let set = rustix::fs::setxattr(&directory, "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty());
    set.unwrap();
    fs::write(directory.join("x"), b"x").unwrap();
    // 0666, cut by the default ACL and not by the umask of 022.
    assert_eq!(fs::metadata(directory.join("x")).unwrap().mode() & 0o777, 0o660);
    let mut found = [0; 100];
    let length = rustix::fs::getxattr(directory.join("x"), "system.posix_acl_access", &mut found[..]).unwrap();
    assert!(length > 4 + 3 * 8, "the named user was inherited");
}
