//! Questions that the subvolume answers at the first poll: of itself, and of what it keeps in memory.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use brickwork_api::{Bytes, Cx, Errno, FopError, FopResult, IpcReq, Xdata, Xlator};

/// Asks `child` and returns the answer's payload.
///
/// # Errors
/// What the child says: `EOPNOTSUPP` when nobody below knows the question. `EIO` when it would have to be waited for.
pub(crate) fn at_once(child: &dyn Xlator, cx: &Cx, operation: &str, payload: Bytes) -> FopResult<Bytes> {
    let request = IpcReq { operation: operation.to_owned(), payload, xdata: Xdata::EMPTY };
    match pin!(child.ipc(cx, &request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => reply.map(|reply| reply.payload),
        Poll::Pending => Err(FopError::new(Errno::EIO).doing("answering at once").with("question", operation)),
    }
}
