//! Which parts of a stream a task needs.
//!
//! Pure. Offsets within a stream say where things start and never where they end: each ends where the next starts.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::combined;
use crate::handle::{CHECKSUMMED_BYTES_MIN, KeyGroupsHandle, Part, StreamHandle};
use crate::id::{KeyGroupRange, SegmentId};

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
    /// CRC-32C of the head and of each group, in the order of the stream and those without bytes left out; empty where
    /// there are none.
    pub checksums: Vec<u32>,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPart {
    /// The key group that it is; `None` for the head, and for streams without key groups.
    pub key_group: Option<u32>,
    /// Its bytes, relative to the stream; never empty.
    pub range: Range<u64>,
    /// Its own CRC-32C, where it has one.
    pub crc32c: Option<u32>,
}

/// What is needed of a stream.
pub(super) struct Parts {
    /// In order.
    pub(super) needed: Vec<StreamPart>,
    /// Has each a checksum of its own?
    pub(super) has_checksums: bool,
    /// Is the stream in parts so short that it is better read whole?
    pub(super) are_short: bool,
}

impl Take {
    /// The parts that are needed of a stream of `length` bytes, in order.
    ///
    /// # Errors
    /// `Damaged`: something starts beyond the stream's end.
    pub fn parts(&self, length: u64) -> Result<Vec<StreamPart>> {
        self.parts_of(length, None).map(|parts| parts.needed)
    }

    /// As [`parts`](Self::parts), of a stream whose checksum may be known. Those of its parts have to add up to it: nothing
    /// that is as it was written may be taken for damaged because whoever wrote it has marked other places.
    pub(super) fn parts_of(&self, length: u64, crc32c: Option<u32>) -> Result<Parts> {
        let from = match self {
            Take::All => 0,
            Take::From(from) => within(*from as i64, length, "the first change").map(|_| *from)?,
            Take::KeyGroups(groups) => return groups.parts(length, crc32c),
        };
        let all = StreamPart { key_group: None, range: from..length, crc32c: None };
        let needed = if from < length { vec![all] } else { Vec::new() };
        Ok(Parts { needed, has_checksums: false, are_short: false })
    }
}

impl KeyGroupOffsets {
    pub(super) fn of(handle: &KeyGroupsHandle, part: Part, wanted: KeyGroupRange) -> Self {
        let offset_min = if part == Part::RawKeyed { 0 } else { 1 };
        let (offsets, checksums) = (handle.offsets.clone(), handle.checksums.clone());
        Self { range: handle.range, offsets, offset_min, wanted, checksums }
    }

    fn parts(&self, length: u64, crc32c: Option<u32>) -> Result<Parts> {
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
        let mut parts = vec![StreamPart { key_group: None, range: 0..head, crc32c: None }];
        for (number, &(start, key_group)) in starts.iter().enumerate() {
            let end = starts.get(number + 1).map_or(length, |&(next, _)| next);
            parts.push(StreamPart { key_group: Some(key_group), range: start..end, crc32c: None });
        }
        parts.retain(|part| !part.range.is_empty());
        let has_checksums = self.fit(&parts, crc32c);
        if has_checksums {
            parts.iter_mut().zip(&self.checksums).for_each(|(part, &crc32c)| part.crc32c = Some(crc32c));
        }
        let are_short = length / (parts.len() as u64).max(1) < CHECKSUMMED_BYTES_MIN;
        parts.retain(|part| part.key_group.is_none_or(|group| self.wanted.contains(group)));
        Ok(Parts { needed: parts, has_checksums, are_short })
    }

    /// Are the checksums those of these parts, which are all that the stream has?
    fn fit(&self, parts: &[StreamPart], crc32c: Option<u32>) -> bool {
        let length = |part: &StreamPart| part.range.end - part.range.start;
        let sum = || parts.iter().zip(&self.checksums).fold(0, |sum, (part, &crc)| combined(sum, crc, length(part)));
        !parts.is_empty() && parts.len() == self.checksums.len() && crc32c.is_none_or(|crc32c| crc32c == sum())
    }
}

/// Are a handle's checksums those of its key groups, as far as the metadata can tell? True where it has none.
pub(crate) fn checksums_fit(handle: &KeyGroupsHandle, part: Part) -> bool {
    let id = match handle.delegate.innermost() {
        StreamHandle::Segment(segment) => segment.id.to_text().parse::<SegmentId>().ok(),
        _ => None,
    };
    let groups = KeyGroupOffsets::of(handle, part, KeyGroupRange::EMPTY);
    let fit = |length| groups.parts(length, id.map(|id| id.crc32c)).is_ok_and(|parts| parts.has_checksums);
    handle.checksums.is_empty() || handle.delegate.size().is_some_and(fit)
}

/// Checks an offset within a stream.
pub(super) fn within(offset: i64, length: u64, what: impl std::fmt::Display) -> Result<u64> {
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
