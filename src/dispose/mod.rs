//! Disposes of a savepoint, or of a retained checkpoint that belongs to nobody any more: deletes what its metadata names and
//! nothing else names, as Flink's `savepoint --dispose` does, of Flink's as well as of Drystone's.
//!
//! `look` says what is to go and what is to stay (`rule`, pure), and refuses where a coordinator may count on the checkpoint;
//! `delete` deletes. Who names what is asked of `sweep`. In doubt nothing is deleted. `design/0011-latest.md` has the
//! argument. What is left of a savepoint that never had metadata is for `unfinished`; `design/0013-savepoints.md` has that.

mod delete;
mod look;
mod rule;
mod unfinished;

use std::time::{Duration, SystemTime};

use crate::error::{ErrorKind, Result};
use crate::format::PropertiesKind;
use crate::id::CheckpointId;
use crate::store::{FlinkPath, Stores};
use look::Whole;
use unfinished::Unfinished;

pub use delete::Disposed;
pub use rule::Why;

/// A look at a checkpoint or savepoint, from which it can be disposed of.
pub struct Disposal(Look);

enum Look {
    /// It has metadata, or had when its disposal began.
    Whole(Box<Whole>),
    Unfinished(Box<Unfinished>),
}

impl Disposal {
    /// Looks what would go with the checkpoint or savepoint at `path`, its directory or its `_metadata`, and deletes nothing.
    /// `now` is the time by the store's clock: if it runs ahead of that, a job seems to be longer dead than it is.
    ///
    /// Of a savepoint's directory without metadata all goes, if Drystone wrote all of it.
    ///
    /// Goes on with one that was cut off.
    ///
    /// # Errors
    /// `NotFound`: there is no checkpoint. `Conflict`: a coordinator may count on it; or, without metadata, it may be under
    /// way, a job may have claimed it, or there is a file in it that isn't ours. `Invalid`: the checkpoint was
    /// moved, so that its metadata doesn't name its files; or a name is beside them that no path can have. `Damaged`,
    /// `Unsupported`: its metadata, or that of one beside it, can't be read, or it can't be told what it names. `Store`.
    pub async fn look(stores: &Stores, path: &FlinkPath, settings: &DisposeSettings, now: SystemTime) -> Result<Self> {
        match Whole::look(stores, path, settings, now).await {
            Ok(whole) => Ok(Self(Look::Whole(Box::new(whole)))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let unfinished = Unfinished::look(stores, path, settings, now).await?.ok_or(error)?;
                Ok(Self(Look::Unfinished(Box::new(unfinished))))
            }
            Err(error) => Err(error),
        }
    }

    /// What was found.
    pub fn found(&self) -> &Found {
        match &self.0 {
            Look::Whole(whole) => &whole.found,
            Look::Unfinished(unfinished) => &unfinished.found,
        }
    }

    /// Deletes what was found. `progress` is told how many files of how many were looked at.
    ///
    /// Cancel safe: what there was is whole, or a further look goes on.
    pub async fn delete(mut self, progress: &(dyn Fn(u64, u64) + Sync)) -> Disposed {
        let mut disposed = Disposed::default();
        let deleted = match &mut self.0 {
            Look::Whole(whole) => whole.delete(&mut disposed, progress).await,
            Look::Unfinished(unfinished) => unfinished.delete(&mut disposed, progress).await,
        };
        disposed.stopped = deleted.err();
        disposed.files.sort();
        disposed
    }
}

/// How careful to be.
#[derive(Clone, Debug)]
pub struct DisposeSettings {
    /// A job whose coordinator has done something within this time is taken for alive, and nothing of its own checkpoints is
    /// touched: longer than the time between two checkpoints. So is a savepoint without metadata in which something was
    /// written.
    pub grace: Duration,
    /// The job is over, and no other has taken its checkpoints over, nor claimed the savepoint: its signs of life don't count.
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
    /// Its number. Where there is no metadata it is by the names of its files, or unknown.
    pub checkpoint: Option<CheckpointId>,
    /// Which kind of snapshot, where the metadata says it as Flink does.
    pub kind: Option<PropertiesKind>,
    /// It is a savepoint that never had metadata: its job died before that.
    pub is_unfinished: bool,
    /// The length of its metadata, which goes first. None where an earlier disposal was cut off after that.
    pub metadata_bytes: Option<u64>,
    /// Files that it names and nothing else does, by path: they go. Of an unfinished one, all that are in its directory.
    pub doomed: Vec<NamedFile>,
    /// Files that it names and that stay; and those in its own directory that no metadata names, as far as it has one.
    pub spared: Vec<(NamedFile, Why)>,
    /// Files that it names and that aren't there.
    pub missing: Vec<FlinkPath>,
    /// Of an unfinished one, files whose uploads were cut off: they go. Only S3 says them.
    pub uploads: Vec<FlinkPath>,
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
