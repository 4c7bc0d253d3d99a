//! How bytes flow from checkpoint to checkpoint: what is expected of the next one, and what folding may cost.

use super::plan::{Outlook, SpacePolicy};
use crate::id::CheckpointId;

/// How bytes have flowed so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// The share of shared bytes that is needed again.
    survival: f64,
    written_bytes: u64,
    rewritten_bytes: u64,
}

/// What one checkpoint did with the shared bytes of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Those that it could have named again,
    pub(super) free_bytes: u64,
    /// and those of them that it did.
    pub(super) kept_bytes: u64,
    /// Those in files that it was asked to leave,
    pub(super) planned_bytes: u64,
    /// and those of them that it named all the same.
    pub(super) stayed_bytes: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self { survival: 1.0, written_bytes: 0, rewritten_bytes: 0 }
    }
}

impl Flow {
    /// A checkpoint has written so many bytes, and no other came before it.
    pub(super) fn first(&mut self, bytes: u64) {
        self.written_bytes = self.written_bytes.saturating_add(bytes);
    }

    /// A checkpoint has written so many bytes, `shared_bytes` of them shared, beside what it kept.
    pub(super) fn next(&mut self, bytes: u64, shared_bytes: u64, kept: Kept) {
        // What was written again says nothing of whether it was needed; what was free to stay does. The less there was
        // of it, the less it says.
        let all = kept.free_bytes + kept.planned_bytes;
        if kept.free_bytes > 0 {
            let (sample, weight) = (share(kept.kept_bytes, kept.free_bytes), share(kept.free_bytes, all));
            self.survival += weight * (sample - self.survival);
        }
        let left_bytes = kept.planned_bytes - kept.stayed_bytes;
        let rewritten = ((left_bytes as f64 * self.survival) as u64).min(shared_bytes);
        self.copied(rewritten);
        self.first(bytes - rewritten);
    }

    /// So many bytes were written again.
    pub(super) fn copied(&mut self, bytes: u64) {
        self.rewritten_bytes = self.rewritten_bytes.saturating_add(bytes);
    }

    pub(super) fn outlook(&self, latest: CheckpointId, policy: &SpacePolicy) -> Outlook {
        let credit = policy.fold_ratio_max * self.written_bytes as f64;
        let fold_bytes_max = (credit as u64).saturating_sub(self.rewritten_bytes);
        Outlook { latest, survival: self.survival, fold_bytes_max }
    }
}

fn share(of: u64, all: u64) -> f64 {
    of as f64 / all as f64
}
