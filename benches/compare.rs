//! Drystone against its rivals and the device, in turn, on one directory: stock Flink's merging and its plain files, one
//! object per chunk through `object_store`, and the raw device. Prints a table of medians with their spread.
//!
//! `DRYSTONE_FLINK=PATH cargo bench --bench compare -- --dir DIR --rounds 5`; without the path Flink is left out. `--cases
//! 4k,64k,1m` picks. All sync what they write. The order is turned by one in each round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench measures, and fails by panicking"
)]

#[path = "support/job.rs"]
mod job;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use drystone::store::Stores;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStoreExt, path::Path as Key};
use serde_json::Value;

use job::{Job, Packing};

/// Subtasks and threads of every case.
const SUBTASKS: usize = 64;
const THREADS: usize = 4;
/// Of a raw file, between two syncs.
const SYNCED_BYTES: usize = 32 << 20;

struct Case {
    name: &'static str,
    segment_bytes: usize,
    /// Of a subtask and checkpoint.
    segments: usize,
    checkpoints: usize,
    /// What is written one by one and synced each time, of all that.
    objects: usize,
}

const CASES: [Case; 3] = [
    Case { name: "4k", segment_bytes: 4 << 10, segments: 128, checkpoints: 8, objects: 4_000 },
    Case { name: "64k", segment_bytes: 64 << 10, segments: 32, checkpoints: 6, objects: 1_000 },
    Case { name: "1m", segment_bytes: 1 << 20, segments: 4, checkpoints: 4, objects: 200 },
];

/// In one round.
#[derive(Clone, Copy)]
enum Rival {
    /// One file, synced every 32 MB, and at its end its directory.
    Device,
    Drystone,
    FlinkMerging,
    FlinkPlain,
    ObjectPerChunk,
    /// A file, read from end to end, not from the cache.
    DeviceRead,
    /// A checkpoint of as many bytes, restored by all tasks, not from the cache.
    Restore,
}

impl Rival {
    fn name(self) -> &'static str {
        match self {
            Rival::Device => "raw file, a sync per 32 MB",
            Rival::Drystone => "Drystone",
            Rival::FlinkMerging => "Flink 2.2.1, merging",
            Rival::FlinkPlain => "Flink 2.2.1, plain files",
            Rival::ObjectPerChunk => "an object per chunk",
            Rival::DeviceRead => "raw file, read cold",
            Rival::Restore => "Drystone, restored cold",
        }
    }
}

/// By the name of what was measured, in segments a second.
type Figures = BTreeMap<&'static str, Vec<f64>>;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].clone());
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let rounds = flag("--rounds").map_or(if is_bench { 3 } else { 1 }, |text| text.parse().unwrap());
    let below = flag("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let wanted = flag("--cases").unwrap_or_else(|| "4k,64k,1m".into());
    let flink = std::env::var_os("DRYSTONE_FLINK").map(PathBuf::from);
    let mut rivals = vec![Rival::Device, Rival::Drystone, Rival::ObjectPerChunk, Rival::DeviceRead, Rival::Restore];
    if is_bench && flink.is_some() {
        rivals.extend([Rival::FlinkMerging, Rival::FlinkPlain]);
    }
    for case in CASES.iter().filter(|case| wanted.split(',').any(|name| name == case.name)) {
        // `cargo test --benches`: it runs, and that is all.
        let small = Case { segments: 1, checkpoints: 1, objects: 4, ..*case };
        let case = if is_bench { case } else { &small };
        let mut figures = Figures::new();
        for round in 0..rounds {
            for turn in 0..rivals.len() {
                let directory = tempfile::tempdir_in(&below).unwrap();
                measure(rivals[(turn + round) % rivals.len()], case, directory.path(), flink.as_deref(), &mut figures);
            }
        }
        print(case, &figures);
    }
}

fn measure(rival: Rival, case: &Case, directory: &Path, flink: Option<&Path>, figures: &mut Figures) {
    let name = rival.name();
    let mut note = |name, figure| figures.entry(name).or_default().push(figure);
    match rival {
        Rival::Device => note(name, write_raw(case, directory)),
        Rival::DeviceRead => note(name, read_raw(case, directory)),
        Rival::Restore => note(name, restore(case, directory)),
        Rival::ObjectPerChunk => note(name, write_objects(case, directory)),
        Rival::Drystone => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
            command.args(["stress", "--json", "--inline-threshold=0"]);
            let ran = run(case, directory, &mut command);
            note(name, ran["segments_s"].as_f64().unwrap());
            note("Drystone, until durable", ran["write_segments_s"].as_f64().unwrap());
            note("Drystone, p99 by median", ran["lat_p99_us"].as_f64().unwrap() / ran["lat_p50_us"].as_f64().unwrap());
        }
        Rival::FlinkMerging | Rival::FlinkPlain => {
            let mut command = Command::new(flink.unwrap());
            let mode = if matches!(rival, Rival::FlinkMerging) { "--mode=merge" } else { "--mode=plain" };
            command.args(["bench", mode, "--warmup-checkpoints=2", "--inline-threshold=0"]);
            note(name, run(case, directory, &mut command)["segments_s"].as_f64().unwrap());
        }
    }
}

/// With the words that both programs know.
fn run(case: &Case, directory: &Path, command: &mut Command) -> Value {
    let Case { segment_bytes, segments, checkpoints, .. } = case;
    command.args([format!("--subtasks={SUBTASKS}"), format!("--threads={THREADS}"), "--retained=3".into()]);
    command.args([format!("--segments={segments}"), format!("--checkpoints={checkpoints}")]);
    command.args([format!("--size=fixed:{segment_bytes}"), format!("--dir={}", directory.display())]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(figures["verify_bad"], 0, "{said}");
    figures
}

/// Not zeros, which a device may treat better than others.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state
    });
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}

fn checkpoint_bytes(case: &Case) -> usize {
    SUBTASKS * case.segments * case.segment_bytes
}

fn write_checkpoint(case: &Case, path: &Path, data: &[u8]) {
    let mut file = File::create_new(path).unwrap();
    let mut left = checkpoint_bytes(case);
    while left > 0 {
        let length = left.min(data.len());
        file.write_all(&data[..length]).unwrap();
        file.sync_data().unwrap();
        left -= length;
    }
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// A file a checkpoint.
fn write_raw(case: &Case, directory: &Path) -> f64 {
    let data = noise(SYNCED_BYTES);
    let started = Instant::now();
    for checkpoint in 0..case.checkpoints {
        write_checkpoint(case, &directory.join(checkpoint.to_string()), &data);
    }
    (SUBTASKS * case.segments * case.checkpoints) as f64 / started.elapsed().as_secs_f64()
}

fn read_raw(case: &Case, directory: &Path) -> f64 {
    let path = directory.join("file");
    write_checkpoint(case, &path, &noise(SYNCED_BYTES));
    evict(directory);
    let mut buffer = vec![0; 8 << 20];
    let started = Instant::now();
    let (mut file, mut read) = (File::open(&path).unwrap(), 0);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert_eq!(read, checkpoint_bytes(case));
    (SUBTASKS * case.segments) as f64 / started.elapsed().as_secs_f64()
}

/// Nothing below is in the page cache any more; all of it is synced. A RAM disk has nothing else.
fn evict(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => evict(&path),
            false => posix_fadvise(File::open(path).unwrap(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap(),
        }
    }
}

/// From the metadata on, by as many groups of tasks at once as there are threads.
fn restore(case: &Case, directory: &Path) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let segments = SUBTASKS * case.segments;
    let packing = Packing { segments, segment_bytes: case.segment_bytes, file_bytes_max: 32 << 20 };
    runtime.block_on(async {
        let mut job = Job::new(Stores::new(), &directory.display().to_string(), packing).await;
        let (_, completed) = job.checkpoint().await;
        evict(directory);
        let started = Instant::now();
        let restore = job.storage.restore(&completed.path).await.unwrap();
        let read = job::read_all(&restore, THREADS as u32).await;
        assert_eq!(read, checkpoint_bytes(case));
        segments as f64 / started.elapsed().as_secs_f64()
    })
}

fn write_objects(case: &Case, directory: &Path) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let store = Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap().with_fsync(true));
    let chunk = Bytes::from(noise(case.segment_bytes));
    let objects = case.objects;
    let started = Instant::now();
    runtime.block_on(async {
        let writers = (0..THREADS).map(|writer| {
            let (store, chunk) = (store.clone(), chunk.clone());
            tokio::spawn(async move {
                for number in (writer..objects).step_by(THREADS) {
                    store.put(&Key::from(format!("{number:06}")), chunk.clone().into()).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
    objects as f64 / started.elapsed().as_secs_f64()
}

fn print(case: &Case, figures: &Figures) {
    let bytes = case.segment_bytes;
    println!("\n{} x {} segments of {bytes} bytes, {} checkpoints\n", SUBTASKS, case.segments, case.checkpoints);
    println!("| | Segments/s, median | Least | Most | MB/s | Drystone's by it, median | Least | Most |");
    println!("|---|---|---|---|---|---|---|---|");
    for (&name, found) in figures {
        if name.ends_with("by median") {
            let [least, median, most] = spread(found.clone());
            println!("| {name} | {median:.1} | {least:.1} | {most:.1} | | | | |");
            continue;
        }
        let ours = match name {
            "raw file, read cold" => "Drystone, restored cold",
            // Without its commits and deletes, which a raw file doesn't have.
            "raw file, a sync per 32 MB" => "Drystone, until durable",
            _ => "Drystone",
        };
        let ratios = figures[ours].iter().zip(found).map(|(ours, theirs)| ours / theirs).collect();
        let ([least, median, most], [low, middle, high]) = (spread(found.clone()), spread(ratios));
        let mb = median * bytes as f64 / 1e6;
        println!("| {name} | {median:.0} | {least:.0} | {most:.0} | {mb:.0} | {middle:.2} | {low:.2} | {high:.2} |");
    }
}

/// The least, the median and the most.
fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}
