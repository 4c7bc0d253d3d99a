//! The directories of one job.

use super::{FlinkPath, Location, names};
use crate::error::Result;
use crate::id::{CheckpointId, JobId};

/// Where a job's checkpoints lie. Cheap to clone; makes no request.
#[derive(Clone, Debug)]
pub struct JobDirectory {
    root: Location,
    shared: Location,
    task_owned: Location,
}

impl JobDirectory {
    /// The directory of `job` below a checkpoint directory.
    pub fn of_job(checkpoints: &Location, job: JobId) -> Result<Self> {
        Self::at(checkpoints.join(&job.to_string())?)
    }

    /// A checkpoint directory that one job has for itself.
    pub fn at(root: Location) -> Result<Self> {
        let (shared, task_owned) = (root.join(names::SHARED)?, root.join(names::TASK_OWNED)?);
        Ok(Self { root, shared, task_owned })
    }

    /// All of it.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// What dies with one checkpoint, and its metadata.
    pub fn checkpoint(&self, checkpoint: CheckpointId) -> Result<Location> {
        self.root.join(&names::checkpoint_directory(checkpoint))
    }

    /// What several checkpoints may name.
    pub fn shared(&self) -> &Location {
        &self.shared
    }

    /// What the tasks own; never deleted.
    pub fn task_owned(&self) -> &Location {
        &self.task_owned
    }

    /// Does the path lie in it? By whole components: `/a/job_1` holds nothing of `/a/job_12`.
    pub fn holds(&self, path: &FlinkPath) -> bool {
        path.relative_to(self.root.name()).is_some_and(|below| !below.is_empty())
    }
}
