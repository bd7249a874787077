//! Where the kernel's messages are read into, and how a payload leaves without being copied.
//!
//! A buffer is one anonymous mapping. A message is put so that the payload of a WRITE, which follows 80 bytes of
//! headers, begins on a page: a brick may hand it to O_DIRECT as it is.
//!
//! Always true: at most [`crate::Limits::buffers_max`] buffers exist; a payload keeps its buffer only after another was
//! set aside for the next message, and is copied where there is none, so no reader ever waits for a buffer.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags};

use crate::abi::{InHeader, MIN_READ_BUFFER, WriteIn};

const PAGE: usize = 4096;
/// Where a message begins, so that what follows the headers of a WRITE begins on a page.
const MESSAGE_AT: usize = PAGE - size_of::<InHeader>() - size_of::<WriteIn>();

/// One mapping, big enough for the largest message of the session.
struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: the mapping is private memory owned by this value alone; a pointer to it is as good on any thread.
unsafe impl Send for Mapping {}
// SAFETY: shared references only read; writing needs `&mut`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(length: usize) -> rustix::io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        Ok(Self { start: start.cast(), length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is mapped readable for `length` bytes until drop, zeroed by the kernel at first.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` shows that nobody else looks at it.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of `mmap_anonymous`; no reference outlives the value.
        if let Err(errno) = unsafe { rustix::mm::munmap(self.start.cast(), self.length) } {
            tracing::error!(%errno, "a message buffer could not be unmapped");
        }
    }
}

/// The buffers of one session.
pub(crate) struct Pool {
    length: usize,
    count_max: usize,
    idle_max: usize,
    count: AtomicUsize,
    idle: Mutex<Vec<Mapping>>,
}

impl Pool {
    /// A pool of buffers for messages with up to `payload_max` bytes of payload; `count_max` of them at most,
    /// `idle_max` of these kept when nobody uses them.
    pub(crate) fn new(payload_max: usize, count_max: usize, idle_max: usize) -> Arc<Self> {
        // A page for the headers before, and one after: SETXATTR and names may be larger than a small `max_write`.
        let length = (PAGE + payload_max + PAGE).max(PAGE + MIN_READ_BUFFER + 2 * 65536).next_multiple_of(PAGE);
        Arc::new(Self { length, count_max, idle_max, count: AtomicUsize::new(0), idle: Mutex::new(Vec::new()) })
    }

    /// A buffer of the pool's own number, or none when that number is out.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Buffer> {
        self.pooled().map(|home| Buffer { home, spare: Mutex::new(None) })
    }

    fn pooled(self: &Arc<Self>) -> Option<Arc<Pooled>> {
        let mapping = self.mapping()?;
        Some(Arc::new(Pooled { mapping: ManuallyDrop::new(mapping), pool: self.clone() }))
    }

    fn mapping(&self) -> Option<Mapping> {
        if let Some(mapping) = self.idle.lock().pop() {
            return Some(mapping);
        }
        let counted =
            self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.count_max).then_some(n + 1));
        counted.ok()?;
        match Mapping::new(self.length) {
            Ok(mapping) => Some(mapping),
            Err(errno) => {
                tracing::warn!(%errno, bytes = self.length, "no memory for another message buffer");
                self.count.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Bytes of one buffer.
    pub(crate) fn buffer_length(&self) -> usize {
        self.length
    }

    fn give_back(&self, mapping: Mapping) {
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(mapping);
        } else {
            drop(idle);
            drop(mapping);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many buffers exist, used or idle.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A mapping that goes back to its pool.
struct Pooled {
    mapping: ManuallyDrop<Mapping>,
    pool: Arc<Pool>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // SAFETY: `mapping` is taken here once, and `self` is not used afterwards.
        let mapping = unsafe { ManuallyDrop::take(&mut self.mapping) };
        self.pool.give_back(mapping);
    }
}

/// One buffer in a reader's hand, and perhaps the one that takes its place.
pub(crate) struct Buffer {
    home: Arc<Pooled>,
    /// Set aside before a payload keeps `home`: a reader never waits for a buffer.
    spare: Mutex<Option<Arc<Pooled>>>,
}

impl Buffer {
    /// Where to read the next message to: the last buffer, or its spare while a payload of it is held by somebody.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if Arc::get_mut(&mut self.home).is_none()
            && let Some(spare) = self.spare.get_mut().take()
        {
            self.home = spare;
        }
        let pooled = Arc::get_mut(&mut self.home).expect("a payload keeps its buffer only once there is a spare");
        &mut pooled.mapping.bytes_mut()[MESSAGE_AT..]
    }

    /// The message of `length` bytes that was read.
    pub(crate) fn message(&self, length: usize) -> &[u8] {
        &self.home.mapping.bytes()[MESSAGE_AT..][..length]
    }

    /// Wraps `bytes`, a part of the message, so that it can be made owned without a copy.
    ///
    /// A payload of less than `copy_below` bytes is copied all the same.
    pub(crate) fn payload<'a>(&'a self, bytes: &'a [u8], copy_below: usize) -> Payload<'a> {
        let home = (bytes.len() >= copy_below).then_some(self);
        Payload { bytes, home }
    }

    /// Sees to it that the next message has a buffer even if this one is kept.
    fn can_be_kept(&self) -> bool {
        let mut spare = self.spare.lock();
        if spare.is_none() {
            *spare = self.home.pool.pooled();
        }
        spare.is_some()
    }
}

/// A part of a buffer that keeps the whole of it.
struct Slice {
    home: Arc<Pooled>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.home.mapping.bytes()[self.start..][..self.length]
    }
}

/// The bytes of a WRITE, in the buffer they were read into.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    home: Option<&'a Buffer>,
}

impl<'a> Payload<'a> {
    /// Bytes that have no buffer to keep: made owned, they are copied.
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self { bytes, home: None }
    }

    /// Makes the bytes owned; large ones keep the buffer they were read into and begin on a page.
    pub fn to_bytes(&self) -> Bytes {
        let Some(buffer) = self.home.filter(|buffer| buffer.can_be_kept()) else {
            return Bytes::copy_from_slice(self.bytes);
        };
        let start = self.bytes.as_ptr() as usize - buffer.home.mapping.bytes().as_ptr() as usize;
        Bytes::from_owner(Slice { home: buffer.home.clone(), start, length: self.bytes.len() })
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffer: &mut Buffer, length: usize, byte: u8) {
        buffer.space()[..length].fill(byte);
    }

    #[test]
    fn the_payload_of_a_write_begins_on_a_page() {
        let pool = Pool::new(1 << 20, 2, 1);
        let mut buffer = pool.take().unwrap();
        assert!(buffer.space().len() >= (1 << 20) + 4096);
        let payload = buffer.payload(&buffer.message(200)[80..], 0).to_bytes();
        assert_eq!(payload.as_ptr() as usize % PAGE, 0);
    }

    #[test]
    fn an_owned_payload_keeps_its_bytes_while_the_reader_goes_on() {
        let pool = Pool::new(8192, 2, 2);
        let mut buffer = pool.take().unwrap();
        filled(&mut buffer, 300, 7);
        let bytes = buffer.payload(&buffer.message(300)[80..], 0).to_bytes();
        filled(&mut buffer, 300, 9);
        assert_eq!(&bytes[..], [7; 220]);
        assert_eq!(buffer.message(300), [9; 300]);
        drop(bytes);
        assert_eq!(pool.idle.lock().len(), 1);
    }

    #[test]
    fn a_payload_dropped_before_the_next_message_leaves_its_buffer_to_it() {
        let pool = Pool::new(8192, 2, 2);
        let mut buffer = pool.take().unwrap();
        let first = buffer.space().as_ptr();
        for _ in 0..5 {
            drop(buffer.payload(&buffer.message(300)[80..], 0).to_bytes());
            assert_eq!(buffer.space().as_ptr(), first);
        }
    }

    #[test]
    fn a_small_payload_is_copied_and_needs_no_spare() {
        let pool = Pool::new(8192, 2, 1);
        let mut buffer = pool.take().unwrap();
        filled(&mut buffer, 300, 7);
        let bytes = buffer.payload(&buffer.message(300)[80..], 221).to_bytes();
        filled(&mut buffer, 300, 9);
        assert_eq!(&bytes[..], [7; 220]);
        assert_eq!(pool.count(), 1);
    }

    #[test]
    fn at_the_limit_of_buffers_payloads_are_copied_and_reading_goes_on() {
        let pool = Pool::new(8192, 2, 2);
        let mut buffer = pool.take().unwrap();
        let mut held = Vec::new();
        for byte in 0..5 {
            filled(&mut buffer, 300, byte);
            held.push(buffer.payload(&buffer.message(300)[80..], 0).to_bytes());
        }
        assert_eq!(pool.count(), 2);
        for (byte, bytes) in (0..5).zip(held) {
            assert_eq!(&bytes[..], [byte; 220]);
        }
    }

    #[test]
    fn the_pool_ends_at_its_limit_and_unmaps_what_is_idle_past_idle_max() {
        let pool = Pool::new(8192, 3, 1);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 3);
        drop(taken);
        assert_eq!(pool.count(), 1);
        assert!(pool.take().is_some());
    }
}
