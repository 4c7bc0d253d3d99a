//! Where a copy lies below a local directory, and what it looks like. Pure.
//!
//! ```text
//! <directory>/drystone-backup/<job>-<8 hex>/<name>          a file's bytes, the CRC-32C of each block of them, the end
//! <directory>/drystone-backup/<job>-<8 hex>/<name>.part     one in the making
//! <directory>/drystone-backup/<job>-<8 hex>/<worker>.lock   locked while the worker lives
//! ```
//!
//! Whoever knows a file's path in the store knows its copy's: nothing has to be looked up.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::format::checksum::{Crc32c, crc32c};
use crate::id::FileToken;
use crate::store::FlinkPath;
use crate::store::names::{PhysicalFileName, WorkerName};

/// Below each of the local directories.
const OWN_DIRECTORY: &str = "drystone-backup";
const PART: &str = ".part";
const LOCK: &str = ".lock";

/// Each block of so many bytes has a checksum of its own: what is damaged costs no more than its surroundings.
pub(super) const BLOCK_BYTES: u64 = 64 << 10;
/// Of a block's checksum.
pub(super) const SUM_BYTES: u64 = 4;
/// Of a copy's end: length and token of 8 bytes each, magic, CRC-32C of these.
pub(super) const END_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"dsb1";

/// The directory of a job's copies.
pub(super) fn job_directory(directory: &Path, job: &FlinkPath) -> PathBuf {
    let name = WorkerName::sanitise(job.file_name().unwrap_or_default());
    directory.join(OWN_DIRECTORY).join(format!("{name}-{:08x}", crc32c(job.to_string().as_bytes())))
}

/// The directory of the job that wrote a file of ours, and the file's name; none if it isn't one.
pub(super) fn job_of(file: &FlinkPath) -> Option<(FlinkPath, PhysicalFileName)> {
    let name = file.file_name()?.parse().ok()?;
    Some((file.parent()?.parent()?, name))
}

pub(super) fn part_name(name: &PhysicalFileName) -> String {
    format!("{name}{PART}")
}

/// The file that is being copied under this name.
pub(super) fn parse_part(name: &str) -> Option<PhysicalFileName> {
    name.strip_suffix(PART)?.parse().ok()
}

pub(super) fn lock_name(worker: &WorkerName) -> String {
    format!("{worker}{LOCK}")
}

/// The worker whose lock has this name.
pub(super) fn parse_lock(name: &str) -> Option<WorkerName> {
    let worker = name.strip_suffix(LOCK)?;
    let sanitised = WorkerName::sanitise(worker);
    (sanitised.as_str() == worker).then_some(sanitised)
}

/// How long the copy of so many bytes is.
pub(super) fn copy_bytes(data_bytes: u64) -> u64 {
    data_bytes.saturating_add(data_bytes.div_ceil(BLOCK_BYTES) * SUM_BYTES).saturating_add(END_BYTES as u64)
}

/// The end of a copy.
pub(super) fn end(data_bytes: u64, token: FileToken) -> [u8; END_BYTES] {
    let mut end = [0; END_BYTES];
    end[..8].copy_from_slice(&data_bytes.to_be_bytes());
    end[8..16].copy_from_slice(&token.0.to_be_bytes());
    end[16..20].copy_from_slice(&MAGIC);
    let sum = crc32c(&end[..20]);
    end[20..].copy_from_slice(&sum.to_be_bytes());
    end
}

/// How many bytes a copy of this file holds, if this is its end and it is so long.
pub(super) fn parse_end(found: &[u8; END_BYTES], token: FileToken, file_bytes: u64) -> Option<u64> {
    let data_bytes = u64::from_be_bytes(found[..8].try_into().ok()?);
    (*found == end(data_bytes, token) && copy_bytes(data_bytes) == file_bytes).then_some(data_bytes)
}

/// The blocks that hold a range of bytes.
pub(super) fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
}

/// The bytes of some blocks of a file of `data_bytes`.
pub(super) fn bytes_of(blocks: &Range<u64>, data_bytes: u64) -> Range<u64> {
    blocks.start.saturating_mul(BLOCK_BYTES)..blocks.end.saturating_mul(BLOCK_BYTES).min(data_bytes)
}

/// The checksums of blocks, as their bytes come.
#[derive(Default)]
pub(super) struct BlockSums {
    crc: Crc32c,
    filled: u64,
    sums: Vec<u8>,
}

impl BlockSums {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK_BYTES - self.filled) as usize;
            let (block, rest) = bytes.split_at(room.min(bytes.len()));
            self.crc.update(block);
            self.filled += block.len() as u64;
            bytes = rest;
            if self.filled == BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    /// The checksum of each block, 4 bytes each.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.end_block();
        }
        self.sums
    }

    fn end_block(&mut self) {
        let crc = std::mem::take(&mut self.crc);
        self.sums.extend_from_slice(&crc.value().to_be_bytes());
        self.filled = 0;
    }
}
