//! Makes sure that the files a commit will name are there, whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::books::NewFile;
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::lengths;
use crate::store::FlinkPath;

/// Between two looks for a file that isn't there yet.
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Shared {
    /// Waits until every file is there, and returns their lengths.
    ///
    /// # Errors
    /// `NotFound`: one didn't appear in time. `Damaged`: one is of another length than it was sealed with, or too short
    /// for what is named in it. `Store`: they couldn't be asked for until the time was over.
    pub(super) async fn wait_for_files(
        &self,
        files: &BTreeMap<Arc<str>, NewFile>,
        timeout: Duration,
    ) -> Result<BTreeMap<Arc<str>, u64>> {
        let paths: Result<BTreeMap<FlinkPath, &Arc<str>>> =
            files.keys().map(|text| Ok((FlinkPath::parse(text)?, text))).collect();
        let mut missing = paths?;
        let mut found = BTreeMap::new();
        // When it is over isn't computed: that may be after all that a clock can tell.
        let begun = tokio::time::Instant::now();
        let mut wait = WAIT_MIN;
        loop {
            let failed = match lengths(
                &self.stores,
                &missing.keys().cloned().collect(),
                self.settings.read.requests_max,
            )
            .await
            {
                Ok(there) => {
                    for (path, bytes) in there {
                        if let Some(text) = missing.remove(&path) {
                            check(text, files[text], bytes)?;
                            found.insert(text.clone(), bytes);
                        }
                    }
                    None
                }
                // It may go by; there is time to ask again.
                Err(error) if error.kind() == ErrorKind::Store => Some(error),
                Err(error) => return Err(error),
            };
            let Some((first, _)) = missing.first_key_value() else { return Ok(found) };
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                if let Some(error) = failed {
                    return Err(error);
                }
                let message = match missing.len() {
                    1 => format!("{first} is named and has not appeared in {timeout:?}"),
                    count => format!("{count} files that are named have not appeared in {timeout:?}: {first} first"),
                };
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            tokio::time::sleep(wait.min(left)).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

fn check(path: &str, file: NewFile, bytes: u64) -> Result<()> {
    let damaged = |message: String| Err(Error::new(ErrorKind::Damaged, message));
    match file.sealed_bytes {
        Some(sealed) if sealed != bytes => damaged(format!("{path} has {bytes} bytes, it was sealed with {sealed}")),
        _ if file.whole_bytes.is_some_and(|whole| whole < bytes) => {
            damaged(format!("{path} has {bytes} bytes, a handle says {}", file.whole_bytes.unwrap_or_default()))
        }
        _ if bytes < file.needed_bytes => {
            damaged(format!("{path} has {bytes} bytes, segments in it are named up to {}", file.needed_bytes))
        }
        _ => Ok(()),
    }
}
