//! The kernel's side of the protocol, by hand: messages as bytes, and lanes without a kernel.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use brickwork_fuse::abi::{InHeader, InitIn, KERNEL_VERSION, Opcode, OutHeader};
use brickwork_fuse::{Errno, InitFlags, Received, Transport};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A message of the kernel.
pub fn message(opcode: u32, unique: u64, parts: &[&[u8]], extensions: &[u8]) -> Vec<u8> {
    assert_eq!(extensions.len() % 8, 0);
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let header = InHeader {
        len: (size_of::<InHeader>() + body + extensions.len()) as u32,
        opcode,
        unique,
        nodeid: 1,
        uid: 1000,
        gid: 100,
        pid: 4242,
        total_extlen: (extensions.len() / 8) as u16,
        padding: 0,
    };
    [&[header.as_bytes()], parts, &[extensions]].concat().concat()
}

/// A message without extensions.
pub fn plain(opcode: Opcode, unique: u64, parts: &[&[u8]]) -> Vec<u8> {
    message(opcode as u32, unique, parts, &[])
}

/// A message with a fixed part and what follows it.
pub fn fixed<T: IntoBytes + Immutable>(opcode: Opcode, unique: u64, fixed: &T, rest: &[u8]) -> Vec<u8> {
    plain(opcode, unique, &[fixed.as_bytes(), rest])
}

/// INIT of a kernel that has everything.
pub fn init(minor: u32, flags: InitFlags) -> Vec<u8> {
    let fixed_part = InitIn {
        major: KERNEL_VERSION,
        minor,
        max_readahead: 131_072,
        flags: flags.0 as u32,
        flags2: (flags.0 >> 32) as u32,
        unused: [0; 11],
    };
    fixed(Opcode::Init, 2, &fixed_part, &[])
}

/// A lane on a socket that keeps the bounds of messages.
#[derive(Debug)]
pub struct SocketLane(OwnedFd);

impl Transport for SocketLane {
    fn receive(&self, space: &mut [u8]) -> Received {
        match recv(&self.0, space, RecvFlags::empty()) {
            Ok((_, 0)) => Received::Ended,
            Ok((_, length)) => Received::Message(length),
            Err(Errno::INTR) => Received::Again,
            Err(errno) => Received::Failed(errno),
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        send(&self.0, &whole, SendFlags::NOSIGNAL).map(drop)
    }

    fn another(&self) -> Result<Arc<dyn Transport>, Errno> {
        Ok(Arc::new(Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?)))
    }

    fn close(&self) {
        rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both).ok();
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// The kernel's end of a [`SocketLane`].
pub struct Kernel(OwnedFd);

/// A lane and the kernel it leads to.
pub fn socket_lane() -> (Arc<SocketLane>, Kernel) {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket pair");
    (Arc::new(SocketLane(ours)), Kernel(theirs))
}

impl Kernel {
    pub fn ask(&self, message: &[u8]) {
        send(&self.0, message, SendFlags::NOSIGNAL).expect("the session listens");
    }

    /// The next reply: its header and what follows.
    pub fn answer(&self) -> (OutHeader, Vec<u8>) {
        let mut space = vec![0; 1 << 20];
        let (_, length) = recv(&self.0, space.as_mut_slice(), RecvFlags::empty()).expect("a reply");
        let (header, body) = OutHeader::read_from_prefix(&space[..length]).expect("a header");
        assert_eq!(header.len as usize, length, "the header states the length of the reply");
        (header, body.to_vec())
    }

    /// The next reply if there is one already.
    pub fn answer_now(&self) -> Option<(OutHeader, Vec<u8>)> {
        let mut space = vec![0; 1 << 20];
        match recv(&self.0, space.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                let (header, body) = OutHeader::read_from_prefix(&space[..length]).expect("a header");
                Some((header, body.to_vec()))
            }
            Err(Errno::AGAIN) => None,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// One well-formed message of every operation, with the long SETXATTR.
pub fn corpus() -> Vec<Vec<u8>> {
    use brickwork_fuse::abi::*;
    let zero = |opcode, size: usize| plain(opcode, 2, &[&vec![0; size]]);
    let named = |opcode, size: usize| plain(opcode, 2, &[&vec![0; size], b"name\0"]);
    let lock = LkIn { lk: FileLock { end: 9, ..FileLock::default() }, ..LkIn::default() };
    let groups = [ExtHeader { size: 16, kind: EXT_GROUPS }.as_bytes(), &[1, 0, 0, 0, 27, 0, 0, 0]].concat();
    let forgets = BatchForgetIn { count: 2, dummy: 0 };
    vec![
        plain(Opcode::Lookup, 2, &[b"name\0"]),
        zero(Opcode::Forget, 8),
        fixed(Opcode::BatchForget, 2, &forgets, &[0; 32]),
        zero(Opcode::GetAttr, 16),
        zero(Opcode::StatX, 24),
        zero(Opcode::SetAttr, 88),
        plain(Opcode::ReadLink, 2, &[]),
        plain(Opcode::SymLink, 2, &[b"name\0target\0"]),
        named(Opcode::MkNod, 16),
        named(Opcode::MkDir, 8),
        message(Opcode::MkDir as u32, 2, &[&[0; 8], b"name\0"], &groups),
        plain(Opcode::Unlink, 2, &[b"name\0"]),
        plain(Opcode::RmDir, 2, &[b"name\0"]),
        plain(Opcode::Rename, 2, &[&[0; 8], b"from\0to\0"]),
        plain(Opcode::Rename2, 2, &[&[0; 16], b"from\0to\0"]),
        named(Opcode::Link, 8),
        zero(Opcode::Open, 8),
        zero(Opcode::Read, 40),
        fixed(Opcode::Write, 2, &WriteIn { size: 11, ..WriteIn::default() }, b"hello world"),
        plain(Opcode::StatFs, 2, &[]),
        zero(Opcode::Release, 24),
        zero(Opcode::FSync, 16),
        fixed(Opcode::SetXattr, 2, &SetXattrIn { size: 3, ..SetXattrIn::default() }, b"user.x\0abc"),
        plain(Opcode::GetXattr, 2, &[&[0; 8], b"user.x\0"]),
        zero(Opcode::ListXattr, 8),
        plain(Opcode::RemoveXattr, 2, &[b"user.x\0"]),
        zero(Opcode::Flush, 24),
        init(45, InitFlags(u64::MAX)),
        zero(Opcode::OpenDir, 8),
        zero(Opcode::ReadDir, 40),
        zero(Opcode::ReadDirPlus, 40),
        zero(Opcode::ReleaseDir, 24),
        zero(Opcode::FSyncDir, 16),
        fixed(Opcode::GetLk, 2, &lock, &[]),
        fixed(Opcode::SetLk, 2, &lock, &[]),
        fixed(Opcode::SetLkW, 2, &lock, &[]),
        zero(Opcode::Access, 8),
        named(Opcode::Create, 16),
        named(Opcode::TmpFile, 16),
        zero(Opcode::Interrupt, 8),
        zero(Opcode::BMap, 16),
        plain(Opcode::Destroy, 2, &[]),
        fixed(Opcode::IoCtl, 2, &IoCtlIn { in_size: 4, ..IoCtlIn::default() }, b"data"),
        zero(Opcode::Poll, 24),
        fixed(Opcode::NotifyReply, 2, &NotifyRetrieveIn { size: 4, ..NotifyRetrieveIn::default() }, b"page"),
        zero(Opcode::FAllocate, 32),
        zero(Opcode::LSeek, 24),
        zero(Opcode::CopyFileRange, 56),
        zero(Opcode::CopyFileRange64, 56),
        zero(Opcode::SetupMapping, 40),
        zero(Opcode::RemoveMapping, 4),
        zero(Opcode::SyncFs, 8),
    ]
}
