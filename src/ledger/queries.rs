//! Questions about the books that change nothing, and where numbering goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ledger;
use crate::id::CheckpointId;

impl Ledger {
    /// The number after the last one that was triggered or found; 1 to begin with.
    pub fn next_checkpoint(&self) -> CheckpointId {
        CheckpointId(self.last.map_or(1, |last| last.0.saturating_add(1)))
    }

    /// Does some retained or pending checkpoint, or a set of copies, name this segment?
    pub fn names_segment(&self, path: &str, offset: u64, length: u64) -> bool {
        self.registry.holds_range(path, offset, length)
    }

    /// Numbering goes on after this one, which isn't the job's own.
    pub fn start_after(&mut self, checkpoint: CheckpointId) {
        self.last = self.last.max(Some(checkpoint));
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
