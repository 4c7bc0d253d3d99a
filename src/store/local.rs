//! What only a local disk has: directories of their own, and files that an interrupted write leaves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::{FlinkPath, Listed, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// The local disk of a `Stores`.
#[derive(Clone, Default)]
pub(super) struct LocalDisk {
    /// Held while a directory is made and synced. Never across an await.
    making: Arc<Mutex<()>>,
}

/// A file is written as `name#1` (or the next free number) and then linked or renamed to `name`.
pub(super) fn is_partial_name(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

impl Location {
    /// What interrupted writes left at any depth below this directory: local files `name#1`, which no other operation
    /// sees. In order. None in other stores.
    ///
    /// A write that is still going on has such a file, too.
    pub async fn list_partials(&self) -> Result<Vec<FlinkPath>> {
        Ok(self.list_partials_sized().await?.into_iter().map(|partial| partial.path).collect())
    }

    /// As [`list_partials`](Self::list_partials), with lengths, and when they were last written to.
    pub async fn list_partials_sized(&self) -> Result<Vec<Listed>> {
        if self.disk().is_none() {
            return Ok(Vec::new());
        }
        let (root, name) = (self.disk_path(), self.name().clone());
        let look = move || {
            let mut partials = Vec::new();
            for file in walk(&root)?.files {
                let below = file.strip_prefix(&root).ok().and_then(Path::to_str);
                if let Some(path) = below.map(|below| name.join_literal(below)).filter(is_partial) {
                    partials.extend(listed(&file, path)?);
                }
            }
            Ok(partials)
        };
        let mut partials = self.blocking("listing", look).await?;
        partials.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(partials)
    }

    /// Deletes a file that [`list_partials`](Self::list_partials) of this directory found, if it is still there.
    ///
    /// # Errors
    ///
    /// `Invalid`: `partial` isn't below this directory, or isn't the name of a file in the making; `Store`.
    pub async fn delete_partial(&self, partial: &FlinkPath) -> Result<()> {
        let below = partial.relative_to(self.name()).filter(|_| is_partial(partial) && self.disk().is_some());
        let Some(below) = below else {
            let message = format!("{partial} isn't a local file in the making below {}", self.shown());
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let path = self.disk_path().join(below);
        self.blocking("deleting a partial file of", move || absent_is_fine(fs::remove_file(path))).await
    }

    /// Removes this directory if neither it nor any directory below holds a file, and says whether it did. Local disks
    /// only: other stores have no directories.
    pub async fn remove_empty_dirs(&self) -> Result<bool> {
        if self.disk().is_none() {
            return Ok(false);
        }
        let root = self.disk_path();
        self.blocking("removing", move || remove_empty(&root)).await
    }

    /// Where it really lies once local links are followed, as far as it exists.
    pub async fn canonical(&self) -> Result<FlinkPath> {
        if self.disk().is_none() {
            return Ok(self.real().clone());
        }
        let path = self.disk_path();
        let found = self.blocking("following the links of", move || follow(&path)).await?;
        match found.to_str() {
            Some(text) => FlinkPath::parse(text),
            None => Err(Error::new(ErrorKind::Invalid, format!("{} leads to a path that isn't Unicode", self.shown()))),
        }
    }

    /// Is there such a directory on a local disk? In other stores there are no directories.
    pub async fn is_local_directory(&self) -> Result<bool> {
        let path = self.disk_path();
        Ok(self.disk().is_some() && self.blocking("looking for", move || Ok(path.is_dir())).await?)
    }

    /// Makes the directory above this file, durably.
    ///
    /// The store would make it, too, but of two writers only the one that made it would sync it, and the other could
    /// report a file as durable whose directory isn't. Writers of other processes aren't kept waiting.
    pub(super) async fn create_parent(&self) -> Result<()> {
        let Some(disk) = self.disk().cloned() else { return Ok(()) };
        let Some(parent) = self.disk_path().parent().map(Path::to_path_buf) else { return Ok(()) };
        let make = move || {
            let _making = disk.making.lock().unwrap_or_else(PoisonError::into_inner);
            make_directory(&parent)
        };
        self.blocking("making the directory of", make).await
    }

    fn disk_path(&self) -> PathBuf {
        PathBuf::from(self.real().path())
    }

    async fn blocking<T, F>(&self, operation: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        done.map_err(|e| Error::new(ErrorKind::Store, format!("{operation} {}: {e}", self.shown())).with_source(e))
    }
}

/// Follows the links of the part that exists; the rest is as it was.
fn follow(path: &Path) -> io::Result<PathBuf> {
    for existing in path.ancestors() {
        match fs::canonicalize(existing) {
            Ok(found) => {
                return Ok(path.strip_prefix(existing).map_or_else(|_| found.clone(), |rest| found.join(rest)));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(path.to_path_buf())
}

fn is_partial(path: &FlinkPath) -> bool {
    path.file_name().is_some_and(|name| is_partial_name(name) && !name.starts_with('#'))
}

/// None for a file that has got its name meanwhile, or is gone.
fn listed(file: &Path, path: FlinkPath) -> io::Result<Option<Listed>> {
    match fs::symlink_metadata(file) {
        Ok(meta) => Ok(Some(Listed { path, size: meta.len(), modified: meta.modified()? })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|dir| !dir.is_dir()).collect();
    fs::create_dir_all(path)?;
    // An entry is durable when the directory that holds it is synced.
    for dir in missing {
        if let Some(above) = dir.parent() {
            sync_directory(above)?;
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

#[derive(Default)]
struct Walked {
    /// Each after the one it is in.
    directories: Vec<PathBuf>,
    /// And links, which aren't followed.
    files: Vec<PathBuf>,
}

fn walk(root: &Path) -> io::Result<Walked> {
    let mut walked = Walked::default();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Gone meanwhile, or never there; or the root is a file.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                walked.files.push(entry.path());
            }
        }
        walked.directories.push(directory);
    }
    Ok(walked)
}

fn remove_empty(root: &Path) -> io::Result<bool> {
    let walked = walk(root)?;
    if !walked.files.is_empty() || walked.directories.is_empty() {
        return Ok(false);
    }
    for directory in walked.directories.iter().rev() {
        match absent_is_fine(fs::remove_dir(directory)) {
            // Somebody wrote into it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            done => done?,
        }
    }
    Ok(true)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
