//! Reads copies. Every byte is checked before anybody gets it. All of this blocks.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::LocalDirectories;
use super::disk::{Disk, ReadAt};
use super::layout::{self, BLOCK_BYTES, END_BYTES, SUM_BYTES, blocks_of, bytes_of};
use super::places::in_turn;
use crate::format::checksum::{combined, crc32c};
use crate::id::FileToken;
use crate::store::FlinkPath;

/// Checksums of so many blocks are read at once.
const SUMS_MAX: u64 = 16 << 10;

/// What was found of a file's copy.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Nothing,
    /// There is something, and it is no good.
    Refused,
    Copy(LocalCopy),
}

/// The copy of a file, as far as its end says so.
#[derive(Clone, Debug)]
pub(crate) struct LocalCopy {
    disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    /// Of the file that it is a copy of.
    pub(crate) bytes: u64,
}

impl LocalDirectories {
    /// The copy of a file of ours, whichever job and worker wrote it.
    pub(crate) fn find(&self, file: &FlinkPath) -> Found {
        let Some((job, name)) = layout::job_of(file) else { return Found::Nothing };
        let mut found = Found::Nothing;
        for number in in_turn(name.token, self.directories.len()) {
            let path = layout::job_directory(&self.directories[number], &job).join(name.to_string());
            match look(&*self.disk, &path, name.token) {
                Ok(Some(bytes)) => return Found::Copy(LocalCopy { disk: self.disk.clone(), path, bytes }),
                // Nor is there one below what is no directory.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Ok(None) | Err(_) => found = Found::Refused,
            }
        }
        found
    }
}

/// How long the file is that this is a copy of; none if it is no copy.
fn look(disk: &dyn Disk, path: &Path, token: FileToken) -> io::Result<Option<u64>> {
    let mut file = disk.open(path)?;
    let file_bytes = file.length()?;
    let Some(at) = file_bytes.checked_sub(END_BYTES as u64) else { return Ok(None) };
    let mut end = [0; END_BYTES];
    file.read_at(at, &mut end)?;
    Ok(layout::parse_end(&end, token, file_bytes))
}

impl LocalCopy {
    /// Exactly the bytes of a range that isn't empty, each checked.
    ///
    /// # Errors
    /// `InvalidData`: damaged. `UnexpectedEof`: the file is shorter. Others of the disk.
    pub(crate) fn read(&self, range: &Range<u64>) -> io::Result<Bytes> {
        if range.end > self.bytes || range.start >= range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut file = self.disk.open(&self.path)?;
        let blocks = blocks_of(range);
        let sums = self.sums(&mut *file, &blocks)?;
        let found = self.checked(&mut *file, &blocks, &sums)?;
        let start = (range.start - blocks.start * BLOCK_BYTES) as usize;
        Ok(Bytes::from(found).slice(start..start + (range.end - range.start) as usize))
    }

    /// Do the checksums of its blocks agree with that of a range of several blocks? Then what [`read`](Self::read) gives of
    /// the range is what the checksum is of, for all of it or any part. Reads no more than the first and the last block.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub(crate) fn agrees(&self, range: &Range<u64>, crc: u32) -> io::Result<bool> {
        if range.end > self.bytes || range.start >= range.end {
            return Ok(false);
        }
        let mut file = self.disk.open(&self.path)?;
        let whole = range.start.div_ceil(BLOCK_BYTES)..range.end / BLOCK_BYTES;
        if whole.start >= whole.end {
            return Ok(crc32c(&self.read(range)?) == crc);
        }
        let mut sum = crc32c(&[]);
        let (head, tail) = (range.start..whole.start * BLOCK_BYTES, whole.end * BLOCK_BYTES..range.end);
        if !head.is_empty() {
            sum = crc32c(&self.read(&head)?);
        }
        let mut at = whole.start;
        while at < whole.end {
            let some = at..whole.end.min(at + SUMS_MAX);
            at = some.end;
            for block in self.sums(&mut *file, &some)? {
                sum = combined(sum, block, BLOCK_BYTES);
            }
        }
        if !tail.is_empty() {
            sum = combined(sum, crc32c(&self.read(&tail)?), tail.end - tail.start);
        }
        Ok(sum == crc)
    }

    fn sums(&self, file: &mut dyn ReadAt, blocks: &Range<u64>) -> io::Result<Vec<u32>> {
        let mut sums = vec![0; ((blocks.end - blocks.start) * SUM_BYTES) as usize];
        file.read_at(self.bytes + blocks.start * SUM_BYTES, &mut sums)?;
        Ok(sums
            .chunks_exact(SUM_BYTES as usize)
            .map(|sum| u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]))
            .collect())
    }

    fn checked(&self, file: &mut dyn ReadAt, blocks: &Range<u64>, sums: &[u32]) -> io::Result<Vec<u8>> {
        let range = bytes_of(blocks, self.bytes);
        let mut found = vec![0; (range.end - range.start) as usize];
        file.read_at(range.start, &mut found)?;
        let is_whole = found.chunks(BLOCK_BYTES as usize).map(crc32c).eq(sums.iter().copied());
        if is_whole { Ok(found) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}
