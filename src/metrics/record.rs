//! Recording. A call takes no memory: every key is a constant.

use std::sync::LazyLock;
use std::time::Duration;

use ::metrics::{Counter, Histogram, Key, Label, Level, Metadata, with_recorder};

use super::{
    BACKUP_BYTES, BACKUP_FILES, BACKUP_REFUSED, BYTES_REWRITTEN, BYTES_UPLOADED, COMMIT, Copied, DELETES_FAILED,
    DELETES_RETRIED, INLINE_BYTES, INLINE_SEGMENTS, JOB, Kind, LOGICAL_FILE_COUNT, LOGICAL_FILE_SIZE, Metric, ORPHANS,
    PHYSICAL_FILE_COUNT, PHYSICAL_FILE_SIZE, Queue, REQUESTS, RESTORE_BYTES, RequestKind, RestoredFrom, Rewriting,
    SEAL, SPACE_AMPLIFICATION, WAITS,
};

pub(super) static METADATA: Metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// One key of a metric for each value of its label.
struct Keys(Vec<Key>);

impl Keys {
    fn of(metric: &Metric) -> Self {
        Self(match metric.label {
            None => vec![Key::from_static_name(metric.name)],
            Some((label, values)) => {
                let key =
                    |value: &&'static str| Key::from_parts(metric.name, vec![Label::from_static_parts(label, value)]);
                values.iter().map(key).collect()
            }
        })
    }

    fn counter(&self, value: usize) -> Counter {
        with_recorder(|recorder| recorder.register_counter(&self.0[value], &METADATA))
    }

    fn histogram(&self, value: usize) -> Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.0[value], &METADATA))
    }
}

/// Made at the first use.
type LazyKeys = LazyLock<Keys>;

pub(super) fn describe(metric: &Metric) {
    let (name, unit, text) = (metric.name.into(), Some(metric.unit), metric.description.into());
    with_recorder(|recorder| match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, text),
        Kind::Gauge => recorder.describe_gauge(name, unit, text),
        Kind::Histogram => recorder.describe_histogram(name, unit, text),
    });
}

/// One request.
pub fn request(kind: RequestKind) {
    requests(kind, 1);
}

/// Requests of one kind.
pub fn requests(kind: RequestKind, count: u64) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&REQUESTS));
    KEYS.counter(kind as usize).increment(count);
}

/// Bytes sent to a store.
pub fn uploaded(bytes: u64) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&BYTES_UPLOADED));
    KEYS.counter(0).increment(bytes);
}

/// Bytes of segments that were written again.
pub fn rewritten(reason: Rewriting, bytes: u64) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&BYTES_REWRITTEN));
    KEYS.counter(reason as usize).increment(bytes);
}

/// One chunk of so many bytes went into the metadata.
pub fn inlined(bytes: u64) {
    static SEGMENTS: LazyKeys = LazyLock::new(|| Keys::of(&INLINE_SEGMENTS));
    static BYTES: LazyKeys = LazyLock::new(|| Keys::of(&INLINE_BYTES));
    SEGMENTS.counter(0).increment(1);
    BYTES.counter(0).increment(bytes);
}

/// A writer had to wait.
pub fn waited(queue: Queue, time: Duration) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&WAITS));
    KEYS.histogram(queue as usize).record(time);
}

/// A physical file was made durable.
pub fn seal_took(time: Duration) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&SEAL));
    KEYS.histogram(0).record(time);
}

/// A checkpoint was completed.
pub fn commit_took(time: Duration) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&COMMIT));
    KEYS.histogram(0).record(time);
}

/// A store refused a delete.
pub fn delete_failed() {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&DELETES_FAILED));
    KEYS.counter(0).increment(1);
}

/// A delete that had failed is tried again.
pub fn delete_retried() {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&DELETES_RETRIED));
    KEYS.counter(0).increment(1);
}

/// Files that no checkpoint names were found and deleted.
pub fn orphans_found(files: u64) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&ORPHANS));
    KEYS.counter(0).increment(files);
}

/// What became of the copy of a file of so many bytes.
pub fn copied(outcome: Copied, bytes: u64) {
    static FILES: LazyKeys = LazyLock::new(|| Keys::of(&BACKUP_FILES));
    static BYTES: LazyKeys = LazyLock::new(|| Keys::of(&BACKUP_BYTES));
    FILES.counter(outcome as usize).increment(1);
    if bytes > 0 {
        BYTES.counter(0).increment(bytes);
    }
}

/// Bytes that were read for a task.
pub fn restored(from: RestoredFrom, bytes: u64) {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&RESTORE_BYTES));
    KEYS.counter(from as usize).increment(bytes);
}

/// A local copy, or a part of one, was no good.
pub fn copy_refused() {
    static KEYS: LazyKeys = LazyLock::new(|| Keys::of(&BACKUP_REFUSED));
    KEYS.counter(0).increment(1);
}

/// What retained and pending checkpoints name: Flink's four gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMerging {
    /// Segments.
    pub logical_files: u64,
    /// Their bytes.
    pub logical_bytes: u64,
    /// Physical files.
    pub physical_files: u64,
    /// Their bytes, footers included.
    pub physical_bytes: u64,
}

/// The gauges of one job: its series are told apart by the label `job`.
#[derive(Clone, Debug)]
pub struct JobGauges {
    /// Flink's four, then space amplification.
    keys: [Key; 5],
}

impl JobGauges {
    /// Of the job with this name.
    pub fn new(job: &str) -> Self {
        let metrics =
            [&LOGICAL_FILE_COUNT, &LOGICAL_FILE_SIZE, &PHYSICAL_FILE_COUNT, &PHYSICAL_FILE_SIZE, &SPACE_AMPLIFICATION];
        Self { keys: metrics.map(|metric| Key::from_parts(metric.name, vec![Label::new(JOB, job.to_owned())])) }
    }

    /// Sets them all. Space amplification is the bytes of files over those of segments, and 1 where there is nothing.
    pub fn set(&self, now: FileMerging) {
        let FileMerging { logical_files, logical_bytes, physical_files, physical_bytes } = now;
        let amplification = if logical_bytes == 0 { 1.0 } else { physical_bytes as f64 / logical_bytes as f64 };
        let counts = [logical_files, logical_bytes, physical_files, physical_bytes].map(|count| count as f64);
        let values = counts.into_iter().chain([amplification]);
        for (key, value) in self.keys.iter().zip(values) {
            with_recorder(|recorder| recorder.register_gauge(key, &METADATA)).set(value);
        }
    }
}
