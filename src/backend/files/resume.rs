//! What a restored checkpoint has, as far as it can be named again. Makes no request.

use super::{Files, Known};
use crate::handle::{IncrementalHandle, LocalPathHandle, StreamHandle};
use crate::id::{CheckpointId, SegmentId};
use crate::read::{KeyedRestore, KeyedState, TaskRestore};

/// The shared files of all the task's handles. Where two have one of the same name, the first counts: the bytes are
/// compared before it is used.
pub(super) fn files_of(task: &TaskRestore) -> Option<(CheckpointId, Files)> {
    let handles = handles_of(&task.managed_keyed);
    let newest = handles.iter().map(|(handle, _)| handle.checkpoint_id).max()?;
    let mut files = Files::new();
    for file in handles.iter().flat_map(|(handle, _)| &handle.shared) {
        if let Some(known) = known(file) {
            files.entry(file.local_path.to_string()).or_insert(known);
        }
    }
    Some((CheckpointId(u64::try_from(newest).ok()?), files))
}

/// The handles of sets of files, wherever they are, and whose they are.
pub(super) fn handles_of(keyed: &[KeyedRestore]) -> Vec<(&IncrementalHandle, &KeyedRestore)> {
    let mut found = Vec::new();
    for restore in keyed {
        match &restore.state {
            KeyedState::Incremental { handle, .. } => found.push((handle, restore)),
            KeyedState::Changelog { materialized, .. } => found.extend(handles_of(materialized)),
            _ => {}
        }
    }
    found
}

/// The checksum of a handle's bytes, where it says it.
pub(super) fn crc32c_of(handle: &StreamHandle) -> Option<u32> {
    let id = match handle.innermost() {
        StreamHandle::Segment(segment) => &segment.id,
        StreamHandle::Inline(inline) => &inline.name,
        _ => return None,
    };
    id.to_text().parse::<SegmentId>().ok().map(|id| id.crc32c)
}

fn known(file: &LocalPathHandle) -> Option<Known> {
    let handle = file.handle.as_ref()?;
    let (bytes, crc32c) = (handle.size()?, crc32c_of(handle)?);
    Some(Known { bytes, crc32c, handle: handle.clone() })
}
