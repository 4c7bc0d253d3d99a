//! Every retained checkpoint of a job.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesRead};
use crate::read::{Checkpoint, State, Totals};
use crate::store::{FlinkPath, Stores, names};

/// A directory of a job's checkpoints, or of savepoints.
#[derive(Debug)]
pub struct JobDirectory {
    /// Where.
    pub directory: FlinkPath,
    /// What is in it: checkpoints by number, then savepoints by name.
    pub checkpoints: Vec<RetainedCheckpoint>,
}

/// One directory that is or was to be a checkpoint.
#[derive(Debug)]
pub struct RetainedCheckpoint {
    /// Where.
    pub directory: FlinkPath,
    /// What it holds, or why that can't be said.
    pub result: Result<CheckpointFigures>,
}

/// A checkpoint in a few figures.
#[derive(Clone, Debug)]
pub struct CheckpointFigures {
    /// Its number.
    pub checkpoint_id: u64,
    /// The metadata's version.
    pub version: u32,
    /// Which kind of snapshot, where the metadata says it.
    pub properties: Option<Properties>,
    /// Streams, files, bytes.
    pub totals: Totals,
    /// Written by Drystone, trailer and all.
    pub has_trailer: bool,
}

/// Lists the checkpoints below `path`. One that can't be read is listed with the reason.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no checkpoint's directory.
pub async fn inspect_job(stores: &Stores, path: &FlinkPath) -> Result<JobDirectory> {
    let directory = stores.locate_real(path)?;
    let (mut found, mut jobs) = (Vec::new(), Vec::new());
    for entry in directory.list_dir().await?.directories {
        let Some(name) = entry.file_name() else { continue };
        if names::parse_job_directory(name).is_some() {
            jobs.push(name.to_string());
        }
        let number = names::parse_checkpoint_directory(name);
        if number.is_some() || names::is_savepoint_directory(name) {
            found.push((number.is_none(), number, directory.real().join(name)?));
        }
    }
    if found.is_empty() {
        let message = format!("no checkpoint at {path}: neither a _metadata nor a chk-N or savepoint directory in it");
        let hint = match jobs.as_slice() {
            [] => String::new(),
            [first, ..] => format!("; but directories of {} jobs, such as {first}: name one", jobs.len()),
        };
        return Err(Error::new(ErrorKind::NotFound, message + &hint));
    }
    found.sort();
    let mut checkpoints = Vec::with_capacity(found.len());
    for (_, _, directory) in found {
        let result = figures(stores, &directory).await;
        checkpoints.push(RetainedCheckpoint { directory, result });
    }
    Ok(JobDirectory { directory: path.clone(), checkpoints })
}

async fn figures(stores: &Stores, directory: &FlinkPath) -> Result<CheckpointFigures> {
    let checkpoint = Checkpoint::load(stores, directory).await?;
    let state = State::of(stores, &checkpoint).await?;
    let metadata = &checkpoint.decoded.metadata;
    Ok(CheckpointFigures {
        checkpoint_id: metadata.checkpoint_id.0,
        version: metadata.version,
        properties: match Properties::read(&metadata.properties) {
            PropertiesRead::Known(properties) => Some(properties),
            _ => None,
        },
        totals: Totals::of(&checkpoint, &state),
        has_trailer: checkpoint.decoded.trailer.is_some(),
    })
}
