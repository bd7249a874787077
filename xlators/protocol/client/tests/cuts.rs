//! Connections that are cut under work: nothing is lost, nothing is done twice, nobody sees an error.

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::*;
use brickwork_testkit::{Client, MemoryLeaf};

use stack::proxy::Proxy;
use stack::{Way, client_options, connect, place, serve};

/// Workers, each a client of its own.
const WORKERS: usize = 4;
/// A worker that does not get on for this long has lost something.
const STALL_MAX: Duration = Duration::from_secs(30);

/// A leaf behind a server behind a proxy.
struct Far {
    client: Arc<dyn Xlator>,
    proxy: Proxy,
    server: Arc<dyn Xlator>,
    _files: tempfile::TempDir,
}

impl Far {
    fn over(leaf: Arc<dyn Xlator>, options: &[(&str, &str)]) -> Far {
        let files = tempfile::tempdir().unwrap();
        let server = serve(Way::Tcp, files.path(), leaf, options);
        let proxy = Proxy::to(&place(&server));
        let client = connect(&client_options(Way::Tcp, files.path(), proxy.place()));
        Far { client, proxy, server, _files: files }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        brickwork_testkit::block_on(self.client.stop());
        stack::stop(&self.server);
    }
}

/// Numbers without a pattern, from a seed that is printed.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from_be_bytes(Gfid::random().to_bytes()[8..].try_into().unwrap()));
        println!("BRICKWORK_SEED={seed}");
        Random(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn cuts() -> u64 {
    match std::env::var("BRICKWORK_ROUNDS").as_deref() {
        Ok("full") => 200,
        _ => 25,
    }
}

/// One round of what must happen once; every call must say that it did what was asked, and only that.
fn work(c: &Client, folder: Gfid, log: OpenFile, round: u64) {
    let (made, moved, file) = (format!("made-{round}"), format!("moved-{round}"), format!("file-{round}"));
    let directory = c.mkdir(folder, &made).unwrap();
    c.rename((folder, &made), (folder, &moved), RenameMode::NoReplace).unwrap();
    let gfid = c.put(directory, &file, round.to_string().as_bytes()).unwrap();
    assert_eq!(c.content(gfid).unwrap(), round.to_string());
    assert_eq!(c.link(gfid, folder, &file).unwrap().links, 2);
    c.setxattr(gfid, "user.once", b"1", XattrMode::Create).unwrap();
    c.removexattr(gfid, "user.once").unwrap();
    assert_eq!(c.unlink(directory, &file).unwrap().links, 1);
    assert_eq!(c.unlink(folder, &file).unwrap().links, 0);
    c.rmdir(folder, &moved).unwrap();
    let line = format!("{round:08}\n");
    assert_eq!(c.append(log, 0, line.as_bytes()).unwrap() as usize, line.len());
}

/// Whether everybody gets on.
struct Watch<'r> {
    rounds: &'r [AtomicU64; WORKERS],
    seen: [(u64, Instant); WORKERS],
}

impl Watch<'_> {
    fn new(rounds: &[AtomicU64; WORKERS]) -> Watch<'_> {
        Watch { rounds, seen: [(0, Instant::now()); WORKERS] }
    }

    /// Looks once; ends the process when one of those that are not `finished` has stood still for too long.
    fn look(&mut self, far: &Far, finished: impl Fn(usize) -> bool) {
        for (number, (rounds, seen)) in self.rounds.iter().zip(&mut self.seen).enumerate() {
            let now = rounds.load(Ordering::Relaxed);
            if now != seen.0 || finished(number) {
                *seen = (now, Instant::now());
            } else if seen.1.elapsed() > STALL_MAX {
                // No panic: the workers that hang would be waited for.
                let (client, server) = (far.client.status(), far.server.status());
                eprintln!("worker {number} did not get on for {STALL_MAX:?} in round {now}: {client} {server}");
                std::process::exit(101);
            }
        }
    }
}

/// Workers go on while `harm` is done to the proxy; then everything must be there once.
fn nothing_is_lost_and_nothing_done_twice(far: &Far, mut harm: impl FnMut(&Proxy, &mut Random) -> bool) {
    let mut random = Random::new();
    let (over, rounds_done) = (AtomicBool::new(false), Default::default());
    let clients: Vec<Client> = (0..WORKERS).map(|_| Client::new(far.client.clone())).collect();
    std::thread::scope(|scope| {
        let (over, rounds_done): (_, &[AtomicU64; WORKERS]) = (&over, &rounds_done);
        let workers: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(number, c)| {
                scope.spawn(move || {
                    let folder = c.mkdir(Gfid::ROOT, &format!("worker-{number}")).unwrap();
                    let log = c.create(folder, "log").unwrap();
                    let mut rounds = 0;
                    while !over.load(Ordering::Relaxed) {
                        work(c, folder, log, rounds);
                        rounds += 1;
                        rounds_done[number].store(rounds, Ordering::Relaxed);
                    }
                    (folder, log, rounds)
                })
            })
            .collect();
        let mut watch = Watch::new(rounds_done);
        while harm(&far.proxy, &mut random) && !workers.iter().any(|worker| worker.is_finished()) {
            watch.look(far, |_| false);
        }
        over.store(true, Ordering::Relaxed);
        // Else what comes now may never get through: an answer that is longer than a connection lasts.
        far.proxy.wear_out_after(0);
        while workers.iter().any(|worker| !worker.is_finished()) {
            watch.look(far, |number| workers[number].is_finished());
            std::thread::yield_now();
        }
        for (worker, c) in workers.into_iter().zip(&clients) {
            let (folder, log, rounds) = worker.join().unwrap();
            let expected: String = (0..rounds).map(|round| format!("{round:08}\n")).collect();
            let mut content = Vec::new();
            while content.len() < expected.len() + 1 {
                let piece = c.read(log, content.len() as u64, 1 << 20).unwrap();
                if piece.is_empty() {
                    break;
                }
                content.extend_from_slice(&piece);
            }
            assert!(content == expected.as_bytes(), "{} bytes instead of {}", content.len(), expected.len());
            assert_eq!(c.names(folder).unwrap(), ["log"]);
            c.release(log).unwrap();
        }
    });
}

/// Waits until the client is connected.
fn until_up(client: &Arc<dyn Xlator>) {
    let begun = Instant::now();
    while client.status()["state"] != "up" {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", client.status());
        std::thread::yield_now();
    }
}

#[test]
fn cut_connections_lose_nothing_and_repeat_nothing() {
    let far = Far::over(Arc::new(MemoryLeaf::new()), &[("eos", "memory")]);
    let mut left = cuts();
    nothing_is_lost_and_nothing_done_twice(&far, |proxy, random| {
        until_up(&far.client);
        // Some requests get through in between; how many differs from cut to cut.
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        let before = far.client.status()["reconnects"].as_u64();
        proxy.cut();
        let begun = Instant::now();
        while far.client.status()["reconnects"].as_u64() == before {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", far.client.status());
            std::thread::yield_now();
        }
        left -= 1;
        left > 0
    });
}

#[test]
fn connections_cut_within_a_frame_lose_nothing_and_repeat_nothing() {
    let far = Far::over(Arc::new(MemoryLeaf::new()), &[("eos", "memory")]);
    until_up(&far.client);
    far.proxy.wear_out_after(1);
    far.proxy.cut();
    let wanted = cuts();
    nothing_is_lost_and_nothing_done_twice(&far, |proxy, random| {
        // Enough for a greeting, at times just so.
        proxy.wear_out_after(600 + random.below(60_000));
        std::thread::sleep(Duration::from_millis(5));
        proxy.worn_out() < wanted
    });
}

#[test]
fn a_server_that_goes_down_in_good_order_is_missed_by_nobody() {
    if !stack::privileged() {
        return;
    }
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leaf = stack::posix(folder.path());
    let serve = || serve(Way::Unix, files.path(), leaf.clone(), &[]);
    let mut server = serve();
    let client = connect(&client_options(Way::Unix, files.path(), ""));
    let c = Client::new(client.clone());
    let log = c.create(Gfid::ROOT, "log").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                work(&c, Gfid::ROOT, log, rounds);
                rounds += 1;
            }
            rounds
        });
        for _ in 0..cuts() / 8 {
            until_up(&client);
            stack::stop(&server);
            server = serve();
        }
        over.store(true, Ordering::Relaxed);
        let rounds: u64 = worker.join().unwrap();
        let expected: String = (0..rounds).map(|round| format!("{round:08}\n")).collect();
        assert_eq!(c.stat(log).unwrap().size, expected.len() as u64);
    });
    c.release(log).unwrap();
    brickwork_testkit::block_on(client.stop());
    stack::stop(&server);
    brickwork_testkit::block_on(leaf.stop());
}
