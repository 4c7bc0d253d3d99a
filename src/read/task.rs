//! What one task needs of a checkpoint.

use std::sync::Arc;

use super::part::Take;
use super::restored::{Restored, gather};
use super::state::{Content, StateFile, StateStream};
use super::task_read::TaskRead;
use super::{Checkpoint, ReadLimits, ReadMemory};
use crate::backup::LocalDirectories;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{
    ChangelogMemoryHandle, ChannelHandle, DistributionMode, IncrementalHandle, JavaString, KeyGroupsHandle, Place,
    StreamHandle,
};
use crate::id::{KeyGroupRange, OperatorId, Subtask};

/// What one task needs of a checkpoint: no more handles than that. Nothing is read before [`read`](Self::read).
///
/// Handles refer to their bytes by a number, which [`stream`](Self::stream) and each piece that is read have, too. A
/// placeholder for no state has none.
#[derive(Clone, Debug)]
pub struct TaskRestore {
    /// The operator.
    pub operator: OperatorId,
    /// The task; `None` when only key groups were asked for.
    pub subtask: Option<Subtask>,
    /// How many subtasks the operator had.
    pub parallelism_before: u32,
    /// The task's key groups.
    pub key_groups: KeyGroupRange,
    /// Which subtasks had finished before the checkpoint was taken.
    pub finished: Finished,
    /// Keyed state under Flink's management.
    pub managed_keyed: Vec<KeyedRestore>,
    /// Keyed state in the user's own encoding.
    pub raw_keyed: Vec<KeyedRestore>,
    /// Operator state under Flink's management.
    pub managed_operator: Vec<OperatorRestore>,
    /// Operator state in the user's own encoding.
    pub raw_operator: Vec<OperatorRestore>,
    /// In-flight data of the inputs.
    pub input_channels: Vec<ChannelRestore>,
    /// In-flight data of the outputs.
    pub output_channels: Vec<ChannelRestore>,
    pub(super) source: Source,
    pub(super) limits: ReadLimits,
    pub(super) memory: ReadMemory,
    /// Where copies of the files may be.
    pub(super) local: Option<LocalDirectories>,
}

/// The streams that a task needs, and where they are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) checkpoint: Arc<Checkpoint>,
    pub(super) files: Arc<Vec<StateFile>>,
    pub(super) streams: Arc<Vec<TaskStream>>,
}

/// The number of one of a task's streams.
pub type StreamNumber = usize;

/// A stream of which a task needs a part or all.
#[derive(Clone, Debug)]
pub struct TaskStream {
    /// Whose it is and where. Its length may be unknown here.
    pub(super) state: StateStream,
    /// The handle as the checkpoint has it: what to name again, where it may be reused.
    pub handle: StreamHandle,
    /// How much of it the task needs.
    pub take: Take,
}

/// Which subtasks of an operator had finished before the checkpoint was taken, and so have no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// These; most often none.
    Subtasks(Vec<u32>),
    /// All of them.
    Operator,
}

/// Keyed state from one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRestore {
    /// The subtask that wrote it.
    pub writer: u32,
    /// The key groups that the task needs of it: some of the handle's.
    pub key_groups: KeyGroupRange,
    /// The state.
    pub state: KeyedState,
}

/// The kinds of keyed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedState {
    /// Key groups in one stream. Only those that are needed are read, and the stream's head before them all, which
    /// comes with no key group. By Flink's convention a key group at offset 0 has no state (in raw state: at -1); so a
    /// backend that writes such streams puts at least a byte before the first group.
    KeyGroups {
        /// The handle.
        handle: KeyGroupsHandle,
        /// Its bytes.
        stream: Option<StreamNumber>,
    },
    /// A database's files. All are needed, since a key may be in any.
    Incremental {
        /// The handle.
        handle: IncrementalHandle,
        /// The database's own metadata.
        meta: Option<StreamNumber>,
        /// The bytes of each of the handle's `shared`, in its order.
        shared: Vec<Option<StreamNumber>>,
        /// The bytes of each of the handle's `private`, in its order.
        private: Vec<Option<StreamNumber>>,
    },
    /// State as last materialised, and the changes since; each with what the task needs of it.
    Changelog {
        /// The state as last materialised.
        materialized: Vec<KeyedRestore>,
        /// The changes since.
        changes: Vec<KeyedRestore>,
        /// Which materialisation.
        materialization_id: i64,
    },
    /// Changes, inline: of the handle's, those of the task's key groups and of the state's metadata.
    ChangelogMemory(ChangelogMemoryHandle),
    /// Changes, in files of which each is read from the place where this handle's changes start.
    ChangelogFiles {
        /// The bytes of each file, in the handle's order.
        streams: Vec<Option<StreamNumber>>,
        /// The changelog storage.
        storage: JavaString,
    },
}

/// Operator state from one subtask's handle.
///
/// At the parallelism of the checkpoint a task gets its own subtask's handle whole, and of the others' only what is its,
/// too: all of their [`Union`](DistributionMode::Union) states, and a [`Broadcast`](DistributionMode::Broadcast) state
/// that its own subtask lacks, once.
///
/// At another parallelism every task gets all handles whole, since the streams' heads say how to read what is in them;
/// [`TaskRestore::managed_partitions`] says which partitions are its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRestore {
    /// The subtask that wrote it.
    pub writer: u32,
    /// The named states, in the handle's order.
    pub states: Vec<StateRestore>,
    /// The bytes, all of them.
    pub stream: Option<StreamNumber>,
}

/// The partitions of one named state within a subtask's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRestore {
    /// The state's name.
    pub name: JavaString,
    /// Who is to get the partitions.
    pub mode: DistributionMode,
    /// Where each partition is.
    pub partitions: Vec<Partition>,
}

/// Where a partition is, relative to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last; `None` where it goes to the stream's end.
    pub end: Option<u64>,
}

/// The in-flight data of one channel, or of several in one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRestore {
    /// The subtask that wrote it; the channel's numbers are those that it had there.
    pub writer: u32,
    /// The handle, with the offsets of the buffers.
    pub handle: ChannelHandle,
    /// The gates or partitions of which the task needs it; `None`: of all in the handle.
    pub only: Option<Vec<i32>>,
    /// The bytes, which several channels may share.
    pub stream: Option<StreamNumber>,
}

impl TaskRestore {
    /// The streams that the task needs, by their numbers.
    pub fn streams(&self) -> &[TaskStream] {
        &self.source.streams
    }

    /// One of them.
    pub fn stream(&self, number: StreamNumber) -> Option<&TaskStream> {
        self.streams().get(number)
    }

    /// Is the parallelism another than that of the checkpoint? Always so when only key groups were asked for.
    pub fn is_rescaled(&self) -> bool {
        self.subtask.is_none_or(|subtask| subtask.parallelism != self.parallelism_before)
    }

    /// Had the task finished before the checkpoint was taken, so that it has no state of its own for that reason? Of a rescaled
    /// operator, that is so if all its subtasks had. Whether it is to run again [`is_over`](Self::is_over) says.
    pub fn has_finished(&self) -> bool {
        match (&self.finished, self.subtask) {
            (Finished::Operator, _) => true,
            (Finished::Subtasks(finished), Some(subtask)) => !self.is_rescaled() && finished.contains(&subtask.index),
            (Finished::Subtasks(_), None) => false,
        }
    }

    /// Is there nothing left for the task to do? So if all of the operator's had finished, whatever the parallelism is
    /// now: it isn't run again, but for passing its end on. Where only some had, all run again, as in Flink: those that had
    /// finished begin with nothing but broadcast state, and at another parallelism what the others had is shared out among all.
    pub fn is_over(&self) -> bool {
        self.finished == Finished::Operator
    }

    /// Has the task no state at all?
    pub fn is_empty(&self) -> bool {
        let keyed = [&self.managed_keyed, &self.raw_keyed].iter().all(|keyed| keyed.is_empty());
        keyed && self.streams().is_empty()
    }

    /// Reads all that the task needs.
    ///
    /// Files that the metadata doesn't know the length of, or says to be long, are looked at first.
    ///
    /// # Errors
    /// Those of the first file that isn't as its handle says; and `Damaged` for an inline handle with damaged bytes.
    pub async fn read(&self) -> Result<TaskRead> {
        TaskRead::together(std::slice::from_ref(self)).await
    }

    /// Reads one of the task's streams.
    ///
    /// # Errors
    /// As for [`read`](Self::read); `Invalid` if there is no such stream.
    pub async fn open(&self, stream: StreamNumber) -> Result<TaskRead> {
        self.read_streams(&[stream]).await
    }

    /// Reads some of the task's streams, by one plan; each is to be given once.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn read_streams(&self, streams: &[StreamNumber]) -> Result<TaskRead> {
        if let Some(stream) = streams.iter().find(|&&stream| stream >= self.streams().len()) {
            let message = format!("no stream number {stream}: the task has {}", self.streams().len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        TaskRead::open(&[(self, streams.to_vec())]).await
    }

    /// Reads all that the task needs into memory, however much that is.
    ///
    /// # Errors
    /// As for [`read`](Self::read) and [`TaskRead::next`].
    pub async fn read_all(&self) -> Result<Restored> {
        gather(self.read().await?, self.streams().len()).await
    }
}

impl Source {
    /// A stream and where it is, for an error.
    pub(super) fn describe(&self, number: StreamNumber) -> String {
        let state = &self.streams[number].state;
        let named = format!("{}: {}", self.checkpoint.named(), state.place);
        match &state.content {
            Content::File(wanted) => {
                format!("{named} in {} at offset {}", self.files[wanted.file].location.real(), wanted.offset)
            }
            _ => format!("{named} in the metadata"),
        }
    }
}

impl TaskStream {
    /// Whose state it is.
    pub fn place(&self) -> &Place {
        &self.state.place
    }
}
