//! What savepoint is wanted, and where it goes if nobody says.

use super::Coordinator;
use crate::config::catalogue::SAVEPOINT_DIR;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{SavepointAction, SavepointFormat};
use crate::store::FlinkPath;

/// What savepoint is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointRequest {
    /// Where: it gets a directory of its own below.
    pub directory: FlinkPath,
    /// What the state in it is like; the state backends have to write it so.
    pub format: SavepointFormat,
    /// What the job does afterwards. Nobody here does it.
    pub action: SavepointAction,
    /// See [`SavepointTarget::pack`](crate::protocol::SavepointTarget::pack).
    pub pack: bool,
}

/// What is configured for savepoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavepointDefaults {
    /// Where those go for which no directory is named: `execution.checkpointing.savepoint-dir`, or its older key
    /// `state.savepoints.dir`. With `None` each needs one.
    pub directory: Option<FlinkPath>,
    /// `drystone.savepoint.pack`; see [`SavepointTarget::pack`](crate::protocol::SavepointTarget::pack).
    pub pack: bool,
}

impl SavepointDefaults {
    /// A request for a savepoint in `directory`, or, where none is named, in the configured one.
    ///
    /// # Errors
    /// `Invalid`: there is no directory; the text has the key.
    pub fn request(
        &self,
        directory: Option<&FlinkPath>,
        format: SavepointFormat,
        action: SavepointAction,
    ) -> Result<SavepointRequest> {
        let Some(directory) = directory.or(self.directory.as_ref()).cloned() else {
            let message = format!("{} is not set: name a directory for the savepoint, or set it", SAVEPOINT_DIR.key);
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        Ok(SavepointRequest { directory, format, action, pack: self.pack })
    }
}

impl Coordinator {
    /// Says what is configured for savepoints, as [`Storage::coordinator`](crate::storage::Storage::coordinator) does. Without
    /// it there is no directory for those that name none.
    #[must_use]
    pub fn with_savepoint_defaults(mut self, defaults: SavepointDefaults) -> Self {
        self.savepoint_defaults = defaults.into();
        self
    }

    /// What is configured for savepoints.
    pub fn savepoint_defaults(&self) -> &SavepointDefaults {
        &self.savepoint_defaults
    }
}
