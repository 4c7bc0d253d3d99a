//! Restores what was written, and compares every byte of it with the generator.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::id::CheckpointId;
use drystone::read::{RestoredPiece, TaskRead, TaskRestore};

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

/// Restores the state of all subtasks at once, as a worker does: the bytes read, and what was wrong with which chunk.
async fn restore(
    plan: &Plan,
    workload: &Workload,
    checkpoint: &Retained,
    bar: &Bar,
) -> anyhow::Result<(u64, Vec<String>)> {
    let (operator, path) = (&plan.operator, &checkpoint.path);
    let restore = plan.storage.restore(path).await?;
    let tasks = (0..operator.parallelism).map(|subtask| restore.task(operator.id, subtask, operator.parallelism));
    let tasks: Vec<TaskRestore> = tasks.collect::<drystone::Result<_>>()?;
    let mut bad = Vec::new();
    let mut say = |subtask: usize, name: &str, problem: &str| {
        bad.push(format!("{name} of subtask {subtask} of {path}: {problem}"));
    };
    let mut expected: Vec<Vec<Expected>> = Vec::new();
    for (subtask, task) in tasks.iter().enumerate() {
        let chunks = checkpoint.chunks[subtask].iter();
        let mut missing: BTreeMap<String, &Chunk> = chunks.map(|chunk| (local_path(chunk.id), chunk)).collect();
        let streams = task.streams().iter().map(|stream| {
            let name = stream.place().local_path.as_ref().map(ToString::to_string).unwrap_or_default();
            Expected { bytes: missing.remove(&name).map(|chunk| workload.bytes(chunk.id)), name, state: State::Unread }
        });
        expected.push(streams.collect());
        missing.keys().for_each(|name| say(subtask, name, "missing"));
    }
    let mut total = 0;
    let read = async {
        let mut read = TaskRead::together(&tasks).await?;
        while let Some(piece) = read.next().await {
            let piece = piece?;
            total += piece.bytes.len() as u64;
            bar.add(u64::from(piece.last));
            expected[piece.task][piece.stream].take(&piece);
        }
        Ok::<(), drystone::Error>(())
    };
    let failed = read.await.err();
    for (subtask, streams) in expected.iter().enumerate() {
        for Expected { name, bytes, state } in streams {
            match (bytes, state) {
                (None, _) => say(subtask, name, "nobody wrote it"),
                (_, State::Right) => {}
                (_, State::Wrong) => say(subtask, name, "its bytes are others"),
                (_, State::Unread) => say(subtask, name, "not read"),
            }
        }
    }
    // What was read before it is right all the same; it says the most of what is bad.
    if let Some(error) = failed {
        bad.insert(0, format!("{path}: {}", error.one_line()));
    }
    Ok((total, bad))
}

/// What a stream is to hold.
struct Expected<'a> {
    name: String,
    /// None where nobody wrote it.
    bytes: Option<&'a [u8]>,
    state: State,
}

enum State {
    /// Or not to its end.
    Unread,
    Right,
    Wrong,
}

impl Expected<'_> {
    fn take(&mut self, piece: &RestoredPiece) {
        let (start, end) = (piece.offset as usize, piece.offset as usize + piece.bytes.len());
        let Some(bytes) = self.bytes else { return };
        if bytes.get(start..end) != Some(&piece.bytes[..]) || piece.last && end != bytes.len() {
            self.state = State::Wrong;
        } else if piece.last && !matches!(self.state, State::Wrong) {
            self.state = State::Right;
        }
    }
}
