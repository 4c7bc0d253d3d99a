//! Any bytes as an entry of the fence log, alone and with a seal that holds.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::fence::entry(input);
});
