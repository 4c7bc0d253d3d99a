//! One stream as it is read: its bytes come in order, and go out checked and cut into what is needed.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::part::StreamPart;
use super::state::Expected;
use super::stream::{check_crc, wrong_length};
use super::task::StreamNumber;
use super::task_read::RestoredPiece;
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::Crc32c;

/// A stream that is being read.
pub(super) struct Reading {
    pub(super) task: usize,
    pub(super) number: StreamNumber,
    /// What is delivered.
    parts: VecDeque<StreamPart>,
    /// What is read, relative to the stream; the first of them is next.
    ranges: VecDeque<Range<u64>>,
    /// The checksum so far, and what it has to be.
    crc: Option<(Crc32c, Expected)>,
    /// The checksum so far of the first of the parts, if that has one.
    part_crc: Crc32c,
    /// The length that the file must have.
    whole: Option<u64>,
    /// Delivered when there is another, or all is checked.
    held: Option<RestoredPiece>,
}

impl Reading {
    pub(super) fn new(
        (task, number): (usize, StreamNumber),
        parts: Vec<StreamPart>,
        ranges: Vec<Range<u64>>,
        expected: Option<Expected>,
        whole: Option<u64>,
    ) -> Self {
        let crc = expected.map(|expected| (Crc32c::new(), expected));
        let (parts, ranges, part_crc) = (parts.into(), ranges.into(), Crc32c::new());
        Self { task, number, parts, ranges, crc, part_crc, whole, held: None }
    }

    /// Takes the next bytes of the stream, and hands out what is needed of them. The last of a part that has a checksum
    /// goes out only if that is right.
    pub(super) fn take(
        &mut self,
        bytes: Bytes,
        file_bytes: u64,
        ends: bool,
        ready: &mut VecDeque<RestoredPiece>,
    ) -> Result<()> {
        if let Some(size) = self.whole.filter(|&size| size != file_bytes) {
            return Err(wrong_length(size, file_bytes));
        }
        if let Some((crc, _)) = &mut self.crc {
            crc.update(&bytes);
        }
        let Some(range) = self.ranges.front_mut() else { return Ok(()) };
        let read = range.start..range.start + bytes.len() as u64;
        range.start = read.end;
        if ends {
            self.ranges.pop_front();
        }
        for piece in self.needed(&read, &bytes)? {
            ready.extend(self.held.replace(piece));
        }
        if self.ranges.is_empty() {
            if let Some((crc, expected)) = &self.crc {
                check_crc(Some(*expected), crc.value())?;
            }
            ready.extend(self.held.take().map(|piece| RestoredPiece { last: true, ..piece }));
        }
        Ok(())
    }

    /// What is needed of some bytes of the stream.
    fn needed(&mut self, read: &Range<u64>, bytes: &Bytes) -> Result<Vec<RestoredPiece>> {
        let mut found = Vec::new();
        while let Some(part) = self.parts.front_mut().filter(|part| part.range.start < read.end) {
            let (start, end) = (part.range.start, part.range.end.min(read.end));
            let within = (start - read.start) as usize..(end - read.start) as usize;
            if part.crc32c.is_some() {
                self.part_crc.update(&bytes[within.clone()]);
            }
            found.push((part.key_group, start, within));
            part.range.start = end;
            if part.range.is_empty()
                && let Some(part) = self.parts.pop_front()
            {
                let crc = std::mem::take(&mut self.part_crc);
                part.crc32c.map_or(Ok(()), |expected| check_part(part.key_group, expected, crc.value()))?;
            }
        }
        // A small part doesn't keep a large buffer alive.
        let total: usize = found.iter().map(|(_, _, within)| within.len()).sum();
        let cut = |within: Range<usize>| match total * 2 < bytes.len() {
            true => Bytes::copy_from_slice(&bytes[within]),
            false => bytes.slice(within),
        };
        let piece = |(key_group, offset, within)| RestoredPiece {
            task: self.task,
            stream: self.number,
            key_group,
            offset,
            bytes: cut(within),
            last: false,
        };
        Ok(found.into_iter().map(piece).collect())
    }
}

fn check_part(key_group: Option<u32>, expected: u32, crc32c: u32) -> Result<()> {
    if crc32c == expected {
        return Ok(());
    }
    let part = key_group.map_or_else(|| "the head".to_owned(), |group| format!("key group {group}"));
    let message = format!("damaged bytes of {part}: CRC-32C is {crc32c:08x}, the metadata says {expected:08x}");
    Err(Error::new(ErrorKind::Damaged, message))
}
