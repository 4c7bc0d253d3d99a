//! Repacking a checkpoint of many small files, against `cp -r` of it followed by `sync`.
//!
//! `cargo build --release && cargo bench --bench repack_vs_cp` makes 20,000 files of 64 KiB below `--dir` (or `TMPDIR`),
//! which should be on a disk, and then runs the two in turn, `--rounds` times. `--chunks` and `--bytes` make it
//! smaller. The command is `target/release/drystone`, or `DRYSTONE_BIN`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "../tests/support/stock_checkpoint.rs"]
mod stock_checkpoint;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

const SUBTASKS: u32 = 200;
const JOB: &str = "00000000000000000000000000000001";
const FILE_BYTES_MAX: u64 = 32 << 20;

struct Setup {
    chunks: u64,
    chunk_bytes: u64,
    rounds: usize,
    directory: PathBuf,
    drystone: PathBuf,
}

fn main() {
    let setup = Setup::from_arguments();
    if !setup.drystone.is_file() {
        println!("no {}: nothing to measure; build it with --release", setup.drystone.display());
        return;
    }
    fs::create_dir_all(&setup.directory).unwrap();
    let scratch = tempfile::tempdir_in(&setup.directory).unwrap();
    let checkpoint = make_checkpoint(scratch.path(), &setup);
    let (copied, packed) = (scratch.path().join("copied"), scratch.path().join("packed"));
    let cp = || {
        run(Command::new("cp").arg("-r").arg(&checkpoint).arg(&copied));
        run(&mut Command::new("sync"));
    };
    let repack = || run(Command::new(&setup.drystone).arg("repack").arg(&checkpoint).arg(&packed));
    let bytes = setup.chunks * setup.chunk_bytes;
    let least = bytes.div_ceil(FILE_BYTES_MAX);
    println!("{} files of {} bytes, of which {FILE_BYTES_MAX} fit into one", setup.chunks, setup.chunk_bytes);
    println!("round  cp+sync s  repack s  ratio  peak MiB  files  least");
    let mut ratios = Vec::new();
    for round in 1..=setup.rounds {
        let (mut cp_seconds, mut repack_seconds, mut files) = (0.0, 0.0, 0);
        // In turn, because the first finds the disk as deleting has left it.
        let sides: [&str; 2] = if round % 2 == 1 { ["cp", "repack"] } else { ["repack", "cp"] };
        for side in sides {
            run(&mut Command::new("sync"));
            let start = Instant::now();
            match side {
                "cp" => {
                    cp();
                    cp_seconds = start.elapsed().as_secs_f64();
                    fs::remove_dir_all(&copied).unwrap();
                }
                _ => {
                    repack();
                    repack_seconds = start.elapsed().as_secs_f64();
                    files = physical_files(&packed);
                    fs::remove_dir_all(&packed).unwrap();
                }
            }
        }
        let (ratio, peak) = (repack_seconds / cp_seconds, peak_mebibytes());
        println!("{round:>5} {cp_seconds:>10.2} {repack_seconds:>9.2} {ratio:>6.2} {peak:>9.1} {files:>6} {least:>6}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
}

impl Setup {
    /// Full size when run as a benchmark; as part of the tests, just enough to see that it works.
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let is_bench = arguments.iter().any(|a| a == "--bench");
        let flag = |name: &str| Some(arguments[arguments.iter().position(|a| a == name)? + 1].clone());
        let number = |name: &str, full: u64, tiny: u64| {
            flag(name).map_or(if is_bench { full } else { tiny }, |text| text.parse().unwrap())
        };
        let built = || {
            let program = std::env::current_exe().unwrap();
            program.ancestors().nth(3).unwrap().join("release/drystone")
        };
        Self {
            chunks: number("--chunks", 20_000, 20),
            chunk_bytes: number("--bytes", 64 << 10, 30_000),
            rounds: number("--rounds", 5, 1) as usize,
            directory: flag("--dir").map_or_else(std::env::temp_dir, PathBuf::from),
            drystone: std::env::var_os("DRYSTONE_BIN").map_or_else(built, PathBuf::from),
        }
    }
}

/// A stock checkpoint in a job's directory: every chunk is a file of its own.
fn make_checkpoint(scratch: &Path, setup: &Setup) -> PathBuf {
    let checkpoint = scratch.join(JOB).join(format!("chk-{}", stock_checkpoint::CHECKPOINT));
    fs::create_dir_all(&checkpoint).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut files = Vec::new();
    for _ in 0..setup.chunks {
        let name = format!("{:016x}-{:016x}", next(), next());
        let words = std::iter::repeat_with(&mut next).take(setup.chunk_bytes.div_ceil(8) as usize);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(setup.chunk_bytes as usize);
        let path = checkpoint.join(name);
        fs::write(&path, bytes).unwrap();
        files.push((format!("file:{}", path.display()), setup.chunk_bytes as i64));
    }
    fs::write(checkpoint.join("_metadata"), stock_checkpoint::metadata(&files, SUBTASKS)).unwrap();
    checkpoint
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(|s| s.success()), "{command:?}: {status:?}");
}

/// Files below, but for the metadata.
fn physical_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { physical_files(&path) } else { usize::from(!path.ends_with("_metadata")) })
        .sum()
}

/// The largest resident size of any child so far.
fn peak_mebibytes() -> f64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as f64 / 1024.0
}
