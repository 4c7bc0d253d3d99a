//! Runs a history, event by event.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use drystone::coordinator::Acknowledged;
use drystone::id::{KeyGroupRange, Scope};
use drystone::{Error, ErrorKind};
use futures::FutureExt;
use tokio::time::{sleep, timeout};

use crate::chaos_store::Random;
use crate::history::{Call, Event, History, How};
use crate::job::{Chunk, Job, KEY_GROUPS, Step, Stop, id};

/// What came of a history.
pub struct Report {
    pub trace: String,
    pub counts: BTreeMap<&'static str, u64>,
    pub virtual_ms: u64,
    pub violation: Option<String>,
}

/// On a runtime of its own, whose clock runs ahead when all wait.
pub fn run(history: &History) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut job = match Job::start(history.seed, history.setup.clone()).await {
            Ok(job) => job,
            Err(stop) => {
                let (trace, counts, violation) = (String::new(), BTreeMap::new(), Some(format!("{stop:?}")));
                return Report { trace, counts, virtual_ms: 0, violation };
            }
        };
        let done = AssertUnwindSafe(all(&mut job, history)).catch_unwind().await;
        let violation = match done {
            Ok(Ok(())) => None,
            Ok(Err(Stop::Violation(what))) => Some(what),
            Ok(Err(Stop::Crashed)) => Some("a process has died and nobody went on".to_owned()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                Some(text.or(panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default())
            }
        };
        if let Some(what) = &violation {
            job.chaos.say("violation", what);
        }
        let (mut counts, virtual_ms) = (job.chaos.counts(), job.chaos.now_ms());
        {
            let seen = job.seen.lock().unwrap();
            counts.insert("zombies refused", seen.refused);
            counts.insert("zombies' deletes", seen.late_deletes);
            counts.insert("revenants", seen.revenants);
        }
        counts.insert("uploads left unfinished", job.chaos.unfinished_uploads() as u64);
        Report { trace: job.chaos.end(), counts, virtual_ms, violation }
    })
}

async fn all(job: &mut Job, history: &History) -> Step {
    for event in &history.events {
        job.chaos.count("events");
        job.chaos.say("event", &format!("{event:?}"));
        match job.step(event).await {
            Ok(()) => {}
            Err(Stop::Crashed) => job.go_on().await?,
            violation => return violation,
        }
        job.sync();
        job.check()?;
    }
    job.end().await
}

impl Job {
    async fn step(&mut self, event: &Event) -> Step {
        match event {
            Event::Work { seed, chunks } => {
                self.work(*seed, *chunks);
                Ok(())
            }
            Event::Large { seed } => {
                self.put((*seed as u32 % KEY_GROUPS, 99), *seed, (9 << 20) + (*seed % 1000) as usize, Scope::Shared);
                Ok(())
            }
            Event::Checkpoint { how } => self.checkpoint(*how).await.map(drop),
            Event::Abort { after, how } => self.begin(*after, *how, true).await,
            Event::Dangle { after, how } => self.begin(*after, *how, false).await,
            Event::Overlap { first, how } => self.overlap(*first, *how).await,
            Event::Settle => self.settle().await,
            Event::Rewrite { bytes_max } => self.rewrite(*bytes_max).await,
            Event::Leftovers => self.remove_leftovers().await.map(drop),
            Event::Cut { call, after_ms } => self.cut(*call, Duration::from_millis(*after_ms)).await,
            Event::Repeat { seed } => self.repeat(*seed),
            Event::Wait { ms } => self.run(sleep(Duration::from_millis(*ms))).await,
            Event::Throttle { ms } => {
                self.chaos.throttle(*ms);
                Ok(())
            }
            Event::Stall { process, ms } => {
                self.client_of(*process).stall(*ms);
                Ok(())
            }
            Event::FailTask { subtask } => {
                let subtask = *subtask as u32 % self.spec.parallelism;
                if self.finished.contains(&subtask) {
                    return Ok(());
                }
                self.abort_all();
                let task = self.spec.subtask(subtask);
                self.process_of(subtask).worker.forget(task);
                self.process_of(subtask).worker.register(task);
                self.restore_subtask(subtask).await
            }
            Event::FailWorker { worker } => self.replace_worker(*worker as usize % self.workers.len()).await,
            Event::Finish { subtask } => {
                self.finish(*subtask as u32 % self.spec.parallelism);
                Ok(())
            }
            Event::Restart { parallelism, workers, retained } => {
                self.setup.retained = retained.unwrap_or(self.setup.retained);
                self.retained_min = self.retained_min.min(self.setup.retained);
                self.restart(*parallelism, *workers).await
            }
            Event::CrashSoon { process, operations } => {
                self.client_of(*process).crash_in(*operations);
                Ok(())
            }
            Event::Zombie { stall_ms, acts, starts_first } => self.haunt(*stall_ms, acts, *starts_first).await,
            Event::Savepoint { pack, how, course } => self.savepoint(*pack, *how, *course).await,
            Event::CommitSavepoint => self.commit_ready().await,
            Event::Harm { seed, harm } => {
                self.machine.iter().for_each(|machine| machine.suffer(*seed, *harm));
                Ok(())
            }
        }
    }

    fn client_of(&self, process: u64) -> &crate::chaos_store::Client {
        match process {
            0 | 1 => &self.client,
            more => &self.workers[more as usize % self.workers.len()].client,
        }
    }

    pub fn work(&mut self, seed: u64, chunks: u64) {
        let mut random = Random::new(seed);
        for _ in 0..chunks {
            let key = (random.below(u64::from(KEY_GROUPS)) as u32, random.below(4) as u32);
            let length = match (self.setup.chunk_bytes, random.below(20)) {
                (Some(length), _) => length,
                (None, 0) => 0,
                (None, 1..10) => random.below(400),
                (None, 10..19) => random.below(2_500),
                (None, _) => random.below(9_000),
            };
            let scope = if random.one_in(5) { Scope::Exclusive } else { Scope::Shared };
            let seed = random.next();
            if random.one_in(4) {
                self.database.remove(&key);
            } else if !self.is_finished(key.0) {
                self.put(key, seed, length as usize, scope);
            }
        }
    }

    fn put(&mut self, key: (u32, u32), seed: u64, length: usize, scope: Scope) {
        self.versions += 1;
        let (bytes, version) = (bytes_of(seed, length), self.versions);
        self.database.insert(key, Chunk { bytes, scope, version, handle: None, fresh: None });
    }

    fn range_of(&self, subtask: u32) -> KeyGroupRange {
        KeyGroupRange::of_subtask(subtask, self.spec.parallelism, KEY_GROUPS).unwrap_or(KeyGroupRange::EMPTY)
    }

    fn is_finished(&self, group: u32) -> bool {
        self.finished.iter().any(|&subtask| self.range_of(subtask).contains(group))
    }

    /// It has done all it had to; one is always left.
    fn finish(&mut self, subtask: u32) {
        if self.finished.len() + 1 < self.spec.parallelism as usize && self.finished.insert(subtask) {
            let range = self.range_of(subtask);
            self.database.retain(|(group, _), _| !range.contains(*group));
            self.process_of(subtask).worker.forget(self.spec.subtask(subtask));
        }
    }

    pub async fn settle(&mut self) -> Step {
        let coordinator = self.coordinator.clone();
        let settled = self.run(coordinator.settle()).await?;
        allowed("settling", settled, &[ErrorKind::Store])
    }

    async fn rewrite(&mut self, bytes_max: u64) -> Step {
        let coordinator = self.coordinator.clone();
        (self.rewritten_before, self.has_rewritten) = (Some(coordinator.next_checkpoint().0), true);
        let latest = coordinator.latest();
        let rewritten = self.run(coordinator.rewrite(bytes_max)).await?;
        // A commit that nobody waits for may have replaced what is being read.
        let kinds = [ErrorKind::Store, ErrorKind::Damaged, ErrorKind::NotFound];
        let allows = if latest == coordinator.latest() { &kinds[..2] } else { &kinds[..] };
        allowed("rewriting", rewritten.map(drop), allows)
    }

    /// False if there is a checkpoint that this coordinator doesn't know.
    pub async fn remove_leftovers(&mut self) -> Step<bool> {
        let coordinator = self.coordinator.clone();
        let removed = self.run(coordinator.remove_leftovers()).await?;
        let is_unknown = removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict);
        allowed("removing leftovers", removed.map(drop), &[ErrorKind::Store, ErrorKind::Conflict])?;
        Ok(!is_unknown)
    }

    /// Whoever called doesn't wait any longer.
    async fn cut(&mut self, call: Call, after: Duration) -> Step {
        let coordinator = self.coordinator.clone();
        match call {
            Call::Complete => {
                let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
                let Some(trigger) = self.trigger().await? else { return Ok(()) };
                let parts = self.snapshots(trigger, u64::MAX, how).await?;
                if self.acknowledge(&parts)? {
                    let _ = self.run(timeout(after, self.completing(&parts))).await?;
                }
            }
            Call::Settle => drop(self.run(timeout(after, coordinator.settle())).await?),
            Call::Rewrite => {
                (self.rewritten_before, self.has_rewritten) = (Some(coordinator.next_checkpoint().0), true);
                drop(self.run(timeout(after, coordinator.rewrite(20_000))).await?);
            }
            Call::Leftovers => drop(self.run(timeout(after, coordinator.remove_leftovers())).await?),
        }
        Ok(())
    }

    /// Late and repeated messages change nothing.
    fn repeat(&mut self, seed: u64) -> Step {
        let mut random = Random::new(seed);
        let next = self.coordinator.next_checkpoint().0;
        for _ in 0..4 {
            let checkpoint = id(1 + random.below(next));
            let is_over = checkpoint.0 < next && !self.coordinator.pending().contains(&checkpoint);
            match random.below(4) {
                0 if is_over => drop(self.coordinator.abort(checkpoint)),
                1 if is_over && checkpoint.0 <= self.confirmed => {
                    self.workers.iter().for_each(|process| process.worker.abort(self.coordinator.epoch(), checkpoint));
                }
                2 if is_over && self.coordinator.completed().contains(&checkpoint) => {
                    self.workers
                        .iter()
                        .for_each(|process| process.worker.complete(self.coordinator.epoch(), checkpoint));
                }
                3 if is_over => {
                    let subtask = self.spec.subtask(0);
                    let late = self.coordinator.finished(self.coordinator.epoch(), checkpoint, subtask);
                    if !matches!(late, Ok(Acknowledged::Late)) {
                        return Err(format!("a late acknowledgement of {checkpoint} gives {late:?}").into());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn allowed(what: &str, done: Result<(), Error>, kinds: &[ErrorKind]) -> Step {
    match done {
        Err(error) if !kinds.contains(&error.kind()) => Err(format!("{what} fails: {}", error.one_line()).into()),
        _ => Ok(()),
    }
}

/// Bytes that are hardly ever the same twice, without a copy.
fn bytes_of(seed: u64, length: usize) -> Bytes {
    static POOL: OnceLock<Bytes> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut random = Random::new(1);
        (0..(10 << 20) / 8).flat_map(|_| random.next().to_le_bytes()).collect()
    });
    let start = (seed % (1 << 16)) as usize;
    pool.slice(start..start + length)
}
