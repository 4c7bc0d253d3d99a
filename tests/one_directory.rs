//! `execution.checkpointing.create-subdir=false`: a job's checkpoints right in the checkpoint directory, which is that job's alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/storage_job.rs"]
mod storage_job;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use drystone::coordinator::JobEnd;
use drystone::dispose::{Disposal, DisposeSettings};
use drystone::id::JobId;
use drystone::jobs::{State, latest, list};
use drystone::protocol::{SavepointAction, SavepointFormat};
use drystone::read::ReadLimits;
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::sweep::{Sweep, SweepSettings};
use drystone::verify::verify;
use drystone::{Error, ErrorKind};
use fault_store::{Fault, FaultStore};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use storage_job::{Job, config};

const OURS: JobId = JobId([1; 16]);
const OTHER: JobId = JobId([2; 16]);

fn root() -> FlinkPath {
    FlinkPath::parse("memory:/checkpoints").unwrap()
}

fn on(store: Arc<dyn ObjectStore>, more: &[(&str, &str)]) -> Storage {
    let all = [&[("execution.checkpointing.create-subdir", "false")][..], more].concat();
    Storage::open_on(store, &root(), &config(&all)).unwrap()
}

async fn put(storage: &Storage, below: &str, bytes: &str) {
    let file = storage.stores().locate(&root().join(below).unwrap()).unwrap();
    file.replace(Bytes::from(bytes.to_owned())).await.unwrap();
}

async fn files(storage: &Storage) -> Vec<String> {
    let listed = storage.stores().locate(&root()).unwrap().list().await.unwrap();
    let names = listed.iter().map(|file| file.path.relative_to(&root()).unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

async fn refused(storage: &Storage, job: JobId) -> Error {
    Job::of(storage, job).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn checkpoints_lie_right_in_the_directory_and_are_found_there() {
    let storage = on(Arc::new(InMemory::new()), &[("execution.checkpointing.num-retained", "2")]);
    let job = Job::of(&storage, OURS).await.unwrap();
    let mut completed = Vec::new();
    for _ in 0..3 {
        completed.push(job.checkpoint(2).await.unwrap());
    }
    job.coordinator.settle().await.unwrap();
    let last = completed.pop().unwrap();
    assert_eq!(last.path.to_string(), "memory:/checkpoints/chk-3");
    let names = files(&storage).await;
    let kept = |chk: &str| names.iter().filter(|name| name.starts_with(chk)).count();
    assert_eq!((kept("chk-1/"), kept("chk-2/"), kept("chk-3/")), (0, 3, 3), "{names:?}");

    // Who comes next takes it over.
    let next = Job::of(&storage, OURS).await.unwrap();
    assert_eq!(next.coordinator.latest().unwrap().path, last.path);
    let fourth = next.checkpoint(1).await.unwrap();
    next.coordinator.settle().await.unwrap();
    assert_eq!(storage.latest(OURS).await.unwrap().found.unwrap().path, fourth.path);
    let found = verify(storage.stores(), &fourth.path, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.findings);

    // And the tools.
    let limits = ReadLimits::default();
    let listing = list(storage.stores(), &root(), &limits).await.unwrap();
    let [group] = &listing.groups[..] else { panic!("{listing:?}") };
    assert_eq!((group.job, group.entries.len(), group.latest), (Some(OURS), 2, Some(1)));
    assert!(group.entries.iter().all(|entry| entry.state == State::Complete));
    let found = latest(storage.stores(), &root(), &limits).await.unwrap();
    assert_eq!(found.found.unwrap().path, fourth.path);
}

#[tokio::test]
async fn two_jobs_are_refused() {
    let storage = on(Arc::new(InMemory::new()), &[]);
    let job = Job::of(&storage, OURS).await.unwrap();
    for _ in 0..2 {
        let error = refused(&storage, OTHER).await;
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = error.to_string();
        for named in [&OURS.to_string(), &OTHER.to_string(), "create-subdir=false", "/checkpoints/_drystone/owner"] {
            assert!(text.contains(named), "{named}: {text}");
        }
        job.checkpoint(1).await.unwrap();
    }
    assert_eq!(storage.latest(OTHER).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(storage.restore_latest(OTHER).await.unwrap_err().kind(), ErrorKind::Conflict);
    job.checkpoint(1).await.unwrap();
    // The refused one has not so much as claimed the next epoch.
    assert_eq!(job.coordinator.epoch(), 1);
}

/// Not so much as a new start beside what a job has, in silence.
#[tokio::test]
async fn no_job_has_a_directory_of_its_name_in_one_that_is_anothers_alone() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let alone = on(store.clone(), &[]);
    let first = Job::of(&alone, OURS).await.unwrap().checkpoint(1).await.unwrap();
    let below = on(store, &[("execution.checkpointing.create-subdir", "true")]);
    let before = files(&alone).await;
    for job in [OURS, OTHER] {
        let latest = below.latest(job).await.unwrap_err();
        for error in [refused(&below, job).await, latest] {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            for named in [&OURS.to_string(), "create-subdir=false", "memory:/checkpoints/_drystone/owner"] {
                assert!(error.to_string().contains(named), "{named}: {error}");
            }
        }
    }
    assert_eq!(files(&alone).await, before);
    assert_eq!(alone.latest(OURS).await.unwrap().found.unwrap().path, first.path);
    // Whoever knows that the job is over says so.
    alone.stores().locate(&root().join("_drystone/owner").unwrap()).unwrap().delete().await.unwrap();
    Job::of(&below, OTHER).await.unwrap().checkpoint(1).await.unwrap();
}

#[tokio::test]
async fn foreign_files_are_refused_and_untouched() {
    for foreign in [
        "notes.txt",
        "chk-7/_metadata",
        "chk-7/ds1-a1-ww-c7-n0-0000000000000001",
        "shared/0b5f0c9e-7d3c-4f5e-9a51-5a2f3c1d9e77",
        "taskowned/x",
        "0202020202020202020202020202020202/chk-1/_metadata",
        "02020202020202020202020202020202/chk-1/_metadata",
        "backup/x",
    ] {
        let storage = on(Arc::new(InMemory::new()), &[]);
        put(&storage, foreign, "somebody's").await;
        let error = refused(&storage, OURS).await;
        let first = foreign.split('/').next().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{foreign}");
        assert!(error.to_string().contains(first) && error.to_string().contains("create-subdir=false"), "{error}");
        assert_eq!(files(&storage).await, [foreign]);
    }
    // Savepoints may lie beside, whoever took them; and what comes later is nobody's reason to stop.
    let storage = on(Arc::new(InMemory::new()), &[]);
    put(&storage, "savepoint-0a0a0a-123456789abc/_metadata", "a user's").await;
    Job::of(&storage, OURS).await.unwrap().checkpoint(1).await.unwrap();
    put(&storage, "notes.txt", "a user's").await;
    Job::of(&storage, OURS).await.unwrap().checkpoint(1).await.unwrap();
}

#[tokio::test]
async fn a_job_of_before_left_a_log_but_nothing_that_says_whose() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let storage = on(store, &[]);
    let job = Job::of(&storage, OURS).await.unwrap();
    job.checkpoint(1).await.unwrap();
    let owner = storage.stores().locate(&root().join("_drystone/owner").unwrap()).unwrap();
    owner.delete().await.unwrap();
    for name in files(&storage).await.iter().filter(|name| name.starts_with("chk-")) {
        storage.stores().locate(&root().join(name).unwrap()).unwrap().delete().await.unwrap();
    }
    let error = refused(&storage, OURS).await;
    assert!(error.to_string().contains("the log of a job's coordinators"), "{error}");
    put(&storage, "_drystone/owner", "what?").await;
    assert_eq!(refused(&storage, OURS).await.kind(), ErrorKind::Damaged);
}

#[tokio::test]
async fn a_job_that_keeps_nothing_makes_room_for_another() {
    for (retention, end, is_free) in [
        ("NO_EXTERNALIZED_CHECKPOINTS", JobEnd::Failed, true),
        ("DELETE_ON_CANCELLATION", JobEnd::Cancelled, true),
        ("DELETE_ON_CANCELLATION", JobEnd::Failed, false),
        ("RETAIN_ON_CANCELLATION", JobEnd::Cancelled, false),
        ("RETAIN_ON_CANCELLATION", JobEnd::Finished, true),
    ] {
        let key = "execution.checkpointing.externalized-checkpoint-retention";
        let storage = on(Arc::new(InMemory::new()), &[(key, retention)]);
        let job = Job::of(&storage, OURS).await.unwrap();
        let savepoint = storage.savepoint(Some(&root()), SavepointFormat::Native, SavepointAction::None).unwrap();
        let checkpoint = job.coordinator.trigger_savepoint(job.coordinator.next_checkpoint(), &savepoint).unwrap();
        assert!(job.coordinator.abort(checkpoint.checkpoint), "beside the checkpoints there may be one");
        job.checkpoint(2).await.unwrap();
        job.coordinator.dispose(end).await.unwrap();
        let left = files(&storage).await;
        assert_eq!(
            left.iter().all(|name| name.starts_with("_drystone/log-")),
            is_free,
            "{retention}, {end:?}: {left:?}"
        );
        if is_free {
            let next = Job::of(&storage, OTHER).await.unwrap();
            assert_eq!(next.coordinator.completed(), []);
            next.checkpoint(1).await.unwrap();
            assert_eq!(refused(&storage, OURS).await.kind(), ErrorKind::Conflict);
        } else {
            assert_eq!(refused(&storage, OTHER).await.kind(), ErrorKind::Conflict);
            // Its own successor goes on; and so does another job whose user says so.
            assert_eq!(Job::of(&storage, OURS).await.unwrap().coordinator.completed().len(), 1);
            put(&storage, "_drystone/owner", &format!("{OTHER}\n")).await;
            let next = Job::of(&storage, OTHER).await.unwrap();
            assert_eq!(next.coordinator.completed().len(), 1);
            next.checkpoint(1).await.unwrap();
        }
    }
}

/// Whoever starts first in a directory has it, wherever the other is at that time.
#[tokio::test]
async fn of_two_that_start_at_once_one_has_the_directory() {
    let mut claimed = [0, 0];
    for number in 0.. {
        let inner = Arc::new(InMemory::new());
        let stalled = FaultStore::new(inner.clone(), [(number, Fault::StallBefore)]);
        let slow = on(Arc::new(stalled.clone()), &[]);
        let slow = tokio::spawn(async move { Job::of(&slow, OURS).await.map(drop) });
        while !stalled.stalls() && !slow.is_finished() {
            tokio::task::yield_now().await;
        }
        if slow.is_finished() && !stalled.stalls() {
            assert!(number > 5, "{number}");
            break;
        }
        let quick = Job::of(&on(inner, &[]), OTHER).await.map(drop);
        stalled.release();
        let slow = slow.await.unwrap();
        assert_ne!(slow.is_ok(), quick.is_ok(), "at {number}: {slow:?}, {quick:?}");
        claimed[usize::from(quick.is_ok())] += 1;
        let error = slow.err().or(quick.err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict, "at {number}: {error}");
    }
    assert!(claimed[0] > 0 && claimed[1] > 0, "{claimed:?}");
}

/// A claim that fails or is cut at any request: the job itself can start again, and of both jobs one.
#[tokio::test(start_paused = true)]
async fn a_claim_cut_anywhere_can_be_made_again() {
    for number in 0..12 {
        for fault in [Fault::Before, Fault::After, Fault::Crash] {
            let inner = Arc::new(InMemory::new());
            let faulty = FaultStore::new(inner.clone(), [(number, fault)]);
            let first = Job::of(&on(Arc::new(faulty), &[]), OURS).await.map(drop);
            let storage = on(inner, &[]);
            let second = Job::of(&storage, OURS).await;
            assert!(second.is_ok(), "{fault:?} at {number}: {first:?}, {:?}", second.map(drop));
            assert_eq!(refused(&storage, OTHER).await.kind(), ErrorKind::Conflict);
        }
    }
}

#[tokio::test]
async fn sweeps_and_disposals_know_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("file:{}", directory.path().display());
    let more = [
        ("execution.checkpointing.create-subdir", "false"),
        ("execution.checkpointing.dir", &*at),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
    ];
    let storage = Storage::open(&config(&more)).unwrap();
    let job = Job::of(&storage, OURS).await.unwrap();
    let completed = job.checkpoint(2).await.unwrap();
    job.coordinator.settle().await.unwrap();
    let orphan = "chk-9/ds1-a1-ww-c9-n0-00000000000000aa";
    std::fs::create_dir(directory.path().join("chk-9")).unwrap();
    std::fs::write(directory.path().join(orphan), "dead").unwrap();
    std::fs::write(directory.path().join("notes.txt"), "the user's").unwrap();

    let root = FlinkPath::parse(&at).unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let settings = SweepSettings { abandoned: true, ..SweepSettings::default() };
    let sweep = Sweep::look(storage.stores(), &root, &settings, later).await.unwrap();
    let dead: Vec<String> = sweep.found().dead.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(dead, [format!("{at}/{orphan}")]);
    sweep.delete(&|_, _| {}).await;
    assert!(there(directory.path(), "_drystone/owner") && there(directory.path(), "notes.txt"));
    assert!(!there(directory.path(), orphan));

    job.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    let settings = DisposeSettings { abandoned: true, ..DisposeSettings::default() };
    let disposal = Disposal::look(storage.stores(), &completed.path, &settings, later).await.unwrap();
    assert_eq!(disposal.found().doomed.len(), 2);
    assert!(disposal.delete(&|_, _| {}).await.stopped.is_none());
    assert!(!there(directory.path(), "chk-1/_metadata") && there(directory.path(), "notes.txt"));
}

fn there(directory: &Path, below: &str) -> bool {
    directory.join(below).exists()
}
