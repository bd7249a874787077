//! Any bytes as the text of a volfile: parsed, checked, printed, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    brickwork_graph::volfile::fuzz_volfile(bytes);
});
