//! Real kills: `drystone stress` runs on a local directory and is killed at random moments, over and over on the same
//! directory. Each time the latest checkpoint that it told of restores whole, byte for byte, and once what is left over
//! has been removed there is nothing that no checkpoint names.
//!
//! 20 kills; `DRYSTONE_KILLS=500` for more, `DRYSTONE_KILLS_SEED` for other moments.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use drystone::format::barred_by;
use drystone::read::{Checkpoint, State};
use drystone::store::{FlinkPath, Stores, names};
use serde_json::Value;

const LINES_MAX: u64 = 6;
/// About a checkpoint's time, in rounds of a debug build's loop.
const SPINS_MAX: u64 = 2_000_000;

fn stress(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    command.args(["stress", "--json", "--commits", "--resume", "--subtasks=3", "--threads=3", "--segments=6"]);
    command.args(["--retained=2", "--reuse=0.6", "--across", "--max-space-amp=1.3", "--space-floor=0"]);
    command.args(["--size=lognormal:6000:1.5:200000", "--inline-threshold=1kb", "--max-file-size=64kb"]);
    command.arg(format!("--dir={}", directory.display())).args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What became of it all.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Of them before the first line: while it took over, removed leftovers and restored.
    early: u64,
    /// Told of, in all.
    commits: u64,
    /// Committed, and the kill came before it was told.
    untold: u64,
    bytes_restored: u64,
    bad: u64,
    /// Found after a kill that no checkpoint named, and removed.
    orphans: u64,
    /// Of them files in the making.
    partials: u64,
    /// What was there all the same when that was done.
    orphans_left: u64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Lets it print some lines and run on for a moment, then kills it: the lines that it printed.
fn kill(mut child: Child, random: &mut Random) -> Vec<Value> {
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = Vec::new();
    for _ in 0..random.below(LINES_MAX) {
        lines.extend(output.next());
    }
    for spin in 0..random.below(SPINS_MAX) {
        std::hint::black_box(spin);
    }
    child.kill().unwrap();
    let status = child.wait_with_output().unwrap();
    assert_eq!(status.status.code(), None, "it ended by itself: {}", String::from_utf8_lossy(&status.stderr));
    lines.extend(output);
    // A line is written at once, so none is cut off.
    lines.into_iter().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// Removes what is left over, and compares every byte of the checkpoints with the generator.
fn check(directory: &Path) -> Value {
    let output = stress(directory, &["--keep", "--checkpoints=0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().next().unwrap()).unwrap()
}

/// All files, but the log of the job's coordinators and what bars metadata that is never to come.
fn files(below: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(below).into_iter().flatten() {
        let path = entry.unwrap().path();
        let is_log = || path.parent().is_some_and(|parent| parent.ends_with(names::FENCE)) && !is_partial(&path);
        let is_bar = || path.ends_with(names::METADATA) && barred_by(&std::fs::read(&path).unwrap()).is_some();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !is_log() && !is_bar() {
            found.insert(path);
        }
    }
    found
}

/// What the checkpoints that are there name, and they themselves.
async fn named(files: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let stores = Stores::new();
    let mut named = BTreeSet::new();
    for metadata in files.iter().filter(|path| path.ends_with(names::METADATA)) {
        let path = FlinkPath::parse(&format!("file:{}", metadata.display())).unwrap();
        let checkpoint = Checkpoint::load_intact(&stores, &path).await.unwrap();
        let state = State::of(&stores, &checkpoint).await.unwrap();
        named.extend(state.files.iter().map(|file| PathBuf::from(file.name.path())));
        named.insert(metadata.clone());
    }
    named
}

fn latest(files: &BTreeSet<PathBuf>) -> Option<u64> {
    let metadata = files.iter().filter(|path| path.ends_with(names::METADATA));
    let directories = metadata.filter_map(|path| path.parent()?.file_name()?.to_str());
    directories.filter_map(names::parse_checkpoint_directory).map(|checkpoint| checkpoint.0).max()
}

fn is_partial(path: &Path) -> bool {
    path.to_string_lossy().contains('#')
}

#[tokio::test]
async fn no_kill_loses_a_byte_or_leaves_an_orphan() {
    let (kills, seed) = (number("DRYSTONE_KILLS", 20), number("DRYSTONE_KILLS_SEED", 1));
    let (directory, mut random) = (tempfile::tempdir().unwrap(), Random(seed));
    let (mut tally, mut promised) = (Tally::default(), None);
    while tally.kills < kills {
        let context = format!("kill {} of seed {seed}", tally.kills);
        let lines = kill(stress(directory.path(), &["--keep", "--checkpoints=1000000"]).spawn().unwrap(), &mut random);
        tally.kills += 1;
        tally.early += u64::from(lines.is_empty());
        for line in &lines {
            let committed = line["committed"].as_u64();
            tally.commits += u64::from(committed.is_some());
            promised = promised.max(committed);
            tally.bad += line["bad"].as_u64().unwrap_or_default();
        }
        let dead = files(directory.path());
        assert!(latest(&dead) >= promised, "{context}: {promised:?} was promised, {:?} is there", latest(&dead));
        tally.untold += u64::from(latest(&dead) > promised);
        promised = latest(&dead);

        let resumed = check(directory.path());
        assert_eq!(resumed["resumed"].as_u64(), promised, "{context}");
        tally.bytes_restored += resumed["bytes"].as_u64().unwrap();
        tally.bad += resumed["bad"].as_u64().unwrap();
        let left = files(directory.path());
        let gone = dead.difference(&left);
        tally.orphans += gone.clone().count() as u64;
        tally.partials += gone.filter(|path| is_partial(path)).count() as u64;
        let named = named(&left).await;
        assert_eq!(named.difference(&left).next(), None, "{context}: is missing");
        tally.orphans_left += left.difference(&named).count() as u64;
        assert_eq!(left, named, "{context}");
    }
    println!("{tally:#?}");
    let log = std::fs::read_dir(directory.path().join("packed"))
        .unwrap()
        .map(|job| std::fs::read_dir(job.unwrap().path().join(names::FENCE)).map_or(0, Iterator::count));
    println!("files of the coordinators' log: {}", log.sum::<usize>());
    assert_eq!((tally.bad, tally.orphans_left), (0, 0));
    // The job's end.
    let last = stress(directory.path(), &["--checkpoints=1"]).output().unwrap();
    assert_eq!(last.status.code(), Some(0), "{}", String::from_utf8_lossy(&last.stderr));
    assert_eq!(files(directory.path()), BTreeSet::new());
}
