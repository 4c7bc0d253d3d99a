//! Where a run works, and how nothing of it stays behind, whatever ends the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use drystone::store::{FlinkPath, Location, Stores};
use futures::stream::TryStreamExt;
use tempfile::TempDir;

use super::StressArguments;
use crate::args;

/// Deletes at the same time, when all is removed.
const DELETES_MAX: usize = 8;

/// A place to work in. To be [ended](Self::end) when nothing is under way any more that writes into it.
pub struct Site {
    root: FlinkPath,
    keep: bool,
    resume: bool,
    /// Where no other place is named; removed with all that is in it, unless it is to be kept.
    scratch: Option<TempDir>,
    /// Local directories that weren't there, inner ones first.
    made: Vec<PathBuf>,
    /// Directories that were a run's own when it began to write into them, and that it hasn't removed yet.
    claimed: Mutex<Vec<FlinkPath>>,
}

impl Site {
    pub fn of(arguments: &StressArguments) -> anyhow::Result<Self> {
        let (keep, resume) = (arguments.keep, arguments.resume);
        let (root, scratch) = match (&arguments.dir, &arguments.store) {
            (Some(place), _) | (None, Some(place)) => (args::path(place)?, None),
            (None, None) => {
                let directory = tempfile::Builder::new().prefix("drystone-stress-").disable_cleanup(keep).tempdir();
                let directory = directory.context("making a temporary directory")?;
                (args::path(&directory.path().display().to_string())?, Some(directory))
            }
        };
        let made = if root.scheme() == "file" { missing(Path::new(root.path())) } else { Vec::new() };
        Ok(Self { root, keep, resume, scratch, made, claimed: Mutex::default() })
    }

    pub fn root(&self) -> &FlinkPath {
        &self.root
    }

    /// Takes a directory for a run, which has to be empty unless it goes on with what is there.
    pub async fn claim(&self, directory: &Location) -> anyhow::Result<()> {
        let there = directory.list_dir().await?;
        anyhow::ensure!(
            self.resume || there.files.is_empty() && there.directories.is_empty(),
            "{} is not empty: name another directory, remove what an earlier run left there, or go on with it by --resume",
            directory.name()
        );
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).push(directory.name().clone());
        Ok(())
    }

    /// A run is through: removes what it wrote, unless it is to be kept. Where something was wrong with what an earlier
    /// run had left, that is kept, too.
    pub async fn release(&self, directory: &Location, is_sound: bool) -> anyhow::Result<()> {
        if !self.keep && (is_sound || !self.resume) {
            remove(directory).await?;
            self.claimed.lock().unwrap_or_else(PoisonError::into_inner).retain(|claimed| claimed != directory.name());
        }
        Ok(())
    }

    /// Removes what runs that were cut off have written, or tells what stays, in words.
    pub async fn clear(&self) -> anyhow::Result<String> {
        let claimed = std::mem::take(&mut *self.claimed.lock().unwrap_or_else(PoisonError::into_inner));
        // What was resumed isn't the run's own alone: it goes when the run has come to its end.
        if self.keep || self.resume {
            let kept: Vec<_> = claimed.iter().map(FlinkPath::to_string).collect();
            return Ok(if kept.is_empty() { String::new() } else { format!("kept so far: {}", kept.join(", ")) });
        }
        if self.scratch.is_some() || claimed.is_empty() {
            return Ok(String::new());
        }
        // The runs' own stores may need a runtime that is gone.
        let stores = Stores::new();
        for directory in &claimed {
            remove(&stores.locate(directory)?).await?;
        }
        Ok(format!("removed what was written below {}", self.root))
    }

    /// Removes the directory itself if it was made for the run and nothing is in it.
    pub fn end(self) {
        for directory in self.made {
            // Somebody else's files are in it, then, or it is to be kept with ours.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// The path and the directories above it, as far as they aren't there.
fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect()
}

async fn remove(root: &Location) -> anyhow::Result<()> {
    let removing = || format!("removing {}", root.name());
    let files = root.list_stream();
    let deleted = files.try_for_each_concurrent(DELETES_MAX, |file| async move {
        match file.path.relative_to(root.name()) {
            Some(below) => root.join(below)?.delete().await,
            None => Ok(()),
        }
    });
    deleted.await.with_context(removing)?;
    for partial in root.list_partials().await.with_context(removing)? {
        root.delete_partial(&partial).await.with_context(removing)?;
    }
    for directory in [root.parent(), Some(root.clone())].into_iter().flatten() {
        directory.remove_empty_dirs().await.with_context(removing)?;
    }
    Ok(())
}
