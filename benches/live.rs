//! Writing as a running job does: segments through a worker's snapshot into files, against a plain copy, and the seal.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures, and fails by panicking"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drystone::backup::LocalDirectories;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::protocol::Trigger;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Durable, Snapshot, Worker, WorkerSettings};
use drystone::write::WriteSettings;
use tokio::runtime::Runtime;

/// There is no coordinator.
const EPOCH: u64 = 1;
/// Below the size of one file, so that none is sealed while segments are written.
const TOTAL_BYTES: usize = 24 << 20;
const SUBTASK: Subtask = Subtask { operator: OperatorId([1; 16]), index: 0, parallelism: 1 };

struct Writing {
    worker: Worker,
    checkpoint: u64,
    stores: Stores,
}

impl Writing {
    fn below(directory: &str) -> Self {
        Self::backed_up(directory, None)
    }

    /// With copies in another directory, if one is given.
    fn backed_up(directory: &str, copies: Option<PathBuf>) -> Self {
        let stores = Stores::new();
        let job = JobDirectory::at(stores.locate(&FlinkPath::parse(directory).unwrap()).unwrap()).unwrap();
        let next = AtomicU64::new(1);
        let write = WriteSettings { inline_bytes_max: 0, ..WorkerSettings::default().write };
        let settings = WorkerSettings { write, ..WorkerSettings::default() };
        let tokens = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
        let worker = match copies {
            Some(copies) => {
                let local = LocalDirectories::new(vec![copies]);
                Worker::with_backup(stores.clone(), job, "bench", settings, tokens, (local, u64::MAX))
            }
            None => Worker::new(job, "bench", settings, tokens),
        };
        Self { worker, checkpoint: 0, stores }
    }

    fn snapshot(&mut self) -> Snapshot {
        self.checkpoint += 1;
        let checkpoint = CheckpointId(self.checkpoint);
        self.worker.begin(SUBTASK, &Trigger::new(EPOCH, checkpoint)).unwrap()
    }

    /// The time of the writes alone.
    async fn write(&mut self, segment: &[u8]) -> Duration {
        let snapshot = self.snapshot();
        let started = Instant::now();
        write(&snapshot, segment).await;
        let taken = started.elapsed();
        // Sealed, as it would be, so that its buffers are there for the next.
        let checkpoint = snapshot.checkpoint();
        let durable = snapshot.seal().await.unwrap();
        self.worker.complete(EPOCH, checkpoint);
        self.delete(durable).await;
        taken
    }

    /// The time of the seal alone; the file is deleted.
    async fn seal(&mut self, segment: &[u8]) -> Duration {
        let snapshot = self.snapshot();
        write(&snapshot, segment).await;
        let checkpoint = snapshot.checkpoint();
        let started = Instant::now();
        let durable = snapshot.seal().await.unwrap();
        let taken = started.elapsed();
        self.worker.complete(EPOCH, checkpoint);
        self.delete(durable).await;
        taken
    }

    async fn delete(&self, durable: Durable) {
        if let Some(backup) = self.worker.backup() {
            backup.settled().await;
        }
        for file in durable.sealed() {
            self.stores.locate(&FlinkPath::parse(&file.path).unwrap()).unwrap().delete().await.unwrap();
        }
    }
}

async fn write(snapshot: &Snapshot, segment: &[u8]) {
    for _ in 0..TOTAL_BYTES / segment.len() {
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        writer.write_slice(segment).await.unwrap();
        black_box(writer.finish().await.unwrap());
    }
}

fn bytes(kibibytes: usize) -> Vec<u8> {
    (0..kibibytes << 10).map(|i| (i * 31) as u8).collect()
}

fn segments(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("live");
    for kibibytes in [1, 4, 64, 1024] {
        let segment = bytes(kibibytes);
        group.throughput(Throughput::Elements((TOTAL_BYTES / segment.len()) as u64));
        let mut writing = Writing::below("memory://bench/job");
        group.bench_function(BenchmarkId::new("segments", format!("{kibibytes} KiB")), |b| {
            b.iter_custom(|times| (0..times).map(|_| runtime.block_on(writing.write(&segment))).sum());
        });
        group.bench_function(BenchmarkId::new("memcpy", format!("{kibibytes} KiB")), |b| {
            // Into memory that is there already: the least that any copy costs.
            let mut file = Vec::with_capacity(TOTAL_BYTES);
            b.iter(|| {
                file.clear();
                for _ in 0..TOTAL_BYTES / segment.len() {
                    file.extend_from_slice(black_box(&segment));
                }
            });
        });
    }
    group.finish();
}

fn seals(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::Bytes(TOTAL_BYTES as u64));
    let segment = bytes(4);
    let disk = tempfile::tempdir().unwrap();
    let (memory, below) = ("memory://bench/job".to_owned(), disk.path().display().to_string());
    let copies = || Some(disk.path().join("copies"));
    for (name, directory, copies) in [
        ("memory", &memory, None),
        ("memory, and a copy", &memory, copies()),
        ("disk", &below, None),
        ("disk, and a copy", &below, copies()),
    ] {
        let mut writing = Writing::backed_up(directory, copies);
        group.bench_function(name, |b| {
            b.iter_custom(|times| (0..times).map(|_| runtime.block_on(writing.seal(&segment))).sum());
        });
    }
    group.bench_function("raw_file", |b| {
        let (path, data) = (disk.path().join("raw"), vec![7; TOTAL_BYTES]);
        b.iter_custom(|times| (0..times).map(|_| raw(&path, &data)).sum());
    });
    group.finish();
}

/// One durable file, the plain way.
fn raw(path: &std::path::Path, data: &[u8]) -> Duration {
    let started = Instant::now();
    let mut file = std::fs::File::create_new(path).unwrap();
    std::io::Write::write_all(&mut file, data).unwrap();
    file.sync_all().unwrap();
    std::fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    let taken = started.elapsed();
    std::fs::remove_file(path).unwrap();
    taken
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = segments, seals
}
criterion_main!(benches);
