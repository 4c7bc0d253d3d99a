//! Which checkpoint has what: of the last completed one, and of those under way. No I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::id::CheckpointId;
use crate::sync::{Mutex, MutexGuard};
use crate::worker::Snapshot;

/// More checkpoints under way are forgotten, the oldest first: what they wrote is written again.
const PENDING_MAX: usize = 64;

/// What checkpoints have. Savepoints aren't in it: nothing of theirs is ever named again.
pub(super) struct Book<T> {
    /// Never held across an await, nor while another lock is taken.
    pages: Mutex<Pages<T>>,
}

struct Pages<T> {
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
        Self { pages: Mutex::new(Pages { base: None, pending: BTreeMap::new() }) }
    }
}

impl<T> Book<T> {
    /// What the snapshot may name again: nothing, where the news of a newer checkpoint got lost and the one known here
    /// isn't kept any more.
    pub(super) fn base(&self, snapshot: &Snapshot) -> Option<Arc<T>> {
        let base = self.pages().base.as_ref().map(|base| (base.checkpoint, base.has.clone()));
        base.filter(|(checkpoint, _)| snapshot.builds_on(*checkpoint)).map(|(_, has)| has)
    }

    /// Starts over with what a restored checkpoint has.
    pub(super) fn resume(&self, checkpoint: CheckpointId, has: T) {
        let base = Base { checkpoint, is_resumed: true, has: Arc::new(has) };
        *self.pages() = Pages { base: Some(base), pending: BTreeMap::new() };
    }

    /// A checkpoint has this if it completes. A second attempt at its number replaces the first.
    pub(super) fn wrote(&self, checkpoint: CheckpointId, has: T) {
        let mut pages = self.pages();
        pages.pending.insert(checkpoint, Arc::new(has));
        while pages.pending.len() > PENDING_MAX {
            pages.pending.pop_first();
        }
    }

    /// It is committed. What is older and under way won't be any more.
    pub(super) fn confirmed(&self, checkpoint: CheckpointId) {
        let mut pages = self.pages();
        let Some(has) = pages.pending.remove(&checkpoint) else { return };
        pages.pending = pages.pending.split_off(&checkpoint);
        if pages.base.as_ref().is_none_or(|base| base.is_resumed || base.checkpoint < checkpoint) {
            pages.base = Some(Base { checkpoint, is_resumed: false, has });
        }
    }

    /// It won't be committed.
    pub(super) fn aborted(&self, checkpoint: CheckpointId) {
        self.pages().pending.remove(&checkpoint);
    }

    /// It has been replaced by a newer one, of which nothing may have been heard here. So what it has may be gone.
    pub(super) fn subsumed(&self, checkpoint: CheckpointId) {
        let mut pages = self.pages();
        pages.pending.remove(&checkpoint);
        pages.base.take_if(|base| base.checkpoint <= checkpoint);
    }

    fn pages(&self) -> MutexGuard<'_, Pages<T>> {
        // No code between two changes that belong together can panic.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
