//! The way out of a connection: frames of many threads, written together.
//!
//! Whoever sends puts its frame into the queue and then writes the queue, unless somebody is writing already, who then
//! takes it along. So at a low load the sender's own thread does the write, and at a high one many frames share a write.
//! What a socket does not take at once is left to a task.
//!
//! Always true: frames leave in the order in which they were put in; one thread writes at a time; the bytes of a payload
//! are not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use smallvec::SmallVec;
use tokio::io::WriteHalf;
use tokio::sync::Notify;

use crate::frame::{PREFIX, Prefix};
use crate::stream::{self, Secured, Sink, Socket};

/// Payloads below are copied beside the headers: a slice of its own costs more.
const SLICE_MIN: usize = 2048;
/// A run of headers is cut here, so that one write does not grow without end.
const RUN_MAX: usize = 64 << 10;
/// Pieces of one write.
const SLICES_MAX: usize = 64;

/// A piece of the queue.
#[derive(Debug)]
enum Piece {
    Run(Vec<u8>),
    Payload(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Run(bytes) => bytes,
            Piece::Payload(bytes) => bytes,
        }
    }
}

/// Pieces in order, the first of them perhaps begun.
#[derive(Debug, Default)]
struct Batch {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written.
    begun: usize,
}

impl Batch {
    fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let skip = |index| if index == 0 { self.begun } else { 0 };
        self.pieces.iter().enumerate().map(move |(index, piece)| IoSlice::new(&piece.bytes()[skip(index)..]))
    }

    /// Takes `written` bytes off the front; returns an emptied run for use again.
    fn advance(&mut self, mut written: usize) -> Option<Vec<u8>> {
        let mut spare = None;
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.begun;
            if written < left {
                self.begun += written;
                break;
            }
            written -= left;
            self.begun = 0;
            if let Some(Piece::Run(run)) = self.pieces.pop_front() {
                spare = Some(run);
            }
        }
        spare
    }
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    spare: Option<Vec<u8>>,
    /// Somebody has taken pieces out and will come back for more.
    writing: bool,
    closed: bool,
}

impl Queue {
    fn run(&mut self) -> &mut Vec<u8> {
        let fits = matches!(self.pieces.back(), Some(Piece::Run(run)) if run.len() < RUN_MAX);
        if !fits {
            let run = self.spare.take().unwrap_or_else(|| Vec::with_capacity(4096));
            self.pieces.push_back(Piece::Run(run));
        }
        match self.pieces.back_mut() {
            Some(Piece::Run(run)) => run,
            _ => unreachable!("a run was pushed above"),
        }
    }
}

struct Shared {
    queue: Mutex<Queue>,
    queued: AtomicUsize,
    /// `None` for TLS: only the task writes that.
    socket: Option<Socket>,
    /// Of TLS: the socket beneath.
    beneath: Option<std::os::fd::OwnedFd>,
    /// What a socket did not take.
    blocked: Mutex<Option<Batch>>,
    to_write: Notify,
    room: Notify,
}

/// The way out; clones are the same one.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

/// The connection is closed: nothing more goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Outbox {
    /// The way out through `sink`, and the task that writes what the senders could not.
    pub(crate) fn new(sink: Sink) -> (Outbox, impl Future<Output = ()> + Send + 'static) {
        let (socket, beneath, half) = match sink {
            Sink::Plain(socket) => (Some(socket), None, None),
            Sink::Tls(half, fd) => (None, Some(fd), Some(half)),
        };
        let outbox = Outbox(Arc::new(Shared {
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            socket,
            beneath,
            blocked: Mutex::default(),
            to_write: Notify::new(),
            room: Notify::new(),
        }));
        let task = outbox.clone();
        (outbox, async move { task.write_what_is_left(half).await })
    }

    /// Whether both are the way out of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Outbox) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Puts a frame into the queue; it leaves with the next [`Outbox::flush`]. The lengths in `prefix` are set here.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn put<H: Serialize + ?Sized>(&self, prefix: Prefix, header: &H, payload: Bytes) -> Result<(), Closed> {
        self.put_with(prefix, payload, |run| brickwork_codec::encode_into(header, run))
    }

    /// As [`Outbox::put`], of a header that is encoded already.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn put_encoded(&self, prefix: Prefix, header: &[u8], payload: Bytes) -> Result<(), Closed> {
        self.put_with(prefix, payload, |run| run.extend_from_slice(header))
    }

    fn put_with(&self, mut prefix: Prefix, payload: Bytes, header: impl FnOnce(&mut Vec<u8>)) -> Result<(), Closed> {
        let mut queue = self.0.queue.lock();
        if queue.closed {
            return Err(Closed);
        }
        let run = queue.run();
        let begin = run.len();
        run.extend_from_slice(&[0; PREFIX]);
        header(run);
        prefix.header = length(run.len() - begin - PREFIX);
        prefix.payload = length(payload.len());
        run[begin..begin + PREFIX].copy_from_slice(&prefix.to_bytes());
        let mut added = run.len() - begin;
        added += payload.len();
        if payload.len() >= SLICE_MIN {
            queue.pieces.push_back(Piece::Payload(payload));
        } else {
            run.extend_from_slice(&payload);
        }
        self.0.queued.fetch_add(added, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a frame into the queue and writes the queue.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn send<H: Serialize + ?Sized>(&self, prefix: Prefix, header: &H, payload: Bytes) -> Result<(), Closed> {
        self.put(prefix, header, payload)?;
        self.flush();
        Ok(())
    }

    /// Writes the queue, as far as the socket takes it, unless somebody is at it already. Does not wait.
    pub fn flush(&self) {
        let Some(socket) = &self.0.socket else { return self.0.to_write.notify_one() };
        let Some(mut batch) = self.take() else { return };
        loop {
            match self.write(socket, &mut batch) {
                Ok(()) => match self.take_more() {
                    Some(more) => batch = more,
                    None => return,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *self.0.blocked.lock() = Some(batch);
                    return self.0.to_write.notify_one();
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost while writing");
                    return self.close();
                }
            }
        }
    }

    /// Bytes that are waiting to leave.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// Returns when at most `limit` bytes wait to leave, or the connection is closed.
    pub async fn room(&self, limit: usize) {
        loop {
            let room = self.0.room.notified();
            let mut room = std::pin::pin!(room);
            // Registered before the look: whoever makes room after it wakes us.
            room.as_mut().enable();
            if self.queued() <= limit || self.is_closed() {
                return;
            }
            room.await;
        }
    }

    /// Ends the connection in both directions at once; what waits to leave is dropped.
    pub fn close(&self) {
        let shared = &*self.0;
        {
            let mut queue = shared.queue.lock();
            queue.closed = true;
            queue.pieces.clear();
        }
        shared.queued.store(0, Ordering::Relaxed);
        if let Some(socket) = &shared.socket {
            Sink::shut_down(socket.as_fd());
        }
        if let Some(fd) = &shared.beneath {
            Sink::shut_down(fd.as_fd());
        }
        shared.to_write.notify_one();
        shared.room.notify_waiters();
    }

    /// Whether [`Outbox::close`] was called or writing failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.queue.lock().closed
    }

    /// The queue, and the turn to write; `None` when it is empty or another has the turn.
    fn take(&self) -> Option<Batch> {
        let mut queue = self.0.queue.lock();
        if queue.writing || queue.pieces.is_empty() || queue.closed {
            return None;
        }
        queue.writing = true;
        Some(Batch { pieces: std::mem::take(&mut queue.pieces), begun: 0 })
    }

    /// What came meanwhile; `None` ends the turn.
    fn take_more(&self) -> Option<Batch> {
        let mut queue = self.0.queue.lock();
        if queue.pieces.is_empty() || queue.closed {
            queue.writing = false;
            return None;
        }
        Some(Batch { pieces: std::mem::take(&mut queue.pieces), begun: 0 })
    }

    fn write(&self, socket: &Socket, batch: &mut Batch) -> io::Result<()> {
        while !batch.pieces.is_empty() {
            let written = {
                let slices: SmallVec<[IoSlice<'_>; 4]> = batch.slices().take(SLICES_MAX).collect();
                match socket.try_write(&slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    written => written?,
                }
            };
            self.written(batch, written);
        }
        Ok(())
    }

    fn written(&self, batch: &mut Batch, written: usize) {
        if let Some(mut run) = batch.advance(written) {
            run.clear();
            self.0.queue.lock().spare = Some(run);
        }
        // Closing sets the count to zero from another thread.
        let subtract = |queued: usize| Some(queued.saturating_sub(written));
        let _ = self.0.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
        self.0.room.notify_waiters();
    }

    /// The task: writes what a socket did not take, and all of TLS.
    async fn write_what_is_left(self, mut half: Option<WriteHalf<Box<dyn Secured>>>) {
        loop {
            self.0.to_write.notified().await;
            let done = match (&mut half, &self.0.socket) {
                (Some(half), _) => self.write_secured(half).await,
                (None, Some(socket)) => self.write_blocked(socket).await,
                (None, None) => unreachable!("a connection has a socket or TLS"),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a connection was lost while writing");
                self.close();
            }
            if self.is_closed() {
                return;
            }
        }
    }

    async fn write_blocked(&self, socket: &Socket) -> io::Result<()> {
        let Some(mut batch) = self.0.blocked.lock().take() else { return Ok(()) };
        loop {
            match self.write(socket, &mut batch) {
                Ok(()) => match self.take_more() {
                    Some(more) => batch = more,
                    None => return Ok(()),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                Err(error) => return Err(error),
            }
            if self.is_closed() {
                return Ok(());
            }
        }
    }

    async fn write_secured(&self, half: &mut WriteHalf<Box<dyn Secured>>) -> io::Result<()> {
        let Some(mut batch) = self.take() else { return Ok(()) };
        loop {
            while let Some(piece) = batch.pieces.front() {
                stream::write_all(half, piece.bytes()).await?;
                let written = piece.bytes().len();
                self.written(&mut batch, written);
            }
            stream::flush(half).await?;
            match self.take_more() {
                Some(more) => batch = more,
                None => return Ok(()),
            }
        }
    }
}

/// # Panics
/// Beyond 4 GiB, which the limits of frames exclude.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("frames have limits far below 4 GiB")
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("queued", &self.queued()).finish_non_exhaustive()
    }
}
