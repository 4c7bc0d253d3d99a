//! One checkpoint at one worker, from the first snapshot that begins to its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use super::group::Group;
use super::reuse::KnownFile;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::JavaString;
use crate::id::{CheckpointId, FileToken, Scope, Subtask};
use crate::protocol::{Reason, SavepointFormat, SavepointTarget, SnapshotKind, Trigger};
use crate::store::{FlinkPath, Location};
use crate::sync::{Mutex, MutexGuard, OnceLock};
use crate::write::{Beside, FileLayout, FileNaming, FilePool, InlineBudget, Mark, SealedFile, WriteSettings};

/// What a snapshot has in each pool.
#[derive(Clone, Default)]
pub(super) struct Placed<T> {
    pub(super) exclusive: T,
    pub(super) shared: T,
    pub(super) channels: T,
}

pub(super) struct Running {
    pub(super) checkpoint: CheckpointId,
    pub(super) epoch: u64,
    /// Set for one that belongs to the user: it holds all that it names, and neither replaces others nor is replaced.
    pub(super) savepoint: Option<SavepointFormat>,
    /// What is to be written again; by place, for handles may spell a path as they like.
    pub(super) planned: BTreeMap<FlinkPath, Reason>,
    pub(super) claimed: Vec<FlinkPath>,
    /// Completed checkpoints that stay until this one has ended.
    base: Vec<CheckpointId>,
    pub(super) inline: Arc<InlineBudget>,
    /// What is known of the files whose segments were asked about. Never held across an await, nor while another lock is
    /// taken.
    known: Mutex<HashMap<JavaString, KnownFile>>,
    exclusive: FilePool,
    shared: FilePool,
    /// Channel state's, where that isn't with the exclusive.
    channels: Option<FilePool>,
    linger: Duration,
    /// Why nobody will get anything.
    aborted: OnceLock<String>,
    /// Never held across an await, nor while another lock is taken.
    group: Mutex<Group>,
    /// Told when the group is complete, a linger time is over, or the checkpoint is aborted.
    changed: Notify,
}

impl Running {
    pub(super) fn new(worker: &Inner, trigger: &Trigger, group: Group) -> Result<Self> {
        let Trigger { checkpoint, epoch, plan, claimed, base, under_way: _, kind } = trigger;
        let claimed = claimed.iter().map(|path| FlinkPath::parse(path).map_err(|e| e.context("claimed directory")));
        let settings = worker.settings;
        let inline = Arc::new(InlineBudget::new(FileToken((worker.tokens)()), &settings.write));
        let mark = match kind {
            SnapshotKind::Checkpoint => None,
            SnapshotKind::Savepoint(target) => savepoint_directory(worker, target)?.savepoint_marker()?.map(Mark::new),
        };
        let pool = |directory, write: WriteSettings| {
            let (attempt, checkpoint, worker_name) = (*epoch, *checkpoint, worker.name.clone());
            let naming = FileNaming { directory, attempt, worker: worker_name, checkpoint };
            let (tokens, bounds) = (worker.tokens.clone(), worker.bounds.clone());
            // A savepoint is the user's: nothing is restored from where this worker runs, and no sweep finds what is left of it.
            let beside = match kind {
                SnapshotKind::Checkpoint => Beside { backup: worker.backup.clone(), mark: None },
                SnapshotKind::Savepoint(_) => Beside { backup: None, mark: mark.clone() },
            };
            FilePool::beside(naming, write, tokens, inline.clone(), bounds, beside)
        };
        let (exclusive, shared, channels) = match kind {
            SnapshotKind::Checkpoint => {
                let directory = worker.directory.checkpoint(*checkpoint)?;
                let channels = settings.channels.map(|write| pool(directory.clone(), write));
                (pool(directory, settings.write), pool(worker.directory.shared().clone(), settings.write), channels)
            }
            SnapshotKind::Savepoint(target) => {
                let layout = match settings.write.layout {
                    FileLayout::None => FileLayout::None,
                    _ if target.pack => FileLayout::Packed,
                    _ => FileLayout::Plain,
                };
                let own = pool(savepoint_directory(worker, target)?, WriteSettings { layout, ..settings.write });
                (own.clone(), own, None)
            }
        };
        Ok(Self {
            checkpoint: *checkpoint,
            epoch: *epoch,
            savepoint: match kind {
                SnapshotKind::Checkpoint => None,
                SnapshotKind::Savepoint(target) => Some(target.format),
            },
            planned: plan.files.iter().filter_map(by_place).collect(),
            claimed: claimed.collect::<Result<_>>()?,
            base: base.clone(),
            channels,
            exclusive,
            shared,
            inline,
            known: Mutex::default(),
            linger: settings.linger,
            aborted: OnceLock::new(),
            group: Mutex::new(group),
            changed: Notify::new(),
        })
    }

    pub(super) fn is_savepoint(&self) -> bool {
        self.savepoint.is_some()
    }

    /// One that isn't of the base but newer has completed since the trigger.
    pub(super) fn builds_on(&self, completed: CheckpointId) -> bool {
        self.base.contains(&completed) || self.base.iter().max() < Some(&completed)
    }

    pub(super) fn pool(&self, scope: Scope) -> &FilePool {
        match scope {
            Scope::Exclusive => &self.exclusive,
            Scope::Shared => &self.shared,
        }
    }

    pub(super) fn channel_pool(&self) -> &FilePool {
        self.channels.as_ref().unwrap_or(&self.exclusive)
    }

    fn pools(&self) -> impl Iterator<Item = &FilePool> {
        [&self.exclusive, &self.shared].into_iter().chain(&self.channels)
    }

    /// `of` is asked once for each path.
    pub(super) fn known_file(&self, path: &JavaString, of: impl FnOnce() -> KnownFile) -> KnownFile {
        if let Some(known) = self.known().get(path) {
            return *known;
        }
        let file = of();
        self.known().insert(path.clone(), file);
        file
    }

    fn known(&self) -> MutexGuard<'_, HashMap<JavaString, KnownFile>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, subtask: Subtask) {
        self.change_group(|group| group.forget(subtask));
    }

    /// Seals the files when nobody is waited for any more.
    fn change_group(&self, change: impl FnOnce(&mut Group)) {
        let is_complete = {
            let mut group = self.group();
            change(&mut group);
            group.is_complete()
        };
        // Also where it was complete before: one that was forgotten may have written since.
        if is_complete {
            // Where no task can be started, those who wait for the files have them sealed.
            if Handle::try_current().is_ok() {
                self.seal_open();
            }
            self.changed.notify_waiters();
        }
    }

    fn seal_open(&self) {
        self.pools().for_each(FilePool::seal_open);
    }

    /// Seals all now.
    pub(super) async fn seal(&self) -> Result<()> {
        try_join_all(self.pools().map(FilePool::seal)).await.map(drop)
    }

    /// Nothing more is written.
    pub(super) fn close(&self, reason: &str) {
        self.pools().for_each(|pool| pool.close(reason));
    }

    /// Nothing more is written, and nobody needs wait.
    pub(super) fn abort(&self, reason: &str) {
        self.aborted.get_or_init(|| reason.to_string());
        self.close(reason);
        self.changed.notify_waiters();
    }

    /// Waits until these files are durable, and has them sealed when the group is complete or has taken too long.
    pub(super) async fn durable(&self, placed: &Placed<BTreeSet<FileToken>>) -> Result<Vec<SealedFile>> {
        let Placed { exclusive, shared, channels } = placed;
        let waits = [(&self.exclusive, exclusive), (&self.shared, shared), (self.channel_pool(), channels)];
        let mut files = std::pin::pin!(try_join_all(waits.into_iter().map(|(pool, files)| pool.wait(files))));
        let _waiting = Waiting::new(self);
        loop {
            // Registered before the look, so that no change falls in between.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(reason) = self.aborted.get() {
                return Err(Error::new(ErrorKind::Conflict, reason.clone()));
            }
            let (is_complete, linger_until) = {
                let group = self.group();
                (group.is_complete(), group.linger_until())
            };
            if is_complete {
                self.seal_open();
            }
            tokio::select! {
                biased;
                files = &mut files => return files.map(|files| files.into_iter().flatten().collect()),
                () = changed => {}
                deadline = until(linger_until) => {
                    if self.group().is_over(deadline) {
                        self.seal_open();
                    }
                }
            }
        }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn savepoint_directory(worker: &Inner, target: &SavepointTarget) -> Result<Location> {
    let Some(stores) = &worker.stores else {
        let message = format!("{}: this worker writes to the job's own directory only", target.directory);
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let path = FlinkPath::parse(&target.directory).map_err(|e| e.context("savepoint directory"))?;
    stores.locate(&path)
}

/// A path that can't be one names no handle's file.
fn by_place((path, &reason): (&String, &Reason)) -> Option<(FlinkPath, Reason)> {
    Some((FlinkPath::parse(path).ok()?, reason))
}

/// For ever, where there is no deadline.
async fn until(deadline: Option<Instant>) -> Instant {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep_until(deadline).await;
            deadline
        }
        None => std::future::pending().await,
    }
}

/// One who waits for files.
struct Waiting<'a>(&'a Running);

impl<'a> Waiting<'a> {
    fn new(running: &'a Running) -> Self {
        let mut group = running.group();
        // No clock is asked when nothing has to be waited for.
        let deadline = (!group.is_complete()).then(|| tokio::time::sleep(running.linger).deadline());
        group.wait(deadline);
        drop(group);
        Self(running)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.group().stop_waiting();
    }
}

/// A subtask's part in a checkpoint. Dropped, nobody waits for it any more.
pub(super) struct Participation {
    pub(super) running: Arc<Running>,
    subtask: Subtask,
}

impl Participation {
    pub(super) fn new(running: Arc<Running>, subtask: Subtask) -> Self {
        running.group().enter(subtask);
        Self { running, subtask }
    }

    pub(super) fn subtask(&self) -> Subtask {
        self.subtask
    }
}

impl Drop for Participation {
    fn drop(&mut self) {
        self.running.change_group(|group| group.leave(self.subtask));
    }
}
