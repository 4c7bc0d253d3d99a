//! Wins space back without the state backends: copies what is still named out of wasteful or small files.
//!
//! The copies are named by the next checkpoints: an acknowledgement that names the old place is made to name the new one.
//! Until then both are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::StreamExt;

use super::books::SegmentPlace;
use super::{Coordinator, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::StreamHandle;
use crate::id::{CheckpointId, Scope};
use crate::ledger::Named;
use crate::metrics::{self, Rewriting};
use crate::read::{Checkpoint, Content, State, Wanted, check_crc, fetches};
use crate::store::FlinkPath;
use crate::store::names::WorkerName;
use crate::write::{FileNaming, FilePool, Origin, Sealed, SegmentWriter, Written};

/// What a background rewrite did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Segments copied.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the next checkpoints needn't name any more.
    pub files_left: u64,
    /// Files written.
    pub files_written: u64,
}

/// Who writes such files, by their names.
pub(super) const WORKER: &str = "rewrite";

impl Coordinator {
    /// Copies the segments that the latest checkpoint names out of the files that [`plan`](Self::plan) has, up to
    /// `bytes_max` bytes, whole files at a time. By ranged reads, each segment checked against its checksum. From the
    /// next trigger on these files aren't in the plan any more.
    ///
    /// For state backends that can't write a segment again: they name the old handle once more, whatever
    /// [`reuse`](crate::worker::Snapshot::reuse) says of space, and the acknowledgement is made to name the copy. Two
    /// calls at a time do the same work twice.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`: a segment isn't there or isn't what it was. `Store`. `Fenced`: a newer coordinator was met.
    /// Nothing has changed then.
    ///
    /// Cancel safe; a cancelled call may leave files that nothing names, to be swept.
    pub async fn rewrite(&self, bytes_max: u64) -> Result<Rewritten> {
        self.shared.refuse_if_fenced()?;
        let Some(latest) = self.latest() else { return Ok(Rewritten::default()) };
        let checkpoint = Checkpoint::load_intact(&self.shared.stores, &latest.path).await?;
        let state = State::of(&self.shared.stores, &checkpoint).await?;
        let chosen = self.choose(&state, bytes_max);
        if chosen.streams.is_empty() {
            return Ok(Rewritten::default());
        }
        let naming = FileNaming {
            directory: self.shared.directory.shared().clone(),
            attempt: self.shared.epoch,
            worker: WorkerName::sanitise(WORKER),
            checkpoint: latest.checkpoint,
        };
        let _writing = Writing::new(&self.shared);
        let pool = FilePool::new(naming, self.shared.settings.write, self.shared.tokens.clone());
        let copied = self.copy(&pool, latest.checkpoint, &state, &chosen).await;
        // Entering the copies fails where the job has ended meanwhile.
        let rewritten = copied.and_then(|copied| self.adopt_copies(&state, &chosen, copied));
        if rewritten.is_err() {
            // The first error says more than one of the clean-up.
            let _ = pool.abandon().await;
        }
        rewritten
    }

    /// The segments to copy: of planned files, as far as the budget goes.
    fn choose(&self, state: &State, bytes_max: u64) -> Chosen {
        let books = self.books();
        let planned = books.ledger.plan();
        let mut by_file: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut seen: BTreeMap<(usize, u64, u64), usize> = BTreeMap::new();
        for (number, stream) in state.streams.iter().enumerate() {
            let Content::File(Wanted { file, offset, length }) = stream.content else { continue };
            let path = books.spelling(&state.files[file].name);
            let is_wanted = length > 0 && stream.scope == Scope::Shared && planned.reason(&path).is_some();
            let copies = books.moves.get(&(path, offset, length));
            let is_moved = copies.is_some_and(|copies| copies.iter().any(|copy| books.is_held(copy)));
            if is_wanted && !is_moved && seen.insert((file, offset, length), number).is_none() {
                by_file.entry(file).or_default().push(number);
            }
        }
        let bytes_of = |streams: &[usize]| streams.iter().map(|&s| state.streams[s].content.size()).sum::<u64>();
        let mut chosen = Chosen::default();
        for (file, streams) in by_file {
            let bytes = bytes_of(&streams);
            if chosen.bytes.saturating_add(bytes) <= bytes_max {
                chosen.bytes += bytes;
                chosen.files.push(file);
                chosen.streams.extend(streams);
            }
        }
        chosen
    }

    /// Reads, checks and writes; the new handles, in the order of the chosen streams.
    async fn copy(
        &self,
        pool: &FilePool,
        checkpoint: CheckpointId,
        state: &State,
        chosen: &Chosen,
    ) -> Result<(Vec<StreamHandle>, Sealed)> {
        let wanted = chosen.streams.iter().filter_map(|&s| match state.streams[s].content {
            Content::File(wanted) => Some(wanted),
            _ => None,
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let files = Arc::new(state.files.iter().map(|file| file.location.clone()).collect::<Vec<_>>());
        let mut reads = fetches(files, &wanted, &self.shared.settings.read);
        let mut writers: BTreeMap<usize, SegmentWriter> = BTreeMap::new();
        let mut written: Vec<Written> = vec![Written::Nothing; wanted.len()];
        while let Some(fetched) = reads.next().await {
            let stream_of = |piece: usize| &state.streams[chosen.streams[piece]];
            let bytes = match &fetched.result {
                Ok((bytes, _)) => bytes,
                Err(error) => {
                    let place = fetched.fetch.pieces.first().map(|piece| stream_of(piece.wanted).place.to_string());
                    return Err(Error::new(error.kind(), error.one_line()).context(place.unwrap_or_default()));
                }
            };
            for (number, piece) in fetched.fetch.pieces.iter().enumerate() {
                let (index, stream) = (piece.wanted, stream_of(piece.wanted));
                let mut writer = match writers.remove(&index) {
                    Some(writer) => writer,
                    None => {
                        let origin = Origin { checkpoint, subtask: stream.place.owner(), scope: Scope::Shared };
                        pool.segment(origin, Some(wanted[index].length)).never_inline()
                    }
                };
                writer.write(fetched.piece(bytes, number)).await?;
                if piece.last {
                    check_crc(stream.expected(), writer.crc32c()).map_err(|e| e.context(&stream.place))?;
                    written[index] = writer.finish().await?;
                } else {
                    writers.insert(index, writer);
                }
            }
        }
        let sealed = pool.seal().await?;
        let handles = written.iter().map(|written| match written {
            Written::Placed(placement) => sealed.handle(placement),
            _ => Err(Error::new(ErrorKind::Damaged, "a segment without bytes can't be copied")),
        });
        Ok((handles.collect::<Result<_>>()?, sealed))
    }

    fn adopt_copies(
        &self,
        state: &State,
        chosen: &Chosen,
        (handles, sealed): (Vec<StreamHandle>, Sealed),
    ) -> Result<Rewritten> {
        let mut guard = self.books();
        let books = &mut *guard;
        let (mut names, mut moves) = (Vec::with_capacity(handles.len()), BTreeMap::new());
        for (&stream, handle) in chosen.streams.iter().zip(handles) {
            let (Content::File(old), StreamHandle::Segment(new)) = (&state.streams[stream].content, &handle) else {
                continue;
            };
            let path = FlinkPath::parse(&new.path.to_text())?;
            let file = books.spell(&path);
            names.push(Named { file, offset: new.offset, length: new.size, scope: Scope::Shared, owned: true });
            let place: SegmentPlace = (books.spelling(&state.files[old.file].name), old.offset, old.length);
            moves.insert(place, handle);
        }
        books.ledger.copied(&names)?;
        for file in sealed.files.values() {
            let path = books.spelling(&file.path);
            books.ledger.set_file_bytes(&path, file.file_bytes);
        }
        books.moved(moves);
        let left = chosen.files.iter().map(|&file| books.spelling(&state.files[file].name)).collect::<Vec<_>>();
        // One that has died meanwhile is in no plan.
        let since = books.ledger.next_checkpoint();
        let left = left.into_iter().filter(|file| books.ledger.names_file(file)).map(|file| (file, since));
        books.left.extend(left);
        books.report();
        metrics::rewritten(Rewriting::Background, chosen.bytes);
        tracing::debug!(segments = names.len(), bytes = chosen.bytes, "segments copied");
        Ok(Rewritten {
            segments: names.len() as u64,
            bytes: chosen.bytes,
            files_left: chosen.files.len() as u64,
            files_written: sealed.files.len() as u64,
        })
    }
}

/// Files are being written that nothing names yet.
struct Writing<'a>(&'a Shared);

impl<'a> Writing<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.books().rewrites += 1;
        Self(shared)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.books().rewrites -= 1;
    }
}

/// What is copied.
#[derive(Default)]
struct Chosen {
    /// By their numbers in the state, each byte range once.
    streams: Vec<usize>,
    bytes: u64,
    /// By their numbers in the state.
    files: Vec<usize>,
}
