//! The directory that a run writes to: makes sure that it is free, and leaves it clean.
//!
//! A run takes the directory by a numbered marker, put create-only. The highest number owns it: only its run deletes, and
//! only its commit counts. So a later run can clear away what an interrupted one left without knowing whether that one is
//! dead, and a run that was overtaken finds out before it reports success.

use bytes::Bytes;

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead};
use crate::read::Checkpoint;
use crate::store::{FlinkPath, Listed, Location, Stores, names};

const TICKET_BYTES_MAX: u64 = 1024;

/// The directory of the new checkpoint, taken by this run.
pub(super) struct Target {
    pub(super) directory: Location,
    /// How much an interrupted run had left, which was removed.
    pub(super) leftovers_removed: usize,
    number: u64,
    /// Numbers of earlier runs whose markers are still there.
    earlier: Vec<u64>,
    /// What the marker holds: tells this run's from another's with the same number.
    ticket: Bytes,
    /// The directories that this run may have made, from the outside in.
    made: Vec<Location>,
}

/// Whether there is anything to do.
pub(super) enum Prepared {
    /// The directory is this run's.
    Ready(Target),
    /// An earlier run has committed, and was interrupted before it had removed its marker.
    Complete(Target),
}

/// How a commit failed.
pub(super) enum CommitError {
    /// Nothing was committed: what was written can go.
    Refused(Error),
    /// It isn't known whether this commit counts: nothing may go.
    Unknown(Error),
}

impl Target {
    /// Takes the directory for `checkpoint` below `destination`.
    ///
    /// 1. What is there must be of interrupted runs, or nothing.
    /// 2. The marker is put, with the next number.
    /// 3. Only then is looked for a `_metadata` again: one that appears later is of a run that has been overtaken, which
    ///    sees this marker after its put and reports no success.
    /// 4. What earlier runs left goes.
    pub(super) async fn prepare(
        stores: &Stores,
        checkpoint: &Checkpoint,
        destination: &FlinkPath,
        options: &Options,
    ) -> Result<Prepared> {
        let mut directory = stores.locate_real(destination)?;
        refuse_inside(checkpoint, &directory).await?;
        let mut made = Vec::new();
        if !directory.is_local_directory().await? {
            made.push(directory.clone());
        }
        for name in directory_names(checkpoint, options) {
            directory = directory.join(&name)?;
            made.push(directory.clone());
        }
        // A link on the way may lead elsewhere than the destination itself.
        refuse_inside(checkpoint, &directory).await?;
        let number = 1 + check_free(&directory, &directory.list().await?)?;
        let ticket = Bytes::from(format!("{:016x}\n", (options.tokens)()));
        let mut target = Self { directory, made, leftovers_removed: 0, number, earlier: Vec::new(), ticket };
        target.take().await?;
        match target.clear_leftovers().await {
            Ok(true) => Ok(Prepared::Complete(target)),
            Ok(false) => Ok(Prepared::Ready(target)),
            Err(error) => Err(target.step_back(error).await),
        }
    }

    /// Removes what earlier runs left, unless one has committed.
    async fn clear_leftovers(&mut self) -> Result<bool> {
        let found = self.directory.list().await?;
        if self.has(&found, names::METADATA) {
            self.earlier = found.iter().filter_map(marker_number).filter(|&number| number < self.number).collect();
            return Ok(true);
        }
        self.leftovers_removed = found.iter().filter(|file| marker_number(file).is_none()).count();
        self.clear().await?;
        Ok(false)
    }

    /// Gives the directory back as it was. Where there was something of earlier runs, the marker stays, since theirs may
    /// be gone already: without one the next run would take the rest for somebody else's.
    async fn step_back(&self, error: Error) -> Error {
        if self.number > 1 {
            return error;
        }
        let left = async {
            self.leave().await?;
            self.remove_made().await
        };
        match left.await {
            Ok(()) => error,
            Err(left) => error.context(self.uncleaned(&left)),
        }
    }

    /// What to say before an error after which something was left behind.
    pub(super) fn uncleaned(&self, left: &Error) -> String {
        format!("{} could not be cleaned up ({})", self.directory.name(), left.one_line())
    }

    /// Puts the marker, create-only. After an error it is looked for: the put may have succeeded all the same.
    async fn take(&self) -> Result<()> {
        let Err(error) = self.marker(self.number)?.create(vec![self.ticket.clone()]).await else { return Ok(()) };
        match self.is_marked().await {
            Ok(true) => Ok(()),
            Ok(false) if error.kind() == ErrorKind::Conflict => {
                let message = format!("another run is writing to {}", self.directory.name());
                Err(Error::new(ErrorKind::Conflict, message))
            }
            Ok(false) => {
                self.remove_made().await?;
                Err(error)
            }
            Err(_) => Err(error),
        }
    }

    /// Is the directory still this run's?
    ///
    /// The next number is looked for first: a run that overtakes this one puts its marker, then removes this one's, and
    /// only at its end its own. The other way round its whole life could fall in between.
    async fn is_mine(&self) -> Result<bool> {
        Ok(!self.marker(self.number + 1)?.exists().await? && self.is_marked().await?)
    }

    async fn is_marked(&self) -> Result<bool> {
        match self.marker(self.number)?.read_all(TICKET_BYTES_MAX).await {
            Ok(there) => Ok(there == self.ticket),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes `_metadata`, the commit point.
    ///
    /// 1. The directory must still be this run's: else another has begun to remove these files.
    /// 2. `_metadata` is put, create-only; after an error it is read back: the put may have succeeded all the same.
    /// 3. The directory must still be this run's: a run that took it before the put hasn't seen this `_metadata`.
    ///
    /// What is left to do is [`finish`](Self::finish).
    pub(super) async fn commit(&self, metadata: Bytes) -> Result<(), CommitError> {
        if !self.is_mine().await.map_err(CommitError::Refused)? {
            return Err(CommitError::Refused(self.taken_over()));
        }
        let location = self.directory.join(names::METADATA).map_err(CommitError::Refused)?;
        let mut put = self.put(&location, &metadata).await;
        if matches!(&put, Err(CommitError::Refused(error)) if error.kind() == ErrorKind::Conflict)
            && self.is_mine().await.map_err(CommitError::Unknown)?
        {
            // Put by a run that this one has overtaken.
            location.delete().await.map_err(CommitError::Unknown)?;
            put = self.put(&location, &metadata).await;
        }
        put?;
        if self.is_mine().await.map_err(CommitError::Unknown)? {
            return Ok(());
        }
        if !self.exists(self.number + 1).await.map_err(CommitError::Unknown)? {
            // The run that had overtaken this one has removed all files, and gone.
            location.delete().await.map_err(CommitError::Unknown)?;
        }
        Err(CommitError::Unknown(self.taken_over()))
    }

    async fn put(&self, location: &Location, metadata: &Bytes) -> Result<(), CommitError> {
        let Err(error) = location.create(vec![metadata.clone()]).await else { return Ok(()) };
        match location.read_all(metadata.len() as u64).await {
            Ok(there) if there == *metadata => Ok(()),
            Ok(_) => Err(CommitError::Refused(error)),
            Err(there) if matches!(there.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                Err(CommitError::Refused(error))
            }
            Err(_) => Err(CommitError::Unknown(error)),
        }
    }

    /// Removes the markers of a committed checkpoint, this run's last. A failed delete is tried again, once.
    pub(super) async fn finish(&self) -> Result<()> {
        let incomplete = |e: Error| {
            let name = self.directory.name();
            e.context(format!("{name} is complete, but not the mark of its making removed: run again"))
        };
        for &number in self.earlier.iter().chain([&self.number]) {
            let marker = self.marker(number)?;
            if marker.delete().await.is_err() {
                marker.delete().await.map_err(incomplete)?;
            }
        }
        Ok(())
    }

    /// Gives the directory back, where it turns out that there is nothing to do.
    pub(super) async fn leave(&self) -> Result<()> {
        self.marker(self.number)?.delete().await
    }

    /// Removes everything that this run wrote, and the directories that it made.
    ///
    /// Where the directory is no longer this run's, what is there is another's, maybe a complete checkpoint: only
    /// `own_files` go, whose names nobody else has.
    pub(super) async fn discard(&self, own_files: &[FlinkPath]) -> Result<()> {
        if !self.is_mine().await? {
            for file in own_files {
                if let Some(below) = file.relative_to(self.directory.name()) {
                    self.directory.join(below)?.delete().await?;
                }
            }
            return Ok(());
        }
        self.clear().await?;
        self.marker(self.number)?.delete().await?;
        self.remove_made().await
    }

    /// Removes all files but this run's marker. `_metadata` goes first, so that nobody takes what is left for a
    /// checkpoint.
    async fn clear(&self) -> Result<()> {
        self.directory.join(names::METADATA)?.delete().await?;
        for partial in self.directory.list_partials().await? {
            self.directory.delete_partial(&partial).await?;
        }
        for file in self.directory.list().await? {
            if marker_number(&file) != Some(self.number)
                && let Some(below) = file.path.relative_to(self.directory.name())
            {
                self.directory.join(below)?.delete().await?;
            }
        }
        Ok(())
    }

    async fn remove_made(&self) -> Result<()> {
        for directory in self.made.iter().rev() {
            directory.remove_empty_dirs().await?;
        }
        Ok(())
    }

    fn has(&self, found: &[Listed], name: &str) -> bool {
        self.directory.join(name).is_ok_and(|at| found.iter().any(|file| file.path == *at.name()))
    }

    fn marker(&self, number: u64) -> Result<Location> {
        self.directory.join(&names::unfinished_marker(number))
    }

    async fn exists(&self, number: u64) -> Result<bool> {
        self.marker(number)?.exists().await
    }

    fn taken_over(&self) -> Error {
        Error::new(ErrorKind::Conflict, format!("another run has taken over {}", self.directory.name()))
    }
}

fn marker_number(file: &Listed) -> Option<u64> {
    names::parse_unfinished_marker(file.path.file_name()?)
}

/// The highest number of a run that has left its marker; 0 where there is nothing at all.
fn check_free(directory: &Location, found: &[Listed]) -> Result<u64> {
    let highest = found.iter().filter_map(marker_number).max();
    let is_metadata = |file: &&Listed| directory.join(names::METADATA).is_ok_and(|at| file.path == *at.name());
    let message = match (highest, found.first()) {
        (Some(number), _) => return Ok(number),
        (None, None) => return Ok(0),
        (None, Some(_)) if found.iter().any(|file| is_metadata(&file)) => {
            format!("{} already holds a checkpoint; choose another destination", directory.name())
        }
        (None, Some(first)) => format!(
            "{} isn't empty and not of an interrupted run: it holds {} files, {} among them",
            directory.name(),
            found.len(),
            first.path
        ),
    };
    Err(Error::new(ErrorKind::Conflict, message))
}

/// `<job id>/chk-N`; `chk-N` where no job's id is known; a savepoint keeps its own name.
fn directory_names(checkpoint: &Checkpoint, options: &Options) -> Vec<String> {
    let own = checkpoint.directory.name().file_name().unwrap_or_default();
    let is_savepoint = names::is_savepoint_directory(own) || is_savepoint(&checkpoint.decoded.metadata.properties);
    if is_savepoint && names::parse_checkpoint_directory(own).is_none() && !own.is_empty() {
        return vec![own.to_string()];
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
