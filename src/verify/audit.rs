//! Collects findings; checks the metadata against its own trailer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Counts, FINDINGS_MAX, Finding, Verification};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::flipped_bit;
use crate::format::{self, Decoded, SectionOwner};
use crate::handle::{OperatorSubtasks, Place};
use crate::id::{OperatorId, Subtask};
use crate::read::{Checkpoint, Content, KeyGroupOwners, State, StateStream, Wanted, check_shape, checksums_fit};
use crate::store::FlinkPath;
use crate::store::names::PhysicalFileName;

/// How many findings of damaged bytes are laid to a byte.
const LOCATED_MAX: usize = 16;

/// A check under way.
pub(crate) struct Audit {
    /// The checkpoint's directory.
    checkpoint: FlinkPath,
    /// The checkpoint's `_metadata`.
    pub(super) metadata: FlinkPath,
    findings: Vec<Finding>,
    findings_dropped: u64,
    pub(super) counts: Counts,
    /// Lengths of the files that were found, by the file's number.
    pub(super) lengths: BTreeMap<usize, u64>,
    /// Segments that a footer lists and no handle names, with their checksums: they are read all the same.
    pub(super) unnamed: Vec<(Wanted, u32)>,
}

impl Audit {
    pub(crate) fn new(checkpoint: &FlinkPath, metadata: &FlinkPath) -> Self {
        Self {
            checkpoint: checkpoint.clone(),
            metadata: metadata.clone(),
            findings: Vec::new(),
            findings_dropped: 0,
            counts: Counts::default(),
            lengths: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_dropped += 1;
        }
    }

    pub(super) fn finding_count(&self) -> u64 {
        self.findings.len() as u64 + self.findings_dropped
    }

    /// Lengths of the files that were looked at, in bytes, by the file's number.
    pub(crate) fn lengths(&self) -> &BTreeMap<usize, u64> {
        &self.lengths
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn finish(self) -> Verification {
        let Self { checkpoint, findings, findings_dropped, counts, .. } = self;
        Verification { checkpoint, findings, findings_dropped, counts }
    }

    /// Checks the bytes of `_metadata`; `None` when they can't be decoded.
    pub(crate) fn metadata(&mut self, bytes: &Bytes) -> Option<Decoded> {
        let file = &self.metadata.clone();
        let damages = match format::check_trailer(bytes) {
            None => Vec::new(),
            Some(Ok(damages)) => {
                self.counts.trailer = true;
                damages
            }
            Some(Err(error)) => {
                self.add(Finding::in_file(file, Some(error.offset), format!("{}: {}", error.field, error.problem)));
                Vec::new()
            }
        };
        let damaged = !damages.is_empty();
        for damage in damages {
            let (operator, subtask) = owner(&damage.owner);
            let problem = match damage.offset {
                Some(_) => "one bit is wrong: its CRC-32C says so".to_string(),
                None => format!("bytes {} to {} don't match their CRC-32C", damage.range.start, damage.range.end),
            };
            let offset = damage.offset.or(Some(damage.range.start));
            self.add(Finding { operator, subtask, ..Finding::in_file(file, offset, problem) });
        }
        match format::decode(bytes.clone()) {
            Ok(decoded) => {
                if !decoded.rest.is_empty() && self.is_sound() {
                    let offset = (bytes.len() - decoded.rest.len()) as u64;
                    let problem = format!(
                        "{} bytes after the checkpoint's properties that are no intact trailer: damaged, cut short or appended",
                        decoded.rest.len()
                    );
                    self.add(Finding::in_file(file, Some(offset), problem));
                }
                Some(decoded)
            }
            Err(error) => {
                // Where checksums have already said what is wrong, how decoding then fails is only noise.
                if !damaged {
                    self.add(Finding::in_file(file, Some(error.offset), format!("{}: {}", error.field, error.problem)));
                }
                None
            }
        }
    }

    /// A stream whose handle can't be one, or whose file isn't there.
    ///
    /// # Errors
    /// The error itself, where it says nothing of the checkpoint: the check could not be made.
    pub(crate) fn refused(&mut self, place: &Place, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound => {
                self.add(Finding::in_file(&self.metadata.clone(), None, error.one_line()).of(place));
                Ok(())
            }
            _ => Err(error.context(format!("{place} of {}", self.checkpoint))),
        }
    }

    /// Checks what the metadata says of itself: a trailer where there must be one, the files that it lists, and what handles
    /// say of key groups and of places within streams.
    pub(crate) fn state(&mut self, checkpoint: &Checkpoint, state: &State) {
        self.counts.streams = state.streams.iter().filter(|s| s.content != Content::Placeholder).count() as u64;
        self.counts.files = state.files.len() as u64;
        self.trailer(checkpoint, state);
        self.shapes(checkpoint);
    }

    fn trailer(&mut self, checkpoint: &Checkpoint, state: &State) {
        let metadata = self.metadata.clone();
        let Some(trailer) = &checkpoint.decoded.trailer else {
            if self.is_sound()
                && (state.streams.iter().any(|s| s.id.is_some()) || has_pieces_of_ours(checkpoint, state))
            {
                let problem = "written by Drystone, but its trailer is missing: the file was cut short";
                self.add(Finding::in_file(&metadata, Some(checkpoint.bytes.len() as u64), problem));
            }
            return;
        };
        let mut checked = 0;
        checkpoint.decoded.metadata.visit_key_groups(|place, handle| {
            checked += usize::from(!handle.checksums.is_empty());
            if !checksums_fit(handle, place.part) {
                let problem = "the checksums of its key groups don't add up to that of their stream";
                self.add(Finding::in_file(&metadata, None, problem).of(place));
            }
        });
        if trailer.groups.iter().filter(|groups| !groups.checksums.is_empty()).count() != checked {
            let problem = "its trailer has checksums of key groups that it doesn't name";
            self.add(Finding::in_file(&metadata, None, problem));
        }
        let listed: BTreeSet<_> = trailer.files.iter().filter_map(|f| checkpoint.listed_path(f)).collect();
        let named: BTreeSet<_> = state.files.iter().map(|f| f.name.clone()).collect();
        if let Some(path) = listed.symmetric_difference(&named).next() {
            let (one, other) = if listed.contains(path) { ("trailer", "handles") } else { ("handles", "trailer") };
            let problem = format!("its {one} name {path}, its {other} don't");
            self.add(Finding::in_file(&metadata, None, problem));
        }
    }

    fn shapes(&mut self, checkpoint: &Checkpoint) {
        let mut owners = KeyGroupOwners::default();
        for operator in &checkpoint.decoded.metadata.operators {
            let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
            for (index, state) in entries.iter().filter_map(|entry| Some((entry.index, entry.state.as_deref()?))) {
                let subtask = Subtask { operator: operator.id, index, parallelism: operator.parallelism };
                let fits = check_shape(subtask, operator.max_parallelism, state);
                match fits.and_then(|()| owners.check(subtask, state)) {
                    Ok(()) => owners.enter(subtask, state),
                    Err(misfit) => {
                        self.add(Finding::in_file(&self.metadata.clone(), None, misfit.problem).of(&misfit.place));
                    }
                }
            }
        }
    }

    /// Compares a stream's bytes with the checksum that its handle's id or the trailer has.
    pub(super) fn checksum(&mut self, file: &FlinkPath, stream: &StateStream, crc32c: u32) {
        let (place, length) = (&stream.place, stream.content.size());
        let offset = match stream.content {
            Content::File(wanted) => Some(wanted.offset),
            _ => None,
        };
        match stream.expected() {
            None => self.counts.streams_unchecked += 1,
            Some(expected) if expected.crc32c == crc32c => self.counts.streams_checked += 1,
            Some(expected) => {
                let problem = expected.mismatch(crc32c);
                // The search takes a step for each bit, so it is made for the first few only.
                let flipped = match self.findings.len() < LOCATED_MAX {
                    true => flipped_bit(crc32c ^ expected.crc32c, length),
                    false => None,
                };
                self.add(match (flipped, offset) {
                    (Some(at), Some(start)) => {
                        let problem = format!("{problem}: one flipped bit, in the byte at this offset, explains it");
                        Finding::in_file(file, Some(start + at), problem).of(place)
                    }
                    _ => Finding::in_file(file, offset, problem).of(place),
                });
            }
        }
    }
}

/// Files that are one piece each, as a savepoint has them: they have no ids, but names of ours.
fn has_pieces_of_ours(checkpoint: &Checkpoint, state: &State) -> bool {
    let is_beside = |name: &FlinkPath| name.parent().as_ref() == Some(checkpoint.directory.name());
    state.files.iter().any(|file| is_beside(&file.name) && PhysicalFileName::of(&file.name).is_some())
}

fn owner(owner: &SectionOwner) -> (Option<OperatorId>, Option<u32>) {
    match owner {
        SectionOwner::Operator(operator) => (Some(*operator), None),
        SectionOwner::Subtask(operator, subtask) => (Some(*operator), Some(*subtask)),
        _ => (None, None),
    }
}
