//! The storage jobmanager: state in the coordinator's memory, bounded, and in the metadata where a directory is given.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use drystone::config::{Config, StorageKind};
use drystone::coordinator::{Completed, Coordinator, JobEnd};
use drystone::handle::{
    InlineHandle, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, MasterState, StreamHandle, SubtaskState,
};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, SavepointAction, SavepointFormat, Trigger};
use drystone::storage::Storage;
use drystone::worker::Worker;
use drystone::{Error, ErrorKind};

const JOB: JobId = JobId([3; 16]);
const OPERATOR: OperatorId = OperatorId([7; 16]);

fn config(more: &[(&str, &str)]) -> Config {
    Config::from_map(more.iter().map(|(key, value)| (key.to_string(), value.to_string())))
}

fn spec() -> OperatorSpec {
    OperatorSpec::new(OPERATOR, 2, 128)
}

async fn job(storage: &Storage) -> (Coordinator, Worker) {
    let coordinator = storage.coordinator(JOB, vec![spec()]).await.unwrap();
    let worker = storage.worker(JOB, "w").unwrap();
    spec().subtasks().for_each(|subtask| worker.register(subtask));
    (coordinator, worker)
}

/// One subtask's part: `length` bytes of its own.
async fn part(
    coordinator: &Coordinator,
    worker: &Worker,
    trigger: &Trigger,
    index: u32,
    length: usize,
) -> Result<(), Error> {
    let subtask = spec().subtask(index);
    let snapshot = worker.begin(subtask, trigger)?;
    let mut segment = snapshot.segment(Scope::Shared, Some(length as u64)).never_inline();
    for chunk in contents(index, length).chunks(100_000) {
        segment.write_slice(chunk).await?;
    }
    let written = segment.finish().await?;
    let durable = snapshot.seal().await?;
    let delegate = durable.handle(&written)?.unwrap();
    assert!(matches!(delegate, StreamHandle::Inline(_)), "{delegate:?}");
    let range = KeyGroupRange::of_subtask(index, 2, 128).unwrap();
    let offsets = vec![0; 64];
    let form = KeyGroupsForm::WithId(JavaString::new(&format!("handle-{index}")).unwrap());
    let keyed = KeyGroupsHandle { form, range, offsets, delegate, checksums: Vec::new() };
    let state = SubtaskState { managed_keyed: Some(KeyedHandle::KeyGroups(keyed)), ..SubtaskState::default() };
    let (epoch, checkpoint) = (trigger.epoch, trigger.checkpoint);
    let acknowledgement =
        Acknowledgement { epoch, checkpoint, subtask, state: Some(Box::new(state)), sealed: durable.sealed().to_vec() };
    coordinator.acknowledge(acknowledgement).map(drop)
}

fn contents(index: u32, length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 3) as u8 ^ index as u8).collect()
}

async fn checkpoint(coordinator: &Coordinator, worker: &Worker, length: usize) -> Completed {
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    for index in 0..2 {
        part(coordinator, worker, &trigger, index, length).await.unwrap();
    }
    let completed = coordinator.complete(trigger.checkpoint).await.unwrap();
    worker.complete(trigger.epoch, trigger.checkpoint);
    completed
}

async fn check(storage: &Storage, completed: &Completed, length: usize) {
    let restore = storage.restore(&completed.path).await.unwrap();
    let metadata = &restore.checkpoint().decoded.metadata;
    let mut handles = 0;
    metadata.visit_streams(|_, handle| {
        assert!(matches!(handle, StreamHandle::Inline(_)), "{handle:?}");
        handles += 1;
    });
    assert_eq!(handles, 2);
    for (index, bytes) in [(0, contents(0, length)), (1, contents(1, length))] {
        let mut found = Vec::new();
        metadata.visit_streams(|place, handle| {
            if let (Some(subtask), StreamHandle::Inline(inline)) = (place.subtask, handle)
                && subtask == index
            {
                found.extend_from_slice(&inline.bytes);
            }
        });
        assert!(found == bytes, "subtask {index}");
        assert!(restore.task(OPERATOR, index, 2).is_ok());
    }
}

/// More than files would have inline, and a piece of the longest that is allowed.
const LONG: usize = 5 << 20;

#[tokio::test]
async fn without_a_directory_all_is_in_memory_and_restored_in_the_process() {
    let storage = Storage::open(&config(&[("execution.checkpointing.num-retained", "2")])).unwrap();
    assert_eq!(storage.settings().storage_kind(), StorageKind::JobManager);
    let (coordinator, worker) = job(&storage).await;
    let first = checkpoint(&coordinator, &worker, 10).await;
    let second = checkpoint(&coordinator, &worker, LONG).await;
    check(&storage, &second, LONG).await;
    check(&storage, &first, 10).await;

    // The coordinator fails over within the process, and goes on.
    let (next, worker) = job(&storage.clone()).await;
    assert_eq!(next.latest().unwrap().path, second.path);
    let third = checkpoint(&next, &worker, 100).await;
    next.settle().await.unwrap();
    assert_eq!(storage.restore(&first.path).await.unwrap_err().kind(), ErrorKind::NotFound, "two are kept");
    check(&storage, &third, 100).await;
    let latest = storage.restore_latest(JOB).await.unwrap();
    assert_eq!(latest.checkpoint().decoded.metadata.checkpoint_id, third.checkpoint);

    // Another storage has a memory of its own.
    let other = Storage::open(&config(&[])).unwrap();
    assert_eq!(other.restore(&third.path).await.unwrap_err().kind(), ErrorKind::NotFound);
    next.dispose(JobEnd::Finished).await.unwrap();
    let left = storage.stores().locate(next.directory().root().name()).unwrap().list().await.unwrap();
    assert!(left.iter().all(|file| file.size < 100), "{left:?}");
}

#[tokio::test]
async fn with_a_directory_the_metadata_is_there_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("file:{}", directory.path().display());
    for storage in [("execution.checkpointing.storage", "jobmanager"), ("state.backend", "jobmanager")] {
        let config = config(&[storage, ("execution.checkpointing.dir", &at)]);
        let opened = Storage::open(&config).unwrap();
        let (coordinator, worker) = job(&opened).await;
        let completed = checkpoint(&coordinator, &worker, 300_000).await;
        assert_eq!(worker.usage().uploads, 0);
        coordinator.settle().await.unwrap();
        let job_directory = directory.path().join(JOB.to_string());
        let of = |name: &str| job_directory.join(name).read_dir().map(|entries| entries.count()).unwrap_or(0);
        assert_eq!((of(&format!("chk-{}", completed.checkpoint)), of("shared")), (1, 0));
        // Another process has it.
        check(&Storage::open(&config).unwrap(), &completed, 300_000).await;
    }
}

#[tokio::test]
async fn a_piece_that_is_too_long_is_refused_with_what_is_allowed() {
    let storage = Storage::open(&config(&[])).unwrap();
    let (coordinator, worker) = job(&storage).await;
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    for size in [LONG + 1, 3 * LONG] {
        let refused = part(&coordinator, &worker, &trigger, 0, size).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string();
        assert!(text.contains("drystone.memory.state-max") && text.contains("5242880"), "{text}");
    }
    assert_eq!(worker.usage().buffered_bytes, 0, "nothing of it is kept");
    assert!(coordinator.abort(trigger.checkpoint));
    worker.abort(trigger.epoch, trigger.checkpoint);
    check(&storage, &checkpoint(&coordinator, &worker, LONG).await, LONG).await;

    let small = Storage::open(&config(&[("drystone.memory.state-max", "1kb")])).unwrap();
    let (coordinator, worker) = job(&small).await;
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    let refused = part(&coordinator, &worker, &trigger, 0, 1025).await.unwrap_err();
    assert!(refused.to_string().contains("allowed are 1024 (drystone.memory.state-max)"), "{refused}");
}

#[tokio::test]
async fn all_of_a_checkpoint_is_bounded_at_the_worker_and_at_the_coordinator() {
    let limits = [("drystone.memory.state-max", "1000b"), ("drystone.memory.total-max", "1500b")];
    let storage = Storage::open(&config(&limits)).unwrap();
    let (coordinator, worker) = job(&storage).await;
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    part(&coordinator, &worker, &trigger, 0, 1000).await.unwrap();
    let refused = part(&coordinator, &worker, &trigger, 1, 501).await.unwrap_err();
    assert!(
        refused.to_string().contains("1500 bytes that a checkpoint may have there (drystone.memory.total-max)"),
        "{refused}"
    );

    // Two workers that don't know of each other.
    let elsewhere = storage.worker(JOB, "elsewhere").unwrap();
    let refused = part(&coordinator, &elsewhere, &trigger, 1, 501).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(
        refused.to_string().contains("1501 bytes so far: allowed are 1500 (drystone.memory.total-max)"),
        "{refused}"
    );
    let master = |length| MasterState {
        version: 1,
        name: JavaString::new("hook").unwrap(),
        bytes: Bytes::from(vec![1; length]),
    };
    let refused = coordinator.acknowledge_master(trigger.epoch, trigger.checkpoint, master(501)).unwrap_err();
    assert!(refused.to_string().contains("drystone.memory.total-max"), "{refused}");
    coordinator.acknowledge_master(trigger.epoch, trigger.checkpoint, master(100)).unwrap();
    let operator = |length| InlineHandle { name: JavaString::new("c").unwrap(), bytes: Bytes::from(vec![1; length]) };
    coordinator.acknowledge_operator(trigger.epoch, trigger.checkpoint, OPERATOR, operator(401)).unwrap_err();
    coordinator.acknowledge_operator(trigger.epoch, trigger.checkpoint, OPERATOR, operator(100)).unwrap();
    // What was refused has taken nothing.
    part(&coordinator, &elsewhere, &trigger, 1, 300).await.unwrap();
    coordinator.complete(trigger.checkpoint).await.unwrap();
    // And the next one starts anew.
    worker.complete(trigger.epoch, trigger.checkpoint);
    checkpoint(&coordinator, &worker, 750).await;
}

#[tokio::test]
async fn a_savepoint_has_its_state_in_its_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("file:{}", directory.path().display());
    let storage = Storage::open(&config(&[("execution.checkpointing.savepoint-dir", &at)])).unwrap();
    let (coordinator, worker) = job(&storage).await;
    let request = storage.savepoint(None, SavepointFormat::Native, SavepointAction::None).unwrap();
    let trigger = coordinator.trigger_savepoint(coordinator.next_checkpoint(), &request).unwrap();
    for index in 0..2 {
        part(&coordinator, &worker, &trigger, index, 300_000).await.unwrap();
    }
    let completed = coordinator.complete(trigger.checkpoint).await.unwrap();
    check(&storage, &completed, 300_000).await;
    let savepoint = directory.path().read_dir().unwrap().next().unwrap().unwrap().path();
    assert_eq!(savepoint.read_dir().unwrap().count(), 1);
    let moved = directory.path().join("moved");
    std::fs::rename(savepoint, &moved).unwrap();
    let path = drystone::store::FlinkPath::parse(moved.to_str().unwrap()).unwrap();
    check(&storage, &Completed { path, ..completed }, 300_000).await;
    let none = Storage::open(&config(&[])).unwrap();
    let refused = none.savepoint(None, SavepointFormat::Native, SavepointAction::None).unwrap_err();
    assert!(refused.to_string().contains("execution.checkpointing.savepoint-dir is not set"), "{refused}");
}

#[test]
fn names_of_storages_and_of_state_backends_say_where_checkpoints_go() {
    use StorageKind::{FileSystem, JobManager};
    let package = "org.apache.flink.runtime.state";
    let class = |name: &str| format!("{package}.{name}");
    for (storage, backend, directory, expected) in [
        (None, None, None, JobManager),
        (None, None, Some("file:/c"), FileSystem),
        (Some("jobmanager".to_string()), None, Some("file:/c"), JobManager),
        (Some("JobManager".to_string()), None, None, JobManager),
        (Some(class("storage.JobManagerCheckpointStorage")), None, None, JobManager),
        (Some(class("storage.JobManagerCheckpointStorageFactory")), None, Some("file:/c"), JobManager),
        (Some(class("storage.FileSystemCheckpointStorage")), None, Some("file:/c"), FileSystem),
        (Some(class("storage.FileSystemCheckpointStorageFactory")), None, Some("file:/c"), FileSystem),
        (Some("filesystem".to_string()), None, Some("file:/c"), FileSystem),
        (None, Some("jobmanager".to_string()), Some("file:/c"), JobManager),
        (None, Some("filesystem".to_string()), Some("file:/c"), FileSystem),
        (None, Some(class("memory.MemoryStateBackend")), Some("file:/c"), JobManager),
        (None, Some(class("memory.MemoryStateBackendFactory")), None, JobManager),
        (None, Some(class("filesystem.FsStateBackendFactory")), Some("file:/c"), FileSystem),
        (None, Some("rocksdb".to_string()), None, JobManager),
        (None, Some("rocksdb".to_string()), Some("file:/c"), FileSystem),
        (None, Some("hashmap".to_string()), Some("file:/c"), FileSystem),
        (Some("jobmanager".to_string()), Some("rocksdb".to_string()), Some("file:/c"), JobManager),
        (Some("filesystem".to_string()), Some("filesystem".to_string()), Some("file:/c"), FileSystem),
    ] {
        for key in ["state.backend", "state.backend.type"] {
            let mut all = Vec::new();
            all.extend(storage.as_deref().map(|name| ("state.checkpoint-storage", name)));
            all.extend(backend.as_deref().map(|name| (key, name)));
            all.extend(directory.map(|path| ("state.checkpoints.dir", path)));
            let (settings, _) = config(&all).settings().unwrap();
            assert_eq!(settings.storage_kind(), expected, "{all:?}");
            assert!(Storage::open(&config(&all)).is_ok(), "{all:?}");
        }
    }
}

#[test]
fn names_that_contradict_each_other_or_lack_something_are_refused() {
    let refused = |all: &[(&str, &str)]| Storage::open(&config(all)).map(drop).unwrap_err();
    let text = refused(&[("state.backend", "filesystem")]).to_string();
    assert!(text.contains("state.backend=filesystem") && text.contains("execution.checkpointing.dir"), "{text}");
    let both = [("state.backend", "jobmanager"), ("execution.checkpointing.storage", "filesystem")];
    let text = refused(&[both[0], both[1], ("execution.checkpointing.dir", "file:/c")]).to_string();
    assert!(text.contains("otherwise than execution.checkpointing.storage=filesystem"), "{text}");
    let other = refused(&[("execution.checkpointing.storage", "com.example.Storage")]);
    assert_eq!(other.kind(), ErrorKind::Invalid, "{other}");
}
