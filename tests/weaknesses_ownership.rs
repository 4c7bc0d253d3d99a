//! Flink's weaknesses in who owns what, in restores and in damage, by their numbers in the specification: none of them
//! is here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/rule_store.rs"]
mod rule_store;
#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::{ClaimMode, Retention};
use drystone::coordinator::{Acknowledged, JobEnd};
use drystone::handle::{JavaString, StreamHandle};
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Reuse, RewriteReason};
use drystone::read::{ReadLimits, Restore};
use drystone::repack::{Options, copy};
use drystone::store::{FlinkPath, JobDirectory};
use drystone::verify::verify;
use drystone::worker::Worker;
use drystone::write::WriteSettings;
use live::{Chunks, Live, OPERATOR, settings, unfenced};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rule_store::RuleStore;
use site::{Database, Site, bytes_of, packed, write};

fn with(name: &str, seed: u64) -> Database {
    let shared = BTreeMap::from([(name.to_owned(), (bytes_of(seed, 5_000), None))]);
    Database { shared, ..Database::default() }
}

/// A job in a directory of its own.
async fn job_at(store: &RuleStore, path: &str) -> Live {
    let mut live = Live::new(Arc::new(store.clone()), 1, settings()).await;
    let location = live.stores.locate(&FlinkPath::parse(path).unwrap()).unwrap();
    live.directory = JobDirectory::at(location).unwrap();
    live.restart().await.unwrap();
    live
}

async fn keys(store: &RuleStore) -> Vec<String> {
    use futures::TryStreamExt;
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let keys = listed.into_iter().map(|meta| meta.location.to_string());
    // Not what keeps coordinators apart.
    keys.filter(|key| !key.contains("/_drystone/")).collect()
}

#[tokio::test(start_paused = true)]
async fn weakness_07_a_segment_that_many_name_is_released_once_and_its_file_goes() {
    let mut site = Site::new(2, settings(), packed()).await;
    let mut databases = [with("union", 1), with("own", 2)];
    site.checkpoint(&mut databases).await.unwrap();
    // As union state is after a rescale: both name it, one of them twice.
    let union = databases[0].shared["union"].clone();
    databases[1].shared.insert("union".into(), union.clone());
    databases[1].shared.insert("again".into(), union);
    site.checkpoint(&mut databases).await.unwrap();
    let space = site.live.coordinator.space();
    assert_eq!((space.segments, space.segment_bytes), (2, 10_000), "each counts once");

    // The process dies; the tasks of one region come back three times, under new workers and the same coordinator.
    site.live.restart().await.unwrap();
    assert_eq!(site.live.coordinator.space(), space);
    for attempt in 0..3 {
        let latest = site.live.coordinator.latest().unwrap();
        for mode in [ClaimMode::Claim, ClaimMode::NoClaim, ClaimMode::Legacy] {
            site.live.restore(&latest.path, mode).await.unwrap();
        }
        site.worker =
            Worker::new(site.live.directory.clone(), &format!("w{attempt}"), packed(), site.live.tokens.clone());
        site.checkpoint(&mut databases).await.unwrap();
        assert_eq!(site.live.coordinator.space(), space);
    }
    assert_eq!(databases[1].rewritten, 0);
    databases[0].shared.clear();
    databases[1].shared.remove("again");
    site.checkpoint(&mut databases).await.unwrap();
    site.live.coordinator.settle().await.unwrap();
    site.live.check(site.live.coordinator.latest().unwrap().checkpoint).await;
    databases[1].shared.clear();
    site.checkpoint(&mut databases).await.unwrap();
    site.live.coordinator.settle().await.unwrap();
    assert_eq!(site.data_files().await, BTreeMap::new(), "the last name is gone, and so is the file");
    assert_eq!(site.live.coordinator.space(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn weakness_08_what_a_finished_subtask_wrote_goes_with_its_checkpoint() {
    let site = Site::new(2, settings(), packed()).await;
    let mut databases = [with("a", 1), with("b", 2)];
    databases[0].private.insert("p".into(), bytes_of(3, 5_000));
    databases[1].private.insert("p".into(), bytes_of(4, 5_000));
    site.checkpoint(&mut databases).await.unwrap();
    assert_eq!(site.data_files().await.len(), 2, "both subtasks share them");
    // Subtask 1 is done: it says nothing any more.
    site.worker.forget(site.live.subtask(1));
    databases[0].shared.clear();
    let trigger = site.trigger();
    let chunks = site.part(&trigger, 0, &mut databases[0]).await.unwrap();
    assert_eq!(
        site.live.coordinator.finished(trigger.epoch, trigger.checkpoint, site.live.subtask(1)).unwrap(),
        Acknowledged::Waiting(1)
    );
    assert_eq!(site.live.acknowledge(trigger.checkpoint, 0, chunks).unwrap(), Acknowledged::Ready);
    site.live.coordinator.complete(trigger.checkpoint).await.unwrap();
    site.live.coordinator.settle().await.unwrap();
    let files = site.live.files().await;
    assert!(files.keys().all(|file| file.starts_with("chk-2/")), "{files:?}");
    assert_eq!(site.live.coordinator.space().files, 1);
}

#[tokio::test(start_paused = true)]
async fn weakness_09_whose_a_file_is_goes_by_whole_path_components() {
    let store = RuleStore::default();
    let (job, other) = (job_at(&store, "memory:/a/op_0_1").await, job_at(&store, "memory:/a/op_0_12").await);
    let (mut ours, mut theirs) = ([BTreeMap::new()], [BTreeMap::new()]);
    job.round(&mut ours).await.unwrap();
    other.round(&mut theirs).await.unwrap();
    let handle = theirs[0].values().next().unwrap().clone();

    let trigger = job.coordinator.trigger(CheckpointId(2)).unwrap();
    let worker = Worker::new(job.directory.clone(), "w", packed(), job.tokens.clone());
    let snapshot = worker.begin(job.subtask(0), &trigger).unwrap();
    assert_eq!(snapshot.reuse(&handle), Reuse::Rewrite(RewriteReason::NotOwned));
    let foreign = Chunks { shared: theirs[0].clone(), ..Chunks::default() };
    let error = job.acknowledge(CheckpointId(2), 0, foreign.clone()).unwrap_err();
    assert!(error.to_string().contains("outside the job's directory"), "{error}");

    // Nor does claiming the one claim the other.
    let heir = job_at(&store, "memory:/a/heir").await;
    heir.restore(&job.coordinator.latest().unwrap().path, ClaimMode::Claim).await.unwrap();
    let trigger = heir.coordinator.trigger(CheckpointId(2)).unwrap();
    let worker = Worker::new(heir.directory.clone(), "w", packed(), heir.tokens.clone());
    let snapshot = worker.begin(heir.subtask(0), &trigger).unwrap();
    assert_eq!(snapshot.reuse(ours[0].values().next().unwrap()), Reuse::Keep);
    assert_eq!(snapshot.reuse(&handle), Reuse::Rewrite(RewriteReason::NotOwned));
    assert!(heir.acknowledge(CheckpointId(2), 0, foreign).is_err());
    heir.coordinator.abort(CheckpointId(2));

    // What ends one job leaves the other whole.
    job.coordinator.abort(CheckpointId(2));
    job.coordinator.remove_leftovers().await.unwrap();
    job.coordinator.dispose(JobEnd::Finished).await.unwrap();
    let left = keys(&store).await;
    assert!(left.iter().all(|key| key.starts_with("a/op_0_12/")), "{left:?}");
    other.check(CheckpointId(1)).await;
}

#[tokio::test(start_paused = true)]
async fn weakness_10_handles_say_where_files_are_whatever_the_path_holds() {
    let store = RuleStore::default();
    let live = job_at(&store, "memory:/bucket/_entropy_/checkpoints/job").await;
    let mut states = [BTreeMap::new()];
    live.round(&mut states).await.unwrap();
    let listed: Vec<String> = keys(&store).await.into_iter().filter(|key| !key.ends_with("_metadata")).collect();
    let named = states[0].values().map(|handle| match handle {
        StreamHandle::Segment(segment) => segment.path.to_text().into_owned(),
        other => panic!("{other:?}"),
    });
    let named: Vec<String> = named.collect();
    assert_eq!(named, listed.iter().map(|key| format!("memory:/{key}")).collect::<Vec<_>>());
    live.check(CheckpointId(1)).await;
    live.round(&mut states).await.unwrap();
    states[0].clear();
    live.round(&mut states).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.files().await.len(), 2, "what is dead is found and deleted");
    live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

/// A job that has died before any checkpoint completed: of one all was written and told, of one nothing was told, of one
/// an upload is on its way.
async fn died() -> Site {
    let mut settings = settings();
    settings.ledger.retention = Retention::RetainOnCancellation;
    let site = Site::new(2, settings, packed()).await;
    for told in [true, false] {
        let trigger = site.trigger();
        let mut databases = [with("a", 1), with("b", 2)];
        for (index, database) in databases.iter_mut().enumerate() {
            database.private.insert("p".into(), bytes_of(3, 5_000));
            let part = async { site.part(&trigger, index as u32, database).await.unwrap() };
            let chunks = part.await;
            if told {
                site.live.acknowledge(trigger.checkpoint, index as u32, chunks).unwrap();
            }
        }
    }
    assert_eq!(site.data_files().await.len(), 8);
    site
}

#[tokio::test(start_paused = true)]
async fn weakness_11_a_crash_before_the_first_completed_checkpoint_leaves_nothing() {
    let mut site = died().await;
    let root = "checkpoints/01010101010101010101010101010101";
    let foreign = [format!("{root}/shared/0a1b-flink"), format!("{root}/taskowned/ds1-a1-ww-c1-n0-0000000000000001")];
    for key in &foreign {
        site.store.put(&Path::from(key.as_str()), "x".into()).await.unwrap();
    }
    site.live.restart().await.unwrap();
    assert_eq!(site.live.coordinator.latest(), None);
    // What the new attempt is writing stays.
    let trigger = site.trigger();
    site.worker = Worker::new(site.live.directory.clone(), "w", packed(), site.live.tokens.clone());
    let mut databases = [with("a", 1), with("b", 2)];
    let chunks = site.part(&trigger, 0, &mut databases[0]).await.unwrap();
    let removed = site.live.coordinator.remove_leftovers().await.unwrap();
    assert_eq!(removed.files, 8);
    assert!(removed.bytes > 40_000, "{removed:?}");
    let left = keys(&site.store).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(foreign.iter().all(|key| left.contains(key)), "{left:?}");
    site.live.acknowledge(trigger.checkpoint, 0, chunks).unwrap();
    site.live.coordinator.finished(trigger.epoch, trigger.checkpoint, site.live.subtask(1)).unwrap();
    site.live.coordinator.complete(trigger.checkpoint).await.unwrap();
    site.live.check(trigger.checkpoint).await;
    assert_eq!(site.live.coordinator.remove_leftovers().await.unwrap(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn weakness_11_nor_does_a_job_that_ends_without_one() {
    let mut site = died().await;
    site.live.restart().await.unwrap();
    site.live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(keys(&site.store).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn weakness_11_nothing_is_removed_while_a_checkpoint_is_unknown() {
    let site = Site::new(1, unfenced(), packed()).await;
    // A coordinator that was made before.
    let stale = Live::new(Arc::new(site.store.clone()), 1, unfenced()).await;
    site.checkpoint(&mut [with("a", 1)]).await.unwrap();
    let before = keys(&site.store).await;
    let error = stale.coordinator.remove_leftovers().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("chk-1/_metadata"), "{error}");
    assert_eq!(keys(&site.store).await, before);
}

#[tokio::test(start_paused = true)]
async fn weakness_12_what_may_be_gone_is_refused_by_file_and_offset() {
    let site = Site::new(1, settings(), packed()).await;
    let mut databases = [with("a", 1)];
    databases[0].shared.insert("b".into(), (bytes_of(2, 5_000), None));
    site.checkpoint(&mut databases).await.unwrap();
    let old = databases[0].shared.remove("b").unwrap().1.unwrap();
    let StreamHandle::Segment(segment) = &old else { panic!("{old:?}") };
    site.checkpoint(&mut databases).await.unwrap();
    // Its file is there yet, for the sake of "a"; but nothing names this segment.
    let trigger = site.trigger();
    let space = site.live.coordinator.space();
    let mut never = segment.clone();
    never.path = JavaString::new(&never.path.to_text().replace("-c1-", "-c9-")).unwrap();
    let mut beside = segment.clone();
    beside.size += 1;
    for handle in [segment.clone(), never, beside] {
        let (path, offset) = (handle.path.to_text().into_owned(), handle.offset);
        let shared = BTreeMap::from([("b".to_owned(), StreamHandle::Segment(handle))]);
        let error = site.live.acknowledge(trigger.checkpoint, 0, Chunks { shared, ..Chunks::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&path), "{error}");
        assert!(error.to_string().contains(&format!("at offset {offset} ")), "{error}");
        assert_eq!(site.live.coordinator.space(), space, "nothing has changed");
    }
    // What an aborted checkpoint wrote is told apart already by the worker.
    let snapshot = site.begin(&trigger, 0);
    let written = write(&snapshot, Scope::Shared, bytes_of(3, 5_000)).await.unwrap();
    let handle = snapshot.provisional(&written).unwrap().unwrap();
    drop(snapshot);
    site.give_up(trigger.checkpoint);
    let next = site.trigger();
    assert_eq!(site.begin(&next, 0).reuse(&handle), Reuse::Rewrite(RewriteReason::NotCommitted));
    let shared = BTreeMap::from([("c".to_owned(), handle)]);
    let error = site.live.acknowledge(next.checkpoint, 0, Chunks { shared, ..Chunks::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// A checkpoint with a shared file, a private one, and something inline.
async fn complete() -> (Site, FlinkPath) {
    let write = WriteSettings { inline_bytes_max: 1_000, ..packed().write };
    let site = Site::new(1, settings(), drystone::worker::WorkerSettings { write, ..packed() }).await;
    let mut databases = [with("a", 1)];
    databases[0].shared.insert("inline".into(), (bytes_of(2, 500), None));
    databases[0].private.insert("p".into(), bytes_of(3, 5_000));
    let completed = site.checkpoint(&mut databases).await.unwrap();
    (site, completed.path)
}

async fn read(site: &Site, path: &FlinkPath) -> drystone::Result<()> {
    let restore = Restore::open(&site.live.stores, path, ReadLimits::default()).await?;
    restore.task(OPERATOR, 0, 1)?.read_all().await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn weakness_21_any_byte_that_changes_is_found() {
    let (site, path) = complete().await;
    read(&site, &path).await.unwrap();
    let limits = ReadLimits::default();
    for key in keys(&site.store).await {
        let at = Path::from(key.as_str());
        let whole = site.store.get(&at).await.unwrap().bytes().await.unwrap();
        let (is_metadata, step) = if key.ends_with("_metadata") { (true, 1) } else { (false, 37) };
        for offset in (0..whole.len()).step_by(step).chain(whole.len().saturating_sub(40)..whole.len()) {
            let mut damaged = whole.to_vec();
            damaged[offset] ^= 0x10;
            site.store.put(&at, damaged.into()).await.unwrap();
            let found = verify(&site.live.stores, &path, &limits, &|_, _| {}).await;
            assert!(found.is_err() || found.is_ok_and(|found| !found.is_sound()), "{key}: byte {offset} is unseen");
            // A footer isn't needed to restore, everything else is.
            if is_metadata || offset < 5_000 {
                let error = read(&site, &path).await.expect_err(&format!("{key}: byte {offset}"));
                let file = key.rsplit('/').next().unwrap();
                assert!(error.to_string().contains(file), "{key}: byte {offset}: {error}");
            }
        }
        site.store.put(&at, whole.into()).await.unwrap();
    }
    read(&site, &path).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn weakness_21_nobody_acts_on_damaged_metadata() {
    let (mut site, path) = complete().await;
    let at = Path::from(path.join("_metadata").unwrap().path().trim_start_matches('/'));
    let whole = site.store.get(&at).await.unwrap().bytes().await.unwrap();
    // A segment's offset, say: still legible, and wrong.
    for offset in (8..whole.len()).step_by(7) {
        let mut damaged = whole.to_vec();
        damaged[offset] ^= 1;
        site.store.put(&at, damaged.into()).await.unwrap();
        let error = site.live.restart().await.expect_err(&format!("byte {offset}"));
        assert_eq!(error.kind(), ErrorKind::Damaged, "byte {offset}: {error}");
    }
    site.store.put(&at, whole.into()).await.unwrap();
    site.live.restart().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn weakness_21_a_checkpoint_can_be_moved() {
    let (site, path) = complete().await;
    let options = Options {
        write: WriteSettings::default(),
        read: ReadLimits::default(),
        job_id: None,
        tokens: site.live.tokens.clone(),
        discard_leftovers: false,
    };
    let elsewhere = FlinkPath::parse("memory:/elsewhere").unwrap();
    let report = copy(&site.live.stores, &path, &elsewhere, &options, &|_, _, _| {}).await.unwrap();
    site.live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert!(keys(&site.store).await.iter().all(|key| key.starts_with("elsewhere/")));
    read(&site, &report.destination).await.unwrap();
    let found = verify(&site.live.stores, &report.destination, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.findings);
    assert_eq!(found.counts.streams, 3);
}
