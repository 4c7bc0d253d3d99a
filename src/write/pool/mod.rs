//! Decides which physical file a segment goes to, and sees to it that every file gets sealed.
//!
//! `state` has what a pool knows, `sealing` the tasks that make files durable or give them up, `lease` the files that a
//! long segment is streamed into.

mod ending;
mod lease;
mod sealing;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

pub(super) use lease::Lease;
pub(super) use sealing::Sealing;

use self::state::{FileEntry, Outcome, PoolState, Refusal, Slot};
use super::bounds::{Bounds, Shed};
use super::file::{OpenFile, Placement, SealedFile, segment_handle};
use super::inline::InlineBudget;
use super::segment::{Chunk, SegmentWriter};
use super::{FileLayout, Mark, Origin, PoolMode, WriteSettings};
use crate::backup::Backup;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{JavaString, StreamHandle};
use crate::id::{CheckpointId, FileToken};
use crate::metrics::{self, Queue};
use crate::store::Location;
use crate::store::names::{PhysicalFileName, WorkerName};
use crate::sync::{Mutex, MutexGuard, OnceLock};

/// Gives unguessable numbers. Passed in, so that a test can repeat a run.
pub type Tokens = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where a pool's files go, and what their names say.
#[derive(Clone, Debug)]
pub struct FileNaming {
    /// Where the files lie.
    pub directory: Location,
    /// The attempt that writes them: the epoch of the coordinator that asked for the checkpoint.
    pub attempt: u64,
    /// Tells the files of one writing process from another's.
    pub worker: WorkerName,
    /// The checkpoint that they are written for.
    pub checkpoint: CheckpointId,
}

/// The files that segments are being packed into. Cheap to clone; all clones are one pool.
///
/// A segment goes, whole, to the open file that it fits best, or to a new one. The cap is hard: whether it still fits
/// is known to the byte, footer included, before it is placed.
#[derive(Clone)]
pub struct FilePool {
    shared: Arc<Shared>,
}

struct Shared {
    naming: FileNaming,
    settings: WriteSettings,
    tokens: Tokens,
    inline: Arc<InlineBudget>,
    bounds: Bounds,
    on_failure: OnFailure,
    beside: Beside,
    /// Why nothing more is taken. Set under the lock of `state`, read also without.
    closed: OnceLock<Refusal>,
    /// Never held across an await; the lock of the bounds may be taken while it is held, and no other.
    state: Mutex<PoolState>,
    /// Told each time a file's outcome is known, and when the pool is closed.
    ended: Notify,
}

/// What is written beside a pool's files.
#[derive(Clone, Default)]
pub(crate) struct Beside {
    /// Copies of the files, on a local disk.
    pub(crate) backup: Option<Backup>,
    /// A file that is there before the first of them.
    pub(crate) mark: Option<Mark>,
}

/// What a failed upload does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    /// The pool takes nothing more: all of it is wanted or none.
    Close,
    /// Only those fail that placed a segment in the file.
    Continue,
}

/// Every file of a pool, durable.
#[derive(Clone, Debug, Default)]
pub struct Sealed {
    /// The files by what their segments' ids begin with.
    pub files: BTreeMap<FileToken, SealedFile>,
}

impl Sealed {
    /// The durable handle of a segment.
    pub fn handle(&self, placement: &Placement) -> Result<StreamHandle> {
        match self.files.get(&placement.id.file) {
            Some(file) => file.handle(placement),
            None => Err(Error::new(ErrorKind::Invalid, format!("segment {} lies in no sealed file", placement.id))),
        }
    }
}

/// The options that bound what goes to the coordinator's memory.
const STATE_MAX: &str = "drystone.memory.state-max";
const TOTAL_MAX: &str = "drystone.memory.total-max";

/// Below this much room a file is sealed rather than kept open: little would still fit.
const ROOM_BYTES_MIN: u64 = 4096;

impl FilePool {
    /// A pool by itself, whose files are wanted all or none: after a failed upload it takes nothing. Starts nothing.
    pub fn new(naming: FileNaming, settings: WriteSettings, tokens: Tokens) -> Self {
        let inline = Arc::new(InlineBudget::new(FileToken(tokens()), &settings));
        Self::with(
            naming,
            settings,
            tokens,
            inline,
            Bounds::alone(settings.uploads_max),
            OnFailure::Close,
            Beside::default(),
        )
    }

    /// A pool among others, with which it shares bounds and maybe what may go inline: a failed upload fails only those
    /// who placed a segment in the file. Starts nothing.
    pub fn sharing(
        naming: FileNaming,
        settings: WriteSettings,
        tokens: Tokens,
        inline: Arc<InlineBudget>,
        bounds: Bounds,
    ) -> Self {
        Self::beside(naming, settings, tokens, inline, bounds, Beside::default())
    }

    /// As [`sharing`](Self::sharing), with something written beside the files.
    pub(crate) fn beside(
        naming: FileNaming,
        settings: WriteSettings,
        tokens: Tokens,
        inline: Arc<InlineBudget>,
        bounds: Bounds,
        beside: Beside,
    ) -> Self {
        Self::with(naming, settings, tokens, inline, bounds, OnFailure::Continue, beside)
    }

    fn with(
        naming: FileNaming,
        settings: WriteSettings,
        tokens: Tokens,
        inline: Arc<InlineBudget>,
        bounds: Bounds,
        on_failure: OnFailure,
        beside: Beside,
    ) -> Self {
        let (closed, state, ended) = (OnceLock::new(), Mutex::default(), Notify::new());
        let shared = Shared { naming, settings, tokens, inline, bounds, on_failure, beside, closed, state, ended };
        let shared = Arc::new(shared);
        let weak = Arc::downgrade(&shared);
        let shed: Weak<dyn Shed> = weak;
        shared.bounds.register(shed);
        Self { shared }
    }

    /// Starts a segment. With its size known beforehand even a long one is placed exactly, for memory of that size.
    pub fn segment(&self, origin: Origin, size_hint: Option<u64>) -> SegmentWriter {
        SegmentWriter::new(self.clone(), origin, size_hint)
    }

    pub(super) fn settings(&self) -> &WriteSettings {
        &self.shared.settings
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.shared.bounds
    }

    /// An inline handle for a chunk that is short enough, while the budget lasts.
    ///
    /// The handle is written out once for each of the `handles` that will be made of it: all of them count.
    pub(super) fn inline(&self, chunk: &mut Chunk, handles: u64) -> Result<Option<StreamHandle>> {
        match self.shared.inline.spend(chunk.length.saturating_mul(handles)) {
            true => {
                metrics::inlined(chunk.length);
                self.inline_handle(chunk.contiguous(), chunk.crc.value()).map(Some)
            }
            false => Ok(None),
        }
    }

    /// Are there files that a segment may go to?
    pub(super) fn has_files(&self) -> bool {
        self.shared.settings.layout != FileLayout::None
    }

    /// # Errors
    /// `Invalid`: there are no files, and a segment of so many bytes is longer than one may be.
    pub(super) fn refuse_too_long(&self, length: u64) -> Result<()> {
        let most = self.shared.settings.inline_bytes_max;
        if self.has_files() || length <= most {
            return Ok(());
        }
        let message = format!(
            "a piece of state has {length} bytes or more, and goes to the coordinator's memory: allowed are {most} \
             ({STATE_MAX}); or take execution.checkpointing.storage=filesystem"
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// # Errors
    /// `Invalid`: there are no files, and inline is no room either.
    pub(super) fn refuse_without_files(&self, length: u64) -> Result<()> {
        if self.has_files() {
            return Ok(());
        }
        let message = format!(
            "a piece of state of {length} bytes goes to the coordinator's memory, and with it there would be more than the {} \
             bytes that a checkpoint may have there ({TOTAL_MAX}); or take execution.checkpointing.storage=filesystem",
            self.shared.settings.inline_bytes_total_max
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// An inline handle for bytes that must go inline, whatever the threshold: outside the budget.
    pub fn inline_handle(&self, bytes: Bytes, crc32c: u32) -> Result<StreamHandle> {
        self.shared.inline.handle(bytes, crc32c)
    }

    /// Where a segment will lie, before it is durable: nobody may be told that it is there.
    ///
    /// # Errors
    /// `Invalid`: the segment lies in no file of this pool.
    pub fn provisional(&self, placement: &Placement) -> Result<StreamHandle> {
        let location = self.location_of(placement.id.file)?;
        let path = location.name();
        segment_handle(path, JavaString::new(&path.to_string()), placement)
    }

    fn location_of(&self, file: FileToken) -> Result<Location> {
        let state = self.shared.state();
        let entry = state.files.get(&file).ok_or_else(|| unknown(file))?;
        Ok(entry.location.clone())
    }

    /// Fails if the pool was closed.
    pub(super) fn check_open(&self) -> Result<()> {
        self.shared.check_open()
    }

    /// Places a whole segment, of which nothing is left in `chunk`. The file is given to be sealed when nothing more fits.
    ///
    /// Waits only if the pool is blocking, and its file is leased.
    pub(super) async fn place(&self, chunk: &mut Chunk, origin: &Origin) -> Result<(Placement, Option<Box<Sealing>>)> {
        let mut slot = Slot::Unasked;
        loop {
            match self.shared.try_place(chunk, origin, &slot)? {
                Placing::Done(placement, full) => return Ok((placement, full)),
                Placing::Leased(leased) => slot = self.wait_for_slot(leased).await,
            }
        }
    }

    /// Waits for a lease to end, but not for ever.
    async fn wait_for_slot(&self, leased: Arc<Semaphore>) -> Slot {
        let PoolMode::Blocking { lease_timeout } = self.shared.settings.mode else { return Slot::GivenUp };
        let started = Instant::now();
        let permit = tokio::time::timeout(lease_timeout, leased.acquire_owned()).await;
        metrics::waited(Queue::Leases, started.elapsed());
        match permit {
            Ok(Ok(permit)) => Slot::Taken(permit),
            _ => Slot::GivenUp,
        }
    }

    /// A fresh file for a segment that is streamed. In a blocking pool it takes the place of the open one.
    pub(super) async fn lease(&self, origin: &Origin) -> Result<Lease> {
        self.check_open()?;
        let slot = match self.shared.slot_of(origin) {
            None => Slot::Unasked,
            Some(slot) => match slot.clone().try_acquire_owned() {
                Ok(permit) => Slot::Taken(permit),
                Err(_) => self.wait_for_slot(slot).await,
            },
        };
        let (file, replaced) = self.shared.open_leased(origin, &slot)?;
        let lease = Lease::new(self.clone(), file, slot);
        for sealing in replaced {
            self.settle(Some(Box::new(sealing))).await?;
        }
        Ok(lease)
    }

    /// Has a file sealed that is full, and waits while too many are on their way.
    pub(super) async fn settle(&self, full: Option<Box<Sealing>>) -> Result<()> {
        let Some(sealing) = full else { return Ok(()) };
        sealing.start();
        self.shared.bounds.uploads_bounded().await;
        self.check_open()
    }
}

/// What became of an attempt to place a segment.
enum Placing {
    Done(Placement, Option<Box<Sealing>>),
    /// The file is leased: wait for it.
    Leased(Arc<Semaphore>),
}

impl Shared {
    fn check_open(&self) -> Result<()> {
        self.closed.get().map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    fn try_place(self: &Arc<Self>, chunk: &mut Chunk, origin: &Origin, slot: &Slot) -> Result<Placing> {
        let mut state = self.state();
        self.check_open()?;
        let group = state.group_of(origin, &self.settings);
        let index = match state.groups[group].best_fit(chunk.length, origin, &self.settings) {
            Some(index) => index,
            None => {
                if let Some(leased) = state.groups[group].leased(slot) {
                    return Ok(Placing::Leased(leased));
                }
                let file = self.open_file(&mut state)?;
                let open = &mut state.groups[group].open;
                open.push(file);
                open.len() - 1
            }
        };
        let placement = state.groups[group].open[index].place(chunk, origin);
        Ok(Placing::Done(placement, self.take_full(&mut state, group, index, origin)))
    }

    /// The slot of the group, where the pool is blocking.
    fn slot_of(&self, origin: &Origin) -> Option<Arc<Semaphore>> {
        let mut state = self.state();
        let group = state.group_of(origin, &self.settings);
        state.groups[group].slot.clone()
    }

    fn open_leased(self: &Arc<Self>, origin: &Origin, slot: &Slot) -> Result<(OpenFile, Vec<Sealing>)> {
        let mut state = self.state();
        self.check_open()?;
        let group = state.group_of(origin, &self.settings);
        let replaced = match slot {
            Slot::Taken(_) => std::mem::take(&mut state.groups[group].open),
            Slot::Unasked | Slot::GivenUp => Vec::new(),
        };
        let replaced = replaced.into_iter().map(|file| Sealing::new(self, &mut state, file)).collect();
        let file = self.open_file(&mut state)?;
        state.leases += 1;
        Ok((file, replaced))
    }

    fn open_file(&self, state: &mut PoolState) -> Result<OpenFile> {
        let token = FileToken((self.tokens)());
        let FileNaming { directory, attempt, worker, checkpoint } = &self.naming;
        let (attempt, checkpoint, worker) = (*attempt, *checkpoint, worker.clone());
        let name = PhysicalFileName { attempt, worker, checkpoint, sequence: state.file_count, token };
        let location = directory.join(&name.to_string())?;
        state.file_count += 1;
        state.files.insert(token, FileEntry { location: location.clone(), outcome: Outcome::Open });
        Ok(OpenFile::new(location, token, self.settings.layout, self.bounds.hold(), self.beside.clone()))
    }

    /// Takes a file out that has little room left; else, when too many are open, the fullest.
    fn take_full(
        self: &Arc<Self>,
        state: &mut PoolState,
        group: usize,
        index: usize,
        origin: &Origin,
    ) -> Option<Box<Sealing>> {
        let open = &mut state.groups[group].open;
        let full = if open[index].room(origin, &self.settings) < ROOM_BYTES_MIN {
            index
        } else if open.len() > self.settings.open_files() {
            (0..open.len()).max_by_key(|&i| open[i].data_bytes())?
        } else {
            return None;
        };
        let file = open.swap_remove(full);
        Some(Box::new(Sealing::new(self, state, file)))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        // A panic while the lock was held can't leave the state half changed: no code between two changes can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(file: FileToken) -> Error {
    Error::new(ErrorKind::Invalid, format!("file {file} is none of this pool"))
}
