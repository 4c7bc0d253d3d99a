//! Sweeps the job's directory, by the rule that holds for everybody: `sweep`.

use std::time::SystemTime;

use super::Coordinator;
use crate::error::Result;
use crate::metrics;
use crate::sweep::{Deleted, Sweep, SweepSettings};

impl Coordinator {
    /// Deletes what no checkpoint in the job's directory names, whoever wrote it: also what stock Flink has left there, and
    /// unfinished uploads. Unlike [`remove_leftovers`](Self::remove_leftovers) it doesn't ask which attempts are dead: what
    /// is younger than the time of grace stays, which has to be longer than any checkpoint takes. `now` is the time by
    /// the store's clock.
    ///
    /// Settles the deletes and commits under way first. May be called while checkpoints are.
    ///
    /// # Errors
    /// As for [`settle`](Self::settle) and [`Sweep::look`]; then nothing was deleted. A delete that fails is in what is
    /// returned.
    ///
    /// Cancel safe.
    pub async fn sweep(&self, settings: &SweepSettings, now: SystemTime) -> Result<Deleted> {
        // Also decides commits in doubt: what one names that comes late would seem dead.
        self.settle().await?;
        let sweep = Sweep::look(&self.shared.stores, self.shared.directory.root().real(), settings, now).await?;
        metrics::orphans_found(sweep.found().dead.len() as u64);
        Ok(sweep.delete(&|_, _| {}).await)
    }
}
