//! A job's checkpoints, acknowledged, completed, aborted and settled by several tasks at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::coordinator::{Acknowledged, Completed, CoordinatorSettings, JobEnd};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::Trigger;
use drystone::worker::WorkerSettings;
use drystone::{ErrorKind, Result};
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::NEVER;

use crate::explore::explore;
use crate::live::{Chunks, Live, contents, settings};
use crate::rule_store::{Act, RuleStore};
use crate::site::subtask;

const OFTEN: usize = usize::MAX;

async fn live(parallelism: u32) -> (Arc<Live>, RuleStore) {
    let (store, settings) = (RuleStore::default(), CoordinatorSettings { file_timeout: NEVER, ..settings() });
    (Arc::new(Live::new(Arc::new(store.clone()), parallelism, settings).await), store)
}

/// A subtask writes a chunk of either scope.
async fn written(live: &Live, trigger: &Trigger, index: u32) -> Chunks {
    let bytes = contents(trigger.checkpoint, index);
    let mut chunks = live.write(trigger, index, Scope::Shared, &[("s", &bytes)]).await.unwrap();
    let private = live.write(trigger, index, Scope::Exclusive, &[("p", &bytes)]).await.unwrap();
    chunks.private = private.private;
    chunks.sealed.extend(private.sealed);
    chunks
}

/// A subtask acknowledges, twice as it may; the last one has the checkpoint completed.
fn take_part(
    live: &Arc<Live>,
    checkpoint: CheckpointId,
    index: u32,
    chunks: Chunks,
) -> JoinHandle<Option<Result<Completed>>> {
    let live = live.clone();
    tokio::spawn(async move {
        let first = live.acknowledge(checkpoint, index, chunks.clone()).unwrap();
        let again = live.acknowledge(checkpoint, index, chunks).unwrap();
        assert!(matches!(again, Acknowledged::Repeated | Acknowledged::Late), "{again:?}");
        match first {
            Acknowledged::Ready => Some(live.coordinator.complete(checkpoint).await),
            Acknowledged::Waiting(_) | Acknowledged::Late => None,
            Acknowledged::Repeated => panic!("nobody has acknowledged for subtask {index}"),
        }
    })
}

/// The checkpoint's own names, then what is left: the figures are right (I5), each retained checkpoint is whole (I3), and
/// nothing lies there that none of them names (I9).
pub async fn check(live: &Live) {
    live.coordinator.settle().await.unwrap();
    for checkpoint in live.coordinator.completed() {
        live.check(checkpoint).await;
    }
    let recount = live.recount().await;
    assert_eq!(live.coordinator.space(), recount);
    let files = live.files().await;
    let data = files.keys().filter(|file| !file.ends_with("_metadata")).count();
    assert_eq!(data as u64, recount.files, "{files:?}");
    assert_eq!(files.len() - data, live.coordinator.completed().len(), "{files:?}");
}

#[test]
fn of_an_abort_and_two_completions_one_counts() {
    explore("commits, abort or complete", || async {
        let (live, _) = live(3).await;
        let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
        let mut parts = Vec::new();
        for index in 0..3 {
            let chunks = written(&live, &trigger, index).await;
            parts.push(take_part(&live, trigger.checkpoint, index, chunks));
        }
        let (aborting, completing) = (live.clone(), live.clone());
        let abort = tokio::spawn(async move { aborting.coordinator.abort(CheckpointId(1)) });
        let other = tokio::spawn(async move { completing.coordinator.complete(CheckpointId(1)).await });
        let mut completions: Vec<_> =
            join_all(parts).await.into_iter().filter_map(std::result::Result::unwrap).collect();
        completions.push(other.await.unwrap());
        let has_aborted = abort.await.unwrap();
        let completed = completions.iter().filter(|done| done.is_ok()).count();
        assert_eq!(completed + usize::from(has_aborted), 1, "{completions:?}");
        for error in completions.into_iter().filter_map(Result::err) {
            assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound), "{error}");
        }
        assert_eq!(live.coordinator.completed().len(), completed);
        check(&live).await;
    });
}

#[test]
fn newer_and_older_checkpoints_complete_in_any_order() {
    explore("commits, two checkpoints", || async {
        let (live, _) = live(2).await;
        let mut kept = vec![BTreeMap::new(); 2];
        live.round(&mut kept).await.unwrap();
        let mut parts = Vec::new();
        for checkpoint in [2, 3] {
            let trigger = live.coordinator.trigger(CheckpointId(checkpoint)).unwrap();
            for (index, kept) in kept.iter().enumerate() {
                let mut chunks = written(&live, &trigger, index as u32).await;
                // What the first one wrote stays as long as either names it (I4).
                chunks.shared.extend(kept.clone());
                parts.push(take_part(&live, trigger.checkpoint, index as u32, chunks));
            }
        }
        for done in join_all(parts).await.into_iter().filter_map(std::result::Result::unwrap) {
            // The older one may have been aborted by the newer one.
            if let Err(error) = done {
                assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound), "{error}");
            }
        }
        assert_eq!((live.coordinator.completed(), live.coordinator.pending()), (vec![CheckpointId(3)], vec![]));
        // The next commit deletes what may still have been on its way for an aborted one.
        live.round(&mut kept).await.unwrap();
        check(&live).await;
    });
}

#[test]
fn a_commit_in_doubt_is_decided_once_however_many_decide_it() {
    explore("commits, in doubt", || async {
        for act in [Act::Fail, Act::LoseAnswer] {
            let (live, store) = live(1).await;
            live.round(&mut [BTreeMap::new()]).await.unwrap();
            store.rule("put", "chk-2/_metadata", act, OFTEN);
            store.rule("get", "chk-2/_metadata", Act::Fail, OFTEN);
            let error = live.round(&mut [BTreeMap::new()]).await.unwrap_err();
            assert!(error.to_string().contains("may have completed or not"), "{error}");
            let settling = [live.clone(), live.clone()].map(|live| {
                // It may be in doubt still.
                tokio::spawn(async move { drop(live.coordinator.settle().await) })
            });
            let next = live.clone();
            let next = tokio::spawn(async move { next.round(&mut [BTreeMap::new()]).await });
            store.obey();
            join_all(settling).await.into_iter().for_each(|done| done.unwrap());
            next.await.unwrap().unwrap();
            live.coordinator.settle().await.unwrap();
            assert_eq!((live.coordinator.completed(), live.coordinator.pending()), (vec![CheckpointId(3)], vec![]));
            live.round(&mut [BTreeMap::new()]).await.unwrap();
            check(&live).await;
        }
    });
}

#[test]
fn a_job_that_ends_while_a_checkpoint_completes_leaves_nothing() {
    explore("commits, end", || async {
        let (live, store) = live(2).await;
        live.round(&mut vec![BTreeMap::new(); 2]).await.unwrap();
        let trigger = live.coordinator.trigger(CheckpointId(2)).unwrap();
        let mut parts = Vec::new();
        for index in 0..2 {
            let chunks = written(&live, &trigger, index).await;
            parts.push(take_part(&live, trigger.checkpoint, index, chunks));
        }
        store.rule("put", "chk-2/_metadata", Act::LoseAnswer, 1);
        let ending = live.clone();
        let end = tokio::spawn(async move { ending.coordinator.dispose(JobEnd::Cancelled).await });
        join_all(parts).await.into_iter().for_each(|done| drop(done.unwrap()));
        end.await.unwrap().unwrap();
        live.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
        assert_eq!((live.coordinator.completed(), live.coordinator.pending()), (vec![], vec![]));
        assert_eq!(live.files().await, BTreeMap::new());
    });
}

#[test]
fn provisional_handles_are_made_sure_of_while_their_files_are_sealed() {
    explore("commits, provisional", || async {
        let (live, _) = live(2).await;
        let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
        let write = drystone::write::WriteSettings { inline_bytes_max: 0, ..WorkerSettings::default().write };
        let settings = WorkerSettings { write, ..WorkerSettings::default() };
        let worker = drystone::worker::Worker::new(live.directory.clone(), "w", settings, live.tokens.clone());
        (0..2).for_each(|index| worker.register(subtask(index)));
        let parts = [0, 1].map(|index| {
            let (live, worker, trigger) = (live.clone(), worker.clone(), trigger.clone());
            tokio::spawn(async move {
                let snapshot = worker.begin(subtask(index), &trigger).unwrap();
                let mut chunks = Chunks::default();
                for scope in [Scope::Shared, Scope::Exclusive] {
                    let mut segment = snapshot.segment(scope, None);
                    segment.write_slice(&contents(trigger.checkpoint, index)).await.unwrap();
                    let handle: StreamHandle = snapshot.provisional(&segment.finish().await.unwrap()).unwrap().unwrap();
                    match scope {
                        Scope::Shared => chunks.shared.insert("s".into(), handle),
                        Scope::Exclusive => chunks.private.insert("p".into(), handle),
                    };
                }
                let sealing = tokio::spawn(async move { snapshot.seal().await });
                let outcome = live.acknowledge(trigger.checkpoint, index, chunks).unwrap();
                if outcome == Acknowledged::Ready {
                    live.coordinator.complete(trigger.checkpoint).await.unwrap();
                    // All is there at this moment (I2).
                    live.check(trigger.checkpoint).await;
                }
                sealing.await.unwrap().unwrap();
            })
        });
        join_all(parts).await.into_iter().for_each(|done| done.unwrap());
        worker.complete(trigger.epoch, trigger.checkpoint);
        worker.close().await.unwrap();
        check(&live).await;
    });
}
