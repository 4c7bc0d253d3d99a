//! What subtasks, and the coordinators of operators and hooks, say of a checkpoint under way.

use super::books::{Books, Draft};
use super::{Coordinator, memory};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{InlineHandle, MasterState, SubtaskState};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::ledger::{Acknowledged, Named};
use crate::protocol::Acknowledgement;
use crate::read::{Misfit, check_shape, checksums_fit};

impl Coordinator {
    /// A subtask has done its part.
    ///
    /// Its handles may be durable ones, or provisional ones of files that are yet to be sealed: completing the
    /// checkpoint makes sure of them. May come late or again: what it returns says so, and nothing has changed then.
    ///
    /// # Errors
    /// `NotFound`: there was no such checkpoint. `Invalid`: there is no such subtask, or a handle names what it can't:
    /// a path outside the job's directory that was never claimed, or a segment that is neither new nor named by a
    /// retained checkpoint; or key groups that the operator doesn't have, or another subtask has; or a place beyond the end of
    /// its stream; or the checksums of key groups aren't theirs, as that of their stream shows; or there is more
    /// state inline than [allowed](super::MemoryLimits). Decline or retry; nothing has changed. `Fenced`: it is of a later epoch than this
    /// coordinator, which has a successor; one of an earlier epoch is late.
    pub fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<Acknowledged> {
        let Acknowledgement { epoch, checkpoint, subtask, state, sealed } = acknowledgement;
        if !self.is_of(epoch, checkpoint)? {
            return Ok(Acknowledged::Late);
        }
        self.check_shape(checkpoint, subtask, state.as_deref())?;
        check_checksums(subtask, state.as_deref())?;
        let mut guard = self.books();
        let books = &mut *guard;
        books.forget_unnamed();
        if let Some(answer) = books.ledger.answer(checkpoint, subtask)? {
            return Ok(answer);
        }
        let mut state = state;
        if let (Some(draft), Some(state)) = (books.drafts.get(&checkpoint), &state) {
            draft.key_groups.check(subtask, state).map_err(|misfit| refuse(checkpoint, misfit))?;
        }
        let inline_bytes = memory::inline_bytes(subtask, state.as_deref());
        let inline_bytes = self.admit(books, checkpoint, inline_bytes)?;
        let savepoint = books.drafts.get(&checkpoint).and_then(|draft| draft.savepoint.clone());
        let (named, outcome) = match (&savepoint, &mut state) {
            (Some(savepoint), Some(state)) => {
                let named = savepoint.names_of(checkpoint, epoch, subtask, state)?;
                (named, books.ledger.acknowledge(checkpoint, subtask, &[], |_| false)?)
            }
            (_, state) => {
                if let Some(state) = state {
                    books.relocate(subtask, state);
                }
                let state = state.as_deref();
                let named = books.names_of(&self.shared.directory, checkpoint, epoch, subtask, state)?;
                let is_new = |name: &Named| named.new.contains(&name.file);
                let outcome = books.ledger.acknowledge(checkpoint, subtask, &named.all, is_new)?;
                (named, outcome)
            }
        };
        if matches!(outcome, Acknowledged::Waiting(_) | Acknowledged::Ready)
            && let Some(draft) = books.drafts.get_mut(&checkpoint)
        {
            draft.inline_bytes = inline_bytes;
            draft.take(subtask, state, &named, sealed, &books.ledger);
            books.report();
        }
        Ok(outcome)
    }

    /// A subtask had finished before the checkpoint: nobody waits for it, and the metadata says so. When all of an
    /// operator's subtasks had, the operator is said to have finished, and nothing else of it is kept, the state of its own
    /// coordinator included. `epoch` is that of the trigger: of another coordinator's checkpoint of this number it says nothing.
    ///
    /// # Errors
    /// As for [`acknowledge`](Self::acknowledge).
    pub fn finished(&self, epoch: u64, checkpoint: CheckpointId, subtask: Subtask) -> Result<Acknowledged> {
        if !self.is_of(epoch, checkpoint)? {
            return Ok(Acknowledged::Late);
        }
        let mut books = self.books();
        let outcome = books.ledger.finished(checkpoint, subtask)?;
        // One that has acknowledged keeps what it said.
        if matches!(outcome, Acknowledged::Waiting(_) | Acknowledged::Ready)
            && let Some(draft) = books.drafts.get_mut(&checkpoint)
        {
            draft.finished.insert(subtask);
        }
        Ok(outcome)
    }

    /// The state of an operator's own coordinator: inline, in the metadata. `epoch` is that of the trigger.
    ///
    /// # Errors
    /// `NotFound`: no such checkpoint is under way, or its commit has begun, or it is of an earlier epoch. `Invalid`: the job has no
    /// such operator. `Fenced`: it is of a later epoch than this coordinator.
    pub fn acknowledge_operator(
        &self,
        epoch: u64,
        checkpoint: CheckpointId,
        operator: OperatorId,
        state: InlineHandle,
    ) -> Result<()> {
        if !self.shared.operators.iter().any(|spec| spec.id == operator) {
            return Err(Error::new(ErrorKind::Invalid, format!("the job has no operator {operator}")));
        }
        self.enter(epoch, checkpoint, state.bytes.len(), |draft| drop(draft.operators.insert(operator, state)))
    }

    /// The state of a master hook, which is of the whole job: in the metadata. Of two of one name the later one counts. `epoch` is
    /// that of the trigger.
    ///
    /// # Errors
    /// `NotFound`: no such checkpoint is under way, or it is of an earlier epoch. `Fenced`: it is of a later one than this
    /// coordinator.
    pub fn acknowledge_master(&self, epoch: u64, checkpoint: CheckpointId, state: MasterState) -> Result<()> {
        let name = state.name.clone();
        self.enter(epoch, checkpoint, state.bytes.len(), |draft| drop(draft.masters.insert(name, state)))
    }

    fn check_shape(&self, checkpoint: CheckpointId, subtask: Subtask, state: Option<&SubtaskState>) -> Result<()> {
        let spec = self.shared.operators.iter().find(|spec| spec.id == subtask.operator);
        let Some((spec, state)) = spec.zip(state) else { return Ok(()) };
        check_shape(subtask, spec.max_parallelism, state).map_err(|misfit| refuse(checkpoint, misfit))
    }

    /// Is it said of this coordinator's checkpoint? Not so of one of its predecessors', which may have used the number, too.
    ///
    /// # Errors
    /// `Fenced`: of a successor's.
    fn is_of(&self, epoch: u64, checkpoint: CheckpointId) -> Result<bool> {
        if epoch <= self.shared.epoch {
            return Ok(epoch == self.shared.epoch);
        }
        let message = format!(
            "checkpoint {checkpoint} of epoch {epoch} is acknowledged to a coordinator of epoch {}, which is over",
            self.shared.epoch
        );
        Err(Error::new(ErrorKind::Fenced, message))
    }

    fn enter(&self, epoch: u64, checkpoint: CheckpointId, bytes: usize, enter: impl FnOnce(&mut Draft)) -> Result<()> {
        let none = || Error::new(ErrorKind::NotFound, format!("checkpoint {checkpoint} is not under way"));
        if !self.is_of(epoch, checkpoint)? {
            return Err(none());
        }
        let mut books = self.books();
        let inline_bytes = self.admit(&books, checkpoint, vec![bytes as u64])?;
        let draft = books.drafts.get_mut(&checkpoint).ok_or_else(none)?;
        draft.inline_bytes = inline_bytes;
        enter(draft);
        Ok(())
    }

    fn admit(&self, books: &Books, checkpoint: CheckpointId, states: Vec<u64>) -> Result<u64> {
        match self.shared.settings.memory {
            Some(limits) => limits.admit(checkpoint, books.drafts.get(&checkpoint), states),
            None => Ok(0),
        }
    }
}

fn refuse(checkpoint: CheckpointId, Misfit { place, problem }: Misfit) -> Error {
    Error::new(ErrorKind::Invalid, format!("checkpoint {checkpoint}, {place}: {problem}"))
}

/// What was marked at other places than the offsets say would go unnoticed until it is of no use to a restore.
fn check_checksums(subtask: Subtask, state: Option<&SubtaskState>) -> Result<()> {
    let mut wrong = None;
    state.into_iter().for_each(|state| {
        state.visit_key_groups(subtask, |place, handle| {
            if wrong.is_none() && !checksums_fit(handle, place.part) {
                wrong = Some(place.clone());
            }
        });
    });
    let Some(place) = wrong else { return Ok(()) };
    let message = format!(
        "{place}: the checksums of its key groups don't add up to that of their stream; allowed are those that the segment's \
         writer has for marks at the offsets, and none"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}
