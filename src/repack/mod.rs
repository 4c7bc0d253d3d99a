//! Writes a checkpoint again, elsewhere: packed into few files, or as it is.
//!
//! The source is never changed. At the destination nothing counts before `_metadata` is there, which is written last,
//! after everything it names has been read back; a run that fails removes what it wrote, and what a killed run left
//! behind is removed by the next.

mod copy;
mod pack;
mod rewrite;
mod target;
mod transfer;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::id::JobId;
use crate::read::{Checkpoint, ReadLimits, State, Totals};
use crate::store::{FlinkPath, Stores};
use crate::write::{Tokens, WriteSettings};

/// How to write a checkpoint again.
#[derive(Clone)]
pub struct Options {
    /// How to pack (`repack` only).
    pub write: WriteSettings,
    /// How to read.
    pub read: ReadLimits,
    /// The job's id, where the source's path doesn't say it.
    pub job_id: Option<JobId>,
    /// Unguessable numbers for names.
    pub tokens: Tokens,
    /// Remove what interrupted runs left at the destination before anything is written, rather than after the commit:
    /// where there is no room for both. Only when no other run to the same place is alive: its files would go.
    pub discard_leftovers: bool,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the source and writing the files.
    Writing,
    /// Reading back what was written.
    Checking,
}

/// Told (phase, bytes done, bytes in all) as a run goes on.
pub type Progress<'a> = dyn Fn(Phase, u64, u64) + Sync + 'a;

/// What a run did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The new checkpoint's directory.
    pub destination: FlinkPath,
    /// How much an interrupted earlier run had left there, which was removed first.
    pub leftovers_removed: usize,
    /// An earlier run had written everything; this one only checked it.
    pub already_complete: bool,
    /// The source.
    pub before: Totals,
    /// The result.
    pub after: Totals,
}

/// Writes the checkpoint at `source` into `destination/<job id>/chk-N/`, its state packed into few physical files.
///
/// Every stream's bytes stay what they are, and so do all offsets within them. Stock Flink from 1.20 on restores the
/// result.
///
/// # Errors
/// [`Damaged`](crate::ErrorKind::Damaged) when the source isn't sound, [`Conflict`](crate::ErrorKind::Conflict) when
/// something is at the destination already. After any error the destination holds nothing of this run, unless the error
/// says that it could not be cleaned up, or that it is complete and only the mark of its making is left.
///
/// Not cancel safe: a cancelled run leaves files without `_metadata`, which the next run to the same place removes.
pub async fn repack(
    stores: &Stores,
    source: &FlinkPath,
    destination: &FlinkPath,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Report> {
    transfer::run(stores, source, destination, options, progress, transfer::How::Pack).await
}

/// Copies the checkpoint at `source` into `destination/<job id>/chk-N/`: every file as it is, under new paths.
///
/// # Errors
/// As [`repack`].
pub async fn copy(
    stores: &Stores,
    source: &FlinkPath,
    destination: &FlinkPath,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Report> {
    transfer::run(stores, source, destination, options, progress, transfer::How::Copy).await
}

/// What a run reads from.
struct Source<'a> {
    checkpoint: &'a Checkpoint,
    state: &'a State,
    /// The lengths of its files in bytes, by the file's number, as far as they were asked for.
    lengths: &'a BTreeMap<usize, u64>,
}
