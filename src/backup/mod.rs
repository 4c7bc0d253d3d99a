//! Copies of a worker's own files on local disks: written beside the uploads, read first on restore.
//!
//! `shelf` decides what is kept and what goes, `layout` has names and bytes, `disk` is the seam to the file system;
//! `keeper` and `copying` write and delete, `reading` reads. Nothing here is ever the truth: a copy that is missing or
//! damaged costs a read of the store, and one that can't be written costs nothing (design/0012-local-backup.md).

mod copying;
mod disk;
mod keeper;
mod layout;
mod places;
mod reading;
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;

use crate::sync::atomic::AtomicI64;
pub(crate) use copying::Copying;
pub use disk::{Disk, FileSystem, ReadAt};
pub use keeper::{Backup, BackupLimits, BackupUsage};
pub(crate) use reading::{Found, LocalCopy};

/// Directories on local disks, for copies. Cheap to clone; nothing is asked of them before it has to be.
#[derive(Clone, Debug)]
pub struct LocalDirectories {
    directories: Arc<[PathBuf]>,
    disk: Arc<dyn Disk>,
    hanging: Arc<AtomicI64>,
}

impl LocalDirectories {
    /// These, taken in turn; best each on a disk of its own.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self::on(Arc::new(FileSystem), directories)
    }

    /// Directories of something that stands for the file system.
    pub fn on(disk: Arc<dyn Disk>, directories: Vec<PathBuf>) -> Self {
        Self { directories: directories.into(), disk, hanging: Arc::default() }
    }

    /// Where they are.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// How many calls were waited for in vain and haven't come back. Of all that read there: each keeps a thread.
    pub(crate) fn hanging(&self) -> &Arc<AtomicI64> {
        &self.hanging
    }

    /// The same directories of another disk.
    pub(crate) fn on_disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }
}
