//! The entry point for fuzzers.

use crate::init::InitFlags;
use crate::request::{Operation, Request};

/// Decodes `bytes` as one message of the kernel, and looks at everything in it that is decoded lazily.
///
/// Returns whether it is a well-formed message. Never panics, and allocates nothing.
pub fn fuzz_request(bytes: &[u8]) -> bool {
    // Both layouts of SETXATTR.
    let short = decode(bytes, InitFlags::empty());
    let long = decode(bytes, InitFlags::SETXATTR_EXT);
    short || long
}

fn decode(bytes: &[u8], granted: InitFlags) -> bool {
    let Ok(request) = Request::decode(bytes, granted) else {
        return false;
    };
    let groups = request.extensions().groups().map_or(0, Iterator::count);
    let contexts = request.extensions().security_contexts().map_or(0, |contexts| contexts.iter().count());
    let parts = match request.operation() {
        Operation::BatchForget(forgets) => {
            assert_eq!(forgets.iter().count(), forgets.len());
            forgets.len()
        }
        Operation::Write(write) => write.data.len(),
        Operation::NotifyReply { data, .. } => data.len(),
        _ => 0,
    };
    assert!(groups + contexts + parts <= bytes.len(), "more was decoded than was sent");
    true
}
