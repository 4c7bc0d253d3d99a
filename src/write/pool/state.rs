//! What a pool knows of its files.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind};
use crate::id::{FileToken, Subtask};
use crate::store::Location;
use crate::write::file::{OpenFile, SealedFile};
use crate::write::{Origin, PoolMode, WriteSettings};

/// Why something isn't done any more. Several callers get it, so it is kept as text.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

#[derive(Default)]
pub(super) struct PoolState {
    pub(super) groups: Vec<Group>,
    /// The group of each subtask, where their number is limited.
    group_of: BTreeMap<Option<Subtask>, usize>,
    /// Every file that was ever opened and wasn't given up.
    pub(super) files: BTreeMap<FileToken, FileEntry>,
    /// Files on their way.
    pub(super) seals: usize,
    /// Files that a segment is being streamed into.
    pub(super) leases: usize,
    /// Files that are being given up.
    pub(super) retirements: usize,
    pub(super) file_count: u64,
}

/// Subtasks that share files.
pub(super) struct Group {
    pub(super) open: Vec<OpenFile>,
    subtasks: u32,
    /// In a blocking pool: taken while a segment is streamed into the group's one file.
    pub(super) slot: Option<Arc<Semaphore>>,
}

/// Has this writer taken its group's slot?
pub(super) enum Slot {
    /// It didn't need to.
    Unasked,
    /// It has, until the permit is dropped.
    #[allow(dead_code, reason = "held for its drop")]
    Taken(OwnedSemaphorePermit),
    /// It has waited long enough, and goes on without.
    GivenUp,
}

pub(super) struct FileEntry {
    pub(super) location: Location,
    pub(super) outcome: Outcome,
}

/// How far a file is.
pub(super) enum Outcome {
    Open,
    OnItsWay,
    Sealed(SealedFile),
    Failed(Refusal),
}

impl Refusal {
    pub(super) fn of(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.one_line() }
    }

    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

impl WriteSettings {
    pub(super) fn open_files(&self) -> usize {
        match self.mode {
            PoolMode::NonBlocking => self.open_files_max,
            PoolMode::Blocking { .. } => self.open_files_max.min(1),
        }
    }
}

impl PoolState {
    /// The group whose files a subtask's segments go to. Once in one, it stays.
    pub(super) fn group_of(&mut self, origin: &Origin, settings: &WriteSettings) -> usize {
        let Some(most) = settings.subtasks_per_file_max else {
            if self.groups.is_empty() {
                self.groups.push(Group::new(settings));
            }
            return 0;
        };
        if let Some(&group) = self.group_of.get(&origin.subtask) {
            return group;
        }
        if self.groups.last().is_none_or(|group| group.subtasks >= most.max(1)) {
            self.groups.push(Group::new(settings));
        }
        let group = self.groups.len() - 1;
        self.groups[group].subtasks += 1;
        self.group_of.insert(origin.subtask, group);
        group
    }

    /// All open files, leased ones not among them.
    pub(super) fn take_open(&mut self) -> Vec<OpenFile> {
        self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.open)).collect()
    }

    /// The group and the place of the open file that holds the most memory.
    pub(super) fn fullest(&self) -> Option<(usize, usize)> {
        let groups = self.groups.iter().enumerate();
        let open = groups.flat_map(|(g, group)| group.open.iter().enumerate().map(move |(i, file)| (g, i, file)));
        open.max_by_key(|(_, _, file)| file.held_bytes()).map(|(group, index, _)| (group, index))
    }
}

impl Group {
    fn new(settings: &WriteSettings) -> Self {
        let slot = match settings.mode {
            PoolMode::NonBlocking => None,
            PoolMode::Blocking { .. } => Some(Arc::new(Semaphore::new(1))),
        };
        Self { open: Vec::new(), subtasks: 0, slot }
    }

    /// The open file with the least room of those that have enough.
    pub(super) fn best_fit(&self, length: u64, origin: &Origin, settings: &WriteSettings) -> Option<usize> {
        let rooms = self.open.iter().enumerate().map(|(i, file)| (file.room(origin, settings), i));
        rooms.filter(|&(room, _)| room >= length).min().map(|(_, index)| index)
    }

    /// The slot to wait for before a file is opened; none if that may be done now.
    pub(super) fn leased(&self, slot: &Slot) -> Option<Arc<Semaphore>> {
        let (Some(semaphore), Slot::Unasked) = (&self.slot, slot) else { return None };
        // An open file beside the lease: somebody has waited in vain, and others may go on from there.
        (self.open.is_empty() && semaphore.available_permits() == 0).then(|| semaphore.clone())
    }
}
