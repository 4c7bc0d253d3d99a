//! A metadata put of which nobody knows whether it happened: nothing is deleted until that is decided.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/rule_store.rs"]
mod rule_store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drystone::ErrorKind;
use drystone::coordinator::JobEnd;
use drystone::id::CheckpointId;
use live::{Live, settings, unfenced};
use rule_store::{Act, RuleStore};

const OFTEN: usize = usize::MAX;

/// A first checkpoint, and a second whose commit ends in doubt.
async fn doubt(act: Act) -> (Live, RuleStore) {
    let store = RuleStore::default();
    let live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    store.rule("put", "chk-2/_metadata", act, OFTEN);
    store.rule("get", "chk-2/_metadata", Act::Fail, OFTEN);
    let error = live.round(&mut [BTreeMap::new()]).await.unwrap_err();
    assert!(error.to_string().contains("checkpoint 2 may have completed or not"), "{error}");
    (live, store)
}

async fn named(live: &Live, part: &str) -> usize {
    live.files().await.keys().filter(|file| file.contains(part)).count()
}

#[tokio::test(start_paused = true)]
async fn meanwhile_it_can_neither_be_aborted_nor_completed_and_keeps_what_it_names() {
    for act in [Act::Fail, Act::LoseAnswer] {
        let (live, _) = doubt(act).await;
        assert_eq!(live.coordinator.latest().unwrap().checkpoint, CheckpointId(1));
        assert!(!live.coordinator.abort(CheckpointId(2)));
        assert_eq!(live.coordinator.complete(CheckpointId(2)).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert!(live.coordinator.settle().await.is_err(), "it can't be looked up yet");
        assert_eq!((named(&live, "-c1-").await, named(&live, "-c2-").await), (1, 1));
        live.check(CheckpointId(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_had_happened_counts_once_that_is_known() {
    let (live, store) = doubt(Act::LoseAnswer).await;
    store.obey();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(2)]);
    live.check(CheckpointId(2)).await;
    assert_eq!(named(&live, "-c1-").await, 0, "2 has replaced it");
}

#[tokio::test(start_paused = true)]
async fn one_that_had_not_happened_is_given_up_with_the_next_commit() {
    let (live, store) = doubt(Act::Fail).await;
    store.obey();
    assert_eq!(live.coordinator.pending(), [CheckpointId(2)], "its put may land yet");
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(3)]);
    assert_eq!(live.coordinator.pending(), []);
    assert_eq!((named(&live, "-c1-").await, named(&live, "-c2-").await, named(&live, "-c3-").await), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_had_not_happened_is_put_again_when_asked() {
    let (live, store) = doubt(Act::Fail).await;
    store.obey();
    live.coordinator.settle().await.unwrap();
    assert_eq!((live.coordinator.completed(), live.coordinator.pending()), (vec![CheckpointId(2)], vec![]));
    live.check(CheckpointId(2)).await;
}

#[tokio::test(start_paused = true)]
async fn there_are_never_many() {
    let store = RuleStore::default();
    let live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    store.rule("put", "_metadata", Act::Fail, OFTEN);
    store.rule("get", "_metadata", Act::Fail, OFTEN);
    for _ in 0..16 {
        live.round(&mut [BTreeMap::new()]).await.unwrap_err();
    }
    let error = live.coordinator.trigger(live.coordinator.next_checkpoint()).map(drop).unwrap_err();
    assert!(error.to_string().contains("settle"), "{error}");
    store.obey();
    live.coordinator.settle().await.unwrap();
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(17)]);
    assert_eq!(live.files().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_had_happened_is_replaced_by_the_next_commit() {
    let (live, store) = doubt(Act::LoseAnswer).await;
    store.obey();
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(3)]);
    assert_eq!(live.files().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_job_decides_it() {
    for act in [Act::Fail, Act::LoseAnswer] {
        let (live, store) = doubt(act).await;
        let error = live.coordinator.dispose(JobEnd::Finished).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "it isn't known whether there is metadata to be deleted");
        store.obey();
        live.coordinator.dispose(JobEnd::Finished).await.unwrap();
        assert_eq!(live.files().await, BTreeMap::new(), "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_tried_again_after_its_answer_was_lost_is_recognised() {
    let store = RuleStore::default();
    let live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    store.rule("put", "chk-1/_metadata", Act::LoseAnswer, 1);
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    store.rule("put", "chk-2/_metadata", Act::Fail, 2);
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.check(CheckpointId(2)).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_coordinator_has_committed_stays() {
    let store = RuleStore::default();
    let first = Live::new(Arc::new(store.clone()), 1, unfenced()).await;
    let tokens = live::tokens();
    let others: drystone::write::Tokens = Arc::new(move || tokens() + (1 << 32));
    let second = Live::with_tokens(Arc::new(store.clone()), 1, unfenced(), others).await;
    first.round(&mut [BTreeMap::new()]).await.unwrap();
    let error = second.round(&mut [BTreeMap::new()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    second.coordinator.settle().await.unwrap();
    first.check(CheckpointId(1)).await;
}

/// Nor does it go at the loser's end, which clears away what nobody names that it knows of.
#[tokio::test(start_paused = true)]
async fn what_another_coordinator_has_committed_outlives_this_ones_end() {
    let store = RuleStore::default();
    let first = Live::new(Arc::new(store.clone()), 1, unfenced()).await;
    let tokens = live::tokens();
    let others: drystone::write::Tokens = Arc::new(move || tokens() + (1 << 32));
    let second = Live::with_tokens(Arc::new(store.clone()), 1, unfenced(), others).await;
    first.round(&mut [BTreeMap::new()]).await.unwrap();
    second.round(&mut [BTreeMap::new()]).await.unwrap_err();
    second.coordinator.dispose(JobEnd::Finished).await.unwrap();
    first.check(CheckpointId(1)).await;
}

/// Of two in doubt, one that was given up while somebody was about to put it again.
#[tokio::test(start_paused = true)]
async fn what_one_gives_up_another_does_not_put_again() {
    let (live, store) = doubt_of_two().await;
    store.rule("put", "chk-2/_metadata", Act::Hang, 1);
    let coordinator = live.coordinator.clone();
    store.forget_requests();
    let settle = tokio::spawn(async move { coordinator.settle().await });
    while store.count("put", "chk-2/_metadata") == 0 {
        tokio::task::yield_now().await;
    }
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    store.obey();
    settle.await.unwrap().unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(4)]);
    let files = live.files().await;
    assert_eq!(files.len(), 2, "no metadata without its files: {files:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_in_doubt_keeps_no_other_so() {
    let (live, store) = doubt_of_two().await;
    store.rule("put", "chk-2/_metadata", Act::Fail, OFTEN);
    store.rule("get", "chk-2/_metadata", Act::Fail, OFTEN);
    let error = live.coordinator.settle().await.unwrap_err();
    assert!(error.to_string().contains("checkpoint 2"), "{error}");
    assert_eq!(live.coordinator.latest().unwrap().checkpoint, CheckpointId(3));
    store.obey();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(3)]);
    assert_eq!(live.files().await.len(), 2);
    let barred = live.directory.checkpoint(CheckpointId(2)).unwrap().join("_metadata").unwrap();
    assert_eq!(drystone::format::barred_by(&barred.read_all(1 << 10).await.unwrap()), Some(1));
}

/// A first checkpoint, and two more in doubt that aren't there.
async fn doubt_of_two() -> (Live, RuleStore) {
    let (live, store) = doubt(Act::Fail).await;
    store.rule("put", "chk-3/_metadata", Act::Fail, OFTEN);
    store.rule("get", "chk-3/_metadata", Act::Fail, OFTEN);
    live.round(&mut [BTreeMap::new()]).await.unwrap_err();
    store.obey();
    assert_eq!(live.coordinator.pending(), [CheckpointId(2), CheckpointId(3)]);
    (live, store)
}

/// Its files are named by the next one, too, and go with that: not as long as there is metadata that names them.
#[tokio::test(start_paused = true)]
async fn what_metadata_names_that_can_not_be_deleted_stays() {
    let store = RuleStore::default();
    let mut live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    let mut state = [BTreeMap::new()];
    store.rule("delete", "chk-1/_metadata", Act::Fail, OFTEN);
    live.round(&mut state).await.unwrap();
    live.round(&mut state).await.unwrap();
    for _ in 0..2 {
        live.round(&mut [BTreeMap::new()]).await.unwrap();
        live.coordinator.settle().await.unwrap_err();
        live.check(CheckpointId(1)).await;
    }
    assert_eq!(named(&live, "-c2-").await + named(&live, "-c3-").await, 0, "what it can't name goes");
    live.restart().await.unwrap();
    store.obey();
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.files().await.len(), 2);
}

/// The end of the runtime that a commit runs on cuts it anywhere; on another one it is decided, and what it kept is deleted.
#[test]
fn a_commit_that_is_cut_is_decided_later() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for (operation, part, is_committed) in
        [("put", "_metadata", true), ("put", "_drystone", false), ("get", "chk-2", true)]
    {
        let (first, second) = (runtime(), runtime());
        let store = RuleStore::default();
        let live = first.block_on(async {
            let live = Live::new(Arc::new(store.clone()), 1, settings()).await;
            live.round(&mut [BTreeMap::new()]).await.unwrap();
            store.rule(operation, part, Act::Hang, OFTEN);
            if operation == "get" {
                store.rule("put", "chk-2/_metadata", Act::LoseAnswer, 1);
            }
            tokio::time::timeout(Duration::from_secs(9), live.round(&mut [BTreeMap::new()])).await.unwrap_err();
            live
        });
        drop(first);
        store.obey();
        second.block_on(async {
            assert_eq!(live.coordinator.pending().is_empty(), !is_committed, "{operation} {part}");
            live.coordinator.settle().await.unwrap();
            let latest = CheckpointId(if is_committed { 2 } else { 1 });
            assert_eq!(
                (live.coordinator.completed(), live.coordinator.pending()),
                (vec![latest], vec![]),
                "{operation} {part}"
            );
            live.check(latest).await;
            live.round(&mut [BTreeMap::new()]).await.unwrap();
            live.coordinator.settle().await.unwrap();
            assert_eq!(live.coordinator.completed(), [CheckpointId(3)]);
            assert_eq!((named(&live, "-c1-").await, named(&live, "-c2-").await, named(&live, "-c3-").await), (0, 0, 1));
        });
    }
}
