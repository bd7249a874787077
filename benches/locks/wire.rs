//! A lock and its release, again and again, over a connection: protocol/client, protocol/server, features/locks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::ranges::ByteRange;
use brickwork_api::{LkKind, LkOwner, Xlator};
use brickwork_volume::{File, How, Lock, Volume};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::brick::{host, locks, make, runtime};
use crate::median;

const WARM_UP: Duration = Duration::from_millis(200);
const MEASURED: Duration = Duration::from_millis(1000);
const ROUNDS: usize = 5;
/// Pairs under way at once.
const FLIGHTS: [usize; 3] = [1, 16, 256];

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Tcp,
    Unix,
}

/// A brick and its client, with threads of their own each, in one process.
struct Stack {
    brick: Runtime,
    client: Runtime,
    server: Arc<dyn Xlator>,
    near: Arc<dyn Xlator>,
    files: Vec<Arc<File>>,
    _folder: TempDir,
}

/// One line: what is asked of which stack.
struct Line {
    name: String,
    stack: usize,
    flights: usize,
    one_file: bool,
}

/// TCP and a unix socket, one file and many.
pub fn ways() {
    let stacks = [Way::Tcp, Way::Unix].map(|way| (format!("{way:?}"), Stack::new(way, "process")));
    let mut lines = Vec::new();
    for (stack, (way, _)) in stacks.iter().enumerate() {
        for one_file in [true, false] {
            let files = if one_file { "one file" } else { "a file each" };
            lines.extend(FLIGHTS.map(|flights| Line { name: format!("{way}, {files}"), stack, flights, one_file }));
        }
    }
    measure(&stacks.map(|(_, stack)| stack), &lines);
}

/// What `lock-journal` costs.
pub fn journals() {
    let modes = ["memory", "process", "disk"];
    let stacks = modes.map(|journal| Stack::new(Way::Tcp, journal));
    let line = |stack: usize, flights| Line {
        name: format!("lock-journal {}", modes[stack]),
        stack,
        flights,
        one_file: false,
    };
    let lines: Vec<Line> = (0..modes.len()).flat_map(|stack| FLIGHTS.map(|flights| line(stack, flights))).collect();
    measure(&stacks, &lines);
}

fn measure(stacks: &[Stack], lines: &[Line]) {
    let mut rounds = vec![Vec::new(); lines.len()];
    // They take turns, so that a busy moment of the machine falls on all of them.
    for _ in 0..ROUNDS {
        for (line, rounds) in lines.iter().zip(&mut rounds) {
            rounds.push(stacks[line.stack].round(line.flights, line.one_file));
        }
    }
    println!(
        "{:<26} {:>9} {:>14} {:>12} {:>14}",
        "lock and release", "in flight", "pairs/s", "us per pair", "CPU us/pair"
    );
    for (line, rounds) in lines.iter().zip(rounds) {
        let rate = median(rounds.iter().map(|(rate, _)| *rate).collect());
        let cpu = median(rounds.iter().map(|(_, cpu)| *cpu).collect());
        let wait = 1e6 / rate * line.flights as f64;
        println!("{:<26} {:>9} {rate:>14.0} {wait:>12.1} {cpu:>14.1}", line.name, line.flights);
    }
}

impl Stack {
    fn new(way: Way, journal: &str) -> Stack {
        let folder = tempfile::tempdir().expect("a folder");
        let (brick, client) = (runtime(), runtime());
        let below = locks(journal, folder.path(), &brick);
        let socket = folder.path().join("socket");
        let socket = socket.to_str().expect("UTF-8");
        let server = serve(way, socket, folder.path(), below, &brick);
        let near = connect(way, socket, &server, &client);
        let volume = Volume::new(near.clone(), host(&client));
        let files = client.block_on(async {
            let mut files = Vec::new();
            for number in 0..FLIGHTS[FLIGHTS.len() - 1] {
                files.push(Arc::new(volume.create(format!("{number}"), 0o600).await.expect("a file")));
            }
            files
        });
        Stack { brick, client, server, near, files, _folder: folder }
    }

    /// Pairs per second, and microseconds of all processors for each.
    fn round(&self, flights: usize, one_file: bool) -> (f64, f64) {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let flight = |number: usize| {
            let file = self.files[if one_file { 0 } else { number }].clone();
            self.client.spawn(pairs(file, number as u64, stop.clone(), done.clone()))
        };
        let tasks: Vec<_> = (0..flights).map(flight).collect();
        std::thread::sleep(WARM_UP);
        let (begun, cpu, before) = (Instant::now(), processor_time(), done.load(Ordering::Relaxed));
        std::thread::sleep(MEASURED);
        let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), (processor_time() - cpu).as_secs_f64());
        let pairs = (done.load(Ordering::Relaxed) - before) as f64;
        stop.store(true, Ordering::Relaxed);
        tasks.into_iter().for_each(|task| self.client.block_on(task).expect("a flight"));
        (pairs / elapsed, cpu * 1e6 / pairs)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        self.client.block_on(async {
            for file in files {
                let file = Arc::into_inner(file).expect("every flight has ended");
                file.close().await.expect("closed");
            }
            self.near.stop().await;
        });
        self.brick.block_on(self.server.stop());
    }
}

/// Locks a range of its own and releases it until `stop`.
async fn pairs(file: Arc<File>, number: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let owner = LkOwner::from_u64(number + 1);
    let range = ByteRange::new(number * 2048, number * 2048 + 1024).expect("not empty");
    while !stop.load(Ordering::Relaxed) {
        file.lock(&owner, Lock::exclusive(range), How::Try).await.expect("nobody is in the way");
        file.unlock(&owner, LkKind::Posix, range).await.expect("held");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn serve(way: Way, socket: &str, folder: &Path, below: Arc<dyn Xlator>, on: &Runtime) -> Arc<dyn Xlator> {
    let mut options = vec![("auth.addr.below.allow", "*"), ("journal-directory", folder.to_str().expect("UTF-8"))];
    match way {
        Way::Tcp => options.extend([("listen-port", "0"), ("bind-address", "127.0.0.1")]),
        Way::Unix => options.extend([("transport-type", "unix"), ("transport.socket.listen-path", socket)]),
    }
    make(&brickwork_server::TYPE, &options, Some(below), on)
}

fn connect(way: Way, socket: &str, server: &Arc<dyn Xlator>, on: &Runtime) -> Arc<dyn Xlator> {
    let status = server.status();
    let place = status["listening"][0].as_str().expect("an address");
    let mut options = vec![("remote-subvolume", "below")];
    match way {
        Way::Tcp => {
            let (host, port) = place.rsplit_once(':').expect("host and port");
            options.extend([("remote-host", host), ("remote-port", port)]);
        }
        Way::Unix => options.extend([("transport-type", "unix"), ("transport.socket.connect-path", socket)]),
    }
    make(&brickwork_client::TYPE, &options, None, on)
}

/// Time of all processors that this process has used.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
