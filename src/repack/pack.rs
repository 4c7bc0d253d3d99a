//! Packs a checkpoint's streams into few physical files.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::StreamExt;

use super::target::Target;
use super::transfer::Draft;
use super::{Options, Phase, Progress, Source, rewrite};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32c;
use crate::handle::{JavaString, Part};
use crate::read::{Content, Fetched, State, StateStream, check_crc, fetches};
use crate::store::names::WorkerName;
use crate::write::{FileNaming, FilePool, Origin, SegmentWriter, Written};

/// Bytes of the source, however many streams name them: packed once.
struct Unit {
    content: Content,
    /// The streams, by their number.
    streams: Vec<usize>,
    origin: Origin,
}

pub(super) async fn pack(
    source: &Source<'_>,
    target: &Target,
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Draft> {
    let checkpoint = source.checkpoint.decoded.metadata.checkpoint_id;
    // The run's token in every name says whose litter a file is, should the run be interrupted.
    let worker = WorkerName::sanitise(&format!("repack.{}", target.token));
    let naming = FileNaming { directory: target.directory.clone(), attempt: 0, worker, checkpoint };
    let pool = FilePool::new(naming, options.write, options.tokens.clone());
    match pack_into(&pool, source, options, progress).await {
        Ok(draft) => Ok(draft),
        Err(error) => {
            // Uploads under way must have ended before the target is emptied. The first error is what counts.
            let _ = pool.abandon().await;
            Err(error)
        }
    }
}

async fn pack_into(pool: &FilePool, source: &Source<'_>, options: &Options, progress: &Progress<'_>) -> Result<Draft> {
    let units = units(source);
    let written = write_units(pool, source.state, &units, options, progress).await?;
    let sealed = pool.seal().await?;
    let streams = source.state.streams.len();
    let (mut handles, mut crcs) = (vec![None; streams], vec![None; streams]);
    for (unit, (written, crc)) in units.iter().zip(written) {
        let handle = match written {
            // A chunk without a byte has a handle all the same.
            Written::Nothing => pool.inline_handle(Bytes::new(), crc)?,
            Written::Inline(handle) => handle,
            Written::Placed(placement) => sealed.handle(&placement)?,
        };
        for &stream in &unit.streams {
            handles[stream] = Some(handle.clone());
            crcs[stream] = Some(crc);
        }
    }
    let mut metadata = source.checkpoint.decoded.metadata.clone();
    rewrite::replace_streams(&mut metadata, handles)?;
    rewrite::forget_merging_directories(&mut metadata);
    let files = sealed.files.values().map(|file| (file.path.clone(), (file.file_bytes, None))).collect();
    Ok(Draft { metadata, files, crcs: crcs.into_iter().flatten().collect() })
}

/// The distinct chunks of the source. Handles that Flink holds to be equal (inline ones: by name) stay equal.
fn units(source: &Source<'_>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut ranges: BTreeMap<(usize, u64, u64), usize> = BTreeMap::new();
    let mut inline: BTreeMap<(&JavaString, &Bytes), usize> = BTreeMap::new();
    for (number, stream) in source.state.streams.iter().enumerate() {
        let next = units.len();
        let unit = match &stream.content {
            Content::Placeholder => continue,
            Content::File(wanted) => *ranges.entry((wanted.file, wanted.offset, wanted.length)).or_insert(next),
            Content::Inline(handle) => *inline.entry((&handle.name, &handle.bytes)).or_insert(next),
        };
        let origin = origin(source, stream);
        if unit == next {
            units.push(Unit { content: stream.content.clone(), streams: Vec::new(), origin });
        }
        units[unit].streams.push(number);
        units[unit].origin.scope = units[unit].origin.scope.max(origin.scope);
    }
    units
}

fn origin(source: &Source<'_>, stream: &StateStream) -> Origin {
    let checkpoint = source.checkpoint.decoded.metadata.checkpoint_id;
    Origin { checkpoint, subtask: stream.place.owner(), scope: stream.scope }
}

/// Writes every unit into the pool; the result has what became of each, and the CRC-32C of its bytes.
async fn write_units(
    pool: &FilePool,
    state: &State,
    units: &[Unit],
    options: &Options,
    progress: &Progress<'_>,
) -> Result<Vec<(Written, u32)>> {
    let mut results: Vec<(Written, u32)> = vec![(Written::Nothing, crc32c(&[])); units.len()];
    let total = units.iter().map(|u| u.content.size()).sum();
    let mut done = 0;
    progress(Phase::Writing, done, total);
    let (mut wanted, mut owners) = (Vec::new(), Vec::new());
    for (number, unit) in units.iter().enumerate() {
        match &unit.content {
            Content::Placeholder => {}
            Content::File(range) => {
                wanted.push(*range);
                owners.push(number);
            }
            Content::Inline(handle) => {
                results[number] = write_inline(pool, state, unit, &handle.bytes).await?;
                done += handle.bytes.len() as u64;
            }
        }
    }
    let files = Arc::new(state.files.iter().map(|f| f.location.clone()).collect());
    let mut reads = fetches(files, &wanted, &options.read);
    // More than one is under way only where ranges of the source overlap.
    let mut writers: BTreeMap<usize, SegmentWriter> = BTreeMap::new();
    while let Some(fetched) = reads.next().await {
        let bytes = as_named(state, units, &owners, &fetched)
            .map_err(|e| e.context(format!("reading {}", state.files[fetched.fetch.file].location.real())))?;
        for (i, piece) in fetched.fetch.pieces.iter().enumerate() {
            let unit = &units[owners[piece.wanted]];
            let mut writer = match writers.remove(&piece.wanted) {
                Some(writer) => writer,
                None => segment(pool, unit),
            };
            writer.write(fetched.piece(bytes, i)).await?;
            done += piece.within.len() as u64;
            if piece.last {
                let crc = writer.crc32c();
                check(state, &unit.streams, crc)?;
                results[owners[piece.wanted]] = (writer.finish().await?, crc);
            } else {
                writers.insert(piece.wanted, writer);
            }
        }
        progress(Phase::Writing, done, total);
    }
    Ok(results)
}

async fn write_inline(pool: &FilePool, state: &State, unit: &Unit, bytes: &Bytes) -> Result<(Written, u32)> {
    let crc = crc32c(bytes);
    check(state, &unit.streams, crc)?;
    if unit.streams.iter().any(|&s| state.streams[s].place.part == Part::Coordinator) {
        // Flink reads a coordinator's state from nowhere but the metadata.
        return Ok((Written::Inline(pool.inline_handle(bytes.clone(), crc)?), crc));
    }
    let mut writer = segment(pool, unit);
    writer.write(bytes.clone()).await?;
    Ok((writer.finish().await?, crc))
}

fn segment(pool: &FilePool, unit: &Unit) -> SegmentWriter {
    pool.segment(unit.origin, Some(unit.content.size())).named_by(unit.streams.len() as u64)
}

/// The bytes of a read, if its file is no longer or shorter than a handle says that names all of it.
fn as_named<'a>(state: &State, units: &[Unit], owners: &[usize], fetched: &'a Fetched) -> Result<&'a Bytes> {
    let mut streams = fetched.fetch.pieces.iter().flat_map(|p| &units[owners[p.wanted]].streams);
    let at = |stream: Option<&usize>| stream.map(|&s| format!("for {}: ", state.streams[s].place)).unwrap_or_default();
    let (bytes, file_bytes) = match &fetched.result {
        Ok(read) => read,
        Err(error) => return Err(Error::new(error.kind(), at(streams.next()) + &error.one_line())),
    };
    let is_wrong = |&&s: &&usize| state.streams[s].whole && state.streams[s].content.size() != *file_bytes;
    if let Some(stream) = streams.find(is_wrong) {
        let length = state.streams[*stream].content.size();
        let problem = format!("the file has {file_bytes} bytes, its handle says {length}");
        return Err(Error::new(ErrorKind::Damaged, at(Some(stream)) + &problem));
    }
    Ok(bytes)
}

/// The bytes must be those that the handles, or the trailer, have the checksums of, where they have one.
pub(super) fn check(state: &State, streams: &[usize], crc32c: u32) -> Result<()> {
    for stream in streams.iter().map(|&s| &state.streams[s]) {
        check_crc(stream.expected(), crc32c).map_err(|error| {
            let (file, offset) = match &stream.content {
                Content::File(wanted) => (state.files[wanted.file].location.real().to_string(), wanted.offset),
                _ => ("inline".to_string(), 0),
            };
            error.context(format!("{file} at offset {offset}, {}", stream.place))
        })?;
    }
    Ok(())
}
