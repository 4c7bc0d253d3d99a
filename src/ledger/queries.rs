//! Questions about the books: nothing here changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Checkpoint, Ledger, SpaceUsage, State};
use crate::id::CheckpointId;

impl Ledger {
    /// The figures of what retained and pending checkpoints name; files not owned don't count (I7).
    pub fn usage(&self) -> SpaceUsage {
        self.registry.usage()
    }

    /// The same, counted again from the checkpoints' pages: for audits (I5).
    pub fn recount(&self) -> SpaceUsage {
        let pages = self.checkpoints.values().map(|page| &page.names);
        self.registry.recount(pages.chain(self.copies.iter().map(|copies| &copies.names)).flatten().copied())
    }

    /// The newest completed checkpoint.
    pub fn latest(&self) -> Option<CheckpointId> {
        self.completed().next_back()
    }

    /// The completed checkpoints that are kept, in order.
    pub fn completed(&self) -> impl DoubleEndedIterator<Item = CheckpointId> + '_ {
        let completed = self.checkpoints.iter().filter(|(_, c)| matches!(c.state, State::Completed { .. }));
        completed.map(|(&id, _)| id)
    }

    /// The checkpoints under way, in order, savepoints among them.
    pub fn pending(&self) -> impl DoubleEndedIterator<Item = CheckpointId> + '_ {
        let pending = self.checkpoints.iter().filter(|(_, c)| !matches!(c.state, State::Completed { .. }));
        pending.map(|(&id, _)| id)
    }

    /// The checkpoints whose metadata may come to exist in the job's directory, in order; no savepoints.
    pub fn committing(&self) -> impl Iterator<Item = CheckpointId> + '_ {
        let committing = |page: &Checkpoint| matches!(page.state, State::Committing(_)) && !page.is_savepoint;
        let committing = self.checkpoints.iter().filter(move |(_, page)| committing(page));
        committing.map(|(&id, _)| id)
    }

    /// The completed checkpoints that stay until this one has ended: the newest at its trigger, newest first, then those
    /// that have completed since. None if it isn't under way.
    pub fn base_of(&self, checkpoint: CheckpointId) -> &[CheckpointId] {
        self.checkpoints.get(&checkpoint).map_or(&[], Checkpoint::base)
    }

    /// Is a savepoint of this number under way?
    pub fn is_savepoint(&self, checkpoint: CheckpointId) -> bool {
        self.checkpoints.get(&checkpoint).is_some_and(|page| page.is_savepoint)
    }

    /// Is it under way, or was it aborted and are its files yet to be looked for once more?
    pub fn is_looked_after(&self, checkpoint: CheckpointId) -> bool {
        self.aborted.contains_key(&checkpoint) || self.pending().any(|id| id == checkpoint)
    }

    /// Does some retained or pending checkpoint name a segment in this file?
    pub fn names_file(&self, path: &str) -> bool {
        self.registry.holds(path)
    }

    /// Bytes of the file by the books; `None` if nothing names it.
    pub fn file_bytes(&self, path: &str) -> Option<u64> {
        self.registry.bytes_of(path)
    }

    /// The number after the last one that was triggered or found; 1 to begin with.
    pub fn next_checkpoint(&self) -> CheckpointId {
        CheckpointId(self.last.map_or(1, |last| last.0.saturating_add(1)))
    }

    /// Does some retained or pending checkpoint, or a set of copies, name this segment?
    pub fn names_segment(&self, path: &str, offset: u64, length: u64) -> bool {
        self.registry.holds_range(path, offset, length)
    }

    /// Of how many completed checkpoints the newest stay; at least 1.
    pub fn retained(&self) -> usize {
        self.settings.retained
    }

    /// Has the job ended in a way that keeps no checkpoint?
    pub fn keeps_nothing(&self) -> bool {
        self.ended.is_some_and(|end| end.discards(self.settings.retention))
    }

    /// Is the file's length known? Then it has been looked for, and is there as long as something names it.
    pub fn is_measured(&self, path: &str) -> bool {
        self.registry.is_measured(path)
    }

    /// The files that a checkpoint names, with their lengths.
    pub fn files_of(&self, checkpoint: CheckpointId) -> BTreeMap<Arc<str>, u64> {
        let Some(page) = self.checkpoints.get(&checkpoint) else { return BTreeMap::new() };
        self.registry.files_of(&page.names)
    }
}
