//! Where a transfer waits for the disk: on the thread that asks while few do so, else on the pool.
//!
//! A hop to the pool and back is two wake-ups of 30 to 57 µs, about as long as the disk itself takes. So the first
//! [`INLINE_MAX`] transfers wait where they are; the threads that remain go on taking requests, and everything beyond
//! goes to the pool, so that a deep queue reaches the disk as deep as it is.

use std::sync::atomic::{AtomicUsize, Ordering};

use brickwork_api::{Cx, FopResult, blocking};

/// Transfers of one brick that may wait on the threads that asked for them; half of the default readers of a mount.
const INLINE_MAX: usize = 2;

/// How many transfers of a brick wait inline.
#[derive(Debug, Default)]
pub(crate) struct Waits(AtomicUsize);

impl Waits {
    /// Runs `transfer` and returns what it returned.
    ///
    /// # Errors
    /// `EIO` when the pool lost it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        cx: &Cx,
        transfer: impl FnOnce() -> T + Send + 'static,
    ) -> FopResult<T> {
        match self.inline() {
            Some(_here) => Ok(transfer()),
            None => blocking(&*cx.host, transfer).await,
        }
    }

    fn inline(&self) -> Option<Inline<'_>> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let taken = Inline(&self.0);
        (before < INLINE_MAX).then_some(taken)
    }
}

/// One transfer that waits inline.
struct Inline<'a>(&'a AtomicUsize);

impl Drop for Inline<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_wait_inline_and_each_end_makes_room() {
        let waits = Waits::default();
        let first = waits.inline();
        let second = waits.inline();
        assert!(first.is_some() && second.is_some());
        assert!(waits.inline().is_none(), "one above the limit goes to the pool");
        drop(first);
        assert!(waits.inline().is_some());
    }
}
