//! The session of one client: what it asked, what it was answered, what it has open.

use std::sync::Arc;

use brickwork_api::{ClientId, RequestId};

use super::ledger::Ledger;
use super::opens::Opens;
use super::record::{RequestKey, SessionNumber};
use super::slots::Slots;
use super::turns::Turns;

/// The session of one client at one subvolume. `D` is where answers go.
#[derive(Debug)]
pub struct Session<D> {
    pub(super) number: SessionNumber,
    pub(super) client: ClientId,
    pub(super) slots: Slots<D>,
    pub(super) opens: Opens,
    pub(super) ledger: Arc<Ledger>,
    pub(super) turns: Arc<Turns>,
}

impl<D> Session<D> {
    /// Its slots.
    #[must_use]
    pub fn slots(&self) -> &Slots<D> {
        &self.slots
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Whether it is over: its client has left, or stayed away for too long.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.opens.have_ended()
    }

    /// The name of a request in the journal; one that is not numbered has none.
    pub(super) fn key(&self, request: RequestId) -> Option<RequestKey> {
        let RequestId { slot, sequence, .. } = request;
        (sequence != 0).then_some(RequestKey { session: self.number, slot, sequence })
    }
}
