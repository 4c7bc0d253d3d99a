//! Reads what a task needs, or several: one plan for all their streams, checked, piece by piece.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};

use super::fetch::{Fetched, Fetches, ReadFrom, Sources, fetches_from};
use super::lengths::Lengths;
use super::local::Copies;
use super::memory::ReadMemory;
use super::opening::{Opening, files_of};
use super::reading::Reading;
use super::task::{Source, StreamNumber, TaskRestore};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{self, RestoredFrom};
use crate::store::Location;

/// The state of a task, or of several, as it is read.
///
/// The pieces of one stream come in order, those of several streams mixed, as they lie in the files. Reads go on side by
/// side ahead of the caller, within [`memory_bytes_max`](super::ReadLimits::memory_bytes_max) and, of each checked stream,
/// a piece that waits for the checksum; pieces that the caller keeps are the caller's.
///
/// Of key groups in one stream exactly those that are needed are read, and each is checked, where they have [checksums of
/// their own](crate::handle::KeyGroupsHandle::checksums). Where they haven't, which an earlier Drystone wrote, the one of
/// the segment counts: it is read whole, and checked, if it is no longer than 1 MB, or half of it is needed, or its key
/// groups are very short; else only what is needed is read, and it can't be checked. The same holds for what stock Flink
/// wrote, which has no checksums. [`counts`](Self::counts) says how much that was.
///
/// Dropping it ends the reads.
pub struct TaskRead {
    fetches: Fetches,
    /// Of each task.
    sources: Vec<Source>,
    /// Of all tasks.
    files: Arc<Vec<Location>>,
    streams: Vec<Reading>,
    /// By the number of a wanted range: the stream that it belongs to.
    owners: Vec<usize>,
    ready: VecDeque<RestoredPiece>,
    /// A read that failed, until its error is told.
    failing: Option<Fetched>,
    has_failed: bool,
    counts: RestoreCounts,
}

/// Some bytes of one of a task's streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredPiece {
    /// The task, by its place among those that are read together; 0 where it is one.
    pub task: usize,
    /// The stream, by its number in its task.
    pub stream: StreamNumber,
    /// The key group that they belong to; `None` for the head before all key groups, and for streams without any.
    pub key_group: Option<u32>,
    /// Where they start, relative to the stream.
    pub offset: u64,
    /// The bytes. None at all only where a stream has nothing that the task needs.
    pub bytes: Bytes,
    /// Nothing more comes of the stream, and its checksum is right if it could be checked. Each stream has one such
    /// piece.
    pub last: bool,
}

/// What a restore has cost so far, and how much of it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreCounts {
    /// Bytes delivered.
    pub state_bytes: u64,
    /// Bytes read from files: also gaps, and what was read only to check it.
    pub read_bytes: u64,
    /// Of `read_bytes`, those of gaps: nobody asked for them, and reading over them takes fewer requests. No gap is
    /// longer than [`gap_bytes_max`](super::ReadLimits::gap_bytes_max).
    pub gap_bytes: u64,
    /// Reads of files.
    pub reads: u64,
    /// Of `read_bytes`, those from copies on local disks.
    pub backup_bytes: u64,
    /// Of `reads`, those of copies on local disks.
    pub backup_reads: u64,
    /// Copies on local disks, segments of them, or single reads, that were no good: damaged, cut or unreadable. The store
    /// was read instead. A copy that isn't there doesn't count.
    pub backup_refused: u64,
    /// Of the bytes that this delivers in all, those that no checksum is compared with.
    pub unverified_bytes: u64,
}

impl TaskRead {
    /// Reads what all of these tasks need, by one plan: of what they share, and of files in which their state lies among
    /// each other's, every byte is read once. A worker that restores several tasks is to read them so.
    ///
    /// Their memory is that of the first.
    ///
    /// # Errors
    /// As for [`TaskRestore::read`].
    pub async fn together(tasks: &[TaskRestore]) -> Result<Self> {
        let tasks: Vec<_> = tasks.iter().map(|task| (task, (0..task.streams().len()).collect())).collect();
        Self::open(&tasks).await
    }

    pub(super) async fn open(tasks: &[(&TaskRestore, Vec<StreamNumber>)]) -> Result<Self> {
        let (locations, numbers) = files_of(tasks);
        let local = tasks.iter().find_map(|(task, _)| task.local.as_ref());
        let mut copies = Copies::find(local, &locations).await;
        let lengths = Lengths::of(tasks, &numbers, &copies).await?;
        let mut plan = Opening::default();
        for (task, (restore, streams)) in tasks.iter().enumerate() {
            for &number in streams {
                let stream = &restore.source.streams[number];
                let size = lengths.size_of(&stream.state, &numbers[task]);
                let added = size.and_then(|size| plan.add(task, number, stream, size, &numbers[task]));
                added.map_err(|error| error.context(restore.source.describe(number)))?;
            }
        }
        let limits = tasks.first().map(|(task, _)| task.limits).unwrap_or_default();
        let memory = tasks.first().map_or_else(|| ReadMemory::of(&limits), |(task, _)| task.memory.with_spare());
        let files = Arc::new(locations);
        let trusts = Arc::new(copies.trusts(&plan.wanted, &plan.claims, &limits).await);
        plan.counts.backup_refused = copies.refused;
        (0..copies.refused).for_each(|_| metrics::copy_refused());
        let sources = Sources { files: files.clone(), copies, trusts };
        Ok(Self {
            fetches: fetches_from(sources, &plan.wanted, &limits, &memory),
            sources: tasks.iter().map(|(task, _)| task.source.clone()).collect(),
            files,
            streams: plan.streams,
            owners: plan.owners,
            ready: plan.ready,
            failing: None,
            has_failed: false,
            counts: plan.counts,
        })
    }

    /// The next piece; `None` after the last, and after an error.
    ///
    /// Cancel safe: no piece is lost.
    ///
    /// # Errors
    /// Each names the checkpoint, the operator, the subtask that wrote the state, the file and the offset. `NotFound`,
    /// `Damaged`: a file is missing, is shorter than its handle says, or has damaged bytes. `Store`: it can't be read.
    pub async fn next(&mut self) -> Option<Result<RestoredPiece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.counts.state_bytes += piece.bytes.len() as u64;
                return Some(Ok(piece));
            }
            if self.has_failed {
                return None;
            }
            if let Some(failing) = &self.failing {
                // Kept until there is an answer, so that a call that is cancelled doesn't lose the error.
                let is_damaged = matches!(&failing.result, Err(error) if error.kind() == ErrorKind::Damaged);
                let file = self.files[failing.fetch.file].clone();
                let file_bytes = if is_damaged { file.size().await.ok() } else { None };
                self.has_failed = true;
                return self.failing.take().map(|failing| Err(self.failed(failing, file_bytes)));
            }
            let fetched = self.fetches.next().await?;
            self.count(&fetched);
            match &fetched.result {
                Ok((bytes, file_bytes)) => {
                    if let Err(error) = self.take(&fetched, bytes, *file_bytes) {
                        self.has_failed = true;
                        self.ready.clear();
                        return Some(Err(error));
                    }
                }
                Err(_) => self.failing = Some(fetched),
            }
        }
    }

    /// The pieces as a stream.
    pub fn pieces(self) -> impl Stream<Item = Result<RestoredPiece>> + Send {
        stream::unfold(self, |mut read| async move { read.next().await.map(|piece| (piece, read)) })
    }

    /// What it has cost so far.
    pub fn counts(&self) -> RestoreCounts {
        self.counts
    }

    fn count(&mut self, fetched: &Fetched) {
        let bytes = fetched.fetch.range.end - fetched.fetch.range.start;
        self.counts.reads += 1;
        self.counts.read_bytes += bytes;
        self.counts.gap_bytes += fetched.fetch.gap_bytes();
        if fetched.from == ReadFrom::Copy {
            self.counts.backup_reads += 1;
            self.counts.backup_bytes += bytes;
            return metrics::restored(RestoredFrom::Backup, bytes);
        }
        if fetched.from == ReadFrom::StoreInstead {
            self.counts.backup_refused += 1;
            metrics::copy_refused();
        }
        metrics::restored(RestoredFrom::Store, bytes);
    }

    /// Hands out what one read brought.
    fn take(&mut self, fetched: &Fetched, bytes: &Bytes, file_bytes: u64) -> Result<()> {
        for (number, piece) in fetched.fetch.pieces.iter().enumerate() {
            let stream = &mut self.streams[self.owners[piece.wanted]];
            let taken = stream.take(fetched.piece(bytes, number), file_bytes, piece.last, &mut self.ready);
            taken.map_err(|error| error.context(self.sources[stream.task].describe(stream.number)))?;
        }
        Ok(())
    }

    /// A failed read's error, with the stream that it was for: of several, the first that the file is too short for.
    fn failed(&self, failing: Fetched, file_bytes: Option<u64>) -> Error {
        let pieces = &failing.fetch.pieces;
        let start = failing.fetch.range.start;
        let is_cut = |size| pieces.iter().find(|piece| start + piece.within.end as u64 > size);
        let context = match file_bytes.and_then(is_cut).or(pieces.first()) {
            Some(piece) => {
                let stream = &self.streams[self.owners[piece.wanted]];
                self.sources[stream.task].describe(stream.number)
            }
            None => String::new(),
        };
        match failing.result {
            Err(error) => error.context(context),
            Ok(_) => Error::new(ErrorKind::Store, context),
        }
    }
}
