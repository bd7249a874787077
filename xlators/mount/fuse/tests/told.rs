//! Mounts of a graph that tells of every change: what the kernel keeps, and that it goes when it is told to.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brickwork_api::{AttrChange, Event, FopKind, Gfid, SetTime, Timespec};
use brickwork_mount::{FuseOptions, StartError};
use brickwork_testkit::{Client, MemoryLeaf};
use common::told::{Told, hold};
use common::{Rig, rounds};
use tokio::sync::oneshot;

/// A mount, and the file system behind it for changes that nobody notices unless told.
struct Behind {
    rig: Rig,
    told: Arc<Told>,
    leaf: Client,
    point: PathBuf,
}

impl Behind {
    fn new(words: &str) -> Option<Behind> {
        let memory = Arc::new(MemoryLeaf::new());
        let told = Told::over(memory.clone());
        let rig = Rig::over(told.clone(), words, false)?;
        let point = rig.path();
        Some(Behind { rig, told, leaf: Client::new(memory), point })
    }

    /// As [`Behind::new`], where the kernel can be told of names.
    fn with_names() -> Option<Behind> {
        let behind = Behind::new("")?;
        let protocol = behind.rig.mounted().status()["protocol"].as_str().unwrap().to_owned();
        if protocol.strip_prefix("7.").unwrap().parse::<u32>().unwrap() < 44 {
            eprintln!("SKIPPED: this kernel (FUSE {protocol}) cannot be told of names; Linux 6.16 can");
            return None;
        }
        Some(behind)
    }

    /// Tells the mount that `gfid` is old, and waits until it has dropped what it kept.
    fn invalidate(&self, gfid: Gfid, names: bool) {
        released(self.begin_invalidate(gfid, names));
    }

    fn begin_invalidate(&self, gfid: Gfid, names: bool) -> oneshot::Receiver<()> {
        let (hold, released) = hold();
        self.rig.mounted().notify(&Event::Invalidate { gfid, names, hold });
        released
    }

    fn put(&self, name: &str, content: &[u8]) -> Gfid {
        self.leaf.put(Gfid::ROOT, name, content).unwrap()
    }

    /// Writes over `gfid` behind the mount's back.
    fn overwrite(&self, gfid: Gfid, content: &[u8]) {
        let file = self.leaf.open(gfid, libc::O_RDWR).unwrap();
        self.leaf.write(file, 0, content).unwrap();
        self.leaf.release(file).unwrap();
    }

    /// How often the graph was asked for any of `kinds` by `work`.
    fn asked(&self, kinds: &[FopKind], work: impl FnOnce()) -> usize {
        self.rig.recorder.take();
        work();
        self.rig.recorder.take().iter().filter(|seen| kinds.contains(&seen.fop)).count()
    }
}

/// Waits for a hold's release as long as any test may take.
fn released(mut receiver: oneshot::Receiver<()>) {
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let heard = brickwork_testkit::block_on(&mut receiver);
        let _ = sender.send(heard);
    });
    heard.recv_timeout(Duration::from_secs(30)).expect("the hold was never released").unwrap();
}

/// Until `is` holds; for what the kernel does when nobody waits for it.
fn eventually(what: &str, is: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn attributes_are_kept_until_they_are_said_to_be_old() {
    let Some(behind) = Behind::with_names() else { return };
    let (gfid, path) = (behind.put("x", b"12345"), behind.point.join("x"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    behind.leaf.setattr(gfid, AttrChange { mode: Some(0o600), ..AttrChange::default() }).unwrap();
    let asked = behind.asked(&[FopKind::Stat, FopKind::Lookup], || {
        for _ in 0..100 {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        }
    });
    assert_eq!(asked, 0, "they were asked for");
    behind.invalidate(gfid, false);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn pages_are_kept_over_opens_until_they_are_said_to_be_old_and_mappings_change_with_them() {
    use rustix::mm::{MapFlags, ProtFlags};
    let Some(behind) = Behind::with_names() else { return };
    let (gfid, path) = (behind.put("x", &[1; 8192]), behind.point.join("x"));
    let file = File::open(&path).unwrap();
    // SAFETY: a fresh mapping at an address of the kernel's choice, kept to the end; nobody shortens the file.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 8192, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
    let byte = start.unwrap().cast::<u8>();
    // SAFETY: the mapping has 8,192 bytes and stays.
    let mapped = || unsafe { (byte.read_volatile(), byte.add(5000).read_volatile()) };
    assert_eq!((mapped(), fs::read(&path).unwrap()), ((1, 1), vec![1; 8192]));
    behind.overwrite(gfid, &[2; 8192]);
    let asked = behind.asked(&[FopKind::Read, FopKind::Stat], || {
        assert_eq!((mapped(), fs::read(&path).unwrap()), ((1, 1), vec![1; 8192]));
    });
    assert_eq!(asked, 0, "they were read again");
    behind.invalidate(gfid, false);
    assert_eq!((mapped(), fs::read(&path).unwrap()), ((2, 2), vec![2; 8192]));
}

#[test]
fn names_are_kept_those_that_do_not_exist_too_until_they_are_said_to_be_old() {
    let Some(behind) = Behind::with_names() else { return };
    behind.put("here", b"1");
    let (here, missing) = (behind.point.join("here"), behind.point.join("missing"));
    assert!(here.exists() && !missing.exists());
    behind.leaf.unlink(Gfid::ROOT, "here").unwrap();
    behind.put("missing", b"2");
    let asked = behind.asked(&[FopKind::Lookup], || {
        (0..100).for_each(|_| assert!(here.exists() && !missing.exists()));
    });
    assert_eq!(asked, 0, "names were looked up");
    behind.invalidate(Gfid::ROOT, true);
    assert!(!here.exists() && missing.exists());
}

#[test]
fn a_listing_is_kept_until_it_is_said_to_be_old() {
    let Some(behind) = Behind::with_names() else { return };
    behind.put("one", b"1");
    let list = || fs::read_dir(&behind.point).unwrap().count();
    assert_eq!((list(), list()), (1, 1));
    behind.put("two", b"2");
    let asked = behind.asked(&[FopKind::Readdir, FopKind::Readdirplus], || assert_eq!(list(), 1));
    assert_eq!(asked, 0, "it was listed again");
    behind.invalidate(Gfid::ROOT, true);
    assert_eq!((list(), list()), (2, 2));
}

#[test]
fn changes_of_its_own_need_nobody_to_tell_of_them() {
    let Some(behind) = Behind::with_names() else { return };
    let path = behind.point.join("x");
    for round in 0..rounds(200) {
        assert!(!path.exists());
        fs::write(&path, vec![1; round]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), round as u64);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(7).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 7);
        assert_eq!(fs::read_dir(&behind.point).unwrap().count(), 1);
        fs::rename(&path, behind.point.join("y")).unwrap();
        assert!(!path.exists());
        fs::remove_file(behind.point.join("y")).unwrap();
        assert_eq!(fs::read_dir(&behind.point).unwrap().count(), 0);
    }
}

#[test]
fn a_hold_is_kept_while_a_read_has_the_pages() {
    let Some(behind) = Behind::new("") else { return };
    let (gfid, path) = (behind.put("x", &[1; 4096]), behind.point.join("x"));
    let gate = behind.told.hold_answer(FopKind::Read);
    let reader = std::thread::spawn({
        let path = path.clone();
        move || fs::read(path).unwrap()
    });
    behind.rig.block_on(gate.arrivals(1));
    behind.overwrite(gfid, &[2; 4096]);
    let mut receiver = behind.begin_invalidate(gfid, false);
    // A second event about nothing goes all the way meanwhile.
    behind.invalidate(Gfid::ROOT, false);
    assert!(receiver.try_recv().is_err(), "the page that is being read cannot have been dropped");
    gate.open();
    released(receiver);
    // It had begun before the change: what it read may be from either side of it.
    let read = reader.join().unwrap();
    assert!(read == [1; 4096] || read == [2; 4096]);
    assert!(fs::read(&path).unwrap() == [2; 4096]);
}

#[test]
fn a_hold_does_not_wait_for_a_write_of_the_mount_itself_and_the_pages_go_with_its_answer() {
    let Some(behind) = Behind::new("") else { return };
    let (gfid, path) = (behind.put("x", &[1; 8192]), behind.point.join("x"));
    assert_eq!(fs::read(&path).unwrap(), vec![1; 8192]);
    let gate = behind.told.hold_answer(FopKind::Write);
    let writer = std::thread::spawn({
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        move || file.write_all_at(&[3; 4096], 0).unwrap()
    });
    behind.rig.block_on(gate.arrivals(1));
    behind.overwrite(gfid, &[2; 8192]);
    behind.invalidate(gfid, false);
    gate.open();
    writer.join().unwrap();
    eventually("the pages were never dropped", || fs::read(&path).unwrap() == vec![2; 8192]);
}

#[test]
fn a_page_that_was_read_again_while_the_mount_wrote_it_shows_what_was_written() {
    let Some(behind) = Behind::new("") else { return };
    let (gfid, path) = (behind.put("x", &[1; 4096]), behind.point.join("x"));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let read = || {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, 0).unwrap();
        page
    };
    assert!(read() == [1; 4096]);
    let gate = behind.told.hold_request(FopKind::Write);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| file.write_all_at(&[3; 4096], 0).unwrap());
        behind.rig.block_on(gate.arrivals(1));
        // The write has not been executed. Its page goes, and is read again.
        behind.invalidate(gfid, false);
        eventually("the page was never dropped", || read() == [1; 4096]);
        gate.open();
        writer.join().unwrap();
    });
    eventually("what was read over the write was kept", || read() == [3; 4096]);
}

#[test]
fn a_name_that_was_looked_up_before_a_change_and_answered_after_it_is_not_believed() {
    let Some(behind) = Behind::with_names() else { return };
    let (gfid, path) = (behind.put("x", b"12345"), behind.point.join("x"));
    let gate = behind.told.hold_answer(FopKind::Lookup);
    let looking = std::thread::spawn({
        let path = path.clone();
        move || File::open(path).unwrap()
    });
    behind.rig.block_on(gate.arrivals(1));
    behind.leaf.truncate(gfid, 2).unwrap();
    // Before the kernel has heard of the file.
    behind.invalidate(gfid, false);
    gate.open();
    let file = looking.join().unwrap();
    assert_eq!((file.metadata().unwrap().len(), fs::metadata(&path).unwrap().len()), (2, 2));
}

#[test]
fn a_change_of_attributes_that_an_invalidation_overtook_is_not_believed() {
    let Some(behind) = Behind::with_names() else { return };
    let (gfid, path) = (behind.put("x", b"12345"), behind.point.join("x"));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let gate = behind.told.hold_answer(FopKind::Setattr);
    let changing = std::thread::spawn({
        let file = file.try_clone().unwrap();
        move || file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap()
    });
    behind.rig.block_on(gate.arrivals(1));
    behind.leaf.setattr(gfid, AttrChange { mode: Some(0o604), ..AttrChange::default() }).unwrap();
    behind.invalidate(gfid, false);
    gate.open();
    changing.join().unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o604);
}

#[test]
fn what_may_not_be_kept_is_asked_for_each_time() {
    let Some(behind) = Behind::with_names() else { return };
    behind.told.uncached.store(true, Ordering::SeqCst);
    let (gfid, path) = (behind.put("x", &[1; 4096]), behind.point.join("x"));
    let file = File::open(&path).unwrap();
    for round in 1..20 {
        behind.overwrite(gfid, &[round; 4096]);
        let time = SetTime::To(Timespec { seconds: 1000 + i64::from(round), nanoseconds: 0 });
        behind.leaf.setattr(gfid, AttrChange { modified: Some(time), ..AttrChange::default() }).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 9).unwrap();
        assert_eq!((byte, fs::read(&path).unwrap()), ([round], vec![round; 4096]));
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 1000 + i64::from(round));
        behind.put(&format!("name-{round}"), b"");
        assert!(behind.point.join(format!("name-{round}")).exists());
        assert_eq!(fs::read_dir(&behind.point).unwrap().count(), usize::from(round) + 1);
    }
}

#[test]
fn a_file_that_was_opened_cached_and_may_not_be_kept_any_more_loses_its_pages() {
    let Some(behind) = Behind::new("") else { return };
    let (gfid, path) = (behind.put("x", &[1; 4096]), behind.point.join("x"));
    let file = File::open(&path).unwrap();
    behind.told.uncached.store(true, Ordering::SeqCst);
    let first = || {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        byte[0]
    };
    assert_eq!(first(), 1);
    behind.overwrite(gfid, &[2; 4096]);
    eventually("the page was kept", || first() == 2);
}

#[test]
fn when_everything_may_be_old_everything_goes_of_ten_thousand_files() {
    let Some(behind) = Behind::with_names() else { return };
    let count = rounds(10_000);
    let gfids: Vec<Gfid> = (0..count).map(|number| behind.put(&format!("f{number}"), b"1")).collect();
    let path = |number: usize| behind.point.join(format!("f{number}"));
    let sum = || (0..count).map(|number| fs::metadata(path(number)).unwrap().len()).sum::<u64>();
    assert_eq!(fs::read(path(7)).unwrap(), b"1");
    // After the read, which leaves the time of last read unknown.
    assert_eq!(sum(), count as u64);
    for gfid in &gfids {
        behind.leaf.truncate(*gfid, 2).unwrap();
    }
    let asked = behind.asked(&[FopKind::Lookup, FopKind::Stat], || assert_eq!(sum(), count as u64));
    assert_eq!(asked, 0);
    let (hold, all) = hold();
    behind.rig.mounted().notify(&Event::InvalidateAll { hold });
    released(all);
    assert_eq!(sum(), 2 * count as u64);
    assert_eq!(fs::read(path(7)).unwrap(), b"1\0");
}

#[test]
fn two_mounts_that_write_one_page_and_tell_each_other_do_not_wait_for_each_other() {
    let Some(mut behind) = Behind::new("") else { return };
    behind.put("x", &[0; 4096]);
    behind.rig.mount("");
    behind.told.tell_each_other(behind.rig.mounts());
    let points = behind.rig.points();
    let count = rounds(5000);
    let (done, finished) = std::sync::mpsc::channel();
    for (mount, point) in points.iter().enumerate() {
        for thread in 0..2_u8 {
            let file = OpenOptions::new().read(true).write(true).open(point.join("x")).unwrap();
            let done = done.clone();
            std::thread::spawn(move || {
                for round in 0..count {
                    file.write_all_at(&[round as u8; 512], (mount * 1024 + usize::from(thread) * 512) as u64).unwrap();
                    let mut page = [0; 4096];
                    file.read_exact_at(&mut page, 0).unwrap();
                }
                done.send(()).unwrap();
            });
        }
    }
    for _ in 0..4 {
        finished.recv_timeout(Duration::from_secs(100)).expect("the mounts wait for each other");
    }
    let last = (count - 1) as u8;
    for point in points {
        let is = || fs::read(point.join("x")).unwrap()[..2048] == [last; 2048];
        eventually("a mount does not see what the other wrote", is);
    }
}

#[test]
fn two_mounts_see_each_others_changes_at_once_with_everything_cached() {
    let Some(mut behind) = Behind::with_names() else { return };
    behind.rig.mount("");
    behind.told.tell_each_other(behind.rig.mounts());
    let [first, second] = &behind.rig.points()[..] else { panic!("two mounts") };
    for round in 0..rounds(1000) {
        let name = format!("file-{}", round % 3);
        let (here, there) = (first.join(&name), second.join(&name));
        assert!(!there.exists());
        fs::write(&here, [round as u8; 5]).unwrap();
        assert_eq!(fs::read(&there).unwrap(), [round as u8; 5]);
        fs::set_permissions(&there, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(fs::metadata(&here).unwrap().mode() & 0o777, 0o604);
        assert_eq!(fs::read_dir(first).unwrap().count(), 1);
        OpenOptions::new().write(true).open(&there).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read(&here).unwrap(), [round as u8; 2]);
        fs::rename(&there, second.join("moved")).unwrap();
        assert!(!here.exists() && first.join("moved").exists());
        fs::remove_file(first.join("moved")).unwrap();
        assert!(!second.join("moved").exists());
        assert_eq!(fs::read_dir(second).unwrap().count(), 0);
    }
}

#[test]
fn a_timeout_above_zero_is_refused_over_a_graph_that_tells_nothing() {
    let Some(rig) = Rig::memory("") else { return };
    for option in ["attribute-timeout", "entry-timeout", "negative-timeout"] {
        let error = rig.refused(FuseOptions::from_words(&format!("{option}=1")).unwrap());
        assert!(matches!(error, StartError::Timeout(refused) if refused == option));
        let text = error.to_string();
        assert!(text.starts_with(&format!("`{option}` can only be 0 or `auto` here: ")), "{text}");
    }
}

#[test]
fn a_mount_told_of_changes_takes_the_timeouts_it_is_given() {
    let Some(behind) = Behind::new("attribute-timeout=0,entry-timeout=0,negative-timeout=0") else { return };
    behind.put("x", b"1");
    let path = behind.point.join("x");
    let asked = behind.asked(&[FopKind::Lookup], || {
        (0..10).for_each(|_| assert!(path.exists() && !behind.point.join("y").exists()));
    });
    assert_eq!(asked, 20);
    assert_eq!(behind.rig.mounted().status()["told_of_changes"], true);
}
