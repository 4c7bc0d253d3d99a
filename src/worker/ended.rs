//! What a worker remembers of checkpoints that have ended. Pure.

use std::collections::BTreeMap;

use crate::id::CheckpointId;

/// More are forgotten, the oldest first.
const REMEMBERED_MAX: usize = 64;

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Aborted,
    Subsumed,
}

/// The checkpoints that have ended, as far back as is remembered.
#[derive(Debug, Default)]
pub(super) struct Ended {
    known: BTreeMap<CheckpointId, Known>,
    /// All up to here have ended, or are too old to begin.
    forgotten: Option<CheckpointId>,
}

#[derive(Debug)]
struct Known {
    end: End,
    /// Whose it was; `None` if nobody said.
    epoch: Option<u64>,
    /// As far as it has begun here.
    is_savepoint: bool,
}

impl End {
    /// Says it of a checkpoint.
    pub(super) fn of(self, checkpoint: CheckpointId) -> String {
        match self {
            End::Completed => format!("checkpoint {checkpoint} has completed"),
            End::Aborted => format!("checkpoint {checkpoint} was aborted"),
            End::Subsumed => format!("checkpoint {checkpoint} was subsumed"),
        }
    }

    /// Whose checkpoint it is of which the coordinator of this epoch says so. One that completes or aborts is its own; what
    /// it replaces may be an earlier one's, unless it has begun here.
    pub(super) fn attempt(self, epoch: u64, has_begun: bool) -> Option<u64> {
        (has_begun || self != End::Subsumed).then_some(epoch)
    }
}

impl Ended {
    /// Notes an end. The first counts, but for a completed checkpoint that is subsumed, and one that a newer epoch has
    /// written anew.
    pub(super) fn record(&mut self, checkpoint: CheckpointId, end: End, epoch: Option<u64>, is_savepoint: bool) {
        let is_news = match self.known.get(&checkpoint) {
            None => true,
            Some(Known { epoch: Some(known), .. }) if epoch.is_some_and(|epoch| epoch > *known) => true,
            Some(Known { end: known, .. }) => (*known, end) == (End::Completed, End::Subsumed),
        };
        if !is_news {
            return;
        }
        let epoch = epoch.or_else(|| self.known.get(&checkpoint)?.epoch);
        self.known.insert(checkpoint, Known { end, epoch, is_savepoint });
        while self.known.len() > REMEMBERED_MAX
            && let Some((oldest, _)) = self.known.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(oldest));
        }
    }

    /// Is it known to be a savepoint, which has ended?
    pub(super) fn is_savepoint(&self, checkpoint: CheckpointId) -> bool {
        self.known.get(&checkpoint).is_some_and(|known| known.is_savepoint)
    }

    /// A newer coordinator may start from an older checkpoint than its predecessor had reached. What ended before it was
    /// of the epoch `before`, if there was one.
    pub(super) fn enter_epoch(&mut self, before: Option<u64>) {
        self.forgotten = None;
        self.known.values_mut().for_each(|known| known.epoch = known.epoch.or(before));
    }

    /// Why the checkpoint can't begin, if it can't.
    pub(super) fn refuses(&self, checkpoint: CheckpointId, epoch: u64) -> Option<String> {
        match self.known.get(&checkpoint) {
            Some(known) if known.epoch.is_none_or(|known| known >= epoch) => Some(known.end.of(checkpoint)),
            None if Some(checkpoint) <= self.forgotten => {
                Some(format!("checkpoint {checkpoint} is older than all whose end is remembered"))
            }
            _ => None,
        }
    }

    /// How it ended.
    pub(super) fn end(&self, checkpoint: CheckpointId) -> Option<End> {
        self.known.get(&checkpoint).map(|known| known.end)
    }

    /// Is a file that this attempt wrote for the checkpoint known not to belong to a committed one?
    pub(super) fn is_uncommitted(&self, attempt: u64, checkpoint: CheckpointId) -> bool {
        let Some(known) = self.known.get(&checkpoint) else { return false };
        // Of two attempts at one checkpoint at most the newer was committed.
        known.end == End::Aborted && known.epoch.is_none_or(|epoch| attempt <= epoch)
            || known.epoch.is_some_and(|epoch| attempt < epoch)
    }
}
