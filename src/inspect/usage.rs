//! What one checkpoint is made of.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::{ErrorKind, Result};
use crate::handle::{JavaString, OperatorSubtasks};
use crate::id::OperatorId;
use crate::read::{Checkpoint, Content, ReadLimits, State, Totals};
use crate::store::{FlinkPath, Location, Rebase, Stores};

/// What a checkpoint is made of.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Its metadata.
    pub checkpoint: Checkpoint,
    /// Its streams and the files that they are in.
    pub state: State,
    /// In a few figures.
    pub totals: Totals,
    /// By operator and subtask, in the order of the metadata.
    pub operators: Vec<OperatorSummary>,
    /// The chunks by size; only buckets that hold some.
    pub histogram: Vec<SizeBucket>,
    /// The files, in the order of `state.files`.
    pub files: Vec<FileUsage>,
    /// Where files are missing, but are found beside the metadata: the rebase that finds them.
    pub moved: Option<Rebase>,
}

/// The state of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSummary {
    /// Its id.
    pub id: OperatorId,
    /// Its name.
    pub name: Option<JavaString>,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many key groups it has.
    pub max_parallelism: u32,
    /// All subtasks had finished.
    pub fully_finished: bool,
    /// Bytes of state, its coordinator's included.
    pub state_bytes: u64,
    /// Chunks of state.
    pub chunks: u64,
    /// Those that reported.
    pub subtasks: Vec<SubtaskSummary>,
}

/// The state of one subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubtaskSummary {
    /// Its index.
    pub index: u32,
    /// It had finished.
    pub finished: bool,
    /// Bytes of state.
    pub state_bytes: u64,
    /// Chunks of state.
    pub chunks: u64,
}

/// Chunks of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeBucket {
    /// The largest size in here, in bytes; `u64::MAX` for the last bucket.
    pub bytes_max: u64,
    /// How many chunks.
    pub chunks: u64,
    /// How many of them are inline.
    pub inline_chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One file that a checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUsage {
    /// As the metadata names it.
    pub name: FlinkPath,
    /// Its length in bytes; `None` when it isn't there.
    pub file_bytes: Option<u64>,
    /// Bytes that this checkpoint names, each once.
    pub live_bytes: u64,
    /// The ranges of those, as (offset, length).
    pub live_ranges: Vec<(u64, u64)>,
    /// Streams in it.
    pub streams: u64,
}

/// The upper bounds of the histogram's buckets.
const BUCKETS: [u64; 9] = [0, 1 << 10, 4 << 10, 20 << 10, 64 << 10, 1 << 20, 8 << 20, 32 << 20, u64::MAX];

impl Inspection {
    /// Bytes in the files that are there, over the bytes of them that this checkpoint names; 1 when it names none.
    pub fn space_amplification(&self) -> f64 {
        let (physical, live) = (self.physical_bytes(), self.live_bytes());
        if live == 0 { 1.0 } else { physical as f64 / live as f64 }
    }

    /// Bytes in the files that are there.
    pub fn physical_bytes(&self) -> u64 {
        self.files.iter().filter_map(|f| f.file_bytes).sum()
    }

    /// Bytes of the files that are there that this checkpoint names, each once.
    pub fn live_bytes(&self) -> u64 {
        self.files.iter().filter(|f| f.file_bytes.is_some()).map(|f| f.live_bytes).sum()
    }

    /// The files that aren't there.
    pub fn missing(&self) -> impl Iterator<Item = &FileUsage> {
        self.files.iter().filter(|f| f.file_bytes.is_none())
    }
}

/// Inspects the checkpoint at `path` (its directory or `_metadata`).
///
/// Missing files are no error: they come without a length.
pub async fn inspect(stores: &Stores, path: &FlinkPath, limits: &ReadLimits) -> Result<Inspection> {
    let checkpoint = Checkpoint::load(stores, path).await?;
    let state = State::of(stores, &checkpoint).await?;
    let totals = Totals::of(&checkpoint, &state);
    let files = usages(&state, limits).await?;
    let missing = files.iter().find(|f| f.file_bytes.is_none());
    let moved = match missing {
        Some(file) => crate::read::suggest_rebase(stores, &checkpoint, &file.name).await,
        None => None,
    };
    let (operators, histogram) = (operators(&checkpoint, &state), histogram(&state));
    Ok(Inspection { checkpoint, state, totals, operators, histogram, files, moved })
}

/// None if there is no such file.
async fn length_of(file: Location) -> Result<Option<u64>> {
    match file.size().await {
        Ok(size) => Ok(Some(size)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn usages(state: &State, limits: &ReadLimits) -> Result<Vec<FileUsage>> {
    let locations: Vec<Location> = state.files.iter().map(|file| file.location.clone()).collect();
    let lengths = stream::iter(locations).map(length_of).buffered(limits.requests_max.max(1));
    let lengths: Vec<Option<u64>> = lengths.try_collect().await?;
    let mut counts = vec![0; state.files.len()];
    for stream in &state.streams {
        if let Content::File(wanted) = stream.content {
            counts[wanted.file] += 1;
        }
    }
    let live = state.live_ranges().into_iter().zip(counts);
    let files = state.files.iter().zip(lengths).zip(live);
    Ok(files
        .map(|((file, file_bytes), (live_ranges, streams))| FileUsage {
            name: file.name.clone(),
            file_bytes,
            live_bytes: live_ranges.iter().map(|(_, length)| length).sum(),
            live_ranges,
            streams,
        })
        .collect())
}

fn operators(checkpoint: &Checkpoint, state: &State) -> Vec<OperatorSummary> {
    let mut sums: BTreeMap<(OperatorId, Option<u32>), (u64, u64)> = BTreeMap::new();
    for stream in state.streams.iter().filter(|s| s.content != Content::Placeholder) {
        let sum = sums.entry((stream.place.operator, stream.place.subtask)).or_default();
        sum.0 += stream.content.size();
        sum.1 += 1;
    }
    let summary = |operator: &crate::handle::Operator| {
        let entries = match &operator.subtasks {
            OperatorSubtasks::FullyFinished => [].as_slice(),
            OperatorSubtasks::Reported(entries) => entries,
        };
        let subtasks: Vec<_> = entries
            .iter()
            .map(|entry| {
                let (state_bytes, chunks) = sums.get(&(operator.id, Some(entry.index))).copied().unwrap_or_default();
                SubtaskSummary { index: entry.index, finished: entry.state.is_none(), state_bytes, chunks }
            })
            .collect();
        let coordinator = sums.get(&(operator.id, None)).copied().unwrap_or_default();
        OperatorSummary {
            id: operator.id,
            name: operator.name.clone(),
            parallelism: operator.parallelism,
            max_parallelism: operator.max_parallelism,
            fully_finished: operator.subtasks == OperatorSubtasks::FullyFinished,
            state_bytes: coordinator.0 + subtasks.iter().map(|s| s.state_bytes).sum::<u64>(),
            chunks: coordinator.1 + subtasks.iter().map(|s| s.chunks).sum::<u64>(),
            subtasks,
        }
    };
    checkpoint.decoded.metadata.operators.iter().map(summary).collect()
}

fn histogram(state: &State) -> Vec<SizeBucket> {
    let bucket = |&bytes_max: &u64| SizeBucket { bytes_max, chunks: 0, inline_chunks: 0, bytes: 0 };
    let mut buckets: Vec<SizeBucket> = BUCKETS.iter().map(bucket).collect();
    for stream in state.streams.iter().filter(|s| s.content != Content::Placeholder) {
        let size = stream.content.size();
        if let Some(bucket) = buckets.iter_mut().find(|b| size <= b.bytes_max) {
            bucket.chunks += 1;
            bucket.bytes += size;
            bucket.inline_chunks += u64::from(matches!(stream.content, Content::Inline(_)));
        }
    }
    buckets.retain(|b| b.chunks > 0);
    buckets
}
