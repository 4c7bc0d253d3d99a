//! Rebuilds the books from what is in the store: memory is only a cache of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::books::Books;
use super::{Coordinator, CoordinatorSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use crate::ledger::{Ledger, Named};
use crate::protocol::OperatorSpec;
use crate::read::{Checkpoint, Content, State};
use crate::store::names::{self, PhysicalFileName};
use crate::store::{FlinkPath, JobDirectory, Stores};
use crate::write::Tokens;

impl Coordinator {
    /// The coordinator of a job that may have checkpoints in its directory: all of them are taken over, as if they had
    /// just completed. Its epoch is one above any that left a trace there.
    ///
    /// Workers that an earlier coordinator told of checkpoints are to be made anew, as are the tasks.
    ///
    /// # Errors
    /// `Damaged`: a checkpoint's metadata can't be read. What it names is then unknown, so nothing could be deleted
    /// safely: restore the file, or remove its directory. `Invalid`: an operator has another max parallelism than its
    /// state. `Store`.
    pub async fn recover(
        stores: Stores,
        directory: JobDirectory,
        operators: Vec<OperatorSpec>,
        settings: CoordinatorSettings,
        tokens: Tokens,
    ) -> Result<Self> {
        let mut books = Books::new(Ledger::new(settings.ledger), &directory);
        let mut lengths = BTreeMap::new();
        let mut epoch = 0;
        for file in directory.root().list().await? {
            epoch = epoch.max(PhysicalFileName::of(&file.path).map_or(0, |name| name.attempt));
            lengths.insert(file.path, file.size);
        }
        for (id, path) in checkpoints(&directory, &lengths) {
            let checkpoint = Checkpoint::load_intact(&stores, &path).await?;
            let written = checkpoint.decoded.metadata.checkpoint_id;
            if written != id {
                let message = format!("{path} holds checkpoint {written}");
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            epoch = epoch.max(checkpoint.decoded.trailer.as_ref().map_or(0, |trailer| trailer.epoch));
            check_operators(&operators, &checkpoint)?;
            let state = State::of(&stores, &checkpoint).await?;
            // What lies elsewhere was claimed once; by whom can't be known, so it is only read (I7).
            books.adopt(id, true, &state, |path| directory.owns(path), &lengths)?;
        }
        books.report();
        let epoch = epoch + 1;
        tracing::debug!(epoch, latest = ?books.ledger.latest(), "coordinator recovered");
        Ok(Self::with_books(stores, directory, operators, settings, tokens, books, epoch))
    }
}

/// Key groups are what state is shared out by: with another number of them no task would find its own again.
pub(super) fn check_operators(operators: &[OperatorSpec], checkpoint: &Checkpoint) -> Result<()> {
    for there in &checkpoint.decoded.metadata.operators {
        let Some(spec) = operators.iter().find(|spec| spec.id == there.id) else { continue };
        if spec.max_parallelism != there.max_parallelism {
            let message = format!(
                "operator {} is given max parallelism={}, its state in {} has {}: give the same",
                spec.id,
                spec.max_parallelism,
                checkpoint.directory.real(),
                there.max_parallelism
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}

/// The checkpoints with metadata, in order.
fn checkpoints(directory: &JobDirectory, files: &BTreeMap<FlinkPath, u64>) -> BTreeMap<CheckpointId, FlinkPath> {
    let metadata = files.keys().filter(|path| path.file_name() == Some(names::METADATA));
    metadata.filter_map(|path| Some((directory.checkpoint_of(path)?, path.parent()?))).collect()
}

impl Books {
    /// Enters a completed checkpoint; `owns` says of which files the job is the owner.
    pub(super) fn adopt(
        &mut self,
        checkpoint: CheckpointId,
        owned: bool,
        state: &State,
        owns: impl Fn(&FlinkPath) -> bool,
        lengths: &BTreeMap<FlinkPath, u64>,
    ) -> Result<()> {
        let files: Vec<(Arc<str>, bool)> =
            state.files.iter().map(|file| (self.spell(&file.name), owns(&file.name))).collect();
        let named = state.streams.iter().filter_map(|stream| match &stream.content {
            Content::File(wanted) => {
                let (file, owned) = files[wanted.file].clone();
                Some(Named { file, offset: wanted.offset, length: wanted.length, scope: stream.scope, owned })
            }
            Content::Inline(_) | Content::Placeholder => None,
        });
        let named: Vec<Named> = named.collect();
        let lengths = state.files.iter().zip(&files).filter_map(|(file, (text, _))| {
            let bytes = *lengths.get(&file.name)?;
            Some((text.clone(), bytes))
        });
        self.ledger.restored(checkpoint, owned, &named, lengths.collect::<Vec<_>>())
    }

    /// Does some checkpoint name this file?
    pub(super) fn names(&self, path: &FlinkPath) -> bool {
        self.ledger.names_file(&self.spelling(path))
    }
}
