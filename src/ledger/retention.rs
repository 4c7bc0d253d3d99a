//! What becomes of a job's checkpoints when it ends.

use crate::config::Retention;

/// How a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// All of its work is done.
    Finished,
    /// Somebody stopped it.
    Cancelled,
    /// It has failed for good.
    Failed,
    /// It is to go on elsewhere. By default nothing is kept then either, as in Flink: set the retention.
    Suspended,
}

impl JobEnd {
    /// Are the checkpoints to be discarded at this end?
    pub fn discards(self, retention: Retention) -> bool {
        match (retention, self) {
            (_, JobEnd::Finished) | (Retention::NoExternalized, _) => true,
            (Retention::DeleteOnCancellation, JobEnd::Cancelled | JobEnd::Suspended) => true,
            (Retention::DeleteOnCancellation, JobEnd::Failed) | (Retention::RetainOnCancellation, _) => false,
        }
    }
}
