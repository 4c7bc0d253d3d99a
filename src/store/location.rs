//! One place in one store.

use std::fmt;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::cause::store_error;
use super::local::{LocalDisk, is_partial_name};
use super::stores::OpenStore;
use super::uploads::Uploads;
use super::{FlinkPath, names};
use crate::error::{Error, ErrorKind, Result};

/// A file, or a directory with all below it, with the path that names it. Cheap to clone.
///
/// Errors name the operation and the path, and where the path really leads if a rebase rule moved it.
#[derive(Clone)]
pub struct Location {
    name: FlinkPath,
    real: FlinkPath,
    key: Path,
    store: OpenStore,
}

impl Location {
    pub(super) fn new(name: FlinkPath, real: FlinkPath, store: OpenStore) -> Result<Self> {
        real.check_key()?;
        // `parse` takes the text as it is; the `From` conversions would encode it.
        let key = Path::parse(real.path()).map_err(|e| Error::new(ErrorKind::Invalid, format!("{real}: {e}")))?;
        Ok(Self { name, real, key, store })
    }

    /// The path that metadata has, or would have, for this place.
    pub fn name(&self) -> &FlinkPath {
        &self.name
    }

    /// The path where it lies: its [`name`](Self::name), unless a rebase rule moved it.
    pub fn real(&self) -> &FlinkPath {
        &self.real
    }

    /// Something below, in the same store.
    ///
    /// # Errors
    ///
    /// As for [`FlinkPath::join`].
    pub fn join(&self, relative: &str) -> Result<Self> {
        Self::new(self.name.join(relative)?, self.real.join(relative)?, self.store.clone())
    }

    /// The directory that it is in; none for a store's root.
    pub fn parent(&self) -> Option<Self> {
        Self::new(self.name.parent()?, self.real.parent()?, self.store.clone()).ok()
    }

    /// Where, in a savepoint's directory, the file is that says that it isn't whole; none if this is no savepoint's of ours.
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join).
    pub fn savepoint_marker(&self) -> Result<Option<Self>> {
        self.name.file_name().and_then(names::savepoint_marker).map(|name| self.join(&name)).transpose()
    }

    /// The length of the file in bytes. One request.
    ///
    /// # Errors
    ///
    /// `NotFound`, also for a directory; `Store`.
    pub async fn size(&self) -> Result<u64> {
        let meta = self.objects().head(self.object_key()?).await;
        meta.map(|meta| meta.size).map_err(|e| self.failed("looking for", e))
    }

    /// Is there such a file? Not so for a directory. One request.
    pub async fn exists(&self) -> Result<bool> {
        match self.size().await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Deletes the file, if it is there. On a local disk the deletion may be undone by a power cut.
    ///
    /// Cancel safety: the file is there or gone.
    pub async fn delete(&self) -> Result<()> {
        match self.objects().delete(self.object_key()?).await.map_err(|e| self.failed("deleting", e)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.store.objects
    }

    /// Does it lie on a local disk?
    pub(crate) fn is_local(&self) -> bool {
        self.disk().is_some()
    }

    pub(super) fn disk(&self) -> Option<&LocalDisk> {
        self.store.disk.as_ref()
    }

    pub(super) fn uploads(&self) -> &Uploads {
        &self.store.uploads
    }

    /// The key of this directory; none for the store's root.
    pub(super) fn prefix(&self) -> Option<&Path> {
        (!self.key.is_root()).then_some(&self.key)
    }

    /// The key of this file.
    pub(super) fn object_key(&self) -> Result<&Path> {
        let Some(name) = self.real.file_name() else {
            return Err(Error::new(ErrorKind::Invalid, format!("{} is a store's root, not a file", self.shown())));
        };
        if self.store.disk.is_some() && is_partial_name(name) {
            let message = format!(
                "{}: on a local disk a name that ends in # and digits is kept for files in the making",
                self.shown()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(&self.key)
    }

    pub(super) fn failed(&self, operation: &str, error: object_store::Error) -> Error {
        store_error(operation, self.shown(), error)
    }

    /// The name, and where it leads.
    pub(super) fn shown(&self) -> String {
        if self.name == self.real { self.name.to_string() } else { format!("{} (at {})", self.name, self.real) }
    }
}

impl fmt::Debug for Location {
    /// Without the store, whose own text may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.shown())
    }
}
