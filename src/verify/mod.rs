//! Checks a checkpoint: that everything it names is there, and is what was written.
//!
//! What has a checksum is checked by it; what has none (a stock file) is read, and counted as not checked. Findings are
//! collected, not thrown: an error means that the check could not be made.

mod audit;
mod data;
mod deep;
mod files;

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Part, Place};
use crate::id::OperatorId;
use crate::read::{Checkpoint, ReadLimits, State};
use crate::store::{FlinkPath, Stores, names};

pub(crate) use audit::Audit;
pub use deep::{DeepVerification, FileBytes, Gap, verify_deep};
pub(crate) use files::Which;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The checkpoint's directory.
    pub checkpoint: FlinkPath,
    /// What is wrong; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub findings_dropped: u64,
    /// What was checked, and how.
    pub counts: Counts,
}

/// How many findings are kept.
pub const FINDINGS_MAX: usize = 1000;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file that it is in.
    pub file: FlinkPath,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// The operator whose state is concerned.
    pub operator: Option<OperatorId>,
    /// The subtask whose state is concerned.
    pub subtask: Option<u32>,
    /// Which of the subtask's states.
    pub part: Option<Part>,
    /// What is wrong.
    pub problem: String,
}

/// What was checked, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that the checkpoint names, inline ones included.
    pub streams: u64,
    /// Physical files that it names.
    pub files: u64,
    /// Bytes of state that were read.
    pub bytes_read: u64,
    /// Streams whose bytes agree with their checksum.
    pub streams_checked: u64,
    /// Streams that are all there, but have no checksum to agree with.
    pub streams_unchecked: u64,
    /// Files whose footer was read and agrees.
    pub footers: u64,
    /// Did the metadata have a trailer of ours, with checksums of the metadata itself?
    pub trailer: bool,
}

impl Verification {
    /// Nothing wrong?
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Finding {
    pub(crate) fn in_file(file: &FlinkPath, offset: Option<u64>, problem: impl Into<String>) -> Self {
        let (file, problem) = (file.clone(), problem.into());
        Self { file, offset, operator: None, subtask: None, part: None, problem }
    }

    pub(crate) fn of(mut self, place: &Place) -> Self {
        self.operator = Some(place.operator);
        self.subtask = place.subtask;
        self.part = Some(place.part);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        if let Some(operator) = self.operator {
            write!(f, ", operator {operator}")?;
        }
        if let Some(subtask) = self.subtask {
            write!(f, " subtask {subtask}")?;
        }
        if let Some(part) = self.part {
            write!(f, " {}", part.name())?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Checks the checkpoint at `path` (its directory or `_metadata`), reading every byte that it names.
///
/// `progress` is told how many bytes of how many have been read.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no checkpoint; a store's error when a file can't be asked for.
pub async fn verify(
    stores: &Stores,
    path: &FlinkPath,
    limits: &ReadLimits,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Verification> {
    let (mut audit, named) = open(stores, path).await?;
    if let Some((checkpoint, state)) = named {
        audit.files(&state, limits, Which::All).await?;
        audit.trailer_sizes(&checkpoint, &state);
        audit.data(&state, limits, progress).await?;
    }
    Ok(audit.finish())
}

/// Checks the metadata, and says what it names; nothing where it is damaged.
pub(crate) async fn open(stores: &Stores, path: &FlinkPath) -> Result<(Audit, Option<(Checkpoint, State)>)> {
    let (directory, bytes) = Checkpoint::read(stores, path).await?;
    let metadata = directory.join(names::METADATA)?;
    let mut audit = Audit::new(directory.real(), metadata.real());
    let decoded = audit.metadata(&bytes);
    // Names and ranges from damaged metadata lead nowhere; what follows would only be noise.
    let Some(decoded) = decoded.filter(|_| audit.is_sound()) else { return Ok((audit, None)) };
    let checkpoint = Checkpoint { directory, bytes, decoded };
    let (state, refused) = State::collect(stores, &checkpoint).await;
    for (place, error) in refused {
        audit.refused(&place, error)?;
    }
    audit.state(&checkpoint, &state);
    Ok((audit, Some((checkpoint, state))))
}

/// Fails with the first finding, for those who can't go on with a damaged checkpoint.
pub(crate) fn refuse(audit: Audit) -> Result<()> {
    let verification = audit.finish();
    let Some(first) = verification.findings.first() else { return Ok(()) };
    let more = verification.findings.len() as u64 - 1 + verification.findings_dropped;
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    Err(Error::new(ErrorKind::Damaged, format!("{first}{more}")))
}
