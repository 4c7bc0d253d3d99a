//! A look at one checkpoint: its metadata whole, its files by their lengths. No byte of state is read.

use crate::error::{ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead, barred_by};
use crate::id::CheckpointId;
use crate::read::{self, Checkpoint, Totals};
use crate::store::{Location, Stores, names};
use crate::verify::{Audit, open};

/// What bars a checkpoint, in the place of its metadata, is no longer.
const BARRED_BYTES_MAX: u64 = 1 << 10;

/// In which state a checkpoint's directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The metadata is intact, and every file that it names is there, as long as it must be.
    Complete,
    /// It can't be restored, or not all of it.
    Broken {
        /// The first thing that is wrong, and how many more are.
        reason: String,
    },
    /// It was never completed, and never will be.
    Barred {
        /// The epoch of the coordinator that has seen to that.
        epoch: u64,
    },
    /// It is under way, or was given up.
    NoMetadata,
}

/// A checkpoint in a few figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The number that its metadata says.
    pub checkpoint: CheckpointId,
    /// Which kind of snapshot, where the metadata says it as Flink does.
    pub kind: Option<PropertiesKind>,
    /// The epoch of the coordinator that completed it; none for those of stock Flink and of `repack`.
    pub epoch: Option<u64>,
    /// Streams, files, bytes.
    pub totals: Totals,
}

/// What a look has shown.
pub(super) enum Glance {
    /// There is no metadata, or no longer.
    Gone,
    Barred(u64),
    There {
        /// None where the metadata can't be read.
        figures: Option<Figures>,
        /// Why it isn't complete.
        broken: Option<String>,
    },
}

/// Looks at the checkpoint in `directory`, which by its name is `expected`. `lengths` are asked for the files that it names;
/// with `None` they aren't looked for.
///
/// # Errors
/// Those of the store. Where the checkpoint is at fault it is broken.
pub(super) async fn glance<F>(
    stores: &Stores,
    directory: &Location,
    expected: Option<CheckpointId>,
    lengths: Option<impl FnOnce(Vec<read::StateFile>) -> F>,
) -> Result<Glance>
where
    F: Future<Output = Result<Vec<Option<u64>>>>,
{
    let (mut audit, named) = match open(stores, directory.real()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return absent(directory).await,
        Err(error) if error.kind() == ErrorKind::Damaged => {
            return Ok(Glance::There { figures: None, broken: Some(error.one_line()) });
        }
        opened => opened?,
    };
    let Some((checkpoint, state)) = named else {
        return Ok(Glance::There { figures: None, broken: first(audit) });
    };
    if let Some(lengths) = lengths.filter(|_| audit.is_sound()) {
        let lengths = lengths(state.files.clone()).await?;
        audit.by_lengths(&checkpoint, &state, &lengths);
    }
    let figures = figures(&checkpoint, &state);
    let misplaced = expected.filter(|id| *id != figures.checkpoint);
    let misplaced = misplaced.map(|_| format!("its metadata is of checkpoint {}", figures.checkpoint));
    Ok(Glance::There { figures: Some(figures), broken: misplaced.or_else(|| first(audit)) })
}

async fn absent(directory: &Location) -> Result<Glance> {
    match directory.join(names::METADATA)?.read_all(BARRED_BYTES_MAX).await {
        Ok(bytes) => Ok(barred_by(&bytes).map_or(Glance::Gone, Glance::Barred)),
        // Longer than what bars one: it has come meanwhile, and is found by the next look.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => Ok(Glance::Gone),
        Err(error) => Err(error),
    }
}

fn figures(checkpoint: &Checkpoint, state: &read::State) -> Figures {
    let metadata = &checkpoint.decoded.metadata;
    let kind = match Properties::read(&metadata.properties) {
        PropertiesRead::Known(properties) => Some(properties.kind),
        PropertiesRead::Null | PropertiesRead::Other => None,
    };
    let epoch = checkpoint.decoded.trailer.as_ref().map(|trailer| trailer.epoch).filter(|&epoch| epoch > 0);
    Figures { checkpoint: metadata.checkpoint_id, kind, epoch, totals: Totals::of(checkpoint, state) }
}

fn first(audit: Audit) -> Option<String> {
    let found = audit.finish();
    let first = found.findings.first()?;
    let more = found.findings.len() as u64 - 1 + found.findings_dropped;
    Some(if more == 0 { first.to_string() } else { format!("{first} (and {more} more)") })
}
