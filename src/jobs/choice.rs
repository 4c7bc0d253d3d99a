//! Which of several complete checkpoints is the newest. Pure.

use std::collections::BTreeMap;

use crate::id::CheckpointId;

/// The newest of a job's complete checkpoints, each with the epoch of the coordinator that completed it; none of those that
/// stock Flink or a `repack` wrote.
///
/// By epoch, then by number: what a coordinator completed that had been taken over, without a fence to keep it from that,
/// is older than what its successor did, whatever its number. Without epochs numbers alone count.
///
/// ```
/// use drystone::id::CheckpointId;
/// use drystone::jobs::newest;
/// let of = |checkpoints: &[(u64, Option<u64>)]| {
///     newest(checkpoints.iter().map(|&(id, epoch)| (CheckpointId(id), epoch))).map(|id| id.0)
/// };
/// assert_eq!(of(&[(4, Some(1)), (5, Some(2)), (7, Some(1))]), Some(5));
/// assert_eq!(of(&[(4, Some(1)), (6, None)]), Some(6));
/// assert_eq!(of(&[]), None);
/// ```
pub fn newest(complete: impl IntoIterator<Item = (CheckpointId, Option<u64>)>) -> Option<CheckpointId> {
    let complete: BTreeMap<CheckpointId, Option<u64>> = complete.into_iter().collect();
    // From the lowest number up: one whose epoch is older than any before it came from who had been taken over.
    let (mut newest, mut epoch_max) = (None, None);
    for (id, epoch) in complete {
        if epoch.is_none() || epoch >= epoch_max {
            newest = Some(id);
            epoch_max = epoch_max.max(epoch);
        }
    }
    newest
}
