//! A filter that fails or holds chosen fops: for tests of what a stack does when the layer below misbehaves.

use std::sync::Arc;

use brickwork_api::{BoxFuture, Cx, Each, Errno, FopKind, FopResult, FopType, Route, Xlator, each_fop};
use parking_lot::Mutex;

use crate::gate::Gate;

/// Hands every fop to its child, except those a test chose by kind and number.
///
/// Calls of a kind count from 1. A call that is held counts when its future is first polled, like every call.
#[derive(Debug)]
pub struct Faults {
    child: Arc<dyn Xlator>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    seen: Vec<(FopKind, u64)>,
    faults: Vec<(FopKind, u64, Fault)>,
}

#[derive(Clone, Debug)]
enum Fault {
    Fail(Errno),
    FailAfterwards(Errno),
    Hold(Gate),
}

impl Faults {
    /// Stands above `child`, with no faults so far.
    #[must_use]
    pub fn over(child: Arc<dyn Xlator>) -> Faults {
        Faults { child, plan: Mutex::default() }
    }

    /// The `nth` call of `kind` answers `errno` and does not reach the child.
    pub fn fail(&self, kind: FopKind, nth: u64, errno: Errno) {
        self.add(kind, nth, Fault::Fail(errno));
    }

    /// The `nth` call of `kind` is done by the child, but its reply is lost: the caller gets `errno`.
    pub fn fail_afterwards(&self, kind: FopKind, nth: u64, errno: Errno) {
        self.add(kind, nth, Fault::FailAfterwards(errno));
    }

    /// The `nth` call of `kind` waits at the returned gate before it goes on to the child.
    pub fn hold(&self, kind: FopKind, nth: u64) -> Gate {
        let gate = Gate::new();
        self.add(kind, nth, Fault::Hold(gate.clone()));
        gate
    }

    /// How many calls of `kind` came.
    #[must_use]
    pub fn seen(&self, kind: FopKind) -> u64 {
        let plan = self.plan.lock();
        plan.seen.iter().find(|(seen, _)| *seen == kind).map_or(0, |(_, count)| *count)
    }

    fn add(&self, kind: FopKind, nth: u64, fault: Fault) {
        self.plan.lock().faults.push((kind, nth, fault));
    }
}

impl Plan {
    /// Counts a call of `kind` and returns what shall happen to it.
    fn next(&mut self, kind: FopKind) -> Option<Fault> {
        let number = match self.seen.iter_mut().find(|(seen, _)| *seen == kind) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.seen.push((kind, 1));
                1
            }
        };
        let planned = self.faults.iter().position(|(of, nth, _)| *of == kind && *nth == number)?;
        Some(self.faults.swap_remove(planned).2)
    }
}

impl Xlator for Faults {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    each_fop!();
}

impl Each for Faults {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            let fault = self.plan.lock().next(F::KIND);
            match fault {
                Some(Fault::Fail(errno)) => return Err(errno.into()),
                Some(Fault::FailAfterwards(errno)) => {
                    F::call(&*self.child, cx, request).await?;
                    return Err(errno.into());
                }
                Some(Fault::Hold(gate)) => gate.pass().await,
                None => {}
            }
            F::call(&*self.child, cx, request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MockChild, block_on, conformance, cx, poll_once, samples};

    #[test]
    fn without_a_plan_every_fop_passes() {
        conformance::passes_through(|child| Arc::new(Faults::over(child)), &[]);
    }

    #[test]
    fn only_the_nth_call_of_the_kind_fails() {
        let mock = MockChild::new();
        let faults = Faults::over(mock.clone());
        faults.fail(FopKind::Stat, 2, Errno::EIO);
        let stat = samples::request(FopKind::Stat);
        let answers: Vec<bool> = (0..3).map(|_| block_on(stat.call(&faults, &cx())).is_ok()).collect();
        assert_eq!(answers, [true, false, true]);
        assert_eq!(mock.calls().len(), 2);
        assert_eq!(faults.seen(FopKind::Stat), 3);
    }

    #[test]
    fn a_lost_reply_is_of_a_fop_that_was_done() {
        let mock = MockChild::new();
        let faults = Faults::over(mock.clone());
        faults.fail_afterwards(FopKind::Mkdir, 1, Errno::ENOTCONN);
        let answer = block_on(samples::request(FopKind::Mkdir).call(&faults, &cx()));
        assert_eq!(answer.unwrap_err().errno(), Errno::ENOTCONN);
        assert_eq!(mock.calls().len(), 1);
    }

    #[test]
    fn a_held_call_reaches_the_child_when_the_gate_opens() {
        let mock = MockChild::new();
        let faults = Faults::over(mock.clone());
        let gate = faults.hold(FopKind::Stat, 1);
        let (stat, cx) = (samples::request(FopKind::Stat), cx());
        let mut call = Box::pin(stat.call(&faults, &cx));
        assert!(poll_once(call.as_mut()).is_pending());
        assert!(mock.calls().is_empty());
        gate.open();
        assert!(poll_once(call.as_mut()).is_ready());
        assert_eq!(mock.calls().len(), 1);
    }
}
