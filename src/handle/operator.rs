//! Operator state: named lists of partitions within one stream.

use super::{JavaString, StreamHandle};

/// The state that one subtask of an operator holds outside of key groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorStateHandle {
    /// The states, in the order of the file.
    pub states: Vec<StatePartitions>,
    /// Present in the form that Flink's file merging writes.
    pub directories: Option<MergingDirectories>,
    /// The bytes.
    pub delegate: StreamHandle,
}

/// Where the partitions of one named state are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePartitions {
    /// The state's name.
    pub name: JavaString,
    /// How it is shared out when the operator is rescaled.
    pub mode: DistributionMode,
    /// Where each partition starts, relative to the stream.
    pub offsets: Vec<i64>,
}

/// How operator state is shared out when the operator is rescaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DistributionMode {
    /// Each partition to one subtask.
    SplitDistribute,
    /// All partitions to all subtasks.
    Union,
    /// The same contents on every subtask.
    Broadcast,
}

/// The directories that Flink's file merging manages; on a claimed restore Flink deletes them, with all they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergingDirectories {
    /// Of exclusive files.
    pub task_owned: JavaString,
    /// Of shared files.
    pub shared: JavaString,
    /// Written for an operator without state, to keep the directories named.
    pub empty: bool,
}
