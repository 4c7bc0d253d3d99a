//! What the two ways of writing a checkpoint have to offer, so that one and the same run drives both.

use drystone::Result;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Subtask};
use drystone::protocol::{Acknowledgement, Reuse, SealedSize, Trigger};
use drystone::store::FlinkPath;

/// Chunks in files, by some rule.
pub trait Side: Send + Sync + 'static {
    /// One subtask's snapshot in the making.
    type Snapshot: Send + Sync;
    /// A chunk that was written, and may not be durable yet.
    type Written: Send + Sync;
    /// A snapshot to which nothing is added any more.
    type Ticket: Send + Sync;

    /// Starts a checkpoint.
    fn trigger(&self, checkpoint: CheckpointId) -> Result<Trigger>;

    /// Starts a subtask's snapshot.
    fn begin(&self, subtask: Subtask, trigger: &Trigger) -> Result<Self::Snapshot>;

    /// May the chunk be named again?
    fn reuse(&self, snapshot: &Self::Snapshot, handle: &StreamHandle) -> Reuse;

    /// Writes a chunk.
    fn write(&self, snapshot: &Self::Snapshot, bytes: &[u8]) -> impl Future<Output = Result<Self::Written>> + Send;

    /// Ends a snapshot.
    fn finish(&self, snapshot: Self::Snapshot) -> Self::Ticket;

    /// Waits until all of the snapshot is durable: a handle for each chunk, and the new files.
    fn seal(
        &self,
        ticket: &Self::Ticket,
        written: &[Self::Written],
    ) -> impl Future<Output = Result<(Vec<StreamHandle>, Vec<SealedSize>)>> + Send;

    /// Commits: tells which checkpoints are subsumed.
    fn complete(
        &self,
        checkpoint: CheckpointId,
        acknowledgements: Vec<Acknowledgement>,
    ) -> impl Future<Output = Result<Completed>> + Send;

    /// Has everything deleted that no checkpoint names any more, and waits for it.
    fn subsume(&self, subsumed: &[CheckpointId]) -> impl Future<Output = Result<()>> + Send;

    /// Nothing more will come.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}

/// A committed checkpoint.
pub struct Completed {
    /// Its directory.
    pub path: FlinkPath,
    /// The length of its metadata.
    pub metadata_bytes: u64,
    /// The older ones that it replaces.
    pub subsumed: Vec<CheckpointId>,
}
