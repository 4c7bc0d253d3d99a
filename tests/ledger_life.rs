//! Lives of checkpoints that went wrong once, and those that Flink's own tests name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::Retention;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::ledger::{Acknowledged, Effect, JobEnd, Ledger, LedgerSettings, Named, SpacePolicy, SpaceUsage};

fn ledger(retained: usize) -> Ledger {
    let space = SpacePolicy {
        amplification_max: Some(2.0),
        floor_bytes: 0,
        across: false,
        fold_ratio_max: 0.5,
        file_bytes_max: 32 << 20,
    };
    Ledger::new(LedgerSettings { retained, space, retention: Retention::NoExternalized })
}

fn subtask(index: u32) -> Subtask {
    Subtask { operator: OperatorId([1; 16]), index, parallelism: 2 }
}

fn shared(file: &str, offset: u64, length: u64) -> Named {
    Named { file: file.into(), offset, length, scope: Scope::Shared, owned: true }
}

fn trigger(ledger: &mut Ledger, id: u64, subtasks: u32) {
    ledger.trigger(CheckpointId(id), (0..subtasks).map(subtask).collect()).unwrap();
}

fn acknowledge(ledger: &mut Ledger, id: u64, index: u32, names: &[Named]) -> Acknowledged {
    let own = format!("c{id}-");
    ledger.acknowledge(CheckpointId(id), subtask(index), names, |named| named.file.starts_with(&own)).unwrap()
}

fn commit(ledger: &mut Ledger, id: u64) -> Vec<Effect> {
    ledger.start_commit(CheckpointId(id)).unwrap();
    ledger.committed(CheckpointId(id)).unwrap()
}

/// One subtask's whole checkpoint.
fn checkpoint(ledger: &mut Ledger, id: u64, names: &[Named]) -> Vec<Effect> {
    trigger(ledger, id, 1);
    acknowledge(ledger, id, 0, names);
    commit(ledger, id)
}

fn cleaned(effects: &[Effect]) -> Vec<u64> {
    let clean = effects.iter().filter_map(|effect| if let Effect::Clean(ids) = effect { Some(ids) } else { None });
    clean.flatten().map(|id| id.0).collect()
}

fn completed(ledger: &Ledger) -> Vec<u64> {
    ledger.completed().map(|id| id.0).collect()
}

/// Checkpoints that overlap without end must not keep all that have ever completed.
#[test]
fn overlapping_checkpoints_pin_only_what_is_retained() {
    let mut ledger = ledger(1);
    trigger(&mut ledger, 1, 1);
    for id in 2..100 {
        trigger(&mut ledger, id, 1);
        acknowledge(&mut ledger, id - 1, 0, &[shared(&format!("c{}-a", id - 1), 0, 10)]);
        commit(&mut ledger, id - 1);
        assert!(completed(&ledger).len() <= 3, "I8: after {id}: {:?}", completed(&ledger));
    }
}

/// A checkpoint may reuse what completed after its trigger, so that is pinned, too.
#[test]
fn what_completes_meanwhile_is_pinned_for_the_pending() {
    let mut ledger = ledger(1);
    (1..=4).for_each(|id| trigger(&mut ledger, id, 1));
    acknowledge(&mut ledger, 1, 0, &[shared("c1-a", 0, 10)]);
    commit(&mut ledger, 1);
    // The subtask of 4 reuses c1-a from here on. Those of 2 and 3 had to write it again: 1 had not completed.
    for id in 2..=3 {
        acknowledge(&mut ledger, id, 0, &[shared(&format!("c{id}-a"), 0, 10)]);
        commit(&mut ledger, id);
    }
    assert!(ledger.names_file("c1-a"), "I4");
    assert_eq!(acknowledge(&mut ledger, 4, 0, &[shared("c1-a", 0, 10)]), Acknowledged::Ready);
    commit(&mut ledger, 4);
    assert_eq!(completed(&ledger), [4]);
}

/// Uploads that were under way at the abort land later: they are looked for at the next commit, not at once.
#[test]
fn what_a_commit_aborts_is_cleaned_again_at_the_next() {
    let mut ledger = ledger(1);
    trigger(&mut ledger, 1, 1);
    let effects = checkpoint(&mut ledger, 2, &[]);
    assert_eq!(cleaned(&effects), [1]);
    assert_eq!(cleaned(&checkpoint(&mut ledger, 3, &[])), [1]);
    assert_eq!(cleaned(&checkpoint(&mut ledger, 4, &[])), [0_u64; 0]);
}

/// The same for one that was aborted while its successor was under way.
#[test]
fn a_late_abort_is_cleaned_again_by_a_checkpoint_triggered_after_it() {
    let mut ledger = ledger(1);
    trigger(&mut ledger, 1, 1);
    trigger(&mut ledger, 2, 0);
    ledger.abort(CheckpointId(1));
    assert_eq!(cleaned(&commit(&mut ledger, 2)), [0_u64; 0]);
    assert_eq!(cleaned(&checkpoint(&mut ledger, 3, &[])), [1]);
}

/// A commit whose outcome comes after the job's end.
#[test]
fn a_commit_that_lands_after_the_end_is_discarded() {
    let mut ledger = ledger(1);
    trigger(&mut ledger, 1, 1);
    acknowledge(&mut ledger, 1, 0, &[shared("c1-a", 0, 10)]);
    ledger.start_commit(CheckpointId(1)).unwrap();
    assert_eq!(ledger.end(JobEnd::Cancelled), []);
    let effects = ledger.committed(CheckpointId(1)).unwrap();
    assert_eq!(effects, [Effect::Discard { checkpoint: CheckpointId(1), files: vec!["c1-a".into()] }]);
    assert_eq!(ledger.usage(), SpaceUsage::default());
    let error = ledger.trigger(CheckpointId(2), BTreeSet::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// In doubt, nothing is deleted (I7).
#[test]
fn what_somebody_says_is_not_ours_is_left_alone() {
    let mut ledger = ledger(1);
    checkpoint(&mut ledger, 1, &[shared("c1-a", 0, 10), shared("c1-b", 0, 10)]);
    let foreign = Named { owned: false, ..shared("c1-a", 0, 10) };
    ledger.restored(CheckpointId(2), false, &[foreign], []).unwrap();
    assert_eq!((ledger.usage().files, ledger.usage().segment_bytes), (1, 10));
    let effects = checkpoint(&mut ledger, 3, &[]);
    assert_eq!(effects, [Effect::Discard { checkpoint: CheckpointId(1), files: vec!["c1-b".into()] }]);
}

/// Segments may overlap, so the one that begins last need not be the one that ends last.
#[test]
fn a_file_is_never_shorter_than_what_is_named_in_it() {
    let mut ledger = ledger(1);
    checkpoint(&mut ledger, 1, &[shared("c1-a", 0, 150), shared("c1-a", 50, 10)]);
    ledger.set_file_bytes("c1-a", 60);
    assert_eq!(ledger.file_bytes("c1-a"), Some(150));
}

/// Numbers from disk are never trusted.
#[test]
fn lengths_that_no_sum_can_hold_are_refused() {
    let mut ledger = ledger(1);
    let huge = [shared("a", 0, u64::MAX), shared("b", 0, u64::MAX), shared("c", u64::MAX, u64::MAX)];
    let before = format!("{ledger:?}");
    for owned in [true, false] {
        let huge = huge.clone().map(|named| Named { owned, ..named });
        let error = ledger.restored(CheckpointId(1), owned, &huge, []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(ledger.usage(), SpaceUsage::default(), "{before}");
    }
    let lengths: Vec<(Arc<str>, u64)> = vec![("a".into(), u64::MAX), ("b".into(), u64::MAX)];
    ledger.restored(CheckpointId(1), true, &[shared("a", 0, 1), shared("b", 0, 1)], lengths).unwrap();
    assert_eq!(ledger.usage(), ledger.recount());
    checkpoint(&mut ledger, 2, &[]);
    assert_eq!(ledger.usage(), SpaceUsage::default());
}

/// Sets of aborted ones are bounded (I8).
#[test]
fn not_all_aborted_ones_are_looked_after() {
    let mut ledger = ledger(1);
    for id in 1..3_000 {
        trigger(&mut ledger, id, 1);
        ledger.abort(CheckpointId(id));
    }
    let cleaned = cleaned(&checkpoint(&mut ledger, 3_000, &[]));
    assert_eq!((cleaned.len(), cleaned[0]), (1024, 1976));
}

/// Flink's `testCheckpointNotification`: a file stays as long as the newer checkpoint names a segment of it.
#[test]
fn notification_within_a_checkpoint() {
    let mut ledger = ledger(1);
    let place = |id: u64, index: u32| shared(&format!("c{id}-s{index}"), 0, 32);
    let counts = |ledger: &Ledger| (ledger.usage().files, ledger.usage().segments);
    trigger(&mut ledger, 1, 2);
    acknowledge(&mut ledger, 1, 0, &[place(1, 0)]);
    acknowledge(&mut ledger, 1, 1, &[place(1, 1)]);
    commit(&mut ledger, 1);
    assert_eq!(counts(&ledger), (2, 2));
    trigger(&mut ledger, 2, 2);
    acknowledge(&mut ledger, 2, 0, &[place(2, 0)]);
    acknowledge(&mut ledger, 2, 1, &[place(2, 1), place(1, 1)]);
    assert_eq!(counts(&ledger), (4, 4));
    let effects = commit(&mut ledger, 2);
    assert_eq!(effects, [Effect::Discard { checkpoint: CheckpointId(1), files: vec!["c1-s0".into()] }]);
    assert_eq!(counts(&ledger), (3, 3));
    trigger(&mut ledger, 3, 2);
    acknowledge(&mut ledger, 3, 0, &[place(3, 0), place(1, 1)]);
    acknowledge(&mut ledger, 3, 1, &[place(3, 1)]);
    assert_eq!(counts(&ledger), (5, 5));
    let effects = ledger.abort(CheckpointId(3));
    assert_eq!(effects[1], Effect::Delete(vec!["c3-s0".into(), "c3-s1".into()]), "I6");
    assert_eq!(counts(&ledger), (3, 3));
}

/// Flink's `testReuseCallbackAndAdvanceWatermark`: 20 segments, one fewer reused each time.
#[test]
fn segments_live_as_long_as_they_are_reused() {
    let mut ledger = ledger(1);
    let places: Vec<Named> = (0..20).map(|i| shared("c1-a", i * 128, 128)).collect();
    checkpoint(&mut ledger, 1, &places);
    for id in 2..=10 {
        checkpoint(&mut ledger, id, &places[..=10 - id as usize]);
        assert_eq!(ledger.usage().segments, 11 - id);
        assert_eq!(ledger.usage().file_bytes, 20 * 128);
    }
    let effects = checkpoint(&mut ledger, 11, &[]);
    assert_eq!(effects, [Effect::Discard { checkpoint: CheckpointId(10), files: vec!["c1-a".into()] }]);
}

/// Flink's `testSpaceStat`.
#[test]
fn figures_follow_each_segment() {
    let mut ledger = ledger(1);
    checkpoint(&mut ledger, 1, &[shared("c1-a", 0, 123), shared("c1-a", 123, 456)]);
    assert_eq!(ledger.usage(), SpaceUsage { files: 1, file_bytes: 579, segments: 2, segment_bytes: 579 });
    checkpoint(&mut ledger, 2, &[shared("c1-a", 123, 456)]);
    assert_eq!(ledger.usage(), SpaceUsage { files: 1, file_bytes: 579, segments: 1, segment_bytes: 456 });
    checkpoint(&mut ledger, 3, &[]);
    assert_eq!(ledger.usage(), SpaceUsage::default());
}

/// Flink's `testSpaceControl`, with 4 MiB segments: of 24 MiB, 4 are named again, and 12 are new.
#[test]
fn a_wasteful_file_is_planned_and_a_full_one_is_not() {
    let mut ledger = ledger(1);
    let mib = |file: &str, i: u64| shared(file, (i * 4) << 20, 4 << 20);
    let first: Vec<Named> = (0..6).map(|i| mib("c1-a", i)).collect();
    checkpoint(&mut ledger, 1, &first);
    assert!(ledger.plan().is_empty());
    checkpoint(&mut ledger, 2, &[mib("c1-a", 0), mib("c2-a", 0), mib("c2-a", 1), mib("c2-a", 2)]);
    assert_eq!((ledger.usage().file_bytes, ledger.usage().segment_bytes), (36 << 20, 16 << 20));
    assert_eq!(ledger.plan().files.keys().collect::<Vec<_>>(), ["c1-a"]);
    checkpoint(&mut ledger, 3, &[mib("c2-a", 0), mib("c3-a", 0), mib("c3-a", 1)]);
    assert_eq!((ledger.usage().files, ledger.usage().segments), (2, 3));
}
