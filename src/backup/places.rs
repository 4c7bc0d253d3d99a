//! The local directories as one worker has them: locked, looked through, in use or not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::layout;
use crate::id::FileToken;
use crate::store::names::{PhysicalFileName, WorkerName};

/// One local directory, of one job.
pub(super) struct Place {
    pub(super) path: PathBuf,
    state: State,
}

enum State {
    /// Nothing was asked of it yet, or it is worth another try.
    New,
    Open {
        #[allow(dead_code, reason = "held for their drop")]
        locks: Vec<Box<dyn Send>>,
        /// Nothing is written until something changes.
        is_stopped: bool,
    },
    Refused,
}

/// What was found in a directory: the copies that are this worker's to look after.
pub(super) struct Inventory {
    pub(super) copies: Vec<(PhysicalFileName, u64)>,
}

impl Place {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: State::New }
    }

    /// Is it yet to be opened?
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, State::New)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(super) fn is_writable(&self) -> bool {
        matches!(self.state, State::Open { is_stopped: false, .. })
    }

    /// A write has failed: no further one is tried for now.
    pub(super) fn stop(&mut self) {
        if let State::Open { is_stopped, .. } = &mut self.state {
            *is_stopped = true;
        }
    }

    /// Something has changed: it is worth another try.
    pub(super) fn try_again(&mut self) {
        // It may be gone, or be another disk by now: all of it is done anew.
        if !self.is_writable() {
            self.state = State::New;
        }
    }

    /// Makes it this worker's. Copies of workers that live no more are this one's, too; those of others that live aren't
    /// looked at, nor are those that are known. None if another process has this worker's name here.
    pub(super) fn open(
        &mut self,
        disk: &dyn Disk,
        worker: &WorkerName,
        is_known: &dyn Fn(FileToken) -> bool,
    ) -> io::Result<Option<Inventory>> {
        self.state = State::Refused;
        disk.make_directory(&self.path)?;
        let Some(own) = disk.lock(&self.path.join(layout::lock_name(worker)))? else { return Ok(None) };
        let mut locks = vec![own];
        let mut by_worker: BTreeMap<WorkerName, Vec<(String, u64)>> = BTreeMap::new();
        for (name, bytes) in disk.list(&self.path)? {
            let of_file = name.parse::<PhysicalFileName>().ok().or_else(|| layout::parse_part(&name));
            if of_file.as_ref().is_some_and(|file| is_known(file.token)) {
                continue;
            }
            let of_worker = of_file.map(|file| file.worker).or_else(|| layout::parse_lock(&name));
            if let Some(of_worker) = of_worker {
                by_worker.entry(of_worker).or_default().push((name, bytes));
            }
        }
        let mut copies = Vec::new();
        for (other, files) in by_worker {
            if other != *worker {
                match disk.lock(&self.path.join(layout::lock_name(&other)))? {
                    Some(lock) => locks.push(lock),
                    None => continue,
                }
            }
            let found = self.take_over(disk, &files);
            if other != *worker && found.is_empty() {
                // Nothing is left of it but its name.
                let _ = disk.remove(&self.path.join(layout::lock_name(&other)));
            }
            copies.extend(found);
        }
        self.state = State::Open { locks, is_stopped: false };
        Ok(Some(Inventory { copies }))
    }

    /// What was in the making will never be whole.
    fn take_over(&self, disk: &dyn Disk, files: &[(String, u64)]) -> Vec<(PhysicalFileName, u64)> {
        let mut copies = Vec::new();
        for (name, bytes) in files {
            match (name.parse::<PhysicalFileName>(), layout::parse_part(name)) {
                (Ok(file), _) => copies.push((file, *bytes)),
                // One that can't be removed is counted, and removed later, as a copy that nobody names.
                (_, Some(file)) if is_removed(disk, &self.path.join(name)).is_err() => copies.push((file, *bytes)),
                _ => {}
            }
        }
        copies
    }
}

/// Deletes what there is of a copy, whole or in the making.
pub(super) fn remove(disk: &dyn Disk, directory: &Path, name: &PhysicalFileName) -> io::Result<()> {
    is_removed(disk, &directory.join(layout::part_name(name)))?;
    is_removed(disk, &directory.join(name.to_string()))
}

fn is_removed(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Where a file's copy goes, or is looked for, first: each directory in turn, as tokens come.
pub(super) fn in_turn(token: FileToken, directories: usize) -> impl Iterator<Item = usize> {
    let first = (token.0 % directories.max(1) as u64) as usize;
    (0..directories).map(move |step| (first + step) % directories)
}
