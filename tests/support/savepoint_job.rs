//! A job with a worker that takes checkpoints and savepoints on a store that a test hands in.

use std::sync::Arc;

use bytes::Bytes;
use drystone::coordinator::{Acknowledged, Completed, Coordinator, CoordinatorSettings, SavepointRequest};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope};
use drystone::jobs::{Listing, list};
use drystone::protocol::{Acknowledgement, OperatorSpec, SavepointAction, SavepointFormat, Trigger};
use drystone::read::{ReadLimits, Restore};
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::verify::verify;
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{Tokens, WriteSettings};
use object_store::ObjectStore;

use super::live::{settings, tokens};

pub const JOB: JobId = JobId([0xab; 16]);
pub const OPERATOR: OperatorId = OperatorId([7; 16]);
pub const SUBTASKS: u32 = 2;

pub struct Job {
    pub stores: Stores,
    pub coordinator: Coordinator,
    pub worker: Worker,
    pub spec: OperatorSpec,
    pub tokens: Tokens,
}

pub fn path(text: &str) -> FlinkPath {
    FlinkPath::parse(text).unwrap()
}

pub fn request(pack: bool) -> SavepointRequest {
    SavepointRequest {
        directory: path("memory:/savepoints"),
        format: SavepointFormat::Native,
        action: SavepointAction::None,
        pack,
    }
}

/// What a subtask's files hold, which no other snapshot's do.
pub fn contents(snapshot: CheckpointId, subtask: u32) -> [Vec<u8>; 2] {
    let long = format!("savepoint {snapshot}, subtask {subtask}, shared; ").repeat(40).into_bytes();
    [long, format!("savepoint {snapshot}, subtask {subtask}, private").into_bytes()]
}

pub fn worker_settings() -> WorkerSettings {
    let settings = WorkerSettings::default();
    WorkerSettings { write: WriteSettings { inline_bytes_max: 0, ..settings.write }, ..settings }
}

impl Job {
    pub async fn new(store: Arc<dyn ObjectStore>) -> drystone::Result<Self> {
        Self::with(store, settings()).await
    }

    pub async fn with(store: Arc<dyn ObjectStore>, settings: CoordinatorSettings) -> drystone::Result<Self> {
        Self::started(store, settings, tokens()).await
    }

    /// Another process takes the job over.
    pub async fn successor(&self, store: Arc<dyn ObjectStore>) -> drystone::Result<Self> {
        Self::started(store, settings(), self.tokens.clone()).await
    }

    async fn started(
        store: Arc<dyn ObjectStore>,
        settings: CoordinatorSettings,
        tokens: Tokens,
    ) -> drystone::Result<Self> {
        let root = path("memory:/checkpoints");
        let stores = Stores::new().with_store(&root, store);
        Self::at(stores, &root, settings, tokens).await
    }

    /// Its checkpoints go to `root`, and its savepoints wherever they are asked for.
    pub async fn at(
        stores: Stores,
        root: &FlinkPath,
        settings: CoordinatorSettings,
        tokens: Tokens,
    ) -> drystone::Result<Self> {
        let directory = JobDirectory::of_job(&stores.locate(root)?, JOB)?;
        let spec = OperatorSpec::new(OPERATOR, SUBTASKS, 128);
        let (specs, own) = (vec![spec.clone()], directory.clone());
        let coordinator = Coordinator::recover(stores.clone(), own, specs, settings, tokens.clone()).await?;
        let worker = Worker::with_stores(stores.clone(), directory, "w", worker_settings(), tokens.clone());
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        Ok(Self { stores, coordinator, worker, spec, tokens })
    }

    pub fn savepoint(&self, pack: bool) -> Trigger {
        self.coordinator.trigger_savepoint(self.coordinator.next_checkpoint(), &request(pack)).unwrap()
    }

    /// In a directory that is named.
    pub fn savepoint_in(&self, directory: &FlinkPath, pack: bool) -> Trigger {
        let request = SavepointRequest { directory: directory.clone(), ..request(pack) };
        self.coordinator.trigger_savepoint(self.coordinator.next_checkpoint(), &request).unwrap()
    }

    /// All subtasks write two chunks each.
    pub async fn write(&self, trigger: &Trigger) -> drystone::Result<Vec<(u32, Vec<StreamHandle>)>> {
        let mut tickets = Vec::new();
        for index in 0..SUBTASKS {
            let snapshot = self.worker.begin(self.spec.subtask(index), trigger)?;
            let mut written = Vec::new();
            for (bytes, scope) in contents(trigger.checkpoint, index).into_iter().zip([Scope::Shared, Scope::Exclusive])
            {
                let mut segment = snapshot.segment(scope, None);
                segment.write(Bytes::from(bytes)).await?;
                written.push(segment.finish().await?);
            }
            tickets.push((index, snapshot.finish(), written));
        }
        let mut handles = Vec::new();
        for (index, ticket, written) in tickets {
            let durable = ticket.seal().await?;
            let of_subtask = written.iter().map(|written| durable.handle(written).unwrap().unwrap()).collect();
            handles.push((index, of_subtask));
        }
        Ok(handles)
    }

    pub fn acknowledge(
        &self,
        trigger: &Trigger,
        index: u32,
        handles: Vec<StreamHandle>,
    ) -> drystone::Result<Acknowledged> {
        let (epoch, checkpoint) = (trigger.epoch, trigger.checkpoint);
        let state = Some(Box::new(state(checkpoint, index, handles)));
        let subtask = self.spec.subtask(index);
        self.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed: vec![] })
    }

    /// All of it, from the workers to the commit.
    pub async fn take(&self, trigger: &Trigger) -> drystone::Result<Completed> {
        for (index, handles) in self.write(trigger).await? {
            self.acknowledge(trigger, index, handles)?;
        }
        let completed = self.coordinator.complete(trigger.checkpoint).await?;
        self.worker.complete(trigger.epoch, trigger.checkpoint);
        Ok(completed)
    }

    pub async fn checkpoint(&self) -> drystone::Result<Completed> {
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint())?;
        self.take(&trigger).await
    }

    /// The names of the files below a directory, in order.
    pub async fn files(&self, directory: &str) -> Vec<String> {
        let root = self.stores.locate(&path(directory)).unwrap();
        let listed = root.list().await.unwrap();
        let below = |file: &FlinkPath| file.relative_to(root.name()).unwrap().to_owned();
        listed.iter().map(|file| below(&file.path)).filter(|name| !name.contains("_drystone/")).collect()
    }

    pub async fn list(&self) -> Listing {
        list(&self.stores, &path("memory:/savepoints"), &ReadLimits::default()).await.unwrap()
    }
}

pub fn state(checkpoint: CheckpointId, index: u32, handles: Vec<StreamHandle>) -> SubtaskState {
    let text = |text: &str| JavaString::new(text).unwrap();
    let files = handles.into_iter().enumerate();
    let files =
        files.map(|(n, handle)| LocalPathHandle { local_path: text(&format!("{n}.sst")), handle: Some(handle) });
    let keyed = IncrementalHandle {
        checkpoint_id: checkpoint.0 as i64,
        backend_id: text("00000000-0000-0000-0000-000000000001"),
        range: KeyGroupRange::of_subtask(index, SUBTASKS, 128).unwrap(),
        persisted: Some((0, text(&format!("handle-{checkpoint}-{index}")))),
        meta: None,
        shared: files.collect(),
        private: vec![],
    };
    SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() }
}

/// A whole snapshot: every file sound, and every subtask's contents as they were written.
pub async fn check(stores: &Stores, at: &FlinkPath, snapshot: CheckpointId) {
    let found = verify(stores, at, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert!(found.is_sound(), "{at}: {:?}", found.findings);
    let restore = Restore::open(stores, at, ReadLimits::default()).await.unwrap();
    for index in 0..SUBTASKS {
        let task = restore.task(OPERATOR, index, SUBTASKS).unwrap();
        let read = task.read_all().await.unwrap();
        for (number, bytes) in contents(snapshot, index).into_iter().enumerate() {
            assert_eq!(read.bytes(number), bytes, "{at}, subtask {index}, stream {number}");
        }
    }
}
