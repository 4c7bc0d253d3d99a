//! A job of one subtask, by its configuration alone, that writes so many files for each checkpoint.

use bytes::Bytes;
use drystone::config::Config;
use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, SubtaskState};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::storage::Storage;
use drystone::worker::Worker;

pub struct Job {
    pub coordinator: Coordinator,
    pub worker: Worker,
}

pub fn spec() -> OperatorSpec {
    OperatorSpec::new(OperatorId([7; 16]), 1, 128)
}

/// Every piece is a file of its own; what else is given counts before that.
pub fn config(more: &[(&str, &str)]) -> Config {
    let own = [
        ("execution.checkpointing.file-merging.enabled", "false"),
        ("execution.checkpointing.data-inline-threshold", "0"),
        ("drystone.fencing.proof-rounds", "0"),
        ("drystone.seal.linger", "0 ms"),
    ];
    Config::from_map(own.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string())))
}

impl Job {
    pub async fn of(storage: &Storage, job: JobId) -> drystone::Result<Self> {
        let coordinator = storage.coordinator(job, vec![spec()]).await?;
        let worker = storage.worker(job, "w")?;
        worker.register(spec().subtask(0));
        Ok(Self { coordinator, worker })
    }

    pub async fn checkpoint(&self, files: usize) -> drystone::Result<Completed> {
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint())?;
        let (checkpoint, epoch, subtask) = (trigger.checkpoint, trigger.epoch, spec().subtask(0));
        let snapshot = self.worker.begin(subtask, &trigger)?;
        let mut written = Vec::new();
        for number in 0..files {
            let mut segment = snapshot.segment(Scope::Exclusive, None);
            segment.write(Bytes::from(format!("file {number} of checkpoint {checkpoint}").repeat(10))).await?;
            written.push(segment.finish().await?);
        }
        let durable = snapshot.seal().await?;
        let text = |text: String| JavaString::new(&text).unwrap();
        let private = written.iter().enumerate().map(|(number, written)| LocalPathHandle {
            local_path: text(format!("{number}.sst")),
            handle: durable.handle(written).unwrap(),
        });
        let keyed = IncrementalHandle {
            checkpoint_id: checkpoint.0 as i64,
            backend_id: text("00000000-0000-0000-0000-000000000001".into()),
            range: KeyGroupRange::of_subtask(0, 1, 128).unwrap(),
            persisted: Some((0, text(format!("handle-{checkpoint}")))),
            meta: None,
            shared: vec![],
            private: private.collect(),
        };
        let state = SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() };
        let (state, sealed) = (Some(Box::new(state)), durable.sealed().to_vec());
        self.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed })?;
        let completed = self.coordinator.complete(checkpoint).await?;
        self.worker.complete(epoch, checkpoint);
        Ok(completed)
    }
}
