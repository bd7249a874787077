//! The words of the domain as types: who (client, owner, credentials), what (gfid, name, open file),
//! and what is known of it (attributes).
//!
//! Ids are types, never bare integers; every text that came from outside was checked when its value was made.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::error::Errno;
use crate::run::run_of_bytes;

/// The identity of an object (file, directory, link, device) for its whole life, on every brick.
///
/// 128 bits, shown as a UUID. Whoever creates an object chooses it; bricks never do.
///
/// # Source
/// GlusterFS's `trusted.gfid`: the 16 bytes of the UUID in text order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gfid(u128);

impl Gfid {
    /// The root directory of every volume.
    pub const ROOT: Gfid = Gfid(1);

    /// A fresh random gfid (a version 4 UUID).
    ///
    /// # Panics
    /// If the kernel has no random numbers, which Linux only says before it has booted.
    #[must_use]
    pub fn random() -> Gfid {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel's random numbers");
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Gfid::from_bytes(bytes)
    }

    /// The gfid whose 16 bytes stand in a `trusted.gfid` xattr.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Gfid {
        Gfid(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes of a `trusted.gfid` xattr.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The inode number that applications see: the low 8 bytes; 1 for the root.
    #[must_use]
    pub const fn ino(self) -> u64 {
        self.0 as u64
    }

    /// The number of the all-zero gfid, which names nothing and is refused everywhere.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c, d) = ((n >> 96) as u32, (n >> 80) as u16, (n >> 64) as u16, (n >> 48) as u16);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", n & 0xffff_ffff_ffff)
    }
}

impl fmt::Debug for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Gfid {
    type Err = String;

    /// Reads the hyphenated text of a UUID, in either case.
    fn from_str(text: &str) -> Result<Gfid, String> {
        let groups: Vec<&str> = text.split('-').collect();
        let shape = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
        let hex = shape && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if !hex {
            return Err(format!("`{text}` is not a UUID (8-4-4-4-12 hexadecimal digits)"));
        }
        let number = u128::from_str_radix(&groups.concat(), 16).map_err(|error| error.to_string())?;
        Ok(Gfid(number))
    }
}

/// One name in a directory: 1 to 255 bytes without `/` and NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(SmallVec<[u8; 30]>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;

    /// Checks `bytes` and keeps them.
    ///
    /// # Errors
    /// `ENAMETOOLONG` above 255 bytes, `EINVAL` for anything else that cannot stand in a directory.
    pub fn new(bytes: &[u8]) -> Result<Name, Errno> {
        if bytes.len() > Name::MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if matches!(bytes, b"" | b"." | b"..") || splits(bytes) {
            return Err(Errno::EINVAL);
        }
        Ok(Name(SmallVec::from_slice(bytes)))
    }

    /// The bytes, which need not be UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether a `/` or NUL is among `bytes`.
fn splits(bytes: &[u8]) -> bool {
    // Without an early end, which would make it one byte at a time: nearly all names are fine.
    bytes.iter().fold(0, |found, byte| found | u8::from((*byte == b'/') | (*byte == 0))) != 0
}

run_of_bytes!(Name, Name::MAX, "a name");

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// The name of an extended attribute: 1 to 255 bytes without NUL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XattrName(SmallVec<[u8; 30]>);

impl XattrName {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;

    /// Checks `bytes` and keeps them.
    ///
    /// # Errors
    /// `ERANGE` when empty or above 255 bytes (as Linux says it), `EINVAL` with a NUL inside.
    pub fn new(bytes: &[u8]) -> Result<XattrName, Errno> {
        if bytes.is_empty() || bytes.len() > XattrName::MAX {
            return Err(Errno::ERANGE);
        }
        if bytes.contains(&0) {
            return Err(Errno::EINVAL);
        }
        Ok(XattrName(SmallVec::from_slice(bytes)))
    }

    /// The bytes, namespace included (`user.note`).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

run_of_bytes!(XattrName, XattrName::MAX, "the name of an xattr");

impl fmt::Debug for XattrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A name in a directory: how fops that change the namespace say where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The directory.
    pub parent: Gfid,
    /// The name in it.
    pub name: Name,
}

/// What a lookup starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Locate {
    /// The object itself, wherever its names are.
    Gfid(Gfid),
    /// A name.
    Entry(Entry),
}

/// A file or directory that a client has open; unique per client, chosen by the client,
/// the same after a reopen on another brick or graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenId(pub u64);

/// An open file with the object it is open on.
///
/// The gfid travels along so that an xlator that only cares for inodes (locks, caches) keeps no map of opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenFile {
    /// The object.
    pub gfid: Gfid,
    /// The open.
    pub open: OpenId,
}

/// An object, reached through one of its opens when there is one.
///
/// Through an open it is found even when it has no name any more, and with the rights that the open was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The object.
    pub gfid: Gfid,
    /// The open to go through, when the caller has one.
    pub open: Option<OpenId>,
}

impl From<Gfid> for Target {
    fn from(gfid: Gfid) -> Target {
        Target { gfid, open: None }
    }
}

impl From<OpenFile> for Target {
    fn from(file: OpenFile) -> Target {
        Target { gfid: file.gfid, open: Some(file.open) }
    }
}

/// A client process: a mount, a gateway, a user of the library.
///
/// 128 random bits that survive reconnects, graph switches and, by hand-over, upgrades.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId(pub u128);

impl ClientId {
    /// A fresh identity.
    #[must_use]
    pub fn random() -> ClientId {
        ClientId(u128::from_be_bytes(Gfid::random().to_bytes()))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The name of one request, the same wherever it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Whose request.
    pub client: ClientId,
    /// Which of the client's slots it occupies until it is answered everywhere.
    pub slot: u32,
    /// How many requests that slot has carried.
    pub sequence: u64,
}

/// Who holds a lock, in the application's words: opaque bytes given by the kernel or a gateway.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LkOwner(SmallVec<[u8; 8]>);

impl LkOwner {
    /// The longest owner, in bytes.
    pub const MAX: usize = 1024;

    /// Keeps `bytes`.
    ///
    /// # Errors
    /// `EINVAL` above [`LkOwner::MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<LkOwner, Errno> {
        if bytes.len() > LkOwner::MAX {
            return Err(Errno::EINVAL);
        }
        Ok(LkOwner(SmallVec::from_slice(bytes)))
    }

    /// The owner that FUSE names by a number.
    #[must_use]
    pub fn from_u64(owner: u64) -> LkOwner {
        LkOwner(SmallVec::from_slice(&owner.to_le_bytes()))
    }

    /// The bytes; empty when the caller named no owner.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

run_of_bytes!(LkOwner, LkOwner::MAX, "a lock owner");

impl fmt::Debug for LkOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// For whom a fop is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// File system user.
    pub uid: u32,
    /// File system group.
    pub gid: u32,
    /// The process, for people and for `/proc`; never identity.
    pub pid: u32,
    /// Supplementary groups; empty for root, whom they would give nothing.
    #[serde(deserialize_with = "crate::run::groups")]
    pub groups: Arc<[u32]>,
}

impl Credentials {
    /// The most supplementary groups of a caller; the kernel knows no more (`NGROUPS_MAX`).
    pub const GROUPS_MAX: usize = 65_536;

    /// Root with no supplementary groups: what Brickwork itself acts as.
    #[must_use]
    pub fn root() -> Credentials {
        Credentials { uid: 0, gid: 0, pid: 0, groups: Arc::default() }
    }
}

/// The type of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

impl FileKind {
    /// The kind in the `S_IFMT` bits of `mode`; `None` when they name none.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<FileKind> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => FileKind::File,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Symlink,
            libc::S_IFBLK => FileKind::BlockDevice,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            _ => return None,
        })
    }

    /// The `S_IFMT` bits of this kind.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            FileKind::File => libc::S_IFREG,
            FileKind::Directory => libc::S_IFDIR,
            FileKind::Symlink => libc::S_IFLNK,
            FileKind::BlockDevice => libc::S_IFBLK,
            FileKind::CharDevice => libc::S_IFCHR,
            FileKind::Fifo => libc::S_IFIFO,
            FileKind::Socket => libc::S_IFSOCK,
        }
    }
}

/// A point in time since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timespec {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What is known of an object (`stat`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// The object.
    pub gfid: Gfid,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits, set-id bits and sticky bit (`07777`).
    pub mode: u32,
    /// Names of the object; the brick's own handle is not counted.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device.
    pub rdev: u64,
    /// Length in bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of I/O, in bytes.
    pub block_size: u32,
    /// Last read.
    pub accessed: Timespec,
    /// Last change of content.
    pub modified: Timespec,
    /// Last change of attributes.
    pub changed: Timespec,
}

impl Attr {
    /// The inode number that applications see.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.gfid.ino()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gfid_reads_what_it_prints_and_keeps_the_byte_order_of_the_xattr() {
        let text = "090bf5b4-f474-4c64-8dc9-8544370860e3";
        let gfid: Gfid = text.parse().unwrap();
        assert_eq!(gfid.to_string(), text);
        assert_eq!(gfid.to_bytes()[..4], [0x09, 0x0b, 0xf5, 0xb4]);
        assert_eq!(Gfid::from_bytes(gfid.to_bytes()), gfid);
        assert_eq!(Gfid::ROOT.to_string(), "00000000-0000-0000-0000-000000000001");
        assert_eq!(Gfid::ROOT.ino(), 1);
    }

    #[test]
    fn gfid_refuses_text_that_is_no_uuid() {
        for text in ["", "1", "090bf5b4f4744c648dc98544370860e3", "+90bf5b4-f474-4c64-8dc9-8544370860e3"] {
            assert!(text.parse::<Gfid>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_gfids_are_version_4_and_differ() {
        let (a, b) = (Gfid::random(), Gfid::random());
        assert_ne!(a, b);
        assert_eq!(a.to_string().as_bytes()[14], b'4');
    }

    #[test]
    fn name_takes_255_bytes_and_no_more() {
        assert!(Name::new(&[b'a'; 255]).is_ok());
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn name_refuses_what_cannot_stand_in_a_directory() {
        for bytes in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(Name::new(bytes), Err(Errno::EINVAL), "{bytes:?}");
        }
    }

    #[test]
    fn lk_owner_takes_1024_bytes_and_no_more() {
        assert!(LkOwner::new(&[7; LkOwner::MAX]).is_ok());
        assert_eq!(LkOwner::new(&[7; LkOwner::MAX + 1]), Err(Errno::EINVAL));
    }
}
