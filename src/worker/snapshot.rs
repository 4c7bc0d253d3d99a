//! One subtask's part of one checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Worker;
use super::reuse::reuse;
use super::running::{Participation, Placed, Running};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::StreamHandle;
use crate::id::Subtask;
use crate::id::{CheckpointId, FileToken, Scope};
use crate::protocol::{Reuse, SavepointFormat, SealedSize};
use crate::write::{Origin, PlacedFiles, SealedFile, SegmentWriter, Written};

/// One subtask's snapshot of one checkpoint, being written.
///
/// Dropped instead of [finished](Self::finish), it is given up: the files that it wrote into wait for it no longer, and
/// what it has placed in them stays there, named by nobody.
pub struct Snapshot {
    worker: Worker,
    participation: Participation,
    placed: Placed<Arc<PlacedFiles>>,
}

/// Stands for what a finished snapshot has written, until it is durable.
#[derive(Clone)]
pub struct Ticket {
    running: Arc<Running>,
    placed: Placed<BTreeSet<FileToken>>,
}

/// What a snapshot has written, durable.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    files: BTreeMap<FileToken, SealedFile>,
    sealed: Vec<SealedSize>,
}

impl Snapshot {
    pub(super) fn new(worker: Worker, running: Arc<Running>, subtask: Subtask) -> Self {
        let participation = Participation::new(running, subtask);
        Self { worker, participation, placed: Placed::default() }
    }

    /// Which checkpoint.
    pub fn checkpoint(&self) -> CheckpointId {
        self.running().checkpoint
    }

    /// What the state is to be like, if this is a savepoint: one holds all that it names. `None`: a checkpoint.
    pub fn savepoint(&self) -> Option<SavepointFormat> {
        self.running().savepoint
    }

    /// Is what this completed checkpoint has sure to be there until this snapshot's has ended? Of one that completed before
    /// the trigger the coordinator has said so with it, whatever news got lost between; one that has completed since stays.
    ///
    /// Where it isn't, what a task names of it may be gone, and the acknowledgement be refused.
    pub fn builds_on(&self, completed: CheckpointId) -> bool {
        self.running().builds_on(completed)
    }

    /// Whose it is.
    pub(super) fn subtask(&self) -> Subtask {
        self.participation.subtask()
    }

    /// Starts a segment; several may be written at once. With its size known beforehand, even a long one is placed
    /// exactly, for memory of that size.
    ///
    /// It is to be finished before the snapshot is: else nobody waits for its file. In a savepoint each is exclusive, whatever
    /// `scope` says.
    pub fn segment(&self, scope: Scope, size_hint: Option<u64>) -> SegmentWriter {
        let scope = if self.running().is_savepoint() { Scope::Exclusive } else { scope };
        let subtask = Some(self.participation.subtask());
        let origin = Origin { checkpoint: self.checkpoint(), subtask, scope };
        let placed = match scope {
            Scope::Exclusive => &self.placed.exclusive,
            Scope::Shared => &self.placed.shared,
        };
        self.running().pool(scope).segment(origin, size_hint).noted_in(placed.clone())
    }

    /// A segment for channel state.
    pub(super) fn channel_segment(&self) -> SegmentWriter {
        let (checkpoint, subtask) = (self.checkpoint(), Some(self.subtask()));
        let origin = Origin { checkpoint, subtask, scope: Scope::Exclusive };
        self.running().channel_pool().segment(origin, None).noted_in(self.placed.channels.clone())
    }

    /// May a handle of an earlier checkpoint go into this one as it is?
    ///
    /// `Keep` is what the worker can tell: that the file is still there is checked by the coordinator, which refuses an
    /// acknowledgement that names what no retained checkpoint does. So offer what the latest completed checkpoint has.
    /// `Rewrite(Planned(_))` is advice that a state backend which can't follow may pass over; the other reasons aren't.
    ///
    /// To be asked once for each time that the handle is named: an inline handle that is kept takes from the budget for
    /// what goes inline, and is to be written again (`Planned(Waste)`) when it is longer than allowed or nothing is left
    /// of that. A whole file counts as shared if it lies in the job's `shared/`, or in the `shared/` of a claimed
    /// directory; one by a relative path never does. Ownership goes by whole path components.
    pub fn reuse(&self, handle: &StreamHandle) -> Reuse {
        reuse(&self.worker, self.running(), handle)
    }

    /// The handle that `written` will have, before its file is sealed: to be told to a coordinator that makes sure of the
    /// file before it commits, and to nobody else. `None` where nothing was written.
    ///
    /// # Errors
    /// `Invalid`: the segment isn't of this checkpoint and worker.
    pub fn provisional(&self, written: &Written) -> Result<Option<StreamHandle>> {
        match written {
            Written::Nothing => Ok(None),
            Written::Inline(handle) => Ok(Some(handle.clone())),
            Written::Placed(placement) => self.running().pool(placement.scope).provisional(placement).map(Some),
        }
    }

    /// Everything is written. Doesn't wait; if all others have finished, the files are on their way now.
    pub fn finish(self) -> Ticket {
        let running = self.running().clone();
        let Placed { exclusive, shared, channels } = &self.placed;
        let placed = Placed { exclusive: exclusive.files(), shared: shared.files(), channels: channels.files() };
        Ticket { running, placed }
    }

    /// [`finish`](Self::finish), then [`Ticket::seal`]. Cancelled, the snapshot is finished all the same.
    ///
    /// # Errors
    /// As for [`Ticket::seal`].
    pub async fn seal(self) -> Result<Durable> {
        let ticket = self.finish();
        ticket.seal().await
    }

    fn running(&self) -> &Arc<Running> {
        &self.participation.running
    }
}

impl Ticket {
    /// Waits until the files that hold the snapshot's segments are durable: they are sealed when they are full, when all
    /// who take part have finished, or when the linger time is over. Without a segment in a file there is nothing to
    /// wait for.
    ///
    /// Cancel safe, and can be called again. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// Of the first of its files that failed: `Store` and whatever else [`Location::create`](crate::store::Location)
    /// gives. `Conflict`: the checkpoint ended before, or the worker was closed.
    pub async fn seal(&self) -> Result<Durable> {
        let Placed { exclusive, shared, channels } = &self.placed;
        if [exclusive, shared, channels].into_iter().all(BTreeSet::is_empty) {
            return Ok(Durable::default());
        }
        Ok(Durable::new(self.running.durable(&self.placed).await?))
    }
}

impl Durable {
    fn new(files: Vec<SealedFile>) -> Self {
        let files: BTreeMap<_, _> = files.into_iter().map(|file| (file.token, file)).collect();
        let size = |file: &SealedFile| SealedSize { path: file.path.to_string(), bytes: file.file_bytes };
        let sealed = files.values().map(size).collect();
        Self { files, sealed }
    }

    /// The durable handle; `None` where nothing was written.
    ///
    /// # Errors
    /// `Invalid`: the segment isn't of this snapshot, or was finished after it.
    pub fn handle(&self, written: &Written) -> Result<Option<StreamHandle>> {
        match written {
            Written::Nothing => Ok(None),
            Written::Inline(handle) => Ok(Some(handle.clone())),
            Written::Placed(placement) => match self.files.get(&placement.id.file) {
                Some(file) => file.handle(placement).map(Some),
                None => {
                    let message = format!("segment {} lies in no file of this snapshot", placement.id);
                    Err(Error::new(ErrorKind::Invalid, message))
                }
            },
        }
    }

    /// The files, with their lengths: for the acknowledgement.
    pub fn sealed(&self) -> &[SealedSize] {
        &self.sealed
    }
}
