//! A checkpoint to restore from: what each task of a new run has to read of it.

use std::sync::Arc;

use super::select::Selection;
use super::task::TaskRestore;
use super::{ChannelSharings, Checkpoint, ReadLimits, ReadMemory};
use crate::backup::LocalDirectories;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Operator, OperatorSubtasks, SubtaskState};
use crate::id::{KeyGroupRange, OperatorId, Subtask};
use crate::store::{FlinkPath, Stores};

/// A checkpoint or savepoint to restore from. Cheap to clone.
///
/// Clones and tasks share the memory that the limits give to reads; beside it each may always have one read under way.
/// Tasks of one process are best read [together](super::TaskRead::together): where they wrote side by side, their segments
/// lie among each other.
///
/// Asked for a task, it picks the handles that the task needs; no request is made for that, and none for any other
/// task's state. The parallelism may be another than that of the checkpoint:
///
/// * *Keyed state* goes by key groups, which are assigned as Flink does it
///   ([`KeyGroupRange::of_subtask`]). Each task gets the handles that hold any of its key groups.
/// * *Operator state* at the same parallelism stays with its subtask, but for what Flink shares out even then. At
///   another parallelism each task gets the handles of all subtasks, of which
///   [`TaskRestore::managed_partitions`] says what is its.
/// * *Channel state* stays with its subtask at the same parallelism. At another one the caller has to say how it is shared
///   out ([`task_with_channels`](Self::task_with_channels)), and where an operator at a channel's other end has another
///   parallelism, which task now stands for which channel ([`ChannelSharing::takes`](super::ChannelSharing::takes)): only the
///   job knows.
#[derive(Clone, Debug)]
pub struct Restore {
    stores: Stores,
    checkpoint: Arc<Checkpoint>,
    limits: ReadLimits,
    /// Of all tasks.
    memory: ReadMemory,
    has_channels: bool,
    local: Option<LocalDirectories>,
}

impl Restore {
    /// Loads a checkpoint's metadata, from its directory or its `_metadata` file.
    ///
    /// Of one that was moved, but a plain savepoint, the metadata names files where they were: reading them says `NotFound`,
    /// by both places. [`suggest_rebase`](super::suggest_rebase) finds the rule for [`Stores::with_rebase`].
    ///
    /// # Errors
    /// As for [`Checkpoint::load_intact`].
    pub async fn open(stores: &Stores, path: &FlinkPath, limits: ReadLimits) -> Result<Self> {
        let checkpoint = Checkpoint::load_intact(stores, path).await?;
        Ok(Self::of(stores.clone(), Arc::new(checkpoint), limits))
    }

    /// Of a checkpoint that is loaded.
    pub fn of(stores: Stores, checkpoint: Arc<Checkpoint>, limits: ReadLimits) -> Self {
        Self { stores, checkpoint, memory: ReadMemory::of(&limits), limits, has_channels: true, local: None }
    }

    /// The same without the records in flight, which are lost then: at any parallelism, too.
    #[must_use]
    pub fn without_channel_state(self) -> Self {
        Self { has_channels: false, ..self }
    }

    /// The operators with state, of whatever kind, of which `claims` says no.
    pub fn unclaimed(&self, claims: impl Fn(OperatorId) -> bool) -> Vec<OperatorId> {
        let has_state = |operator: &&Operator| {
            operator.coordinator.is_some()
                || match &operator.subtasks {
                    OperatorSubtasks::FullyFinished => false,
                    OperatorSubtasks::Reported(entries) => entries
                        .iter()
                        .any(|entry| entry.state.as_ref().is_some_and(|state| **state != SubtaskState::default())),
                }
        };
        self.operators().iter().filter(has_state).map(|operator| operator.id).filter(|id| !claims(*id)).collect()
    }

    /// Copies of files are looked for in these directories first, and the store is read where there is none, or one that
    /// isn't right, piece by piece. Nothing fails because of a copy.
    #[must_use]
    pub fn with_local(mut self, local: LocalDirectories) -> Self {
        self.local = Some(local);
        self
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// The operators whose state it holds.
    pub fn operators(&self) -> &[Operator] {
        &self.checkpoint.decoded.metadata.operators
    }

    /// Does it hold the operator? One that it doesn't, because it is new in the job, starts empty, and only the caller
    /// can know that this is meant.
    pub fn has_operator(&self, operator: OperatorId) -> bool {
        self.operators().iter().any(|o| o.id == operator)
    }

    /// What subtask `subtask` of now `parallelism` needs of the operator's state.
    ///
    /// # Errors
    /// `NotFound`: the checkpoint doesn't hold the operator; see [`has_operator`](Self::has_operator).
    /// `Invalid`: there can be no such subtask. `Unsupported`: the parallelism is another, and there is channel state.
    /// `Damaged`: the metadata can't be right. Others: a file's store can't be opened.
    pub fn task(&self, operator: OperatorId, subtask: u32, parallelism: u32) -> Result<TaskRestore> {
        self.task_with_channels(operator, subtask, parallelism, &ChannelSharings::default())
    }

    /// As [`task`](Self::task), of an operator whose channel state is shared out as told where the parallelism is another
    /// ([`ChannelRestore::writer`](super::ChannelRestore::writer) says whose it was). A task that gets data of an
    /// [ambiguous](super::ChannelSharing::is_ambiguous) sharing has to drop the records that aren't its own.
    ///
    /// # Errors
    /// As for [`task`](Self::task); `Unsupported` only where there is channel state that nothing is said of.
    pub fn task_with_channels(
        &self,
        operator: OperatorId,
        subtask: u32,
        parallelism: u32,
        sharings: &ChannelSharings,
    ) -> Result<TaskRestore> {
        let found = self.operator(operator)?;
        let range = KeyGroupRange::of_subtask(subtask, parallelism, found.max_parallelism).ok_or_else(|| {
            let message = format!(
                "operator {operator}: there can be no subtask {subtask} at parallelism={parallelism}, because \
                 {} key groups are shared out; allowed are subtasks below the parallelism, and a parallelism of at most \
                 that",
                found.max_parallelism
            );
            Error::new(ErrorKind::Invalid, message)
        })?;
        let subtask = Subtask { operator, index: subtask, parallelism };
        let mut selection = Selection::new(&self.stores, &self.checkpoint, found, range);
        selection.keyed()?;
        selection.operator_state(subtask)?;
        if self.has_channels {
            selection.channels(subtask, sharings)?;
        }
        let task = selection.task(Some(subtask), self.checkpoint.clone(), self.limits, self.memory.clone());
        Ok(TaskRestore { local: self.local.clone(), ..task })
    }

    /// What holds any of these key groups of the operator; no operator state and no channel state.
    ///
    /// # Errors
    /// As for [`task`](Self::task); `Invalid` if the operator has no such key groups.
    pub fn key_groups(&self, operator: OperatorId, range: KeyGroupRange) -> Result<TaskRestore> {
        let found = self.operator(operator)?;
        if range.end() > u64::from(found.max_parallelism) {
            let message =
                format!("operator {operator}: no key groups {range}, it has {} of them", found.max_parallelism);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut selection = Selection::new(&self.stores, &self.checkpoint, found, range);
        selection.keyed()?;
        let task = selection.task(None, self.checkpoint.clone(), self.limits, self.memory.clone());
        Ok(TaskRestore { local: self.local.clone(), ..task })
    }

    fn operator(&self, operator: OperatorId) -> Result<&Operator> {
        self.operators().iter().find(|o| o.id == operator).ok_or_else(|| {
            let (checkpoint, others) = (self.checkpoint.named(), self.operators().len());
            let message = format!("{checkpoint} holds no state of operator {operator}, but of {others} others");
            Error::new(ErrorKind::NotFound, message)
        })
    }
}
