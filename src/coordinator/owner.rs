//! A directory that a job has for itself, without one of its own name in between: it is claimed once, before anything else.
//!
//! Two jobs in one directory would take each other's checkpoints for their own, by number and by place.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::jobs::{Inheritance, log, refuse_others, refuse_taken};
use crate::store::{JobDirectory, names};

/// Makes the directory the job's, if it has one without its name; if it is in one that a job has alone, fails.
///
/// # Errors
/// `Conflict`: it, or that above, is another job's, or there is something in it of which nobody knows whose it is. `Damaged`,
/// `Store`.
pub(super) async fn claim(directory: &JobDirectory) -> Result<()> {
    let Some(job) = directory.owner() else { return refuse_taken(directory).await };
    let root = directory.root();
    if refuse_others(root, job).await? {
        return Ok(());
    }
    refuse_foreign(directory, job).await?;
    let file = directory.fence().join(names::OWNER)?;
    match file.create(vec![Bytes::from(format!("{job}\n"))]).await {
        Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
        _ => {}
    }
    // Another may have been faster, and gone since.
    match refuse_others(root, job).await? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Conflict, format!("{}: another job had it, and is gone", root.real()))),
    }
}

/// The job is over, and nothing is left of it.
pub(super) async fn release(directory: &JobDirectory) -> Result<()> {
    match directory.owner() {
        Some(_) => directory.fence().join(names::OWNER)?.delete().await,
        None => Ok(()),
    }
}

/// Savepoints may lie beside a job's checkpoints, and what keeps coordinators apart stays when a job has ended.
async fn refuse_foreign(directory: &JobDirectory, job: JobId) -> Result<()> {
    let root = directory.root();
    let found = root.list_dir().await?;
    let is_harmless = |name: &str| name == names::FENCE || names::is_savepoint_directory(name);
    let others = found.directories.iter().filter(|path| !path.file_name().is_some_and(is_harmless));
    let mut foreign = found.files.iter().map(|file| &file.path).chain(others);
    let left = log::last(directory.fence()).await?;
    let has_ended = left.as_ref().is_none_or(|(_, entry)| Inheritance::of(Some(entry)).has_ended());
    let what = match (foreign.next(), has_ended) {
        (Some(first), _) => format!("{first}"),
        (None, false) => format!("the log of a job's coordinators, {}", directory.fence().real()),
        (None, true) => return Ok(()),
    };
    let message = format!(
        "{} can't be the directory of job {job} alone, as execution.checkpointing.create-subdir=false wants it: nobody says whose \
         {what} is; give the job a directory of its own",
        root.real()
    );
    Err(Error::new(ErrorKind::Conflict, message))
}
