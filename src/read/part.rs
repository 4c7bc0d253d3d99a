//! Which parts of a stream a task needs.
//!
//! Pure. Offsets within a stream say where things start and never where they end: each ends where the next starts.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::id::KeyGroupRange;

/// How much of a stream a task needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// All of it.
    All,
    /// What comes after that many bytes.
    From(u64),
    /// Some of its key groups, and the head before them all.
    KeyGroups(KeyGroupOffsets),
}

/// Where the key groups of a stream start, and which are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGroupOffsets {
    /// The key groups that the stream has.
    pub range: KeyGroupRange,
    /// Where each starts; as many as `range` has groups.
    pub offsets: Vec<i64>,
    /// The smallest offset of a key group with state. What is smaller says that there is none: Flink's own backends
    /// write 0 for that, since their streams have a head; for raw state it is -1.
    pub offset_min: i64,
    /// The key groups that are needed.
    pub wanted: KeyGroupRange,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPart {
    /// The key group that it is; `None` for the head, and for streams without key groups.
    pub key_group: Option<u32>,
    /// Its bytes, relative to the stream; never empty.
    pub range: Range<u64>,
}

impl Take {
    /// The parts that are needed of a stream of `length` bytes, in order.
    ///
    /// # Errors
    /// `Damaged`: something starts beyond the stream's end.
    pub fn parts(&self, length: u64) -> Result<Vec<StreamPart>> {
        let from = match self {
            Take::All => 0,
            Take::From(from) => within(*from as i64, length, "the first change").map(|_| *from)?,
            Take::KeyGroups(groups) => return groups.parts(length),
        };
        let all = StreamPart { key_group: None, range: from..length };
        Ok(if from < length { vec![all] } else { Vec::new() })
    }
}

impl KeyGroupOffsets {
    fn parts(&self, length: u64) -> Result<Vec<StreamPart>> {
        if self.offsets.len() != self.range.count as usize {
            let message = format!("{} offsets for the key groups {}", self.offsets.len(), self.range);
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        let mut starts = Vec::new();
        for (key_group, &offset) in (self.range.start..).zip(&self.offsets) {
            if offset >= self.offset_min {
                starts.push((within(offset, length, format_args!("key group {key_group}"))?, key_group));
            }
        }
        // Flink writes them in this order already. Of several at one offset only the last has bytes.
        starts.sort_unstable();
        let head = starts.first().map_or(length, |&(start, _)| start);
        let mut parts = vec![StreamPart { key_group: None, range: 0..head }];
        for (number, &(start, key_group)) in starts.iter().enumerate() {
            let end = starts.get(number + 1).map_or(length, |&(next, _)| next);
            if self.wanted.contains(key_group) {
                parts.push(StreamPart { key_group: Some(key_group), range: start..end });
            }
        }
        parts.retain(|part| !part.range.is_empty());
        Ok(parts)
    }
}

/// Checks an offset within a stream.
fn within(offset: i64, length: u64, what: impl std::fmt::Display) -> Result<u64> {
    match u64::try_from(offset) {
        Ok(offset) if offset <= length => Ok(offset),
        _ => {
            let message = format!("{what} starts at byte {offset} of a stream of {length} bytes");
            Err(Error::new(ErrorKind::Damaged, message))
        }
    }
}

/// The neighbouring parts together, as few ranges as there can be.
pub(super) fn runs(parts: &[StreamPart]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match runs.last_mut() {
            Some(run) if run.end == part.range.start => run.end = part.range.end,
            _ => runs.push(part.range.clone()),
        }
    }
    runs
}

/// Where something starts, and where the next of a list of starts is; `None` for the last of them.
///
/// Of several that start together, all but the one that was listed last are empty.
pub(super) fn ends(starts: &[u64]) -> Vec<Option<u64>> {
    let mut order: Vec<usize> = (0..starts.len()).collect();
    order.sort_by_key(|&i| (starts[i], i));
    let mut ends = vec![None; starts.len()];
    for pair in order.windows(2) {
        ends[pair[0]] = Some(starts[pair[1]]);
    }
    ends
}
