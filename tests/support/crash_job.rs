//! A job that may die at any moment: what it wrote, what it was promised, and whether all that is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use drystone::config::{MemorySize, Settings};
use drystone::coordinator::Coordinator;
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, RewriteReason, Trigger};
use drystone::read::{Checkpoint, State};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Stores, names};
use drystone::worker::Worker;

use super::seeded::bytes_of;

pub const JOB: JobId = JobId([0xcd; 16]);
const SUBTASKS: u32 = 2;

/// Long chunks are of such blocks, again and again.
const BLOCK_BYTES: usize = 100_003;

/// A subtask's chunks by name: whether later checkpoints may name them, their bytes, and where they are stored.
type Database = BTreeMap<String, (Scope, Bytes, Option<StreamHandle>)>;
/// The same as it has to be found again.
pub type Contents = Vec<BTreeMap<String, Bytes>>;

/// What survives the process, outside of it.
#[derive(Debug, Default)]
pub struct Believed {
    /// The latest checkpoint of which the job was told that it is there.
    pub promised: Option<CheckpointId>,
    /// What each checkpoint holds, from before its commit on.
    pub contents: BTreeMap<CheckpointId, Contents>,
    /// From here on checkpoints may go.
    pub is_ending: bool,
}

pub struct Job {
    pub storage: Storage,
    pub coordinator: Coordinator,
    pub worker: Worker,
    spec: OperatorSpec,
    databases: Vec<Database>,
    believed: Arc<Mutex<Believed>>,
    seed: u64,
    /// The length of the private chunks.
    pub private_bytes: usize,
    /// Its state backend can't write a segment again.
    pub names_again: bool,
    /// How many chunks were named again, and how many written again to save space.
    pub reused: [usize; 2],
}

/// Small chunks go into the metadata, others into files of a few of them.
pub fn settings() -> Settings {
    Settings {
        data_inline_threshold: MemorySize(100),
        max_file_size: MemorySize(16 << 10),
        max_space_amplification: None,
        num_retained: 2,
        fencing_proof_rounds: 1,
        latest_file: true,
        ..Settings::default()
    }
}

/// Takes the same numbers in each run; `start` keeps those of one process apart from another's.
pub fn storage(stores: Stores, root: &FlinkPath, settings: Settings, start: u64) -> drystone::Result<Storage> {
    let next = std::sync::atomic::AtomicU64::new(start << 32);
    let tokens = Arc::new(move || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    Ok(Storage::of(stores, root.clone(), settings)?.with_tokens(tokens))
}

impl Job {
    /// A process of the job, with what earlier ones have left.
    pub async fn start(storage: Storage, believed: Arc<Mutex<Believed>>) -> drystone::Result<Self> {
        let spec = OperatorSpec::new(OperatorId([9; 16]), SUBTASKS, 128);
        let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await?;
        let worker = storage.worker(JOB, "w")?;
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        let databases = vec![Database::new(); SUBTASKS as usize];
        Ok(Self {
            storage,
            coordinator,
            worker,
            spec,
            databases,
            believed,
            seed: 0,
            private_bytes: 700,
            names_again: false,
            reused: [0; 2],
        })
    }

    /// The next process of the job, which has nothing of this one's state.
    pub async fn again(&self) -> drystone::Result<Self> {
        Self::start(self.storage.clone(), self.believed.clone()).await
    }

    /// Each subtask drops what `keeps` doesn't keep, and adds shared chunks, a private one and one that is inline.
    pub fn change(&mut self, new: &[usize], keeps: impl Fn(&str) -> bool) {
        let private_bytes = self.private_bytes;
        for database in &mut self.databases {
            database.retain(|name, (scope, ..)| *scope == Scope::Shared && keeps(name));
            self.seed += 1;
            let seed = self.seed << 8;
            let mut add = |name: String, scope, bytes| database.insert(name, (scope, bytes, None));
            for (number, &length) in new.iter().enumerate() {
                let block = bytes_of(seed + number as u64, length.min(BLOCK_BYTES));
                let mut bytes = block.repeat(length.div_ceil(BLOCK_BYTES));
                bytes.truncate(length);
                add(format!("{:04}-{number}", self.seed), Scope::Shared, bytes.into());
            }
            add(format!("{:04}-private", self.seed), Scope::Exclusive, bytes_of(seed + 200, private_bytes));
            add(format!("{:04}-small", self.seed), Scope::Exclusive, bytes_of(seed + 201, 30));
        }
    }

    pub fn trigger(&self) -> drystone::Result<Trigger> {
        self.coordinator.trigger(self.coordinator.next_checkpoint())
    }

    /// One subtask's part.
    pub async fn part(&mut self, trigger: &Trigger, index: u32) -> drystone::Result<Acknowledgement> {
        let subtask = self.spec.subtask(index);
        let snapshot = self.worker.begin(subtask, trigger)?;
        let database = &mut self.databases[index as usize];
        let mut written = BTreeMap::new();
        for (name, (scope, bytes, stored)) in database.iter() {
            let answer = stored.as_ref().map(|handle| snapshot.reuse(handle));
            let is_planned = matches!(answer, Some(Reuse::Rewrite(RewriteReason::Planned(_))));
            if answer == Some(Reuse::Keep) || (is_planned && self.names_again) {
                self.reused[0] += 1;
            } else {
                self.reused[1] += usize::from(is_planned);
                let mut writer = snapshot.segment(*scope, None);
                writer.write(bytes.clone()).await?;
                written.insert(name.clone(), writer.finish().await?);
            }
        }
        let durable = snapshot.seal().await?;
        let (mut shared, mut private) = (Vec::new(), Vec::new());
        for (name, (scope, _, stored)) in database.iter_mut() {
            if let Some(written) = written.get(name) {
                *stored = durable.handle(written)?;
            }
            let file = LocalPathHandle { local_path: JavaString::new(name).unwrap(), handle: stored.clone() };
            if *scope == Scope::Shared { shared.push(file) } else { private.push(file) }
        }
        let text = |text: &str| JavaString::new(text).unwrap();
        let keyed = IncrementalHandle {
            checkpoint_id: trigger.checkpoint.0 as i64,
            backend_id: text("00000000-0000-4000-8000-000000000001"),
            range: KeyGroupRange::of_subtask(index, SUBTASKS, 128).unwrap(),
            persisted: Some((0, text(&format!("handle-{}-{index}", trigger.checkpoint)))),
            meta: None,
            shared,
            private,
        };
        let state = SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() };
        let sealed = durable.sealed().to_vec();
        let (checkpoint, epoch) = (trigger.checkpoint, trigger.epoch);
        Ok(Acknowledgement { checkpoint, epoch, subtask, state: Some(Box::new(state)), sealed })
    }

    /// All parts, and the commit.
    pub async fn checkpoint(&mut self) -> drystone::Result<CheckpointId> {
        let trigger = self.trigger()?;
        for index in 0..SUBTASKS {
            let acknowledgement = self.part(&trigger, index).await?;
            self.coordinator.acknowledge(acknowledgement)?;
        }
        self.complete(trigger.checkpoint).await?;
        Ok(trigger.checkpoint)
    }

    async fn complete(&mut self, checkpoint: CheckpointId) -> drystone::Result<()> {
        let contents = self.databases.iter();
        let contents = contents
            .map(|database| database.iter().map(|(name, (_, bytes, _))| (name.clone(), bytes.clone())).collect());
        self.believed.lock().unwrap().contents.insert(checkpoint, contents.collect());
        let completed = self.coordinator.complete(checkpoint).await?;
        self.believed.lock().unwrap().promised = Some(checkpoint);
        let epoch = self.coordinator.epoch();
        self.worker.complete(epoch, checkpoint);
        completed.subsumed.iter().for_each(|&older| self.worker.subsume(epoch, older));
        Ok(())
    }

    /// Gives a checkpoint up, on both sides.
    pub fn abort(&self, checkpoint: CheckpointId) {
        self.coordinator.abort(checkpoint);
        self.worker.abort(self.coordinator.epoch(), checkpoint);
    }

    pub fn ends(&self) {
        self.believed.lock().unwrap().is_ending = true;
    }

    /// What was promised is there, and each checkpoint that is there is whole. The job goes on with the latest.
    pub async fn take_over(&mut self) -> Result<(), String> {
        let (promised, is_ending) = {
            let believed = self.believed.lock().unwrap();
            (believed.promised, believed.is_ending)
        };
        let latest = self.coordinator.latest().map(|latest| latest.checkpoint);
        if !is_ending && latest < promised {
            return Err(format!("{promised:?} was promised, {latest:?} is the latest"));
        }
        for checkpoint in self.coordinator.completed() {
            let known = self.believed.lock().unwrap().contents.get(&checkpoint).cloned();
            let expected = known.ok_or_else(|| format!("checkpoint {checkpoint} came from nowhere"))?;
            let found = self.read(checkpoint).await.map_err(|error| error.one_line())?;
            let bytes = |database: &Database| -> BTreeMap<String, Bytes> {
                database.iter().map(|(name, (_, bytes, _))| (name.clone(), bytes.clone())).collect()
            };
            if found.iter().map(bytes).collect::<Contents>() != expected {
                return Err(format!("checkpoint {checkpoint} isn't what was written"));
            }
            self.databases = found;
        }
        self.seed += 1000;
        Ok(())
    }

    async fn read(&self, checkpoint: CheckpointId) -> drystone::Result<Vec<Database>> {
        let path = self.coordinator.directory().checkpoint(checkpoint)?.name().clone();
        let restore = self.storage.restore(&path).await?;
        let mut databases = Vec::new();
        for index in 0..SUBTASKS {
            let task = restore.task(self.spec.id, index, SUBTASKS)?;
            let restored = task.read_all().await?;
            let chunks = task.streams().iter().enumerate().map(|(number, stream)| {
                let name = stream.place().local_path.as_ref().map(ToString::to_string).unwrap_or_default();
                let scope = if name.ends_with(['e', 'l']) { Scope::Exclusive } else { Scope::Shared };
                (name, (scope, restored.bytes(number), Some(stream.handle.clone())))
            });
            databases.push(chunks.collect());
        }
        Ok(databases)
    }

    /// Every file that the retained checkpoints name, and their metadata.
    pub async fn named(&self) -> drystone::Result<BTreeSet<FlinkPath>> {
        let mut named = BTreeSet::new();
        for checkpoint in self.coordinator.completed() {
            named.extend(
                named_by(self.storage.stores(), self.coordinator.directory().checkpoint(checkpoint)?.name()).await?,
            );
        }
        Ok(named)
    }
}

/// Every file that the checkpoint names, and its metadata.
pub async fn named_by(stores: &Stores, checkpoint: &FlinkPath) -> drystone::Result<BTreeSet<FlinkPath>> {
    let loaded = Checkpoint::load(stores, checkpoint).await?;
    let state = State::of(stores, &loaded).await?;
    let metadata = loaded.directory.join(names::METADATA)?.name().clone();
    Ok(state.files.iter().map(|file| file.name.clone()).chain([metadata]).collect())
}
