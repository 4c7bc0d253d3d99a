//! The processes of a job and their state: how they start, die, and start again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::backup::LocalDirectories;
use drystone::coordinator::Coordinator;
use drystone::handle::{LocalPathHandle, StreamHandle};
use drystone::id::{CheckpointId, JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::OperatorSpec;
use drystone::read::{KeyedState, ReadLimits, Restore, RestoreCounts};
use drystone::store::{FlinkPath, Stores};
use drystone::worker::Worker;
use drystone::write::Tokens;
use tokio::time::{sleep, timeout};

use crate::chaos_store::{Chaos, Client, Random};
use crate::disk::Machine;
use crate::history::Setup;
use crate::oracle::{self, ChunkKey, Contents, Model, Seen, parse_chunk_name};
use crate::process::{coordinator, stores, worker};
use crate::savepoint::Savepoints;
use crate::zombie::Zombies;

pub const OPERATOR: OperatorId = OperatorId([7; 16]);
pub const JOB: JobId = JobId([1; 16]);
pub const KEY_GROUPS: u32 = 12;
/// Nothing takes longer.
pub const STUCK: Duration = Duration::from_secs(6 * 3600);

/// Why a step ends early.
#[derive(Debug)]
pub enum Stop {
    Violation(String),
    /// One of the processes that the job goes on with has died.
    Crashed,
}

pub type Step<T = ()> = Result<T, Stop>;

impl From<String> for Stop {
    fn from(violation: String) -> Self {
        Stop::Violation(violation)
    }
}

/// A chunk of some key group's state.
#[derive(Clone)]
pub struct Chunk {
    pub bytes: Bytes,
    pub scope: Scope,
    /// Which write it was.
    pub version: u64,
    /// Where the latest completed checkpoint has it.
    pub handle: Option<StreamHandle>,
    /// Where the latest snapshot has it, whatever became of that.
    pub fresh: Option<StreamHandle>,
}

/// A snapshot of all that hasn't ended.
pub struct Taken {
    /// Where it has each chunk, and which write of it.
    pub handles: BTreeMap<ChunkKey, (u64, StreamHandle)>,
    /// How often tasks had been set back before.
    pub setbacks: u64,
}

pub struct Process {
    pub worker: Worker,
    pub client: Client,
    pub stores: Stores,
    /// Where it reads copies.
    pub local: Option<LocalDirectories>,
}

pub struct Job {
    pub setup: Setup,
    pub chaos: Chaos,
    pub seen: Arc<Mutex<Seen>>,
    pub model: Model,
    pub random: Random,
    pub tokens: Tokens,
    pub spec: OperatorSpec,
    pub coordinator: Coordinator,
    pub client: Client,
    pub workers: Vec<Process>,
    pub database: BTreeMap<ChunkKey, Chunk>,
    pub finished: BTreeSet<u32>,
    pub under_way: BTreeMap<u64, Taken>,
    /// How many others were under way when each checkpoint was triggered.
    pub beside: BTreeMap<CheckpointId, usize>,
    /// The newest checkpoint that the tasks have heard of.
    pub confirmed: u64,
    /// Until a checkpoint that was triggered after it completes, copies are held beside what metadata names.
    pub rewritten_before: Option<u64>,
    pub versions: u64,
    /// How often tasks were set back to an earlier checkpoint.
    pub setbacks: u64,
    pub zombies: Zombies,
    /// Somebody may have ended the job.
    pub may_have_ended: bool,
    /// What nobody ever gave up: of so many checkpoints the newest.
    pub retained_min: usize,
    /// Has this coordinator completed a checkpoint? Those that it has found stay until then.
    pub has_completed: bool,
    /// The newest checkpoint that it found.
    found: u64,
    pub has_rewritten: bool,
    pub savepoints: Savepoints,
    pub machine: Option<Machine>,
    processes: u32,
}

impl Job {
    pub async fn start(seed: u64, setup: Setup) -> Step<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let chaos = Chaos::new(seed ^ 0xc4a0_5000, setup.weather, Seen::watch(&seen));
        let next = AtomicU64::new(1);
        let tokens: Tokens = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
        let spec = OperatorSpec::new(OPERATOR, setup.parallelism, KEY_GROUPS);
        let mut processes = 0;
        let (client, coordinator) = coordinator(&chaos, &seen, &setup, &spec, &tokens, &mut processes).await?;
        let machine = setup.local.as_ref().map(|local| Machine::new(&chaos, seed ^ 0x0d15_c000, local));
        let mut job = Self {
            seen,
            model: Model::default(),
            random: Random::new(seed ^ 0x0d21_7e00),
            tokens,
            spec,
            coordinator,
            client,
            workers: Vec::new(),
            database: BTreeMap::new(),
            finished: BTreeSet::new(),
            under_way: BTreeMap::new(),
            beside: BTreeMap::new(),
            confirmed: 0,
            rewritten_before: None,
            versions: 0,
            setbacks: 0,
            zombies: Zombies::default(),
            may_have_ended: false,
            retained_min: setup.retained,
            has_completed: false,
            found: 0,
            has_rewritten: false,
            savepoints: Savepoints::default(),
            machine,
            processes,
            chaos,
            setup,
        };
        job.enthrone();
        job.new_workers(job.setup.workers)?;
        Ok(job)
    }

    /// The coordinator is the one that counts from here on.
    fn enthrone(&mut self) {
        self.seen.lock().unwrap().coordinator = Some(self.client.number());
    }

    /// The processes that the job goes on with.
    fn alive(&self) -> Vec<usize> {
        self.workers.iter().map(|process| process.client.number()).chain([self.client.number()]).collect()
    }

    /// Unless a process dies meanwhile.
    pub fn run<T>(&self, call: impl Future<Output = T>) -> impl Future<Output = Step<T>> {
        let (chaos, alive) = (self.chaos.clone(), self.alive());
        async move {
            tokio::select! {
                biased;
                () = chaos.crash_of(&alive) => Err(Stop::Crashed),
                done = timeout(STUCK, call) => done.map_err(|_| Stop::Violation("a call never ends".to_owned())),
            }
        }
    }

    pub fn directory(&self) -> String {
        self.coordinator.directory().root().name().path().trim_start_matches('/').to_owned()
    }

    /// Everything dies and starts again, maybe of another size.
    pub async fn restart(&mut self, parallelism: Option<u32>, workers: usize) -> Step {
        self.client.crash();
        self.workers.iter().for_each(|process| process.client.crash());
        if let Some(parallelism) = parallelism {
            self.spec = OperatorSpec::new(OPERATOR, parallelism, KEY_GROUPS);
            self.finished.clear();
        }
        self.succeed(workers).await
    }

    /// A new coordinator takes over, with new workers; what became of the old ones is their matter.
    pub async fn succeed(&mut self, workers: usize) -> Step {
        let Self { chaos, seen, setup, spec, tokens, processes, .. } = self;
        (self.client, self.coordinator) = coordinator(chaos, seen, setup, spec, tokens, processes).await?;
        self.enthrone();
        self.under_way.clear();
        self.savepoints.forget();
        if std::mem::take(&mut self.may_have_ended) {
            self.forget_what_zombies_said();
            let completed = self.coordinator.completed();
            self.model.acknowledged.retain(|&number| completed.contains(&id(number)));
        }
        (self.rewritten_before, self.has_completed, self.has_rewritten) = (None, false, false);
        self.found = self.coordinator.latest().map_or(0, |latest| latest.checkpoint.0);
        self.check()?;
        self.new_workers(workers)?;
        self.restore_all().await
    }

    /// Goes on after a death, until nobody dies.
    pub async fn go_on(&mut self) -> Step {
        loop {
            self.chaos.count("recoveries");
            let is_dead = |process: &Process| self.chaos.is_dead(process.client.number());
            let went_on = match self.workers.iter().position(is_dead) {
                Some(worker) if !self.chaos.is_dead(self.client.number()) => self.replace_worker(worker).await,
                _ => self.restart(None, self.workers.len().max(1)).await,
            };
            match went_on {
                Err(Stop::Crashed) => {}
                done => return done,
            }
        }
    }

    fn new_workers(&mut self, count: usize) -> Result<(), String> {
        self.workers = (0..count).map(|place| self.new_worker(place)).collect::<Result<_, _>>()?;
        self.register();
        Ok(())
    }

    fn new_worker(&mut self, place: usize) -> Result<Process, String> {
        self.processes += 1;
        let name = format!("w{}", self.processes);
        let client = self.chaos.client(&name);
        let (stores, directory) = stores(&client)?;
        let local = self.setup.local.as_ref().zip(self.machine.as_ref());
        let local = local.map(|(local, machine)| (local, machine.directories(local, client.number())));
        let called = match &local {
            Some((local, _)) if local.same_names => format!("place-{place}"),
            _ => name,
        };
        let copies = local.map(|(local, directories)| (directories, local.bytes_max));
        let worker = worker(&stores, directory, &called, &self.setup, copies.clone(), &self.tokens);
        Ok(Process { worker, client, stores, local: copies.map(|(directories, _)| directories) })
    }

    /// The worker of a subtask.
    pub fn process_of(&self, subtask: u32) -> &Process {
        &self.workers[subtask as usize % self.workers.len()]
    }

    fn register(&self) {
        for subtask in self.spec.subtasks().filter(|subtask| !self.finished.contains(&subtask.index)) {
            self.process_of(subtask.index).worker.register(subtask);
        }
    }

    /// A process dies, and another takes its tasks. All tasks go back to the latest checkpoint.
    pub async fn replace_worker(&mut self, worker: usize) -> Step {
        self.workers[worker].client.crash();
        self.workers[worker] = self.new_worker(worker)?;
        self.register();
        self.abort_all();
        self.restore_all().await
    }

    /// Whatever is under way is given up.
    pub fn abort_all(&mut self) {
        for checkpoint in self.coordinator.pending() {
            if self.coordinator.abort(checkpoint) {
                self.under_way.remove(&checkpoint.0);
                self.workers.iter().for_each(|process| process.worker.abort(self.coordinator.epoch(), checkpoint));
            }
        }
    }

    /// All tasks start from the latest checkpoint, every byte of which is compared.
    pub async fn restore_all(&mut self) -> Step {
        loop {
            self.database.clear();
            let latest = self.coordinator.latest();
            let Some(from) = &latest else { return Ok(()) };
            let mut done = Ok(());
            for subtask in 0..self.spec.parallelism {
                done = self.read_into(&from.path, subtask).await?;
                if done.is_err() {
                    break;
                }
            }
            // A commit that nobody waits for may have replaced it meanwhile.
            if done.is_err() && latest != self.coordinator.latest() {
                continue;
            }
            done?;
            let number = from.checkpoint.0;
            let contents: Contents = self.database.iter().map(|(&chunk, c)| (chunk, c.bytes.clone())).collect();
            let key = format!("{}/chk-{number}/_metadata", self.directory());
            if let Some(reading) = self.chaos.objects().get(&key).and_then(oracle::Reading::of) {
                let expected = self.model.taken.get(&(reading.epoch, number));
                oracle::compare(number, &contents, expected.ok_or_else(|| format!("nobody took {number}"))?)?;
            }
            self.confirmed = number;
            return Ok(());
        }
    }

    /// One task starts from the latest checkpoint.
    pub async fn restore_subtask(&mut self, subtask: u32) -> Step {
        loop {
            let latest = self.coordinator.latest();
            let Some(from) = &latest else {
                self.forget_chunks_of(subtask);
                return Ok(());
            };
            match self.read_into(&from.path, subtask).await? {
                Err(_) if latest != self.coordinator.latest() => {}
                done => return done.map_err(Stop::Violation),
            }
        }
    }

    fn forget_chunks_of(&mut self, subtask: u32) -> KeyGroupRange {
        let range =
            KeyGroupRange::of_subtask(subtask, self.spec.parallelism, KEY_GROUPS).unwrap_or(KeyGroupRange::EMPTY);
        self.database.retain(|(group, _), _| !range.contains(*group));
        range
    }

    /// By the library's own way.
    async fn read_into(&mut self, path: &FlinkPath, subtask: u32) -> Step<Result<(), String>> {
        let range = self.forget_chunks_of(subtask);
        self.setbacks += 1;
        let (client, stores, local) = {
            let process = self.process_of(subtask);
            (process.client.clone(), process.stores.clone(), process.local.clone())
        };
        for attempt in 0.. {
            if attempt == 20 {
                client.heal();
            }
            match self.run(read(&stores, path, subtask, self.spec.parallelism, local.clone())).await? {
                Ok((chunks, counts)) => {
                    self.count_copies(counts);
                    let own = chunks.into_iter().filter(|((group, _), ..)| range.contains(*group));
                    for (key, bytes, scope, handle) in own {
                        self.versions += 1;
                        let (version, handle) = (self.versions, Some(handle));
                        let chunk = Chunk { bytes, scope, version, fresh: handle.clone(), handle };
                        self.database.insert(key, chunk);
                    }
                    break;
                }
                // A byte may have been another on the way.
                Err(error) if matches!(error.kind(), ErrorKind::Store | ErrorKind::Damaged) && attempt < 40 => {
                    self.run(sleep(Duration::from_secs(1))).await?;
                }
                Err(error) => return Ok(Err(format!("{path} can't be restored: {}", error.one_line()))),
            }
        }
        Ok(Ok(()))
    }

    /// Everything that can be said at this moment.
    pub fn check(&mut self) -> Result<(), String> {
        let objects = self.chaos.objects();
        let completed: Vec<u64> = self.coordinator.completed().into_iter().map(|id| id.0).collect();
        self.check_zombies(&completed)?;
        let mut seen = self.seen.lock().unwrap();
        if let Some(violation) = seen.violations.first() {
            return Err(violation.clone());
        }
        self.savepoints.check(&self.model, &objects, &mut seen)?;
        let directory = self.directory();
        let readings = self.model.check(&completed, self.retained_min, &directory, &objects, &mut seen)?;
        let pending = self.coordinator.pending();
        // Each may build on those that were retained when it was triggered, and on the older ones that completed since.
        let beside = pending.iter().map(|id| self.beside.get(id).copied().unwrap_or_default());
        let most = self.setup.retained + beside.map(|older| self.setup.retained + older).sum::<usize>();
        if self.has_completed && completed.len() > most {
            return Err(format!(
                "I8: of {} completed checkpoints at most {most} may be kept, with {pending:?} under way",
                completed.len(),
            ));
        }
        if self.rewritten_before.is_some_and(|number| completed.last().is_some_and(|&latest| latest >= number)) {
            self.rewritten_before = None;
        }
        // What a savepoint under way has is in no books.
        if pending.iter().all(|&id| self.savepoints.has(id)) && self.rewritten_before.is_none() {
            let (space, counted) = (self.coordinator.space(), oracle::recount(readings.iter(), &objects));
            if space != counted {
                return Err(format!("I5: the books say {space:?}, the metadata {counted:?}"));
            }
        }
        match (completed.last(), readings.last(), self.setup.amplification_max) {
            (Some(&latest), Some(reading), Some(limit)) if latest > self.found && !self.has_rewritten => {
                oracle::check_plan(latest, reading, &objects, &self.coordinator.plan(), limit)
            }
            _ => Ok(()),
        }
    }
}

pub type Found = (ChunkKey, Bytes, Scope, StreamHandle);

pub async fn read(
    stores: &Stores,
    path: &FlinkPath,
    subtask: u32,
    parallelism: u32,
    local: Option<LocalDirectories>,
) -> drystone::Result<(Vec<Found>, RestoreCounts)> {
    let mut restore = Restore::open(stores, path, ReadLimits::default()).await?;
    if let Some(local) = local {
        restore = restore.with_local(local);
    }
    let task = restore.task(OPERATOR, subtask, parallelism)?;
    let restored = task.read_all().await?;
    let mut found = Vec::new();
    for keyed in &task.managed_keyed {
        let KeyedState::Incremental { handle, shared, private, .. } = &keyed.state else { continue };
        let mut take = |files: &[LocalPathHandle], streams: &[Option<usize>], scope| {
            for (file, stream) in files.iter().zip(streams) {
                let key = parse_chunk_name(&file.local_path.to_text());
                if let (Some(key), Some(stream), Some(handle)) = (key, stream, &file.handle) {
                    found.push((key, restored.bytes(*stream), scope, handle.clone()));
                }
            }
        };
        take(&handle.shared, shared, Scope::Shared);
        take(&handle.private, private, Scope::Exclusive);
    }
    Ok((found, restored.counts))
}

pub fn id(number: u64) -> CheckpointId {
    CheckpointId(number)
}
