//! What packing a checkpoint would save: files, requests, money, NameNode memory. Pure arithmetic.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::handle::{JavaString, Part};
use crate::read::{Content, State};
use crate::write::WriteSettings;

/// What a store asks for, and how often a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Dollars for 1,000 PUT requests.
    pub put_per_1000: f64,
    /// Dollars for 1,000 GET requests.
    pub get_per_1000: f64,
    /// Seconds from one checkpoint to the next.
    pub interval_seconds: f64,
    /// Restores a month.
    pub restores_per_month: f64,
}

impl Default for Prices {
    /// S3 Standard's list prices, a checkpoint a minute, one restore a day.
    fn default() -> Self {
        Self { put_per_1000: 0.005, get_per_1000: 0.0004, interval_seconds: 60.0, restores_per_month: 30.0 }
    }
}

/// What writing a checkpoint once, and restoring it once, takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Requests {
    /// Files, `_metadata` included.
    pub files: u64,
    /// PUT requests to write them all.
    pub puts: u64,
    /// GET requests to read them all.
    pub gets: u64,
    /// Bytes of NameNode heap that they take on HDFS.
    pub namenode_bytes: u64,
    /// Dollars a month for requests, if every checkpoint writes every file.
    pub dollars_per_month: f64,
}

/// As it is, and packed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Savings {
    /// As it is.
    pub now: Requests,
    /// Packed.
    pub packed: Requests,
}

/// An inode and a block, at about 150 bytes each.
pub const NAMENODE_BYTES_PER_FILE: u64 = 300;

const SECONDS_PER_MONTH: f64 = 30.0 * 24.0 * 3600.0;

/// Reads are counted as this crate makes them: in ranges of this size, over gaps as large as this.
const RANGE_BYTES_MAX: u64 = 8 << 20;
const GAP_BYTES_MAX: u64 = 1 << 20;

/// What packing would save. Requests to read are counted as coalesced ranges of 8 MB, both as it is and packed.
pub fn savings(state: &State, settings: &WriteSettings, prices: &Prices) -> Savings {
    // Each chunk is written once, with the number of streams that have it.
    let mut inline: BTreeMap<(&JavaString, &Bytes), u64> = BTreeMap::new();
    let mut ranges: BTreeMap<(usize, u64, u64), u64> = BTreeMap::new();
    for stream in &state.streams {
        match &stream.content {
            Content::Placeholder => {}
            // It stays inline whatever its length.
            Content::Inline(_) if stream.place.part == Part::Coordinator => {}
            Content::Inline(handle) => *inline.entry((&handle.name, &handle.bytes)).or_default() += 1,
            Content::File(wanted) => {
                *ranges.entry((wanted.file, wanted.offset, wanted.length)).or_default() += 1;
            }
        }
    }
    let inline = inline.into_iter().map(|((_, bytes), streams)| (bytes.len() as u64, streams));
    let ranges = ranges.into_iter().map(|((_, _, length), streams)| (length, streams));
    let (mut inline_bytes, mut packed_bytes, mut oversized, mut oversized_gets) = (0, 0, 0, 0);
    for (length, streams) in inline.chain(ranges) {
        // As in `FilePool`: an inline handle is written out for each stream.
        let bytes = length.saturating_mul(streams);
        if bytes <= settings.inline_bytes_max && inline_bytes + bytes <= settings.inline_bytes_total_max {
            inline_bytes += bytes;
        } else if length > settings.file_bytes_max {
            oversized += 1;
            oversized_gets += length.div_ceil(RANGE_BYTES_MAX);
        } else {
            packed_bytes += length;
        }
    }
    let cap = settings.file_bytes_max.max(1);
    let files = oversized + packed_bytes.div_ceil(cap);
    let full = packed_bytes / cap * cap.div_ceil(RANGE_BYTES_MAX);
    let gets = oversized_gets + full + (packed_bytes % cap).div_ceil(RANGE_BYTES_MAX);
    Savings { now: requests(state.files.len() as u64, gets_now(state), prices), packed: requests(files, gets, prices) }
}

/// The reads that bring all live bytes of the files as they are.
fn gets_now(state: &State) -> u64 {
    let mut gets = 0_u64;
    for file in state.live_ranges() {
        let mut run: Option<(u64, u64)> = None;
        for (offset, length) in file.into_iter().filter(|(_, length)| *length > 0) {
            let end = offset.saturating_add(length);
            run = match run {
                Some((start, before)) if offset <= before.saturating_add(GAP_BYTES_MAX) => Some((start, end)),
                ended => {
                    gets = gets.saturating_add(ended.map_or(0, reads));
                    Some((offset, end))
                }
            };
        }
        gets = gets.saturating_add(run.map_or(0, reads));
    }
    gets
}

fn reads((start, end): (u64, u64)) -> u64 {
    (end - start).div_ceil(RANGE_BYTES_MAX)
}

fn requests(state_files: u64, state_gets: u64, prices: &Prices) -> Requests {
    let (files, gets) = (state_files + 1, state_gets + 1);
    let checkpoints = if prices.interval_seconds > 0.0 { SECONDS_PER_MONTH / prices.interval_seconds } else { 0.0 };
    let puts_cost = files as f64 * checkpoints * prices.put_per_1000 / 1000.0;
    let gets_cost = gets as f64 * prices.restores_per_month * prices.get_per_1000 / 1000.0;
    let namenode_bytes = files * NAMENODE_BYTES_PER_FILE;
    Requests { files, puts: files, gets, namenode_bytes, dollars_per_month: puts_cost + gets_cost }
}
