//! One physical file, from the first segment to the seal.

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use super::bounds::Held;
use super::pool::Beside;
use super::segment::Chunk;
use super::spares::BUFFER_BYTES;
use super::{FileLayout, Origin, WriteSettings};
use crate::backup::Copying;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FooterBuilder;
use crate::format::footer::FOOTER_BYTES_MAX;
use crate::handle::{JavaString, JavaStringError, SegmentHandle, StreamHandle};
use crate::id::{FileToken, Scope, SegmentId};
use crate::store::{FlinkPath, Location, Upload};

/// A chunk shorter than this is copied next to its neighbours: a buffer and a system call of its own cost more.
const COALESCE_BYTES: usize = 16 << 10;

/// A file that still takes segments.
pub(super) struct OpenFile {
    location: Location,
    token: FileToken,
    layout: FileLayout,
    footer: FooterBuilder,
    /// Bytes of segments placed so far.
    data_bytes: u64,
    /// Bytes not yet handed to the store.
    chunks: Vec<Bytes>,
    tail: BytesMut,
    /// The memory of all this.
    held: Held,
    /// Set when a long segment is streamed: bytes go to the store while they come.
    stream: Option<Stream>,
    beside: Beside,
    /// The copy, once bytes of the file have left.
    copying: Option<Copying>,
}

struct Stream {
    upload: Upload,
    /// Where the parts are being sent, to be aborted from anywhere.
    runtime: Handle,
}

/// Where a segment lies, in a file that is not yet durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Who may name it.
    pub scope: Scope,
    /// Its id, which names the file.
    pub id: SegmentId,
}

/// A file that is durable and never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// Where it is.
    pub path: FlinkPath,
    /// Its length in bytes, footer included.
    pub file_bytes: u64,
    /// What its segments' ids begin with.
    pub token: FileToken,
    /// The path as handles have it: one for all of them.
    text: std::result::Result<JavaString, JavaStringError>,
}

impl OpenFile {
    pub(super) fn new(location: Location, token: FileToken, layout: FileLayout, held: Held, beside: Beside) -> Self {
        let (footer, chunks, tail) = (FooterBuilder::new(token), Vec::new(), BytesMut::new());
        Self { location, token, layout, footer, data_bytes: 0, chunks, tail, held, stream: None, beside, copying: None }
    }

    /// Room for segments of `origin` below the cap; none when the footer is as long as it may be.
    pub(super) fn room(&self, origin: &Origin, settings: &WriteSettings) -> u64 {
        if self.layout == FileLayout::Plain {
            return if self.data_bytes == 0 { u64::MAX } else { 0 };
        }
        let footer_bytes = self.footer.encoded_len_with(origin.checkpoint, origin.subtask);
        if footer_bytes > FOOTER_BYTES_MAX {
            return 0;
        }
        settings.file_bytes_max.saturating_sub(self.data_bytes.saturating_add(footer_bytes))
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Bytes in memory.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.bytes()
    }

    pub(super) fn token(&self) -> FileToken {
        self.token
    }

    /// Places a segment behind those that are there. Doesn't look at the cap: the pool has.
    pub(super) fn place(&mut self, chunk: &mut Chunk, origin: &Origin) -> Placement {
        let (length, crc32c) = (chunk.length, chunk.crc.value());
        for bytes in chunk.bytes.drain(..) {
            self.append(bytes);
        }
        match chunk.copied.len() {
            // Copied again rather than made a buffer of its own, which would cost more.
            ..COALESCE_BYTES => {
                self.coalesce(&chunk.copied);
                chunk.copied.clear();
            }
            _ => self.append(chunk.copied.split().freeze()),
        }
        self.held.absorb(&mut chunk.held);
        self.record(length, crc32c, origin)
    }

    /// Adds bytes of a segment that is being streamed. Not cancel safe: dropped halfway, the file can't be used.
    pub(super) async fn stream(&mut self, bytes: Vec<Bytes>, held: &mut Held) -> Result<()> {
        self.held.absorb(held);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let runtime = Handle::try_current().map_err(|_| no_runtime(&self.location))?;
                if let Some(mark) = &self.beside.mark {
                    mark.put().await?;
                }
                self.copying = self.beside.backup.as_ref().and_then(|backup| backup.copy(self.location.name()));
                none.insert(Stream { upload: self.location.create_multipart().await?, runtime })
            }
        };
        for bytes in bytes {
            if let Some(copying) = &self.copying {
                // What the upload holds of it is counted for the upload.
                copying.push(std::slice::from_ref(&bytes));
                copying.lag();
            }
            stream.upload.write(bytes).await?;
        }
        self.held.shrink_to(stream.upload.held_bytes());
        Ok(())
    }

    /// Enters the segment whose bytes have all been added into the index.
    pub(super) fn record(&mut self, length: u64, crc32c: u32, origin: &Origin) -> Placement {
        let offset = self.data_bytes;
        self.data_bytes += length;
        let ordinal = self.footer.push(length, crc32c, origin.scope, origin.checkpoint, origin.subtask);
        let id = SegmentId { file: self.token, ordinal, crc32c };
        Placement { offset, length, scope: origin.scope, id }
    }

    fn append(&mut self, bytes: Bytes) {
        if bytes.len() < COALESCE_BYTES {
            return self.coalesce(&bytes);
        }
        self.end_tail();
        self.chunks.push(bytes);
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            // What room is left in the buffer is filled later.
            self.chunks.push(self.tail.split().freeze());
        }
    }

    fn coalesce(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > BUFFER_BYTES {
            // More will come: growing step by step would copy everything twice.
            let next = self.held.spares().take().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES));
            self.chunks.push(std::mem::replace(&mut self.tail, next).freeze());
        } else if self.tail.capacity() == 0
            && let Some(spare) = self.held.spares().take()
        {
            self.tail = spare;
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Makes the file durable: its data, then its footer if it has one, in one write unless it is long enough for parts or a segment was
    /// streamed into it.
    ///
    /// On an error nothing is left at the file's path as far as the store allows; the caller deletes it to be sure.
    ///
    /// The copy on a local disk is written meanwhile, and isn't waited for.
    pub(super) async fn seal(mut self, part_bytes: u64) -> Result<SealedFile> {
        self.end_tail();
        if let Some(mark) = &self.beside.mark {
            mark.put().await?;
        }
        let mut file_bytes = self.data_bytes;
        if self.layout == FileLayout::Packed {
            let footer = self.footer.encode();
            file_bytes += footer.len() as u64;
            self.chunks.push(footer);
        }
        let begun = self.copying.take();
        let copying = begun.or_else(|| self.beside.backup.as_ref()?.copy(self.location.name()));
        if let Some(copying) = &copying {
            copying.push(&self.chunks);
        }
        // Dropped where the upload fails, the copy is given up.
        match self.stream {
            // Nobody else can guess the name.
            None => {
                self.tail = BytesMut::new();
                let written = self.chunks.clone();
                self.location.create_own_in_parts(self.chunks, part_bytes).await?;
                self.held.spares().give_back(written);
            }
            Some(Stream { upload, .. }) => upload.complete_with(self.chunks).await?,
        }
        if let Some(copying) = copying {
            copying.lag();
            copying.finish();
        }
        let path = self.location.name().clone();
        let text = JavaString::new(&path.to_string());
        Ok(SealedFile { path, file_bytes, token: self.token, text })
    }

    /// Gives the file up: its memory is released. What was streamed is to be aborted, on the runtime that sends it.
    pub(super) fn give_up(self) -> Option<(Upload, Handle)> {
        self.stream.map(|stream| (stream.upload, stream.runtime))
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }
}

impl SealedFile {
    /// The durable handle of a segment in this file.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a placement in another file, or a path too long for Flink's format.
    pub fn handle(&self, placement: &Placement) -> Result<StreamHandle> {
        if placement.id.file != self.token {
            let message = format!("segment {} does not lie in file {}", placement.id, self.path);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        segment_handle(&self.path, self.text.clone(), placement)
    }
}

/// A handle of bytes at a path, durable or not.
pub(super) fn segment_handle(
    path: &FlinkPath,
    text: std::result::Result<JavaString, JavaStringError>,
    placement: &Placement,
) -> Result<StreamHandle> {
    let invalid = |e: JavaStringError| Error::new(ErrorKind::Invalid, format!("path {path}: {e}"));
    Ok(StreamHandle::Segment(SegmentHandle {
        path: text.map_err(invalid)?,
        offset: placement.offset,
        size: placement.length,
        scope: placement.scope,
        id: JavaString::new(&placement.id.to_string()).map_err(invalid)?,
    }))
}

/// Uploads run in tasks.
pub(super) fn no_runtime(location: &Location) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} can't be written: there is no tokio runtime", location.name()))
}
