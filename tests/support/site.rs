//! A job at work with its worker: subtasks whose databases have named chunks, shared or private.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use drystone::coordinator::{Completed, CoordinatorSettings};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Reuse, Trigger};
use drystone::worker::{Snapshot, Worker, WorkerSettings};
use drystone::write::{WriteSettings, Written};

use super::live::{Chunks, Live};
use super::rule_store::RuleStore;

pub struct Site {
    pub live: Live,
    pub store: RuleStore,
    pub worker: Worker,
}

/// A subtask's state: by name, the bytes, and where shared ones are stored.
#[derive(Clone, Debug, Default)]
pub struct Database {
    pub shared: BTreeMap<String, (Bytes, Option<StreamHandle>)>,
    pub private: BTreeMap<String, Bytes>,
    /// How many chunks were written again although they were stored.
    pub rewritten: usize,
}

/// Everything goes into files.
pub fn packed() -> WorkerSettings {
    let settings = WorkerSettings::default();
    WorkerSettings { write: WriteSettings { inline_bytes_max: 0, ..settings.write }, ..settings }
}

/// Bytes that no other `seed` gives.
pub fn bytes_of(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}

pub async fn write(snapshot: &Snapshot, scope: Scope, bytes: Bytes) -> drystone::Result<Written> {
    let mut writer = snapshot.segment(scope, None);
    writer.write(bytes).await?;
    writer.finish().await
}

impl Site {
    pub async fn new(parallelism: u32, settings: CoordinatorSettings, worker: WorkerSettings) -> Self {
        let store = RuleStore::default();
        let live = Live::new(Arc::new(store.clone()), parallelism, settings).await;
        let worker = Worker::new(live.directory.clone(), "w", worker, live.tokens.clone());
        live.spec.subtasks().for_each(|subtask| worker.register(subtask));
        Self { live, store, worker }
    }

    pub fn trigger(&self) -> Trigger {
        self.live.coordinator.trigger(self.live.coordinator.next_checkpoint()).unwrap()
    }

    pub fn begin(&self, trigger: &Trigger, index: u32) -> Snapshot {
        self.worker.begin(self.live.subtask(index), trigger).unwrap()
    }

    /// A subtask's snapshot, durable. What is stored is named again where that may be.
    pub async fn part(&self, trigger: &Trigger, index: u32, database: &mut Database) -> drystone::Result<Chunks> {
        let snapshot = self.begin(trigger, index);
        let (mut chunks, mut written) = (Chunks::default(), Vec::new());
        for (name, (bytes, stored)) in &database.shared {
            match stored {
                Some(handle) if snapshot.reuse(handle) == Reuse::Keep => {
                    chunks.shared.insert(name.clone(), handle.clone());
                    continue;
                }
                Some(_) => database.rewritten += 1,
                None => {}
            }
            written.push((Scope::Shared, name.clone(), write(&snapshot, Scope::Shared, bytes.clone()).await?));
        }
        for (name, bytes) in &database.private {
            written.push((Scope::Exclusive, name.clone(), write(&snapshot, Scope::Exclusive, bytes.clone()).await?));
        }
        let durable = snapshot.seal().await?;
        for (scope, name, written) in written {
            let Some(handle) = durable.handle(&written)? else { continue };
            match scope {
                Scope::Shared => chunks.shared.insert(name, handle),
                Scope::Exclusive => chunks.private.insert(name, handle),
            };
        }
        chunks.sealed = durable.sealed().to_vec();
        Ok(chunks)
    }

    /// A whole checkpoint of all subtasks, side by side.
    pub async fn checkpoint(&self, databases: &mut [Database]) -> drystone::Result<Completed> {
        let trigger = self.trigger();
        let parts = databases.iter_mut().enumerate();
        let parts = parts.map(|(index, database)| self.part(&trigger, index as u32, database));
        let parts: Vec<_> = futures::future::join_all(parts).await.into_iter().collect();
        let mut parts = match parts.into_iter().collect::<drystone::Result<Vec<Chunks>>>() {
            Ok(parts) => parts,
            Err(error) => {
                self.give_up(trigger.checkpoint);
                return Err(error);
            }
        };
        for (index, chunks) in parts.iter().enumerate() {
            self.live.acknowledge(trigger.checkpoint, index as u32, chunks.clone())?;
        }
        let completed = match self.live.coordinator.complete(trigger.checkpoint).await {
            Ok(completed) => completed,
            Err(error) => {
                self.give_up(trigger.checkpoint);
                return Err(error);
            }
        };
        for (database, chunks) in databases.iter_mut().zip(&mut parts) {
            for (name, handle) in std::mem::take(&mut chunks.shared) {
                database.shared.get_mut(&name).unwrap().1 = Some(handle);
            }
        }
        self.worker.complete(self.live.coordinator.epoch(), trigger.checkpoint);
        completed.subsumed.iter().for_each(|&id| self.worker.subsume(self.live.coordinator.epoch(), id));
        completed.aborted.iter().for_each(|&id| self.worker.abort(self.live.coordinator.epoch(), id));
        Ok(completed)
    }

    pub fn give_up(&self, checkpoint: CheckpointId) {
        self.worker.abort(self.live.coordinator.epoch(), checkpoint);
        self.live.coordinator.abort(checkpoint);
    }

    /// Waits until no task can go on.
    pub async fn until_nothing_moves(&self) {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    }

    /// Data files below the job's directory, with their lengths.
    pub async fn data_files(&self) -> BTreeMap<String, u64> {
        let files = self.live.files().await;
        files.into_iter().filter(|(name, _)| !name.ends_with("_metadata")).collect()
    }

    /// Nothing is held, open or on its way.
    pub fn assert_idle(&self) {
        assert_eq!(self.worker.usage(), drystone::worker::WorkerUsage::default());
        assert_eq!(self.store.uploads_open(), 0);
    }
}
