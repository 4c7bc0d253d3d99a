//! Keeps a worker's copies: begins them, names them, and deletes what nothing names any more.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::copying::Copying;
use super::places::{Place, in_turn, remove};
use super::shelf::{Doomed, Mark, Shelf};
use super::{LocalDirectories, layout};
use crate::id::{CheckpointId, FileToken};
use crate::store::FlinkPath;
use crate::store::names::WorkerName;
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};
use crate::sync::{Mutex, MutexGuard};

/// Copies that are written to one directory at once. A disk that hangs keeps as many threads, and no more.
const WRITES_MAX: usize = 2;

/// The copies of one worker's files on local disks. Cheap to clone; all clones are the same copies.
///
/// Nothing here fails, and nothing waits for it: a file that can't be copied isn't.
#[derive(Clone)]
pub struct Backup {
    pub(super) inner: Arc<Inner>,
}

/// How much may be kept, and how far copies may lag behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupLimits {
    /// Bytes of all copies in all directories, checksums and copies in the making included.
    pub bytes_max: u64,
    /// Bytes in memory that are in the store, or on their way, and whose copy is yet to be written. A copy that would
    /// exceed it is given up.
    pub lag_bytes_max: u64,
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupUsage {
    /// Whole copies.
    pub files: u64,
    /// Bytes on the disks.
    pub bytes: u64,
    /// Bytes in memory for copies that lag behind.
    pub lag_bytes: u64,
}

pub(super) struct Inner {
    pub(super) local: LocalDirectories,
    pub(super) limits: BackupLimits,
    worker: WorkerName,
    pub(super) lag_bytes: AtomicU64,
    /// For each directory.
    pub(super) permits: Vec<Arc<Semaphore>>,
    /// The lock is held while disks are asked, and so is only ever taken by threads that may block; that of the shelf is
    /// taken while it is held.
    places: Mutex<Vec<Place>>,
    /// Never held while a disk is asked, nor while another lock is taken.
    shelf: Mutex<Shelf>,
    /// As the shelf's.
    tasks: Mutex<Tasks>,
    /// Told when a task has ended.
    ended: Notify,
    /// What has been said: each kind of error is said once. As the shelf's.
    said: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct Tasks {
    under_way: usize,
    is_sweeping: bool,
    /// Something has come since the sweep under way began, if one is.
    has_more: bool,
}

/// What sweeps. Where its task is cut the next call begins another.
struct Sweeping {
    task: Task,
    is_done: bool,
}

/// A task under way, until it is dropped.
pub(super) struct Task(Arc<Inner>);

impl Backup {
    /// Copies of what `worker` writes for the job whose checkpoints lie in `job`. Asks nothing of the disks yet.
    pub fn new(local: LocalDirectories, job: &FlinkPath, worker: &str, limits: BackupLimits) -> Self {
        let places = local.directories.iter().map(|directory| Place::new(layout::job_directory(directory, job)));
        let inner = Inner {
            places: Mutex::new(places.collect()),
            permits: local.directories.iter().map(|_| Arc::new(Semaphore::new(WRITES_MAX))).collect(),
            local,
            limits,
            worker: WorkerName::sanitise(worker),
            lag_bytes: AtomicU64::new(0),
            shelf: Mutex::new(Shelf::new(limits.bytes_max)),
            tasks: Mutex::default(),
            ended: Notify::new(),
            said: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins the copy of a file; none if it isn't one of ours, nobody wants it any more, or there is no directory.
    pub(crate) fn copy(&self, file: &FlinkPath) -> Option<Copying> {
        let (_, name) = layout::job_of(file)?;
        let first = in_turn(name.token, self.inner.permits.len()).next()?;
        let is_wanted = self.inner.shelf().begin(name.clone());
        is_wanted.then(|| Copying::new(self.clone(), name, first))
    }

    /// A checkpoint names a file, of which there may be a copy: it is kept as long as the checkpoint may be the latest.
    pub(crate) fn name(&self, file: FileToken, epoch: u64, checkpoint: CheckpointId) {
        self.inner.shelf().name(file, (epoch, checkpoint));
    }

    /// The checkpoint is committed: copies that neither it nor a newer one names go.
    pub(crate) fn complete(&self, epoch: u64, checkpoint: CheckpointId) {
        self.prune((epoch, checkpoint));
    }

    /// The checkpoint was committed, and so was a newer one: copies that no newer one names go.
    pub(crate) fn subsume(&self, epoch: u64, checkpoint: CheckpointId) {
        if let Some(next) = checkpoint.0.checked_add(1) {
            self.prune((epoch, CheckpointId(next)));
        }
    }

    /// The checkpoint won't be committed: copies of what was written for it go.
    pub(crate) fn abort(&self, epoch: u64, checkpoint: CheckpointId) {
        self.inner.shelf().abort((epoch, checkpoint));
        self.sweep();
    }

    fn prune(&self, mark: Mark) {
        self.inner.shelf().complete(mark);
        self.sweep();
    }

    /// Deletes all copies: the job is over. Doesn't wait; [`settled`](Self::settled) does.
    pub fn discard(&self) {
        self.inner.shelf().discard();
        self.sweep();
    }

    /// Waits until no copy is being written and nothing is being deleted.
    ///
    /// Cancel safe. A disk that hangs keeps it waiting.
    pub async fn settled(&self) {
        loop {
            // Registered before the look, so that no end falls in between.
            let mut ended = pin!(self.inner.ended.notified());
            ended.as_mut().enable();
            if self.inner.tasks().under_way == 0 {
                return;
            }
            ended.await;
        }
    }

    /// What there is at this moment.
    pub fn usage(&self) -> BackupUsage {
        let (files, bytes) = self.inner.shelf().held();
        BackupUsage { files, bytes, lag_bytes: self.inner.lag_bytes.load(SeqCst) }
    }

    /// Deletes what is doomed, in a task of its own. Without a runtime it is left to the next time.
    fn sweep(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        {
            let mut tasks = self.inner.tasks();
            tasks.has_more = true;
            if std::mem::replace(&mut tasks.is_sweeping, true) {
                return;
            }
        }
        let sweeping = Sweeping { task: Task::begin(&self.inner), is_done: false };
        match self.inner.local.disk().blocks() {
            true => drop(runtime.spawn_blocking(move || sweeping.run())),
            false => drop(runtime.spawn(async move { sweeping.run() })),
        }
    }
}

impl Inner {
    /// Is there a sweep to make? Else none is under way from now on.
    fn begins_sweep(&self) -> bool {
        let mut tasks = self.tasks();
        tasks.is_sweeping = std::mem::take(&mut tasks.has_more);
        tasks.is_sweeping
    }

    /// Blocks.
    fn sweep(&self) {
        self.places().iter_mut().for_each(Place::try_again);
        self.open();
        let doomed = self.shelf().doomed();
        self.delete(&doomed);
    }

    /// Opens the directories that aren't yet, and takes over what is there. Blocks.
    pub(super) fn open(&self) {
        let mut places = self.places();
        if !places.iter().any(Place::is_new) {
            return;
        }
        for (number, place) in places.iter_mut().enumerate().filter(|(_, place)| place.is_new()) {
            match place.open(&*self.local.disk, &self.worker, &|token| self.shelf().has(token)) {
                Ok(Some(found)) => {
                    let mut shelf = self.shelf();
                    found.copies.into_iter().for_each(|(name, bytes)| shelf.find(name, number, bytes));
                }
                Ok(None) => {
                    let what = format_args!("{} has worker {}'s copies", place.path.display(), self.worker);
                    self.say(what, &io::Error::other("another process writes them"));
                }
                Err(error) => self.say(format_args!("opening {}", place.path.display()), &error),
            }
        }
        if places.iter().all(Place::is_open) {
            self.shelf().found_all();
        }
        drop(places);
        let excess = self.shelf().trim();
        self.delete(&excess);
    }

    /// The directory for a file: its own, or where that can't be written to the next. Blocks.
    pub(super) fn directory_for(&self, token: FileToken) -> Option<(usize, std::path::PathBuf)> {
        let places = self.places();
        let number = in_turn(token, places.len()).find(|&number| places[number].is_writable())?;
        Some((number, places[number].path.clone()))
    }

    /// A write has failed. Blocks.
    pub(super) fn stop(&self, directory: usize) {
        if let Some(place) = self.places().get_mut(directory) {
            place.stop();
        }
    }

    /// Deletes copies; what can't be deleted is tried again with the next sweep. Blocks.
    pub(super) fn delete(&self, doomed: &[Doomed]) {
        for Doomed { name, directory } in doomed {
            let Some(path) = self.places().get(*directory).map(|place| place.path.clone()) else { continue };
            match remove(&*self.local.disk, &path, name) {
                Ok(()) => {
                    self.shelf().removed(name.token);
                    self.places().iter_mut().skip(*directory).take(1).for_each(Place::try_again);
                }
                Err(error) => self.say(format_args!("deleting a copy in {}", path.display()), &error),
            }
        }
    }

    /// Says what went wrong, the first time that it does.
    pub(super) fn say(&self, what: fmt::Arguments<'_>, error: &io::Error) {
        let text = format!("{what}: {:?}", error.kind());
        if self.said().insert(text) {
            tracing::warn!(%error, "local backup: {what}; the store has it all the same");
        }
    }

    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    pub(super) fn begin(inner: &Arc<Inner>) -> Self {
        inner.tasks().under_way += 1;
        Self(inner.clone())
    }
}

impl Sweeping {
    /// Blocks.
    fn run(mut self) {
        while self.task.0.begins_sweep() {
            self.task.0.sweep();
        }
        self.is_done = true;
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        if !self.is_done {
            self.task.0.tasks().is_sweeping = false;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks().under_way -= 1;
        self.0.ended.notify_waiters();
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("worker", &self.inner.worker).finish_non_exhaustive()
    }
}
