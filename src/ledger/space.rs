//! How much space the checkpoints take: one arithmetic for all who count.

use std::ops::{AddAssign, SubAssign};

/// Files, and the segments in them that some retained or pending checkpoint names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUsage {
    /// Physical files.
    pub files: u64,
    /// Their bytes, footers included.
    pub file_bytes: u64,
    /// Segments that are named, each once.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
}

impl SpaceUsage {
    /// Bytes in files for each byte that is named; 1 where there is nothing.
    pub fn amplification(&self) -> f64 {
        match (self.file_bytes, self.segment_bytes) {
            (0, _) => 1.0,
            (_, 0) => f64::INFINITY,
            (files, segments) => files as f64 / segments as f64,
        }
    }

    /// Bytes in files that nothing names.
    pub fn wasted_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(self.segment_bytes)
    }
}

impl AddAssign for SpaceUsage {
    fn add_assign(&mut self, other: Self) {
        let Self { files, file_bytes, segments, segment_bytes } = other;
        self.files += files;
        self.file_bytes += file_bytes;
        self.segments += segments;
        self.segment_bytes += segment_bytes;
    }
}

impl SubAssign for SpaceUsage {
    fn sub_assign(&mut self, other: Self) {
        let Self { files, file_bytes, segments, segment_bytes } = other;
        self.files -= files;
        self.file_bytes -= file_bytes;
        self.segments -= segments;
        self.segment_bytes -= segment_bytes;
    }
}
