//! What repacking and copying have in common: check, write, read back, commit, or leave nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::target::{CommitError, Prepared, Target};
use super::{Options, Phase, Progress, Report, Source, copy, pack};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, NamedFile, Trailer};
use crate::handle::{CheckpointMetadata, JavaString, StreamHandle};
use crate::read::{Checkpoint, Content, State, Totals};
use crate::store::{FlinkPath, Stores};
use crate::verify::{Audit, Which, refuse};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Pack,
    Copy,
}

/// What was written: metadata that names the new files, not yet committed.
pub(super) struct Draft {
    pub(super) metadata: CheckpointMetadata,
    /// Each new file with its length in bytes, and its CRC-32C where a handle names all of it, and so has none.
    pub(super) files: BTreeMap<FlinkPath, (u64, Option<u32>)>,
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
    let (state, lengths) = check_source(stores, &checkpoint, options, how).await?;
    let before = Totals::of(&checkpoint, &state);
    // What is written names real places: no rebase applies to the destination.
    let plain = stores.clone().with_rebase(Vec::new());
    let target = match Target::prepare(&plain, &checkpoint, destination, options).await? {
        Prepared::Ready(target) => target,
        Prepared::Complete(target) => {
            let (source, destination) =
                (Source { checkpoint: &checkpoint, state: &state, lengths: &lengths }, target.directory.name());
            let (result, state) = check_complete(&plain, &source, destination, options, progress).await?;
            let leftovers_removed = target.sweep(&names_of(&state)).await?;
            let (destination, after) = (destination.clone(), Totals::of(&result, &state));
            return Ok(Report { destination, leftovers_removed, already_complete: true, before, after });
        }
    };
    let source = Source { checkpoint: &checkpoint, state: &state, lengths: &lengths };
    let (result, state) = write(&plain, &source, &target, options, progress, how).await?;
    let leftovers_removed = target.sweep(&names_of(&state)).await?;
    let (destination, after) = (target.directory.name().clone(), Totals::of(&result, &state));
    Ok(Report { destination, leftovers_removed, already_complete: false, before, after })
}

fn names_of(state: &State) -> BTreeSet<FlinkPath> {
    state.files.iter().map(|file| file.name.clone()).collect()
}

/// Refuses a source that isn't sound, as far as that can be told without reading all of it: the rest shows on reading.
async fn check_source(
    stores: &Stores,
    checkpoint: &Checkpoint,
    options: &Options,
    how: How,
) -> Result<(State, BTreeMap<usize, u64>)> {
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
    let lengths = audit.lengths().clone();
    refuse(audit)?;
    Ok((state, lengths))
}

/// Reads what another run has committed, and compares it with the source.
async fn check_complete(
    stores: &Stores,
    source: &Source<'_>,
    directory: &FlinkPath,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<(Checkpoint, State)> {
    let crcs = async {
        let mut audit = Audit::new(source.checkpoint.directory.real(), source.checkpoint.directory.real());
        audit.files(source.state, &options.read, Which::All).await?;
        let reading = |done, total| progress(Phase::Writing, done, total);
        let sums = audit.data(source.state, &options.read, &reading).await?;
        refuse(audit)?;
        Ok(sums.into_iter().flatten().collect::<Vec<u32>>())
    };
    let crcs = crcs.await?;
    let result = Checkpoint::load(stores, directory).await?;
    let state = read_back(stores, source, &result, &crcs, options, progress).await.map_err(|e| {
        let (kind, line) = (e.kind(), e.one_line());
        let kind = if kind == ErrorKind::Damaged { ErrorKind::Conflict } else { kind };
        Error::new(kind, format!("{directory} holds a checkpoint already, and not what this run would write: {line}"))
    })?;
    Ok((result, state))
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
) -> Result<(Checkpoint, State)> {
    let draft = match how {
        How::Pack => pack::pack(source, target, options, progress).await,
        How::Copy => copy::copy(source, target, options, progress).await,
    };
    let mut draft = match draft {
        Ok(draft) => draft,
        Err(error) => return Err(discard(target, error).await),
    };
    // Version 2 can only be read.
    draft.metadata.version = draft.metadata.version.max(3);
    let checked = async {
        let result = assemble(target, &draft)?;
        let state = read_back(stores, source, &result, &draft.crcs, options, progress).await?;
        Ok((result, state))
    };
    let (result, state) = match checked.await {
        Ok(checked) => checked,
        Err(error) => return Err(discard(target, error).await),
    };
    match target.commit(result.bytes.clone()).await {
        Ok(()) => Ok((result, state)),
        Err(CommitError::Refused(error)) => Err(discard(target, error).await),
        Err(CommitError::Unknown(error)) => {
            let name = target.directory.name();
            Err(error
                .context(format!("it isn't known whether {name} was completed, so nothing was removed: run again")))
        }
    }
}

async fn discard(target: &Target, mut error: Error) -> Error {
    if target.is_complete().await.unwrap_or(false) {
        // Whatever this run met with is a consequence: the other has removed its files.
        let (name, line) = (target.directory.name(), error.one_line());
        error = Error::new(ErrorKind::Conflict, format!("another run has completed {name} meanwhile ({line})"));
    }
    if error.kind() == ErrorKind::Store && target.has_leftovers() {
        let name = target.directory.name();
        error = error.context(format!(
            "{name} also holds what an interrupted run left, which goes only after the commit unless it is to be \
             discarded first"
        ));
    }
    match target.discard().await {
        Ok(()) => error,
        Err(left) => error.context(target.uncleaned(&left)),
    }
}

/// The new checkpoint, as it will be once `_metadata` is there.
fn assemble(target: &Target, draft: &Draft) -> Result<Checkpoint> {
    let encoded = format::encode(&draft.metadata).map_err(|e| e.in_file("the new _metadata"))?;
    let mut files = Vec::with_capacity(draft.files.len());
    let relative = relative_names(draft);
    for (path, &(size, crc32c)) in &draft.files {
        // A copy with relative handles can be moved, and so must its trailer.
        let below = path.relative_to(target.directory.name()).filter(|below| relative.contains(*below));
        let text = below.map_or_else(|| path.to_string(), str::to_string);
        let path = JavaString::new(&text).map_err(|e| Error::new(ErrorKind::Invalid, format!("path {text}: {e}")))?;
        files.push(NamedFile { path, size, crc32c });
    }
    let writer = concat!("drystone ", env!("CARGO_PKG_VERSION"));
    let writer = JavaString::new(writer).map_err(|e| Error::new(ErrorKind::Invalid, format!("{writer}: {e}")))?;
    let bytes = Trailer::seal(&encoded, files, 0, writer);
    let decoded = format::decode(bytes.clone()).map_err(|e| e.in_file("the new _metadata"))?;
    Ok(Checkpoint { directory: target.directory.clone(), bytes, decoded })
}

/// The paths of the draft's relative handles.
fn relative_names(draft: &Draft) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    draft.metadata.visit_streams(|_, handle| {
        if let StreamHandle::Relative(file) = handle {
            names.insert(file.path.to_string());
        }
    });
    names
}

/// Reads every byte of the result and compares it, stream by stream, with what was read from the source.
async fn read_back(
    stores: &Stores,
    source: &Source<'_>,
    result: &Checkpoint,
    crcs: &[u32],
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
        old.place == new.place && old.content.size() == new.content.size() && sums[i] == crcs.get(n).copied()
    };
    if old.len() != new.len() || !old.iter().zip(&new).enumerate().all(same) {
        let message = format!("what was written to {} differs from the source", result.directory.name());
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(state)
}
