//! A brick in a process of its own, and the volfiles of its clients. It goes with its test, also when that fails.

use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{EXIT_SECONDS, brickwork, ended, run, skipped, until};

/// How long a brick may take until it serves, in seconds.
const START_SECONDS: i64 = 60;
/// How often another port is tried when somebody else was faster.
const PORTS_TRIED: usize = 10;
/// What clients ask for.
pub const SUBVOLUME: &str = "stats";

/// Starts the command after it whenever a line comes, and prints its number; when no more lines come, kills the last.
const LAUNCHER: &str = r#"
    while read -r _; do
        "$@" </dev/null >/dev/null 2>>"$BRICK_LOG" &
        echo "$!"
    done
    kill -KILL "$!" 2>/dev/null
"#;

/// A real `brickwork brick serve`: protocol/server over debug/io-stats over features/locks over storage/posix.
pub struct Brick {
    folder: tempfile::TempDir,
    listens: Listens,
    launcher: Launcher,
    process: Option<OwnedFd>,
}

/// Where a brick can be reached.
#[derive(Clone, Debug)]
enum Listens {
    Tcp(u16),
    Unix(PathBuf),
}

/// The process that starts the brick.
///
/// It cannot be this one: a test has files of the mount open, a process that it starts inherits and closes them, and a
/// close is an operation that waits for the very brick that is to be started.
struct Launcher {
    shell: Child,
    orders: Option<ChildStdin>,
    started: BufReader<ChildStdout>,
    /// Where bricks tell how far they are.
    manager: UnixDatagram,
    /// The last brick.
    pid: i32,
}

impl Brick {
    /// A fresh brick on a TCP port of loopback that everybody may use; `None` (and a loud skip) without root, whose
    /// xattrs a brick needs.
    pub fn start() -> Option<Brick> {
        Brick::with(&format!("    option auth.addr.{SUBVOLUME}.allow *\n"))
    }

    /// The same with `options` for protocol/server: lines of a volfile, with who may come among them.
    pub fn with(options: &str) -> Option<Brick> {
        Brick::locking(options, "")
    }

    /// The same with `locks`, options for features/locks.
    pub fn locking(options: &str, locks: &str) -> Option<Brick> {
        if !super::needs_root("a brick in a process of its own") {
            return None;
        }
        for _ in 0..PORTS_TRIED {
            let port = free_port();
            let mut brick = Brick::new(Listens::Tcp(port), options, locks);
            match brick.spawn() {
                Ok(()) => return Some(brick),
                // Another process may have taken the port since it was free.
                Err(log) if log.contains("in use") => skipped(&format!("port {port}: somebody was faster")),
                Err(log) => panic!("the brick does not start: {log}"),
            }
        }
        panic!("of {PORTS_TRIED} free ports all were taken")
    }

    /// A fresh brick on a unix socket.
    pub fn unix() -> Option<Brick> {
        if !super::needs_root("a brick in a process of its own") {
            return None;
        }
        let options = format!("    option auth.addr.{SUBVOLUME}.allow *\n");
        let mut brick = Brick::new(Listens::Unix(PathBuf::new()), &options, "");
        brick.spawn().unwrap_or_else(|log| panic!("the brick does not start: {log}"));
        Some(brick)
    }

    fn new(listens: Listens, options: &str, locks: &str) -> Brick {
        let folder = tempfile::tempdir().expect("a folder for the brick");
        std::fs::create_dir(folder.path().join("brick")).expect("a directory for the brick");
        std::fs::create_dir(folder.path().join("locks")).expect("a folder for its locks");
        DirBuilder::new().mode(0o700).create(folder.path().join("run")).expect("a folder for its sockets");
        let listens = match listens {
            Listens::Unix(_) => Listens::Unix(folder.path().join("socket")),
            tcp => tcp,
        };
        let launcher = Launcher::new(folder.path());
        let brick = Brick { folder, listens, launcher, process: None };
        std::fs::write(brick.volfile(), brick.volfile_text(options, locks)).expect("write the volfile");
        brick
    }

    fn volfile_text(&self, options: &str, locks: &str) -> String {
        let listens = match &self.listens {
            Listens::Tcp(port) => format!(
                "    option transport-type tcp\n    option transport.socket.bind-address 127.0.0.1\n    \
                 option transport.socket.listen-port {port}\n"
            ),
            Listens::Unix(path) => {
                format!("    option transport-type unix\n    option transport.socket.listen-path {}\n", path.display())
            }
        };
        format!(
            "volume posix\n    type storage/posix\n    option directory {}\nend-volume\n\n\
             volume locks\n    type features/locks\n{locks}    option journal-directory {}\n    subvolumes posix\nend-volume\n\n\
             volume {SUBVOLUME}\n    type debug/io-stats\n    subvolumes locks\nend-volume\n\n\
             volume server\n    type protocol/server\n{listens}{options}    subvolumes {SUBVOLUME}\nend-volume\n",
            self.directory().display(),
            self.lock_journal().display()
        )
    }

    /// Starts the process and waits until it serves; what it logged when it ends instead.
    fn spawn(&mut self) -> Result<(), String> {
        let process = self.process.insert(self.launcher.start());
        if serves(&self.launcher.manager, process) { Ok(()) } else { Err(self.log()) }
    }

    /// The port, with TCP.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let Listens::Tcp(port) = self.listens else { panic!("this brick listens on a unix socket") };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The folder that is served.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("brick")
    }

    /// The folder in which the locks are kept, as `journal`, and who has some, as `clients`.
    pub fn lock_journal(&self) -> PathBuf {
        self.folder.path().join("locks")
    }

    /// Where a test may put its own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn volfile(&self) -> PathBuf {
        self.folder.path().join("brick.vol")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("brick.log")
    }

    /// What all its processes have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).expect("the log")
    }

    /// What its present and later processes log from now on: `position` goes to [`Brick::log_since`].
    pub fn log_length(&self) -> usize {
        File::open(self.log_path()).and_then(|file| file.metadata()).expect("the log").len() as usize
    }

    /// What was logged after `position`.
    pub fn log_since(&self, position: usize) -> String {
        self.log().get(position..).unwrap_or_default().to_owned()
    }

    /// Waits until `text` is in what was logged after `position`.
    #[track_caller]
    pub fn wait_for_log(&self, position: usize, text: &str) {
        let what = format!("`{text}` in the brick's log");
        until(&what, || self.log_since(position).contains(text).then_some(()));
    }

    /// Kills the process with SIGKILL and leaves everything as it lies.
    pub fn kill9(&mut self) {
        self.end(Signal::KILL);
    }

    /// Tells the process to end and waits until it has.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        let Some(process) = self.process.take() else { return };
        // It may have ended by itself.
        let _ = pidfd_send_signal(&process, signal);
        let in_time = ended(&process);
        if !in_time {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
        assert!(in_time || std::thread::panicking(), "the brick ends within {EXIT_SECONDS} s of {signal:?}");
    }

    /// Serves again, at the same place.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the former process has ended");
        self.spawn().unwrap_or_else(|log| panic!("the brick does not start again: {log}"));
    }

    /// Resident memory of the process, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.launcher.pid)).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Writes a client volfile for this brick, with `options` for protocol/client, and returns its path.
    pub fn client(&self, options: &str) -> PathBuf {
        match &self.listens {
            Listens::Tcp(port) => self.client_at(*port, options),
            Listens::Unix(path) => self.write_client(&format!(
                "    option transport-type unix\n    option transport.socket.connect-path {}\n{options}",
                path.display()
            )),
        }
    }

    /// The same for a client that is to come by way of `port`.
    pub fn client_at(&self, port: u16, options: &str) -> PathBuf {
        self.write_client(&format!(
            "    option transport-type tcp\n    option remote-host 127.0.0.1\n    option remote-port {port}\n{options}"
        ))
    }

    fn write_client(&self, options: &str) -> PathBuf {
        let file = tempfile::Builder::new().prefix("client-").suffix(".vol").tempfile_in(self.folder.path());
        let (_, path) = file.expect("a file").keep().expect("it stays as long as the folder");
        let text = format!(
            "volume client\n    type protocol/client\n{options}    option remote-subvolume {SUBVOLUME}\nend-volume\n"
        );
        std::fs::write(&path, text).expect("write the volfile");
        path
    }

    /// What `brickwork status` says of the brick, as text.
    pub fn status(&self) -> String {
        run(&mut self.command(&["status"]))
    }

    /// A command that asks the brick.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = brickwork();
        command.args(words).env("BRICKWORK_RUNTIME_DIR", self.folder.path().join("run"));
        command
    }

    /// How many locks are `held` or `waiting`.
    pub fn locks(&self, state: &str) -> usize {
        let document = run(&mut self.command(&["locks", "list", "--json"]));
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        let locks = document["items"].as_array().expect("items");
        locks.iter().filter(|lock| lock["state"] == state).count()
    }

    /// Waits until `count` locks are `held` or `waiting`.
    #[track_caller]
    pub fn wait_for_locks(&self, state: &str, count: usize) {
        until(&format!("{count} locks are {state}"), || (self.locks(state) == count).then_some(()));
    }
}

impl Launcher {
    fn new(folder: &Path) -> Launcher {
        let notify = folder.join("notify");
        let manager = UnixDatagram::bind(&notify).expect("a socket to hear of the start");
        let mut shell = Command::new("sh");
        shell.args(["-c", LAUNCHER, "launcher"]).arg(brickwork().get_program()).args(["brick", "serve"]);
        shell.arg(folder.join("brick.vol")).env("BRICK_LOG", folder.join("brick.log")).env("NOTIFY_SOCKET", &notify);
        shell.env("BRICKWORK_RUNTIME_DIR", folder.join("run")).env_remove("BRICKWORK_LOG");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let orders = shell.stdin.take();
        let started = BufReader::new(shell.stdout.take().expect("a pipe"));
        Launcher { shell, orders, started, manager, pid: 0 }
    }

    /// Starts a brick.
    fn start(&mut self) -> OwnedFd {
        self.manager.set_nonblocking(true).expect("a socket");
        // What the former process said last.
        while self.manager.recv(&mut [0; 1]).is_ok() {}
        self.manager.set_nonblocking(false).expect("a socket");
        self.orders.as_mut().expect("a pipe").write_all(b"\n").expect("the launcher listens");
        let mut pid = String::new();
        self.started.read_line(&mut pid).expect("the launcher answers");
        self.pid = pid.trim().parse().expect("a pid");
        pidfd_open(Pid::from_raw(self.pid).expect("a pid"), PidfdFlags::empty()).expect("the process")
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Nothing hangs on how it ended.
        let _ = self.shell.wait();
    }
}

impl Drop for Brick {
    fn drop(&mut self) {
        self.end(Signal::KILL);
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the brick's log, its end ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Whether READY=1 arrives before `process` ends and in time.
fn serves(ready: &UnixDatagram, process: &OwnedFd) -> bool {
    let limit = Timespec { tv_sec: START_SECONDS, tv_nsec: 0 };
    loop {
        let mut either = [PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        poll(&mut either, Some(&limit)).expect("poll");
        if either[0].revents().is_empty() {
            return false;
        }
        let mut message = [0; 1024];
        let length = ready.recv(&mut message).expect("a datagram");
        if message[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            return true;
        }
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port").port()
}
