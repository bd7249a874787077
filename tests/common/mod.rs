//! What the end-to-end tests share: the real binary, real mounts, and their removal whatever happens.
//!
//! Every test works in folders of its own, so that any number run at once. A test that misses something the machine
//! lacks says so on stderr, beginning with `SKIPPED`.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod brick;
pub mod fsx;
pub mod two_mounts;
pub mod whole;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

/// How long a killed or unmounted process may take to end, in seconds.
const EXIT_SECONDS: i64 = 30;
/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command under test.
pub fn brickwork() -> Command {
    Command::new(env!("CARGO_BIN_EXE_brickwork"))
}

/// The size of a heavy test: `full` with `BRICKWORK_ROUNDS=full`, else `short`. Says which is in use.
pub fn rounds(short: usize, full: usize) -> usize {
    static SAID: Once = Once::new();
    let all = std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full");
    SAID.call_once(|| eprintln!("sizes: {} (BRICKWORK_ROUNDS)", if all { "full" } else { "short" }));
    if all { full } else { short }
}

/// Says on stderr, past the capture of the test runner, that something was not tested.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    // A test whose stderr is closed has nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// Whether `tool` is installed; a loud skip when not.
pub fn needs(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
    if !found {
        skipped(&format!("`{tool}` is not installed"));
    }
    found
}

/// Whether this is root; a loud skip when not.
pub fn needs_root(why: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        skipped(&format!("{why} needs root"));
    }
    root
}

/// Whether this user can mount here; a loud skip when not.
pub fn can_mount() -> bool {
    if !Path::new("/dev/fuse").exists() {
        skipped("there is no /dev/fuse");
        return false;
    }
    geteuid().is_root() || needs("fusermount3")
}

/// Asks again and again until `answer` has one: for what a process does of which nobody is told.
#[track_caller]
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "in {PATIENCE:?} not: {what}");
        // Not to wait for anything: to leave the processor to who is waited for.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `command` to its end and returns its stdout; a test fails when the command does.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}\n{status}\nstdout: {out}\nstderr: {err}");
    out.into_owned()
}

/// Randomness with a printed seed; `BRICKWORK_SEED` repeats a run.
pub struct Random(u64);

impl Random {
    /// A new sequence.
    pub fn from_env() -> Random {
        let seed = match std::env::var("BRICKWORK_SEED") {
            Ok(text) => text.parse().expect("BRICKWORK_SEED is a number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("a clock after 1970")
                .as_nanos() as u64,
        };
        eprintln!("BRICKWORK_SEED={seed}");
        Random(seed | 1)
    }

    /// The sequence of `seed`, for a thread of a test whose seed was printed.
    pub fn from_seed(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// The next number (xorshift64).
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.draw().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A mounted volume of one process; dropping it kills the process and unmounts, also when a test fails.
pub struct Mounted {
    folder: tempfile::TempDir,
    mounts: Vec<PathBuf>,
    process: OwnedFd,
}

impl Mounted {
    /// A fresh brick under storage/posix and debug/io-stats, mounted; `None` (and a loud skip) where nothing can mount.
    pub fn dev() -> Option<Mounted> {
        Mounted::fresh(1)
    }

    /// The same, mounted at two places by one process.
    pub fn twice() -> Option<Mounted> {
        Mounted::fresh(2)
    }

    fn fresh(mounts: usize) -> Option<Mounted> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let brick = folder.path().join("brick");
        std::fs::create_dir(&brick).expect("a folder for the brick");
        let volfile = folder.path().join("test.vol");
        let text = format!(
            "volume posix\n type storage/posix\n option directory {}\nend-volume\n\
             volume stats\n type debug/io-stats\n subvolumes posix\nend-volume\n",
            brick.display()
        );
        std::fs::write(&volfile, text).expect("write the volfile");
        let volfile = volfile.to_str().expect("UTF-8").to_owned();
        Mounted::in_folder(folder, &[&volfile], mounts)
    }

    /// Mounts with `arguments` after `brickwork mount`: the volfile and options.
    pub fn start(arguments: &[&str]) -> Option<Mounted> {
        Mounted::in_folder(tempfile::tempdir().expect("a folder for the test"), arguments, 1)
    }

    fn in_folder(folder: tempfile::TempDir, arguments: &[&str], count: usize) -> Option<Mounted> {
        if !can_mount() {
            return None;
        }
        let mounts: Vec<PathBuf> = (0..count).map(|index| folder.path().join(format!("mnt{index}"))).collect();
        for mount in &mounts {
            std::fs::create_dir_all(mount).expect("a mount point");
        }
        let process = mount_process(folder.path(), arguments, &mounts);
        Some(Mounted { folder, mounts, process })
    }

    /// A client of a brick: mounts the volfile `client`, with `options` after it, in a process of its own.
    pub fn client(client: &Path, options: &[&str]) -> Option<Mounted> {
        let mut arguments = vec![client.to_str().expect("UTF-8")];
        arguments.extend(options);
        Mounted::start(&arguments)
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.mounts[0]
    }

    /// The second mount point of [`Mounted::twice`].
    pub fn second(&self) -> &Path {
        &self.mounts[1]
    }

    /// The folder beneath, of [`Mounted::dev`] and [`Mounted::twice`].
    pub fn brick(&self) -> PathBuf {
        self.folder.path().join("brick")
    }

    /// Kills the process with SIGKILL and leaves everything as it lies.
    pub fn kill9(&self) {
        kill(&self.process);
    }

    /// Stops the process until [`Mounted::resume`], as a machine that sleeps: it hears and says nothing.
    pub fn pause(&self) {
        pidfd_send_signal(&self.process, Signal::STOP).expect("a process");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        pidfd_send_signal(&self.process, Signal::CONT).expect("a process");
    }

    /// Mounts again what [`Mounted::kill9`] left, by a new process.
    pub fn mount_again(&mut self) {
        let volfile = self.folder.path().join("test.vol");
        self.process = mount_process(self.folder.path(), &[volfile.to_str().expect("UTF-8")], &self.mounts);
    }

    /// What `brickwork status` says of the process, with `arguments` after it.
    pub fn status(&self, arguments: &[&str]) -> Output {
        in_world(self.folder.path()).arg("status").args(arguments).output().expect("the command runs")
    }

    /// A command that asks the process.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = in_world(self.folder.path());
        command.args(words);
        command
    }

    /// What the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the log")
    }

    /// Unmounts in the ordinary way and waits for the process to end.
    pub fn unmount(&self) {
        for mount in &self.mounts {
            // A command that another test is starting has, until it execs, every file that is open in this process.
            until("nobody uses the mount", || {
                let done = in_world(self.folder.path()).arg("umount").arg(mount).output().expect("the command runs");
                let busy = String::from_utf8_lossy(&done.stderr).contains("E0131");
                assert!(done.status.success() || busy, "{}", String::from_utf8_lossy(&done.stderr));
                done.status.success().then_some(())
            });
        }
        assert!(ended(&self.process), "the process ends after the last unmount");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        kill(&self.process);
        for mount in &self.mounts {
            // Most tests have unmounted; then there is nothing here to detach.
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
            if is_mounted(mount) {
                let _ = Command::new("fusermount3").arg("-uz").arg(mount).output();
            }
        }
    }
}

/// The command with its admin sockets in `folder`, where no other test's are.
fn in_world(folder: &Path) -> Command {
    let sockets = folder.join("run");
    // Made for the first of the commands.
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&sockets);
    let mut command = brickwork();
    command.env("BRICKWORK_RUNTIME_DIR", sockets);
    command
}

fn mount_process(folder: &Path, arguments: &[&str], mounts: &[PathBuf]) -> OwnedFd {
    let pid_file = folder.join("pid");
    let mut command = in_world(folder);
    command.arg("mount").args(arguments).arg("--pid-file").arg(&pid_file);
    command.arg("--log-file").arg(folder.join("log")).arg(&mounts[0]);
    for mount in &mounts[1..] {
        command.arg("--also").arg(mount);
    }
    run(&mut command);
    let pid = std::fs::read_to_string(&pid_file).expect("the pid file").trim().parse().expect("a pid");
    pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("the process that mounted")
}

fn kill(process: &OwnedFd) {
    // The process may have ended by itself.
    let _ = pidfd_send_signal(process, Signal::KILL);
    assert!(ended(process), "a killed process ends");
}

/// Whether `process` ends in time.
pub fn ended(process: &OwnedFd) -> bool {
    let limit = Timespec { tv_sec: EXIT_SECONDS, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).expect("poll") == 1
}

/// Whether something is mounted at `path`; a mount whose process is gone counts.
pub fn is_mounted(path: &Path) -> bool {
    let parent = path.parent().expect("a mount point has a parent");
    match (std::fs::metadata(path), std::fs::metadata(parent)) {
        (Ok(here), Ok(above)) => here.dev() != above.dev(),
        (Err(error), _) => error.raw_os_error() == Some(libc::ENOTCONN),
        (_, Err(error)) => panic!("{}: {error}", parent.display()),
    }
}
