//! One message of the kernel, decoded.
//!
//! Everything borrows from the buffer it was read into. Every length is checked against the message before it is used;
//! nothing is allocated; whatever does not fit the protocol is a [`Malformed`], which the session answers itself.

mod cursor;
mod decode;
mod extensions;
mod operation;

pub use extensions::{Extensions, SecurityContext, SecurityContexts};
pub use operation::{
    CopyRange, Create, Forgets, IoCtl, Lock, LockKind, Operation, ReadRequest, Release, SetAttr, SetTime, SetXattr,
    Time, WriteRequest,
};

use zerocopy::FromBytes;

use crate::abi::{INT_REQ_BIT, InHeader, Opcode};
use crate::buffer::Payload;
use crate::init::InitFlags;

/// Names a file of this mount; chosen by the server, [`NodeId::ROOT`] is the root directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(crate::abi::ROOT_ID);
}

/// Names an open file or directory; chosen by the server in its reply to OPEN, OPENDIR, CREATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Fh(pub u64);

/// Names the owner of a lock: a process for fcntl, an open file description for flock and OFD locks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LockOwner(pub u64);

/// One request of the kernel, borrowed from the buffer it was read into.
#[derive(Debug)]
pub struct Request<'a> {
    header: InHeader,
    operation: Operation<'a>,
    extensions: Extensions<'a>,
}

impl<'a> Request<'a> {
    /// Decodes `message`, which is one whole read from the device; `granted` is what INIT agreed on, as that changes
    /// the layout of SETXATTR.
    ///
    /// A payload borrowed from `message` is copied when it is made owned; the session decodes from its own buffers,
    /// which hand the payload over instead.
    ///
    /// # Errors
    /// What is wrong with the message, and the `unique` to answer where it could be read.
    pub fn decode(message: &'a [u8], granted: InitFlags) -> Result<Self, Malformed> {
        Self::decode_with(message, granted, Payload::borrowed)
    }

    /// Decodes `message`, making the payload of a WRITE with `payload`.
    pub(crate) fn decode_with(
        message: &'a [u8],
        granted: InitFlags,
        payload: impl FnOnce(&'a [u8]) -> Payload<'a>,
    ) -> Result<Self, Malformed> {
        let (header, rest) = InHeader::read_from_prefix(message).map_err(|_| Malformed::without_header(message))?;
        let fail = |fault| Malformed { unique: header.unique, opcode: header.opcode, fault };
        if header.len as usize != message.len() {
            return Err(fail(Fault::Length { stated: header.len, read: message.len() }));
        }
        let extensions_bytes = usize::from(header.total_extlen) * 8;
        let fixed = rest.len().checked_sub(extensions_bytes).ok_or_else(|| fail(Fault::Extension))?;
        let (body, extensions) = rest.split_at(fixed);
        let extensions = Extensions::decode(extensions).map_err(fail)?;
        let operation = match Opcode::from_number(header.opcode) {
            Some(opcode) => decode::operation(opcode, body, granted, payload).map_err(fail)?,
            None => Operation::Unknown { opcode: header.opcode },
        };
        Ok(Self { header, operation, extensions })
    }

    /// The number that names this request until it is answered.
    pub fn unique(&self) -> u64 {
        self.header.unique
    }

    /// The number of the operation.
    pub fn opcode(&self) -> u32 {
        self.header.opcode
    }

    /// The file the request is about; for operations on names, the directory.
    pub fn node(&self) -> NodeId {
        NodeId(self.header.nodeid)
    }

    /// The file system user id of the caller, in the mount's user namespace; `u32::MAX` where it has none there.
    pub fn uid(&self) -> u32 {
        self.header.uid
    }

    /// The file system group id of the caller, as [`Request::uid`].
    pub fn gid(&self) -> u32 {
        self.header.gid
    }

    /// The thread id of the caller; zero when the kernel itself asks or the caller is of another pid namespace.
    pub fn pid(&self) -> u32 {
        self.header.pid
    }

    /// What is asked.
    pub fn operation(&self) -> &Operation<'a> {
        &self.operation
    }

    /// What is asked, by value.
    pub fn into_operation(self) -> Operation<'a> {
        self.operation
    }

    /// What the kernel says beside the operation: groups and security contexts of a file being made.
    pub fn extensions(&self) -> &Extensions<'a> {
        &self.extensions
    }

    /// Whether the kernel waits for a reply.
    pub fn is_answered(&self) -> bool {
        Opcode::from_number(self.header.opcode).is_none_or(Opcode::is_answered)
    }

    /// The `unique` of the request an INTERRUPT is about, if this is one.
    pub(crate) fn interrupts(&self) -> Option<u64> {
        match self.operation {
            Operation::Interrupt { unique } => Some(unique & !INT_REQ_BIT),
            _ => None,
        }
    }
}

/// A message that does not fit the protocol. The kernel does not send one; a damaged hand-over or a fuzzer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The request to answer with `EIO`; zero if not even the header could be read.
    pub unique: u64,
    /// The number of the operation; zero if not even the header could be read.
    pub opcode: u32,
    /// What does not fit.
    pub fault: Fault,
}

/// What does not fit the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Shorter than a header.
    NoHeader {
        /// Bytes read.
        read: usize,
    },
    /// The header states another length than was read.
    Length {
        /// Bytes by the header.
        stated: u32,
        /// Bytes read.
        read: usize,
    },
    /// The fixed part of the operation or the payload it states is cut short.
    Short,
    /// More bytes than the operation has.
    Trailing,
    /// A name is empty, has a slash, or lacks its closing NUL.
    Name,
    /// A number the operation does not know: a lock type, a range that ends before it starts.
    Value,
    /// The extensions are longer than the message or do not fill their stated length.
    Extension,
}

impl Malformed {
    fn without_header(message: &[u8]) -> Self {
        Self { unique: 0, opcode: 0, fault: Fault::NoHeader { read: message.len() } }
    }

    /// Whether there is a request to answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.unique != 0 && Opcode::from_number(self.opcode).is_none_or(Opcode::is_answered)
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Opcode::from_number(self.opcode) {
            Some(opcode) => write!(f, "{opcode:?} {}: ", self.unique)?,
            None => write!(f, "opcode {} {}: ", self.opcode, self.unique)?,
        }
        match self.fault {
            Fault::NoHeader { read } => write!(f, "{read} bytes are no header"),
            Fault::Length { stated, read } => write!(f, "the header states {stated} bytes, {read} were read"),
            Fault::Short => f.write_str("the message is cut short"),
            Fault::Trailing => f.write_str("bytes follow the operation"),
            Fault::Name => f.write_str("a name is empty, has a slash or no closing NUL"),
            Fault::Value => f.write_str("a number is out of its range"),
            Fault::Extension => f.write_str("the extensions do not fill their length"),
        }
    }
}

impl std::error::Error for Malformed {}
