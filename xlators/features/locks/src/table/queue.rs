//! The requests that wait, in the order in which they came.

use super::types::{Waiter, WaiterId};

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: Vec<Waiter>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter()
    }

    pub fn get(&self, id: WaiterId) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| waiter.id == id)
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    pub fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let at = self.waiters.iter().position(|waiter| waiter.id == id)?;
        Some(self.waiters.remove(at))
    }
}
