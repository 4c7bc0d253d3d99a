//! A checkpoint of a job with 10^5 and 10^6 live segments, of which it writes a tenth and names the others again: what
//! asking for reuse, acknowledging and completing take, in memory.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures, and fails by panicking"
)]

#[path = "support/job.rs"]
mod job;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use drystone::store::Stores;
use tokio::runtime::Runtime;

use job::{Job, Packing, Phases};

/// Before anything is measured, so that segments of many ages lie in many files.
const CHECKPOINTS_BEFORE: u64 = 11;
const CHECKPOINTS: u64 = 10;

type Phase = fn(Phases) -> Duration;
const PHASES: [(&str, Phase); 4] = [
    ("reuse", |phases| phases.reuse),
    ("acknowledge", |phases| phases.acknowledge),
    ("complete", |phases| phases.complete),
    ("settle", |phases| phases.settle),
];

fn commit(criterion: &mut Criterion) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("commit");
    group.sampling_mode(SamplingMode::Flat);
    for segments in if is_bench { vec![100_000, 1_000_000] } else { vec![1_000] } {
        // Short segments in files of as many as 4-KiB ones of 32 MiB: what they hold is nothing to a commit.
        let packing = Packing { segments, segment_bytes: 64, file_bytes_max: 700 << 10 };
        let mut job = runtime.block_on(Job::new(Stores::new(), "memory://bench/checkpoints", packing));
        for _ in 0..CHECKPOINTS_BEFORE {
            runtime.block_on(job.checkpoint());
        }
        // Measured once: each bench then tells its own part of the same checkpoints.
        let measured: Vec<Phases> = (0..CHECKPOINTS).map(|_| runtime.block_on(job.checkpoint()).0).collect();
        group.throughput(Throughput::Elements(segments as u64));
        for (name, phase) in PHASES {
            let mut samples = measured.iter().cycle();
            group.bench_function(BenchmarkId::new(name, segments), |b| {
                b.iter_custom(|times| samples.next().map_or(Duration::ZERO, |phases| phase(*phases) * times as u32));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(100));
    targets = commit
}
criterion_main!(benches);
