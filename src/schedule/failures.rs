//! Which failures count against the job, and how many are too many.

use std::fmt;

use super::Kind;
use crate::id::CheckpointId;

/// So many tolerated failures, or more, are any number of them.
const UNLIMITED: u32 = i32::MAX as u32;

/// Why a checkpoint failed. In brackets, what Flink calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// It took too long. Counts. (`CHECKPOINT_EXPIRED`)
    Expired,
    /// A task says no, for no reason of those below. Counts. (`CHECKPOINT_DECLINED`)
    Declined,
    /// A task failed to write its state in the background. Counts. (`CHECKPOINT_ASYNC_EXCEPTION`)
    Write,
    /// The coordinator couldn't begin it: the store isn't ready for it, as where too many commits are in doubt. Counts.
    /// (`IO_EXCEPTION`)
    Store,
    /// The commit failed. Counts. (`FINALIZE_CHECKPOINT_FAILURE`)
    Commit,
    /// A task isn't ready. (`CHECKPOINT_DECLINED_TASK_NOT_READY`)
    TaskNotReady,
    /// A task is about to finish, or some of an operator's tasks have, and its state doesn't allow for that.
    /// (`CHECKPOINT_DECLINED_TASK_CLOSING`)
    TaskClosing,
    /// A newer barrier came before this one was complete. (`CHECKPOINT_DECLINED_SUBSUMED`)
    Overtaken,
    /// An input gave it up. (`CHECKPOINT_DECLINED_ON_CANCELLATION_BARRIER`)
    BarrierCancelled,
    /// An input came to its end. (`CHECKPOINT_DECLINED_INPUT_END_OF_STREAM`)
    InputEnded,
    /// Another subtask with the same file of channel state failed. (`CHANNEL_STATE_SHARED_STREAM_EXCEPTION`)
    SharedChannelFile,
    /// A task has failed, which fails the job anyway. (`TASK_FAILURE`)
    TaskFailed,
    /// A task failed before it began to write in the background, which fails the task. (`TASK_CHECKPOINT_FAILURE`)
    TaskLocal,
    /// A task that is to be told isn't known. (`UNKNOWN_TASK_CHECKPOINT_NOTIFICATION_FAILURE`)
    UnknownTask,
    /// The tasks couldn't be told to begin. (`TRIGGER_CHECKPOINT_FAILURE`)
    Trigger,
    /// A task that still runs has an output that is read when it has ended. (`BLOCKING_OUTPUT_EXIST`)
    BlockingOutput,
    /// Not all tasks that are needed run. (`NOT_ALL_REQUIRED_TASKS_RUNNING`)
    NotAllRunning,
    /// A newer one completed. (`CHECKPOINT_SUBSUMED`)
    Subsumed,
    /// The schedule was stopped. (`CHECKPOINT_COORDINATOR_SUSPEND`)
    Suspended,
    /// The coordinator ends. (`CHECKPOINT_COORDINATOR_SHUTDOWN`)
    ShutDown,
    /// Some of the tasks are being restarted. (`JOB_FAILOVER_REGION`)
    Failover,
}

/// Why the job has to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// Why the last one failed.
    pub failure: Failure,
    /// Which that was; `None` if it never began.
    pub checkpoint: Option<CheckpointId>,
    /// How many have failed in a row; `None` where one alone is reason enough: a task failed the savepoint that was to
    /// stop the job, and others may have stopped for it.
    pub in_a_row: Option<u32>,
}

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    tolerated: u32,
    in_a_row: u32,
    last_completed: Option<CheckpointId>,
}

impl Failure {
    /// Does it count against the job?
    pub fn counts(self) -> bool {
        matches!(self, Self::Expired | Self::Declined | Self::Write | Self::Store | Self::Commit)
    }

    /// Does it come from a task? Those of a savepoint count, too: starting the tasks anew may help.
    pub fn by_task(self) -> bool {
        match self {
            Self::Declined
            | Self::Write
            | Self::TaskNotReady
            | Self::TaskClosing
            | Self::Overtaken
            | Self::BarrierCancelled
            | Self::InputEnded
            | Self::SharedChannelFile
            | Self::TaskFailed
            | Self::TaskLocal => true,
            Self::Expired
            | Self::Store
            | Self::Commit
            | Self::UnknownTask
            | Self::Trigger
            | Self::BlockingOutput
            | Self::NotAllRunning
            | Self::Subsumed
            | Self::Suspended
            | Self::ShutDown
            | Self::Failover => false,
        }
    }
}

impl Failures {
    pub(super) fn new(tolerated: u32) -> Self {
        Self { tolerated, in_a_row: 0, last_completed: None }
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// From here on it begins anew. A savepoint counts as well.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) {
        if Some(checkpoint) > self.last_completed {
            self.last_completed = Some(checkpoint);
            self.in_a_row = 0;
        }
    }

    /// Says whether the job has to fail. A checkpoint that is older than a completed one says nothing.
    pub(super) fn failed(
        &mut self,
        checkpoint: Option<CheckpointId>,
        kind: Kind,
        failure: Failure,
    ) -> Option<JobFailure> {
        match failure.by_task() {
            true if kind.stops_job() => return Some(JobFailure { failure, checkpoint, in_a_row: None }),
            false if kind.is_savepoint() => return None,
            _ => {}
        }
        let is_late = checkpoint.is_some() && checkpoint <= self.last_completed;
        if is_late || !failure.counts() || self.tolerated >= UNLIMITED {
            return None;
        }
        self.in_a_row += 1;
        if self.in_a_row <= self.tolerated {
            return None;
        }
        let in_a_row = Some(std::mem::take(&mut self.in_a_row));
        Some(JobFailure { failure, checkpoint, in_a_row })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it took too long",
            Self::Declined => "a task declined it",
            Self::Write => "a task failed to write its state",
            Self::Store => "the store isn't ready for it",
            Self::Commit => "its commit failed",
            Self::TaskNotReady => "a task isn't ready",
            Self::TaskClosing => "a task is finishing",
            Self::Overtaken => "a newer barrier came first",
            Self::BarrierCancelled => "an input gave it up",
            Self::InputEnded => "an input came to its end",
            Self::SharedChannelFile => "another subtask with the same file of channel state failed",
            Self::TaskFailed => "a task has failed",
            Self::TaskLocal => "a task failed to take its part",
            Self::UnknownTask => "a task isn't known",
            Self::Trigger => "the tasks couldn't be told",
            Self::BlockingOutput => "a task has an output that is read when it has ended",
            Self::NotAllRunning => "not all tasks are running",
            Self::Subsumed => "a newer one completed",
            Self::Suspended => "the schedule was stopped",
            Self::ShutDown => "the coordinator ends",
            Self::Failover => "tasks are being restarted",
        })
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_a_row {
            Some(1) => f.write_str("a checkpoint failed, which is more than is tolerated; ")?,
            Some(count) => write!(f, "{count} checkpoints failed in a row, which is more than is tolerated; ")?,
            None => f.write_str("the savepoint that was to stop the job failed; ")?,
        }
        match self.checkpoint {
            Some(checkpoint) => write!(f, "checkpoint {checkpoint}: {}", self.failure),
            None => write!(f, "the last one couldn't begin: {}", self.failure),
        }
    }
}
