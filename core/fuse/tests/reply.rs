//! Replies, byte for byte as the kernel reads them.

mod common;

use std::sync::Arc;
use std::time::Duration;

use brickwork_fuse::abi::*;
use brickwork_fuse::request::{Lock, LockKind};
use brickwork_fuse::{
    Delivery, DirectoryBuffer, Entry, Errno, Fh, FileKind, LockOwner, NodeId, Opened, Reply, Transport,
};
use bytes::Bytes;
use common::{Kernel, SocketLane, socket_lane};
use zerocopy::IntoBytes;

fn owed(lane: &Arc<SocketLane>, opcode: Opcode) -> Reply {
    Reply::new(lane.clone() as Arc<dyn Transport>, 42, opcode as u32)
}

/// What `give` sends in answer to `opcode`, without its header.
fn sent(opcode: Opcode, give: impl FnOnce(Reply) -> Delivery) -> Vec<u8> {
    let (lane, kernel) = socket_lane();
    assert_eq!(give(owed(&lane, opcode)), Delivery::Taken);
    let (header, body) = kernel.answer();
    assert_eq!((header.unique, header.error), (42, 0));
    assert!(kernel.answer_now().is_none(), "one reply to one request");
    body
}

fn error(kernel: &Kernel) -> i32 {
    let (header, body) = kernel.answer();
    assert!(body.is_empty());
    -header.error
}

const VALID: Duration = Duration::new(3, 500);

fn entry() -> Entry {
    let attr = Attr { ino: 9, size: 10, mode: 0o100_644, nlink: 1, ..Attr::default() };
    Entry { node: NodeId(5), generation: 7, entry_valid: VALID, attr_valid: Duration::from_nanos(1), attr }
}

fn entry_out() -> EntryOut {
    let entry = entry();
    EntryOut {
        nodeid: 5,
        generation: 7,
        entry_valid: 3,
        entry_valid_nsec: 500,
        attr_valid: 0,
        attr_valid_nsec: 1,
        attr: entry.attr,
    }
}

#[test]
fn an_entry_carries_its_times_to_the_nanosecond() {
    assert_eq!(sent(Opcode::Lookup, |reply| reply.entry(&entry())), entry_out().as_bytes());
}

#[test]
fn no_entry_is_node_zero_with_its_time() {
    let expected = EntryOut { entry_valid: 3, entry_valid_nsec: 500, ..EntryOut::default() };
    assert_eq!(sent(Opcode::Lookup, |reply| reply.no_entry(VALID)), expected.as_bytes());
}

#[test]
fn a_created_file_is_an_entry_and_a_handle() {
    let opened = Opened { fh: Fh(3), flags: OpenFlags::DIRECT_IO, backing_id: 0 };
    let handle = OpenOut { fh: 3, open_flags: 1, backing_id: 0 };
    let expected = [entry_out().as_bytes(), handle.as_bytes()].concat();
    assert_eq!(sent(Opcode::Create, |reply| reply.created(&entry(), opened)), expected);
}

#[test]
fn attributes_come_with_their_time() {
    let attr = entry().attr;
    let expected = AttrOut { attr_valid: 3, attr_valid_nsec: 500, dummy: 0, attr };
    assert_eq!(sent(Opcode::GetAttr, |reply| reply.attr(&attr, VALID)), expected.as_bytes());
    let body = sent(Opcode::StatX, |reply| reply.statx(&StatX { ino: 9, ..StatX::default() }, VALID));
    assert_eq!((body.len(), body[64]), (288, 9));
}

#[test]
fn pieces_arrive_in_their_order_however_many() {
    for count in [0, 1, 8, 9, 1000, 1001, 3000] {
        let pieces: Vec<Bytes> = (0..count).map(|n| Bytes::from(vec![n as u8; 3])).collect();
        assert_eq!(sent(Opcode::Read, |reply| reply.pieces(&pieces)), pieces.concat(), "{count}");
    }
}

#[test]
fn both_forms_of_copy_file_range_are_answered_in_their_own() {
    let narrow = |bytes| sent(Opcode::CopyFileRange, |reply| reply.copied(bytes));
    let wide = sent(Opcode::CopyFileRange64, |reply| reply.copied(1 << 33));
    assert_eq!(wide, (1_u64 << 33).to_ne_bytes());
    assert_eq!(narrow(77), WriteOut { size: 77, padding: 0 }.as_bytes());
    assert_eq!(narrow(1 << 33), WriteOut { size: 0xffff_f000, padding: 0 }.as_bytes());
}

#[test]
fn the_lock_in_the_way_is_told_in_fcntls_numbers() {
    for (kind, number) in [(LockKind::Read, 0), (LockKind::Write, 1), (LockKind::Unlock, 2)] {
        let lock = Lock { fh: Fh(0), owner: LockOwner(0), start: 1, end: 2, kind, pid: 3, flock: false };
        let expected = LkOut { lk: FileLock { start: 1, end: 2, kind: number, pid: 3 } };
        assert_eq!(sent(Opcode::GetLk, |reply| reply.lock(&lock)), expected.as_bytes());
    }
}

#[test]
fn the_small_answers_have_their_structures() {
    type Case = (Opcode, fn(Reply) -> Delivery, Vec<u8>);
    let cases: [Case; 8] = [
        (Opcode::Open, |r| r.opened(Opened::plain(Fh(9))), OpenOut { fh: 9, ..OpenOut::default() }.as_bytes().into()),
        (Opcode::Write, |r| r.written(5), WriteOut { size: 5, padding: 0 }.as_bytes().into()),
        (Opcode::GetXattr, |r| r.size(6), GetXattrOut { size: 6, padding: 0 }.as_bytes().into()),
        (Opcode::LSeek, |r| r.offset(7), 7_u64.to_ne_bytes().into()),
        (Opcode::BMap, |r| r.block(8), 8_u64.to_ne_bytes().into()),
        (Opcode::Poll, |r| r.polled(1), PollOut { revents: 1, padding: 0 }.as_bytes().into()),
        (
            Opcode::IoCtl,
            |r| r.ioctl(-3, b"out"),
            [IoCtlOut { result: -3, ..IoCtlOut::default() }.as_bytes(), b"out"].concat(),
        ),
        (Opcode::Flush, |r| r.ok(), vec![]),
    ];
    for (opcode, give, expected) in cases {
        assert_eq!(sent(opcode, give), expected, "{opcode:?}");
    }
    let statfs = StatFsOut { blocks: 1, namelen: 255, ..StatFsOut::default() };
    assert_eq!(sent(Opcode::StatFs, |reply| reply.statfs(&statfs)), statfs.as_bytes());
    let mut directory = DirectoryBuffer::new(100);
    assert!(directory.push(1, 2, FileKind::Directory, b"d"));
    assert_eq!(sent(Opcode::ReadDir, |reply| reply.directory(&directory)), directory.as_bytes());
}

#[test]
fn an_errno_the_protocol_cannot_carry_becomes_eio() {
    let (lane, kernel) = socket_lane();
    for (given, told) in [(1, 1), (511, 511), (512, libc::EIO), (4000, libc::EIO)] {
        owed(&lane, Opcode::Open).error(Errno::from_raw_os_error(given));
        assert_eq!(error(&kernel), told, "{given}");
    }
}

#[test]
fn a_reply_dropped_unanswered_answers_eio() {
    let (lane, kernel) = socket_lane();
    drop(owed(&lane, Opcode::Open));
    assert_eq!(error(&kernel), libc::EIO);
}

/// A lane that refuses every reply with an error of its own, but takes errors.
struct Refusing(Errno, Arc<SocketLane>);

impl Transport for Refusing {
    fn receive(&self, _: &mut [u8]) -> brickwork_fuse::Received {
        brickwork_fuse::Received::Ended
    }
    fn send(&self, parts: &[std::io::IoSlice<'_>]) -> Result<(), Errno> {
        if parts.len() > 1 { Err(self.0) } else { self.1.send(parts) }
    }
    fn another(&self) -> Result<Arc<dyn Transport>, Errno> {
        Err(Errno::NOSYS)
    }
    fn close(&self) {}
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

#[test]
fn a_refused_reply_leaves_no_caller_waiting_and_one_nobody_waits_for_is_lost_quietly() {
    for (errno, second) in [(Errno::INVAL, true), (Errno::NOENT, false), (Errno::NODEV, false)] {
        let (lane, kernel) = socket_lane();
        let reply = Reply::new(Arc::new(Refusing(errno, lane.clone())), 42, Opcode::Lookup as u32);
        assert_eq!(reply.entry(&entry()), Delivery::Lost(errno));
        assert_eq!(kernel.answer_now().is_some(), second, "{errno}");
    }
}
