//! Processes that act on files in step: each does what it is told, and the next one is told when it has answered or is
//! seen to wait.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::agent;
use crate::common::{ended, until};

/// How long an answer may take that must come.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an answer is waited for that must not come, once the process is seen to wait.
const SILENCE: Duration = Duration::from_millis(20);

/// The processes of a test and where they act. Dropping it kills them.
pub struct Stage {
    /// Where the processes act: the first in the first of them, the others in the last.
    folders: Vec<PathBuf>,
    listener: UnixListener,
    socket: PathBuf,
    agents: BTreeMap<String, Actor>,
    /// Of those that have ended: their answers may still name them.
    former: BTreeMap<i32, String>,
    _folder: tempfile::TempDir,
}

/// One process.
struct Actor {
    folder: PathBuf,
    pid: i32,
    /// The one that does what it is told; another waits for its end.
    thread: i32,
    process: OwnedFd,
    connection: BufReader<UnixStream>,
    /// Was told something and has not answered.
    waiting: bool,
    /// Unless another agent forked it.
    child: Option<Child>,
}

impl Stage {
    /// A stage whose first process acts in the first of `folders`, and all others in the last.
    pub fn on(folders: &[&Path]) -> Stage {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let socket = folder.path().join("stage");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let folders = folders.iter().map(|&folder| folder.to_owned()).collect();
        Stage { folders, listener, socket, agents: BTreeMap::new(), former: BTreeMap::new(), _folder: folder }
    }

    /// Tells `who` something and returns what it answers; starts it first if there is none.
    #[track_caller]
    pub fn ask(&mut self, who: &str, words: &str) -> String {
        self.begin(who, words);
        self.answer(who)
    }

    /// The same of what must be `ok`.
    #[track_caller]
    pub fn does(&mut self, who: &str, words: &str) {
        assert_eq!(self.ask(who, words), "ok", "{who} {words}");
    }

    /// Tells `who` something without waiting for its answer.
    #[track_caller]
    pub fn begin(&mut self, who: &str, words: &str) {
        if !self.agents.contains_key(who) {
            self.start(who);
        }
        let actor = self.actor(who);
        assert!(!actor.waiting, "{who} has not answered yet");
        actor.waiting = true;
        let line = actor.line(words);
        writeln!(actor.connection.get_mut(), "{line}").unwrap_or_else(|error| panic!("{who} is gone: {error}"));
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["fork", child] => {
                let folder = actor.folder.clone();
                self.welcome(child, folder, None);
            }
            ["exec"] => {
                let Actor { folder, child, .. } = self.agents.remove(who).expect("an agent");
                self.welcome(who, folder, child);
                self.actor(who).waiting = true;
            }
            _ => {}
        }
    }

    /// Tells `who` something that must make it wait, and returns when it does.
    #[track_caller]
    pub fn waits(&mut self, who: &str, words: &str) {
        self.begin(who, words);
        let actor = self.actor(who);
        let waiting = || actor.has_answered(Duration::ZERO) || actor.is_in_lock_call();
        until(&format!("{who} waits: {words}"), || waiting().then_some(()));
        assert!(!actor.has_answered(SILENCE), "{who} should wait: {words}, and was answered {}", self.answer(who));
    }

    /// What `who` answers to what it was told before.
    #[track_caller]
    pub fn answer(&mut self, who: &str) -> String {
        let actor = self.actor(who);
        assert!(actor.waiting, "{who} was not asked");
        assert!(actor.has_answered(ANSWER), "{who} does not answer within {ANSWER:?}");
        actor.waiting = false;
        let mut line = String::new();
        actor.connection.read_line(&mut line).expect("the connection");
        assert!(!line.is_empty(), "{who} ended by itself");
        self.by_name(line.trim_end())
    }

    /// That nobody was answered who waits.
    #[track_caller]
    pub fn all_wait_on(&self) {
        for (name, actor) in self.agents.iter().filter(|(_, actor)| actor.waiting) {
            assert!(!actor.has_answered(Duration::ZERO), "{name} was answered and should wait");
        }
    }

    /// Whether `who`, that was told something, has answered by now.
    #[track_caller]
    pub fn has_answered(&mut self, who: &str) -> bool {
        self.actor(who).has_answered(Duration::ZERO)
    }

    /// Interrupts what `who` waits for; it was told to `handle-signals`.
    #[track_caller]
    pub fn interrupt(&mut self, who: &str) {
        let actor = self.actor(who);
        // SAFETY: takes no memory of ours.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, actor.pid, actor.thread, libc::SIGUSR1) };
        assert_eq!(sent, 0, "{who}: {}", std::io::Error::last_os_error());
    }

    /// Kills `who` with SIGKILL and returns when it has ended.
    #[track_caller]
    pub fn kill9(&mut self, who: &str) {
        let mut actor = self.leave(who);
        actor.kill();
    }

    /// Kills `who` with SIGKILL, whose end waits for somebody.
    #[track_caller]
    pub fn begin_kill9(&mut self, who: &str) {
        pidfd_send_signal(&self.actor(who).process, Signal::KILL).expect("a process");
    }

    /// Lets `who` end in the ordinary way and returns when it has.
    #[track_caller]
    pub fn exit(&mut self, who: &str) {
        let mut actor = self.leave(who);
        actor.connection.get_mut().shutdown(std::net::Shutdown::Write).expect("its connection");
        assert!(ended(&actor.process), "{who} ends");
        actor.reap();
    }

    fn leave(&mut self, who: &str) -> Actor {
        let actor = self.agents.remove(who).unwrap_or_else(|| panic!("there is no {who}"));
        self.former.insert(actor.pid, who.to_owned());
        actor
    }

    fn actor(&mut self, who: &str) -> &mut Actor {
        self.agents.get_mut(who).unwrap_or_else(|| panic!("there is no {who}"))
    }

    fn start(&mut self, who: &str) {
        let place =
            if self.agents.is_empty() && self.former.is_empty() { self.folders.first() } else { self.folders.last() };
        let folder = place.expect("a folder").clone();
        let mut command = agent::command(who, &self.socket);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("an agent");
        self.welcome(who, folder, Some(child));
    }

    /// Waits for the connection of `who`.
    fn welcome(&mut self, who: &str, folder: PathBuf, child: Option<Child>) {
        let limit = Timespec { tv_sec: ANSWER.as_secs() as i64, tv_nsec: 0 };
        let ended = child.as_ref().map(|child| pidfd_of(child.id().cast_signed()));
        let mut either = vec![PollFd::new(&self.listener, PollFlags::IN)];
        either.extend(ended.iter().map(|process| PollFd::new(process, PollFlags::IN)));
        poll(&mut either, Some(&limit)).expect("poll");
        assert!(!either[0].revents().is_empty(), "{who} does not come");
        let (connection, _) = self.listener.accept().expect("a connection");
        let mut connection = BufReader::new(connection);
        let mut greeting = String::new();
        connection.read_line(&mut greeting).expect("a greeting");
        let [name, pid, thread] = greeting.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("NAME PID THREAD, not {greeting}")
        };
        assert_eq!(name, who, "one comes at a time");
        let (pid, thread) = (pid.parse().expect("a pid"), thread.parse().expect("a thread"));
        let actor = Actor { folder, pid, thread, process: pidfd_of(pid), connection, waiting: false, child };
        self.agents.insert(who.to_owned(), actor);
    }

    /// `pid:NUMBER` in an answer becomes the name of that process.
    fn by_name(&self, answer: &str) -> String {
        let name = |pid: i32| {
            let present = self.agents.iter().find(|(_, actor)| actor.pid == pid).map(|(name, _)| name.as_str());
            present.or(self.former.get(&pid).map(String::as_str))
        };
        let word = |word: &str| {
            let (number, after) =
                word.strip_prefix("pid:").map(|rest| rest.split_at(rest.trim_end_matches(',').len()))?;
            name(number.parse().ok()?).map(|name| format!("{name}{after}"))
        };
        let words: Vec<String> = answer.split(' ').map(|text| word(text).unwrap_or_else(|| text.to_owned())).collect();
        words.join(" ")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Who waits for a lock of another ends when that one does.
        let actors = std::mem::take(&mut self.agents);
        for mut actor in actors.into_values() {
            actor.kill();
        }
    }
}

impl Actor {
    /// `words` with its paths in this process's folder.
    fn line(&self, words: &str) -> String {
        let place = |name: &str| self.folder.join(name).to_str().expect("UTF-8").to_owned();
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["open", name, path, how] => format!("open {name} {} {how}", place(path)),
            [verb @ ("rename" | "link"), from, to] => format!("{verb} {} {}", place(from), place(to)),
            ["unlink", path] => format!("unlink {}", place(path)),
            _ => words.to_owned(),
        }
    }

    fn has_answered(&self, within: Duration) -> bool {
        if !self.connection.buffer().is_empty() {
            return true;
        }
        let limit = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
        let connection = self.connection.get_ref().as_fd();
        poll(&mut [PollFd::from_borrowed_fd(connection, PollFlags::IN)], Some(&limit)).expect("poll") == 1
    }

    /// Whether it sleeps in fcntl(2) or flock(2).
    fn is_in_lock_call(&self) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{}/task/{}/syscall", self.pid, self.thread));
        // Without one it has ended, which its answer will tell.
        let number = call.ok().and_then(|call| call.split_whitespace().next()?.parse::<i64>().ok());
        number.is_some_and(|number| number == libc::SYS_fcntl || number == libc::SYS_flock)
    }

    fn kill(&mut self) {
        // It may have ended by itself, of which its next answer would have told.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let gone = ended(&self.process);
        assert!(gone || std::thread::panicking(), "a killed process ends");
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing hangs on how it ended.
            let _ = child.wait();
        }
    }
}

fn pidfd_of(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("the process")
}
