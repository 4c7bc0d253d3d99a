//! Loads a checkpoint's metadata.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Damage, Decoded, NamedFile};
use crate::id::{JobId, OperatorId};
use crate::store::{FlinkPath, Location, Stores, names};

/// The longest `_metadata` that is read: more would not fit Flink's own arrays.
pub const METADATA_BYTES_MAX: u64 = i32::MAX as u64;

/// A checkpoint or savepoint, with its metadata read.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its directory; the name is as the metadata's own paths would spell it.
    pub directory: Location,
    /// The whole `_metadata` file.
    pub bytes: Bytes,
    /// What it says.
    pub decoded: Decoded,
}

impl Checkpoint {
    /// Loads from a checkpoint's directory or its `_metadata` file.
    ///
    /// Damage within the file that leaves it readable is no error here: `verify` looks for it.
    pub async fn load(stores: &Stores, path: &FlinkPath) -> Result<Self> {
        let (directory, bytes) = Self::read(stores, path).await?;
        let metadata = directory.join(names::METADATA)?;
        let decoded = format::decode(bytes.clone()).map_err(|e| e.in_file(metadata.real()))?;
        Ok(Self { directory, bytes, decoded })
    }

    /// As [`load`](Self::load), for who acts on what it says: a single wrong byte is an error, as far as the file has
    /// checksums. Stock Flink's have none.
    ///
    /// # Errors
    /// `Damaged`: the metadata, or its trailer, isn't what was written. Others as for [`load`](Self::load).
    pub async fn load_intact(stores: &Stores, path: &FlinkPath) -> Result<Self> {
        let checkpoint = Self::load(stores, path).await?;
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// As [`load_intact`](Self::load_intact), from metadata under another name in the checkpoint's directory.
    pub(crate) async fn load_intact_as(stores: &Stores, directory: &FlinkPath, name: &str) -> Result<Self> {
        let directory = stores.locate_real(directory).or_else(|_| stores.locate(directory))?;
        let file = directory.join(name)?;
        let bytes = file.read_all(METADATA_BYTES_MAX).await?;
        let decoded = format::decode(bytes.clone()).map_err(|e| e.in_file(file.real()))?;
        let checkpoint = Self { directory, bytes, decoded };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<()> {
        let damaged = |at: u64, problem: String| {
            let file = self.directory.join(names::METADATA)?;
            Err(Error::new(ErrorKind::Damaged, format!("{}: at offset {at}: {problem}", file.real())))
        };
        if !self.decoded.rest.is_empty() {
            let (at, more) = (self.bytes.len() - self.decoded.rest.len(), self.decoded.rest.len());
            return damaged(at as u64, format!("{more} bytes after the properties that are no intact trailer"));
        }
        let damages = self.decoded.trailer.as_ref().map(|trailer| trailer.check(&self.bytes));
        match damages.unwrap_or_default().first() {
            Some(Damage { owner, range, offset }) => {
                let at = offset.unwrap_or(range.start);
                damaged(
                    at,
                    format!("bytes {} to {}, of the {owner}, don't match their CRC-32C", range.start, range.end),
                )
            }
            None => Ok(()),
        }
    }

    /// The directory and the bytes of `_metadata`, not yet decoded.
    pub async fn read(stores: &Stores, path: &FlinkPath) -> Result<(Location, Bytes)> {
        let directory = match (path.file_name(), path.parent()) {
            (Some(names::METADATA), Some(parent)) => parent,
            _ => path.clone(),
        };
        // A path that the rebase rules leave no name for is taken for a name itself.
        let directory = stores.locate_real(&directory).or_else(|_| stores.locate(&directory))?;
        let metadata = directory.join(names::METADATA)?;
        let bytes = metadata.read_all(METADATA_BYTES_MAX).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!("no checkpoint at {}: it has no {}", directory.real(), names::METADATA),
            ),
            _ => e,
        })?;
        if let Some(epoch) = format::barred_by(&bytes) {
            let message =
                format!("no checkpoint at {}: the coordinator of epoch {epoch} has barred it", directory.real());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok((directory, bytes))
    }

    /// Key groups are what state is shared out by: an operator keeps the number of them that its state here has.
    ///
    /// # Errors
    /// `Invalid`: `max_parallelism` is another. An operator that isn't here may have any.
    pub fn check_key_groups(&self, operator: OperatorId, max_parallelism: u32) -> Result<()> {
        let there = self.decoded.metadata.operators.iter().find(|there| there.id == operator);
        match there.filter(|there| there.max_parallelism != max_parallelism) {
            None => Ok(()),
            Some(there) => {
                let message = format!(
                    "operator {operator} is given max parallelism={max_parallelism}, its state in {} has {}: give the same",
                    self.directory.real(),
                    there.max_parallelism
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }

    /// The checksums of whole files that the trailer has. Like handles it may name them relative to the directory.
    pub(super) fn listed_checksums(&self) -> BTreeMap<FlinkPath, u32> {
        let files = self.decoded.trailer.iter().flat_map(|trailer| &trailer.files);
        let checked = files.filter_map(|file| Some((self.listed_path(file)?, file.crc32c?)));
        checked.collect()
    }

    /// Where a file lies that the trailer lists; none if that can't be a path.
    pub(crate) fn listed_path(&self, file: &NamedFile) -> Option<FlinkPath> {
        let text = file.path.to_text();
        FlinkPath::parse(&text).or_else(|_| self.directory.name().join(&text)).ok()
    }

    /// Its number and where it lies, for an error.
    pub(crate) fn named(&self) -> String {
        format!("checkpoint {} at {}", self.decoded.metadata.checkpoint_id, self.directory.real())
    }

    /// The job's id, where the directory above says it.
    pub fn job_id(&self) -> Option<JobId> {
        names::parse_job_directory(self.directory.real().parent()?.file_name()?)
    }
}
