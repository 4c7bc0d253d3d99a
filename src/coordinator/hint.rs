//! Tells other tools which checkpoint is the latest, by a small file: only a hint.

use super::Shared;
use crate::error::Result;
use crate::jobs::Hint;

impl Shared {
    /// Writes it, unless it says so already. Asks what is true only now, so that of several commits the last one counts; after
    /// a failure the next commit tries again.
    pub(super) async fn write_hint(&self) {
        match self.try_write_hint().await {
            Ok(()) => {}
            Err(error) => tracing::warn!(error = error.one_line(), "the file that names the latest checkpoint is old"),
        }
    }

    async fn try_write_hint(&self) -> Result<()> {
        // A newer coordinator writes its own. One that is there and was never met has its hint replaced by an older one until it
        // commits again; who reads it asks the directory.
        self.refuse_if_fenced()?;
        let (checkpoint, path) = {
            let books = self.books();
            let Some(checkpoint) = books.ledger.latest().filter(|&latest| books.hinted != Some(latest)) else {
                return Ok(());
            };
            (checkpoint, books.path_of(checkpoint, &self.directory)?)
        };
        let hint = Hint { path, epoch: self.epoch, checkpoint };
        self.directory.latest()?.replace(hint.to_bytes()).await?;
        self.books().hinted = Some(checkpoint);
        Ok(())
    }
}
