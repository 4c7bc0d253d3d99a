//! What becomes of a job's checkpoints when it ends.

/// What becomes of checkpoints when the job ends (`execution.checkpointing.externalized-checkpoint-retention`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// None outlives the job.
    #[default]
    Never,
    /// They stay when the job fails.
    OnFailure,
    /// They stay when the job fails, is cancelled or is suspended.
    OnCancellation,
}

/// How a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// All of its work is done.
    Finished,
    /// Somebody stopped it.
    Cancelled,
    /// It has failed for good.
    Failed,
    /// It is to go on elsewhere.
    Suspended,
}

impl Retention {
    /// Are the checkpoints to be discarded at this end?
    pub fn discards(self, end: JobEnd) -> bool {
        match (self, end) {
            (_, JobEnd::Finished) | (Retention::Never, _) => true,
            (Retention::OnFailure, JobEnd::Cancelled | JobEnd::Suspended) => true,
            (Retention::OnFailure, JobEnd::Failed) | (Retention::OnCancellation, _) => false,
        }
    }
}
