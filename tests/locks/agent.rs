//! A process that does with files and locks what a [`Stage`](crate::stage::Stage) tells it, one line at a time.
//!
//! It is this very test binary, started again for the one test below: a lock belongs to a process, so a test needs
//! several. What it is told comes over a socket of its own, and what it answers goes back there.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells a process of this binary that it is an agent: the socket of the stage.
pub const STAGE: &str = "BRICKWORK_LOCKS_STAGE";
/// Its name on the stage.
pub const NAME: &str = "BRICKWORK_LOCKS_AGENT";
/// What it has open already: `name=descriptor` by commas.
const OPEN: &str = "BRICKWORK_LOCKS_OPEN";

/// The command that starts an agent.
pub fn command(name: &str, stage: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "agent::a_process_of_other_tests", "--ignored", "--nocapture"]);
    command.env(STAGE, stage).env(NAME, name);
    command
}

#[test]
#[ignore = "the body of a process that other tests start"]
fn a_process_of_other_tests() {
    let variable =
        |name| std::env::var(name).unwrap_or_else(|_| panic!("only a stage starts this; `{name}` is not set"));
    let mut agent = Agent::on(Path::new(&variable(STAGE)), &variable(NAME));
    let replaced = std::env::var(OPEN);
    for pair in replaced.iter().flat_map(|open| open.split_terminator(',')) {
        let (name, descriptor) = pair.split_once('=').expect("name=descriptor");
        // SAFETY: the process that became this one left the descriptor open for us, and named it once.
        let file = unsafe { File::from_raw_fd(descriptor.parse().expect("a descriptor")) };
        agent.files.insert(name.to_owned(), file);
    }
    if replaced.is_ok() {
        // The answer to `exec`.
        agent.say("ok");
    }
    agent.serve();
}

struct Agent {
    stage: PathBuf,
    orders: BufReader<UnixStream>,
    files: BTreeMap<String, File>,
}

impl Agent {
    /// Says to the stage who this is.
    fn on(stage: &Path, name: &str) -> Agent {
        let mut orders = UnixStream::connect(stage).expect("the stage listens");
        let thread = rustix::thread::gettid().as_raw_nonzero();
        writeln!(orders, "{name} {} {thread}", std::process::id()).expect("the stage hears");
        Agent { stage: stage.to_owned(), orders: BufReader::new(orders), files: BTreeMap::new() }
    }

    /// Does what comes until nothing more comes.
    fn serve(&mut self) {
        let mut line = String::new();
        while self.orders.read_line(&mut line).expect("the stage") > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = self.perform(&words).unwrap_or_else(|error| errno_name(&error));
            self.say(&answer);
            line.clear();
        }
    }

    fn say(&mut self, answer: &str) {
        writeln!(self.orders.get_mut(), "{answer}").expect("the stage hears");
    }

    fn perform(&mut self, words: &[&str]) -> io::Result<String> {
        match words {
            ["open", name, path, how] => drop(self.files.insert((*name).to_owned(), open(path, how)?)),
            ["close", name] => drop(self.files.remove(*name).expect("an open file")),
            ["dup", name, twin] => drop(self.files.insert((*twin).to_owned(), self.file(name).try_clone()?)),
            ["seek", name, offset] => drop(self.file(name).seek(SeekFrom::Start(number(offset) as u64))?),
            ["truncate", name, length] => self.file(name).set_len(number(length) as u64)?,
            ["write", name, offset, text] => self.file(name).write_all_at(text.as_bytes(), number(offset) as u64)?,
            ["read", name, offset, length] => return self.read(name, number(offset) as u64, number(length) as usize),
            ["sync", name] => self.file(name).sync_all()?,
            ["rename", from, to] => std::fs::rename(from, to)?,
            ["link", from, to] => std::fs::hard_link(from, to)?,
            ["unlink", path] => std::fs::remove_file(path)?,
            ["lock", name, range @ ..] => self.lock(name, libc::F_SETLK, range)?,
            ["wait", name, range @ ..] => self.lock(name, libc::F_SETLKW, range)?,
            ["get", name, range @ ..] => return self.get(name, libc::F_GETLK, range),
            ["see", name] => return self.see(name),
            ["ofd-lock", name, range @ ..] => self.lock(name, libc::F_OFD_SETLK, range)?,
            ["ofd-wait", name, range @ ..] => self.lock(name, libc::F_OFD_SETLKW, range)?,
            ["ofd-get", name, range @ ..] => return self.get(name, libc::F_OFD_GETLK, range),
            ["flock", name, operation] => flock(self.file(name).as_raw_fd(), operation, libc::LOCK_NB)?,
            ["flock-wait", name, operation] => flock(self.file(name).as_raw_fd(), operation, 0)?,
            ["many", name, count, step] => self.many(name, number(count), number(step))?,
            ["fork", child] => return self.fork(child),
            ["exec"] => return Err(self.exec()),
            ["handle-signals"] => handle_signals()?,
            _ => panic!("an agent cannot do this: {words:?}"),
        }
        Ok("ok".to_owned())
    }

    fn file(&self, name: &str) -> &File {
        self.files.get(name).unwrap_or_else(|| panic!("`{name}` is not open"))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<String> {
        let mut bytes = vec![0; length];
        let length = self.file(name).read_at(&mut bytes, offset)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn lock(&self, name: &str, command: c_int, range: &[&str]) -> io::Result<()> {
        fcntl(self.file(name).as_raw_fd(), command, &mut flock_of(range))
    }

    /// The first lock in the way: `TYPE START LENGTH pid:PID`, or `free`.
    fn get(&self, name: &str, command: c_int, range: &[&str]) -> io::Result<String> {
        let mut lock = flock_of(range);
        fcntl(self.file(name).as_raw_fd(), command, &mut lock)?;
        Ok(described(&lock))
    }

    /// All that another owner, who must be the only one, holds: by one question after the other.
    fn see(&self, name: &str) -> io::Result<String> {
        let mut seen = Vec::new();
        let mut from = 0;
        loop {
            let mut lock = flock_of(&["w", "0", "0"]);
            lock.l_start = from;
            fcntl(self.file(name).as_raw_fd(), libc::F_GETLK, &mut lock)?;
            if lock.l_type != libc::F_UNLCK as i16 {
                seen.push(described(&lock));
                from = lock.l_start + lock.l_len;
            }
            if lock.l_type == libc::F_UNLCK as i16 || lock.l_len == 0 {
                return Ok(if seen.is_empty() { "free".to_owned() } else { seen.join(", ") });
            }
        }
    }

    /// Takes `count` locks of one byte, `step` bytes apart.
    fn many(&self, name: &str, count: i64, step: i64) -> io::Result<()> {
        let file = self.file(name).as_raw_fd();
        for start in (0..count).map(|index| index * step) {
            let mut lock = flock_of(&["w", "0", "1"]);
            lock.l_start = start;
            fcntl(file, libc::F_SETLK, &mut lock)?;
        }
        Ok(())
    }

    /// A child with everything that is open here, which goes on by itself as `child`.
    fn fork(&mut self, child: &str) -> io::Result<String> {
        // SAFETY: the only other thread of this process waits for the end of this one, so it is not within the allocator
        // or anything else whose locks the child would find taken.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let files = std::mem::take(&mut self.files);
                *self = Agent { files, ..Agent::on(&self.stage, child) };
                self.serve();
                std::process::exit(0)
            }
            _ => Ok("ok".to_owned()),
        }
    }

    /// Becomes a fresh program with the same files open; returns only what prevented it. The stage is told anew.
    fn exec(&self) -> io::Error {
        let name = std::env::var(NAME).expect("its name");
        let mut open = Vec::new();
        for (name, file) in &self.files {
            // SAFETY: changes a flag of a descriptor that `file` keeps open.
            if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } != 0 {
                return io::Error::last_os_error();
            }
            open.push(format!("{name}={}", file.as_raw_fd()));
        }
        command(&name, &self.stage).env(OPEN, open.join(",")).exec()
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `r`, `w`, `rw`, with `c` to create and `t` to truncate.
fn open(path: &str, how: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(how.contains('r')).write(how.contains('w'));
    options.create(how.contains('c')).truncate(how.contains('t')).open(path)
}

/// `TYPE START LENGTH`; the start may be from the file's position (`cur+5`) or its end (`end-5`).
fn flock_of(range: &[&str]) -> libc::flock {
    let [kind, start, length] = range else { panic!("TYPE START LENGTH, not {range:?}") };
    let (whence, start) = match (start.strip_prefix("cur"), start.strip_prefix("end")) {
        (Some(offset), _) => (libc::SEEK_CUR, number(offset)),
        (_, Some(offset)) => (libc::SEEK_END, number(offset)),
        _ => (libc::SEEK_SET, number(start)),
    };
    let kind = match *kind {
        "r" => libc::F_RDLCK,
        "w" => libc::F_WRLCK,
        "u" => libc::F_UNLCK,
        "invalid" => 99,
        other => panic!("no type {other}"),
    };
    libc::flock { l_type: kind as i16, l_whence: whence as i16, l_start: start, l_len: number(length), l_pid: 0 }
}

fn described(lock: &libc::flock) -> String {
    let kind = match i32::from(lock.l_type) {
        libc::F_UNLCK => return "free".to_owned(),
        libc::F_RDLCK => "r",
        libc::F_WRLCK => "w",
        other => panic!("the kernel answers type {other}"),
    };
    assert_eq!(i32::from(lock.l_whence), libc::SEEK_SET, "an answer counts from the beginning");
    format!("{kind} {} {} pid:{}", lock.l_start, lock.l_len, lock.l_pid)
}

fn fcntl(file: RawFd, command: c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the lock commands read and write a `flock`, which `lock` is for as long as the call lasts.
    if unsafe { libc::fcntl(file, command, std::ptr::from_mut(lock)) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn flock(file: RawFd, operation: &str, flag: c_int) -> io::Result<()> {
    let operation = match operation {
        "sh" => libc::LOCK_SH,
        "ex" => libc::LOCK_EX,
        "un" => libc::LOCK_UN,
        other => panic!("no flock operation {other}"),
    };
    // SAFETY: takes no memory of ours.
    if unsafe { libc::flock(file, operation | flag) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn heard(_signal: c_int) {}

/// From now on SIGUSR1 interrupts the call that waits.
fn handle_signals() -> io::Result<()> {
    // SAFETY: an empty action with an empty mask and no flags, SA_RESTART among those that are not set.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = heard as extern "C" fn(c_int) as usize;
    // SAFETY: `action` is whole, and its handler does nothing.
    if unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn errno_name(error: &io::Error) -> String {
    let named = [
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EDEADLK, "EDEADLK"),
        (libc::EINTR, "EINTR"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::ENOLCK, "ENOLCK"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::EOVERFLOW, "EOVERFLOW"),
    ];
    let code = error.raw_os_error();
    let name = named.iter().find(|(number, _)| Some(*number) == code).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| error.to_string())
}
