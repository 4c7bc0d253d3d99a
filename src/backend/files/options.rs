//! What the caller of the file adapter says and is told: plain values.

use std::path::PathBuf;

/// What a file of a database's snapshot is to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// It never changes once it is there: later checkpoints share it.
    Shared,
    /// It may have other bytes under its name next time: it is written each time, for this checkpoint alone.
    Private,
    /// No part of the snapshot.
    Skipped,
}

/// How a restore makes directories.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Directories that may have some of the shared files, under the same names: snapshots that an earlier run has left. A
    /// file of the right length and checksum is linked, or copied where it can't be, instead of being downloaded. A worker's
    /// copies of its files need no mention here: the restore knows of them.
    pub local: Vec<PathBuf>,
    /// Waits until the disk has it all: for who goes on from there after a loss of power. A checkpoint can be restored
    /// again.
    pub sync: bool,
}

/// What an upload came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadCounts {
    /// Shared files that were named again.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Shared files that were written because no completed checkpoint has them, or because all files are.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Shared files that were written though a completed checkpoint has them, because the worker wanted it.
    pub rewritten_files: u64,
    /// Their bytes.
    pub rewritten_bytes: u64,
    /// Private files.
    pub private_files: u64,
    /// Their bytes.
    pub private_bytes: u64,
}
