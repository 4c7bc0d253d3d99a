//! Reads the key groups of one task, whoever wrote them and however.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Groups, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::KeyGroupsHandle;
use crate::id::{CheckpointId, KeyGroupRange};
use crate::read::{KeyedRestore, KeyedState, RestoreCounts, RestoredPiece, StreamNumber, TaskRestore};

/// A key group with state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredGroup {
    /// Which one.
    pub key_group: u32,
    /// What comes before the groups in the stream that it lies in: [`KeyGroupBackend::new`](super::KeyGroupBackend::new)
    /// was given it.
    pub head: Bytes,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A stream that is being read.
#[derive(Default)]
struct Reading {
    head: BytesMut,
    group: Option<(u32, BytesMut)>,
}

/// Hands out the task's key groups as they come, each once. They are read side by side within the memory that the
/// [`TaskRestore`] allows, and in memory beside that is one group of each stream that is under way.
///
/// Cancelled or failed, some were handed out: whoever took them starts over.
///
/// # Errors
/// As for [`TaskRestore::read`], and whatever `take` says. `Unsupported`: the task has keyed state of another kind.
pub async fn restore(task: &TaskRestore, mut take: impl FnMut(RestoredGroup) -> Result<()>) -> Result<RestoreCounts> {
    let mut streams = Vec::new();
    streams_of(&task.managed_keyed, &mut streams)?;
    let mut reading: BTreeMap<StreamNumber, Reading> = BTreeMap::new();
    let mut read = task.read_streams(&streams).await?;
    while let Some(piece) = read.next().await {
        let piece = piece?;
        let (stream, last) = (piece.stream, piece.last);
        let of = reading.entry(stream).or_default();
        of.add(piece).map_or(Ok(()), &mut take)?;
        if last {
            reading.remove(&stream).and_then(Reading::end).map_or(Ok(()), &mut take)?;
        }
    }
    Ok(read.counts())
}

/// The groups that have a segment of their own, and the checkpoint that they are of. Makes no request.
pub(super) fn groups_of(task: &TaskRestore, range: KeyGroupRange) -> Option<(CheckpointId, Groups)> {
    let mut groups = Groups::new();
    let mut newest = None;
    for restore in &task.managed_keyed {
        let KeyedState::Changelog { materialized, materialization_id, .. } = &restore.state else { continue };
        newest = newest.max(Some(*materialization_id));
        let handles = materialized.iter().filter_map(|inner| match &inner.state {
            KeyedState::KeyGroups { handle, .. } if handle.range.count == 1 => Some(handle),
            _ => None,
        });
        let known = |handle: &KeyGroupsHandle| Known { change: 0, handle: Some(handle.clone()) };
        groups.extend(handles.filter(|h| range.contains(h.range.start)).map(|h| (h.range.start, known(h))));
    }
    Some((CheckpointId(u64::try_from(newest?).ok()?), groups))
}

fn streams_of(keyed: &[KeyedRestore], streams: &mut Vec<StreamNumber>) -> Result<()> {
    for KeyedRestore { writer, state, .. } in keyed {
        match state {
            KeyedState::KeyGroups { stream, .. } => streams.extend(stream),
            KeyedState::Changelog { materialized, changes, .. } if changes.is_empty() => {
                streams_of(materialized, streams)?;
            }
            _ => {
                let message = format!("the keyed state of subtask {writer} isn't key groups alone");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
    }
    Ok(())
}

impl Reading {
    /// Takes a piece; what it returns is whole.
    fn add(&mut self, piece: RestoredPiece) -> Option<RestoredGroup> {
        let Some(key_group) = piece.key_group else {
            self.head.extend_from_slice(&piece.bytes);
            return None;
        };
        match &mut self.group {
            Some((group, bytes)) if *group == key_group => {
                bytes.extend_from_slice(&piece.bytes);
                None
            }
            _ => {
                let before = self.group.replace((key_group, BytesMut::from(&piece.bytes[..])));
                before.map(|before| self.whole(before))
            }
        }
    }

    fn end(mut self) -> Option<RestoredGroup> {
        self.group.take().map(|group| self.whole(group))
    }

    fn whole(&self, (key_group, bytes): (u32, BytesMut)) -> RestoredGroup {
        RestoredGroup { key_group, head: Bytes::copy_from_slice(&self.head), bytes: bytes.freeze() }
    }
}
