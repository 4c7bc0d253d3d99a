//! Reads every byte and compares checksums.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::StreamExt;

use super::{Audit, Finding};
use crate::error::{ErrorKind, Result};
use crate::format::checksum::{Crc32c, crc32c};
use crate::read::{Content, ReadLimits, State, Wanted, fetches};
use crate::store::Location;

/// A byte range: the number of its file, first byte, length.
pub(super) type Range = (usize, u64, u64);

/// Whose a range's bytes are.
#[derive(Default)]
pub(super) struct Users {
    /// The streams that it is, by number.
    streams: Vec<usize>,
    /// The checksum that the file's footer has for it, where no stream of the checkpoint is it.
    footer_crc32c: Option<u32>,
}

/// The checksum of a range's bytes, or why they can't be read.
pub(super) type Sum = Result<u32, String>;

impl Audit {
    /// Reads what handles and footers name, as far as the files reach. Returns each stream's CRC-32C, where it could
    /// be read.
    ///
    /// # Errors
    /// A store's error other than a missing or short file.
    pub(crate) async fn data(
        &mut self,
        state: &State,
        limits: &ReadLimits,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Vec<Option<u32>>> {
        let mut by_stream = self.inline(state);
        let ranges = self.ranges(state);
        let wanted: Vec<Range> = ranges.keys().copied().collect();
        let files = state.files.iter().map(|file| file.location.clone()).collect();
        let (sums, bytes_read) = sums(files, &wanted, limits, progress).await?;
        self.counts.bytes_read += bytes_read;
        for ((range, users), sum) in ranges.iter().zip(&sums) {
            if let Ok(crc) = sum {
                users.streams.iter().for_each(|&user| by_stream[user] = Some(*crc));
            }
            self.compare(state, range, users, sum);
        }
        Ok(by_stream)
    }

    /// Checks the streams that are inline, and returns their CRC-32C, each at the stream's number.
    pub(super) fn inline(&mut self, state: &State) -> Vec<Option<u32>> {
        let metadata = self.metadata.clone();
        let mut by_stream = vec![None; state.streams.len()];
        for (stream, sum) in state.streams.iter().zip(&mut by_stream) {
            if let Content::Inline(inline) = &stream.content {
                let crc = crc32c(&inline.bytes);
                *sum = Some(crc);
                self.checksum(&metadata, stream, crc);
            }
        }
        by_stream
    }

    /// What is to be read: each range once, however many handles name it. What lies beyond a file's end has been reported
    /// when the file was looked at.
    pub(super) fn ranges(&mut self, state: &State) -> BTreeMap<Range, Users> {
        let mut ranges: BTreeMap<Range, Users> = BTreeMap::new();
        for (number, stream) in state.streams.iter().enumerate() {
            match &stream.content {
                Content::File(wanted) if self.reaches(wanted) => {
                    ranges.entry((wanted.file, wanted.offset, wanted.length)).or_default().streams.push(number);
                }
                Content::File(_) | Content::Inline(_) | Content::Placeholder => {}
            }
        }
        for (wanted, crc32c) in std::mem::take(&mut self.unnamed) {
            if self.reaches(&wanted) {
                ranges.entry((wanted.file, wanted.offset, wanted.length)).or_default().footer_crc32c = Some(crc32c);
            }
        }
        ranges
    }

    /// Compares what was read with what it should be.
    pub(super) fn compare(&mut self, state: &State, range: &Range, users: &Users, sum: &Sum) {
        let &(file, offset, _) = range;
        let name = state.files[file].location.real();
        match sum {
            Ok(crc) => {
                for &user in &users.streams {
                    self.checksum(name, &state.streams[user], *crc);
                }
                if users.footer_crc32c.is_some_and(|expected| expected != *crc) {
                    let problem =
                        "damaged bytes of a segment that this checkpoint doesn't name: the footer's CRC-32C differs";
                    self.add(Finding::in_file(name, Some(offset), problem));
                }
            }
            Err(problem) => {
                for &user in &users.streams {
                    let finding = Finding::in_file(name, Some(offset), problem.clone());
                    self.add(finding.of(&state.streams[user].place));
                }
                if users.streams.is_empty() {
                    self.add(Finding::in_file(name, Some(offset), problem.clone()));
                }
            }
        }
    }

    fn reaches(&self, wanted: &Wanted) -> bool {
        let end = wanted.offset.saturating_add(wanted.length);
        self.lengths.get(&wanted.file).is_some_and(|&length| end <= length)
    }
}

/// The checksum of each range of `files`, and how many bytes were read for them.
///
/// # Errors
/// A store's error other than a missing or short file.
pub(super) async fn sums(
    files: Vec<Location>,
    ranges: &[Range],
    limits: &ReadLimits,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(Vec<Sum>, u64)> {
    let wanted: Vec<Wanted> = ranges.iter().map(|&(file, offset, length)| Wanted { file, offset, length }).collect();
    let total = wanted.iter().map(|w| w.length).sum();
    let mut sums: Vec<Result<Crc32c, String>> = wanted.iter().map(|_| Ok(Crc32c::new())).collect();
    let mut reads = fetches(Arc::new(files), &wanted, limits);
    let (mut done, mut bytes_read) = (0, 0);
    progress(done, total);
    while let Some(fetched) = reads.next().await {
        match &fetched.result {
            Ok((bytes, _)) => {
                for piece in &fetched.fetch.pieces {
                    if let Ok(sum) = &mut sums[piece.wanted] {
                        sum.update(&bytes[piece.within.clone()]);
                    }
                    done += piece.within.len() as u64;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                for piece in &fetched.fetch.pieces {
                    sums[piece.wanted] = Err(error.one_line());
                }
            }
            Err(_) => return fetched.result.map(|_| (Vec::new(), 0)),
        }
        bytes_read += fetched.fetch.range.end - fetched.fetch.range.start;
        progress(done, total);
    }
    Ok((sums.into_iter().map(|sum| sum.map(|crc| crc.value())).collect(), bytes_read))
}
