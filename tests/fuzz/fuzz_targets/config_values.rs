//! Any text as an option's value.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::values::read(input);
});
