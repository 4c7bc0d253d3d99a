//! Starting from a checkpoint that lies somewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::recover::check_operators;
use super::{Coordinator, parents};
use crate::config::ClaimMode;
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use crate::ledger::Ledger;
use crate::read::{Checkpoint, State};
use crate::store::FlinkPath;

impl Coordinator {
    /// Starts the job from the checkpoint at `path`, a checkpoint's directory or its `_metadata`. Numbers go on from
    /// its own, or from the job's. Reads the metadata, and asks for the lengths of files where it claims them; the state is read by
    /// [`Restore`](crate::read::Restore).
    ///
    /// A checkpoint of this job's own directory is known since [`recover`](Self::recover); it is loaded, and nothing
    /// changes.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Store`: it can't be loaded, or a file to be claimed isn't there. `Conflict`: the job has
    /// a checkpoint of this number, or a later one, of its own. `Invalid`: an operator has another max parallelism than
    /// its state. `Unsupported`: there are too many segments.
    pub async fn restore(&self, path: &FlinkPath, mode: ClaimMode) -> Result<Arc<Checkpoint>> {
        let checkpoint = Arc::new(Checkpoint::load_intact(&self.shared.stores, path).await?);
        check_operators(&self.shared.operators, &checkpoint)?;
        let id = checkpoint.decoded.metadata.checkpoint_id;
        let is_own = checkpoint.directory.name() == self.shared.directory.checkpoint(id)?.name();
        if is_own && self.books().ledger.completed().any(|known| known == id) {
            return Ok(checkpoint);
        }
        refuse_late_number(&self.books().ledger, id)?;
        if mode == ClaimMode::NoClaim {
            self.books().ledger.start_after(id);
            return Ok(checkpoint);
        }
        let owned = mode == ClaimMode::Claim;
        let state = State::of(&self.shared.stores, &checkpoint).await?;
        let lengths = lengths(&state, self.shared.settings.read.requests_max).await?;
        let mut books = self.books();
        let books = &mut *books;
        refuse_late_number(&books.ledger, id)?;
        let directory = &self.shared.directory;
        let owns = |path: &FlinkPath| owned && (directory.owns(path) || !directory.holds(path));
        books.adopt(id, owned, &state, owns, &lengths)?;
        let foreign = state.files.iter().map(|file| &file.name).filter(|name| !directory.holds(name));
        books.claimed.extend(parents(foreign.cloned()).into_keys());
        books.owns_claimed = owned;
        books.elsewhere.insert(id, checkpoint.directory.clone());
        books.report();
        tracing::debug!(checkpoint = %id, ?mode, "checkpoint restored");
        Ok(checkpoint)
    }
}

/// Numbers of checkpoints that came to nothing don't count: a job that fails before its first one starts from there again.
fn refuse_late_number(ledger: &Ledger, id: CheckpointId) -> Result<()> {
    let Some(own) = ledger.pending().chain(ledger.completed()).max().filter(|&own| own >= id) else { return Ok(()) };
    let message = format!("checkpoint {id} can't be restored: the job has {own} of its own, and numbers only go up");
    Err(Error::new(ErrorKind::Conflict, message))
}

/// One request for each file, side by side.
async fn lengths(state: &State, requests_max: usize) -> Result<BTreeMap<FlinkPath, u64>> {
    let asked = state.files.iter().cloned();
    let asked = stream::iter(asked).map(|file| async move { Ok((file.name, file.location.size().await?)) });
    asked.buffer_unordered(requests_max.max(1)).try_collect().await
}
