//! What the example asks of a database.

use std::path::Path;

use drystone::backend::files::FileKind;
use drystone::{Error, ErrorKind, Result};

/// A database whose snapshot is a directory of files.
pub trait Database: Sized + Send + Sync + 'static {
    /// What it is called, and which version: kept with each checkpoint, and compared on restore.
    const NAME: &'static str;

    /// Opens what is there, or makes it. Small buffers, so that there are many files.
    fn open(path: &Path) -> Result<Self>;

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    fn remove(&self, key: &[u8]) -> Result<()>;

    /// All entries, in order.
    fn each(&self, found: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()>;

    /// Merges what can be merged, beside what goes on in the background anyway.
    fn compact(&self) -> Result<()>;

    /// Makes a directory that can be opened as a database, with all that was written before. Nobody writes meanwhile;
    /// compactions may run.
    fn snapshot(&self, into: &Path) -> Result<()>;

    /// What a file of such a directory is.
    fn kind(name: &str) -> FileKind;
}

/// What a database or a disk said.
pub fn failed(what: impl std::fmt::Display, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Store, what.to_string()).with_source(error)
}
