//! A job at work on a store in memory: one operator, whose subtasks have named chunks, shared or exclusive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use drystone::config::{ClaimMode, Fencing, Retention};
use drystone::coordinator::{Acknowledged, Completed, Coordinator, CoordinatorSettings, FencingSettings};
use drystone::format::barred_by;
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope, Subtask};
use drystone::ledger::{LedgerSettings, SpacePolicy};
use drystone::protocol::{Acknowledgement, OperatorSpec, SealedSize, Trigger};
use drystone::read::{Checkpoint, ReadLimits, State};
use drystone::store::names::WorkerName;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::verify::verify;
use drystone::write::{FileNaming, FilePool, Origin, Tokens, WriteSettings, Written};
use object_store::ObjectStore;

pub const OPERATOR: OperatorId = OperatorId([7; 16]);
pub const JOB: JobId = JobId([1; 16]);

/// What a subtask's state is: shared chunks by name, and private ones.
#[derive(Clone, Default)]
pub struct Chunks {
    pub shared: BTreeMap<String, StreamHandle>,
    pub private: BTreeMap<String, StreamHandle>,
    pub sealed: Vec<SealedSize>,
}

pub struct Live {
    pub stores: Stores,
    pub directory: JobDirectory,
    pub coordinator: Coordinator,
    pub spec: OperatorSpec,
    pub settings: CoordinatorSettings,
    pub tokens: Tokens,
    pub write: WriteSettings,
}

pub fn settings() -> CoordinatorSettings {
    let space = SpacePolicy {
        amplification_max: None,
        floor_bytes: 0,
        across: false,
        fold_ratio_max: 0.5,
        file_bytes_max: 32 << 20,
    };
    CoordinatorSettings {
        ledger: LedgerSettings { retained: 1, space, retention: Retention::NoExternalized },
        metadata_version: 4,
        file_timeout: Duration::from_secs(10),
        deletes_max: 4,
        delete_retries: 2,
        write: WriteSettings::default(),
        read: ReadLimits::default(),
        fencing: FencingSettings { proof_rounds: 0, ..FencingSettings::default() },
        latest_file: false,
        memory: None,
    }
}

/// As [`settings`], with nothing that keeps coordinators apart.
pub fn unfenced() -> CoordinatorSettings {
    CoordinatorSettings { fencing: FencingSettings { mode: Fencing::Off, proof_rounds: 0 }, ..settings() }
}

/// Numbers that a test can repeat.
pub fn tokens() -> Tokens {
    let next = AtomicU64::new(1);
    Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
}

impl Live {
    pub async fn new(store: Arc<dyn ObjectStore>, parallelism: u32, settings: CoordinatorSettings) -> Self {
        Self::with_tokens(store, parallelism, settings, tokens()).await
    }

    pub async fn with_tokens(
        store: Arc<dyn ObjectStore>,
        parallelism: u32,
        settings: CoordinatorSettings,
        tokens: Tokens,
    ) -> Self {
        let root = FlinkPath::parse("memory:/checkpoints").unwrap();
        let stores = Stores::new().with_store(&root, store);
        let directory = JobDirectory::of_job(&stores.locate(&root).unwrap(), JOB).unwrap();
        let spec = OperatorSpec::new(OPERATOR, parallelism, 128);
        let coordinator =
            Coordinator::recover(stores.clone(), directory.clone(), vec![spec.clone()], settings, tokens.clone());
        let coordinator = coordinator.await.unwrap();
        let write = WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() };
        Self { stores, directory, coordinator, spec, settings, tokens, write }
    }

    /// The process dies and another takes over.
    pub async fn restart(&mut self) -> drystone::Result<()> {
        self.coordinator = Coordinator::recover(
            self.stores.clone(),
            self.directory.clone(),
            vec![self.spec.clone()],
            self.settings,
            self.tokens.clone(),
        )
        .await?;
        Ok(())
    }

    pub fn subtask(&self, index: u32) -> Subtask {
        self.spec.subtask(index)
    }

    /// Writes chunks for a subtask's snapshot, into one file for each scope.
    pub async fn write(
        &self,
        trigger: &Trigger,
        index: u32,
        scope: Scope,
        chunks: &[(&str, &[u8])],
    ) -> drystone::Result<Chunks> {
        let directory = match scope {
            Scope::Exclusive => self.directory.checkpoint(trigger.checkpoint)?,
            Scope::Shared => self.directory.shared().clone(),
        };
        let (attempt, checkpoint) = (trigger.epoch, trigger.checkpoint);
        let naming = FileNaming { directory, attempt, worker: WorkerName::sanitise("w"), checkpoint };
        let pool = FilePool::new(naming, self.write, self.tokens.clone());
        let origin = Origin { checkpoint, subtask: Some(self.subtask(index)), scope };
        let mut written = Vec::new();
        for (name, bytes) in chunks {
            let mut writer = pool.segment(origin, None);
            writer.write(Bytes::copy_from_slice(bytes)).await?;
            written.push((name.to_string(), writer.finish().await?));
        }
        let sealed = pool.seal().await?;
        let mut found = Chunks::default();
        for (name, written) in written {
            let handle = match written {
                Written::Placed(placement) => sealed.handle(&placement)?,
                Written::Inline(handle) => handle,
                Written::Nothing => continue,
            };
            match scope {
                Scope::Exclusive => found.private.insert(name, handle),
                Scope::Shared => found.shared.insert(name, handle),
            };
        }
        let sizes = sealed.files.values().map(|f| SealedSize { path: f.path.to_string(), bytes: f.file_bytes });
        found.sealed = sizes.collect();
        Ok(found)
    }

    pub fn acknowledge(&self, checkpoint: CheckpointId, index: u32, chunks: Chunks) -> drystone::Result<Acknowledged> {
        let sealed = chunks.sealed.clone();
        let state = Some(Box::new(state(checkpoint, index, chunks)));
        self.coordinator.acknowledge(Acknowledgement {
            epoch: self.coordinator.epoch(),
            checkpoint,
            subtask: self.subtask(index),
            state,
            sealed,
        })
    }

    /// One checkpoint in which each subtask writes one new shared chunk and names `kept` of those before.
    pub async fn round(&self, states: &mut [BTreeMap<String, StreamHandle>]) -> drystone::Result<Completed> {
        let checkpoint = self.coordinator.next_checkpoint();
        let trigger = self.coordinator.trigger(checkpoint)?;
        for (index, state) in states.iter_mut().enumerate() {
            let name = format!("{checkpoint}.sst");
            let bytes = contents(checkpoint, index as u32);
            let mut chunks = self.write(&trigger, index as u32, Scope::Shared, &[(&name, &bytes)]).await?;
            chunks.shared.extend(state.clone());
            *state = chunks.shared.clone();
            self.acknowledge(checkpoint, index as u32, chunks)?;
        }
        self.coordinator.complete(checkpoint).await
    }

    /// Every file below the job's directory, with its length, but what keeps coordinators apart.
    pub async fn files(&self) -> BTreeMap<String, u64> {
        let listed = self.directory.root().list().await.unwrap();
        let below = |path: &FlinkPath| path.relative_to(self.directory.root().name()).unwrap().to_string();
        let mut files = BTreeMap::new();
        for file in &listed {
            let path = below(&file.path);
            let bytes = self.stores.locate(&file.path).unwrap().read_all(1 << 10).await.unwrap_or_default();
            if !path.starts_with("_drystone/") && barred_by(&bytes).is_none() {
                files.insert(path, file.size);
            }
        }
        files
    }

    /// The completed checkpoint, whole: every byte of it is checked.
    pub async fn check(&self, checkpoint: CheckpointId) {
        let path = self.directory.checkpoint(checkpoint).unwrap();
        let found = verify(&self.stores, path.name(), &ReadLimits::default(), &|_, _| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
    }

    /// The space figures, counted again from the metadata of the retained checkpoints (I5).
    pub async fn recount(&self) -> drystone::ledger::SpaceUsage {
        let mut segments = BTreeMap::new();
        let mut files = BTreeMap::new();
        for checkpoint in self.coordinator.completed() {
            let path = self.directory.checkpoint(checkpoint).unwrap();
            let loaded = Checkpoint::load(&self.stores, path.name()).await.unwrap();
            let state = State::of(&self.stores, &loaded).await.unwrap();
            for stream in &state.streams {
                if let drystone::read::Content::File(wanted) = stream.content {
                    let file = state.files[wanted.file].location.clone();
                    files.insert(file.name().clone(), file.size().await.unwrap());
                    segments.insert((file.name().clone(), wanted.offset), wanted.length);
                }
            }
        }
        drystone::ledger::SpaceUsage {
            files: files.len() as u64,
            file_bytes: files.values().sum(),
            segments: segments.len() as u64,
            segment_bytes: segments.values().sum(),
        }
    }

    pub async fn restore(&self, path: &FlinkPath, mode: ClaimMode) -> drystone::Result<Arc<Checkpoint>> {
        self.coordinator.restore(path, mode).await
    }
}

pub fn contents(checkpoint: CheckpointId, index: u32) -> Vec<u8> {
    format!("chunk of checkpoint {checkpoint} and subtask {index}; ").repeat(20).into_bytes()
}

pub fn state(checkpoint: CheckpointId, index: u32, chunks: Chunks) -> SubtaskState {
    state_of(checkpoint, index, KeyGroupRange { start: index, count: 1 }, chunks)
}

/// The state of some key groups.
pub fn state_of(checkpoint: CheckpointId, index: u32, range: KeyGroupRange, chunks: Chunks) -> SubtaskState {
    let text = |text: &str| JavaString::new(text).unwrap();
    let files = |chunks: BTreeMap<String, StreamHandle>| {
        let files = chunks.into_iter();
        files.map(|(name, handle)| LocalPathHandle { local_path: text(&name), handle: Some(handle) }).collect()
    };
    let keyed = IncrementalHandle {
        checkpoint_id: checkpoint.0 as i64,
        backend_id: text("00000000-0000-0000-0000-000000000001"),
        range,
        persisted: Some((0, text(&format!("handle-{checkpoint}-{index}")))),
        meta: None,
        shared: files(chunks.shared),
        private: files(chunks.private),
    };
    SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() }
}
