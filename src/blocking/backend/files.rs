//! Databases whose snapshots are directories.

use std::ops::Deref;
use std::path::Path;

use bytes::Bytes;

use crate::backend::files::{self, FileKind, RestoreOptions, RestoredDirectories, WrittenFiles};
use crate::blocking::{Snapshot, TaskRestore};
use crate::error::Result;
use crate::handle::IncrementalHandle;
use crate::id::KeyGroupRange;

/// As [`files::FileBackend`], whose calls that don't wait it has by dereferencing.
pub struct FileBackend {
    inner: files::FileBackend,
}

impl FileBackend {
    /// As [`files::FileBackend::new`].
    ///
    /// # Errors
    /// The same.
    pub fn new(backend_id: &str, range: KeyGroupRange) -> Result<Self> {
        Ok(Self { inner: files::FileBackend::new(backend_id, range)? })
    }

    /// As [`files::FileBackend::uploads`].
    #[must_use]
    pub fn uploads(self, most: usize) -> Self {
        Self { inner: self.inner.uploads(most) }
    }

    /// As [`files::FileBackend::write_all`].
    ///
    /// # Errors
    /// The same.
    pub fn write_all(
        &self,
        snapshot: &Snapshot,
        directory: &Path,
        kind: impl Fn(&str) -> FileKind,
        meta: Bytes,
    ) -> Result<WrittenFiles> {
        let (snapshot, waiter) = snapshot.parts()?;
        waiter.wait(self.inner.write_all(snapshot, directory, kind, meta))?
    }

    /// As [`files::FileBackend::write_changed`].
    ///
    /// # Errors
    /// The same.
    pub fn write_changed(
        &self,
        snapshot: &Snapshot,
        directory: &Path,
        kind: impl Fn(&str) -> FileKind,
        meta: Bytes,
    ) -> Result<WrittenFiles> {
        let (snapshot, waiter) = snapshot.parts()?;
        waiter.wait(self.inner.write_changed(snapshot, directory, kind, meta))?
    }

    /// As [`files::FileBackend::provisional_handle`].
    ///
    /// # Errors
    /// The same.
    pub fn provisional_handle(&self, written: WrittenFiles, snapshot: &Snapshot) -> Result<IncrementalHandle> {
        self.inner.provisional_handle(written, snapshot.parts()?.0)
    }
}

impl Deref for FileBackend {
    type Target = files::FileBackend;

    fn deref(&self) -> &files::FileBackend {
        &self.inner
    }
}

/// As [`files::restore`].
///
/// # Errors
/// The same.
pub fn restore(task: &TaskRestore, into: &Path, options: &RestoreOptions) -> Result<RestoredDirectories> {
    task.waiter.wait(files::restore(task, into, options))?
}
