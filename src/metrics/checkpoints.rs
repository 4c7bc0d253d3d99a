//! Flink's gauges of a job's checkpoints, as the driver of its schedule sets them.

use std::time::Duration;

use ::metrics::{Key, Label, with_recorder};

use super::record::METADATA;
use super::{
    CHECKPOINTS, CHECKPOINTS_COMPLETED, CHECKPOINTS_FAILED, CHECKPOINTS_UNDER_WAY, JOB, LAST_DURATION, LAST_FULL_SIZE,
    LAST_ID, LAST_METADATA_SIZE, LAST_SIZE, Metric,
};

/// Checkpoints and savepoints, since the driver was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointCounts {
    /// Begun, and neither completed nor failed.
    pub under_way: u64,
    /// Durable.
    pub completed: u64,
    /// Given up, or never begun.
    pub failed: u64,
}

/// The one that completed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Its number.
    pub checkpoint: u64,
    /// From its trigger until it was durable.
    pub took: Duration,
    /// Bytes that were written for it.
    pub new_bytes: u64,
    /// Bytes of all its state.
    pub state_bytes: u64,
    /// Bytes of its metadata.
    pub metadata_bytes: u64,
}

/// The gauges of one job: its series are told apart by the label `job`.
#[derive(Clone, Debug)]
pub struct CheckpointGauges {
    /// All, under way, completed, failed.
    counts: [Key; 4],
    /// Number, duration, and the sizes: what is new, all, the metadata.
    last: [Key; 5],
}

impl CheckpointGauges {
    /// Of the job with this name.
    pub fn new(job: &str) -> Self {
        let key = |metric: &Metric| Key::from_parts(metric.name, vec![Label::new(JOB, job.to_owned())]);
        let counts = [&CHECKPOINTS, &CHECKPOINTS_UNDER_WAY, &CHECKPOINTS_COMPLETED, &CHECKPOINTS_FAILED];
        let last = [&LAST_ID, &LAST_DURATION, &LAST_SIZE, &LAST_FULL_SIZE, &LAST_METADATA_SIZE];
        Self { counts: counts.map(key), last: last.map(key) }
    }

    /// How many there are by now.
    pub fn set(&self, now: CheckpointCounts) {
        let CheckpointCounts { under_way, completed, failed } = now;
        let counts = [under_way + completed + failed, under_way, completed, failed];
        set(&self.counts, counts.map(|count| count as f64));
    }

    /// Another has completed.
    pub fn set_last(&self, last: LastCheckpoint) {
        let LastCheckpoint { checkpoint, took, new_bytes, state_bytes, metadata_bytes } = last;
        let milliseconds = took.as_secs_f64() * 1000.0;
        let bytes = [new_bytes, state_bytes, metadata_bytes].map(|bytes| bytes as f64);
        set(&self.last, [checkpoint as f64, milliseconds, bytes[0], bytes[1], bytes[2]]);
    }
}

fn set<const N: usize>(keys: &[Key; N], values: [f64; N]) {
    for (key, value) in keys.iter().zip(values) {
        with_recorder(|recorder| recorder.register_gauge(key, &METADATA)).set(value);
    }
}
