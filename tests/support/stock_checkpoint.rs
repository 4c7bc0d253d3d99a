//! The metadata of a checkpoint as stock Flink writes it: every chunk is a file of its own.

use bytes::Bytes;
use drystone::format;
use drystone::handle::{
    CheckpointMetadata, FileHandle, IncrementalHandle, JavaString, LocalPathHandle, Operator, OperatorSubtasks,
    StreamHandle, SubtaskEntry, SubtaskState,
};
use drystone::id::{CheckpointId, KeyGroupRange, OperatorId};

pub const CHECKPOINT: u64 = 42;

/// Incremental snapshots of `subtasks` subtasks, which share the files among them: (absolute path, length).
pub fn metadata(files: &[(String, i64)], subtasks: u32) -> Bytes {
    let per_subtask = files.len().div_ceil(subtasks as usize).max(1);
    let mut entries = Vec::new();
    for (index, files) in (0..subtasks).zip(files.chunks(per_subtask)) {
        let shared = files.iter().enumerate().map(|(number, (path, size))| LocalPathHandle {
            local_path: text(&format!("{number:06}.sst")),
            handle: Some(StreamHandle::File(FileHandle { path: text(path), size: *size })),
        });
        let keyed = IncrementalHandle {
            checkpoint_id: CHECKPOINT as i64,
            backend_id: text(&format!("00000000-0000-0000-0000-{index:012}")),
            range: KeyGroupRange { start: index, count: 1 },
            persisted: Some((0, text(&format!("handle-{index}")))),
            meta: None,
            shared: shared.collect(),
            private: Vec::new(),
        };
        let managed_keyed = Some(drystone::handle::KeyedHandle::Incremental(keyed));
        let state = SubtaskState { managed_keyed, ..SubtaskState::default() };
        entries.push(SubtaskEntry { index, state: Some(Box::new(state)) });
    }
    let operator = Operator {
        name: None,
        uid: None,
        id: OperatorId([7; 16]),
        parallelism: subtasks,
        max_parallelism: subtasks.max(128),
        coordinator: None,
        subtasks: OperatorSubtasks::Reported(entries),
    };
    let metadata = CheckpointMetadata {
        version: 3,
        checkpoint_id: CheckpointId(CHECKPOINT),
        master_states: Vec::new(),
        operators: vec![operator],
        properties: Bytes::new(),
    };
    format::encode(&metadata).unwrap().bytes
}

fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}
