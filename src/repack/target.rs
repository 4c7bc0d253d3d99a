//! The directory that a run writes to: makes sure that it is free, commits to it once, and leaves it clean.
//!
//! Runs don't know of one another, nor whether one that left something is dead. So they share nothing but the arbiter:
//! `_metadata`, put create-only. Every other name holds its run's token. Before it has committed, a run deletes only
//! what is its own; once one has, no other can, and what the others wrote is litter.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead};
use crate::id::FileToken;
use crate::read::Checkpoint;
use crate::store::{FlinkPath, Listed, Location, Stores, names};

const MARKER_TEXT: &[u8] = b"A run of drystone is writing to this directory, or was interrupted.\n\
    The same command again completes it and removes what is left.\n";

/// The directory of the new checkpoint.
pub(super) struct Target {
    pub(super) directory: Location,
    /// What the names of this run's files hold.
    pub(super) token: FileToken,
    /// The directories that this run makes, from the outside in.
    made: Vec<Location>,
    /// Is there anything of other runs?
    has_leftovers: bool,
    /// How many files of other runs were removed before anything was written.
    discarded: usize,
}

/// Whether there is anything to do.
pub(super) enum Prepared {
    /// The directory is free, but for what interrupted runs left.
    Ready(Target),
    /// A run has committed, and was interrupted, or is still busy, before it had removed its marker.
    Complete(Target),
}

/// How a commit failed.
pub(super) enum CommitError {
    /// Nothing of this run was committed: what it wrote can go.
    Refused(Error),
    /// It isn't known whether this run has committed: nothing may go.
    Unknown(Error),
}

impl Target {
    /// Finds the directory for `checkpoint` below `destination`, and marks it as being written.
    pub(super) async fn prepare(
        stores: &Stores,
        checkpoint: &Checkpoint,
        destination: &FlinkPath,
        options: &Options,
    ) -> Result<Prepared> {
        let mut directory = stores.locate_real(destination)?;
        refuse_inside(checkpoint, &directory).await?;
        for name in directory_names(checkpoint, options) {
            directory = directory.join(&name)?;
        }
        // A link on the way may lead elsewhere than the destination itself.
        refuse_inside(checkpoint, &directory).await?;
        let found = directory.list().await?;
        let made = missing_directories(&directory).await?;
        let token = FileToken((options.tokens)());
        let mut target = Self { directory, token, made, has_leftovers: !found.is_empty(), discarded: 0 };
        match (target.has_metadata(&found), target.runs(&found).is_empty()) {
            (true, false) => Ok(Prepared::Complete(target)),
            (true, true) => {
                let name = target.directory.name();
                Err(conflict(format!("{name} already holds a checkpoint; choose another destination")))
            }
            (false, true) if !found.is_empty() => {
                let (name, count, first) = (target.directory.name(), found.len(), &found[0].path);
                Err(conflict(format!(
                    "{name} isn't empty and not of an interrupted run: it holds {count} files, {first} among them"
                )))
            }
            (false, _) => {
                if options.discard_leftovers {
                    target.discarded = target.sweep_others(&found).await?;
                    target.has_leftovers = false;
                }
                target.mark().await?;
                Ok(Prepared::Ready(target))
            }
        }
    }

    /// Puts the marker. After an error it is looked for: the put may have succeeded all the same.
    async fn mark(&self) -> Result<()> {
        let marker = self.marker(self.token)?;
        let Err(error) = marker.create(vec![Bytes::from_static(MARKER_TEXT)]).await else { return Ok(()) };
        match marker.exists().await {
            Ok(true) => Ok(()),
            Ok(false) => match self.remove_made().await {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(self.uncleaned(&left))),
            },
            Err(left) => Err(error.context(self.uncleaned(&left))),
        }
    }

    /// Writes `_metadata`, the commit point, create-only.
    ///
    /// After an error it is read back: the put may have succeeded all the same. Its bytes name this run's files, so they
    /// are no other run's.
    pub(super) async fn commit(&self, metadata: Bytes) -> Result<(), CommitError> {
        let location = self.directory.join(names::METADATA).map_err(CommitError::Refused)?;
        let Err(error) = location.create(vec![metadata.clone()]).await else { return Ok(()) };
        match location.read_all(metadata.len() as u64).await {
            Ok(there) if there == metadata => Ok(()),
            Err(there) if !matches!(there.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                Err(CommitError::Unknown(error))
            }
            _ => Err(CommitError::Refused(error)),
        }
    }

    /// After the commit: removes what other runs left, then the markers, this run's last. Returns how many files of
    /// other runs went. `named` is what the checkpoint names.
    pub(super) async fn sweep(&self, named: &BTreeSet<FlinkPath>) -> Result<usize> {
        let context = |e: Error| {
            let name = self.directory.name();
            e.context(format!("{name} is complete, but not all that runs left there could be removed: run again"))
        };
        self.try_sweep(named).await.map_err(context)
    }

    /// Removes the files of other runs, then their markers; how many files.
    async fn sweep_others(&self, found: &[Listed]) -> Result<usize> {
        let runs = self.runs(found);
        let removed = self.remove(found, &runs, None).await?;
        for run in runs {
            self.marker(run)?.delete().await?;
        }
        Ok(removed)
    }

    /// Removes what holds the token of one of `runs`, but no marker; how many files of other runs. `named` is what a
    /// checkpoint that has been committed names: that stays, and what is in the making comes to nothing.
    async fn remove(
        &self,
        found: &[Listed],
        runs: &BTreeSet<FileToken>,
        named: Option<&BTreeSet<FlinkPath>>,
    ) -> Result<usize> {
        let is_theirs = |path: &FlinkPath| runs.iter().any(|run| holds(path, *run));
        for partial in self.directory.list_partials().await? {
            if is_theirs(&partial) || named.is_some() && is_common_partial(&partial) {
                self.directory.delete_partial(&partial).await?;
            }
        }
        let mut removed = 0;
        for file in found.iter().filter(|file| is_theirs(&file.path) && self.run_of_marker(file).is_none()) {
            if named.is_none_or(|named| !named.contains(&file.path)) {
                removed += usize::from(!holds(&file.path, self.token));
                self.delete(&file.path).await?;
            }
        }
        Ok(removed)
    }

    async fn try_sweep(&self, named: &BTreeSet<FlinkPath>) -> Result<usize> {
        let found = match self.directory.list().await {
            // Nothing that this run knows of is left to do.
            Err(_) if !self.has_leftovers => Vec::new(),
            found => found?,
        };
        let runs = self.runs(&found);
        let removed = self.discarded + self.remove(&found, &runs, Some(named)).await?;
        for run in runs.into_iter().filter(|run| *run != self.token).chain([self.token]) {
            let marker = self.marker(run)?;
            if marker.delete().await.is_err() {
                marker.delete().await?;
            }
        }
        Ok(removed)
    }

    /// Has a run committed here, which can't be this one?
    pub(super) async fn is_complete(&self) -> Result<bool> {
        self.directory.join(names::METADATA)?.exists().await
    }

    /// Removes what this run wrote, and the directories that it made.
    pub(super) async fn discard(&self) -> Result<()> {
        let found = self.directory.list().await?;
        self.remove(&found, &BTreeSet::from([self.token]), None).await?;
        self.marker(self.token)?.delete().await?;
        self.remove_made().await
    }

    async fn delete(&self, path: &FlinkPath) -> Result<()> {
        match path.relative_to(self.directory.name()) {
            Some(below) => self.directory.join(below)?.delete().await,
            None => Ok(()),
        }
    }

    async fn remove_made(&self) -> Result<()> {
        for directory in self.made.iter().rev() {
            directory.remove_empty_dirs().await?;
        }
        Ok(())
    }

    fn has_metadata(&self, found: &[Listed]) -> bool {
        found.iter().any(|file| file.path.relative_to(self.directory.name()) == Some(names::METADATA))
    }

    /// The runs whose markers are there.
    fn runs(&self, found: &[Listed]) -> BTreeSet<FileToken> {
        found.iter().filter_map(|file| self.run_of_marker(file)).collect()
    }

    /// A marker lies in the directory itself: one further down is of another checkpoint's directory.
    fn run_of_marker(&self, file: &Listed) -> Option<FileToken> {
        names::parse_unfinished_marker(file.path.relative_to(self.directory.name())?)
    }

    fn marker(&self, run: FileToken) -> Result<Location> {
        self.directory.join(&names::unfinished_marker(run))
    }

    /// Is there anything of other runs, which takes room?
    pub(super) fn has_leftovers(&self) -> bool {
        self.has_leftovers
    }

    /// What to say before an error after which something was left behind.
    pub(super) fn uncleaned(&self, left: &Error) -> String {
        format!("{} could not be cleaned up ({})", self.directory.name(), left.one_line())
    }
}

fn conflict(message: String) -> Error {
    Error::new(ErrorKind::Conflict, message)
}

/// Does a file's name hold a run's token?
fn holds(path: &FlinkPath, run: FileToken) -> bool {
    path.file_name().is_some_and(|name| name.contains(&run.to_string()))
}

/// Of `_metadata` or of a marker: once a run has committed, no other's can come to anything.
fn is_common_partial(partial: &FlinkPath) -> bool {
    let name = partial.file_name().and_then(|name| name.rsplit_once('#')).map(|(name, _)| name);
    name.is_some_and(|name| name == names::METADATA || names::parse_unfinished_marker(name).is_some())
}

/// The directories on the way that aren't there yet, from the outside in. Only a local disk has any.
async fn missing_directories(directory: &Location) -> Result<Vec<Location>> {
    let mut missing = Vec::new();
    let mut above = Some(directory.clone());
    while let Some(here) = above {
        if here.is_local_directory().await? {
            break;
        }
        above = here.parent();
        missing.push(here);
    }
    missing.reverse();
    Ok(missing)
}

/// `<job id>/chk-N`; `chk-N` where no job's id is known; a savepoint keeps its own name, below a job's id that is given.
fn directory_names(checkpoint: &Checkpoint, options: &Options) -> Vec<String> {
    let own = checkpoint.directory.name().file_name().unwrap_or_default();
    let is_savepoint = names::is_savepoint_directory(own) || is_savepoint(&checkpoint.decoded.metadata.properties);
    if is_savepoint && names::parse_checkpoint_directory(own).is_none() && !own.is_empty() {
        return options.job_id.map(|job| job.to_string()).into_iter().chain([own.to_string()]).collect();
    }
    let last = names::checkpoint_directory(checkpoint.decoded.metadata.checkpoint_id);
    match options.job_id.or(checkpoint.job_id()) {
        Some(job) => vec![job.to_string(), last],
        None => vec![last],
    }
}

fn is_savepoint(properties: &[u8]) -> bool {
    matches!(
        Properties::read(properties),
        PropertiesRead::Known(Properties { kind: PropertiesKind::Savepoint(..), .. })
    )
}

/// Writing into the source would change it.
async fn refuse_inside(checkpoint: &Checkpoint, destination: &Location) -> Result<()> {
    let source = &checkpoint.directory;
    let guarded = match checkpoint.job_id() {
        Some(_) => source.parent().unwrap_or_else(|| source.clone()),
        None => source.clone(),
    };
    let (inside, outside) = (destination.canonical().await?, guarded.canonical().await?);
    if inside.is_within(&outside) {
        let message = format!("the destination {} lies inside the source {}", destination.real(), guarded.real());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}
