//! The data plane of a running job: what one process writes for its checkpoints.
//!
//! A [`Worker`] gives each subtask a [`Snapshot`] of each checkpoint, packs what all of them write into common files, and
//! seals a file once for all who wrote into it. It never deletes a sealed file: that is the coordinator's.

mod channels;
mod ended;
mod group;
mod reuse;
mod running;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use channels::{ChannelForm, ChannelHandles, ChannelWriter, WrittenChannels};
pub use snapshot::{Durable, Snapshot, Ticket};

use self::ended::{End, Ended};
use self::group::Group;
use self::running::Running;
use crate::backup::{Backup, BackupLimits, LocalDirectories};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, Subtask};
use crate::protocol::{SnapshotKind, Trigger};
use crate::store::names::WorkerName;
use crate::store::{JobDirectory, Stores};
use crate::sync::{Mutex, MutexGuard};
use crate::write::{Bounds, Tokens, WriteSettings};

/// Checkpoints that may be under way at a worker. Those whose end got lost don't count for longer than until the next
/// trigger, where that says what is under way.
const RUNNING_MAX: usize = 64;

/// What one process writes for the checkpoints of one job. Cheap to clone; all clones are one worker.
///
/// Group commit: what the subtasks write for a checkpoint goes into common files, of which each is written once. A file
/// is sealed when it is full, when every subtask that takes part has finished its snapshot, or when the first of those
/// who wait for it has waited for [`linger`](WorkerSettings::linger).
///
/// ```
/// use std::sync::Arc;
/// use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
/// use drystone::protocol::Trigger;
/// use drystone::store::{FlinkPath, JobDirectory, Stores};
/// use drystone::worker::{Worker, WorkerSettings};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let job = JobDirectory::at(Stores::new().locate(&FlinkPath::parse("memory://host/job")?)?)?;
/// # let next = std::sync::atomic::AtomicU64::new(1);
/// # let tokens = Arc::new(move || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)); // better: unguessable
/// let worker = Worker::new(job, "worker-1", WorkerSettings::default(), tokens);
/// let subtask = Subtask { operator: OperatorId([1; 16]), index: 0, parallelism: 1 };
/// worker.register(subtask);
///
/// // The coordinator says when.
/// let trigger = Trigger::new(1, CheckpointId(1));
/// let snapshot = worker.begin(subtask, &trigger)?;
/// let mut segment = snapshot.segment(Scope::Shared, None);
/// segment.write_slice(&[7; 50_000]).await?;
/// let written = segment.finish().await?;
///
/// let durable = snapshot.seal().await?;
/// let handle = durable.handle(&written)?.expect("something was written");
/// assert_eq!(handle.size(), Some(50_000));
/// assert_eq!(durable.sealed().len(), 1);
/// // The handle goes to the coordinator; when that has committed:
/// worker.complete(trigger.epoch, CheckpointId(1));
/// # Ok::<(), drystone::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    directory: JobDirectory,
    name: WorkerName,
    settings: WorkerSettings,
    tokens: Tokens,
    bounds: Bounds,
    /// Where savepoints may go; `None`: nowhere.
    stores: Option<Stores>,
    backup: Option<Backup>,
    /// Never held across an await. Taken before the locks in `write`, and never while one of those or of a [`Running`]
    /// is held.
    state: Mutex<State>,
}

/// How a worker packs and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// How segments are packed, for each checkpoint and scope; `uploads_max` and what may go inline in all are for all
    /// scopes together, and the former for all checkpoints.
    pub write: WriteSettings,
    /// How channel state is packed, if not with all else that is exclusive: where each segment has a file of its own, that
    /// of several subtasks can still go into one.
    pub channels: Option<WriteSettings>,
    /// Bytes in memory, of all checkpoints: of writers' buffers, and of files not yet durable. See [`Bounds`].
    pub buffered_bytes_total_max: u64,
    /// How long a finished subtask waits for the others before the files that hold its segments are sealed.
    pub linger: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            write: WriteSettings { uploads_max: 4, ..WriteSettings::default() },
            channels: None,
            buffered_bytes_total_max: 256 << 20,
            linger: Duration::from_secs(1),
        }
    }
}

/// What a worker holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    /// Bytes in memory: of writers' buffers, and of files not yet durable.
    pub buffered_bytes: u64,
    /// Files being filled.
    pub open_files: usize,
    /// Files being sealed; of these, `uploads_max` talk to the store at a time.
    pub uploads: usize,
    /// Checkpoints that have begun here and haven't ended.
    pub checkpoints: usize,
}

#[derive(Default)]
struct State {
    registered: BTreeSet<Subtask>,
    /// All of epoch `epoch`.
    running: BTreeMap<CheckpointId, Arc<Running>>,
    ended: Ended,
    /// The newest coordinator's that was heard of.
    epoch: u64,
    /// Why nothing begins any more.
    refusal: Option<&'static str>,
}

const CLOSED: &str = "the worker was closed";

impl Worker {
    /// A worker of a job. Starts nothing, and makes no request.
    ///
    /// `name` tells its files from those of the job's other workers.
    pub fn new(directory: JobDirectory, name: &str, settings: WorkerSettings, tokens: Tokens) -> Self {
        Self::of(directory, name, settings, tokens, None, None)
    }

    /// As [`new`](Self::new), for a worker that may be told to write savepoints, which can go to any of these stores.
    pub fn with_stores(
        stores: Stores,
        directory: JobDirectory,
        name: &str,
        settings: WorkerSettings,
        tokens: Tokens,
    ) -> Self {
        Self::of(directory, name, settings, tokens, Some(stores), None)
    }

    /// As [`with_stores`](Self::with_stores), for a worker that keeps copies of its checkpoints' files on local disks, too, of
    /// at most `bytes_max`. Another worker of the job on the same machine is to have another name.
    ///
    /// A copy that the disk isn't done with when the file is in the store is held in memory, beside
    /// [`buffered_bytes_total_max`](WorkerSettings::buffered_bytes_total_max) up to a quarter of that.
    pub fn with_backup(
        stores: Stores,
        directory: JobDirectory,
        name: &str,
        settings: WorkerSettings,
        tokens: Tokens,
        (local, bytes_max): (LocalDirectories, u64),
    ) -> Self {
        let limits = BackupLimits { bytes_max, lag_bytes_max: settings.buffered_bytes_total_max / 4 };
        let backup = Backup::new(local, directory.root().name(), name, limits);
        Self::of(directory, name, settings, tokens, Some(stores), Some(backup))
    }

    fn of(
        directory: JobDirectory,
        name: &str,
        settings: WorkerSettings,
        tokens: Tokens,
        stores: Option<Stores>,
        backup: Option<Backup>,
    ) -> Self {
        let bounds = Bounds::new(settings.buffered_bytes_total_max, settings.write.uploads_max);
        let (name, state) = (WorkerName::sanitise(name), Mutex::default());
        Self { inner: Arc::new(Inner { directory, name, settings, tokens, bounds, stores, backup, state }) }
    }

    /// The copies of its files on local disks, if it keeps any. No other call waits for them, nor does
    /// [`close`](Self::close).
    pub fn backup(&self) -> Option<&Backup> {
        self.inner.backup.as_ref()
    }

    /// From the next checkpoint on, files wait for this subtask's snapshot.
    pub fn register(&self, subtask: Subtask) {
        self.state().registered.insert(subtask);
    }

    /// The subtask has finished or is gone: nobody waits for it. What it has placed stays, and it may still write.
    pub fn forget(&self, subtask: Subtask) {
        let running: Vec<_> = {
            let mut state = self.state();
            state.registered.remove(&subtask);
            state.running.values().cloned().collect()
        };
        running.iter().for_each(|running| running.forget(subtask));
    }

    /// Starts a subtask's snapshot of a checkpoint. One that isn't registered takes part in this checkpoint alone.
    ///
    /// With the first trigger of a newer epoch, what is under way of an older one is given up: its coordinator can't
    /// commit it any more. What is under way here and not at the coordinator, as the trigger says, has ended.
    ///
    /// # Errors
    /// `Conflict`: the checkpoint has ended, or is older than the 64 last that have and are remembered; the trigger is of
    /// an epoch before the newest; 64 checkpoints are under way; the worker was closed. `Invalid`: a claimed directory, or
    /// that of a savepoint, is no path. `Unsupported`: a savepoint, and the worker has no stores.
    pub fn begin(&self, subtask: Subtask, trigger: &Trigger) -> Result<Snapshot> {
        let missed = self.state().missed(trigger);
        missed.into_iter().for_each(|(checkpoint, end)| self.end(trigger.epoch, checkpoint, end));
        let (running, superseded) = {
            let mut state = self.state();
            let superseded = state.enter(trigger)?;
            let running = match state.running.get(&trigger.checkpoint) {
                Some(running) => Ok(running.clone()),
                None => self.run(&mut state, trigger),
            };
            (running, superseded)
        };
        self.give_up(superseded, trigger.epoch);
        Ok(Snapshot::new(self.clone(), running?, subtask))
    }

    /// The checkpoint is committed, says the coordinator of this epoch. What it hasn't sealed nobody has named; it is
    /// dropped. So are checkpoints that are older and under way, of which the coordinator has no use any more, and whose end
    /// may have been lost. A savepoint replaces nothing, and no checkpoint replaces it.
    ///
    /// Idempotent, and legal in any order, as are [`abort`](Self::abort) and [`subsume`](Self::subsume): of several ends
    /// the first counts. What a coordinator says that has a successor counts no more; with a successor's first word, what
    /// is under way of an older epoch is given up.
    pub fn complete(&self, epoch: u64, checkpoint: CheckpointId) {
        self.end(epoch, checkpoint, End::Completed);
    }

    /// The checkpoint won't be committed: whoever writes or waits for it gets `Conflict`. What isn't uploaded is dropped,
    /// uploads in parts are aborted, and files on their way arrive, as one that is cut may arrive all the same; the
    /// coordinator finds them by name. Doesn't wait.
    pub fn abort(&self, epoch: u64, checkpoint: CheckpointId) {
        self.end(epoch, checkpoint, End::Aborted);
    }

    /// The checkpoint was committed, and a newer one has taken its place.
    pub fn subsume(&self, epoch: u64, checkpoint: CheckpointId) {
        self.end(epoch, checkpoint, End::Subsumed);
    }

    /// Seals the checkpoint's open files now, whoever hasn't finished, and waits for all that are on their way. Not
    /// sealed are files that a segment is being streamed into at the moment.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// `Conflict`: the checkpoint was aborted. That of an upload that failed, of this call or before.
    pub async fn seal(&self, checkpoint: CheckpointId) -> Result<()> {
        let running = {
            let state = self.state();
            let running = state.running.get(&checkpoint).cloned();
            if running.is_none() && state.ended.end(checkpoint) == Some(End::Aborted) {
                return Err(Error::new(ErrorKind::Conflict, End::Aborted.of(checkpoint)));
            }
            running
        };
        match running {
            Some(running) => running.seal().await,
            None => Ok(()),
        }
    }

    /// Takes nothing more, gives up all that isn't on its way, and waits for what is.
    ///
    /// Cancel safe: a further call goes on waiting.
    ///
    /// # Errors
    /// `Store`: an upload in parts couldn't be aborted; the store's own rules have to remove its parts.
    pub async fn close(&self) -> Result<()> {
        let running = {
            let mut state = self.state();
            state.refusal = Some(CLOSED);
            std::mem::take(&mut state.running)
        };
        running.values().for_each(|running| running.abort(CLOSED));
        self.inner.bounds.settled().await
    }

    /// What it holds at this moment.
    pub fn usage(&self) -> WorkerUsage {
        let (bounds, checkpoints) = (&self.inner.bounds, self.state().running.len());
        let (buffered_bytes, open_files, uploads) = (bounds.buffered_bytes(), bounds.open_files(), bounds.uploads());
        WorkerUsage { buffered_bytes, open_files, uploads, checkpoints }
    }

    fn run(&self, state: &mut State, trigger: &Trigger) -> Result<Arc<Running>> {
        let checkpoint = trigger.checkpoint;
        if let Some(reason) = state.ended.refuses(checkpoint, trigger.epoch) {
            return Err(Error::new(ErrorKind::Conflict, reason));
        }
        if state.running.len() >= RUNNING_MAX {
            let message = format!(
                "checkpoint {checkpoint} can't begin: {RUNNING_MAX} are under way, of which the worker wasn't told how \
                 they ended"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let running = Arc::new(Running::new(&self.inner, trigger, Group::of(&state.registered))?);
        state.running.insert(checkpoint, running.clone());
        Ok(running)
    }

    fn end(&self, epoch: u64, checkpoint: CheckpointId, end: End) {
        let (superseded, running, overtaken) = {
            let mut state = self.state();
            if epoch < state.epoch {
                tracing::debug!(epoch, newest = state.epoch, %checkpoint, "word of a coordinator that has a successor");
                return;
            }
            let superseded = state.follow(epoch);
            let running = state.running.remove(&checkpoint);
            // Word of an end may come again.
            let known = state.ended.is_savepoint(checkpoint);
            let is_savepoint = running.as_ref().map_or(known, |running| running.is_savepoint());
            state.ended.record(checkpoint, end, end.attempt(epoch, running.is_some()), is_savepoint);
            let overtakes = end == End::Completed && !is_savepoint;
            (superseded, running, if overtakes { state.overtaken_by(checkpoint) } else { Vec::new() })
        };
        self.give_up(superseded, epoch);
        for running in overtaken {
            running.abort(&format!("checkpoint {} was overtaken by {checkpoint}", running.checkpoint));
            self.forget_copies(&running);
        }
        if let Some(backup) = self.backup() {
            match end {
                // A savepoint names nothing that others do, and takes no checkpoint's place.
                End::Completed if running.as_ref().is_none_or(|running| running.is_savepoint()) => {}
                End::Completed => backup.complete(epoch, checkpoint),
                End::Subsumed => backup.subsume(epoch, checkpoint),
                End::Aborted => backup.abort(epoch, checkpoint),
            }
        }
        match (running, end) {
            (None, _) => {}
            (Some(running), End::Aborted) => running.abort(&end.of(checkpoint)),
            (Some(running), End::Completed | End::Subsumed) => running.close(&end.of(checkpoint)),
        }
    }

    fn give_up(&self, superseded: Vec<Arc<Running>>, epoch: u64) {
        for running in superseded {
            running.abort(&format!("checkpoint {} is of an epoch before {epoch}", running.checkpoint));
            self.forget_copies(&running);
        }
    }

    fn forget_copies(&self, running: &Running) {
        if let Some(backup) = self.backup() {
            backup.abort(running.epoch, running.checkpoint);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code between two changes that belong together can panic.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Follows the newest coordinator; what is given up thereby is returned.
    fn enter(&mut self, trigger: &Trigger) -> Result<Vec<Arc<Running>>> {
        if let Some(refusal) = self.refusal {
            return Err(Error::new(ErrorKind::Conflict, refusal));
        }
        let (checkpoint, epoch) = (trigger.checkpoint, trigger.epoch);
        if epoch < self.epoch {
            let message =
                format!("checkpoint {checkpoint} of epoch {epoch} can't begin: epoch {} has begun", self.epoch);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(self.follow(epoch))
    }

    /// The epoch is the newest from now on; what is given up thereby is returned.
    fn follow(&mut self, epoch: u64) -> Vec<Arc<Running>> {
        if epoch <= self.epoch {
            return Vec::new();
        }
        let before = (self.epoch > 0).then_some(self.epoch);
        self.epoch = epoch;
        self.ended.enter_epoch(before);
        let superseded = std::mem::take(&mut self.running);
        for (checkpoint, running) in &superseded {
            self.ended.record(*checkpoint, End::Aborted, Some(running.epoch), running.is_savepoint());
        }
        superseded.into_values().collect()
    }

    /// Those under way here whose end nobody has told, in order. What isn't kept was aborted, or a newer one has replaced it.
    /// A savepoint's trigger doesn't say what is kept.
    fn missed(&self, trigger: &Trigger) -> Vec<(CheckpointId, End)> {
        let Some(under_way) = trigger.under_way.as_ref().filter(|_| trigger.epoch == self.epoch) else {
            return Vec::new();
        };
        let says_all = trigger.kind == SnapshotKind::Checkpoint;
        let older = self.running.range(..trigger.checkpoint).filter(|(_, older)| says_all || older.is_savepoint());
        let missed = older.filter(|(id, _)| !under_way.contains(id));
        missed.map(|(&id, _)| (id, if trigger.base.contains(&id) { End::Completed } else { End::Aborted })).collect()
    }

    /// Those under way that are older than a checkpoint that has completed.
    fn overtaken_by(&mut self, completed: CheckpointId) -> Vec<Arc<Running>> {
        let mut stays = self.running.split_off(&completed);
        let (savepoints, older) = std::mem::take(&mut self.running).into_iter().partition(|(_, r)| r.is_savepoint());
        stays.extend::<BTreeMap<_, _>>(savepoints);
        self.running = stays;
        let older: BTreeMap<CheckpointId, Arc<Running>> = older;
        for (checkpoint, running) in &older {
            self.ended.record(*checkpoint, End::Aborted, Some(running.epoch), false);
        }
        older.into_values().collect()
    }

    /// Was the file written for a checkpoint that is known not to be committed?
    fn is_uncommitted(&self, attempt: u64, checkpoint: CheckpointId) -> bool {
        match self.running.get(&checkpoint) {
            Some(running) => running.epoch == attempt || self.ended.is_uncommitted(attempt, checkpoint),
            None => self.ended.is_uncommitted(attempt, checkpoint),
        }
    }
}
