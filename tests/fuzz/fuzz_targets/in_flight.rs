//! Any bytes as a stream of channel state.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::in_flight::read(input);
});
