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

/// Bytes of input for each decoder: as many as a debug build takes about a second for.
const BYTES: usize = 6 << 20;
const INPUTS_MAX: usize = 6_000;

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

fn survives(name: &str) {
    let decoder = decoder(name);
    let fixtures = (decoder.seeds)();
    for fixture in &fixtures {
        try_on(decoder, fixture);
    }
    let mut random = Random::new();
    let (mut bytes, mut decoded, mut inputs) = (0, 0, 0);
    while bytes < BYTES && inputs < INPUTS_MAX {
        let [fixture, other] = [0, 0].map(|_| &fixtures[random.below(fixtures.len())]);
        let input = mutated(&mut random, fixture, other);
        decoded += usize::from(try_on(decoder, &input));
        inputs += 1;
        bytes += input.len();
    }
    // Else the mutations are too coarse to get anywhere, or too fine to be noticed.
    assert!(decoded > inputs / 500 && decoded < inputs, "{decoded} of {inputs} were decoded");
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                survives(stringify!($name));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

tests! {
    metadata round_trip trailer footer acknowledgement properties config_yaml flink_conf config_values names ids paths
    rebase read_plan
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
