//! Who asks, and what the host lends while a fop is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::host::Host;
use crate::types::{ClientId, Credentials, LkOwner, RequestId};

/// The context of one fop. What is asked stands in the request; this says for whom.
#[derive(Clone, Debug)]
pub struct Cx {
    /// The request's name, the same wherever it is replayed; its client is the one that asks.
    pub request: RequestId,
    /// The lock owner, empty when the caller has none.
    pub lk_owner: LkOwner,
    /// The user for whom it is done.
    pub credentials: Credentials,
    /// When the caller stops waiting. Locks that wait have none.
    pub deadline: Option<Instant>,
    /// Set when the caller gives up: a wait by a signal, any other fop only when its process is being killed. Only waits
    /// look at it, those for a lock and those for a brick that is away.
    pub cancel: Cancel,
    /// What the process lends: a pool for blocking calls, tasks.
    pub host: Arc<dyn Host>,
}

impl Cx {
    /// A context of `client` acting as root, that nobody cancels.
    #[must_use]
    pub fn internal(client: ClientId, host: Arc<dyn Host>) -> Cx {
        Cx {
            request: RequestId { client, slot: 0, sequence: 0 },
            lk_owner: LkOwner::default(),
            credentials: Credentials::root(),
            deadline: None,
            cancel: Cancel::never(),
            host,
        }
    }

    /// The client that asks: with an [`OpenId`](crate::types::OpenId) it names an open file of the whole brick.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.request.client
    }
}

/// Whether the caller has given up, as a flag and as something to wait for.
///
/// Clones are the same flag. [`Cancel::never`] costs nothing and never fires.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Option<Arc<Flag>>);

#[derive(Debug, Default)]
struct Flag {
    set: AtomicBool,
    waiters: Notify,
}

impl Cancel {
    /// For callers that cannot give up.
    #[must_use]
    pub const fn never() -> Cancel {
        Cancel(None)
    }

    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Cancel {
        Cancel(Some(Arc::default()))
    }

    /// Sets the flag and wakes all who wait for it. The second call does nothing.
    pub fn cancel(&self) {
        if let Some(flag) = &self.0 {
            flag.set.store(true, Ordering::Release);
            flag.waiters.notify_waiters();
        }
    }

    /// Whether [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.set.load(Ordering::Acquire))
    }

    /// Returns when [`Cancel::cancel`] is called or has been; for [`Cancel::never`] it never returns.
    pub async fn cancelled(&self) {
        let Some(flag) = &self.0 else { return std::future::pending().await };
        // Register before the look at the flag: a cancel in between then wakes this very waiter.
        let notified = flag.waiters.notified();
        if !flag.set.load(Ordering::Acquire) {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_wait_ends_with_the_cancel() {
        let cancel = Cancel::new();
        let mut wait = pin!(cancel.cancelled());
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        cancel.clone().cancel();
        assert_eq!(poll(wait), Poll::Ready(()));
        assert!(cancel.is_cancelled());
    }

    #[test]
    fn a_wait_that_comes_after_the_cancel_ends_at_once() {
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(poll(pin!(cancel.cancelled())), Poll::Ready(()));
    }

    #[test]
    fn a_cancel_between_making_the_wait_and_polling_it_is_not_lost() {
        let cancel = Cancel::new();
        let mut wait = pin!(cancel.cancelled());
        cancel.cancel();
        assert_eq!(poll(wait.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn never_does_not_fire() {
        let cancel = Cancel::never();
        cancel.cancel();
        assert!(!cancel.is_cancelled());
        assert_eq!(poll(pin!(cancel.cancelled())), Poll::Pending);
    }
}
