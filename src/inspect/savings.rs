//! What packing a checkpoint would save: files, requests, money, NameNode memory. Pure arithmetic.

use std::collections::BTreeSet;

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

/// What packing would save. Reads are counted as the packed form would make them: 8 MB ranges.
pub fn savings(state: &State, settings: &WriteSettings, prices: &Prices) -> Savings {
    let mut ranges = BTreeSet::new();
    let mut inline_bytes = 0;
    let mut chunks_in_files = 0;
    for stream in &state.streams {
        match &stream.content {
            Content::Placeholder => {}
            Content::Inline(handle) => inline_bytes += handle.bytes.len() as u64,
            Content::File(wanted) => {
                chunks_in_files += 1;
                ranges.insert((wanted.file, wanted.offset, wanted.length));
            }
        }
    }
    let (mut packed_bytes, mut oversized) = (0, 0);
    for (_, _, length) in ranges {
        if length <= settings.inline_bytes_max && inline_bytes + length <= settings.inline_bytes_total_max {
            inline_bytes += length;
        } else if length > settings.file_bytes_max {
            oversized += 1;
        } else {
            packed_bytes += length;
        }
    }
    let files = oversized + packed_bytes.div_ceil(settings.file_bytes_max.max(1));
    let gets = oversized + packed_bytes.div_ceil(8 << 20);
    Savings { now: requests(state.files.len() as u64, chunks_in_files, prices), packed: requests(files, gets, prices) }
}

fn requests(state_files: u64, state_gets: u64, prices: &Prices) -> Requests {
    let (files, gets) = (state_files + 1, state_gets + 1);
    let checkpoints = if prices.interval_seconds > 0.0 { SECONDS_PER_MONTH / prices.interval_seconds } else { 0.0 };
    let puts_cost = files as f64 * checkpoints * prices.put_per_1000 / 1000.0;
    let gets_cost = gets as f64 * prices.restores_per_month * prices.get_per_1000 / 1000.0;
    let namenode_bytes = files * NAMENODE_BYTES_PER_FILE;
    Requests { files, puts: files, gets, namenode_bytes, dollars_per_month: puts_cost + gets_cost }
}
