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
    fence: Location,
    owner: Option<JobId>,
}

impl JobDirectory {
    /// The directory of `job` below a checkpoint directory.
    pub fn of_job(checkpoints: &Location, job: JobId) -> Result<Self> {
        Self::at(checkpoints.join(&job.to_string())?)
    }

    /// A checkpoint directory that one job has for itself.
    pub fn at(root: Location) -> Result<Self> {
        let (shared, task_owned) = (root.join(names::SHARED)?, root.join(names::TASK_OWNED)?);
        let fence = root.join(names::FENCE)?;
        Ok(Self { root, shared, task_owned, fence, owner: None })
    }

    /// A checkpoint directory that is to be this job's alone, which its coordinator makes sure of.
    pub fn of_job_alone(root: Location, job: JobId) -> Result<Self> {
        Ok(Self { owner: Some(job), ..Self::at(root)? })
    }

    /// The job that is to have it alone, where it isn't called by the job's name.
    pub fn owner(&self) -> Option<JobId> {
        self.owner
    }

    /// All of it.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// What dies with one checkpoint, and its metadata.
    pub fn checkpoint(&self, checkpoint: CheckpointId) -> Result<Location> {
        self.root.join(&names::checkpoint_directory(checkpoint))
    }

    /// The checkpoint whose own directory a file lies right in.
    pub fn checkpoint_of(&self, file: &FlinkPath) -> Option<CheckpointId> {
        let parent = file.parent()?;
        let in_root = parent.parent().as_ref() == Some(self.root.name());
        names::parse_checkpoint_directory(parent.file_name()?).filter(|_| in_root)
    }

    /// What several checkpoints may name.
    pub fn shared(&self) -> &Location {
        &self.shared
    }

    /// What the tasks own; never deleted.
    pub fn task_owned(&self) -> &Location {
        &self.task_owned
    }

    /// What keeps the job's coordinators apart; it outlives all else of the job.
    pub fn fence(&self) -> &Location {
        &self.fence
    }

    /// What says which checkpoint is the latest.
    pub fn latest(&self) -> Result<Location> {
        self.fence.join(names::LATEST)
    }

    /// Does the path lie in one of the job's directories: a checkpoint's, `shared` or `taskowned`? What else is below the
    /// root isn't this job's, for several may share a checkpoint directory. By whole components: `/a/job_1` holds nothing
    /// of `/a/job_12`.
    pub fn holds(&self, path: &FlinkPath) -> bool {
        let below = path.relative_to(self.root.name()).and_then(|below| below.split_once('/'));
        below.is_some_and(|(first, _)| {
            matches!(first, names::SHARED | names::TASK_OWNED) || names::parse_checkpoint_directory(first).is_some()
        })
    }

    /// May the job delete the file when nothing names it any more? What lies in `taskowned` is its tasks' to delete.
    pub fn owns(&self, path: &FlinkPath) -> bool {
        self.holds(path) && !path.is_within(self.task_owned.name())
    }
}
