//! A segment: one file of the log, all of its space set aside before the first byte is used.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `BRWKJRNL` |
//! | 8 | 1 | version of the format, 1 |
//! | 9 | 1 | kind: 1 begins with a snapshot, 2 goes on where the segment before it ended |
//! | 10 | 6 | zero |
//! | 16 | 8 | number, as in the file's name |
//! | 24 | 8 | salt of its frames, random |
//! | 32 | 8 | where the segment before it ended (kind 2) |
//! | 40 | 8 | settled: frames up to here were there when the segment came to be |
//! | 48 | 8 | bytes of the file |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC-32 of bytes 0 to 60 |
//! | 64 | | frames |

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::Refusal;
use crate::frame::{self, Head};

/// The one version of the format.
pub(crate) const VERSION: u8 = 1;

/// Where the frames of a segment begin.
pub(crate) const FRAMES: usize = 64;

const MAGIC: &[u8; 8] = b"BRWKJRNL";
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// How a segment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It begins with a snapshot: all segments before it are obsolete.
    Snapshot,
    /// The segment before it was full, up to `previous_end`.
    Overflow { previous_end: u64 },
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub origin: Origin,
    pub number: u64,
    pub salt: u64,
    /// Frames up to here were there when the segment came to be.
    pub settled: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// Why bytes are not the header of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// Of a version that is not ours.
    Version(u8),
    /// Not a header at all.
    Garbage,
}

impl Header {
    pub fn encode(&self) -> [u8; FRAMES] {
        let (kind, previous_end) = match self.origin {
            Origin::Snapshot => (1, 0),
            Origin::Overflow { previous_end } => (2, previous_end),
        };
        let mut bytes = [0; FRAMES];
        bytes[..8].copy_from_slice(MAGIC);
        (bytes[8], bytes[9]) = (VERSION, kind);
        let fields = [self.number, self.salt, previous_end, self.settled, self.size];
        for (place, field) in bytes[16..56].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// # Errors
    /// [`NoHeader`]; a foreign version is told before anything else is believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let bytes = bytes.get(..FRAMES).filter(|bytes| bytes.starts_with(MAGIC)).ok_or(NoHeader::Garbage)?;
        if bytes[8] != VERSION {
            return Err(NoHeader::Version(bytes[8]));
        }
        if bytes[60..] != crc32fast::hash(&bytes[..60]).to_le_bytes() {
            return Err(NoHeader::Garbage);
        }
        let field = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[16 + 8 * index + byte]));
        let origin = match bytes[9] {
            1 => Origin::Snapshot,
            2 => Origin::Overflow { previous_end: field(2) },
            _ => return Err(NoHeader::Garbage),
        };
        Ok(Self { origin, number: field(0), salt: field(1), settled: field(3), size: field(4) })
    }
}

/// What is written to the space of a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// Nothing: the quickest to make.
    None,
    /// Zeros, so that the first store into a page of the map finds it there: 0.1 µs instead of 2.5.
    Written,
    /// Zeros that are on the disk, so that a sync of records does not change the file's map of blocks.
    Synced,
}

/// A segment that is written to.
///
/// Always true between calls: `tail` is a multiple of [`frame::ALIGN`] or the end of the file, no frame begins at or
/// behind it, and all bytes from it to the end of the file are zero.
pub(crate) struct Segment {
    file: Arc<File>,
    map: MmapRaw,
    pub salt: u64,
    /// Where the next frame begins.
    pub tail: usize,
    /// Frames before this are on the disk. Meaningful in [`crate::Mode::Disk`] only.
    pub kept: usize,
}

impl Segment {
    /// Makes the file `path` with space for `bytes` and nothing in it, not even a header.
    ///
    /// [`Zeros`] cost time here and save it later.
    pub fn create(path: &Path, bytes: usize, zeros: Zeros) -> Result<Self, Refusal> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = options.open(path).map_err(Refusal::of("create", path))?;
        set_aside(&file, bytes, path)?;
        if zeros != Zeros::None {
            let filled = file.rewind().and_then(|()| write_zeros(&file, bytes));
            filled.map_err(Refusal::of("fill with zeros", path))?;
        }
        if zeros == Zeros::Synced {
            rustix::fs::fsync(&file).map_err(Refusal::of("sync", path))?;
        }
        let salt = salt().map_err(Refusal::of("draw a random number for", path))?;
        Self::map(file, bytes, salt, FRAMES, path)
    }

    /// Maps the whole of `file`, which has `bytes`, to go on at the start of `torn`, which is wiped.
    pub fn resume(file: File, bytes: usize, salt: u64, torn: Range<usize>, path: &Path) -> Result<Self, Refusal> {
        // Whoever copied the file may have left holes in it.
        set_aside(&file, bytes, path)?;
        let mut segment = Self::map(file, bytes, salt, torn.start, path)?;
        segment.wipe(torn);
        Ok(segment)
    }

    fn map(file: File, bytes: usize, salt: u64, tail: usize, path: &Path) -> Result<Self, Refusal> {
        let map = MmapOptions::new().len(bytes).map_raw(&file).map_err(Refusal::of("map", path))?;
        Ok(Self { file: Arc::new(file), map, salt, tail, kept: tail })
    }

    /// Makes the file `bytes` long, at least as long as it is.
    pub fn grow(&mut self, bytes: usize, path: &Path) -> Result<(), Refusal> {
        assert!(bytes >= self.map.len(), "a segment never shrinks");
        set_aside(&self.file, bytes, path)?;
        self.map = MmapOptions::new().len(bytes).map_raw(&*self.file).map_err(Refusal::of("map", path))?;
        Ok(())
    }

    /// The file, for syncs.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Syncs of this segment fail from here on.
    #[cfg(test)]
    pub fn lose_disk(&mut self) {
        self.file = Arc::new(File::open("/dev/null").expect("a device that cannot be synced"));
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// Whether a record of `length` bytes fits behind the tail.
    pub fn fits(&self, length: usize) -> bool {
        self.tail + frame::HEADER + length <= self.size()
    }

    /// Appends a frame. The caller has asked [`fits`](Self::fits) and computed the head of this payload.
    pub fn put(&mut self, head: Head, payload: &[u8]) {
        assert!(head.length == payload.len() && self.fits(payload.len()), "asked before");
        let [first, second] = head.encode(self.salt, self.tail);
        self.copy(self.tail + frame::HEADER, payload);
        self.copy(self.tail + 8, &second.to_le_bytes());
        self.publish(self.tail, first);
        self.tail = frame::next(self.tail, payload.len()).min(self.size());
    }

    /// Writes the header. Frames are believed only below one.
    pub fn put_header(&mut self, header: &Header) {
        self.copy(0, &header.encode());
    }

    fn copy(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.size(), "inside of the map");
        // SAFETY: the target lies in the map (asserted), which is writable and lives as long as `self`. The source is
        // other memory: no reference to the map's is ever made. `&mut self` keeps other threads away; what others may
        // do to the file, which is locked and private to us, changes bytes that nobody here reads.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) }
    }

    /// Stores eight bytes at once, after everything that was copied before.
    fn publish(&mut self, at: usize, word: u64) {
        assert!(at.is_multiple_of(8) && at + 8 <= self.size(), "inside of the map, aligned");
        // SAFETY: in the map and aligned (asserted; the map begins on a page); nobody else in this process accesses it.
        let place = unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) };
        place.store(word.to_le(), Ordering::Release);
    }

    fn wipe(&mut self, range: Range<usize>) {
        for from in range.clone().step_by(ZEROS.len()) {
            self.copy(from, &ZEROS[..ZEROS.len().min(range.end - from)]);
        }
    }
}

/// Makes `file` at least `bytes` long, with blocks behind every byte: a write into the map cannot run out of space.
fn set_aside(file: &File, bytes: usize, path: &Path) -> Result<(), Refusal> {
    let refused = |error: std::io::Error| Refusal::of("set space aside for", path)(error);
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        // File systems without the call are made to allocate by being written to.
        Err(Errno::OPNOTSUPP) => {
            let length = (&*file).seek(SeekFrom::End(0)).map_err(refused)?;
            write_zeros(file, bytes.saturating_sub(length as usize)).map_err(refused)
        }
        result => result.map_err(|errno| refused(errno.into())),
    }
}

fn write_zeros(mut file: &File, bytes: usize) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(ZEROS.len());
        file.write_all(&ZEROS[..part])?;
        left -= part;
    }
    Ok(())
}

fn salt() -> rustix::io::Result<u64> {
    let mut bytes = [0; 8];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    assert_eq!(drawn, bytes.len(), "requests of up to 256 bytes are never cut");
    Ok(u64::from_ne_bytes(bytes))
}
