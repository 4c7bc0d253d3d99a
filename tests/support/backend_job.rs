//! A job of one operator whose subtasks have the state that a test gives them, on any store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use drystone::Result;
use drystone::config::Config;
use drystone::coordinator::{Completed, Coordinator, SavepointRequest};
use drystone::handle::{KeyedHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, OperatorId};
use drystone::protocol::{Acknowledgement, OperatorSpec, SavepointAction, SavepointFormat, Trigger};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::worker::{Durable, Worker};
use object_store::ObjectStore;

pub const OPERATOR: OperatorId = OperatorId([2; 16]);
pub const JOB: JobId = JobId([1; 16]);
pub const KEY_GROUPS: u32 = 32;

/// The job; a restart makes another on the same storage.
pub struct BackendJob {
    pub spec: OperatorSpec,
    pub coordinator: Coordinator,
    pub worker: Worker,
}

/// A storage whose names can be repeated. The settings come on top of a test's usual ones.
#[allow(dead_code, reason = "not every job is in memory")]
pub fn storage(store: Arc<dyn ObjectStore>, settings: &[(&str, &str)]) -> Storage {
    let mut all = BTreeMap::from([
        ("execution.checkpointing.dir", "memory://host/checkpoints"),
        ("execution.checkpointing.data-inline-threshold", "1kb"),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
        ("drystone.fencing.proof-rounds", "0"),
        ("drystone.seal.linger", "0 ms"),
    ]);
    all.extend(settings.iter().copied());
    let path = FlinkPath::parse("memory://host/").unwrap();
    let next = AtomicU64::new(1);
    let config = Config::from_map(all);
    let path = path.join("checkpoints").unwrap_or(path);
    Storage::open_on(store, &path, &config).unwrap().with_tokens(Arc::new(move || next.fetch_add(1, SeqCst)))
}

impl BackendJob {
    pub async fn start(storage: &Storage, parallelism: u32) -> Result<Self> {
        let spec = OperatorSpec::new(OPERATOR, parallelism, KEY_GROUPS);
        let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await?;
        let worker = storage.worker(JOB, "worker-1")?;
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        Ok(Self { spec, coordinator, worker })
    }

    pub fn trigger(&self) -> Trigger {
        self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap()
    }

    #[allow(dead_code, reason = "not every job takes one")]
    pub fn savepoint(&self, directory: &str, format: SavepointFormat, pack: bool) -> Trigger {
        let directory = FlinkPath::parse(directory).unwrap();
        let request = SavepointRequest { directory, format, action: SavepointAction::None, pack };
        self.coordinator.trigger_savepoint(self.coordinator.next_checkpoint(), &request).unwrap()
    }

    pub fn acknowledge(&self, trigger: &Trigger, index: u32, keyed: Option<KeyedHandle>, durable: &Durable) {
        let state = SubtaskState { managed_keyed: keyed, ..SubtaskState::default() };
        let acknowledgement = Acknowledgement {
            epoch: trigger.epoch,
            checkpoint: trigger.checkpoint,
            subtask: self.spec.subtask(index),
            state: Some(Box::new(state)),
            sealed: durable.sealed().to_vec(),
        };
        self.coordinator.acknowledge(acknowledgement).unwrap();
    }

    pub async fn complete(&self, checkpoint: CheckpointId) -> Completed {
        let completed = self.coordinator.complete(checkpoint).await.unwrap();
        self.worker.complete(self.coordinator.epoch(), checkpoint);
        completed.subsumed.iter().for_each(|&older| self.worker.subsume(self.coordinator.epoch(), older));
        completed
    }

    #[allow(dead_code, reason = "not every job gives one up")]
    pub fn abort(&self, checkpoint: CheckpointId) {
        self.coordinator.abort(checkpoint);
        self.worker.abort(self.coordinator.epoch(), checkpoint);
    }
}

/// All files below a directory, by name.
#[allow(dead_code, reason = "not every test that has a job has files")]
pub fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(below) = waiting.pop() {
        for entry in fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}
