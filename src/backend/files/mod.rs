//! A database whose snapshot is a directory of immutable files: uploaded incrementally, restored by download or link.
//!
//! A snapshot is a consistent directory that nobody changes meanwhile, as a database's own checkpoint makes it of hard
//! links: files that never change once they are there (tables), which checkpoints share, and a few small ones that do
//! (manifests), which are written each time. [`FileBackend`] uploads what the last completed checkpoint lacks, and
//! [`restore`] makes directories of what a checkpoint has. What comes out is Flink's handle of an incremental snapshot.

mod disk;
mod options;
mod place;
mod restore;
mod resume;
mod stamp;
mod upload;
mod written;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

pub use self::options::{FileKind, RestoreOptions, UploadCounts};
pub use self::restore::{DirectoryCounts, RestoredDirectories, RestoredDirectory, restore};
pub use self::written::WrittenFiles;

use self::disk::{Listing, LocalFile};
use self::stamp::Stamps;
use self::written::{Piece, Taken};
use super::book::Book;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{IncrementalHandle, JavaString, StreamHandle};
use crate::id::{CheckpointId, KeyGroupRange, Scope};
use crate::protocol::{Reuse, SavepointFormat};
use crate::read::TaskRestore;
use crate::sync::{Mutex, MutexGuard};
use crate::worker::{Durable, Snapshot};

/// The incremental snapshots of one database: of one subtask, from its start to its end.
///
/// A file is named again if the last completed checkpoint has one of its name, its length and its CRC-32C: never by the
/// name alone, since a database that was made anew uses its names again. A file is hashed as it is uploaded, and not again
/// as long as the disk says that it is the same. What the worker wants to have written again
/// ([`Reuse::Rewrite`]) is written again.
///
/// A savepoint names nothing of checkpoints, and they nothing of it: all of it is written, whatever was there.
///
/// ```
/// use drystone::backend::files::{FileBackend, FileKind};
/// use drystone::id::KeyGroupRange;
/// # use drystone::worker::{Snapshot, Worker};
/// # use drystone::{Result, handle::IncrementalHandle};
///
/// async fn checkpoint(files: &FileBackend, snapshot: Snapshot, directory: &std::path::Path) -> Result<IncrementalHandle> {
///     let kind = |name: &str| if name.ends_with(".sst") { FileKind::Shared } else { FileKind::Private };
///     let written = files.write_changed(&snapshot, directory, kind, b"column families".as_slice().into()).await?;
///     let durable = snapshot.seal().await?;
///     files.handle(written, &durable)
/// }
///
/// let range = KeyGroupRange::of_subtask(0, 1, 128).ok_or("no such subtask")?;
/// let files = FileBackend::new("7f6f1c9e-0000-4000-8000-000000000000", range)?.uploads(8);
/// # let _ = (files, checkpoint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileBackend {
    backend_id: JavaString,
    range: KeyGroupRange,
    uploads_max: usize,
    book: Book<Files>,
    /// Never held across an await, nor while another lock is taken.
    stamps: Mutex<Stamps>,
}

/// The shared files of a checkpoint, by name.
type Files = BTreeMap<String, Known>;

/// A file that a checkpoint has.
#[derive(Clone, Debug)]
struct Known {
    bytes: u64,
    crc32c: u32,
    handle: StreamHandle,
}

impl FileBackend {
    /// Nothing is known to be there. `backend_id` says which instance of the database it is, to Flink a UUID; `range` is
    /// its key groups.
    ///
    /// # Errors
    /// `Invalid`: the id is too long for the format.
    pub fn new(backend_id: &str, range: KeyGroupRange) -> Result<Self> {
        let backend_id = written::text(backend_id)?;
        let (book, stamps) = (Book::default(), Mutex::default());
        Ok(Self { backend_id, range, uploads_max: 4, book, stamps })
    }

    /// Reads so many files at once, at least one; 4 unless this is called. Their bytes count in the worker's memory, but
    /// for a piece of 256 KB of each that is on its way there.
    #[must_use]
    pub fn uploads(self, most: usize) -> Self {
        Self { uploads_max: most.max(1), ..self }
    }

    /// Goes on where a restored checkpoint was: what that has may be named again, as far as the job owns it. Whoever wrote
    /// a file, its name, length and checksum are the same if the bytes are; what has no checksum (stock Flink's) is
    /// uploaded.
    pub fn resume(&self, task: &TaskRestore) {
        if let Some((checkpoint, files)) = resume::files_of(task) {
            self.book.resume(checkpoint, files);
        }
    }

    /// Writes all files of a directory, and names nothing that an earlier checkpoint has. `kind` says which they are, by
    /// their names relative to the directory, with `/` between the parts. `meta` is the database's own description, which
    /// is written each time; stock Flink wants one.
    ///
    /// The directory must not change until this is through; it may go then. A directory without files in it isn't kept: the
    /// handle has files alone, as Flink's.
    ///
    /// Of a checkpoint, later ones name the files again once it has completed. Of a savepoint nobody does: the checkpoint
    /// after it goes on from the one before.
    ///
    /// Cancelled or failed, what was written is named by nobody, and nothing is known to be there that wasn't before.
    ///
    /// # Errors
    /// `NotFound`, `Store`: a file can't be read. `Conflict`: a file has changed while it was read; or the checkpoint has
    /// ended. `Invalid`: something is no file and no directory, or its name isn't UTF-8 or too long. Each names the file.
    /// `Unsupported`: a canonical savepoint, whose state isn't a database's files.
    pub async fn write_all(
        &self,
        snapshot: &Snapshot,
        directory: &Path,
        kind: impl Fn(&str) -> FileKind,
        meta: Bytes,
    ) -> Result<WrittenFiles> {
        self.write(snapshot, directory, kind, meta, &Files::new()).await
    }

    /// Writes the files that the last completed checkpoint lacks, or that the worker wants written again; in a savepoint,
    /// all of them. Else as [`write_all`](Self::write_all).
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub async fn write_changed(
        &self,
        snapshot: &Snapshot,
        directory: &Path,
        kind: impl Fn(&str) -> FileKind,
        meta: Bytes,
    ) -> Result<WrittenFiles> {
        let base = self.book.base(snapshot).filter(|_| snapshot.savepoint().is_none()).unwrap_or_default();
        self.write(snapshot, directory, kind, meta, &base).await
    }

    async fn write(
        &self,
        snapshot: &Snapshot,
        directory: &Path,
        kind: impl Fn(&str) -> FileKind,
        meta: Bytes,
        base: &Files,
    ) -> Result<WrittenFiles> {
        if snapshot.savepoint() == Some(SavepointFormat::Canonical) {
            let message = format!(
                "savepoint {} with format=CANONICAL of backend {}: a database's files are of its own form; allowed: NATIVE",
                snapshot.checkpoint(),
                self.backend_id
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let listing = disk::list(directory).await?;
        let mut takes = Vec::new();
        for file in &listing.files {
            match kind(&file.name) {
                FileKind::Shared => takes.push(self.take(snapshot, &listing, file, true, base.get(&file.name))),
                FileKind::Private => takes.push(self.take(snapshot, &listing, file, false, None)),
                FileKind::Skipped => {}
            }
        }
        let taken: Vec<Taken> = stream::iter(takes).buffered(self.uploads_max).try_collect().await?;
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        writer.write(meta).await?;
        self.stamps().retain(&listing);
        Ok(WrittenFiles::new(snapshot, taken, writer.finish().await?))
    }

    /// What the checkpoint's metadata is to say, once all is durable. From here on the checkpoint is under way: say how it
    /// ends.
    ///
    /// # Errors
    /// `Invalid`: the files were written for another snapshot.
    pub fn handle(&self, written: WrittenFiles, durable: &Durable) -> Result<IncrementalHandle> {
        self.handle_by(written, |written| durable.handle(written))
    }

    /// As [`handle`](Self::handle), before anything is durable: for a coordinator that makes sure of the files, as with
    /// [`Snapshot::provisional`].
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    pub fn provisional_handle(&self, written: WrittenFiles, snapshot: &Snapshot) -> Result<IncrementalHandle> {
        self.handle_by(written, |written| snapshot.provisional(written))
    }

    /// The checkpoint is committed: what it has may be named again. Of several ends the first counts; idempotent, and
    /// legal in any order, as are [`aborted`](Self::aborted) and [`subsumed`](Self::subsumed).
    pub fn confirmed(&self, checkpoint: CheckpointId) {
        self.book.confirmed(checkpoint);
    }

    /// The checkpoint won't be committed: what it has is written again.
    pub fn aborted(&self, checkpoint: CheckpointId) {
        self.book.aborted(checkpoint);
    }

    /// The checkpoint was committed, and a newer one has taken its place. If nothing was heard of that one, nothing is
    /// known to be there.
    pub fn subsumed(&self, checkpoint: CheckpointId) {
        self.book.subsumed(checkpoint);
    }

    fn handle_by(
        &self,
        written: WrittenFiles,
        of: impl Fn(&crate::write::Written) -> Result<Option<StreamHandle>>,
    ) -> Result<IncrementalHandle> {
        let (checkpoint, is_savepoint) = (written.checkpoint, written.is_savepoint);
        let (handle, files) = written.into_handle(self.backend_id.clone(), self.range, of)?;
        if !is_savepoint {
            self.book.wrote(checkpoint, files);
        }
        Ok(handle)
    }

    async fn take(
        &self,
        snapshot: &Snapshot,
        listing: &Listing,
        file: &LocalFile,
        is_shared: bool,
        known: Option<&Known>,
    ) -> Result<Taken> {
        let name = file.name.clone();
        let mut is_asked_for = false;
        if let Some(known) = known.filter(|known| known.bytes == file.bytes)
            && self.crc32c(listing, file).await? == known.crc32c
        {
            match snapshot.reuse(&known.handle) {
                Reuse::Keep => return Ok(Taken { name, is_shared, is_asked_for, piece: Piece::Kept(known.clone()) }),
                Reuse::Rewrite(_) => is_asked_for = true,
            }
        }
        let scope = if is_shared { Scope::Shared } else { Scope::Exclusive };
        let uploaded = upload::upload(snapshot, scope, file).await?;
        self.stamps().note(listing, file, uploaded.crc32c);
        Ok(Taken { name, is_shared, is_asked_for, piece: Piece::New(uploaded) })
    }

    /// The checksum of a file: from before, if it is sure to be the same one.
    async fn crc32c(&self, listing: &Listing, file: &LocalFile) -> Result<u32> {
        let known = self.stamps().crc32c(file);
        match known {
            Some(crc32c) => Ok(crc32c),
            None => {
                let crc32c = disk::hash(file).await?;
                self.stamps().note(listing, file, crc32c);
                Ok(crc32c)
            }
        }
    }

    fn stamps(&self) -> MutexGuard<'_, Stamps> {
        // No code between two changes that belong together can panic.
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the local disk said.
fn failed(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        _ => ErrorKind::Store,
    };
    Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
}
