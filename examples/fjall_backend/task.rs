//! One subtask: its database, and the adapter that takes it to checkpoints and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drystone::backend::files::{FileBackend, RestoreOptions, RestoredDirectory, UploadCounts, WrittenFiles, restore};
use drystone::handle::{KeyedHandle, SubtaskState};
use drystone::id::{KeyGroupRange, Subtask};
use drystone::protocol::{Acknowledgement, Trigger};
use drystone::read::TaskRestore;
use drystone::worker::Worker;
use drystone::{Error, ErrorKind, Result};

use crate::database::{Database, failed};
use crate::workload::{Change, KEY_GROUPS, is_in};

/// Where restored bytes came from.
#[derive(Default)]
pub struct Origins {
    /// Linked from earlier runs' snapshots.
    pub linked: u64,
    /// Read from the worker's copies.
    pub copies: u64,
    /// Read from the store.
    pub store: u64,
}

pub struct Task<D> {
    pub range: KeyGroupRange,
    pub database: Arc<D>,
    subtask: Subtask,
    files: FileBackend,
    /// Where its snapshots are linked together.
    snapshots: PathBuf,
}

impl<D: Database> Task<D> {
    /// A task with the state that a checkpoint has for it, below a directory of its own. `local` has what earlier runs left.
    pub async fn start(
        subtask: Subtask,
        directory: &Path,
        from: Option<&TaskRestore>,
        local: Vec<PathBuf>,
    ) -> Result<(Self, Origins)> {
        let range = KeyGroupRange::of_subtask(subtask.index, subtask.parallelism, KEY_GROUPS)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("no subtask {}", subtask.index)))?;
        // To Flink, a UUID.
        let files = FileBackend::new(&format!("00000000-0000-4000-8000-{:012x}", subtask.index), range)?;
        let mut origins = Origins::default();
        let mut directories = Vec::new();
        if let Some(from) = from {
            let options = RestoreOptions { local, sync: false };
            let restored = restore(from, &directory.join("restored"), &options).await?;
            files.resume(from);
            origins.linked = restored.directories.iter().map(|directory| directory.counts.linked_bytes).sum();
            origins.copies = restored.counts.backup_bytes;
            origins.store = restored.counts.read_bytes - restored.counts.backup_bytes;
            directories = restored.directories;
        }
        let snapshots = directory.join("snapshots");
        fs::create_dir_all(&snapshots).map_err(|e| failed(snapshots.display(), e))?;
        let live = directory.join("live");
        let database = tokio::task::spawn_blocking(move || adopt::<D>(range, &live, directories)).await;
        let database = Arc::new(database.map_err(|e| failed("a task of the example", e))??);
        Ok((Self { range, database, subtask, files, snapshots }, origins))
    }

    /// The changes of its own keys.
    pub fn change(&self, changes: &[Change]) -> Result<()> {
        for Change { key, value } in changes.iter().filter(|change| is_in(self.range, &change.key)) {
            match value {
                Some(value) => self.database.put(key, value)?,
                None => self.database.remove(key)?,
            }
        }
        Ok(())
    }

    /// Links the snapshot's files together. Nobody writes meanwhile.
    pub fn link(&self, trigger: &Trigger) -> Result<PathBuf> {
        let into = self.snapshots.join(trigger.checkpoint.to_string());
        self.database.snapshot(&into)?;
        Ok(into)
    }

    /// Takes the files to the checkpoint; the database goes on meanwhile.
    pub async fn upload(
        &self,
        worker: &Worker,
        trigger: &Trigger,
        linked: &Path,
    ) -> Result<(Acknowledgement, UploadCounts)> {
        let snapshot = worker.begin(self.subtask, trigger)?;
        let written: WrittenFiles =
            self.files.write_changed(&snapshot, linked, D::kind, D::NAME.as_bytes().into()).await?;
        let counts = written.counts();
        let durable = snapshot.seal().await?;
        let handle = KeyedHandle::Incremental(self.files.handle(written, &durable)?);
        let state = SubtaskState { managed_keyed: Some(handle), ..SubtaskState::default() };
        let acknowledgement = Acknowledgement {
            epoch: trigger.epoch,
            checkpoint: trigger.checkpoint,
            subtask: self.subtask,
            state: Some(Box::new(state)),
            sealed: durable.sealed().to_vec(),
        };
        Ok((acknowledgement, counts))
    }

    /// The checkpoint is committed: the links of the one before can go. These stay, for the next run.
    pub fn completed(&self, trigger: &Trigger) -> Result<()> {
        self.files.confirmed(trigger.checkpoint);
        for entry in fs::read_dir(&self.snapshots).map_err(|e| failed(self.snapshots.display(), e))? {
            let path = entry.map_err(|e| failed(self.snapshots.display(), e))?.path();
            if !path.ends_with(trigger.checkpoint.to_string()) {
                fs::remove_dir_all(&path).map_err(|e| failed(path.display(), e))?;
            }
        }
        Ok(())
    }
}

/// Makes one database of those that were restored. The first is taken as it is, without what is other tasks'; of the
/// others, what is this task's is copied.
fn adopt<D: Database>(range: KeyGroupRange, live: &Path, restored: Vec<RestoredDirectory>) -> Result<D> {
    if let Some(other) = restored.iter().find(|restored| restored.meta != D::NAME.as_bytes()) {
        let meta = String::from_utf8_lossy(&other.meta);
        return Err(Error::new(ErrorKind::Invalid, format!("state of {meta:?}, which {} can't read", D::NAME)));
    }
    let mut restored = restored.into_iter();
    let Some(first) = restored.next() else { return D::open(live) };
    fs::rename(&first.path, live).map_err(|e| failed(live.display(), e))?;
    let database = D::open(live)?;
    if first.handle.range != first.key_groups {
        let mut foreign = Vec::new();
        database.each(|key, _| {
            if !is_in(range, key) {
                foreign.push(key.to_vec());
            }
            Ok(())
        })?;
        foreign.iter().try_for_each(|key| database.remove(key))?;
    }
    for other in restored {
        let source = D::open(&other.path)?;
        source.each(|key, value| if is_in(range, key) { database.put(key, value) } else { Ok(()) })?;
        drop(source);
        fs::remove_dir_all(&other.path).map_err(|e| failed(other.path.display(), e))?;
    }
    Ok(database)
}
