//! Who a checkpoint's files wait for. Pure, but for the type of an instant.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::id::Subtask;

/// The subtasks that write for a checkpoint, and who waits for its files.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Those who haven't finished, and how many snapshots of theirs are under way.
    awaited: BTreeMap<Subtask, u32>,
    /// Tickets that wait.
    waiting: usize,
    /// When the first of them has waited long enough.
    linger_until: Option<Instant>,
}

impl Group {
    /// Waits for all of these.
    pub(super) fn of(registered: &BTreeSet<Subtask>) -> Self {
        Self { awaited: registered.iter().map(|subtask| (*subtask, 0)).collect(), ..Self::default() }
    }

    /// A snapshot begins.
    pub(super) fn enter(&mut self, subtask: Subtask) {
        *self.awaited.entry(subtask).or_default() += 1;
    }

    /// A snapshot has finished, or was given up.
    pub(super) fn leave(&mut self, subtask: Subtask) {
        if let Some(snapshots) = self.awaited.get_mut(&subtask) {
            *snapshots = snapshots.saturating_sub(1);
            if *snapshots == 0 {
                self.awaited.remove(&subtask);
            }
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, subtask: Subtask) {
        self.awaited.remove(&subtask);
    }

    /// Nobody is waited for.
    pub(super) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// A ticket starts to wait, at most until `deadline`, or until that of one who has waited longer.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) {
        self.waiting += 1;
        self.linger_until = self.linger_until.or(deadline);
    }

    /// A ticket waits no longer.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.linger_until = None;
        }
    }

    pub(super) fn linger_until(&self) -> Option<Instant> {
        self.linger_until
    }

    /// That time has come. True for the first to say it.
    pub(super) fn is_over(&mut self, deadline: Instant) -> bool {
        let is_over = self.linger_until == Some(deadline);
        if is_over {
            self.linger_until = None;
        }
        is_over
    }
}
