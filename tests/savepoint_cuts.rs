//! A savepoint cut, failed or left in doubt at each of the store's operations: what is left is whole, or says that it isn't, and
//! the job's checkpoints are none the worse for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;
#[path = "support/rule_store.rs"]
mod rule_store;
#[path = "support/savepoint_job.rs"]
mod savepoint_job;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone::ErrorKind;
use drystone::coordinator::JobEnd;
use drystone::dispose::{Disposal, DisposeSettings};
use drystone::id::CheckpointId;
use drystone::jobs::{State, list};
use drystone::protocol::{SnapshotKind, Trigger};
use drystone::read::ReadLimits;
use drystone::store::FlinkPath;
use fault_store::{Fault, FaultStore};
use object_store::memory::InMemory;
use rule_store::{Act, RuleStore};
use savepoint_job::{Job, check, path};

/// What the process believed before it was over.
struct Believed {
    checkpoints: Vec<CheckpointId>,
    savepoint: Option<FlinkPath>,
    number: CheckpointId,
}

/// A checkpoint before, the savepoint, a checkpoint after.
async fn work(job: &Job, pack: bool) -> Believed {
    let mut believed = Believed { checkpoints: Vec::new(), savepoint: None, number: CheckpointId(0) };
    believed.checkpoints.extend(job.checkpoint().await.ok().map(|completed| completed.checkpoint));
    let trigger = job.savepoint(pack);
    believed.number = trigger.checkpoint;
    match job.take(&trigger).await {
        Ok(completed) => believed.savepoint = Some(completed.path),
        // As a job does that can't write its part; what is in doubt isn't aborted by that.
        Err(_) => drop(job.coordinator.abort(trigger.checkpoint)),
    }
    believed.checkpoints.extend(job.checkpoint().await.ok().map(|completed| completed.checkpoint));
    believed
}

/// What `list` says of it, and whether its files are there.
async fn savepoint(job: &Job) -> (Option<(State, FlinkPath)>, Vec<String>) {
    let files = job.files("memory:/savepoints").await;
    let listing = match list(&job.stores, &path("memory:/savepoints"), &ReadLimits::default()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return (None, files),
        listing => listing.unwrap(),
    };
    let mut entries: Vec<_> = listing.groups.into_iter().flat_map(|group| group.entries).collect();
    assert!(entries.len() <= 1, "{entries:?}");
    (entries.pop().map(|entry| (entry.state, entry.path)), files)
}

async fn operations(pack: bool) -> usize {
    let store = FaultStore::new(Arc::new(InMemory::new()), []);
    let job = Job::new(Arc::new(store.clone())).await.unwrap();
    store.begin([]);
    let believed = work(&job, pack).await;
    job.coordinator.settle().await.unwrap();
    assert!(believed.savepoint.is_some() && believed.checkpoints.len() == 2);
    store.operations().len()
}

/// Returns whether what was left of a savepoint was marked as such, if anything was.
async fn run(pack: bool, number: usize, fault: Fault) -> Option<bool> {
    let inner = Arc::new(InMemory::new());
    let store = FaultStore::new(inner.clone(), []);
    let job = Job::new(Arc::new(store.clone())).await.unwrap();
    store.begin([(number, fault)]);
    let believed = work(&job, pack).await;
    let context = format!("pack={pack}, {fault:?} at {number}: {:?}", store.operations().get(number));
    if fault != Fault::Crash {
        store.heal();
        job.coordinator.settle().await.unwrap();
    } else {
        let _ = job.coordinator.settle().await;
    }
    let next = job.successor(inner).await.unwrap();
    let (found, files) = savepoint(&next).await;
    match &found {
        Some((State::Complete, at)) => check(&next.stores, at, believed.number).await,
        Some((State::NoMetadata, _)) | None => assert!(believed.savepoint.is_none(), "{context}: {found:?}"),
        other => panic!("{context}: {other:?}"),
    }
    if fault != Fault::Crash && !matches!(found, Some((State::Complete, _))) {
        assert!(files.is_empty(), "{context}: given up, and left behind: {files:?}");
    }
    if let Some(last) = believed.checkpoints.last() {
        assert!(next.coordinator.latest().unwrap().checkpoint >= *last, "{context}");
    }
    if let Some(latest) = next.coordinator.latest() {
        assert_ne!(latest.checkpoint, believed.number, "{context}: the savepoint is none of the job's");
        check(&next.stores, &latest.path, latest.checkpoint).await;
    }
    let mut was_marked = None;
    if let Some((State::NoMetadata, at)) = &found {
        let kind = dispose(&next, at, false).await.err().map(|error| error.kind());
        // Only between the end of the mark and the metadata it can't be told from one that was whole.
        let is_unmarked = !files.iter().any(|file| file.contains("_drystone-unfinished-"));
        assert_eq!(kind, is_unmarked.then_some(ErrorKind::Conflict), "{context}: {files:?}");
        was_marked = Some(!is_unmarked);
        if is_unmarked {
            assert_eq!(next.files("memory:/savepoints").await, files, "{context}");
            dispose(&next, at, true).await.unwrap();
        }
        assert!(next.files("memory:/savepoints").await.is_empty(), "{context}");
    }
    // The next one completes, and the job's end takes nothing of the user's.
    let again = next.savepoint(pack);
    let completed = next.take(&again).await.unwrap();
    next.checkpoint().await.unwrap();
    next.coordinator.dispose(JobEnd::Finished).await.unwrap();
    check(&next.stores, &completed.path, again.checkpoint).await;
    if let Some((State::Complete, at)) = &found {
        check(&next.stores, at, believed.number).await;
        dispose(&next, at, false).await.unwrap();
    }
    dispose(&next, &completed.path, false).await.unwrap();
    assert!(next.files("memory:/savepoints").await.is_empty(), "{context}: all was disposed of");
    was_marked
}

/// Long after.
async fn dispose(job: &Job, at: &FlinkPath, abandoned: bool) -> drystone::Result<()> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33);
    let settings = DisposeSettings { abandoned, ..DisposeSettings::default() };
    let disposed = Disposal::look(&job.stores, at, &settings, now).await?.delete(&|_, _| {}).await;
    assert!(disposed.is_complete() && disposed.metadata_gone, "{at}: {disposed:?}");
    Ok(())
}

async fn everywhere(pack: bool) {
    let operations = operations(pack).await;
    assert!(operations > 10, "{operations}");
    let mut left = Vec::new();
    for number in 0..operations {
        for fault in [Fault::Crash, Fault::Before, Fault::After] {
            left.extend(run(pack, number, fault).await);
        }
    }
    let marked = left.iter().filter(|&&was_marked| was_marked).count();
    println!(
        "pack={pack}: {operations} operations, {} runs, {} left something, {marked} marked",
        3 * operations,
        left.len()
    );
    // The commit's own look at the mark and its put of the metadata are one operation apart.
    assert!(marked > 0 && left.len() == marked + 1, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn cut_at_each_operation() {
    everywhere(false).await;
}

#[tokio::test(start_paused = true)]
async fn packed_and_cut_at_each_operation() {
    everywhere(true).await;
}

/// A savepoint of which nobody knows whether it is there, since the store failed for longer than a commit tries.
async fn in_doubt(last: Fault) -> (Job, Trigger) {
    let store = FaultStore::new(Arc::new(InMemory::new()), []);
    let job = Job::new(Arc::new(store.clone())).await.unwrap();
    let trigger = job.savepoint(false);
    for (index, handles) in job.write(&trigger).await.unwrap() {
        job.acknowledge(&trigger, index, handles).unwrap();
    }
    // An entry of the log, a look for each of the four files, and the delete of the mark go before the first put of the
    // metadata.
    store.begin([(6, last)].into_iter().chain((7..16).map(|number| (number, Fault::Before))));
    let doubt = job.coordinator.complete(trigger.checkpoint).await.unwrap_err();
    assert!(doubt.to_string().contains("may have completed or not"), "{doubt}");
    store.heal();
    (job, trigger)
}

#[tokio::test(start_paused = true)]
async fn in_doubt_it_is_put_again_and_no_checkpoint_gives_it_up() {
    for (last, happened) in [(Fault::Before, false), (Fault::After, true)] {
        let (job, trigger) = in_doubt(last).await;
        assert!(!job.coordinator.abort(trigger.checkpoint), "nor does the user");
        let newer = job.checkpoint().await.unwrap();
        let (found, _) = savepoint(&job).await;
        assert_eq!(matches!(found, Some((State::Complete, _))), happened, "it wasn't barred, nor given up: {found:?}");
        job.coordinator.settle().await.unwrap();
        let (found, _) = savepoint(&job).await;
        let Some((State::Complete, at)) = found else { panic!("{found:?}") };
        check(&job.stores, &at, trigger.checkpoint).await;
        assert_eq!(job.coordinator.pending(), []);
        assert_eq!(job.coordinator.latest().unwrap().checkpoint, newer.checkpoint);
    }
}

/// It may be what the job was stopped with.
#[tokio::test(start_paused = true)]
async fn in_doubt_it_is_put_again_at_the_end_of_the_job() {
    for last in [Fault::Before, Fault::After] {
        let (job, trigger) = in_doubt(last).await;
        job.coordinator.dispose(JobEnd::Finished).await.unwrap();
        let (found, _) = savepoint(&job).await;
        let Some((State::Complete, at)) = found else { panic!("{last:?}: {found:?}") };
        check(&job.stores, &at, trigger.checkpoint).await;
        assert_eq!(job.files("memory:/checkpoints").await, [""; 0], "of the job nothing is left");
    }
}

/// What says that it isn't whole must not stay beside its metadata.
#[tokio::test(start_paused = true)]
async fn the_mark_goes_or_the_savepoint_fails() {
    for (times, completes) in [(2, true), (usize::MAX, false)] {
        let store = RuleStore::default();
        let job = Job::new(Arc::new(store.clone())).await.unwrap();
        store.rule("delete", "_drystone-unfinished-", Act::Fail, times);
        let trigger = job.savepoint(false);
        match job.take(&trigger).await {
            Ok(completed) => {
                assert!(completes);
                check(&job.stores, &completed.path, completed.checkpoint).await;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!completes && text.contains("has to go before its metadata"), "{text}");
                assert!(text.contains("_drystone-unfinished-"), "{text}");
            }
        }
        let SnapshotKind::Savepoint(target) = &trigger.kind else { panic!("{trigger:?}") };
        let there = job.files(&target.directory).await;
        assert_eq!(there.contains(&"_metadata".to_owned()), completes, "{there:?}");
        assert_eq!(there.iter().any(|name| name.starts_with("_drystone-unfinished-")), !completes, "{there:?}");
    }
}
