//! Committing.

use std::sync::Arc;

use super::Waiter;
use crate::config::ClaimMode;
use crate::coordinator::{
    self, Acknowledged, Completed, JobEnd, Latest, Leftovers, Rewritten, SavepointRequest, SpaceUsage,
};
use crate::error::Result;
use crate::handle::{InlineHandle, MasterState};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::protocol::{Acknowledgement, RewritePlan, Trigger};
use crate::read::Checkpoint;
use crate::store::{FlinkPath, JobDirectory};

/// As [`coordinator::Coordinator`].
#[derive(Clone)]
pub struct Coordinator {
    pub(super) inner: coordinator::Coordinator,
    pub(super) waiter: Waiter,
}

impl Coordinator {
    /// As [`coordinator::Coordinator::next_checkpoint`].
    pub fn next_checkpoint(&self) -> CheckpointId {
        self.inner.next_checkpoint()
    }

    /// As [`coordinator::Coordinator::trigger`].
    ///
    /// # Errors
    /// The same.
    pub fn trigger(&self, checkpoint: CheckpointId) -> Result<Trigger> {
        self.inner.trigger(checkpoint)
    }

    /// As [`coordinator::Coordinator::trigger_savepoint`].
    ///
    /// # Errors
    /// The same.
    pub fn trigger_savepoint(&self, checkpoint: CheckpointId, request: &SavepointRequest) -> Result<Trigger> {
        self.inner.trigger_savepoint(checkpoint, request)
    }

    /// As [`coordinator::Coordinator::acknowledge`].
    ///
    /// # Errors
    /// The same.
    pub fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<Acknowledged> {
        self.inner.acknowledge(acknowledgement)
    }

    /// As [`coordinator::Coordinator::finished`].
    ///
    /// # Errors
    /// The same.
    pub fn finished(&self, epoch: u64, checkpoint: CheckpointId, subtask: Subtask) -> Result<Acknowledged> {
        self.inner.finished(epoch, checkpoint, subtask)
    }

    /// As [`coordinator::Coordinator::acknowledge_operator`].
    ///
    /// # Errors
    /// The same.
    pub fn acknowledge_operator(
        &self,
        epoch: u64,
        checkpoint: CheckpointId,
        operator: OperatorId,
        state: InlineHandle,
    ) -> Result<()> {
        self.inner.acknowledge_operator(epoch, checkpoint, operator, state)
    }

    /// As [`coordinator::Coordinator::acknowledge_master`].
    ///
    /// # Errors
    /// The same.
    pub fn acknowledge_master(&self, epoch: u64, checkpoint: CheckpointId, state: MasterState) -> Result<()> {
        self.inner.acknowledge_master(epoch, checkpoint, state)
    }

    /// As [`coordinator::Coordinator::decline`].
    pub fn decline(&self, epoch: u64, checkpoint: CheckpointId, subtask: Subtask, reason: &str) -> bool {
        self.waiter.enter(|| self.inner.decline(epoch, checkpoint, subtask, reason))
    }

    /// As [`coordinator::Coordinator::expire`].
    pub fn expire(&self, checkpoint: CheckpointId) -> bool {
        self.waiter.enter(|| self.inner.expire(checkpoint))
    }

    /// As [`coordinator::Coordinator::abort`].
    pub fn abort(&self, checkpoint: CheckpointId) -> bool {
        self.waiter.enter(|| self.inner.abort(checkpoint))
    }

    /// As [`coordinator::Coordinator::complete`].
    ///
    /// # Errors
    /// The same.
    pub fn complete(&self, checkpoint: CheckpointId) -> Result<Completed> {
        self.waiter.wait(self.inner.complete(checkpoint))?
    }

    /// As [`coordinator::Coordinator::latest`].
    pub fn latest(&self) -> Option<Latest> {
        self.inner.latest()
    }

    /// As [`coordinator::Coordinator::completed`].
    pub fn completed(&self) -> Vec<CheckpointId> {
        self.inner.completed()
    }

    /// As [`coordinator::Coordinator::pending`].
    pub fn pending(&self) -> Vec<CheckpointId> {
        self.inner.pending()
    }

    /// As [`coordinator::Coordinator::restore`].
    ///
    /// # Errors
    /// The same.
    pub fn restore(&self, path: &FlinkPath, mode: ClaimMode) -> Result<Arc<Checkpoint>> {
        self.waiter.wait(self.inner.restore(path, mode))?
    }

    /// As [`coordinator::Coordinator::space`].
    pub fn space(&self) -> SpaceUsage {
        self.inner.space()
    }

    /// As [`coordinator::Coordinator::plan`].
    pub fn plan(&self) -> RewritePlan {
        self.inner.plan()
    }

    /// As [`coordinator::Coordinator::rewrite`].
    ///
    /// # Errors
    /// The same.
    pub fn rewrite(&self, bytes_max: u64) -> Result<Rewritten> {
        self.waiter.wait(self.inner.rewrite(bytes_max))?
    }

    /// As [`coordinator::Coordinator::settle`].
    ///
    /// # Errors
    /// The same.
    pub fn settle(&self) -> Result<()> {
        self.waiter.wait(self.inner.settle())?
    }

    /// As [`coordinator::Coordinator::remove_leftovers`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_leftovers(&self) -> Result<Leftovers> {
        self.waiter.wait(self.inner.remove_leftovers())?
    }

    /// As [`coordinator::Coordinator::dispose`].
    ///
    /// # Errors
    /// The same.
    pub fn dispose(&self, end: JobEnd) -> Result<()> {
        self.waiter.wait(self.inner.dispose(end))?
    }

    /// As [`coordinator::Coordinator::directory`].
    pub fn directory(&self) -> &JobDirectory {
        self.inner.directory()
    }

    /// As [`coordinator::Coordinator::epoch`].
    pub fn epoch(&self) -> u64 {
        self.inner.epoch()
    }
}
