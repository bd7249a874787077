//! The bytes that travel beside a header: those of a write on the way down, those of a read on the way up.

use std::any::Any;

use brickwork_api::{ReadReply, WriteReq};
use bytes::Bytes;

/// The payload of a request or reply; empty for all but writes and the replies of reads.
pub fn of<T: Any>(value: &T) -> Bytes {
    let value = value as &dyn Any;
    if let Some(write) = value.downcast_ref::<WriteReq>() {
        return write.data.clone();
    }
    value.downcast_ref::<ReadReply>().map_or_else(Bytes::new, |read| read.data.clone())
}

/// Gives a decoded request or reply its payload; whether it takes one.
#[must_use]
pub fn give<T: Any>(value: &mut T, payload: Bytes) -> bool {
    let value = value as &mut dyn Any;
    if let Some(write) = value.downcast_mut::<WriteReq>() {
        write.data = payload;
        return true;
    }
    if let Some(read) = value.downcast_mut::<ReadReply>() {
        read.data = payload;
        return true;
    }
    payload.is_empty()
}
