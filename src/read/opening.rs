//! Works out what is to be read for some streams of some tasks.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::local::Claim;
use super::part::{Parts, StreamPart, runs};
use super::plan::Wanted;
use super::reading::Reading;
use super::state::Content;
use super::stream::check_crc;
use super::task::{StreamNumber, TaskRestore, TaskStream};
use super::task_read::{RestoreCounts, RestoredPiece};
use crate::error::Result;
use crate::format::checksum::crc32c;
use crate::store::{FlinkPath, Location};

/// A segment whose parts have no checksums, of up to this many bytes, is read whole, and checked, however little of it is
/// needed.
const CHECKED_WHOLE_BYTES_MAX: u64 = 1 << 20;

/// What is about to be read.
#[derive(Default)]
pub(super) struct Opening {
    pub(super) streams: Vec<Reading>,
    pub(super) wanted: Vec<Wanted>,
    /// By the number of a wanted range: what it is a part of.
    pub(super) claims: Vec<Claim>,
    /// By the number of a wanted range: the stream that it belongs to.
    pub(super) owners: Vec<usize>,
    /// What needs no read.
    pub(super) ready: VecDeque<RestoredPiece>,
    pub(super) counts: RestoreCounts,
}

impl Opening {
    /// A stream of so many bytes; `files` has the numbers that its task's files have among all.
    pub(super) fn add(
        &mut self,
        task: usize,
        number: StreamNumber,
        stream: &TaskStream,
        size: u64,
        files: &[usize],
    ) -> Result<()> {
        let expected = stream.state.expected();
        let whole_crc = expected.map(|expected| expected.crc32c);
        let Parts { needed: parts, has_checksums, are_short } = stream.take.parts_of(size, whole_crc)?;
        if let Content::Inline(inline) = &stream.state.content {
            check_crc(expected, crc32c(&inline.bytes))?;
        }
        let needed: u64 = parts.iter().map(|part| part.range.end - part.range.start).sum();
        let checked = match &stream.state.content {
            Content::File(_) if has_checksums => false,
            Content::File(_) => size <= CHECKED_WHOLE_BYTES_MAX || needed >= size.div_ceil(2) || are_short,
            _ => true,
        };
        let compared = expected.filter(|_| checked);
        if compared.is_none() && !has_checksums {
            self.counts.unverified_bytes += needed;
        }
        match &stream.state.content {
            Content::File(file) if needed > 0 => {
                let all = [StreamPart { key_group: None, range: 0..size, crc32c: None }];
                let ranges = runs(if compared.is_some() { &all } else { &parts });
                for range in &ranges {
                    let (offset, length) = (file.offset + range.start, range.end - range.start);
                    self.wanted.push(Wanted { file: files[file.file], offset, length });
                    let segment = file.offset..file.offset.saturating_add(size);
                    self.claims.push(Claim { segment, crc32c: expected.map(|expected| expected.crc32c) });
                    self.owners.push(self.streams.len());
                }
                let whole = stream.state.whole.then_some(size);
                self.streams.push(Reading::new((task, number), parts, ranges, compared, whole));
            }
            Content::Inline(inline) => self.ready.extend(pieces_of(task, number, &parts, &inline.bytes)),
            _ => self.ready.extend(pieces_of(task, number, &[], &Bytes::new())),
        }
        Ok(())
    }
}

/// The files of all tasks, each once, and the numbers that each task's files have there.
pub(super) fn files_of(tasks: &[(&TaskRestore, Vec<StreamNumber>)]) -> (Vec<Location>, Vec<Vec<usize>>) {
    let mut known: BTreeMap<&FlinkPath, usize> = BTreeMap::new();
    let (mut files, mut numbers) = (Vec::new(), Vec::new());
    for (task, _) in tasks {
        let mut of_task = Vec::with_capacity(task.source.files.len());
        for file in task.source.files.iter() {
            of_task.push(*known.entry(file.location.real()).or_insert_with(|| {
                files.push(file.location.clone());
                files.len() - 1
            }));
        }
        numbers.push(of_task);
    }
    (files, numbers)
}

/// The parts of a stream whose bytes are all here.
fn pieces_of(task: usize, stream: StreamNumber, parts: &[StreamPart], bytes: &Bytes) -> Vec<RestoredPiece> {
    let cut = |part: &StreamPart| bytes.slice(part.range.start as usize..part.range.end as usize);
    let piece = |part: &StreamPart| RestoredPiece {
        task,
        stream,
        key_group: part.key_group,
        offset: part.range.start,
        bytes: cut(part),
        last: false,
    };
    let mut pieces: Vec<_> = parts.iter().map(piece).collect();
    match pieces.last_mut() {
        Some(piece) => piece.last = true,
        None => {
            pieces.push(RestoredPiece { task, stream, key_group: None, offset: 0, bytes: Bytes::new(), last: true })
        }
    }
    pieces
}
