//! What repacking and copying have in common: check, write, read back, commit, or leave nothing.

use std::collections::BTreeMap;

use super::target::{CommitError, Prepared, Target};
use super::{Options, Phase, Progress, Report, Source, copy, pack};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, NamedFile, Trailer};
use crate::handle::{CheckpointMetadata, JavaString};
use crate::read::{Checkpoint, Content, State, Totals};
use crate::store::{FlinkPath, Stores};
use crate::verify::{Audit, Which, refuse, verify};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Pack,
    Copy,
}

/// What was written: metadata that names the new files, not yet committed.
pub(super) struct Draft {
    pub(super) metadata: CheckpointMetadata,
    /// Each new file with its length in bytes.
    pub(super) files: BTreeMap<FlinkPath, u64>,
    /// CRC-32C of each stream as it was read from the source, in the order of the metadata, placeholders left out.
    pub(super) crcs: Vec<u32>,
}

pub(super) async fn run(
    stores: &Stores,
    source: &FlinkPath,
    destination: &FlinkPath,
    options: &Options,
    progress: &Progress<'_>,
    how: How,
) -> Result<Report> {
    let checkpoint = Checkpoint::load(stores, source).await?;
    let state = check_source(stores, &checkpoint, options, how).await?;
    let before = Totals::of(&checkpoint, &state);
    // What is written names real places: no rebase applies to the destination.
    let plain = stores.clone().with_rebase(Vec::new());
    let target = match Target::prepare(&plain, &checkpoint, destination, options).await? {
        Prepared::Ready(target) => target,
        Prepared::Complete(target) => {
            let directory = target.directory.name().clone();
            let after = match check_complete(&plain, &directory, options, progress).await {
                Ok(after) => after,
                Err(error) => {
                    target.leave().await?;
                    return Err(error);
                }
            };
            target.finish().await?;
            return Ok(Report { destination: directory, leftovers_removed: 0, already_complete: true, before, after });
        }
    };
    let source = Source { checkpoint: &checkpoint, state: &state };
    let after = write(&plain, &source, &target, options, progress, how).await?;
    target.finish().await?;
    Ok(Report {
        destination: target.directory.name().clone(),
        leftovers_removed: target.leftovers_removed,
        already_complete: false,
        before,
        after,
    })
}

/// Refuses a source that isn't sound, as far as that can be told without reading all of it: the rest shows on reading.
async fn check_source(stores: &Stores, checkpoint: &Checkpoint, options: &Options, how: How) -> Result<State> {
    let name = checkpoint.directory.join(crate::store::names::METADATA)?;
    let mut audit = Audit::new(checkpoint.directory.real(), name.real());
    audit.metadata(&checkpoint.bytes);
    if !audit.is_sound() {
        refuse(audit)?;
        return Err(Error::new(ErrorKind::Damaged, format!("{} is damaged", name.real())));
    }
    let state = State::of(stores, checkpoint).await?;
    audit.state(checkpoint, &state);
    // Packing reads streams, copying reads files: of the latter it would miss that one is longer than its handle says.
    let which = if how == How::Pack { Which::NotShownByReading } else { Which::All };
    audit.files(&state, &options.read, which).await?;
    audit.trailer_sizes(checkpoint, &state);
    refuse(audit)?;
    Ok(state)
}

async fn check_complete(
    stores: &Stores,
    directory: &FlinkPath,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Totals> {
    let checking = |done, total| progress(Phase::Checking, done, total);
    let found = verify(stores, directory, &options.read, &checking).await?;
    if let Some(finding) = found.findings.first() {
        return Err(Error::new(ErrorKind::Damaged, finding.to_string()));
    }
    let checkpoint = Checkpoint::load(stores, directory).await?;
    Ok(Totals::of(&checkpoint, &State::of(stores, &checkpoint).await?))
}

/// Writes the files, then reads them back, then commits. On an error everything written is removed, unless it isn't known
/// whether the commit counts.
async fn write(
    stores: &Stores,
    source: &Source<'_>,
    target: &Target,
    options: &Options,
    progress: &Progress<'_>,
    how: How,
) -> Result<Totals> {
    let draft = match how {
        How::Pack => pack::pack(source, target, options, progress).await,
        How::Copy => copy::copy(source, target, options, progress).await,
    };
    let mut draft = match draft {
        Ok(draft) => draft,
        Err(error) => return Err(discard(target, &[], error).await),
    };
    // The names of packed files are this run's alone; those of copies any run to the same place would give.
    let own_files: Vec<_> = if how == How::Pack { draft.files.keys().cloned().collect() } else { Vec::new() };
    // Version 2 can only be read.
    draft.metadata.version = draft.metadata.version.max(3);
    let checked = async {
        let result = assemble(target, &draft)?;
        let state = read_back(stores, source, &result, &draft, options, progress).await?;
        Ok((result, state))
    };
    let (result, state) = match checked.await {
        Ok(checked) => checked,
        Err(error) => return Err(discard(target, &own_files, error).await),
    };
    match target.commit(result.bytes.clone()).await {
        Ok(()) => Ok(Totals::of(&result, &state)),
        Err(CommitError::Refused(error)) => Err(discard(target, &own_files, error).await),
        Err(CommitError::Unknown(error)) => {
            let name = target.directory.name();
            Err(error
                .context(format!("it isn't known whether {name} was completed, so nothing was removed: run again")))
        }
    }
}

async fn discard(target: &Target, own_files: &[FlinkPath], error: Error) -> Error {
    match target.discard(own_files).await {
        Ok(()) => error,
        Err(left) => error.context(target.uncleaned(&left)),
    }
}

/// The new checkpoint, as it will be once `_metadata` is there.
fn assemble(target: &Target, draft: &Draft) -> Result<Checkpoint> {
    let encoded = format::encode(&draft.metadata).map_err(|e| e.in_file("the new _metadata"))?;
    let mut files = Vec::with_capacity(draft.files.len());
    for (path, &size) in &draft.files {
        let path = JavaString::new(&path.to_string())
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("path {path}: {e}")))?;
        files.push(NamedFile { path, size });
    }
    let writer = concat!("drystone ", env!("CARGO_PKG_VERSION"));
    let writer = JavaString::new(writer).map_err(|e| Error::new(ErrorKind::Invalid, format!("{writer}: {e}")))?;
    let bytes = Trailer::seal(&encoded, files, 0, writer);
    let decoded = format::decode(bytes.clone()).map_err(|e| e.in_file("the new _metadata"))?;
    Ok(Checkpoint { directory: target.directory.clone(), bytes, decoded })
}

/// Reads every byte of the result and compares it, stream by stream, with what was read from the source.
async fn read_back(
    stores: &Stores,
    source: &Source<'_>,
    result: &Checkpoint,
    draft: &Draft,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<State> {
    let state = State::of(stores, result).await?;
    let mut audit = Audit::new(result.directory.name(), result.directory.name());
    audit.metadata(&result.bytes);
    audit.state(result, &state);
    audit.files(&state, &options.read, Which::All).await?;
    audit.trailer_sizes(result, &state);
    let checking = |done, total| progress(Phase::Checking, done, total);
    let sums = audit.data(&state, &options.read, &checking).await?;
    refuse(audit).map_err(|e| e.context("what was written can't be read back"))?;
    let with_state = |state: &State| -> Vec<usize> {
        let streams = state.streams.iter().enumerate();
        streams.filter(|(_, s)| s.content != Content::Placeholder).map(|(i, _)| i).collect()
    };
    let (old, new) = (with_state(source.state), with_state(&state));
    let same = |(n, (&o, &i)): (usize, (&usize, &usize))| {
        let (old, new) = (&source.state.streams[o], &state.streams[i]);
        old.place == new.place && old.content.size() == new.content.size() && sums[i] == draft.crcs.get(n).copied()
    };
    if old.len() != new.len() || !old.iter().zip(&new).enumerate().all(same) {
        let message = format!("what was written to {} differs from the source", result.directory.name());
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(state)
}
