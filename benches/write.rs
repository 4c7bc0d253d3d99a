//! Writing segments into a store in memory, against a plain copy of the same bytes.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drystone::id::{CheckpointId, Scope};
use drystone::store::names::WorkerName;
use drystone::store::{FlinkPath, Stores};
use drystone::write::{FileNaming, FilePool, Origin, WriteSettings};
use tokio::runtime::Runtime;

/// Bytes that one measured run writes: two full files.
const TOTAL_BYTES: usize = 64 << 20;

/// A pool in a store of its own, which the run drops.
fn pool() -> FilePool {
    let directory = Stores::new().locate(&FlinkPath::parse("memory://bench/chk-1").unwrap()).unwrap();
    let next = AtomicU64::new(1);
    let tokens = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let settings = WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() };
    let (worker, checkpoint) = (WorkerName::sanitise("bench"), CheckpointId(1));
    FilePool::new(FileNaming { directory, attempt: 0, worker, checkpoint }, settings, tokens)
}

async fn write(pool: FilePool, segment: &Bytes, copied: bool) -> FilePool {
    let origin = Origin { checkpoint: CheckpointId(1), subtask: None, scope: Scope::Exclusive };
    for _ in 0..TOTAL_BYTES / segment.len() {
        let mut writer = pool.segment(origin, None);
        match copied {
            true => writer.write_slice(segment).await.unwrap(),
            false => writer.write(segment.clone()).await.unwrap(),
        }
        writer.finish().await.unwrap();
    }
    pool.seal().await.unwrap();
    pool
}

fn segments(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Bytes(TOTAL_BYTES as u64));
    for kibibytes in [1_usize, 4, 64, 1024] {
        let segment: Bytes = (0..kibibytes << 10).map(|i| (i * 31) as u8).collect();
        for (name, copied) in [("bytes", false), ("slices", true)] {
            group.bench_function(BenchmarkId::new(name, format!("{kibibytes} KiB")), |b| {
                b.iter_batched(pool, |pool| runtime.block_on(write(pool, &segment, copied)), BatchSize::PerIteration);
            });
        }
        group.bench_function(BenchmarkId::new("memcpy", format!("{kibibytes} KiB")), |b| {
            // Into buffers of a file's size that are there already: the least that any copy costs.
            let mut file = Vec::with_capacity(TOTAL_BYTES / 2);
            b.iter(|| {
                for _ in 0..TOTAL_BYTES / segment.len() {
                    if file.len() == file.capacity() {
                        file.clear();
                    }
                    file.extend_from_slice(std::hint::black_box(&segment));
                }
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = segments
}
criterion_main!(benches);
