//! Writes big-endian fields one after another; the counterpart of the cursor that reads them.
//!
//! What the reader refuses is refused here, too, so that nothing is written that can't be read.

use bytes::Bytes;

use super::Result;
use crate::error::FormatError;
use crate::handle::JavaString;
use crate::id::KeyGroupRange;

/// Collects what is written.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }

    /// A value that can't be written at this place.
    pub fn error(&self, field: &str, problem: impl Into<String>) -> FormatError {
        FormatError { offset: self.bytes.len() as u64, field: field.into(), problem: problem.into() }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i32_min(&mut self, field: &str, value: i32, min: i32) -> Result<()> {
        if value < min {
            return Err(self.error(field, format!("{value}, where {min} is the least")));
        }
        self.i32(value);
        Ok(())
    }

    pub fn i64_min(&mut self, field: &str, value: i64, min: i64) -> Result<()> {
        if value < min {
            return Err(self.error(field, format!("{value}, where {min} is the least")));
        }
        self.i64(value);
        Ok(())
    }

    pub fn u31(&mut self, field: &str, value: u32) -> Result<()> {
        match i32::try_from(value) {
            Ok(value) => self.i32(value),
            Err(_) => return Err(self.error(field, format!("{value}, where {} is the most", i32::MAX))),
        }
        Ok(())
    }

    pub fn u63(&mut self, field: &str, value: u64) -> Result<()> {
        match i64::try_from(value) {
            Ok(value) => self.i64(value),
            Err(_) => return Err(self.error(field, format!("{value}, where {} is the most", i64::MAX))),
        }
        Ok(())
    }

    /// A count or a length, in 32 bits.
    pub fn count(&mut self, field: &str, count: usize) -> Result<()> {
        match i32::try_from(count) {
            Ok(count) => self.i32(count),
            Err(_) => return Err(self.error(field, format!("{count}, where {} is the most", i32::MAX))),
        }
        Ok(())
    }

    pub fn utf(&mut self, text: &JavaString) {
        // A text is never longer than 16 bits can say.
        self.raw(&(text.encoded().len() as u16).to_be_bytes());
        self.raw(text.encoded());
    }

    pub fn block(&mut self, field: &str, bytes: &[u8]) -> Result<()> {
        self.count(field, bytes.len())?;
        self.raw(bytes);
        Ok(())
    }

    /// Offsets of at least `min`, without their count.
    pub fn offsets(&mut self, offsets: &[i64], min: i64) -> Result<()> {
        offsets.iter().try_for_each(|&offset| self.i64_min("offsets", offset, min))
    }

    pub fn key_groups(&mut self, range: KeyGroupRange) -> Result<()> {
        if u64::from(range.start) + u64::from(range.count) > i32::MAX as u64 {
            let problem = format!("{} from {} on, which is too far", range.count, range.start);
            return Err(self.error("key groups", problem));
        }
        self.u32(range.start);
        self.u32(range.count);
        Ok(())
    }

    /// A key-group range and as many offsets.
    pub fn key_group_offsets(&mut self, range: KeyGroupRange, offsets: &[i64]) -> Result<()> {
        if range.count as usize != offsets.len() {
            let problem = format!("{} for {} key groups", offsets.len(), range.count);
            return Err(self.error("offsets", problem));
        }
        self.key_groups(range)?;
        self.offsets(offsets, KEY_GROUP_OFFSET_MIN)
    }
}

/// Flink marks a key group of raw state that nobody wrote with −1.
pub(super) const KEY_GROUP_OFFSET_MIN: i64 = -1;
