//! A job on the local disk of which some has finished: all of its source, which has coordinator state; one of three
//! subtasks of the operator after it; nothing of the last one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drystone::config::Config;
use drystone::coordinator::{Acknowledged, Completed, Coordinator};
use drystone::handle::{
    DistributionMode, InlineHandle, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, OperatorStateHandle,
    StatePartitions, StreamHandle, SubtaskState,
};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::storage::Storage;

pub const SOURCE: OperatorId = OperatorId([0x51; 16]);
pub const MIDDLE: OperatorId = OperatorId([0x52; 16]);
pub const SINK: OperatorId = OperatorId([0x53; 16]);

pub fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}

fn inline(name: &str, bytes: Vec<u8>) -> InlineHandle {
    InlineHandle { name: text(name), bytes: Bytes::from(bytes) }
}

pub struct Job {
    pub storage: Storage,
    pub coordinator: Coordinator,
    pub specs: Vec<OperatorSpec>,
}

impl Job {
    pub async fn new(directory: &Path) -> Self {
        let version = "drystone.metadata-version: 5";
        let text = format!("execution.checkpointing.dir: 'file:{}'\n{version}\n", directory.display());
        let next = AtomicU64::new(1);
        let storage = Storage::open(&Config::from_yaml(&text).unwrap()).unwrap();
        let storage = storage.with_tokens(Arc::new(move || next.fetch_add(1, Ordering::Relaxed)));
        let spec = |id, name: &str, parallelism| OperatorSpec {
            name: Some(JavaString::new(name).unwrap()),
            ..OperatorSpec::new(id, parallelism, 12)
        };
        let specs = vec![spec(SOURCE, "source", 2), spec(MIDDLE, "middle", 3), spec(SINK, "sink", 1)];
        let coordinator = storage.coordinator(JobId([0x50; 16]), specs.clone()).await.unwrap();
        Self { storage, coordinator, specs }
    }

    pub fn subtask(&self, operator: OperatorId, index: u32) -> Subtask {
        self.specs.iter().find(|spec| spec.id == operator).unwrap().subtask(index)
    }

    pub fn trigger(&self) -> CheckpointId {
        self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap().checkpoint
    }

    pub fn acknowledge(&self, checkpoint: CheckpointId, subtask: Subtask, mode: DistributionMode) -> Acknowledged {
        let acknowledgement = Acknowledgement {
            epoch: self.coordinator.epoch(),
            checkpoint,
            subtask,
            state: Some(Box::new(state(subtask, mode))),
            sealed: vec![],
        };
        self.coordinator.acknowledge(acknowledgement).unwrap()
    }

    pub fn finished(&self, checkpoint: CheckpointId, operator: OperatorId, index: u32) -> Acknowledged {
        self.coordinator.finished(self.coordinator.epoch(), checkpoint, self.subtask(operator, index)).unwrap()
    }

    /// Everything of a checkpoint but its commit; the operator state of the one that has finished in part is of this mode.
    pub fn take(&self, mode: DistributionMode) -> CheckpointId {
        let checkpoint = self.trigger();
        let epoch = self.coordinator.epoch();
        let splits = inline("splits", vec![1, 2, 3]);
        self.coordinator.acknowledge_operator(epoch, checkpoint, SOURCE, splits).unwrap();
        let enumerator = inline("of the sink", vec![9]);
        self.coordinator.acknowledge_operator(epoch, checkpoint, SINK, enumerator).unwrap();
        for index in 0..2 {
            self.finished(checkpoint, SOURCE, index);
            self.acknowledge(checkpoint, self.subtask(MIDDLE, index), mode);
        }
        self.finished(checkpoint, MIDDLE, 2);
        let last = self.acknowledge(checkpoint, self.subtask(SINK, 0), DistributionMode::Union);
        assert_eq!(last, Acknowledged::Ready);
        checkpoint
    }

    pub async fn complete(&self) -> Completed {
        self.coordinator.complete(self.take(DistributionMode::SplitDistribute)).await.unwrap()
    }
}

/// Key groups, each with its own number as contents, and two partitions of operator state.
pub fn state(subtask: Subtask, mode: DistributionMode) -> SubtaskState {
    let range = KeyGroupRange::of_subtask(subtask.index, subtask.parallelism, 12).unwrap();
    let mut bytes = vec![0xff];
    bytes.extend((range.start..range.start + range.count).map(|group| group as u8));
    let keyed = KeyGroupsHandle {
        checksums: Vec::new(),
        form: KeyGroupsForm::WithId(text(&format!("keyed-{}", subtask.index))),
        range,
        offsets: (1..=i64::from(range.count)).collect(),
        delegate: StreamHandle::Inline(inline(&format!("keyed-{}", subtask.index), bytes)),
    };
    let partitions = StatePartitions { name: text("offsets"), mode, offsets: vec![0, 1] };
    let bytes = vec![subtask.index as u8 * 10, subtask.index as u8 * 10 + 1];
    let operator = OperatorStateHandle {
        states: vec![partitions],
        directories: None,
        delegate: StreamHandle::Inline(inline(&format!("operator-{}", subtask.index), bytes)),
    };
    SubtaskState {
        managed_keyed: Some(KeyedHandle::KeyGroups(keyed)),
        managed_operator: Some(operator),
        ..SubtaskState::default()
    }
}
