//! Savepoints belong to the user: self-contained, to be moved, and never in the way of the job's own checkpoints.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/savepoint_job.rs"]
mod savepoint_job;

use std::sync::Arc;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::coordinator::{Acknowledged, JobEnd, SavepointRequest};
use drystone::dispose::{Disposal, DisposeSettings};
use drystone::format::{Properties, PropertiesKind, PropertiesRead};
use drystone::handle::{FileHandle, JavaString, StreamHandle};
use drystone::id::{CheckpointId, Scope};
use drystone::jobs::State;
use drystone::ledger::SpacePolicy;
use drystone::protocol::{Reuse, RewriteReason, SavepointAction, SavepointFormat, SnapshotKind, Trigger};
use drystone::read::{Checkpoint, ReadLimits, Restore, suggest_rebase};
use drystone::store::FlinkPath;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use savepoint_job::{Job, OPERATOR, check, path, request};

async fn job() -> Job {
    Job::new(Arc::new(InMemory::new())).await.unwrap()
}

/// The handles of a checkpoint's or savepoint's files.
async fn handles(job: &Job, at: &FlinkPath) -> Vec<StreamHandle> {
    let checkpoint = Checkpoint::load(&job.stores, at).await.unwrap();
    let mut handles = Vec::new();
    checkpoint.decoded.metadata.visit_streams(|_, handle| handles.push(handle.clone()));
    handles
}

#[tokio::test]
async fn a_savepoint_has_a_directory_of_its_own_named_as_flink_does() {
    let job = job().await;
    let trigger = job.savepoint(false);
    let SnapshotKind::Savepoint(target) = &trigger.kind else { panic!("{trigger:?}") };
    let name = target.directory.strip_prefix("memory:/savepoints/savepoint-ababab-").unwrap();
    assert!(name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    assert!(trigger.plan.is_empty() && trigger.claimed.is_empty());

    let completed = job.take(&trigger).await.unwrap();
    assert_eq!(completed.path.to_string(), target.directory);
    assert_eq!((completed.subsumed.len(), completed.aborted.len()), (0, 0));
    check(&job.stores, &completed.path, trigger.checkpoint).await;
    assert_eq!(job.files(&target.directory).await.len(), 5, "a file for each piece, and the metadata");
    assert!(job.files("memory:/checkpoints").await.is_empty(), "and nothing elsewhere");

    let metadata = Checkpoint::load(&job.stores, &completed.path).await.unwrap().decoded.metadata;
    let PropertiesRead::Known(properties) = Properties::read(&metadata.properties) else { panic!("unknown") };
    let kind = PropertiesKind::Savepoint(SavepointFormat::Native, SavepointAction::None);
    assert_eq!(
        properties,
        Properties {
            kind,
            discard_cancelled: false,
            discard_failed: false,
            discard_finished: false,
            discard_subsumed: false,
            discard_suspended: false,
            forced: true,
            unclaimed: false,
        }
    );
}

/// Every file is the bytes of one piece and not a byte more, as a database that reads it to its end wants it.
#[tokio::test]
async fn it_can_be_moved() {
    let job = job().await;
    let trigger = job.savepoint(false);
    let completed = job.take(&trigger).await.unwrap();
    for handle in handles(&job, &completed.path).await {
        let StreamHandle::Relative(FileHandle { path, size }) = handle else { panic!("{handle:?}") };
        let file = job.stores.locate(&completed.path.join(&path.to_text()).unwrap()).unwrap();
        assert_eq!(file.size().await.unwrap(), size as u64);
    }
    let moved = move_away(&job, &completed.path).await;
    check(&job.stores, &moved, trigger.checkpoint).await;
}

async fn move_away(job: &Job, from: &FlinkPath) -> FlinkPath {
    let moved = path("memory:/elsewhere/mine");
    let (from, to) = (job.stores.locate(from).unwrap(), job.stores.locate(&moved).unwrap());
    for file in from.list().await.unwrap() {
        let name = file.path.relative_to(from.name()).unwrap();
        let bytes = from.join(name).unwrap().read_all(u64::MAX).await.unwrap();
        to.join(name).unwrap().create(vec![bytes]).await.unwrap();
        from.join(name).unwrap().delete().await.unwrap();
    }
    moved
}

/// It names its files where they were; where they are now is found out.
#[tokio::test]
async fn packed_and_moved_it_is_read_by_the_rebase_that_is_found() {
    let job = job().await;
    let trigger = job.savepoint(true);
    let completed = job.take(&trigger).await.unwrap();
    let moved = move_away(&job, &completed.path).await;
    let restore = Restore::open(&job.stores, &moved, ReadLimits::default()).await.unwrap();
    let error = restore.task(OPERATOR, 0, 2).unwrap().read_all().await.err().unwrap();
    let (was, is) = (completed.path.to_string(), moved.to_string());
    assert!(error.kind() == ErrorKind::NotFound && [was, is].iter().all(|p| error.to_string().contains(p)), "{error}");
    let StreamHandle::Segment(segment) = &handles(&job, &moved).await[0] else { panic!("not packed") };
    let missing = path(&segment.path.to_text());
    let rule = suggest_rebase(&job.stores, restore.checkpoint(), &missing).await.unwrap();
    check(&job.stores.clone().with_rebase(vec![rule]), &moved, trigger.checkpoint).await;
}

#[tokio::test]
async fn packed_it_has_few_files_of_its_own() {
    let job = job().await;
    let trigger = job.savepoint(true);
    let completed = job.take(&trigger).await.unwrap();
    check(&job.stores, &completed.path, trigger.checkpoint).await;
    assert_eq!(job.files("memory:/savepoints").await.len(), 2, "one file for both subtasks, and the metadata");
    assert!(job.files("memory:/checkpoints").await.is_empty());
    for handle in handles(&job, &completed.path).await {
        let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
        assert!(segment.path.to_text().starts_with(&completed.path.to_string()));
        assert_eq!(segment.scope, Scope::Exclusive, "shared by nobody, whatever the state backend said");
    }
}

/// A piece longer than what is buffered is streamed to its file: no footer comes behind it either.
#[tokio::test]
async fn long_pieces_are_files_of_their_own_too() {
    let job = job().await;
    let trigger = job.savepoint(false);
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|n| (n / 7) as u8).collect();
    let mut all = Vec::new();
    for index in 0..2 {
        let snapshot = job.worker.begin(job.spec.subtask(index), &trigger).unwrap();
        let mut segment = snapshot.segment(Scope::Shared, None);
        for chunk in bytes.chunks(1 << 20) {
            segment.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let written = segment.finish().await.unwrap();
        all.push((index, written, snapshot.finish()));
    }
    for (index, written, ticket) in all {
        let handle = ticket.seal().await.unwrap().handle(&written).unwrap().unwrap();
        job.acknowledge(&trigger, index, vec![handle]).unwrap();
    }
    let completed = job.coordinator.complete(trigger.checkpoint).await.unwrap();
    let restore = Restore::open(&job.stores, &completed.path, ReadLimits::default()).await.unwrap();
    let read = restore.task(OPERATOR, 1, 2).unwrap().read_all().await.unwrap();
    assert!(read.bytes(0) == bytes);
    let sizes = handles(&job, &completed.path).await;
    assert!(sizes.iter().all(|handle| handle.size() == Some(bytes.len() as u64)));
}

#[tokio::test]
async fn checkpoints_neither_replace_it_nor_name_it() {
    let job = job().await;
    let before = job.checkpoint().await.unwrap();
    let trigger = job.savepoint(false);
    let savepoint = job.take(&trigger).await.unwrap();
    assert_eq!(job.coordinator.completed(), [before.checkpoint], "it is none of the job's");
    assert_eq!(job.coordinator.latest().unwrap().checkpoint, before.checkpoint);

    // What a later checkpoint says of a savepoint's file is refused.
    let own = handles(&job, &savepoint.path).await;
    let next = job.coordinator.trigger(job.coordinator.next_checkpoint()).unwrap();
    let StreamHandle::Relative(file) = own[0].clone() else { panic!("{own:?}") };
    let absolute = JavaString::new(&savepoint.path.join(&file.path.to_text()).unwrap().to_string()).unwrap();
    let stolen = StreamHandle::File(FileHandle { path: absolute, ..file });
    let refused = job.acknowledge(&next, 0, vec![stolen]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    job.coordinator.abort(next.checkpoint);

    for _ in 0..4 {
        job.checkpoint().await.unwrap();
    }
    job.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    assert!(job.files("memory:/checkpoints").await.is_empty(), "the job kept nothing");
    check(&job.stores, &savepoint.path, trigger.checkpoint).await;
}

/// A savepoint that takes longer than the checkpoints around it.
#[tokio::test]
async fn one_under_way_is_outlived_by_no_checkpoint_and_outlives_none() {
    let job = job().await;
    let savepoint = job.savepoint(true);
    let written = job.write(&savepoint).await.unwrap();
    let slow = job.coordinator.trigger(job.coordinator.next_checkpoint()).unwrap();
    let slow_written = job.write(&slow).await.unwrap();

    let second = job.savepoint(false);
    let second = job.take(&second).await.unwrap();
    assert_eq!(job.coordinator.pending(), [savepoint.checkpoint, slow.checkpoint], "a savepoint ends no other");
    assert_eq!(job.worker.usage().checkpoints, 2, "nor does it at the worker");
    job.worker.complete(slow.epoch, second.checkpoint);
    assert_eq!(job.worker.usage().checkpoints, 2, "nor does word of it that comes again");

    for (index, handles) in slow_written {
        job.acknowledge(&slow, index, handles).unwrap();
    }
    let completed = job.coordinator.complete(slow.checkpoint).await.unwrap();
    job.worker.complete(slow.epoch, slow.checkpoint);
    assert_eq!((completed.aborted.len(), job.coordinator.pending()), (0, vec![savepoint.checkpoint]));
    assert_eq!(job.worker.usage().checkpoints, 1, "and no checkpoint ends a savepoint");

    for (index, handles) in written {
        job.acknowledge(&savepoint, index, handles).unwrap();
    }
    let completed = job.coordinator.complete(savepoint.checkpoint).await.unwrap();
    check(&job.stores, &completed.path, savepoint.checkpoint).await;
    check(&job.stores, &second.path, second.checkpoint).await;
    assert_eq!(job.coordinator.latest().unwrap().checkpoint, slow.checkpoint);
    job.coordinator.settle().await.unwrap();
    assert_eq!(job.coordinator.space(), live_space(&job).await, "nothing of the savepoints counts");
}

/// The figures when the same job has never taken a savepoint.
async fn live_space(job: &Job) -> drystone::ledger::SpaceUsage {
    let mut files = std::collections::BTreeMap::new();
    let (mut segments, mut segment_bytes) = (0, 0);
    for handle in handles(job, &job.coordinator.latest().unwrap().path).await {
        let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
        let file = path(&segment.path.to_text());
        files.insert(file.to_string(), job.stores.locate(&file).unwrap().size().await.unwrap());
        segments += 1;
        segment_bytes += segment.size;
    }
    drystone::ledger::SpaceUsage {
        files: files.len() as u64,
        file_bytes: files.values().sum(),
        segments,
        segment_bytes,
    }
}

#[tokio::test]
async fn nothing_is_reused_in_it() {
    let job = job().await;
    let completed = job.checkpoint().await.unwrap();
    let stored = handles(&job, &completed.path).await;
    let trigger = job.savepoint(false);
    let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
    for handle in &stored {
        assert_eq!(snapshot.reuse(handle), Reuse::Rewrite(RewriteReason::SelfContained));
    }
    drop(snapshot);
    let refused = job.acknowledge(&trigger, 0, stored).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("a savepoint holds all that it names"), "{refused}");
    assert_eq!(job.coordinator.pending(), [trigger.checkpoint], "declined or retried: nothing has changed");

    // Nor what another savepoint wrote, wherever it lies.
    let mut written = job.write(&trigger).await.unwrap();
    let (_, foreign) = written.remove(0);
    let other = job.savepoint(false);
    let StreamHandle::Segment(segment) = foreign[0].clone() else { panic!("{foreign:?}") };
    let refused = job.acknowledge(&other, 0, foreign).unwrap_err();
    assert!(refused.to_string().contains("a savepoint holds all that it names"), "{refused}");
    let name = JavaString::new(path(&segment.path.to_text()).file_name().unwrap()).unwrap();
    let moved = StreamHandle::Relative(FileHandle { path: name, size: segment.size as i64 });
    let refused = job.acknowledge(&other, 0, vec![moved]).unwrap_err();
    assert!(refused.to_string().contains("was written for another snapshot"), "{refused}");
}

#[tokio::test]
async fn space_control_and_folding_leave_it_alone() {
    let mut settings = live::settings();
    settings.ledger.space = SpacePolicy {
        amplification_max: Some(1.0),
        floor_bytes: 0,
        across: true,
        fold_ratio_max: 10.0,
        file_bytes_max: 1 << 20,
    };
    let job = Job::with(Arc::new(InMemory::new()), settings).await.unwrap();
    for _ in 0..6 {
        job.checkpoint().await.unwrap();
    }
    let trigger = job.savepoint(true);
    assert!(trigger.plan.is_empty());
    let completed = job.take(&trigger).await.unwrap();
    let plan = job.coordinator.plan();
    assert!(plan.files.keys().all(|file| !file.contains("savepoint-")), "{plan:?}");
    job.coordinator.rewrite(u64::MAX).await.unwrap();
    check(&job.stores, &completed.path, trigger.checkpoint).await;
}

#[tokio::test]
async fn a_canonical_one_has_no_state_backends_own_form() {
    let job = job().await;
    let canonical = SavepointRequest { format: SavepointFormat::Canonical, ..request(false) };
    let trigger = job.coordinator.trigger_savepoint(job.coordinator.next_checkpoint(), &canonical).unwrap();
    let written = job.write(&trigger).await.unwrap();
    let refused = job.acknowledge(&trigger, 0, written[0].1.clone()).unwrap_err();
    assert!(refused.to_string().contains("format=CANONICAL"), "{refused}");
}

#[tokio::test]
async fn the_jobs_own_directories_are_refused() {
    let job = job().await;
    let root = job.coordinator.directory().root().name().clone();
    for (below, is_allowed) in [("chk-1", false), ("shared", false), ("taskowned", false), ("_drystone", false)] {
        let directory = root.join(below).unwrap();
        let refused = job
            .coordinator
            .trigger_savepoint(job.coordinator.next_checkpoint(), &SavepointRequest { directory, ..request(false) });
        assert_eq!(refused.is_ok(), is_allowed, "{below}");
    }
    let beside = SavepointRequest { directory: path("memory:/checkpoints"), ..request(false) };
    let trigger = job.coordinator.trigger_savepoint(job.coordinator.next_checkpoint(), &beside).unwrap();
    let completed = job.take(&trigger).await.unwrap();
    check(&job.stores, &completed.path, trigger.checkpoint).await;
}

#[tokio::test]
async fn an_aborted_one_takes_only_what_was_written_for_it() {
    let job = job().await;
    let before = job.checkpoint().await.unwrap();
    let first = job.savepoint(false);
    let first = job.take(&first).await.unwrap();
    let trigger = job.savepoint(false);
    let written = job.write(&trigger).await.unwrap();
    job.acknowledge(&trigger, 0, written[0].1.clone()).unwrap();
    let SnapshotKind::Savepoint(target) = &trigger.kind else { panic!("{trigger:?}") };
    let mine = job.stores.locate(&path(&target.directory).join("notes.txt").unwrap()).unwrap();
    mine.create(vec![Bytes::from_static(b"the user's")]).await.unwrap();
    assert_eq!(job.files(&target.directory).await.len(), 6, "what says that it isn't whole among them");

    assert!(job.coordinator.abort(trigger.checkpoint));
    job.worker.abort(trigger.epoch, trigger.checkpoint);
    job.coordinator.settle().await.unwrap();
    assert_eq!(job.files(&target.directory).await, ["notes.txt"]);
    let late = job.acknowledge(&trigger, 1, written[1].1.clone()).unwrap();
    assert_eq!(late, Acknowledged::Late);

    // What lands after that is looked for once more, when a later checkpoint has completed.
    let StreamHandle::Segment(segment) = &written[0].1[0] else { panic!("{written:?}") };
    let late = job.stores.locate(&path(&segment.path.to_text())).unwrap();
    late.create(vec![Bytes::from_static(b"late")]).await.unwrap();
    job.checkpoint().await.unwrap();
    job.coordinator.settle().await.unwrap();
    assert_eq!(job.files(&target.directory).await, ["notes.txt"]);
    check(&job.stores, &first.path, first.checkpoint).await;
    drop(before);
}

#[tokio::test]
async fn an_older_coordinator_completes_none() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let older = Job::new(store.clone()).await.unwrap();
    let trigger = older.savepoint(false);
    for (index, handles) in older.write(&trigger).await.unwrap() {
        older.acknowledge(&trigger, index, handles).unwrap();
    }
    let newer = older.successor(store).await.unwrap();
    let fenced = older.coordinator.complete(trigger.checkpoint).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    let listing = older.list().await;
    assert_eq!(listing.groups[0].entries[0].state, State::NoMetadata);
    let refused = older.coordinator.trigger_savepoint(CheckpointId(99), &request(false)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    // The newer one's numbers go on after what the older has said in public.
    let next = newer.savepoint(false);
    let completed = newer.take(&next).await.unwrap();
    check(&newer.stores, &completed.path, next.checkpoint).await;
}

#[tokio::test]
async fn it_can_be_listed_restored_from_and_disposed_of() {
    let job = job().await;
    job.checkpoint().await.unwrap();
    let completed = job.take(&job.savepoint(false)).await.unwrap();
    let listing = job.list().await;
    let [group] = &listing.groups[..] else { panic!("{listing:?}") };
    assert_eq!((group.entries.len(), &group.entries[0].state), (1, &State::Complete));

    let settings = DisposeSettings::default();
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    let disposal = Disposal::look(&job.stores, &completed.path, &settings, now).await.unwrap();
    assert_eq!(disposal.found().doomed.len(), 4);
    assert!(disposal.delete(&|_, _| {}).await.stopped.is_none());
    assert!(job.files("memory:/savepoints").await.is_empty());
}

#[test]
fn triggers_from_before_there_were_savepoints_are_read() {
    let old = r#"{"checkpoint":3,"epoch":2,"plan":{"files":{}},"claimed":["file:/a"]}"#;
    let read: Trigger = serde_json::from_str(old).unwrap();
    assert_eq!((read.checkpoint, read.epoch, &read.kind), (CheckpointId(3), 2, &SnapshotKind::Checkpoint));
    let again: Trigger = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
    assert_eq!(again, read);
}

#[tokio::test]
async fn a_worker_without_stores_writes_none() {
    let job = job().await;
    let directory = job.coordinator.directory().clone();
    let alone = drystone::worker::Worker::new(directory, "alone", savepoint_job::worker_settings(), live::tokens());
    let refused = alone.begin(job.spec.subtask(0), &job.savepoint(false)).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}
