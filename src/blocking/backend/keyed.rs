//! State in memory that is grouped by key.

use std::ops::Deref;

use bytes::Bytes;

use crate::backend::keyed::{self, RestoredGroup, WrittenGroups};
use crate::blocking::{Snapshot, TaskRestore};
use crate::error::Result;
use crate::handle::KeyedHandle;
use crate::id::KeyGroupRange;
use crate::read::RestoreCounts;

/// As [`keyed::KeyGroupBackend`], whose calls that don't wait it has by dereferencing.
pub struct KeyGroupBackend {
    inner: keyed::KeyGroupBackend,
}

impl KeyGroupBackend {
    /// As [`keyed::KeyGroupBackend::new`].
    ///
    /// # Errors
    /// The same.
    pub fn new(name: &str, range: KeyGroupRange, head: Bytes) -> Result<Self> {
        Ok(Self { inner: keyed::KeyGroupBackend::new(name, range, head)? })
    }

    /// As [`keyed::KeyGroupBackend::write_all`].
    ///
    /// # Errors
    /// The same.
    pub fn write_all(&self, snapshot: &Snapshot, encode: impl FnMut(u32) -> Bytes) -> Result<WrittenGroups> {
        let (snapshot, waiter) = snapshot.parts()?;
        waiter.wait(self.inner.write_all(snapshot, encode))?
    }

    /// As [`keyed::KeyGroupBackend::write_changed`].
    ///
    /// # Errors
    /// The same.
    pub fn write_changed(&self, snapshot: &Snapshot, encode: impl FnMut(u32) -> Bytes) -> Result<WrittenGroups> {
        let (snapshot, waiter) = snapshot.parts()?;
        waiter.wait(self.inner.write_changed(snapshot, encode))?
    }

    /// As [`keyed::KeyGroupBackend::provisional_handle`].
    ///
    /// # Errors
    /// The same.
    pub fn provisional_handle(&self, written: WrittenGroups, snapshot: &Snapshot) -> Result<Option<KeyedHandle>> {
        self.inner.provisional_handle(written, snapshot.parts()?.0)
    }
}

impl Deref for KeyGroupBackend {
    type Target = keyed::KeyGroupBackend;

    fn deref(&self) -> &keyed::KeyGroupBackend {
        &self.inner
    }
}

/// As [`keyed::restore`].
///
/// # Errors
/// The same.
pub fn restore(task: &TaskRestore, take: impl FnMut(RestoredGroup) -> Result<()>) -> Result<RestoreCounts> {
    task.waiter.wait(keyed::restore(task, take))?
}
