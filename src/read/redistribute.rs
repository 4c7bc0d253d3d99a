//! Which partitions of operator state are a task's. Pure.

use std::collections::BTreeMap;

use super::task::{OperatorRestore, Partition, StreamNumber, TaskRestore};
use crate::handle::{DistributionMode, JavaString};

/// The partitions of one named state that are a task's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPartitions {
    /// The state's name.
    pub name: JavaString,
    /// How it was shared out.
    pub mode: DistributionMode,
    /// Each with the stream that it lies in; by writer, and of one writer in the handle's order.
    pub partitions: Vec<(StreamNumber, Partition)>,
}

impl TaskRestore {
    /// The partitions of managed operator state that are this task's, by the states' names.
    ///
    /// At the parallelism of the checkpoint all that it was given. At another one, as Flink shares them out:
    ///
    /// * of a [`SplitDistribute`](DistributionMode::SplitDistribute) state each goes to one task; in the order of writers,
    ///   neighbours stay together, and no task gets two more than another. Where they don't come out even, the next state
    ///   goes on with the tasks that got less;
    /// * of a [`Union`](DistributionMode::Union) state all go to every task;
    /// * of a [`Broadcast`](DistributionMode::Broadcast) state those of one writer, which all hold the same: the tasks take
    ///   writers in turn.
    ///
    /// None where only key groups were asked for, and of handles without a stream.
    pub fn managed_partitions(&self) -> Vec<TaskPartitions> {
        self.partitions_of(&self.managed_operator)
    }

    /// As [`managed_partitions`](Self::managed_partitions), of raw operator state.
    pub fn raw_partitions(&self) -> Vec<TaskPartitions> {
        self.partitions_of(&self.raw_operator)
    }

    fn partitions_of(&self, handles: &[OperatorRestore]) -> Vec<TaskPartitions> {
        let Some(subtask) = self.subtask else { return Vec::new() };
        let (task, tasks) = (subtask.index as usize, subtask.parallelism as usize);
        // The task that the next state begins with.
        let mut first = 0;
        let share = |(name, Named { mode, writers }): (&JavaString, Named)| {
            let partitions = match mode {
                _ if !self.is_rescaled() => writers.concat(),
                DistributionMode::Union => writers.concat(),
                DistributionMode::Broadcast => writers.get(task % writers.len().max(1)).cloned().unwrap_or_default(),
                DistributionMode::SplitDistribute => {
                    let all = writers.concat();
                    let place = (task + tasks - first) % tasks;
                    let range = split(all.len(), place, tasks);
                    first = (first + all.len()) % tasks;
                    all[range].to_vec()
                }
            };
            TaskPartitions { name: name.clone(), mode, partitions }
        };
        named(handles).into_iter().map(share).collect()
    }
}

/// One state's partitions, those of each writer apart.
struct Named {
    mode: DistributionMode,
    writers: Vec<Vec<(StreamNumber, Partition)>>,
}

/// In the order of the names, for every task must see the same order.
fn named(handles: &[OperatorRestore]) -> BTreeMap<&JavaString, Named> {
    let mut found: BTreeMap<&JavaString, Named> = BTreeMap::new();
    for handle in handles {
        let Some(stream) = handle.stream else { continue };
        for state in &handle.states {
            let partitions = state.partitions.iter().map(|partition| (stream, *partition)).collect();
            let named = found.entry(&state.name).or_insert_with(|| Named { mode: state.mode, writers: Vec::new() });
            named.writers.push(partitions);
        }
    }
    found
}

/// The share of the task at this place: so many each, and one more for the first few.
fn split(count: usize, place: usize, tasks: usize) -> std::ops::Range<usize> {
    let (each, more) = (count / tasks, count % tasks);
    let start = place * each + place.min(more);
    start..start + each + usize::from(place < more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_goes_to_one_task_and_no_task_gets_two_more_than_another() {
        for (count, tasks) in [(0, 3), (1, 3), (7, 3), (9, 3), (2, 5), (100, 7)] {
            let shares: Vec<_> = (0..tasks).map(|place| split(count, place, tasks)).collect();
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            let lengths = shares.iter().map(std::ops::Range::len);
            assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1, "{shares:?}");
        }
    }
}
