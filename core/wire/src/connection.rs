//! A connection: the way out, the way in, and the first words.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};

use crate::frame::{self, Frame, FrameError, FrameLimits, Kind, Prefix};
use crate::message::{Answer, Call, Refused};
use crate::outbox::{Closed, Outbox};
use crate::stream::{Source, Stream};

/// Bytes read ahead before a peer has shown who it is.
const AHEAD_GREETING: usize = 4 << 10;
/// Bytes read ahead of a peer that was let in.
const AHEAD: usize = 64 << 10;

/// The way in. One task reads it.
pub struct Inbox {
    source: Source,
    buffer: BytesMut,
    limits: FrameLimits,
    ahead: usize,
}

/// Makes a connection of `stream`, with [`FrameLimits::GREETING`]. Needs a runtime: a task writes what senders cannot.
///
/// Whoever is done with it calls [`Outbox::close`]; dropping does not end it.
#[must_use]
pub fn open(stream: Stream) -> (Outbox, Inbox) {
    let (source, sink) = stream.split();
    let (outbox, writer) = Outbox::new(sink);
    tokio::spawn(writer);
    let inbox = Inbox { source, buffer: BytesMut::new(), limits: FrameLimits::GREETING, ahead: AHEAD_GREETING };
    (outbox, inbox)
}

impl Inbox {
    /// Takes frames of [`FrameLimits::FULL`] from here on.
    pub fn let_in(&mut self) {
        self.limits = FrameLimits::FULL;
        self.ahead = AHEAD;
    }

    /// The next frame; `None` when the peer has ended the connection between two frames. Nothing is lost when dropped.
    ///
    /// # Errors
    /// What the peer sent is no frame, it ended within one, or the connection was lost.
    pub async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Takes in what has come, and waits until something has: also a part of a frame tells that the peer is there. False
    /// when the peer has ended the connection between two frames. Nothing is lost when dropped.
    ///
    /// # Errors
    /// It ended within a frame, or the connection was lost.
    pub async fn more(&mut self) -> Result<bool, WireError> {
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * self.ahead {
            // After a large payload: an idle connection does not keep its memory.
            self.buffer = BytesMut::new();
        }
        match self.source.read(&mut self.buffer, self.ahead).await.map_err(WireError::Lost)? {
            0 if self.buffer.is_empty() => Ok(false),
            0 => Err(WireError::CutShort),
            _ => Ok(true),
        }
    }

    /// A frame that has arrived already; does not wait.
    ///
    /// # Errors
    /// What the peer sent is no frame.
    pub fn buffered(&mut self) -> Result<Option<Frame>, WireError> {
        frame::take(&mut self.buffer, self.limits).map_err(WireError::Frame)
    }
}

/// Asks `call` before anything else is under way on the connection, and waits for its answer.
///
/// # Errors
/// The peer refuses, the connection is lost, or something else than the answer came.
pub async fn ask(outbox: &Outbox, inbox: &mut Inbox, id: u64, call: &Call) -> Result<Answer, WireError> {
    outbox.send(Prefix::new(Kind::Call, id), call, Bytes::new())?;
    loop {
        let frame = inbox.next().await?.ok_or(WireError::Ended)?;
        match frame.prefix.kind {
            Kind::Answer if frame.prefix.id == id => {
                let answer: Result<Answer, Refused> = decode(&frame.header)?;
                return answer.map_err(WireError::Refused);
            }
            Kind::Ping => outbox.send(Prefix::new(Kind::Pong, frame.prefix.id), &(), Bytes::new())?,
            kind => return Err(WireError::Unexpected(kind)),
        }
    }
}

/// Decodes a header.
///
/// # Errors
/// [`WireError::Header`].
pub fn decode<'a, T: serde::Deserialize<'a>>(header: &'a [u8]) -> Result<T, WireError> {
    brickwork_codec::decode(header).map_err(|error| WireError::Header(error.to_string()))
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum WireError {
    /// The bytes are no frame.
    Frame(FrameError),
    /// A header is not what its kind says.
    Header(String),
    /// Another kind of frame than belongs here.
    Unexpected(Kind),
    /// The peer ended the connection within a frame.
    CutShort,
    /// The peer ended the connection.
    Ended,
    /// The connection was lost.
    Lost(io::Error),
    /// The connection was closed on this side.
    Closed,
    /// The peer does not want us, and says why.
    Refused(Refused),
}

impl From<Closed> for WireError {
    fn from(_: Closed) -> WireError {
        WireError::Closed
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Frame(error) => write!(f, "not spoken in this protocol: {error}"),
            WireError::Header(error) => {
                write!(f, "not spoken in this protocol: a header that cannot be read ({error})")
            }
            WireError::Unexpected(kind) => write!(f, "not spoken in this protocol: an unexpected {kind:?}"),
            WireError::CutShort => f.write_str("the connection ended within a frame"),
            WireError::Ended => f.write_str("the other side ended the connection"),
            WireError::Lost(error) => write!(f, "{error}"),
            WireError::Closed => f.write_str("the connection was closed"),
            WireError::Refused(refused) => write!(f, "{refused}"),
        }
    }
}

impl std::error::Error for WireError {}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    fn pair() -> ((Outbox, Inbox), (Outbox, Inbox)) {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (open(Stream::Unix(one)), open(Stream::Unix(other)));
        one.1.let_in();
        other.1.let_in();
        (one, other)
    }

    #[tokio::test]
    async fn frames_arrive_in_order_with_their_payloads_untouched() {
        let ((outbox, _), (_, mut inbox)) = pair();
        let payload = Bytes::from(vec![7; 100_000]);
        for id in 0..50u64 {
            let payload = payload.slice(0..(id as usize * 2000));
            outbox.send(Prefix::new(Kind::Request, id), &id, payload).unwrap();
        }
        for id in 0..50u64 {
            let frame = inbox.next().await.unwrap().unwrap();
            assert_eq!((frame.prefix.id, decode::<u64>(&frame.header).unwrap()), (id, id));
            assert_eq!(frame.payload, payload.slice(0..(id as usize * 2000)));
        }
        assert_eq!(outbox.queued(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn frames_of_many_threads_are_whole_and_each_thread_keeps_its_order() {
        let ((outbox, _), (_, mut inbox)) = pair();
        let senders: Vec<_> = (0..4u64)
            .map(|thread| {
                let outbox = outbox.clone();
                std::thread::spawn(move || {
                    for number in 0..2000u64 {
                        let payload = Bytes::from(vec![thread as u8; (number % 5 * 1500) as usize]);
                        outbox.send(Prefix::new(Kind::Request, thread), &number, payload).unwrap();
                    }
                })
            })
            .collect();
        let mut next = [0u64; 4];
        for _ in 0..8000 {
            let frame = inbox.next().await.unwrap().unwrap();
            let thread = frame.prefix.id as usize;
            assert_eq!(decode::<u64>(&frame.header).unwrap(), next[thread]);
            assert!(frame.payload.iter().all(|byte| *byte == thread as u8));
            next[thread] += 1;
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_fills_the_queue_and_room_waits_for_it() {
        let ((outbox, _), (_, mut inbox)) = pair();
        let payload = Bytes::from(vec![1; 1 << 20]);
        for id in 0..8 {
            outbox.send(Prefix::new(Kind::Request, id), &(), payload.clone()).unwrap();
        }
        assert!(outbox.queued() > 6 << 20, "a socket takes less than that at once");
        let waiting = outbox.clone();
        let room = tokio::spawn(async move { waiting.room(1 << 20).await });
        for id in 0..8 {
            assert_eq!(inbox.next().await.unwrap().unwrap().prefix.id, id);
        }
        room.await.unwrap();
        outbox.room(0).await;
    }

    #[tokio::test]
    async fn closing_ends_both_directions_and_wakes_whoever_waits_for_room() {
        let ((outbox, mut own), (_, mut inbox)) = pair();
        for id in 0..8 {
            outbox.send(Prefix::new(Kind::Request, id), &(), Bytes::from(vec![1; 1 << 20])).unwrap();
        }
        let waiting = outbox.clone();
        let room = tokio::spawn(async move { waiting.room(0).await });
        outbox.close();
        room.await.unwrap();
        assert_eq!(outbox.send(Prefix::new(Kind::Ping, 1), &(), Bytes::new()), Err(Closed));
        assert!(matches!(own.next().await, Ok(None)));
        while let Ok(Some(_)) = inbox.next().await {}
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_no_end_between_two() {
        let (one, other) = UnixStream::pair().unwrap();
        let (_outbox, mut inbox) = open(Stream::Unix(other));
        one.writable().await.unwrap();
        one.try_write(&Prefix { header: 5, ..Prefix::new(Kind::Call, 1) }.to_bytes()).unwrap();
        drop(one);
        assert!(matches!(inbox.next().await, Err(WireError::CutShort)));
    }
}
