//! One reader: a thread that receives requests on its lane and sees each through its first poll.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::abi::{INT_REQ_BIT, OutHeader};
use crate::buffer::Buffer;
use crate::error::SessionError;
use crate::pending::poll_once;
use crate::reply::Reply;
use crate::request::{LockKind, Malformed, Operation, Request};
use crate::session::{Handled, Shared};
use crate::transport::{Received, Transport};

/// A reader, before it runs and while it does. Dropped, it is counted as ended.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    index: usize,
    lane: Arc<dyn Transport>,
    buffer: Buffer,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, buffer: Buffer) -> Self {
        let lane = shared.lanes[index].clone();
        Self { shared, index, lane, buffer }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system refused a thread; the reader is then counted as ended.
    pub(crate) fn spawn(self) -> Result<(), SessionError> {
        std::thread::Builder::new()
            .name(format!("fuse-{}", self.index))
            .spawn(move || self.run())
            .map(drop)
            .map_err(|why| SessionError::Thread { why: why.to_string() })
    }

    fn run(mut self) {
        let runtime = self.shared.runtime.clone();
        let _inside = runtime.enter();
        loop {
            match self.lane.receive(self.buffer.space()) {
                Received::Message(length) => self.dispatch(length),
                Received::Again => {}
                Received::Ended => break,
                Received::Failed(errno) => {
                    tracing::error!(%errno, reader = self.index, "the FUSE device cannot be read any more");
                    break;
                }
            }
        }
    }

    fn dispatch(&self, length: usize) {
        let limits = &self.shared.limits;
        let payload = |bytes| self.buffer.payload(bytes, limits.payload_copy_below);
        let message = self.buffer.message(length);
        match Request::decode_with(message, self.shared.granted.flags, payload) {
            Ok(request) => self.route(request),
            Err(malformed) => self.refuse(&malformed),
        }
    }

    fn refuse(&self, malformed: &Malformed) {
        tracing::error!(%malformed, "a request does not fit the protocol; its caller gets EIO");
        if malformed.is_answered() {
            Reply::new(self.lane.clone(), malformed.unique, malformed.opcode).error(Errno::IO);
        }
    }

    fn route(&self, request: Request<'_>) {
        if let Some(unique) = request.interrupts() {
            return self.interrupt(unique);
        }
        if !request.is_answered() {
            self.without_reply(request);
            return;
        }
        let reply = Reply::new(self.lane.clone(), request.unique(), request.opcode());
        match request.operation() {
            Operation::Unknown { .. } | Operation::SetupMapping | Operation::RemoveMapping => {
                reply.error(Errno::NOSYS);
            }
            Operation::Init { .. } => {
                reply.error(Errno::PROTO);
            }
            // The readers end when the device says so, right after this.
            Operation::Destroy => {
                reply.ok();
            }
            operation if self.shared.is_full() && !always_passes(operation) => {
                tracing::warn!(pending_max = self.shared.limits.pending_max, "too many requests are waiting");
                reply.error(refusal(operation));
            }
            _ => self.handle(request, reply),
        }
    }

    /// Has the handler start the request and polls what is left of it once.
    fn handle(&self, request: Request<'_>, reply: Reply) {
        let unique = request.unique();
        let interrupts = &self.shared.interrupts;
        interrupts.begin(self.index, unique);
        let handled = catch_unwind(AssertUnwindSafe(|| self.shared.handler.handle(request, reply)));
        let result = handled.and_then(|handled| match handled {
            Handled::Done => Ok(()),
            Handled::Later { future, interrupt } => {
                let park = || interrupts.park(self.index, unique, interrupt);
                poll_once(future, &self.shared.runtime, park)
            }
        });
        interrupts.end(self.index);
        if result.is_err() {
            tracing::error!(unique, "a handler panicked; its request was answered EIO");
        }
    }

    /// FORGET and the like: nobody waits, so nothing can be interrupted, and what is pending is nobody's request.
    fn without_reply(&self, request: Request<'_>) {
        let handled = catch_unwind(AssertUnwindSafe(|| self.shared.handler.handle(request, Reply::none())));
        let result = handled.and_then(|handled| match handled {
            Handled::Done => Ok(()),
            Handled::Later { future, .. } => poll_once(future, &self.shared.runtime, || ()),
        });
        if result.is_err() {
            tracing::error!("a handler panicked on a request that wants no reply");
        }
    }

    fn interrupt(&self, unique: u64) {
        if self.shared.interrupts.interrupt(unique) {
            return;
        }
        // The kernel finds the request on the lane it was read from; which one that is we do not know yet. Where every
        // lane says ENOENT the request was answered meanwhile, and the INTERRUPT with it.
        let error = -Errno::AGAIN.raw_os_error();
        let header = OutHeader { len: size_of::<OutHeader>() as u32, error, unique: unique | INT_REQ_BIT };
        let again = [IoSlice::new(header.as_bytes())];
        let taken = self.shared.lanes.iter().any(|lane| lane.send(&again).is_ok());
        tracing::trace!(unique, taken, "interrupt of a request that is not known");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.reader_ended();
    }
}

/// Whether the operation ends waiting or gives something back, so that it must pass when all else is refused.
fn always_passes(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Flush { .. } | Operation::Release(_) | Operation::ReleaseDir(_) => true,
        Operation::SetLk { lock, .. } => lock.kind == LockKind::Unlock,
        _ => false,
    }
}

/// What a request is told that finds too many waiting.
fn refusal(operation: &Operation<'_>) -> Errno {
    match operation {
        Operation::SetLk { .. } => Errno::NOLCK,
        _ => Errno::NOMEM,
    }
}
