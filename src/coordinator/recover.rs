//! Takes a job over: claims it, and rebuilds the books from what is in the store. Memory is only a cache of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::books::Books;
use super::commit::bar;
use super::fence::{Fence, epoch_after};
use super::reaper::Reaper;
use super::{Coordinator, CoordinatorSettings, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use crate::jobs::Inheritance;
use crate::ledger::{Ledger, Named};
use crate::protocol::OperatorSpec;
use crate::read::{Checkpoint, Content, State};
use crate::store::names::{self, PhysicalFileName};
use crate::store::{FlinkPath, JobDirectory, Stores};
use crate::sync::Mutex;
use crate::write::Tokens;

impl Coordinator {
    /// The coordinator of a job. It claims the job's next epoch, and takes over the checkpoints in the job's directory, as
    /// if they had just completed. From then on no older coordinator completes a checkpoint, nor deletes what this one
    /// has, whatever it is in the middle of; as far as the store can have a fence: see
    /// [`is_fenced_off`](Self::is_fenced_off).
    ///
    /// What the one before was about to complete is taken over if it is there, else it is barred. What it was about to
    /// give up is given up.
    ///
    /// Workers that an earlier coordinator told of checkpoints may go on; the tasks are to be made anew.
    ///
    /// # Errors
    /// `Damaged`: a checkpoint's metadata can't be read, or an entry of the fence log. What they name is then unknown, so
    /// nothing could be deleted safely: restore the file, or remove its directory. `Invalid`: an operator has another max
    /// parallelism than its state, or fencing is off where it was on. `Unsupported`: fencing is required, and the store
    /// can't have it. `Conflict`: others claim the job all the time; or the job is to have the directory alone, and it is
    /// another's, or holds what nobody knows of; or it is in one that a job has alone. `Store`.
    pub async fn recover(
        stores: Stores,
        directory: JobDirectory,
        operators: Vec<OperatorSpec>,
        settings: CoordinatorSettings,
        tokens: Tokens,
    ) -> Result<Self> {
        // Before anything else: nothing in it may be taken for the job's that isn't.
        super::owner::claim(&directory).await?;
        let survey = || Survey::of(&stores, &directory);
        // First, the claim: from here on nothing is announced that isn't in the entry before it.
        let epoch_before = || async { Ok(survey().await?.epoch) };
        let claimed = Fence::claim(&directory, settings.fencing, &tokens, epoch_before).await?;
        let (fence, inheritance) = match claimed {
            Some((fence, inheritance)) => (Some(fence), inheritance),
            None => (None, Inheritance::of(None)),
        };
        // Second, what was announced has happened or never will.
        if let Some(fence) = &fence {
            for &open in &inheritance.open {
                bar(&directory.checkpoint(open)?.join(names::METADATA)?, open, fence.epoch).await?;
            }
        }
        // Third, what is there now is all there is.
        let found = survey().await?;
        let epoch =
            fence.as_ref().map_or_else(|| epoch_after(directory.root(), found.epoch), |fence| Ok(fence.epoch))?;
        let mut books = Books::new(Ledger::new(settings.ledger), &directory);
        let given_up = found.enter(&mut books, &stores, &directory, &operators, &inheritance).await?;
        books.report();
        tracing::debug!(epoch, latest = ?books.ledger.latest(), "coordinator recovered");
        let effects = books.decide(|books| books.ledger.give_up(given_up));
        let reaper = Reaper::new(settings.deletes_max, settings.delete_retries);
        let (books, deciding) = (Mutex::new(books), tokio::sync::Mutex::default());
        let committing = tokio::sync::RwLock::default();
        let shared = Shared {
            stores,
            directory,
            operators,
            settings,
            tokens,
            epoch,
            fence,
            books,
            reaper,
            deciding,
            committing,
        };
        let coordinator = Self { shared: Arc::new(shared), savepoint_defaults: Arc::default() };
        coordinator.perform(effects);
        Ok(coordinator)
    }
}

/// What is in a job's directory.
struct Survey {
    lengths: BTreeMap<FlinkPath, u64>,
    /// Or why they can't be read.
    checkpoints: BTreeMap<CheckpointId, Result<Checkpoint>>,
    /// The newest that left a trace.
    epoch: u64,
}

impl Survey {
    async fn of(stores: &Stores, directory: &JobDirectory) -> Result<Self> {
        let listed = directory.root().list().await?;
        let lengths: BTreeMap<FlinkPath, u64> = listed.into_iter().map(|file| (file.path, file.size)).collect();
        let mut checkpoints = BTreeMap::new();
        for (id, path) in with_metadata(directory, &lengths) {
            match load(stores, id, &path).await {
                // Barred, or deleted meanwhile by who was about to.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Store => return Err(error),
                loaded => drop(checkpoints.insert(id, loaded)),
            }
        }
        let attempts = lengths.keys().filter_map(|path| Some(PhysicalFileName::of(path)?.attempt));
        let intact = checkpoints.values().flatten();
        let trailers = intact.filter_map(|checkpoint| Some(checkpoint.decoded.trailer.as_ref()?.epoch));
        let epoch = attempts.chain(trailers).max().unwrap_or(0);
        Ok(Self { lengths, checkpoints, epoch })
    }

    /// Enters the checkpoints that were the job's; those of them that the coordinator before may delete are returned.
    async fn enter(
        self,
        books: &mut Books,
        stores: &Stores,
        directory: &JobDirectory,
        operators: &[OperatorSpec],
        inheritance: &Inheritance,
    ) -> Result<Vec<CheckpointId>> {
        let there: BTreeSet<CheckpointId> = self.checkpoints.keys().copied().collect();
        let adopted = inheritance.adopted(&there);
        let mut given_up = Vec::new();
        for (id, loaded) in self.checkpoints {
            let lives = adopted.contains(&id);
            let checkpoint = match loaded {
                Ok(checkpoint) => checkpoint,
                Err(error) if lives => return Err(error),
                Err(error) => {
                    tracing::warn!(checkpoint = %id, error = error.one_line(), "not one of the job's: left alone");
                    continue;
                }
            };
            if !lives && checkpoint.decoded.trailer.as_ref().is_none_or(|trailer| trailer.epoch == 0) {
                tracing::warn!(checkpoint = %id, "completed by no coordinator of the job: left alone");
                continue;
            }
            if lives {
                check_operators(operators, &checkpoint)?;
            } else {
                given_up.push(id);
            }
            let state = State::of(stores, &checkpoint).await?;
            // What lies elsewhere was claimed once; by whom can't be known, so it is only read (I7).
            books.adopt(id, true, &state, |path| directory.owns(path), &self.lengths)?;
        }
        if let Some(last) = there.last().copied().max(inheritance.last()) {
            books.ledger.start_after(last);
        }
        Ok(given_up)
    }
}

async fn load(stores: &Stores, id: CheckpointId, path: &FlinkPath) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::load_intact(stores, path).await?;
    let written = checkpoint.decoded.metadata.checkpoint_id;
    if written != id {
        let message = format!("{path} holds checkpoint {written}");
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(checkpoint)
}

/// With another number of key groups no task would find its own again.
pub(super) fn check_operators(operators: &[OperatorSpec], checkpoint: &Checkpoint) -> Result<()> {
    operators.iter().try_for_each(|spec| checkpoint.check_key_groups(spec.id, spec.max_parallelism))
}

/// The checkpoints with metadata, in order.
fn with_metadata(directory: &JobDirectory, files: &BTreeMap<FlinkPath, u64>) -> BTreeMap<CheckpointId, FlinkPath> {
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
        self.ledger.restored(checkpoint, owned, &named, lengths.collect::<Vec<_>>())?;
        let listed = state.streams.iter().filter_map(|stream| match &stream.content {
            Content::File(wanted) => Some((files[wanted.file].0.clone(), stream.listed_crc32c?)),
            Content::Inline(_) | Content::Placeholder => None,
        });
        self.sums.extend(listed);
        Ok(())
    }

    /// Does some checkpoint name this file?
    pub(super) fn names(&self, path: &FlinkPath) -> bool {
        self.ledger.names_file(&self.spelling(path))
    }
}
