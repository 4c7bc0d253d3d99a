//! How many checkpoints are kept, how many of their files are deleted at once, and what a job's end leaves, by configuration.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/rule_store.rs"]
mod rule_store;
#[path = "support/storage_job.rs"]
mod storage_job;

use std::collections::BTreeSet;
use std::sync::Arc;

use drystone::coordinator::JobEnd;
use drystone::id::JobId;
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use rule_store::{Act, RuleStore};
use storage_job::{Job, config};

const JOB: JobId = JobId([1; 16]);
const FILES: usize = 40;

fn on(store: &RuleStore, more: &[(&str, &str)]) -> Storage {
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    Storage::open_on(Arc::new(store.clone()), &root, &config(more)).unwrap()
}

/// The checkpoints whose directories have files, and how many each.
async fn checkpoints(storage: &Storage) -> Vec<(String, usize)> {
    let root = storage.job_directory(JOB).unwrap().root().clone();
    let listed = root.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|file| file.path.relative_to(root.name()).unwrap()).collect();
    let directories = names.iter().filter_map(|name| name.split_once('/')).map(|(first, _)| first);
    let directories: BTreeSet<&str> = directories.filter(|first| first.starts_with("chk-")).collect();
    let count = |directory: &str| names.iter().filter(|name| name.starts_with(&format!("{directory}/"))).count();
    directories.into_iter().map(|directory| (directory.to_owned(), count(directory))).collect()
}

async fn until_nothing_moves() {
    for _ in 0..5_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn so_many_are_kept_as_configured() {
    for (configured, kept) in [("1", 1), ("3", 3), ("0", 1), ("-5", 1)] {
        let storage = on(&RuleStore::default(), &[("execution.checkpointing.num-retained", configured)]);
        let job = Job::of(&storage, JOB).await.unwrap();
        for round in 1..=5_usize {
            job.checkpoint(2).await.unwrap();
            job.coordinator.settle().await.unwrap();
            let expected: Vec<_> = (1 + round.saturating_sub(kept)..=round).map(|n| (format!("chk-{n}"), 3)).collect();
            assert_eq!(checkpoints(&storage).await, expected, "num-retained={configured}");
        }
    }
}

/// Deletes that hang: as many are on their way as may be at once.
#[tokio::test]
async fn deletes_side_by_side_are_bounded() {
    for (more, at_once) in [
        (&[][..], 16),
        (&[("drystone.delete.concurrency", "3")], 3),
        (&[("execution.checkpointing.cleaner.parallel-mode", "true"), ("drystone.delete.concurrency", "64")], FILES),
        (&[("execution.checkpointing.cleaner.parallel-mode", "false")], 1),
        (&[("state.checkpoint.cleaner.parallel-mode", "false"), ("drystone.delete.concurrency", "64")], 1),
    ] {
        let store = RuleStore::default();
        let storage = on(&store, more);
        let job = Job::of(&storage, JOB).await.unwrap();
        job.checkpoint(FILES).await.unwrap();
        store.rule("delete ", "/ds1-", Act::Hang, usize::MAX);
        job.checkpoint(1).await.unwrap();
        until_nothing_moves().await;
        assert_eq!(store.count("delete ", "/ds1-"), at_once, "{more:?}");
        assert_eq!(store.count("delete ", "chk-1/_metadata"), 1, "first");
        // No commit waits for that, and no further checkpoint's files are deleted beside it.
        job.checkpoint(1).await.unwrap();
        until_nothing_moves().await;
        assert_eq!(store.count("delete ", "/ds1-"), at_once, "{more:?}");
        store.obey();
        job.coordinator.settle().await.unwrap();
        assert_eq!(checkpoints(&storage).await, [("chk-3".to_owned(), 2)]);
    }
}

#[tokio::test]
async fn a_jobs_end_leaves_what_the_mode_says() {
    let subdirectory = "execution.checkpointing.create-subdir";
    for (mode, kept) in [
        ("NO_EXTERNALIZED_CHECKPOINTS", &[][..]),
        ("DELETE_ON_CANCELLATION", &[JobEnd::Failed]),
        ("RETAIN_ON_CANCELLATION", &[JobEnd::Failed, JobEnd::Cancelled, JobEnd::Suspended]),
    ] {
        for end in [JobEnd::Finished, JobEnd::Cancelled, JobEnd::Failed, JobEnd::Suspended] {
            for has_subdirectory in ["true", "false"] {
                let more = [
                    ("execution.checkpointing.externalized-checkpoint-retention", mode),
                    ("execution.checkpointing.num-retained", "2"),
                    (subdirectory, has_subdirectory),
                ];
                let storage = on(&RuleStore::default(), &more);
                let job = Job::of(&storage, JOB).await.unwrap();
                for _ in 0..3 {
                    job.checkpoint(2).await.unwrap();
                }
                job.coordinator.dispose(end).await.unwrap();
                let expected = match kept.contains(&end) {
                    true => vec![("chk-2".to_owned(), 3), ("chk-3".to_owned(), 3)],
                    false => Vec::new(),
                };
                assert_eq!(checkpoints(&storage).await, expected, "{mode}, {end:?}, {subdirectory}={has_subdirectory}");
                let found = storage.latest(JOB).await.ok().and_then(|latest| latest.found);
                assert_eq!(
                    found.map(|found| found.path.to_string().ends_with("chk-3")),
                    (!expected.is_empty()).then_some(true)
                );
            }
        }
    }
}
