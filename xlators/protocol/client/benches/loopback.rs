//! What a request costs on its way to a memory leaf and back, client and server in one process, over loopback; and
//! whether a second connection to the same brick carries more.
//!
//! `cargo bench -p brickwork-client --bench loopback`

#[path = "../tests/stack/mod.rs"]
mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::*;
use brickwork_testkit::{Client, MemoryLeaf};

use stack::{RUNTIME, Stack, Way, client_options, connect, place, serve};

/// How long each line is measured.
const MEASURE: Duration = Duration::from_millis(1500);

/// What is asked again and again.
#[derive(Clone, Copy)]
enum Load {
    Getattr,
    Read(u32),
}

/// What a line of the table says.
struct Figures {
    rate: f64,
    /// Of the whole process: client and server.
    cpu_us: f64,
}

fn main() {
    println!("{:<28} {:>9} {:>12} {:>10} {:>10}", "load", "in flight", "per second", "MiB/s", "CPU us");
    for way in [Way::Tcp, Way::Unix, Way::Tls] {
        let stack = Stack::over(way, Arc::new(MemoryLeaf::new()), &[("eos", "memory")]);
        let clients = [stack.client.clone()];
        for flights in [1, 16, 64] {
            line(&format!("{way:?} getattr"), &clients, Load::Getattr, flights);
        }
        for size in [128 << 10, 1 << 20] {
            for flights in [1, 4, 16] {
                line(&format!("{way:?} read {} KiB", size >> 10), &clients, Load::Read(size), flights);
            }
        }
    }
    for way in [Way::Tcp, Way::Tls] {
        two_connections(way);
    }
}

/// The same load over one connection and over two, in turns.
fn two_connections(way: Way) {
    let files = tempfile::tempdir().unwrap();
    let server = serve(way, files.path(), Arc::new(MemoryLeaf::new()), &[("eos", "memory")]);
    let options = client_options(way, files.path(), &place(&server));
    let clients = [connect(&options), connect(&options)];
    for (load, flights) in [(Load::Getattr, 64), (Load::Read(128 << 10), 16), (Load::Read(1 << 20), 16)] {
        for count in [1, 2, 1, 2] {
            let name = match load {
                Load::Getattr => "getattr".to_owned(),
                Load::Read(size) => format!("read {} KiB", size >> 10),
            };
            line(&format!("{way:?} {name}, {count} conn."), &clients[..count], load, flights);
        }
    }
    clients.iter().for_each(|client| brickwork_testkit::block_on(client.stop()));
    stack::stop(&server);
}

fn line(name: &str, clients: &[Arc<dyn Xlator>], load: Load, flights: usize) {
    let Figures { rate, cpu_us } = measure(clients, load, flights);
    let size = if let Load::Read(size) = load { f64::from(size) } else { 0.0 };
    println!("{name:<28} {flights:>9} {rate:>12.0} {:>10.0} {cpu_us:>10.1}", rate * size / 1048576.0);
}

fn measure(clients: &[Arc<dyn Xlator>], load: Load, flights: usize) -> Figures {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = clients.iter().map(|client| caller(client, load)).collect();
    let tasks: Vec<_> = (0..flights)
        .map(|flight| {
            let (xlator, cx, file) = callers[flight % callers.len()].clone();
            let cx = Cx { request: RequestId { slot: flight as u32, ..cx.request }, ..cx };
            let (stop, done) = (stop.clone(), done.clone());
            RUNTIME.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    one(&*xlator, &cx, file, load).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let (begun, cpu, before) = (Instant::now(), cpu(), done.load(Ordering::Relaxed));
    std::thread::sleep(MEASURE);
    let (elapsed, cpu, count) = (begun.elapsed(), self::cpu() - cpu, done.load(Ordering::Relaxed) - before);
    stop.store(true, Ordering::Relaxed);
    tasks.into_iter().for_each(|task| RUNTIME.block_on(task).unwrap());
    Figures { rate: count as f64 / elapsed.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / count as f64 }
}

fn caller(client: &Arc<dyn Xlator>, load: Load) -> (Arc<dyn Xlator>, Cx, OpenFile) {
    let c = Client::new(client.clone());
    let name = c.cx.client().to_string();
    let file = c.create(Gfid::ROOT, &name).unwrap();
    if let Load::Read(size) = load {
        c.write(file, 0, &vec![7; size as usize]).unwrap();
    }
    (client.clone(), c.cx, file)
}

async fn one(xlator: &dyn Xlator, cx: &Cx, file: OpenFile, load: Load) {
    match load {
        Load::Getattr => {
            let request = StatReq { target: file.gfid.into(), xdata: Xdata::EMPTY };
            xlator.stat(cx, &request).await.unwrap();
        }
        Load::Read(size) => {
            let request = ReadReq { file, offset: 0, size, xdata: Xdata::EMPTY };
            assert_eq!(xlator.read(cx, &request).await.unwrap().data.len(), size as usize);
        }
    }
}

/// Time of all processors that this process has used.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
