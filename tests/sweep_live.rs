//! A sweep beside a job at work: it takes what killed workers and lost aborts have left, and nothing that the job needs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone::coordinator::CoordinatorSettings;
use drystone::id::Scope;
use drystone::ledger::LedgerSettings;
use drystone::sweep::{Sweep, SweepSettings};
use live::{Live, settings};
use object_store::memory::InMemory;

const GRACE: Duration = Duration::from_secs(3_600);

fn retaining(retained: usize) -> CoordinatorSettings {
    let settings = settings();
    CoordinatorSettings { ledger: LedgerSettings { retained, ..settings.ledger }, ..settings }
}

/// As if so much later than the youngest file was written.
async fn sweep(live: &Live, later: Duration) -> Vec<String> {
    let files = live.directory.root().list().await.unwrap();
    let youngest: SystemTime = files.iter().map(|file| file.modified).max().unwrap();
    let settings = SweepSettings { grace: GRACE, ..SweepSettings::default() };
    let sweep = Sweep::look(&live.stores, live.directory.root().name(), &settings, youngest + later).await.unwrap();
    let dead = sweep.found().dead.iter().map(|file| file.below.clone()).collect();
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.is_complete() && deleted.spared.is_empty(), "{deleted:?}");
    dead
}

#[tokio::test]
async fn what_a_dead_worker_left_goes_and_every_checkpoint_stays_whole() {
    let mut live = Live::new(Arc::new(InMemory::new()), 2, retaining(2)).await;
    let mut states = vec![BTreeMap::new(); 2];
    for _ in 0..3 {
        live.round(&mut states).await.unwrap();
    }
    // One subtask writes what nobody ever hears of, then all die.
    let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    live.write(&trigger, 0, Scope::Shared, &[("lost", b"shared and lost")]).await.unwrap();
    live.write(&trigger, 0, Scope::Exclusive, &[("lost", b"exclusive and lost")]).await.unwrap();
    live.restart().await.unwrap();
    let before = live.files().await;
    assert_eq!(sweep(&live, GRACE / 2).await, Vec::<String>::new());
    let dead = sweep(&live, GRACE * 2).await;
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0].starts_with("chk-4/ds1-") && dead[1].starts_with("shared/ds1-"), "{dead:?}");
    let mut left = before;
    left.retain(|below, _| !dead.contains(below));
    assert_eq!(live.files().await, left);
    for checkpoint in live.coordinator.completed() {
        live.check(checkpoint).await;
    }
    // The job goes on with what it has, also after it is made anew from the store.
    live.restart().await.unwrap();
    let completed = live.round(&mut states).await.unwrap();
    live.check(completed.checkpoint).await;
    assert_eq!(sweep(&live, GRACE * 2).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_segment_that_is_reused_is_kept_however_old_it_is() {
    let live = Live::new(Arc::new(InMemory::new()), 1, retaining(1)).await;
    let mut states = vec![BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    let first = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    // The second one's subtask decides to name again what is there; then the first completes, which names none of it.
    let second = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    let chunks = live.write(&first, 0, Scope::Shared, &[("new", b"all that there is")]).await.unwrap();
    live.acknowledge(first.checkpoint, 0, chunks).unwrap();
    live.coordinator.complete(first.checkpoint).await.unwrap();
    live.coordinator.settle().await.unwrap();
    // A year of grace has gone by. What was replaced is kept for the second, and so is its metadata, which the sweep reads.
    assert_eq!(sweep(&live, Duration::from_secs(86_400 * 365)).await, Vec::<String>::new());
    let chunks = live::Chunks { shared: states[0].clone(), ..live::Chunks::default() };
    live.acknowledge(second.checkpoint, 0, chunks).unwrap();
    let completed = live.coordinator.complete(second.checkpoint).await.unwrap();
    live.check(completed.checkpoint).await;
}

/// By the coordinator itself, whatever epoch or program has left it.
#[tokio::test]
async fn the_coordinator_sweeps_by_the_same_rule() {
    let mut live = Live::new(Arc::new(InMemory::new()), 1, retaining(1)).await;
    let mut states = vec![BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    let of_flink = live.directory.shared().join("5c027815-91c5-482a-a453-7f77fecacf2f").unwrap();
    of_flink.create(vec![b"nobody names it".as_slice().into()]).await.unwrap();
    let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    live.write(&trigger, 0, Scope::Shared, &[("lost", b"of this epoch")]).await.unwrap();
    let files = live.directory.root().list().await.unwrap();
    let now = files.iter().map(|file| file.modified).max().unwrap();
    let settings = SweepSettings { grace: GRACE, ..SweepSettings::default() };
    assert!(live.coordinator.sweep(&settings, now).await.unwrap().files.is_empty());
    let swept = live.coordinator.sweep(&settings, now + GRACE * 2).await.unwrap();
    assert_eq!(swept.files.len(), 2, "{swept:?}");
    live.restart().await.unwrap();
    live.round(&mut states).await.unwrap();
    for checkpoint in live.coordinator.completed() {
        live.check(checkpoint).await;
    }
}

/// Its metadata may come yet, and name what nothing names now.
#[tokio::test]
async fn nobody_sweeps_who_has_a_successor() {
    let store = Arc::new(InMemory::new());
    let older = Live::new(store.clone(), 1, retaining(1)).await;
    let tokens: drystone::write::Tokens = {
        let tokens = live::tokens();
        Arc::new(move || tokens() + (1 << 32))
    };
    let newer = Live::with_tokens(store, 1, retaining(1), tokens).await;
    newer.round(&mut [BTreeMap::new()]).await.unwrap();
    older.round(&mut [BTreeMap::new()]).await.unwrap_err();
    let error = older.coordinator.sweep(&SweepSettings::default(), SystemTime::UNIX_EPOCH).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), drystone::ErrorKind::Fenced, "{error}");
}
