//! Copies a checkpoint's files as they are.
//!
//! The layout below the job's directory is kept, but within the new checkpoint's own directory: the copy is complete in
//! itself, and so is its removal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
use crate::read::{Content, State, StateFile};
use crate::store::names::{PhysicalFileName, WorkerName};
use crate::store::{FlinkPath, Location, Upload};

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
    let total = source.state.live_bytes().iter().sum();
    let done = AtomicU64::new(0);
    progress(Phase::Writing, 0, total);
    let mut sums = sums_by_file(source.state);
    let has_failed = AtomicBool::new(false);
    let copies = source.state.files.iter().zip(&names_of_files).zip(&mut sums).map(|((file, name), sums)| {
        let (done, has_failed) = (&done, &has_failed);
        async move {
            if has_failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let to = target.directory.join(name)?;
            let copied = copy_file(file, &to, sums, options.read.range_bytes_max).await;
            let length = copied.inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
            let now = done.fetch_add(length, Ordering::Relaxed) + length;
            progress(Phase::Writing, now.min(total), total);
            Ok::<_, Error>(Some((to.name().clone(), length)))
        }
    });
    // Those under way when one fails are waited for, not cut: what is cut may still land after the clean-up.
    let at_once = options.read.memory_bytes_max / (BUFFERS * options.read.range_bytes_max).max(1);
    let at_once = (at_once as usize).clamp(1, options.read.requests_max.max(1));
    let copied: Vec<_> = stream::iter(copies).buffered(at_once).collect().await;
    let copied: Vec<Option<(FlinkPath, u64)>> = copied.into_iter().collect::<Result<_>>()?;
    let files: Vec<(FlinkPath, u64)> = copied.into_iter().flatten().collect();

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

/// Copies a file, by one write where it is short; returns its length.
async fn copy_file(file: &StateFile, to: &Location, sums: &mut [Sum], read_bytes_max: u64) -> Result<u64> {
    let length = file.location.size().await?;
    if length <= read_bytes_max {
        let bytes = file.location.read(0..length).await?;
        sums.iter_mut().for_each(|sum| sum.add(0, &bytes));
        to.create_own(vec![bytes]).await?;
        return Ok(length);
    }
    let mut upload = to.create_multipart().await?;
    match copy_into(&mut upload, file, length, sums, read_bytes_max).await {
        Ok(()) => upload.complete().await?,
        Err(error) => {
            // The first error says more than one of the clean-up.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    Ok(length)
}

async fn copy_into(
    upload: &mut Upload,
    file: &StateFile,
    length: u64,
    sums: &mut [Sum],
    read_bytes_max: u64,
) -> Result<()> {
    let mut at = 0;
    while at < length {
        let end = length.min(at + read_bytes_max);
        let bytes = file.location.read(at..end).await?;
        sums.iter_mut().for_each(|sum| sum.add(at, &bytes));
        upload.write(bytes).await?;
        at = end;
    }
    Ok(())
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
