//! State in the coordinator's memory: bounded, piece by piece and in all.

use super::books::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{StreamHandle, SubtaskState};
use crate::id::{CheckpointId, Subtask};

/// How much state may be in the metadata, where there are no files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes of one piece.
    pub state_bytes_max: u64,
    /// Bytes of one checkpoint. Each that is kept or under way may take as much.
    pub total_bytes_max: u64,
}

impl MemoryLimits {
    /// The bytes of a checkpoint's state with `states` beside what it has.
    ///
    /// # Errors
    /// `Invalid`: one is too long, or all are. Then nothing may have changed.
    pub(super) fn admit(
        self,
        checkpoint: CheckpointId,
        draft: Option<&Draft>,
        states: impl IntoIterator<Item = u64>,
    ) -> Result<u64> {
        let mut total = draft.map_or(0, |draft| draft.inline_bytes);
        for bytes in states {
            let refuse = |text: String| Err(Error::new(ErrorKind::Invalid, format!("checkpoint {checkpoint}: {text}")));
            if bytes > self.state_bytes_max {
                let most = self.state_bytes_max;
                return refuse(format!(
                    "a piece of state has {bytes} bytes: allowed are {most} (drystone.memory.state-max)"
                ));
            }
            total = total.saturating_add(bytes);
            if total > self.total_bytes_max {
                let most = self.total_bytes_max;
                return refuse(format!(
                    "its state has {total} bytes so far: allowed are {most} (drystone.memory.total-max)"
                ));
            }
        }
        Ok(total)
    }
}

/// The lengths of what is in a subtask's handles.
pub(super) fn inline_bytes(subtask: Subtask, state: Option<&SubtaskState>) -> Vec<u64> {
    let mut lengths = Vec::new();
    if let Some(state) = state {
        state.visit_streams(subtask, |_, handle| {
            if let StreamHandle::Inline(inline) = handle {
                lengths.push(inline.bytes.len() as u64);
            }
        });
    }
    lengths
}
