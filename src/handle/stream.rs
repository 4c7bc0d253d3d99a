//! Handles of byte streams: inline bytes, a whole file, or a segment of one.

use bytes::Bytes;

use super::JavaString;
use crate::id::{KeyGroupRange, Scope};

/// A serialisable pointer to the bytes of one chunk of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamHandle {
    /// The bytes themselves.
    Inline(InlineHandle),
    /// A whole file, by absolute path.
    File(FileHandle),
    /// A whole file, by a path relative to the directory of the `_metadata` file.
    Relative(FileHandle),
    /// A byte range of a physical file.
    Segment(SegmentHandle),
    /// A placeholder without bytes that Flink's file merging writes for an operator without state.
    EmptySegment,
    /// Key groups used as a plain stream.
    KeyGroups(Box<KeyGroupsStream>),
}

/// State inline in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineHandle {
    /// A free text that identifies the handle; Flink compares handles by it.
    pub name: JavaString,
    /// The state.
    pub bytes: Bytes,
}

/// State that is a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHandle {
    /// Where, in Flink's spelling.
    pub path: JavaString,
    /// Its length in bytes; −1 is unknown.
    pub size: i64,
}

/// State that is a byte range of a physical file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHandle {
    /// The physical file, by absolute path in Flink's spelling.
    pub path: JavaString,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// Who may name it.
    pub scope: Scope,
    /// The logical file's id: any text to Flink; a [`SegmentId`](crate::id::SegmentId) where Drystone wrote it.
    pub id: JavaString,
}

/// A stream with the offsets of key groups in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGroupsStream {
    /// The key groups.
    pub range: KeyGroupRange,
    /// Where each starts, relative to the stream; as many as the range has groups.
    pub offsets: Vec<i64>,
    /// The bytes.
    pub delegate: StreamHandle,
}

impl StreamHandle {
    /// The handle that holds the bytes: itself, or what key groups delegate to.
    pub fn innermost(&self) -> &StreamHandle {
        match self {
            StreamHandle::KeyGroups(groups) => groups.delegate.innermost(),
            other => other,
        }
    }

    /// As [`innermost`](Self::innermost), to replace it.
    pub fn innermost_mut(&mut self) -> &mut StreamHandle {
        match self {
            StreamHandle::KeyGroups(groups) => groups.delegate.innermost_mut(),
            other => other,
        }
    }

    /// How many bytes of state; `None` where the handle doesn't say.
    pub fn size(&self) -> Option<u64> {
        match self {
            StreamHandle::Inline(inline) => Some(inline.bytes.len() as u64),
            StreamHandle::File(file) | StreamHandle::Relative(file) => u64::try_from(file.size).ok(),
            StreamHandle::Segment(segment) => Some(segment.size),
            StreamHandle::EmptySegment => Some(0),
            StreamHandle::KeyGroups(groups) => groups.delegate.size(),
        }
    }
}
