//! Writes one segment: buffers it, then has it placed, or streams it when it is long.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};

use super::bounds::Held;
use super::file::Placement;
use super::pool::{FilePool, Lease};
use super::{FileLayout, Origin};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{Crc32c, parted};
use crate::handle::{CHECKSUMMED_BYTES_MIN, StreamHandle};
use crate::id::FileToken;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// The bytes of a segment, buffered.
pub(super) struct Chunk {
    pub(super) bytes: Vec<Bytes>,
    /// Behind `bytes`: copied from slices.
    pub(super) copied: BytesMut,
    pub(super) length: u64,
    pub(super) crc: Crc32c,
    /// The memory of both, and of what is yet to get there.
    pub(super) held: Held,
}

/// The files that segments were placed in, as their writers tell it.
#[derive(Default)]
pub struct PlacedFiles {
    /// The last one noted: most segments go to the same file as the one before, which costs no lock then.
    last: AtomicU64,
    /// Never held across an await, nor while another lock is taken.
    files: Mutex<BTreeSet<FileToken>>,
}

impl PlacedFiles {
    /// The files so far.
    pub fn files(&self) -> BTreeSet<FileToken> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn insert(&self, file: FileToken) {
        // Zero is what it starts as.
        if file.0 == 0 || self.last.load(Acquire) != file.0 {
            self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(file);
            self.last.store(file.0, Release);
        }
    }
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
/// Dropped before [`finish`](Self::finish) it leaves nothing behind: its memory is released, and what it streamed is
/// aborted in a task of its own. When the pool is closed, its next call fails and does the same.
pub struct SegmentWriter {
    pool: FilePool,
    origin: Origin,
    /// Bytes kept in memory before the segment is streamed instead.
    buffer_bytes_max: u64,
    may_inline: bool,
    /// How many handles will be made of the one that comes out.
    handles: u64,
    chunk: Chunk,
    /// Where parts have begun, after the first byte, and the checksum of all before.
    marks: Vec<(u64, u32)>,
    /// The file that the segment is being streamed into.
    lease: Option<Lease>,
    placed_files: Option<Arc<PlacedFiles>>,
    /// Bytes on their way to the store were lost, so that the segment can't be whole any more.
    has_failed: bool,
}

/// Slices are gathered into buffers of this size.
const COPY_BYTES: usize = 64 << 10;

/// Of a segment that have checksums: a head, and as many key groups as Flink knows.
const PARTS_MAX: usize = (1 << 15) + 1;

impl SegmentWriter {
    pub(super) fn new(pool: FilePool, origin: Origin, size_hint: Option<u64>) -> Self {
        // A segment whose size is known is placed as a whole, in the file that it fits best, however long.
        let settings = pool.settings();
        let buffer_bytes_max = match size_hint {
            _ if settings.layout == FileLayout::None => u64::MAX,
            Some(size) if size <= settings.file_bytes_max => settings.buffer_bytes_max.max(size),
            Some(_) => 0,
            None => settings.buffer_bytes_max,
        };
        let held = pool.bounds().hold();
        let chunk = Chunk { bytes: Vec::new(), copied: BytesMut::new(), length: 0, crc: Crc32c::default(), held };
        Self {
            pool,
            origin,
            buffer_bytes_max,
            may_inline: true,
            handles: 1,
            chunk,
            marks: Vec::new(),
            lease: None,
            placed_files: None,
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

    /// Has the file noted that the segment is placed in.
    pub fn noted_in(mut self, files: Arc<PlacedFiles>) -> Self {
        self.placed_files = Some(files);
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

    /// A key group begins here; returns the position, which is its offset. So that each group gets a checksum of its own,
    /// and is to be read alone and checked all the same: [`part_checksums`](Self::part_checksums).
    ///
    /// Costs next to nothing, and no memory beyond a mark for each of as many key groups as Flink knows.
    pub fn mark(&mut self) -> u64 {
        let position = self.chunk.length;
        let last = self.marks.last().map_or(0, |&(last, _)| last);
        if position > last && self.marks.len() <= PARTS_MAX {
            self.marks.push((position, self.chunk.crc.value()));
        }
        position
    }

    /// CRC-32C of what was written before the first [mark](Self::mark), between any two, and after the last, what is empty
    /// left out: for [`KeyGroupsHandle`](crate::handle::KeyGroupsHandle), once all is written. One pass over the bytes has
    /// given them all.
    ///
    /// None where there is one part only, and where they are shorter on average than [`CHECKSUMMED_BYTES_MIN`]: then a
    /// reader goes by the checksum of the whole segment.
    pub fn part_checksums(&self) -> Vec<u32> {
        let end = (self.chunk.length, self.chunk.crc.value());
        let is_open = self.marks.last().is_some_and(|&(last, _)| end.0 > last);
        let parts = self.marks.len() + usize::from(is_open);
        if !(2..=PARTS_MAX).contains(&parts) || end.0 / (parts as u64) < CHECKSUMMED_BYTES_MIN {
            return Vec::new();
        }
        let ends = self.marks.iter().chain(is_open.then_some(&end));
        let of_part = |before: &mut (u64, u32), &end: &(u64, u32)| {
            let (start, of_all) = std::mem::replace(before, end);
            Some(parted(end.1, of_all, end.0 - start))
        };
        ends.scan((0, 0), of_part).collect()
    }

    /// Adds bytes, without a copy. Waits while the pool's [`Bounds`](super::Bounds) are reached, and for the store when
    /// the segment is long.
    ///
    /// Not cancel safe: after a call that was cancelled, or has failed, the writer can only be dropped.
    ///
    /// # Errors
    /// `Conflict`: the pool was closed. `Store`: the segment is being streamed, and that failed.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.take_in(&bytes).await?;
        self.chunk.gather();
        self.chunk.bytes.push(bytes);
        self.stream_if_long().await
    }

    /// Adds bytes, with one copy; else as [`write`](Self::write).
    pub async fn write_slice(&mut self, bytes: &[u8]) -> Result<()> {
        self.take_in(bytes).await?;
        self.chunk.copied.extend_from_slice(bytes);
        if self.chunk.copied.len() < COPY_BYTES {
            return Ok(());
        }
        self.chunk.gather();
        self.stream_if_long().await
    }

    /// Ends the segment. What it returns says where the bytes are; they are durable once the pool has sealed the file.
    ///
    /// Not cancel safe: a cancelled call leaves the segment unplaced or placed, without telling which.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn finish(mut self) -> Result<Written> {
        self.check_usable()?;
        if self.lease.is_some() {
            self.stream().await?;
        }
        if let Some(mut lease) = self.lease.take() {
            let placement = lease.record(self.chunk.length, self.chunk.crc.value(), &self.origin)?;
            self.note(&placement);
            lease.give_back(&self.origin).await?;
            return Ok(Written::Placed(placement));
        }
        if self.chunk.length == 0 {
            return Ok(Written::Nothing);
        }
        if (self.may_inline || !self.pool.has_files())
            && let Some(handle) = self.pool.inline(&mut self.chunk, self.handles)?
        {
            return Ok(Written::Inline(handle));
        }
        self.pool.refuse_without_files(self.chunk.length)?;
        let (placement, full) = self.pool.place(&mut self.chunk, &self.origin).await?;
        self.note(&placement);
        self.pool.settle(full).await?;
        Ok(Written::Placed(placement))
    }

    fn note(&self, placement: &Placement) {
        if let Some(files) = &self.placed_files {
            files.insert(placement.id.file);
        }
    }

    /// Takes memory for bytes to come, and counts them.
    async fn take_in(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_usable()?;
        let length = self.chunk.length.saturating_add(bytes.len() as u64);
        if let Err(refused) = self.pool.refuse_too_long(length) {
            self.let_go();
            self.has_failed = true;
            return Err(refused);
        }
        self.chunk.held.grow(bytes.len() as u64).await;
        self.chunk.crc.update(bytes);
        self.chunk.length += bytes.len() as u64;
        Ok(())
    }

    async fn stream_if_long(&mut self) -> Result<()> {
        if self.lease.is_none() && self.chunk.length <= self.buffer_bytes_max {
            return Ok(());
        }
        self.stream().await
    }

    /// Hands what is buffered to the store.
    async fn stream(&mut self) -> Result<()> {
        self.check_usable()?;
        // Until the call is through.
        self.has_failed = true;
        let lease = match &mut self.lease {
            Some(lease) => lease,
            none => none.insert(self.pool.lease(&self.origin).await?),
        };
        self.chunk.gather();
        let bytes = std::mem::take(&mut self.chunk.bytes);
        if let Err(error) = lease.stream(bytes, &mut self.chunk.held).await {
            // Others may have the memory and the slot at once.
            self.lease = None;
            return Err(error);
        }
        self.has_failed = false;
        Ok(())
    }

    /// Fails if the segment can't be whole any more, or nobody wants it; then it is let go of.
    fn check_usable(&mut self) -> Result<()> {
        let usable = match self.has_failed {
            true => Err(Error::new(ErrorKind::Store, "a write of this segment failed or was cancelled before")),
            false => self.pool.check_open(),
        };
        usable.inspect_err(|_| self.let_go())
    }

    /// Others may have the memory and the file's place at once.
    fn let_go(&mut self) {
        self.chunk.bytes = Vec::new();
        self.chunk.copied = BytesMut::new();
        self.chunk.held.shrink_to(0);
        self.lease = None;
    }
}

impl Chunk {
    /// Puts what was copied behind what came as `Bytes`.
    fn gather(&mut self) {
        if !self.copied.is_empty() {
            self.bytes.push(self.copied.split().freeze());
        }
    }

    /// The bytes in one piece; a copy only where there are several.
    pub(super) fn contiguous(&mut self) -> Bytes {
        self.gather();
        match self.bytes.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }
}
