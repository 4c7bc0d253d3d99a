//! A checkpoint of a job with 10^5 and 10^6 live segments, of which it writes a tenth and names the others again: what
//! asking for reuse, acknowledging and completing take, in memory.
//!
//! Not by criterion, which can't tell the parts of one run from one another.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures, and fails by panicking")]

#[path = "support/job.rs"]
mod job;

use std::time::Duration;

use drystone::store::Stores;
use tokio::runtime::Runtime;

use job::{Job, Packing, Phases};

/// Before anything is measured, so that segments of many ages lie in many files.
const CHECKPOINTS_BEFORE: u64 = 11;
const CHECKPOINTS: u64 = 10;

type Phase = fn(&Phases) -> Duration;
const PHASES: [(&str, Phase); 5] = [
    ("reuse", |phases| phases.reuse),
    ("write", |phases| phases.write),
    ("acknowledge", |phases| phases.acknowledge),
    ("complete", |phases| phases.complete),
    ("settle", |phases| phases.settle),
];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let runtime = Runtime::new().unwrap();
    println!("segments  phase        ms: least  median    most");
    for segments in if is_bench { vec![100_000, 1_000_000] } else { vec![1_000] } {
        // Short segments in files of as many as 4-KiB ones of 32 MiB: what they hold is nothing to a commit.
        let packing = Packing { segments, segment_bytes: 64, file_bytes_max: 700 << 10 };
        let mut job = runtime.block_on(Job::new(Stores::new(), "memory://bench/checkpoints", packing));
        for _ in 0..CHECKPOINTS_BEFORE {
            runtime.block_on(job.checkpoint());
        }
        let measured: Vec<Phases> = (0..CHECKPOINTS).map(|_| runtime.block_on(job.checkpoint()).0).collect();
        for (name, phase) in PHASES {
            let mut times: Vec<f64> = measured.iter().map(|phases| phase(phases).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
            println!("{segments:>8}  {name:<12} {least:>9.1} {median:>7.1} {most:>7.1}");
        }
    }
}
