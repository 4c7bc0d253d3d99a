//! Uploads in parts that were begun and neither completed nor given up: no file shows them, and they cost as much as one.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use super::{FlinkPath, Location};
use crate::error::{Error, ErrorKind, Result};

/// An upload that is under way, or was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// The file that it is to become.
    pub path: FlinkPath,
    /// The store's name for it.
    pub id: String,
    /// When it was begun, by the store's clock.
    pub started: SystemTime,
}

/// What a store knows of uploads in parts. The store's own interface has no such question.
pub trait UploadLog: Send + Sync {
    /// The unfinished uploads to keys that start with `prefix`, as (key, id, when begun), in any order.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, String, SystemTime)>>>;

    /// Gives one up. One that is no longer there is no error.
    fn abort(&self, key: &str, id: &str) -> BoxFuture<'_, Result<()>>;
}

/// How unfinished uploads of a store are found.
#[derive(Clone)]
pub(super) enum Uploads {
    /// There are none: what is cut off leaves nothing, or local files in the making.
    Never,
    /// Nobody can say: the store has no such call, or it isn't known here.
    Unknown,
    /// By asking.
    Asked(Arc<dyn UploadLog>),
}

impl Location {
    /// Uploads in parts of files below this directory that were begun and neither completed nor given up, in order. None
    /// where the store can't be asked (all but S3): there a lifecycle rule of the store's is what removes them.
    ///
    /// An upload that is still going on is among them.
    pub async fn list_uploads(&self) -> Result<Option<Vec<UnfinishedUpload>>> {
        let log = match self.uploads() {
            Uploads::Never => return Ok(Some(Vec::new())),
            Uploads::Unknown => return Ok(None),
            Uploads::Asked(log) => log,
        };
        let prefix = self.prefix().map_or_else(String::new, |prefix| format!("{prefix}/"));
        let listed = log.list(&prefix).await.map_err(|e| e.context(format!("uploads below {}", self.real())))?;
        let below = |(key, id, started): (String, String, SystemTime)| {
            let below = key.strip_prefix(&prefix)?;
            Some(UnfinishedUpload { path: self.name().join_literal(below), id, started })
        };
        let mut uploads: Vec<_> = listed.into_iter().filter_map(below).collect();
        uploads.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
        Ok(Some(uploads))
    }

    /// Gives up an upload that [`list_uploads`](Self::list_uploads) of this directory found, if it is still there.
    ///
    /// # Errors
    ///
    /// `Invalid`: it isn't below this directory. `Unsupported`: the store has no unfinished uploads. `Store`.
    pub async fn abort_upload(&self, upload: &UnfinishedUpload) -> Result<()> {
        let Uploads::Asked(log) = self.uploads() else {
            let message = format!("{}: uploads of this store can't be given up from here", self.real());
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let prefix = self.prefix().map_or_else(String::new, |prefix| format!("{prefix}/"));
        match upload.path.relative_to(self.name()) {
            Some(below) if !below.is_empty() => log.abort(&format!("{prefix}{below}"), &upload.id).await,
            _ => {
                let message = format!("the upload of {} isn't below {}", upload.path, self.name());
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
        .map_err(|e| e.context(format!("giving up the upload of {}", upload.path)))
    }
}
