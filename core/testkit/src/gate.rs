//! A place where fops wait until a test lets them on: order without sleeping.

use std::sync::Arc;

use tokio::sync::watch;

/// Closed at first; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Gate {
        Gate(Arc::new(Inner { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }))
    }

    /// Lets all who wait and all who come go on.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Holds those who come from now on.
    pub fn close(&self) {
        self.0.open.send_replace(false);
    }

    /// Waits until the gate is open; counted as an arrival when first polled.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|count| *count += 1);
        let mut open = self.0.open.subscribe();
        // The sender lives as long as `self`.
        let _ = open.wait_for(|open| *open).await;
    }

    /// Waits until `count` have arrived since the gate was made, passed or not.
    pub async fn arrivals(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        // The sender lives as long as `self`.
        let _ = arrived.wait_for(|arrived| *arrived >= count).await;
    }

    /// How many have arrived.
    #[must_use]
    pub fn arrived(&self) -> usize {
        *self.0.arrived.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn who_comes_waits_until_the_gate_opens() {
        let gate = Gate::new();
        let mut pass = pin!(gate.pass());
        assert!(poll_once(pass.as_mut()).is_pending());
        block_on(gate.arrivals(1));
        gate.open();
        assert!(poll_once(pass).is_ready());
    }
}
