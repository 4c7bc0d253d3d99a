//! Writes one segment: buffers it, then has it placed, or streams it when it is long.

use bytes::{Bytes, BytesMut};

use super::Origin;
use super::file::{OpenFile, Placement};
use super::pool::FilePool;
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::Crc32c;
use crate::handle::StreamHandle;

/// The bytes of a segment, buffered.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<Bytes>,
    pub(super) length: u64,
    pub(super) crc: Crc32c,
}

/// What became of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing was written, so there is nothing to point to.
    Nothing,
    /// It is short: the handle holds the bytes.
    Inline(StreamHandle),
    /// It lies in a file, which the pool has yet to seal.
    Placed(Placement),
}

/// Writes one segment.
///
/// Dropped before [`finish`](Self::finish) it leaves nothing behind but, if it was streaming, an upload that the pool
/// aborts when it next places a segment, is sealed or is abandoned.
pub struct SegmentWriter {
    pool: FilePool,
    origin: Origin,
    /// Bytes kept in memory before the segment is streamed instead.
    buffer_bytes_max: u64,
    may_inline: bool,
    /// How many handles will be made of the one that comes out.
    handles: u64,
    chunk: Chunk,
    /// Bytes copied from slices, not yet in `chunk`.
    copied: BytesMut,
    streaming: Option<OpenFile>,
    /// Bytes on their way to the store were lost, so that the segment can't be whole any more.
    has_failed: bool,
}

/// Slices are gathered into buffers of this size.
const COPY_BYTES: usize = 64 << 10;

impl SegmentWriter {
    pub(super) fn new(pool: FilePool, origin: Origin, size_hint: Option<u64>) -> Self {
        // A segment whose size is known is placed as a whole, in the file that it fits best, however long.
        let settings = pool.settings();
        let buffer_bytes_max = match size_hint {
            Some(size) if size <= settings.file_bytes_max => settings.buffer_bytes_max.max(size),
            Some(_) => 0,
            None => settings.buffer_bytes_max,
        };
        let (chunk, copied) = (Chunk::default(), BytesMut::new());
        Self {
            pool,
            origin,
            buffer_bytes_max,
            may_inline: true,
            handles: 1,
            chunk,
            copied,
            streaming: None,
            has_failed: false,
        }
    }

    /// Has the segment placed in a file however short it is.
    pub fn never_inline(mut self) -> Self {
        self.may_inline = false;
        self
    }

    /// Says how many streams will have this segment's handle. Inline it would be written out as often.
    pub fn named_by(mut self, streams: u64) -> Self {
        self.handles = streams;
        self
    }

    /// Bytes written so far: the position within the segment.
    pub fn position(&self) -> u64 {
        self.chunk.length
    }

    /// CRC-32C of the bytes written so far.
    pub fn crc32c(&self) -> u32 {
        self.chunk.crc.value()
    }

    /// Adds bytes, without a copy. Waits for the store when the segment is long.
    ///
    /// Not cancel safe: after a call that was cancelled, or has failed, the writer can only be dropped.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.chunk.crc.update(&bytes);
        self.chunk.length += bytes.len() as u64;
        self.gather();
        self.chunk.bytes.push(bytes);
        self.stream_if_long().await
    }

    /// Adds bytes, with one copy. Waits for the store when the segment is long.
    ///
    /// Not cancel safe: after a call that was cancelled, or has failed, the writer can only be dropped.
    pub async fn write_slice(&mut self, bytes: &[u8]) -> Result<()> {
        self.chunk.crc.update(bytes);
        self.chunk.length += bytes.len() as u64;
        self.copied.extend_from_slice(bytes);
        if self.copied.len() < COPY_BYTES {
            return Ok(());
        }
        self.gather();
        self.stream_if_long().await
    }

    /// Ends the segment. What it returns says where the bytes are; they are durable once the pool has sealed the file.
    ///
    /// Not cancel safe: a cancelled call leaves the segment unplaced or placed, without telling which.
    pub async fn finish(mut self) -> Result<Written> {
        self.check_usable()?;
        self.gather();
        if self.streaming.is_some() {
            self.stream().await?;
        }
        let chunk = std::mem::take(&mut self.chunk);
        if let Some(mut file) = self.streaming.take() {
            let placement = file.record(chunk.length, chunk.crc.value(), &self.origin);
            self.pool.take_back(file, &self.origin).await?;
            return Ok(Written::Placed(placement));
        }
        if chunk.length == 0 {
            return Ok(Written::Nothing);
        }
        if self.may_inline
            && let Some(handle) = self.pool.inline(&chunk, self.handles)?
        {
            return Ok(Written::Inline(handle));
        }
        self.pool.place(chunk, &self.origin).await.map(Written::Placed)
    }

    fn gather(&mut self) {
        if !self.copied.is_empty() {
            self.chunk.bytes.push(self.copied.split().freeze());
        }
    }

    async fn stream_if_long(&mut self) -> Result<()> {
        if self.streaming.is_none() && self.chunk.length <= self.buffer_bytes_max {
            return Ok(());
        }
        self.stream().await
    }

    /// Hands what is buffered to the store.
    async fn stream(&mut self) -> Result<()> {
        self.check_usable()?;
        // Until the call is through.
        self.has_failed = true;
        let file = match &mut self.streaming {
            Some(file) => file,
            none => none.insert(self.pool.open_file()?),
        };
        for bytes in std::mem::take(&mut self.chunk.bytes) {
            file.stream(bytes).await?;
        }
        self.has_failed = false;
        Ok(())
    }

    fn check_usable(&self) -> Result<()> {
        match self.has_failed {
            true => Err(Error::new(ErrorKind::Store, "a write of this segment failed or was cancelled before")),
            false => Ok(()),
        }
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if let Some(file) = self.streaming.take() {
            self.pool.give_up(file);
        }
    }
}

impl Chunk {
    /// The bytes in one piece; a copy only where there are several.
    pub(super) fn contiguous(&self) -> Bytes {
        match self.bytes.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }
}
