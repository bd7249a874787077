//! What a restart makes of the journal, against the run that wrote it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::locks::{Attaching, Claim, Claims, GivenUp, LostBy, RECLAIM_LOCK};
use brickwork_api::options::OptionMap;
use brickwork_api::ranges::ByteRange;
use brickwork_api::*;
use brickwork_graph::host::TokioHost;
use brickwork_testkit::{MemoryLeaf, poll_once};
use tempfile::TempDir;

use crate::brick::Brick;
use crate::journal::Ledger;
use crate::options::{LockJournal, LocksOptions};
use crate::record::Record;
use crate::store::{KINDS, Store};

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Numbers that look random, from a seed that is printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn bool(&mut self) -> bool {
        self.roll(2) == 0
    }
}

fn seed() -> u64 {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| ClientId::random().0 as u64 | 1);
    println!("BRICKWORK_SEED={seed}");
    seed
}

fn rounds(few: u64, many: u64) -> u64 {
    if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { many } else { few }
}

struct World {
    brick: Arc<Brick>,
    host: Arc<dyn Host>,
    folder: TempDir,
}

fn options(of: &[(&'static str, &str)], folder: &TempDir) -> LocksOptions {
    let mut map: OptionMap = of.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    map.insert("journal-directory", folder.path().to_str().expect("UTF-8"));
    LocksOptions::parse(&map).expect("options")
}

const TAKES_OVER: &[(&str, &str)] = &[("reclaim-lock", "on"), ("reclaim-from", "any")];

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let host: Arc<dyn Host> = Arc::new(TokioHost::new(tokio::runtime::Handle::current()));
        let options = options(TAKES_OVER, &folder);
        let up = Upward::new(|_| {});
        let brick = Brick::new("locks".into(), Arc::new(MemoryLeaf::new()), host.clone(), up, options);
        let world = World { brick: Arc::new(brick), host, folder };
        world.brick.start().expect("started");
        world
    }

    fn attach(&self, client: ClientId) {
        let attaching =
            Attaching { incarnation: 1, keep: vec![], detach_timeout_ms: 1_000, host: "web01".into(), group: None };
        self.brick.attached(client, attaching);
        // The durable record is not what is looked at here, and costs a disk.
        self.brick.store.clients.of(client).recorded.store(true, Ordering::Release);
    }

    /// What the journal alone makes of the run so far.
    fn replayed(&self) -> Store {
        let copy = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(self.folder.path().join("journal")).expect("a folder") {
            let entry = entry.expect("an entry");
            std::fs::create_dir_all(copy.path().join("journal")).expect("a folder");
            std::fs::copy(entry.path(), copy.path().join("journal").join(entry.file_name())).expect("a copy");
        }
        let (_ledger, past) = Ledger::open(LockJournal::Process, copy.path()).expect("a journal");
        assert_eq!(past.lost, None);
        let store = Store::new(0);
        past.records.iter().for_each(|record| store.replay(record));
        store
    }

    fn compare(&self) {
        let (live, again) = loop {
            let (live, again) = (described(&self.brick.store), self.replayed());
            // The brick's own task may have taken locks from somebody whose time was up in between.
            if live == described(&self.brick.store) {
                break (live, described(&again));
            }
        };
        let only = |of: &[String], other: &[String]| -> Vec<String> {
            of.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        assert!(live == again, "live only: {:#?}\nagain only: {:#?}", only(&live, &again), only(&again, &live));
    }
}

/// All that a snapshot says, in an order of its own.
fn described(store: &Store) -> Vec<String> {
    let mut places: HashMap<(Gfid, String), usize> = HashMap::new();
    let mut lines = Vec::new();
    store.snapshot(&mut |record| {
        // What counts of waiters is their order.
        let queue = match record {
            Record::Waiting(lk, ..) => Some((lk.gfid, format!("{:?}", lk.kind))),
            Record::BetweenWaiting(lk, _) => Some((lk.gfid, lk.domain.clone())),
            _ => None,
        };
        let place = queue.map(|queue| {
            let place = places.entry(queue).or_default();
            *place += 1;
            *place
        });
        lines.push(format!("{record:?} {place:?}"));
    });
    lines.sort_unstable();
    lines.push(format!("{} held, {} wait", store.held(), store.waits.count()));
    lines
}

/// What the store counts, against what there is.
fn check_counts(store: &Store) {
    for client in store.clients.all() {
        let held = store.held_by(&client) as i64;
        assert!(client.held.load(Ordering::Relaxed) >= held, "a client holds {held}");
    }
    for shard in store.shards() {
        for (_, inode) in shard.iter() {
            for lock in KINDS.iter().filter_map(|kind| inode.table(*kind)).flat_map(|table| table.locks()) {
                assert!(store.clients.owner(lock.owner).may_be_waited_for(), "{lock:?} is not counted");
            }
        }
    }
}

static OWNERS: AtomicU64 = AtomicU64::new(0);

/// Somebody who does anything at all to a brick.
struct Actor {
    brick: Arc<Brick>,
    host: Arc<dyn Host>,
    clients: Vec<ClientId>,
    dice: Dice,
    sequences: HashMap<(ClientId, u32), u64>,
    former: Vec<(Cx, LkReq)>,
    waiting: Vec<(Cx, Call)>,
}

impl Actor {
    fn new(world: &World, clients: Vec<ClientId>, seed: u64) -> Actor {
        Actor {
            brick: world.brick.clone(),
            host: world.host.clone(),
            clients,
            dice: Dice(seed | 1),
            sequences: HashMap::new(),
            former: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn client(&mut self) -> ClientId {
        self.clients[self.dice.roll(self.clients.len() as u64) as usize]
    }

    fn gfid(&mut self) -> Gfid {
        Gfid::from_bytes([1 + self.dice.roll(3) as u8; 16])
    }

    fn file(&mut self) -> OpenFile {
        OpenFile { gfid: self.gfid(), open: OpenId(1 + self.dice.roll(4)) }
    }

    fn owner(&mut self) -> LkOwner {
        LkOwner::from_u64(1 + self.dice.roll(3))
    }

    fn cx(&mut self) -> Cx {
        let client = self.client();
        let slot = self.dice.roll(24) as u32;
        // A slot is used again when its request was answered.
        let busy = self.waiting.iter().any(|(cx, _)| (cx.request.client, cx.request.slot) == (client, slot));
        let slot = if busy { 1_000 + OWNERS.fetch_add(1, Ordering::Relaxed) as u32 } else { slot };
        let sequence = self.sequences.entry((client, slot)).or_default();
        *sequence += 1;
        let request = RequestId { client, slot, sequence: *sequence };
        Cx { request, lk_owner: self.owner(), cancel: Cancel::new(), ..Cx::internal(client, self.host.clone()) }
    }

    fn range(&mut self) -> (u64, u64) {
        let start = self.dice.roll(12);
        (start, if self.dice.roll(12) == 0 { u64::MAX } else { start + 1 + self.dice.roll(6) })
    }

    fn lk_request(&mut self) -> LkReq {
        let (start, end) = self.range();
        let kind = [LkType::Read, LkType::Write, LkType::Unlock][self.dice.roll(3) as usize];
        let command = if self.dice.roll(3) == 0 { LkCommand::Set } else { LkCommand::SetWait };
        let xdata = match self.dice.roll(12) {
            0 if kind != LkType::Unlock => Xdata::EMPTY.with(&RECLAIM_LOCK, true),
            _ => Xdata::EMPTY,
        };
        let family = if self.dice.roll(4) == 0 { LkKind::Flock } else { LkKind::Posix };
        LkReq { file: self.file(), command, kind: family, range: LkRange { kind, start, end, pid: 1 }, xdata }
    }

    fn lk(&mut self, cx: Cx, request: LkReq) {
        let (brick, held) = (self.brick.clone(), cx.clone());
        let call = async move { drop(brick.lk(&held, &request).await) };
        self.begin(cx, Box::pin(call));
    }

    fn begin(&mut self, cx: Cx, mut call: Call) {
        if poll_once(call.as_mut()).is_pending() {
            self.waiting.push((cx, call));
        }
    }

    fn between(&mut self) {
        let (cx, brick) = (self.cx(), self.brick.clone());
        let target = Target { gfid: self.gfid(), open: None };
        let domain = ["one", "two"][self.dice.roll(2) as usize].to_owned();
        let command =
            [XlatorLkCommand::Lock, XlatorLkCommand::TryLock, XlatorLkCommand::Unlock][self.dice.roll(3) as usize];
        let kind = if self.dice.bool() { LkType::Read } else { LkType::Write };
        let held = cx.clone();
        let call: Call = if self.dice.bool() {
            let start = self.dice.roll(3);
            let range = LkRange { kind, start, end: start + 2, pid: 1 };
            let request = InodelkReq { domain, target, command, range, xdata: Xdata::EMPTY };
            Box::pin(async move { drop(brick.inodelk(&held, &request).await) })
        } else {
            let name = (self.dice.roll(3) > 0).then(|| Name::new(b"name").expect("a name"));
            let request = EntrylkReq { domain, target, name, command, kind, xdata: Xdata::EMPTY };
            Box::pin(async move { drop(brick.entrylk(&held, &request).await) })
        };
        self.begin(cx, call);
    }

    /// Lets calls that were answered end.
    fn tidy(&mut self) {
        self.waiting.retain_mut(|(_, call)| poll_once(call.as_mut()).is_pending());
    }

    fn step(&mut self) {
        match self.dice.roll(40) {
            0..16 => {
                let (cx, request) = (self.cx(), self.lk_request());
                self.former.push((cx.clone(), request.clone()));
                self.lk(cx, request);
            }
            16..22 => self.between(),
            22 => self.again(),
            23 if !self.waiting.is_empty() => {
                let waiting = self.dice.roll(self.waiting.len() as u64) as usize;
                self.waiting[waiting].0.cancel.cancel();
            }
            24 => self.give_up(),
            25..27 => {
                let (cx, file) = (self.cx(), self.file());
                let brick = self.brick.clone();
                let call = {
                    let cx = cx.clone();
                    async move { brick.flushed(&cx, file.gfid).await.expect("flushed") }
                };
                self.begin(cx, Box::pin(call));
            }
            27..29 => {
                let (cx, file) = (self.cx(), self.file());
                let brick = self.brick.clone();
                let call = {
                    let cx = cx.clone();
                    async move { brick.released(&cx, file.gfid, file.open).await.expect("released") }
                };
                self.begin(cx, Box::pin(call));
            }
            29 => {
                let client = self.client();
                self.brick.ended(client);
                if self.dice.bool() {
                    self.back(client);
                }
            }
            30 => {
                let client = self.client();
                let silent_ms = if self.dice.bool() { 0 } else { 1_000_000 };
                self.brick.detached(client, silent_ms);
                self.brick.expire_contended();
            }
            31..33 => {
                let client = self.client();
                self.back(client);
            }
            33 => self.claim(),
            34 => self.take(),
            35 => {
                let max = [3, 5, 4_194_304][self.dice.roll(3) as usize];
                let options = LocksOptions { inode_max: max, ..LocksOptions::clone(&self.brick.options.load()) };
                self.brick.reconfigure(options);
            }
            _ => {}
        }
        self.tidy();
    }

    fn back(&mut self, client: ClientId) {
        let attaching =
            Attaching { incarnation: 1, keep: vec![], detach_timeout_ms: 1_000, host: "web01".into(), group: None };
        self.brick.attached(client, attaching);
        self.brick.store.clients.of(client).recorded.store(true, Ordering::Release);
    }

    /// A call is made again whose answer was lost, if it was the last in its slot.
    fn again(&mut self) {
        let Some((cx, request)) = self.former.pop() else { return };
        let RequestId { client, slot, sequence } = cx.request;
        if self.sequences.get(&(client, slot)) == Some(&sequence) {
            let cx = Cx { cancel: Cancel::new(), ..cx };
            self.lk(cx, request);
        }
    }

    fn give_up(&mut self) {
        let Some((cx, _)) = self.former.pop() else { return };
        let RequestId { client, slot, sequence } = cx.request;
        if self.sequences.get(&(client, slot)) == Some(&sequence) {
            self.brick.given_up(client, GivenUp { slot, sequence });
        }
    }

    fn claim(&mut self) {
        let (client, file, owner, (start, end)) = (self.client(), self.file(), self.owner(), self.range());
        let ranges = vec![LkRange { kind: LkType::Read, start, end, pid: 1 }];
        let claim = Claim { gfid: file.gfid, open: file.open, kind: LkKind::Posix, owner, ranges };
        let (brick, cx) = (self.brick.clone(), self.cx());
        let claims = Claims { claims: vec![claim], complete: true };
        self.begin(cx, Box::pin(async move { drop(brick.claimed(client, claims).await) }));
    }

    fn take(&mut self) {
        let (gfid, (start, end)) = (self.gfid(), self.range());
        let range = ByteRange::new(start, end).expect("a range");
        let fence = self.dice.bool();
        let between = self.dice.bool();
        let taken = self
            .brick
            .store
            .shard(gfid)
            .inode(gfid)
            .and_then(|inode| inode.between().and_then(|between| between.locks().next().map(|(_, lock)| lock.id)));
        if let (true, Some(id)) = (between, taken) {
            self.brick.take_between(gfid, id);
            return;
        }
        self.brick.change(gfid, |shard, held, news| {
            let table = shard.inode(gfid).and_then(|inode| inode.table(LkKind::Posix));
            if let Some(owner) = table.and_then(|table| table.locks().next()).map(|lock| lock.owner) {
                let _ = self.brick.take(shard, held, (gfid, LkKind::Posix, owner), range, (LostBy::Drop, fence), news);
            }
            ((), None)
        });
    }
}

fn rotate(brick: &Brick) {
    let still = brick.ledger().still();
    still.rotate(|write| brick.store.snapshot(write)).expect("a snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_makes_is_what_there_was_at_any_moment_and_from_any_snapshot() {
    let seed = seed();
    for round in 0..rounds(4, 400) {
        let world = World::new();
        let clients: Vec<ClientId> = (1..=4).map(ClientId).collect();
        clients.iter().take(3).for_each(|client| world.attach(*client));
        let mut actor = Actor::new(&world, clients, seed.wrapping_mul(round * 2 + 1));
        for step in 0..400 {
            actor.step();
            check_counts(&world.brick.store);
            if step % 20 == 19 {
                world.compare();
                // In every other round the journal is whole.
                if round % 2 == 0 && actor.dice.bool() {
                    rotate(&world.brick);
                    world.compare();
                }
            }
        }
        world.brick.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_do_at_once_is_in_the_journal_in_the_order_in_which_it_was_done() {
    let seed = seed();
    for round in 0..rounds(2, 200) {
        let world = World::new();
        let clients: Vec<ClientId> = (1..=4).map(ClientId).collect();
        clients.iter().for_each(|client| world.attach(*client));
        let threads: Vec<_> = clients
            .iter()
            .map(|client| {
                let mut actor = Actor::new(&world, vec![*client], seed.wrapping_mul(round * 8 + client.0 as u64));
                std::thread::spawn(move || (0..600).for_each(|_| actor.step()))
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        world.compare();
        check_counts(&world.brick.store);
        world.brick.stop();
    }
}
