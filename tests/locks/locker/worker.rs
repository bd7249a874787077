//! The process that locks: its threads and what each does.
//!
//! No two threads are one owner: the first has the fcntl locks of the process, and only it opens files for them; all use
//! OFD locks and flock of files that they opened themselves. Who waits holds nothing, since only waits for fcntl locks of
//! processes are searched for deadlocks; with those, on files where there are no others, waits hold what they like.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use brickwork_check::log::{Answer, CELL, Call, Family, Log, Mode, Span, What};

use super::sys::{self, Kind};
use super::{CELLS, ORDERS, Orders, Work, cells_name, records_name};
use crate::common::Random;

/// The owner of the fcntl locks of a process; an open file is the owner of its number plus one.
const PROCESS: u32 = 0;
/// The longest time between two signals.
const SIGNAL_MS_MAX: u64 = 20;
/// The longest time for which a lock is held that others are to be seen waiting for.
const HELD_MS_MAX: u64 = 60;

#[test]
#[ignore = "the body of a process that other tests start"]
fn a_process_that_locks() {
    let orders = std::env::var(ORDERS).unwrap_or_else(|_| panic!("only a test starts this; `{ORDERS}` is not set"));
    let orders: Arc<Orders> = Arc::new(serde_json::from_str(&orders).expect("orders"));
    sys::hear_signals();
    let log = Log::create(&orders.log, orders.process).expect("a log");
    let shared =
        Arc::new(Shared { log, stop: AtomicBool::new(false), opens: AtomicU32::new(0), tokens: AtomicU64::new(1) });
    let threads: Vec<_> = (0..orders.load.threads)
        .map(|thread| {
            let (orders, shared) = (Arc::clone(&orders), Arc::clone(&shared));
            std::thread::spawn(move || Worker::new(&orders, &shared, thread).work())
        })
        .collect();
    let numbers: Vec<_> = threads.iter().map(JoinHandleExt::as_pthread_t).collect();
    let interrupter = orders.load.signals.then(|| {
        let (orders, shared) = (Arc::clone(&orders), Arc::clone(&shared));
        std::thread::spawn(move || interrupt(&orders, &shared, &numbers))
    });
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("stdin");
    shared.stop.store(true, Ordering::SeqCst);
    if let Some(interrupter) = interrupter {
        interrupter.join().expect("the interrupter");
    }
    for thread in threads {
        thread.join().expect("a worker");
    }
    shared.log.note(What::End).expect("the log");
}

/// What the threads of a process share.
struct Shared {
    log: Log,
    stop: AtomicBool,
    /// Open files until now.
    opens: AtomicU32,
    /// Tokens until now.
    tokens: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Sends signals to the threads, one at a time, until they are told to end.
fn interrupt(orders: &Orders, shared: &Shared, threads: &[std::os::unix::thread::RawPthread]) {
    let mut random = Random::from_seed(orders.seed ^ 0x51);
    while !shared.stopped() {
        std::thread::sleep(Duration::from_millis(random.below(SIGNAL_MS_MAX)));
        shared.log.note(What::Signal { process: orders.process }).expect("the log");
        sys::interrupt(threads[random.below(threads.len() as u64) as usize]);
    }
}

/// What a thread has open and holds of one file.
struct Opened {
    file: File,
    number: u32,
    kind: Kind,
    /// Of each cell, and of the rest of the file at last.
    held: [Option<Mode>; CELLS as usize + 1],
}

impl Opened {
    fn owner(&self) -> u32 {
        match self.kind {
            Kind::Process => PROCESS,
            Kind::Ofd | Kind::Flock => self.number + 1,
        }
    }

    fn family(&self) -> Family {
        match self.kind {
            Kind::Process | Kind::Ofd => Family::Posix,
            Kind::Flock => Family::Flock,
        }
    }

    fn holds(&self) -> bool {
        self.held.iter().any(Option::is_some)
    }

    fn set(&mut self, span: Span, mode: Option<Mode>) {
        for cell in cells_of(span) {
            self.held[cell as usize] = mode;
        }
    }
}

/// The cells of a span, the rest of the file as the last.
fn cells_of(span: Span) -> std::ops::Range<u64> {
    span.0 / CELL..(span.1 / CELL).min(CELLS + 1)
}

/// A thread.
struct Worker<'a> {
    orders: &'a Orders,
    shared: &'a Shared,
    thread: u32,
    random: Random,
    opened: BTreeMap<u32, Opened>,
}

impl<'a> Worker<'a> {
    fn new(orders: &'a Orders, shared: &'a Shared, thread: u32) -> Worker<'a> {
        let random = Random::from_seed(orders.seed.wrapping_mul(u64::from(thread) + 1) ^ 0xa5a5);
        Worker { orders, shared, thread, random, opened: BTreeMap::new() }
    }

    /// Works until it is told to end; then closes all.
    fn work(mut self) {
        while !self.shared.stopped() {
            match self.orders.load.work {
                Work::Counters => self.count(),
                Work::Queues => self.queue(),
                Work::Random => self.draw(),
            }
        }
        let files: Vec<u32> = self.opened.keys().copied().collect();
        files.into_iter().for_each(|file| self.close(file));
    }

    /// One increment of one counter.
    fn count(&mut self) {
        let file = self.below(self.orders.load.files);
        let kind = if self.thread == 0 { Kind::Process } else { Kind::Ofd };
        let cell = Span::cell(0);
        if self.lock(file, kind, Mode::Write, cell, true) != Answer::Ok {
            return;
        }
        if let Answer::Token(number) = self.read(file, 0) {
            self.write(file, 0, number + 1);
        }
        self.unlock(file, cell);
    }

    /// One wait, for bytes that most others want some of, too.
    fn queue(&mut self) {
        let file = self.below(self.orders.load.files);
        let kind = if self.thread == 0 { Kind::Process } else { Kind::Ofd };
        let mode = if self.random.below(3) == 0 { Mode::Read } else { Mode::Write };
        let span = self.draw_span();
        if self.lock(file, kind, mode, span, true) == Answer::Ok {
            self.use_cells(file);
            // Not to wait for anything: to have others wait.
            std::thread::sleep(Duration::from_millis(self.random.below(HELD_MS_MAX)));
            self.unlock(file, span);
        }
    }

    /// One of many things.
    fn draw(&mut self) {
        let file = self.below(self.orders.load.files);
        let kind = match file % 3 {
            0 if self.thread == 0 => Kind::Process,
            0 | 1 => Kind::Ofd,
            _ => Kind::Flock,
        };
        // Files with fcntl locks of processes are for the threads that have those.
        let file = if file.is_multiple_of(3) && self.thread != 0 { (file + 1) % self.orders.load.files } else { file };
        let span = if kind == Kind::Flock { Span::ALL } else { self.draw_span() };
        let mode = if self.random.below(3) == 0 { Mode::Read } else { Mode::Write };
        match self.random.below(100) {
            0..35 => self.lock_and_use(file, kind, mode, span, true),
            35..60 => self.lock_and_use(file, kind, mode, span, false),
            60..75 if kind != Kind::Flock => self.test(file, kind, mode, span),
            60..90 => self.unlock(file, span),
            90..97 => self.append(file),
            _ => self.close(file),
        }
    }

    fn lock_and_use(&mut self, file: u32, kind: Kind, mode: Mode, span: Span, wait: bool) {
        if wait {
            self.release_before_waiting(kind);
        }
        if self.lock(file, kind, mode, span, wait) == Answer::Ok {
            self.use_cells(file);
        }
    }

    /// Nothing is held by who waits, but fcntl locks of a process that waits for more of them.
    fn release_before_waiting(&mut self, kind: Kind) {
        let held = |opened: &Opened| opened.holds() && !(kind == Kind::Process && opened.kind == Kind::Process);
        let files: Vec<u32> = self.opened.iter().filter(|(_, opened)| held(opened)).map(|(file, _)| *file).collect();
        files.into_iter().for_each(|file| self.unlock(file, Span::ALL));
    }

    /// Writes and reads some of the cells that are locked.
    fn use_cells(&mut self, file: u32) {
        for cell in 0..CELLS {
            let Some(mode) = self.opened.get(&file).and_then(|opened| opened.held[cell as usize]) else { continue };
            match self.random.below(8) {
                0 | 1 if mode == Mode::Write => {
                    let token = self.token();
                    self.write(file, cell * CELL, token);
                }
                2 | 3 => {
                    self.read(file, cell * CELL);
                }
                _ => (),
            }
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random.below(u64::from(limit)) as u32
    }

    /// A few cells, or from one to the end of the file.
    fn draw_span(&mut self) -> Span {
        let first = self.random.below(CELLS);
        let end = match self.random.below(6) {
            0 => u64::MAX,
            _ => (first + 1 + self.random.below(CELLS / 2)).min(CELLS) * CELL,
        };
        Span(first * CELL, end)
    }

    /// A token that no other process has.
    fn token(&self) -> u64 {
        u64::from(self.orders.process + 1) << 40 | self.shared.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Logs a call, makes it, and closes the file after an error that says that it is good for nothing any more.
    fn call(&mut self, file: u32, does: Call, make: impl FnOnce(&Opened) -> Answer) -> Answer {
        let opened = &self.opened[&file];
        let answer = self.shared.log.call(does, || make(opened)).expect("the log");
        if answer == Answer::Failed(libc::EIO) {
            self.close(file);
        }
        answer
    }

    fn lock(&mut self, file: u32, kind: Kind, mode: Mode, span: Span, wait: bool) -> Answer {
        let opened = self.open(file, kind);
        let (open, owner, family) = (opened.number, opened.owner(), opened.family());
        let does = Call::Lock { open, owner, family, mode, span, wait };
        let answer = self.call(file, does, |opened| sys::lock(&opened.file, kind, Some(mode), span, wait));
        if let Some(opened) = self.opened.get_mut(&file) {
            match answer {
                Answer::Ok => opened.set(span, Some(mode)),
                // A flock that could not be converted is gone.
                _ if kind == Kind::Flock => opened.set(span, None),
                _ => (),
            }
        }
        if answer == Answer::Failed(libc::EDEADLK) {
            self.release_all();
        }
        answer
    }

    fn release_all(&mut self) {
        let files: Vec<u32> = self.opened.iter().filter(|(_, opened)| opened.holds()).map(|(file, _)| *file).collect();
        files.into_iter().for_each(|file| self.unlock(file, Span::ALL));
    }

    fn unlock(&mut self, file: u32, span: Span) {
        let Some(opened) = self.opened.get_mut(&file) else { return };
        opened.set(span, None);
        let (open, owner, family, kind) = (opened.number, opened.owner(), opened.family(), opened.kind);
        let does = Call::Unlock { open, owner, family, span };
        self.call(file, does, |opened| sys::lock(&opened.file, kind, None, span, false));
    }

    fn test(&mut self, file: u32, kind: Kind, mode: Mode, span: Span) {
        let opened = self.open(file, kind);
        let does = Call::Test { open: opened.number, owner: opened.owner(), family: opened.family(), mode, span };
        self.call(file, does, |opened| sys::test(&opened.file, kind, mode, span));
    }

    fn read(&mut self, file: u32, at: u64) -> Answer {
        let opened = &self.opened[&file];
        let does = Call::Read { open: opened.number, owner: opened.owner(), at };
        self.call(file, does, |opened| sys::read(&opened.file, at))
    }

    fn write(&mut self, file: u32, at: u64, token: u64) {
        let Some(opened) = self.opened.get(&file) else { return };
        let does = Call::Write { open: opened.number, owner: opened.owner(), at, token };
        self.call(file, does, |opened| sys::write(&opened.file, at, token));
    }

    /// Appends to the records of the file, which are a file by themselves.
    fn append(&mut self, file: u32) {
        let file = self.orders.load.files + file;
        let opened = self.open(file, Kind::Ofd);
        let (open, token) = (opened.number, self.token());
        self.call(file, Call::Append { open, token }, |opened| sys::append(&opened.file, token));
    }

    /// The open file, opened now if it was not. A file that is open already stays of its kind.
    fn open(&mut self, file: u32, kind: Kind) -> &Opened {
        let (orders, shared) = (self.orders, self.shared);
        self.opened.entry(file).or_insert_with(|| {
            let number = shared.opens.fetch_add(1, Ordering::Relaxed);
            let opened = open_file(&orders.folder, file, orders.load.files);
            shared.log.note(What::Open { open: number, mount: orders.mount, file }).expect("the log");
            Opened { file: opened, number, kind, held: [None; CELLS as usize + 1] }
        })
    }

    fn close(&mut self, file: u32) {
        let Some(opened) = self.opened.remove(&file) else { return };
        let (owners, soon) = match opened.kind {
            Kind::Process => (vec![PROCESS], vec![]),
            Kind::Ofd | Kind::Flock => (vec![], vec![opened.owner()]),
        };
        let close = || {
            drop(opened.file);
            Answer::Ok
        };
        self.shared.log.call(Call::Close { open: opened.number, owners, soon }, close).expect("the log");
    }
}

/// Cells come first, then records.
fn open_file(folder: &Path, file: u32, files: u32) -> File {
    let (mut options, name) =
        (OpenOptions::new(), if file < files { cells_name(file) } else { records_name(file - files) });
    options.read(true).write(true).append(file >= files);
    options.open(folder.join(&name)).unwrap_or_else(|error| panic!("open {name}: {error}"))
}
