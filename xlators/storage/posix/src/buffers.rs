//! Buffers for large reads, used again: a fresh one costs a page fault per page.
//!
//! All start at a multiple of 4,096, as `O_DIRECT` wants it. What comes back beyond [`RETAINED_MAX`] bytes is freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// Sizes kept, in bytes.
const SIZES: [usize; 2] = [128 << 10, 1 << 20];
/// Up to this many bytes a plain allocation is cheaper than a kept one.
const SMALL: usize = 16 << 10;
/// Bytes that are kept while nobody uses them.
pub(crate) const RETAINED_MAX: usize = 8 << 20;
const ALIGNMENT: usize = 4096;

/// The buffers of a brick.
#[derive(Clone, Debug)]
pub(crate) struct Buffers(Arc<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: [Mutex<Vec<Vec<u8>>>; SIZES.len()],
    misses: AtomicU64,
}

/// A buffer of the length that was asked for; it holds zeros or what an earlier user left.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
    home: Option<(Arc<Pool>, usize)>,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers(Arc::default())
    }

    /// A buffer of `length` bytes; `aligned` for `O_DIRECT`.
    pub(crate) fn take(&self, length: usize, aligned: bool) -> Buffer {
        if length <= SMALL && !aligned {
            return Buffer { bytes: vec![0; length], start: 0, length, home: None };
        }
        let class = SIZES.iter().position(|size| length <= *size);
        let kept = class.and_then(|class| self.0.free[class].lock().pop());
        let bytes = kept.unwrap_or_else(|| {
            self.0.misses.fetch_add(1, Ordering::Relaxed);
            vec![0; class.map_or(length, |class| SIZES[class]) + ALIGNMENT]
        });
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Buffer { bytes, start, length, home: class.map(|class| (Arc::clone(&self.0), class)) }
    }

    /// How often none was at hand.
    pub(crate) fn misses(&self) -> u64 {
        self.0.misses.load(Ordering::Relaxed)
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// The first `length` bytes, without a copy; the buffer comes back when the last of them is dropped.
    pub(crate) fn into_bytes(mut self, length: usize) -> Bytes {
        self.length = length.min(self.length);
        match self.home {
            None => {
                let mut bytes = std::mem::take(&mut self.bytes);
                bytes.truncate(self.length);
                Bytes::from(bytes)
            }
            Some(_) => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some((pool, class)) = self.home.take() else { return };
        let mut free = pool.free[class].lock();
        if (free.len() + 1) * SIZES[class] <= RETAINED_MAX / SIZES.len() {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_dropped() {
        let buffers = Buffers::new();
        let mut buffer = buffers.take(100_000, false);
        buffer.as_mut()[7] = 9;
        let bytes = buffer.into_bytes(8);
        assert_eq!((bytes.len(), bytes[7]), (8, 9));
        let slice = bytes.slice(7..);
        drop(bytes);
        drop(buffers.take(100_000, false));
        assert_eq!(buffers.misses(), 2);
        drop(slice);
        drop((buffers.take(100_000, false), buffers.take(1, true)));
        assert_eq!(buffers.misses(), 2);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let buffers = Buffers::new();
        let many: Vec<Buffer> = (0..64).map(|_| buffers.take(1 << 20, false)).collect();
        drop(many);
        let kept: usize = (0..SIZES.len()).map(|class| buffers.0.free[class].lock().len() * SIZES[class]).sum();
        assert!((1..=RETAINED_MAX).contains(&kept), "{kept}");
    }

    #[test]
    fn aligned_buffers_are_aligned_whatever_their_length() {
        let buffers = Buffers::new();
        for length in [1, 512, 100_000, 1 << 20, 3 << 20] {
            let buffer = buffers.take(length, true);
            assert_eq!(buffer.as_ref().as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(buffer.as_ref().len(), length);
        }
    }
}
