//! A job of two subtasks, driven through `Storage` as a stream processor would drive it: for the scenarios.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drystone::config::Config;
use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::{
    IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, Part, Place, SegmentHandle, StreamHandle, SubtaskState,
};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, SealedSize, Trigger};
use drystone::read::{Content, ReadLimits, StateFile, StateStream, Wanted, open_handle};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::verify::verify;
use drystone::worker::{Snapshot, Worker};
use drystone::write::{Tokens, Written};
use futures::TryStreamExt;
use object_store::memory::InMemory;

pub const OPERATOR: OperatorId = OperatorId([7; 16]);
pub const JOB: JobId = JobId([1; 16]);

pub const ACROSS: &str = "execution.checkpointing.file-merging.across-checkpoint-boundary";
pub const MAX_FILE: &str = "execution.checkpointing.file-merging.max-file-size";
pub const BLOCKING: &str = "execution.checkpointing.file-merging.pool-blocking";
pub const AMPLIFICATION: &str = "execution.checkpointing.file-merging.max-space-amplification";
pub const INLINE: &str = "execution.checkpointing.data-inline-threshold";
pub const RETAINED: &str = "execution.checkpointing.num-retained";
pub const RETENTION: &str = "execution.checkpointing.externalized-checkpoint-retention";
pub const SEGMENT_BUFFER: &str = "drystone.segment-buffer";
pub const FOLDING: &str = "drystone.fold.write-amplification";
pub const FLOOR: &str = "drystone.space.floor";
pub const VERSION: &str = "drystone.metadata-version";

/// Handles by the names that a test gave them.
pub type Handles = BTreeMap<String, StreamHandle>;

pub struct Job {
    pub stores: Stores,
    pub storage: Storage,
    pub directory: JobDirectory,
    pub worker: Worker,
    pub coordinator: Coordinator,
    pub spec: OperatorSpec,
}

/// One checkpoint, from its trigger on.
pub struct Round<'a> {
    job: &'a Job,
    pub trigger: Trigger,
    parts: Vec<Share>,
}

/// What one subtask has of it.
struct Share {
    snapshot: Snapshot,
    written: Vec<(String, Scope, Written)>,
    kept: Handles,
}

/// Numbers that a test can repeat.
pub fn tokens() -> Tokens {
    let next = AtomicU64::new(1);
    Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
}

pub fn path(text: &str) -> FlinkPath {
    FlinkPath::parse(text).unwrap()
}

pub fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}

/// Nothing goes inline but where an option says so.
pub fn storage(stores: &Stores, directory: &str, options: &[(&str, &str)], tokens: Tokens) -> Storage {
    let mut all = BTreeMap::from([(INLINE, "0")]);
    all.extend(options.iter().copied());
    let (settings, _) = Config::from_map(all).settings().unwrap();
    Storage::of(stores.clone(), path(directory), settings).unwrap().with_tokens(tokens)
}

/// A store in memory.
pub fn memory() -> Stores {
    Stores::new().with_store(&path("memory:/"), Arc::new(InMemory::new()))
}

impl Job {
    pub async fn new(options: &[(&str, &str)]) -> Self {
        Self::at(&memory(), "memory:/checkpoints", JOB, 2, options).await
    }

    pub async fn at(stores: &Stores, directory: &str, job: JobId, parallelism: u32, options: &[(&str, &str)]) -> Self {
        let storage = storage(stores, directory, options, tokens());
        let spec = OperatorSpec::new(OPERATOR, parallelism, 128);
        let coordinator = storage.coordinator(job, vec![spec.clone()]).await.unwrap();
        let worker = storage.worker(job, "Testing").unwrap();
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        let directory = storage.job_directory(job).unwrap();
        Self { stores: stores.clone(), storage, directory, worker, coordinator, spec }
    }

    pub fn subtask(&self, index: usize) -> Subtask {
        self.spec.subtask(index as u32)
    }

    /// The next checkpoint, begun by all subtasks.
    pub fn begin(&self) -> Round<'_> {
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap();
        let begin = |subtask| Share {
            snapshot: self.worker.begin(subtask, &trigger).unwrap(),
            written: Vec::new(),
            kept: Handles::new(),
        };
        let parts = self.spec.subtasks().map(begin).collect();
        Round { job: self, trigger, parts }
    }

    /// Completes a checkpoint that all have acknowledged, tells the worker, and waits for the deletes.
    pub async fn complete(&self, checkpoint: CheckpointId) -> Completed {
        let completed = self.coordinator.complete(checkpoint).await.unwrap();
        self.worker.complete(self.coordinator.epoch(), checkpoint);
        completed.subsumed.iter().for_each(|&old| self.worker.subsume(self.coordinator.epoch(), old));
        self.coordinator.settle().await.unwrap();
        self.check(checkpoint).await;
        completed
    }

    pub async fn abort(&self, checkpoint: CheckpointId) {
        self.coordinator.abort(checkpoint);
        self.worker.abort(self.coordinator.epoch(), checkpoint);
        self.coordinator.settle().await.unwrap();
    }

    /// Physical and logical files.
    pub fn counts(&self) -> (u64, u64) {
        let space = self.coordinator.space();
        (space.files, space.segments)
    }

    /// Every file of the job, with its length.
    pub async fn files(&self) -> BTreeMap<String, u64> {
        files_below(&self.stores, &self.directory.root().name().to_string()).await
    }

    pub async fn holds(&self, handle: &StreamHandle) -> bool {
        self.stores.locate(&file_of(handle)).unwrap().exists().await.unwrap()
    }

    /// The completed checkpoint, whole: every byte of it is checked.
    pub async fn check(&self, checkpoint: CheckpointId) {
        let path = self.directory.checkpoint(checkpoint).unwrap();
        let found = verify(&self.stores, path.name(), &ReadLimits::default(), &|_, _| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
    }

    pub async fn read(&self, handle: &StreamHandle) -> Bytes {
        read(&self.stores, handle).await.unwrap()
    }
}

impl Round<'_> {
    pub fn checkpoint(&self) -> CheckpointId {
        self.trigger.checkpoint
    }

    pub fn snapshot(&self, index: usize) -> &Snapshot {
        &self.parts[index].snapshot
    }

    /// Writes one chunk.
    pub async fn write(&mut self, index: usize, scope: Scope, name: &str, bytes: impl Into<Bytes>) {
        let part = &mut self.parts[index];
        let mut writer = part.snapshot.segment(scope, None);
        writer.write(bytes.into()).await.unwrap();
        part.written.push((name.to_owned(), scope, writer.finish().await.unwrap()));
    }

    /// Takes over what was written by other means.
    pub fn take(&mut self, index: usize, scope: Scope, name: &str, written: Written) {
        self.parts[index].written.push((name.to_owned(), scope, written));
    }

    /// Names a handle of an earlier checkpoint again.
    pub fn keep(&mut self, index: usize, name: &str, handle: &StreamHandle) {
        assert_eq!(self.reuse(handle), Reuse::Keep, "{name}");
        self.parts[index].kept.insert(name.to_owned(), handle.clone());
    }

    pub fn reuse(&self, handle: &StreamHandle) -> Reuse {
        self.parts[0].snapshot.reuse(handle)
    }

    /// Where a chunk lies, before its file is sealed.
    pub fn provisional(&self, index: usize, name: &str) -> SegmentHandle {
        let part = &self.parts[index];
        let (_, _, written) = part.written.iter().find(|(known, ..)| known == name).unwrap();
        segment(&part.snapshot.provisional(written).unwrap().unwrap()).clone()
    }

    /// Everything is durable, and told to the coordinator. The handles of what was written.
    pub async fn acknowledge(self) -> Handles {
        let Round { job, trigger, parts } = self;
        let mut handles = Handles::new();
        let mut finished = Vec::new();
        for Share { snapshot, written, kept } in parts {
            finished.push((snapshot.finish(), written, kept));
        }
        for (index, (ticket, written, kept)) in finished.into_iter().enumerate() {
            let durable = ticket.seal().await.unwrap();
            let (mut shared, mut private) = (kept, Handles::new());
            for (name, scope, written) in written {
                let Some(handle) = durable.handle(&written).unwrap() else { continue };
                handles.insert(name.clone(), handle.clone());
                match scope {
                    Scope::Exclusive => private.insert(name, handle),
                    Scope::Shared => shared.insert(name, handle),
                };
            }
            let state = state(&job.spec, trigger.checkpoint, index as u32, shared, private);
            job.acknowledge(trigger.checkpoint, index, state, durable.sealed().to_vec());
        }
        handles
    }

    /// Acknowledged and completed.
    pub async fn commit(self) -> (Completed, Handles) {
        let (job, checkpoint) = (self.job, self.checkpoint());
        let handles = self.acknowledge().await;
        (job.complete(checkpoint).await, handles)
    }
}

impl Job {
    pub fn acknowledge(&self, checkpoint: CheckpointId, index: usize, state: SubtaskState, sealed: Vec<SealedSize>) {
        let (subtask, state) = (self.subtask(index), Some(Box::new(state)));
        self.coordinator
            .acknowledge(Acknowledgement { epoch: self.coordinator.epoch(), checkpoint, subtask, state, sealed })
            .unwrap();
    }
}

/// An incremental snapshot of these files.
pub fn state(
    spec: &OperatorSpec,
    checkpoint: CheckpointId,
    index: u32,
    shared: Handles,
    private: Handles,
) -> SubtaskState {
    let files = |handles: Handles| {
        let files = handles.into_iter();
        files.map(|(name, handle)| LocalPathHandle { local_path: text(&name), handle: Some(handle) }).collect()
    };
    let keyed = IncrementalHandle {
        checkpoint_id: checkpoint.0 as i64,
        backend_id: text("00000000-0000-0000-0000-000000000001"),
        range: KeyGroupRange::of_subtask(index, spec.parallelism, spec.max_parallelism).unwrap(),
        persisted: Some((0, text(&format!("handle-{checkpoint}-{index}")))),
        meta: None,
        shared: files(shared),
        private: files(private),
    };
    SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() }
}

pub fn segment(handle: &StreamHandle) -> &SegmentHandle {
    let StreamHandle::Segment(segment) = handle else { panic!("not a segment: {handle:?}") };
    segment
}

pub fn file_of(handle: &StreamHandle) -> FlinkPath {
    path(&segment(handle).path.to_text())
}

/// The bytes of a segment, checked.
pub async fn read(stores: &Stores, handle: &StreamHandle) -> drystone::Result<Bytes> {
    let (segment, name) = (segment(handle), file_of(handle));
    let place =
        Place { operator: OPERATOR, parallelism: 1, subtask: Some(0), part: Part::ManagedKeyed, local_path: None };
    let stream = StateStream {
        place,
        content: Content::File(Wanted { file: 0, offset: segment.offset, length: segment.size }),
        whole: false,
        id: segment.id.to_text().parse().ok(),
        listed_crc32c: None,
        scope: segment.scope,
    };
    let files = [StateFile { location: stores.locate(&name)?, name }];
    let pieces: Vec<Bytes> = open_handle(&files, &stream, &ReadLimits::default()).try_collect().await?;
    Ok(pieces.concat().into())
}

pub async fn files_below(stores: &Stores, directory: &str) -> BTreeMap<String, u64> {
    let root = stores.locate(&path(directory)).unwrap();
    let below = |file: &FlinkPath| file.relative_to(root.name()).unwrap().to_string();
    let listed = root.list().await.unwrap();
    let files = listed.iter().map(|file| (below(&file.path), file.size));
    // Not what keeps coordinators apart.
    files.filter(|(path, _)| !path.contains("_drystone/")).collect()
}
