//! Reads what a task needs: one plan for all its streams, checked, piece by piece.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};

use super::fetch::{Fetched, Fetches, fetches};
use super::lengths::Lengths;
use super::part::{StreamPart, runs};
use super::plan::Wanted;
use super::state::Content;
use super::stream::{check_crc, wrong_length};
use super::task::{Source, StreamNumber, TaskRestore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{Crc32c, crc32c};
use crate::id::SegmentId;

/// A segment of up to this many bytes is read whole, and checked, however little of it is needed.
const CHECKED_WHOLE_BYTES_MAX: u64 = 1 << 20;

/// A task's state as it is read.
///
/// The pieces of one stream come in order, those of several streams mixed, as they lie in the files. Reads go on side by
/// side ahead of the caller, within [`memory_bytes_max`](super::ReadLimits::memory_bytes_max) and, of each checked stream,
/// a piece that waits for the checksum; pieces that the caller keeps are the caller's.
///
/// A checksum is that of a whole segment. Where a task needs a smaller part than half of it, and the segment is longer
/// than 1 MB, only the part is read and it can't be checked; the same holds for what stock Flink wrote, which has no
/// checksums. [`counts`](Self::counts) says how much that was.
///
/// Dropping it ends the reads.
pub struct TaskRead {
    fetches: Fetches,
    source: Source,
    streams: Vec<Reading>,
    /// By the number of a wanted range: the stream that it belongs to.
    owners: Vec<usize>,
    ready: VecDeque<RestoredPiece>,
    /// A read that failed, until its error is told.
    failing: Option<Fetched>,
    has_failed: bool,
    counts: RestoreCounts,
}

/// Some bytes of one of a task's streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredPiece {
    /// The stream, by its number.
    pub stream: StreamNumber,
    /// The key group that they belong to; `None` for the head before all key groups, and for streams without any.
    pub key_group: Option<u32>,
    /// Where they start, relative to the stream.
    pub offset: u64,
    /// The bytes. None at all only where a stream has nothing that the task needs.
    pub bytes: Bytes,
    /// Nothing more comes of the stream, and its checksum is right if it could be checked. Each stream has one such
    /// piece.
    pub last: bool,
}

/// What a restore has cost so far, and how much of it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreCounts {
    /// Bytes delivered.
    pub state_bytes: u64,
    /// Bytes read from files: also gaps, and what was read only to check it.
    pub read_bytes: u64,
    /// Reads of files.
    pub reads: u64,
    /// Of the bytes that this delivers in all, those that no checksum is compared with.
    pub unverified_bytes: u64,
}

/// A stream that is being read.
struct Reading {
    number: StreamNumber,
    /// What is delivered.
    parts: VecDeque<StreamPart>,
    /// What is read, relative to the stream; the first of them is next.
    ranges: VecDeque<Range<u64>>,
    /// The checksum so far, and what it has to be.
    crc: Option<(Crc32c, SegmentId)>,
    /// The length that the file must have.
    whole: Option<u64>,
    /// Delivered when there is another, or all is checked.
    held: Option<RestoredPiece>,
}

impl TaskRead {
    pub(super) async fn open(task: &TaskRestore, numbers: Vec<StreamNumber>) -> Result<Self> {
        let lengths = Lengths::of(task, &numbers).await?;
        let (mut streams, mut wanted, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ready, mut counts) = (VecDeque::new(), RestoreCounts::default());
        for number in numbers {
            let stream = &task.source.streams[number];
            let in_context = |error: Error| error.context(task.source.describe(number));
            let size = lengths.size_of(&stream.state).map_err(in_context)?;
            let parts = stream.take.parts(size).map_err(in_context)?;
            if let Content::Inline(inline) = &stream.state.content {
                check_crc(stream.state.id, crc32c(&inline.bytes)).map_err(in_context)?;
            }
            let needed: u64 = parts.iter().map(|part| part.range.end - part.range.start).sum();
            let checked = match &stream.state.content {
                Content::File(_) => size <= CHECKED_WHOLE_BYTES_MAX || needed >= size.div_ceil(2),
                _ => true,
            };
            let id = stream.state.id.filter(|_| checked);
            if id.is_none() {
                counts.unverified_bytes += needed;
            }
            match &stream.state.content {
                Content::File(file) if needed > 0 => {
                    let all = [StreamPart { key_group: None, range: 0..size }];
                    let ranges = runs(if id.is_some() { &all } else { &parts });
                    for range in &ranges {
                        let (offset, length) = (file.offset + range.start, range.end - range.start);
                        wanted.push(Wanted { file: file.file, offset, length });
                        owners.push(streams.len());
                    }
                    streams.push(Reading {
                        number,
                        parts: parts.into(),
                        ranges: ranges.into(),
                        crc: id.map(|id| (Crc32c::new(), id)),
                        whole: stream.state.whole.then_some(size),
                        held: None,
                    });
                }
                Content::Inline(inline) => ready.extend(pieces_of(number, &parts, &inline.bytes)),
                _ => ready.extend(pieces_of(number, &[], &Bytes::new())),
            }
        }
        let locations = Arc::new(task.source.files.iter().map(|file| file.location.clone()).collect());
        let fetches = fetches(locations, &wanted, &task.limits);
        Ok(Self {
            fetches,
            source: task.source.clone(),
            streams,
            owners,
            ready,
            failing: None,
            has_failed: false,
            counts,
        })
    }

    /// The next piece; `None` after the last, and after an error.
    ///
    /// Cancel safe: no piece is lost.
    ///
    /// # Errors
    /// Each names the checkpoint, the operator, the subtask that wrote the state, the file and the offset. `NotFound`,
    /// `Damaged`: a file is missing, is shorter than its handle says, or has damaged bytes. `Store`: it can't be read.
    pub async fn next(&mut self) -> Option<Result<RestoredPiece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.counts.state_bytes += piece.bytes.len() as u64;
                return Some(Ok(piece));
            }
            if self.has_failed {
                return None;
            }
            if let Some(failing) = &self.failing {
                // Kept until there is an answer, so that a call that is cancelled doesn't lose the error.
                let is_damaged = matches!(&failing.result, Err(error) if error.kind() == ErrorKind::Damaged);
                let file = self.source.files[failing.fetch.file].location.clone();
                let file_bytes = if is_damaged { file.size().await.ok() } else { None };
                self.has_failed = true;
                return self.failing.take().map(|failing| Err(self.failed(failing, file_bytes)));
            }
            let fetched = self.fetches.next().await?;
            self.counts.reads += 1;
            self.counts.read_bytes += fetched.fetch.range.end - fetched.fetch.range.start;
            match &fetched.result {
                Ok((bytes, file_bytes)) => {
                    if let Err(error) = self.take(&fetched, bytes, *file_bytes) {
                        self.has_failed = true;
                        self.ready.clear();
                        return Some(Err(error));
                    }
                }
                Err(_) => self.failing = Some(fetched),
            }
        }
    }

    /// The pieces as a stream.
    pub fn pieces(self) -> impl Stream<Item = Result<RestoredPiece>> + Send {
        stream::unfold(self, |mut read| async move { read.next().await.map(|piece| (piece, read)) })
    }

    /// What it has cost so far.
    pub fn counts(&self) -> RestoreCounts {
        self.counts
    }

    /// Hands out what one read brought.
    fn take(&mut self, fetched: &Fetched, bytes: &Bytes, file_bytes: u64) -> Result<()> {
        for (number, piece) in fetched.fetch.pieces.iter().enumerate() {
            let stream = &mut self.streams[self.owners[piece.wanted]];
            let taken = stream.take(fetched.piece(bytes, number), file_bytes, piece.last, &mut self.ready);
            taken.map_err(|error| error.context(self.source.describe(stream.number)))?;
        }
        Ok(())
    }

    /// A failed read's error, with the stream that it was for: of several, the first that the file is too short for.
    fn failed(&self, failing: Fetched, file_bytes: Option<u64>) -> Error {
        let pieces = &failing.fetch.pieces;
        let start = failing.fetch.range.start;
        let is_cut = |size| pieces.iter().find(|piece| start + piece.within.end as u64 > size);
        let context = match file_bytes.and_then(is_cut).or(pieces.first()) {
            Some(piece) => self.source.describe(self.streams[self.owners[piece.wanted]].number),
            None => String::new(),
        };
        match failing.result {
            Err(error) => error.context(context),
            Ok(_) => Error::new(ErrorKind::Store, context),
        }
    }
}

impl Reading {
    /// Takes the next bytes of the stream, and hands out what is needed of them.
    fn take(&mut self, bytes: Bytes, file_bytes: u64, ends: bool, ready: &mut VecDeque<RestoredPiece>) -> Result<()> {
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
        for piece in self.needed(&read, &bytes) {
            ready.extend(self.held.replace(piece));
        }
        if self.ranges.is_empty() {
            if let Some((crc, id)) = &self.crc {
                check_crc(Some(*id), crc.value())?;
            }
            ready.extend(self.held.take().map(|piece| RestoredPiece { last: true, ..piece }));
        }
        Ok(())
    }

    /// What is needed of some bytes of the stream.
    fn needed(&mut self, read: &Range<u64>, bytes: &Bytes) -> Vec<RestoredPiece> {
        let mut found = Vec::new();
        while let Some(part) = self.parts.front_mut().filter(|part| part.range.start < read.end) {
            let (start, end) = (part.range.start, part.range.end.min(read.end));
            let within = (start - read.start) as usize..(end - read.start) as usize;
            found.push((part.key_group, start, within));
            part.range.start = end;
            if part.range.is_empty() {
                self.parts.pop_front();
            }
        }
        // A small part doesn't keep a large buffer alive.
        let total: usize = found.iter().map(|(_, _, within)| within.len()).sum();
        let cut = |within: Range<usize>| match total * 2 < bytes.len() {
            true => Bytes::copy_from_slice(&bytes[within]),
            false => bytes.slice(within),
        };
        let piece = |(key_group, offset, within)| RestoredPiece {
            stream: self.number,
            key_group,
            offset,
            bytes: cut(within),
            last: false,
        };
        found.into_iter().map(piece).collect()
    }
}

/// The parts of a stream whose bytes are all here.
fn pieces_of(stream: StreamNumber, parts: &[StreamPart], bytes: &Bytes) -> Vec<RestoredPiece> {
    let cut = |part: &StreamPart| bytes.slice(part.range.start as usize..part.range.end as usize);
    let piece = |part: &StreamPart| RestoredPiece {
        stream,
        key_group: part.key_group,
        offset: part.range.start,
        bytes: cut(part),
        last: false,
    };
    let mut pieces: Vec<_> = parts.iter().map(piece).collect();
    match pieces.last_mut() {
        Some(piece) => piece.last = true,
        None => pieces.push(RestoredPiece { stream, key_group: None, offset: 0, bytes: Bytes::new(), last: true }),
    }
    pieces
}
