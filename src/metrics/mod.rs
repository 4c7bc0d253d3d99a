//! What a running job can be watched by: every metric's name, type, unit and meaning, and functions that record them.
//!
//! They go to whatever recorder the process has installed for the crate `metrics`; without one, recording does nothing.
//! [`CATALOGUE`] is the one list: descriptions, `design/metrics.md` and the keys come out of it. The only module that
//! names that crate. Nothing here does I/O.

mod checkpoints;
mod record;

use std::fmt::Write;

use ::metrics::Unit;

pub use checkpoints::{CheckpointCounts, CheckpointGauges, LastCheckpoint};
pub use record::{
    FileMerging, JobGauges, commit_took, copied, copy_refused, delete_failed, delete_retried, inlined, orphans_found,
    request, requests, restored, rewritten, seal_took, uploaded, waited,
};

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, unique.
    pub name: &'static str,
    /// How its values are to be read.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// The label that tells its series apart, and the label's values, where they are known; none for a single series.
    pub label: Option<(&'static str, &'static [&'static str])>,
    /// What it says, in one sentence.
    pub description: &'static str,
}

/// How a metric's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// The value of the moment.
    Gauge,
    /// Single values, of which shares can be had.
    Histogram,
}

/// What a store is asked for. Each is a request of its own where stores bill by the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// Writes an object in one piece.
    Put,
    /// Starts an upload in parts.
    MultipartCreate,
    /// Sends one part.
    MultipartPart,
    /// Makes the parts an object.
    MultipartComplete,
    /// Gives the parts up.
    MultipartAbort,
    /// Reads an object or a range of one.
    Get,
    /// Asks for an object's length.
    Head,
    /// Lists a directory; how many pages that takes can't be seen.
    List,
    /// Deletes one object.
    Delete,
    /// Copies an object within the store.
    Copy,
}

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Memory for bytes that aren't uploaded yet.
    Memory,
    /// An upload to end, so that the next may start.
    Uploads,
    /// A file that another writer has leased.
    Leases,
}

/// Why bytes that were durable already are written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rewriting {
    /// Their file was mostly dead; the state backend wrote them again.
    Waste,
    /// Their file was small; the state backend wrote them again.
    Fold,
    /// The coordinator copied them in the background.
    Background,
}

/// What became of the copy of a file on a local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copied {
    /// It is there.
    Whole,
    /// The disk refused it.
    Failed,
    /// There is no room for it within the bound.
    NoRoom,
    /// The disk is so much slower than the store that too much waited for it.
    TooSlow,
    /// Nobody wants it: the file wasn't written, or its checkpoint has ended.
    Unwanted,
}

/// Where restored bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestoredFrom {
    /// The store.
    Store,
    /// A copy on a local disk.
    Backup,
}

impl RequestKind {
    /// All of them, in the order of [`REQUESTS`]' label values.
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::MultipartCreate,
        Self::MultipartPart,
        Self::MultipartComplete,
        Self::MultipartAbort,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Copy,
    ];

    /// The label's value.
    pub fn name(self) -> &'static str {
        KINDS[self as usize]
    }
}

const KINDS: &[&str] = &[
    "put",
    "multipart_create",
    "multipart_part",
    "multipart_complete",
    "multipart_abort",
    "get",
    "head",
    "list",
    "delete",
    "copy",
];
/// The label of a job's series: the name of its directory.
const JOB: &str = "job";
const QUEUES: &[&str] = &["memory", "uploads", "leases"];
const REASONS: &[&str] = &["waste", "fold", "background"];
const OUTCOMES: &[&str] = &["copied", "failed", "no_room", "too_slow", "unwanted"];
const SOURCES: &[&str] = &["store", "backup"];

/// Flink's gauge of segments.
pub const LOGICAL_FILE_COUNT: Metric = Metric {
    name: "fileMerging.logicalFileCount",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Segments that retained and pending checkpoints name; Flink's own name for it.",
};

/// Flink's gauge of segments' bytes.
pub const LOGICAL_FILE_SIZE: Metric = Metric {
    name: "fileMerging.logicalFileSize",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    label: Some((JOB, &[])),
    description: "Bytes of those segments; Flink's own name for it.",
};

/// Flink's gauge of files.
pub const PHYSICAL_FILE_COUNT: Metric = Metric {
    name: "fileMerging.physicalFileCount",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Physical files that hold them; Flink's own name for it.",
};

/// Flink's gauge of files' bytes.
pub const PHYSICAL_FILE_SIZE: Metric = Metric {
    name: "fileMerging.physicalFileSize",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    label: Some((JOB, &[])),
    description: "Bytes of those files, footers included; Flink's own name for it.",
};

/// Flink's gauge of all checkpoints.
pub const CHECKPOINTS: Metric = Metric {
    name: "totalNumberOfCheckpoints",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Checkpoints and savepoints that the driver of this process has begun, or failed to; Flink's own name for it.",
};

/// Flink's gauge of checkpoints under way.
pub const CHECKPOINTS_UNDER_WAY: Metric = Metric {
    name: "numberOfInProgressCheckpoints",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Those that are under way; Flink's own name for it.",
};

/// Flink's gauge of completed checkpoints.
pub const CHECKPOINTS_COMPLETED: Metric = Metric {
    name: "numberOfCompletedCheckpoints",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Those that have completed; Flink's own name for it.",
};

/// Flink's gauge of failed checkpoints.
pub const CHECKPOINTS_FAILED: Metric = Metric {
    name: "numberOfFailedCheckpoints",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Those that have failed, were given up, or couldn't begin; Flink's own name for it.",
};

/// Flink's gauge of the last number.
pub const LAST_ID: Metric = Metric {
    name: "lastCompletedCheckpointId",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "The number of the one that completed last; Flink's own name for it.",
};

/// Flink's gauge of the last duration.
pub const LAST_DURATION: Metric = Metric {
    name: "lastCheckpointDuration",
    kind: Kind::Gauge,
    unit: Unit::Milliseconds,
    label: Some((JOB, &[])),
    description: "How long that took, from the trigger until it was durable; Flink's own name for it.",
};

/// Flink's gauge of the last size.
pub const LAST_SIZE: Metric = Metric {
    name: "lastCheckpointSize",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    label: Some((JOB, &[])),
    description: "Bytes that were written for it: of its new files, and of state in its metadata; Flink's own name for it.",
};

/// Flink's gauge of the last one's state.
pub const LAST_FULL_SIZE: Metric = Metric {
    name: "lastCheckpointFullSize",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    label: Some((JOB, &[])),
    description: "Bytes of all its state; Flink's own name for it.",
};

/// Flink's gauge of the last metadata.
pub const LAST_METADATA_SIZE: Metric = Metric {
    name: "lastCheckpointMetadataSize",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    label: Some((JOB, &[])),
    description: "Bytes of its metadata; Flink's own name for it.",
};

/// Requests to stores.
pub const REQUESTS: Metric = Metric {
    name: "drystone.store.requests",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: Some(("kind", KINDS)),
    description: "Requests to stores, failed ones included; a store's own retries can't be seen.",
};

/// Bytes sent to stores.
pub const BYTES_UPLOADED: Metric = Metric {
    name: "drystone.store.bytes_uploaded",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    label: None,
    description: "Bytes of the puts and parts sent to stores, failed ones included.",
};

/// Bytes written again.
pub const BYTES_REWRITTEN: Metric = Metric {
    name: "drystone.bytes_rewritten",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    label: Some(("reason", REASONS)),
    description: "Bytes of segments that were durable already and that workers said to write again, or that were copied, to save space or files.",
};

/// Physical over live.
pub const SPACE_AMPLIFICATION: Metric = Metric {
    name: "drystone.space_amplification",
    kind: Kind::Gauge,
    unit: Unit::Count,
    label: Some((JOB, &[])),
    description: "Bytes in physical files per byte of live segments; 1 when there are none.",
};

/// Bytes in the metadata.
pub const INLINE_BYTES: Metric = Metric {
    name: "drystone.inline.bytes",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    label: None,
    description: "Bytes of chunks that went into the metadata instead of a file.",
};

/// Chunks in the metadata.
pub const INLINE_SEGMENTS: Metric = Metric {
    name: "drystone.inline.segments",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: None,
    description: "Chunks that went into the metadata instead of a file.",
};

/// Back-pressure.
pub const WAITS: Metric = Metric {
    name: "drystone.wait_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    label: Some(("queue", QUEUES)),
    description: "How long a writer waited for memory, for an upload slot or for a leased file, each time that it had to.",
};

/// Seals.
pub const SEAL: Metric = Metric {
    name: "drystone.seal_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    label: None,
    description: "How long it took to make a physical file durable, from the decision to the store's answer.",
};

/// Commits.
pub const COMMIT: Metric = Metric {
    name: "drystone.commit_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    label: None,
    description: "How long it took to complete a checkpoint, from the last acknowledgement to the durable metadata.",
};

/// Failed deletes.
pub const DELETES_FAILED: Metric = Metric {
    name: "drystone.deletes.failed",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: None,
    description: "Deletes that a store refused; each is tried again.",
};

/// Retried deletes.
pub const DELETES_RETRIED: Metric = Metric {
    name: "drystone.deletes.retried",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: None,
    description: "Further attempts at deletes that had failed.",
};

/// Leftovers.
pub const ORPHANS: Metric = Metric {
    name: "drystone.orphans_found",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: None,
    description: "Files found in the store that no checkpoint names, and deleted.",
};

/// Local copies.
pub const BACKUP_FILES: Metric = Metric {
    name: "drystone.backup.files",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: Some(("outcome", OUTCOMES)),
    description: "Files to be copied to local disks, by what became of the copy: all but copied are in the store alone.",
};

/// Bytes of local copies.
pub const BACKUP_BYTES: Metric = Metric {
    name: "drystone.backup.bytes_copied",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    label: None,
    description: "Bytes of files that were copied to local disks.",
};

/// Where restored bytes came from.
pub const RESTORE_BYTES: Metric = Metric {
    name: "drystone.restore.bytes_read",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    label: Some(("source", SOURCES)),
    description: "Bytes that tasks read from files to restore their state, gaps included.",
};

/// Local copies that were no good.
pub const BACKUP_REFUSED: Metric = Metric {
    name: "drystone.backup.refused",
    kind: Kind::Counter,
    unit: Unit::Count,
    label: None,
    description: "Local copies, or parts of them, that were damaged or unreadable; the store was read instead.",
};

/// Every metric there is: Flink's own first.
pub const CATALOGUE: [Metric; 29] = [
    LOGICAL_FILE_COUNT,
    LOGICAL_FILE_SIZE,
    PHYSICAL_FILE_COUNT,
    PHYSICAL_FILE_SIZE,
    CHECKPOINTS,
    CHECKPOINTS_UNDER_WAY,
    CHECKPOINTS_COMPLETED,
    CHECKPOINTS_FAILED,
    LAST_ID,
    LAST_DURATION,
    LAST_SIZE,
    LAST_FULL_SIZE,
    LAST_METADATA_SIZE,
    REQUESTS,
    BYTES_UPLOADED,
    BYTES_REWRITTEN,
    SPACE_AMPLIFICATION,
    INLINE_BYTES,
    INLINE_SEGMENTS,
    WAITS,
    SEAL,
    COMMIT,
    DELETES_FAILED,
    DELETES_RETRIED,
    ORPHANS,
    BACKUP_FILES,
    BACKUP_BYTES,
    RESTORE_BYTES,
    BACKUP_REFUSED,
];

/// Tells the installed recorder what each metric means. Once, after the recorder is installed.
pub fn describe() {
    for metric in &CATALOGUE {
        record::describe(metric);
    }
}

/// The reference page, `design/metrics.md`.
pub fn reference() -> String {
    let mut page = String::from(PAGE);
    for Metric { name, kind, unit, label, description } in &CATALOGUE {
        let label = label.map_or(String::new(), |(label, values)| match values {
            [] => format!("`{label}`"),
            values => format!("`{label}`: {}", values.join(", ")),
        });
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string can't fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {label} | {description} |", unit.as_str());
    }
    page
}

const PAGE: &str = "# Metrics

What a running job can be watched by, through the crate `metrics`: install any of its recorders, then call
`drystone::metrics::describe()` once. Made from the catalogue in `src/metrics/`; a test keeps it current, and
`DRYSTONE_UPDATE=1 cargo test --test metrics` writes it again.

| Metric | Type | Unit | Label | Meaning |
|---|---|---|---|---|
";
