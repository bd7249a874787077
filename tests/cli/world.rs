//! A world of its own for one test: folders, admin sockets, mounts, processes. Dropping it ends and removes all of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::common::{self, is_mounted};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    fn of(command: &mut Command) -> Done {
        let output = command.output().expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The command succeeded; returns what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The command failed with this exit code, and this text is in the first line of its stderr.
    #[track_caller]
    pub fn failed(&self, code: i32, first_line: &str) {
        let first = self.stderr.lines().next().unwrap_or_default();
        assert!(self.code == Some(code) && first.contains(first_line), "not {code} with `{first_line}`: {self:?}");
    }
}

pub struct World {
    folder: tempfile::TempDir,
    /// What comes before the command: `setpriv` and its words, for another user.
    user: Vec<String>,
    program: PathBuf,
}

impl World {
    /// A world of this user with a brick folder, a mount point and a volfile; `None` (and a loud skip) where nothing
    /// can mount.
    pub fn new() -> Option<World> {
        common::can_mount().then(|| World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into()))
    }

    /// One whose commands are run by `user`, with a program that every user can run.
    pub fn of(user: Vec<String>, program: PathBuf) -> World {
        let world = World { folder: tempfile::tempdir().expect("a folder"), user, program };
        for name in ["brick", "mnt", "mnt2", "home", "run"] {
            std::fs::create_dir(world.path(name)).expect("a folder");
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(world.path("run"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        world.write("test.vol", &world.volfile(""));
        world
    }

    /// A volfile of one brick, with `options` for it.
    pub fn volfile(&self, options: &str) -> String {
        format!(
            "volume posix\n    type storage/posix\n    option directory {}\n{options}end-volume\n\n\
             volume stats\n    type debug/io-stats\n    subvolumes posix\nend-volume\n",
            self.path("brick").display()
        )
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    /// The command in this world; nothing of it reaches the folders of the user who runs the test.
    pub fn command(&self) -> Command {
        let mut words = self.user.iter();
        let mut command = match words.next() {
            None => Command::new(&self.program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.current_dir(self.folder.path());
        command.env("BRICKWORK_RUNTIME_DIR", self.path("run")).env("HOME", self.path("home"));
        command.env("BRICKWORK_LOG_DIR", self.path("logs")).env("BRICKWORK_STATE_DIR", self.path("state"));
        command.env("TMPDIR", self.path("home")).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
        command.env_remove("BRICKWORK_INSTANCE").env_remove("BRICKWORK_LOG").stdin(Stdio::null());
        command
    }

    /// Runs `line` by a shell that finds the command as `brickwork`.
    pub fn shell(&self, line: &str) -> Done {
        let mut path = std::ffi::OsString::from(self.program.parent().expect("a folder"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("PATH", path).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, value) in self.command().get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Done::of(&mut shell)
    }

    /// Runs the command with `words` to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Done {
        Done::of(self.command().args(words))
    }

    /// Unmounts `place`.
    ///
    /// A command that another test is just starting has, until it execs, every file that is open in this process.
    #[track_caller]
    pub fn umount(&self, place: &str) {
        self.until("nobody uses the mount", || {
            let done = self.run(["umount", place]);
            (!done.stderr.contains("E0131")).then(|| done.ok())
        });
    }

    /// Mounts `test.vol` at `mnt` in the background, with `more` words.
    pub fn mount(&self, more: &[&str]) -> Done {
        let fixed = ["mount", "test.vol", "mnt", "--pid-file", "pid", "--log-file", "log"];
        self.run(fixed.iter().chain(more))
    }

    /// Serves `brick.vol`, the brick folder behind a unix socket, in the background; clients may ask for `gd1`.
    pub fn serve(&self, options: &str) -> Done {
        self.write("brick.vol", &self.brick_volfile(options));
        self.write("gd1.vol", &self.client_volfile("    option reconnect-wait 60s\n"));
        self.serve_again()
    }

    /// Serves the same with features/locks in it, with `options` for that.
    pub fn serve_locks(&self, options: &str) -> Done {
        let locks =
            format!("volume locks\n    type features/locks\n{options}    subvolumes posix\nend-volume\n\nvolume stats");
        let volfile =
            self.brick_volfile("").replace("subvolumes posix", "subvolumes locks").replace("volume stats", &locks);
        self.write("brick.vol", &volfile);
        self.write("gd1.vol", &self.client_volfile("    option reconnect-wait 60s\n"));
        self.serve_again()
    }

    /// Serves `brick.vol` as it is, in the background.
    pub fn serve_again(&self) -> Done {
        self.run(["brick", "serve", "brick.vol", "--background", "--pid-file", "brick.pid", "--log-file", "brick.log"])
    }

    /// A volfile that serves the brick folder behind a unix socket, with `options` for protocol/server.
    pub fn brick_volfile(&self, options: &str) -> String {
        let (socket, gd1) = (self.path("sock"), self.path("gd1.vol"));
        let server = format!(
            "\nvolume server\n    type protocol/server\n    option transport-type unix\n    \
             option transport.socket.listen-path {}\n    option auth.addr.stats.allow *\n    \
             option client-volfile gd1={}\n{options}    subvolumes stats\nend-volume\n",
            socket.display(),
            gd1.display()
        );
        self.volfile("") + &server
    }

    /// The volfile of a client of that brick, with `options` for protocol/client.
    pub fn client_volfile(&self, options: &str) -> String {
        format!(
            "volume b1\n    type protocol/client\n    option transport-type unix\n    \
             option transport.socket.connect-path {}\n    option remote-subvolume stats\n{options}end-volume\n",
            self.path("sock").display()
        )
    }

    /// How the volume `name` of that brick is mounted by its name.
    pub fn spec(&self, name: &str) -> String {
        format!("unix:{}:/{name}", self.path("sock").display())
    }

    /// Runs the command as `mount.brickwork`, as mount(8) does.
    pub fn helper<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Done {
        let link = self.path("mount.brickwork");
        if !link.is_symlink() {
            std::os::unix::fs::symlink(&self.program, &link).expect("a link");
        }
        let mut helper = Command::new(link);
        helper.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, value) in self.command().get_envs() {
            match value {
                Some(value) => helper.env(name, value),
                None => helper.env_remove(name),
            };
        }
        Done::of(&mut helper)
    }

    /// The serving process of [`World::mount`].
    pub fn process(&self) -> Option<std::os::fd::OwnedFd> {
        self.process_of("pid")
    }

    /// The process whose number stands in the file `name`.
    pub fn process_of(&self, name: &str) -> Option<std::os::fd::OwnedFd> {
        let pid = std::fs::read_to_string(self.path(name)).ok()?.trim().parse().ok()?;
        pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
    }

    /// The process of [`World::serve`].
    pub fn brick(&self) -> std::os::fd::OwnedFd {
        self.process_of("brick.pid").expect("the brick runs")
    }

    /// Sends `signal` to the process of [`World::serve`].
    pub fn signal_brick(&self, signal: Signal) {
        pidfd_send_signal(self.brick(), signal).expect("a signal");
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(self.process().expect("it runs"), signal).expect("a signal");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).expect("the log")
    }

    /// Asks again and again until `answer` has one: for what a process does after a signal, of which nobody is told.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = answer() {
                return answer;
            }
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "in {PATIENCE:?} not: {what}\nlog: {}", log());
            std::thread::yield_now();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What a failed test left mounted without a pid file ends when its mount is taken away, below.
        for process in ["pid", "pid2", "brick.pid"].into_iter().filter_map(|name| self.process_of(name)) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            assert!(common::ended(&process) || std::thread::panicking(), "a killed process ends");
        }
        for mount in ["mnt", "mnt2"].map(|name| self.path(name)) {
            if is_mounted(&mount) {
                let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}
