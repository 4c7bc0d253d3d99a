//! Copies a checkpoint's files as they are.
//!
//! The layout below the job's directory is kept, but within the new checkpoint's own directory: the copy is complete in
//! itself, and so is its removal. Files that handles name whole have their checksums in the trailer, whoever wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::pack::check;
use super::target::Target;
use super::transfer::Draft;
use super::{Options, Phase, Progress, Source, rewrite};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{Crc32c, crc32c};
use crate::handle::{FileHandle, JavaString, StreamHandle};
use crate::id::FileToken;
use crate::read::{Content, ReadLimits, ReadMemory, State};
use crate::store::names::{PhysicalFileName, WorkerName};
use crate::store::{FlinkPath, Location, Upload};
use crate::sync::atomic::{AtomicBool, Ordering};

/// Reads' worth of memory that a file takes while it is copied, at most: one just read, and the parts on their way.
const BUFFERS: u64 = 6;

pub(super) async fn copy(
    source: &Source<'_>,
    target: &Target,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Draft> {
    let mut names = Names::new(source, target.token);
    let names_of_files: Vec<String> = source.state.files.iter().map(|file| names.of_file(&file.name)).collect();
    let mut jobs = Vec::with_capacity(source.state.files.len());
    for ((number, file), sums) in source.state.files.iter().enumerate().zip(sums_by_file(source.state)) {
        let length = source.lengths.get(&number).copied().unwrap_or_default();
        let to = target.directory.join(&names_of_files[number])?;
        jobs.push(Job { from: file.location.clone(), to, length, sums });
    }
    let copied = run(jobs, &options.read, progress).await?;
    let of_whole = |job: &Job| {
        let whole = job.sums.iter().find(|sum| source.state.streams[sum.stream].whole);
        whole.map(|sum| sum.crc.value())
    };
    let file = |job: &Job| (job.to.name().clone(), (job.length, of_whole(job)));
    let files: Vec<_> = copied.iter().map(file).collect();
    let sums = copied.into_iter().map(|job| job.sums).collect();

    let mut metadata = source.checkpoint.decoded.metadata.clone();
    let mut streams = source.state.streams.iter();
    let mut result = Ok(());
    metadata.visit_streams_mut(|_, handle| {
        if let Some(Content::File(wanted)) = streams.next().map(|s| &s.content)
            && let Err(error) = point_to(handle, &files[wanted.file].0, &names_of_files[wanted.file])
            && result.is_ok()
        {
            result = Err(error);
        }
    });
    result?;
    rewrite_directories(&mut metadata, &mut names, &target.directory)?;
    let crcs = crcs_by_stream(source.state, sums)?;
    Ok(Draft { metadata, files: files.into_iter().collect(), crcs })
}

/// The checksum of one stream's bytes, made while its file is copied.
struct Sum {
    stream: usize,
    range: Range<u64>,
    crc: Crc32c,
}

impl Sum {
    /// Adds what of `bytes`, which lie at `at` in the file, is the stream's.
    fn add(&mut self, at: u64, bytes: &Bytes) {
        let (start, end) = (self.range.start.max(at), self.range.end.min(at + bytes.len() as u64));
        if start < end {
            self.crc.update(&bytes[(start - at) as usize..(end - at) as usize]);
        }
    }
}

fn sums_by_file(state: &State) -> Vec<Vec<Sum>> {
    let mut sums: Vec<Vec<Sum>> = state.files.iter().map(|_| Vec::new()).collect();
    for (stream, content) in state.streams.iter().map(|s| &s.content).enumerate() {
        if let Content::File(wanted) = content {
            let range = wanted.offset..wanted.offset + wanted.length;
            sums[wanted.file].push(Sum { stream, range, crc: Crc32c::new() });
        }
    }
    sums
}

/// CRC-32C of each stream with bytes, in order; each must be the one in its handle, if there is one.
fn crcs_by_stream(state: &State, sums: Vec<Vec<Sum>>) -> Result<Vec<u32>> {
    let mut crcs: BTreeMap<usize, u32> = sums.into_iter().flatten().map(|s| (s.stream, s.crc.value())).collect();
    for (number, stream) in state.streams.iter().enumerate() {
        if let Content::Inline(inline) = &stream.content {
            crcs.insert(number, crc32c(&inline.bytes));
        }
        check(state, &[number], crcs.get(&number).copied().unwrap_or_default())?;
    }
    Ok(crcs.into_values().collect())
}

/// One file to copy.
struct Job {
    from: Location,
    to: Location,
    /// Of the file, in bytes.
    length: u64,
    /// The streams in it.
    sums: Vec<Sum>,
}

/// Carries the jobs out, side by side within the memory bound, and gives them back, in order.
async fn run(jobs: Vec<Job>, limits: &ReadLimits, progress: &Progress<'_>) -> Result<Vec<Job>> {
    let (total, mut done) = (jobs.iter().map(|job| job.length).sum(), 0);
    progress(Phase::Writing, done, total);
    let memory = ReadMemory::of(limits);
    let range_bytes_max = limits.range_bytes_max;
    let admitted = stream::iter(jobs).then(move |job| {
        let (memory, bytes) = (memory.clone(), job.length.min(BUFFERS.saturating_mul(range_bytes_max)));
        async move { (memory.take(bytes).await, job) }
    });
    let has_failed = Arc::new(AtomicBool::new(false));
    let mut copies = admitted
        .map(|(permit, job)| {
            let has_failed = has_failed.clone();
            async move {
                if has_failed.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let copied = job.copy(range_bytes_max).await.inspect_err(|_| has_failed.store(true, Ordering::Relaxed));
                drop(permit);
                copied.map(Some)
            }
        })
        .buffered(limits.requests_max.max(1))
        .boxed();
    let (mut copied, mut failed) = (Vec::new(), None);
    // Those under way when one fails are waited for, not cut: what is cut may still land after the clean-up.
    while let Some(job) = copies.next().await {
        match job {
            Ok(Some(job)) => {
                done += job.length;
                progress(Phase::Writing, done, total);
                copied.push(job);
            }
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(copied), Err)
}

impl Job {
    /// By one write where the file is short.
    async fn copy(mut self, read_bytes_max: u64) -> Result<Self> {
        if self.length <= read_bytes_max {
            let bytes = self.from.read(0..self.length).await?;
            self.sums.iter_mut().for_each(|sum| sum.add(0, &bytes));
            self.to.create_own(vec![bytes]).await?;
            return Ok(self);
        }
        let mut upload = self.to.create_multipart().await?;
        match self.send(&mut upload, read_bytes_max).await {
            Ok(()) => upload.complete().await?,
            Err(error) => {
                // The first error says more than one of the clean-up.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
        Ok(self)
    }

    async fn send(&mut self, upload: &mut Upload, read_bytes_max: u64) -> Result<()> {
        let mut at = 0;
        while at < self.length {
            let end = self.length.min(at + read_bytes_max);
            let bytes = self.from.read(at..end).await?;
            self.sums.iter_mut().for_each(|sum| sum.add(at, &bytes));
            upload.write(bytes).await?;
            at = end;
        }
        Ok(())
    }
}

fn point_to(handle: &mut StreamHandle, path: &FlinkPath, below: &str) -> Result<()> {
    let text =
        |text: &str| JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("path {text}: {e}")));
    match handle {
        StreamHandle::File(FileHandle { path: old, .. }) => *old = text(&path.to_string())?,
        StreamHandle::Relative(FileHandle { path: old, .. }) => *old = text(below)?,
        StreamHandle::Segment(segment) => segment.path = text(&path.to_string())?,
        StreamHandle::Inline(_) | StreamHandle::EmptySegment | StreamHandle::KeyGroups(_) => {}
    }
    Ok(())
}

/// Points the directories of Flink's file merging at those of the copy: a Flink that claims it deletes them.
fn rewrite_directories(
    metadata: &mut crate::handle::CheckpointMetadata,
    names: &mut Names,
    directory: &Location,
) -> Result<()> {
    let mut result = Ok(());
    rewrite::for_each_operator_state(metadata, |slot| {
        let Some(directories) = slot.as_mut().and_then(|o| o.directories.as_mut()) else { return };
        for text in [&mut directories.task_owned, &mut directories.shared] {
            let moved = FlinkPath::parse(&text.to_text()).and_then(|old| directory.join(&names.below(&old)));
            let moved = moved.and_then(|new| {
                let new = new.name().to_string();
                JavaString::new(&new).map_err(|e| Error::new(ErrorKind::Invalid, format!("path {new}: {e}")))
            });
            match moved {
                Ok(new) => *text = new,
                Err(error) if result.is_ok() => result = Err(error),
                Err(_) => {}
            }
        }
    });
    result
}

/// Gives each file of the source its place below the copy's directory.
struct Names {
    checkpoint: FlinkPath,
    job: Option<FlinkPath>,
    /// Directories outside the job's, each under a number.
    foreign: BTreeMap<FlinkPath, usize>,
    /// In each file's name, as the target wants it.
    token: FileToken,
    /// Names that files have already.
    taken: BTreeSet<String>,
}

impl Names {
    fn new(source: &Source<'_>, token: FileToken) -> Self {
        let checkpoint = source.checkpoint.directory.name().clone();
        let job = source.checkpoint.job_id().and_then(|_| checkpoint.parent());
        Self { checkpoint, job, foreign: BTreeMap::new(), token, taken: BTreeSet::new() }
    }

    /// As [`below`](Self::below), or, where two files would have one name, below `again-<n>`; the run's token is in the
    /// file's own name.
    fn of_file(&mut self, path: &FlinkPath) -> String {
        let below = self.below(path);
        let below = match below.rsplit_once('/') {
            Some((directory, name)) => format!("{directory}/{}", self.with_token(name)),
            None => self.with_token(&below),
        };
        let (mut name, mut number) = (below.clone(), 0);
        while !self.taken.insert(name.clone()) {
            name = format!("again-{number}/{below}");
            number += 1;
        }
        name
    }

    /// A packed file's name stays one, with this run as its worker.
    fn with_token(&self, name: &str) -> String {
        match name.parse::<PhysicalFileName>() {
            Ok(packed) => {
                let worker = WorkerName::sanitise(&format!("copy.{}", self.token));
                PhysicalFileName { worker, ..packed }.to_string()
            }
            Err(_) => format!("{name}-{}", self.token),
        }
    }

    /// `<name>` within the checkpoint, `<path>` within the job, else `foreign-<n>/<name>`.
    fn below(&mut self, path: &FlinkPath) -> String {
        let base = [Some(&self.checkpoint), self.job.as_ref()].into_iter().flatten();
        if let Some(below) = base.filter_map(|b| path.relative_to(b)).find(|below| !below.is_empty()) {
            return below.to_string();
        }
        let (parent, count) = (path.parent().unwrap_or_else(|| path.clone()), self.foreign.len());
        let number = *self.foreign.entry(parent).or_insert(count);
        format!("foreign-{number}/{}", path.file_name().unwrap_or("file"))
    }
}
