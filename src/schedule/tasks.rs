//! Which tasks run, and which wait for a checkpoint before they finish.

use std::collections::BTreeMap;

use crate::id::{CheckpointId, OperatorId, Subtask};

#[derive(Clone, Debug)]
pub(super) struct Tasks {
    states: BTreeMap<Subtask, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// At the end of its data: a checkpoint covers all of it that was triggered after this one.
    Waiting(Option<CheckpointId>),
    /// It may finish.
    Released,
    Finished,
}

impl Tasks {
    pub(super) fn new(subtasks: impl IntoIterator<Item = Subtask>) -> Self {
        Self { states: subtasks.into_iter().map(|subtask| (subtask, State::Running)).collect() }
    }

    pub(super) fn restart(&mut self) {
        self.states.values_mut().for_each(|state| *state = State::Running);
    }

    /// Is it news that the subtask waits?
    pub(super) fn wait(&mut self, subtask: Subtask, last_triggered: Option<CheckpointId>) -> bool {
        self.end(subtask, State::Waiting(last_triggered))
    }

    /// Is it news that the subtask needn't wait?
    pub(super) fn release(&mut self, subtask: Subtask) -> bool {
        self.end(subtask, State::Released)
    }

    pub(super) fn is_released(&self, subtask: Subtask) -> bool {
        self.states.get(&subtask) == Some(&State::Released)
    }

    fn end(&mut self, subtask: Subtask, as_what: State) -> bool {
        match self.states.get_mut(&subtask) {
            Some(state @ State::Running) => {
                *state = as_what;
                true
            }
            _ => false,
        }
    }

    /// Did it run until now, without having waited?
    pub(super) fn finish(&mut self, subtask: Subtask) -> bool {
        let before = self.states.get_mut(&subtask).map(|state| std::mem::replace(state, State::Finished));
        before == Some(State::Running)
    }

    /// Releases those that waited for this checkpoint, and returns them.
    pub(super) fn covered_by(&mut self, checkpoint: CheckpointId) -> Vec<Subtask> {
        let mut released = Vec::new();
        for (&subtask, state) in &mut self.states {
            if matches!(state, State::Waiting(before) if *before < Some(checkpoint)) {
                *state = State::Released;
                released.push(subtask);
            }
        }
        released
    }

    /// Does nobody run who isn't at the end of its data, and does somebody wait?
    pub(super) fn all_wait(&self) -> bool {
        let mut waits = false;
        for state in self.states.values() {
            match state {
                State::Running => return false,
                State::Waiting(_) => waits = true,
                State::Released | State::Finished => {}
            }
        }
        waits
    }

    /// Are all of an operator's subtasks at the end of their data?
    pub(super) fn has_ended(&self, operator: OperatorId) -> bool {
        self.states
            .iter()
            .filter(|(subtask, _)| subtask.operator == operator)
            .all(|(_, state)| *state != State::Running)
    }

    pub(super) fn is_of_job(&self, operator: OperatorId) -> bool {
        self.states.keys().any(|subtask| subtask.operator == operator)
    }

    pub(super) fn some_finished(&self) -> bool {
        self.states.values().any(|state| *state == State::Finished)
    }

    pub(super) fn all_finished(&self) -> bool {
        !self.states.is_empty() && self.states.values().all(|state| *state == State::Finished)
    }

    pub(super) fn finished(&self) -> impl Iterator<Item = Subtask> + '_ {
        self.states.iter().filter(|(_, state)| **state == State::Finished).map(|(&subtask, _)| subtask)
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = Subtask> + '_ {
        let ended = |state: &State| matches!(state, State::Waiting(_) | State::Released);
        self.states.iter().filter(move |(_, state)| ended(state)).map(|(&subtask, _)| subtask)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = Subtask> + '_ {
        self.states.iter().filter(|(_, state)| **state != State::Finished).map(|(&subtask, _)| subtask)
    }
}
