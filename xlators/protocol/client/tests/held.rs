//! Locks of several clients over connections that are cut in the middle of anything: nobody loses one, and no two hold
//! what only one may.

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::*;
use brickwork_testkit::{Client, MemoryLeaf, block_on, cx};
use parking_lot::Mutex;

use stack::proxy::Proxy;
use stack::{Way, client_options, connect, place, serve};

/// Clients, each the one owner of its locks.
const CLIENTS: usize = 4;
/// Bytes that they lock.
const BYTES: u64 = 8;
/// Rounds that do not get on for this long are stuck.
const STALL_MAX: Duration = Duration::from_secs(15);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn seed() -> u64 {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(Gfid::random().to_bytes()[8..].try_into().unwrap()));
    println!("BRICKWORK_SEED={seed}");
    seed | 1
}

/// What each client knows that it holds, byte by byte: noted after a grant and struck out before it is given up.
#[derive(Default)]
struct Ledger(Mutex<[[Option<LkType>; BYTES as usize]; CLIENTS]>);

impl Ledger {
    fn note(&self, who: usize, range: &LkRange) {
        let mut held = self.0.lock();
        for byte in range.start as usize..range.end as usize {
            for other in (0..CLIENTS).filter(|other| *other != who) {
                let theirs = held[other][byte];
                let harmless = theirs.is_none() || (theirs, range.kind) == (Some(LkType::Read), LkType::Read);
                assert!(harmless, "client {who} was granted {range:?}, and client {other} holds {theirs:?} there");
            }
            held[who][byte] = Some(range.kind);
        }
    }

    fn strike_out(&self, who: usize, range: &LkRange) {
        self.0.lock()[who][range.start as usize..range.end as usize].fill(None);
    }
}

/// One client with one lock owner, which asks for one thing after the other.
struct Caller {
    xlator: Arc<dyn Xlator>,
    cx: Cx,
    opens: u64,
}

impl Caller {
    fn new(xlator: &Arc<dyn Xlator>) -> Caller {
        let cx = Cx { lk_owner: LkOwner::from_u64(7), ..cx() };
        Caller { xlator: xlator.clone(), cx, opens: 0 }
    }

    fn call<F: FopType>(&mut self, request: &F::Request) -> FopResult<F::Reply> {
        self.cx.request.sequence += 1;
        block_on(F::call(&*self.xlator, &self.cx, request))
    }

    fn open(&mut self, gfid: Gfid) -> OpenFile {
        self.opens += 1;
        let file = OpenFile { gfid, open: OpenId(self.opens) };
        let request = OpenReq { file, flags: 2, kill_set_id: false, xdata: Xdata::EMPTY };
        self.call::<fop::Open>(&request).expect("an open");
        file
    }

    fn release(&mut self, file: OpenFile) {
        self.call::<fop::Release>(&ReleaseReq { file, xdata: Xdata::EMPTY }).expect("a release");
    }

    fn lk(&mut self, file: OpenFile, command: LkCommand, range: LkRange) -> FopResult<LkReply> {
        let request = LkReq { file, command, kind: LkKind::Posix, range, xdata: Xdata::EMPTY };
        self.call::<fop::Lk>(&request)
    }
}

struct Worker<'a> {
    number: usize,
    caller: Caller,
    file: OpenFile,
    ledger: &'a Ledger,
    random: Random,
}

impl Worker<'_> {
    /// Whether it was granted.
    fn lk(&mut self, command: LkCommand, range: LkRange) -> bool {
        match self.caller.lk(self.file, command, range) {
            Ok(_) => true,
            Err(error) if error.errno() == Errno::EAGAIN && command == LkCommand::Set => false,
            Err(error) => panic!("client {}, {command:?} {range:?}: {error}", self.number),
        }
    }

    /// Takes a lock, does something under it, changes it perhaps, and gives it up by one of the ways there are.
    fn round(&mut self) {
        let (one, other) = (self.random.below(BYTES), self.random.below(BYTES));
        let kind = if self.random.below(2) == 0 { LkType::Read } else { LkType::Write };
        let range = LkRange { kind, start: one.min(other), end: one.max(other) + 1, pid: self.number as u32 };
        let command = if self.random.below(2) == 0 { LkCommand::Set } else { LkCommand::SetWait };
        if !self.lk(command, range) {
            return;
        }
        self.ledger.note(self.number, &range);
        let read = ReadReq { file: self.file, offset: 0, size: 1, xdata: Xdata::EMPTY };
        self.caller.call::<fop::Read>(&read).expect("a file whose locks are held is read");
        let other = if kind == LkType::Read { LkType::Write } else { LkType::Read };
        let changed = LkRange { kind: other, ..range };
        if self.random.below(2) == 0 {
            if other == LkType::Read {
                self.ledger.strike_out(self.number, &range);
            }
            if self.lk(LkCommand::Set, changed) {
                self.ledger.note(self.number, &changed);
            }
        }
        self.ledger.strike_out(self.number, &range);
        match self.random.below(3) {
            0 => {
                let flush = FlushReq { file: self.file, xdata: Xdata::EMPTY };
                self.caller.call::<fop::Flush>(&flush).expect("a flush");
            }
            1 => {
                self.caller.release(self.file);
                self.file = self.caller.open(self.file.gfid);
            }
            _ => assert!(self.lk(LkCommand::Set, LkRange { kind: LkType::Unlock, ..range }), "an unlock"),
        }
    }
}

#[test]
fn connections_cut_within_a_frame_lose_no_lock_and_give_none_to_two() {
    let full = std::env::var("BRICKWORK_ROUNDS").as_deref() == Ok("full");
    let wanted = if full { 2_000 } else { 150 };
    let mut random = Random(seed());
    let files = tempfile::tempdir().unwrap();
    let leaf = stack::locks(Arc::new(MemoryLeaf::new()));
    let server = serve(Way::Tcp, files.path(), leaf.clone(), &[("eos", "memory")]);
    let proxy = Proxy::to(&place(&server));
    let client = connect(&client_options(Way::Tcp, files.path(), proxy.place()));
    let (ledger, over, rounds) = (Ledger::default(), AtomicBool::new(false), AtomicU64::new(0));
    let gfid = Client::new(client.clone()).put(Gfid::ROOT, "file", b"x").unwrap();
    // The connection that is there was made to last.
    proxy.wear_out_after(4_000);
    proxy.cut();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (random, ledger) = (Random(random.below(u64::MAX) | 1), &ledger);
                let (over, rounds, mut caller) = (&over, &rounds, Caller::new(&client));
                scope.spawn(move || {
                    let file = caller.open(gfid);
                    let mut worker = Worker { number, caller, file, ledger, random };
                    while !over.load(Ordering::Relaxed) {
                        worker.round();
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    worker.caller.release(worker.file);
                })
            })
            .collect();
        let mut seen = (0, Instant::now());
        while workers.iter().any(|worker| !worker.is_finished()) {
            let enough = proxy.worn_out() >= wanted || workers.iter().any(|worker| worker.is_finished());
            over.fetch_or(enough, Ordering::Relaxed);
            // Enough for greeting, attaches and claims, at times just so.
            proxy.wear_out_after(if enough { 0 } else { 4_000 + random.below(20_000) });
            std::thread::sleep(Duration::from_millis(2));
            let now = rounds.load(Ordering::Relaxed);
            if now != seen.0 {
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > STALL_MAX {
                // No panic: the workers that hang would be waited for.
                eprintln!(
                    "no round after {now}, over {enough}: {} {} {}",
                    client.status(),
                    server.status(),
                    leaf.status()
                );
                std::process::exit(101);
            }
        }
    });
    println!("{} rounds, {} cuts", rounds.load(Ordering::Relaxed), proxy.worn_out());
    let status = client.status();
    assert_eq!((&status["locks"], &status["locks_lost"], &status["opens"]), (&0.into(), &0.into(), &0.into()));
    // Nothing is left at the brick either: whoever comes gets everything.
    let mut caller = Caller::new(&client);
    let file = caller.open(gfid);
    let everything = LkRange { kind: LkType::Write, start: 0, end: u64::MAX, pid: 9 };
    caller.lk(file, LkCommand::Set, everything).unwrap();
    block_on(client.stop());
    stack::stop(&server);
    stack::RUNTIME.block_on(leaf.stop());
}
