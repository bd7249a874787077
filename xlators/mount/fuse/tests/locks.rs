//! Locks of applications: where they are kept, what a signal does to a wait, what is told apart.

mod common;

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::locks::{ClientNotice, DEADLOCKED, LockNotice, PROBE, Probe};
use brickwork_api::{ClientId, Event, FopKind, Gfid, RequestId};
use brickwork_testkit::{MemoryLeaf, NeverGrants};
use common::Rig;
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

fn new_file(rig: &Rig, name: &str) -> (PathBuf, File) {
    let path = rig.path().join(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    (path, file)
}

fn again(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// A mount on which nobody gets a lock, and the xlator that sees to it.
fn never(words: &str) -> Option<(Rig, Arc<NeverGrants>)> {
    let never = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    Some((Rig::over(never.clone(), words, true)?, never))
}

#[test]
fn without_an_xlator_that_keeps_locks_the_kernel_keeps_them() {
    let Some(rig) = Rig::memory("") else { return };
    let (path, held) = new_file(&rig, "x");
    let other = again(&path);
    flock(&held, FlockOperation::LockExclusive).unwrap();
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    drop(held);
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    fcntl_lock(&other, FlockOperation::LockExclusive).unwrap();
    assert_eq!(rig.recorder.count(FopKind::Lk), 0, "a lock came to a graph that keeps none");
    assert_eq!(rig.mounted().status()["locks"], "local");
}

#[test]
fn flock_and_fcntl_come_told_apart_with_their_owners_and_ranges() {
    let Some((rig, _)) = never("") else { return };
    let (_, file) = new_file(&rig, "x");
    rig.recorder.take();
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    assert_eq!(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    let lks: Vec<_> = rig.recorder.take().into_iter().filter(|seen| seen.fop == FopKind::Lk).collect();
    assert_eq!(lks.len(), 3);
    for (seen, words) in lks.iter().zip([
        ["command: Set,", "kind: Flock", "kind: Read", "end: 18446744073709551615"],
        ["command: Set,", "kind: Posix", "kind: Write", "end: 18446744073709551615"],
        ["command: Set,", "kind: Posix", "kind: Unlock", "start: 0"],
    ]) {
        assert!(words.iter().all(|word| seen.request.contains(word)), "{words:?}: {}", seen.request);
        assert_eq!(seen.cx.lk_owner.as_bytes().len(), 8);
    }
    assert_ne!(lks[0].cx.lk_owner, lks[1].cx.lk_owner, "an open file and a process are two owners");
    assert_eq!(lks[1].cx.lk_owner, lks[2].cx.lk_owner);
}

#[test]
fn a_lock_that_is_taken_comes_with_the_command_of_its_process_and_a_release_without() {
    let Some((rig, _)) = never("") else { return };
    let (_, file) = new_file(&rig, "x");
    rig.recorder.take();
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    flock(&file, FlockOperation::Unlock).unwrap();
    let lks: Vec<_> = rig.recorder.take().into_iter().filter(|seen| seen.fop == FopKind::Lk).collect();
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    assert!(lks[0].request.contains(&format!("{:?}", comm.trim_end())), "{}", lks[0].request);
    assert!(!lks[1].request.contains("command:\"") && !lks[1].request.contains(comm.trim_end()), "{}", lks[1].request);
}

#[test]
fn a_probe_for_a_deadlock_goes_on_to_where_its_owner_waits_and_ends_the_wait_that_asked() {
    let Some((rig, never)) = never("") else { return };
    let (path, file) = new_file(&rig, "x");
    drop(file);
    let waiter = Waiter::start(&path, "fcntl");
    rig.block_on(never.waits_begun(1));
    let wait = waits(&rig).remove(0);
    let client = rig.mounted().client();
    let tell = |initiator| {
        let probe = Probe { initiator, owner: wait.cx.lk_owner.clone(), gfid: Gfid::ROOT, path: Vec::new() };
        rig.mounted().notify(&Event::Lock(ClientNotice { client, notice: LockNotice::Probe(probe) }));
    };
    let probe = |initiator| {
        rig.recorder.take();
        tell(initiator);
        rig.recorder.wait_for(FopKind::Ipc);
        rig.recorder.take().into_iter().find(|seen| seen.fop == FopKind::Ipc).unwrap().request
    };
    let stranger = RequestId { client: ClientId::random(), slot: 1, sequence: 1 };
    assert!(probe(stranger).contains(PROBE));
    // The first time proves nothing.
    tell(wait.cx.request);
    assert!(probe(wait.cx.request).contains(DEADLOCKED));
    drop(waiter);
}

#[test]
fn closing_tells_the_owner_whose_locks_go() {
    let Some((rig, _)) = never("") else { return };
    let (_, file) = new_file(&rig, "x");
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    drop(file);
    // RELEASE is not waited for by close().
    rig.recorder.wait_for(FopKind::Release);
    let seen = rig.recorder.take();
    let owners =
        |kind| -> Vec<_> { seen.iter().filter(|seen| seen.fop == kind).map(|seen| seen.cx.lk_owner.clone()).collect() };
    let lks = owners(FopKind::Lk);
    assert_eq!(owners(FopKind::Flush), [lks[1].clone()], "the process's fcntl locks go with each close");
    assert_eq!(owners(FopKind::Release), [lks[0].clone()], "the flock of the open file goes with the last");
}

#[test]
fn the_lock_in_the_way_is_shown_with_its_holder() {
    let Some((rig, _)) = never("") else { return };
    let (_, file) = new_file(&rig, "x");
    let asked = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
    let found = rustix::process::fcntl_getlk(file.as_fd(), &asked).unwrap().unwrap();
    assert_eq!((found.start, found.length), (0, 0), "to the end of the file");
    assert_eq!(found.pid.map(rustix::process::Pid::as_raw_nonzero).map(i32::from), Some(1));
}

/// Set by the handler of SIGALRM in the child below.
static ALARMED: AtomicBool = AtomicBool::new(false);

extern "C" fn alarmed(_signal: libc::c_int) {
    ALARMED.store(true, Ordering::SeqCst);
}

/// What the tests below run in a process of its own: waits for a lock on the file named in the environment.
#[test]
#[ignore = "the child of other tests"]
fn child_that_waits_for_a_lock() {
    let Some(path) = std::env::var_os("BRICKWORK_TEST_WAIT") else { return };
    // SAFETY: the handler only stores to an atomic; without SA_RESTART a wait ends with EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = alarmed as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
    }
    let file = again(Path::new(&path));
    let result = match std::env::var("BRICKWORK_TEST_KIND").as_deref() {
        Ok("flock") => flock(&file, FlockOperation::LockExclusive),
        _ => fcntl_lock(&file, FlockOperation::LockExclusive),
    };
    assert_eq!(result, Err(Errno::INTR));
    assert!(ALARMED.load(Ordering::SeqCst));
}

/// A process that waits for a lock for ever; killed when the test ends.
struct Waiter(Child);

impl Waiter {
    fn start(path: &Path, kind: &str) -> Waiter {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_that_waits_for_a_lock", "--ignored", "--test-threads=1"]);
        command.env("BRICKWORK_TEST_WAIT", path).env("BRICKWORK_TEST_KIND", kind);
        Waiter(command.stdout(std::process::Stdio::null()).spawn().unwrap())
    }

    /// Sends `signal` to the thread of the process that waits; libtest runs a test beside its main thread.
    fn signal(&self, signal: libc::c_int, thread: u32) {
        // SAFETY: tgkill takes three numbers.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, self.0.id(), thread, signal) };
        assert_eq!(sent, 0);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn waits(rig: &Rig) -> Vec<common::recorder::Seen> {
    let seen = rig.recorder.take();
    seen.into_iter().filter(|seen| seen.fop == FopKind::Lk && seen.request.contains("SetWait")).collect()
}

#[test]
fn a_signal_ends_a_wait_with_eintr_and_leaves_nothing_behind() {
    for kind in ["fcntl", "flock"] {
        let Some((rig, never)) = never("") else { return };
        let (path, file) = new_file(&rig, "x");
        drop(file);
        let mut waiter = Waiter::start(&path, kind);
        rig.block_on(never.waits_begun(1));
        let seen = waits(&rig);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].cx.request.slot >= 1024, "waits have slots of their own");
        assert_eq!(rig.mounted().status()["locks_waiting"], 1);
        waiter.signal(libc::SIGALRM, seen[0].cx.credentials.pid);
        assert!(waiter.0.wait().unwrap().success(), "the wait did not end with EINTR");
        assert_eq!(rig.mounted().status()["locks_waiting"], 0);
        assert_eq!(rig.mounted().status()["interrupts"], 1);
    }
}

#[test]
fn a_killed_waiter_dies_at_once() {
    for kind in ["fcntl", "flock"] {
        let Some((rig, never)) = never("") else { return };
        let (path, file) = new_file(&rig, "x");
        drop(file);
        let mut waiter = Waiter::start(&path, kind);
        rig.block_on(never.waits_begun(1));
        let killed = Instant::now();
        waiter.0.kill().unwrap();
        waiter.0.wait().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(2), "it took {:?} to die", killed.elapsed());
    }
}

#[test]
fn waits_end_at_their_limit_and_other_calls_go_on() {
    let Some((rig, never)) = never("waiters-max=1") else { return };
    let (path, file) = new_file(&rig, "x");
    let _waiter = Waiter::start(&path, "fcntl");
    rig.block_on(never.waits_begun(1));
    assert_eq!(fcntl_lock(&file, FlockOperation::LockExclusive), Err(Errno::NOLCK));
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(rig.path()).unwrap().count(), 1);
}

#[test]
fn an_aborted_mount_lets_its_waiters_go() {
    let Some((rig, never)) = never("") else { return };
    let (path, _file) = new_file(&rig, "x");
    let mut waiter = Waiter::start(&path, "fcntl");
    rig.block_on(never.waits_begun(1));
    rig.block_on(async {
        rig.mounted().abort().await.unwrap();
        rig.mounted().ended().await;
    });
    assert!(!waiter.0.wait().unwrap().success(), "the wait ended otherwise than with a signal");
    assert_eq!(rig.mounted().status()["locks_waiting"], 0);
}
