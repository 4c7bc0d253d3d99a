//! The coordinator: what is committed, what goes, and what a restart finds again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::config::{ClaimMode, Retention};
use drystone::coordinator::{Acknowledged, CoordinatorSettings, JobEnd};
use drystone::id::{CheckpointId, Scope};
use drystone::store::names::PhysicalFileName;
use fault_store::FaultStore;
use live::{Chunks, Live, settings};
use object_store::memory::InMemory;

fn memory() -> Arc<InMemory> {
    Arc::new(InMemory::new())
}

#[tokio::test]
async fn a_checkpoint_is_committed_when_all_have_acknowledged() {
    let live = Live::new(memory(), 2, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let first = live.write(&trigger, 0, Scope::Exclusive, &[("a", b"first")]).await.unwrap();
    let second = live.write(&trigger, 1, Scope::Shared, &[("b", b"second")]).await.unwrap();
    assert_eq!(live.acknowledge(CheckpointId(1), 0, first.clone()).unwrap(), Acknowledged::Waiting(1));
    assert_eq!(live.acknowledge(CheckpointId(1), 0, first).unwrap(), Acknowledged::Repeated);
    assert_eq!(live.coordinator.complete(CheckpointId(1)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(live.acknowledge(CheckpointId(1), 1, second).unwrap(), Acknowledged::Ready);
    let completed = live.coordinator.complete(CheckpointId(1)).await.unwrap();
    assert_eq!(completed.subsumed, []);
    assert_eq!(live.coordinator.latest().unwrap().path, completed.path);
    live.check(CheckpointId(1)).await;
    assert_eq!(live.coordinator.space(), live.recount().await);
    // Once more is refused, and changes nothing.
    assert_eq!(live.coordinator.complete(CheckpointId(1)).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_a_newer_checkpoint_replaces_goes_and_what_it_names_stays() {
    let live = Live::new(memory(), 2, settings()).await;
    let mut states = vec![BTreeMap::new(), BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    let completed = live.round(&mut states).await.unwrap();
    assert_eq!(completed.subsumed, [CheckpointId(1)]);
    live.coordinator.settle().await.unwrap();
    let files = live.files().await;
    assert!(!files.contains_key("chk-1/_metadata"), "{files:?}");
    assert_eq!(files.keys().filter(|f| f.starts_with("shared/")).count(), 4, "both checkpoints' files are named");
    live.check(CheckpointId(2)).await;
    assert_eq!(live.coordinator.space(), live.recount().await);

    states.iter_mut().for_each(BTreeMap::clear);
    live.round(&mut states).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.files().await.keys().filter(|f| f.starts_with("shared/")).count(), 2, "only the newest are left");
    assert_eq!(live.coordinator.space(), live.recount().await);
}

#[tokio::test]
async fn an_aborted_checkpoint_leaves_nothing_whatever_was_acknowledged() {
    let live = Live::new(memory(), 2, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let told = live.write(&trigger, 0, Scope::Exclusive, &[("a", b"first")]).await.unwrap();
    let untold = live.write(&trigger, 1, Scope::Shared, &[("b", b"second")]).await.unwrap();
    live.acknowledge(CheckpointId(1), 0, told).unwrap();
    assert!(live.coordinator.decline(live.coordinator.epoch(), CheckpointId(1), live.subtask(1), "no room"));
    assert!(!live.coordinator.abort(CheckpointId(1)), "it has ended");
    assert_eq!(live.acknowledge(CheckpointId(1), 1, untold).unwrap(), Acknowledged::Late);
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.files().await, BTreeMap::new());
    assert_eq!(live.coordinator.space(), Default::default());
    assert_eq!(live.coordinator.complete(CheckpointId(1)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_lands_after_the_abort_goes_with_the_next_commit() {
    let live = Live::new(memory(), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    live.coordinator.expire(CheckpointId(1));
    live.coordinator.settle().await.unwrap();
    live.write(&trigger, 0, Scope::Shared, &[("late", b"late")]).await.unwrap();
    live.write(&trigger, 0, Scope::Exclusive, &[("late", b"late")]).await.unwrap();
    assert_eq!(live.files().await.len(), 2);
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    let files = live.files().await;
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.keys().all(|file| !file.contains("-c1-")), "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_appears_fails_the_checkpoint() {
    let live = Live::new(memory(), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let mut chunks = live.write(&trigger, 0, Scope::Exclusive, &[("a", b"bytes")]).await.unwrap();
    let path = chunks.sealed.remove(0).path;
    live.stores.locate(&path.parse().unwrap()).unwrap().delete().await.unwrap();
    live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    let before = tokio::time::Instant::now();
    let error = live.coordinator.complete(CheckpointId(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&path), "{error}");
    assert!(before.elapsed() >= live.settings.file_timeout);
    assert_eq!(live.coordinator.latest(), None);
    assert_eq!(live.files().await, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_commit_waits_for_a_file_that_is_still_on_its_way() {
    // Also where the time ends after all that a clock can tell.
    for file_timeout in [settings().file_timeout, Duration::from_secs(i64::MAX.unsigned_abs()), Duration::MAX] {
        let live = Live::new(memory(), 1, CoordinatorSettings { file_timeout, ..settings() }).await;
        let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
        let mut chunks = live.write(&trigger, 0, Scope::Exclusive, &[("a", b"bytes")]).await.unwrap();
        let place = live.stores.locate(&chunks.sealed.remove(0).path.parse().unwrap()).unwrap();
        let bytes = place.read_all(1 << 20).await.unwrap();
        place.delete().await.unwrap();
        live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
        let upload = async {
            tokio::time::sleep(settings().file_timeout / 2).await;
            place.create_own(vec![bytes]).await.unwrap();
        };
        let (completed, ()) = tokio::join!(live.coordinator.complete(CheckpointId(1)), upload);
        completed.unwrap();
        live.check(CheckpointId(1)).await;
    }
}

#[tokio::test]
async fn a_file_of_another_length_fails_the_checkpoint() {
    let live = Live::new(memory(), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let mut chunks = live.write(&trigger, 0, Scope::Exclusive, &[("a", b"bytes")]).await.unwrap();
    chunks.sealed[0].bytes += 1;
    live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    let error = live.coordinator.complete(CheckpointId(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

#[tokio::test]
async fn a_handle_that_names_what_is_gone_or_foreign_is_refused() {
    let live = Live::new(memory(), 1, settings()).await;
    let mut states = [BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    let old = states[0].clone();
    states[0].clear();
    live.round(&mut states).await.unwrap();
    let before = live.coordinator.space();

    live.coordinator.trigger(CheckpointId(3)).unwrap();
    let dangling = Chunks { shared: old, ..Chunks::default() };
    let error = live.acknowledge(CheckpointId(3), 0, dangling).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("no retained checkpoint names"), "{error}");

    let mut foreign = states[0].clone();
    for handle in foreign.values_mut() {
        let drystone::handle::StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
        let elsewhere = segment.path.to_text().replace("0101", "0202");
        segment.path = drystone::handle::JavaString::new(&elsewhere).unwrap();
    }
    let error = live.acknowledge(CheckpointId(3), 0, Chunks { shared: foreign, ..Chunks::default() }).unwrap_err();
    assert!(error.to_string().contains("outside the job's directory"), "{error}");
    assert_eq!(live.coordinator.space(), before);
    assert_eq!(live.acknowledge(CheckpointId(3), 0, Chunks::default()).unwrap(), Acknowledged::Ready);
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let mut live = Live::new(memory(), 2, settings()).await;
    let mut states = vec![BTreeMap::new(), BTreeMap::new()];
    for _ in 0..3 {
        live.round(&mut states).await.unwrap();
    }
    live.coordinator.settle().await.unwrap();
    let (space, latest, epoch) = (live.coordinator.space(), live.coordinator.latest(), live.coordinator.epoch());
    live.restart().await.unwrap();
    assert_eq!(live.coordinator.space(), space);
    assert_eq!(live.coordinator.latest(), latest);
    assert_eq!(live.coordinator.epoch(), epoch + 1);
    assert_eq!(live.coordinator.next_checkpoint(), CheckpointId(4));
    live.round(&mut states).await.unwrap();
    live.coordinator.settle().await.unwrap();
    live.check(CheckpointId(4)).await;
    let files = live.files().await;
    assert!(files.keys().any(|file| file.contains("ds1-a2-")), "{files:?}");
    assert_eq!(live.coordinator.space(), live.recount().await);
}

#[tokio::test]
async fn a_claimed_checkpoint_is_named_again_and_then_goes() {
    let store = memory();
    let origin = Live::new(store.clone(), 1, settings()).await;
    let mut states = [BTreeMap::new()];
    let completed = origin.round(&mut states).await.unwrap();

    for mode in [ClaimMode::NoClaim, ClaimMode::Legacy, ClaimMode::Claim] {
        let mut heir = Live::new(store.clone(), 1, settings()).await;
        let root = heir.directory.root().parent().unwrap().join(&format!("heirs-{mode:?}")).unwrap();
        heir.directory = drystone::store::JobDirectory::at(root).unwrap();
        heir.restart().await.unwrap();
        heir.restore(&completed.path, mode).await.unwrap();
        assert_eq!(heir.coordinator.next_checkpoint(), CheckpointId(2), "{mode:?}");
        let owned = mode == ClaimMode::Claim;
        assert_eq!(heir.coordinator.space().files, u64::from(owned), "{mode:?}: not owned isn't counted");
        let kept = if mode == ClaimMode::NoClaim { BTreeMap::new() } else { states[0].clone() };
        let mut next = [kept];
        heir.round(&mut next).await.unwrap();
        heir.coordinator.settle().await.unwrap();
        assert_eq!(origin.files().await.contains_key("chk-1/_metadata"), !owned, "{mode:?}");
        heir.check(CheckpointId(2)).await;
        next[0].clear();
        heir.round(&mut next).await.unwrap();
        heir.coordinator.settle().await.unwrap();
        assert_eq!(origin.files().await.is_empty(), owned, "{mode:?}");
        heir.coordinator.dispose(JobEnd::Finished).await.unwrap();
        assert_eq!(heir.files().await, BTreeMap::new(), "{mode:?}");
    }
}

#[tokio::test]
async fn at_a_jobs_end_the_retention_decides() {
    use JobEnd::{Cancelled, Failed, Finished, Suspended};
    let rows = [
        (Retention::NoExternalized, [true, true, true, true]),
        (Retention::DeleteOnCancellation, [true, true, false, true]),
        (Retention::RetainOnCancellation, [true, false, false, false]),
    ];
    for (retention, goes) in rows {
        for (end, goes) in [Finished, Cancelled, Failed, Suspended].into_iter().zip(goes) {
            let mut settings = settings();
            settings.ledger.retention = retention;
            let live = Live::new(memory(), 1, settings).await;
            live.round(&mut [BTreeMap::new()]).await.unwrap();
            // Something is under way, too.
            let trigger = live.coordinator.trigger(CheckpointId(2)).unwrap();
            let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"bytes")]).await.unwrap();
            live.acknowledge(CheckpointId(2), 0, chunks).unwrap();
            live.coordinator.dispose(end).await.unwrap();
            let files = live.files().await;
            assert_eq!(files.len(), if goes { 0 } else { 2 }, "{retention:?} {end:?}: {files:?}");
            if !goes {
                live.check(CheckpointId(1)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_checkpoint_stays_while_one_that_builds_on_it_is_under_way() {
    let live = Live::new(memory(), 1, settings()).await;
    let mut states = [BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    // Both are triggered while 1 is the latest; 2 drops the old chunk, 3 names it.
    let two = live.coordinator.trigger(CheckpointId(2)).unwrap();
    let three = live.coordinator.trigger(CheckpointId(3)).unwrap();
    let fresh = live.write(&two, 0, Scope::Shared, &[("2", b"two")]).await.unwrap();
    live.acknowledge(CheckpointId(2), 0, fresh).unwrap();
    let completed = live.coordinator.complete(CheckpointId(2)).await.unwrap();
    assert_eq!(completed.subsumed, [], "3 may name what 1 names (I4)");
    let mut fresh = live.write(&three, 0, Scope::Shared, &[("3", b"three")]).await.unwrap();
    fresh.shared.extend(states[0].clone());
    live.acknowledge(CheckpointId(3), 0, fresh).unwrap();
    let completed = live.coordinator.complete(CheckpointId(3)).await.unwrap();
    assert_eq!(completed.subsumed, [CheckpointId(1), CheckpointId(2)]);
    live.coordinator.settle().await.unwrap();
    live.check(CheckpointId(3)).await;
    assert_eq!(live.coordinator.space(), live.recount().await);
}

#[tokio::test]
async fn files_say_who_wrote_them_for_which_checkpoint() {
    let live = Live::new(memory(), 1, settings()).await;
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    let files = live.files().await;
    let name = files.keys().find_map(|file| file.strip_prefix("shared/")).unwrap();
    let name: PhysicalFileName = name.parse().unwrap();
    assert_eq!((name.attempt, name.checkpoint), (1, CheckpointId(1)));
}

#[tokio::test(start_paused = true)]
async fn what_a_task_owns_may_be_named_is_looked_for_and_never_goes() {
    use drystone::handle::{FileHandle, JavaString, StreamHandle};
    let live = Live::new(memory(), 1, settings()).await;
    let file = live.directory.task_owned().join("of-a-task").unwrap();
    let named = |size: i64| {
        let path = JavaString::new(&file.name().to_string()).unwrap();
        let handle = StreamHandle::File(FileHandle { path, size });
        Chunks { shared: BTreeMap::from([("t".to_owned(), handle)]), ..Chunks::default() }
    };
    live.coordinator.trigger(CheckpointId(1)).unwrap();
    live.acknowledge(CheckpointId(1), 0, named(4)).unwrap();
    assert_eq!(live.coordinator.complete(CheckpointId(1)).await.unwrap_err().kind(), ErrorKind::NotFound);
    file.create(vec![Bytes::from_static(b"mine")]).await.unwrap();
    for checkpoint in [2, 3] {
        live.coordinator.trigger(CheckpointId(checkpoint)).unwrap();
        live.acknowledge(CheckpointId(checkpoint), 0, named(4)).unwrap();
        live.coordinator.complete(CheckpointId(checkpoint)).await.unwrap();
        live.check(CheckpointId(checkpoint)).await;
    }
    assert_eq!(live.coordinator.space().files, 0, "not the job's");
    live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(live.files().await.keys().collect::<Vec<_>>(), ["taskowned/of-a-task"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_while_files_are_looked_for_may_go_by() {
    let store = FaultStore::new(memory(), []);
    let live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"bytes")]).await.unwrap();
    live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    store.fail_next(3);
    live.coordinator.complete(CheckpointId(1)).await.unwrap();
}

#[tokio::test]
async fn an_operators_key_groups_are_those_of_its_state() {
    let mut live = Live::new(memory(), 1, settings()).await;
    let completed = live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.spec.max_parallelism = 64;
    let error = live.restart().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("max parallelism=64"), "{error}");
    let root = live.directory.root().parent().unwrap().join("heir").unwrap();
    live.directory = drystone::store::JobDirectory::at(root).unwrap();
    live.restart().await.unwrap();
    let error = live.restore(&completed.path, ClaimMode::NoClaim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// A restore takes a handle of a whole file at its word; so does the commit, each time.
#[tokio::test(start_paused = true)]
async fn a_whole_file_is_as_long_as_its_handle_says() {
    use drystone::handle::{FileHandle, JavaString, StreamHandle};
    let live = Live::new(memory(), 1, settings()).await;
    let file = live.directory.task_owned().join("of-a-task").unwrap();
    file.create(vec![Bytes::from_static(b"mine")]).await.unwrap();
    let mut right = Vec::new();
    for (checkpoint, size) in [(1, 3), (2, 4), (3, 3), (4, 5), (5, 4)] {
        let path = JavaString::new(&file.name().to_string()).unwrap();
        let handle = StreamHandle::File(FileHandle { path, size });
        live.coordinator.trigger(CheckpointId(checkpoint)).unwrap();
        let chunks = Chunks { shared: BTreeMap::from([("t".to_owned(), handle)]), ..Chunks::default() };
        live.acknowledge(CheckpointId(checkpoint), 0, chunks).unwrap();
        match live.coordinator.complete(CheckpointId(checkpoint)).await {
            Ok(_) => {
                live.check(CheckpointId(checkpoint)).await;
                right.push(checkpoint);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error}"),
        }
    }
    assert_eq!(right, [2, 5]);
}
