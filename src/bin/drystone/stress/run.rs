//! One run: checkpoint after checkpoint, written by several tasks that take subtasks in turn, then read back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::Context;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, Trigger};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Location, Requests};
use tokio::task::JoinSet;

use super::figures::{Clock, Figures, Space, Tally, Times};
use super::read_back::read_back;
use super::sample::Sample;
use super::side::{Completed, Side};
use super::state::{Chunk, subtask_state};
use super::workload::{ChunkId, Workload};
use crate::progress::Bar;

/// What is run.
#[derive(Clone)]
pub struct Plan {
    pub operator: OperatorSpec,
    pub segments: u32,
    pub threads: usize,
    pub checkpoints: u64,
    pub scope: Scope,
    pub storage: Storage,
    /// Told of each checkpoint as soon as it is committed.
    pub on_commit: fn(CheckpointId, &FlinkPath) -> anyhow::Result<()>,
    /// The job's directory.
    pub root: Location,
}

/// A checkpoint that is retained: its directory, and each subtask's chunks.
pub struct Retained {
    pub path: FlinkPath,
    pub chunks: Arc<Vec<Vec<Chunk>>>,
}

/// Begins with a checkpoint's number, after what is retained already.
pub async fn run<S: Side>(
    side: Arc<S>,
    workload: &Arc<Workload>,
    plan: &Arc<Plan>,
    bar: &Arc<Bar>,
    first: CheckpointId,
    retained: BTreeMap<CheckpointId, Retained>,
) -> anyhow::Result<Figures> {
    let before = plan.storage.stores().requests();
    let mut run = Run::new(side, workload, plan);
    run.latest = retained.values().next_back().map(|latest| latest.chunks.clone()).unwrap_or_default();
    run.retained = retained;
    let there = run.sample().await?;
    run.space.found = there.files();
    run.space.settled(there, run.live_bytes());
    for checkpoint in first.0..first.0 + plan.checkpoints {
        run.checkpoint(CheckpointId(checkpoint), bar).await.with_context(|| format!("checkpoint {checkpoint}"))?;
    }
    run.side.close().await?;
    let requests = plan.storage.stores().requests() - before - run.looking;
    let read_back = read_back(plan, workload, &run.retained, bar).await?;
    run.tally.latencies.sort_unstable();
    let retained = run.retained.values().map(|retained| retained.path.clone()).collect();
    let directory = plan.root.name().to_string();
    Ok(Figures { tally: run.tally, times: run.times, space: run.space, requests, read_back, directory, retained })
}

struct Run<S> {
    side: Arc<S>,
    workload: Arc<Workload>,
    plan: Arc<Plan>,
    retained: BTreeMap<CheckpointId, Retained>,
    /// The chunks of the checkpoint before.
    latest: Arc<Vec<Vec<Chunk>>>,
    tally: Tally,
    times: Times,
    space: Space,
    /// Requests for samples.
    looking: Requests,
}

impl<S: Side> Run<S> {
    fn new(side: Arc<S>, workload: &Arc<Workload>, plan: &Arc<Plan>) -> Self {
        Self {
            side,
            workload: workload.clone(),
            plan: plan.clone(),
            retained: BTreeMap::new(),
            latest: Arc::default(),
            tally: Tally::default(),
            times: Times::default(),
            space: Space::default(),
            looking: Requests::default(),
        }
    }

    async fn checkpoint(&mut self, checkpoint: CheckpointId, bar: &Arc<Bar>) -> anyhow::Result<()> {
        let mut clock = Clock::start();
        let trigger = self.side.trigger(checkpoint)?;
        let snapshots = self.snapshots(&trigger, bar).await?;
        let (acknowledgements, chunks) = self.seal(&trigger, snapshots).await?;
        clock.add(&mut self.times.write);
        // All is written, and nothing deleted.
        let sample = self.sample().await?;
        self.space.saw(&sample);
        clock.skip();
        let completed = self.side.complete(checkpoint, acknowledgements).await?;
        clock.add(&mut self.times.complete);
        let Completed { path, metadata_bytes, subsumed } = completed;
        (self.plan.on_commit)(checkpoint, &path)?;
        self.side.subsume(&subsumed).await?;
        clock.add(&mut self.times.subsume);
        self.times.wall += clock.total;
        self.latest = Arc::new(chunks);
        self.retained.insert(checkpoint, Retained { path, chunks: self.latest.clone() });
        for old in subsumed {
            self.retained.remove(&old);
        }
        self.space.metadata_bytes += metadata_bytes;
        let sample = self.sample().await?;
        self.space.settled(sample, self.live_bytes());
        Ok(())
    }

    /// Has every subtask write its chunks, `threads` at a time.
    async fn snapshots(&mut self, trigger: &Trigger, bar: &Arc<Bar>) -> anyhow::Result<Vec<Snapshot<S>>> {
        let next = Arc::new(AtomicU32::new(0));
        let mut writers = JoinSet::new();
        for _ in 0..self.plan.threads {
            let writer = Writer {
                side: self.side.clone(),
                workload: self.workload.clone(),
                plan: self.plan.clone(),
                before: self.latest.clone(),
                trigger: trigger.clone(),
                next: next.clone(),
                bar: bar.clone(),
            };
            writers.spawn(writer.write());
        }
        let mut all = Vec::new();
        while let Some(written) = writers.join_next().await {
            let (snapshots, tally) = written??;
            all.extend(snapshots);
            self.tally.add(tally);
        }
        all.sort_by_key(|snapshot| snapshot.subtask);
        Ok(all)
    }

    async fn seal(
        &mut self,
        trigger: &Trigger,
        snapshots: Vec<Snapshot<S>>,
    ) -> anyhow::Result<(Vec<Acknowledgement>, Vec<Vec<Chunk>>)> {
        let (checkpoint, mut acknowledgements, mut all) = (trigger.checkpoint, Vec::new(), Vec::new());
        for Snapshot { subtask, ticket, written, ids, mut chunks } in snapshots {
            let (handles, sealed) = self.side.seal(&ticket, &written).await?;
            for (id, handle) in ids.into_iter().zip(handles) {
                self.tally.inline_segments += u64::from(is_inline(&handle));
                chunks.push(Chunk { id, size: self.workload.size(id), handle });
            }
            let state = subtask_state(&self.plan.operator, subtask, checkpoint, self.plan.scope, &chunks)?;
            acknowledgements.push(Acknowledgement {
                epoch: trigger.epoch,
                checkpoint,
                subtask: self.plan.operator.subtask(subtask),
                state: Some(Box::new(state)),
                sealed,
            });
            // By place, so that the next checkpoint finds them.
            chunks.sort_by_key(|chunk| chunk.id.segment);
            all.push(chunks);
        }
        Ok((acknowledgements, all))
    }

    async fn sample(&mut self) -> anyhow::Result<Sample> {
        let before = self.plan.storage.stores().requests();
        let sample = Sample::of(&self.plan.root).await?;
        self.looking += self.plan.storage.stores().requests() - before;
        Ok(sample)
    }

    /// Bytes of the chunks that retained checkpoints have in files, each counted once.
    fn live_bytes(&self) -> u64 {
        let chunks = self.retained.values().flat_map(|retained| retained.chunks.iter().flatten());
        let live: BTreeMap<ChunkId, u64> =
            chunks.filter(|chunk| !is_inline(&chunk.handle)).map(|chunk| (chunk.id, chunk.size)).collect();
        live.values().sum()
    }
}

fn is_inline(handle: &StreamHandle) -> bool {
    matches!(handle, StreamHandle::Inline(_))
}

/// A subtask's snapshot: its chunks that were written, and those that were reused.
struct Snapshot<S: Side> {
    subtask: u32,
    ticket: S::Ticket,
    written: Vec<S::Written>,
    ids: Vec<ChunkId>,
    /// Reused ones.
    chunks: Vec<Chunk>,
}

/// One of the tasks that write.
struct Writer<S> {
    side: Arc<S>,
    workload: Arc<Workload>,
    plan: Arc<Plan>,
    before: Arc<Vec<Vec<Chunk>>>,
    trigger: Trigger,
    next: Arc<AtomicU32>,
    bar: Arc<Bar>,
}

impl<S: Side> Writer<S> {
    async fn write(self) -> anyhow::Result<(Vec<Snapshot<S>>, Tally)> {
        let (mut snapshots, mut tally) = (Vec::new(), Tally::default());
        loop {
            let subtask = self.next.fetch_add(1, Relaxed);
            if subtask >= self.plan.operator.parallelism {
                return Ok((snapshots, tally));
            }
            snapshots.push(self.snapshot(subtask, &mut tally).await.with_context(|| format!("subtask {subtask}"))?);
            self.bar.add(u64::from(self.plan.segments));
        }
    }

    async fn snapshot(&self, subtask: u32, tally: &mut Tally) -> anyhow::Result<Snapshot<S>> {
        let snapshot = self.side.begin(self.plan.operator.subtask(subtask), &self.trigger)?;
        let (mut written, mut ids, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
        for segment in 0..self.plan.segments {
            let id = ChunkId { checkpoint: self.trigger.checkpoint.0, subtask, segment };
            let before = self.before.get(subtask as usize).and_then(|chunks| chunks.get(segment as usize));
            if let Some(before) = before.filter(|_| self.workload.wants_reuse(id)) {
                match self.side.reuse(&snapshot, &before.handle) {
                    Reuse::Keep => {
                        tally.segments_reused += 1;
                        chunks.push(before.clone());
                        continue;
                    }
                    Reuse::Rewrite(_) => tally.reuse_refused += 1,
                }
            }
            let bytes = self.workload.bytes(id);
            let started = tokio::time::Instant::now();
            written.push(self.side.write(&snapshot, bytes).await?);
            tally.latencies.push(started.elapsed());
            tally.bytes_written += bytes.len() as u64;
            tally.segments_written += 1;
            ids.push(id);
        }
        Ok(Snapshot { subtask, ticket: self.side.finish(snapshot), written, ids, chunks })
    }
}

#[cfg(test)]
mod tests {
    use drystone::config::{MemorySize, Settings};
    use drystone::store::Stores;

    use super::*;
    use crate::stress::state;
    use crate::stress::unmerged::Unmerged;

    /// What was read back is compared in earnest: other bytes, a missing chunk and one too many are all found.
    #[tokio::test]
    async fn what_is_not_as_it_was_written_is_found() {
        let settings = Settings { data_inline_threshold: MemorySize(0), num_retained: 2, ..Settings::default() };
        let storage = Storage::of(Stores::new(), FlinkPath::parse("memory:/checkpoints").unwrap(), settings).unwrap();
        let plan = Arc::new(Plan {
            operator: state::operator(3),
            segments: 2,
            threads: 2,
            checkpoints: 2,
            scope: Scope::Shared,
            on_commit: |_, _| Ok(()),
            root: storage.job_directory(state::JOB).unwrap().root().clone(),
            storage,
        });
        let workload = |seed| Arc::new(Workload::new("fixed:500".parse().unwrap(), seed, 0.5));
        let side = Arc::new(Unmerged::start(&plan).unwrap());
        let bar = Arc::new(Bar::of_chunks());
        let mut run = Run::new(side, &workload(1), &plan);
        for checkpoint in 1..=plan.checkpoints {
            run.checkpoint(CheckpointId(checkpoint), &bar).await.unwrap();
        }
        let checked =
            async |run: &Run<Unmerged>, workload| read_back(&plan, &workload, &run.retained, &bar).await.unwrap();
        let sound = checked(&run, workload(1)).await;
        assert_eq!((sound.bad, sound.checkpoints, sound.bytes), (0, 2, 6 * 500));
        assert_eq!(checked(&run, workload(2)).await.bad, 2 * 6);

        // The last chunk goes from the books of one checkpoint, and from the store.
        let mut latest = run.latest.to_vec();
        let chunk = latest[2].pop().unwrap();
        run.retained.get_mut(&CheckpointId(2)).unwrap().chunks = Arc::new(latest);
        assert_eq!(checked(&run, workload(1)).await.first_bad.unwrap().rsplit_once(": ").unwrap().1, "nobody wrote it");
        let StreamHandle::File(file) = chunk.handle else { panic!("not in a file") };
        let path = FlinkPath::parse(&file.path.to_text()).unwrap();
        plan.storage.stores().locate(&path).unwrap().delete().await.unwrap();
        assert!(checked(&run, workload(1)).await.first_bad.unwrap().contains("no such file"));
    }
}
