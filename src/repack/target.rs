//! The directory that a run writes to: makes sure that it is free, and leaves it clean.

use bytes::Bytes;

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead};
use crate::read::Checkpoint;
use crate::store::{FlinkPath, Location, Stores, names};

/// Says that a run is under way, or was interrupted: written first, removed last. Holds the run's own number, so that a
/// run notices when another has taken its place.
pub(super) const MARKER: &str = "_drystone-unfinished";

/// The directory of the new checkpoint, taken by this run.
pub(super) struct Target {
    pub(super) directory: Location,
    /// How much an interrupted run had left, which was removed.
    pub(super) leftovers_removed: usize,
    ticket: Bytes,
    /// The directories that this run may have made, from the outside in.
    made: Vec<Location>,
}

/// Whether there is anything to do.
pub(super) enum Prepared {
    /// The directory is this run's.
    Ready(Target),
    /// An earlier run was interrupted after its commit; there is only its marker to remove.
    Complete(Location),
}

impl Target {
    /// Takes the directory for `checkpoint` below `destination`.
    pub(super) async fn prepare(
        stores: &Stores,
        checkpoint: &Checkpoint,
        destination: &FlinkPath,
        options: &Options,
    ) -> Result<Prepared> {
        // What is written must name real places: no rebase applies to the destination.
        let mut directory = stores.clone().with_rebase(Vec::new()).locate_real(destination)?;
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
        let found = directory.list().await?;
        let has = |name: &str| directory.join(name).is_ok_and(|at| found.iter().any(|f| f.path == *at.name()));
        let conflict = |what: String| Error::new(ErrorKind::Conflict, what);
        match (has(MARKER), has(names::METADATA)) {
            (true, true) => return Ok(Prepared::Complete(directory)),
            (false, true) => {
                return Err(conflict(format!(
                    "{} already holds a checkpoint; choose another destination",
                    directory.name()
                )));
            }
            (false, false) if !found.is_empty() => {
                let message = format!(
                    "{} isn't empty and not of an interrupted run: it holds {} files, {} among them",
                    directory.name(),
                    found.len(),
                    found[0].path
                );
                return Err(conflict(message));
            }
            _ => {}
        }
        let leftovers_removed = found.len().saturating_sub(1);
        empty(&directory).await?;
        let ticket = Bytes::from(format!("{:016x}\n", (options.tokens)()));
        let target = Self { directory, made, leftovers_removed, ticket };
        target.take().await?;
        Ok(Prepared::Ready(target))
    }

    /// Puts the marker, create-only. After an error it is looked for: the put may have succeeded all the same.
    async fn take(&self) -> Result<()> {
        let Err(error) = self.directory.join(MARKER)?.create(vec![self.ticket.clone()]).await else { return Ok(()) };
        match self.is_mine().await {
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

    /// Is the marker there, and this run's?
    async fn is_mine(&self) -> Result<bool> {
        match self.directory.join(MARKER)?.read_all(1024).await {
            Ok(there) => Ok(there == self.ticket),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes `_metadata`, the commit point.
    ///
    /// 1. The marker must still be this run's: else another run has begun to remove these files.
    /// 2. `_metadata` is put, create-only.
    /// 3. It is read back, also after an error: the put may have succeeded all the same.
    ///
    /// What is left to do is [`finish`].
    pub(super) async fn commit(&self, metadata: Bytes) -> Result<()> {
        if !self.is_mine().await? {
            return Err(self.taken_over());
        }
        let location = self.directory.join(names::METADATA)?;
        let put = location.create(vec![metadata.clone()]).await;
        match location.read_all(metadata.len() as u64).await {
            Ok(there) if there == metadata => Ok(()),
            there => {
                put?;
                there?;
                let message = format!("{} isn't what was written to it", location.name());
                Err(Error::new(ErrorKind::Damaged, message))
            }
        }
    }

    /// Removes everything that this run wrote, and the directories that it made.
    ///
    /// Where the marker is no longer this run's, another has removed its files, and what is there now is that one's,
    /// maybe a complete checkpoint: nothing is removed.
    pub(super) async fn discard(&self) -> Result<()> {
        if !self.is_mine().await? {
            return Err(self.taken_over());
        }
        empty(&self.directory).await?;
        self.remove_made().await
    }

    async fn remove_made(&self) -> Result<()> {
        for directory in self.made.iter().rev() {
            directory.remove_empty_dirs().await?;
        }
        Ok(())
    }

    fn taken_over(&self) -> Error {
        Error::new(ErrorKind::Conflict, format!("another run has taken over {}", self.directory.name()))
    }
}

/// Removes the marker of a run that has committed: nothing else may go any more. Tried twice.
pub(super) async fn finish(directory: &Location) -> Result<()> {
    let marker = directory.join(MARKER)?;
    if marker.delete().await.is_ok() {
        return Ok(());
    }
    marker.delete().await.map_err(|e| {
        e.context(format!("{} is complete, but not the mark of its making removed: run again", directory.name()))
    })
}

/// Removes all files. `_metadata` goes first, so that nobody takes what is left for a checkpoint, and the marker last:
/// while there is a file of an interrupted run, there is a marker.
async fn empty(directory: &Location) -> Result<()> {
    directory.join(names::METADATA)?.delete().await?;
    let marker = directory.join(MARKER)?;
    for partial in directory.list_partials().await? {
        directory.delete_partial(&partial).await?;
    }
    for file in directory.list().await? {
        if file.path != *marker.name()
            && let Some(below) = file.path.relative_to(directory.name())
        {
            directory.join(below)?.delete().await?;
        }
    }
    marker.delete().await
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
        let message = format!("the destination {} lies inside the source {}", destination.name(), guarded.name());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}
