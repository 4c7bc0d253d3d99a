//! How the files of a pool end: sealed, given up, or deleted.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use super::sealing::{Sealing, retire};
use super::state::{Outcome, PoolState, Refusal};
use super::{FilePool, Sealed, Shared, unknown};
use crate::error::{ErrorKind, Result};
use crate::id::FileToken;
use crate::store::Location;
use crate::write::bounds::Shed;
use crate::write::file::SealedFile;

impl FilePool {
    /// Starts to seal what is open and not leased. Doesn't wait.
    ///
    /// Needs a tokio runtime: without one the files fail.
    pub fn seal_open(&self) {
        let sealings: Vec<Sealing> = {
            let mut state = self.shared.state();
            let open = state.take_open();
            open.into_iter().map(|file| Sealing::new(&self.shared, &mut state, file)).collect()
        };
        sealings.into_iter().for_each(Sealing::start);
    }

    /// Waits until these files are durable; has them sealed by nobody. In the order of their tokens.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The first that is known: of an upload; `Conflict`, the pool was closed before a file was on its way; `Invalid`,
    /// a file is none of this pool.
    pub async fn wait(&self, files: &BTreeSet<FileToken>) -> Result<Vec<SealedFile>> {
        self.until(|state| state.sealed(files).transpose()).await
    }

    /// Seals what is open, waits for every upload, and returns all files. One failed upload fails it.
    ///
    /// Cancel safe: a call after a cancelled one goes on where that stopped.
    pub async fn seal(&self) -> Result<Sealed> {
        self.seal_open();
        self.until(|state| (state.seals == 0 && state.retirements == 0).then_some(())).await;
        self.check_open()?;
        let mut sealed = Sealed::default();
        for (token, entry) in &self.shared.state().files {
            match &entry.outcome {
                Outcome::Sealed(file) => drop(sealed.files.insert(*token, file.clone())),
                Outcome::Failed(refusal) => return Err(refusal.error()),
                // Of those who write yet.
                Outcome::Open | Outcome::OnItsWay => {}
            }
        }
        Ok(sealed)
    }

    /// Takes nothing more, and gives up what isn't on its way yet: nothing of it will be seen. Uploads under way go on,
    /// as one that is cut may land all the same. Whoever still writes or waits gets `Conflict` with this text.
    ///
    /// Idempotent: the first text stays.
    pub fn close(&self, reason: &str) {
        let refusal = Refusal { kind: ErrorKind::Conflict, text: reason.to_string() };
        let open = {
            let mut state = self.shared.state();
            self.shared.closed.get_or_init(|| refusal.clone());
            for entry in state.files.values_mut().filter(|entry| matches!(entry.outcome, Outcome::Open)) {
                entry.outcome = Outcome::Failed(refusal.clone());
            }
            state.take_open()
        };
        open.into_iter().for_each(|file| retire(&self.shared, file));
        self.shared.ended.notify_waiters();
    }

    /// Gives everything up: stops uploads and deletes what was written. For a failed checkpoint.
    ///
    /// Cancel safe, and after an error a further call goes on with what is left.
    pub async fn abandon(&self) -> Result<()> {
        // What was never on its way needs no delete.
        self.shared.state().files.retain(|_, entry| !matches!(entry.outcome, Outcome::Open));
        self.close("the pool was abandoned");
        // Uploads under way are waited for, not cut: one that is cut may still land after the delete.
        self.until(|state| (state.seals == 0 && state.retirements == 0).then_some(())).await;
        // A failed upload may have left the file all the same.
        let written: Vec<(FileToken, Location)> = {
            let state = self.shared.state();
            state.files.iter().map(|(token, entry)| (*token, entry.location.clone())).collect()
        };
        for (token, location) in written {
            location.delete().await?;
            self.shared.state().files.remove(&token);
        }
        self.shared.bounds.settled().await
    }

    async fn until<T>(&self, found: impl Fn(&PoolState) -> Option<T>) -> T {
        loop {
            // Registered before the look, so that no end falls in between.
            let mut ended = pin!(self.shared.ended.notified());
            ended.as_mut().enable();
            if let Some(found) = found(&self.shared.state()) {
                return found;
            }
            ended.await;
        }
    }
}

impl PoolState {
    /// These files; none while one of them has no outcome yet, unless another has failed.
    fn sealed(&self, files: &BTreeSet<FileToken>) -> Result<Option<Vec<SealedFile>>> {
        let mut sealed = Vec::with_capacity(files.len());
        for token in files {
            match self.files.get(token).map(|entry| &entry.outcome) {
                Some(Outcome::Sealed(file)) => sealed.push(file.clone()),
                Some(Outcome::Failed(refusal)) => return Err(refusal.error()),
                Some(Outcome::Open | Outcome::OnItsWay) => {}
                None => return Err(unknown(*token)),
            }
        }
        Ok((sealed.len() == files.len()).then_some(sealed))
    }
}

impl Shed for Shared {
    fn fullest(&self) -> Option<u64> {
        let state = self.state();
        state.fullest().map(|(group, index)| state.groups[group].open[index].held_bytes())
    }

    fn seal_fullest(self: Arc<Self>) -> bool {
        let sealing = {
            let mut state = self.state();
            let Some((group, index)) = state.fullest() else { return false };
            let file = state.groups[group].open.swap_remove(index);
            Sealing::new(&self, &mut state, file)
        };
        sealing.start();
        true
    }

    fn open_files(&self) -> usize {
        let state = self.state();
        state.leases + state.groups.iter().map(|group| group.open.len()).sum::<usize>()
    }
}
