//! Reads a job's fence log: what its newest coordinator may do. Who writes it is the coordinator's fence.

use crate::error::{Error, ErrorKind, Result};
use crate::format::LogEntry;
use crate::store::{Location, names};

/// So often a file may be gone between two looks.
const LOOKS_MAX: u32 = 32;
/// An entry names a few checkpoints.
const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// The newest entry, with its position; none where there is no log.
///
/// # Errors
/// `Damaged`: it isn't what was written. `Store`: the store fails, or the entry is replaced faster than it can be read.
pub(crate) async fn last(log: &Location) -> Result<Option<(u64, LogEntry)>> {
    for _ in 0..LOOKS_MAX {
        let files = log.list_dir().await?.files;
        let positions = files.iter().filter_map(|file| names::parse_log_entry(file.path.file_name()?));
        let Some(newest) = positions.max() else { return Ok(None) };
        match read(log, newest).await {
            Ok(entry) => return Ok(Some((newest, entry))),
            // Replaced by the next one meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let message = format!("{}: its newest entry is never there", log.name());
    Err(Error::new(ErrorKind::Store, message))
}

/// The entry at a position.
pub(crate) async fn read(log: &Location, position: u64) -> Result<LogEntry> {
    let file = log.join(&names::log_entry(position))?;
    let bytes = file.read_all(ENTRY_BYTES_MAX).await?;
    LogEntry::from_bytes(&bytes).map_err(|e| e.in_file(file.name()))
}
