//! The adapter for directories when something goes wrong: stores that fail, files that change, local files that are others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod backend_job;
    pub mod fault_store;
}

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use drystone::backend::files::{FileBackend, FileKind, RestoreOptions, WrittenFiles, restore};
use drystone::backend::keyed;
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle};
use drystone::id::KeyGroupRange;
use drystone::read::TaskRestore;
use drystone::storage::Storage;
use drystone::worker::Snapshot;
use drystone::{Error, ErrorKind, Result};
use object_store::memory::InMemory;
use support::backend_job::{BackendJob, KEY_GROUPS, OPERATOR, contents, storage};
use support::fault_store::{Fault, FaultStore};

/// A database of files of these lengths, the first of them private.
fn database(lengths: &[usize]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tables")).unwrap();
    for (number, &length) in lengths.iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
        fs::write(directory.path().join(name(number)), bytes).unwrap();
    }
    directory
}

fn name(number: usize) -> String {
    if number == 0 { "MANIFEST".into() } else { format!("tables/{number:03}") }
}

fn kind(name: &str) -> FileKind {
    if name == "MANIFEST" { FileKind::Private } else { FileKind::Shared }
}

fn backend(index: u32, parallelism: u32) -> FileBackend {
    let range = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
    FileBackend::new(&format!("backend-{index}"), range).unwrap()
}

async fn write(backend: &FileBackend, snapshot: &Snapshot, directory: &Path) -> Result<WrittenFiles> {
    backend.write_changed(snapshot, directory, kind, Bytes::from_static(b"meta")).await
}

/// A checkpoint of all subtasks, with what `change` makes of their handles.
async fn checkpoint(
    job: &BackendJob,
    backends: &[FileBackend],
    databases: &[&Path],
    change: impl Fn(&mut IncrementalHandle),
) -> Result<()> {
    let trigger = job.trigger();
    let mut written = Vec::new();
    for ((index, backend), directory) in (0..).zip(backends).zip(databases) {
        let snapshot = job.worker.begin(job.spec.subtask(index), &trigger)?;
        let files = write(backend, &snapshot, directory).await?;
        written.push((index, backend, files, snapshot.finish()));
    }
    for (index, backend, files, ticket) in written {
        let durable = ticket.seal().await?;
        let mut handle = backend.handle(files, &durable)?;
        change(&mut handle);
        job.acknowledge(&trigger, index, Some(KeyedHandle::Incremental(handle)), &durable);
    }
    job.complete(trigger.checkpoint).await;
    backends.iter().for_each(|backend| backend.confirmed(trigger.checkpoint));
    Ok(())
}

async fn task(job: &BackendJob, storage: &Storage, index: u32, parallelism: u32) -> TaskRestore {
    let path = job.coordinator.latest().unwrap().path;
    storage.restore(&path).await.unwrap().task(OPERATOR, index, parallelism).unwrap()
}

/// A job of one subtask that has completed a checkpoint of a database.
async fn completed(
    store: Arc<dyn object_store::ObjectStore>,
    lengths: &[usize],
) -> (Storage, BackendJob, tempfile::TempDir) {
    let storage = storage(store, &[]);
    let job = BackendJob::start(&storage, 1).await.unwrap();
    let database = database(lengths);
    checkpoint(&job, &[backend(0, 1)], &[database.path()], |_| {}).await.unwrap();
    (storage, job, database)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

const LENGTHS: [usize; 5] = [10, 0, 3_000, 40_000, 700_000];

#[tokio::test]
async fn an_upload_that_fails_anywhere_is_made_up_for_by_the_next_checkpoint() {
    let mut cut = 0;
    loop {
        let store = FaultStore::new(Arc::new(InMemory::new()), []);
        let storage = storage(Arc::new(store.clone()), &[]);
        let job = BackendJob::start(&storage, 1).await.unwrap();
        let (database, backends) = (database(&LENGTHS), [backend(0, 1)]);
        store.begin([(cut, Fault::Before)]);
        let trigger = job.trigger();
        let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
        let written = match write(&backends[0], &snapshot, database.path()).await {
            Ok(_) => snapshot.seal().await.map(drop),
            Err(error) => Err(error),
        };
        let operations = store.operations().len();
        store.begin([]);
        job.abort(trigger.checkpoint);
        backends[0].aborted(trigger.checkpoint);
        checkpoint(&job, &backends, &[database.path()], |_| {}).await.unwrap();
        let into = tempfile::tempdir().unwrap();
        let from = task(&job, &storage, 0, 1).await;
        let restored = restore(&from, into.path(), &RestoreOptions::default()).await.unwrap().directories;
        assert_eq!(contents(&restored[0].path), contents(database.path()));
        if operations <= cut {
            assert!(written.is_ok() && cut > 0, "cut at {cut}");
            assert_eq!(store.uploads_open(), 0);
            return;
        }
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Store, "cut at {cut}");
        cut += 1;
    }
}

#[tokio::test]
async fn a_restore_that_fails_anywhere_leaves_nothing_behind() {
    let store = FaultStore::new(Arc::new(InMemory::new()), []);
    let (storage, job, database) = completed(Arc::new(store.clone()), &LENGTHS).await;
    let from = task(&job, &storage, 0, 1).await;
    let mut cut = 0;
    loop {
        let into = tempfile::tempdir().unwrap();
        store.begin([(cut, Fault::Before)]);
        let restored = restore(&from, into.path(), &RestoreOptions::default()).await;
        if store.operations().len() <= cut {
            assert_eq!(contents(&restored.unwrap().directories[0].path), contents(database.path()));
            assert!(cut > 0);
            return;
        }
        let error = restored.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("tables/"), "{error}");
        assert!(is_empty(into.path()));
        cut += 1;
    }
}

#[tokio::test]
async fn a_restore_that_is_given_up_leaves_nothing_behind() {
    let store = FaultStore::new(Arc::new(InMemory::new()), []);
    let (storage, job, _database) = completed(Arc::new(store.clone()), &LENGTHS).await;
    let from = task(&job, &storage, 0, 1).await;
    let into = tempfile::tempdir().unwrap();
    store.begin([(0, Fault::StallBefore)]);
    let root = into.path().to_owned();
    // It can be spawned at all, as can a snapshot.
    let restoring = tokio::spawn(async move { restore(&from, &root, &RestoreOptions::default()).await.map(drop) });
    while !store.stalls() {
        tokio::task::yield_now().await;
    }
    assert!(!is_empty(into.path()));
    restoring.abort();
    assert!(restoring.await.unwrap_err().is_cancelled());
    assert!(is_empty(into.path()));
}

#[tokio::test]
async fn what_a_killed_restore_has_left_is_removed_and_what_is_there_is_not_written_over() {
    let (storage, job, database) = completed(Arc::new(InMemory::new()), &LENGTHS).await;
    let from = task(&job, &storage, 0, 1).await;
    let into = tempfile::tempdir().unwrap();
    let left = into.path().join(".drystone-restoring-0-of-subtask-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("MANIFEST"), b"half").unwrap();
    let options = RestoreOptions { sync: true, ..RestoreOptions::default() };
    let restored = restore(&from, into.path(), &options).await.unwrap().directories;
    assert_eq!(contents(into.path()).len(), LENGTHS.len());
    assert_eq!(contents(&restored[0].path), contents(database.path()));
    let error = restore(&from, into.path(), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(contents(&restored[0].path), contents(database.path()));
}

#[tokio::test]
async fn local_files_are_linked_if_they_are_the_same_and_only_the_shared_ones() {
    // All are long enough to be in files.
    let (storage, job, database) = completed(Arc::new(InMemory::new()), &[5_000, 6_000, 70_000, 8_000, 9_000]).await;
    let expected = contents(database.path());
    let local = tempfile::tempdir().unwrap();
    fs::create_dir(local.path().join("tables")).unwrap();
    let copy = |number: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(database.path().join(name(number))).unwrap();
        change(&mut bytes);
        fs::write(local.path().join(name(number)), bytes).unwrap();
    };
    copy(0, &|_| {});
    copy(1, &|_| {});
    copy(2, &|bytes| bytes[40_000] ^= 4);
    copy(3, &|bytes| bytes.truncate(7_999));
    let from = task(&job, &storage, 0, 1).await;
    let into = tempfile::tempdir().unwrap();
    let missing = local.path().join("nowhere");
    let options = RestoreOptions { local: vec![missing, local.path().to_owned()], sync: false };
    let restored = restore(&from, into.path(), &options).await.unwrap().directories;
    assert_eq!(contents(&restored[0].path), expected);
    let counts = restored[0].counts;
    assert_eq!((counts.linked_files, counts.linked_bytes, counts.copied_files), (1, 6_000, 0));
    assert_eq!((counts.read_files, counts.read_bytes), (4, 5_000 + 70_000 + 8_000 + 9_000));
    let inode = |root: &Path, number: usize| fs::metadata(root.join(name(number))).unwrap().ino();
    let is_linked = |number| inode(local.path(), number) == inode(&restored[0].path, number);
    assert_eq!([0, 1, 2, 3].map(is_linked), [false, true, false, false]);
    // The local ones are as they were.
    assert_eq!(fs::read(local.path().join(name(3))).unwrap().len(), 7_999);
}

#[tokio::test]
async fn rescaled_there_is_a_directory_for_each_handle_with_its_key_groups() {
    let storage = storage(Arc::new(InMemory::new()), &[]);
    let job = BackendJob::start(&storage, 3).await.unwrap();
    let databases: Vec<_> = [100, 2_000, 30_000].map(|length| database(&[1, length])).into();
    let paths: Vec<&Path> = databases.iter().map(tempfile::TempDir::path).collect();
    let backends: Vec<_> = (0..3).map(|index| backend(index, 3)).collect();
    checkpoint(&job, &backends, &paths, |_| {}).await.unwrap();
    for (index, parallelism, writers) in
        [(0, 1, vec![0, 1, 2]), (0, 2, vec![0, 1]), (1, 2, vec![1, 2]), (2, 3, vec![2]), (1, 5, vec![0, 1])]
    {
        let into = tempfile::tempdir().unwrap();
        let from = task(&job, &storage, index, parallelism).await;
        let restored = restore(&from, into.path(), &RestoreOptions::default()).await.unwrap().directories;
        assert_eq!(restored.iter().map(|r| r.writer).collect::<Vec<_>>(), writers);
        let own = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
        for directory in &restored {
            assert_eq!(contents(&directory.path), contents(paths[directory.writer as usize]));
            let writers = KeyGroupRange::of_subtask(directory.writer, 3, KEY_GROUPS).unwrap();
            assert_eq!(directory.handle.range, writers);
            assert_eq!(directory.key_groups, writers.intersection(own));
        }
        assert_eq!(restored.iter().map(|r| r.key_groups.count).sum::<u32>(), own.count);
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    for bad in ["../x", "/etc/x", "a//b", "", ".", "a/../../b", "tables/002/", "a\0b"] {
        let storage = storage(Arc::new(InMemory::new()), &[]);
        let job = BackendJob::start(&storage, 1).await.unwrap();
        let database = database(&[1, 5_000, 6_000]);
        let change = |handle: &mut IncrementalHandle| handle.shared[0].local_path = JavaString::new(bad).unwrap();
        checkpoint(&job, &[backend(0, 1)], &[database.path()], change).await.unwrap();
        refused(&job, &storage, "backend-0").await;
    }
    let changes: [fn(&mut IncrementalHandle); 2] = [
        |handle| handle.shared[0].local_path = handle.shared[1].local_path.clone(),
        |handle| handle.shared[0].handle = None,
    ];
    for change in changes {
        let storage = storage(Arc::new(InMemory::new()), &[]);
        let job = BackendJob::start(&storage, 1).await.unwrap();
        let database = database(&[1, 5_000, 6_000]);
        checkpoint(&job, &[backend(0, 1)], &[database.path()], change).await.unwrap();
        refused(&job, &storage, "tables/00").await;
    }
}

async fn refused(job: &BackendJob, storage: &Storage, named: &str) {
    let (outer, from) = (tempfile::tempdir().unwrap(), task(job, storage, 0, 1).await);
    let error: Error = restore(&from, &outer.path().join("into"), &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains(named), "{error}");
    assert_eq!(contents(outer.path()), BTreeMap::new());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_fails_the_snapshot() {
    let storage = storage(Arc::new(InMemory::new()), &[]);
    let job = BackendJob::start(&storage, 1).await.unwrap();
    let (database, backend) = (database(&[10, 20_000]), backend(0, 1));
    let snapshot = job.worker.begin(job.spec.subtask(0), &job.trigger()).unwrap();
    // Asked what it is after it was listed.
    let grows = |name: &str| {
        fs::write(database.path().join(name), [1; 20_001]).unwrap();
        kind(name)
    };
    let error = backend.write_changed(&snapshot, database.path(), grows, Bytes::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("MANIFEST"), "{error}");
    let vanishes = |name: &str| {
        fs::remove_file(database.path().join(name)).unwrap();
        kind(name)
    };
    let error = backend.write_changed(&snapshot, database.path(), vanishes, Bytes::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    std::os::unix::fs::symlink("/etc/passwd", database.path().join("link")).unwrap();
    let error = backend.write_changed(&snapshot, database.path(), kind, Bytes::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("link"), "{error}");
}

#[tokio::test]
async fn state_of_the_other_kind_is_refused() {
    let (storage, job, _database) = completed(Arc::new(InMemory::new()), &[10, 2_000]).await;
    let from = task(&job, &storage, 0, 1).await;
    let error = keyed::restore(&from, |_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);

    let range = KeyGroupRange::of_subtask(0, 1, KEY_GROUPS).unwrap();
    let backend = keyed::KeyGroupBackend::new("counters", range, Bytes::from_static(b"1")).unwrap();
    let trigger = job.trigger();
    let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
    let written = backend.write_changed(&snapshot, |_| Bytes::from_static(b"x")).await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    job.acknowledge(&trigger, 0, backend.handle(written, &durable).unwrap(), &durable);
    job.complete(trigger.checkpoint).await;
    let into = tempfile::tempdir().unwrap();
    let error = restore(&task(&job, &storage, 0, 1).await, into.path(), &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(is_empty(into.path()));
}
