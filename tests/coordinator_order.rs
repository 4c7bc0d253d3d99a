//! Events at a coordinator in orders that are rare, and legal: repeated, late, while a commit is under way, or beside
//! another coordinator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/watched_store.rs"]
mod watched_store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use drystone::ErrorKind;
use drystone::config::Retention;
use drystone::coordinator::{Acknowledged, JobEnd};
use drystone::handle::{FileHandle, InlineHandle, JavaString, MasterState, OperatorSubtasks, StreamHandle};
use drystone::id::{CheckpointId, Scope};
use drystone::read::Checkpoint;
use live::{Chunks, Live, OPERATOR, settings, unfenced};
use object_store::memory::InMemory;
use watched_store::{Watch, WatchedStore};

fn memory() -> Arc<InMemory> {
    Arc::new(InMemory::new())
}

fn watched() -> (Arc<Watch>, Arc<WatchedStore>) {
    let watch = Arc::new(Watch::default());
    (watch.clone(), Arc::new(WatchedStore::new(watch)))
}

/// What was acknowledged first counts: a notice that the subtasks have finished comes too late to take their state away.
#[tokio::test]
async fn a_subtask_that_has_acknowledged_keeps_its_state_though_it_finishes() {
    let live = Live::new(memory(), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"state")]).await.unwrap();
    live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    assert_eq!(
        live.coordinator.finished(trigger.epoch, CheckpointId(1), live.subtask(0)).unwrap(),
        Acknowledged::Repeated
    );
    let completed = live.coordinator.complete(CheckpointId(1)).await.unwrap();
    let loaded = Checkpoint::load(&live.stores, &completed.path).await.unwrap();
    match &loaded.decoded.metadata.operators[0].subtasks {
        OperatorSubtasks::Reported(entries) => assert!(entries[0].state.is_some()),
        OperatorSubtasks::FullyFinished => panic!("the state is gone"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinators_state_that_comes_after_the_commit_began_is_refused() {
    let (watch, store) = watched();
    let live = Live::new(store, 1, settings()).await;
    let checkpoint = CheckpointId(1);
    live.coordinator.trigger(checkpoint).unwrap();
    live.acknowledge(checkpoint, 0, Chunks::default()).unwrap();
    watch.puts.gate.forget_permits(usize::MAX);
    let before = watch.puts.count.load(SeqCst);
    let coordinator = live.coordinator.clone();
    let commit = tokio::spawn(async move { coordinator.complete(checkpoint).await });
    while watch.puts.count.load(SeqCst) == before {
        tokio::task::yield_now().await;
    }
    let state = InlineHandle { name: JavaString::new("late").unwrap(), bytes: b"late".to_vec().into() };
    let error =
        live.coordinator.acknowledge_operator(live.coordinator.epoch(), checkpoint, OPERATOR, state).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    watch.puts.gate.add_permits(10);
    commit.await.unwrap().unwrap();
}

/// A restart uses the number of a checkpoint again that came to nothing: what is said late of the first one isn't taken for
/// word of the second, whose state would be dropped.
#[tokio::test]
async fn late_word_of_another_epochs_checkpoint_of_the_same_number_says_nothing() {
    let mut live = Live::new(memory(), 1, settings()).await;
    let id = CheckpointId(1);
    let first = live.coordinator.trigger(id).unwrap();
    live.restart().await.unwrap();
    let second = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    assert_eq!((second.checkpoint, second.epoch), (id, first.epoch + 1));
    let inline = || InlineHandle { name: JavaString::new("of the first").unwrap(), bytes: b"old".to_vec().into() };
    let master = || MasterState { version: 1, name: inline().name, bytes: inline().bytes };
    assert_eq!(live.coordinator.finished(first.epoch, id, live.subtask(0)).unwrap(), Acknowledged::Late);
    let late = [
        live.coordinator.acknowledge_operator(first.epoch, id, OPERATOR, inline()).unwrap_err(),
        live.coordinator.acknowledge_master(first.epoch, id, master()).unwrap_err(),
    ];
    let early = [
        live.coordinator.finished(second.epoch + 1, id, live.subtask(0)).map(drop).unwrap_err(),
        live.coordinator.acknowledge_operator(second.epoch + 1, id, OPERATOR, inline()).unwrap_err(),
        live.coordinator.acknowledge_master(second.epoch + 1, id, master()).unwrap_err(),
    ];
    assert!(late.iter().all(|error| error.kind() == ErrorKind::NotFound), "{late:?}");
    assert!(early.iter().all(|error| error.kind() == ErrorKind::Fenced), "{early:?}");
    let chunks = live.write(&second, 0, Scope::Shared, &[("a", b"state")]).await.unwrap();
    assert_eq!(live.acknowledge(id, 0, chunks).unwrap(), Acknowledged::Ready);
    let completed = live.coordinator.complete(id).await.unwrap();
    let metadata = &Checkpoint::load(&live.stores, &completed.path).await.unwrap().decoded.metadata.clone();
    assert!(metadata.master_states.is_empty() && metadata.operators[0].coordinator.is_none());
    match &metadata.operators[0].subtasks {
        OperatorSubtasks::Reported(entries) => assert!(entries[0].state.is_some()),
        OperatorSubtasks::FullyFinished => panic!("the state is gone"),
    }
}

/// The first has been acknowledged with a file that never gets sealed; the second names it again.
#[tokio::test(start_paused = true)]
async fn a_file_that_only_a_checkpoint_under_way_has_named_is_looked_for() {
    let live = Live::new(memory(), 1, settings()).await;
    let first = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let provisional = live.write(&first, 0, Scope::Shared, &[("a", b"never sealed")]).await.unwrap();
    for file in live.directory.root().list().await.unwrap() {
        live.stores.locate(&file.path).unwrap().delete().await.unwrap();
    }
    let provisional = Chunks { sealed: Vec::new(), ..provisional };
    live.acknowledge(CheckpointId(1), 0, provisional.clone()).unwrap();
    live.coordinator.trigger(CheckpointId(2)).unwrap();
    live.acknowledge(CheckpointId(2), 0, provisional).unwrap();
    let error = live.coordinator.complete(CheckpointId(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// Two coordinators that found the same traces have the same epoch where nothing keeps them apart. One commits, the other
/// tries to.
#[tokio::test(start_paused = true)]
async fn who_loses_a_commit_leaves_the_winners_files_alone() {
    let store = memory();
    let winner = Live::new(store.clone(), 1, unfenced()).await;
    let next = AtomicU64::new(1 << 32);
    let loser = Live::with_tokens(store, 1, unfenced(), Arc::new(move || next.fetch_add(1, SeqCst))).await;
    for live in [&winner, &loser] {
        let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
        let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"of both")]).await.unwrap();
        live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    }
    winner.coordinator.complete(CheckpointId(1)).await.unwrap();
    let error = loser.coordinator.complete(CheckpointId(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    loser.coordinator.settle().await.unwrap();
    winner.check(CheckpointId(1)).await;
}

/// Nobody knows whether the last commit has happened; the job is over, and nothing is to be kept.
#[tokio::test(start_paused = true)]
async fn a_job_that_ends_in_doubt_leaves_nothing_that_it_should_discard() {
    for retention in [Retention::NoExternalized, Retention::RetainOnCancellation] {
        let (watch, store) = watched();
        let mut settings = unfenced();
        settings.ledger.retention = retention;
        let live = Live::new(store, 1, settings).await;
        let mut states = vec![BTreeMap::new()];
        live.round(&mut states).await.unwrap();
        let trigger = live.coordinator.trigger(CheckpointId(2)).unwrap();
        let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"in doubt")]).await.unwrap();
        live.acknowledge(CheckpointId(2), 0, chunks).unwrap();
        *watch.puts.failure.lock().unwrap() = Some("no answer");
        live.coordinator.complete(CheckpointId(2)).await.unwrap_err();
        assert_eq!(live.coordinator.pending(), [CheckpointId(2)]);
        *watch.puts.failure.lock().unwrap() = None;
        live.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
        match retention {
            Retention::NoExternalized => assert_eq!(live.files().await, BTreeMap::new()),
            // What was acknowledged is the newest there is: it is put again.
            _ => {
                assert_eq!(live.coordinator.completed(), [CheckpointId(2)]);
                live.check(CheckpointId(2)).await;
            }
        }
    }
}

/// Whatever it names: nobody looks at it any more.
#[tokio::test]
async fn a_late_acknowledgement_is_late_whatever_it_names() {
    let live = Live::new(memory(), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"late")]).await.unwrap();
    assert!(live.coordinator.abort(CheckpointId(1)));
    let elsewhere = FileHandle { path: JavaString::new("memory:/elsewhere/x").unwrap(), size: 5 };
    let shared = BTreeMap::from([("b".to_owned(), StreamHandle::File(elsewhere))]);
    for late in [chunks, Chunks { shared, ..Chunks::default() }] {
        assert_eq!(live.acknowledge(CheckpointId(1), 0, late).unwrap(), Acknowledged::Late);
    }
}

#[tokio::test(start_paused = true)]
async fn word_from_the_tasks_of_another_coordinator_changes_nothing() {
    let mut live = Live::new(Arc::new(InMemory::new()), 1, settings()).await;
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.restart().await.unwrap();
    let trigger = live.coordinator.trigger(CheckpointId(2)).unwrap();
    let of = |epoch| {
        let state = Some(Box::new(live::state(CheckpointId(2), 0, live::Chunks::default())));
        let (checkpoint, subtask) = (trigger.checkpoint, live.subtask(0));
        drystone::protocol::Acknowledgement { epoch, checkpoint, subtask, state, sealed: Vec::new() }
    };
    assert!(!live.coordinator.decline(trigger.epoch - 1, trigger.checkpoint, live.subtask(0), "no room"));
    assert_eq!(live.coordinator.acknowledge(of(trigger.epoch - 1)).unwrap(), Acknowledged::Late);
    let error = live.coordinator.acknowledge(of(trigger.epoch + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(live.coordinator.acknowledge(of(trigger.epoch)).unwrap(), Acknowledged::Ready);
    live.coordinator.complete(trigger.checkpoint).await.unwrap();
}
