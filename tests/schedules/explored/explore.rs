//! Runs a scenario under many schedules, each of which can be had again.
//!
//! `DRYSTONE_SCHEDULES` says how many of either kind (20 times as many with `DRYSTONE_LONG=1`), `DRYSTONE_SEED` where they
//! begin, `DRYSTONE_REPLAY` which one alone: the text that a failure prints.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Of each kind, where nobody says otherwise.
const SCHEDULES: usize = 200;
const LONG: usize = 20;
const SEED: u64 = 0x5eed;
/// As many switches as a bug needs at most to be likely to be found.
const DEPTH: usize = 3;
/// A schedule that takes longer runs in circles.
const STEPS_MAX: usize = 200_000;
const STACK_BYTES: usize = 1 << 20;

/// Schedules at random, and such in which a task runs on while it can, but for a few switches (PCT). It fails where the
/// scenario panics, is stuck or runs in circles.
pub fn explore<F: Future<Output = ()> + 'static>(name: &'static str, scenario: fn() -> F) {
    let scenario = move || block_on(scenario());
    if let Ok(schedule) = env::var("DRYSTONE_REPLAY") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config()).run(scenario);
        return;
    }
    let (seed, schedules) = (number("DRYSTONE_SEED").unwrap_or(SEED), schedules());
    run(name, "random", seed, RandomScheduler::new_from_seed(seed, schedules), scenario);
    run(name, "pct", seed, PctScheduler::new_from_seed(seed, DEPTH, schedules), scenario);
}

fn run(
    name: &str,
    kind: &str,
    seed: u64,
    scheduler: impl Scheduler + 'static,
    scenario: impl Fn() + Copy + Send + Sync + 'static,
) {
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = {
        let begun = begun.clone();
        move || {
            begun.fetch_add(1, SeqCst);
            scenario();
        }
    };
    let started = Instant::now();
    let explored = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config()).run(counted)));
    let (begun, elapsed) = (begun.load(SeqCst), started.elapsed());
    match explored {
        Ok(_) => println!("{name}: {begun} schedules ({kind}) in {elapsed:.1?}"),
        Err(failure) => {
            eprintln!("{name}: failed in schedule {begun} ({kind}, seed {seed}) after {elapsed:.1?}");
            eprintln!("to have it again: this test, with DRYSTONE_REPLAY=<the failing schedule that is printed above>");
            resume_unwind(failure);
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::Print;
    // Atomics are explored as if all were SeqCst.
    config.silence_warnings = true;
    config
}

fn schedules() -> usize {
    let long = env::var("DRYSTONE_LONG").is_ok_and(|long| long == "1");
    let schedules = number("DRYSTONE_SCHEDULES").map_or(SCHEDULES, |number| number as usize);
    if long { schedules * LONG } else { schedules }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}
