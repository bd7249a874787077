//! Locks of applications: `fcntl`, open-file-description and `flock` locks.

use std::sync::Arc;

use brickwork_api::locks::COMMAND;
use brickwork_api::{Cancel, Errno, FopKind, LkCommand, LkKind, LkReq, LkType, Xdata, fop};
use brickwork_fuse::request::Lock;
use brickwork_fuse::{Handled, Interruptible, NodeId, Reply};
use brickwork_volume::lane;

use super::or_refuse;
use crate::closings::Closed;
use crate::convert;
use crate::front::{Caller, Front};
use crate::killed::Killable;

impl Front {
    fn lk_request(&self, node: NodeId, lock: &Lock, command: LkCommand) -> Result<LkReq, Errno> {
        Ok(LkReq {
            file: self.open_file(node, lock.fh)?,
            command,
            kind: if lock.flock { LkKind::Flock } else { LkKind::Posix },
            range: convert::lock_from_kernel(lock),
            xdata: Xdata::EMPTY,
        })
    }

    /// GETLK.
    pub(crate) fn getlk(self: &Arc<Front>, caller: Caller, node: NodeId, lock: Lock, reply: Reply) -> Handled {
        let request = or_refuse!(self, reply, self.lk_request(node, &lock, LkCommand::Get));
        self.fop::<fop::Lk>(caller.owning(Some(lock.owner)), request, reply, move |_, found, reply| {
            reply.lock(&convert::lock_to_kernel(&lock, &found.range))
        })
    }

    /// SETLK and SETLKW. Unlocking never waits.
    pub(crate) fn setlk(
        self: &Arc<Front>,
        caller: Caller,
        node: NodeId,
        lock: &Lock,
        wait: bool,
        reply: Reply,
    ) -> Handled {
        let mut request = or_refuse!(self, reply, self.lk_request(node, lock, LkCommand::Set));
        let caller = caller.owning(Some(lock.owner));
        if request.range.kind == LkType::Unlock {
            return self.fop::<fop::Lk>(caller, request, reply, |_, _, reply| reply.ok());
        }
        if let Some(command) = self.commands.of(lock.pid) {
            request.xdata.insert(&COMMAND, command.as_ref().to_owned());
        }
        self.opens.asks_for_locks(request.file.open);
        self.closings.in_use(request.file);
        if wait {
            request.command = LkCommand::SetWait;
            return self.wait_for_lock(caller, request, reply);
        }
        self.try_lock(caller, request, reply)
    }

    /// A lock call that does not wait for others, but for the closes that were under way when it was refused.
    fn try_lock(self: &Arc<Front>, caller: Caller, request: LkReq, reply: Reply) -> Handled {
        let since = self.closings.now(request.file.gfid);
        self.fops(caller, reply, move |front, caller, reply| async move {
            let (killed, again) = (caller.killed.clone(), caller.again());
            // Each try has a slot of its own, and the wait none: the close that it waits for may need that.
            let mut result = front.begin(caller).await.call::<fop::Lk>(&request).await;
            let refused = matches!(&result, Err(error) if error.errno() == Errno::EAGAIN);
            if refused && front.closes_settled(&request, since, &killed).await {
                result = front.begin(again).await.call::<fop::Lk>(&request).await;
            }
            match result {
                Ok(_) => {
                    front.dropped_before_lock(request.file.gfid, &killed).await;
                    reply.ok()
                }
                Err(error) => front.refuse(FopKind::Lk, &error, reply),
            }
        })
    }

    /// Waits for the closes that may have freed what `request` was refused; whether there were any.
    async fn closes_settled(&self, request: &LkReq, since: Closed, killed: &Cancel) -> bool {
        tokio::select! {
            closed = self.closings.settle(request.file, since) => closed,
            () = killed.cancelled() => false,
        }
    }

    /// A lock call that may wait: a signal of its caller sets `cx.cancel`, and the fop then answers `EINTR`.
    fn wait_for_lock(self: &Arc<Front>, caller: Caller, request: LkReq, reply: Reply) -> Handled {
        let (cancel, killed) = (Cancel::new(), Cancel::new());
        let (front, asked) = (self.clone(), cancel.clone());
        let under_way = Arc::new(());
        let killable = Killable::new(front.clone(), caller.credentials.pid, killed.clone(), &under_way);
        let reader = lane();
        let work = async move {
            let Some(work) = front.begin_wait(caller, asked) else {
                tracing::warn!("more lock calls wait than `waiters-max` allows");
                let delivery = front.refuse(FopKind::Lk, &Errno::ENOLCK.into(), reply);
                return front.finish(reader, delivery);
            };
            let result = {
                // Before it is sent: a probe for a deadlock may come back before the answer.
                let _noted = (request.kind == LkKind::Posix)
                    .then(|| front.client.waits_for(&work.cx.lk_owner, request.file.gfid, work.cx.request));
                work.call::<fop::Lk>(&request).await
            };
            drop(work);
            let delivery = match result {
                Ok(_) => {
                    front.dropped_before_lock(request.file.gfid, &killed).await;
                    reply.ok()
                }
                Err(error) => front.refuse(FopKind::Lk, &error, reply),
            };
            drop(under_way);
            front.finish(reader, delivery);
        };
        let interrupt = move || {
            cancel.cancel();
            // A lock that was granted all the same: whoever is killed does not wait for what it would show.
            killable.interrupt();
        };
        Handled::interruptible(work, Arc::new(interrupt))
    }
}
