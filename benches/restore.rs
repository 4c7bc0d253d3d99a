//! Restoring 10^5 segments of 4 KiB from a disk's cache: what each task's plan takes, and reading all of it, against
//! reading the same files from end to end.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures, and fails by panicking"
)]

#[path = "support/job.rs"]
mod job;

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use drystone::read::Restore;
use drystone::store::{FlinkPath, Stores};
use tokio::runtime::Runtime;

use job::{Job, OPERATOR, Packing, SUBTASKS};

const SEGMENT_BYTES: usize = 4096;

async fn open(job: &Job, path: &FlinkPath) -> Restore {
    job.storage.restore(path).await.unwrap()
}

/// One task after another, as many as there were.
async fn read(restore: &Restore) -> u64 {
    let mut bytes = 0;
    for subtask in 0..SUBTASKS {
        bytes += job::read_one(&restore.task(OPERATOR, subtask, SUBTASKS).unwrap()).await as u64;
    }
    bytes
}

/// Every file below, from end to end, eight MiB at a time.
fn read_raw(directory: &Path, buffer: &mut [u8]) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes += read_raw(&path, buffer);
            continue;
        }
        let mut file = std::fs::File::open(path).unwrap();
        loop {
            match std::io::Read::read(&mut file, buffer).unwrap() {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    bytes
}

fn restore(criterion: &mut Criterion) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let segments = if is_bench { 100_000 } else { 1_000 } / SUBTASKS as usize * SUBTASKS as usize;
    let runtime = Runtime::new().unwrap();
    let disk = tempfile::tempdir().unwrap();
    let packing = Packing { segments, segment_bytes: SEGMENT_BYTES, file_bytes_max: 32 << 20 };
    let directory = disk.path().display().to_string();
    let mut job = runtime.block_on(Job::new(Stores::new(), &directory, packing));
    let (_, completed) = runtime.block_on(job.checkpoint());
    let bytes = (segments * SEGMENT_BYTES) as u64;
    let opened = runtime.block_on(open(&job, &completed.path));
    assert_eq!(runtime.block_on(read(&opened)), bytes);

    let mut group = criterion.benchmark_group("restore");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(segments as u64));
    group.bench_function(BenchmarkId::new("open", segments), |b| {
        b.iter(|| runtime.block_on(open(&job, &completed.path)));
    });
    group.bench_function(BenchmarkId::new("plan", segments), |b| {
        b.iter(|| (0..SUBTASKS).map(|s| opened.task(OPERATOR, s, SUBTASKS).unwrap().streams().len()).sum::<usize>());
    });
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function(BenchmarkId::new("plan_and_read", segments), |b| {
        b.iter(|| runtime.block_on(read(&opened)));
    });
    let mut buffer = vec![0; 8 << 20];
    group.bench_function(BenchmarkId::new("raw", segments), |b| b.iter(|| read_raw(disk.path(), &mut buffer)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1));
    targets = restore
}
criterion_main!(benches);
