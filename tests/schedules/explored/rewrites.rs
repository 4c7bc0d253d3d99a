//! Space that is won back in the background while checkpoints are triggered, completed and aborted.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::coordinator::{JobEnd, Rewritten};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use futures::future::join_all;

use crate::commits::check;
use crate::explore::explore;
use crate::live::{Chunks, Live, settings};
use crate::rule_store::RuleStore;

type Handles = BTreeMap<String, StreamHandle>;

/// Two checkpoints: of the first one's file the second names a small part only.
async fn wasteful() -> (Arc<Live>, Handles) {
    let mut settings = settings();
    settings.ledger.space.amplification_max = Some(1.5);
    settings.write.inline_bytes_max = 0;
    let live = Arc::new(Live::new(Arc::new(RuleStore::default()), 1, settings).await);
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = [("dead", &[1; 9_000][..]), ("a", &[2; 500]), ("b", &[3; 400])];
    let written = live.write(&trigger, 0, Scope::Shared, &chunks).await.unwrap();
    let mut kept = written.shared.clone();
    live.acknowledge(CheckpointId(1), 0, written).unwrap();
    live.coordinator.complete(CheckpointId(1)).await.unwrap();
    kept.remove("dead");
    commit(&live, &kept).await;
    live.coordinator.settle().await.unwrap();
    (live, kept)
}

async fn commit(live: &Live, shared: &Handles) {
    let checkpoint = live.coordinator.next_checkpoint();
    live.coordinator.trigger(checkpoint).unwrap();
    live.acknowledge(checkpoint, 0, Chunks { shared: shared.clone(), ..Chunks::default() }).unwrap();
    live.coordinator.complete(checkpoint).await.unwrap();
}

#[test]
fn what_is_copied_while_checkpoints_complete_is_named_by_one_of_its_places() {
    explore("rewrites, commits", || async {
        let (live, kept) = wasteful().await;
        let (rewriting, committing) = (live.clone(), live.clone());
        let rewrite = tokio::spawn(async move { rewriting.coordinator.rewrite(u64::MAX).await });
        let old = kept.clone();
        let commits = tokio::spawn(async move {
            commit(&committing, &old).await;
            // One that is given up has named them, too.
            let given_up = committing.coordinator.trigger(CheckpointId(4)).unwrap().checkpoint;
            committing.acknowledge(given_up, 0, Chunks { shared: old, ..Chunks::default() }).unwrap();
            assert!(committing.coordinator.abort(given_up));
        });
        commits.await.unwrap();
        if let Err(error) = rewrite.await.unwrap() {
            // A newer checkpoint has replaced the one that it was about to read.
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        for _ in 0..2 {
            commit(&live, &kept).await;
        }
        check(&live).await;
    });
}

#[test]
fn two_at_a_time_leave_one_copy() {
    explore("rewrites, two", || async {
        let (live, kept) = wasteful().await;
        let rewrites = [live.clone(), live.clone()]
            .map(|live| tokio::spawn(async move { live.coordinator.rewrite(u64::MAX).await.unwrap() }));
        let _: Vec<Rewritten> = join_all(rewrites).await.into_iter().map(Result::unwrap).collect();
        for _ in 0..2 {
            commit(&live, &kept).await;
        }
        check(&live).await;
    });
}

#[test]
fn leftovers_are_removed_beside_a_rewrite_and_a_commit_and_nothing_else() {
    explore("rewrites, leftovers", || async {
        let (live, kept) = wasteful().await;
        let (rewriting, removing) = (live.clone(), live.clone());
        let rewrite = tokio::spawn(async move { rewriting.coordinator.rewrite(u64::MAX).await });
        let remove = tokio::spawn(async move { removing.coordinator.remove_leftovers().await });
        commit(&live, &kept).await;
        if let Err(error) = rewrite.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        remove.await.unwrap().unwrap();
        for _ in 0..2 {
            commit(&live, &kept).await;
        }
        check(&live).await;
    });
}

#[test]
fn a_job_that_ends_meanwhile_leaves_nothing() {
    explore("rewrites, end", || async {
        let (live, _) = wasteful().await;
        let (rewriting, ending) = (live.clone(), live.clone());
        let rewrite = tokio::spawn(async move { rewriting.coordinator.rewrite(u64::MAX).await });
        let end = tokio::spawn(async move { ending.coordinator.dispose(JobEnd::Finished).await });
        if let Err(error) = rewrite.await.unwrap() {
            // What it reads may be gone, and what it copies isn't wanted.
            let kinds = [ErrorKind::Conflict, ErrorKind::NotFound, ErrorKind::Fenced];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        end.await.unwrap().unwrap();
        live.coordinator.dispose(JobEnd::Finished).await.unwrap();
        assert_eq!(live.files().await, BTreeMap::new());
    });
}
