//! The storage layer of this crate, as a stream processor uses it: one worker, one coordinator.

use drystone::coordinator::Coordinator;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope, Subtask};
use drystone::protocol::{Acknowledgement, Reuse, SealedSize, Trigger};
use drystone::worker::{Snapshot, Ticket, Worker};
use drystone::write::Written;
use drystone::{Error, ErrorKind, Result};

use super::run::Plan;
use super::side::{Completed, Side};
use super::state::JOB;

/// A writer hands over its bytes in pieces of this size, as a backend with a buffer of its own does.
const PIECE_BYTES: usize = 16 << 10;

pub struct Packed {
    worker: Worker,
    coordinator: Coordinator,
    scope: Scope,
}

impl Packed {
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let worker = plan.storage.worker(JOB, "stress")?;
        plan.operator.subtasks().for_each(|subtask| worker.register(subtask));
        let coordinator = plan.storage.coordinator(JOB, vec![plan.operator.clone()]).await?;
        Ok(Self { worker, coordinator, scope: plan.scope })
    }
}

impl Side for Packed {
    type Snapshot = Snapshot;
    type Written = Written;
    type Ticket = Ticket;

    fn trigger(&self, checkpoint: CheckpointId) -> Result<Trigger> {
        self.coordinator.trigger(checkpoint)
    }

    fn begin(&self, subtask: Subtask, trigger: &Trigger) -> Result<Snapshot> {
        self.worker.begin(subtask, trigger)
    }

    fn reuse(&self, snapshot: &Snapshot, handle: &StreamHandle) -> Reuse {
        snapshot.reuse(handle)
    }

    async fn write(&self, snapshot: &Snapshot, bytes: &[u8]) -> Result<Written> {
        let mut segment = snapshot.segment(self.scope, None);
        for piece in bytes.chunks(PIECE_BYTES) {
            segment.write_slice(piece).await?;
        }
        segment.finish().await
    }

    fn finish(&self, snapshot: Snapshot) -> Ticket {
        snapshot.finish()
    }

    async fn seal(&self, ticket: &Ticket, written: &[Written]) -> Result<(Vec<StreamHandle>, Vec<SealedSize>)> {
        let durable = ticket.seal().await?;
        let handles = written.iter().map(|written| {
            let handle = durable.handle(written)?;
            handle.ok_or_else(|| Error::new(ErrorKind::Invalid, "a chunk without a byte"))
        });
        Ok((handles.collect::<Result<_>>()?, durable.sealed().to_vec()))
    }

    async fn complete(&self, checkpoint: CheckpointId, reported: Vec<Acknowledgement>) -> Result<Completed> {
        for acknowledgement in reported {
            self.coordinator.acknowledge(acknowledgement)?;
        }
        let completed = self.coordinator.complete(checkpoint).await?;
        self.worker.complete(self.coordinator.epoch(), checkpoint);
        for ended in &completed.aborted {
            self.worker.abort(self.coordinator.epoch(), *ended);
        }
        let drystone::coordinator::Completed { path, metadata_bytes, subsumed, .. } = completed;
        Ok(Completed { path, metadata_bytes, subsumed })
    }

    async fn subsume(&self, subsumed: &[CheckpointId]) -> Result<()> {
        for checkpoint in subsumed {
            self.worker.subsume(self.coordinator.epoch(), *checkpoint);
        }
        self.coordinator.settle().await
    }

    async fn close(&self) -> Result<()> {
        self.worker.close().await
    }
}
