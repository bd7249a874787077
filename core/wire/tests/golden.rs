//! What has travelled stays: every message of protocol 1.0, byte for byte, as it stands in `golden/1.0.txt`.
//!
//! A line that changes means that older peers are not understood any more. New messages add lines:
//! `BRICKWORK_BLESS=1 cargo test -p brickwork-wire --test golden` writes the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use brickwork_api::locks::{LockNotice, LostBy, Probe};
use brickwork_api::*;
use brickwork_testkit::samples;
use brickwork_wire::frame::{Kind, PREFIX, Prefix};
use brickwork_wire::message::*;
use serde::Serialize;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame<H: Serialize>(prefix: Prefix, header: &H, payload: &[u8]) -> String {
    let header = brickwork_codec::encode(header);
    let prefix = Prefix { header: header.len() as u32, payload: payload.len() as u32, ..prefix };
    hex(&[&prefix.to_bytes()[..], &header, payload].concat())
}

fn process() -> Process {
    Process { host: "web01".into(), pid: 7, name: "mount /mnt/v".into(), software: "brickwork 0.1.0".into() }
}

fn head() -> RequestHead {
    let lk_owner = LkOwner::from_u64(0x0807_0605_0403_0201);
    RequestHead { slot: 3, sequence: 5, lk_owner, uid: 1001, gid: 1002, pid: 77, groups: [4, 24].into() }
}

macro_rules! every_fop {
    ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
        fn fops(lines: &mut BTreeMap<String, String>) {
            $({
                let number = FopKind::$kind as u8;
                let Fop::$kind(request) = samples::request(FopKind::$kind) else { panic!("another sample") };
                let payload = brickwork_wire::payload::of(&request);
                let prefix = Prefix::new(Kind::Request, 9).of(number, 1);
                lines.insert(format!("request {}", stringify!($name)), frame(prefix, &(head(), &request), &payload));
                let Reply::$kind(reply) = samples::reply(FopKind::$kind) else { panic!("another sample") };
                let payload = brickwork_wire::payload::of(&reply);
                let prefix = Prefix::new(Kind::Reply, 9).of(number, 1);
                lines.insert(format!("reply {}", stringify!($name)), frame(prefix, &reply, &payload));
            })*
        }

        /// Whether the header of a golden frame reads as the sample it was made from.
        fn reads_back(name: &str, header: &[u8], payload: Bytes) -> bool {
            match name {
                $(concat!("request ", stringify!($name)) => {
                    let (shown, mut request): (RequestHead, $request) = brickwork_codec::decode(header).unwrap();
                    assert!(brickwork_wire::payload::give(&mut request, payload));
                    shown == head() && Fop::$kind(request) == samples::request(FopKind::$kind)
                })*
                $(concat!("reply ", stringify!($name)) => {
                    let mut reply: $reply = brickwork_codec::decode(header).unwrap();
                    assert!(brickwork_wire::payload::give(&mut reply, payload));
                    Reply::$kind(reply) == samples::reply(FopKind::$kind)
                })*
                _ => true,
            }
        }
    };
}
brickwork_api::for_each_fop!(every_fop);

fn lines() -> BTreeMap<String, String> {
    let (xdata, version) = (Xdata::EMPTY, Version { major: 1, minor: 0 });
    let calls = [
        (
            "hello",
            Call::Hello(Hello {
                magic: MAGIC,
                version,
                features: 0,
                process: process(),
                nonce: [1; 32],
                xdata: xdata.clone(),
            }),
        ),
        ("volfile", Call::Volfile(VolfileCall { volume: "gd1".into(), xdata: xdata.clone() })),
        (
            "subvolume",
            Call::Subvolume(SubvolumeCall {
                name: "posix".into(),
                login: Some(Login { user: "u".into(), proof: [2; 32] }),
                xdata: xdata.clone(),
            }),
        ),
        (
            "attach",
            Call::Attach(AttachCall {
                client: ClientId(0x0102),
                secret: [3; 32],
                incarnation: 4,
                keep: vec![3],
                join: false,
                xdata: xdata.clone(),
            }),
        ),
        ("goodbye", Call::Goodbye(GoodbyeCall { session: 1, xdata: xdata.clone() })),
    ];
    let answers = [
        (
            "welcome",
            Ok(Answer::Welcome(Welcome {
                version,
                features: 0,
                process: process(),
                nonce: [5; 32],
                xdata: xdata.clone(),
            })),
        ),
        (
            "volfile",
            Ok(Answer::Volfile(Volfile {
                generation: 2,
                sha256: [6; 32],
                text: "volume v".into(),
                xdata: xdata.clone(),
            })),
        ),
        ("subvolume", Ok(Answer::Subvolume(Subvolume { boot: 8, xdata: xdata.clone() }))),
        (
            "attached",
            Ok(Answer::Attached(Attached {
                session: 1,
                known: true,
                detach_timeout_ms: 10_000,
                invalidate_timeout_ms: 6_000,
                slots: 1024,
                waiters_max: 65_536,
                xdata,
            })),
        ),
        ("goodbye", Ok(Answer::Goodbye)),
        ("refused", Err(Refused { why: Why::NotAllowed, reason: "no".into() })),
    ];
    let mut lines = BTreeMap::new();
    for (name, call) in calls {
        lines.insert(format!("call {name}"), frame(Prefix::new(Kind::Call, 1), &call, &[]));
    }
    for (name, answer) in answers {
        lines.insert(format!("answer {name}"), frame(Prefix::new(Kind::Answer, 1), &answer, &[]));
    }
    let invalidate = Notice::Invalidate { gfid: Gfid::ROOT, names: true };
    lines.insert("notice invalidate".into(), frame(Prefix::new(Kind::Notice, 6).of(0, 1), &invalidate, &[]));
    let leaving = Notice::Leaving { reason: "stopping".into() };
    lines.insert("notice leaving".into(), frame(Prefix::new(Kind::Notice, 0), &leaving, &[]));
    let probe = Probe {
        initiator: RequestId { client: ClientId(0x0102), slot: 3, sequence: 5 },
        owner: LkOwner::from_u64(6),
        gfid: Gfid::ROOT,
        path: vec![RequestId { client: ClientId(0x0304), slot: 1, sequence: 7 }],
    };
    let lost = LockNotice::Lost { gfid: Gfid::ROOT, opens: vec![OpenId(4), OpenId(9)], why: LostBy::Reclaim };
    for (name, notice) in [("notice lock lost", lost), ("notice lock probe", LockNotice::Probe(probe))] {
        lines.insert(name.into(), frame(Prefix::new(Kind::Notice, 0).of(0, 1), &Notice::Lock(notice), &[]));
    }
    lines.insert("noticed".into(), frame(Prefix::new(Kind::Noticed, 6).of(0, 1), &(), &[]));
    let given_up = GivenUp { slot: 3, sequence: 5 };
    lines.insert("cancel".into(), frame(Prefix::new(Kind::Cancel, 0).of(0, 1), &given_up, &[]));
    lines.insert("ping".into(), frame(Prefix::new(Kind::Ping, 2), &(), &[]));
    lines.insert("pong".into(), frame(Prefix::new(Kind::Pong, 2), &(), &[]));
    let error = FopError::new(Errno::ENOSPC).doing("extending the file").with("offset", 7).from_xlator("posix");
    lines.insert("failure".into(), frame(Prefix::new(Kind::Failure, 9).of(FopKind::Write as u8, 1), &error, &[]));
    fops(&mut lines);
    lines
}

#[test]
fn every_message_travels_as_it_always_did() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1.0.txt");
    let text: String = lines().iter().map(|(name, hex)| format!("{name}: {hex}\n")).collect();
    if std::env::var_os("BRICKWORK_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (ours, theirs) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn every_message_reads_back_as_what_it_was() {
    for (name, hex) in lines() {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let header = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let (header, payload) = bytes[PREFIX..].split_at(header);
        assert!(reads_back(&name, header, Bytes::copy_from_slice(payload)), "{name}");
    }
}
