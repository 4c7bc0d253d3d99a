//! Identities: of jobs, operators, subtasks, checkpoints and segments.
//!
//! Newtypes only, with their textual forms. Nothing here does I/O.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A job's id: 16 bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 16]);

/// An operator's (or job vertex's) id: 16 bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(pub [u8; 16]);

/// The number of a checkpoint within its job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

/// One parallel instance of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtask {
    /// The operator it is an instance of.
    pub operator: OperatorId,
    /// Its index, from 0.
    pub index: u32,
    /// How many instances the operator has.
    pub parallelism: u32,
}

/// Who may name a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One checkpoint only.
    Exclusive,
    /// Later checkpoints, too.
    Shared,
}

/// Key groups `start .. start + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyGroupRange {
    /// The first key group.
    pub start: u32,
    /// How many there are; 0 is an empty range.
    pub count: u32,
}

impl KeyGroupRange {
    /// No key group.
    pub const EMPTY: Self = Self { start: 0, count: 0 };

    /// The key groups of one subtask, as Flink assigns them: neighbours, and as even as whole numbers can be.
    ///
    /// `None` where there is no such subtask: `index` isn't below `parallelism`, or that is more than `max_parallelism`,
    /// the number of all key groups.
    ///
    /// ```
    /// use drystone::id::KeyGroupRange;
    /// assert_eq!(KeyGroupRange::of_subtask(1, 3, 128), Some(KeyGroupRange { start: 43, count: 43 }));
    /// assert_eq!(KeyGroupRange::of_subtask(3, 3, 128), None);
    /// ```
    pub fn of_subtask(index: u32, parallelism: u32, max_parallelism: u32) -> Option<Self> {
        if index >= parallelism || parallelism > max_parallelism {
            return None;
        }
        // Rounded up: a key group that two shares meet in belongs to the first of them.
        let share = |index: u64| (index * u64::from(max_parallelism)).div_ceil(u64::from(parallelism)) as u32;
        let (start, end) = (share(u64::from(index)), share(u64::from(index) + 1));
        Some(Self { start, count: end - start })
    }

    /// The key group after the last.
    pub fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    /// No key group at all?
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Is the key group one of them?
    pub fn contains(self, key_group: u32) -> bool {
        (u64::from(self.start)..self.end()).contains(&u64::from(key_group))
    }

    /// The key groups of both; [`EMPTY`](Self::EMPTY) where there are none.
    pub fn intersection(self, other: Self) -> Self {
        let (start, end) = (self.start.max(other.start), self.end().min(other.end()));
        match end.checked_sub(u64::from(start)) {
            // No longer than either of them, so it fits.
            Some(count @ 1..) => Self { start, count: count as u32 },
            _ => Self::EMPTY,
        }
    }
}

/// What makes a physical file's name unguessable, and its segments' ids unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileToken(pub u64);

/// The id that Drystone gives a segment: which file, which place in it, and the checksum of its bytes.
///
/// To Flink it is a free string in the handle (the logical file id, or an inline handle's name), so the checksum
/// travels with the handle and every byte can be checked on restore.
///
/// ```
/// use drystone::id::{FileToken, SegmentId};
/// let id = SegmentId { file: FileToken(7), ordinal: 2, crc32c: 0xe306_9283 };
/// assert_eq!(id.to_string(), "ds1-0000000000000007-00000002-e3069283");
/// assert_eq!("ds1-0000000000000007-00000002-e3069283".parse(), Ok(id));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The token of the physical file.
    pub file: FileToken,
    /// The segment's place in the file's index, from 0.
    pub ordinal: u32,
    /// CRC-32C of the segment's bytes.
    pub crc32c: u32,
}

/// A text that is not the id it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct IdError(&'static str);

/// The lowest digits of a number, as many as there is room for.
fn write_hex(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the formatter takes ten times as long, and every segment has one.
        let mut text = *b"ds1-0000000000000000-00000000-00000000";
        write_hex(&mut text[4..20], self.file.0);
        write_hex(&mut text[21..29], u64::from(self.ordinal));
        write_hex(&mut text[30..38], u64::from(self.crc32c));
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for SegmentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: IdError = IdError("a segment id of the form ds1-<16 hex>-<8 hex>-<8 hex>");
        let bytes = text.as_bytes();
        if bytes.len() != 38 || !bytes.starts_with(b"ds1-") || bytes[20] != b'-' || bytes[29] != b'-' {
            return Err(WHAT);
        }
        let digits = |within: Range<usize>| lower_hex(&bytes[within]).ok_or(WHAT);
        let (file, ordinal, crc32c) = (digits(4..20)?, digits(21..29)?, digits(30..38)?);
        Ok(Self { file: FileToken(file), ordinal: ordinal as u32, crc32c: crc32c as u32 })
    }
}

impl fmt::Display for FileToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for FileToken {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let value = if text.len() == 16 { lower_hex(text.as_bytes()) } else { None };
        value.map(FileToken).ok_or(IdError("a file token of 16 lower-case hexadecimal digits"))
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        sixteen_bytes(text).map(JobId).ok_or(IdError("a job id of 32 lower-case hexadecimal digits"))
    }
}

impl FromStr for OperatorId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        sixteen_bytes(text).map(OperatorId).ok_or(IdError("an operator id of 32 lower-case hexadecimal digits"))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl fmt::Debug for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorId({self})")
    }
}

impl fmt::Debug for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointId({self})")
    }
}

impl fmt::Debug for FileToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileToken({self})")
    }
}

impl fmt::Display for KeyGroupRange {
    /// As `3..7`, without the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Exclusive => "EXCLUSIVE",
            Scope::Shared => "SHARED",
        })
    }
}

/// Only what `Display` writes: no sign, no upper case, so that an id has one text.
/// The number that at most 16 digits stand for.
fn lower_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    })
}

fn sixteen_bytes(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let (high, low) = text.split_at(16);
    let value = (u128::from(lower_hex(high.as_bytes())?) << 64) | u128::from(lower_hex(low.as_bytes())?);
    Some(value.to_be_bytes())
}
