//! Any bytes as a footer, alone and with a tail that holds.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::footer::read(input);
});
