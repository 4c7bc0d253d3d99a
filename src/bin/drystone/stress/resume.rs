//! Goes on with the job that an earlier run has left, however it ended: what its end has left behind is removed, and its
//! checkpoints are restored and compared with the generator.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::coordinator::{Coordinator, Leftovers};
use drystone::id::CheckpointId;
use drystone::read::{Restore, TaskRestore};

use super::figures::ReadBack;
use super::read_back::read_back;
use super::run::{Plan, Retained};
use super::state::{Chunk, parse_local_path};
use super::workload::{ChunkId, Workload};
use crate::progress::Bar;

/// What an earlier run has left.
#[derive(Default)]
pub struct Resumed {
    /// Its checkpoints, and what each holds.
    pub retained: BTreeMap<CheckpointId, Retained>,
    /// What was removed.
    pub leftovers: Leftovers,
    pub read_back: ReadBack,
}

impl Resumed {
    pub fn latest(&self) -> Option<CheckpointId> {
        self.retained.keys().next_back().copied()
    }
}

/// Removes leftovers, and compares every checkpoint that is there.
pub async fn resume(
    coordinator: &Coordinator,
    plan: &Arc<Plan>,
    workload: &Arc<Workload>,
    bar: &Bar,
) -> anyhow::Result<Resumed> {
    let leftovers = coordinator.remove_leftovers().await?;
    let (mut retained, mut amiss) = (BTreeMap::new(), Vec::new());
    for checkpoint in coordinator.completed() {
        let path = coordinator.directory().checkpoint(checkpoint)?.name().clone();
        let restore = plan.storage.restore(&path).await?;
        let mut chunks = Vec::new();
        for subtask in 0..plan.operator.parallelism {
            match chunks_of(&restore, checkpoint, subtask, plan, workload) {
                Ok(found) => chunks.push(found),
                Err(problem) => amiss.push(format!("subtask {subtask} of {path}: {problem}")),
            }
        }
        retained.insert(checkpoint, Retained { path, chunks: Arc::new(chunks) });
    }
    let read_back = match amiss.is_empty() {
        true => read_back(plan, workload, &retained, bar).await?,
        false => ReadBack { bad: amiss.len() as u64, first_bad: amiss.into_iter().next(), ..ReadBack::default() },
    };
    Ok(Resumed { retained, leftovers, read_back })
}

/// The chunks that a checkpoint names for a subtask: as many as there have to be, each new or one that was to be reused.
fn chunks_of(
    restore: &Restore,
    checkpoint: CheckpointId,
    subtask: u32,
    plan: &Plan,
    workload: &Workload,
) -> Result<Vec<Chunk>, String> {
    let task = restore.task(plan.operator.id, subtask, plan.operator.parallelism).map_err(|e| e.one_line())?;
    let mut chunks = named(&task, subtask, workload)?;
    chunks.sort_by_key(|chunk| chunk.id.segment);
    if !chunks.iter().map(|chunk| chunk.id.segment).eq(0..plan.segments) {
        let found = chunks.len();
        return Err(format!("{found} chunks, and {} were written: give the words of the earlier run", plan.segments));
    }
    for chunk in &chunks {
        let here = ChunkId { checkpoint: checkpoint.0, ..chunk.id };
        if chunk.id != here && !(chunk.id.checkpoint < here.checkpoint && workload.wants_reuse(here)) {
            return Err(format!("chunk {} is of checkpoint {}", chunk.id.segment, chunk.id.checkpoint));
        }
    }
    Ok(chunks)
}

fn named(task: &TaskRestore, subtask: u32, workload: &Workload) -> Result<Vec<Chunk>, String> {
    let chunks = task.streams().iter().map(|stream| {
        let name = stream.place().local_path.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = parse_local_path(&name, subtask).ok_or_else(|| format!("'{name}' isn't the name of a chunk"))?;
        Ok(Chunk { id, size: workload.size(id), handle: stream.handle.clone() })
    });
    chunks.collect()
}
