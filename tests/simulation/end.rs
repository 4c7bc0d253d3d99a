//! The end of a history: the faults stop, and everything has to come right.

use std::collections::BTreeSet;
use std::time::Duration;

use drystone::coordinator::JobEnd;
use tokio::time::{sleep, timeout};

use crate::history::How;
use crate::job::{Job, Step, Stop};
use crate::oracle::{Reading, is_metadata, is_of_savepoint};

impl Job {
    /// No fault any more: three checkpoints succeed, and nothing is left that nothing names.
    pub async fn end(&mut self) -> Step {
        self.chaos.say("event", "end");
        self.bury_zombies();
        self.chaos.calm();
        if self.random.one_in(2) {
            self.restart(None, self.workers.len()).await?;
        }
        for attempt in 0.. {
            if attempt == 20 {
                return Err("it never comes right".to_owned().into());
            }
            self.heal();
            match self.come_right().await {
                Err(Stop::Crashed) => self.go_on().await?,
                Ok(true) => break,
                // There is a checkpoint that it doesn't know.
                Ok(false) => self.restart(None, self.workers.len()).await?,
                Err(violation) => return Err(violation),
            }
        }
        self.check_copies().await?;
        for process in &self.workers {
            let closed = timeout(Duration::from_secs(3600), process.worker.close()).await;
            closed.map_err(|_| "a worker can't be closed".to_owned())?.map_err(|e| e.one_line())?;
            if process.worker.usage().buffered_bytes != 0 {
                return Err("I8: a worker that is closed holds memory".to_owned().into());
            }
        }
        self.discard_copies().await?;
        self.sweep().await?;
        if self.setup.disposes {
            self.dispose().await?;
        }
        self.check_savepoints().await
    }

    fn heal(&self) {
        self.client.heal();
        self.workers.iter().for_each(|process| process.client.heal());
    }

    async fn come_right(&mut self) -> Step<bool> {
        let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
        let coordinator = self.coordinator.clone();
        // What is under way may have failed before.
        self.settle().await?;
        self.run(coordinator.settle()).await?.map_err(|e| format!("it can't be settled: {}", e.one_line()))?;
        self.sync();
        // Of one that is given up nothing stays, once the next ones have completed.
        let given_up = self.coordinator.next_checkpoint().0;
        self.work(7, 5);
        if let Some(trigger) = self.trigger().await? {
            // Nobody has heard what its files are.
            let parts = self.snapshots(trigger, u64::MAX, how).await?;
            self.give_up(parts.checkpoint(), how);
        }
        self.give_up_a_savepoint(how).await?;
        for number in 0..3 {
            self.work(number, 3);
            if !self.checkpoint(how).await? {
                let objects = self.chaos.objects();
                let next = self.coordinator.next_checkpoint().0 - 1;
                if objects.contains_key(&format!("{}/chk-{next}/_metadata", self.directory())) {
                    // Somebody's before this one, that landed late.
                    return Ok(false);
                }
                return Err("a checkpoint fails though nothing else does".to_owned().into());
            }
            self.check()?;
        }
        self.save_for_certain().await?;
        self.run(coordinator.settle()).await?.map_err(|e| format!("it can't be settled: {}", e.one_line()))?;
        let attempt = format!("/ds1-a{}-", self.coordinator.epoch());
        let stays = |key: &&String| key.contains(&attempt) && key.contains(&format!("-c{given_up}-"));
        if let Some(key) = self.chaos.objects().keys().find(stays) {
            return Err(format!("I9: {key} stays though its checkpoint was given up").into());
        }
        self.abort_all();
        let mut waits = 0;
        while !self.coordinator.pending().is_empty() {
            waits += 1;
            if waits > 60 {
                return Err("a commit never ends".to_owned().into());
            }
            self.run(sleep(Duration::from_secs(1))).await?;
        }
        self.sync();
        // Also the slowest request for what was given up has landed by then.
        self.run(sleep(Duration::from_secs(60))).await?;
        if !self.remove_leftovers().await? {
            return Ok(false);
        }
        self.check()?;
        self.check_leftovers(&self.coordinator.completed().iter().map(|id| id.0).collect())?;
        Ok(true)
    }

    /// I9: everything is named.
    fn check_leftovers(&self, completed: &BTreeSet<u64>) -> Result<(), String> {
        let (objects, directory) = (self.chaos.objects(), self.directory());
        let metadata = |number: &u64| format!("{directory}/chk-{number}/_metadata");
        let mut named: BTreeSet<String> = completed.iter().map(metadata).collect();
        for key in named.clone() {
            let reading = objects.get(&key).and_then(Reading::of);
            let reading = reading.ok_or_else(|| format!("{key} can't be read"))?;
            named.extend(reading.placed.into_values().map(|(file, ..)| file));
        }
        let is_own = |key: &str, bytes| {
            key.starts_with(&format!("{directory}/_drystone/"))
                || is_of_savepoint(key)
                || is_metadata(key) && Reading::of(bytes).is_none()
        };
        let left = objects.iter().find(|(key, bytes)| !named.contains(*key) && !is_own(key, bytes));
        left.map_or(Ok(()), |(key, _)| Err(format!("I9: nothing names {key}")))
    }

    async fn dispose(&mut self) -> Step {
        let coordinator = self.coordinator.clone();
        let disposed = self.run(coordinator.dispose(JobEnd::Finished)).await?;
        disposed.map_err(|error| format!("the job can't end: {}", error.one_line()))?;
        if coordinator.space() != Default::default() {
            return Err(format!("I5: of a job that has ended the books say {:?}", coordinator.space()).into());
        }
        self.check_leftovers(&BTreeSet::new())?;
        self.begin_again().await
    }

    /// A job of the same name knows nothing of the one that has ended, and goes on as any.
    async fn begin_again(&mut self) -> Step {
        let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
        self.may_have_ended = true;
        self.restart(None, self.workers.len()).await?;
        if let Some(latest) = self.coordinator.latest() {
            return Err(format!("a job that has ended has checkpoint {} again", latest.checkpoint).into());
        }
        self.work(8, 5);
        if !self.checkpoint(how).await? {
            return Err("a job that begins again can't take a checkpoint".to_owned().into());
        }
        self.check().map_err(Stop::Violation)
    }
}
