//! What the coordinator holds in memory beside the ledger: the states of checkpoints under way, and the spelling of
//! paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::savepoint::Savepoint;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{InlineHandle, JavaString, MasterState, Place, StreamHandle, SubtaskState};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::ledger::{Effect, Ledger, Named};
use crate::metrics::{FileMerging, JobGauges};
use crate::protocol::{RewritePlan, SealedSize};
use crate::read::KeyGroupOwners;
use crate::store::names::PhysicalFileName;
use crate::store::{FlinkPath, JobDirectory, Location};

/// Texts of files to be kept, whether something names them or not.
const SPELLED_MIN: usize = 1024;

pub(super) struct Books {
    gauges: JobGauges,
    pub(super) ledger: Ledger,
    pub(super) drafts: BTreeMap<CheckpointId, Draft>,
    /// Savepoints under way, and those that were aborted and may leave files yet.
    pub(super) savepoints: BTreeMap<CheckpointId, Savepoint>,
    /// One text for each file that is named, however handles spell its path.
    spelled: BTreeMap<FlinkPath, Arc<str>>,
    /// With so many of them, those that nothing names are dropped.
    spelled_max: usize,
    /// CRC-32C of named files that are one piece, where the handles can't have it: as the trailers of checkpoints say that
    /// were found or claimed.
    pub(super) sums: BTreeMap<Arc<str>, u32>,
    /// Checkpoints that lie elsewhere: claimed ones.
    pub(super) elsewhere: BTreeMap<CheckpointId, Location>,
    /// Directories outside the job's whose files it may name: it claimed them.
    pub(super) claimed: BTreeSet<FlinkPath>,
    /// May files outside the job's directory be deleted?
    pub(super) owns_claimed: bool,
    /// Segments that were copied to new places, the newest last: what names the old place is made to name the newest that is
    /// there. A checkpoint may have no use of a copy, and another still of the one before.
    pub(super) moves: BTreeMap<SegmentPlace, Vec<StreamHandle>>,
    /// Files of which all that the latest checkpoint named was copied: nobody needs to write it again. With the first
    /// number that could be triggered after that: one that names such a file all the same puts it back into the plan.
    pub(super) left: BTreeMap<Arc<str>, CheckpointId>,
    /// Discarded checkpoints whose metadata may be there still, and what it names with it.
    pub(super) discarding: BTreeSet<CheckpointId>,
    /// The checkpoint that other tools were told of.
    pub(super) hinted: Option<CheckpointId>,
    /// Background rewrites under way: they write files that nothing names yet.
    pub(super) rewrites: u32,
    /// Calls that are about to end the job, and to keep nothing.
    pub(super) ends: u32,
    /// Commits whose outcome is unknown.
    pub(super) unresolved: BTreeMap<CheckpointId, super::commit::Unresolved>,
}

/// Where a segment is: path in the ledger's spelling, offset, length.
pub(super) type SegmentPlace = (Arc<str>, u64, u64);

/// A checkpoint under way.
#[derive(Default)]
pub(super) struct Draft {
    /// `None`: it is a checkpoint.
    pub(super) savepoint: Option<Savepoint>,
    pub(super) states: BTreeMap<Subtask, Box<SubtaskState>>,
    /// Whose the key groups in the states are.
    pub(super) key_groups: KeyGroupOwners,
    /// Bytes of state in the metadata, where those are bounded.
    pub(super) inline_bytes: u64,
    pub(super) finished: BTreeSet<Subtask>,
    pub(super) operators: BTreeMap<OperatorId, InlineHandle>,
    pub(super) masters: BTreeMap<JavaString, MasterState>,
    /// The files that its states name and nobody has looked for yet: those written for it, and those that otherwise only
    /// checkpoints under way have named.
    pub(super) new_files: BTreeMap<Arc<str>, NewFile>,
    /// CRC-32C of files that are one piece, where the handles can't have it.
    pub(super) sums: BTreeMap<Arc<str>, u32>,
}

/// What is known of a new file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NewFile {
    /// Its length, if whoever sealed it has said so.
    pub(super) sealed_bytes: Option<u64>,
    /// Where the last segment in it that is named ends.
    pub(super) needed_bytes: u64,
    /// Its length, if a handle names the whole of it; the least that one says.
    pub(super) whole_bytes: Option<u64>,
}

/// What one subtask names.
#[derive(Default)]
pub(super) struct NamedBySubtask {
    pub(super) all: Vec<Named>,
    /// Files that were written for the checkpoint.
    pub(super) new: BTreeSet<Arc<str>>,
    /// Files that are named as a whole, with their lengths.
    pub(super) whole: BTreeSet<(Arc<str>, u64)>,
    /// See [`Draft::sums`].
    pub(super) sums: BTreeMap<Arc<str>, u32>,
}

impl Books {
    pub(super) fn new(ledger: Ledger, directory: &JobDirectory) -> Self {
        Self {
            gauges: JobGauges::new(directory.root().name().file_name().unwrap_or_default()),
            ledger,
            drafts: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            spelled: BTreeMap::new(),
            spelled_max: SPELLED_MIN,
            sums: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            claimed: BTreeSet::new(),
            owns_claimed: false,
            moves: BTreeMap::new(),
            left: BTreeMap::new(),
            discarding: BTreeSet::new(),
            hinted: None,
            rewrites: 0,
            ends: 0,
            unresolved: BTreeMap::new(),
        }
    }

    /// # Errors
    /// `Conflict`: the outcome of so many commits is unknown that another might make one too many.
    pub(super) fn refuse_if_in_doubt(&self, checkpoint: CheckpointId) -> Result<()> {
        if self.unresolved.len() < super::commit::UNRESOLVED_MAX {
            return Ok(());
        }
        let message = format!("checkpoint {checkpoint} can't be triggered: 16 commits are in doubt; settle them");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Sets the gauges.
    pub(super) fn report(&self) {
        let usage = self.ledger.usage();
        self.gauges.set(FileMerging {
            logical_files: usage.segments,
            logical_bytes: usage.segment_bytes,
            physical_files: usage.files,
            physical_bytes: usage.file_bytes,
        });
    }

    /// A completed checkpoint's directory.
    pub(super) fn path_of(&self, checkpoint: CheckpointId, directory: &JobDirectory) -> Result<FlinkPath> {
        match self.elsewhere.get(&checkpoint) {
            Some(location) => Ok(location.name().clone()),
            None => Ok(directory.checkpoint(checkpoint)?.name().clone()),
        }
    }

    /// The text that the ledger knows a file by.
    pub(super) fn spell(&mut self, path: &FlinkPath) -> Arc<str> {
        match self.spelled.get(path) {
            Some(text) => text.clone(),
            None => {
                let text: Arc<str> = path.to_string().into();
                self.spelled.insert(path.clone(), text.clone());
                text
            }
        }
    }

    /// Drops the texts of files that nothing names, now and then: those of states that were refused, and of files that aren't the
    /// job's to delete, of whose end nothing is said.
    pub(super) fn forget_unnamed(&mut self) {
        if self.spelled.len() < self.spelled_max {
            return;
        }
        let ledger = &self.ledger;
        self.spelled.retain(|_, text| ledger.names_file(text));
        self.spelled_max = self.spelled.len().saturating_mul(2).max(SPELLED_MIN);
    }

    /// As [`spell`](Self::spell), without keeping it.
    pub(super) fn spelling(&self, path: &FlinkPath) -> Arc<str> {
        self.spelled.get(path).cloned().unwrap_or_else(|| path.to_string().into())
    }

    /// Has the ledger decide, and drops at once what is dead by that: nothing may be pointed to a place that is to go.
    pub(super) fn decide(&mut self, event: impl FnOnce(&mut Self) -> Vec<Effect>) -> Vec<Effect> {
        let effects = event(self);
        effects.iter().for_each(|effect| self.forget(effect));
        self.report();
        effects
    }

    /// As [`decide`](Self::decide), of an event that may be refused.
    pub(super) fn decide_or_fail(
        &mut self,
        event: impl FnOnce(&mut Self) -> Result<Vec<Effect>>,
    ) -> Result<Vec<Effect>> {
        let mut refused = Ok(());
        let effects = self.decide(|books| {
            event(books).unwrap_or_else(|error| {
                refused = Err(error);
                Vec::new()
            })
        });
        refused.map(|()| effects)
    }

    pub(super) fn committed(&mut self, checkpoint: CheckpointId) -> Result<Vec<Effect>> {
        let effects = self.ledger.committed(checkpoint)?;
        self.stays_in(checkpoint);
        Ok(effects)
    }

    /// Drops what is kept for checkpoints and files that an effect ends.
    fn forget(&mut self, effect: &Effect) {
        match effect {
            Effect::Aborted(checkpoint) => {
                self.drafts.remove(checkpoint);
            }
            Effect::Discard { checkpoint, files } => {
                self.discarding.insert(*checkpoint);
                self.forget_files(files);
            }
            Effect::Delete(files) => self.forget_files(files),
            Effect::Clean(_) => {}
        }
    }

    fn forget_files(&mut self, files: &[Arc<str>]) {
        for file in files {
            self.sums.remove(file);
            if let Ok(path) = FlinkPath::parse(file) {
                self.spelled.remove(&path);
            }
        }
        self.left.retain(|file, _| !files.contains(file));
        let dead: BTreeSet<&str> = files.iter().map(|file| &**file).collect();
        // A state backend may name the old place long after it is gone; where the new one is, too, nothing can.
        self.moves.retain(|_, copies| {
            copies.retain(|copy| place_of(copy).is_some_and(|(path, ..)| !dead.contains(&*path.to_text())));
            !copies.is_empty()
        });
    }

    /// A plan without what was copied in the background already.
    pub(super) fn without_copied(&self, mut plan: RewritePlan) -> RewritePlan {
        plan.files.retain(|file, _| !self.left.contains_key(file.as_str()));
        plan
    }

    /// A checkpoint has completed. What it names of a file at the old place, though it was triggered after the copying,
    /// wasn't copied, or its copy is gone since another checkpoint had no use of it.
    fn stays_in(&mut self, checkpoint: CheckpointId) {
        if self.left.values().any(|&since| since <= checkpoint) {
            let named = self.ledger.files_of(checkpoint);
            self.left.retain(|file, &mut since| since > checkpoint || !named.contains_key(file));
        }
    }

    /// Is the copy still there to be named?
    pub(super) fn is_held(&self, copy: &StreamHandle) -> bool {
        let Some((path, offset, length)) = place_of(copy) else { return false };
        FlinkPath::parse(&path.to_text())
            .is_ok_and(|path| self.ledger.names_segment(&self.spelling(&path), offset, length))
    }

    /// Points handles at the new places of what was copied in the background, as far as something holds these.
    pub(super) fn relocate(&self, subtask: Subtask, state: &mut SubtaskState) {
        if self.moves.is_empty() {
            return;
        }
        state.visit_streams_mut(subtask, |_, handle| {
            let Some((path, offset, length)) = place_of(handle) else { return };
            let Ok(path) = FlinkPath::parse(&path.to_text()) else { return };
            let copies = self.moves.get(&(self.spelling(&path), offset, length));
            if let Some(copy) = copies.and_then(|copies| copies.iter().rev().find(|copy| self.is_held(copy))) {
                *handle = copy.clone();
            }
        });
    }

    /// Enters copies, by their old places. What was moved to one of those before has moved on.
    pub(super) fn moved(&mut self, copies: BTreeMap<SegmentPlace, StreamHandle>) {
        let mut moves = std::mem::take(&mut self.moves);
        for known in moves.values_mut() {
            let newer = known.iter().find_map(|copy| {
                let (path, offset, length) = place_of(copy)?;
                copies.get(&(self.spelling(&FlinkPath::parse(&path.to_text()).ok()?), offset, length))
            });
            known.extend(newer.cloned());
        }
        for (place, copy) in copies {
            moves.entry(place).or_default().push(copy);
        }
        self.moves = moves;
    }

    /// Every byte range of a file that a subtask's state names.
    ///
    /// A file is new if it was written for this checkpoint and attempt, as its name and its directory say.
    pub(super) fn names_of(
        &mut self,
        directory: &JobDirectory,
        checkpoint: CheckpointId,
        epoch: u64,
        subtask: Subtask,
        state: Option<&SubtaskState>,
    ) -> Result<NamedBySubtask> {
        let Some(state) = state else { return Ok(NamedBySubtask::default()) };
        let own = directory.checkpoint(checkpoint)?;
        let mut found = NamedBySubtask::default();
        let mut result = Ok(());
        // A path is read once, however many segments of the file are named, in whatever order.
        let mut known: HashMap<JavaString, (Arc<str>, bool)> = HashMap::new();
        let mut visit = |place: &Place, handle: &StreamHandle| -> Result<()> {
            let relative = matches!(handle, StreamHandle::Relative(_));
            let Some((text, offset, length)) = place_of(handle) else { return unknown_length(handle) };
            if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
                let message = format!("{length} bytes are named at offset {offset} of {text}, beyond any file");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            let scope = match handle {
                StreamHandle::Segment(segment) => segment.scope,
                _ => place.part.scope(),
            };
            let (file, owned) = match known.get(text).filter(|_| !relative) {
                Some(known) => known.clone(),
                None => {
                    let path = match relative {
                        true => own.name().join(&text.to_text())?,
                        false => FlinkPath::parse(&text.to_text())?,
                    };
                    let inside = directory.holds(&path);
                    // What a retained checkpoint names was claimed once, if by a coordinator before this one.
                    let is_known = || {
                        self.ledger.names_file(&self.spelling(&path)) || self.claimed.iter().any(|c| path.is_within(c))
                    };
                    if !inside && !is_known() {
                        let message = format!("{path} lies outside the job's directory {}", directory.root().name());
                        return Err(Error::new(ErrorKind::Invalid, message));
                    }
                    let is_new = inside && is_written_for(&path, &own, directory, checkpoint, epoch);
                    let file = self.spell(&path);
                    if is_new {
                        found.new.insert(file.clone());
                    }
                    let owned = if inside { directory.owns(&path) } else { self.owns_claimed };
                    if matches!(handle, StreamHandle::Segment(_)) {
                        known.insert(text.clone(), (file.clone(), owned));
                    }
                    (file, owned)
                }
            };
            if !matches!(handle, StreamHandle::Segment(_)) {
                found.whole.insert((file.clone(), length));
            }
            found.all.push(Named { file, offset, length, scope, owned });
            Ok(())
        };
        state.visit_streams(subtask, |place, handle| {
            if result.is_ok() {
                result = visit(place, handle).map_err(|e| e.context(format!("checkpoint {checkpoint}, {place}")));
            }
        });
        result.map(|()| found)
    }
}

impl Draft {
    /// Bytes of all state, and of that in the metadata.
    pub(super) fn state_bytes(&self) -> (u64, u64) {
        let of_operators: u64 = self.operators.values().map(|state| state.bytes.len() as u64).sum();
        let (mut all, mut inline) = (of_operators, of_operators);
        for (subtask, state) in &self.states {
            state.visit_streams(*subtask, |_, handle| {
                let bytes = handle.size().unwrap_or_default();
                all = all.saturating_add(bytes);
                inline += if matches!(handle.innermost(), StreamHandle::Inline(_)) { bytes } else { 0 };
            });
        }
        (all, inline)
    }

    pub(super) fn take(
        &mut self,
        subtask: Subtask,
        state: Option<Box<SubtaskState>>,
        named: &NamedBySubtask,
        sealed: Vec<SealedSize>,
        ledger: &Ledger,
    ) {
        let mut last: Option<(&Arc<str>, bool)> = None;
        for name in &named.all {
            let is_measured = match last {
                Some((file, is_measured)) if Arc::ptr_eq(file, &name.file) => is_measured,
                // Also where it was looked for before: what tasks own may change.
                _ => ledger.is_measured(&name.file) && !named.new.contains(&name.file),
            };
            last = Some((&name.file, is_measured));
            if is_measured {
                continue;
            }
            let file = self.new_files.entry(name.file.clone()).or_default();
            file.needed_bytes = file.needed_bytes.max(name.offset.saturating_add(name.length));
        }
        for (path, bytes) in &named.whole {
            if let Some(file) = self.new_files.get_mut(path) {
                file.whole_bytes = Some(file.whole_bytes.map_or(*bytes, |least| least.min(*bytes)));
            }
        }
        self.sums.extend(named.sums.iter().map(|(path, crc32c)| (path.clone(), *crc32c)));
        for SealedSize { path, bytes } in sealed {
            if let Some(file) = self.new_files.get_mut(path.as_str()) {
                file.sealed_bytes = Some(bytes);
            }
        }
        if let Some(state) = state {
            self.key_groups.enter(subtask, &state);
            self.states.insert(subtask, state);
        }
    }
}

/// The path, offset and length of what lies in a file.
fn place_of(handle: &StreamHandle) -> Option<(&JavaString, u64, u64)> {
    match handle {
        StreamHandle::Segment(segment) => Some((&segment.path, segment.offset, segment.size)),
        StreamHandle::File(file) | StreamHandle::Relative(file) => {
            Some((&file.path, 0, u64::try_from(file.size).ok()?))
        }
        StreamHandle::Inline(_) | StreamHandle::EmptySegment | StreamHandle::KeyGroups(_) => None,
    }
}

fn unknown_length(handle: &StreamHandle) -> Result<()> {
    match handle {
        StreamHandle::File(file) | StreamHandle::Relative(file) => {
            let message = format!("the handle of {} says {} bytes: give its length", file.path, file.size);
            Err(Error::new(ErrorKind::Invalid, message))
        }
        _ => Ok(()),
    }
}

/// By its own name for what we wrote; anything else is new in the checkpoint's own directory only.
fn is_written_for(
    path: &FlinkPath,
    own: &Location,
    directory: &JobDirectory,
    checkpoint: CheckpointId,
    epoch: u64,
) -> bool {
    // Nobody can tell by name what a task has written for itself; the commit looks for it.
    if path.is_within(directory.task_owned().name()) {
        return true;
    }
    let in_own = path.is_within(own.name());
    match PhysicalFileName::of(path) {
        Some(name) => {
            let in_place = in_own || path.is_within(directory.shared().name());
            in_place && name.checkpoint == checkpoint && name.attempt == epoch
        }
        None => in_own,
    }
}
