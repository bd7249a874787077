//! A session: the readers of one mount, from INIT to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::buffer::{Buffer, Pool};
use crate::error::SessionError;
use crate::init::{Granted, Wanted, negotiate};
use crate::interrupt::{Interruptible, Interrupts};
use crate::limits::Limits;
use crate::mount::{Mount, MountError, is_dead};
use crate::notify::Notifier;
use crate::pending::Pending;
use crate::reader::Reader;
use crate::reply::Reply;
use crate::request::Request;
use crate::transport::Transport;

/// What a handler left to do.
pub enum Handled {
    /// Nothing: the reply is given, or none was wanted.
    Done,
    /// The rest of the work: polled once by the reader and, if it is pending, finished by the runtime.
    Later {
        /// Owns the [`Reply`] and gives it.
        future: Pending,
        /// What an INTERRUPT of this request does.
        interrupt: Option<Arc<dyn Interruptible>>,
    },
}

impl Handled {
    /// The rest of the work of a request that never waits for another one.
    pub fn later(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::Later { future: Box::pin(future), interrupt: None }
    }

    /// The rest of the work of a request that may wait, and what ends its waiting.
    pub fn interruptible(future: impl Future<Output = ()> + Send + 'static, interrupt: Arc<dyn Interruptible>) -> Self {
        Self::Later { future: Box::pin(future), interrupt: Some(interrupt) }
    }
}

/// What a handler learns when the session has started.
#[derive(Clone, Debug)]
pub struct Started {
    /// What the kernel granted.
    pub granted: Granted,
    /// Tells the kernel what to forget.
    pub notifier: Notifier,
}

/// Answers the requests of one mount. Called by all readers at once.
pub trait Handler: Send + Sync + 'static {
    /// The session has started; the first request comes after this returns.
    fn started(&self, started: &Started) {
        let _ = started;
    }

    /// Handles one request.
    ///
    /// Called on a reader thread within the runtime, so `tokio::spawn` works. What is quick is done here and the
    /// answer is [`Handled::Done`], without an allocation; what may have to wait goes into a future. `request` borrows
    /// the reader's buffer; the payload of a WRITE is made owned by [`crate::Payload::to_bytes`], without a copy when it
    /// is large. INIT, INTERRUPT and DESTROY never come here.
    ///
    /// Do not keep `reply` anywhere but in the returned future: a request that is in neither cannot be interrupted.
    fn handle(&self, request: Request<'_>, reply: Reply) -> Handled;

    /// The mount is gone: no request comes any more, and all pending ones were interrupted. Called once.
    fn ended(&self) {}
}

/// What the readers share.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) runtime: Handle,
    pub(crate) granted: Granted,
    pub(crate) limits: Limits,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) lanes: Vec<Arc<dyn Transport>>,
    reading: AtomicUsize,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Shared {
    /// Notes that a reader has ended; the last one ends the session.
    pub(crate) fn reader_ended(&self) {
        if self.reading.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.interrupts.interrupt_all();
            self.handler.ended();
            *self.ended.lock() = true;
            self.end.notify_all();
        }
    }

    /// Whether more requests than allowed are waiting.
    pub(crate) fn is_full(&self) -> bool {
        self.interrupts.pending() >= self.limits.pending_max
    }
}

/// A running session. Dropping it is [`Session::abort`].
pub struct Session {
    shared: Arc<Shared>,
    notifier: Notifier,
    mount: Option<Mount>,
}

impl Session {
    /// Agrees with the kernel on what `wanted` asks for and starts the readers.
    ///
    /// `mount` is unmounted when the session is dropped, also when starting fails. Without one (another process
    /// mounted, or there is no kernel) only the connection ends. Futures are polled once on the
    /// readers and finished by `runtime`.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn start(
        lane: Arc<dyn Transport>,
        mount: Option<Mount>,
        wanted: &Wanted,
        limits: Limits,
        handler: Arc<dyn Handler>,
        runtime: &Handle,
    ) -> Result<Self, SessionError> {
        let limits = limits.workable();
        let pool = Pool::new(wanted.max_write as usize, 1, 0);
        let granted = negotiate(&*lane, &mut take(&pool)?, wanted, &limits)?;
        tracing::debug!(?granted, "session started");
        Self::resume(lane, mount, granted, limits, handler, runtime)
    }

    /// Goes on with a connection that agreed on `granted` before, in another process.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn resume(
        lane: Arc<dyn Transport>,
        mount: Option<Mount>,
        granted: Granted,
        limits: Limits,
        handler: Arc<dyn Handler>,
        runtime: &Handle,
    ) -> Result<Self, SessionError> {
        let limits = limits.workable();
        let notifier = Notifier::new(lane.clone(), &granted);
        let shared = Arc::new(Shared {
            handler,
            runtime: runtime.clone(),
            granted,
            limits,
            interrupts: Interrupts::new(limits.readers),
            lanes: lanes(lane, limits.readers)?,
            reading: AtomicUsize::new(limits.readers),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let pool = Pool::new(granted.max_write as usize, limits.buffers_max, limits.buffers_idle_max);
        let buffers = (0..limits.readers).map(|_| take(&pool)).collect::<Result<Vec<_>, _>>()?;
        shared.handler.started(&Started { granted, notifier: notifier.clone() });
        let session = Self { shared, notifier, mount };
        // All of them before the first runs: a reader that cannot be started is counted as ended, like those after it.
        let readers: Vec<_> = buffers
            .into_iter()
            .enumerate()
            .map(|(index, buffer)| Reader::new(session.shared.clone(), index, buffer))
            .collect();
        readers.into_iter().try_for_each(Reader::spawn)?;
        Ok(session)
    }

    /// What the kernel granted.
    pub fn granted(&self) -> &Granted {
        &self.shared.granted
    }

    /// Tells the kernel what to forget.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The mount, where the session has one.
    pub fn mount(&self) -> Option<&Mount> {
        self.mount.as_ref()
    }

    /// How many requests are waiting for something.
    pub fn pending(&self) -> usize {
        self.shared.interrupts.pending()
    }

    /// The lane to hand over to another process, by its descriptor, with [`Session::granted`].
    pub fn lane(&self) -> &Arc<dyn Transport> {
        &self.shared.lanes[0]
    }

    /// Takes the mount out of the tree. The session ends once the last file open on it is closed: at once if none is.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn unmount(&self) -> Result<(), MountError> {
        self.mount.as_ref().map_or(Ok(()), Mount::unmount)
    }

    /// Takes the mount out of the tree and ends the connection: whatever is open on it answers `ECONNABORTED` or
    /// `ENOTCONN` from now on.
    ///
    /// Works without root and without fusectl too, by closing our side; a reader that is inside the handler ends when it
    /// comes out of it.
    ///
    /// # Errors
    /// The mount could not be taken out of the tree, see [`MountError`]; the connection is ended all the same.
    pub fn abort(&self) -> Result<(), MountError> {
        let ended = self.has_ended();
        // What is mounted there once we have ended is ours only if it is dead: it may be a successor's.
        let ours = self.mount.as_ref().filter(|mount| !ended || is_dead(mount.point()));
        let taken_out = ours.map_or(Ok(()), Mount::abort);
        if !ended {
            // With its last descriptor the kernel aborts a connection.
            self.shared.lanes.iter().for_each(|lane| lane.close());
        }
        taken_out
    }

    /// Whether every reader has ended.
    pub fn has_ended(&self) -> bool {
        *self.shared.ended.lock()
    }

    /// Waits until the mount is gone, by whoever's hand, every reader has ended and [`Handler::ended`] has returned.
    ///
    /// Blocks its thread: from a task, use [`Handler::ended`] or `spawn_blocking`.
    pub fn wait(&self) {
        let mut ended = self.shared.ended.lock();
        self.shared.end.wait_while(&mut ended, |ended| !*ended);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(why) = self.abort() {
            tracing::error!(%why, "the mount of a dropped session could not be removed");
        }
        // Whatever is mounted there from now on is somebody else's.
        if let Some(mount) = self.mount.take() {
            mount.leave();
        }
    }
}

fn take(pool: &Arc<Pool>) -> Result<Buffer, SessionError> {
    pool.take().ok_or(SessionError::Memory { bytes: pool.buffer_length() })
}

fn lanes(first: Arc<dyn Transport>, count: usize) -> Result<Vec<Arc<dyn Transport>>, SessionError> {
    let mut lanes = vec![first];
    while lanes.len() < count {
        let another = lanes[0].another().map_err(|errno| SessionError::Lane { errno })?;
        lanes.push(another);
    }
    Ok(lanes)
}
