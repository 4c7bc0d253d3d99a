//! Puts new handles into a checkpoint's metadata.

use crate::error::{Error, ErrorKind, Result};
use crate::handle::{CheckpointMetadata, OperatorStateHandle, OperatorSubtasks, StreamHandle};

/// Replaces every stream handle, in the order of the walk. `None` keeps a handle.
pub(super) fn replace_streams(metadata: &mut CheckpointMetadata, handles: Vec<Option<StreamHandle>>) -> Result<()> {
    let mut handles = handles.into_iter();
    let mut missing = 0_usize;
    metadata.visit_streams_mut(|_, handle| match handles.next() {
        Some(Some(new)) => *handle = new,
        Some(None) => {}
        None => missing += 1,
    });
    match (missing, handles.len()) {
        (0, 0) => Ok(()),
        (missing, left) => {
            let message = format!("{missing} streams have no new handle, {left} new handles have no stream");
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Turns operator state in the form of Flink's file merging into the plain form.
///
/// The merging form names two directories, and a Flink that claims the checkpoint deletes both with all they hold:
/// in a copy they would be the source's. Its placeholder for "no state" has no other use, and goes.
pub(super) fn forget_merging_directories(metadata: &mut CheckpointMetadata) {
    for_each_operator_state(metadata, |slot| {
        if slot.as_ref().is_some_and(|o| o.directories.is_some() && o.delegate == StreamHandle::EmptySegment) {
            *slot = None;
        }
        if let Some(operator) = slot {
            operator.directories = None;
        }
    });
}

/// Calls `visit` with every subtask's managed and raw operator state.
pub(super) fn for_each_operator_state(
    metadata: &mut CheckpointMetadata,
    mut visit: impl FnMut(&mut Option<OperatorStateHandle>),
) {
    for operator in &mut metadata.operators {
        let OperatorSubtasks::Reported(subtasks) = &mut operator.subtasks else { continue };
        for state in subtasks.iter_mut().filter_map(|entry| entry.state.as_mut()) {
            visit(&mut state.managed_operator);
            visit(&mut state.raw_operator);
        }
    }
}
