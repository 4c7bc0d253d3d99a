//! Says what a checkpoint is made of, and what packing it would save.
//!
//! Reads metadata and asks for the lengths of files; reads no state.

mod job;
mod savings;
mod usage;

pub use job::{CheckpointFigures, JobDirectory, RetainedCheckpoint, inspect_job};
pub use savings::{NAMENODE_BYTES_PER_FILE, Prices, Requests, Savings, savings};
pub use usage::{FileUsage, Inspection, OperatorSummary, SizeBucket, SubtaskSummary, inspect};
