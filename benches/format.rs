//! Encoding and decoding: metadata by its number of handles, and the footer of a full file.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/support/stock_checkpoint.rs"]
mod stock_checkpoint;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drystone::format::{self, Footer, FooterBuilder};
use drystone::id::{CheckpointId, FileToken, OperatorId, Scope, Subtask};

fn metadata(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metadata");
    for count in [1_000_usize, 100_000, 1_000_000] {
        let name = |i| format!("s3://bucket/checkpoints/00000000000000000000000000000001/shared/{i:036}");
        let files: Vec<_> = (0..count).map(|i| (name(i), 65_536)).collect();
        let bytes = stock_checkpoint::metadata(&files, 200);
        let decoded = format::decode(bytes.clone()).unwrap();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("decode", count), |b| b.iter(|| format::decode(bytes.clone()).unwrap()));
        group.bench_function(BenchmarkId::new("encode", count), |b| {
            b.iter(|| format::encode(&decoded.metadata).unwrap());
        });
    }
}

fn footer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("footer");
    for count in [500_u32, 100_000] {
        let build = || {
            let mut builder = FooterBuilder::new(FileToken(1));
            for i in 0..count {
                let subtask = Subtask { operator: OperatorId([1; 16]), index: i % 200, parallelism: 200 };
                builder.push(1_000, i, Scope::Shared, CheckpointId(7), Some(subtask));
            }
            builder
        };
        let (builder, data_bytes) = (build(), u64::from(count) * 1_000);
        let bytes = builder.encode();
        let file_bytes = data_bytes + bytes.len() as u64;
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(BenchmarkId::new("build", count), |b| b.iter(build));
        group.bench_function(BenchmarkId::new("encode", count), |b| b.iter(|| builder.encode()));
        group.bench_function(BenchmarkId::new("decode", count), |b| {
            b.iter(|| Footer::decode(bytes.clone(), file_bytes).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = metadata, footer
}
criterion_main!(benches);
