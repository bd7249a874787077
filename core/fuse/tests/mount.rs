//! Against the kernel: a file system in memory, really mounted.

mod memfs;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use brickwork_fuse::mount::{Way, is_dead, unmount};
use brickwork_fuse::{Errno, Limits, Mount, MountError, MountOptions, NodeId, Notified, NotifyError};
use memfs::place::{Place, can_mount, runtime, serve, until};
use memfs::{Gate, MemFs};

/// A process of its own that plays a role in a test; killed at the latest when the test ends.
struct Role(Child, BufReader<std::process::ChildStdout>);

impl Role {
    fn start(role: &str, path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "role", "--nocapture"])
            .env("BRICKWORK_FUSE_ROLE", role)
            .env("BRICKWORK_FUSE_PATH", path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this very program runs");
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// The next word the role says.
    fn says(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.1.read_line(&mut line).unwrap() > 0, "the role ended silently");
            if let Some((_, word)) = line.split_once('@') {
                return word.trim().to_owned();
            }
        }
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn fcntl_lock(file: RawFd, command: i32, kind: i32) -> Result<(), i32> {
    // SAFETY: all-zero is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    // SAFETY: `fcntl` reads the structure and keeps no pointer to it.
    let result = unsafe { libc::fcntl(file, command, &lock) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

/// SIGALRM does nothing but interrupt the call it meets.
fn let_signals_interrupt() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing, and without SA_RESTART the call it interrupts returns EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
    }
}

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role() {
    let path = PathBuf::from(std::env::var_os("BRICKWORK_FUSE_PATH").expect("run by another test"));
    match std::env::var("BRICKWORK_FUSE_ROLE").unwrap().as_str() {
        "wait for a lock" => {
            let_signals_interrupt();
            let file = File::options().write(true).open(path).unwrap();
            println!("@{}", rustix::thread::gettid().as_raw_nonzero());
            let result = fcntl_lock(file.as_raw_fd(), libc::F_SETLKW, libc::F_WRLCK);
            println!("@{result:?}");
        }
        "serve" => {
            let (fs, runtime) = (Arc::new(MemFs::new()), runtime());
            let session = serve(&path, &fs, Limits::default(), &MountOptions::default(), &runtime);
            println!("@mounted");
            session.wait();
        }
        other => panic!("{other}"),
    }
}

#[test]
fn files_are_made_written_read_renamed_listed_and_removed_through_the_kernel() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    fs::create_dir(place.path("d")).unwrap();
    for number in 0..300 {
        fs::write(place.path(&format!("d/file-{number}")), format!("content {number}")).unwrap();
    }
    fs::rename(place.path("d/file-7"), place.path("d/renamed")).unwrap();
    fs::remove_file(place.path("d/file-8")).unwrap();
    assert_eq!(fs::read_to_string(place.path("d/renamed")).unwrap(), "content 7");
    assert_eq!(fs::read(place.path("d/file-8")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let mut listed: Vec<_> = fs::read_dir(place.path("d"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(entry.metadata().unwrap().len() >= 9);
            entry.file_name().into_string().unwrap()
        })
        .collect();
    listed.sort();
    let mut expected: Vec<_> = (0..300).filter(|n| ![7, 8].contains(n)).map(|n| format!("file-{n}")).collect();
    expected.push("renamed".into());
    expected.sort();
    assert_eq!(listed, expected);
    assert!(place.fs.seen.readdirplus.load(Ordering::Relaxed) > 0);
    let mut file = File::options().write(true).truncate(true).open(place.path("d/renamed")).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(fs::metadata(place.path("d/renamed")).unwrap().size(), 3);
}

#[test]
fn a_write_of_1_mib_arrives_as_one_request_on_a_page() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n / 7) as u8).collect();
    let file = File::create_new(place.path("big")).unwrap();
    for at in 0..8 {
        assert_eq!(file.write_at(&content, at << 20).unwrap(), 1 << 20);
    }
    assert_eq!(place.fs.seen.largest_write.load(Ordering::Relaxed), 1 << 20);
    assert_eq!(place.fs.seen.unaligned_large_writes.load(Ordering::Relaxed), 0);
    drop(file);
    let read = fs::read(place.path("big")).unwrap();
    assert!(read.chunks(1 << 20).all(|chunk| chunk == content));
    assert_eq!(read.len(), 8 << 20);
}

#[test]
fn a_waiter_in_setlkw_returns_eintr_on_a_signal_and_leaves_nothing_behind() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let holder = File::create_new(place.path("f")).unwrap();
    fcntl_lock(holder.as_raw_fd(), libc::F_SETLK, libc::F_WRLCK).unwrap();
    let mut waiter = Role::start("wait for a lock", &place.path("f"));
    let thread: i32 = waiter.says().parse().unwrap();
    until("the waiter waits", || place.fs.locks.waiting.load(Ordering::SeqCst) == 1);
    until("it is known to wait", || place.session.pending() == 1);
    let start = Instant::now();
    // SAFETY: a plain system call with three numbers.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, waiter.0.id(), thread, libc::SIGALRM) };
    assert_eq!(sent, 0);
    assert_eq!(waiter.says(), format!("Err({})", libc::EINTR));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(place.fs.locks.interrupted.load(Ordering::SeqCst), 1);
    assert_eq!(place.fs.locks.held(false), 1);
    until("nothing is pending", || place.session.pending() == 0);
}

#[test]
fn no_interrupt_is_lost_whenever_the_signal_comes() {
    if !can_mount() {
        return;
    }
    let full = std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full");
    let rounds = if full { 50_000 } else { 500 };
    let place = Place::new(MemFs::new());
    let_signals_interrupt();
    let holder = File::create_new(place.path("f")).unwrap();
    fcntl_lock(holder.as_raw_fd(), libc::F_OFD_SETLK, libc::F_WRLCK).unwrap();
    for round in 0..rounds {
        let file = File::options().write(true).open(place.path("f")).unwrap();
        let waiter = std::thread::spawn(move || fcntl_lock(file.as_raw_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK));
        // Again and again, for the first signals may meet the thread before it waits. The kernel sends one INTERRUPT
        // for a request, however many signals come: if that one is lost, the waiter never returns.
        until("the waiter returns", || {
            // SAFETY: the thread was not joined, so its handle is valid.
            unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGALRM) };
            waiter.is_finished()
        });
        assert_eq!(waiter.join().unwrap(), Err(libc::EINTR), "round {round}");
    }
    assert_eq!(place.fs.locks.held(false), 1);
    until("nothing is pending", || place.session.pending() == 0);
}

#[test]
fn a_waiter_in_setlkw_dies_at_once_on_sigkill() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let holder = File::create_new(place.path("f")).unwrap();
    fcntl_lock(holder.as_raw_fd(), libc::F_SETLK, libc::F_WRLCK).unwrap();
    let mut waiter = Role::start("wait for a lock", &place.path("f"));
    waiter.says();
    until("the waiter waits", || place.fs.locks.waiting.load(Ordering::SeqCst) == 1);
    let start = Instant::now();
    waiter.kill();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(place.fs.locks.interrupted.load(Ordering::SeqCst), 1);
}

#[test]
fn a_waiter_in_setlkw_gets_the_lock_when_the_holder_closes() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let holder = File::create_new(place.path("f")).unwrap();
    fcntl_lock(holder.as_raw_fd(), libc::F_SETLK, libc::F_WRLCK).unwrap();
    let mut waiter = Role::start("wait for a lock", &place.path("f"));
    waiter.says();
    until("the waiter waits", || place.fs.locks.waiting.load(Ordering::SeqCst) == 1);
    drop(holder);
    assert_eq!(waiter.says(), "Ok(())");
}

#[test]
fn flock_and_fcntl_locks_do_not_collide_and_flock_goes_with_the_release() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let first = File::create_new(place.path("f")).unwrap();
    let second = File::options().write(true).open(place.path("f")).unwrap();
    fcntl_lock(first.as_raw_fd(), libc::F_SETLK, libc::F_WRLCK).unwrap();
    second.try_lock().expect("flock does not see fcntl's lock");
    assert_eq!((place.fs.locks.held(false), place.fs.locks.held(true)), (1, 1));
    assert!(first.try_lock().is_err(), "flock sees flock");
    drop(second);
    until("the release came", || place.fs.locks.held(true) == 0);
}

#[test]
fn readers_answer_in_parallel() {
    if !can_mount() {
        return;
    }
    let limits = Limits { readers: 4, ..Limits::default() };
    let place = Place::with(MemFs::new(), limits, &MountOptions::default());
    fs::write(place.path("gate"), vec![1; 4 * 4096]).unwrap();
    assert!(place.fs.gate.set(Gate::new(4)).is_ok());
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|at| {
                let path = place.path("gate");
                scope.spawn(move || direct(&path).read_at(&mut Aligned::new().0, at * 4096))
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap().expect("all four were read at once"), 4096);
        }
    });
}

/// Memory for direct reads.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

impl Aligned {
    fn new() -> Self {
        Self([0; 4096])
    }
}

fn direct(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

#[test]
fn a_read_that_waits_is_finished_by_the_runtime_and_holds_no_reader() {
    if !can_mount() {
        return;
    }
    let limits = Limits { readers: 1, ..Limits::default() };
    let place = Place::with(MemFs::new(), limits, &MountOptions::default());
    fs::write(place.path("slow"), b"worth waiting for").unwrap();
    let path = place.path("slow");
    let reader = std::thread::spawn(move || {
        let mut content = Vec::new();
        File::open(path).unwrap().read_to_end(&mut content).map(|_| content)
    });
    until("the read is pending", || place.session.pending() == 1);
    fs::write(place.path("other"), b"the one reader is free").unwrap();
    until("the read is done", || {
        place.fs.slow.notify_waiters();
        reader.is_finished()
    });
    assert_eq!(reader.join().unwrap().unwrap(), b"worth waiting for");
}

#[test]
fn what_a_killed_server_leaves_is_cleared_by_the_next_mount() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut server = Role::start("serve", folder.path());
    assert_eq!(server.says(), "mounted");
    fs::write(folder.path().join("f"), b"in the first life").unwrap();
    server.kill();
    assert!(is_dead(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let (fs, runtime) = (Arc::new(MemFs::new()), runtime());
    let session = serve(folder.path(), &fs, Limits::default(), &MountOptions::default(), &runtime);
    assert!(!is_dead(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    session.unmount().unwrap();
    session.wait();
    assert!(matches!(unmount(folder.path()), Err(MountError::NotMounted { .. })));
}

#[test]
fn unmounting_ends_the_session_once() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    assert!(place.session.mount().unwrap().is_mounted() && !place.session.has_ended());
    place.session.unmount().unwrap();
    place.session.wait();
    assert!(place.session.has_ended() && !place.session.mount().unwrap().is_mounted());
    assert_eq!(place.fs.seen.ended.load(Ordering::SeqCst), 1);
    place.session.unmount().expect("gone already is no error");
}

#[test]
fn aborting_ends_the_session_under_an_open_file_and_interrupts_its_waiters() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let holder = File::create_new(place.path("f")).unwrap();
    fcntl_lock(holder.as_raw_fd(), libc::F_SETLK, libc::F_WRLCK).unwrap();
    let mut waiter = Role::start("wait for a lock", &place.path("f"));
    waiter.says();
    until("the waiter waits", || place.fs.locks.waiting.load(Ordering::SeqCst) == 1);
    place.session.abort().unwrap();
    place.session.wait();
    assert!(waiter.says().starts_with("Err("));
    assert!(holder.metadata().is_err());
    until("nothing is pending", || place.session.pending() == 0);
}

#[test]
fn a_session_dropped_by_a_panic_is_unmounted() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let (fs, runtime) = (Arc::new(MemFs::new()), runtime());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _session = serve(folder.path(), &fs, Limits::default(), &MountOptions::default(), &runtime);
        fs::write(folder.path().join("f"), b"x").unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(matches!(unmount(folder.path()), Err(MountError::NotMounted { .. })));
    until("the handler was told", || fs.seen.ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_second_mount_at_a_live_one_is_refused() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    let refused = Mount::new(place.folder.path(), &MountOptions::default()).unwrap_err();
    assert!(matches!(refused, MountError::Busy { .. }), "{refused}");
    fs::write(place.path("f"), b"the first one lives").unwrap();
}

#[test]
fn fusermount3_mounts_and_hands_the_connection_over() {
    if !can_mount() {
        return;
    }
    let options = MountOptions { way: Way::Helper, source: "a,b:/vol".into(), ..MountOptions::default() };
    if let Err(MountError::NoHelper { why }) = Mount::new(tempfile::TempDir::new().unwrap().path(), &options) {
        eprintln!("\n*** SKIPPED, nothing was tested: {why} ***\n");
        return;
    }
    let place = Place::with(MemFs::new(), Limits::default(), &options);
    fs::write(place.path("f"), b"x").unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(place.folder.path().to_str().unwrap())).unwrap();
    assert!(line.contains("- fuse.brickwork a,b:/vol "), "{line}");
}

#[test]
fn what_the_kernel_cached_is_dropped_when_it_is_told() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::cached(Duration::from_secs(3600)));
    fs::write(place.path("f"), b"old").unwrap();
    let node = place.fs.node(b"f");
    let notifier = place.session.notifier();
    assert_eq!(fs::read(place.path("f")).unwrap(), b"old");
    // Of the same size and time: a change of these the kernel would notice by itself (AUTO_INVAL_DATA).
    place.fs.replace(node, b"new");
    assert_eq!(fs::read(place.path("f")).unwrap(), b"old", "cached, as was allowed");
    assert_eq!(notifier.inval_inode(node, 0, 0), Ok(Notified::Done));
    assert_eq!(fs::read(place.path("f")).unwrap(), b"new");

    let lookups = || place.fs.seen.lookups.load(Ordering::Relaxed);
    for tell in [brickwork_fuse::Notifier::inval_entry, brickwork_fuse::Notifier::expire_entry] {
        fs::metadata(place.path("f")).unwrap();
        let before = lookups();
        fs::metadata(place.path("f")).unwrap();
        assert_eq!(lookups(), before);
        assert_eq!(tell(notifier, NodeId::ROOT, b"f"), Ok(Notified::Done));
        fs::metadata(place.path("f")).unwrap();
        assert_eq!(lookups(), before + 1);
    }
    assert_eq!(notifier.delete(NodeId::ROOT, node, b"f"), Ok(Notified::Done));
    assert_eq!(notifier.inval_inode(NodeId(4711), 0, 0), Ok(Notified::NotKnown));
    assert_eq!(notifier.inval_entry(NodeId(4711), b"f"), Ok(Notified::NotKnown));
    assert_eq!(notifier.inval_entry(NodeId::ROOT, b"never looked up"), Ok(Notified::NotKnown));
    place.session.abort().unwrap();
    place.session.wait();
    let told = notifier.inval_inode(node, 0, 0);
    assert!(matches!(told, Ok(Notified::NotKnown) | Err(NotifyError::Ended)), "{told:?}");
}

#[test]
fn errors_reach_the_caller_as_they_were_given() {
    if !can_mount() {
        return;
    }
    let place = Place::new(MemFs::new());
    fs::create_dir(place.path("d")).unwrap();
    fs::write(place.path("d/f"), b"x").unwrap();
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(errno(fs::remove_dir(place.path("d"))), Errno::NOTEMPTY.raw_os_error());
    assert_eq!(errno(fs::create_dir(place.path("d"))), Errno::EXIST.raw_os_error());
}
