//! One entry for everything that reads what a peer wrote, for fuzzing and for the seeded mutations of the tests.

use brickwork_api::{FopError, FopKind};
use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{Frame, FrameLimits, Kind, take};
use crate::message::{Answer, Call, GivenUp, Notice, Refused, RequestHead};

/// Reads `bytes` as frames and their headers as what their kind says; returns how many were whole messages.
///
/// # Panics
/// When a message that was read is not written as it was.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) -> usize {
    let mut buffer = BytesMut::from(bytes);
    let mut whole = 0;
    while let Ok(Some(frame)) = take(&mut buffer, FrameLimits::FULL) {
        whole += usize::from(reads(&frame));
    }
    whole
}

fn reads(frame: &Frame) -> bool {
    let header = &frame.header[..];
    match frame.prefix.kind {
        Kind::Call => same::<Call>(header),
        Kind::Answer => same::<Result<Answer, Refused>>(header),
        Kind::Failure => same::<FopError>(header),
        Kind::Cancel => same::<GivenUp>(header),
        Kind::Notice => same::<Notice>(header),
        Kind::Noticed | Kind::Ping | Kind::Pong => same::<()>(header),
        Kind::Request | Kind::Reply => {
            let request = frame.prefix.kind == Kind::Request;
            FopKind::ALL.get(usize::from(frame.prefix.fop)).is_some_and(|kind| reads_fop(*kind, request, header))
        }
    }
}

macro_rules! every_fop {
    ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
        fn reads_fop(kind: FopKind, request: bool, header: &[u8]) -> bool {
            match kind {
                $(FopKind::$kind if request => same::<(RequestHead, brickwork_api::$request)>(header),
                FopKind::$kind => same::<brickwork_api::$reply>(header),)*
            }
        }
    };
}
brickwork_api::for_each_fop!(every_fop);

fn same<T: DeserializeOwned + Serialize>(header: &[u8]) -> bool {
    let Ok(value) = brickwork_codec::decode::<T>(header) else { return false };
    assert_eq!(brickwork_codec::encode(&value), header, "read and written again");
    true
}
