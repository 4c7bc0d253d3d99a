//! Whose data in flight goes to which task when an operator has another parallelism. Pure.

use std::collections::BTreeMap;

use crate::id::{KeyGroupRange, Subtask};

/// How the data in flight of a gate's channels, or of a partition's, goes to the tasks of another parallelism. It follows
/// from how records are dealt out over those channels, which is known to the job alone.
///
/// Channels with fixed ends (a subtask sends to certain others only, or to all of them) can't be shared out: Flink refuses
/// that, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelSharing {
    /// Any task may have any record: each subtask's data goes to one task, subtask `i`'s to task `i` modulo the number of
    /// tasks. Flink's `ARBITRARY` and `ROUND_ROBIN`.
    RoundRobin,
    /// All goes to the first task: records had one receiver. Flink's `FIRST`.
    First,
    /// Records go by key: a task gets the data of each subtask that had one of its key groups. Flink's `RANGE`.
    KeyGroups,
    /// All goes to every task: nothing is known of where a record belongs. Flink's `FULL`.
    Full,
}

/// The sharing of each gate and each partition of one operator. Data of those that are left out can't be restored at another
/// parallelism.
///
/// ```
/// use drystone::read::{ChannelSharing, ChannelSharings};
///
/// // Two inputs, the second by key, and one output that is dealt out in turn.
/// let sharings = ChannelSharings::default()
///     .input(0, ChannelSharing::RoundRobin)
///     .input(1, ChannelSharing::KeyGroups)
///     .output(0, ChannelSharing::RoundRobin);
/// # let _ = sharings;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSharings {
    pub(super) inputs: BTreeMap<i32, ChannelSharing>,
    pub(super) outputs: BTreeMap<i32, ChannelSharing>,
}

impl ChannelSharings {
    /// Says it of an input gate, by its number.
    #[must_use]
    pub fn input(mut self, gate: i32, sharing: ChannelSharing) -> Self {
        self.inputs.insert(gate, sharing);
        self
    }

    /// Says it of a result partition, by its number.
    #[must_use]
    pub fn output(mut self, partition: i32, sharing: ChannelSharing) -> Self {
        self.outputs.insert(partition, sharing);
        self
    }
}

impl ChannelSharing {
    /// Does the task get the data of subtask `writer` of `before`, of an operator with so many key groups?
    ///
    /// Also tells which tasks now stand for a subtask at a channel's other end, by that one's own sharing.
    ///
    /// ```
    /// use drystone::id::{OperatorId, Subtask};
    /// use drystone::read::ChannelSharing;
    ///
    /// let task = Subtask { operator: OperatorId([1; 16]), index: 1, parallelism: 2 };
    /// let of_three = |sharing: ChannelSharing| [0, 1, 2].map(|writer| sharing.takes(task, writer, 3, 128));
    /// assert_eq!(of_three(ChannelSharing::KeyGroups), [false, true, true]);
    /// assert_eq!(of_three(ChannelSharing::RoundRobin), [false, true, false]);
    /// ```
    pub fn takes(self, task: Subtask, writer: u32, before: u32, key_groups: u32) -> bool {
        match self {
            _ if task.index >= task.parallelism => false,
            ChannelSharing::RoundRobin => writer % task.parallelism == task.index,
            ChannelSharing::First => task.index == 0,
            ChannelSharing::Full => true,
            ChannelSharing::KeyGroups => {
                let ours = KeyGroupRange::of_subtask(task.index, task.parallelism, key_groups);
                let theirs = KeyGroupRange::of_subtask(writer, before, key_groups);
                // Of a subtask without key groups nothing is known; better too much than too little.
                ours.is_some_and(|ours| theirs.is_none_or(|theirs| !ours.intersection(theirs).is_empty()))
            }
        }
    }

    /// May a record come to several tasks? Then each keeps those that are its own, by their keys, and drops the others.
    pub fn is_ambiguous(self) -> bool {
        matches!(self, ChannelSharing::KeyGroups | ChannelSharing::Full)
    }
}
