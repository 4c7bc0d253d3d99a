//! A job that starts from a checkpoint which somebody else took, with all of its operators, and takes checkpoints of the
//! same state.

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone::config::ClaimMode;
use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::{OperatorSubtasks, StreamHandle, SubtaskState};
use drystone::id::{OperatorId, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, RewriteReason};
use drystone::read::{Checkpoint, ReadLimits, Restore, State, open_handle};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::verify::verify;
use drystone::worker::Worker;
use futures::TryStreamExt;

use crate::scenario::{JOB, storage, tokens};

/// A key that orders subtasks.
pub type Key = (OperatorId, u32);

pub struct Heir {
    pub stores: Stores,
    pub storage: Storage,
    pub directory: JobDirectory,
    pub coordinator: Coordinator,
    pub worker: Worker,
    pub operators: Vec<OperatorSpec>,
    /// The checkpoint that the states are of.
    pub latest: FlinkPath,
    pub states: BTreeMap<Key, SubtaskState>,
}

/// What became of the handles in a round.
#[derive(Debug, Default)]
pub struct Answers {
    pub kept: Vec<StreamHandle>,
    pub rewritten: Vec<(StreamHandle, Option<RewriteReason>)>,
}

impl Heir {
    pub async fn new(stores: &Stores, at: &str, from: &FlinkPath, mode: ClaimMode, options: &[(&str, &str)]) -> Self {
        let storage = storage(stores, at, options, tokens());
        let restore = storage.restore(from).await.unwrap();
        let spec = |o: &drystone::handle::Operator| OperatorSpec::new(o.id, o.parallelism, o.max_parallelism);
        let operators: Vec<_> = restore.operators().iter().map(spec).collect();
        let coordinator = storage.coordinator(JOB, operators.clone()).await.unwrap();
        coordinator.restore(from, mode).await.unwrap();
        let worker = storage.worker(JOB, "heir").unwrap();
        let directory = storage.job_directory(JOB).unwrap();
        let (stores, latest, states) = (stores.clone(), from.clone(), states(&restore));
        Self { stores, storage, directory, coordinator, worker, operators, latest, states }
    }

    /// A checkpoint of the same state. What may be named again is, unless all is to be written again.
    pub async fn round(&mut self, all: bool) -> (Completed, Answers) {
        let contents = contents(&self.stores, &self.latest).await;
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap();
        let subtasks: Vec<Subtask> = self.operators.iter().flat_map(OperatorSpec::subtasks).collect();
        subtasks.iter().for_each(|&subtask| self.worker.register(subtask));
        let (mut answers, mut tickets) = (Answers::default(), Vec::new());
        for subtask in subtasks {
            let snapshot = self.worker.begin(subtask, &trigger).unwrap();
            let mut written = Vec::new();
            let key = (subtask.operator, subtask.index);
            for (number, (scope, handle)) in handles(subtask, self.states.get(&key)).into_iter().enumerate() {
                let reason = match snapshot.reuse(&handle) {
                    Reuse::Keep if !all || handle == StreamHandle::EmptySegment => {
                        answers.kept.push(handle);
                        written.push(None);
                        continue;
                    }
                    Reuse::Keep => None,
                    Reuse::Rewrite(reason) => Some(reason),
                };
                let mut writer = snapshot.segment(scope, None);
                writer.write(contents[&key][number].clone()).await.unwrap();
                written.push(Some(writer.finish().await.unwrap()));
                answers.rewritten.push((handle, reason));
            }
            tickets.push((subtask, snapshot.finish(), written));
        }
        for (subtask, ticket, written) in tickets {
            let durable = ticket.seal().await.unwrap();
            let mut state = self.states.get(&(subtask.operator, subtask.index)).cloned().unwrap_or_default();
            let mut written = written.into_iter();
            state.visit_streams_mut(subtask, |_, handle| {
                if let Some(written) = written.next().unwrap() {
                    *handle = durable.handle(&written).unwrap().expect("no stream is empty");
                }
            });
            // Directories are Flink's way to have them deleted; ours are nobody else's to delete.
            state.managed_operator.iter_mut().chain(&mut state.raw_operator).for_each(|o| o.directories = None);
            self.states.insert((subtask.operator, subtask.index), state.clone());
            let (sealed, checkpoint) = (durable.sealed().to_vec(), trigger.checkpoint);
            let acknowledgement =
                Acknowledgement { epoch: trigger.epoch, checkpoint, subtask, state: Some(Box::new(state)), sealed };
            self.coordinator.acknowledge(acknowledgement).unwrap();
        }
        let completed = self.coordinator.complete(trigger.checkpoint).await.unwrap();
        self.worker.complete(trigger.epoch, trigger.checkpoint);
        completed.subsumed.iter().for_each(|&old| self.worker.subsume(trigger.epoch, old));
        self.coordinator.settle().await.unwrap();
        self.latest = completed.path.clone();
        let found = verify(&self.stores, &self.latest, &ReadLimits::default(), &|_, _| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
        // Not a byte of it is another than before.
        assert!(self::contents(&self.stores, &self.latest).await == contents);
        (completed, answers)
    }

    /// Every handle of every subtask.
    pub fn handles(&self) -> Vec<StreamHandle> {
        let subtasks = self.operators.iter().flat_map(OperatorSpec::subtasks);
        let of = |subtask: Subtask| handles(subtask, self.states.get(&(subtask.operator, subtask.index)));
        subtasks.flat_map(of).map(|(_, handle)| handle).collect()
    }
}

fn handles(subtask: Subtask, state: Option<&SubtaskState>) -> Vec<(drystone::id::Scope, StreamHandle)> {
    let mut handles = Vec::new();
    if let Some(state) = state {
        state.visit_streams(subtask, |place, handle| handles.push((place.part.scope(), handle.clone())));
    }
    handles
}

fn states(restore: &Restore) -> BTreeMap<Key, SubtaskState> {
    let mut states = BTreeMap::new();
    for operator in restore.operators() {
        let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
        for entry in entries {
            states.extend(entry.state.as_ref().map(|state| ((operator.id, entry.index), (**state).clone())));
        }
    }
    states
}

/// The bytes of every stream of every subtask, in order.
pub async fn contents(stores: &Stores, path: &FlinkPath) -> BTreeMap<Key, Vec<Bytes>> {
    let checkpoint = Checkpoint::load(stores, path).await.unwrap();
    let state = State::of(stores, &checkpoint).await.unwrap();
    let mut contents: BTreeMap<_, Vec<Bytes>> = BTreeMap::new();
    for stream in &state.streams {
        let Some(subtask) = stream.place.subtask else { continue };
        let pieces: Vec<Bytes> = open_handle(&state.files, stream, &ReadLimits::default()).try_collect().await.unwrap();
        contents.entry((stream.place.operator, subtask)).or_default().push(pieces.concat().into());
    }
    contents
}
