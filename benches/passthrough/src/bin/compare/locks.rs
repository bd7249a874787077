//! Taking locks by fcntl(2) and giving them back.
//!
//! A lock belongs to a process, so each worker is a process of its own: this very program, started again. The workers
//! begin together, when all of them have opened their file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::target::Target;

/// The first argument of a worker.
pub const WORKER: &str = "lock-worker";

/// What is measured.
#[derive(Clone, Copy)]
enum Kind {
    /// Each process takes and releases one byte of a file of its own, again and again.
    OwnFiles,
    /// All in one file, each a byte of its own.
    OneFile,
    /// All the very same byte of one file: each waits for the others.
    OneByte,
    /// One process takes so many bytes that do not touch, then releases one after the other.
    Many,
}

/// So many pairs of lock and unlock by so many processes.
pub struct Job {
    kind: Kind,
    processes: usize,
    /// Of all processes together.
    pairs: usize,
    /// What the ratio has to reach.
    floor: f64,
}

impl Job {
    /// All jobs, in the order of the table.
    pub fn all(quick: bool) -> Vec<Self> {
        let pairs = if quick { 4_000 } else { 40_000 };
        vec![
            Self { kind: Kind::OwnFiles, processes: 1, pairs, floor: 3.0 },
            Self { kind: Kind::OwnFiles, processes: 8, pairs, floor: 4.0 },
            Self { kind: Kind::OneFile, processes: 8, pairs, floor: 4.0 },
            Self { kind: Kind::OneByte, processes: 8, pairs, floor: 0.0 },
            Self { kind: Kind::Many, processes: 1, pairs: 2_000, floor: 10.0 },
        ]
    }

    /// The name of its row.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::OwnFiles => format!("lock + unlock x{}", self.processes),
            Kind::OneFile => format!("lock + unlock x{}, one file", self.processes),
            Kind::OneByte => format!("lock + unlock x{}, one byte", self.processes),
            Kind::Many => format!("{} locks on one file", self.pairs),
        }
    }

    /// What its ratio has to reach; 0 where it is only there to be read.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// Does the work: pairs of lock and unlock per second.
    ///
    /// # Errors
    /// Those of the first call that fails, of a worker among them.
    pub fn run(&self, target: &Target) -> io::Result<f64> {
        let share = self.pairs / self.processes;
        let mut workers = Vec::new();
        for number in 0..self.processes {
            let (file, first, bytes) = match self.kind {
                Kind::OwnFiles => (number, 0, 1),
                Kind::OneFile => (0, number * 2, 1),
                Kind::OneByte => (0, 0, 1),
                Kind::Many => (0, 0, share),
            };
            let path = target.directory.join(format!("locks-{file}"));
            workers.push(Worker::start(path, first, bytes, share / bytes)?);
        }
        workers.iter_mut().try_for_each(Worker::opened)?;
        let begun = Instant::now();
        workers.iter_mut().try_for_each(Worker::begin)?;
        let ended: io::Result<Vec<()>> = workers.iter_mut().map(Worker::end).collect();
        let seconds = begun.elapsed().as_secs_f64();
        ended?;
        for worker in workers {
            match fs::remove_file(&worker.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok((share * self.processes) as f64 / seconds)
    }
}

/// One process; dropping it ends it.
struct Worker {
    path: PathBuf,
    process: Child,
    orders: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a process that takes `bytes` single bytes from `first` on, two apart, and releases them, `times` times.
    fn start(path: PathBuf, first: usize, bytes: usize, times: usize) -> io::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(WORKER).arg(&path).args([first, bytes, times].map(|number| number.to_string()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, said) = (process.stdin.take(), process.stdout.take());
        let said = BufReader::new(said.ok_or_else(|| io::Error::other("a worker without stdout"))?);
        Ok(Worker { path, process, orders, said })
    }

    /// Waits until it has its file open.
    fn opened(&mut self) -> io::Result<()> {
        self.hear("opened")
    }

    fn begin(&mut self) -> io::Result<()> {
        let orders = self.orders.as_mut().ok_or_else(|| io::Error::other("a worker without stdin"))?;
        orders.write_all(b"\n")
    }

    /// Waits until it is done.
    fn end(&mut self) -> io::Result<()> {
        self.hear("done")
    }

    fn hear(&mut self, word: &str) -> io::Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        if line.trim_end() == word { Ok(()) } else { Err(io::Error::other(format!("{}: {line}", self.path.display()))) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker reads until its stdin ends, and then ends; nothing hangs on how.
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

/// The body of a worker: `PATH FIRST BYTES TIMES`.
///
/// # Errors
/// Those of the first call that fails, or of arguments that are none.
pub fn work(arguments: &[String]) -> io::Result<()> {
    let [path, numbers @ ..] = arguments else { return Err(io::Error::other("no path")) };
    let numbers: Result<Vec<usize>, _> = numbers.iter().map(|number| number.parse()).collect();
    let [first, bytes, times] = numbers.map_err(io::Error::other)?[..] else {
        return Err(io::Error::other("FIRST BYTES TIMES"));
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(Path::new(path))?;
    println!("opened");
    io::stdin().read_exact(&mut [0])?;
    for _ in 0..times {
        (0..bytes).try_for_each(|byte| change(&file, libc::F_WRLCK, first + 2 * byte))?;
        (0..bytes).try_for_each(|byte| change(&file, libc::F_UNLCK, first + 2 * byte))?;
    }
    println!("done");
    // The others may be at work: the end of a process is work, too.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Takes or releases one byte; waits for who has it.
fn change(file: &File, kind: libc::c_int, byte: usize) -> io::Result<()> {
    let mut lock =
        libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte as i64, l_len: 1, l_pid: 0 };
    // SAFETY: the command reads a `flock`, which `lock` is for as long as the call lasts.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLKW, std::ptr::from_mut(&mut lock)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
