//! A filter in which no lock is ever granted: for tests of waiting and interrupting without a lock table.

use std::sync::Arc;

use brickwork_api::{
    Arity, Cx, EntrylkReply, EntrylkReq, Errno, FopError, FopResult, InodelkReply, InodelkReq, LkCommand, LkRange,
    LkReply, LkReq, LkType, Route, Xlator, XlatorLkCommand, XlatorType, async_trait,
};

use crate::gate::Gate;

/// `testkit/never-grants`, for tests that build a graph from a volfile.
pub const TYPE: XlatorType = XlatorType {
    name: "testkit/never-grants",
    about: "a lock that somebody else holds for ever",
    options: &[],
    subvolumes: Arity::One,
    prepare: |mut setup| Ok(Arc::new(NeverGrants::over(setup.only_child()))),
};

/// Behaves as if somebody else held every lock for ever.
///
/// - a try (`Set`, `TryLock`) answers `EAGAIN`;
/// - `Get` answers an exclusive lock on everything, of pid 1;
/// - a wait (`SetWait`, `Lock`) ends only by `cx.cancel`, with `EINTR`;
/// - a release succeeds.
///
/// All other fops are the child's.
#[derive(Debug)]
pub struct NeverGrants {
    child: Arc<dyn Xlator>,
    waiting: Gate,
}

impl NeverGrants {
    /// Stands above `child`.
    #[must_use]
    pub fn over(child: Arc<dyn Xlator>) -> NeverGrants {
        NeverGrants { child, waiting: Gate::new() }
    }

    /// Returns when `count` waits have begun since this was made.
    pub async fn waits_begun(&self, count: usize) {
        self.waiting.arrivals(count).await;
    }

    async fn wait(&self, cx: &Cx) -> FopError {
        // The gate never opens: it only counts who came.
        let mut arrival = std::pin::pin!(self.waiting.pass());
        std::future::poll_fn(|context| {
            let _ = arrival.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        cx.cancel.cancelled().await;
        Errno::EINTR.into()
    }
}

#[async_trait]
impl Xlator for NeverGrants {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    async fn lk(&self, cx: &Cx, req: &LkReq) -> FopResult<LkReply> {
        let reply = |range| Ok(LkReply { range, xdata: Default::default() });
        match (req.command, req.range.kind) {
            (LkCommand::Get, _) => reply(LkRange { kind: LkType::Write, start: 0, end: u64::MAX, pid: 1 }),
            (_, LkType::Unlock) => reply(req.range),
            (LkCommand::Set, _) => Err(Errno::EAGAIN.into()),
            (LkCommand::SetWait, _) => Err(self.wait(cx).await),
        }
    }

    async fn inodelk(&self, cx: &Cx, req: &InodelkReq) -> FopResult<InodelkReply> {
        match req.command {
            XlatorLkCommand::Lock => Err(self.wait(cx).await),
            XlatorLkCommand::TryLock => Err(Errno::EAGAIN.into()),
            XlatorLkCommand::Unlock => Ok(InodelkReply { xdata: Default::default() }),
        }
    }

    async fn entrylk(&self, cx: &Cx, req: &EntrylkReq) -> FopResult<EntrylkReply> {
        match req.command {
            XlatorLkCommand::Lock => Err(self.wait(cx).await),
            XlatorLkCommand::TryLock => Err(Errno::EAGAIN.into()),
            XlatorLkCommand::Unlock => Ok(EntrylkReply { xdata: Default::default() }),
        }
    }
}
