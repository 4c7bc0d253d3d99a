//! The write path: `SegmentWriter -> FilePool -> OpenFile --seal--> SealedFile`.
//!
//! Bytes go down, handles come back as plain values. A handle that names a file can only be had from a
//! [`SealedFile`], so it never names bytes that aren't durable (I1). Nothing here knows of checkpoints' lives.

mod bounds;
mod file;
mod inline;
mod mark;
mod pool;
mod segment;
mod spares;

pub use bounds::Bounds;
pub use file::{Placement, SealedFile};
pub use inline::InlineBudget;
pub(crate) use mark::Mark;
pub(crate) use pool::Beside;
pub use pool::{FileNaming, FilePool, Sealed, Tokens};
pub use segment::{PlacedFiles, SegmentWriter, Written};

use std::time::Duration;

use crate::id::{CheckpointId, Scope, Subtask};

/// How segments are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSettings {
    /// Bytes of a physical file, footer included. Only a single segment that with its footer is larger than this may
    /// exceed it, in a file of its own.
    pub file_bytes_max: u64,
    /// A chunk of at most this many bytes goes into the metadata instead of a file; where several streams have it, they
    /// count together, here and in what follows.
    pub inline_bytes_max: u64,
    /// Bytes that may go inline in all; past it small chunks are packed, too.
    pub inline_bytes_total_max: u64,
    /// A segment of unknown size is buffered up to this many bytes, then streamed into a file of its own.
    pub buffer_bytes_max: u64,
    /// Files being filled at once, not counting those that a segment is being streamed into; where
    /// `subtasks_per_file_max` is set, for each group of subtasks. A blocking pool has one.
    pub open_files_max: usize,
    /// Files being uploaded at once; a writer that has started one more waits for one to end. The memory of a pool by
    /// itself is bounded by `(open_files_max + uploads_max + writers) * file_bytes_max` and one buffer for each writer;
    /// that of pools that share [`Bounds`], by these.
    pub uploads_max: usize,
    /// An object store gets a file of at least twice this in parts of so many bytes, four at a time. It takes two
    /// requests beside the parts, and about the time of one part instead of the whole file's.
    pub part_bytes: u64,
    /// What a writer does that finds the open file leased: one that streams a long segment has it for itself.
    pub mode: PoolMode,
    /// How many different subtasks may have segments in one file; `None` is any number.
    pub subtasks_per_file_max: Option<u32>,
    /// What a file is.
    pub layout: FileLayout,
}

/// What a physical file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileLayout {
    /// Segments back to back, then a footer. Handles name ranges in it, by its absolute path.
    #[default]
    Packed,
    /// One segment, and not a byte beside it, however long. So nothing but the metadata says whose bytes they are, and which
    /// checksum they have: from the handle the coordinator takes it into the trailer, and names the file by its name alone,
    /// which is looked for beside the metadata. So both can be moved.
    Plain,
    /// There is none: every segment goes inline, and one for which there is no room is refused.
    None,
}

/// What a writer does that finds the open file leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// It never waits: it opens another file.
    NonBlocking,
    /// It waits, so that there is one open file at a time for each group of subtasks.
    Blocking {
        /// So long at most, then it opens another: who needs two streams at once would wait for itself.
        lease_timeout: Duration,
    },
}

impl PoolMode {
    /// Blocking, for a second at most.
    pub const BLOCKING: Self = Self::Blocking { lease_timeout: Duration::from_secs(1) };
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            file_bytes_max: 32 << 20,
            inline_bytes_max: 20 << 10,
            inline_bytes_total_max: 8 << 20,
            buffer_bytes_max: 8 << 20,
            open_files_max: 2,
            uploads_max: 1,
            part_bytes: 8 << 20,
            mode: PoolMode::NonBlocking,
            subtasks_per_file_max: None,
            layout: FileLayout::Packed,
        }
    }
}

/// Whose bytes a segment holds; the file's footer says it, so that a file explains itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The checkpoint that first wrote it.
    pub checkpoint: CheckpointId,
    /// The subtask; `None` for what belongs to no single one.
    pub subtask: Option<Subtask>,
    /// Who may name it.
    pub scope: Scope,
}
