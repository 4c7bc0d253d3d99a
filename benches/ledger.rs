//! The books of a large job: a million live segments in 2000 files, checkpoint after checkpoint.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drystone::config::Retention;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::ledger::{Ledger, LedgerSettings, Named, SpacePolicy};

const PER_FILE: u64 = 512;
const SEGMENT_BYTES: u64 = 64 << 10;
const SUBTASKS: u32 = 100;

fn subtask(index: u32) -> Subtask {
    Subtask { operator: OperatorId([1; 16]), index, parallelism: SUBTASKS }
}

fn ledger() -> Ledger {
    let space = SpacePolicy {
        amplification_max: Some(2.0),
        floor_bytes: 32 << 20,
        across: true,
        fold_ratio_max: 0.5,
        file_bytes_max: 32 << 20,
    };
    Ledger::new(LedgerSettings { retained: 1, space, retention: Retention::NoExternalized })
}

/// Each path is its own text, as handles from the wire have it.
fn names(segments: u64) -> Vec<Vec<Named>> {
    let each = segments / u64::from(SUBTASKS);
    let one = |subtask: u32| {
        (0..each).map(move |n| {
            let path = format!("s3://bucket/checkpoints/0123456789abcdef/shared/c1-worker-{subtask}-{}", n / PER_FILE);
            let offset = n % PER_FILE * SEGMENT_BYTES;
            Named { file: Arc::from(path), offset, length: SEGMENT_BYTES, scope: Scope::Shared, owned: true }
        })
    };
    (0..SUBTASKS).map(|subtask| one(subtask).collect()).collect()
}

fn acknowledge(ledger: &mut Ledger, id: u64, names: &[Vec<Named>]) {
    ledger.trigger(CheckpointId(id), (0..SUBTASKS).map(subtask).collect::<BTreeSet<_>>()).unwrap();
    for (index, names) in names.iter().enumerate() {
        ledger.acknowledge(CheckpointId(id), subtask(index as u32), names, |_| id == 1).unwrap();
    }
}

fn commit(ledger: &mut Ledger, id: u64) {
    ledger.start_commit(CheckpointId(id)).unwrap();
    black_box(ledger.committed(CheckpointId(id)).unwrap());
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn ledger_benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.sample_size(10);
    for segments in [100_000, 1_000_000_u64] {
        let names = names(segments);
        let before = resident_bytes();
        let mut first = ledger();
        acknowledge(&mut first, 1, &names);
        commit(&mut first, 1);
        let one = resident_bytes();
        acknowledge(&mut first, 2, &names);
        let two = resident_bytes();
        let per = |bytes: u64| bytes as f64 / segments as f64;
        println!(
            "{segments} segments: {:.0} bytes each, {:.0} for one more checkpoint",
            per(one - before),
            per(two - one)
        );
        let mut pending = first.clone();
        first.abort(CheckpointId(2));
        pending.start_commit(CheckpointId(2)).unwrap();

        group.throughput(Throughput::Elements(segments));
        group.bench_function(BenchmarkId::new("first", segments), |b| {
            b.iter_batched(
                ledger,
                |mut ledger| {
                    acknowledge(&mut ledger, 1, &names);
                    ledger
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("again", segments), |b| {
            let again = |mut ledger: Ledger| {
                acknowledge(&mut ledger, 3, &names);
                ledger
            };
            b.iter_batched(|| first.clone(), again, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("commit_and_discard", segments), |b| {
            let commit = |mut ledger: Ledger| {
                ledger.committed(CheckpointId(2)).unwrap();
                ledger
            };
            b.iter_batched(|| pending.clone(), commit, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("discard_all", segments), |b| {
            let empty = |mut ledger: Ledger| {
                ledger.trigger(CheckpointId(3), BTreeSet::new()).unwrap();
                commit(&mut ledger, 3);
                ledger
            };
            b.iter_batched(|| first.clone(), empty, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("plan", segments), |b| b.iter(|| black_box(first.plan())));
    }
    group.finish();
}

criterion_group!(benches, ledger_benches);
criterion_main!(benches);
