//! Finds what no checkpoint names in a job's directory, says why, and deletes it: what crashed workers, aborted
//! checkpoints, interrupted runs and failed deletes have left, of Drystone's and of stock Flink's.
//!
//! `spot` says what a file is by its place and name, `rule` whether it is dead (both pure); `named` reads what is alive
//! from every metadata file that may say so; `look` puts them together, and `delete` deletes what the look has found.
//! In doubt nothing is deleted. `design/0007-sweep.md` has the argument.

mod delete;
mod look;
mod named;
mod rule;
mod spot;

use std::time::{Duration, SystemTime};

use crate::id::CheckpointId;
use crate::store::FlinkPath;

pub(crate) use delete::remove_emptied;
pub(crate) use named::Named;

pub use delete::Deleted;
pub use look::Sweep;
pub use rule::{Facts, Kind, Reason, Verdict, judge};
pub use spot::{Author, Spot};

/// What to sweep, and what to leave alone.
#[derive(Clone, Debug)]
pub struct SweepSettings {
    /// What was written less than this ago is left alone: longer than any checkpoint and any run of `repack` takes, and than
    /// the time between two checkpoints.
    pub grace: Duration,
    /// Sweep also where no checkpoint is left. Nothing then says what is alive: only where the job is over, and no other
    /// has taken its checkpoints over.
    pub abandoned: bool,
    /// Checkpoints, savepoints and directories of jobs elsewhere that may name files of this one. Jobs beside it are
    /// looked at anyway.
    pub named_by: Vec<FlinkPath>,
    /// Requests under way at once.
    pub requests_max: usize,
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(86_400), abandoned: false, named_by: Vec::new(), requests_max: 32 }
    }
}

/// What a look at a job's directory has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The directory.
    pub directory: FlinkPath,
    /// Checkpoints in it, in order.
    pub checkpoints: Vec<CheckpointId>,
    /// All metadata that was read, of savepoints and of other jobs, too.
    pub metadata: u64,
    /// What is dead, by path.
    pub dead: Vec<DeadFile>,
    /// Files that neither Flink nor Drystone writes there, relative to the directory: they are left alone.
    pub unknown: Vec<String>,
    /// Files that metadata names, or that are metadata.
    pub alive: Sum,
    /// Files that nothing names and that are too young to be dead.
    pub young: Sum,
    /// What is the tasks', the user's, another job's or the log, and named by no metadata that was read.
    pub not_ours: Sum,
    /// Could unfinished uploads be asked for? Only S3 says them.
    pub uploads_known: bool,
}

/// Files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file that nothing names and that nothing will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadFile {
    /// Where it lies.
    pub path: FlinkPath,
    /// The same, relative to the job's directory.
    pub below: String,
    /// In which state.
    pub kind: Kind,
    /// Its length; of an upload it isn't known.
    pub bytes: Option<u64>,
    /// When it was last written to, or an upload was begun.
    pub modified: SystemTime,
    /// Why it is dead.
    pub reason: Reason,
    /// The store's name of an upload.
    upload: Option<String>,
}

impl Found {
    /// What is dead, in figures.
    pub fn dead_sum(&self) -> Sum {
        Sum::of(&self.dead)
    }
}

impl Sum {
    /// Of dead files.
    pub fn of(dead: &[DeadFile]) -> Self {
        let mut sum = Self::default();
        dead.iter().for_each(|file| sum.add(file.bytes.unwrap_or_default()));
        sum
    }

    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}
