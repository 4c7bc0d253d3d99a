//! Decides which physical file a segment goes to, and sees to it that every file gets sealed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::file::{OpenFile, Placement, SealedFile};
use super::segment::{Chunk, SegmentWriter};
use super::{Origin, WriteSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{InlineHandle, JavaString, StreamHandle};
use crate::id::{CheckpointId, FileToken, SegmentId};
use crate::store::Location;
use crate::store::names::{PhysicalFileName, WorkerName};

/// Gives unguessable numbers. Passed in, so that a test can repeat a run.
pub type Tokens = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The files that segments are being packed into. Cheap to clone; all clones are one pool.
///
/// A segment goes, whole, to the open file that it fits best, or to a new one. The cap is hard: whether it still fits
/// is known to the byte, footer included, before it is placed.
#[derive(Clone)]
pub struct FilePool {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Location,
    worker: WorkerName,
    checkpoint: CheckpointId,
    settings: WriteSettings,
    tokens: Tokens,
    inline_token: FileToken,
    /// Never held across an await; no other lock is taken while it is held.
    state: Mutex<PoolState>,
    /// Told each time a seal has ended.
    seal_ended: Notify,
}

#[derive(Default)]
struct PoolState {
    open: Vec<OpenFile>,
    /// Seals under way, each in a task of its own, so that none is lost when a writer is cancelled.
    seals: usize,
    sealed: BTreeMap<FileToken, SealedFile>,
    /// Locations of failed seals; the store may have them all the same.
    failed: Vec<Location>,
    /// The first failure; from then on the pool takes nothing.
    error: Option<(ErrorKind, String)>,
    /// Given up by dropped writers, to be aborted.
    abandoned: Vec<OpenFile>,
    file_count: u64,
    inline_count: u32,
    inline_bytes: u64,
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

/// Below this much room a file is sealed rather than kept open: little would still fit.
const ROOM_BYTES_MIN: u64 = 4096;

impl FilePool {
    /// A pool that writes files of `checkpoint` into `directory`. Starts nothing.
    ///
    /// `worker` tells the files of one writing process from another's by name.
    pub fn new(
        directory: Location,
        worker: &str,
        checkpoint: CheckpointId,
        settings: WriteSettings,
        tokens: Tokens,
    ) -> Self {
        let (worker, inline_token) = (WorkerName::sanitise(worker), FileToken(tokens()));
        let (state, seal_ended) = (Mutex::default(), Notify::new());
        let shared = Shared { directory, worker, checkpoint, settings, tokens, inline_token, state, seal_ended };
        Self { shared: Arc::new(shared) }
    }

    /// Starts a segment. With its size known beforehand even a long one is placed exactly, for memory of that size.
    pub fn segment(&self, origin: Origin, size_hint: Option<u64>) -> SegmentWriter {
        SegmentWriter::new(self.clone(), origin, size_hint)
    }

    pub(super) fn settings(&self) -> &WriteSettings {
        &self.shared.settings
    }

    /// An inline handle for a chunk that is short enough, while the budget lasts.
    ///
    /// The handle is written out once for each of the `handles` that will be made of it: all of them count.
    pub(super) fn inline(&self, chunk: &Chunk, handles: u64) -> Result<Option<StreamHandle>> {
        let bytes = chunk.length.saturating_mul(handles);
        if bytes > self.shared.settings.inline_bytes_max {
            return Ok(None);
        }
        let mut state = self.state();
        if state.inline_bytes + bytes > self.shared.settings.inline_bytes_total_max {
            return Ok(None);
        }
        state.inline_bytes += bytes;
        drop(state);
        self.inline_handle(chunk.contiguous(), chunk.crc.value()).map(Some)
    }

    /// An inline handle for bytes that must go inline, whatever the threshold: outside the budget.
    pub fn inline_handle(&self, bytes: Bytes, crc32c: u32) -> Result<StreamHandle> {
        let mut state = self.state();
        let ordinal = state.inline_count;
        state.inline_count += 1;
        drop(state);
        let id = SegmentId { file: self.shared.inline_token, ordinal, crc32c };
        let name = JavaString::new(&id.to_string())
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("handle name {id}: {e}")))?;
        Ok(StreamHandle::Inline(InlineHandle { name, bytes }))
    }

    /// Places a whole segment. The file is sealed in the background when nothing more fits.
    pub(super) async fn place(&self, chunk: Chunk, origin: &Origin) -> Result<Placement> {
        let (placement, full) = {
            let mut state = self.state();
            state.healthy()?;
            let mut file = match state.best_fit(chunk.length, origin, &self.shared.settings) {
                Some(file) => file,
                None => self.shared.open_file(&mut state)?,
            };
            let placement = file.place(chunk, origin);
            (placement, keep_or_seal(&self.shared, &mut state, file, origin))
        };
        self.settle(full).await?;
        Ok(placement)
    }

    /// A fresh file for a segment that is streamed.
    pub(super) fn open_file(&self) -> Result<OpenFile> {
        let mut state = self.state();
        state.healthy()?;
        self.shared.open_file(&mut state)
    }

    /// Takes back a file that a segment was streamed into; shorter segments may fill what room is left.
    pub(super) async fn take_back(&self, file: OpenFile, origin: &Origin) -> Result<()> {
        let taken = {
            let mut state = self.state();
            match state.healthy() {
                Ok(()) => Ok(keep_or_seal(&self.shared, &mut state, file, origin)),
                Err(error) => Err((file, error)),
            }
        };
        match taken {
            Ok(full) => self.settle(full).await,
            Err((file, error)) => {
                // A pool that was abandoned meanwhile must not get another file.
                let _ = file.abandon().await;
                Err(error)
            }
        }
    }

    /// Has a file sealed that is full, waits while too many are on their way, and aborts what dropped writers gave up.
    async fn settle(&self, full: Option<Sealing>) -> Result<()> {
        if let Some(sealing) = full {
            sealing.start();
        }
        self.wait_for_uploads(self.shared.settings.uploads_max).await?;
        self.abort_abandoned().await
    }

    pub(super) fn give_up(&self, file: OpenFile) {
        self.state().abandoned.push(file);
    }

    /// Seals what is open, waits for every upload, and returns all files. One failed upload fails it.
    ///
    /// Cancel safe: a call after a cancelled one goes on where that stopped.
    pub async fn seal(&self) -> Result<Sealed> {
        let sealings: Vec<Sealing> = {
            let mut state = self.state();
            let open = std::mem::take(&mut state.open);
            open.into_iter().map(|file| Sealing::new(&self.shared, &mut state, file)).collect()
        };
        sealings.into_iter().for_each(Sealing::start);
        self.wait_for_uploads(0).await?;
        self.abort_abandoned().await?;
        Ok(Sealed { files: self.state().sealed.clone() })
    }

    /// Gives everything up: stops uploads and deletes what was written. For a failed checkpoint.
    ///
    /// Cancel safe, and after an error a further call goes on with what is left.
    pub async fn abandon(&self) -> Result<()> {
        {
            let mut state = self.state();
            state.error = Some((ErrorKind::Conflict, "the pool was abandoned".into()));
            let open = std::mem::take(&mut state.open);
            state.abandoned.extend(open);
        }
        // Uploads under way are waited for, not cut: one that is cut may still land after the delete.
        self.seals_at_most(0).await;
        let locations = {
            let mut state = self.state();
            for sealed in std::mem::take(&mut state.sealed).into_values() {
                let name = sealed.path.file_name().unwrap_or_default();
                state.failed.push(self.shared.directory.join(name)?);
            }
            state.failed.clone()
        };
        for location in locations {
            location.delete().await?;
        }
        self.state().failed.clear();
        self.abort_abandoned().await
    }

    async fn abort_abandoned(&self) -> Result<()> {
        let next = || self.state().abandoned.pop();
        while let Some(file) = next() {
            file.abandon().await?;
        }
        Ok(())
    }

    async fn wait_for_uploads(&self, uploads_max: usize) -> Result<()> {
        self.seals_at_most(uploads_max).await;
        self.state().healthy()
    }

    async fn seals_at_most(&self, count: usize) {
        loop {
            // Registered before the count is looked at, so that no end falls in between.
            let mut ended = std::pin::pin!(self.shared.seal_ended.notified());
            ended.as_mut().enable();
            if self.state().seals <= count {
                return;
            }
            ended.await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PoolState> {
        // A panic while the lock was held can't leave the state half changed: no code between two changes can panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn open_file(&self, state: &mut PoolState) -> Result<OpenFile> {
        let token = FileToken((self.tokens)());
        let (worker, checkpoint, sequence) = (self.worker.clone(), self.checkpoint, state.file_count);
        let name = PhysicalFileName { attempt: 0, worker, checkpoint, sequence, token };
        state.file_count += 1;
        Ok(OpenFile::new(self.directory.join(&name.to_string())?, token))
    }
}

/// Keeps a file open if more may fit; else, or when too many are open, gives the fullest to be sealed.
fn keep_or_seal(shared: &Arc<Shared>, state: &mut PoolState, file: OpenFile, origin: &Origin) -> Option<Sealing> {
    if file.room(origin, &shared.settings) < ROOM_BYTES_MIN {
        return Some(Sealing::new(shared, state, file));
    }
    state.open.push(file);
    if state.open.len() <= shared.settings.open_files_max {
        return None;
    }
    let fullest = (0..state.open.len()).max_by_key(|&i| state.open[i].data_bytes())?;
    let file = state.open.swap_remove(fullest);
    Some(Sealing::new(shared, state, file))
}

/// A file to be sealed: it counts as on its way already.
struct Sealing {
    file: OpenFile,
    ending: SealEnd,
}

impl Sealing {
    fn new(shared: &Arc<Shared>, state: &mut PoolState, file: OpenFile) -> Self {
        state.seals += 1;
        let ending = SealEnd { shared: shared.clone(), location: file.location().clone(), result: None };
        Self { file, ending }
    }

    /// Seals the file in a task of its own. Not to be called under the pool's lock: where no task can be started, the
    /// end is recorded at once.
    fn start(self) {
        let Self { file, mut ending } = self;
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                ending.result = Some(file.seal().await);
                drop(ending);
            })),
            Err(_) => {
                let message = format!("{} can't be written: there is no tokio runtime", ending.location.name());
                ending.result = Some(Err(Error::new(ErrorKind::Invalid, message)));
            }
        }
    }
}

/// Records how a seal ended, also when its task is cut.
struct SealEnd {
    shared: Arc<Shared>,
    location: Location,
    result: Option<Result<SealedFile>>,
}

impl Drop for SealEnd {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seals -= 1;
        match self.result.take() {
            Some(Ok(sealed)) => {
                state.sealed.insert(sealed.token, sealed);
            }
            Some(Err(error)) => {
                state.error.get_or_insert((error.kind(), error.one_line()));
                state.failed.push(self.location.clone());
            }
            None => {
                let message = format!("the upload of {} was cut", self.location.name());
                state.error.get_or_insert((ErrorKind::Store, message));
                state.failed.push(self.location.clone());
            }
        }
        drop(state);
        self.shared.seal_ended.notify_waiters();
    }
}

impl PoolState {
    /// The open file with the least room of those that have enough.
    fn best_fit(&mut self, length: u64, origin: &Origin, settings: &WriteSettings) -> Option<OpenFile> {
        let room = |i: &usize| self.open[*i].room(origin, settings);
        let best = (0..self.open.len()).filter(|i| room(i) >= length).min_by_key(room)?;
        Some(self.open.swap_remove(best))
    }

    fn healthy(&self) -> Result<()> {
        match &self.error {
            None => Ok(()),
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }
}
