//! Disposes of a savepoint, or of a retained checkpoint that belongs to nobody any more: deletes what its metadata names and
//! nothing else names, as Flink's `savepoint --dispose` does, of Flink's as well as of Drystone's.
//!
//! `look` says what is to go and what is to stay (`rule`, pure), and refuses where a coordinator may count on the checkpoint;
//! `delete` deletes. Who names what is asked of `sweep`. In doubt nothing is deleted. `design/0011-latest.md` has the
//! argument.

mod delete;
mod look;
mod rule;

use std::time::Duration;

use crate::format::PropertiesKind;
use crate::id::CheckpointId;
use crate::store::FlinkPath;

pub use delete::Disposed;
pub use look::Disposal;
pub use rule::Why;

/// How careful to be.
#[derive(Clone, Debug)]
pub struct DisposeSettings {
    /// A job whose coordinator has done something within this time is taken for alive, and nothing of its own checkpoints is
    /// touched: longer than the time between two checkpoints.
    pub grace: Duration,
    /// The job is over, and no other has taken its checkpoints over: its signs of life don't count.
    pub abandoned: bool,
    /// Files in `taskowned` go, too. They are the tasks' to delete; of a job that is over nobody does.
    pub task_owned: bool,
    /// Checkpoints, savepoints and directories of jobs elsewhere that may name the same files. Jobs beside it are looked at
    /// anyway.
    pub named_by: Vec<FlinkPath>,
    /// Requests under way at once.
    pub requests_max: usize,
}

impl Default for DisposeSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(86_400),
            abandoned: false,
            task_owned: false,
            named_by: Vec::new(),
            requests_max: 32,
        }
    }
}

/// What a look at a checkpoint has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its directory.
    pub directory: FlinkPath,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Which kind of snapshot, where the metadata says it as Flink does.
    pub kind: Option<PropertiesKind>,
    /// The length of its metadata, which goes first. None where an earlier disposal was cut off after that.
    pub metadata_bytes: Option<u64>,
    /// Files that it names and nothing else does, by path: they go.
    pub doomed: Vec<NamedFile>,
    /// Files that it names and that stay.
    pub spared: Vec<(NamedFile, Why)>,
    /// Files that it names and that aren't there.
    pub missing: Vec<FlinkPath>,
}

/// A file that a checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile {
    /// Where it lies.
    pub path: FlinkPath,
    /// Its length.
    pub bytes: u64,
}

impl Found {
    /// The bytes of all that goes, the metadata's among them.
    pub fn doomed_bytes(&self) -> u64 {
        self.doomed.iter().map(|file| file.bytes).sum::<u64>() + self.metadata_bytes.unwrap_or_default()
    }
}
