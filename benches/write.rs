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

/// Of each of several writers.
const WRITTEN_BYTES: usize = 4096;
const ORIGIN: Origin = Origin { checkpoint: CheckpointId(1), subtask: None, scope: Scope::Exclusive };

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
    for _ in 0..TOTAL_BYTES / segment.len() {
        let mut writer = pool.segment(ORIGIN, None);
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
    for kibibytes in [1_usize, 4, 64, 1024, 8192] {
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

/// Segments of 128 key groups each, with and without a checksum for each group.
fn key_groups(criterion: &mut Criterion) {
    const GROUPS: usize = 128;
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("key_groups");
    group.throughput(Throughput::Bytes(TOTAL_BYTES as u64));
    for group_bytes in [260_usize, 1000, 8 << 10, 50_000] {
        // Of a length whose checksums take several steps to put together.
        let bytes: Bytes = (0..group_bytes - 1).map(|i| (i * 31) as u8).collect();
        for (name, is_marked) in [("plain", false), ("marked", true)] {
            group.bench_function(BenchmarkId::new(name, group_bytes), |b| {
                b.iter_batched(
                    pool,
                    |pool| {
                        runtime.block_on(async {
                            for _ in 0..TOTAL_BYTES / group_bytes / GROUPS {
                                write_key_groups(&pool, &bytes, GROUPS, is_marked).await;
                            }
                            pool.seal().await.unwrap();
                            pool
                        })
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

async fn write_key_groups(pool: &FilePool, bytes: &Bytes, groups: usize, is_marked: bool) {
    let mut writer = pool.segment(ORIGIN, None);
    writer.write_slice(b"head, long enough for all groups together to be long enough").await.unwrap();
    writer.write_slice(&[7; 256]).await.unwrap();
    for _ in 0..groups {
        if is_marked {
            writer.mark();
        }
        writer.write_slice(bytes).await.unwrap();
    }
    let checksums = writer.part_checksums();
    assert_eq!(checksums.len(), if is_marked { groups + 1 } else { 0 });
    writer.finish().await.unwrap();
}

/// Several writers of one pool, as fast as they can.
fn writers(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("writers");
    group.throughput(Throughput::Elements((TOTAL_BYTES / WRITTEN_BYTES) as u64));
    let segment = Bytes::from(vec![7; WRITTEN_BYTES]);
    for writers in [1, 4, 64] {
        group.bench_function(BenchmarkId::new("4 KiB", writers), |b| {
            b.iter_batched(
                pool,
                |pool| runtime.block_on(write_beside(pool, &segment, writers)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

async fn write_beside(pool: FilePool, segment: &Bytes, writers: usize) -> FilePool {
    let writing = (0..writers).map(|_| {
        let (pool, segment) = (pool.clone(), segment.clone());
        tokio::spawn(async move {
            for _ in 0..TOTAL_BYTES / WRITTEN_BYTES / writers {
                let mut writer = pool.segment(ORIGIN, None);
                writer.write_slice(&segment).await.unwrap();
                writer.finish().await.unwrap();
            }
        })
    });
    for writer in writing.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    pool.seal().await.unwrap();
    pool
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = segments, key_groups, writers
}
criterion_main!(benches);
