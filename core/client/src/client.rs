//! One client of a graph: its name, the names of its requests and opens, and where its calls wait for locks.
//!
//! A mount is one, and so is a [`Volume`](crate::Volume); a mount and the volume that its control interface uses are the
//! same one, so they share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use brickwork_api::locks::{DEADLOCKED, PROBE, Probe};
use brickwork_api::probes::{Forward, Waiting};
use brickwork_api::{Bytes, ClientId, Cx, Gfid, GfidSource, Host, IpcReq, LkOwner, OpenId, RequestId, Xdata, Xlator};
use parking_lot::Mutex;

use crate::slots::{Slots, lane};

/// Probes that one client sends on at a time. More are dropped: the bricks ask again for as long as somebody waits.
pub const PROBES_MAX: usize = 256;

/// One client of a graph.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    requests: Slots,
    waits: Slots,
    opens: AtomicU64,
    gfids: GfidSource,
    waiting: Mutex<Waiting>,
    probes: AtomicUsize,
}

impl Client {
    /// The client `id`, with `slots` requests under way at most, and `waiters_max` waits for locks beside them.
    #[must_use]
    pub fn new(id: ClientId, slots: u32, waiters_max: u32) -> Client {
        Client {
            id,
            requests: Slots::new(0, slots),
            waits: Slots::new(slots, waiters_max),
            opens: AtomicU64::new(1),
            gfids: GfidSource::default(),
            waiting: Mutex::default(),
            probes: AtomicUsize::new(0),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The slots of its requests.
    #[must_use]
    pub fn requests(&self) -> &Slots {
        &self.requests
    }

    /// The slots of its calls that wait for locks: apart, so that waits never starve other calls.
    #[must_use]
    pub fn waits(&self) -> &Slots {
        &self.waits
    }

    /// A number that no open of this client ever had.
    #[must_use]
    pub fn fresh_open(&self) -> OpenId {
        OpenId(self.opens.fetch_add(1, Ordering::Relaxed))
    }

    /// A gfid that no object ever had.
    #[must_use]
    pub fn fresh_gfid(&self) -> Gfid {
        self.gfids.fresh()
    }

    /// Notes that `request` of `owner` may wait for a POSIX lock on `gfid`, until what is returned is dropped.
    ///
    /// Before the request goes out: a probe may come back before its answer.
    #[must_use]
    pub fn waits_for(&self, owner: &LkOwner, gfid: Gfid, request: RequestId) -> Waits<'_> {
        self.waiting.lock().begin(owner, gfid, request);
        Waits { client: self, owner: owner.clone(), request }
    }

    /// Sends `probe` on to where its owner waits, in tasks of `host` on the graph under `root`, or tells a brick that it was
    /// answered. Returns at once.
    pub fn hear_probe(self: &Arc<Client>, probe: &Probe, root: impl FnOnce() -> Arc<dyn Xlator>, host: &Arc<dyn Host>) {
        let forwards = self.waiting.lock().on_probe(probe, Instant::now());
        if forwards.is_empty() {
            return;
        }
        let root = root();
        for forward in forwards {
            if self.probes.fetch_add(1, Ordering::Relaxed) >= PROBES_MAX {
                self.probes.fetch_sub(1, Ordering::Relaxed);
                tracing::debug!(limit = PROBES_MAX, "a probe for a deadlock was dropped");
                continue;
            }
            let (client, root, task_host) = (self.clone(), root.clone(), host.clone());
            host.spawn(Box::pin(async move { client.send(&*root, task_host, &forward).await }));
        }
    }

    async fn send(&self, root: &dyn Xlator, host: Arc<dyn Host>, forward: &Forward) {
        let _one = Sent(&self.probes);
        let (operation, payload) = match forward {
            Forward::Ask(probe) => (PROBE, brickwork_codec::encode(probe)),
            Forward::Deadlocked(found) => (DEADLOCKED, brickwork_codec::encode(found)),
        };
        let request = IpcReq { operation: operation.to_owned(), payload: Bytes::from(payload), xdata: Xdata::EMPTY };
        let slot = self.requests.take(lane()).await;
        let mut cx = Cx::internal(self.id, host);
        cx.request = RequestId { client: self.id, slot: slot.number(), sequence: slot.sequence() };
        if let Err(error) = root.ipc(&cx, &request).await {
            tracing::debug!(operation, %error, "a brick did not take a probe for a deadlock");
        }
    }
}

/// A probe on its way.
struct Sent<'a>(&'a AtomicUsize);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that may wait; it ends when this is dropped.
#[derive(Debug)]
pub struct Waits<'a> {
    client: &'a Client,
    owner: LkOwner,
    request: RequestId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.client.waiting.lock().end(&self.owner, self.request);
    }
}
