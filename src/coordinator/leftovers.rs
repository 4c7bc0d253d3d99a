//! Deletes what earlier attempts, and checkpoints that are over, have left: files that nothing names any more, and that
//! no delete is meant for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Coordinator, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::barred_by;
use crate::id::CheckpointId;
use crate::metrics;
use crate::store::names::{self, PhysicalFileName};
use crate::store::{FlinkPath, Listed, Location};

/// What takes the place of metadata is no longer.
const BARRED_BYTES_MAX: u64 = 1 << 10;

/// What was found and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files, those in the making on a local disk among them.
    pub files: u64,
    /// Bytes of the former.
    pub bytes: u64,
}

impl Coordinator {
    /// Deletes the files that say by their names that they were written for an earlier epoch, or for a checkpoint of this
    /// one that is over, and that no retained or pending checkpoint names. That is what a crash before the first completed
    /// checkpoint leaves, an upload that landed long after its checkpoint was aborted, and a delete that was given up.
    /// On a local disk also metadata, entries of the log and probes in the making, of a coordinator that was cut off. Files
    /// with other names, and what tasks own, are left alone.
    ///
    /// Only when every earlier attempt is known to be dead, its workers too: what they have on its way would be lost. Best
    /// after [`recover`](Self::recover), before the first trigger. Settles the deletes under way first, and lists the
    /// job's directory once.
    ///
    /// # Errors
    /// As for [`settle`](Self::settle). `Conflict`: there is a checkpoint that this coordinator doesn't know, so that
    /// what it names isn't known either; nothing was deleted, and [`recover`](Self::recover) finds it. `Store`: the first
    /// delete that fails; the others are done, and a further call goes on.
    ///
    /// Cancel safe.
    pub async fn remove_leftovers(&self) -> Result<Leftovers> {
        self.settle().await?;
        self.shared.remove_dead().await
    }
}

impl Shared {
    /// As [`remove_leftovers`](Coordinator::remove_leftovers), for a job whose checkpoints are all gone; then its empty
    /// directories, too. Where somebody else has a checkpoint, what that names isn't known, and all stays.
    pub(super) async fn clear(&self) -> Result<()> {
        // Maybe an earlier coordinator was set to write it.
        self.directory.latest()?.delete().await?;
        match (self.remove_dead().await, &self.fence) {
            (Err(error), _) if error.kind() == ErrorKind::Conflict => {
                tracing::warn!(error = error.one_line(), "the job's leftovers stay");
            }
            (Err(error), _) => return Err(error),
            (Ok(_), fence) => {
                if let Some(fence) = fence {
                    fence.bury().await?;
                }
                super::owner::release(&self.directory).await?;
            }
        }
        for directory in self.directory.root().list_dir().await?.directories {
            self.stores.locate(&directory)?.remove_empty_dirs().await?;
        }
        self.directory.root().remove_empty_dirs().await.map(drop)
    }

    async fn remove_dead(&self) -> Result<Leftovers> {
        self.refuse_if_fenced()?;
        let before = self.known();
        let root = self.directory.root();
        let listed = root.list().await?;
        let known: BTreeSet<CheckpointId> = before.union(&self.known()).copied().collect();
        for file in &listed {
            self.refuse_unknown(file, &known).await?;
        }
        // After the listing: what is named or begun meanwhile isn't in it, or is found to be so here.
        let dead = self.dead(listed.into_iter().map(|file| (file.path, file.size)));
        let partials = self.dead(root.list_partials().await?.into_iter().map(|path| (path, 0)));

        let left = Leftovers { files: (dead.len() + partials.len()) as u64, bytes: dead.values().sum() };
        metrics::orphans_found(left.files);
        let files: Result<Vec<Location>> = dead.keys().map(|path| self.stores.locate(path)).collect();
        let failed = self.reaper.delete_all(self, files?).await;
        for partial in partials.keys() {
            root.delete_partial(partial).await?;
        }
        if let Some((_, error)) = failed {
            return Err(error.context("removing leftovers"));
        }
        self.remove_emptied(dead.keys().chain(partials.keys())).await?;
        Ok(left)
    }

    /// Those being discarded among them.
    fn known(&self) -> BTreeSet<CheckpointId> {
        let books = self.books();
        let discarding = books.discarding.iter().copied();
        books.ledger.completed().chain(books.ledger.pending()).chain(discarding).collect()
    }

    async fn refuse_unknown(&self, file: &Listed, known: &BTreeSet<CheckpointId>) -> Result<()> {
        let path = &file.path;
        let is_unknown = |id| path.file_name() == Some(names::METADATA) && !known.contains(&id);
        if !self.directory.checkpoint_of(path).is_some_and(is_unknown) || !self.is_completed(file).await? {
            return Ok(());
        }
        let message = format!("{path}: this coordinator doesn't know the checkpoint: recover the job first");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Is the `_metadata` file that of a checkpoint? Not if it was barred, or is gone meanwhile.
    pub(super) async fn is_completed(&self, metadata: &Listed) -> Result<bool> {
        if metadata.size > BARRED_BYTES_MAX {
            return Ok(true);
        }
        match self.stores.locate(&metadata.path)?.read_all(BARRED_BYTES_MAX).await {
            Ok(bytes) => Ok(barred_by(&bytes).is_none()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Those of these files that nothing names, and nothing will.
    fn dead(&self, files: impl Iterator<Item = (FlinkPath, u64)>) -> BTreeMap<FlinkPath, u64> {
        let books = self.books();
        let is_pending = |checkpoint: CheckpointId| books.ledger.pending().any(|id| id == checkpoint);
        let is_dead = |path: &FlinkPath| {
            let own = self.directory.checkpoint_of(path);
            if let Some(name) = names::final_name(path) {
                // It doesn't say whose it is, but all others are dead.
                if let Some(checkpoint) = own.filter(|_| name == names::METADATA) {
                    return !is_pending(checkpoint);
                }
                if path.parent().as_ref() == Some(self.directory.fence().name()) {
                    return self.fence.as_ref().is_none_or(|fence| fence.is_before(name));
                }
            }
            let is_shared = || path.parent().as_ref() == Some(self.directory.shared().name());
            let in_place = own.is_some() || is_shared();
            let name = PhysicalFileName::of(path).filter(|_| in_place);
            let is_over = name.as_ref().is_some_and(|name| match name.attempt.cmp(&self.epoch) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => {
                    let is_copy = name.worker.as_str() == super::rewrite::WORKER && books.rewrites > 0;
                    !is_copy && !is_pending(name.checkpoint)
                }
                // Of a newer coordinator, which knows better.
                std::cmp::Ordering::Greater => false,
            });
            // What goes with a discarded checkpoint must not go before its metadata; the reaper sees to it.
            let is_going =
                || name.as_ref().is_some_and(|name| books.discarding.range(name.checkpoint..).next().is_some());
            is_over && !is_going() && !books.names(path)
        };
        files.filter(|(path, _)| is_dead(path)).collect()
    }

    /// On local disks: the directories of checkpoints that held nothing else.
    async fn remove_emptied<'a>(&self, removed: impl Iterator<Item = &'a FlinkPath>) -> Result<()> {
        let emptied: BTreeSet<CheckpointId> = removed.filter_map(|path| self.directory.checkpoint_of(path)).collect();
        for &checkpoint in emptied.difference(&self.known()) {
            self.reaper.remove_directory(&self.directory.checkpoint(checkpoint)?).await;
        }
        Ok(())
    }
}
