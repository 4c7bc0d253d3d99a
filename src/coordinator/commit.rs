//! The commit: from "all have acknowledged" to "older ones are being cleared away".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join;
use tracing::Instrument;

use super::books::{Books, Draft};
use super::{By, Coordinator, assemble};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{NamedFile, Trailer, barred, barred_by, encode};
use crate::handle::JavaString;
use crate::id::CheckpointId;
use crate::ledger::Effect;
use crate::metrics;
use crate::read::METADATA_BYTES_MAX;
use crate::store::{FlinkPath, Location, names};

/// So many commits may be in doubt; each keeps its metadata in memory, and all that it names in the store (I8).
pub(super) const UNRESOLVED_MAX: usize = 16;
/// How often a metadata put of unknown outcome is looked up, or tried again where nothing came of it.
const ATTEMPTS_MAX: u32 = 5;
const WAIT_MIN: Duration = Duration::from_millis(100);

/// A checkpoint that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Its directory: what a restore is given.
    pub path: FlinkPath,
    /// Bytes of its metadata.
    pub metadata_bytes: u64,
    /// Bytes of all its state, also of what earlier ones had already.
    pub state_bytes: u64,
    /// Bytes of the files that were written for it, footers included, and of the state in its metadata.
    pub new_bytes: u64,
    /// Checkpoints that it replaced: tell the workers. Itself, where newer ones had replaced it before it was durable.
    pub subsumed: Vec<CheckpointId>,
    /// Older ones that were under way, and never will complete: tell the workers.
    pub aborted: Vec<CheckpointId>,
}

/// A commit of which nobody knows whether it happened.
#[derive(Clone)]
pub(super) struct Unresolved {
    metadata: Location,
    bytes: Bytes,
    /// No other can take its place: it is never given up, but put until it is there, or something else is.
    is_savepoint: bool,
}

/// How far a commit is.
enum Stage {
    /// Or it is over.
    NotBegun,
    Prepares,
    Puts(Unresolved),
}

/// A commit that nobody carries through any more when this is dropped.
struct Cut<'a> {
    coordinator: &'a Coordinator,
    checkpoint: CheckpointId,
    stage: Stage,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::NotBegun) {
            Stage::NotBegun => {}
            Stage::Prepares => {
                let error = Error::new(ErrorKind::Store, "its commit was cut before it was written");
                drop(self.coordinator.fail(self.checkpoint, error));
            }
            Stage::Puts(commit) => drop(self.coordinator.books().unresolved.insert(self.checkpoint, commit)),
        }
    }
}

/// What is to be put, and how much state it is of.
struct Prepared {
    metadata: Location,
    bytes: Bytes,
    state_bytes: u64,
    new_bytes: u64,
}

/// What is known of a put.
enum Outcome {
    Written,
    /// It is not there and won't be; why.
    NotWritten(Error),
    /// It may be there, or come to be there yet; why.
    Unknown(Error),
}

impl Coordinator {
    /// Completes a checkpoint that every subtask has acknowledged. On return it is durable, and restorable; but where
    /// newer ones have completed while it was being written it may be replaced at once, and is among
    /// [`subsumed`](Completed::subsumed) itself.
    ///
    /// # Errors
    /// `NotFound`: the checkpoint isn't under way, or a file that it names didn't appear in time. `Conflict`: it waits
    /// for somebody, or is being completed, or another coordinator has completed one of this number. `Fenced`: a newer
    /// coordinator has the job; stop. `Damaged`: a file isn't as long as it should be. `Store`. After any error but the
    /// first two kinds of `Conflict`, the checkpoint is aborted, unless the error says that the outcome is unknown: then
    /// [`settle`](Self::settle) tries again, the next commit decides it, and nothing is deleted meanwhile.
    ///
    /// Cancel safe: the commit goes on; ask [`latest`](Self::latest), and tell the workers and tasks before the next trigger.
    /// A task that names what only an older checkpoint had is refused once that is gone.
    pub async fn complete(&self, checkpoint: CheckpointId) -> Result<Completed> {
        let coordinator = self.clone();
        let span = tracing::debug_span!("commit", %checkpoint);
        match tokio::spawn(async move { coordinator.commit(checkpoint).await }.instrument(span)).await {
            Ok(completed) => completed,
            Err(error) => {
                let message = format!("the commit of checkpoint {checkpoint} was cut");
                Err(Error::new(ErrorKind::Store, message).with_source(error))
            }
        }
    }

    /// Cut, with its runtime, it is in doubt from its put on, and before that it has failed.
    async fn commit(&self, checkpoint: CheckpointId) -> Result<Completed> {
        let mut cut = Cut { coordinator: self, checkpoint, stage: Stage::NotBegun };
        let ended = self.carry_through(checkpoint, &mut cut.stage).await;
        cut.stage = Stage::NotBegun;
        ended
    }

    /// First, no abort from here on. Second, every new file is there, whole (I2), and the fence log says that this one may
    /// come; what marks a savepoint as not whole goes. Third, the metadata is put, create-only: the commit point. Fourth, it
    /// is published in memory. Last, older ones are discarded, and nothing waits for that.
    async fn carry_through(&self, checkpoint: CheckpointId, stage: &mut Stage) -> Result<Completed> {
        let started = tokio::time::Instant::now();
        let _under_way = self.shared.committing.read().await;
        let draft = {
            let mut books = self.books();
            books.ledger.start_commit(checkpoint)?;
            *stage = Stage::Prepares;
            // Nothing comes to it any more: what would, is told so.
            books.drafts.remove(&checkpoint).unwrap_or_default()
        };
        let is_savepoint = draft.savepoint.is_some();
        let may_be_marked = is_savepoint && !draft.new_files.is_empty();
        let announced = self.announce(if is_savepoint { By::Savepoint } else { By::Commit });
        let Prepared { metadata, bytes, state_bytes, new_bytes } =
            match try_join(announced, self.prepare(checkpoint, draft)).await {
                Ok(((), prepared)) => prepared,
                Err(error) => return Err(self.fail(checkpoint, error)),
            };
        if may_be_marked && let Err(error) = self.unmark(&metadata).await {
            return Err(self.fail(checkpoint, error));
        }
        let metadata_bytes = bytes.len() as u64;
        let commit = Unresolved { metadata: metadata.clone(), bytes: bytes.clone(), is_savepoint };
        *stage = Stage::Puts(commit.clone());
        match self.put(&metadata, &bytes).await {
            Outcome::Written => {}
            Outcome::NotWritten(error) => return Err(self.fail(checkpoint, error)),
            Outcome::Unknown(error) => {
                self.books().unresolved.insert(checkpoint, commit);
                return Err(error.context(format!("checkpoint {checkpoint} may have completed or not")));
            }
        }
        *stage = Stage::NotBegun;
        let effects = self.publish(checkpoint)?;
        tracing::debug!(%checkpoint, metadata_bytes, elapsed = ?started.elapsed(), "checkpoint completed");
        metrics::commit_took(started.elapsed());
        let completed = Completed {
            checkpoint,
            path: metadata.name().parent().unwrap_or_else(|| metadata.name().clone()),
            metadata_bytes,
            state_bytes,
            new_bytes,
            subsumed: ids(&effects, |effect| match effect {
                Effect::Discard { checkpoint, .. } => Some(*checkpoint),
                _ => None,
            }),
            aborted: ids(&effects, |effect| match effect {
                Effect::Aborted(checkpoint) => Some(*checkpoint),
                _ => None,
            }),
        };
        self.shared.reaper.put_back_failed();
        if is_savepoint {
            // The latest checkpoint is the one that it was.
            self.perform(effects);
            return Ok(completed);
        }
        self.hint();
        self.perform(effects);
        // A newer one is durable: what was in doubt can be decided.
        if let Err(error) = self.resolve_before(checkpoint).await {
            tracing::warn!(error = error.one_line(), "an earlier commit is still in doubt");
        }
        Ok(completed)
    }

    /// Looks for the files, and makes the metadata.
    async fn prepare(&self, checkpoint: CheckpointId, draft: Draft) -> Result<Prepared> {
        let shared = &self.shared;
        let lengths = shared.wait_for_files(&draft.new_files, shared.settings.file_timeout).await?;
        let settings = &shared.settings;
        let (state_bytes, inline_bytes) = draft.state_bytes();
        let new_bytes = lengths.values().sum::<u64>() + inline_bytes;
        let (directory, files, properties) = match &draft.savepoint {
            Some(savepoint) => {
                (savepoint.directory.clone(), savepoint.named_files(&draft, &lengths)?, savepoint.properties())
            }
            None => {
                let mut books = self.books();
                for (path, &bytes) in &lengths {
                    books.ledger.set_file_bytes(path, bytes);
                }
                let properties = assemble::properties(settings.ledger.retention);
                (shared.directory.checkpoint(checkpoint)?, books.named_files(checkpoint)?, properties)
            }
        };
        let (operators, version) = (&shared.operators, settings.metadata_version);
        let metadata = assemble::assemble(checkpoint, operators, draft, version, &properties)?;
        let encoded = encode(&metadata)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("metadata of checkpoint {checkpoint}: {e}")))?;
        let bytes = Trailer::seal(&encoded, files, shared.epoch, writer()?);
        Ok(Prepared { metadata: directory.join(names::METADATA)?, bytes, state_bytes, new_bytes })
    }

    /// What says that the savepoint isn't whole goes before the metadata comes, so that where it is there was never any.
    /// Without the right to delete there are no savepoints: it would count as what an unfinished one has left.
    async fn unmark(&self, metadata: &Location) -> Result<()> {
        let marker = metadata.parent().map(|directory| directory.savepoint_marker()).transpose()?.flatten();
        let Some(marker) = marker else { return Ok(()) };
        let deleted = self.shared.reaper.delete(&marker).await;
        deleted.map_err(|e| e.context("the mark of an unfinished savepoint has to go before its metadata comes"))
    }

    /// Puts the metadata, and finds out what came of it.
    async fn put(&self, metadata: &Location, bytes: &Bytes) -> Outcome {
        let mut wait = WAIT_MIN;
        let mut attempt = 1;
        loop {
            let error = match metadata.create(vec![bytes.clone()]).await {
                Ok(()) => return Outcome::Written,
                Err(error) => error,
            };
            match (error.kind(), metadata.read_all(METADATA_BYTES_MAX).await) {
                // This very put, or an earlier try of it, has landed.
                (_, Ok(there)) if there == *bytes => return Outcome::Written,
                (_, Ok(there)) => {
                    if let (Some(fence), Some(newer)) =
                        (&self.shared.fence, barred_by(&there).filter(|&by| by > self.shared.epoch))
                    {
                        return Outcome::NotWritten(fence.is_over(newer));
                    }
                    let message = format!("{} is there already, written by another coordinator", metadata.name());
                    return Outcome::NotWritten(Error::new(ErrorKind::Conflict, message));
                }
                (ErrorKind::Store | ErrorKind::Conflict, _) if attempt < ATTEMPTS_MAX => {}
                // A put that the store refused outright comes to nothing; an earlier try may still.
                (ErrorKind::Invalid | ErrorKind::Unsupported, Err(look))
                    if attempt == 1 && look.kind() == ErrorKind::NotFound =>
                {
                    return Outcome::NotWritten(error);
                }
                _ => return Outcome::Unknown(error),
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    fn publish(&self, checkpoint: CheckpointId) -> Result<Vec<Effect>> {
        self.books().decide_or_fail(|books| books.committed(checkpoint))
    }

    /// A commit that was in doubt has happened. Nothing, if somebody else has found that out meanwhile.
    fn publish_resolved(&self, checkpoint: CheckpointId) -> Result<()> {
        let mut is_checkpoint = false;
        let effects = self.books().decide_or_fail(|books| match books.unresolved.remove(&checkpoint) {
            Some(commit) => {
                is_checkpoint = !commit.is_savepoint;
                books.committed(checkpoint)
            }
            None => Ok(Vec::new()),
        })?;
        if is_checkpoint {
            self.hint();
        }
        self.perform(effects);
        Ok(())
    }

    fn fail(&self, checkpoint: CheckpointId, error: Error) -> Error {
        let effects = self.books().decide(|books| {
            books.unresolved.remove(&checkpoint);
            books.ledger.commit_failed(checkpoint)
        });
        self.perform(effects);
        let error = error.context(format!("checkpoint {checkpoint} failed"));
        tracing::warn!(%checkpoint, error = error.one_line(), "checkpoint failed");
        error
    }

    /// Decides every commit of unknown outcome: older than the latest checkpoint it counts if it is there, a newer one is
    /// put again. Where the job has ended and keeps nothing all of them go.
    ///
    /// One that can't be decided keeps no other from it.
    pub(super) async fn resolve(&self) -> Result<()> {
        let _deciding = self.shared.deciding.lock().await;
        let latest = self.books().ledger.latest();
        let latest = latest.filter(|_| !self.books().ledger.keeps_nothing());
        let mut decided = match latest {
            Some(latest) => self.give_up_before(latest).await,
            None => Ok(()),
        };
        for (checkpoint, commit) in
            self.unresolved(|id, is_savepoint| is_savepoint || latest.is_none_or(|latest| id > latest))
        {
            decided = decided.and(self.put_again(checkpoint, &commit).await);
        }
        decided
    }

    async fn put_again(&self, checkpoint: CheckpointId, commit: &Unresolved) -> Result<()> {
        if self.books().ledger.keeps_nothing() && !commit.is_savepoint {
            return self.decide_at_end(checkpoint, commit).await;
        }
        match self.put(&commit.metadata, &commit.bytes).await {
            Outcome::Written => self.publish_resolved(checkpoint),
            Outcome::NotWritten(error) => {
                drop(self.fail(checkpoint, error));
                Ok(())
            }
            Outcome::Unknown(error) => Err(error.context(format!("checkpoint {checkpoint} may have completed or not"))),
        }
    }

    /// What is there goes. What isn't may be barred by a successor: that stays.
    async fn decide_at_end(&self, checkpoint: CheckpointId, commit: &Unresolved) -> Result<()> {
        match commit.metadata.read_all(METADATA_BYTES_MAX).await {
            Ok(there) if there == commit.bytes => return self.publish_resolved(checkpoint),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        drop(self.fail(checkpoint, Error::new(ErrorKind::Conflict, "the job has ended")));
        Ok(())
    }

    /// As [`resolve`](Self::resolve), for those before a checkpoint that is durable: what isn't there is given up. Where
    /// somebody is deciding them already it is left to that one, who may be putting them at this moment.
    async fn resolve_before(&self, newer: CheckpointId) -> Result<()> {
        match self.shared.deciding.try_lock() {
            Ok(_deciding) => self.give_up_before(newer).await,
            Err(_) => Ok(()),
        }
    }

    /// Barred, so that a put on its way can't land.
    async fn give_up_before(&self, newer: CheckpointId) -> Result<()> {
        let mut decided = Ok(());
        for (checkpoint, commit) in self.unresolved(|id, is_savepoint| id < newer && !is_savepoint) {
            match commit.has_happened(checkpoint, self.shared.epoch).await {
                Ok(true) => decided = decided.and(self.publish_resolved(checkpoint)),
                Ok(false) => {
                    drop(self.fail(checkpoint, Error::new(ErrorKind::Store, "its metadata was never written")));
                }
                Err(error) => decided = decided.and(Err(error)),
            }
        }
        decided
    }

    fn unresolved(&self, is_meant: impl Fn(CheckpointId, bool) -> bool) -> Vec<(CheckpointId, Unresolved)> {
        let books = self.books();
        let meant = books.unresolved.iter().filter(|&(&id, commit)| is_meant(id, commit.is_savepoint));
        meant.map(|(&id, commit)| (id, commit.clone())).collect()
    }
}

impl Unresolved {
    /// If not, it never will.
    async fn has_happened(&self, checkpoint: CheckpointId, epoch: u64) -> Result<bool> {
        bar(&self.metadata, checkpoint, epoch).await?;
        Ok(self.metadata.read_all(METADATA_BYTES_MAX).await? == self.bytes)
    }
}

/// Takes the place of metadata that isn't there. On return there is the one or the other.
pub(super) async fn bar(metadata: &Location, checkpoint: CheckpointId, epoch: u64) -> Result<()> {
    let mut wait = WAIT_MIN;
    let mut attempt = 1;
    loop {
        let Err(error) = metadata.create(vec![barred(checkpoint, epoch)]).await else { return Ok(()) };
        // A conflict may be with a put under way, that comes to nothing.
        let error = match metadata.exists().await {
            Ok(true) => return Ok(()),
            Ok(false) => error,
            Err(unknown) => unknown,
        };
        if attempt == ATTEMPTS_MAX {
            return Err(error.context("barring a checkpoint that never completed"));
        }
        attempt += 1;
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

impl Books {
    /// The files that a checkpoint names, for its trailer, with their lengths and the checksums that handles can't have.
    fn named_files(&self, checkpoint: CheckpointId) -> Result<Vec<NamedFile>> {
        let files = self.ledger.files_of(checkpoint).into_iter();
        let named = |(path, size): (Arc<str>, u64)| {
            Ok(NamedFile { path: text(&path)?, size, crc32c: self.sums.get(&path).copied() })
        };
        files.map(named).collect()
    }
}

fn writer() -> Result<JavaString> {
    text(concat!("drystone ", env!("CARGO_PKG_VERSION")))
}

fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("text {text:?}: {e}")))
}

fn ids(effects: &[Effect], id: impl Fn(&Effect) -> Option<CheckpointId>) -> Vec<CheckpointId> {
    effects.iter().filter_map(id).collect()
}
