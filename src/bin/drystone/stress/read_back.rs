//! Restores what was written, and compares every byte of it with the generator.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::id::CheckpointId;
use drystone::read::Restore;
use drystone::store::FlinkPath;
use tokio::task::JoinSet;

use super::figures::ReadBack;
use super::run::{Plan, Retained};
use super::state::{Chunk, local_path};
use super::workload::Workload;
use crate::progress::Bar;

/// Restores the latest checkpoint, against the clock, and then every other one that is retained.
pub async fn read_back(
    plan: &Arc<Plan>,
    workload: &Arc<Workload>,
    retained: &BTreeMap<CheckpointId, Retained>,
    bar: &Bar,
) -> anyhow::Result<ReadBack> {
    let mut found = ReadBack::default();
    for (number, checkpoint) in retained.values().rev().enumerate() {
        let (before, started) = (plan.storage.stores().requests(), tokio::time::Instant::now());
        let (bytes, bad) = restore(plan, workload, checkpoint, bar).await?;
        if number == 0 {
            (found.time, found.bytes) = (started.elapsed(), bytes);
            found.requests = plan.storage.stores().requests() - before;
        }
        found.checkpoints += 1;
        found.bad += bad.len() as u64;
        found.first_bad = found.first_bad.or_else(|| bad.into_iter().next());
    }
    Ok(found)
}

/// Has every subtask restore its state, `threads` at a time: the bytes read, and what was wrong with which chunk.
async fn restore(
    plan: &Arc<Plan>,
    workload: &Arc<Workload>,
    checkpoint: &Retained,
    bar: &Bar,
) -> anyhow::Result<(u64, Vec<String>)> {
    let restore = plan.storage.restore(&checkpoint.path).await?;
    let (mut tasks, mut total, mut bad) = (JoinSet::new(), 0, Vec::new());
    for subtask in 0..plan.operator.parallelism {
        while tasks.len() >= plan.threads {
            collect(&mut tasks, &mut total, &mut bad).await?;
        }
        let task = Task {
            restore: restore.clone(),
            path: checkpoint.path.clone(),
            plan: plan.clone(),
            workload: workload.clone(),
            chunks: checkpoint.chunks.clone(),
            subtask,
        };
        tasks.spawn(task.check());
        bar.add(u64::from(plan.segments));
    }
    while !tasks.is_empty() {
        collect(&mut tasks, &mut total, &mut bad).await?;
    }
    Ok((total, bad))
}

type Checked = anyhow::Result<(u64, Vec<String>)>;

async fn collect(tasks: &mut JoinSet<Checked>, total: &mut u64, bad: &mut Vec<String>) -> anyhow::Result<()> {
    if let Some(checked) = tasks.join_next().await {
        let (bytes, found) = checked??;
        *total += bytes;
        bad.extend(found);
    }
    Ok(())
}

/// One subtask's restore.
struct Task {
    restore: Restore,
    path: FlinkPath,
    plan: Arc<Plan>,
    workload: Arc<Workload>,
    chunks: Arc<Vec<Vec<Chunk>>>,
    subtask: u32,
}

impl Task {
    async fn check(self) -> Checked {
        let operator = &self.plan.operator;
        let mut missing: BTreeMap<String, &Chunk> =
            self.chunks[self.subtask as usize].iter().map(|chunk| (local_path(chunk.id), chunk)).collect();
        let (mut bytes, mut bad) = (0, Vec::new());
        let task = self.restore.task(operator.id, self.subtask, operator.parallelism)?;
        let restored = match task.read_all().await {
            Ok(restored) => restored,
            // All of it is bad: nothing more can be said.
            Err(error) => {
                let each = missing.keys().map(|name| format!("{name} of {}: {}", self.path, error.one_line()));
                return Ok((0, each.collect()));
            }
        };
        for (number, stream) in task.streams().iter().enumerate() {
            let name = stream.place().local_path.as_ref().map(ToString::to_string).unwrap_or_default();
            let found = restored.bytes(number);
            bytes += found.len() as u64;
            let problem = match missing.remove(&name) {
                None => "nobody wrote it",
                Some(chunk) if self.workload.bytes(chunk.id) != found => "its bytes are others",
                Some(_) => continue,
            };
            bad.push(format!("{name} of subtask {} of {}: {problem}", self.subtask, self.path));
        }
        bad.extend(missing.keys().map(|name| format!("{name} of subtask {} of {}: missing", self.subtask, self.path)));
        Ok((bytes, bad))
    }
}
