//! Deletes what a look has found dead.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};

use super::{DeadFile, Kind, Sweep};
use crate::error::{Error, Result};
use crate::store::names;
use crate::store::{Location, UnfinishedUpload};

/// Deletes between two looks at the checkpoints.
const BATCH: usize = 1000;

/// What became of dead files.
#[derive(Debug, Default)]
pub struct Deleted {
    /// Gone.
    pub files: Vec<DeadFile>,
    /// Left alone: metadata that came meanwhile names them, or they were written to again.
    pub spared: Vec<DeadFile>,
    /// Those whose delete failed. They may be gone.
    pub failed: Vec<(DeadFile, Error)>,
    /// Why it ended early. What is in none of the lists was not touched.
    pub stopped: Option<Error>,
    /// Directories of a local disk that held nothing else.
    pub directories: u64,
}

enum Outcome {
    Gone,
    Spared,
    Failed(Error),
}

impl Deleted {
    /// All gone, or rightly left?
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.stopped.is_none()
    }
}

impl Sweep {
    /// Deletes what was found dead. `progress` is told how many of how many were looked at.
    ///
    /// 1. Before each batch the metadata is looked at once more. What is new is read, and spares what it names; what can't
    ///    be read ends the sweep.
    /// 2. The batch is deleted, side by side; one that fails doesn't keep the others. Before a local file goes it is looked
    ///    at, for it may have been written to since.
    /// 3. At the end go directories of a local disk that are empty by it.
    ///
    /// Cancel safe: what is deleted is dead, and the rest stays.
    pub async fn delete(self, progress: &(dyn Fn(u64, u64) + Sync)) -> Deleted {
        let Self { root, mut named, requests_max, found, strays } = self;
        let (mut deleted, total) = (Deleted::default(), found.dead.len() as u64);
        let mut done = 0;
        let mut waiting = found.dead.into_iter();
        loop {
            let batch: Vec<DeadFile> = waiting.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            if let Err(error) = named.refresh(&strays).await {
                deleted.stopped = Some(error);
                break;
            }
            let is_named = |file: &DeadFile| file.kind == Kind::File && named.below.contains_key(&file.below);
            let (spared, dead): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_named);
            done += spared.len() as u64;
            deleted.spared.extend(spared);
            let deletes = dead.into_iter().map(|file| delete(root.clone(), file));
            let mut deletes = stream::iter(deletes).buffer_unordered(requests_max);
            while let Some((file, outcome)) = deletes.next().await {
                match outcome {
                    Outcome::Gone => deleted.files.push(file),
                    Outcome::Spared => deleted.spared.push(file),
                    Outcome::Failed(error) => deleted.failed.push((file, error)),
                }
                done += 1;
                progress(done, total);
            }
        }
        deleted.files.sort_by(|a, b| a.path.cmp(&b.path));
        match remove_emptied(&root, deleted.files.iter().map(|file| file.below.as_str())).await {
            Ok(directories) => deleted.directories = directories,
            Err(error) => deleted.stopped = deleted.stopped.or(Some(error)),
        }
        deleted
    }
}

async fn delete(root: Location, file: DeadFile) -> (DeadFile, Outcome) {
    let outcome = match try_delete(&root, &file).await {
        Ok(true) => Outcome::Gone,
        Ok(false) => Outcome::Spared,
        Err(error) => Outcome::Failed(error),
    };
    (file, outcome)
}

/// Says whether it was still dead.
async fn try_delete(root: &Location, file: &DeadFile) -> Result<bool> {
    match (file.kind, &file.upload) {
        (Kind::Upload, Some(id)) => {
            let path = root.name().join(&file.below)?;
            let upload = UnfinishedUpload { path, id: id.clone(), started: file.modified };
            root.abort_upload(&upload).await?;
        }
        (Kind::Partial, _) => root.delete_partial(&root.name().join(&file.below)?).await?,
        _ => {
            let place = root.join(&file.below)?;
            if root.real().scheme() == "file" && !is_unchanged(&place, file).await? {
                return Ok(false);
            }
            place.delete().await?;
        }
    }
    Ok(true)
}

/// Flink appends to local files that it merges into; an object never changes. What is gone needs no sparing.
async fn is_unchanged(place: &Location, file: &DeadFile) -> Result<bool> {
    let now = place.list_file().await?;
    Ok(now.is_none_or(|now| (Some(now.size), now.modified) == (file.bytes, file.modified)))
}

/// The directories of checkpoints, and those below `shared`, from which files have gone, and that hold none now. Says how
/// many went.
pub(crate) async fn remove_emptied<'a>(root: &Location, gone: impl Iterator<Item = &'a str>) -> Result<u64> {
    let directories: BTreeSet<&str> = gone
        .filter_map(|below| {
            let (first, rest) = below.split_once('/')?;
            match first {
                names::SHARED => {
                    let (inner, _) = rest.split_once('/')?;
                    below.get(..first.len() + 1 + inner.len())
                }
                _ => Some(first),
            }
        })
        .collect();
    let mut removed = 0;
    for directory in directories {
        removed += u64::from(root.join(directory)?.remove_empty_dirs().await?);
    }
    Ok(removed)
}
