//! Any bytes as what bars a checkpoint.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::fence::bar(input);
});
