//! Copies on local disks: whatever becomes of them, nobody can tell but by the time that it takes.

use std::time::Duration;

use drystone::read::RestoreCounts;
use tokio::time::timeout;

use crate::history::Harm;
use crate::job::{Job, Step, read};

impl Job {
    pub fn count_copies(&self, counts: RestoreCounts) {
        if self.machine.is_some() {
            self.chaos.add("reads beside copies", counts.reads);
            self.chaos.add("reads of copies", counts.backup_reads);
            self.chaos.add("copies refused", counts.backup_refused);
        }
    }

    /// In calm weather, and with disks that are as they are: each task's state by the copies and without them.
    pub async fn check_copies(&mut self) -> Step {
        let (Some(machine), Some(latest)) = (self.machine.clone(), self.coordinator.latest()) else { return Ok(()) };
        for harm in [None, Some(Harm::Flip { one_in: 2 }), Some(Harm::Lose { one_in: 2 })] {
            let seed = self.random.next();
            harm.into_iter().for_each(|harm| machine.suffer(seed, harm));
            for subtask in 0..self.spec.parallelism {
                let (stores, local, parallelism) = {
                    let process = self.process_of(subtask);
                    (process.stores.clone(), process.local.clone(), self.spec.parallelism)
                };
                let by_copies = self.run(read(&stores, &latest.path, subtask, parallelism, local)).await?;
                let (by_copies, counts) = by_copies.map_err(|e| format!("copies: no restore: {}", e.one_line()))?;
                self.count_copies(counts);
                let without = self.run(read(&stores, &latest.path, subtask, parallelism, None)).await?;
                let (without, _) = without.map_err(|e| format!("no restore: {}", e.one_line()))?;
                if by_copies != without {
                    return Err(format!("copies: subtask {subtask} is restored as something else").into());
                }
            }
        }
        Ok(())
    }

    /// Nothing is held in memory for them, no worker has more than it may, and all of them go when they are to.
    pub async fn discard_copies(&mut self) -> Step {
        let (Some(machine), Some(local)) = (self.machine.clone(), self.setup.local) else { return Ok(()) };
        machine.heal();
        for backup in self.workers.iter().filter_map(|process| process.worker.backup()) {
            // What was refused before is opened again.
            for _ in 0..2 {
                backup.discard();
                let settled = timeout(Duration::from_secs(3600), backup.settled()).await;
                settled.map_err(|_| "copies: one is never done with".to_owned())?;
            }
            let usage = backup.usage();
            if usage.lag_bytes > 0 || usage.bytes > 0 {
                return Err(format!("copies: {usage:?} is left of those that were discarded").into());
            }
        }
        if local.same_names
            && let Some(left) = machine.copies().first()
        {
            return Err(format!("copies: {left} is left").into());
        }
        Ok(())
    }
}
