//! What an older coordinator has ended, begun again or never said doesn't harm the newer one (I10).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use drystone::ErrorKind;
use drystone::config::ClaimMode;
use drystone::coordinator::{Coordinator, CoordinatorSettings, JobEnd};
use drystone::id::{CheckpointId, JobId, Scope};
use drystone::store::{FlinkPath, JobDirectory, Location, Stores, names};
use drystone::write::Tokens;
use fault_store::{Fault, FaultStore};
use live::{Live, settings};
use object_store::memory::InMemory;

fn tight(retained: usize) -> CoordinatorSettings {
    let mut settings = settings();
    settings.ledger.retained = retained;
    settings.write.inline_bytes_max = 0;
    settings
}

/// Of one process: no two have a number in common.
fn tokens_of(process: u64) -> Tokens {
    let next = AtomicU64::new((process << 32) + 1);
    Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
}

async fn coordinator(store: Arc<dyn object_store::ObjectStore>, retained: usize, process: u64) -> Live {
    Live::with_tokens(store, 1, tight(retained), tokens_of(process)).await
}

async fn rounds(live: &Live, count: usize) -> CheckpointId {
    let mut last = None;
    for _ in 0..count {
        last = Some(live.round(&mut [BTreeMap::new()]).await.unwrap().checkpoint);
    }
    live.coordinator.settle().await.unwrap();
    last.unwrap()
}

/// A checkpoint that waits for nothing but its commit.
async fn acknowledged(live: &Live) -> CheckpointId {
    let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"bytes that count")]).await.unwrap();
    live.acknowledge(trigger.checkpoint, 0, chunks).unwrap();
    trigger.checkpoint
}

/// By virtual time.
async fn until_stalled(store: &FaultStore) {
    while !store.stalls() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn metadata(live: &Live, checkpoint: CheckpointId) -> Location {
    live.directory.checkpoint(checkpoint).unwrap().join(names::METADATA).unwrap()
}

/// A commit and an end at a time. With a number, that operation stalls when it has happened, and another coordinator comes.
async fn a_commit_beside_an_end(stalled: Option<usize>) -> Vec<String> {
    let objects = Arc::new(InMemory::new());
    let store = FaultStore::new(objects.clone(), []);
    let older = Arc::new(coordinator(Arc::new(store.clone()), 1, 1).await);
    rounds(&older, 1).await;
    let checkpoint = acknowledged(&older).await;
    store.begin([(0, Fault::StallBefore)].into_iter().chain(stalled.map(|number| (number, Fault::StallAfter))));
    let ending = older.clone();
    let ends = tokio::spawn(async move { ending.coordinator.dispose(JobEnd::Finished).await });
    until_stalled(&store).await;
    let committing = older.clone();
    let commits = tokio::spawn(async move { committing.coordinator.complete(checkpoint).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    store.release();
    let newer = match stalled {
        None => None,
        Some(_) => {
            while !(store.stalls() || ends.is_finished() && commits.is_finished()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let newer = coordinator(objects, 1, 2).await;
            store.release();
            Some(newer)
        }
    };
    let (ended, committed) = (ends.await.unwrap(), commits.await.unwrap());
    if let Some(newer) = newer {
        newer.coordinator.settle().await.unwrap();
        for checkpoint in newer.coordinator.completed() {
            newer.check(checkpoint).await;
        }
        assert!(ended.is_ok() || ended.unwrap_err().kind() == ErrorKind::Fenced);
        rounds(&newer, 2).await;
    } else {
        ended.unwrap();
        assert_eq!(committed.unwrap_err().kind(), ErrorKind::Conflict);
    }
    store.operations()
}

#[tokio::test(start_paused = true)]
async fn a_commit_beside_an_end_leaves_the_newer_one_alone() {
    let operations = a_commit_beside_an_end(None).await.len();
    assert!(operations > 5);
    for number in 1..operations {
        a_commit_beside_an_end(Some(number)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_who_slept_across_the_end_of_the_job_and_who_came_after_it_one_has_it() {
    let mut slept = 0;
    for number in 0.. {
        let objects = Arc::new(InMemory::new());
        let ended = coordinator(objects.clone(), 1, 1).await;
        rounds(&ended, 6).await;
        let store = FaultStore::new(objects.clone(), [(number, Fault::StallBefore)]);
        let late = tokio::spawn(Live::with_tokens(Arc::new(store.clone()), 1, tight(1), tokens_of(2)));
        while !store.stalls() && !late.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if late.is_finished() {
            break;
        }
        // After the late one's claim it is over.
        if ended.coordinator.dispose(JobEnd::Finished).await.is_err() {
            store.release();
            late.await.unwrap();
            continue;
        }
        slept += 1;
        let next = coordinator(objects, 1, 3).await;
        let done = rounds(&next, 2).await;
        store.release();
        let late = late.await.unwrap();
        late.coordinator.settle().await.unwrap();
        match next.round(&mut [BTreeMap::new()]).await {
            // The late one has claimed it.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Fenced, "operation {number}");
                assert_eq!(late.coordinator.latest().unwrap().checkpoint, done, "operation {number}");
                late.check(done).await;
                rounds(&late, 1).await;
            }
            Ok(completed) => {
                assert!(late.coordinator.latest().is_none(), "operation {number}: both have the job");
                next.check(completed.checkpoint).await;
            }
        }
    }
    assert!(slept > 3, "{slept}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_cut_at_any_operation_is_over_once_somebody_else_has_the_job() {
    for number in 0.. {
        let objects = Arc::new(InMemory::new());
        let store = FaultStore::new(objects.clone(), []);
        let older = coordinator(Arc::new(store.clone()), 1, 1).await;
        rounds(&older, 4).await;
        // All of its attempts.
        store.begin((number..number + 40).map(|number| (number, Fault::Before)));
        if older.coordinator.dispose(JobEnd::Finished).await.is_ok() {
            assert!(number > 5);
            break;
        }
        let newer = coordinator(objects.clone(), 1, 2).await;
        let done = rounds(&newer, 1).await;
        store.begin([]);
        let again = older.coordinator.dispose(JobEnd::Finished).await;
        let next = coordinator(objects, 1, 3).await;
        assert_ne!(next.coordinator.epoch(), newer.coordinator.epoch(), "operation {number}");
        assert_eq!(next.coordinator.latest().unwrap().checkpoint, done, "operation {number}: {again:?}");
        next.coordinator.settle().await.unwrap();
        next.check(done).await;
        let over = newer.round(&mut [BTreeMap::new()]).await.unwrap_err();
        assert_eq!(over.kind(), ErrorKind::Fenced, "operation {number}");
    }
}

/// A commit that was put, or may have been, and an end without an answer of that.
async fn in_doubt(lands: bool) -> (Arc<InMemory>, FaultStore, Live, CheckpointId) {
    let objects = Arc::new(InMemory::new());
    let store = FaultStore::new(objects.clone(), []);
    let live = coordinator(Arc::new(store.clone()), 1, 1).await;
    let checkpoint = acknowledged(&live).await;
    let fault = if lands { Fault::After } else { Fault::Before };
    store.begin([(2, fault)].into_iter().chain((3..12).map(|number| (number, Fault::Before))));
    assert_eq!(live.coordinator.complete(checkpoint).await.unwrap_err().kind(), ErrorKind::Store);
    (objects, store, live, checkpoint)
}

#[tokio::test(start_paused = true)]
async fn what_a_successor_has_barred_stays_barred_by_an_end() {
    let (objects, store, older, checkpoint) = in_doubt(false).await;
    store.begin([(0, Fault::StallAfter)]);
    let ends = tokio::spawn(async move { older.coordinator.dispose(JobEnd::Finished).await });
    until_stalled(&store).await;
    let newer = coordinator(objects, 1, 2).await;
    assert!(metadata(&newer, checkpoint).exists().await.unwrap());
    store.release();
    let _ = ends.await.unwrap();
    assert!(metadata(&newer, checkpoint).exists().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_put_that_lands_after_the_end_of_the_job_is_no_checkpoint() {
    let (objects, store, older, checkpoint) = in_doubt(true).await;
    let file = metadata(&older, checkpoint);
    let bytes = file.read_all(1 << 20).await.unwrap();
    file.delete().await.unwrap();
    store.begin([]);
    older.coordinator.dispose(JobEnd::Finished).await.unwrap();
    // Nothing is left to be settled.
    let over = older.coordinator.settle().await.unwrap_err();
    assert!(over.kind() == ErrorKind::Fenced && over.to_string().contains("the job has ended"), "{over}");
    file.create(vec![bytes]).await.unwrap();
    let newer = coordinator(objects, 1, 2).await;
    assert_eq!(newer.coordinator.latest(), None);
    rounds(&newer, 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_lands_in_the_next_life_of_the_job_counts_for_nothing() {
    let objects = Arc::new(InMemory::new());
    let older = coordinator(objects.clone(), 1, 1).await;
    rounds(&older, 6).await;
    for entry in older.directory.fence().list().await.unwrap() {
        let entry = older.stores.locate(&entry.path).unwrap();
        let bytes = entry.read_all(1 << 20).await.unwrap();
        let objects = Arc::new(objects.fork());
        let older = coordinator(objects.clone(), 1, 2).await;
        older.coordinator.dispose(JobEnd::Finished).await.unwrap();
        let newer = coordinator(objects.clone(), 1, 3).await;
        let done = rounds(&newer, 1).await;
        // It may be there.
        let _ = newer.stores.locate(entry.name()).unwrap().create(vec![bytes]).await;
        let next = coordinator(objects, 1, 4).await;
        assert_eq!(next.coordinator.latest().unwrap().checkpoint, done);
        assert_eq!(newer.round(&mut [BTreeMap::new()]).await.unwrap_err().kind(), ErrorKind::Fenced);
    }
}

#[tokio::test(start_paused = true)]
async fn who_retains_fewer_deletes_nothing_before_it_has_said_so() {
    let objects = Arc::new(InMemory::new());
    rounds(&coordinator(objects.clone(), 3, 1).await, 3).await;
    let store = FaultStore::new(objects.clone(), []);
    let older = coordinator(Arc::new(store.clone()), 1, 2).await;
    let pending = older.coordinator.trigger(older.coordinator.next_checkpoint()).unwrap().checkpoint;
    store.begin([]);
    assert!(older.coordinator.abort(pending));
    older.coordinator.settle().await.unwrap();
    assert!(store.operations().iter().all(|operation| !operation.starts_with("delete")), "{:?}", store.operations());
    let newer = coordinator(objects, 3, 3).await;
    assert_eq!(newer.coordinator.completed().len(), 3);
    for checkpoint in newer.coordinator.completed() {
        newer.check(checkpoint).await;
    }
}

#[tokio::test(start_paused = true)]
async fn retaining_none_is_retaining_one() {
    let objects = Arc::new(InMemory::new());
    let done = rounds(&coordinator(objects.clone(), 0, 1).await, 2).await;
    let newer = coordinator(objects, 0, 2).await;
    assert_eq!(newer.coordinator.latest().unwrap().checkpoint, done);
}

/// A checkpoint of another job, of number 10.
async fn foreign(objects: Arc<InMemory>) -> FlinkPath {
    let root = FlinkPath::parse("memory:/elsewhere").unwrap();
    let stores = Stores::new().with_store(&root, objects.clone());
    let directory = JobDirectory::of_job(&stores.locate(&root).unwrap(), JobId([2; 16])).unwrap();
    let mut live = coordinator(Arc::new(InMemory::new()), 1, 77).await;
    let operators = vec![live.spec.clone()];
    let recovered = Coordinator::recover(stores.clone(), directory.clone(), operators, tight(1), tokens_of(78)).await;
    (live.coordinator, live.stores, live.directory) = (recovered.unwrap(), stores, directory);
    let done = rounds(&live, 10).await;
    live.directory.checkpoint(done).unwrap().name().clone()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_before_its_first_checkpoint_starts_again_from_where_it_did() {
    for mode in [ClaimMode::Claim, ClaimMode::NoClaim] {
        let objects = Arc::new(InMemory::new());
        let from = foreign(objects.clone()).await;
        for process in 1..4 {
            let store = FaultStore::new(objects.clone(), []);
            let live = coordinator(Arc::new(store.clone()), 1, process).await;
            assert_eq!(live.coordinator.latest(), None);
            live.restore(&from, mode).await.unwrap();
            let checkpoint = acknowledged(&live).await;
            // Behind the entry of the log and the look for the file.
            store.begin((2..40).map(|number| (number, Fault::Crash)));
            live.coordinator.complete(checkpoint).await.unwrap_err();
        }
        let live = coordinator(objects, 1, 9).await;
        live.restore(&from, mode).await.unwrap();
        let done = rounds(&live, 1).await;
        assert!(done > CheckpointId(13), "{done}: three were barred");
        live.check(done).await;
        assert_eq!(live.coordinator.latest().unwrap().checkpoint, done);
    }
}

#[tokio::test(start_paused = true)]
async fn who_claims_a_checkpoint_deletes_its_own_ones_only_with_the_next() {
    let objects = Arc::new(InMemory::new());
    let from = foreign(objects.clone()).await;
    let store = FaultStore::new(objects.clone(), []);
    let older = coordinator(Arc::new(store.clone()), 1, 1).await;
    let own = rounds(&older, 1).await;
    older.restore(&from, ClaimMode::Claim).await.unwrap();
    let pending = older.coordinator.trigger(older.coordinator.next_checkpoint()).unwrap().checkpoint;
    store.begin([]);
    assert!(older.coordinator.abort(pending));
    older.coordinator.settle().await.unwrap();
    assert!(store.operations().iter().all(|operation| !operation.starts_with("delete")), "{:?}", store.operations());
    let newer = coordinator(objects, 1, 2).await;
    assert_eq!(newer.coordinator.latest().unwrap().checkpoint, own);
    newer.check(own).await;
}
