//! Small checkpoints made by hand, on a local disk.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use drystone::format::encode;
use drystone::handle::{
    CheckpointMetadata, DistributionMode, FileHandle, InlineHandle, JavaString, Operator, OperatorStateHandle,
    OperatorSubtasks, SegmentHandle, StatePartitions, StreamHandle, SubtaskEntry, SubtaskState,
};
use drystone::id::{CheckpointId, OperatorId, Scope};
use drystone::read::{Checkpoint, Content, ReadLimits, State, open_handle};
use drystone::store::{FlinkPath, Stores};
use futures::TryStreamExt;
use tempfile::TempDir;

use super::runs;

pub const JOB: &str = "0123456789abcdef0123456789abcdef";
pub const OPERATOR: OperatorId = OperatorId([7; 16]);
/// Null, as Java serialises it.
pub const PROPERTIES: &[u8] = b"\xac\xed\x00\x05p";

/// A directory of the local disk with a job's directory in it, `<JOB>/chk-7`.
pub struct Disk {
    root: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(JOB).join("chk-7")).unwrap();
        Self { root }
    }

    pub fn at(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// In Flink's spelling.
    pub fn named(&self, below: &str) -> String {
        format!("file:{}", self.at(below).to_str().unwrap())
    }

    pub fn checkpoint(&self) -> FlinkPath {
        runs::path(&self.named(&format!("{JOB}/chk-7")))
    }

    /// Writes a file of the checkpoint's own directory, and gives the handle of the whole of it.
    pub fn file(&self, name: &str, bytes: &[u8]) -> StreamHandle {
        let below = format!("{JOB}/chk-7/{name}");
        fs::write(self.at(&below), bytes).unwrap();
        file(&self.named(&below), bytes.len() as i64)
    }

    pub fn commit(&self, metadata: &CheckpointMetadata) {
        self.commit_bytes(&encode(metadata).unwrap().bytes);
    }

    pub fn commit_bytes(&self, bytes: &[u8]) {
        fs::write(self.at(&format!("{JOB}/chk-7/_metadata")), bytes).unwrap();
    }

    /// Every file, by its path.
    pub fn files(&self, below: &str) -> BTreeMap<String, Bytes> {
        let at = self.at(below);
        if at.exists() { runs::files_below(&at) } else { BTreeMap::new() }
    }
}

pub fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}

pub fn file(path: &str, size: i64) -> StreamHandle {
    StreamHandle::File(FileHandle { path: text(path), size })
}

pub fn relative(path: &str, size: i64) -> StreamHandle {
    StreamHandle::Relative(FileHandle { path: text(path), size })
}

pub fn segment(path: &str, offset: u64, size: u64) -> StreamHandle {
    let id = text(&format!("logical-{offset}-{size}"));
    StreamHandle::Segment(SegmentHandle { path: text(path), offset, size, scope: Scope::Exclusive, id })
}

pub fn inline(name: &str, bytes: &[u8]) -> StreamHandle {
    StreamHandle::Inline(InlineHandle { name: text(name), bytes: Bytes::copy_from_slice(bytes) })
}

/// Bytes that repeat nowhere nearby, and differ from those of another seed.
pub fn chunk(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

pub fn operator_state(delegate: StreamHandle) -> OperatorStateHandle {
    let states =
        vec![StatePartitions { name: text("list"), mode: DistributionMode::SplitDistribute, offsets: vec![0] }];
    OperatorStateHandle { states, directories: None, delegate }
}

/// One subtask for each handle, which holds its operator state.
pub fn checkpoint(handles: Vec<StreamHandle>) -> CheckpointMetadata {
    let state = |handle| SubtaskState { managed_operator: Some(operator_state(handle)), ..SubtaskState::default() };
    of_subtasks(handles.into_iter().map(state).collect())
}

pub fn of_subtasks(states: Vec<SubtaskState>) -> CheckpointMetadata {
    let parallelism = states.len() as u32;
    let entry = |(index, state)| SubtaskEntry { index: index as u32, state: Some(Box::new(state)) };
    let operator = Operator {
        name: None,
        uid: None,
        id: OPERATOR,
        parallelism,
        max_parallelism: parallelism.max(128),
        coordinator: None,
        subtasks: OperatorSubtasks::Reported(states.into_iter().enumerate().map(entry).collect()),
    };
    CheckpointMetadata {
        version: 6,
        checkpoint_id: CheckpointId(7),
        master_states: Vec::new(),
        operators: vec![operator],
        properties: Bytes::from_static(PROPERTIES),
    }
}

/// A checkpoint's state, loaded.
pub async fn load(stores: &Stores, checkpoint: &FlinkPath) -> (Checkpoint, State) {
    let loaded = Checkpoint::load(stores, checkpoint).await.unwrap();
    let state = State::of(stores, &loaded).await.unwrap();
    (loaded, state)
}

/// The bytes of every stream, in order. Placeholders have none.
pub async fn contents(stores: &Stores, checkpoint: &FlinkPath) -> Vec<Vec<u8>> {
    let (_, state) = load(stores, checkpoint).await;
    let mut contents = Vec::new();
    for stream in state.streams.iter().filter(|s| s.content != Content::Placeholder) {
        let pieces: Vec<Bytes> = open_handle(&state.files, stream, &ReadLimits::default()).try_collect().await.unwrap();
        contents.push(pieces.concat());
    }
    contents
}

/// The stream handles, in order.
pub fn handles(metadata: &CheckpointMetadata) -> Vec<StreamHandle> {
    let mut handles = Vec::new();
    metadata.visit_streams(|_, handle| handles.push(handle.clone()));
    handles
}
