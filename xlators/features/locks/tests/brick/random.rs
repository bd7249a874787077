//! Clients that do anything: nobody is told that it holds what somebody else may rely on, and every wait is answered.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::{Duration, Instant};

use brickwork_api::locks::{CLAIM, Claim, Claims, GIVEN_UP, GivenUp, Verdict};
use brickwork_api::*;
use brickwork_codec::{decode, encode};
use brickwork_testkit::poll_once;

use crate::world::{Call, Client, FILE, PROTECTED, World};

const CLIENTS: usize = 3;
const OWNERS: u64 = 2;
const CELLS: u64 = 4;

/// Which client, which of its owners.
type Who = (usize, u64);
type Answer = Pin<Box<dyn Future<Output = Result<LkRange, FopError>> + Send>>;

struct Wait {
    who: Who,
    cell: u64,
    call: Call,
    /// None: answered when nobody could hear it.
    answer: Option<Answer>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    /// Since when each is away.
    away: Vec<Option<Instant>>,
    incarnation: u32,
    believed: HashMap<Who, HashSet<u64>>,
    opens: HashMap<Who, u64>,
    waits: Vec<Wait>,
    dice: u64,
}

fn asked(call: &Call, cell: u64) -> Answer {
    let call = call.clone();
    let range = LkRange { kind: LkType::Write, start: cell, end: cell + 1, pid: 42 };
    let file = OpenFile { gfid: FILE.gfid, open: call.open };
    let request = LkReq { file, command: LkCommand::SetWait, kind: LkKind::Posix, range, xdata: Xdata::EMPTY };
    // Without a time limit: it ends when the others let go.
    Box::pin(async move { call.locks.lk(&call.cx, &request).await.map(|reply| reply.range) })
}

impl Run {
    fn new(seed: u64) -> Run {
        let world = World::new(&[]);
        let clients: Vec<Client> = (0..CLIENTS).map(|_| world.client()).collect();
        let (believed, opens) = (HashMap::new(), HashMap::new());
        Run {
            world,
            clients,
            away: vec![None; CLIENTS],
            incarnation: 1,
            believed,
            opens,
            waits: vec![],
            dice: seed | 1,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % below
    }

    fn open(&self, who: Who) -> OpenId {
        let generation = self.opens.get(&who).copied().unwrap_or(0);
        OpenId(1 + generation * 100 + who.0 as u64 * 10 + who.1)
    }

    fn call(&self, who: Who) -> Call {
        Call { open: self.open(who), ..self.world.request(&self.clients[who.0], who.1) }
    }

    /// `who` is told that it holds a cell.
    fn granted(&mut self, who: Who, cell: u64) {
        for (other, cells) in &self.believed {
            let relies = cells.contains(&cell) && *other != who;
            let trusts = self.away[other.0].is_none_or(|since| since.elapsed() < PROTECTED.mul_f32(0.9));
            assert!(!(relies && trusts), "{who:?} is granted {cell}, on which {other:?} relies");
        }
        self.believed.entry(who).or_default().insert(cell);
    }

    /// Whoever lost a lock closes the file.
    async fn close(&mut self, who: Who) {
        self.believed.remove(&who);
        let call = self.call(who);
        let file = OpenFile { gfid: FILE.gfid, open: call.open };
        // The leaf knows no such open.
        let _ = self.world.locks.release(&call.cx, &ReleaseReq { file, xdata: Xdata::EMPTY }).await;
        *self.opens.entry(who).or_default() += 1;
    }

    /// Hears what has been answered.
    async fn hear(&mut self) {
        let mut index = 0;
        while index < self.waits.len() {
            let wait = &mut self.waits[index];
            let heard = wait.answer.as_mut().map(|answer| poll_once(answer.as_mut()));
            let (who, cell) = (wait.who, wait.cell);
            match heard {
                Some(std::task::Poll::Ready(_)) if self.away[who.0].is_some() => wait.answer = None,
                Some(std::task::Poll::Ready(answer)) => {
                    self.waits.swap_remove(index);
                    match answer.map_err(|error| error.errno()) {
                        Ok(_) => self.granted(who, cell),
                        Err(Errno::EINTR | Errno::EDEADLK | Errno::EBADF) => {}
                        Err(Errno::EIO) => self.close(who).await,
                        Err(errno) => panic!("a wait answers {errno:?}"),
                    }
                    continue;
                }
                Some(std::task::Poll::Pending) | None => {}
            }
            index += 1;
        }
    }

    async fn back(&mut self, client: usize) {
        if self.away[client].is_none() {
            return;
        }
        self.incarnation += 1;
        self.world.attach(&self.clients[client], self.incarnation, None);
        // Some calls were given up meanwhile.
        let mut index = 0;
        while index < self.waits.len() {
            if self.waits[index].who.0 == client && self.waits[index].answer.is_none() && self.roll(2) == 0 {
                let RequestId { slot, sequence, .. } = self.waits.swap_remove(index).call.cx.request;
                self.world.ask_now(&self.clients[client], GIVEN_UP, encode(&GivenUp { slot, sequence }));
            } else {
                index += 1;
            }
        }
        for owner in 0..OWNERS {
            let who = (client, owner + 1);
            let Some(cells) = self.believed.get(&who).filter(|cells| !cells.is_empty()) else { continue };
            let mut cells: Vec<u64> = cells.iter().copied().collect();
            cells.sort_unstable();
            let range = |cell: &u64| LkRange { kind: LkType::Write, start: *cell, end: cell + 1, pid: 1 };
            let claim = Claim {
                gfid: FILE.gfid,
                open: self.open(who),
                kind: LkKind::Posix,
                owner: LkOwner::from_u64(who.1),
                ranges: cells.iter().map(range).collect(),
            };
            let payload = encode(&Claims { claims: vec![claim], complete: false }).into();
            let cx = Cx::internal(self.clients[client].id, self.world.host.clone());
            let request = IpcReq { operation: CLAIM.to_owned(), payload, xdata: Xdata::EMPTY };
            let answer = self.world.locks.ipc(&cx, &request).await.expect("verdicts");
            let verdicts: Vec<Verdict> = decode(&answer.payload).expect("verdicts");
            if verdicts == [Verdict::Lost] {
                self.close(who).await;
            }
        }
        self.away[client] = None;
        for wait in self.waits.iter_mut().filter(|wait| wait.who.0 == client) {
            if wait.answer.is_none() {
                wait.call.locks = self.world.locks.clone();
                wait.answer = Some(asked(&wait.call, wait.cell));
            }
        }
    }

    /// Whether an owner has a cell or waits for it: which of two calls of one owner came last the brick does not know when one
    /// of them is given up.
    fn is_at(&self, who: Who, cell: u64) -> bool {
        self.believed.get(&who).is_some_and(|cells| cells.contains(&cell))
            || self.waits.iter().any(|wait| (wait.who, wait.cell) == (who, cell))
    }

    async fn unlock(&mut self, who: Who, cell: u64) {
        if !self.believed.entry(who).or_default().remove(&cell) {
            return;
        }
        match self.call(who).unlock(cell, cell + 1).await {
            Ok(()) => {}
            Err(Errno::EIO) => self.close(who).await,
            Err(errno) => panic!("an unlock answers {errno:?}"),
        }
    }

    async fn step(&mut self) {
        let who = (self.roll(CLIENTS as u64) as usize, 1 + self.roll(OWNERS));
        let cell = self.roll(CELLS);
        let here = self.away[who.0].is_none();
        match self.roll(40) {
            0..8 if here && !self.is_at(who, cell) => match self.call(who).take(cell, cell + 1).await {
                Ok(()) => self.granted(who, cell),
                Err(Errno::EAGAIN) => {}
                Err(Errno::EIO) => self.close(who).await,
                Err(errno) => panic!("a try answers {errno:?}"),
            },
            8..16 if here && self.waits.len() < 12 && !self.is_at(who, cell) => {
                let call = self.call(who);
                let answer = Some(asked(&call, cell));
                self.waits.push(Wait { who, cell, call, answer });
            }
            16..30 if here => self.unlock(who, cell).await,
            30..32 if !self.waits.is_empty() => {
                let index = self.roll(self.waits.len() as u64) as usize;
                if self.away[self.waits[index].who.0].is_none() {
                    self.waits[index].call.cx.cancel.cancel();
                }
            }
            32 if here => {
                self.world.detach(&self.clients[who.0]);
                self.away[who.0] = Some(Instant::now());
            }
            33..37 => self.back(who.0).await,
            37 if self.roll(8) == 0 => self.kill().await,
            38 if self.roll(4) == 0 => tokio::time::sleep(PROTECTED.mul_f32(1.1)).await,
            _ => tokio::time::sleep(Duration::from_millis(self.roll(4))).await,
        }
        self.hear().await;
    }

    async fn kill(&mut self) {
        self.hear().await;
        self.waits.iter_mut().for_each(|wait| wait.answer = None);
        self.world.kill().await;
        let now = Instant::now();
        // Whoever was away before trusts its locks no longer by that.
        self.away.iter_mut().for_each(|away| _ = away.get_or_insert(now));
    }

    /// Everybody comes back and releases what it has, until nobody waits.
    async fn end(&mut self) {
        for client in 0..CLIENTS {
            self.back(client).await;
        }
        let since = Instant::now();
        loop {
            self.hear().await;
            let held: Vec<(Who, u64)> =
                self.believed.iter().flat_map(|(who, cells)| cells.iter().map(|cell| (*who, *cell))).collect();
            if held.is_empty() && self.waits.is_empty() {
                break;
            }
            for (who, cell) in held {
                self.unlock(who, cell).await;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{} wait for ever", self.waits.len());
            tokio::task::yield_now().await;
        }
        let status = self.world.locks.status();
        assert_eq!((&status["locks"], &status["waiting"]), (&0.into(), &0.into()), "nobody holds what is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_that_it_holds_what_another_relies_on_and_every_wait_is_answered() {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| ClientId::random().0 as u64);
    println!("BRICKWORK_SEED={seed}");
    let runs = if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { 200 } else { 8 };
    let one = |run: u64| {
        tokio::spawn(async move {
            let mut run = Run::new(seed.wrapping_mul(2 * run + 1));
            for _ in 0..400 {
                run.step().await;
            }
            run.end().await;
        })
    };
    for first in (0..runs).step_by(8) {
        let together: Vec<_> = (first..first + 8).map(one).collect();
        for run in together {
            run.await.expect("a run without a violation");
        }
    }
}
