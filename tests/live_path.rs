//! The whole way: storage, workers, coordinator, restore, on a store in memory and on a local disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::config::Config;
use drystone::coordinator::{Coordinator, JobEnd};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, Trigger};
use drystone::read::{KeyedState, ReadLimits};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::verify::verify;
use drystone::worker::Worker;
use object_store::memory::InMemory;

const JOB: JobId = JobId([3; 16]);
const SUBTASKS: u32 = 8;
const CHUNKS: u32 = 40;

type Database = BTreeMap<String, (Vec<u8>, Option<StreamHandle>)>;

struct Job {
    storage: Storage,
    coordinator: Coordinator,
    workers: Vec<Worker>,
    spec: OperatorSpec,
    /// By subtask: what its database has, and where it is stored.
    databases: Vec<Database>,
    rewritten: usize,
}

fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}

impl Job {
    async fn new(storage: Storage) -> Self {
        let spec = OperatorSpec::new(OperatorId([5; 16]), SUBTASKS, 128);
        let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await.unwrap();
        let workers: Vec<_> = (0..2).map(|n| storage.worker(JOB, &format!("worker-{n}")).unwrap()).collect();
        for subtask in spec.subtasks() {
            workers[subtask.index as usize % 2].register(subtask);
        }
        let databases = vec![BTreeMap::new(); SUBTASKS as usize];
        Self { storage, coordinator, workers, spec, databases, rewritten: 0 }
    }

    /// Each database loses and gains a tenth of its files.
    fn work(&mut self, round: u32) {
        for (index, database) in self.databases.iter_mut().enumerate() {
            for chunk in 0..CHUNKS {
                let name = format!("{chunk:03}");
                let draw = (chunk * 31 + index as u32 * 17 + round * 101) ^ (chunk * round);
                let is_new = round == 0 || draw.is_multiple_of(10);
                if is_new {
                    let bytes = format!("{index}/{name}/{round};").repeat(40 + chunk as usize * 13).into_bytes();
                    database.insert(name, (bytes, None));
                }
            }
        }
    }

    async fn snapshot(&self, index: u32, trigger: &Trigger) -> (u32, usize, BTreeMap<String, StreamHandle>) {
        let worker = &self.workers[index as usize % 2];
        let subtask = self.spec.subtask(index);
        let snapshot = worker.begin(subtask, trigger).unwrap();
        let (mut written, mut handles, mut rewritten) = (Vec::new(), BTreeMap::new(), 0);
        for (name, (bytes, handle)) in &self.databases[index as usize] {
            match handle.as_ref().map(|handle| (snapshot.reuse(handle), handle)) {
                Some((Reuse::Keep, handle)) => {
                    handles.insert(name.clone(), handle.clone());
                    continue;
                }
                Some((Reuse::Rewrite(_), _)) => rewritten += 1,
                None => {}
            }
            let mut segment = snapshot.segment(Scope::Shared, None);
            segment.write_slice(bytes).await.unwrap();
            written.push((name.clone(), segment.finish().await.unwrap()));
        }
        let durable = snapshot.seal().await.unwrap();
        for (name, written) in written {
            handles.insert(name, durable.handle(&written).unwrap().unwrap());
        }
        let shared = handles
            .iter()
            .map(|(name, handle)| LocalPathHandle { local_path: text(name), handle: Some(handle.clone()) });
        let range = KeyGroupRange::of_subtask(index, SUBTASKS, 128).unwrap();
        let keyed = IncrementalHandle {
            checkpoint_id: trigger.checkpoint.0 as i64,
            backend_id: text("00000000-0000-0000-0000-000000000001"),
            range,
            persisted: Some((0, text(&format!("{}-{index}", trigger.checkpoint)))),
            meta: None,
            shared: shared.collect(),
            private: Vec::new(),
        };
        let state = SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() };
        let acknowledgement = Acknowledgement {
            epoch: trigger.epoch,
            checkpoint: trigger.checkpoint,
            subtask,
            state: Some(Box::new(state)),
            sealed: durable.sealed().to_vec(),
        };
        self.coordinator.acknowledge(acknowledgement).unwrap();
        (index, rewritten, handles)
    }

    async fn checkpoint(&mut self) -> CheckpointId {
        let checkpoint = self.coordinator.next_checkpoint();
        let trigger = self.coordinator.trigger(checkpoint).unwrap();
        let snapshots = (0..SUBTASKS).map(|index| self.snapshot(index, &trigger));
        let done = futures::future::join_all(snapshots).await;
        for (index, rewritten, handles) in done {
            self.rewritten += rewritten;
            for (name, handle) in handles {
                self.databases[index as usize].get_mut(&name).unwrap().1 = Some(handle);
            }
        }
        let completed = self.coordinator.complete(checkpoint).await.unwrap();
        for worker in &self.workers {
            worker.complete(self.coordinator.epoch(), checkpoint);
            completed.subsumed.iter().for_each(|&subsumed| worker.subsume(self.coordinator.epoch(), subsumed));
        }
        checkpoint
    }

    /// Every byte of the latest checkpoint is what the databases have.
    async fn check(&self) {
        let latest = self.coordinator.latest().unwrap();
        let found = verify(self.storage.stores(), &latest.path, &ReadLimits::default(), &|_, _| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
        let restore = self.storage.restore(&latest.path).await.unwrap();
        for index in 0..SUBTASKS {
            let task = restore.task(self.spec.id, index, SUBTASKS).unwrap();
            let KeyedState::Incremental { handle, shared, .. } = &task.managed_keyed[0].state else {
                panic!("not incremental")
            };
            let restored = task.read_all().await.unwrap();
            let streams = handle.shared.iter().zip(shared);
            let read: BTreeMap<String, Vec<u8>> = streams
                .map(|(file, stream)| (file.local_path.to_string(), restored.bytes(stream.unwrap()).to_vec()))
                .collect();
            let expected = self.databases[index as usize].iter();
            let expected: BTreeMap<String, Vec<u8>> = expected.map(|(n, (b, _))| (n.clone(), b.clone())).collect();
            assert!(read == expected, "subtask {index}");
        }
    }
}

fn config(pairs: &[(&str, &str)]) -> Config {
    let all = [
        ("execution.checkpointing.data-inline-threshold", "0"),
        ("execution.checkpointing.num-retained", "2"),
        ("execution.checkpointing.file-merging.max-file-size", "256kb"),
        ("drystone.space.floor", "64kb"),
    ];
    Config::from_map(all.iter().chain(pairs).copied())
}

async fn run(storage: Storage) -> Job {
    let mut job = Job::new(storage).await;
    for round in 0..20 {
        job.work(round);
        job.checkpoint().await;
        let space = job.coordinator.space();
        let bound = (2 * space.segment_bytes).max(64 << 10);
        assert!(space.file_bytes <= bound, "round {round}: {space:?}");
    }
    job.check().await;
    job
}

#[tokio::test]
async fn a_job_on_a_store_in_memory_within_its_bound() {
    let root = FlinkPath::parse("memory://host/checkpoints").unwrap();
    let storage = Storage::open_on(Arc::new(InMemory::new()), &root, &config(&[])).unwrap();
    let job = run(storage).await;
    assert!(job.rewritten > 0, "space was won back");
    assert_eq!(job.coordinator.completed().len(), 2);
}

#[tokio::test]
async fn a_job_on_a_local_disk_restarted_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("file:{}", directory.path().display());
    let across = ("execution.checkpointing.file-merging.across-checkpoint-boundary", "true");
    let retention = ("execution.checkpointing.externalized-checkpoint-retention", "DELETE_ON_CANCELLATION");
    let config = config(&[("execution.checkpointing.dir", &path), across, retention]);
    let mut job = run(Storage::open(&config).unwrap()).await;
    job.coordinator.settle().await.unwrap();

    let (space, latest) = (job.coordinator.space(), job.coordinator.latest());
    job.coordinator = job.storage.coordinator(JOB, vec![job.spec.clone()]).await.unwrap();
    assert_eq!((job.coordinator.space(), job.coordinator.latest()), (space, latest), "rebuilt from what is there");
    job.work(20);
    job.checkpoint().await;
    job.check().await;
    job.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    let below = directory.path().join(JOB.to_string());
    let left: Vec<_> = std::fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["_drystone"], "there were two coordinators, and they stay apart");
}

#[tokio::test]
async fn without_merging_every_segment_has_a_file_of_its_own() {
    let root = FlinkPath::parse("memory://host/checkpoints").unwrap();
    let off = config(&[("execution.checkpointing.file-merging.enabled", "false")]);
    let storage = Storage::open_on(Arc::new(InMemory::new()), &root, &off).unwrap();
    let mut job = Job::new(storage).await;
    job.work(0);
    job.checkpoint().await;
    job.check().await;
    let space = job.coordinator.space();
    assert_eq!((space.files, space.segments), (u64::from(SUBTASKS * CHUNKS), u64::from(SUBTASKS * CHUNKS)));
}
