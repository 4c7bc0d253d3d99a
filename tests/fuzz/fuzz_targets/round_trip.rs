//! Any bytes as `_metadata`, written again in every version.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::metadata::round_trip(input);
});
