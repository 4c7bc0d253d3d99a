//! A fence proves a store's honesty before it relies on it, and says so where there can't be one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/lying_store.rs"]
mod lying_store;

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::Fencing;
use drystone::coordinator::{Coordinator, CoordinatorSettings, FencingSettings};
use drystone::store::{CreateOnly, FlinkPath, JobDirectory, Stores};
use live::{JOB, Live, OPERATOR, settings, tokens};
use lying_store::{Condition, LyingStore};
use object_store::memory::InMemory;

const ROUNDS: u32 = 4;

fn stores(inner: &Arc<InMemory>, condition: Condition) -> Stores {
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    Stores::new().with_store(&root, Arc::new(LyingStore { inner: inner.clone(), condition }))
}

fn directory(stores: &Stores) -> JobDirectory {
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    JobDirectory::of_job(&stores.locate(&root).unwrap(), JOB).unwrap()
}

fn with(mode: Fencing) -> CoordinatorSettings {
    CoordinatorSettings { fencing: FencingSettings { mode, proof_rounds: ROUNDS }, ..settings() }
}

async fn coordinator(inner: &Arc<InMemory>, condition: Condition, mode: Fencing) -> drystone::Result<Coordinator> {
    let stores = stores(inner, condition);
    let directory = directory(&stores);
    let operators = vec![drystone::protocol::OperatorSpec::new(OPERATOR, 1, 128)];
    Coordinator::recover(stores, directory, operators, with(mode), tokens()).await
}

#[tokio::test(start_paused = true)]
async fn what_a_store_makes_of_a_condition_is_found_out() {
    let rows = [
        (Condition::Honoured, CreateOnly::Honoured),
        (Condition::Ignored, CreateOnly::Ignored),
        (Condition::LookThenWrite, CreateOnly::Racy),
        (Condition::Unknown, CreateOnly::Missing),
    ];
    for (condition, expected) in rows {
        let stores = stores(&Arc::default(), condition);
        let directory = directory(&stores);
        let tokens = tokens();
        assert_eq!(directory.fence().try_create_only(ROUNDS, &*tokens).await.unwrap(), expected);
        assert_eq!(directory.root().list().await.unwrap(), [], "{condition:?}: no probe stays");
    }
}

#[tokio::test(start_paused = true)]
async fn a_race_is_only_found_by_racing() {
    let stores = stores(&Arc::default(), Condition::LookThenWrite);
    let tokens = tokens();
    let found = directory(&stores).fence().try_create_only(0, &*tokens).await.unwrap();
    assert_eq!(found, CreateOnly::Honoured);
}

#[tokio::test]
async fn a_local_disk_is_honest() {
    let disk = tempfile::tempdir().unwrap();
    let stores = Stores::new();
    let at = stores.locate(&FlinkPath::parse(disk.path().to_str().unwrap()).unwrap()).unwrap();
    let tokens = tokens();
    assert_eq!(at.try_create_only(ROUNDS, &*tokens).await.unwrap(), CreateOnly::Honoured);
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_an_honest_store_there_is_no_fence_and_the_user_is_told() {
    for condition in [Condition::Ignored, Condition::LookThenWrite, Condition::Unknown] {
        let inner = Arc::default();
        let error = coordinator(&inner, condition, Fencing::Required).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{condition:?}: {error}");
        assert!(error.to_string().contains("can't keep coordinators apart"), "{error}");
        assert!(!coordinator(&inner, condition, Fencing::Auto).await.unwrap().is_fenced_off());
    }
    assert!(coordinator(&Arc::default(), Condition::Honoured, Fencing::Required).await.unwrap().is_fenced_off());
}

/// Who does without would be taken for dead, and what it has completed for what was given up.
#[tokio::test(start_paused = true)]
async fn where_there_is_a_fence_nobody_does_without() {
    let inner: Arc<InMemory> = Arc::default();
    let live = Live::new(inner.clone(), 1, settings()).await;
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    let error = coordinator(&inner, Condition::Honoured, Fencing::Off).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("/_drystone"), "{error}");
    let error = coordinator(&inner, Condition::Ignored, Fencing::Auto).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    live.check(live.coordinator.latest().unwrap().checkpoint).await;
}

#[tokio::test(start_paused = true)]
async fn a_fence_begins_with_what_an_unfenced_job_has() {
    let inner: Arc<InMemory> = Arc::default();
    let live = Live::new(inner.clone(), 1, live::unfenced()).await;
    let mut states = [BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    live.round(&mut states).await.unwrap();
    live.coordinator.settle().await.unwrap();
    let fenced = coordinator(&inner, Condition::Honoured, Fencing::Auto).await.unwrap();
    assert_eq!((fenced.latest(), fenced.epoch()), (live.coordinator.latest(), 2));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_stops_everything() {
    let inner: Arc<InMemory> = Arc::default();
    let live = Live::new(inner.clone(), 1, settings()).await;
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    let entry = live.directory.fence().join(&drystone::store::names::log_entry(9)).unwrap();
    entry.create(vec![b"what nobody has written".as_slice().into()]).await.unwrap();
    let error = coordinator(&inner, Condition::Honoured, Fencing::Auto).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("log-00000000000000000009"), "{error}");
    live.check(live.coordinator.latest().unwrap().checkpoint).await;
}
