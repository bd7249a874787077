//! A second implementation of the encoding: wincode over mirrored types, byte for byte the same, and of one mind about
//! which bytes are a message.

use brickwork_api::xdata::Key;
use brickwork_api::{Errno, FopError, Gfid, LkOwner, Name, OpenFile, OpenId, StatReply, Target, WriteReq, Xdata};
use brickwork_testkit::samples;
use brickwork_wire::message::RequestHead;
use proptest::prelude::*;
use wincode::{SchemaRead, SchemaWrite};

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Head {
    slot: u32,
    sequence: u64,
    lk_owner: Vec<u8>,
    uid: u32,
    gid: u32,
    pid: u32,
    groups: Vec<u32>,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
}

type Extra = Option<Vec<(String, Value)>>;

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
enum Locate {
    Gfid(u128),
    Entry(u128, Vec<u8>),
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Lookup {
    target: Locate,
    xdata: Extra,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Write {
    gfid: u128,
    open: u64,
    offset: u64,
    append: bool,
    kill_set_id: bool,
    xdata: Extra,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Time {
    seconds: i64,
    nanoseconds: u32,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
enum Kind {
    File,
    Directory,
    Symlink,
    BlockDevice,
    CharDevice,
    Fifo,
    Socket,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Stat {
    gfid: u128,
    kind: Kind,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    size: u64,
    blocks: u64,
    block_size: u32,
    accessed: Time,
    modified: Time,
    changed: Time,
    xdata: Extra,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Detail {
    doing: String,
    xlator: Option<String>,
    fields: Vec<(String, String)>,
    xdata: Extra,
}

#[derive(Debug, PartialEq, SchemaWrite, SchemaRead)]
struct Failure {
    errno: i32,
    detail: Option<Detail>,
}

const NUMBER: Key<u64> = Key::new("number");
const TEXT: Key<String> = Key::new("text");

fn xdata(number: Option<u64>, text: &str) -> (Xdata, Extra) {
    match number {
        None => (Xdata::EMPTY, None),
        Some(number) => (
            Xdata::EMPTY.with(&NUMBER, number).with(&TEXT, text.to_owned()),
            Some(vec![("number".into(), Value::Number(number)), ("text".into(), Value::Text(text.into()))]),
        ),
    }
}

fn gfid(number: u128) -> Gfid {
    Gfid::from_bytes(number.to_be_bytes())
}

proptest! {
    #[test]
    fn both_write_the_same_bytes(
        slot: u32, sequence: u64, owner in prop::collection::vec(any::<u8>(), 0..40), groups in prop::collection::vec(any::<u32>(), 0..20),
        object: u128, open: u64, offset: u64, name in "[a-z]{1,40}", number in prop::option::of(any::<u64>()), text in ".{0,20}",
    ) {
        let head = RequestHead {
            slot, sequence, lk_owner: LkOwner::new(&owner).unwrap(), uid: 1, gid: 2, pid: 3, groups: groups.clone().into(),
        };
        let mirrored = Head { slot, sequence, lk_owner: owner, uid: 1, gid: 2, pid: 3, groups };
        prop_assert_eq!(brickwork_codec::encode(&head), wincode::serialize(&mirrored).unwrap());

        let (ours, theirs) = xdata(number, &text);
        let entry = brickwork_api::Entry { parent: gfid(object), name: Name::new(name.as_bytes()).unwrap() };
        let lookup = brickwork_api::LookupReq { target: brickwork_api::Locate::Entry(entry), xdata: ours.clone() };
        let mirrored = Lookup { target: Locate::Entry(object, name.into_bytes()), xdata: theirs };
        prop_assert_eq!(brickwork_codec::encode(&lookup), wincode::serialize(&mirrored).unwrap());

        let file = OpenFile { gfid: gfid(object), open: OpenId(open) };
        let write = WriteReq { file, offset, data: vec![1, 2].into(), append: true, kill_set_id: false, xdata: ours };
        let mirrored = Write { gfid: object, open, offset, append: true, kill_set_id: false, xdata: mirrored.xdata };
        prop_assert_eq!(brickwork_codec::encode(&write), wincode::serialize(&mirrored).unwrap());
    }

    #[test]
    fn both_agree_on_which_bytes_are_a_message(at in 0usize..400, flip: u8, cut in prop::option::of(0usize..400)) {
        let attr = samples::attr(gfid(7));
        let stat = StatReply { attr, xdata: xdata(Some(9), "t").0 };
        let error = FopError::new(Errno::EIO).doing("reading").with("offset", 7).with_xdata(xdata(Some(1), "x").0);
        let target = Target { gfid: gfid(5), open: None };
        for bytes in [brickwork_codec::encode(&stat), brickwork_codec::encode(&error), brickwork_codec::encode(&target)] {
            let mut bytes = bytes;
            let length = bytes.len();
            bytes[at % length] ^= flip;
            bytes.truncate(cut.map_or(length, |cut| cut.min(length)));
            let ours = brickwork_codec::decode::<StatReply>(&bytes);
            let theirs = wincode::deserialize_exact::<Stat>(&bytes);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(brickwork_codec::encode(&ours), wincode::serialize(&theirs).unwrap());
            }
            let ours = brickwork_codec::decode::<FopError>(&bytes);
            let theirs = wincode::deserialize_exact::<Failure>(&bytes);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        }
    }
}
