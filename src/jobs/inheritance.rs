//! What a coordinator takes over from the one before, by the last entry of the fence log. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{LogEntry, Step};
use crate::id::{CheckpointId, FileToken};

/// What a completed checkpoint is to its job, as the newest coordinator has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A coordinator that takes the job over goes on with it.
    Kept,
    /// Newer ones have replaced it: it may be deleted at any time.
    Replaced,
    /// It was never completed, or is over: nobody goes by it.
    GivenUp,
}

/// What the coordinator before may have done, and may do yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inheritance {
    /// Checkpoints that it may have completed.
    pub(crate) open: BTreeSet<CheckpointId>,
    /// Checkpoints that it had completed; `None`: all that are there.
    kept: Option<BTreeSet<CheckpointId>>,
    /// It may delete what is older than so many of these.
    retained: u32,
    /// The first number that no checkpoint of the job had.
    next: CheckpointId,
}

impl Inheritance {
    pub(crate) fn of(last: Option<&LogEntry>) -> Self {
        match last {
            None => Self { open: BTreeSet::new(), kept: None, retained: u32::MAX, next: CheckpointId(1) },
            Some(LogEntry { open, kept, retained, next, .. }) => Self {
                open: open.iter().copied().collect(),
                kept: kept.as_ref().map(|kept| kept.iter().copied().collect()),
                retained: *retained,
                next: *next,
            },
        }
    }

    /// The entry that begins the next epoch. Who claims the job after that has the same to take over.
    pub(crate) fn claim(&self, epoch: u64, coordinator: FileToken) -> LogEntry {
        let (open, retained, next) = (self.open.iter().copied().collect(), self.retained, self.next);
        let kept = self.kept.as_ref().map(|kept| kept.iter().copied().collect());
        LogEntry { epoch, coordinator, step: Step::Claim, open, kept, retained, next }
    }

    /// Of the checkpoints that are there, those that the one before can't delete: the newest of what it had completed or
    /// has completed since, and any that it never knew.
    pub(crate) fn adopted(&self, there: &BTreeSet<CheckpointId>) -> BTreeSet<CheckpointId> {
        let Some(kept) = &self.kept else { return there.clone() };
        let landed = self.open.intersection(there);
        let candidates: BTreeSet<CheckpointId> = kept.iter().chain(landed).copied().collect();
        let newest = candidates.iter().rev().take(self.retained as usize);
        let newest = newest.filter(|id| there.contains(id)).copied();
        let unknown = there.iter().copied().filter(|&id| Some(id) > self.last());
        newest.chain(unknown).collect()
    }

    /// Has the job ended, and keeps nothing?
    pub(crate) fn has_ended(&self) -> bool {
        self.kept.is_some() && self.retained == 0
    }

    /// What each of the checkpoints that are there is to the job.
    pub(crate) fn standings(&self, there: &BTreeSet<CheckpointId>) -> BTreeMap<CheckpointId, Standing> {
        let adopted = self.adopted(there);
        let is_replaced = |id: &CheckpointId| {
            !self.has_ended() && (self.open.contains(id) || self.kept.as_ref().is_some_and(|kept| kept.contains(id)))
        };
        let standing = |id: &CheckpointId| match adopted.contains(id) {
            true => Standing::Kept,
            false if is_replaced(id) => Standing::Replaced,
            false => Standing::GivenUp,
        };
        there.iter().map(|id| (*id, standing(id))).collect()
    }

    /// The highest number that may be taken. A checkpoint of a lower one may be gone, and its metadata may come back: a put
    /// that was repeated can land after the delete.
    pub(crate) fn last(&self) -> Option<CheckpointId> {
        let before_next = self.next.0.checked_sub(1).filter(|&last| last > 0).map(CheckpointId);
        self.open.iter().chain(self.kept.iter().flatten()).chain(&before_next).max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<CheckpointId> {
        numbers.into_iter().map(CheckpointId).collect()
    }

    #[test]
    fn the_newest_of_what_was_completed_live_on() {
        let of = |kept: &[u64], open: &[u64], retained, there: &[u64]| {
            let kept = Some(ids(kept.iter().copied()));
            let inheritance = Inheritance { open: ids(open.iter().copied()), kept, retained, next: CheckpointId(8) };
            inheritance.adopted(&ids(there.iter().copied()))
        };
        assert_eq!(of(&[3], &[4], 1, &[3]), ids([3]), "4 was never completed");
        assert_eq!(of(&[3], &[4], 1, &[3, 4]), ids([4]), "3 may be deleted at any time");
        assert_eq!(of(&[3], &[4], 1, &[4]), ids([4]));
        assert_eq!(of(&[2, 3], &[4], 2, &[2, 3, 4]), ids([3, 4]));
        assert_eq!(of(&[3, 10], &[11], 2, &[3, 11]), ids([11]), "10 lies elsewhere, and counts");
        assert_eq!(of(&[3], &[4, 5], 1, &[3, 4]), ids([4]));
        assert_eq!(of(&[3, 5], &[], 2, &[3, 4, 5]), ids([3, 5]), "4 came late, after it was given up");
        assert_eq!(of(&[3], &[], 0, &[3]), ids([]), "the job has ended, and keeps nothing");
        assert_eq!(of(&[], &[], 0, &[3]), ids([]), "3 was deleted, and came back");
        assert_eq!(of(&[3], &[4], 1, &[3, 4, 9]), ids([4, 9]), "9 is somebody else's");
    }

    #[test]
    fn each_has_a_standing() {
        let of = |retained, there: &[u64]| {
            let (kept, open) = (Some(ids([3, 4])), ids([5, 6]));
            let inheritance = Inheritance { open, kept, retained, next: CheckpointId(8) };
            inheritance
                .standings(&ids(there.iter().copied()))
                .into_iter()
                .map(|(id, is)| (id.0, is))
                .collect::<Vec<_>>()
        };
        use Standing::{GivenUp, Kept, Replaced};
        let expected = [(2, GivenUp), (3, Replaced), (4, Kept), (5, Kept), (7, GivenUp), (9, Kept)];
        assert_eq!(of(2, &[2, 3, 4, 5, 7, 9]), expected);
        assert_eq!(of(0, &[3, 5]), [(3, GivenUp), (5, GivenUp)]);
    }

    #[test]
    fn where_nothing_is_said_all_lives_on() {
        let nothing = Inheritance::of(None);
        assert_eq!(nothing.adopted(&ids([1, 2, 3])), ids([1, 2, 3]));
        assert_eq!(nothing.last(), None);
    }

    #[test]
    fn a_claim_hands_on_what_it_found() {
        let before = Inheritance { open: ids([4]), kept: Some(ids([3])), retained: 1, next: CheckpointId(7) };
        let claim = before.claim(7, FileToken(9));
        assert_eq!((claim.epoch, claim.step), (7, Step::Claim));
        assert_eq!(Inheritance::of(Some(&claim)), before);
        assert_eq!(before.last(), Some(CheckpointId(6)));
    }
}
