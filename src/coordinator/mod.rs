//! One job's checkpoints: triggered, acknowledged, committed, and cleared away.
//!
//! The shell around the [`Ledger`](crate::ledger::Ledger), which decides everything: this module turns handles into names,
//! carries out effects and reports what came of them. It alone deletes files of the job (I3), and always in one order: data
//! sealed, the commit announced in the fence log, metadata created, published in memory, older ones discarded.

mod acknowledge;
mod assemble;
mod books;
mod commit;
mod fence;
mod files;
mod hint;
mod leftovers;
mod memory;
mod owner;
mod reaper;
mod recover;
mod restore;
mod rewrite;
mod savepoint;
mod savepoint_request;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use crate::ledger::{Acknowledged, JobEnd, SpaceUsage};
pub use commit::Completed;
pub use leftovers::Leftovers;
pub use memory::MemoryLimits;
pub use rewrite::Rewritten;
pub use savepoint_request::{SavepointDefaults, SavepointRequest};

use crate::config::Fencing;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::ledger::{Effect, LedgerSettings};
use crate::protocol::{OperatorSpec, RewritePlan, SnapshotKind, Trigger};
use crate::read::ReadLimits;
use crate::store::{FlinkPath, JobDirectory, Stores};
use crate::sync::{Mutex, MutexGuard};
use crate::write::{Tokens, WriteSettings};
use books::{Books, Draft};
use fence::{Fence, Saying};
use reaper::Reaper;

/// How a coordinator works.
#[derive(Clone, Copy, Debug)]
pub struct CoordinatorSettings {
    /// What is kept, and how tightly.
    pub ledger: LedgerSettings,
    /// The version of the metadata it writes, 4 to 6; a later one where the state needs it.
    pub metadata_version: u32,
    /// How long a commit waits for a file that is named to appear.
    pub file_timeout: Duration,
    /// Deletes under way at once.
    pub deletes_max: usize,
    /// How often a failed delete is tried again before it is put off until the next commit.
    pub delete_retries: u32,
    /// How the background rewrite packs.
    pub write: WriteSettings,
    /// How the background rewrite and restores read.
    pub read: ReadLimits,
    /// How it is kept apart from other coordinators of the job.
    pub fencing: FencingSettings,
    /// Is the latest checkpoint's path written to a small file, for other tools? One PUT for each commit, which nothing waits
    /// for; see [`JobDirectory::latest`].
    pub latest_file: bool,
    /// Where all state is in the metadata, how much of it; `None`: what the workers put there counts as little.
    pub memory: Option<MemoryLimits>,
}

/// How coordinators of one job are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencingSettings {
    /// Whether, and whether it has to be possible.
    pub mode: Fencing,
    /// Rounds in which the store has to show that of several who create a file at once one succeeds; see
    /// [`Location::try_create_only`](crate::store::Location::try_create_only).
    pub proof_rounds: u32,
}

impl Default for FencingSettings {
    fn default() -> Self {
        Self { mode: Fencing::Auto, proof_rounds: 4 }
    }
}

/// The coordinator of one job. Cheap to clone; clones are one coordinator.
///
/// No call waits for a delete. Starts no task but in `complete`, `abort` and their kin, to delete.
#[derive(Clone)]
pub struct Coordinator {
    shared: Arc<Shared>,
    savepoint_defaults: Arc<SavepointDefaults>,
}

struct Shared {
    stores: Stores,
    directory: JobDirectory,
    operators: Vec<OperatorSpec>,
    settings: CoordinatorSettings,
    tokens: Tokens,
    /// In the names of files and in trailers.
    epoch: u64,
    /// `None` where there can't be one, or is to be none.
    fence: Option<Fence>,
    /// Never held across an await; the reaper's own lock may be taken while it is held, never the other way round.
    books: Mutex<Books>,
    reaper: Reaper,
    /// Held by who decides commits in doubt: what one gives up another must not put again.
    deciding: tokio::sync::Mutex<()>,
    /// Shared by the commits under way; taken by a job's end, which must not leave one of them behind.
    committing: tokio::sync::RwLock<()>,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Its directory.
    pub path: FlinkPath,
}

impl Coordinator {
    /// The number to give to the next checkpoint.
    pub fn next_checkpoint(&self) -> CheckpointId {
        self.books().ledger.next_checkpoint()
    }

    /// Starts a checkpoint: what to tell the workers. It waits for every subtask of every operator.
    ///
    /// # Errors
    /// `Conflict`: the number isn't higher than all before; or the outcome of 16 commits is unknown, and
    /// [`settle`](Self::settle) has to find it out. `Fenced`: a newer coordinator was met.
    pub fn trigger(&self, checkpoint: CheckpointId) -> Result<Trigger> {
        self.shared.refuse_if_fenced()?;
        let subtasks: BTreeSet<Subtask> = self.shared.operators.iter().flat_map(OperatorSpec::subtasks).collect();
        let mut books = self.books();
        books.refuse_if_in_doubt(checkpoint)?;
        let plan = books.ledger.trigger(checkpoint, subtasks)?;
        let plan = books.without_copied(plan);
        books.drafts.insert(checkpoint, Draft::default());
        let claimed = books.claimed.iter().map(|path| path.to_string()).collect();
        tracing::debug!(%checkpoint, planned = plan.files.len(), "checkpoint triggered");
        let base = books.ledger.base_of(checkpoint).to_vec();
        let (epoch, under_way) = (self.shared.epoch, Some(books.ledger.pending().collect()));
        Ok(Trigger { checkpoint, epoch, plan, claimed, base, under_way, kind: SnapshotKind::Checkpoint })
    }

    /// A subtask can't do its part of the checkpoint that was triggered with this epoch: it is aborted. Does nothing to
    /// one that has ended or is being completed, nor to another coordinator's of this number. True if it was aborted by
    /// this.
    pub fn decline(&self, epoch: u64, checkpoint: CheckpointId, subtask: Subtask, reason: &str) -> bool {
        let aborted = epoch == self.shared.epoch && self.abort(checkpoint);
        let (index, operator) = (subtask.index, subtask.operator);
        tracing::info!(%checkpoint, %operator, subtask = index, reason, aborted, "checkpoint declined");
        aborted
    }

    /// A checkpoint took too long: it is aborted, and a late acknowledgement does no harm. As
    /// [`abort`](Self::abort).
    pub fn expire(&self, checkpoint: CheckpointId) -> bool {
        let aborted = self.abort(checkpoint);
        tracing::info!(%checkpoint, aborted, "checkpoint expired");
        aborted
    }

    /// Gives a checkpoint up. Does nothing to one that has ended or is being completed. True if it was aborted by
    /// this; tell the workers then.
    pub fn abort(&self, checkpoint: CheckpointId) -> bool {
        let effects = self.books().decide(|books| books.ledger.abort(checkpoint));
        let aborted = !effects.is_empty();
        self.perform(effects);
        aborted
    }

    /// The newest completed checkpoint.
    pub fn latest(&self) -> Option<Latest> {
        let books = self.books();
        let checkpoint = books.ledger.latest()?;
        let path = books.path_of(checkpoint, &self.shared.directory).ok()?;
        Some(Latest { checkpoint, path })
    }

    /// The completed checkpoints that are kept, in order.
    pub fn completed(&self) -> Vec<CheckpointId> {
        self.books().ledger.completed().collect()
    }

    /// The checkpoints under way, in order.
    pub fn pending(&self) -> Vec<CheckpointId> {
        self.books().ledger.pending().collect()
    }

    /// The space that retained and pending checkpoints take. Equal to a recount from their metadata at all times (I5).
    pub fn space(&self) -> SpaceUsage {
        self.books().ledger.usage()
    }

    /// What the next trigger would ask to be written again.
    pub fn plan(&self) -> RewritePlan {
        let books = self.books();
        books.without_copied(books.ledger.plan())
    }

    /// The operators of the job.
    pub fn operators(&self) -> &[OperatorSpec] {
        &self.shared.operators
    }

    /// An operator with union state of which some subtasks have finished before this checkpoint: of what goes to all a part
    /// would be missing, so that it can't be completed. Or one of which some subtasks, but not all, were at the end of
    /// their data by then (`ended`): completed, it would let them finish, and none after it could be completed. `None`, too,
    /// if it isn't under way.
    pub fn partly_finished_with_union(
        &self,
        checkpoint: CheckpointId,
        ended: &BTreeSet<Subtask>,
    ) -> Option<OperatorId> {
        let books = self.books();
        assemble::partly_finished_with_union(&self.shared.operators, books.drafts.get(&checkpoint)?, ended)
    }

    /// Where the job's checkpoints lie.
    pub fn directory(&self) -> &JobDirectory {
        &self.shared.directory
    }

    /// In the names of this coordinator's files and in its trailers.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Is it certain that no older coordinator of the job can commit or delete what this one needs? Not so where the
    /// settings or the store don't allow for it; then it is for others to see to that there is one at a time.
    pub fn is_fenced_off(&self) -> bool {
        self.shared.fence.is_some()
    }

    /// Waits for the deletes under way, tries those again that have failed, and puts metadata again of which nobody
    /// knows whether it is there. A checkpoint may complete by that: ask [`latest`](Self::latest) afterwards, and tell the
    /// workers, since the next one can only name again what is still kept.
    ///
    /// # Errors
    /// The first commit that is still in doubt; the others are decided. The first delete that still fails; a further call
    /// tries again. `Fenced`: a newer coordinator was met, or the job has ended and nothing is left of it. Cancel safe.
    pub async fn settle(&self) -> Result<()> {
        self.shared.refuse_if_fenced()?;
        self.resolve().await?;
        self.shared.reaper.settle(&self.shared).await
    }

    /// The job is over: its pending checkpoints are aborted, and the completed ones discarded if the retention says so.
    /// Then nothing of the job is left but what its tasks own, and a small file that says so: who has slept through all that
    /// mustn't take the job for a new one. If it had several coordinators what keeps these apart stays, too; and where
    /// there is a checkpoint that this coordinator doesn't know, what no checkpoint of its own names.
    ///
    /// To be called when the workers have stopped. Waits for the deletes, and before for commits that are under way. Where
    /// nothing is left, what would change the job is refused as `Fenced` from then on: a job of this name is another.
    ///
    /// # Errors
    /// The first delete that fails; a further call goes on. `Fenced`: a newer coordinator has the job, and nothing has
    /// changed. `Store`: it isn't known whether the end is said in the fence log. The job goes on, but a coordinator that
    /// takes it over before the next commit may find it ended.
    pub async fn dispose(&self, end: JobEnd) -> Result<()> {
        let keeps_nothing = end.discards(self.shared.settings.ledger.retention);
        if self.shared.fence.as_ref().is_some_and(Fence::has_ended) {
            return Ok(());
        }
        {
            let _ending = Ending::new(&self.shared, keeps_nothing);
            // Who comes next must not count on what is about to go.
            if !self.has_nothing_to_end().await {
                self.announce(By::End).await?;
            }
            tracing::info!(?end, "job ended");
            let effects = self.books().decide(|books| {
                books.drafts.clear();
                books.ledger.end(end)
            });
            self.perform(effects);
        }
        if keeps_nothing {
            // What comes of them goes, too, and who would delete it after the fence?
            drop(self.shared.committing.write().await);
        }
        self.resolve().await?;
        self.shared.reaper.settle(&self.shared).await?;
        if keeps_nothing && self.books().ledger.latest().is_none() {
            self.shared.clear().await?;
        }
        Ok(())
    }

    /// Did the job never come to a commit, in this coordinator's hands or others'?
    async fn has_nothing_to_end(&self) -> bool {
        let Some(fence) = &self.shared.fence else { return true };
        fence.has_said_nothing().await && self.books().ledger.completed().next().is_none()
    }

    /// Says in the fence log what may be committed from now on, and of how many completed checkpoints nothing is deleted.
    ///
    /// # Errors
    /// As for [`Fence::say`]; `Conflict`: a commit, while the job ends and keeps nothing.
    async fn announce(&self, by: By) -> Result<()> {
        let Some(fence) = &self.shared.fence else { return Ok(()) };
        let of_no_use = fence.say(|| {
            let books = self.books();
            let ends = books.ends > 0 || books.ledger.keeps_nothing();
            if ends && by == By::Commit {
                return Err(Error::new(ErrorKind::Conflict, "the job ends, and keeps nothing"));
            }
            let retained = if ends { 0 } else { books.ledger.retained() };
            Ok(Saying {
                open: books.ledger.committing().collect(),
                kept: books.ledger.completed().collect(),
                retained: u32::try_from(retained).unwrap_or(u32::MAX),
                next: books.ledger.next_checkpoint(),
            })
        });
        if let Some(entry) = of_no_use.await? {
            self.shared.reaper.put_back_failed();
            self.shared.reaper.submit_delete(&self.shared, entry);
        }
        Ok(())
    }

    /// Has the reaper tell other tools of the latest checkpoint, before what it has replaced goes.
    fn hint(&self) {
        if self.shared.settings.latest_file {
            self.shared.reaper.submit_hint(&self.shared);
        }
    }

    /// Has the reaper carry effects out.
    fn perform(&self, effects: Vec<Effect>) {
        self.shared.reaper.submit(&self.shared, effects);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.shared.books()
    }
}

impl Shared {
    fn refuse_if_fenced(&self) -> Result<()> {
        self.fence.as_ref().map_or(Ok(()), Fence::refuse_if_over)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // No code between two changes of the books can panic, so they are never half changed.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who says something in the fence log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Commit,
    /// Of a savepoint: nobody goes by it, so that the job may end meanwhile.
    Savepoint,
    End,
}

/// The job is about to end, if that comes to something: no commit may say meanwhile that checkpoints are kept.
struct Ending<'a>(&'a Shared, u32);

impl<'a> Ending<'a> {
    fn new(shared: &'a Shared, keeps_nothing: bool) -> Self {
        let ends = u32::from(keeps_nothing);
        shared.books().ends += ends;
        Self(shared, ends)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.books().ends -= self.1;
    }
}

/// The directories above files, each once.
fn parents(paths: impl IntoIterator<Item = FlinkPath>) -> BTreeMap<FlinkPath, u64> {
    let mut counts = BTreeMap::new();
    for parent in paths.into_iter().filter_map(|path| path.parent()) {
        *counts.entry(parent).or_default() += 1;
    }
    counts
}
