//! What is in a directory.

use std::time::SystemTime;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::local::is_partial_name;
use super::{FlinkPath, Location};
use crate::error::{Error, ErrorKind, Result};

/// A file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, below that of the listed directory.
    pub path: FlinkPath,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
}

/// One level of a directory. Both lists are in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The directories in it.
    pub directories: Vec<FlinkPath>,
    /// The files in it.
    pub files: Vec<Listed>,
}

impl Location {
    /// All files below this directory at any depth, in order. None if there is no such directory. Local files in the
    /// making aren't listed: see [`list_partials`](Self::list_partials).
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let mut files: Vec<_> = self.list_stream().try_collect().await?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// As [`list`](Self::list), one by one and in no order, for directories that memory couldn't hold.
    pub fn list_stream(&self) -> BoxStream<'static, Result<Listed>> {
        let here = self.clone();
        let listed = self.objects().list(self.prefix());
        let listed = listed.filter_map(move |meta| {
            let file = match meta.map_err(|e| here.failed("listing", e)) {
                Ok(meta) => here.listed(meta).transpose(),
                // A directory that isn't there, or no longer, holds nothing.
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => Some(Err(e)),
            };
            std::future::ready(file)
        });
        listed.boxed()
    }

    /// This file as a listing would show it; none if there is no such file. One request.
    pub async fn list_file(&self) -> Result<Option<Listed>> {
        match self.objects().head(self.object_key()?).await.map_err(|e| self.failed("looking for", e)) {
            Ok(meta) => {
                Ok(Some(Listed { path: self.name().clone(), size: meta.size, modified: meta.last_modified.into() }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The files and directories right in this directory. Nothing if there is no such directory.
    pub async fn list_dir(&self) -> Result<Directory> {
        let listed = self.objects().list_with_delimiter(self.prefix()).await;
        let listed = match listed.map_err(|e| self.failed("listing", e)) {
            Ok(listed) => listed,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Directory::default()),
            Err(e) => return Err(e),
        };
        let mut directory = Directory::default();
        for prefix in &listed.common_prefixes {
            directory.directories.extend(self.below(prefix)?);
        }
        for meta in listed.objects {
            directory.files.extend(self.listed(meta)?);
        }
        directory.directories.sort();
        directory.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(directory)
    }

    fn listed(&self, meta: ObjectMeta) -> Result<Option<Listed>> {
        let Some(path) = self.below(&meta.location)? else { return Ok(None) };
        let is_partial = self.disk().is_some() && path.file_name().is_some_and(is_partial_name);
        let (size, modified) = (meta.size, meta.last_modified.into());
        Ok((!is_partial).then_some(Listed { path, size, modified }))
    }

    /// The name of a key below this one; none for the directory itself, of which some stores keep a marker.
    fn below(&self, key: &Path) -> Result<Option<FlinkPath>> {
        let below = match self.prefix() {
            None => Some(key.as_ref()),
            Some(here) => key.as_ref().strip_prefix(here.as_ref()).and_then(|below| match below {
                "" => Some(""),
                below => below.strip_prefix('/'),
            }),
        };
        match below {
            Some("") => Ok(None),
            Some(below) => Ok(Some(self.name().join_literal(below))),
            None => {
                let message = format!("listing {}: the store gave a key from elsewhere: {key}", self.shown());
                Err(Error::new(ErrorKind::Store, message))
            }
        }
    }
}
