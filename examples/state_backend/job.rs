//! A job in one process: its tasks, the worker that they write through, and the coordinator that commits.

use std::path::Path;

use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::JavaString;
use drystone::id::{CheckpointId, KeyGroupRange, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec, Trigger};
use drystone::read::Restore;
use drystone::worker::Worker;
use drystone::{Error, ErrorKind, Result};
use futures::future::try_join_all;

use crate::counters::Counters;
use crate::entries::{KEY_GROUPS, key_group};
use crate::tables::{Tables, text};

/// One subtask of both operators: it counts a key's events in a hash map, and keeps its total in files.
pub struct Task {
    range: KeyGroupRange,
    counters_at: Subtask,
    tables_at: Subtask,
    pub counters: Counters,
    pub tables: Tables,
}

/// The job.
pub struct Job {
    pub worker: Worker,
    pub coordinator: Coordinator,
    pub tasks: Vec<Task>,
}

impl Task {
    /// A task without state.
    pub fn new(operators: &[OperatorSpec; 2], index: u32, directory: &Path) -> Result<Self> {
        let [counters_at, tables_at] = operators.each_ref().map(|operator| operator.subtask(index));
        let range = KeyGroupRange::of_subtask(index, counters_at.parallelism, KEY_GROUPS).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("no subtask {index} of {}", counters_at.parallelism))
        })?;
        let directory = directory.join(format!("task-{index}-of-{}", counters_at.parallelism));
        let tables = Tables::new(directory, range, u64::from(index))?;
        Ok(Self { range, counters_at, tables_at, counters: Counters::new(range), tables })
    }

    /// Takes the state of its key groups from a checkpoint.
    pub async fn restore(&mut self, restore: &Restore) -> Result<()> {
        let of = |at: Subtask| restore.task(at.operator, at.index, at.parallelism);
        self.counters = Counters::restore(&of(self.counters_at)?).await?;
        self.tables.restore(&of(self.tables_at)?).await
    }

    /// Is the key one of its own?
    pub fn owns(&self, key: &str) -> bool {
        self.range.contains(key_group(key))
    }

    /// Its part of a checkpoint, of both operators.
    async fn snapshot(&mut self, worker: &Worker, trigger: &Trigger) -> Result<[Acknowledgement; 2]> {
        let checkpoint = trigger.checkpoint;
        let [of_counters, of_tables] = [self.counters_at, self.tables_at].map(|at| worker.begin(at, trigger));
        let (of_counters, of_tables) = (of_counters?, of_tables?);
        // First all is written. Then the snapshots are finished, so that the files that all tasks share can be sealed.
        let counters = self.counters.snapshot(&of_counters).await?;
        let tables = self.tables.snapshot(&of_tables).await?;
        let (counters_ticket, tables_ticket) = (of_counters.finish(), of_tables.finish());
        // Then they are durable, and can be named.
        let (counters_durable, tables_durable) = (counters_ticket.seal().await?, tables_ticket.seal().await?);
        let id = handle_id(self.counters_at, checkpoint)?;
        let counters = counters.state(&counters_durable, id)?;
        let tables = self.tables.state(tables, &tables_durable, checkpoint)?;
        Ok([(self.counters_at, counters, counters_durable), (self.tables_at, tables, tables_durable)].map(
            |(subtask, state, durable)| Acknowledgement {
                epoch: trigger.epoch,
                checkpoint,
                subtask,
                state: Some(Box::new(state)),
                sealed: durable.sealed().to_vec(),
            },
        ))
    }
}

fn handle_id(subtask: Subtask, checkpoint: CheckpointId) -> Result<JavaString> {
    text(&format!("{}-{}-{checkpoint}", subtask.operator, subtask.index))
}

impl Job {
    pub fn new(worker: Worker, coordinator: Coordinator, tasks: Vec<Task>) -> Self {
        for task in &tasks {
            worker.register(task.counters_at);
            worker.register(task.tables_at);
        }
        Self { worker, coordinator, tasks }
    }

    /// An event of a key, handed to the task that it belongs to.
    pub fn event(&mut self, key: &str, total: u64) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.owns(key)) {
            task.counters.add(key, 1);
            task.tables.set(key, total);
        }
    }

    /// Takes a checkpoint: every task writes its part, and then it is committed.
    pub async fn checkpoint(&mut self) -> Result<Completed> {
        let checkpoint = self.coordinator.next_checkpoint();
        let acknowledgements = self.snapshots(checkpoint).await?;
        for acknowledgement in acknowledgements.into_iter().flatten() {
            self.coordinator.acknowledge(acknowledgement)?;
        }
        let completed = self.coordinator.complete(checkpoint).await?;
        self.worker.complete(self.coordinator.epoch(), checkpoint);
        completed.subsumed.iter().for_each(|&older| self.worker.subsume(self.coordinator.epoch(), older));
        Ok(completed)
    }

    /// Takes a checkpoint that one task refuses when the others are done.
    pub async fn declined_checkpoint(&mut self) -> Result<CheckpointId> {
        let checkpoint = self.coordinator.next_checkpoint();
        self.snapshots(checkpoint).await?;
        self.coordinator.decline(
            self.coordinator.epoch(),
            checkpoint,
            self.tasks[0].counters_at,
            "the example says so",
        );
        self.worker.abort(self.coordinator.epoch(), checkpoint);
        Ok(checkpoint)
    }

    async fn snapshots(&mut self, checkpoint: CheckpointId) -> Result<Vec<[Acknowledgement; 2]>> {
        let trigger = self.coordinator.trigger(checkpoint)?;
        let written = try_join_all(self.tasks.iter_mut().map(|task| task.snapshot(&self.worker, &trigger))).await;
        if written.is_err() {
            self.coordinator.abort(checkpoint);
            self.worker.abort(self.coordinator.epoch(), checkpoint);
        }
        written
    }
}
