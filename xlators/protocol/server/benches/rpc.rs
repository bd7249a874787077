//! Requests per second of processor time that a brick spends: `stat` on a file system in memory behind `protocol/server`.
//!
//! One client thread speaks the bare protocol over TCP loopback and keeps 1, 16, 64 requests in flight. The server has one
//! worker thread, whose processor time is read from `/proc/self/task/TID/schedstat`; so the figure is what the server pays
//! for a request: its share of the kernel's socket work, decoding, sessions, caches, the leaf, encoding.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use brickwork_api::options::OptionMap;
use brickwork_api::{ClientId, FopKind, Gfid, Setup, StatReq, Upward, Xdata, Xlator};
use brickwork_testkit::{MemoryLeaf, TestHost};
use brickwork_wire::connection::{Inbox, ask, open};
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::*;
use brickwork_wire::outbox::Outbox;
use brickwork_wire::stream::Stream;
use bytes::Bytes;

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the journal");
    let (address, worker) = serve(folder.path().to_str().expect("UTF-8").to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("{:>10} {:>14} {:>22} {:>10}", "in flight", "requests/s", "requests/CPU-second", "us/request");
        for in_flight in [1, 16, 64, 256] {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(measure(&address, worker, in_flight).await);
            }
            rounds.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (rate, per_cpu) = rounds[ROUNDS / 2];
            println!("{in_flight:>10} {rate:>14.0} {per_cpu:>22.0} {:>10.2}", 1e6 / per_cpu);
        }
    });
}

/// Starts a server on a thread of its own; returns where it listens and the number of its worker thread.
fn serve(journal: String) -> (String, u32) {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let options = [
            ("transport.socket.listen-port", "0"),
            ("transport.socket.bind-address", "127.0.0.1"),
            ("auth.addr.leaf.allow", "*"),
            ("journal-directory", journal.as_str()),
        ];
        let setup = Setup {
            name: "server".into(),
            options: OptionMap::from_iter(options),
            children: vec![Arc::new(MemoryLeaf::new()) as Arc<dyn Xlator>],
            subvolumes: vec!["leaf".into()],
            up: Upward::new(|_| {}),
            host: TestHost::new(),
        };
        let server = (brickwork_server::TYPE.prepare)(setup).expect("options of a server");
        runtime.block_on(async {
            server.start().expect("a server");
            let worker = tokio::spawn(async { rustix::thread::gettid().as_raw_nonzero().get() as u32 }).await;
            let place = server.status()["listening"][0].as_str().expect("an address").to_owned();
            send.send((place, worker.expect("a worker"))).expect("the bench waits");
            std::future::pending::<()>().await;
        });
    });
    receive.recv().expect("a server")
}

/// Processor time of a thread of this process.
fn processor_time(thread: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("schedstat");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

async fn measure(address: &str, worker: u32, in_flight: u64) -> (f64, f64) {
    let (outbox, mut inbox, session) = attach(address).await;
    let mut sequences = vec![0u64; in_flight as usize];
    for slot in 0..in_flight {
        request(&outbox, session, slot, &mut sequences);
    }
    outbox.flush();
    let (mut begun, mut measured_from, mut cpu_from, mut done) = (Instant::now(), None, Duration::ZERO, 0u64);
    loop {
        let frame = match inbox.buffered().expect("a frame") {
            Some(frame) => frame,
            None => {
                outbox.flush();
                inbox.next().await.expect("a frame").expect("the server is there")
            }
        };
        assert_eq!(frame.prefix.kind, Kind::Reply);
        done += 1;
        request(&outbox, session, frame.prefix.id, &mut sequences);
        if !done.is_multiple_of(64) {
            continue;
        }
        if measured_from.is_none() && begun.elapsed() >= WARM_UP {
            (measured_from, cpu_from, done, begun) = (Some(done), processor_time(worker), 0, Instant::now());
        } else if measured_from.is_some() && begun.elapsed() >= MEASURED {
            let cpu = (processor_time(worker) - cpu_from).as_secs_f64();
            outbox.close();
            return (done as f64 / begun.elapsed().as_secs_f64(), done as f64 / cpu);
        }
    }
}

/// One `stat` in `slot`, about 200 bytes with its prefix.
fn request(outbox: &Outbox, session: u16, slot: u64, sequences: &mut [u64]) {
    let sequence = &mut sequences[slot as usize];
    *sequence += 1;
    let head = RequestHead {
        slot: slot as u32,
        sequence: *sequence,
        lk_owner: brickwork_api::LkOwner::from_u64(7),
        uid: 0,
        gid: 0,
        pid: 1,
        groups: [0; 16].into(),
    };
    let stat = StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY };
    let prefix = Prefix::new(Kind::Request, slot).of(FopKind::Stat as u8, session);
    outbox.put(prefix, &(head, stat), Bytes::new()).expect("the connection is open");
}

async fn attach(address: &str) -> (Outbox, Inbox, u16) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (outbox, mut inbox) = open(Stream::Tcp(stream));
    let process = Process::default();
    let hello =
        Hello { magic: MAGIC, version: Version::CURRENT, features: 0, process, nonce: [0; 32], xdata: Xdata::EMPTY };
    ask(&outbox, &mut inbox, 1, &Call::Hello(hello)).await.expect("a welcome");
    let subvolume = SubvolumeCall { name: "leaf".into(), login: None, xdata: Xdata::EMPTY };
    ask(&outbox, &mut inbox, 2, &Call::Subvolume(subvolume)).await.expect("the subvolume");
    inbox.let_in();
    let client = ClientId::random();
    let attach =
        AttachCall { client, secret: [9; 32], incarnation: 1, keep: Vec::new(), join: false, xdata: Xdata::EMPTY };
    match ask(&outbox, &mut inbox, 3, &Call::Attach(attach)).await.expect("a session") {
        Answer::Attached(attached) => (outbox, inbox, attached.session),
        other => panic!("{other:?}"),
    }
}
