//! Instructions for a fixed piece of work, counted by valgrind's callgrind: the same whatever else the machine does, so a
//! change of a few percent is one of the code.
//!
//! Each piece of work is done twice, in processes of their own, on fewer and on more segments: the difference is what one
//! more segment takes, without what a process takes to start. `cargo bench --bench instructions` compares the counts with
//! `instructions.txt` beside this file and fails where one has grown by more than 5 %; with `-- --write` it writes them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench measures, and fails by panicking"
)]

#[path = "support/job.rs"]
mod job;
#[path = "support/nowhere.rs"]
mod nowhere;
#[path = "../tests/support/stock_checkpoint.rs"]
mod stock_checkpoint;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drystone::format::{self, checksum};
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::protocol::Trigger;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::WriteSettings;

use job::{Job, OPERATOR, Packing, SUBTASKS};
use nowhere::Nowhere;

struct Work {
    name: &'static str,
    what: &'static str,
    run: fn(usize),
    /// On so many segments, and on so many more.
    counts: [usize; 2],
}

/// All on one thread; what is written alone goes nowhere, checkpoints are kept in memory.
const WORKS: [Work; 8] = [
    Work { name: "copy", what: "copying 4 KiB and its CRC-32C", run: copy, counts: [2_000, 6_000] },
    Work { name: "segment", what: "writing 4 KiB from a slice, sealing", run: segment, counts: [2_000, 6_000] },
    Work { name: "segment-bytes", what: "the same from `Bytes`", run: segment_bytes, counts: [2_000, 6_000] },
    Work { name: "first", what: "a checkpoint that writes all its segments", run: first, counts: [6_400, 19_200] },
    Work { name: "second", what: "it, and one that writes a tenth again", run: second, counts: [6_400, 19_200] },
    Work { name: "restore", what: "the first, and reading it", run: restore, counts: [6_400, 19_200] },
    Work { name: "decode", what: "decoding a handle", run: decode, counts: [1_000, 11_000] },
    Work { name: "encode", what: "decoding and encoding it", run: encode, counts: [1_000, 11_000] },
];

/// A count may grow by so much.
const GROWTH_MAX: f64 = 0.05;
const SEGMENT_BYTES: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--work") {
        let work = WORKS.iter().find(|work| work.name == arguments[at + 1]).unwrap();
        (work.run)(arguments[at + 2].parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --benches`: each piece of work runs, and nothing is counted.
        WORKS.iter().for_each(|work| (work.run)(SUBTASKS as usize));
        return ExitCode::SUCCESS;
    }
    let before = recorded();
    let mut counted = BTreeMap::new();
    let mut grown = Vec::new();
    println!("{:14} {:>12} {:>12}  for each segment", "work", "instructions", "recorded");
    for work in &WORKS {
        let [fewer, more] = work.counts.map(|count| instructions(work.name, count));
        let each = (more - fewer) / (work.counts[1] - work.counts[0]) as u64;
        let old = before.get(work.name).copied();
        println!("{:14} {each:>12} {:>12}  {}", work.name, old.map_or("-".into(), |old| old.to_string()), work.what);
        if old.is_none_or(|old| each as f64 > old as f64 * (1.0 + GROWTH_MAX)) {
            grown.push(work.name);
        }
        counted.insert(work.name.to_owned(), each);
    }
    println!(
        "of {SEGMENT_BYTES} bytes beyond the copy and its CRC: {}",
        counted["segment"] as i64 - counted["copy"] as i64
    );
    if arguments.iter().any(|argument| argument == "--write") {
        let lines: String = counted.iter().map(|(name, each)| format!("{name} {each}\n")).collect();
        std::fs::write(record(), lines).unwrap();
        return ExitCode::SUCCESS;
    }
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("grown by more than {:.0} %, or not recorded: {}", GROWTH_MAX * 100.0, grown.join(", "));
    eprintln!("where that is meant: cargo bench --bench instructions -- --write");
    ExitCode::FAILURE
}

fn record() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn recorded() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(record()).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, each)| (name.to_owned(), each.parse().unwrap())).collect()
}

/// Of a process that does this.
fn instructions(work: &str, count: usize) -> u64 {
    let mut valgrind = Command::new("valgrind");
    // The C library copies by what the processor is good at: here by what every one has.
    valgrind.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-ERMS,-FSRM");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().unwrap());
    let output = valgrind.args(["--work", work, &count.to_string()]).output();
    let output = output.unwrap_or_else(|error| panic!("valgrind, which counts the instructions: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    collected.1.trim().parse().unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn copy(count: usize) {
    let (from, mut to) = (vec![7_u8; SEGMENT_BYTES], Vec::with_capacity(count * SEGMENT_BYTES));
    for _ in 0..count {
        to.extend_from_slice(black_box(&from));
        black_box(checksum::crc32c(&from));
    }
    black_box(to);
}

fn segment(count: usize) {
    block_on(async {
        let bytes = vec![7_u8; SEGMENT_BYTES];
        let snapshot = snapshot();
        for _ in 0..count {
            let mut segment = snapshot.segment(Scope::Shared, None);
            segment.write_slice(black_box(&bytes)).await.unwrap();
            black_box(segment.finish().await.unwrap());
        }
        snapshot.seal().await.unwrap();
    });
}

fn segment_bytes(count: usize) {
    block_on(async {
        let bytes = Bytes::from(vec![7_u8; SEGMENT_BYTES]);
        let snapshot = snapshot();
        for _ in 0..count {
            let mut segment = snapshot.segment(Scope::Shared, None);
            segment.write(black_box(bytes.clone())).await.unwrap();
            black_box(segment.finish().await.unwrap());
        }
        snapshot.seal().await.unwrap();
    });
}

fn snapshot() -> drystone::worker::Snapshot {
    let stores = Stores::new().with_store(&FlinkPath::parse("memory://host/").unwrap(), Arc::new(Nowhere));
    let job = JobDirectory::at(stores.locate(&FlinkPath::parse("memory://host/job").unwrap()).unwrap()).unwrap();
    let next = AtomicU64::new(1);
    let write = WriteSettings { inline_bytes_max: 0, ..WorkerSettings::default().write };
    let settings = WorkerSettings { write, ..WorkerSettings::default() };
    let worker = Worker::new(job, "bench", settings, Arc::new(move || next.fetch_add(1, Ordering::Relaxed)));
    let subtask = Subtask { operator: OperatorId([1; 16]), index: 0, parallelism: 1 };
    let checkpoint = CheckpointId(1);
    worker.begin(subtask, &Trigger::new(1, checkpoint)).unwrap()
}

async fn job(count: usize) -> Job {
    let packing = Packing { segments: count, segment_bytes: 100, file_bytes_max: 32 << 20 };
    Job::new(Stores::new(), "memory://host/job", packing).await
}

fn first(count: usize) {
    block_on(async { job(count).await.checkpoint().await });
}

fn second(count: usize) {
    block_on(async {
        let mut job = job(count).await;
        job.checkpoint().await;
        job.checkpoint().await
    });
}

fn restore(count: usize) {
    block_on(async {
        let mut job = job(count).await;
        let (_, completed) = job.checkpoint().await;
        let restore = job.storage.restore(&completed.path).await.unwrap();
        for subtask in 0..SUBTASKS {
            job::read_one(&restore.task(OPERATOR, subtask, SUBTASKS).unwrap()).await;
        }
    });
}

fn metadata(count: usize) -> Bytes {
    let name = |i| format!("s3://bucket/checkpoints/00000000000000000000000000000001/shared/{i:036}");
    let files: Vec<_> = (0..count).map(|i| (name(i), 65_536)).collect();
    stock_checkpoint::metadata(&files, 200)
}

fn decode(count: usize) {
    black_box(format::decode(metadata(count)).unwrap());
}

fn encode(count: usize) {
    let decoded = format::decode(metadata(count)).unwrap();
    black_box(format::encode(&decoded.metadata).unwrap());
}
