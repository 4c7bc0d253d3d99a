//! What a run came to.

use std::collections::BTreeSet;
use std::time::Duration;

use drystone::store::{FlinkPath, Requests};
use tokio::time::Instant;

use super::sample::Sample;

/// What the writers counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub bytes_written: u64,
    pub segments_written: u64,
    pub segments_reused: u64,
    pub reuse_refused: u64,
    pub inline_segments: u64,
    /// Of each chunk: from the first byte until the writer was closed.
    pub latencies: Vec<Duration>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.bytes_written += other.bytes_written;
        self.segments_written += other.segments_written;
        self.segments_reused += other.segments_reused;
        self.reuse_refused += other.reuse_refused;
        self.inline_segments += other.inline_segments;
        self.latencies.extend(other.latencies);
    }
}

/// Time spent, of which looking around in the store takes none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From the first trigger until the last subsumption is through.
    pub wall: Duration,
    /// Until all snapshots were durable.
    pub write: Duration,
    /// Until the checkpoint was committed.
    pub complete: Duration,
    /// Until nothing was left that no checkpoint names.
    pub subsume: Duration,
}

/// Measures what lies between its calls.
pub struct Clock {
    last: Instant,
    /// All that was added.
    pub total: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Self { last: tokio::time::Instant::now(), total: Duration::ZERO }
    }

    /// Adds what has passed since the last call.
    pub fn add(&mut self, to: &mut Duration) {
        let now = tokio::time::Instant::now();
        let passed = now - self.last;
        *to += passed;
        self.total += passed;
        self.last = now;
    }

    /// What has passed since the last call is nobody's.
    pub fn skip(&mut self) {
        self.last = tokio::time::Instant::now();
    }
}

/// What was seen in the store.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// All files that ever were.
    pub seen: BTreeSet<FlinkPath>,
    /// So many of them were there before the run.
    pub found: u64,
    pub peak_files: u64,
    pub peak_bytes: u64,
    /// The most bytes in files per byte of live chunks, after a commit.
    pub peak_amplification: f64,
    pub last: Sample,
    /// Bytes of the chunks in files that the retained checkpoints name at the end.
    pub live_bytes: u64,
    /// Of all checkpoints.
    pub metadata_bytes: u64,
}

impl Space {
    /// Files are there that may be needed, and all that was written.
    pub fn saw(&mut self, sample: &Sample) {
        self.seen.extend(sample.0.keys().cloned());
        self.peak_files = self.peak_files.max(sample.files());
        self.peak_bytes = self.peak_bytes.max(sample.bytes());
    }

    /// A commit is through.
    pub fn settled(&mut self, sample: Sample, live_bytes: u64) {
        self.saw(&sample);
        self.peak_amplification = self.peak_amplification.max(amplification(sample.bytes(), live_bytes));
        (self.last, self.live_bytes) = (sample, live_bytes);
    }

    pub fn amplification(&self) -> f64 {
        amplification(self.last.bytes(), self.live_bytes)
    }

    pub fn deleted(&self) -> u64 {
        self.seen.len() as u64 - self.last.files()
    }

    pub fn created(&self) -> u64 {
        self.seen.len() as u64 - self.found
    }
}

fn amplification(file_bytes: u64, live_bytes: u64) -> f64 {
    file_bytes as f64 / live_bytes.max(1) as f64
}

/// Reading back.
#[derive(Clone, Debug, Default)]
pub struct ReadBack {
    /// Restoring the latest checkpoint.
    pub time: Duration,
    pub bytes: u64,
    pub requests: Requests,
    /// Checkpoints of which every byte was compared.
    pub checkpoints: u64,
    /// Chunks that weren't as they were written.
    pub bad: u64,
    /// What was wrong, for the first of them.
    pub first_bad: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub tally: Tally,
    pub times: Times,
    pub space: Space,
    /// Of writing, committing and deleting.
    pub requests: Requests,
    pub read_back: ReadBack,
    /// Below it the checkpoints lie, or lay.
    pub directory: String,
    /// The directories of the retained checkpoints.
    pub retained: Vec<FlinkPath>,
}

impl Figures {
    /// The latency that the given share of chunks didn't exceed, in microseconds. Latencies have been sorted.
    pub fn latency_us(&self, share: f64) -> f64 {
        let all = &self.tally.latencies;
        let rank = (all.len() as f64 * share).ceil() as usize;
        all.get(rank.clamp(1, all.len().max(1)) - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}
