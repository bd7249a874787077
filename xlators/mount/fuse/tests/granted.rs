//! Whoever has been granted a lock is not shown what the kernel kept from before.
//!
//! The story: two mounts counted in one file under a lock, and the brick was killed again and again. Mount 0 heard that
//! all it kept was old, and its pool began to drop it file by file; the first had a READ under way, for which the drop
//! waited. Mount 1 added one under its lock and gave the lock back, mount 0 was granted it, and its process read the count
//! from before out of a page whose turn to be dropped had not come: one of two updates was lost. A grant is now answered
//! when the kernel has dropped what was to go of its file by then, and does not wait for other files.

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use brickwork_api::{Cx, Event, FopKind, FopResult, Gfid, LkReply, LkReq, Route, Xdata, Xlator, async_trait};
use brickwork_testkit::{Client, Gate, MemoryLeaf};
use common::Rig;
use common::told::{Told, hold};
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use tokio::sync::oneshot;

/// How long an answer that must not come is waited for.
const NOT_YET: Duration = Duration::from_millis(300);
const MEBIBYTE: u64 = 1 << 20;

/// Grants every lock.
struct Grants(Arc<dyn Xlator>);

#[async_trait]
impl Xlator for Grants {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.0)
    }

    async fn lk(&self, _: &Cx, req: &LkReq) -> FopResult<LkReply> {
        Ok(LkReply { range: req.range, xdata: Xdata::EMPTY })
    }
}

/// A mount that is told of changes, and the file system behind it for changes that nobody notices unless told.
struct Scene {
    rig: Rig,
    told: Arc<Told>,
    leaf: Client,
}

impl Scene {
    fn new() -> Option<Scene> {
        let memory = Arc::new(MemoryLeaf::new());
        let told = Told::over(Arc::new(Grants(memory.clone())));
        let rig = Rig::over(told.clone(), "", true)?;
        Some(Scene { rig, told, leaf: Client::new(memory) })
    }

    fn put(&self, name: &str, content: &[u8]) -> (Gfid, PathBuf) {
        (self.leaf.put(Gfid::ROOT, name, content).unwrap(), self.rig.path().join(name))
    }

    /// Writes to `gfid` behind the mount's back.
    fn overwrite(&self, gfid: Gfid, offset: u64, content: &[u8]) {
        let file = self.leaf.open(gfid, libc::O_RDWR).unwrap();
        self.leaf.write(file, offset, content).unwrap();
        self.leaf.release(file).unwrap();
    }

    fn invalidate(&self, gfid: Gfid) -> oneshot::Receiver<()> {
        let (hold, released) = hold();
        self.rig.mounted().notify(&Event::Invalidate { gfid, names: false, hold });
        released
    }

    /// Begins to read the first byte of `path`, of which the kernel has nothing; the page is locked until the gate opens.
    fn begin_read(&self, path: PathBuf) -> (Gate, JoinHandle<u8>) {
        let gate = self.told.hold_answer(FopKind::Read);
        let reader = std::thread::spawn(move || byte(&open(&path), 0));
        self.rig.block_on(gate.arrivals(1));
        (gate, reader)
    }
}

fn open(path: &PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn byte(file: &File, offset: u64) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0]
}

type Take = fn(&File);

/// The ways to a lock, those that wait for others and those that do not.
const WAYS: [(&str, Take); 4] = [
    ("F_SETLKW", |file| fcntl_lock(file, FlockOperation::LockExclusive).unwrap()),
    ("F_SETLK", |file| fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).unwrap()),
    ("flock", |file| flock(file, FlockOperation::LockExclusive).unwrap()),
    ("flock LOCK_NB", |file| flock(file, FlockOperation::NonBlockingLockExclusive).unwrap()),
];

/// What is read at `offset` under a lock of the file.
fn read_locked(file: File, offset: u64, take: Take) -> Receiver<u8> {
    let (sender, read) = mpsc::channel();
    std::thread::spawn(move || {
        take(&file);
        // Nobody receives when the test has failed.
        let _ = sender.send(byte(&file, offset));
    });
    read
}

/// What `read` comes to, after it has come to nothing before `gate` was opened.
fn once_open(what: &str, read: &Receiver<u8>, gate: &Gate) -> u8 {
    let early = read.recv_timeout(NOT_YET);
    gate.open();
    assert!(early.is_err(), "{what}: granted, and read {early:?}, before what was to go had gone");
    read.recv_timeout(Duration::from_secs(30)).unwrap()
}

#[test]
fn a_lock_is_granted_when_the_pages_that_were_said_to_be_old_have_gone() {
    let Some(scene) = Scene::new() else { return };
    for (way, take) in WAYS {
        let (gfid, path) = scene.put(&way.replace(' ', "-"), &vec![1; 4 << 20]);
        let file = open(&path);
        // The kernel has what is at 2 MiB, and nothing of the beginning.
        assert_eq!(byte(&file, 2 * MEBIBYTE), 1);
        let (gate, reader) = scene.begin_read(path);
        scene.overwrite(gfid, 2 * MEBIBYTE, &[2]);
        let dropped = scene.invalidate(gfid);
        let read = read_locked(file, 2 * MEBIBYTE, take);
        assert_eq!(once_open(way, &read, &gate), 2, "{way}");
        assert_eq!(reader.join().unwrap(), 1);
        scene.rig.block_on(dropped).unwrap();
    }
}

#[test]
fn a_lock_does_not_wait_for_the_pages_of_other_files_when_everything_is_old() {
    let Some(scene) = Scene::new() else { return };
    let files: Vec<_> = (0..40)
        .map(|number| {
            let (gfid, path) = scene.put(&format!("f{number}"), &[1]);
            let file = open(&path);
            assert_eq!(byte(&file, 0), 1);
            (gfid, file)
        })
        .collect();
    let (_, other) = scene.put("other", &[1]);
    let (gate, reader) = scene.begin_read(other);
    files.iter().for_each(|(gfid, _)| scene.overwrite(*gfid, 0, &[2]));
    let (hold, dropped) = hold();
    scene.rig.mounted().notify(&Event::InvalidateAll { hold });
    // Wherever the other file stands in the order, some of these come after it.
    for ((_, file), (way, take)) in files.into_iter().zip(WAYS.into_iter().cycle()) {
        let read = read_locked(file, 0, take).recv_timeout(Duration::from_secs(30));
        assert_eq!(read, Ok(2), "{way}");
    }
    gate.open();
    assert_eq!(reader.join().unwrap(), 1);
    scene.rig.block_on(dropped).unwrap();
}

#[test]
fn a_lock_is_granted_when_what_a_write_left_with_the_kernel_has_gone_if_nobody_tells_of_it() {
    let Some(scene) = Scene::new() else { return };
    for (way, take) in WAYS {
        let (gfid, path) = scene.put(&way.replace(' ', "-"), &[1; 4096]);
        let (other_gfid, other) = scene.put(&format!("{}-other", way.replace(' ', "-")), &[1]);
        let file = open(&path);
        let (gate, reader) = scene.begin_read(other);
        // More than the pool has threads: whatever is to be dropped next waits behind them.
        let dropped: Vec<_> = (0..64).map(|_| scene.invalidate(other_gfid)).collect();
        scene.told.uncached.store(true, Ordering::SeqCst);
        file.write_all_at(&[3; 4096], 0).unwrap();
        scene.told.uncached.store(false, Ordering::SeqCst);
        scene.overwrite(gfid, 0, &[2]);
        let read = read_locked(file, 0, take);
        assert_eq!(once_open(way, &read, &gate), 2, "{way}");
        assert_eq!(reader.join().unwrap(), 1);
        dropped.into_iter().for_each(|dropped| scene.rig.block_on(dropped).unwrap());
    }
}
