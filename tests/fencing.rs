//! Of two coordinators of a job only the newer commits or deletes, whatever the older is in the middle of (I10).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drystone::ErrorKind;
use drystone::coordinator::{Coordinator, CoordinatorSettings, JobEnd};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::ledger::SpacePolicy;
use drystone::protocol::OperatorSpec;
use drystone::read::Checkpoint;
use drystone::write::Tokens;
use fault_store::{Fault, FaultStore};
use futures::future::join_all;
use live::{Live, settings, tokens};
use object_store::memory::InMemory;

const SUBTASKS: u32 = 2;

fn tight(retained: usize) -> CoordinatorSettings {
    let mut settings = settings();
    settings.ledger.retained = retained;
    settings.ledger.space = SpacePolicy {
        amplification_max: Some(1.5),
        floor_bytes: 0,
        across: true,
        fold_ratio_max: 1.0,
        file_bytes_max: 1 << 20,
    };
    settings.write.inline_bytes_max = 0;
    settings
}

/// Of one process: no two have a number in common.
fn tokens_of(process: u64) -> Tokens {
    let next = AtomicU64::new((process << 32) + 1);
    Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
}

/// Everything that a coordinator does, whatever fails. `ends`: the job is disposed of at last.
async fn work(live: Live, ends: bool) -> Vec<CheckpointId> {
    let mut completed = Vec::new();
    let mut states: Vec<BTreeMap<String, StreamHandle>> = vec![BTreeMap::new(); SUBTASKS as usize];
    for round in 0..5 {
        if round % 2 == 1 {
            states.iter_mut().for_each(|state| drop(state.pop_first()));
        }
        match live.round(&mut states).await {
            Ok(done) => completed.push(done.checkpoint),
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(error) => panic!("{error}"),
        }
        match round {
            2 => {
                if let Ok(trigger) = live.coordinator.trigger(live.coordinator.next_checkpoint()) {
                    let chunks = live.write(&trigger, 0, Scope::Shared, &[("given up", b"bytes")]).await.unwrap();
                    live.acknowledge(trigger.checkpoint, 0, chunks).unwrap();
                    live.coordinator.abort(trigger.checkpoint);
                }
            }
            3 => drop(live.coordinator.rewrite(u64::MAX).await),
            4 => drop(live.coordinator.remove_leftovers().await),
            _ => {}
        }
    }
    if ends {
        drop(live.coordinator.dispose(JobEnd::Finished).await);
    }
    drop(live.coordinator.settle().await);
    completed
}

/// The older one stalls at an operation. The newer takes over and works; then the older wakes up and goes on.
async fn overtaken(number: usize, fault: Fault, retained: usize, ends: bool) -> bool {
    let context = format!("{fault:?} at operation {number}, {retained} retained, ends: {ends}");
    let objects = Arc::new(InMemory::new());
    let store = FaultStore::new(objects.clone(), []);
    let older = Live::with_tokens(Arc::new(store.clone()), SUBTASKS, tight(retained), tokens_of(1)).await;
    store.begin([(number, fault)]);
    let epoch = older.coordinator.epoch();
    let work = tokio::spawn(work(older, ends));
    // Time only passes when nobody can go on: the older one has stalled by then, or is done.
    while !work.is_finished() && !store.stalls() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let has_stalled = store.stalls();

    let newer = Live::with_tokens(objects.clone(), SUBTASKS, tight(retained), tokens_of(2)).await;
    let adopted: BTreeSet<CheckpointId> = newer.coordinator.completed().into_iter().collect();
    for &checkpoint in &adopted {
        newer.check(checkpoint).await;
    }
    // Goes on from the latest, naming again what that has.
    let mut states = match newer.coordinator.latest() {
        Some(latest) => named_by(&newer, latest.checkpoint).await,
        None => vec![BTreeMap::new(); SUBTASKS as usize],
    };
    newer.round(&mut states).await.unwrap_or_else(|e| panic!("{context}: {e}"));

    store.release();
    let completed = work.await.unwrap_or_else(|e| panic!("{context}: {e}"));
    for checkpoint in &completed {
        let is_known = adopted.contains(checkpoint) || adopted.iter().any(|newer| newer > checkpoint);
        assert!(is_known || ends, "{context}: {checkpoint} was completed, and is lost");
    }
    newer.round(&mut states).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    newer.coordinator.settle().await.unwrap_or_else(|e| panic!("{context}: {e}"));
    for checkpoint in newer.coordinator.completed() {
        newer.check(checkpoint).await;
    }
    assert_eq!(newer.coordinator.space(), newer.recount().await, "{context}");
    // Nothing that the older one completed has come since.
    for path in newer.files().await.keys().filter(|path| path.ends_with("_metadata")) {
        let path = newer.directory.root().join(path).unwrap();
        let loaded = Checkpoint::load_intact(&newer.stores, path.name()).await.unwrap();
        let id = loaded.decoded.metadata.checkpoint_id;
        // Where the older one has ended the job altogether, the newer begins it anew, and counts from the beginning.
        let by_older = newer.coordinator.epoch() > epoch && loaded.decoded.trailer.unwrap().epoch == epoch;
        assert!(!by_older || adopted.contains(&id), "{context}: {id} was completed by the older one");
    }
    let mut third = Live::with_tokens(objects, SUBTASKS, tight(retained), tokens_of(3)).await;
    assert_eq!(third.coordinator.latest(), newer.coordinator.latest(), "{context}");
    third.restart().await.unwrap();
    third.coordinator.remove_leftovers().await.unwrap_or_else(|e| panic!("{context}: {e}"));
    for checkpoint in third.coordinator.completed() {
        third.check(checkpoint).await;
    }
    third.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(third.files().await, BTreeMap::new(), "{context}");
    has_stalled
}

/// What each subtask's state of a checkpoint is, by name.
async fn named_by(live: &Live, checkpoint: CheckpointId) -> Vec<BTreeMap<String, StreamHandle>> {
    use drystone::handle::{KeyedHandle, OperatorSubtasks};
    let path = live.directory.checkpoint(checkpoint).unwrap();
    let loaded = Checkpoint::load_intact(&live.stores, path.name()).await.unwrap();
    let OperatorSubtasks::Reported(entries) = &loaded.decoded.metadata.operators[0].subtasks else { panic!() };
    let states = entries.iter().map(|entry| match entry.state.as_ref().and_then(|s| s.managed_keyed.as_ref()) {
        Some(KeyedHandle::Incremental(keyed)) => {
            let files = keyed.shared.iter();
            files.filter_map(|file| Some((file.local_path.to_string(), file.handle.clone()?))).collect()
        }
        _ => BTreeMap::new(),
    });
    states.collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_at_any_operation_changes_nothing_any_more() {
    let mut schedules = 0;
    for (retained, ends) in [(1, false), (2, false), (1, true)] {
        for fault in [Fault::StallBefore, Fault::StallAfter] {
            let mut number = 0;
            while overtaken(number, fault, retained, ends).await {
                number += 1;
            }
            assert!(number > 50, "{number} operations");
            schedules += number;
        }
    }
    println!("{schedules} schedules of an older coordinator that wakes up: 0 commits or deletes by it");
}

/// A job with a checkpoint whose commit was cut between what is said of it and its metadata.
async fn cut() -> (Arc<InMemory>, CheckpointId) {
    let objects = Arc::new(InMemory::new());
    let store = FaultStore::new(objects.clone(), []);
    let live = Live::with_tokens(Arc::new(store.clone()), SUBTASKS, tight(2), tokens_of(1)).await;
    let mut states = vec![BTreeMap::new(); SUBTASKS as usize];
    let completed = live.round(&mut states).await.unwrap().checkpoint;
    live.coordinator.settle().await.unwrap();
    store.begin([]);
    live.round(&mut states).await.unwrap();
    live.coordinator.settle().await.unwrap();
    let metadata = store.operations().iter().position(|o| o.starts_with("put") && o.ends_with("_metadata")).unwrap();
    store.begin([(metadata, Fault::Crash)]);
    live.round(&mut states).await.unwrap_err();
    (objects, CheckpointId(completed.0 + 1))
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_is_cut_at_any_operation_is_made_by_the_next() {
    for fault in [Fault::Crash, Fault::Before, Fault::After] {
        let mut number = 0;
        loop {
            let (objects, latest) = cut().await;
            let store = FaultStore::new(objects.clone(), [(number, fault)]);
            let root = drystone::store::FlinkPath::parse("memory:/checkpoints").unwrap();
            let stores = drystone::store::Stores::new().with_store(&root, Arc::new(store.clone()));
            let healthy = Live::with_tokens(Arc::new(InMemory::new()), SUBTASKS, tight(2), tokens_of(9)).await;
            let directory = drystone::store::JobDirectory::of_job(&stores.locate(&root).unwrap(), live::JOB).unwrap();
            let operators = vec![healthy.spec.clone()];
            let taken =
                drystone::coordinator::Coordinator::recover(stores, directory, operators, tight(2), tokens_of(2)).await;
            let was_reached = store.operations().len() > number;
            let context = format!("{fault:?} at operation {number}");
            if let Ok(taken) = &taken {
                assert_eq!(taken.latest().unwrap().checkpoint, latest, "{context}");
            }
            let next = Live::with_tokens(objects, SUBTASKS, tight(2), tokens_of(3)).await;
            assert_eq!(next.coordinator.latest().unwrap().checkpoint, latest, "{context}");
            assert!(
                next.coordinator.next_checkpoint() > CheckpointId(latest.0 + 1),
                "{context}: that number is barred"
            );
            let mut states = named_by(&next, latest).await;
            next.round(&mut states).await.unwrap();
            next.round(&mut states).await.unwrap();
            next.coordinator.settle().await.unwrap();
            if let Ok(taken) = taken {
                let error = taken.dispose(JobEnd::Finished).await.unwrap_err();
                let is_cut = fault == Fault::Crash && error.kind() == ErrorKind::Store;
                assert!(error.kind() == ErrorKind::Fenced || is_cut, "{context}: {error}");
            }
            for checkpoint in next.coordinator.completed() {
                next.check(checkpoint).await;
            }
            if !was_reached {
                break;
            }
            number += 1;
        }
        assert!(number > 10, "{number} operations");
    }
}

/// Found by the simulation: that something is there is no conflict where nobody can tell what.
#[tokio::test(start_paused = true)]
async fn a_takeover_that_never_hears_whether_its_bar_is_there_may_be_made_again() {
    let recover = async |faults: Vec<(usize, Fault)>| {
        let store = FaultStore::new(cut().await.0, faults);
        let root = drystone::store::FlinkPath::parse("memory:/checkpoints").unwrap();
        let stores = drystone::store::Stores::new().with_store(&root, Arc::new(store.clone()));
        let directory = drystone::store::JobDirectory::of_job(&stores.locate(&root).unwrap(), live::JOB).unwrap();
        let operators = vec![OperatorSpec::new(live::OPERATOR, SUBTASKS, 128)];
        let taken = Coordinator::recover(stores, directory, operators, tight(2), tokens_of(2)).await;
        (taken.map(drop), store.operations())
    };
    let (_, operations) = recover(Vec::new()).await;
    let bar = operations.iter().position(|o| o.starts_with("put") && o.ends_with("_metadata")).unwrap();
    let looks = (0..5).map(|attempt| (bar + 1 + 2 * attempt, Fault::Before));
    let (taken, operations) = recover([(bar, Fault::After)].into_iter().chain(looks).collect()).await;
    assert_eq!(operations.len(), bar + 10, "{operations:?}");
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::Store);
}

/// Whoever claims last has the job.
#[tokio::test(start_paused = true)]
async fn of_many_that_claim_at_once_one_can_commit() {
    for stalled in 0..20 {
        let objects = Arc::new(InMemory::new());
        let claims = (1..=8).map(|process| {
            let store = FaultStore::new(objects.clone(), [(stalled % (process as usize + 3), Fault::StallBefore)]);
            async move {
                let waker = store.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(process)).await;
                    waker.release();
                });
                Live::with_tokens(Arc::new(store), 1, settings(), tokens_of(process)).await
            }
        });
        let all = join_all(claims).await;
        let epochs: BTreeSet<u64> = all.iter().map(|live| live.coordinator.epoch()).collect();
        assert_eq!(epochs.len(), 8, "no two have one epoch: {epochs:?}");
        let newest = epochs.last().copied().unwrap();
        for live in &all {
            let done = live.round(&mut [BTreeMap::new()]).await;
            match live.coordinator.epoch() == newest {
                true => drop(done.unwrap()),
                false => assert_eq!(done.unwrap_err().kind(), ErrorKind::Fenced),
            }
        }
    }
}

/// Between its look and its claim the other one goes on, and removes what it has said before: there is a gap to fall into.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_late_is_made_again() {
    for number in 0..30 {
        let objects = Arc::new(InMemory::new());
        let owner = Live::with_tokens(objects.clone(), 1, settings(), tokens_of(1)).await;
        owner.round(&mut [BTreeMap::new()]).await.unwrap();
        let store = FaultStore::new(objects.clone(), [(number, Fault::StallBefore)]);
        let late = tokio::spawn({
            let store = store.clone();
            async move { Live::with_tokens(Arc::new(store), 1, settings(), tokens_of(2)).await }
        });
        while !late.is_finished() && !store.stalls() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut owner_is_fenced = false;
        for _ in 0..4 {
            owner_is_fenced |= owner.round(&mut [BTreeMap::new()]).await.is_err();
            drop(owner.coordinator.settle().await);
        }
        store.begin([]);
        store.release();
        let late = late.await.unwrap();
        assert!(late.coordinator.epoch() > owner.coordinator.epoch());
        assert_eq!(late.coordinator.latest().is_some(), owner.coordinator.latest().is_some());
        late.round(&mut [BTreeMap::new()]).await.unwrap();
        let error = owner.round(&mut [BTreeMap::new()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "stalled at {number}, fenced before: {owner_is_fenced}: {error}");
        let newest = late.coordinator.latest().unwrap().checkpoint;
        late.check(newest).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_end_of_a_job_who_slept_through_it_starts_nothing() {
    let objects = Arc::new(InMemory::new());
    let older = Live::with_tokens(objects.clone(), 1, settings(), tokens_of(1)).await;
    older.round(&mut [BTreeMap::new()]).await.unwrap();
    let newer = Live::with_tokens(objects.clone(), 1, settings(), tokens_of(2)).await;
    newer.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(older.round(&mut [BTreeMap::new()]).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(newer.files().await.keys().all(|file| !file.ends_with("_metadata")));
    // A job of the same name starts from nothing.
    let again = Live::with_tokens(objects, 1, settings(), tokens_of(3)).await;
    assert_eq!((again.coordinator.epoch(), again.coordinator.latest()), (3, None));
    again.round(&mut [BTreeMap::new()]).await.unwrap();
}

/// Found by the simulation: a put that was repeated landed after its checkpoint had been deleted.
#[tokio::test(start_paused = true)]
async fn metadata_that_comes_back_after_the_end_of_a_job_is_no_checkpoint() {
    let objects = Arc::new(InMemory::new());
    drop(Live::with_tokens(objects.clone(), 1, tight(1), tokens_of(1)).await);
    let older = Live::with_tokens(objects.clone(), 1, tight(1), tokens_of(2)).await;
    let completed = older.round(&mut [BTreeMap::new()]).await.unwrap();
    let metadata = older.stores.locate(&completed.path.join("_metadata").unwrap()).unwrap();
    let bytes = metadata.read_all(1 << 20).await.unwrap();
    older.coordinator.dispose(JobEnd::Finished).await.unwrap();
    older.coordinator.dispose(JobEnd::Finished).await.unwrap();
    // The end of one that has never seen it.
    let between = Live::with_tokens(objects.clone(), 1, tight(1), tokens_of(5)).await;
    between.coordinator.dispose(JobEnd::Finished).await.unwrap();
    metadata.create(vec![bytes]).await.unwrap();
    for process in [3, 4] {
        let newer = Live::with_tokens(objects.clone(), 1, tight(1), tokens_of(process)).await;
        assert_eq!(newer.coordinator.latest(), None);
        assert!(newer.coordinator.next_checkpoint() > completed.checkpoint);
        newer.coordinator.settle().await.unwrap();
    }
    assert!(!metadata.exists().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn of_a_job_that_had_one_coordinator_only_the_news_of_its_end_stays() {
    let objects = Arc::new(InMemory::new());
    let only = Live::with_tokens(objects.clone(), 1, settings(), tokens()).await;
    for _ in 0..3 {
        only.round(&mut [BTreeMap::new()]).await.unwrap();
    }
    only.coordinator.dispose(JobEnd::Finished).await.unwrap();
    only.coordinator.dispose(JobEnd::Finished).await.unwrap();
    let files = only.directory.root().list().await.unwrap();
    let log = only.directory.fence().name();
    assert!(files.len() == 1 && files[0].path.is_within(log), "{files:?}");
}
