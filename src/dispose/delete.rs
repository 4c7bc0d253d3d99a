//! Deletes what a look has found.

use std::future::Future;
use std::pin::pin;

use futures::stream::{self, StreamExt};

use super::look::Whole;
use super::rule::Owner;
use super::{Found, NamedFile, Why};
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::log;
use crate::store::names;
use crate::sweep::remove_emptied;

/// What became of a checkpoint.
#[derive(Debug, Default)]
pub struct Disposed {
    /// Its metadata is gone: there is no such checkpoint any more.
    pub metadata_gone: bool,
    /// Files that are gone.
    pub files: Vec<NamedFile>,
    /// Files that others name since the look.
    pub spared: Vec<(NamedFile, Why)>,
    /// Those whose delete failed. They may be gone.
    pub failed: Vec<(NamedFile, Error)>,
    /// Why it ended early. What is in none of the lists was not touched.
    pub stopped: Option<Error>,
    /// Directories of a local disk that held nothing else.
    pub directories: u64,
}

impl Disposed {
    /// All gone, or rightly left?
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.stopped.is_none()
    }

    /// Has files deleted side by side, and keeps what came of each. One that fails doesn't keep the others.
    pub(super) async fn note(
        &mut self,
        deletes: impl Iterator<Item = impl Future<Output = (Result<()>, NamedFile)>>,
        requests_max: usize,
        progress: &mut (dyn FnMut() + Send),
    ) {
        let mut deletes = pin!(stream::iter(deletes).buffer_unordered(requests_max));
        while let Some((deleted, there)) = deletes.next().await {
            match deleted {
                Ok(()) => self.files.push(there),
                Err(error) => self.failed.push((there, error)),
            }
            progress();
        }
    }
}

impl Whole {
    /// As [`Disposal::delete`](super::Disposal::delete):
    ///
    /// 1. The metadata of all others is looked at once more: what names a file since then spares it. The checkpoint's own, and
    ///    the log of the job's coordinators, must be what they were.
    /// 2. A copy of the metadata is put beside it, so that what is to go is known until all is gone.
    /// 3. The metadata goes: from here on there is no such checkpoint. What it names must not go before it.
    /// 4. The files go, side by side; one that fails doesn't keep the others.
    /// 5. The copy goes, unless something failed, and with it the directories of a local disk that are empty by then.
    ///
    /// Cancel safe: before the third step the checkpoint is whole, after it there is none, and a further look goes on.
    pub(super) async fn delete(&mut self, disposed: &mut Disposed, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        self.named.refresh(&[]).await?;
        self.refuse_changed().await?;
        let total = self.doomed.len() as u64;
        let (mut doomed, mut done) = (Vec::new(), 0);
        for (file, there) in std::mem::take(&mut self.doomed) {
            let below = there.path.relative_to(self.root.real());
            match below.and_then(|below| self.named.below.get(below)) {
                Some(other) => {
                    done += 1;
                    disposed.spared.push((there, Why::NamedBy(other.clone())));
                }
                None => doomed.push((file, there)),
            }
        }
        let directory = &self.checkpoint.directory;
        let copy = directory.join(names::DISPOSING)?;
        if self.metadata.is_some() {
            if !doomed.is_empty() {
                copy.replace(self.checkpoint.bytes.clone()).await?;
            }
            directory.join(names::METADATA)?.delete().await?;
        }
        disposed.metadata_gone = true;
        let deletes = doomed.into_iter().map(|(file, there)| async move { (file.location.delete().await, there) });
        disposed
            .note(deletes, self.requests_max, &mut || {
                done += 1;
                progress(done, total);
            })
            .await;
        if !disposed.failed.is_empty() {
            return Ok(());
        }
        // Also where there is none from now: an earlier disposal may have left it.
        copy.delete().await?;
        disposed.directories = self.remove_emptied(&disposed.files).await?;
        Ok(())
    }

    /// Somebody has done something to the checkpoint or the job since the look.
    async fn refuse_changed(&self) -> Result<()> {
        let Found { directory, .. } = &self.found;
        let changed =
            |what: &str| Error::new(ErrorKind::Conflict, format!("{directory}: {what} since it was looked at"));
        let now = self.checkpoint.directory.join(names::METADATA)?.list_file().await?;
        if now != self.metadata {
            return Err(changed("its metadata has changed"));
        }
        if self.owner == Owner::Job {
            let last = log::last(&self.root.join(names::FENCE)?).await?;
            if last.map(|(position, _)| position) != self.position {
                return Err(changed("a coordinator of its job has done something"));
            }
        }
        Ok(())
    }

    /// Only litter if it fails on the way; it is said all the same.
    async fn remove_emptied(&self, gone: &[NamedFile]) -> Result<u64> {
        let metadata = self.checkpoint.directory.join(names::METADATA)?;
        let paths = gone.iter().map(|file| &file.path).chain([metadata.real()]);
        let below = paths.filter_map(|path| path.relative_to(self.root.real())).filter(|below| {
            // The directories that tasks own are theirs.
            !below.starts_with(names::TASK_OWNED)
        });
        remove_emptied(&self.root, below).await
    }
}
