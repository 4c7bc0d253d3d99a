//! What is to be seen of a job's checkpoints from outside: Flink's gauges of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coordinator::{Completed, Coordinator};
use crate::id::CheckpointId;
use crate::metrics::{CheckpointCounts, CheckpointGauges, LastCheckpoint};
use crate::schedule::Event;

pub(super) struct Watch {
    gauges: CheckpointGauges,
    /// When those under way began.
    begun: BTreeMap<CheckpointId, Duration>,
    completed: u64,
    failed: u64,
}

/// A driver that is over, fenced off or cancelled, has nothing under way: whoever comes next counts under the same name.
impl Drop for Watch {
    fn drop(&mut self) {
        self.begun.clear();
        self.show();
    }
}

impl Watch {
    pub(super) fn new(coordinator: &Coordinator) -> Self {
        let gauges = CheckpointGauges::new(coordinator.directory().root().name().file_name().unwrap_or_default());
        Self { gauges, begun: BTreeMap::new(), completed: 0, failed: 0 }
    }

    /// What the schedule is told.
    pub(super) fn see(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Triggered(checkpoint) => drop(self.begun.insert(*checkpoint, now)),
            Event::Failed(checkpoint, _) => match self.begun.remove(checkpoint) {
                Some(_) => self.failed += 1,
                None => return,
            },
            Event::NotTriggered(_) => self.failed += 1,
            _ => return,
        }
        self.show();
    }

    pub(super) fn completed(&mut self, completed: &Completed, now: Duration) {
        let begun = self.begun.remove(&completed.checkpoint);
        self.completed += 1;
        self.show();
        self.gauges.set_last(LastCheckpoint {
            checkpoint: completed.checkpoint.0,
            took: begun.map_or(Duration::ZERO, |begun| now.saturating_sub(begun)),
            new_bytes: completed.new_bytes,
            state_bytes: completed.state_bytes,
            metadata_bytes: completed.metadata_bytes,
        });
    }

    /// Also before the first one.
    pub(super) fn show(&self) {
        let (under_way, completed, failed) = (self.begun.len() as u64, self.completed, self.failed);
        self.gauges.set(CheckpointCounts { under_way, completed, failed });
    }
}
