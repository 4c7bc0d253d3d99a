//! Any text as `flink-conf.yaml`, and as a map.

#![no_main]

#[path = "../../support/decoders/mod.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = decoders::config::flink_conf(input);
});
