//! The directory that a run writes to: makes sure that it is free, and leaves it clean.

use bytes::Bytes;

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead};
use crate::read::Checkpoint;
use crate::store::{FlinkPath, Location, Stores, names};

/// Says that a run is under way, or was interrupted: written first, removed last. Holds the run's own number, so that a
/// run notices when another has taken its place.
const MARKER: &str = "_drystone-unfinished";

const TICKET_BYTES_MAX: u64 = 1024;

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
        let marker = directory.join(MARKER)?;
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
        match marker.create(vec![ticket.clone()]).await {
            // The store client may have met its own first try.
            Err(e) if e.kind() == ErrorKind::Conflict => {
                if marker.read_all(TICKET_BYTES_MAX).await? != ticket {
                    return Err(conflict(format!("another run is writing to {}", directory.name())));
                }
            }
            put => put?,
        }
        Ok(Prepared::Ready(Self { directory, made, leftovers_removed, ticket }))
    }

    /// Writes `_metadata`, the commit point.
    ///
    /// 1. The marker must still be this run's: else another run has begun to remove these files.
    /// 2. `_metadata` is put, create-only.
    /// 3. It is read back, also after an error: the put may have succeeded all the same.
    /// 4. The marker goes.
    pub(super) async fn commit(&self, metadata: Bytes) -> Result<()> {
        let marker = self.directory.join(MARKER)?;
        if marker.read_all(TICKET_BYTES_MAX).await? != self.ticket {
            let message = format!("another run has taken over {}", self.directory.name());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let location = self.directory.join(names::METADATA)?;
        let put = location.create(vec![metadata.clone()]).await;
        match location.read_all(metadata.len() as u64).await {
            Ok(there) if there == metadata => {}
            there => {
                put?;
                there?;
                let message = format!("{} isn't what was written to it", location.name());
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        finish(&self.directory).await
    }

    /// Removes everything that this run wrote, and the directories that it made.
    pub(super) async fn discard(&self) -> Result<()> {
        empty(&self.directory).await?;
        for directory in self.made.iter().rev() {
            directory.remove_empty_dirs().await?;
        }
        Ok(())
    }
}

/// Removes the marker of a run that has committed.
pub(super) async fn finish(directory: &Location) -> Result<()> {
    directory.join(MARKER)?.delete().await
}

/// Removes all files but the marker, which goes last: while there is a file of an interrupted run, there is a marker.
async fn empty(directory: &Location) -> Result<()> {
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
        let message = format!("the destination {} lies inside the source {}", destination.real(), guarded.real());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}
