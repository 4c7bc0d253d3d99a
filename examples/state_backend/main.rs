//! A small state backend on Drystone: a hash map that is snapshotted by key groups, and a directory of immutable files
//! that is snapshotted incrementally. It runs with 3 subtasks, is restored with 5, and every key is compared.
//!
//! `cargo run --example state_backend [DIRECTORY]`, which may be on any store that Drystone was built for.

mod counters;
mod entries;
mod job;
mod tables;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use drystone::coordinator::{Coordinator, CoordinatorSettings, Retention};
use drystone::id::{JobId, OperatorId};
use drystone::ledger::{LedgerSettings, SpacePolicy};
use drystone::protocol::OperatorSpec;
use drystone::read::{ReadLimits, Restore};
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{Tokens, WriteSettings};
use drystone::{Error, ErrorKind, Result};

use entries::{KEY_GROUPS, damaged};
use job::{Job, Task};

const KEYS: u64 = 20_000;
const CHECKPOINTS: u64 = 8;

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
    let stores = Stores::new();
    let checkpoints = stores.locate(&FlinkPath::parse(&checkpoints)?)?;

    let mut job = start(&stores, &JobDirectory::of_job(&checkpoints, JobId([1; 16]))?, 3, scratch.path())?;
    let mut expected = Expected::new();
    for round in 1..=CHECKPOINTS {
        work(&mut job, &mut expected, round);
        if round == CHECKPOINTS / 2 {
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

    let restore = Restore::open(&stores, &latest.path, ReadLimits::default()).await?;
    let mut job = start(&stores, &JobDirectory::of_job(&checkpoints, JobId([2; 16]))?, 5, scratch.path())?;
    for task in &mut job.tasks {
        task.restore(&restore).await?;
    }
    compare(&job, &expected)?;
    println!("restored {} with 5 subtasks instead of 3: all {} keys are as they were", latest.path, expected.len());

    // The job goes on from there, and that can be restored, too.
    job.coordinator.restore(&latest.path, Default::default()).await?;
    work(&mut job, &mut expected, CHECKPOINTS + 1);
    let completed = job.checkpoint().await?;
    let restore = Restore::open(&stores, &completed.path, ReadLimits::default()).await?;
    let mut job = start(&stores, &JobDirectory::of_job(&checkpoints, JobId([3; 16]))?, 2, scratch.path())?;
    for task in &mut job.tasks {
        task.restore(&restore).await?;
    }
    compare(&job, &expected)?;
    println!("went on to checkpoint {}, restored that with 2: all {} keys", completed.checkpoint, expected.len());
    Ok(())
}

/// A job without state.
fn start(stores: &Stores, directory: &JobDirectory, parallelism: u32, scratch: &Path) -> Result<Job> {
    let operators = [1, 2].map(|id| OperatorSpec::new(OperatorId([id; 16]), parallelism, KEY_GROUPS));
    let tasks = (0..parallelism).map(|index| Task::new(&operators, index, scratch)).collect::<Result<_>>()?;
    // Unguessable enough for an example: each `RandomState` has keys of its own.
    let tokens: Tokens = Arc::new(|| RandomState::new().hash_one(0));
    let write = WriteSettings { inline_bytes_max: 1 << 10, ..WriteSettings::default() };
    let worker_settings = WorkerSettings { write, ..WorkerSettings::default() };
    let worker = Worker::new(directory.clone(), "worker-1", worker_settings, tokens.clone());
    let (stores, directory) = (stores.clone(), directory.clone());
    let coordinator = Coordinator::new(stores, directory, operators.to_vec(), coordinator_settings(write), tokens);
    Ok(Job::new(worker, coordinator, tasks))
}

fn coordinator_settings(write: WriteSettings) -> CoordinatorSettings {
    let space = SpacePolicy {
        amplification_max: Some(2.0),
        floor_bytes: 1 << 20,
        across: false,
        fold_ratio_max: 1.0,
        file_bytes_max: write.file_bytes_max,
    };
    CoordinatorSettings {
        ledger: LedgerSettings { retained: 1, space, retention: Retention::OnCancellation },
        metadata_version: 6,
        file_timeout: Duration::from_secs(10),
        deletes_max: 4,
        delete_retries: 3,
        write,
        read: ReadLimits::default(),
    }
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
        let stores = super::Stores::new();
        let directory = stores.locate(&super::FlinkPath::parse("memory:/example").unwrap()).unwrap();
        let directory = super::JobDirectory::of_job(&directory, super::JobId([1; 16])).unwrap();
        let mut job = super::start(&stores, &directory, 3, scratch.path()).unwrap();
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
