//! Directories that are being made: under a name of their own until they are whole, and gone if they never are.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// What a directory is called that isn't whole yet.
const UNFINISHED: &str = ".drystone-restoring-";

/// Directories below one, that become whole together. Dropped before [`finish`](Self::finish) it removes them, those that
/// have their names already included.
pub(super) struct Places {
    root: PathBuf,
    places: Vec<Place>,
    is_finished: bool,
}

struct Place {
    now: PathBuf,
    then: PathBuf,
}

impl Places {
    /// Makes the directories, which will have these names. What an earlier run was cut off in is removed.
    pub(super) fn make(root: &Path, names: &[String]) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| failed(root, e))?;
        let mut made = Self { root: root.to_owned(), places: Vec::new(), is_finished: false };
        for name in names {
            let (now, then) = (root.join(format!("{UNFINISHED}{name}")), root.join(name));
            if then.symlink_metadata().is_ok() {
                let message = format!("{} is there already: restore into another directory", then.display());
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if now.symlink_metadata().is_ok() {
                fs::remove_dir_all(&now).map_err(|e| failed(&now, e))?;
            }
            fs::create_dir(&now).map_err(|e| failed(&now, e))?;
            made.places.push(Place { now, then });
        }
        Ok(made)
    }

    /// Where a directory is for now.
    pub(super) fn path(&self, number: usize) -> &Path {
        &self.places[number].now
    }

    /// Gives all of them their names.
    pub(super) fn finish(mut self, sync: bool) -> Result<Vec<PathBuf>> {
        for place in &mut self.places {
            if sync {
                sync_below(&place.now)?;
            }
            fs::rename(&place.now, &place.then).map_err(|e| failed(&place.then, e))?;
            place.now = place.then.clone();
        }
        if sync {
            sync_one(&self.root)?;
        }
        self.is_finished = true;
        Ok(self.places.iter().map(|place| place.then.clone()).collect())
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for place in &self.places {
            if let Err(error) = fs::remove_dir_all(&place.now) {
                tracing::warn!(directory = %place.now.display(), %error, "a half-restored directory stays");
            }
        }
    }
}

/// The path of a file below a directory, by the name that a handle gives it. The directories on the way are made.
///
/// # Errors
/// `Damaged`: the name leads out of the directory, or nowhere. `Conflict`: the file is there.
pub(super) fn path_below(directory: &Path, name: &str) -> Result<PathBuf> {
    let mut path = directory.to_owned();
    for part in name.split('/') {
        let mut parts = Path::new(part).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(normal)), None) if normal == part && !part.contains('\0') => path.push(normal),
            _ => {
                let message = format!("the name {name:?} is no path below a directory");
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
    }
    Ok(path)
}

/// Everything below a directory, and then the directory.
fn sync_below(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(|e| failed(directory, e))? {
        let path = entry.map_err(|e| failed(directory, e))?.path();
        if path.is_dir() { sync_below(&path)? } else { sync_one(&path)? }
    }
    sync_one(directory)
}

fn sync_one(path: &Path) -> Result<()> {
    let synced = fs::File::open(path).and_then(|open| open.sync_all());
    synced.map_err(|e| failed(path, e))
}
