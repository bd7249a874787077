//! Open files: a file handle of the protocol is the number of our own descriptor.
//!
//! `open` and `create` give it out, `release` closes it, and the kernel uses it only in between.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, RawFd};

use fuser::{Errno, FileHandle};
use rustix::fs::{self, Mode, OFlags};

/// The largest request, in bytes.
pub const MAX_WRITE: u32 = 1 << 20;
/// What O_DIRECT asks of a buffer's address.
const ALIGNMENT: usize = 4096;

thread_local! {
    /// Where this thread reads to, and copies from what it must align.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The errno of a call on the source, for the caller.
pub fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

/// Borrows the descriptor behind a file handle.
pub fn borrow<'a>(fh: FileHandle) -> BorrowedFd<'a> {
    // SAFETY: the kernel sends only handles that `open` or `create` gave out, and none after its `release`.
    unsafe { BorrowedFd::borrow_raw(fh.0 as RawFd) }
}

/// The flags for a descriptor of ours; where to append, the kernel of this one mount has already decided.
pub fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags as u32).difference(OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)
}

/// Clears set-user-id and set-group-id as a write by an ordinary user does; ours, by root, would leave them.
pub fn drop_set_ids(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(fs::fstat(file).map_err(errno)?.st_mode);
    let mut kept = mode.difference(Mode::SUID);
    if mode.contains(Mode::XGRP) {
        kept = kept.difference(Mode::SGID);
    }
    if kept == mode { Ok(()) } else { fs::fchmod(file, kept).map_err(errno) }
}

/// Lends `use_it` an aligned buffer of `length` bytes, the same for every call of this thread.
pub fn with_buffer<T>(length: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < length + ALIGNMENT {
            buffer.resize(length.max(MAX_WRITE as usize) + ALIGNMENT, 0);
        }
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        use_it(&mut buffer[start..start + length])
    })
}

/// Writes `data` at `offset`, from an aligned copy where the file is open with O_DIRECT.
pub fn write_at(file: BorrowedFd<'_>, data: &[u8], offset: u64, direct: bool) -> rustix::io::Result<usize> {
    if !direct || data.as_ptr().align_offset(ALIGNMENT) == 0 {
        return rustix::io::pwrite(file, data, offset);
    }
    with_buffer(data.len(), |copy| {
        copy.copy_from_slice(data);
        rustix::io::pwrite(file, copy, offset)
    })
}
