//! A client: one thread, one log, one owner.

use brickwork_check::log::{Answer, CELL, Call, Family, Log, Mode, Span, What};

use super::brick::{Brick, CELLS, EDEADLK, EIO};
use super::{FILES, Random};

/// The cell of each file that is a counter; the others hold tokens.
const COUNTER: u64 = (CELLS as u64 - 1) * CELL;
/// The client that is killed.
const KILLED: u32 = 3;

struct Client<'a> {
    brick: &'a Brick,
    log: Log,
    me: u32,
    random: Random,
    tokens: u64,
    opens: u32,
    /// The open file, by file.
    open: [u32; FILES as usize],
    held: [[Option<Mode>; CELLS + 1]; FILES as usize],
}

/// Does `calls` things and ends; the one that is killed ends in the middle of something.
pub fn work(brick: &Brick, log: Log, observer: &Log, me: u32, seed: u64, calls: usize) {
    let random = Random::from_seed(seed.wrapping_add(u64::from(me) * 7919));
    let mut client = Client { brick, log, me, random, tokens: 0, opens: 0, open: [0; 2], held: Default::default() };
    (0..FILES).for_each(|file| client.open(file));
    for number in 0..calls {
        if client.step().is_none() {
            // It waits for ever: its log has no more lines.
            brick.end(me);
            return;
        }
        if me == KILLED && number > calls / 2 && client.held != <[[Option<Mode>; CELLS + 1]; 2]>::default() {
            observer.note(What::Kill { process: me }).expect("the log");
            brick.end(me);
            observer.note(What::Reaped { process: me }).expect("the log");
            return;
        }
    }
    client.log.note(What::End).expect("the log");
    brick.end(me);
}

impl Client<'_> {
    fn open(&mut self, file: u32) {
        self.open[file as usize] = self.opens;
        self.log.note(What::Open { open: self.opens, mount: 0, file }).expect("the log");
        self.opens += 1;
    }

    /// One thing; `None` when it never comes back.
    fn step(&mut self) -> Option<()> {
        let file = self.random.below(FILES.into()) as u32;
        let mode = if self.random.below(3) == 0 { Mode::Read } else { Mode::Write };
        let span = self.span();
        match self.random.below(100) {
            0..20 => {
                self.release_all();
                self.wait(file, span, mode)?;
            }
            20..35 => self.upgrade(file)?,
            35..50 => self.try_lock(file, span, mode),
            50..60 => self.test(file, span, mode),
            60..75 => self.unlock(file, span),
            75..85 => self.count(file)?,
            85..95 => self.append(file),
            _ => self.close(file),
        }
        self.use_cells(file);
        std::thread::yield_now();
        Some(())
    }

    fn span(&mut self) -> Span {
        let first = self.random.below(CELLS as u64);
        let last = first + 1 + self.random.below(4);
        if last > CELLS as u64 { Span(first * CELL, u64::MAX) } else { Span(first * CELL, last * CELL) }
    }

    /// Makes a call; one that tells of a loss is followed by a close.
    fn call(&mut self, file: u32, does: Call, make: impl FnOnce(&Brick) -> Answer) -> Answer {
        let answer = self.log.call(does, || make(self.brick)).expect("the log");
        self.heed(file, answer);
        answer
    }

    fn heed(&mut self, file: u32, answer: Answer) {
        if answer == Answer::Failed(EIO) {
            self.close(file);
        }
        if answer == Answer::Failed(EDEADLK) {
            self.release_all();
        }
    }

    fn set(&mut self, file: u32, span: Span, mode: Option<Mode>) {
        let end = span.1.div_ceil(CELL).min(CELLS as u64 + 1) as usize;
        self.held[file as usize][(span.0 / CELL) as usize..end].fill(mode);
    }

    fn lock(&mut self, file: u32, span: Span, mode: Mode, wait: bool) -> Call {
        Call::Lock { open: self.open[file as usize], owner: self.me, family: Family::Posix, mode, span, wait }
    }

    fn wait(&mut self, file: u32, span: Span, mode: Mode) -> Option<Answer> {
        let (me, does) = (self.me, self.lock(file, span, mode, true));
        let call = self.log.begin(does).expect("the log");
        let queued = || self.log.note(What::Queued { process: me, call }).expect("the log");
        let (answer, again) = self.brick.wait(file, me, span, mode, queued);
        let answer = answer?;
        self.log.end(call, answer).expect("the log");
        if let Some(again) = again {
            self.log.end(call, again).expect("the log");
        }
        if answer == Answer::Ok {
            self.set(file, span, Some(mode));
        }
        self.heed(file, answer);
        Some(answer)
    }

    /// Waits to write what it may read; it holds nothing else, so that two at most wait for each other.
    fn upgrade(&mut self, file: u32) -> Option<()> {
        self.release_but(Some(file));
        if let Some(cell) = self.held[file as usize][..CELLS].iter().position(|held| *held == Some(Mode::Read)) {
            let span = Span::cell(cell as u64 * CELL);
            if cell > 0 {
                self.unlock(file, Span(0, span.0));
            }
            self.unlock(file, Span(span.1, u64::MAX));
            self.wait(file, span, Mode::Write)?;
        }
        Some(())
    }

    fn try_lock(&mut self, file: u32, span: Span, mode: Mode) {
        let (me, does) = (self.me, self.lock(file, span, mode, false));
        if self.call(file, does, |brick| brick.try_lock(file, me, span, mode)) == Answer::Ok {
            self.set(file, span, Some(mode));
        }
    }

    fn test(&mut self, file: u32, span: Span, mode: Mode) {
        let (me, open) = (self.me, self.open[file as usize]);
        let does = Call::Test { open, owner: me, family: Family::Posix, mode, span };
        self.call(file, does, |brick| brick.test(file, me, span, mode));
    }

    fn unlock(&mut self, file: u32, span: Span) {
        self.set(file, span, None);
        let (me, open) = (self.me, self.open[file as usize]);
        let does = Call::Unlock { open, owner: me, family: Family::Posix, span };
        self.call(file, does, |brick| brick.unlock(file, me, span));
    }

    fn release_all(&mut self) {
        self.release_but(None);
    }

    fn release_but(&mut self, kept: Option<u32>) {
        for file in (0..FILES).filter(|file| Some(*file) != kept) {
            if self.held[file as usize].iter().any(Option::is_some) {
                self.unlock(file, Span::ALL);
            }
        }
    }

    /// Increments the counter of a file.
    fn count(&mut self, file: u32) -> Option<()> {
        self.release_all();
        if self.wait(file, Span::cell(COUNTER), Mode::Write)? != Answer::Ok {
            return Some(());
        }
        if let Answer::Token(number) = self.read(file, COUNTER) {
            std::thread::yield_now();
            // Who was told of a loss does not write.
            if self.held[file as usize][CELLS - 1] == Some(Mode::Write) {
                self.write(file, COUNTER, number + 1);
            }
        }
        Some(())
    }

    /// Reads and writes some of the cells that are locked, the counter excepted.
    fn use_cells(&mut self, file: u32) {
        for cell in 0..CELLS - 1 {
            let at = cell as u64 * CELL;
            match (self.held[file as usize][cell], self.random.below(4)) {
                (Some(Mode::Write), 0) => {
                    self.tokens += 1;
                    let token = u64::from(self.me + 1) << 40 | self.tokens;
                    self.write(file, at, token);
                }
                (Some(_), 1) => drop(self.read(file, at)),
                _ => (),
            }
        }
    }

    fn read(&mut self, file: u32, at: u64) -> Answer {
        let (me, open) = (self.me, self.open[file as usize]);
        self.call(file, Call::Read { open, owner: me, at }, |brick| brick.read(file, me, at))
    }

    fn write(&mut self, file: u32, at: u64, token: u64) {
        let (me, open) = (self.me, self.open[file as usize]);
        self.call(file, Call::Write { open, owner: me, at, token }, |brick| brick.write(file, me, at, token));
    }

    fn append(&mut self, file: u32) {
        self.tokens += 1;
        let token = u64::from(self.me + 1) << 40 | self.tokens;
        let (me, open) = (self.me, self.open[file as usize]);
        self.call(file, Call::Append { open, token }, |brick| brick.append(file, me, token));
    }

    fn close(&mut self, file: u32) {
        self.set(file, Span::ALL, None);
        let does = Call::Close { open: self.open[file as usize], owners: vec![self.me], soon: Vec::new() };
        let close = || {
            self.brick.close(file, self.me);
            Answer::Ok
        };
        self.log.call(does, close).expect("the log");
        self.open(file);
    }
}
