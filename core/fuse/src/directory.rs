//! The entries of a directory, laid out as READDIR and READDIRPLUS want them.

use zerocopy::IntoBytes;

use crate::abi::{DirEnt, EntryOut, record_align};
use crate::reply::Entry;

/// Longest name the kernel takes in a directory, in bytes.
const NAME_MAX: usize = 1024;
/// Memory set aside before the first entry, in bytes; more only once entries fill it.
const FIRST_CAPACITY: usize = 64 * 1024;

/// The type of a directory entry, as `d_type` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum FileKind {
    Unknown = 0,
    Fifo = 1,
    CharacterDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    Regular = 8,
    SymLink = 10,
    Socket = 12,
}

impl FileKind {
    /// The type in a file's `mode`.
    pub fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFCHR => Self::CharacterDevice,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFREG => Self::Regular,
            libc::S_IFLNK => Self::SymLink,
            libc::S_IFSOCK => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

/// The answer to a READDIR, filled entry by entry.
pub struct DirectoryBuffer(Records);

impl DirectoryBuffer {
    /// An empty answer to a READDIR that asked for at most `size` bytes.
    pub fn new(size: u32) -> Self {
        Self(Records::new(size))
    }

    /// Appends an entry; `offset` is where the next READDIR goes on after it, and must not be zero.
    ///
    /// `false`: there is no room left and the entry is not in; answer with what is there. A name that the kernel would
    /// refuse, and the whole listing with it, is left out with a warning.
    #[must_use = "an entry that had no room must come with the next READDIR"]
    pub fn push(&mut self, ino: u64, offset: u64, kind: FileKind, name: &[u8]) -> bool {
        self.0.push(&[], ino, offset, kind, name)
    }

    /// Whether no entry is in: to the kernel, the end of the directory.
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }

    /// The bytes of the reply.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// The answer to a READDIRPLUS, filled entry by entry.
pub struct DirectoryPlusBuffer(Records);

impl DirectoryPlusBuffer {
    /// An empty answer to a READDIRPLUS that asked for at most `size` bytes.
    pub fn new(size: u32) -> Self {
        Self(Records::new(size))
    }

    /// Appends an entry with what a LOOKUP of it would answer; as [`DirectoryBuffer::push`].
    ///
    /// A pushed `Some(entry)` counts one lookup, once the reply is taken. `None` leaves the lookup to the kernel: right
    /// for `.` and `..`, and for a file that was gone when it was looked at.
    #[must_use = "an entry that had no room must come with the next READDIRPLUS, and counts no lookup"]
    pub fn push(&mut self, entry: Option<&Entry>, ino: u64, offset: u64, kind: FileKind, name: &[u8]) -> bool {
        let entry = entry.map_or_else(EntryOut::default, |entry| entry.to_abi());
        self.0.push(entry.as_bytes(), ino, offset, kind, name)
    }

    /// Whether there is room for an entry of this name: ask before looking it up.
    pub fn has_room(&self, name: &[u8]) -> bool {
        self.0.bytes.len() + Records::length(size_of::<EntryOut>(), name) <= self.0.size
    }

    /// Whether no entry is in: to the kernel, the end of the directory.
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }

    /// The bytes of the reply.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// Records aligned to eight bytes, at most `size` bytes of them.
struct Records {
    bytes: Vec<u8>,
    size: usize,
}

impl Records {
    fn new(size: u32) -> Self {
        let size = size as usize;
        Self { bytes: Vec::with_capacity(size.min(FIRST_CAPACITY)), size }
    }

    fn length(prefix: usize, name: &[u8]) -> usize {
        record_align(prefix + size_of::<DirEnt>() + name.len())
    }

    fn push(&mut self, prefix: &[u8], ino: u64, off: u64, kind: FileKind, name: &[u8]) -> bool {
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&b'/') || name.contains(&0) {
            tracing::warn!(name = %name.escape_ascii(), "a directory entry with an impossible name is left out");
            return true;
        }
        let end = self.bytes.len() + Self::length(prefix.len(), name);
        if end > self.size {
            return false;
        }
        let fixed = DirEnt { ino, off, namelen: name.len() as u32, kind: kind as u32 };
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(fixed.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut buffer = DirectoryBuffer::new(4096);
        assert!(buffer.push(7, 1, FileKind::Regular, b"ab"));
        assert!(buffer.push(8, 2, FileKind::Directory, b"abcdefgh"));
        let mut expected = Vec::new();
        for (ino, off, kind, name, pad) in [(7u64, 1u64, 8u32, &b"ab"[..], 6), (8, 2, 4, b"abcdefgh", 0)] {
            expected.extend(ino.to_ne_bytes());
            expected.extend(off.to_ne_bytes());
            expected.extend((name.len() as u32).to_ne_bytes());
            expected.extend(kind.to_ne_bytes());
            expected.extend(name);
            expected.extend(vec![0; pad]);
        }
        assert_eq!(buffer.as_bytes(), expected);
    }

    #[test]
    fn an_entry_that_fits_to_the_last_byte_is_in_and_one_byte_less_is_full() {
        let mut exact = DirectoryBuffer::new(32);
        assert!(exact.push(1, 1, FileKind::Regular, b"12345678"));
        assert!(!exact.push(1, 2, FileKind::Regular, b"1"));
        assert_eq!(exact.as_bytes().len(), 32);
        assert!(!DirectoryBuffer::new(31).push(1, 1, FileKind::Regular, b"12345678"));
    }

    #[test]
    fn the_plus_buffer_knows_beforehand_what_fits() {
        let mut buffer = DirectoryPlusBuffer::new(160);
        assert!(buffer.has_room(b"12345678") && !buffer.has_room(b"123456789"));
        assert!(buffer.push(None, 1, 1, FileKind::Regular, b"12345678"));
        assert!(!buffer.has_room(b"1"));
        assert_eq!(buffer.as_bytes()[..128], [0; 128]);
    }

    #[test]
    fn a_name_the_kernel_would_refuse_is_left_out_and_the_listing_goes_on() {
        let mut buffer = DirectoryBuffer::new(4096);
        for name in [&b""[..], b"a/b", b"a\0b", &[b'x'; 1025]] {
            assert!(buffer.push(1, 1, FileKind::Regular, name));
        }
        assert!(buffer.is_empty());
        assert!(buffer.push(1, 1, FileKind::Regular, &[b'x'; 1024]));
    }

    #[test]
    fn a_huge_size_sets_no_memory_aside_for_itself() {
        assert!(DirectoryBuffer::new(u32::MAX).0.bytes.capacity() <= FIRST_CAPACITY);
    }
}
