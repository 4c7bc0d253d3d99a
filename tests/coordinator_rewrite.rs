//! Space won back in the background, for state backends that can't write a segment again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::coordinator::{JobEnd, Rewritten};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use live::{Chunks, Live, settings};
use object_store::memory::InMemory;

/// Two checkpoints: of the first one's file the second names a small part only.
async fn wasteful() -> (Live, BTreeMap<String, StreamHandle>) {
    let mut settings = settings();
    settings.ledger.space.amplification_max = Some(1.5);
    settings.write.inline_bytes_max = 0;
    let live = Live::new(Arc::new(InMemory::new()), 1, settings).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = [("dead", &[1; 9_000][..]), ("a", &[2; 500]), ("b", &[3; 400])];
    let written = live.write(&trigger, 0, Scope::Shared, &chunks).await.unwrap();
    let mut kept = written.shared.clone();
    live.acknowledge(CheckpointId(1), 0, written).unwrap();
    live.coordinator.complete(CheckpointId(1)).await.unwrap();
    kept.remove("dead");
    commit(&live, &kept).await;
    (live, kept)
}

async fn commit(live: &Live, shared: &BTreeMap<String, StreamHandle>) {
    let checkpoint = live.coordinator.next_checkpoint();
    live.coordinator.trigger(checkpoint).unwrap();
    live.acknowledge(checkpoint, 0, Chunks { shared: shared.clone(), ..Chunks::default() }).unwrap();
    live.coordinator.complete(checkpoint).await.unwrap();
    live.coordinator.settle().await.unwrap();
    live.check(checkpoint).await;
}

#[tokio::test]
async fn what_was_copied_is_out_of_the_plan_and_old_handles_lead_to_the_copies() {
    let (live, kept) = wasteful().await;
    assert_eq!(live.coordinator.plan().files.len(), 1);
    let rewritten = live.coordinator.rewrite(u64::MAX).await.unwrap();
    assert_eq!(rewritten, Rewritten { segments: 2, bytes: 900, files_left: 1, files_written: 1 });
    assert!(live.coordinator.plan().is_empty(), "nobody is asked to write it once more");
    assert_eq!(live.coordinator.rewrite(u64::MAX).await.unwrap(), Rewritten::default());
    assert_eq!(live.coordinator.space().segments, 4, "both places, until a checkpoint has named the new one");
    // For ever, however often it has moved.
    for _ in 0..3 {
        commit(&live, &kept).await;
        assert_eq!(live.coordinator.space(), live.recount().await);
    }
    let files = live.files().await;
    assert_eq!(files.keys().filter(|file| file.starts_with("shared/")).count(), 1, "{files:?}");
    assert!(files.keys().any(|file| file.contains("-wrewrite-")), "{files:?}");
}

#[tokio::test]
async fn whole_files_as_far_as_the_budget_goes() {
    let (live, _) = wasteful().await;
    assert_eq!(live.coordinator.rewrite(899).await.unwrap(), Rewritten::default());
    assert_eq!(live.coordinator.rewrite(900).await.unwrap().segments, 2);
}

#[tokio::test]
async fn copies_that_no_checkpoint_names_go() {
    let (live, _) = wasteful().await;
    live.coordinator.rewrite(u64::MAX).await.unwrap();
    commit(&live, &BTreeMap::new()).await;
    assert_eq!(live.files().await.len(), 1);
    assert_eq!(live.coordinator.space(), Default::default());
}

#[tokio::test]
async fn a_damaged_segment_is_not_copied() {
    let (live, kept) = wasteful().await;
    let StreamHandle::Segment(segment) = &kept["a"] else { panic!("no segment") };
    let file = live.stores.locate(&segment.path.to_text().parse().unwrap()).unwrap();
    let mut bytes = file.read_all(1 << 20).await.unwrap().to_vec();
    bytes[segment.offset as usize + 7] ^= 1;
    file.delete().await.unwrap();
    file.create(vec![bytes.into()]).await.unwrap();
    let before = live.files().await;
    let error = live.coordinator.rewrite(u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("IncrementalShared") || error.to_string().contains("incremental"), "{error}");
    assert_eq!(live.files().await, before);
    assert_eq!(live.coordinator.plan().files.len(), 1);
}

#[tokio::test]
async fn after_the_jobs_end_nothing_is_left() {
    let (live, _) = wasteful().await;
    live.coordinator.rewrite(u64::MAX).await.unwrap();
    live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(live.files().await, BTreeMap::new());
}

/// Of two checkpoints under way the first doesn't name a segment that the second does, so that its copy is released; the
/// old place is still there.
#[tokio::test]
async fn a_copy_that_was_given_up_is_named_by_nobody_and_made_again() {
    let (live, kept) = wasteful().await;
    live.coordinator.rewrite(u64::MAX).await.unwrap();
    for checkpoint in [3, 4] {
        live.coordinator.trigger(CheckpointId(checkpoint)).unwrap();
    }
    let less: BTreeMap<_, _> =
        kept.iter().filter(|(name, _)| *name == "b").map(|(n, h)| (n.clone(), h.clone())).collect();
    for (checkpoint, shared) in [(3, less), (4, kept.clone())] {
        live.acknowledge(CheckpointId(checkpoint), 0, Chunks { shared, ..Chunks::default() }).unwrap();
        live.coordinator.complete(CheckpointId(checkpoint)).await.unwrap();
        live.coordinator.settle().await.unwrap();
        live.check(CheckpointId(checkpoint)).await;
    }
    let plan = live.coordinator.plan();
    assert!(plan.files.keys().any(|file| file.contains("-ww-")), "the old file is wasteful still: {plan:?}");
    assert_eq!(live.coordinator.rewrite(u64::MAX).await.unwrap().segments, 2, "b's copy, too, lies beside dead bytes");
    commit(&live, &kept).await;
    let files = live.files().await;
    assert!(files.keys().all(|file| !file.starts_with("shared/") || file.contains("-wrewrite-")), "{files:?}");
    assert_eq!(live.coordinator.space(), live.recount().await);
}

/// Found by the simulation. As above, of a segment that was copied twice: the first copy is still there, and the second is not.
#[tokio::test]
async fn a_second_copy_that_was_given_up_leaves_the_first() {
    let (live, mut kept) = wasteful().await;
    live.coordinator.rewrite(u64::MAX).await.unwrap();
    commit(&live, &kept).await;
    kept.remove("b");
    commit(&live, &kept).await;
    assert_eq!(live.coordinator.rewrite(u64::MAX).await.unwrap().segments, 1, "out of the first copy's file");
    let first = live.coordinator.next_checkpoint();
    live.coordinator.trigger(first).unwrap();
    let second = live.coordinator.next_checkpoint();
    live.coordinator.trigger(second).unwrap();
    for (checkpoint, shared) in [(first, BTreeMap::new()), (second, kept.clone())] {
        live.acknowledge(checkpoint, 0, Chunks { shared, ..Chunks::default() }).unwrap();
        live.coordinator.complete(checkpoint).await.unwrap();
        live.coordinator.settle().await.unwrap();
        live.check(checkpoint).await;
        assert_eq!(live.coordinator.space(), live.recount().await);
    }
    commit(&live, &kept).await;
}
