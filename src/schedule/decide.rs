//! What each event changes, and what is to be done then.

use std::time::Duration;

use super::requests::Waiting;
use super::{Action, Backup, Failure, Kind, Refusal, RequestId, Schedule, Triggering, UnderWay};
use crate::id::{CheckpointId, OperatorId, Subtask};

impl Schedule {
    pub(super) fn start(&mut self, actions: &mut Vec<Action>) {
        self.abandon(actions);
        self.runs = true;
        self.tasks.restart();
        self.periodic.forget_backlog();
        self.periodic.start(self.now);
    }

    pub(super) fn stop(&mut self, actions: &mut Vec<Action>) {
        self.runs = false;
        self.periodic.stop();
        self.abandon(actions);
    }

    /// Gives up all that is under way, and all that waits.
    fn abandon(&mut self, actions: &mut Vec<Action>) {
        if let Some(triggering) = &mut self.triggering {
            triggering.void = true;
        }
        for (&checkpoint, flight) in self.under_way.iter_mut().filter(|(_, flight)| !flight.aborting) {
            flight.aborting = true;
            actions.push(Action::Abort(checkpoint, Failure::Suspended));
        }
        let waiting = self.requests.clear().filter_map(|waiting| waiting.request);
        actions.extend(waiting.map(|request| Action::Refuse(request, Refusal::Stopped)));
    }

    pub(super) fn request(&mut self, request: RequestId, kind: Kind, actions: &mut Vec<Action>) {
        if let Some(refusal) = self.refusal() {
            actions.push(Action::Refuse(request, refusal));
            return;
        }
        if kind.stops_job() {
            // Nothing may come in its way, nor after it.
            self.periodic.stop();
            self.abandon(actions);
        }
        // What somebody waits for isn't periodic, whatever it is called: one that may not begin yet is dropped, without a word.
        let kind = if kind == Kind::Periodic { Kind::OnRequest(Backup::Configured) } else { kind };
        self.push(Waiting { kind, request: Some(request) }, actions);
    }

    fn push(&mut self, waiting: Waiting, actions: &mut Vec<Action>) {
        if let Some(Waiting { request: Some(request), .. }) = self.requests.push(waiting) {
            actions.push(Action::Refuse(request, Refusal::TooMany));
        }
    }

    /// Why none may begin at all.
    fn refusal(&self) -> Option<Refusal> {
        let lacks_tasks = match self.settings.after_tasks_finish {
            true => self.tasks.all_finished(),
            false => self.tasks.some_finished(),
        };
        (!self.runs || lacks_tasks).then_some(Refusal::NotAllRunning)
    }

    pub(super) fn triggered(&mut self, checkpoint: CheckpointId, actions: &mut Vec<Action>) {
        let Some(Triggering { kind, void, .. }) = self.triggering.take() else { return };
        self.last_triggered = self.last_triggered.max(Some(checkpoint));
        let deadline = self.now.saturating_add(self.settings.timeout);
        self.under_way.insert(checkpoint, UnderWay { kind, deadline, aborting: void });
        if void {
            actions.push(Action::Abort(checkpoint, Failure::Suspended));
        }
    }

    pub(super) fn not_triggered(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        let Some(Triggering { kind, request, .. }) = self.triggering.take() else { return };
        if let Some(request) = request {
            actions.push(Action::Refuse(request, Refusal::NotTriggered(failure)));
        }
        actions.extend(self.failures.failed(None, kind, failure).map(Action::FailJob));
        self.resume_after(kind);
    }

    pub(super) fn completed(&mut self, checkpoint: CheckpointId, actions: &mut Vec<Action>) {
        let Some(flight) = self.under_way.remove(&checkpoint) else { return };
        self.last_end = Some(self.now);
        self.failures.completed(checkpoint);
        // Of a savepoint that the job outlives tasks aren't told.
        if !flight.kind.is_savepoint() || flight.kind.stops_job() {
            actions.extend(self.tasks.covered_by(checkpoint).into_iter().map(Action::Release));
        }
    }

    pub(super) fn failed(&mut self, checkpoint: CheckpointId, failure: Failure, actions: &mut Vec<Action>) {
        let Some(flight) = self.under_way.remove(&checkpoint) else { return };
        self.last_end = Some(self.now);
        actions.extend(self.failures.failed(Some(checkpoint), flight.kind, failure).map(Action::FailJob));
        self.resume_after(flight.kind);
    }

    /// The job isn't to stop after all: the periodic ones begin anew.
    fn resume_after(&mut self, kind: Kind) {
        let stops = self.requests.stop_job()
            || self.triggering.as_ref().is_some_and(|triggering| triggering.kind.stops_job())
            || self.under_way.values().any(|flight| flight.kind.stops_job() && !flight.aborting);
        if kind.stops_job() && !stops && self.runs {
            self.periodic.start(self.now);
        }
    }

    pub(super) fn backlog(&mut self, source: OperatorId, is_behind: bool) {
        // Where all data has come to an end nothing is behind, whatever is said late.
        let may_be = !is_behind || !self.tasks.has_ended(source);
        if self.runs && self.tasks.is_of_job(source) && may_be {
            self.periodic.backlog(source, is_behind, self.now);
        }
    }

    pub(super) fn end_of_data(&mut self, subtask: Subtask, actions: &mut Vec<Action>) {
        let is_news = match self.settings.tasks_wait() {
            true => self.tasks.wait(subtask, self.last_triggered),
            false => self.tasks.release(subtask),
        };
        if self.tasks.is_released(subtask) {
            // Who says it again hasn't heard the answer.
            actions.push(Action::Release(subtask));
        }
        if is_news {
            self.ends_backlog(subtask.operator);
            self.ask_for_last(actions);
        }
    }

    /// Of an operator whose subtasks have all come to the end.
    fn ends_backlog(&mut self, operator: OperatorId) {
        if self.tasks.has_ended(operator) && self.periodic.behind().contains(&operator) {
            self.backlog(operator, false);
        }
    }

    pub(super) fn finished(&mut self, subtask: Subtask, actions: &mut Vec<Action>) {
        if self.tasks.finish(subtask) {
            self.ends_backlog(subtask.operator);
            self.ask_for_last(actions);
        }
    }

    /// When nobody has data any more nobody need wait for the next beat.
    fn ask_for_last(&mut self, actions: &mut Vec<Action>) {
        if self.runs && self.settings.tasks_wait() && self.tasks.all_wait() {
            self.push(Waiting { kind: Kind::Final, request: None }, actions);
        }
    }

    /// Those that take too long.
    pub(super) fn expire(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        let late = |flight: &UnderWay| !flight.aborting && flight.deadline <= now;
        for (&checkpoint, flight) in self.under_way.iter_mut().filter(|(_, flight)| late(flight)) {
            flight.aborting = true;
            actions.push(Action::Abort(checkpoint, Failure::Expired));
        }
    }

    /// Has the periodic one wait whose time has come.
    pub(super) fn fall_due(&mut self) {
        if self.periodic.falls_due(self.now) {
            // One waits at most; another would say the same.
            self.requests.push(Waiting { kind: Kind::Periodic, request: None });
        }
    }

    /// Chooses the next, if one may begin. Another is only chosen when that one has begun.
    pub(super) fn decide(&mut self, actions: &mut Vec<Action>) {
        if let Some(refusal) = self.refusal() {
            let waiting = self.requests.clear().filter_map(|waiting| waiting.request);
            actions.extend(waiting.map(|request| Action::Refuse(request, refusal)));
            self.periodic.stop();
            return;
        }
        if self.triggering.is_some() {
            return;
        }
        let Some(first) = self.requests.first() else { return };
        let has_room = self.under_way.len() < self.settings.concurrent_max as usize;
        if !has_room && !self.settings.is_forced(first.kind) {
            return;
        }
        self.requests.pop();
        if first.kind == Kind::Periodic {
            if self.periodic.waits_for_backlog() {
                return self.periodic.wait_for_backlog();
            }
            if let Some(until) = self.pauses_until() {
                return self.periodic.put_off(until);
            }
        }
        let Waiting { kind, request } = first;
        self.triggering = Some(Triggering { kind, request, void: false });
        actions.push(Action::Trigger { kind, request });
    }

    /// `None`: there was pause enough.
    fn pauses_until(&self) -> Option<Duration> {
        let until = self.last_end?.saturating_add(self.settings.min_pause);
        (until > self.now).then_some(until)
    }
}
