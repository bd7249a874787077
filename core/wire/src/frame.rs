//! The shape of everything on a connection: a prefix of fixed size, a header, a payload.
//!
//! Pure. A prefix says how long the rest is and is judged before memory is set aside for it; the header is encoded by
//! `brickwork-codec`; the payload (bytes of a file) is never encoded and never copied.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a prefix.
pub const PREFIX: usize = 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A [`Call`](crate::message::Call) of the client about the connection or a session.
    Call = 1,
    /// The result of a call: `Result<Answer, Refused>`.
    Answer = 2,
    /// A fop: [`RequestHead`](crate::message::RequestHead), then the request of the kind in [`Prefix::fop`].
    Request = 3,
    /// What the fop answered.
    Reply = 4,
    /// The error that the fop ended with: a `FopError`.
    Failure = 5,
    /// The client gives a waiting request up: [`GivenUp`](crate::message::GivenUp). Not answered by itself. With the id of
    /// the request its answer is waited for, whatever it is; with any other a lock that it has taken is let go of.
    Cancel = 6,
    /// A [`Notice`](crate::message::Notice) of the server.
    Notice = 7,
    /// The client has done what the notice of this id asks for.
    Noticed = 8,
    /// Are you there?
    Ping = 9,
    /// Yes.
    Pong = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Call,
        Kind::Answer,
        Kind::Request,
        Kind::Reply,
        Kind::Failure,
        Kind::Cancel,
        Kind::Notice,
        Kind::Noticed,
        Kind::Ping,
        Kind::Pong,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// What stands before each header.
///
/// On the wire, little endian: header length `u32`, payload length `u32`, id `u64`, kind `u8`, fop `u8`, session `u16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the header.
    pub header: u32,
    /// Bytes of the payload.
    pub payload: u32,
    /// Chosen by whoever asks; the answer carries it back.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The number of the fop of a request, reply or failure; else 0.
    pub fop: u8,
    /// The session on this connection; 0 for calls.
    pub session: u16,
}

impl Prefix {
    /// A prefix of a frame without payload whose lengths are not known yet.
    #[must_use]
    pub fn new(kind: Kind, id: u64) -> Prefix {
        Prefix { header: 0, payload: 0, id, kind, fop: 0, session: 0 }
    }

    /// The same for a fop of a session.
    #[must_use]
    pub fn of(self, fop: u8, session: u16) -> Prefix {
        Prefix { fop, session, ..self }
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PREFIX] {
        let mut bytes = [0; PREFIX];
        bytes[0..4].copy_from_slice(&self.header.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.payload.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[17] = self.fop;
        bytes[18..20].copy_from_slice(&self.session.to_le_bytes());
        bytes
    }

    /// Reads a prefix and judges its lengths.
    ///
    /// # Errors
    /// An unknown kind, a length beyond `limits`.
    pub fn from_bytes(bytes: &[u8; PREFIX], limits: FrameLimits) -> Result<Prefix, FrameError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let kind = Kind::from_number(bytes[16]).ok_or(FrameError::Kind(bytes[16]))?;
        let (header, payload) = (word(0), word(4));
        if header > limits.header {
            return Err(FrameError::Header { length: header, limit: limits.header });
        }
        if payload > limits.payload {
            return Err(FrameError::Payload { length: payload, limit: limits.payload });
        }
        let id = u64::from(word(8)) | u64::from(word(12)) << 32;
        Ok(Prefix { header, payload, id, kind, fop: bytes[17], session: u16::from_le_bytes([bytes[18], bytes[19]]) })
    }
}

/// The longest frame that is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of a header.
    pub header: u32,
    /// Bytes of a payload.
    pub payload: u32,
}

impl FrameLimits {
    /// Before a peer has shown who it is: room for a greeting.
    pub const GREETING: FrameLimits = FrameLimits { header: 16 << 10, payload: 0 };
    /// Of a peer that was let in: a directory listing of 1 MiB with its attributes, and more than a kernel writes at once.
    pub const FULL: FrameLimits = FrameLimits { header: 4 << 20, payload: 16 << 20 };
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its prefix.
    pub prefix: Prefix,
    /// Its header, encoded.
    pub header: Bytes,
    /// Its payload, as it is.
    pub payload: Bytes,
}

/// Takes the first whole frame out of `buffer`; `None` when there is none yet, and then `buffer` has room for the rest.
///
/// # Errors
/// As [`Prefix::from_bytes`]; nothing more can be read from such a connection.
pub fn take(buffer: &mut BytesMut, limits: FrameLimits) -> Result<Option<Frame>, FrameError> {
    let Some(bytes) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let prefix = Prefix::from_bytes(bytes, limits)?;
    let (header, payload) = (prefix.header as usize, prefix.payload as usize);
    let whole = PREFIX + header + payload;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX);
    let header = buffer.split_to(header).freeze();
    let payload = if payload == 0 { Bytes::new() } else { buffer.split_to(payload).freeze() };
    Ok(Some(Frame { prefix, header, payload }))
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No kind has this number.
    Kind(u8),
    /// The header is too long.
    Header {
        /// What the prefix says.
        length: u32,
        /// What is allowed.
        limit: u32,
    },
    /// The payload is too long.
    Payload {
        /// What the prefix says.
        length: u32,
        /// What is allowed.
        limit: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Kind(number) => write!(f, "a frame of the unknown kind {number}"),
            FrameError::Header { length, limit } => {
                write!(f, "a header of {length} bytes, {limit} are allowed here")
            }
            FrameError::Payload { length, limit } => {
                write!(f, "a payload of {length} bytes, {limit} are allowed here")
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: FrameLimits = FrameLimits { header: 300, payload: 500 };

    fn frame(kind: Kind, id: u64, header: &[u8], payload: &[u8]) -> Vec<u8> {
        let prefix = Prefix { header: header.len() as u32, payload: payload.len() as u32, ..Prefix::new(kind, id) };
        [&prefix.to_bytes()[..], header, payload].concat()
    }

    #[test]
    fn a_prefix_is_twenty_bytes_in_this_order() {
        let prefix =
            Prefix { header: 2, payload: 3, id: 0x0807_0605_0403_0201, kind: Kind::Request, fop: 9, session: 0x0b0a };
        let bytes = prefix.to_bytes();
        assert_eq!(bytes, [2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 9, 0x0a, 0x0b]);
        assert_eq!(Prefix::from_bytes(&bytes, LIMITS), Ok(prefix));
    }

    #[test]
    fn lengths_are_judged_at_the_limit_and_before_memory_is_set_aside() {
        for (header, payload, fits) in [(300, 500, true), (301, 0, false), (0, 501, false), (u32::MAX, u32::MAX, false)]
        {
            let prefix = Prefix { header, payload, ..Prefix::new(Kind::Call, 1) };
            let mut buffer = BytesMut::from(&prefix.to_bytes()[..]);
            assert_eq!(take(&mut buffer, LIMITS).is_ok(), fits, "{header} {payload}");
            assert!(buffer.capacity() < 4096);
        }
    }

    #[test]
    fn a_kind_that_nobody_knows_is_refused() {
        for number in [0, 11, 255] {
            let mut bytes = Prefix::new(Kind::Call, 1).to_bytes();
            bytes[16] = number;
            assert_eq!(Prefix::from_bytes(&bytes, LIMITS), Err(FrameError::Kind(number)));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(
            frames in prop::collection::vec((1u8..=10, any::<u64>(), prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..500)), 0..8),
            cut in 1usize..200,
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, id, header, payload)| frame(Kind::from_number(*kind).unwrap(), *id, header, payload)).collect();
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take(&mut buffer, LIMITS).unwrap() {
                    found.push((frame.prefix.kind as u8, frame.prefix.id, frame.header.to_vec(), frame.payload.to_vec()));
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer, LIMITS) {}
        }
    }
}
