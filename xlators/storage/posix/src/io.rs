//! Content: reading, writing, lengths, ranges.
//!
//! A read is tried without waiting (`RWF_NOWAIT`) first. Small buffered writes are copies into memory and run at once.
//! Cold reads, direct, synchronous and large transfers may wait for the disk: they run where the host can spare a thread
//! ([`waiting`]). fsync, fallocate and copies, which may take long, go to the pool.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use brickwork_api::{
    Attr, Bytes, CopyFileRangeReq, Cx, Errno, FallocateMode, FopError, FopResult, OpenFile, SeekReq, SeekWhat,
    TruncateReq, WriteReq, blocking, waiting,
};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno as Sys, ReadWriteFlags};

use crate::attr::attr;
use crate::brick::Brick;
use crate::buffers::Buffer;
use crate::opens::Open;
use crate::sys::{self, At};

/// Longest read, in bytes.
pub(crate) const READ_MAX: usize = 16 << 20;
/// Zeros that are written at once where the file system cannot make them.
const ZEROS: usize = 128 << 10;
/// Longest buffered write, in bytes, that never asks for a thread to wait on. A longer one takes as long as the two hops
/// to the pool and back, and is the likelier to be held back while the kernel has too much to write out.
const WRITE_AT_ONCE_MAX: usize = 128 << 10;

/// Where transfers that may wait for the disk were done.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(crate) in_place: AtomicU64,
    pub(crate) on_pool: AtomicU64,
}

impl Brick {
    fn opened(&self, cx: &Cx, file: OpenFile) -> FopResult<Arc<Open>> {
        let open = self.opens.get(cx.client(), file.gfid, file.open)?;
        if open.stream.is_some() {
            return Err(Errno::EISDIR.into());
        }
        Ok(open)
    }

    fn opened_to_write(&self, cx: &Cx, file: OpenFile) -> FopResult<Arc<Open>> {
        let open = self.opened(cx, file)?;
        if open.writes() { Ok(open) } else { Err(Errno::EBADF.into()) }
    }

    /// Reads up to `size` bytes; fewer are the end of the file.
    pub(crate) async fn read(&self, cx: &Cx, file: OpenFile, offset: u64, size: u32) -> FopResult<Bytes> {
        let open = self.opened(cx, file)?;
        if !open.reads() {
            return Err(Errno::EBADF.into());
        }
        check_offset(offset)?;
        let size = size as usize;
        if size > READ_MAX {
            return Err(FopError::new(Errno::EINVAL).doing("reading more than fits one reply").with("size", size));
        }
        let mut buffer = self.buffers.take(size, open.is_direct());
        let mut read = 0;
        if !open.is_direct() && !self.no_nowait.load(Ordering::Relaxed) {
            let (length, done) = self.read_at_once(&open, buffer.as_mut(), offset)?;
            if done {
                return Ok(buffer.into_bytes(length));
            }
            read = length;
        }
        let transfer = move || {
            let result = read_to_end(&open, buffer.as_mut(), read, offset);
            (buffer, result)
        };
        let (buffer, result) = self.transfer(cx, transfer).await?;
        Ok(Buffer::into_bytes(buffer, result?))
    }

    /// Does a transfer that may wait for the disk, and counts where.
    async fn transfer<T: Send + 'static>(&self, cx: &Cx, work: impl FnOnce() -> T + Send + 'static) -> FopResult<T> {
        let asked = thread::current().id();
        let (done, there) = waiting(&*cx.host, move || (work(), thread::current().id())).await?;
        let count = if there == asked { &self.waits.in_place } else { &self.waits.on_pool };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(done)
    }

    /// Reads what is in memory; returns how much, and whether that is all there is.
    fn read_at_once(&self, open: &Open, buffer: &mut [u8], offset: u64) -> FopResult<(usize, bool)> {
        let mut read = 0;
        while read < buffer.len() {
            let mut rest = [IoSliceMut::new(&mut buffer[read..])];
            match rustix::io::preadv2(&open.fd, &mut rest, offset + read as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Ok((read, true)),
                Ok(more) => read += more,
                Err(Sys::INTR) => {}
                Err(Sys::AGAIN) => return Ok((read, false)),
                Err(Sys::OPNOTSUPP) => {
                    self.no_nowait.store(true, Ordering::Relaxed);
                    return Ok((read, false));
                }
                // What was read counts; the error comes back with the next read.
                Err(_) if read > 0 => return Ok((read, true)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok((read, true))
    }

    /// Writes `data` at `offset`, or at the end.
    pub(crate) async fn write(&self, cx: &Cx, request: &WriteReq) -> FopResult<u32> {
        let open = self.opened_to_write(cx, request.file)?;
        check_offset(request.offset)?;
        if self.full.load(Ordering::Relaxed) {
            let end = request.offset.saturating_add(request.data.len() as u64);
            let size = sys::stat(At::of(&open.fd))?.stx_size;
            if end > size || request.append {
                self.check_space()?;
            }
        }
        if request.kill_set_id {
            self.kill_set_id(open.fd.as_fd())?;
        }
        let waits = open.flags.intersects(OFlags::DIRECT | OFlags::DSYNC | OFlags::SYNC)
            || request.data.len() > WRITE_AT_ONCE_MAX;
        let (data, place) = (request.data.clone(), Place::of(request));
        let written = match waits {
            true => self.transfer(cx, move || write_all(&open, &data, place)).await??,
            false => write_all(&open, &data, place)?,
        };
        Ok(u32::try_from(written).expect("the data of one request is shorter"))
    }

    /// Makes what was written survive a power cut.
    pub(crate) async fn fsync(&self, cx: &Cx, file: OpenFile, data_only: bool) -> FopResult<()> {
        let open = self.opens.get(cx.client(), file.gfid, file.open)?;
        let sync = move || match data_only {
            true => rustix::fs::fdatasync(&open.fd),
            false => rustix::fs::fsync(&open.fd),
        };
        Ok(blocking(&*cx.host, sync).await??)
    }

    /// Sets the length of a file: through an open by the right of the open, else by that of the caller.
    pub(crate) fn truncate(&self, cx: &Cx, request: &TruncateReq) -> FopResult<Attr> {
        let size = i64::try_from(request.size).map_err(|_| Errno::EFBIG)?;
        let gfid = request.target.gfid;
        let grip = self.hold(cx.client(), request.target)?;
        let through_open = match (request.target.open, &grip) {
            (Some(_), crate::resolve::Grip::Open(open)) => open.writes(),
            _ => false,
        };
        let fd = grip.as_fd();
        let before = sys::stat(At::of(&fd))?;
        match u32::from(before.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        if through_open {
            rustix::fs::ftruncate(fd, request.size)?;
        } else {
            let _acting = self.identities.assume(&cx.credentials)?;
            sys::truncate(fd, size)?;
        }
        if request.kill_set_id {
            self.kill_set_id(fd)?;
        }
        attr(gfid, &sys::stat(At::of(&fd))?)
    }

    /// Sets space aside, gives it back, cuts or inserts ranges.
    pub(crate) async fn fallocate(
        &self,
        cx: &Cx,
        file: OpenFile,
        mode: FallocateMode,
        offset: u64,
        length: u64,
    ) -> FopResult<()> {
        let open = self.opened_to_write(cx, file)?;
        check_range(offset, length)?;
        if mode != FallocateMode::PunchHole && mode != FallocateMode::CollapseRange {
            self.check_space()?;
        }
        let work = move || rustix::fs::fallocate(&open.fd, fallocate_flags(mode), offset, length);
        Ok(blocking(&*cx.host, work).await??)
    }

    /// Makes a range zeros, by writing them where the file system cannot.
    pub(crate) async fn zerofill(&self, cx: &Cx, file: OpenFile, offset: u64, length: u64) -> FopResult<()> {
        let open = self.opened_to_write(cx, file)?;
        check_range(offset, length)?;
        self.check_space()?;
        let work = move || match rustix::fs::fallocate(&open.fd, FallocateFlags::ZERO_RANGE, offset, length) {
            Err(Sys::OPNOTSUPP) => write_zeros(&open, offset, length),
            other => Ok(other?),
        };
        blocking(&*cx.host, work).await?
    }

    /// Finds the next data or hole.
    pub(crate) fn seek(&self, cx: &Cx, request: &SeekReq) -> FopResult<u64> {
        let open = self.opened(cx, request.file)?;
        check_offset(request.offset)?;
        let from = match request.what {
            SeekWhat::Data => SeekFrom::Data(request.offset),
            SeekWhat::Hole => SeekFrom::Hole(request.offset),
        };
        // Moves the offset of the descriptor, which nothing here uses.
        Ok(rustix::fs::seek(&open.fd, from)?)
    }

    /// Copies a range between two files.
    pub(crate) async fn copy_file_range(&self, cx: &Cx, request: &CopyFileRangeReq) -> FopResult<u64> {
        let (from, to) = (self.opened(cx, request.from)?, self.opened_to_write(cx, request.to)?);
        if !from.reads() {
            return Err(Errno::EBADF.into());
        }
        check_offset(request.from_offset)?;
        check_offset(request.to_offset)?;
        self.check_space()?;
        let (mut at, mut target) = (request.from_offset, request.to_offset);
        let length = usize::try_from(request.length).unwrap_or(usize::MAX);
        let copy = move || rustix::fs::copy_file_range(&from.fd, Some(&mut at), &to.fd, Some(&mut target), length);
        Ok(blocking(&*cx.host, copy).await?? as u64)
    }
}

/// Offsets are signed to the kernel, and -1 means where the descriptor stands.
fn check_offset(offset: u64) -> FopResult<()> {
    i64::try_from(offset).map(drop).map_err(|_| Errno::EINVAL.into())
}

/// A range that a file could have.
fn check_range(offset: u64, length: u64) -> FopResult<()> {
    check_offset(offset)?;
    match offset.checked_add(length).map(i64::try_from) {
        _ if length == 0 => Err(Errno::EINVAL.into()),
        Some(Ok(_)) => Ok(()),
        _ => Err(Errno::EFBIG.into()),
    }
}

fn fallocate_flags(mode: FallocateMode) -> FallocateFlags {
    let keep = |keep_size| if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
    match mode {
        FallocateMode::Allocate { keep_size } => keep(keep_size),
        FallocateMode::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateMode::ZeroRange { keep_size } => FallocateFlags::ZERO_RANGE | keep(keep_size),
        FallocateMode::CollapseRange => FallocateFlags::COLLAPSE_RANGE,
        FallocateMode::InsertRange => FallocateFlags::INSERT_RANGE,
        FallocateMode::UnshareRange => FallocateFlags::UNSHARE_RANGE,
    }
}

/// Reads the rest of `buffer` after the first `read` bytes, waiting for the disk.
fn read_to_end(open: &Open, buffer: &mut [u8], mut read: usize, offset: u64) -> FopResult<usize> {
    let mut fd = open.fd.as_fd();
    while read < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => {
                read += more;
                if open.is_direct() {
                    // A direct read is short only at the end; what is left may not be aligned any more.
                    break;
                }
            }
            Err(Sys::INTR) => {}
            Err(Sys::INVAL) if needs_buffer(open, fd) => fd = open.buffered()?,
            Err(_) if read > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(read)
}

/// Where a write goes.
#[derive(Clone, Copy)]
enum Place {
    At(u64),
    End,
}

impl Place {
    fn of(request: &WriteReq) -> Place {
        if request.append { Place::End } else { Place::At(request.offset) }
    }
}

/// Writes all of `data`; less only when an error came after a part.
fn write_all(open: &Open, data: &[u8], place: Place) -> FopResult<usize> {
    let mut fd = open.fd.as_fd();
    let mut written = 0;
    while written < data.len() {
        let rest = &data[written..];
        let more = match place {
            Place::At(offset) => rustix::io::pwrite(fd, rest, offset + written as u64),
            Place::End => rustix::io::pwritev2(fd, &[IoSlice::new(rest)], 0, ReadWriteFlags::APPEND),
        };
        match more {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(Sys::INTR) => {}
            Err(Sys::INVAL) if needs_buffer(open, fd) => fd = open.buffered()?,
            Err(_) if written > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(written)
}

/// Whether a transfer that was refused was a direct one, for which address, offset or length may be wrong.
fn needs_buffer(open: &Open, fd: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    open.is_direct() && fd.as_raw_fd() == open.fd.as_raw_fd()
}

fn write_zeros(open: &Open, offset: u64, length: u64) -> FopResult<()> {
    let zeros = vec![0; ZEROS];
    let mut done = 0;
    while done < length {
        let part = usize::try_from(length - done).map_or(ZEROS, |left| left.min(ZEROS));
        match write_all(open, &zeros[..part], Place::At(offset + done))? {
            0 => return Err(Errno::ENOSPC.into()),
            more => done += more as u64,
        }
    }
    Ok(())
}
