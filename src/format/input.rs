//! A bounded cursor over bytes, whose errors say where and in which field.
//!
//! Nothing is copied: texts and blocks are slices of the input. A field's full name is put together only when there is
//! an error, on the way out (see [`Within`]).

use std::fmt;

use bytes::Bytes;

use super::Result;
use crate::error::FormatError;
use crate::handle::JavaString;
use crate::id::KeyGroupRange;

/// Reads big-endian fields one after another.
pub(super) struct Input {
    bytes: Bytes,
    at: usize,
    base: u64,
}

/// Puts an outer field's name before an error's.
pub(super) trait Within {
    /// `name` is formatted only when there is an error.
    fn within(self, name: impl fmt::Display) -> Self;
}

impl<T> Within for Result<T> {
    fn within(self, name: impl fmt::Display) -> Self {
        self.map_err(|e| FormatError { field: format!("{name} / {}", e.field), ..e })
    }
}

impl Input {
    pub fn new(bytes: Bytes) -> Self {
        Self::at_offset(bytes, 0)
    }

    /// Of bytes that start at `base` in their file.
    pub fn at_offset(bytes: Bytes, base: u64) -> Self {
        Self { bytes, at: 0, base }
    }

    /// Where the next field starts, in the file.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// What has not been read.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn error_at(&self, offset: u64, field: &str, problem: impl Into<String>) -> FormatError {
        FormatError { offset, field: field.into(), problem: problem.into() }
    }

    /// The next `len` bytes, shared with the input.
    pub fn take(&mut self, len: usize, field: &str) -> Result<Bytes> {
        let left = self.rest().len();
        if len > left {
            return Err(self.error_at(self.offset(), field, format!("needs {len} bytes, {left} are left")));
        }
        let taken = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        match self.rest().first_chunk::<N>() {
            Some(&chunk) => {
                self.at += N;
                Ok(chunk)
            }
            None => {
                let left = self.rest().len();
                Err(self.error_at(self.offset(), field, format!("needs {N} bytes, {left} are left")))
            }
        }
    }

    pub fn u8(&mut self, field: &str) -> Result<u8> {
        self.array(field).map(|[byte]| byte)
    }

    pub fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub fn i32(&mut self, field: &str) -> Result<i32> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub fn i64(&mut self, field: &str) -> Result<i64> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub fn id(&mut self, field: &str) -> Result<[u8; 16]> {
        self.array(field)
    }

    /// An `i32` of at least `min`.
    pub fn i32_min(&mut self, field: &str, min: i32) -> Result<i32> {
        let at = self.offset();
        let value = self.i32(field)?;
        if value < min {
            return Err(self.error_at(at, field, format!("{value}, where {min} is the least")));
        }
        Ok(value)
    }

    /// An `i64` of at least `min`.
    pub fn i64_min(&mut self, field: &str, min: i64) -> Result<i64> {
        let at = self.offset();
        let value = self.i64(field)?;
        if value < min {
            return Err(self.error_at(at, field, format!("{value}, where {min} is the least")));
        }
        Ok(value)
    }

    /// An `i32` that is not negative.
    pub fn u31(&mut self, field: &str) -> Result<u32> {
        self.i32_min(field, 0).map(i32::unsigned_abs)
    }

    /// An `i64` that is not negative.
    pub fn u63(&mut self, field: &str) -> Result<u64> {
        self.i64_min(field, 0).map(i64::unsigned_abs)
    }

    /// A presence mark: an `i32` that is 0 or 1.
    pub fn present(&mut self, field: &str) -> Result<bool> {
        let at = self.offset();
        match self.i32(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error_at(at, field, format!("presence {other}, where 0 and 1 are allowed"))),
        }
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self, field: &str) -> Result<bool> {
        let at = self.offset();
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error_at(at, field, format!("flag {other}, where 0 and 1 are allowed"))),
        }
    }

    /// A text behind its 16-bit length.
    pub fn utf(&mut self, field: &str) -> Result<JavaString> {
        let at = self.offset();
        let len = self.array(field).map(u16::from_be_bytes)?;
        let bytes = self.take(usize::from(len), field)?;
        JavaString::from_encoded(bytes).map_err(|e| self.error_at(at, field, e.to_string()))
    }

    /// Bytes behind their `i32` length.
    pub fn block(&mut self, field: &str) -> Result<Bytes> {
        let len = self.u31(field)?;
        self.take(len as usize, field)
    }

    /// A count of things that take at least `each` bytes.
    pub fn count(&mut self, field: &str, each: usize) -> Result<usize> {
        let at = self.offset();
        let count = self.u31(field)? as usize;
        self.check_count(at, field, count, each)?;
        Ok(count)
    }

    /// An error where `count` things of at least `each` bytes can't be in what is left.
    pub fn check_count(&self, at: u64, field: &str, count: usize, each: usize) -> Result<()> {
        let left = self.rest().len();
        if count > left / each {
            let problem = format!("{count} of at least {each} bytes each, where {left} bytes are left");
            return Err(self.error_at(at, field, problem));
        }
        Ok(())
    }

    /// A counted list of things that take at least `each` bytes. Not for what nests: every level would reserve for
    /// what it claims to hold.
    pub fn list<T>(
        &mut self,
        field: &str,
        each: usize,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(field, each)?;
        let mut items = Vec::with_capacity(count);
        for index in 0..count {
            items.push(item(self).within(format_args!("{field}[{index}]"))?);
        }
        Ok(items)
    }

    /// `count` offsets of at least `min`.
    pub fn offsets(&mut self, count: usize, min: i64) -> Result<Vec<i64>> {
        self.check_count(self.offset(), "offsets", count, 8)?;
        (0..count).map(|index| self.i64_min("offset", min).within(format_args!("offsets[{index}]"))).collect()
    }

    /// A key-group range: first group, how many.
    pub fn key_groups(&mut self) -> Result<KeyGroupRange> {
        let at = self.offset();
        let (start, count) = (self.u31("first key group")?, self.u31("key groups")?);
        if start > i32::MAX as u32 - count {
            return Err(self.error_at(at, "key groups", format!("{count} from {start} on, which is too far")));
        }
        Ok(KeyGroupRange { start, count })
    }
}
