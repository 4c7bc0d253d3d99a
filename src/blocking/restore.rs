//! Reading.

use std::ops::Deref;
use std::sync::Arc;

use super::Waiter;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{KeyGroupRange, OperatorId};
use crate::read::{self, ChannelSharings, Checkpoint, RestoreCounts, Restored, RestoredPiece};

/// As [`read::Restore`], whose calls that don't wait it has by dereferencing.
#[derive(Clone)]
pub struct Restore {
    pub(super) inner: read::Restore,
    pub(super) waiter: Waiter,
}

impl Restore {
    /// As [`read::Restore::checkpoint`].
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        self.inner.checkpoint()
    }

    /// As [`read::Restore::task`].
    ///
    /// # Errors
    /// The same.
    pub fn task(&self, operator: OperatorId, subtask: u32, parallelism: u32) -> Result<TaskRestore> {
        Ok(TaskRestore { inner: self.inner.task(operator, subtask, parallelism)?, waiter: self.waiter.clone() })
    }

    /// As [`read::Restore::task_with_channels`].
    ///
    /// # Errors
    /// The same.
    pub fn task_with_channels(
        &self,
        operator: OperatorId,
        subtask: u32,
        parallelism: u32,
        sharings: &ChannelSharings,
    ) -> Result<TaskRestore> {
        let inner = self.inner.task_with_channels(operator, subtask, parallelism, sharings)?;
        Ok(TaskRestore { inner, waiter: self.waiter.clone() })
    }

    /// As [`read::Restore::key_groups`].
    ///
    /// # Errors
    /// The same.
    pub fn key_groups(&self, operator: OperatorId, range: KeyGroupRange) -> Result<TaskRestore> {
        Ok(TaskRestore { inner: self.inner.key_groups(operator, range)?, waiter: self.waiter.clone() })
    }
}

impl Deref for Restore {
    type Target = read::Restore;

    fn deref(&self) -> &read::Restore {
        &self.inner
    }
}

/// As [`read::TaskRestore`], whose fields and calls that don't wait it has by dereferencing.
#[derive(Clone)]
pub struct TaskRestore {
    inner: read::TaskRestore,
    pub(super) waiter: Waiter,
}

impl TaskRestore {
    /// As [`read::TaskRestore::read`].
    ///
    /// # Errors
    /// The same.
    pub fn read(&self) -> Result<TaskRead> {
        Ok(TaskRead { inner: self.waiter.wait(self.inner.read())??, waiter: self.waiter.clone() })
    }

    /// As [`read::TaskRestore::open`].
    ///
    /// # Errors
    /// The same.
    pub fn open(&self, stream: read::StreamNumber) -> Result<TaskRead> {
        Ok(TaskRead { inner: self.waiter.wait(self.inner.open(stream))??, waiter: self.waiter.clone() })
    }

    /// As [`read::TaskRestore::read_all`].
    ///
    /// # Errors
    /// The same.
    pub fn read_all(&self) -> Result<Restored> {
        self.waiter.wait(self.inner.read_all())?
    }
}

impl Deref for TaskRestore {
    type Target = read::TaskRestore;

    fn deref(&self) -> &read::TaskRestore {
        &self.inner
    }
}

/// As [`read::TaskRead`]: the pieces, one after another.
pub struct TaskRead {
    inner: read::TaskRead,
    waiter: Waiter,
}

impl TaskRead {
    /// As [`read::TaskRead::together`].
    ///
    /// # Errors
    /// The same; `Invalid` for no task at all.
    pub fn together(tasks: &[TaskRestore]) -> Result<Self> {
        let Some(waiter) = tasks.first().map(|task| task.waiter.clone()) else {
            return Err(Error::new(ErrorKind::Invalid, "no task to read"));
        };
        let tasks: Vec<_> = tasks.iter().map(|task| task.inner.clone()).collect();
        Ok(Self { inner: waiter.wait(read::TaskRead::together(&tasks))??, waiter })
    }

    /// As [`read::TaskRead::counts`].
    pub fn counts(&self) -> RestoreCounts {
        self.inner.counts()
    }
}

impl Iterator for TaskRead {
    type Item = Result<RestoredPiece>;

    fn next(&mut self) -> Option<Result<RestoredPiece>> {
        self.waiter.wait(self.inner.next()).unwrap_or_else(|error| Some(Err(error)))
    }
}
