//! The values inside requests and replies that are no identities: what to change, how, and what was found.

use serde::{Deserialize, Serialize};

use crate::types::{Attr, FileKind, Gfid, Name, Timespec};

/// The permission bits, set-id bits and sticky bit of a mode.
pub const MODE_BITS: u32 = 0o7777;

/// Which attributes `setattr` sets; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last read.
    pub accessed: Option<SetTime>,
    /// Last change of content.
    pub modified: Option<SetTime>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    /// The brick's clock at the moment of the change.
    Now,
    /// This very time.
    To(Timespec),
}

/// What a rename does with an object that already has the new name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// It loses that name.
    #[default]
    Replace,
    /// The rename answers `EEXIST`.
    NoReplace,
    /// The two objects swap names.
    Exchange,
}

/// What a name pointed to before a rename or unlink took it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unnamed {
    /// The object.
    pub gfid: Gfid,
    /// Names it has left.
    pub links: u32,
}

/// What `fallocate` does with its range (`FALLOC_FL_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FallocateMode {
    /// Sets space aside; the file grows to the end of the range unless `keep_size`.
    Allocate {
        /// Leave the length as it is.
        keep_size: bool,
    },
    /// Gives the space back; the range reads as zeros. The length stays.
    PunchHole,
    /// Makes the range zeros, with space set aside.
    ZeroRange {
        /// Leave the length as it is.
        keep_size: bool,
    },
    /// Cuts the range out; what follows moves down.
    CollapseRange,
    /// Makes room for a range of zeros; what follows moves up.
    InsertRange,
    /// Gives shared extents in the range a copy of their own.
    UnshareRange,
}

/// What `seek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeekWhat {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// What `setxattr` does when the attribute exists or is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// Creates or replaces.
    #[default]
    Set,
    /// `EEXIST` when it exists.
    Create,
    /// `ENODATA` when it is missing.
    Replace,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// The name; `.` and `..` are not listed by bricks.
    pub name: Name,
    /// The object.
    pub gfid: Gfid,
    /// Its type.
    pub kind: FileKind,
    /// Where a later `readdir` goes on after this entry.
    pub next: u64,
    /// Its attributes, from `readdirplus`; `None` when it vanished meanwhile.
    pub attr: Option<Attr>,
}

/// Space and objects of a volume, as `statvfs(3)` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStat {
    /// Unit of the block counts, in bytes.
    pub fragment_size: u64,
    /// Preferred size of I/O, in bytes.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for others than root.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, in bytes.
    pub name_max: u32,
}

/// Which family a lock belongs to; families do not conflict with each other, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LkKind {
    /// `fcntl`, by process or by open file description.
    Posix,
    /// `flock`.
    Flock,
}

/// What is asked of the lock table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LkCommand {
    /// Which lock would conflict (`F_GETLK`).
    Get,
    /// Take or release at once, or `EAGAIN` (`F_SETLK`).
    Set,
    /// Take or release, wait if need be (`F_SETLKW`).
    SetWait,
}

/// The strength of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LkType {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None: releases.
    Unlock,
}

/// A range with the lock on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LkRange {
    /// Strength.
    pub kind: LkType,
    /// First byte.
    pub start: u64,
    /// Byte after the last; `u64::MAX` reaches past any growth.
    pub end: u64,
    /// The holder's process on its own host, for people.
    pub pid: u32,
}

/// Take, take without waiting, or release a lock between xlators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XlatorLkCommand {
    /// Take, wait if need be.
    Lock,
    /// Take at once, or `EAGAIN`.
    TryLock,
    /// Release.
    Unlock,
}

/// How `xattrop` combines the stored value with the given one, as arrays of big-endian numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattropKind {
    /// Adds 32-bit elements.
    Add32,
    /// Adds 64-bit elements.
    Add64,
    /// Or of the bits.
    Or,
    /// And of the bits.
    And,
    /// Stores the given value, answers the old one.
    GetAndSet,
}

/// What is asked of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseCommand {
    /// Which lease stands.
    Get,
    /// Take one.
    Set,
    /// Give it back.
    Unlock,
}

/// The strength of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseType {
    /// Nobody else writes.
    Read,
    /// Nobody else opens.
    ReadWrite,
    /// None.
    None,
}
