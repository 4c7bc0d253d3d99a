//! Any text as rules that move paths.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::paths::rebase(input);
});
