//! Reads every byte and compares checksums.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::StreamExt;

use super::{Audit, Finding};
use crate::error::{ErrorKind, Result};
use crate::format::checksum::{Crc32c, crc32c};
use crate::read::{Content, ReadLimits, State, Wanted, fetches, plan};

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
        let mut by_stream = vec![None; state.streams.len()];
        // Each range once, however many handles name it.
        let mut ranges: BTreeMap<(usize, u64, u64), Vec<usize>> = BTreeMap::new();
        for (number, stream) in state.streams.iter().enumerate() {
            match &stream.content {
                Content::Placeholder => {}
                Content::Inline(inline) => {
                    let metadata = self.metadata.clone();
                    let crc = crc32c(&inline.bytes);
                    by_stream[number] = Some(crc);
                    self.checksum(&metadata, stream, crc);
                }
                Content::File(wanted) if self.reaches(wanted) => {
                    ranges.entry((wanted.file, wanted.offset, wanted.length)).or_default().push(number);
                }
                // Reported already, when the file was looked at.
                Content::File(_) => {}
            }
        }
        let mut expected = BTreeMap::new();
        for (wanted, crc32c) in std::mem::take(&mut self.unnamed) {
            if self.reaches(&wanted) {
                ranges.entry((wanted.file, wanted.offset, wanted.length)).or_default();
                expected.insert((wanted.file, wanted.offset, wanted.length), crc32c);
            }
        }
        let (keys, users): (Vec<_>, Vec<_>) = ranges.into_iter().unzip();
        let wanted: Vec<Wanted> = keys.iter().map(|&(file, offset, length)| Wanted { file, offset, length }).collect();
        let sums = self.sums(state, &wanted, &users, limits, progress).await?;
        for (i, crc) in sums.into_iter().enumerate() {
            let Some(crc) = crc else { continue };
            let name = state.files[wanted[i].file].location.real();
            for &user in &users[i] {
                let stream = &state.streams[user];
                by_stream[user] = Some(crc);
                self.checksum(name, stream, crc);
            }
            if expected.get(&keys[i]).is_some_and(|&e| e != crc) {
                let problem =
                    "damaged bytes of a segment that this checkpoint doesn't name: the footer's CRC-32C differs";
                self.add(Finding::in_file(name, Some(wanted[i].offset), problem));
            }
        }
        Ok(by_stream)
    }

    /// The checksum of each range; `None` where it could not be read, which has then been reported.
    async fn sums(
        &mut self,
        state: &State,
        wanted: &[Wanted],
        users: &[Vec<usize>],
        limits: &ReadLimits,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Vec<Option<u32>>> {
        let total = wanted.iter().map(|w| w.length).sum();
        let mut sums: Vec<Option<Crc32c>> = wanted.iter().map(|_| Some(Crc32c::new())).collect();
        let files = Arc::new(state.files.iter().map(|f| f.location.clone()).collect());
        let mut reads = fetches(files, plan(wanted, limits), limits);
        let mut done = 0;
        progress(done, total);
        while let Some(fetched) = reads.next().await {
            let bytes_read = fetched.fetch.range.end - fetched.fetch.range.start;
            match &fetched.result {
                Ok((bytes, _)) => {
                    for piece in &fetched.fetch.pieces {
                        if let Some(sum) = &mut sums[piece.wanted] {
                            sum.update(&bytes[piece.within.clone()]);
                        }
                        done += piece.within.len() as u64;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                    let name = state.files[fetched.fetch.file].location.real();
                    for piece in &fetched.fetch.pieces {
                        sums[piece.wanted] = None;
                        for &user in &users[piece.wanted] {
                            let offset = Some(wanted[piece.wanted].offset);
                            let finding = Finding::in_file(name, offset, error.one_line());
                            self.add(finding.of(&state.streams[user].place));
                        }
                    }
                }
                Err(_) => return fetched.result.map(|_| Vec::new()),
            }
            self.counts.bytes_read += bytes_read;
            progress(done, total);
        }
        Ok(sums.into_iter().map(|sum| sum.map(|c| c.value())).collect())
    }

    fn reaches(&self, wanted: &Wanted) -> bool {
        let end = wanted.offset.saturating_add(wanted.length);
        self.lengths.get(&wanted.file).is_some_and(|&length| end <= length)
    }
}
