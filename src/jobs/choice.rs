//! The order of a job's checkpoints, the newest first. Pure.

use std::collections::BTreeMap;

use crate::id::CheckpointId;

/// A job's checkpoints in the order in which they are to be tried, the newest first. Each comes with the epoch of the
/// coordinator that completed it; none of those that stock Flink or a `repack` wrote.
///
/// By epoch, then by number: what a coordinator completed that had been taken over, without a fence to keep it from that,
/// is older than what its successor did, whatever its number. Those without an epoch count by their numbers alone.
///
/// ```
/// use drystone::id::CheckpointId;
/// use drystone::jobs::ranked;
/// let of = |checkpoints: &[(u64, Option<u64>)]| -> Vec<u64> {
///     ranked(checkpoints.iter().map(|&(id, epoch)| (CheckpointId(id), epoch))).map(|id| id.0).collect()
/// };
/// assert_eq!(of(&[(4, Some(1)), (5, Some(2)), (7, Some(1))]), [5, 7, 4]);
/// assert_eq!(of(&[(4, Some(1)), (6, None)]), [6, 4]);
/// ```
pub fn ranked(
    checkpoints: impl IntoIterator<Item = (CheckpointId, Option<u64>)>,
) -> impl Iterator<Item = CheckpointId> {
    let mut left: BTreeMap<CheckpointId, Option<u64>> = checkpoints.into_iter().collect();
    std::iter::from_fn(move || {
        let newest = newest(&left)?;
        left.remove(&newest);
        Some(newest)
    })
}

/// From the lowest number up: one whose epoch is older than any before it came from who had been taken over.
fn newest(left: &BTreeMap<CheckpointId, Option<u64>>) -> Option<CheckpointId> {
    let (mut newest, mut epoch_max) = (None, None);
    for (&id, &epoch) in left {
        if epoch.is_none() || epoch >= epoch_max {
            newest = Some(id);
            epoch_max = epoch_max.max(epoch);
        }
    }
    newest
}
