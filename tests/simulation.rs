//! A deterministic simulation: processes of a job on a store that fails in every way, against plain maps. Every history
//! comes from one number; see `design/testing.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "its own tests use the rest")]
#[path = "support/chaos_store.rs"]
mod chaos_store;
#[path = "simulation/checkpoint.rs"]
mod checkpoint;
#[path = "simulation/copies.rs"]
mod copies;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/end.rs"]
mod end;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/job.rs"]
mod job;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/savepoint.rs"]
mod savepoint;
#[path = "simulation/snapshot.rs"]
mod snapshot;
#[path = "simulation/zombie.rs"]
mod zombie;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use history::History;
use run::{Report, run};

/// In the ordinary run.
const HISTORIES: u64 = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn hash(trace: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(trace.as_bytes());
    hasher.finish()
}

/// What is left of a history that fails when everything is left out without which it fails as well.
fn shrink(history: &History) -> (History, Report) {
    let mut best = (history.clone(), run(history));
    let mut at = 0;
    while at < best.0.events.len() {
        let mut shorter = best.0.clone();
        shorter.events.remove(at);
        let report = run(&shorter);
        match report.violation {
            Some(_) => best = (shorter, report),
            None => at += 1,
        }
    }
    best
}

fn explain(seed: u64) -> String {
    let (history, report) = shrink(&History::of(seed));
    let events: Vec<_> = history.events.iter().map(|event| format!("  {event:?}")).collect();
    let tail: Vec<_> = report.trace.lines().collect();
    let tail = tail[tail.len().saturating_sub(120)..].join("\n");
    format!(
        "seed {seed} (DRYSTONE_SIM_SEED={seed} repeats it): {}\nthe end of the trace:\n{tail}\n{:?}\nwhat is left of it:\n{}\n{}",
        report.violation.as_deref().unwrap_or_default(),
        history.setup,
        events.join("\n"),
        report.violation.as_deref().unwrap_or_default(),
    )
}

/// Of the first so many seeds.
fn hashes(seeds: u64) -> String {
    let line = |seed| format!("hash {seed} {:016x}\n", hash(&run(&History::of(seed)).trace));
    (0..seeds).map(line).collect()
}

#[test]
fn histories_with_every_fault_there_is() {
    if let Some(seed) = variable("DRYSTONE_SIM_SEED") {
        let report = run(&History::of(seed));
        println!("{}", report.trace);
        println!("seed {seed}: hash {:016x}, violation {:?}", hash(&report.trace), report.violation);
        if report.violation.is_some() {
            panic!("{}", explain(seed));
        }
        return;
    }
    let histories = variable("DRYSTONE_SIM_HISTORIES").unwrap_or(HISTORIES);
    let first = variable("DRYSTONE_SIM_FIRST").unwrap_or(0);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let totals = Mutex::new((BTreeMap::new(), 0_u64));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4)) {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + histories {
                        break;
                    }
                    let report = run(&History::of(seed));
                    let mut totals = totals.lock().unwrap();
                    totals.1 += report.virtual_ms;
                    for (what, count) in report.counts {
                        *totals.0.entry(what).or_insert(0) += count;
                    }
                    if report.violation.is_some() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let (counts, virtual_ms) = totals.into_inner().unwrap();
    let of = |what| counts.get(what).copied().unwrap_or(0);
    let failed = failed.into_inner().unwrap();
    println!(
        "{histories} histories, {} steps: {} store operations and {} events; {} hours of virtual time; violations {}",
        of("operations") + of("events"),
        of("operations"),
        of("events"),
        virtual_ms / 3_600_000,
        failed.len()
    );
    println!("{counts:?}");
    if let Some(&seed) = failed.iter().min() {
        panic!("found after {} histories\n{}", next.into_inner() - first, explain(seed));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in 0..variable("DRYSTONE_SIM_TWICE").unwrap_or(150) {
        let (once, again) = (run(&History::of(seed)), run(&History::of(seed)));
        let differs = once.trace.lines().zip(again.trace.lines()).position(|(one, other)| one != other);
        assert!(once.trace == again.trace, "seed {seed}: line {differs:?} differs");
        assert_eq!(hash(&once.trace), hash(&again.trace));
        assert!(!once.trace.is_empty());
    }
}

/// Neither addresses nor the hashes' keys of a process are in it.
#[test]
fn another_process_gives_the_same_traces() {
    const SEEDS: u64 = 40;
    if variable("DRYSTONE_SIM_HASHES").is_some() {
        // On one core the name of the test stands before it, on the same line.
        print!("\n{}", hashes(SEEDS));
        return;
    }
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "another_process_gives_the_same_traces", "--nocapture"]).env("DRYSTONE_SIM_HASHES", "1");
    let output = String::from_utf8(other.output().unwrap().stdout).unwrap();
    let theirs: String = output.split_inclusive('\n').filter(|line| line.starts_with("hash ")).collect();
    assert_eq!(theirs, hashes(SEEDS));
}
