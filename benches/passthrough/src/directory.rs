//! An open directory: entries in batches straight from `getdents64`.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, Result};

const BATCH: usize = 64 * 1024;
/// Bytes before the name in `struct linux_dirent64`.
const HEADER: usize = 19;

/// One entry; `next` is the offset at which reading goes on after it.
pub struct DirectoryEntry<'a> {
    /// The inode number that the directory gives.
    pub number: u64,
    /// The cookie of the entry behind this one.
    pub next: u64,
    /// A `DT_*` value.
    pub kind: u8,
    /// The name.
    pub name: &'a OsStr,
}

/// A directory that is being read, and what of the last batch is not yet given out.
pub struct DirectoryStream {
    descriptor: OwnedFd,
    batch: Vec<u8>,
    filled: usize,
    position: usize,
    /// The cookie of the entry at `position`.
    cookie: u64,
}

impl DirectoryStream {
    /// Reads from the beginning of `descriptor`.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, batch: Vec::new(), filled: 0, position: 0, cookie: 0 }
    }

    /// The descriptor, for `fsync`.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Goes to `cookie`; free when reading just goes on, except at 0, which begins anew.
    ///
    /// # Errors
    /// Those of `lseek`.
    pub fn seek_to(&mut self, cookie: u64) -> Result<()> {
        if cookie == 0 || cookie != self.cookie {
            seek(&self.descriptor, SeekFrom::Start(cookie))?;
            (self.filled, self.position, self.cookie) = (0, 0, cookie);
        }
        Ok(())
    }

    /// Hands entries to `take` until it answers `false`, which leaves that entry for the next call, or the end.
    ///
    /// # Errors
    /// Those of `getdents64`, when no entry was taken before; else the next call meets them.
    pub fn read(&mut self, mut take: impl FnMut(&DirectoryEntry<'_>) -> bool) -> Result<()> {
        let mut taken = false;
        loop {
            if self.position == self.filled {
                match self.fill() {
                    Ok(()) if self.filled == 0 => return Ok(()),
                    Ok(()) => {}
                    Err(_) if taken => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let (entry, length) = parse(&self.batch[self.position..self.filled]);
            let next = entry.next;
            if !take(&entry) {
                return Ok(());
            }
            taken = true;
            self.position += length;
            self.cookie = next;
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.batch.resize(BATCH, 0);
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the kernel writes at most `len` bytes into a buffer of that length that we hold exclusively.
        let read =
            unsafe { libc::syscall(libc::SYS_getdents64, descriptor, self.batch.as_mut_ptr(), self.batch.len()) };
        (self.position, self.filled) = (0, 0);
        match usize::try_from(read) {
            Ok(read) => self.filled = read,
            Err(_) => return Err(last_error()),
        }
        Ok(())
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The first record of `records` and its length.
fn parse(records: &[u8]) -> (DirectoryEntry<'_>, usize) {
    let word = |at: usize| u64::from_ne_bytes(records[at..at + 8].try_into().expect("eight bytes"));
    let length = usize::from(u16::from_ne_bytes([records[16], records[17]]));
    let name = &records[HEADER..length];
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let entry =
        DirectoryEntry { number: word(0), next: word(8), kind: records[18], name: OsStr::from_bytes(&name[..end]) };
    (entry, length)
}
