//! A database's directory comes back from a worker's copies first, and from the store where they are no good.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod backend_job;
    pub mod fault_store;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use drystone::backend::files::{FileBackend, FileKind, RestoreOptions, RestoredDirectories, restore};
use drystone::handle::KeyedHandle;
use drystone::id::KeyGroupRange;
use drystone::storage::Storage;
use object_store::memory::InMemory;
use support::backend_job::{BackendJob, KEY_GROUPS, OPERATOR, contents, storage};
use support::fault_store::FaultStore;

/// Short ones are packed, one is of several blocks of a copy, and one is longer than what is checked in one go.
const LENGTHS: [usize; 5] = [5_000, 6_000, 90_000, 700_000, 3_000_000];

fn kind(name: &str) -> FileKind {
    if name == "0" { FileKind::Private } else { FileKind::Shared }
}

fn database() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (number, length) in LENGTHS.into_iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 13 + number) as u8).collect();
        fs::write(directory.path().join(number.to_string()), bytes).unwrap();
    }
    directory
}

async fn checkpoint(job: &BackendJob, backend: &FileBackend, database: &Path) {
    let trigger = job.trigger();
    let snapshot = job.worker.begin(job.spec.subtask(0), &trigger).unwrap();
    let meta = Bytes::from(vec![9; 2_000]);
    let written = backend.write_changed(&snapshot, database, kind, meta).await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    let handle = backend.handle(written, &durable).unwrap();
    job.acknowledge(&trigger, 0, Some(KeyedHandle::Incremental(handle)), &durable);
    job.complete(trigger.checkpoint).await;
    backend.confirmed(trigger.checkpoint);
    job.worker.backup().unwrap().settled().await;
}

async fn restored(
    job: &BackendJob,
    storage: &Storage,
    local: Vec<PathBuf>,
) -> (RestoredDirectories, tempfile::TempDir) {
    let path = job.coordinator.latest().unwrap().path;
    let task = storage.restore(&path).await.unwrap().task(OPERATOR, 0, 1).unwrap();
    let into = tempfile::tempdir().unwrap();
    let options = RestoreOptions { local, sync: false };
    (restore(&task, into.path(), &options).await.unwrap(), into)
}

fn copies(directory: &Path) -> Vec<PathBuf> {
    let names = contents(directory).into_keys().filter(|name| !name.ends_with(".lock"));
    names.map(|name| directory.join(name)).collect()
}

#[tokio::test]
async fn copies_come_first_then_the_store_and_links_before_both() {
    let (backups, store) = (tempfile::tempdir().unwrap(), FaultStore::new(Arc::new(InMemory::new()), []));
    let settings = [
        ("execution.checkpointing.local-backup.enabled", "true"),
        ("execution.checkpointing.local-backup.dirs", &backups.path().display().to_string()),
    ];
    let storage = storage(Arc::new(store.clone()), &settings);
    let job = BackendJob::start(&storage, 1).await.unwrap();
    let database = database();
    let range = KeyGroupRange::of_subtask(0, 1, KEY_GROUPS).unwrap();
    let backend = FileBackend::new("backend", range).unwrap();
    // The second has copies of what the first wrote because it names it again.
    checkpoint(&job, &backend, database.path()).await;
    checkpoint(&job, &backend, database.path()).await;
    let expected = contents(database.path());

    store.begin([]);
    let (all, _into) = restored(&job, &storage, Vec::new()).await;
    assert_eq!(contents(&all.directories[0].path), expected);
    assert_eq!((all.counts.backup_bytes, all.counts.backup_refused), (all.counts.read_bytes, 0));
    assert!(all.counts.read_bytes >= LENGTHS.iter().sum::<usize>() as u64);
    assert_eq!(store.operations().len(), 1, "the metadata alone: {:?}", store.operations());

    let (linked, _into) = restored(&job, &storage, vec![database.path().to_owned()]).await;
    assert_eq!(contents(&linked.directories[0].path), expected);
    let shared = LENGTHS[1..].iter().sum::<usize>() as u64;
    assert_eq!(linked.directories[0].counts.linked_bytes, shared);
    assert_eq!(linked.counts.backup_bytes, linked.counts.read_bytes);
    assert!(linked.counts.read_bytes <= all.counts.read_bytes - shared);

    // A bit of one is flipped, another one is gone.
    let copies = copies(backups.path());
    let longest = copies.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(longest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(longest, bytes).unwrap();
    fs::remove_file(copies.iter().find(|path| *path != longest).unwrap()).unwrap();
    let (half, _into) = restored(&job, &storage, Vec::new()).await;
    assert_eq!(contents(&half.directories[0].path), expected);
    assert!(0 < half.counts.backup_bytes && half.counts.backup_bytes < half.counts.read_bytes, "{:?}", half.counts);
    assert!(half.counts.backup_refused > 0, "{:?}", half.counts);

    fs::remove_dir_all(backups.path()).unwrap();
    let (none, _into) = restored(&job, &storage, Vec::new()).await;
    assert_eq!(contents(&none.directories[0].path), expected);
    assert_eq!(none.counts.backup_bytes, 0);
    assert_eq!(store.uploads_open(), 0);
}
