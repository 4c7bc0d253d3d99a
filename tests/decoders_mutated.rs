//! Every decoder on mutated fixtures: no panic, errors that say where, memory by the input's length, and what is
//! decoded comes back. The fuzz targets of `tests/fuzz` go on from here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/counted_memory.rs"]
mod counted_memory;
#[path = "support/decoders/mod.rs"]
mod decoders;
#[path = "support/mutations.rs"]
mod mutations;
#[path = "random/mod.rs"]
mod random;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use counted_memory::peak_of;
use decoders::{ALL, Decoder};
use mutations::mutated;
use random::Random;

/// What a decoder and the check that writes all of it again may take, and by the input's length.
const MEMORY_BYTES: usize = 1 << 20;
const MEMORY_FACTOR: usize = 64;

fn decoder(name: &str) -> &'static Decoder {
    ALL.iter().find(|decoder| decoder.name == name).unwrap()
}

/// Was the input decoded?
fn try_on(decoder: &Decoder, input: &[u8]) -> bool {
    let (done, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| (decoder.check)(input))));
    let decoded = done.unwrap_or_else(|_| panic!("{} of b\"{}\"", decoder.name, input.escape_ascii()));
    let most = MEMORY_BYTES + MEMORY_FACTOR * input.len();
    assert!(peak <= most, "{}: {peak} bytes for b\"{}\"", decoder.name, input.escape_ascii());
    decoded
}

fn survives(name: &str, inputs: usize) {
    let decoder = decoder(name);
    let fixtures = (decoder.seeds)();
    for fixture in &fixtures {
        try_on(decoder, fixture);
    }
    let mut random = Random::new();
    let mut decoded = 0;
    for _ in 0..inputs {
        let [fixture, other] = [0, 0].map(|_| &fixtures[random.below(fixtures.len())]);
        let input = mutated(&mut random, fixture, other);
        decoded += usize::from(try_on(decoder, &input));
    }
    // Else the mutations are too coarse to get anywhere, or too fine to be noticed.
    assert!(decoded > inputs / 500 && decoded < inputs, "{decoded} of {inputs} were decoded");
}

macro_rules! tests {
    ($($name:ident: $inputs:literal,)*) => {
        $(
            #[test]
            fn $name() {
                survives(stringify!($name), $inputs);
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

// Each with as many inputs as a debug build takes about a second for.
tests! {
    metadata: 3_000,
    round_trip: 600,
    trailer: 6_000,
    footer: 6_000,
    acknowledgement: 3_000,
    fence_log: 6_000,
    barred: 12_000,
    hint: 12_000,
    in_flight: 12_000,
    properties: 6_000,
    config_yaml: 200,
    flink_conf: 100,
    config_values: 12_000,
    names: 12_000,
    ids: 12_000,
    paths: 12_000,
    rebase: 12_000,
    read_plan: 400,
}

#[test]
fn every_decoder_is_tested_and_fuzzed() {
    let all: Vec<_> = ALL.iter().map(|decoder| decoder.name).collect();
    assert_eq!(all, TESTED);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in all {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
}
