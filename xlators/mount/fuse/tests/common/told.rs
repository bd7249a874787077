//! A filter that promises what a served brick does: whoever keeps what a fop answered is told before a change is answered.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use brickwork_api::xdata::{INVALIDATES, UNCACHED};
use brickwork_api::{
    BoxFuture, Cx, Each, Event, FopKind, FopResult, FopType, Gfid, Hold, Route, Xlator, each_fop, fop,
};
use brickwork_mount::Mount;
use brickwork_testkit::Gate;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Hands everything on, and adds what a test asks for.
pub struct Told {
    child: Arc<dyn Xlator>,
    /// Nothing that is answered may be kept.
    pub uncached: AtomicBool,
    /// The next answer of this kind waits here, after the child has given it.
    held: Mutex<Option<(FopKind, Gate)>>,
    /// The next request of this kind waits here, before the child gets it.
    held_before: Mutex<Option<(FopKind, Gate)>>,
    /// Those who are told of each other's changes.
    mounts: Mutex<Vec<Weak<Mount>>>,
}

impl Told {
    pub fn over(child: Arc<dyn Xlator>) -> Arc<Told> {
        Arc::new(Told {
            child,
            uncached: AtomicBool::new(false),
            held: Mutex::default(),
            held_before: Mutex::default(),
            mounts: Mutex::default(),
        })
    }

    /// The next answer of `kind` waits at the gate.
    pub fn hold_answer(&self, kind: FopKind) -> Gate {
        let gate = Gate::new();
        *self.held.lock() = Some((kind, gate.clone()));
        gate
    }

    /// The next request of `kind` waits at the gate.
    pub fn hold_request(&self, kind: FopKind) -> Gate {
        let gate = Gate::new();
        *self.held_before.lock() = Some((kind, gate.clone()));
        gate
    }

    /// From now on each of `mounts` is told of what the others change.
    pub fn tell_each_other(&self, mounts: &[Arc<Mount>]) {
        *self.mounts.lock() = mounts.iter().map(Arc::downgrade).collect();
    }

    /// Tells all mounts but the caller's, and waits until they have dropped what they kept.
    async fn tell(&self, cx: &Cx, changed: Vec<(Gfid, bool)>) {
        let mounts = self.mounts.lock().clone();
        let mut dropped = Vec::new();
        for mount in mounts.iter().filter_map(Weak::upgrade).filter(|mount| mount.client() != cx.request.client) {
            for (gfid, names) in &changed {
                let (hold, released) = hold();
                mount.notify(&Event::Invalidate { gfid: *gfid, names: *names, hold });
                dropped.push(released);
            }
        }
        for released in dropped {
            released.await.expect("a hold is released before it is gone");
        }
    }
}

/// A hold, and how its release is heard of.
pub fn hold() -> (Hold, oneshot::Receiver<()>) {
    let (sender, released) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let release = move || {
        if let Some(sender) = sender.lock().take() {
            // Nobody listens when the test has failed.
            let _ = sender.send(());
        }
    };
    (Hold::new(release), released)
}

/// What `request` changes, and whether the names in it; no more of them than the tests need.
fn changed<F: FopType>(request: &F::Request) -> Vec<(Gfid, bool)> {
    fn of<G: FopType>(request: &dyn Any) -> &G::Request {
        request.downcast_ref().expect("the kind of a fop names its types")
    }
    match F::KIND {
        FopKind::Write => vec![(of::<fop::Write>(request).file.gfid, false)],
        FopKind::Truncate => vec![(of::<fop::Truncate>(request).target.gfid, false)],
        FopKind::Setattr => vec![(of::<fop::Setattr>(request).target.gfid, false)],
        FopKind::Create => vec![(of::<fop::Create>(request).entry.parent, true)],
        FopKind::Mkdir => vec![(of::<fop::Mkdir>(request).entry.parent, true)],
        FopKind::Unlink => vec![(of::<fop::Unlink>(request).entry.parent, true)],
        FopKind::Rename => {
            let request = of::<fop::Rename>(request);
            vec![(request.from.parent, true), (request.to.parent, true)]
        }
        _ => Vec::new(),
    }
}

impl Xlator for Told {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    each_fop!();
}

impl Each for Told {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            let held = self.held_before.lock().take_if(|(kind, _)| *kind == F::KIND);
            if let Some((_, gate)) = held {
                gate.pass().await;
            }
            let mut answer = F::call(&*self.child, cx, request).await;
            if let Ok(reply) = &mut answer {
                if F::KIND == FopKind::Statfs {
                    F::reply_xdata(reply).insert(&INVALIDATES, true);
                }
                if self.uncached.load(Ordering::SeqCst) {
                    F::reply_xdata(reply).insert(&UNCACHED, true);
                }
                self.tell(cx, changed::<F>(request)).await;
            }
            let held = self.held.lock().take_if(|(kind, _)| *kind == F::KIND);
            if let Some((_, gate)) = held {
                gate.pass().await;
            }
            answer
        })
    }
}
