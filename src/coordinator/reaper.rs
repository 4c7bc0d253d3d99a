//! Carries deletes out, beside everything else: retried, bounded, and never waited for by a writer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use crate::ledger::Effect;
use crate::metrics;
use crate::store::names::{self, PhysicalFileName};
use crate::store::{FlinkPath, Location};
use crate::sync::{Mutex, MutexGuard};

/// So many jobs may wait. Nobody waits for them, so that what is beyond is left to
/// [`remove_leftovers`](super::Coordinator::remove_leftovers) (I8).
const QUEUE_MAX: usize = 1024;
/// So many failed jobs are remembered; what is beyond is left to a sweep (I8).
const FAILED_MAX: usize = 1024;
const WAIT_MIN: Duration = Duration::from_millis(50);

/// Something to delete.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// The metadata first: what it names must not go before it.
    Discard {
        checkpoint: CheckpointId,
        directory: Location,
        files: Vec<Location>,
    },
    Delete(Vec<Location>),
    /// What was written for aborted checkpoints, by the names of the files.
    Clean(Vec<CheckpointId>),
    /// The same of a savepoint, in its own directory.
    CleanSavepoint(CheckpointId, Location),
    /// No delete: the file that names the latest checkpoint is written, before those that it replaced go.
    Hint,
}

impl Job {
    /// Nobody carries it out any more.
    fn give_up(&self, shared: &Shared) {
        if let Self::Discard { checkpoint, .. } = self {
            shared.books().discarding.remove(checkpoint);
        }
    }
}

pub(super) struct Reaper {
    deletes_max: usize,
    retries: u32,
    /// No other lock is taken while it is held.
    queue: Mutex<Queue>,
    /// Told when a job has ended.
    progressed: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Is there a task that carries jobs out?
    running: bool,
    failed: Vec<(Job, ErrorKind, String)>,
    /// Discarded checkpoints whose metadata couldn't be deleted yet: what they may name has to stay as long.
    undeleted: BTreeSet<CheckpointId>,
}

impl Reaper {
    pub(super) fn new(deletes_max: usize, retries: u32) -> Self {
        let (queue, progressed) = (Mutex::default(), Notify::new());
        Self { deletes_max: deletes_max.max(1), retries, queue, progressed }
    }

    /// Takes jobs; starts a task for them where there is a runtime, else they wait for the next call that has one.
    pub(super) fn submit(&self, shared: &Arc<Shared>, effects: Vec<Effect>) {
        self.enqueue(shared, effects.into_iter().flat_map(|effect| jobs(shared, effect)).collect());
    }

    fn enqueue(&self, shared: &Arc<Shared>, mut jobs: Vec<Job>) {
        let refused = {
            let mut queue = self.queue();
            let room = QUEUE_MAX.saturating_sub(queue.waiting.len());
            let refused = jobs.split_off(room.min(jobs.len()));
            queue.waiting.extend(jobs);
            refused
        };
        refused.iter().for_each(|job| job.give_up(shared));
        let refused = refused.len();
        if refused > 0 {
            tracing::warn!(refused, waiting = QUEUE_MAX, "deletes are too slow: some are left to a later clean-up");
        }
        self.start(shared);
    }

    /// A file that is of no use any more, as [`submit`](Self::submit).
    pub(super) fn submit_delete(&self, shared: &Arc<Shared>, file: Location) {
        self.enqueue(shared, vec![Job::Delete(vec![file])]);
    }

    /// Other tools are to be told of the latest checkpoint, as [`submit`](Self::submit).
    pub(super) fn submit_hint(&self, shared: &Arc<Shared>) {
        self.enqueue(shared, vec![Job::Hint]);
    }

    /// Has what has failed tried again with what is submitted next, unless there is enough to do.
    pub(super) fn put_back_failed(&self) {
        let mut queue = self.queue();
        if !queue.running && queue.waiting.is_empty() {
            let failed = std::mem::take(&mut queue.failed);
            queue.waiting.extend(failed.into_iter().map(|(job, ..)| job));
        }
    }

    /// Tries again what has failed, and waits for all.
    pub(super) async fn settle(&self, shared: &Arc<Shared>) -> Result<()> {
        {
            let mut queue = self.queue();
            let failed = std::mem::take(&mut queue.failed);
            // Before what is newer, which may have to wait for them.
            for (job, ..) in failed.into_iter().rev() {
                queue.waiting.push_front(job);
            }
        }
        self.start(shared);
        self.wait_until(|queue| !queue.running).await;
        match self.queue().failed.first() {
            Some((_, kind, message)) => Err(Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }

    fn start(&self, shared: &Arc<Shared>) {
        let mut queue = self.queue();
        if queue.running || queue.waiting.is_empty() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            queue.running = true;
            drop(queue);
            // Before the task, which may be dropped without having begun.
            let work = Work { shared: shared.clone(), is_done: false };
            runtime.spawn(work.carry_out());
        }
    }

    /// The next job. After the last one another task may be started at once: this one has nothing more to say then.
    fn next(&self, shared: &Shared) -> Option<Job> {
        let is_over = shared.refuse_if_fenced().is_err();
        let job = {
            let mut queue = self.queue();
            if is_over {
                queue.waiting.clear();
                queue.failed.clear();
            }
            let job = queue.waiting.pop_front();
            queue.running = job.is_some();
            job
        };
        if job.is_none() {
            self.progressed.notify_waiters();
        }
        job
    }

    async fn carry_out(&self, shared: &Shared, job: Job) {
        let failed = match job {
            Job::Discard { checkpoint, directory, files } => match self.delete_metadata(&directory).await {
                Ok(()) => {
                    self.queue().undeleted.remove(&checkpoint);
                    shared.books().discarding.remove(&checkpoint);
                    let failed = self.delete_files(shared, files).await;
                    self.remove_directory(&directory).await;
                    failed
                }
                Err(error) => {
                    self.queue().undeleted.insert(checkpoint);
                    Some((Job::Discard { checkpoint, directory, files }, error))
                }
            },
            Job::Delete(files) => self.delete_files(shared, files).await,
            Job::Hint => {
                shared.write_hint().await;
                None
            }
            Job::CleanSavepoint(checkpoint, directory) => {
                match self.clean_savepoint(shared, checkpoint, &directory).await {
                    Ok(failed) => failed,
                    Err(error) => Some((Job::CleanSavepoint(checkpoint, directory), error)),
                }
            }
            Job::Clean(checkpoints) => match self.clean(shared, &checkpoints).await {
                Ok(failed) => failed,
                Err(error) => Some((Job::Clean(checkpoints), error)),
            },
        };
        if let Some((job, error)) = failed {
            tracing::warn!(error = error.one_line(), "a delete has failed, and is put off");
            let mut queue = self.queue();
            if queue.failed.len() < FAILED_MAX {
                queue.failed.push((job, error.kind(), error.one_line()));
            } else {
                if let Job::Discard { checkpoint, .. } = job {
                    queue.undeleted.remove(&checkpoint);
                }
                drop(queue);
                job.give_up(shared);
            }
        }
        self.progressed.notify_waiters();
    }

    async fn delete_metadata(&self, directory: &Location) -> Result<()> {
        self.delete(&directory.join(names::METADATA)?).await
    }

    /// As [`delete_all`](Self::delete_all); then directories that were claimed go, too, where that has emptied them.
    async fn delete_files(&self, shared: &Shared, files: Vec<Location>) -> Option<(Job, Error)> {
        let claimed = claimed_directories(shared, &files);
        let failed = self.delete_all(shared, files).await;
        for directory in claimed.values() {
            self.remove_directory(directory).await;
        }
        failed
    }

    /// Side by side. What failed, as a job, with the first error.
    pub(super) async fn delete_all(&self, shared: &Shared, files: Vec<Location>) -> Option<(Job, Error)> {
        let deletes = stream::iter(files).map(|file| async move {
            if let Err(fenced) = shared.refuse_if_fenced() {
                return Some((file, fenced));
            }
            // In doubt, do not delete (I3).
            if shared.books().names(file.name()) {
                tracing::error!(file = %file.name(), "a file to be deleted is named: left alone");
                return None;
            }
            if let Some(checkpoint) = self.may_be_named_by(file.name()) {
                let message = format!("{} stays as long as the metadata of checkpoint {checkpoint} does", file.name());
                return Some((file, Error::new(ErrorKind::Store, message)));
            }
            self.delete(&file).await.err().map(|error| (file, error))
        });
        let failed: Vec<(Location, Error)> =
            deletes.buffer_unordered(self.deletes_max).filter_map(std::future::ready).collect().await;
        let (mut left, mut first) = (Vec::new(), None);
        for (file, error) in failed {
            left.push(file);
            first = first.or(Some(error));
        }
        first.map(|error| (Job::Delete(left), error))
    }

    /// A discarded checkpoint whose metadata is there still, and may name the file: it isn't older than that.
    fn may_be_named_by(&self, file: &FlinkPath) -> Option<CheckpointId> {
        let written_for = PhysicalFileName::of(file).map_or(CheckpointId(0), |name| name.checkpoint);
        self.queue().undeleted.range(written_for..).next().copied()
    }

    /// As often as the settings say.
    pub(super) async fn delete(&self, file: &Location) -> Result<()> {
        let mut wait = WAIT_MIN;
        for _ in 0..self.retries {
            match file.delete().await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(error = error.one_line(), "a delete is tried again"),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            metrics::delete_retried();
        }
        file.delete().await.inspect_err(|_| metrics::delete_failed())
    }

    /// On local disks, where an empty directory stays. Only litter if it fails.
    pub(super) async fn remove_directory(&self, directory: &Location) {
        if let Err(error) = directory.remove_empty_dirs().await {
            tracing::debug!(error = error.one_line(), "an empty directory stays");
        }
    }

    /// What this coordinator's workers wrote for checkpoints that came to nothing, however far they got.
    async fn clean(&self, shared: &Shared, checkpoints: &[CheckpointId]) -> Result<Option<(Job, Error)>> {
        let (mut own, mut dead, mut found) = (Vec::new(), BTreeSet::new(), Vec::new());
        for &checkpoint in checkpoints {
            let directory = shared.directory.checkpoint(checkpoint)?;
            let files = directory.list_dir().await?.files;
            // Else somebody has completed it after all, maybe a coordinator of the same epoch: what is shared, too, may
            // be named.
            let metadata = files.iter().find(|file| file.path.file_name() == Some(names::METADATA));
            let is_completed = match metadata {
                Some(metadata) => shared.is_completed(metadata).await?,
                None => false,
            };
            if !is_completed {
                dead.insert(checkpoint);
                own.push(directory);
                found.extend(files);
            }
        }
        if dead.is_empty() {
            return Ok(None);
        }
        let is_dead = |path: &FlinkPath| {
            PhysicalFileName::of(path)
                .is_some_and(|name| name.attempt == shared.epoch && dead.contains(&name.checkpoint))
        };
        found.extend(shared.directory.shared().list_dir().await?.files);
        let files = found.iter().filter(|file| is_dead(&file.path)).map(|file| shared.stores.locate(&file.path));
        let files = files.collect::<Result<Vec<Location>>>()?;
        for directory in own.iter().chain([shared.directory.shared()]) {
            for partial in directory.list_partials().await?.iter().filter(|path| is_dead(path)) {
                directory.delete_partial(partial).await?;
            }
        }
        metrics::orphans_found(files.len() as u64);
        let failed = self.delete_all(shared, files).await;
        for directory in &own {
            self.remove_directory(directory).await;
        }
        Ok(failed)
    }

    /// As [`clean`](Self::clean). What lies in a savepoint's directory is no other's, but only what was written for it goes.
    async fn clean_savepoint(
        &self,
        shared: &Shared,
        checkpoint: CheckpointId,
        directory: &Location,
    ) -> Result<Option<(Job, Error)>> {
        let files = directory.list_dir().await?.files;
        if let Some(metadata) = files.iter().find(|file| file.path.file_name() == Some(names::METADATA))
            && shared.is_completed(metadata).await?
        {
            return Ok(None);
        }
        let is_dead = |path: &FlinkPath| {
            PhysicalFileName::of(path).is_some_and(|name| name.attempt == shared.epoch && name.checkpoint == checkpoint)
        };
        let dead = files.iter().filter(|file| is_dead(&file.path)).map(|file| shared.stores.locate(&file.path));
        let dead = dead.collect::<Result<Vec<Location>>>()?;
        let marker = directory.savepoint_marker()?;
        let marker_name = marker.as_ref().and_then(|marker| marker.name().file_name());
        // What is no worker's is in the making by this coordinator, or says that the savepoint isn't whole.
        let is_common = |path: &FlinkPath| {
            names::final_name(path).is_some_and(|name| name == names::METADATA || Some(name) == marker_name)
        };
        for partial in directory.list_partials().await?.iter().filter(|path| is_dead(path) || is_common(path)) {
            directory.delete_partial(partial).await?;
        }
        metrics::orphans_found(dead.len() as u64);
        let failed = self.delete_all(shared, dead).await;
        // Last: what is left is known by it.
        if let Some(marker) = marker.filter(|_| failed.is_none()) {
            self.delete(&marker).await?;
        }
        self.remove_directory(directory).await;
        Ok(failed)
    }

    async fn wait_until(&self, is_done: impl Fn(&Queue) -> bool) {
        loop {
            // Registered before the look, so that no end falls in between.
            let mut progressed = std::pin::pin!(self.progressed.notified());
            progressed.as_mut().enable();
            if is_done(&self.queue()) {
                return;
            }
            progressed.await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries jobs out. Says that nobody does any more, when its task is cut: the next call starts another.
struct Work {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Work {
    async fn carry_out(mut self) {
        let reaper = &self.shared.reaper;
        while let Some(job) = reaper.next(&self.shared) {
            reaper.carry_out(&self.shared, job).await;
        }
        self.is_done = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.reaper.queue().running = false;
            self.shared.reaper.progressed.notify_waiters();
        }
    }
}

/// The directories of files outside the job's own. Those that a job has as a whole are left.
fn claimed_directories(shared: &Shared, files: &[Location]) -> BTreeMap<FlinkPath, Location> {
    let claimed = files.iter().filter(|file| !shared.directory.holds(file.name()));
    let of_one =
        |directory: &Location| !matches!(directory.name().file_name(), Some(names::SHARED | names::TASK_OWNED) | None);
    claimed.filter_map(Location::parent).filter(of_one).map(|d| (d.name().clone(), d)).collect()
}

fn jobs(shared: &Shared, effect: Effect) -> Vec<Job> {
    let Effect::Clean(checkpoints) = effect else { return job(shared, effect).into_iter().collect() };
    let books = shared.books();
    let (savepoints, checkpoints): (Vec<_>, Vec<_>) =
        checkpoints.into_iter().partition(|id| books.savepoints.contains_key(id));
    let directory = |id: CheckpointId| Some(books.savepoints.get(&id)?.directory.clone());
    let mut jobs: Vec<Job> =
        savepoints.into_iter().filter_map(|id| Some(Job::CleanSavepoint(id, directory(id)?))).collect();
    jobs.extend((!checkpoints.is_empty()).then_some(Job::Clean(checkpoints)));
    jobs
}

fn job(shared: &Shared, effect: Effect) -> Option<Job> {
    let locate = |files: Vec<Arc<str>>| -> Vec<Location> {
        // They were parsed and located before they were named.
        files.iter().filter_map(|file| shared.stores.locate(&FlinkPath::parse(file).ok()?).ok()).collect()
    };
    match effect {
        Effect::Aborted(_) => None,
        Effect::Discard { checkpoint, files } => {
            let claimed = shared.books().elsewhere.remove(&checkpoint);
            let directory = claimed.map_or_else(|| shared.directory.checkpoint(checkpoint), Ok).ok()?;
            Some(Job::Discard { checkpoint, directory, files: locate(files) })
        }
        Effect::Delete(files) => Some(Job::Delete(locate(files))),
        Effect::Clean(checkpoints) => Some(Job::Clean(checkpoints)),
    }
}
