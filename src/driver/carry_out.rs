//! What the schedule decides is done, and what comes of it is said to the schedule.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::handle::Said;
use super::{Done, Driver, Order, Outcome, Take};
use crate::coordinator::{Acknowledged, Completed};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, Subtask};
use crate::schedule::{Action, Event, Failure, Kind, Refusal, RequestId};

impl Driver {
    pub(super) fn hear(&mut self, said: Said, now: Duration) -> Result<()> {
        match said {
            Said::Event(event) => self.apply(event, now),
            Said::Request(request, kind, savepoint, answer) => {
                // The one that waits keeps its place; this one's sender is dropped, which says so.
                if self.answers.contains_key(&request) {
                    return Ok(());
                }
                self.answers.insert(request, answer);
                self.savepoints.extend(savepoint.map(|savepoint| (request, savepoint)));
                self.apply(Event::Request(request, kind), now)
            }
            Said::Ready(checkpoint) => self.ready(checkpoint, now),
            Said::Declined { epoch, checkpoint, subtask, failure, reason } => {
                match self.coordinator.decline(epoch, checkpoint, subtask, &reason) {
                    true => self.failed(checkpoint, failure, reason, now),
                    false => Ok(()),
                }
            }
            Said::Abort { checkpoint, failure, reason } => match self.coordinator.abort(checkpoint) {
                true => self.failed(checkpoint, failure, reason, now),
                false => Ok(()),
            },
        }
    }

    /// Says it to the schedule, does what it wants, and says what came of that.
    pub(super) fn apply(&mut self, event: Event, now: Duration) -> Result<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.watch.see(&event, now);
            for action in self.schedule.apply(event, now) {
                match action {
                    Action::Trigger { kind, request } => events.push_back(self.trigger(kind, request)?),
                    Action::Abort(checkpoint, failure) => events.extend(self.abort(checkpoint, failure)),
                    Action::Refuse(request, refusal) => {
                        self.answer(request, Outcome::Refused { refusal, reason: refusal.to_string() });
                    }
                    Action::Release(subtask) => self.outbox.push_back(Order::Release(subtask)),
                    Action::FailJob(why) => {
                        tracing::warn!(%why, "the job has to fail");
                        self.outbox.push_back(Order::FailJob(why));
                    }
                }
            }
        }
        Ok(())
    }

    fn trigger(&mut self, kind: Kind, request: Option<RequestId>) -> Result<Event> {
        let checkpoint = self.coordinator.next_checkpoint();
        let savepoint = request.and_then(|request| self.savepoints.remove(&request));
        let triggered = match &savepoint {
            Some(savepoint) => self.coordinator.trigger_savepoint(checkpoint, savepoint),
            None => self.coordinator.trigger(checkpoint),
        };
        let trigger = match triggered {
            Ok(trigger) => trigger,
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(%checkpoint, error = error.one_line(), "checkpoint not triggered");
                // Too many commits may be in doubt.
                self.settle();
                let (failure, reason) = (Failure::Store, error.one_line());
                if let Some(request) = request {
                    // Before the schedule refuses it, which doesn't know these words.
                    self.answer(request, Outcome::Refused { refusal: Refusal::NotTriggered(failure), reason });
                }
                return Ok(Event::NotTriggered(failure));
            }
        };
        let mut is_ready = false;
        for finished in self.schedule.finished_subtasks() {
            is_ready |= matches!(self.coordinator.finished(trigger.epoch, checkpoint, finished)?, Acknowledged::Ready);
        }
        let subtasks: Vec<Subtask> = self.schedule.running_subtasks().collect();
        is_ready |= subtasks.is_empty();
        let ended: BTreeSet<Subtask> = self.schedule.ended_subtasks().collect();
        self.ended.extend((!ended.is_empty()).then_some((checkpoint, ended)));
        self.requested.extend(request.map(|request| (checkpoint, request)));
        let alignment = self.schedule.settings().alignment(kind);
        let take = Take { trigger, kind, alignment, request, subtasks };
        self.outbox.push_back(Order::Take(Box::new(take)));
        if is_ready {
            self.commit(checkpoint);
        }
        Ok(Event::Triggered(checkpoint))
    }

    /// What the schedule gives up. Of one that is being committed the commit will say how it ended.
    fn abort(&mut self, checkpoint: CheckpointId, failure: Failure) -> Option<Event> {
        let aborted = match failure {
            Failure::Expired => self.coordinator.expire(checkpoint),
            _ => self.coordinator.abort(checkpoint),
        };
        if !aborted && self.committing.contains(&checkpoint) {
            return None;
        }
        // Or somebody else has ended it, and didn't say how.
        self.tell_of_failure(checkpoint, failure, failure.to_string());
        Some(Event::Failed(checkpoint, failure))
    }

    fn ready(&mut self, checkpoint: CheckpointId, now: Duration) -> Result<()> {
        if !self.is_under_way(checkpoint) || self.committing.contains(&checkpoint) {
            return Ok(());
        }
        let nobody = BTreeSet::new();
        let ended = self.ended.get(&checkpoint).unwrap_or(&nobody);
        match self.coordinator.partly_finished_with_union(checkpoint, ended) {
            Some(operator) if self.coordinator.abort(checkpoint) => {
                let reason =
                    format!("some subtasks of operator {operator} have finished, or will, and it has union state");
                self.failed(checkpoint, Failure::TaskClosing, reason, now)
            }
            _ => {
                self.commit(checkpoint);
                Ok(())
            }
        }
    }

    fn is_under_way(&self, checkpoint: CheckpointId) -> bool {
        self.schedule.under_way().any(|(id, _)| id == checkpoint)
    }

    fn commit(&mut self, checkpoint: CheckpointId) {
        self.committing.insert(checkpoint);
        let coordinator = self.coordinator.clone();
        self.work.push(Box::pin(async move { Done::Commit(checkpoint, coordinator.complete(checkpoint).await) }));
    }

    /// Finds out about commits in doubt, if nobody is at it.
    fn settle(&mut self) {
        if !std::mem::replace(&mut self.settling, true) {
            let coordinator = self.coordinator.clone();
            self.work.push(Box::pin(async move { Done::Settled(coordinator.settle().await) }));
        }
    }

    pub(super) fn done(&mut self, done: Done, now: Duration) -> Result<()> {
        match done {
            Done::Commit(checkpoint, Ok(completed)) => {
                self.committing.remove(&checkpoint);
                self.completed(completed, now)
            }
            Done::Commit(checkpoint, Err(error)) => {
                self.committing.remove(&checkpoint);
                self.not_committed(checkpoint, error, now)
            }
            Done::Settled(result) => {
                self.settling = false;
                self.settled(result, now)
            }
        }
    }

    fn completed(&mut self, completed: Completed, now: Duration) -> Result<()> {
        let checkpoint = completed.checkpoint;
        self.watch.completed(&completed, now);
        self.ended.remove(&checkpoint);
        if let Some(request) = self.requested.remove(&checkpoint) {
            self.answer(request, Outcome::Completed(completed.clone()));
        }
        let aborted = completed.aborted.clone();
        // Before anything that follows from it: who names again what it has must know that it is there.
        self.outbox.push_back(Order::Completed(completed));
        self.apply(Event::Completed(checkpoint), now)?;
        for older in aborted {
            let reason = format!("checkpoint {checkpoint} completed");
            self.failed(older, Failure::Subsumed, reason, now)?;
        }
        Ok(())
    }

    fn not_committed(&mut self, checkpoint: CheckpointId, error: Error, now: Duration) -> Result<()> {
        if error.kind() == ErrorKind::Fenced {
            return Err(error);
        }
        // It may have waited for somebody: who says that it is ready must be right.
        if !self.coordinator.abort(checkpoint) && self.coordinator.pending().contains(&checkpoint) {
            self.in_doubt.insert(checkpoint);
            self.settle();
        }
        if !self.is_under_way(checkpoint) {
            // It was given up before its commit had begun, and that was said.
            return Ok(());
        }
        self.failed(checkpoint, Failure::Commit, error.one_line(), now)
    }

    fn settled(&mut self, result: Result<()>, now: Duration) -> Result<()> {
        match result {
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => tracing::warn!(error = error.one_line(), "not settled"),
            Ok(()) => {}
        }
        let (pending, completed) = (self.coordinator.pending(), self.coordinator.completed());
        let decided: Vec<_> = self.in_doubt.iter().filter(|id| !pending.contains(id)).copied().collect();
        self.in_doubt.retain(|id| pending.contains(id));
        if decided.iter().any(|id| completed.contains(id)) {
            self.outbox.extend(self.coordinator.latest().map(Order::Found));
        }
        // One that is durable has ended older ones, and doesn't say so.
        let under_way: Vec<_> = self.schedule.under_way().map(|(id, _)| id).collect();
        for older in under_way.into_iter().filter(|id| !pending.contains(id)) {
            if !self.committing.contains(&older) {
                let reason = format!("checkpoint {older} was ended by a newer one, or by somebody else");
                self.failed(older, Failure::Subsumed, reason, now)?;
            }
        }
        Ok(())
    }

    fn failed(&mut self, checkpoint: CheckpointId, failure: Failure, reason: String, now: Duration) -> Result<()> {
        self.tell_of_failure(checkpoint, failure, reason);
        self.apply(Event::Failed(checkpoint, failure), now)
    }

    fn tell_of_failure(&mut self, checkpoint: CheckpointId, failure: Failure, reason: String) {
        self.ended.remove(&checkpoint);
        if let Some(request) = self.requested.remove(&checkpoint) {
            self.answer(request, Outcome::Failed { checkpoint, failure, reason: reason.clone() });
        }
        self.outbox.push_back(Order::Aborted { checkpoint, failure, reason });
    }

    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        self.savepoints.remove(&request);
        if let Some(answer) = self.answers.remove(&request) {
            // Who has stopped waiting doesn't want to know.
            let _ = answer.send(outcome);
        }
    }
}
