//! From what the subtasks acknowledged to the metadata of a checkpoint.

use std::collections::BTreeSet;

use super::books::Draft;
use crate::config::Retention;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind};
use crate::handle::{
    ChannelHandle, CheckpointMetadata, DistributionMode, Operator, OperatorStateHandle, OperatorSubtasks, StreamHandle,
    SubtaskEntry, SubtaskState,
};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::ledger::JobEnd;
use crate::protocol::OperatorSpec;

/// The first version that has channel state of several channels in one handle.
const MERGED_CHANNELS_SINCE: u32 = 6;

pub(super) fn assemble(
    checkpoint: CheckpointId,
    operators: &[OperatorSpec],
    mut draft: Draft,
    version: u32,
    properties: &Properties,
) -> Result<CheckpointMetadata> {
    if let Some(operator) = partly_finished_with_union(operators, &draft, &BTreeSet::new()) {
        let message = format!(
            "checkpoint {checkpoint}: some subtasks of operator {operator} have finished, and others have union state, of \
             which a part would be missing"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let has_merged = draft.states.values().any(|state| has_merged_channels(state));
    let version = if has_merged { version.max(MERGED_CHANNELS_SINCE) } else { version };
    let operators = operators.iter().map(|spec| operator(spec, &mut draft)).collect();
    let properties = properties.encode();
    let master_states = draft.masters.into_values().collect();
    Ok(CheckpointMetadata { version, checkpoint_id: checkpoint, master_states, operators, properties })
}

fn operator(spec: &OperatorSpec, draft: &mut Draft) -> Operator {
    let all_finished = spec.parallelism > 0 && spec.subtasks().all(|subtask| draft.finished.contains(&subtask));
    let coordinator = draft.operators.remove(&spec.id).map(StreamHandle::Inline);
    // An operator that has finished has no place for anything else; without that mark its tasks would run again.
    let coordinator = coordinator.filter(|_| !all_finished);
    let subtasks = if all_finished {
        OperatorSubtasks::FullyFinished
    } else {
        let entries = spec.subtasks().filter_map(|subtask| {
            let state = draft.states.remove(&subtask);
            let says_something = state.is_some() || draft.finished.contains(&subtask);
            says_something.then_some(SubtaskEntry { index: subtask.index, state })
        });
        OperatorSubtasks::Reported(entries.collect())
    };
    Operator {
        name: spec.name.clone(),
        uid: spec.uid.clone(),
        id: spec.id,
        parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        coordinator,
        subtasks,
    }
}

/// What goes to every task of the next run has to be there whole; those that were at the end of their data by then
/// (`ended`) count for nothing unless all were.
pub(super) fn partly_finished_with_union(
    operators: &[OperatorSpec],
    draft: &Draft,
    ended: &BTreeSet<Subtask>,
) -> Option<OperatorId> {
    let is_union = |handle: &OperatorStateHandle| handle.states.iter().any(|s| s.mode == DistributionMode::Union);
    let has_union = |state: &SubtaskState| state.managed_operator.iter().chain(&state.raw_operator).any(is_union);
    let is_affected = |spec: &&OperatorSpec| {
        let some_finished = spec.subtasks().any(|subtask| draft.finished.contains(&subtask));
        let count = spec.subtasks().filter(|subtask| ended.contains(subtask)).count();
        let some_ended = count > 0 && count < spec.parallelism as usize;
        (some_finished || some_ended)
            && spec.subtasks().any(|subtask| draft.states.get(&subtask).is_some_and(|state| has_union(state)))
    };
    operators.iter().find(is_affected).map(|spec| spec.id)
}

fn has_merged_channels(state: &SubtaskState) -> bool {
    let mut channels = state.input_channels.iter().chain(&state.output_channels);
    channels.any(|channel| matches!(channel, ChannelHandle::Merged(_)))
}

/// When Flink, having claimed it, may discard the checkpoint.
pub(super) fn properties(retention: Retention) -> Properties {
    Properties {
        kind: PropertiesKind::Checkpoint,
        discard_cancelled: JobEnd::Cancelled.discards(retention),
        discard_failed: JobEnd::Failed.discards(retention),
        discard_finished: JobEnd::Finished.discards(retention),
        discard_subsumed: true,
        discard_suspended: JobEnd::Suspended.discards(retention),
        forced: false,
        unclaimed: false,
    }
}
