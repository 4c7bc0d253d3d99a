//! Any bytes as `_metadata` that tasks restore from.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::read_plan::plan_tasks(input);
});
