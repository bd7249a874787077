//! Any bytes as what a peer sends: read or refused, never a panic, and what is read is written as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    brickwork_wire::fuzz::fuzz_frames(bytes);
});
