//! What a snapshot of key groups has written, and the handle that it becomes.

use super::{Groups, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{ChangelogHandle, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, StreamHandle};
use crate::id::{CheckpointId, KeyGroupRange};
use crate::protocol::SavepointFormat;
use crate::worker::Snapshot;
use crate::write::Written;

/// The key groups of a snapshot: written, and not yet durable.
#[must_use]
pub struct WrittenGroups {
    pub(super) checkpoint: CheckpointId,
    /// Nobody names its groups again.
    pub(super) savepoint: Option<SavepointFormat>,
    content: Content,
    counts: GroupCounts,
}

/// What a snapshot came to. Groups without state count nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Key groups that were named again.
    pub kept_groups: u64,
    /// Their bytes, heads not counted.
    pub kept_bytes: u64,
    /// Key groups that were written: they had changed, or no completed checkpoint has them as they have to be.
    pub new_groups: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Key groups that were written though they hadn't changed, because the worker wanted it.
    pub rewritten_groups: u64,
    /// Their bytes.
    pub rewritten_bytes: u64,
}

pub(super) enum Content {
    /// One stream, where each group starts in it, and the checksums of its parts.
    All { offsets: Vec<i64>, checksums: Vec<u32>, written: Written },
    /// Group by group.
    Each(Vec<(u32, Piece)>),
}

/// Where a key group's bytes are.
pub(super) enum Piece {
    /// In an earlier checkpoint.
    Kept(Known),
    /// With the length of the segment; none where it has no state.
    New { change: u64, written: Option<(Written, u64)> },
}

impl GroupCounts {
    pub(super) fn add(&mut self, piece: &Piece, head_bytes: u64, is_known: bool) {
        let (groups, sum, bytes) = match piece {
            Piece::Kept(Known { handle: Some(handle), .. }) => {
                (&mut self.kept_groups, &mut self.kept_bytes, handle.delegate.size().unwrap_or_default())
            }
            Piece::New { written: Some((_, bytes)), .. } if is_known => {
                (&mut self.rewritten_groups, &mut self.rewritten_bytes, *bytes)
            }
            Piece::New { written: Some((_, bytes)), .. } => (&mut self.new_groups, &mut self.new_bytes, *bytes),
            _ => return,
        };
        *groups += 1;
        *sum += bytes.saturating_sub(head_bytes);
    }
}

impl WrittenGroups {
    pub(super) fn new(snapshot: &Snapshot, content: Content, counts: GroupCounts) -> Self {
        Self { checkpoint: snapshot.checkpoint(), savepoint: snapshot.savepoint(), content, counts }
    }

    /// What was written, and what wasn't.
    pub fn counts(&self) -> GroupCounts {
        self.counts
    }

    /// The handle, and the groups that a later checkpoint may name again.
    pub(super) fn into_handle(
        self,
        name: &str,
        range: KeyGroupRange,
        head_bytes: usize,
        of: impl Fn(&Written) -> Result<Option<StreamHandle>>,
    ) -> Result<(Option<KeyedHandle>, Groups)> {
        let (checkpoint, mut groups) = (self.checkpoint, Groups::new());
        let pieces = match self.content {
            Content::All { offsets, checksums, written } => {
                let form = match self.savepoint {
                    Some(SavepointFormat::Canonical) => KeyGroupsForm::Savepoint,
                    _ => KeyGroupsForm::WithId(text(&format!("{name}-{}-{checkpoint}", range.start))?),
                };
                let handle = |delegate| KeyGroupsHandle { form, range, offsets, delegate, checksums };
                return Ok((of(&written)?.map(handle).map(KeyedHandle::KeyGroups), groups));
            }
            Content::Each(pieces) => pieces,
        };
        for (group, piece) in pieces {
            let known = match piece {
                Piece::Kept(known) => known,
                Piece::New { change, written: None } => Known { change, handle: None },
                Piece::New { change, written: Some((written, _)) } => {
                    let form = KeyGroupsForm::WithId(text(&format!("{name}-{group}-{checkpoint}"))?);
                    let (range, offsets) = (KeyGroupRange { start: group, count: 1 }, vec![head_bytes as i64]);
                    // All of it is read wherever it is needed, and checked as a whole.
                    let checksums = Vec::new();
                    let handle = |delegate| KeyGroupsHandle { form, range, offsets, delegate, checksums };
                    Known { change, handle: of(&written)?.map(handle) }
                }
            };
            groups.insert(group, known);
        }
        let materialized: Vec<_> =
            groups.values().filter_map(|k| k.handle.clone().map(KeyedHandle::KeyGroups)).collect();
        if materialized.is_empty() {
            return Ok((None, groups));
        }
        let handle = KeyedHandle::Changelog(ChangelogHandle {
            range,
            persisted_size: (self.counts.new_bytes + self.counts.rewritten_bytes) as i64,
            materialized,
            changes: Vec::new(),
            materialization_id: checkpoint.0 as i64,
            checkpoint_id: Some(checkpoint.0 as i64),
            id: text(&format!("{name}-{}-{checkpoint}", range.start))?,
        });
        Ok((Some(handle), groups))
    }
}

/// A text for the metadata.
fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("{text:?}: {e}")))
}
