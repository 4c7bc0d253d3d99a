//! How many random inputs a property is tried on: the same in each run, and in a long one so many times more, new each time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::test_runner::{Config, RngSeed};

/// `DRYSTONE_CASES` times as many, from a fresh seed, if that is set; `PROPTEST_RNG_SEED` sets the seed in any case. What
/// fails is printed, as small as it can be made, so it is to become a test of its own.
pub fn cases(count: u32) -> Config {
    let usual = Config::default();
    let times: Option<u32> = std::env::var("DRYSTONE_CASES").ok().map(|times| times.parse().unwrap());
    let rng_seed = match (usual.rng_seed, times) {
        (RngSeed::Random, None) => RngSeed::Fixed(0),
        (seed, _) => seed,
    };
    Config { cases: count * times.unwrap_or(1), rng_seed, failure_persistence: None, ..usual }
}
