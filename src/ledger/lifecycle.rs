//! The events of a checkpoint's life. Every one may be repeated, late or lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::registry::{Found, SegmentNumber};
use super::{Acknowledged, Checkpoint, Copies, Effect, JobEnd, Ledger, Named, Pending, State, not_under_way};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, Subtask};
use crate::protocol::RewritePlan;

/// How many aborted checkpoints are looked after; of more at once the oldest are left to a sweep (I8).
const ABORTED_MAX: usize = 1024;

impl Ledger {
    /// Starts a checkpoint that waits for `subtasks`. The plan says what they should write again.
    ///
    /// # Errors
    /// `Conflict`: numbers only go up, and the job must not have ended.
    pub fn trigger(&mut self, checkpoint: CheckpointId, subtasks: BTreeSet<Subtask>) -> Result<RewritePlan> {
        self.may_begin(checkpoint)?;
        let (plan, planned) = self.choose();
        let base = self.completed().rev().take(self.settings.retained).collect();
        let pending = Pending { waiting_for: subtasks, acknowledged: BTreeSet::new(), base, planned };
        self.begin(checkpoint, pending, false);
        Ok(plan)
    }

    /// Starts a savepoint, which takes a number as a checkpoint does. It names nothing of the job's and nothing of it is the
    /// job's: it builds on no checkpoint, is acknowledged without names, replaces none and is replaced by none. When it is
    /// complete, there is no trace of it here.
    ///
    /// # Errors
    /// As for [`trigger`](Self::trigger).
    pub fn trigger_savepoint(&mut self, checkpoint: CheckpointId, subtasks: BTreeSet<Subtask>) -> Result<()> {
        self.may_begin(checkpoint)?;
        self.begin(checkpoint, Pending { waiting_for: subtasks, ..Pending::default() }, true);
        Ok(())
    }

    fn may_begin(&self, checkpoint: CheckpointId) -> Result<()> {
        self.still_runs(format_args!("checkpoint {checkpoint} can't be triggered"))?;
        let Some(last) = self.last.filter(|&last| checkpoint <= last) else { return Ok(()) };
        let message = format!("checkpoint {checkpoint} can't be triggered: {last} was, and numbers only go up");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    fn begin(&mut self, checkpoint: CheckpointId, pending: Pending, is_savepoint: bool) {
        let (state, names) = (State::Pending(pending), Vec::new());
        self.checkpoints.insert(checkpoint, Checkpoint { state, is_savepoint, names });
        self.last = Some(checkpoint);
    }

    /// A subtask has done its part and names these segments; each is pinned from here on.
    ///
    /// A segment is new if its file was written for this checkpoint, as `is_new` says. Any other has to be one that a
    /// retained or pending checkpoint names: what nothing names may be gone (no dangling reuse).
    ///
    /// # Errors
    /// `NotFound`: such a checkpoint was never triggered. `Invalid`: the checkpoint has no such subtask, or a segment
    /// is neither new nor named. Then nothing has changed.
    pub fn acknowledge(
        &mut self,
        checkpoint: CheckpointId,
        subtask: Subtask,
        names: &[Named],
        is_new: impl Fn(&Named) -> bool,
    ) -> Result<Acknowledged> {
        if let Some(answer) = self.answer(checkpoint, subtask)? {
            return Ok(answer);
        }
        let mut found = Found::default();
        let mut is_held = |named| self.registry.holds_segment(named, &mut found);
        if let Some(dangling) = names.iter().find(|&named| !is_new(named) && !is_held(named)) {
            let Named { file, offset, length, .. } = dangling;
            let message = format!(
                "checkpoint {checkpoint}, subtask {} of operator {}: names {length} bytes at offset {offset} of {file}, \
                 which no retained checkpoint names and which wasn't written for this one",
                subtask.index, subtask.operator
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let numbers = self.reference(names, checkpoint)?;
        let page = self.page(checkpoint)?;
        page.names.extend(numbers);
        let State::Pending(pending) = &mut page.state else { return Ok(Acknowledged::Late) };
        Ok(pending.heard_of(subtask))
    }

    /// The answer to an acknowledgement that changes nothing, whatever it names; `None` where it is waited for.
    ///
    /// # Errors
    /// As for [`acknowledge`](Self::acknowledge).
    pub fn answer(&self, checkpoint: CheckpointId, subtask: Subtask) -> Result<Option<Acknowledged>> {
        match self.checkpoints.get(&checkpoint).map(|page| &page.state) {
            Some(State::Completed { .. }) => Ok(Some(Acknowledged::Late)),
            Some(State::Committing(_)) => Ok(Some(Acknowledged::Repeated)),
            Some(State::Pending(pending)) if pending.acknowledged.contains(&subtask) => {
                Ok(Some(Acknowledged::Repeated))
            }
            Some(State::Pending(pending)) if pending.waiting_for.contains(&subtask) => Ok(None),
            Some(State::Pending(_)) => Err(stranger(checkpoint, subtask)),
            None if Some(checkpoint) <= self.last => Ok(Some(Acknowledged::Late)),
            None => Err(not_under_way(checkpoint)),
        }
    }

    /// A subtask that had finished before the checkpoint: nobody waits for it.
    ///
    /// # Errors
    /// As for [`acknowledge`](Self::acknowledge).
    pub fn finished(&mut self, checkpoint: CheckpointId, subtask: Subtask) -> Result<Acknowledged> {
        self.acknowledge(checkpoint, subtask, &[], |_| false)
    }

    /// From here on the metadata may come to exist: the checkpoint can't be aborted any more.
    ///
    /// # Errors
    /// `NotFound`: it isn't under way. `Conflict`: it waits for somebody, or its commit has started, or it is
    /// completed.
    pub fn start_commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let page = self.page(checkpoint)?;
        let refuse = |why: String| Err(Error::new(ErrorKind::Conflict, format!("checkpoint {checkpoint} {why}")));
        match &mut page.state {
            State::Pending(pending) => match pending.waiting_for.iter().next() {
                Some(first) => {
                    let (count, first) = (pending.waiting_for.len(), *first);
                    refuse(format!("waits for {count} subtasks, of which one is {} of {}", first.index, first.operator))
                }
                None => {
                    page.state = State::Committing(std::mem::take(pending));
                    Ok(())
                }
            },
            State::Committing(_) => refuse("is being completed".to_owned()),
            State::Completed { .. } => refuse("is completed".to_owned()),
        }
    }

    /// How long a file is that a checkpoint names, once that is known.
    pub fn set_file_bytes(&mut self, path: &str, bytes: u64) {
        self.registry.set_bytes(path, bytes);
    }

    /// The metadata is durable: what is older goes. Of a savepoint, nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`: no commit of it is under way.
    pub fn committed(&mut self, checkpoint: CheckpointId) -> Result<Vec<Effect>> {
        let page = self.page(checkpoint)?;
        let State::Committing(pending) = &mut page.state else {
            return Err(Error::new(ErrorKind::Conflict, format!("checkpoint {checkpoint} is not being completed")));
        };
        if page.is_savepoint {
            // Nothing that it could name is the job's to delete.
            drop(self.checkpoints.remove(&checkpoint).map(|page| self.release(page.names)));
            return Ok(Vec::new());
        }
        let planned = std::mem::take(&mut pending.planned);
        page.state = State::Completed { owned: true };
        self.has_said = true;
        self.measure_flow(checkpoint, &planned);
        // What was under way when these were aborted has landed by now; not so of those aborted below.
        let is_due = |after: Option<CheckpointId>| after.is_none_or(|after| after < checkpoint);
        let due: Vec<_> = self.aborted.iter().filter(|&(_, &after)| is_due(after)).map(|(&id, _)| id).collect();
        self.aborted.retain(|_, &mut after| !is_due(after));
        self.extend_bases(checkpoint);
        let older: Vec<_> = self.pending().filter(|&id| id < checkpoint && !self.is_savepoint(id)).collect();
        let mut effects = Vec::new();
        for id in older {
            // Its own commit may be under way: then its outcome decides.
            effects.extend(self.abort(id));
        }
        effects.extend(self.release_copies(checkpoint));
        effects.extend(self.discard_surplus());
        if self.keeps_nothing() {
            effects.extend(self.discard_all());
        }
        if !due.is_empty() {
            effects.push(Effect::Clean(due));
        }
        Ok(effects)
    }

    /// The metadata is known not to exist, and never will. The checkpoint is aborted.
    pub fn commit_failed(&mut self, checkpoint: CheckpointId) -> Vec<Effect> {
        let Some(page) = self.checkpoints.get_mut(&checkpoint) else { return Vec::new() };
        let State::Committing(pending) = &mut page.state else { return Vec::new() };
        page.state = State::Pending(std::mem::take(pending));
        self.abort(checkpoint)
    }

    /// Declined, expired, or given up. Does nothing to one that has ended or whose commit has started.
    pub fn abort(&mut self, checkpoint: CheckpointId) -> Vec<Effect> {
        match self.checkpoints.get(&checkpoint).map(|page| &page.state) {
            Some(State::Pending(_)) => {}
            _ => return Vec::new(),
        }
        let Some(page) = self.checkpoints.remove(&checkpoint) else { return Vec::new() };
        let files = self.release(page.names);
        self.aborted.insert(checkpoint, self.last);
        if self.aborted.len() > ABORTED_MAX {
            self.aborted.pop_first();
        }
        let mut effects = vec![Effect::Aborted(checkpoint)];
        if !files.is_empty() {
            effects.push(Effect::Delete(files));
        }
        effects.push(Effect::Clean(vec![checkpoint]));
        effects.extend(self.discard_surplus());
        effects
    }

    /// A checkpoint that was found: by a restart in the job's own directory, or by a restore that claims it (`owned`).
    /// With its files and their lengths.
    ///
    /// # Errors
    /// `Unsupported`: more segments or bytes than there can be. `Conflict`: the job has ended. Nothing has changed.
    pub fn restored(
        &mut self,
        checkpoint: CheckpointId,
        owned: bool,
        names: &[Named],
        file_bytes: impl IntoIterator<Item = (Arc<str>, u64)>,
    ) -> Result<()> {
        self.still_runs(format_args!("checkpoint {checkpoint} can't be restored"))?;
        if self.checkpoints.contains_key(&checkpoint) {
            return Ok(());
        }
        let names = self.reference(names, checkpoint)?;
        file_bytes.into_iter().for_each(|(path, bytes)| self.registry.set_bytes(&path, bytes));
        self.checkpoints
            .insert(checkpoint, Checkpoint { state: State::Completed { owned }, is_savepoint: false, names });
        self.last = self.last.max(Some(checkpoint));
        self.has_said = false;
        Ok(())
    }

    /// Gives completed checkpoints up, whatever the retention says.
    pub fn give_up(&mut self, checkpoints: impl IntoIterator<Item = CheckpointId>) -> Vec<Effect> {
        let is_completed = |id: &CheckpointId| {
            matches!(self.checkpoints.get(id).map(|page| &page.state), Some(State::Completed { .. }))
        };
        let completed: Vec<_> = checkpoints.into_iter().filter(is_completed).collect();
        completed.into_iter().filter_map(|id| self.discard(id)).collect()
    }

    /// Numbering goes on after this one, which isn't the job's own.
    pub fn start_after(&mut self, checkpoint: CheckpointId) {
        self.last = self.last.max(Some(checkpoint));
    }

    /// Segments were copied to new places in the background, to be named by the checkpoints to come.
    ///
    /// # Errors
    /// `Unsupported`: more segments or bytes than there can be. `Conflict`: the job has ended. Nothing has changed; the
    /// copies are the caller's to delete.
    pub fn copied(&mut self, names: &[Named]) -> Result<()> {
        self.still_runs(format_args!("segments can't be copied"))?;
        let born = self.latest().unwrap_or(CheckpointId(0));
        let names = self.reference(names, born)?;
        self.flow.copied(self.registry.bytes_by_file(&names).values().sum());
        self.copies.push(Copies { names, after: self.last });
        Ok(())
    }

    /// The job is over: nothing begins any more. Pending checkpoints are aborted, and completed ones go, if the
    /// retention says so. Those whose commit is under way follow when its outcome is known.
    pub fn end(&mut self, end: JobEnd) -> Vec<Effect> {
        let pending: Vec<_> = self.pending().collect();
        self.has_said = true;
        let mut effects: Vec<Effect> = pending.into_iter().flat_map(|id| self.abort(id)).collect();
        let copies = std::mem::take(&mut self.copies);
        let dead: Vec<_> = copies.into_iter().flat_map(|copies| self.release(copies.names)).collect();
        if !dead.is_empty() {
            effects.push(Effect::Delete(dead));
        }
        self.ended = Some(end);
        if end.discards(self.settings.retention) {
            effects.extend(self.discard_all());
        }
        effects
    }

    fn still_runs(&self, what: std::fmt::Arguments<'_>) -> Result<()> {
        match self.ended {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Conflict, format!("{what}: the job has ended"))),
        }
    }

    /// Those under way may reuse from now on what this one names.
    fn extend_bases(&mut self, completed: CheckpointId) {
        for (_, page) in self.checkpoints.range_mut(completed..).filter(|(_, page)| !page.is_savepoint) {
            if let State::Pending(pending) = &mut page.state {
                pending.base.push(completed);
            }
        }
    }

    /// All or nothing.
    fn reference(&mut self, names: &[Named], checkpoint: CheckpointId) -> Result<Vec<SegmentNumber>> {
        let mut numbers = Vec::with_capacity(names.len());
        let mut found = Found::default();
        for named in names {
            match self.registry.add(named, checkpoint, &mut found) {
                Ok(number) => numbers.push(number),
                Err(error) => {
                    self.release(numbers);
                    return Err(error);
                }
            }
        }
        Ok(numbers)
    }

    /// Completed ones beyond those to be kept, the oldest first, as far as no pending one builds on them.
    /// Not before a commit or the job's end has said in public what stays: whoever takes the job over goes by that, and
    /// of what was found here nothing was said.
    fn discard_surplus(&mut self) -> Vec<Effect> {
        if !self.has_said {
            return Vec::new();
        }
        let surplus = self.completed().count().saturating_sub(self.settings.retained);
        let candidates: Vec<_> = self.completed().take(surplus).collect();
        let base: BTreeSet<CheckpointId> = self.checkpoints.values().flat_map(|page| page.base()).copied().collect();
        candidates.into_iter().filter(|id| !base.contains(id)).filter_map(|id| self.discard(id)).collect()
    }

    fn discard_all(&mut self) -> Vec<Effect> {
        let completed: Vec<_> = self.completed().collect();
        completed.into_iter().filter_map(|id| self.discard(id)).collect()
    }

    fn discard(&mut self, checkpoint: CheckpointId) -> Option<Effect> {
        let page = self.checkpoints.remove(&checkpoint)?;
        let files = self.release(page.names);
        match page.state {
            State::Completed { owned: true } => Some(Effect::Discard { checkpoint, files }),
            _ => (!files.is_empty()).then_some(Effect::Delete(files)),
        }
    }

    /// Copies made before this checkpoint was triggered: it names those that are needed.
    fn release_copies(&mut self, checkpoint: CheckpointId) -> Option<Effect> {
        let is_older = |copies: &Copies| copies.after.is_none_or(|after| after < checkpoint);
        let (released, kept) = std::mem::take(&mut self.copies).into_iter().partition(is_older);
        self.copies = kept;
        let released: Vec<Copies> = released;
        let files: Vec<_> = released.into_iter().flat_map(|copies| self.release(copies.names)).collect();
        (!files.is_empty()).then_some(Effect::Delete(files))
    }

    /// What the checkpoint wrote and what it named again, against the one before.
    fn measure_flow(&mut self, checkpoint: CheckpointId, planned: &BTreeSet<u32>) {
        let Some(page) = self.checkpoints.get(&checkpoint) else { return };
        let before = self.completed().rfind(|&id| id < checkpoint).and_then(|id| self.checkpoints.get(&id));
        match before {
            None => self.flow.first(self.registry.bytes_by_file(&page.names).values().sum()),
            Some(before) => {
                let (kept, new) = self.registry.compare(&before.names, &page.names, planned);
                self.flow.next(new.bytes, new.shared_bytes, kept);
            }
        }
    }
}

impl Pending {
    fn heard_of(&mut self, subtask: Subtask) -> Acknowledged {
        self.waiting_for.remove(&subtask);
        self.acknowledged.insert(subtask);
        match self.waiting_for.len() {
            0 => Acknowledged::Ready,
            more => Acknowledged::Waiting(more),
        }
    }
}

impl Checkpoint {
    pub(super) fn base(&self) -> &[CheckpointId] {
        match &self.state {
            State::Pending(pending) | State::Committing(pending) => &pending.base,
            State::Completed { .. } => &[],
        }
    }
}

fn stranger(checkpoint: CheckpointId, subtask: Subtask) -> Error {
    let Subtask { operator, index, parallelism } = subtask;
    let message = format!("checkpoint {checkpoint} has no subtask {index} of {parallelism} of operator {operator}");
    Error::new(ErrorKind::Invalid, message)
}
