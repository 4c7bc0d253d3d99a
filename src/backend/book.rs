//! Which checkpoint has what: of the last completed one, and of those under way. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::CheckpointId;

/// More checkpoints under way are forgotten, the oldest first: what they wrote is written again.
const PENDING_MAX: usize = 64;

/// What checkpoints have.
pub(super) struct Book<T> {
    /// The newest that is known to have completed. Only of that one it is sure that all is still there.
    base: Option<Base<T>>,
    pending: BTreeMap<CheckpointId, Arc<T>>,
}

struct Base<T> {
    checkpoint: CheckpointId,
    /// It was restored: perhaps another job's, whose numbers say nothing of those to come.
    is_resumed: bool,
    has: Arc<T>,
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self { base: None, pending: BTreeMap::new() }
    }
}

impl<T> Book<T> {
    /// What may be named again.
    pub(super) fn base(&self) -> Option<Arc<T>> {
        self.base.as_ref().map(|base| base.has.clone())
    }

    /// Starts over with what a restored checkpoint has.
    pub(super) fn resume(&mut self, checkpoint: CheckpointId, has: T) {
        let base = Base { checkpoint, is_resumed: true, has: Arc::new(has) };
        *self = Self { base: Some(base), pending: BTreeMap::new() };
    }

    /// A checkpoint has this if it completes. A second attempt at its number replaces the first.
    pub(super) fn wrote(&mut self, checkpoint: CheckpointId, has: T) {
        self.pending.insert(checkpoint, Arc::new(has));
        while self.pending.len() > PENDING_MAX {
            self.pending.pop_first();
        }
    }

    /// It is committed. What is older and under way won't be any more.
    pub(super) fn confirmed(&mut self, checkpoint: CheckpointId) {
        let Some(has) = self.pending.remove(&checkpoint) else { return };
        self.pending = self.pending.split_off(&checkpoint);
        if self.base.as_ref().is_none_or(|base| base.is_resumed || base.checkpoint < checkpoint) {
            self.base = Some(Base { checkpoint, is_resumed: false, has });
        }
    }

    /// It won't be committed.
    pub(super) fn aborted(&mut self, checkpoint: CheckpointId) {
        self.pending.remove(&checkpoint);
    }

    /// It has been replaced by a newer one, of which nothing may have been heard here. So what it has may be gone.
    pub(super) fn subsumed(&mut self, checkpoint: CheckpointId) {
        self.pending.remove(&checkpoint);
        self.base.take_if(|base| base.checkpoint <= checkpoint);
    }
}
