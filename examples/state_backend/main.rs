//! A small state backend on Drystone: a hash map that is snapshotted by key groups, and a directory of immutable files
//! that is snapshotted incrementally. It runs with 3 subtasks, is restored with 5, and every key is compared.
//!
//! `cargo run --example state_backend [DIRECTORY]`, which may be on any store that Drystone was built for.

mod counters;
mod entries;
mod job;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use drystone::config::{ClaimMode, Config};
use drystone::id::{JobId, OperatorId};
use drystone::protocol::OperatorSpec;
use drystone::storage::Storage;
use drystone::{Error, ErrorKind, Result};

use entries::{KEY_GROUPS, damaged};
use job::{Job, Task};

const KEYS: u64 = 20_000;
const CHECKPOINTS: u64 = 8;
/// One of them fails.
const DECLINED: u64 = 3;

/// What the state has to be: for each key, how many events there were, and their total.
type Expected = BTreeMap<String, (u64, u64)>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().nth(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.one_line());
            ExitCode::FAILURE
        }
    }
}

/// All of it, below `directory` or a temporary one.
async fn run(directory: Option<String>) -> Result<()> {
    let scratch = tempfile::tempdir().map_err(|e| Error::new(ErrorKind::Store, "a directory").with_source(e))?;
    let checkpoints = directory.unwrap_or_else(|| scratch.path().join("checkpoints").display().to_string());
    let storage = open(&checkpoints)?;

    let mut job = start(&storage, 1, 3, scratch.path()).await?;
    let mut expected = Expected::new();
    for round in 1..=CHECKPOINTS {
        work(&mut job, &mut expected, round);
        if round == DECLINED {
            let checkpoint = job.declined_checkpoint().await?;
            println!("checkpoint {checkpoint}: declined; what it had written is written again by the next");
            continue;
        }
        let before = uploads(&job);
        let completed = job.checkpoint().await?;
        let (written, kept) = uploads(&job);
        println!(
            "checkpoint {}: {} keys; of the files of tables {} written, {} named again",
            completed.checkpoint,
            expected.len(),
            written - before.0,
            kept - before.1
        );
    }
    // What older checkpoints and the declined one alone had is gone.
    job.coordinator.settle().await?;
    let latest = job.coordinator.latest().ok_or_else(|| damaged("no checkpoint"))?;
    let space = job.coordinator.space();
    println!(
        "in the store: {} segments in {} files, {} of {} bytes alive",
        space.segments, space.files, space.segment_bytes, space.file_bytes
    );
    // Events after the last checkpoint are lost with the job.
    work(&mut job, &mut expected.clone(), CHECKPOINTS + 1);
    drop(job);

    let restore = storage.restore(&latest.path).await?;
    let mut job = start(&storage, 2, 5, scratch.path()).await?;
    for task in &mut job.tasks {
        task.restore(&restore).await?;
    }
    compare(&job, &expected)?;
    println!("restored {} with 5 subtasks instead of 3: all {} keys are as they were", latest.path, expected.len());

    // The job goes on from there, and that can be restored, too.
    job.coordinator.restore(&latest.path, ClaimMode::NoClaim).await?;
    work(&mut job, &mut expected, CHECKPOINTS + 1);
    let completed = job.checkpoint().await?;
    let restore = storage.restore(&completed.path).await?;
    let mut job = start(&storage, 3, 2, scratch.path()).await?;
    for task in &mut job.tasks {
        task.restore(&restore).await?;
    }
    compare(&job, &expected)?;
    println!("went on to checkpoint {}, restored that with 2: all {} keys", completed.checkpoint, expected.len());
    Ok(())
}

/// A job without state.
async fn start(storage: &Storage, job: u8, parallelism: u32, scratch: &Path) -> Result<Job> {
    let operators = [1, 2].map(|id| OperatorSpec::new(OperatorId([id; 16]), parallelism, KEY_GROUPS));
    let tasks = (0..parallelism).map(|index| Task::new(&operators, index, scratch)).collect::<Result<_>>()?;
    let job = JobId([job; 16]);
    let coordinator = storage.coordinator(job, operators.to_vec()).await?;
    if let Some(latest) = coordinator.latest() {
        let message = format!("{} is of an earlier run: choose another directory", latest.path);
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(Job::new(storage.worker(job, "worker-1")?, coordinator, tasks))
}

/// The settings are Flink's.
fn open(directory: &str) -> Result<Storage> {
    Storage::open(&Config::from_map([
        ("execution.checkpointing.dir", directory),
        ("execution.checkpointing.data-inline-threshold", "1kb"),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
    ]))
}

/// A round of events: fewer keys each time, so that some tables are small.
fn work(job: &mut Job, expected: &mut Expected, round: u64) {
    for number in (0..KEYS).filter(|number| number % round == 0) {
        let key = format!("key-{number}");
        let (count, total) = expected.entry(key.clone()).or_default();
        (*count, *total) = (*count + 1, *total + number * round);
        job.event(&key, *total);
    }
}

fn uploads(job: &Job) -> (u64, u64) {
    job.tasks.iter().fold((0, 0), |(up, re), task| (up + task.tables.uploaded, re + task.tables.reused))
}

/// Every key is in one task, the one that owns it, with the right count and total; and there is no other.
fn compare(job: &Job, expected: &Expected) -> Result<()> {
    let mut counts = BTreeMap::new();
    let mut totals = BTreeMap::new();
    for task in &job.tasks {
        let own = |key: &str| if task.owns(key) { Ok(()) } else { Err(damaged(format_args!("{key} is elsewhere"))) };
        for (key, count) in task.counters.entries() {
            own(key)?;
            counts.insert(key.to_owned(), count);
        }
        for (key, total) in task.tables.entries()? {
            own(&key)?;
            totals.insert(key, total);
        }
    }
    for (key, &(count, total)) in expected {
        let found = (counts.remove(key), totals.remove(key));
        if found != (Some(count), Some(total)) {
            return Err(damaged(format_args!("{key} should be {count}, {total} but is {found:?}")));
        }
    }
    match counts.into_keys().chain(totals.into_keys()).next() {
        Some(key) => Err(damaged(format_args!("{key} was never there"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn every_key_is_as_it_was_after_rescaling() {
        super::run(None).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_that_differs_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let storage = super::open("memory:///example").unwrap();
        let mut job = super::start(&storage, 1, 3, scratch.path()).await.unwrap();
        let mut expected = super::Expected::new();
        super::work(&mut job, &mut expected, 1_000);
        super::compare(&job, &expected).unwrap();
        for (key, value) in [("key-0", (1, 1)), ("key-1", (1, 1)), ("key-1000", (2, 1_000_000))] {
            let mut wrong = expected.clone();
            wrong.insert(key.to_owned(), value);
            assert!(super::compare(&job, &wrong).is_err(), "{key}");
        }
        expected.remove("key-1000");
        assert!(super::compare(&job, &expected).is_err());
    }
}
