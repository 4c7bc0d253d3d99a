//! What a snapshot of a directory has written, and the handle that it becomes.

use super::options::UploadCounts;
use super::upload::Uploaded;
use super::{Files, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{IncrementalHandle, InlineHandle, JavaString, LocalPathHandle, StreamHandle};
use crate::id::{CheckpointId, KeyGroupRange};
use crate::worker::Snapshot;
use crate::write::Written;

/// The files of a snapshot: written, and not yet durable.
#[must_use]
pub struct WrittenFiles {
    pub(super) checkpoint: CheckpointId,
    /// Nobody names its files again.
    pub(super) is_savepoint: bool,
    /// In the order of their names.
    files: Vec<Taken>,
    meta: Written,
    counts: UploadCounts,
}

/// A file that is in the snapshot.
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) is_shared: bool,
    pub(super) piece: Piece,
    /// It was there, and the worker wanted it written again.
    pub(super) is_asked_for: bool,
}

/// Where a file's bytes are.
pub(super) enum Piece {
    /// In an earlier checkpoint.
    Kept(Known),
    New(Uploaded),
}

impl WrittenFiles {
    pub(super) fn new(snapshot: &Snapshot, files: Vec<Taken>, meta: Written) -> Self {
        let mut counts = UploadCounts::default();
        for Taken { is_shared, piece, is_asked_for, .. } in &files {
            let (count, sum, bytes) = match piece {
                Piece::Kept(known) => (&mut counts.kept_files, &mut counts.kept_bytes, known.bytes),
                Piece::New(new) if !is_shared => (&mut counts.private_files, &mut counts.private_bytes, new.bytes),
                Piece::New(new) if *is_asked_for => {
                    (&mut counts.rewritten_files, &mut counts.rewritten_bytes, new.bytes)
                }
                Piece::New(new) => (&mut counts.new_files, &mut counts.new_bytes, new.bytes),
            };
            *count += 1;
            *sum += bytes;
        }
        let (checkpoint, is_savepoint) = (snapshot.checkpoint(), snapshot.savepoint().is_some());
        Self { checkpoint, is_savepoint, files, meta, counts }
    }

    /// What was written, and what wasn't.
    pub fn counts(&self) -> UploadCounts {
        self.counts
    }

    /// The handle, and the shared files that it names.
    pub(super) fn into_handle(
        self,
        backend_id: JavaString,
        range: KeyGroupRange,
        of: impl Fn(&Written) -> Result<Option<StreamHandle>>,
    ) -> Result<(IncrementalHandle, Files)> {
        let (mut shared, mut private, mut files) = (Vec::new(), Vec::new(), Files::new());
        for Taken { name, is_shared, piece, .. } in self.files {
            let known = match piece {
                Piece::Kept(known) => known,
                Piece::New(Uploaded { written, bytes, crc32c }) => {
                    let handle = match of(&written)? {
                        Some(handle) => handle,
                        None => empty(&name)?,
                    };
                    Known { bytes, crc32c, handle }
                }
            };
            let handle = LocalPathHandle { local_path: text(&name)?, handle: Some(known.handle.clone()) };
            if is_shared {
                shared.push(handle);
                files.insert(name, known);
            } else {
                private.push(handle);
            }
        }
        let UploadCounts { new_bytes, rewritten_bytes, private_bytes, .. } = self.counts;
        let bytes_new = (new_bytes + rewritten_bytes + private_bytes) as i64;
        let id = text(&format!("{backend_id}-{}", self.checkpoint))?;
        let handle = IncrementalHandle {
            checkpoint_id: self.checkpoint.0 as i64,
            backend_id,
            range,
            persisted: Some((bytes_new, id)),
            meta: of(&self.meta)?,
            shared,
            private,
        };
        Ok((handle, files))
    }
}

/// A file without bytes is a file all the same: a lock, most often.
fn empty(name: &str) -> Result<StreamHandle> {
    Ok(StreamHandle::Inline(InlineHandle { name: text(&format!("empty-{name}"))?, bytes: bytes::Bytes::new() }))
}

/// A text for the metadata.
pub(super) fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("{text:?}: {e}")))
}
