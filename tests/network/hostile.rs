//! Peers that mean harm, or do some: each is refused with a reason in the log, and nobody else notices.

use std::fs;
use std::net::Shutdown;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use brickwork_api::fops::{CreateReq, ReadReq};
use brickwork_api::{ClientId, Entry, FopKind, Gfid, Name, OpenFile, OpenId, Xdata};
use brickwork_wire::frame::{FrameLimits, Kind, PREFIX, Prefix};
use brickwork_wire::message::{Call, Version, Why};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::brick::Brick;
use crate::common::{Mounted, Random, can_mount, rounds, until};
use crate::peer::{Heard, Peer, hello, request};

/// By how much an attack may make the brick grow, in bytes: the buffers of a few connections, and what an allocator
/// keeps.
const GROWTH_MAX: u64 = 48 << 20;
/// What each connection that was let in may cost on top, in bytes.
const PER_CONNECTION: u64 = 24 << 10;

/// A client that works all the time that `attack` lasts: it sees no error, and the brick grows by no more than `growth`
/// bytes.
fn unharmed(brick: &Brick, growth: u64, attack: impl FnOnce()) {
    let Some(mount) = Mounted::client(&brick.client(""), &[]) else { return };
    let over = AtomicBool::new(false);
    work(mount.path(), 0);
    let before = brick.resident();
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut count = 1;
            while !over.load(Ordering::SeqCst) {
                work(mount.path(), count);
                count += 1;
            }
            count
        });
        let stop = Stop(&over);
        attack();
        drop(stop);
        assert!(bystander.join().expect("the bystander sees no error") > 1, "it worked meanwhile");
    });
    let after = brick.resident();
    eprintln!("resident: {} KiB before, {} KiB after", before >> 10, after >> 10);
    assert!(after < before + growth, "{before} bytes grew to {after}");
    work(mount.path(), 0);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn work(mount: &Path, number: u64) {
    let path = mount.join("bystander");
    let content = number.to_string();
    fs::write(&path, &content).expect("write");
    assert_eq!(fs::read_to_string(&path).expect("read"), content);
    fs::remove_file(&path).expect("unlink");
}

/// A prefix that says what it likes.
fn prefix(kind: u8, header: u32, payload: u32) -> Vec<u8> {
    let mut bytes = Prefix { header, payload, ..Prefix::new(Kind::Call, 1) }.to_bytes().to_vec();
    bytes[16] = kind;
    bytes
}

#[test]
fn what_is_no_greeting_ends_its_connection_with_a_reason_in_the_log() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let call = Kind::Call as u8;
    let mut random = Random::from_env();
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", random.bytes(64 << 10)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: brick\r\n\r\n".to_vec()),
        ("a TLS greeting", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random.bytes(500)].concat()),
        ("a header of 4 GiB", prefix(call, u32::MAX, 0)),
        ("a payload of 4 GiB", prefix(call, 10, u32::MAX)),
        ("both", prefix(call, u32::MAX, u32::MAX)),
        ("a header just too long", prefix(call, FrameLimits::GREETING.header + 1, 0)),
        ("a payload before its time", prefix(call, 10, 1)),
        ("a kind that is none", prefix(250, 10, 0)),
        ("a request before its time", prefix(Kind::Request as u8, 0, 0)),
        ("an empty call", prefix(call, 0, 0)),
        ("a call of garbage", [prefix(call, 1000, 0), random.bytes(1000)].concat()),
        ("a greeting of something else", {
            let other = Call::Hello(brickwork_wire::message::Hello { magic: 42, ..hello(Version::CURRENT) });
            crate::peer::frame(Prefix::new(Kind::Call, 1), &other, &[])
        }),
    ];
    unharmed(&brick, GROWTH_MAX, || {
        for (name, bytes) in &attacks {
            let position = brick.log_length();
            let mut peer = Peer::connect(brick.address());
            peer.send(bytes);
            peer.expect_end();
            eprintln!("{name}: {}", reason(&brick, position, name));
        }
    });
}

/// Waits for the reason in the log why a connection was refused or ended.
#[track_caller]
fn reason(brick: &Brick, position: usize, of: &str) -> String {
    until(&format!("a reason in the log for {of}"), || {
        let log = brick.log_since(position);
        log.lines().find(|line| line.contains("a connection was")).map(str::to_owned)
    })
}

#[test]
fn a_frame_that_is_cut_off_anywhere_harms_nobody() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let whole = crate::peer::frame(Prefix::new(Kind::Call, 1), &Call::Hello(hello(Version::CURRENT)), &[]);
    unharmed(&brick, GROWTH_MAX, || {
        for length in 0..whole.len() {
            let mut peer = Peer::connect(brick.address());
            assert!(peer.send(&whole[..length]));
            peer.stream().shutdown(Shutdown::Write).expect("half a connection");
            peer.expect_end();
        }
    });
}

#[test]
fn a_client_that_was_let_in_and_then_sends_nonsense_loses_its_connection_only() {
    let Some(brick) = Brick::start().filter(|_| can_mount()) else { return };
    let mut random = Random::from_env();
    let kind = Kind::Request as u8;
    unharmed(&brick, GROWTH_MAX, || {
        let of_session_1 = |mut bytes: Vec<u8>| {
            bytes[PREFIX - 2..PREFIX].copy_from_slice(&1_u16.to_le_bytes());
            bytes
        };
        for (name, bytes) in [
            ("a header that is too long", prefix(kind, FrameLimits::FULL.header + 1, 0)),
            ("a payload that is too long", prefix(kind, 10, FrameLimits::FULL.payload + 1)),
            ("lengths of 4 GiB", prefix(kind, u32::MAX, u32::MAX)),
            ("a request of no session", request(FopKind::Read, 77, 1, &(), &[])),
            ("a request of garbage", of_session_1([prefix(kind, 500, 0), random.bytes(500)].concat())),
            ("an empty request", of_session_1(prefix(kind, 0, 0))),
            ("an answer", prefix(Kind::Answer as u8, 0, 0)),
        ] {
            let position = brick.log_length();
            let (mut peer, session) = Peer::attached(brick.address());
            assert_eq!(session, 1);
            peer.send(&bytes);
            peer.expect_end();
            eprintln!("{name}: {}", reason(&brick, position, name));
        }
        // What the greatest lengths promise and never send is not set aside.
        let promising: Vec<Peer> = (0..100)
            .map(|_| {
                let (mut peer, session) = Peer::attached(brick.address());
                let mut bytes = prefix(kind, FrameLimits::FULL.header, FrameLimits::FULL.payload);
                bytes[PREFIX - 2..].copy_from_slice(&session.to_le_bytes());
                assert!(peer.send(&bytes));
                peer
            })
            .collect();
        assert!(promising.iter().all(|peer| peer.stream().peer_addr().is_ok()));
    });
}

#[test]
fn who_connects_and_says_nothing_or_not_all_of_it_is_sent_away_in_time() {
    let options = "    option auth.addr.stats.allow *\n    option handshake-timeout 1\n";
    let Some(brick) = Brick::with(options).filter(|_| can_mount()) else { return };
    let whole = crate::peer::frame(Prefix::new(Kind::Call, 1), &Call::Hello(hello(Version::CURRENT)), &[]);
    unharmed(&brick, GROWTH_MAX, || {
        let mut silent: Vec<Peer> = (0..rounds(100, 1_000))
            .map(|number| {
                let mut peer = Peer::connect(brick.address());
                assert!(peer.send(&whole[..number % whole.len()]));
                peer
            })
            .collect();
        for peer in &mut silent {
            peer.expect_end();
        }
    });
}

#[test]
fn thousands_of_connections_are_served_and_one_too_many_is_refused() {
    let count = rounds(1_000, 10_000);
    let limit = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("as many descriptors as may be");
    assert!(limit.current.is_none_or(|limit| limit > 1_000 + count as u64), "room for {count} connections");
    // The bystander's are among them.
    let room = 8;
    let options = format!(
        "    option auth.addr.stats.allow *\n    option handshake-timeout 300\n    option connections-max {}\n    \
         option clients-max 20000\n",
        count + room
    );
    let Some(brick) = Brick::with(&options).filter(|_| can_mount()) else { return };
    unharmed(&brick, GROWTH_MAX + count as u64 * PER_CONNECTION, || {
        let mut peers: Vec<Peer> = (0..count).map(|_| Peer::attached(brick.address()).0).collect();
        let position = brick.log_length();
        let too_many: Vec<Peer> = (0..room + 1).map(|_| Peer::connect(brick.address())).collect();
        brick.wait_for_log(position, "too many");
        drop(too_many);
        for peer in &mut peers {
            peer.put(Prefix::new(Kind::Ping, 1), &(), &[]);
            assert!(matches!(peer.hear(), Heard::Frame(frame) if frame.prefix.kind == Kind::Pong));
        }
    });
}

#[test]
fn a_client_that_asks_for_much_and_reads_nothing_is_cut_off_before_it_fills_the_memory() {
    let options = "    option auth.addr.stats.allow *\n    option slow-reader-timeout 2\n    \
                   option bytes-in-flight-max 16MB\n";
    let Some(brick) = Brick::with(options).filter(|_| can_mount()) else { return };
    unharmed(&brick, GROWTH_MAX + (16 << 20), || {
        let position = brick.log_length();
        let (mut peer, session) = Peer::attached(brick.address());
        let file = OpenFile { gfid: Gfid::random(), open: OpenId(1) };
        create(&mut peer, session, file);
        fs::write(brick.directory().join("much"), vec![1; 1 << 20]).expect("a file of 1 MiB");
        // 4,000 times 1 MiB, of which not a byte is read.
        let mut asked = 0;
        for id in 10..4_010 {
            let read = ReadReq { file, offset: 0, size: 1 << 20, xdata: Xdata::EMPTY };
            if !peer.send(&request(FopKind::Read, session, id, &read, &[])) {
                break;
            }
            asked += 1;
        }
        eprintln!("asked {asked} times; the brick has {} KiB", brick.resident() >> 10);
        eprintln!("{}", reason(&brick, position, "the slow reader"));
    });
}

#[track_caller]
fn create(peer: &mut Peer, session: u16, file: OpenFile) {
    let entry = Entry { parent: Gfid::ROOT, name: Name::new(b"much").expect("a name") };
    let flags = libc::O_RDWR as u32;
    let create =
        CreateReq { entry, gfid: file.gfid, open: file.open, flags, mode: 0o600, umask: 0, xdata: Xdata::EMPTY };
    assert!(peer.send(&request(FopKind::Create, session, 1, &create, &[])));
    let heard = loop {
        match peer.hear() {
            // The bystander works in the same folder.
            Heard::Frame(frame) if frame.prefix.kind == Kind::Notice => {
                peer.put(Prefix::new(Kind::Noticed, frame.prefix.id).of(0, session), &(), &[]);
            }
            heard => break heard,
        }
    };
    match heard {
        Heard::Frame(frame) => assert_eq!(frame.prefix.kind, Kind::Reply, "{frame:?}"),
        Heard::End => panic!("the brick ended the connection"),
    }
}

#[test]
fn anothers_client_id_without_its_secret_is_refused_and_its_owner_goes_on() {
    let Some(brick) = Brick::start() else { return };
    let client = ClientId::random();
    let mut owner = Peer::connect(brick.address());
    owner.choose(None).expect("everybody may");
    owner.attach(client, [1; 32], 1).expect("a new client");
    let position = brick.log_length();
    let mut thief = Peer::connect(brick.address());
    thief.choose(None).expect("everybody may");
    let refused = thief.attach(client, [2; 32], 2).expect_err("another's client id");
    assert_eq!(refused.why, Why::Identity, "{refused:?}");
    brick.wait_for_log(position, "secret");
    owner.put(Prefix::new(Kind::Ping, 9), &(), &[]);
    assert!(matches!(owner.hear(), Heard::Frame(frame) if frame.prefix.kind == Kind::Pong));
    let mut again = Peer::connect(brick.address());
    again.choose(None).expect("everybody may");
    assert!(again.attach(client, [1; 32], 2).expect("with the secret").known);
}
