//! Which checkpoint of a job is the latest: against a simple model, and against what a coordinator that takes the job over
//! goes on with; what is passed over, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/live.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod live;
#[path = "support/rule_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod rule_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/shelf.rs"]
mod shelf;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cases::cases;
use drystone::ErrorKind;
use drystone::coordinator::Coordinator;
use drystone::format::{LogEntry, Step};
use drystone::id::{CheckpointId, FileToken};
use drystone::jobs::{Latest, latest_of_each, list};
use drystone::ledger::LedgerSettings;
use drystone::read::ReadLimits;
use drystone::store::JobDirectory;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use rule_store::{Act, RuleStore};
use shelf::{Shape, Shelf};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn found(latest: &Latest) -> Option<u64> {
    latest.found.as_ref().map(|found| found.checkpoint.0)
}

fn passed_over(latest: &Latest) -> Vec<u64> {
    latest.passed_over.iter().map(|passed| passed.checkpoint.0).collect()
}

/// By epoch, then by number, in the simplest words: those of epochs in that order; one without an epoch counts by its number
/// alone, and so is the newest if none of a higher number counts.
fn newest(complete: &BTreeMap<u64, Option<u64>>) -> Option<u64> {
    let is_outdated =
        |id: u64, epoch: u64| complete.range(..id).any(|(_, other)| other.is_some_and(|other| other > epoch));
    complete.iter().rev().find(|(id, epoch)| epoch.is_none_or(|epoch| !is_outdated(**id, epoch))).map(|(&id, _)| id)
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn without_a_log_epoch_and_number_say_which_is_the_newest(
        checkpoints in btree_map(1u64..30, (select(vec![None, Some(1), Some(2), Some(3)]), select(Shape::ALL.to_vec())), 0..12),
    ) {
        let latest = block_on(async {
            let shelf = Shelf::new();
            shelf.put("shared/x", vec![1]).await;
            for (&id, &(epoch, shape)) in &checkpoints {
                shelf.checkpoint(id, epoch, shape).await;
            }
            shelf.latest().await.unwrap()
        });
        // Tried one after another.
        let is_intact = |shape| matches!(shape, Shape::Complete | Shape::FileMissing | Shape::FileShort);
        let of = |is_meant: &dyn Fn(Shape) -> bool| -> BTreeMap<u64, Option<u64>> {
            checkpoints.iter().filter(|(_, (_, shape))| is_meant(*shape)).map(|(&id, &(epoch, _))| (id, epoch)).collect()
        };
        let (mut left, mut tried, mut expected) = (of(&is_intact), BTreeSet::new(), None);
        while let (None, Some(id)) = (expected, newest(&left)) {
            left.remove(&id);
            match checkpoints[&id].1 {
                Shape::Complete => expected = Some(id),
                _ => assert!(tried.insert(id)),
            }
        }
        prop_assert_eq!(found(&latest), expected);
        // Of those with epochs only, the plain order.
        let complete = of(&|shape| shape == Shape::Complete);
        if complete.values().all(Option::is_some) {
            prop_assert_eq!(expected, complete.iter().max_by_key(|(id, epoch)| (**epoch, **id)).map(|(&id, _)| id));
        }
        // Whatever would be newer and can't be read is named, and nothing that is complete or was never completed.
        let named: BTreeSet<u64> = passed_over(&latest).into_iter().collect();
        let is_unreadable = |shape| matches!(shape, Shape::Damaged | Shape::Misplaced);
        for (&id, &(_, shape)) in &checkpoints {
            if is_unreadable(shape) {
                prop_assert_eq!(named.contains(&id), Some(id) > expected, "{}", id);
            }
            if !is_unreadable(shape) {
                prop_assert_eq!(named.contains(&id), tried.contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn with_a_log_it_is_what_a_coordinator_goes_on_with(
        there in btree_set(1u64..16, 0..8),
        kept in btree_set(1u64..12, 0..5),
        open in btree_set(1u64..12, 0..3),
        retained in 0u32..4,
        ahead in 0u64..3,
        is_claim in any::<bool>(),
    ) {
        let next = kept.iter().chain(&open).max().map_or(1, |last| last + 1) + ahead;
        let ids = |ids: &BTreeSet<u64>| ids.iter().copied().map(CheckpointId).collect::<Vec<_>>();
        let entry = LogEntry {
            epoch: 4,
            coordinator: FileToken(77),
            step: if is_claim { Step::Claim } else { Step::Intent },
            open: ids(&open),
            kept: Some(ids(&kept)),
            retained,
            next: CheckpointId(next),
        };
        let (before, after, recovered) = block_on(async {
            let shelf = Shelf::new();
            shelf.put("shared/x", vec![1]).await;
            for &id in &there {
                shelf.checkpoint(id, Some(1 + id / 4), Shape::Complete).await;
            }
            shelf.log(5, &entry).await;
            let before = shelf.latest().await.unwrap();
            let directory = JobDirectory::at(shelf.stores.locate(&shelf.job()).unwrap()).unwrap();
            let mut settings = live::settings();
            settings.ledger = LedgerSettings { retained: 20, ..settings.ledger };
            let coordinator =
                Coordinator::recover(shelf.stores.clone(), directory, vec![], settings, live::tokens()).await.unwrap();
            let after = shelf.latest().await.unwrap();
            (before, after, coordinator.latest().map(|latest| latest.checkpoint.0))
        });
        if recovered.is_some() {
            prop_assert_eq!(found(&before), recovered);
            prop_assert_eq!(found(&after), recovered);
        } else {
            // What it would go on with is gone; something that was replaced by that may be there yet.
            let replaced = there.iter().rev().find(|id| retained > 0 && (kept.contains(id) || open.contains(id)));
            prop_assert_eq!(found(&before), replaced.copied());
        }
    }

    #[test]
    fn broken_ones_give_way_to_the_newest_that_is_whole(
        kept in vec(select(Shape::ALL.to_vec()), 1..6),
        retained in 1u32..4,
    ) {
        let entry = LogEntry {
            epoch: 2,
            coordinator: FileToken(77),
            step: Step::Intent,
            open: vec![],
            kept: Some((1..=kept.len() as u64).map(CheckpointId).collect()),
            retained,
            next: CheckpointId(kept.len() as u64 + 1),
        };
        let latest = block_on(async {
            let shelf = Shelf::new();
            for (before, &shape) in kept.iter().enumerate() {
                shelf.checkpoint(before as u64 + 1, Some(2), shape).await;
            }
            shelf.log(3, &entry).await;
            shelf.latest().await.unwrap()
        });
        let complete = kept.iter().rposition(|&shape| shape == Shape::Complete).map(|before| before as u64 + 1);
        prop_assert_eq!(found(&latest), complete);
        let newer = (complete.unwrap_or(0)..kept.len() as u64).rev().filter(|&id| kept[id as usize].is_broken());
        prop_assert_eq!(passed_over(&latest), newer.map(|before| before + 1).collect::<Vec<_>>());
    }
}

#[test]
fn reasons_name_the_file() {
    let shelf = Shelf::new();
    let latest = block_on(async {
        for (id, shape) in (1..).zip(Shape::ALL) {
            shelf.checkpoint(id, None, shape).await;
        }
        shelf.latest().await.unwrap()
    });
    assert_eq!(found(&latest), Some(1));
    assert_eq!(latest.found.unwrap().path, runs::path(&format!("{}/chk-1", shelf.job())));
    let reasons: Vec<_> =
        latest.passed_over.iter().map(|passed| (passed.checkpoint.0, passed.reason.as_str())).collect();
    let said = [
        (5, "its metadata is of checkpoint 1005"),
        (4, "100 bytes are named from offset 0, but the file has 99"),
        (3, "the file is missing"),
        (2, "chk-2/_metadata at offset"),
    ];
    assert_eq!(reasons.len(), said.len(), "{reasons:?}");
    for ((id, reason), (expected, part)) in reasons.into_iter().zip(said) {
        assert!(id == expected && reason.contains(part), "{id}: {reason}");
    }
}

#[test]
fn one_that_was_given_up_is_named_and_not_taken() {
    let latest = block_on(async {
        let shelf = Shelf::new();
        for id in [3, 4] {
            shelf.checkpoint(id, Some(1), Shape::Complete).await;
        }
        let (open, kept) = (vec![], Some(vec![CheckpointId(3)]));
        let (coordinator, next) = (FileToken(1), CheckpointId(6));
        shelf.log(1, &LogEntry { epoch: 1, coordinator, step: Step::Intent, open, kept, retained: 1, next }).await;
        shelf.latest().await.unwrap()
    });
    assert_eq!((found(&latest), passed_over(&latest)), (Some(3), vec![4]));
    assert!(latest.passed_over[0].reason.contains("given it up"), "{:?}", latest.passed_over);
}

#[test]
fn other_directories_are_refused_with_what_they_are() {
    block_on(async {
        let shelf = Shelf::new();
        shelf.checkpoint(1, None, Shape::Complete).await;
        shelf.put_beside("other/readme", vec![1]).await;
        let limits = ReadLimits::default();
        let of =
            async |path: &str| drystone::jobs::latest(&shelf.stores, &runs::path(path), &limits).await.unwrap_err();
        let error = of("memory:/").await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with(&format!("name one of {}", synthetic::JOB)), "{error}");
        let error = of(&format!("{}/chk-1", shelf.job())).await;
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("name its job's"), "{error}");
        assert_eq!(of("memory:/nothing").await.kind(), ErrorKind::NotFound);
        let each = latest_of_each(&shelf.stores, &runs::path("memory:/"), &limits).await.unwrap();
        assert_eq!(
            each.iter().map(|(job, latest)| (job.clone(), found(latest))).collect::<Vec<_>>(),
            [(shelf.job(), Some(1))]
        );
        let error = latest_of_each(&shelf.stores, &shelf.job(), &limits).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_checkpoint_that_is_replaced_during_the_look_leaves_its_place_to_the_next() {
    block_on(async {
        let store = RuleStore::default();
        let shelf = Arc::new(Shelf::over(Arc::new(store.clone())));
        shelf.checkpoint(1, None, Shape::Complete).await;
        store.rule("get", "chk-1/_metadata", Act::Hang, 1);
        let looking = tokio::spawn({
            let shelf = shelf.clone();
            async move { shelf.latest().await }
        });
        while store.count("get", "chk-1/_metadata") == 0 {
            tokio::task::yield_now().await;
        }
        shelf.checkpoint(2, None, Shape::Complete).await;
        shelf.delete("chk-1/_metadata").await;
        shelf.delete("chk-1/state").await;
        store.obey();
        let latest = looking.await.unwrap().unwrap();
        assert_eq!((found(&latest), passed_over(&latest)), (Some(2), vec![]));
    });
}

#[test]
fn a_job_without_a_checkpoint_has_none() {
    block_on(async {
        let shelf = Shelf::new();
        shelf.checkpoint(1, None, Shape::NoMetadata).await;
        shelf.put("savepoint-1-2/_metadata", shelf::metadata(3, None, &[])).await;
        let latest = shelf.latest().await.unwrap();
        assert_eq!(latest, Latest { found: None, passed_over: vec![], hint: None });
        assert_eq!(latest.none_found(&shelf.job()).kind(), ErrorKind::NotFound);
    });
}

#[test]
fn with_a_log_only_as_much_is_read_as_it_takes() {
    block_on(async {
        let store = RuleStore::default();
        let shelf = Shelf::over(Arc::new(store.clone()));
        for id in 1..=50 {
            shelf.checkpoint(id, Some(1), Shape::Complete).await;
        }
        let kept = Some((1..=50).map(CheckpointId).collect());
        let (coordinator, next) = (FileToken(1), CheckpointId(51));
        shelf
            .log(9, &LogEntry { epoch: 1, coordinator, step: Step::Intent, open: vec![], kept, retained: 50, next })
            .await;
        store.forget_requests();
        assert_eq!(found(&shelf.latest().await.unwrap()), Some(50));
        // The directory, the log and its entry, the metadata, its file, when it was written, and the hint.
        assert_eq!((store.count("list", ""), store.count("get", ""), store.count("head", "")), (2, 3, 2));
    });
}

#[test]
fn a_listing_reads_several_at_once_and_no_more_than_it_may() {
    // As many as requests are allowed; and, where memory is for one only, that.
    for (memory_bytes_max, requests_max, at_once) in [(1 << 20, 5, 5), (1 << 20, 1, 1), (1, 5, 1)] {
        block_on(async {
            let store = RuleStore::default();
            let shelf = Arc::new(Shelf::over(Arc::new(store.clone())));
            for id in 1..=20 {
                shelf.checkpoint(id, Some(1), Shape::Complete).await;
            }
            store.rule("get", "_metadata", Act::Hang, 20);
            let limits = ReadLimits { memory_bytes_max, requests_max, ..ReadLimits::default() };
            let listing = tokio::spawn({
                let shelf = shelf.clone();
                async move { list(&shelf.stores, &shelf.job(), &limits).await }
            });
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(store.count("get", "_metadata"), at_once, "{memory_bytes_max} {requests_max}");
            store.obey();
            let listing = listing.await.unwrap().unwrap();
            assert_eq!((listing.groups[0].entries.len(), listing.groups[0].latest), (20, Some(19)));
        });
    }
}
