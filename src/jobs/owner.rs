//! Whose a directory is in which one job has its checkpoints without a directory of its own in between: a small file says it.

use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::store::{JobDirectory, Location, names};

/// An id and the end of the line.
const OWNER_BYTES_MAX: u64 = 64;

/// The job that has the directory `root` for itself; none where no file says so.
///
/// # Errors
/// `Damaged`: the file names no job. `Store`.
pub(super) async fn owner(root: &Location) -> Result<Option<JobId>> {
    let file = root.join(names::FENCE)?.join(names::OWNER)?;
    let bytes = match file.read_all(OWNER_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let job = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
    let message = || format!("{}: not the id of a job", file.real());
    job.map(Some).ok_or_else(|| Error::new(ErrorKind::Damaged, message()))
}

/// Fails if the directory is another job's. True if it is the job's own, false if nobody says whose it is.
///
/// # Errors
/// `Conflict`: it is another's. As for [`owner`].
pub(crate) async fn refuse_others(root: &Location, job: JobId) -> Result<bool> {
    match owner(root).await? {
        Some(other) if other != job => {
            let file = format!("{}/{}/{}", root.real(), names::FENCE, names::OWNER);
            let message = format!(
                "{} is the directory of job {other}, and with execution.checkpointing.create-subdir=false of that one alone: job \
                 {job} needs another; or, if job {other} is over and this one is to go on with what it left, write \
                 {job} to {file}",
                root.real()
            );
            Err(Error::new(ErrorKind::Conflict, message))
        }
        own => Ok(own.is_some()),
    }
}

/// Fails if others have what is to be a job's directory: it, where the job is to have it alone, or else that above it.
///
/// # Errors
/// `Conflict`: it is another's, or that above is one job's alone. As for [`owner`].
pub(crate) async fn refuse_taken(directory: &JobDirectory) -> Result<()> {
    let root = directory.root();
    if let Some(job) = directory.owner() {
        return refuse_others(root, job).await.map(drop);
    }
    let is_named = root.real().file_name().is_some_and(|name| names::parse_job_directory(name).is_some());
    let Some(above) = root.parent().filter(|_| is_named) else { return Ok(()) };
    let Some(owner) = owner(&above).await? else { return Ok(()) };
    // The job itself, too: it would begin from nothing, beside what it has.
    let message = format!(
        "{} can't be a job's directory: that above is the directory of job {owner}, which was run with \
         execution.checkpointing.create-subdir=false and has it alone: set that again to go on with its checkpoints, or give another \
         directory; or, if job {owner} is over, remove {}/{}/{}",
        root.real(),
        above.real(),
        names::FENCE,
        names::OWNER
    );
    Err(Error::new(ErrorKind::Conflict, message))
}
