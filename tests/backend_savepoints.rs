//! Savepoints through the adapters: restored by a job that has nothing else, while the first job's checkpoints go on as if
//! there had been none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod backend_job;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::backend::files::{self, FileBackend, FileKind, RestoreOptions, UploadCounts};
use drystone::backend::keyed::{self, KeyGroupBackend};
use drystone::config::{ClaimMode, Config};
use drystone::coordinator::JobEnd;
use drystone::handle::{KeyGroupsForm, KeyedHandle};
use drystone::id::KeyGroupRange;
use drystone::protocol::{SavepointFormat, Trigger};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use support::backend_job::{BackendJob, KEY_GROUPS, OPERATOR, contents};

const ALL: KeyGroupRange = KeyGroupRange { start: 0, count: KEY_GROUPS };

/// On the local disk, so that a job's directory can be deleted.
fn storage(root: &Path, name: &str) -> Storage {
    Storage::open(&Config::from_map([
        ("execution.checkpointing.dir", format!("file:{}", root.join(name).display()).as_str()),
        ("execution.checkpointing.data-inline-threshold", "100 b"),
        ("execution.checkpointing.file-merging.max-space-amplification", "0"),
        ("drystone.fencing.proof-rounds", "0"),
        ("drystone.seal.linger", "0 ms"),
    ]))
    .unwrap()
}

/// A database of so many tables, and its manifest.
fn database(at: &Path, tables: u32) {
    fs::create_dir_all(at.join("tables")).unwrap();
    (0..tables).for_each(|number| table(at, number));
    fs::write(at.join("MANIFEST"), tables.to_string()).unwrap();
}

fn table(at: &Path, number: u32) {
    let bytes: Vec<u8> = (0..1_000 + number * 300).map(|byte| (byte ^ number) as u8).collect();
    fs::write(at.join(format!("tables/{number}")), bytes).unwrap();
}

fn kind(name: &str) -> FileKind {
    if name == "MANIFEST" { FileKind::Private } else { FileKind::Shared }
}

/// Takes what was triggered, and tells everybody.
async fn take(
    job: &BackendJob,
    backend: &FileBackend,
    database: &Path,
    trigger: Trigger,
    is_full: bool,
) -> (FlinkPath, UploadCounts) {
    let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
    let meta = Bytes::from_static(b"meta");
    let written = match is_full {
        true => backend.write_all(&snapshot, database, kind, meta).await.unwrap(),
        false => backend.write_changed(&snapshot, database, kind, meta).await.unwrap(),
    };
    let counts = written.counts();
    let durable = snapshot.seal().await.unwrap();
    let handle = backend.handle(written, &durable).unwrap();
    job.acknowledge(&trigger, 0, Some(KeyedHandle::Incremental(handle)), &durable);
    let completed = job.complete(trigger.checkpoint).await;
    backend.confirmed(trigger.checkpoint);
    completed.subsumed.iter().for_each(|&older| backend.subsumed(older));
    (completed.path, counts)
}

/// The job ends, and nothing is left of its checkpoints.
async fn delete(job: BackendJob, root: &Path, name: &str) {
    job.coordinator.dispose(JobEnd::Suspended).await.unwrap();
    drop(job);
    fs::remove_dir_all(root.join(name)).unwrap();
}

fn kept_and_new(counts: UploadCounts) -> (u64, u64, u64) {
    (counts.kept_files, counts.new_files, counts.rewritten_files)
}

#[tokio::test]
async fn of_a_database_amid_incremental_checkpoints() {
    for pack in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let first = storage(root.path(), "first");
        let job = BackendJob::start(&first, 1).await.unwrap();
        let (at, backend) = (root.path().join("database"), FileBackend::new("backend", ALL).unwrap());
        database(&at, 5);
        let (_, counts) = take(&job, &backend, &at, job.trigger(), false).await;
        assert_eq!(kept_and_new(counts), (0, 5, 0));
        table(&at, 5);
        fs::remove_file(at.join("tables/0")).unwrap();
        let savepoints = format!("file:{}", root.path().join("savepoints").display());
        let trigger = job.savepoint(&savepoints, SavepointFormat::Native, pack);
        let (savepoint, counts) = take(&job, &backend, &at, trigger, false).await;
        assert_eq!(kept_and_new(counts), (0, 5, 0));
        let then = contents(&at);
        // The savepoint has table 5, and yet no checkpoint does.
        let (_, counts) = take(&job, &backend, &at, job.trigger(), false).await;
        assert_eq!(kept_and_new(counts), (4, 1, 0));
        // One that isn't told of how it ends, and one that is given up.
        for is_aborted in [false, true] {
            let trigger = job.savepoint(&savepoints, SavepointFormat::Native, pack);
            let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
            let written = backend.write_all(&snapshot, &at, kind, Bytes::new()).await.unwrap();
            backend.handle(written, &snapshot.seal().await.unwrap()).unwrap();
            job.abort(trigger.checkpoint);
            if is_aborted {
                backend.aborted(trigger.checkpoint);
            }
        }
        let (latest, counts) = take(&job, &backend, &at, job.trigger(), false).await;
        assert_eq!(kept_and_new(counts), (5, 0, 0));
        assert_eq!(restored(&first, &latest, &root.path().join("from-latest")).await, then);
        delete(job, root.path(), "first").await;

        let second = storage(root.path(), "second");
        let job = BackendJob::start(&second, 1).await.unwrap();
        job.coordinator.restore(&savepoint, ClaimMode::NoClaim).await.unwrap();
        assert_eq!(restored(&second, &savepoint, &root.path().join("from-savepoint")).await, then);
        let backend = FileBackend::new("backend", ALL).unwrap();
        backend.resume(&second.restore(&savepoint).await.unwrap().task(OPERATOR, 0, 1).unwrap());
        // Nothing of the user's is named by the new job's checkpoints.
        let (_, counts) = take(&job, &backend, &at, job.trigger(), false).await;
        assert_eq!(counts.kept_files, 0);
        let (_, counts) = take(&job, &backend, &at, job.trigger(), false).await;
        assert_eq!(kept_and_new(counts), (5, 0, 0));
    }
}

async fn restored(storage: &Storage, path: &FlinkPath, into: &Path) -> BTreeMap<String, Vec<u8>> {
    let task = storage.restore(path).await.unwrap().task(OPERATOR, 0, 1).unwrap();
    let restored = files::restore(&task, into, &RestoreOptions::default()).await.unwrap();
    contents(&restored.directories[0].path)
}

#[tokio::test]
async fn a_full_checkpoint_of_a_database_names_nothing_of_those_before_and_is_gone_on_from() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path(), "job");
    let job = BackendJob::start(&storage, 1).await.unwrap();
    let (at, backend) = (root.path().join("database"), FileBackend::new("backend", ALL).unwrap());
    database(&at, 4);
    take(&job, &backend, &at, job.trigger(), false).await;
    let (path, counts) = take(&job, &backend, &at, job.trigger(), true).await;
    assert_eq!(kept_and_new(counts), (0, 4, 0));
    assert_eq!(restored(&storage, &path, &root.path().join("full")).await, contents(&at));
    table(&at, 4);
    let (path, counts) = take(&job, &backend, &at, job.trigger(), false).await;
    assert_eq!(kept_and_new(counts), (4, 1, 0));
    assert_eq!(restored(&storage, &path, &root.path().join("next")).await, contents(&at));
}

#[tokio::test]
async fn a_canonical_savepoint_of_a_databases_files_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path(), "job");
    let job = BackendJob::start(&storage, 1).await.unwrap();
    let backend = FileBackend::new("backend", ALL).unwrap();
    let savepoints = format!("file:{}", root.path().join("savepoints").display());
    let trigger = job.savepoint(&savepoints, SavepointFormat::Canonical, false);
    let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
    let nowhere = root.path().join("no database");
    for is_full in [false, true] {
        let written = match is_full {
            true => backend.write_all(&snapshot, &nowhere, kind, Bytes::new()).await,
            false => backend.write_changed(&snapshot, &nowhere, kind, Bytes::new()).await,
        };
        let error = written.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("format=CANONICAL"), "{error}");
    }
}

/// Each group has bytes of its own for each round in which it changed.
async fn take_groups(
    job: &BackendJob,
    backend: &KeyGroupBackend,
    state: &BTreeMap<u32, Bytes>,
    trigger: &Trigger,
) -> (FlinkPath, keyed::GroupCounts, KeyedHandle) {
    let snapshot = job.worker.begin(job.spec.subtask(0), trigger).unwrap();
    let written = backend.write_changed(&snapshot, |group| state[&group].clone()).await.unwrap();
    let counts = written.counts();
    let durable = snapshot.seal().await.unwrap();
    let handle = backend.handle(written, &durable).unwrap();
    job.acknowledge(trigger, 0, handle.clone(), &durable);
    let path = job.complete(trigger.checkpoint).await.path;
    backend.confirmed(trigger.checkpoint);
    (path, counts, handle.unwrap())
}

#[tokio::test]
async fn of_key_groups_amid_incremental_checkpoints() {
    for (format, pack) in
        [(SavepointFormat::Native, false), (SavepointFormat::Native, true), (SavepointFormat::Canonical, false)]
    {
        let root = tempfile::tempdir().unwrap();
        let first = storage(root.path(), "first");
        let job = BackendJob::start(&first, 1).await.unwrap();
        let new = || KeyGroupBackend::new("counters", ALL, Bytes::from_static(b"1")).unwrap();
        let backend = new();
        let mut state: BTreeMap<u32, Bytes> =
            (0..KEY_GROUPS).map(|group| (group, Bytes::from(vec![group as u8; 500]))).collect();
        take_groups(&job, &backend, &state, &job.trigger()).await;
        state.insert(7, Bytes::from_static(&[77; 700]));
        backend.changed(7);
        let savepoints = format!("file:{}", root.path().join("savepoints").display());
        let trigger = job.savepoint(&savepoints, format, pack);
        let (savepoint, counts, handle) = take_groups(&job, &backend, &state, &trigger).await;
        assert_eq!((counts.new_groups, counts.kept_groups), (KEY_GROUPS.into(), 0));
        // One stream, in the form that a savepoint of this format is to have.
        let KeyedHandle::KeyGroups(groups) = handle else { panic!("{handle:?}") };
        assert_eq!(groups.form == KeyGroupsForm::Savepoint, format == SavepointFormat::Canonical);
        let (_, counts, _) = take_groups(&job, &backend, &state, &job.trigger()).await;
        assert_eq!((counts.new_groups, counts.kept_groups), (1, u64::from(KEY_GROUPS) - 1));
        delete(job, root.path(), "first").await;

        let second = storage(root.path(), "second");
        let job = BackendJob::start(&second, 1).await.unwrap();
        job.coordinator.restore(&savepoint, ClaimMode::NoClaim).await.unwrap();
        let task = second.restore(&savepoint).await.unwrap().task(OPERATOR, 0, 1).unwrap();
        let mut found = BTreeMap::new();
        let reading = keyed::restore(&task, |group| {
            found.insert(group.key_group, group.bytes);
            Ok(())
        });
        reading.await.unwrap();
        assert_eq!(found, state);
        let backend = new();
        backend.resume(&task);
        let (_, counts, _) = take_groups(&job, &backend, &state, &job.trigger()).await;
        assert_eq!(counts.kept_groups, 0);
        let (_, counts, _) = take_groups(&job, &backend, &state, &job.trigger()).await;
        assert_eq!((counts.new_groups, counts.kept_groups), (0, KEY_GROUPS.into()));
    }
}
