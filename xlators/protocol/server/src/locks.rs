//! What `features/locks` below is told of the clients, and asked about them.
//!
//! Whoever tells it that a client came, went or is gone for good does so one after the other, in the order in which that
//! is true: [`Export`](crate::export::Export) holds a mutex meanwhile. A subvolume without locks says so at the first
//! question, and is asked no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brickwork_api::locks::{
    ATTACHED, Attaching, DETACHED, Detaching, ENDED, FAILOVER_GROUP, FAILOVER_SECRET, FOR_CLIENTS, FailoverGroup,
    GIVEN_UP, GivenUp, HOLDS, PREFIX,
};
use brickwork_api::{ClientId, Cx, Errno, FopResult, Host, Xdata, Xlator};
use brickwork_codec::{decode, encode};
use brickwork_wire::message::{Refused, Why};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::ask;

/// Bytes of the name of a failover group.
const GROUP_NAME_MAX: usize = 255;

/// The locks of one subvolume.
pub(crate) struct Locks {
    child: Arc<dyn Xlator>,
    host: Arc<dyn Host>,
    /// There are none, or the server has stopped.
    silent: AtomicBool,
}

impl Locks {
    pub(crate) fn new(child: Arc<dyn Xlator>, host: Arc<dyn Host>) -> Locks {
        Locks { child, host, silent: AtomicBool::new(false) }
    }

    /// Whether there are locks below, as far as is known.
    pub(crate) fn are_there(&self) -> bool {
        !self.silent.load(Ordering::Relaxed)
    }

    /// Says nothing from now on: the server stops, and what becomes of the clients then is the next one's.
    pub(crate) fn close(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Tells that `client` is here.
    ///
    /// # Errors
    /// It cannot be let in: its locks could not be looked after.
    pub(crate) fn attached(&self, client: ClientId, attaching: &Attaching) -> FopResult<()> {
        self.ask::<()>(client, ATTACHED, attaching).map(drop)
    }

    /// Tells that no connection of `client` is left and that it has been `silent` since.
    pub(crate) fn detached(&self, client: ClientId, silent: Duration) {
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        self.tell(client, DETACHED, &Detaching { silent_ms });
    }

    /// Tells that `client` is gone for good.
    pub(crate) fn ended(&self, client: ClientId) {
        self.tell(client, ENDED, &());
    }

    /// Tells that `client` has given up a call that is not under way.
    pub(crate) fn given_up(&self, client: ClientId, slot: u32, sequence: u64) {
        self.tell(client, GIVEN_UP, &GivenUp { slot, sequence });
    }

    /// Whether `client` holds a lock or waits for one; when that cannot be said, it may.
    pub(crate) fn hold(&self, client: ClientId) -> bool {
        match self.ask::<bool>(client, HOLDS, &()) {
            Ok(holds) => holds.unwrap_or(false),
            Err(error) => {
                tracing::warn!(%client, %error, "whether a client holds locks cannot be said; its session stays");
                true
            }
        }
    }

    fn tell(&self, client: ClientId, question: &str, argument: &impl Serialize) {
        if let Err(error) = self.ask::<()>(client, question, argument) {
            tracing::warn!(%client, question, %error, "the locks did not take in what became of a client");
        }
    }

    /// Asks; `None` when there are no locks.
    fn ask<T: DeserializeOwned>(
        &self,
        client: ClientId,
        question: &str,
        argument: &impl Serialize,
    ) -> FopResult<Option<T>> {
        if !self.are_there() {
            return Ok(None);
        }
        let cx = Cx::internal(client, self.host.clone());
        match ask::at_once(&*self.child, &cx, question, encode(argument).into()) {
            Ok(answer) => match decode(&answer) {
                Ok(answer) => Ok(Some(answer)),
                Err(_) => Err(Errno::EIO.into()),
            },
            Err(error) if error.errno() == Errno::EOPNOTSUPP => {
                self.close();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a question to the locks is one that clients may not ask.
pub(crate) fn is_private(operation: &str) -> bool {
    operation.starts_with(PREFIX) && !FOR_CLIENTS.contains(&operation)
}

/// The failover group that an attach names. What is kept of its secret is the hash.
///
/// # Errors
/// A name without a secret, a secret without a name, what is no text, an empty or long name.
pub(crate) fn failover_group(xdata: &Xdata) -> Result<Option<FailoverGroup>, Refused> {
    let refused = |reason: &str| Refused { why: Why::Protocol, reason: reason.to_owned() };
    let no_text = |_| refused("a failover group is a name and a secret, both text");
    let name = xdata.get(&FAILOVER_GROUP).map_err(no_text)?;
    let secret = xdata.get(&FAILOVER_SECRET).map_err(no_text)?;
    match (name, secret) {
        (None, None) => Ok(None),
        (Some(name), Some(secret)) => match name.len() {
            1..=GROUP_NAME_MAX => Ok(Some(FailoverGroup { name, secret: Sha256::digest(secret).into() })),
            0 => Err(refused("the name of a failover group is empty")),
            _ => Err(refused("the name of a failover group is longer than 255 bytes")),
        },
        (Some(_), None) => Err(refused("a failover group without a secret")),
        (None, Some(_)) => Err(refused("the secret of a failover group without its name")),
    }
}
