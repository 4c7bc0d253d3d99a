//! Savepoints beside the job's own checkpoints, and what holds of them until the end of all things.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use drystone::ErrorKind;
use drystone::coordinator::{Completed, Coordinator, SavepointRequest};
use drystone::id::CheckpointId;
use drystone::protocol::{SavepointAction, SavepointFormat, SnapshotKind, Trigger};
use drystone::store::FlinkPath;
use drystone::sweep::SweepSettings;
use futures::future::join;
use tokio::time::timeout;

use crate::checkpoint::Parts;
use crate::history::{Course, How, Place};
use crate::job::{Job, Step, id, read};
use crate::oracle::{Contents, Model, Objects, Seen, compare, is_mark, is_of_savepoint};

/// What somebody was told is durable: the keys of its metadata.
pub type Told = Arc<Mutex<Vec<String>>>;

#[derive(Default)]
pub struct Savepoints {
    /// Of this coordinator: where the metadata is to be, by number.
    under_way: BTreeMap<u64, String>,
    /// All of it is acknowledged.
    ready: Option<Parts>,
    given_up: BTreeSet<String>,
    pub told: Told,
}

impl Savepoints {
    /// Is it one of this coordinator's under way?
    pub fn has(&self, checkpoint: CheckpointId) -> bool {
        self.under_way.contains_key(&checkpoint.0)
    }

    /// There is another coordinator, which knows nothing of them.
    pub fn forget(&mut self) {
        self.under_way.clear();
        self.ready = None;
    }

    /// The one that is ready is left to a coordinator that goes on.
    pub fn leave(&mut self) -> Option<CheckpointId> {
        self.ready.take().map(|parts| parts.checkpoint())
    }

    /// What is there is whole and holds what was taken, what somebody was told of is there, and what was given up isn't.
    pub fn check(&mut self, model: &Model, objects: &Objects, seen: &mut Seen) -> Result<(), String> {
        if let Some(lost) = self.told.lock().unwrap().iter().find(|&key| !seen.readings.contains_key(key)) {
            return Err(format!("savepoint: {lost} had completed and is gone"));
        }
        if let Some(key) = self.given_up.iter().find(|&key| seen.readings.contains_key(key)) {
            return Err(format!("savepoint: {key} was given up and looks complete"));
        }
        let Seen { readings, committed, .. } = seen;
        for (key, reading) in readings.iter().filter(|(key, _)| is_of_savepoint(key)) {
            if committed.insert(key.clone()) {
                let taken = model.taken.get(&(reading.epoch, reading.number));
                let taken = taken.ok_or_else(|| format!("savepoint: nobody took {key}"))?;
                compare(reading.number, &reading.contents(objects), taken)?;
            }
        }
        Ok(())
    }
}

impl Job {
    pub async fn savepoint(&mut self, pack: bool, how: How, course: Course) -> Step {
        let own = match course {
            Course::Overtaking => self.trigger().await?,
            _ => None,
        };
        let Some(trigger) = self.trigger_savepoint(pack).await? else { return Ok(()) };
        let count = match course {
            Course::GivenUp(count) | Course::Left(count) => count,
            _ => u64::MAX,
        };
        let parts = self.snapshots(trigger, count, how).await?;
        match course {
            Course::Alone => self.save(parts, how).await,
            Course::Overtaken => {
                self.checkpoint(how).await?;
                self.save(parts, how).await
            }
            Course::Overtaking => {
                let Some(own) = own else { return self.save(parts, how).await };
                let own = self.snapshots(own, u64::MAX, how).await?;
                self.save(parts, how).await?;
                self.complete(own, how).await.map(drop)
            }
            Course::Together => self.save_beside(parts, how).await,
            Course::GivenUp(_) => {
                self.acknowledge(&parts)?;
                self.end_savepoint(parts.checkpoint(), how);
                Ok(())
            }
            Course::Left(_) => self.acknowledge(&parts).map(drop),
            Course::Ready => {
                self.savepoints.ready = self.acknowledge(&parts)?.then_some(parts);
                Ok(())
            }
            Course::Cut(after_ms) => {
                if self.acknowledge(&parts)? {
                    let after = Duration::from_millis(after_ms);
                    let _ = self.run(timeout(after, self.completing(&parts))).await?;
                }
                Ok(())
            }
        }
    }

    async fn trigger_savepoint(&mut self, pack: bool) -> Step<Option<Trigger>> {
        self.sync();
        let (format, action) = (SavepointFormat::Native, SavepointAction::None);
        let request = SavepointRequest { directory: self.users_directory()?, format, action, pack };
        match self.coordinator.trigger_savepoint(self.coordinator.next_checkpoint(), &request) {
            Ok(trigger) => {
                let SnapshotKind::Savepoint(target) = &trigger.kind else {
                    return Err("a savepoint's trigger is for a checkpoint".to_owned().into());
                };
                let key = key_of(&target.directory);
                self.savepoints.under_way.insert(trigger.checkpoint.0, key);
                Ok(Some(trigger))
            }
            // Too many are in doubt.
            Err(error) if error.kind() == ErrorKind::Conflict => self.settle().await.map(|()| None),
            Err(error) => Err(format!("a savepoint's trigger fails: {}", error.one_line()).into()),
        }
    }

    fn users_directory(&self) -> Result<FlinkPath, String> {
        let own = self.coordinator.directory().root().name();
        let path = match self.setup.savepoints {
            None | Some(Place::Elsewhere) => FlinkPath::parse("memory:/savepoints"),
            Some(Place::AmongJobs) => FlinkPath::parse("memory:/checkpoints"),
            Some(Place::InTheJobs) => Ok(own.clone()),
            Some(Place::BelowTheJobs) => own.join("mine/of-today"),
        };
        path.map_err(|error| error.one_line())
    }

    async fn save(&mut self, parts: Parts, how: How) -> Step {
        let checkpoint = parts.checkpoint();
        if !self.acknowledge(&parts)? {
            self.end_savepoint(checkpoint, how);
            return Ok(());
        }
        let done = self.run(self.completing(&parts)).await?;
        self.saved(checkpoint, done, how)
    }

    /// A checkpoint and a savepoint are committed at once.
    async fn save_beside(&mut self, parts: Parts, how: How) -> Step {
        let Some(own) = self.trigger().await? else { return self.save(parts, how).await };
        let own = self.snapshots(own, u64::MAX, how).await?;
        if !self.acknowledge(&own)? {
            self.give_up(own.checkpoint(), how);
            return self.save(parts, how).await;
        }
        if !self.acknowledge(&parts)? {
            self.end_savepoint(parts.checkpoint(), how);
            return self.complete(own, how).await.map(drop);
        }
        let both = join(self.completing(&parts), self.completing(&own));
        let (saved, completed) = self.run(both).await?;
        self.saved(parts.checkpoint(), saved, how)?;
        self.completed(own.checkpoint(), completed, how).map(drop)
    }

    /// The one that waits for it.
    pub async fn commit_ready(&mut self) -> Step {
        let Some(parts) = self.savepoints.ready.take() else { return Ok(()) };
        let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
        let checkpoint = parts.checkpoint();
        if !self.coordinator.pending().contains(&checkpoint) {
            return Ok(());
        }
        let done = self.run(self.completing(&parts)).await?;
        self.saved(checkpoint, done, how)
    }

    fn saved(&mut self, checkpoint: CheckpointId, done: drystone::Result<Completed>, how: How) -> Step {
        match done {
            Ok(Completed { path, subsumed, aborted, .. }) => {
                self.chaos.say("saved", &checkpoint.to_string());
                let key = key_of(&path.to_string());
                if self.savepoints.under_way.get(&checkpoint.0) != Some(&key) {
                    return Err(format!("savepoint: {checkpoint} is in {path}, where nobody wanted it").into());
                }
                if !(subsumed.is_empty() && aborted.is_empty()) {
                    return Err(format!("savepoint: {checkpoint} replaces {subsumed:?} and ends {aborted:?}").into());
                }
                self.savepoints.told.lock().unwrap().push(key);
            }
            Err(error) => {
                self.chaos.say("not saved", &error.one_line());
                let is_expected = matches!(error.kind(), ErrorKind::Store | ErrorKind::NotFound | ErrorKind::Conflict);
                if !is_expected || error.to_string().contains("was cut") {
                    return Err(format!("savepoint: {checkpoint} fails: {}", error.one_line()).into());
                }
            }
        }
        self.end_savepoint(checkpoint, how);
        Ok(())
    }

    /// Given up, unless it is over or being committed.
    fn end_savepoint(&mut self, checkpoint: CheckpointId, how: How) {
        self.coordinator.abort(checkpoint);
        self.sync_savepoints(how);
    }

    /// Of those that are under way no more the workers are told how they ended.
    pub fn sync_savepoints(&mut self, how: How) {
        let pending = self.coordinator.pending();
        self.savepoints.ready = self.savepoints.ready.take().filter(|parts| pending.contains(&parts.checkpoint()));
        let over: Vec<u64> =
            self.savepoints.under_way.keys().copied().filter(|&number| !pending.contains(&id(number))).collect();
        for number in over {
            let Some(key) = self.savepoints.under_way.remove(&number) else { continue };
            if self.seen.lock().unwrap().readings.contains_key(&key) {
                self.chaos.count("savepoints");
                self.savepoints.told.lock().unwrap().push(key);
                self.tell(how, |worker, epoch| worker.complete(epoch, id(number)));
            } else {
                self.chaos.count("savepoints given up");
                self.savepoints.given_up.insert(key);
                self.tell(how, |worker, epoch| worker.abort(epoch, id(number)));
            }
        }
    }

    /// In calm weather: all of it is written, and nothing stays.
    pub async fn give_up_a_savepoint(&mut self, how: How) -> Step {
        if self.setup.savepoints.is_none() {
            return Ok(());
        }
        let pack = self.random.one_in(2);
        let Some(trigger) = self.trigger_savepoint(pack).await? else { return Ok(()) };
        let SnapshotKind::Savepoint(target) = trigger.kind.clone() else { return Ok(()) };
        let parts = self.snapshots(trigger, u64::MAX, how).await?;
        self.end_savepoint(parts.checkpoint(), how);
        let coordinator = self.coordinator.clone();
        self.run(coordinator.settle()).await?.map_err(|e| format!("it can't be settled: {}", e.one_line()))?;
        let below = key_of(&target.directory).replace("_metadata", "");
        match self.chaos.objects().keys().find(|key| key.starts_with(&below)) {
            Some(key) => Err(format!("savepoint: {key} stays though it was given up").into()),
            None => Ok(()),
        }
    }

    /// In calm weather: one whose files aren't sealed when a checkpoint overtakes it.
    pub async fn save_for_certain(&mut self) -> Step {
        let how = How { provisional: true, eager: false, lost_one_in: u64::MAX };
        // A slow store may take longer for a file than a commit waits for it.
        if self.setup.savepoints.is_none() || self.setup.weather.slow_ms_max > 100 {
            return Ok(());
        }
        let pack = self.random.one_in(2);
        let Some(trigger) = self.trigger_savepoint(pack).await? else { return Ok(()) };
        let key = self.savepoints.under_way.get(&trigger.checkpoint.0).cloned().unwrap_or_default();
        let parts = self.snapshots(trigger, u64::MAX, how).await?;
        self.work(9, 3);
        self.checkpoint(how).await?;
        self.save(parts, how).await?;
        if !self.savepoints.told.lock().unwrap().contains(&key) {
            return Err(format!("savepoint: {key} fails though nothing else does").into());
        }
        Ok(())
    }

    /// By the rule that goes for everybody, as if all of it were old.
    pub async fn sweep(&mut self) -> Step {
        if self.setup.savepoints.is_none() {
            return Ok(());
        }
        let (coordinator, now) = (self.coordinator.clone(), SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 20));
        let settings = SweepSettings { requests_max: 4, ..SweepSettings::default() };
        let swept = self.run(async move { coordinator.sweep(&settings, now).await }).await?;
        let swept = swept.map_err(|error| format!("the sweep fails: {}", error.one_line()))?;
        self.chaos.say("swept", &format!("{swept:?}"));
        self.check()?;
        Ok(())
    }

    /// At the end, whatever has become of the job: every savepoint that is there can be restored, all of it.
    pub async fn check_savepoints(&mut self) -> Step {
        self.check()?;
        let objects = self.chaos.objects();
        let readings = self.seen.lock().unwrap().readings.clone();
        let Some(process) = self.workers.first() else { return Ok(()) };
        let stores = process.stores.clone();
        for (key, reading) in readings.iter().filter(|(key, _)| is_of_savepoint(key)) {
            let taken = self.model.taken.get(&(reading.epoch, reading.number)).cloned().unwrap_or_default();
            compare(reading.number, &reading.contents(&objects), &taken)?;
            let path = format!("memory:/{}", key.trim_end_matches("/_metadata"));
            let path = FlinkPath::parse(&path).map_err(|error| error.one_line())?;
            let mut found = Contents::new();
            for subtask in 0..self.spec.parallelism {
                let chunks = self.run(read(&stores, &path, subtask, self.spec.parallelism, None)).await?;
                let (chunks, _) =
                    chunks.map_err(|e| format!("savepoint: {path} can't be restored: {}", e.one_line()))?;
                found.extend(chunks.into_iter().map(|(chunk, bytes, ..)| (chunk, bytes)));
            }
            compare(reading.number, &found, &taken)?;
            self.chaos.count("savepoints restored");
            let own = key.trim_end_matches("_metadata");
            if let Some(mark) = objects.keys().find(|other| other.starts_with(own) && is_mark(other)) {
                return Err(format!("savepoint: {mark} says of a complete one that it isn't").into());
            }
        }
        Ok(())
    }
}

/// A coordinator that is over commits one.
pub async fn save(old: &Coordinator, checkpoint: CheckpointId, told: &Told) {
    if let Ok(completed) = old.complete(checkpoint).await {
        told.lock().unwrap().push(key_of(&completed.path.to_string()));
    }
}

/// Of the metadata in a directory.
fn key_of(directory: &str) -> String {
    format!("{}/_metadata", directory.trim_start_matches("memory:").trim_start_matches('/'))
}
