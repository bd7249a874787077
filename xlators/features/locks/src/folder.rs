//! Where the brick below lets the locks keep their records.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use brickwork_api::{Bytes, ClientId, Cx, Host, IpcReq, Xdata, Xlator, ipc};

/// Our name for it.
const NAME: &str = "locks";

/// The folder.
///
/// # Errors
/// Why there is none.
pub(crate) fn of_child(child: &dyn Xlator, host: &Arc<dyn Host>) -> Result<PathBuf, String> {
    let cx = Cx::internal(ClientId(0), host.clone());
    let payload = Bytes::from_static(NAME.as_bytes());
    let request = IpcReq { operation: ipc::WORK_FOLDER.to_owned(), payload, xdata: Xdata::EMPTY };
    // A brick answers questions about itself at once.
    match pin!(child.ipc(&cx, &request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(reply)) => Ok(PathBuf::from(std::ffi::OsString::from_vec(reply.payload.to_vec()))),
        Poll::Ready(Err(error)) => Err(error.to_string()),
        Poll::Pending => Err("it did not answer at once".to_owned()),
    }
}
