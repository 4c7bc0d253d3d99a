//! What a `_metadata` file holds: master states, operators, subtasks.

use bytes::Bytes;

use super::{ChannelHandle, JavaString, KeyedHandle, OperatorStateHandle, StreamHandle};
use crate::id::{CheckpointId, OperatorId};

/// A checkpoint's or savepoint's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointMetadata {
    /// The format's version, 2 to 6; 2 can be read only.
    pub version: u32,
    /// The checkpoint's number.
    pub checkpoint_id: CheckpointId,
    /// State of the job's master hooks.
    pub master_states: Vec<MasterState>,
    /// The operators, in the order of the file.
    pub operators: Vec<Operator>,
    /// The properties trailer as Java serialised it; empty before version 4.
    pub properties: Bytes,
}

/// State of one master hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterState {
    /// The version of its own encoding.
    pub version: i32,
    /// The hook's name.
    pub name: JavaString,
    /// The state.
    pub bytes: Bytes,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name; `None` before version 5.
    pub name: Option<JavaString>,
    /// Its user-given id; `None` before version 5.
    pub uid: Option<JavaString>,
    /// Its id.
    pub id: OperatorId,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many key groups it has.
    pub max_parallelism: u32,
    /// State of the operator's coordinator: inline or nothing.
    pub coordinator: Option<StreamHandle>,
    /// Its subtasks' states.
    pub subtasks: OperatorSubtasks,
}

/// The subtasks of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorSubtasks {
    /// All had finished.
    FullyFinished,
    /// Those that reported something.
    Reported(Vec<SubtaskEntry>),
}

/// One subtask that reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskEntry {
    /// Its index.
    pub index: u32,
    /// Its state; `None` when it had finished. Boxed, since a finished subtask takes but four bytes of the file.
    pub state: Option<Box<SubtaskState>>,
}

/// The state of one subtask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubtaskState {
    /// Operator state under Flink's management.
    pub managed_operator: Option<OperatorStateHandle>,
    /// Operator state in the user's own encoding.
    pub raw_operator: Option<OperatorStateHandle>,
    /// Keyed state under Flink's management.
    pub managed_keyed: Option<KeyedHandle>,
    /// Keyed state in the user's own encoding.
    pub raw_keyed: Option<KeyedHandle>,
    /// In-flight data of the inputs.
    pub input_channels: Vec<ChannelHandle>,
    /// In-flight data of the outputs.
    pub output_channels: Vec<ChannelHandle>,
}
