//! Savepoints: the user's, self-contained, in a directory of their own.
//!
//! The ledger only counts who has acknowledged one: what it names is in its own directory, all of it new, and never the
//! job's. `design/0013-savepoints.md` has the argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::books::{Books, Draft, NamedBySubtask};
use super::{Coordinator, SavepointRequest, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{NamedFile, Properties, PropertiesKind};
use crate::handle::{FileHandle, JavaString, KeyGroupsForm, KeyedHandle, SegmentHandle, StreamHandle, SubtaskState};
use crate::id::{CheckpointId, JobId, Scope, SegmentId, Subtask};
use crate::ledger::Named;
use crate::protocol::{OperatorSpec, SavepointAction, SavepointFormat, SavepointTarget, SnapshotKind, Trigger};
use crate::store::names::PhysicalFileName;
use crate::store::{FlinkPath, Location, names};

/// A savepoint under way.
#[derive(Clone)]
pub(super) struct Savepoint {
    pub(super) directory: Location,
    format: SavepointFormat,
    action: SavepointAction,
    /// Does a file hold several pieces?
    is_packed: bool,
}

impl Coordinator {
    /// Starts a savepoint: what to tell the workers. It takes a number as a checkpoint does, and ends as one does, by
    /// [`complete`](Self::complete) or [`abort`](Self::abort); it waits for every subtask of every operator.
    ///
    /// It lies in `savepoint-<...>` below the directory that is asked for, holds all that it names, and belongs to the user from
    /// its commit on: it is none of the [`completed`](Self::completed), replaces no checkpoint, and isn't deleted by this
    /// coordinator or a later one. Aborted, what was written for it goes.
    ///
    /// # Errors
    /// As for [`trigger`](Self::trigger). `Invalid`: the directory is one of the job's own. `Unsupported`: it is of a store that
    /// this build doesn't have.
    pub fn trigger_savepoint(&self, checkpoint: CheckpointId, request: &SavepointRequest) -> Result<Trigger> {
        self.shared.refuse_if_fenced()?;
        let directory = self.shared.savepoint_directory(&request.directory, (self.shared.tokens)())?;
        let path = directory.name().clone();
        let SavepointRequest { format, action, pack, .. } = *request;
        let savepoint = Savepoint { directory, format, action, is_packed: pack };
        let subtasks: BTreeSet<Subtask> = self.shared.operators.iter().flat_map(OperatorSpec::subtasks).collect();
        let mut books = self.books();
        books.refuse_if_in_doubt(checkpoint)?;
        books.ledger.trigger_savepoint(checkpoint, subtasks)?;
        books.forget_savepoints();
        books.savepoints.insert(checkpoint, savepoint.clone());
        books.drafts.insert(checkpoint, Draft { savepoint: Some(savepoint), ..Draft::default() });
        tracing::debug!(%checkpoint, directory = %path, "savepoint triggered");
        let kind = SnapshotKind::Savepoint(SavepointTarget { directory: path.to_string(), format, pack });
        let under_way = Some(books.ledger.pending().collect());
        Ok(Trigger { under_way, kind, ..Trigger::new(self.shared.epoch, checkpoint) })
    }

    /// May a savepoint go there? [`trigger_savepoint`](Self::trigger_savepoint) says the same; asked before, nothing has been
    /// given up for it.
    ///
    /// # Errors
    /// `Invalid`, `Unsupported`: as for that.
    pub(crate) fn check_savepoint(&self, request: &SavepointRequest) -> Result<()> {
        self.shared.savepoint_directory(&request.directory, 0).map(drop)
    }
}

impl Shared {
    /// A new one, as Flink would call it.
    fn savepoint_directory(&self, parent: &FlinkPath, token: u64) -> Result<Location> {
        let path = parent.join(&names::savepoint_directory(self.job(), token))?;
        if self.directory.holds(&path) || path.is_within(self.directory.fence().name()) {
            let message =
                format!("{parent} is one of the job's own directories: a savepoint there would be taken for its");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.stores.locate(&path)
    }

    /// As the directory says.
    fn job(&self) -> Option<JobId> {
        if let Some(job) = self.directory.owner() {
            return Some(job);
        }
        self.directory.root().name().file_name().and_then(names::parse_job_directory)
    }
}

impl Savepoint {
    pub(super) fn properties(&self) -> Properties {
        Properties {
            kind: PropertiesKind::Savepoint(self.format, self.action),
            discard_cancelled: false,
            discard_failed: false,
            discard_finished: false,
            discard_subsumed: false,
            discard_suspended: false,
            forced: true,
            unclaimed: false,
        }
    }

    /// Every byte range that a subtask names. Whole files of the savepoint's own are named by their names from here on, so that
    /// it can be moved. So is a segment that is a file by itself; its checksum goes to the trailer, since no such handle has
    /// room for one.
    ///
    /// # Errors
    /// `Invalid`: something isn't in a file that was written for this savepoint, or can't be in one of its format.
    pub(super) fn names_of(
        &self,
        checkpoint: CheckpointId,
        epoch: u64,
        subtask: Subtask,
        state: &mut SubtaskState,
    ) -> Result<NamedBySubtask> {
        self.check_format(checkpoint, subtask, state)?;
        let (mut found, mut result) = (NamedBySubtask::default(), Ok(()));
        state.visit_streams_mut(subtask, |place, handle| {
            if result.is_ok() {
                result = self
                    .name(checkpoint, epoch, handle, &mut found)
                    .map_err(|e| e.context(format!("savepoint {checkpoint}, {place}")));
            }
        });
        result.map(|()| found)
    }

    fn name(
        &self,
        checkpoint: CheckpointId,
        epoch: u64,
        handle: &mut StreamHandle,
        found: &mut NamedBySubtask,
    ) -> Result<()> {
        let own = self.directory.name();
        let (path, range) = match handle {
            StreamHandle::Inline(_) | StreamHandle::EmptySegment | StreamHandle::KeyGroups(_) => return Ok(()),
            StreamHandle::Segment(segment) => {
                let path = FlinkPath::parse(&segment.path.to_text())?;
                if let Some((file, crc32c)) = self.as_file(&path, segment)? {
                    found.sums.insert(path.to_string().into(), crc32c);
                    *handle = StreamHandle::File(file);
                    (path, None)
                } else {
                    (path, Some((segment.offset, segment.size)))
                }
            }
            StreamHandle::File(file) => (FlinkPath::parse(&file.path.to_text())?, None),
            StreamHandle::Relative(file) => (own.join(&file.path.to_text())?, None),
        };
        let Some(below) = path.relative_to(own).filter(|below| !below.is_empty()).map(str::to_owned) else {
            let message = format!("{path} lies outside {own}: a savepoint holds all that it names");
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        if PhysicalFileName::of(&path).is_some_and(|name| (name.attempt, name.checkpoint) != (epoch, checkpoint)) {
            return Err(Error::new(ErrorKind::Invalid, format!("{path} was written for another snapshot")));
        }
        let length = match (range, handle.size()) {
            (Some((_, length)), _) | (None, Some(length)) => length,
            (None, None) => return Err(Error::new(ErrorKind::Invalid, format!("{path}: give the length of the file"))),
        };
        let offset = range.map_or(0, |(offset, _)| offset);
        if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
            let message = format!("{length} bytes are named at offset {offset} of {path}, beyond any file");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if let StreamHandle::File(FileHandle { size, .. }) = handle {
            *handle = StreamHandle::Relative(FileHandle { path: text(&below)?, size: *size });
        }
        let file: Arc<str> = path.to_string().into();
        if range.is_none() {
            found.whole.insert((file.clone(), length));
        }
        found.new.insert(file.clone());
        found.all.push(Named { file, offset, length, scope: Scope::Exclusive, owned: false });
        Ok(())
    }

    /// The file that a segment is by itself, with its checksum: what a worker has written for a savepoint that isn't packed. That
    /// nothing else is in the file is made sure of by its length.
    fn as_file(&self, path: &FlinkPath, segment: &SegmentHandle) -> Result<Option<(FileHandle, u32)>> {
        let id = segment.id.to_text().parse::<SegmentId>().ok().filter(|id| !self.is_packed && id.ordinal == 0);
        let is_own = |id: &SegmentId| PhysicalFileName::of(path).is_some_and(|name| name.token == id.file);
        let Some(id) = id.filter(is_own).filter(|_| segment.offset == 0) else { return Ok(None) };
        let too_long = |_| Error::new(ErrorKind::Invalid, format!("{path}: {} bytes are too many", segment.size));
        let size = i64::try_from(segment.size).map_err(too_long)?;
        Ok(Some((FileHandle { path: segment.path.clone(), size }, id.crc32c)))
    }

    /// What is the same for every state backend has its key groups in one stream of a form of its own.
    fn check_format(&self, checkpoint: CheckpointId, subtask: Subtask, state: &SubtaskState) -> Result<()> {
        let is_canonical = |keyed: &KeyedHandle| matches!(keyed, KeyedHandle::KeyGroups(groups) if groups.form == KeyGroupsForm::Savepoint);
        if self.format == SavepointFormat::Native || state.managed_keyed.as_ref().is_none_or(is_canonical) {
            return Ok(());
        }
        let message = format!(
            "savepoint {checkpoint}, subtask {} of operator {}: managed keyed state in a state backend's own form, in a \
             savepoint with format=CANONICAL; allowed: key groups in the form of a savepoint, or format=NATIVE",
            subtask.index, subtask.operator
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// Its files, with their lengths, for its trailer: by their names alone where handles have them so.
    pub(super) fn named_files(&self, draft: &Draft, lengths: &BTreeMap<Arc<str>, u64>) -> Result<Vec<NamedFile>> {
        let mut segments = BTreeSet::new();
        for (subtask, state) in &draft.states {
            state.visit_streams(*subtask, |_, handle| {
                if let StreamHandle::Segment(segment) = handle {
                    segments.insert(&segment.path);
                }
            });
        }
        let absolute: BTreeSet<FlinkPath> =
            segments.into_iter().map(|path| FlinkPath::parse(&path.to_text())).collect::<Result<_>>()?;
        let named = lengths.iter().map(|(file, &size)| {
            let path = FlinkPath::parse(file)?;
            let below = path.relative_to(self.directory.name()).filter(|_| !absolute.contains(&path));
            Ok(NamedFile { path: text(below.unwrap_or(file))?, size, crc32c: draft.sums.get(file).copied() })
        });
        named.collect()
    }
}

impl Books {
    /// Drops those that have ended, and of which nothing is left to be cleared away.
    pub(super) fn forget_savepoints(&mut self) {
        let ledger = &self.ledger;
        self.savepoints.retain(|&id, _| ledger.is_looked_after(id));
    }
}

fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("path {text}: {e}")))
}
