//! A subtask's chunks as the state of an operator, such as a RocksDB backend reports it: the files of an incremental
//! snapshot, shared or private.

use anyhow::Context;
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::OperatorSpec;

use super::workload::ChunkId;

/// The job that every run plays.
pub const JOB: JobId = JobId(*b"drystone--stress");

/// Its only operator.
pub fn operator(subtasks: u32) -> OperatorSpec {
    OperatorSpec::new(OperatorId(*b"stress--operator"), subtasks, max_parallelism(subtasks))
}

/// As many key groups as Flink gives an operator that doesn't say.
fn max_parallelism(parallelism: u32) -> u32 {
    (parallelism + parallelism / 2).next_power_of_two().clamp(128, 32768)
}

/// A chunk and where it is.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub id: ChunkId,
    pub size: u64,
    pub handle: StreamHandle,
}

/// The name of the file that a backend would have for a chunk. Unique in a subtask, whatever is reused.
pub fn local_path(id: ChunkId) -> String {
    format!("{:06}-{:06}.sst", id.checkpoint, id.segment)
}

/// The chunk that such a file of a subtask holds.
pub fn parse_local_path(name: &str, subtask: u32) -> Option<ChunkId> {
    let (checkpoint, segment) = name.strip_suffix(".sst")?.split_once('-')?;
    Some(ChunkId { checkpoint: checkpoint.parse().ok()?, subtask, segment: segment.parse().ok()? })
}

/// The state that a subtask reports. `new_bytes` of it are of this checkpoint.
pub fn subtask_state(
    operator: &OperatorSpec,
    subtask: u32,
    checkpoint: CheckpointId,
    scope: Scope,
    chunks: &[Chunk],
) -> anyhow::Result<SubtaskState> {
    let file = |chunk: &Chunk| -> anyhow::Result<LocalPathHandle> {
        Ok(LocalPathHandle { local_path: JavaString::new(&local_path(chunk.id))?, handle: Some(chunk.handle.clone()) })
    };
    let files = chunks.iter().map(file).collect::<anyhow::Result<Vec<_>>>()?;
    let (shared, private) = match scope {
        Scope::Shared => (files, Vec::new()),
        Scope::Exclusive => (Vec::new(), files),
    };
    let new_bytes: u64 = chunks.iter().filter(|c| c.id.checkpoint == checkpoint.0).map(|c| c.size).sum();
    let id = format!("stress-{checkpoint}-{subtask}");
    let groups = KeyGroupRange::of_subtask(subtask, operator.parallelism, operator.max_parallelism);
    let keyed = IncrementalHandle {
        checkpoint_id: i64::try_from(checkpoint.0)?,
        // A UUID to Flink.
        backend_id: JavaString::new(&format!("00000000-0000-0000-0000-{subtask:012x}"))?,
        range: groups.with_context(|| format!("there is no subtask {subtask}"))?,
        persisted: Some((i64::try_from(new_bytes)?, JavaString::new(&id)?)),
        meta: None,
        shared,
        private,
    };
    Ok(SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() })
}
