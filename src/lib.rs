//! Drystone packs the many small state files of a stream processor's checkpoint into a few physical files, in Apache
//! Flink's own on-disk format.

pub mod config;
pub mod error;
pub mod format;
pub mod handle;
pub mod id;
pub mod inspect;
pub mod read;
pub mod repack;
pub mod store;
pub mod verify;
pub mod write;

pub use error::{Error, ErrorKind, FormatError, Result};
