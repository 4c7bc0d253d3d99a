//! Checkpoints as a job takes them: snapshots of all subtasks side by side, acknowledged, completed or not.

use std::collections::BTreeMap;

use drystone::coordinator::Completed;
use drystone::id::{CheckpointId, KeyGroupRange, Subtask};
use drystone::protocol::{SnapshotKind, Trigger};
use drystone::worker::{Ticket, Worker};
use drystone::{Error, ErrorKind};
use futures::future::{join, join_all};

use crate::history::{How, Order};
use crate::job::{Chunk, Job, KEY_GROUPS, Step, Taken, id};
use crate::oracle::{ChunkKey, Reading};
use crate::snapshot::{Part, snapshot};

/// All parts; and who has failed.
pub struct Parts {
    pub trigger: Trigger,
    parts: Vec<Part>,
    failed: Vec<(Subtask, Error)>,
}

impl Parts {
    pub fn checkpoint(&self) -> CheckpointId {
        self.trigger.checkpoint
    }
}

impl Job {
    pub async fn checkpoint(&mut self, how: How) -> Step<bool> {
        let Some(trigger) = self.trigger().await? else { return Ok(false) };
        let parts = self.snapshots(trigger, u64::MAX, how).await?;
        self.complete(parts, how).await
    }

    /// Given up, or left under way.
    pub async fn begin(&mut self, after: u64, how: How, aborts: bool) -> Step {
        let Some(trigger) = self.trigger().await? else { return Ok(()) };
        let checkpoint = trigger.checkpoint;
        let parts = self.snapshots(trigger, after, how).await?;
        self.acknowledge(&parts)?;
        if aborts || !parts.failed.is_empty() {
            self.give_up(checkpoint, how);
        }
        Ok(())
    }

    pub async fn overlap(&mut self, first: Order, how: How) -> Step {
        let Some(older) = self.trigger().await? else { return Ok(()) };
        let Some(newer) = self.trigger().await? else { return Ok(()) };
        let older = self.snapshots(older, u64::MAX, how).await?;
        let newer = self.snapshots(newer, u64::MAX, how).await?;
        match first {
            Order::Before => {
                self.complete(older, how).await?;
                self.complete(newer, how).await.map(drop)
            }
            Order::Between => {
                // The newer one builds on the older, which a third replaces meanwhile.
                let Some(newest) = self.trigger().await? else { return Ok(()) };
                self.complete(older, how).await?;
                let newest = self.snapshots(newest, u64::MAX, how).await?;
                self.complete(newer, how).await?;
                self.complete(newest, how).await.map(drop)
            }
            Order::Never => {
                self.acknowledge(&older)?;
                self.complete(newer, how).await.map(drop)
            }
            Order::After => {
                let (is_first, is_second) = (self.acknowledge(&older)?, self.acknowledge(&newer)?);
                let (first, second) = (self.completing(&older), self.completing(&newer));
                let both = async {
                    match (is_first, is_second) {
                        (true, true) => {
                            let (first, second) = join(first, second).await;
                            (Some(first), Some(second))
                        }
                        (true, false) => (Some(first.await), None),
                        (false, true) => (None, Some(second.await)),
                        (false, false) => (None, None),
                    }
                };
                let (first, second) = self.run(both).await?;
                for (parts, done) in [(older, first), (newer, second)] {
                    match done {
                        Some(done) => drop(self.completed(parts.trigger.checkpoint, done, how)?),
                        None => self.give_up(parts.trigger.checkpoint, how),
                    }
                }
                Ok(())
            }
        }
    }

    /// The tasks have heard of whatever has completed before, also of what nobody waited for.
    pub async fn trigger(&mut self) -> Step<Option<Trigger>> {
        self.sync();
        let beside = self.coordinator.pending().len();
        match self.coordinator.trigger(self.coordinator.next_checkpoint()) {
            Ok(trigger) => {
                self.beside.insert(trigger.checkpoint, beside);
                Ok(Some(trigger))
            }
            // Too many are in doubt.
            Err(error) if error.kind() == ErrorKind::Conflict => self.settle().await.map(|()| None),
            Err(error) => Err(format!("a trigger fails: {}", error.one_line()).into()),
        }
    }

    /// Of the first subtasks, so many.
    pub async fn snapshots(&mut self, trigger: Trigger, count: u64, how: How) -> Step<Parts> {
        let epoch = trigger.epoch;
        let (mut snapshots, mut contents) = (Vec::new(), BTreeMap::new());
        for subtask in self.spec.subtasks().take(count.min(100) as usize) {
            if self.finished.contains(&subtask.index) {
                continue;
            }
            let range = KeyGroupRange::of_subtask(subtask.index, subtask.parallelism, KEY_GROUPS);
            let range = range.ok_or_else(|| "no key groups".to_owned())?;
            let chunks: Vec<(ChunkKey, Chunk)> = self
                .database
                .range((range.start, 0)..(range.start + range.count, 0))
                .map(|(key, chunk)| (*key, chunk.clone()))
                .collect();
            let of_some = chunks.iter().filter(|(_, chunk)| !chunk.bytes.is_empty());
            contents.extend(of_some.map(|(key, chunk)| (*key, chunk.bytes.clone())));
            let worker = self.process_of(subtask.index).worker.clone();
            let trigger = trigger.clone();
            snapshots.push(async move { (subtask, snapshot(worker, trigger, subtask, range, chunks, how).await) });
        }
        let done = self.run(join_all(snapshots)).await?;
        let (mut parts, mut failed) = (Vec::new(), Vec::new());
        for (subtask, part) in done {
            match part {
                Ok(part) => parts.push(part),
                Err(error) => failed.push((subtask, error)),
            }
        }
        let is_savepoint = trigger.kind != SnapshotKind::Checkpoint;
        let mut handles = BTreeMap::new();
        for (key, (version, handle)) in parts.iter().flat_map(|part| part.handles.clone()) {
            // A careless state backend would name what a savepoint has.
            if (!is_savepoint || how.eager)
                && let Some(chunk) = self.database.get_mut(&key).filter(|chunk| chunk.version == version)
            {
                chunk.fresh = Some(handle.clone());
            }
            handles.insert(key, (version, handle));
        }
        self.model.taken.insert((epoch, trigger.checkpoint.0), contents);
        if !is_savepoint {
            self.under_way.insert(trigger.checkpoint.0, Taken { handles, setbacks: self.setbacks });
        }
        Ok(Parts { trigger, parts, failed })
    }

    /// True if all have.
    pub fn acknowledge(&mut self, parts: &Parts) -> Step<bool> {
        let checkpoint = parts.trigger.checkpoint;
        for (subtask, error) in &parts.failed {
            if !matches!(error.kind(), ErrorKind::Store | ErrorKind::Conflict) {
                return Err(format!("a snapshot of {checkpoint} fails: {}", error.one_line()).into());
            }
            self.coordinator.decline(parts.trigger.epoch, checkpoint, *subtask, "its snapshot failed");
        }
        let refused = |error: Error| format!("an acknowledgement of {checkpoint} is refused: {}", error.one_line());
        for index in &self.finished {
            self.coordinator.finished(parts.trigger.epoch, checkpoint, self.spec.subtask(*index)).map_err(refused)?;
        }
        for part in &parts.parts {
            self.coordinator.acknowledge(part.acknowledgement.clone()).map_err(refused)?;
        }
        Ok(parts.failed.is_empty())
    }

    /// True if it is durable.
    pub async fn complete(&mut self, parts: Parts, how: How) -> Step<bool> {
        let checkpoint = parts.trigger.checkpoint;
        if !self.acknowledge(&parts)? {
            self.give_up(checkpoint, how);
            return Ok(false);
        }
        let done = self.run(self.completing(&parts)).await?;
        self.completed(checkpoint, done, how)
    }

    /// Beside the commit the files are sealed that it waits for.
    pub fn completing(&self, parts: &Parts) -> impl Future<Output = drystone::Result<Completed>> + use<> {
        let (coordinator, checkpoint) = (self.coordinator.clone(), parts.trigger.checkpoint);
        let tickets: Vec<Ticket> = parts.parts.iter().filter_map(|part| part.ticket.clone()).collect();
        let sealing = async move {
            let _ = join_all(tickets.iter().map(Ticket::seal)).await;
        };
        async move { join(coordinator.complete(checkpoint), sealing).await.0 }
    }

    pub fn completed(&mut self, checkpoint: CheckpointId, done: drystone::Result<Completed>, how: How) -> Step<bool> {
        match done {
            Ok(completed) => {
                self.chaos.say("completed", &checkpoint.to_string());
                self.chaos.count("checkpoints");
                self.has_completed = true;
                self.confirm(checkpoint.0, how);
                if let Some(old) = completed.aborted.iter().find(|&&old| self.savepoints.has(old)) {
                    return Err(format!("savepoint: {old} is ended by checkpoint {checkpoint}").into());
                }
                for &old in &completed.aborted {
                    self.under_way.remove(&old.0);
                    self.tell(how, |worker, epoch| worker.abort(epoch, old));
                }
                for &old in &completed.subsumed {
                    self.tell(how, |worker, epoch| worker.subsume(epoch, old));
                }
                if !completed.subsumed.contains(&checkpoint) {
                    self.model.acknowledged.insert(checkpoint.0);
                }
                completed.subsumed.iter().for_each(|old| {
                    self.model.acknowledged.remove(&old.0);
                });
                Ok(true)
            }
            Err(error) => {
                self.chaos.say("incomplete", &error.one_line());
                let is_expected = matches!(error.kind(), ErrorKind::Store | ErrorKind::NotFound | ErrorKind::Conflict);
                if !is_expected || error.to_string().contains("was cut") {
                    return Err(format!("completing {checkpoint} fails: {}", error.one_line()).into());
                }
                if !self.coordinator.pending().contains(&checkpoint) {
                    let key = format!("{}/chk-{checkpoint}/_metadata", self.directory());
                    let there = self.chaos.objects().get(&key).and_then(Reading::of);
                    if there.is_some_and(|there| there.epoch == self.coordinator.epoch()) {
                        return Err(format!("checkpoint {checkpoint} has failed, and is there").into());
                    }
                    self.give_up(checkpoint, how);
                }
                Ok(false)
            }
        }
    }

    pub fn give_up(&mut self, checkpoint: CheckpointId, how: How) {
        self.coordinator.abort(checkpoint);
        // A commit under way decides for itself.
        if !self.coordinator.pending().contains(&checkpoint) {
            self.under_way.remove(&checkpoint.0);
            self.tell(how, |worker, epoch| worker.abort(epoch, checkpoint));
        }
    }

    /// A completed checkpoint's handles are what the next one may name again.
    fn confirm(&mut self, checkpoint: u64, how: How) {
        let Some(taken) = self.under_way.remove(&checkpoint) else { return };
        if checkpoint > self.confirmed {
            self.confirmed = checkpoint;
            if taken.setbacks < self.setbacks {
                // What the tasks were set back to may be gone by this; they write all anew.
                self.database.values_mut().for_each(|chunk| (chunk.handle, chunk.fresh) = (None, None));
            }
            for (key, (version, handle)) in taken.handles {
                if let Some(chunk) = self.database.get_mut(&key).filter(|chunk| chunk.version == version) {
                    chunk.handle = Some(handle.clone());
                    chunk.fresh = Some(handle);
                }
            }
        }
        self.tell(how, |worker, epoch| worker.complete(epoch, id(checkpoint)));
    }

    pub fn tell(&mut self, how: How, news: impl Fn(&Worker, u64)) {
        let epoch = self.coordinator.epoch();
        for process in &self.workers {
            if !self.random.one_in(how.lost_one_in) {
                news(&process.worker, epoch);
            }
        }
    }

    /// Whatever was in doubt may have been decided.
    pub fn sync(&mut self) {
        let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
        let (completed, pending) = (self.coordinator.completed(), self.coordinator.pending());
        let latest = completed.last().copied();
        let numbers: Vec<u64> = self.under_way.keys().copied().collect();
        for number in numbers {
            if completed.contains(&id(number)) {
                self.has_completed = true;
                self.confirm(number, how);
            } else if !pending.contains(&id(number)) && Some(id(number)) < latest {
                self.give_up(id(number), how);
            }
        }
        self.sync_savepoints(how);
    }
}
