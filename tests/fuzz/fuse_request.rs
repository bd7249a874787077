//! Any bytes as a message of the kernel: decoded or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    brickwork_fuse::fuzz_request(bytes);
});
