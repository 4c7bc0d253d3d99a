//! A job whose subtasks hold named segments, of which each checkpoint writes a share anew and names the others again.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drystone::config::{MemorySize, Settings};
use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, SealedSize, Trigger};
use drystone::read::{Restore, TaskRead, TaskRestore};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Stores};
use drystone::worker::{Durable, Worker};
use tokio::task::JoinSet;

pub const OPERATOR: OperatorId = OperatorId([7; 16]);
const JOB: JobId = JobId([1; 16]);
pub const SUBTASKS: u32 = 64;
/// One segment in so many is written anew by each checkpoint.
const WRITTEN_ONE_IN: usize = 10;

pub struct Job {
    #[allow(dead_code, reason = "only some benches read")]
    pub storage: Storage,
    worker: Worker,
    coordinator: Coordinator,
    spec: OperatorSpec,
    segment_bytes: usize,
    /// By subtask, and by place there.
    handles: Vec<Vec<LocalPathHandle>>,
}

/// How long the parts of a checkpoint took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Asking what may be named again.
    pub reuse: Duration,
    /// Writing the others, and making them durable.
    pub write: Duration,
    pub acknowledge: Duration,
    pub complete: Duration,
    /// Deleting what it replaced.
    pub settle: Duration,
}

pub struct Packing {
    pub segments: usize,
    pub segment_bytes: usize,
    pub file_bytes_max: u64,
}

/// Reads the state of all tasks from end to end, in so many groups side by side: its length in bytes.
#[allow(dead_code, reason = "only some benches read")]
pub async fn read_all(restore: &Restore, groups: u32) -> usize {
    let mut readers = JoinSet::new();
    for group in 0..groups {
        let subtasks = group * SUBTASKS / groups..(group + 1) * SUBTASKS / groups;
        let tasks: Vec<_> = subtasks.map(|index| restore.task(OPERATOR, index, SUBTASKS).unwrap()).collect();
        readers.spawn(async move { read(TaskRead::together(&tasks).await.unwrap()).await });
    }
    readers.join_all().await.into_iter().sum()
}

/// Reads one task's state from end to end: its length in bytes.
#[allow(dead_code, reason = "only some benches read")]
pub async fn read_one(task: &TaskRestore) -> usize {
    read(task.read().await.unwrap()).await
}

async fn read(mut pieces: TaskRead) -> usize {
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += black_box(piece.unwrap()).bytes.len();
    }
    bytes
}

impl Job {
    pub async fn new(stores: Stores, directory: &str, packing: Packing) -> Self {
        let Packing { segments, segment_bytes, file_bytes_max } = packing;
        let settings = Settings {
            data_inline_threshold: MemorySize(0),
            max_file_size: MemorySize(file_bytes_max),
            ..Settings::default()
        };
        let next = AtomicU64::new(1);
        let storage = Storage::of(stores, FlinkPath::parse(directory).unwrap(), settings).unwrap();
        let storage = storage.with_tokens(Arc::new(move || next.fetch_add(1, Ordering::Relaxed)));
        let spec = OperatorSpec::new(OPERATOR, SUBTASKS, 128);
        let worker = storage.worker(JOB, "bench").unwrap();
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await.unwrap();
        let local_path = |n| JavaString::new(&format!("{n:06}.sst")).unwrap();
        let empty = |count| (0..count).map(|n| LocalPathHandle { local_path: local_path(n), handle: None }).collect();
        let handles = (0..SUBTASKS as usize).map(|_| empty(segments / SUBTASKS as usize)).collect();
        Self { storage, worker, coordinator, spec, segment_bytes, handles }
    }

    pub async fn checkpoint(&mut self) -> (Phases, Completed) {
        let mut phases = Phases::default();
        let checkpoint = self.coordinator.next_checkpoint();
        let trigger = self.coordinator.trigger(checkpoint).unwrap();
        let sealed = self.write(&trigger, &mut phases).await;
        let acknowledgements: Vec<_> =
            sealed.into_iter().enumerate().map(|(index, sealed)| self.reported(checkpoint, index, sealed)).collect();
        let started = Instant::now();
        for acknowledgement in acknowledgements {
            self.coordinator.acknowledge(acknowledgement).unwrap();
        }
        phases.acknowledge = started.elapsed();
        let started = Instant::now();
        let completed = self.coordinator.complete(checkpoint).await.unwrap();
        phases.complete = started.elapsed();
        let started = Instant::now();
        self.worker.complete(self.coordinator.epoch(), checkpoint);
        completed.subsumed.iter().for_each(|subsumed| self.worker.subsume(self.coordinator.epoch(), *subsumed));
        self.coordinator.settle().await.unwrap();
        phases.settle = started.elapsed();
        (phases, completed)
    }

    async fn write(&mut self, trigger: &Trigger, phases: &mut Phases) -> Vec<Vec<SealedSize>> {
        let bytes = vec![trigger.checkpoint.0 as u8; self.segment_bytes];
        let (mut tickets, mut written) = (Vec::new(), Vec::new());
        for (index, handles) in self.handles.iter().enumerate() {
            let snapshot = self.worker.begin(self.spec.subtask(index as u32), trigger).unwrap();
            let started = Instant::now();
            let is_due = |place: usize| place % WRITTEN_ONE_IN == trigger.checkpoint.0 as usize % WRITTEN_ONE_IN;
            let keeps = |handle: &StreamHandle| snapshot.reuse(handle) == Reuse::Keep;
            let places = handles.iter().enumerate();
            let due = places.filter(|(place, file)| is_due(*place) || !file.handle.as_ref().is_some_and(keeps));
            let due: Vec<usize> = due.map(|(place, _)| place).collect();
            phases.reuse += started.elapsed();
            let started = Instant::now();
            for place in due {
                let mut segment = snapshot.segment(Scope::Shared, None);
                segment.write_slice(&bytes).await.unwrap();
                written.push((index, place, segment.finish().await.unwrap()));
            }
            tickets.push(snapshot.finish());
            phases.write += started.elapsed();
        }
        let started = Instant::now();
        let mut durable: Vec<Durable> = Vec::new();
        for ticket in tickets {
            durable.push(ticket.seal().await.unwrap());
        }
        for (index, place, written) in written {
            self.handles[index][place].handle = durable[index].handle(&written).unwrap();
        }
        phases.write += started.elapsed();
        durable.iter().map(|durable| durable.sealed().to_vec()).collect()
    }

    fn reported(&self, checkpoint: CheckpointId, index: usize, sealed: Vec<SealedSize>) -> Acknowledgement {
        let keyed = IncrementalHandle {
            checkpoint_id: checkpoint.0 as i64,
            backend_id: JavaString::new(&format!("00000000-0000-0000-0000-{index:012x}")).unwrap(),
            range: KeyGroupRange::of_subtask(index as u32, SUBTASKS, 128).unwrap(),
            persisted: None,
            meta: None,
            shared: self.handles[index].clone(),
            private: Vec::new(),
        };
        let state = SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() };
        let subtask: Subtask = self.spec.subtask(index as u32);
        Acknowledgement { epoch: self.coordinator.epoch(), checkpoint, subtask, state: Some(Box::new(state)), sealed }
    }
}
