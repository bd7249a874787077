//! A filter that notes every fop and whose it was.

use std::sync::Arc;
use std::time::Duration;

use brickwork_api::{BoxFuture, Cx, Each, FopKind, FopResult, FopType, Route, Xlator, each_fop};
use parking_lot::{Condvar, Mutex};

/// One fop that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub fop: FopKind,
    pub cx: Cx,
    /// The request, as its `Debug` shows it.
    pub request: String,
    pub thread: Option<String>,
}

/// Notes what passes; all of it goes on to the child.
pub struct Recorder {
    child: Arc<dyn Xlator>,
    seen: Mutex<Vec<Seen>>,
    more: Condvar,
}

impl Recorder {
    pub fn over(child: Arc<dyn Xlator>) -> Arc<Recorder> {
        Arc::new(Recorder { child, seen: Mutex::default(), more: Condvar::new() })
    }

    /// What came by since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock())
    }

    /// Waits until one of `fop` has come by since the last [`Recorder::take`].
    pub fn wait_for(&self, fop: FopKind) {
        self.wait_until(fop.name(), |seen| seen.iter().any(|seen| seen.fop == fop));
    }

    /// Waits until the `forget`s since the last [`Recorder::take`] have named `count` objects.
    pub fn wait_for_forgotten(&self, count: usize) {
        self.wait_until("forget of all", |seen| forgotten(seen) >= count);
    }

    fn wait_until(&self, what: &str, came: impl Fn(&[Seen]) -> bool) {
        let mut seen = self.seen.lock();
        let waited = self.more.wait_while_for(&mut seen, |seen| !came(seen), Duration::from_secs(30));
        assert!(!waited.timed_out(), "no {what} came");
    }

    /// How many of `fop` came by since the last [`Recorder::take`].
    pub fn count(&self, fop: FopKind) -> usize {
        self.seen.lock().iter().filter(|seen| seen.fop == fop).count()
    }
}

/// How many objects the `forget`s of `seen` named.
pub fn forgotten(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.fop == FopKind::Forget).map(|seen| seen.request.matches("-").count() / 4).sum()
}

impl Xlator for Recorder {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    each_fop!();
}

impl Each for Recorder {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        // A payload of a megabyte need not be printed.
        let request_text = match F::KIND {
            FopKind::Write => String::new(),
            _ => format!("{request:?}"),
        };
        let thread = std::thread::current().name().map(str::to_owned);
        self.seen.lock().push(Seen { fop: F::KIND, cx: cx.clone(), request: request_text, thread });
        self.more.notify_all();
        F::call(&*self.child, cx, request)
    }
}
