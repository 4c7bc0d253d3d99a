//! Which byte ranges of which files a checkpoint's streams are.

use std::collections::BTreeMap;

use super::Checkpoint;
use super::plan::Wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{InlineHandle, JavaString, Place, StreamHandle};
use crate::id::{Scope, SegmentId};
use crate::store::{FlinkPath, Stores};

/// Everything that a checkpoint names.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The files, each once, in the order in which they are first named.
    pub files: Vec<StateFile>,
    /// The streams, in the order of the metadata.
    pub streams: Vec<StateStream>,
}

/// A file that a checkpoint names.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// As the metadata names it; relative names made absolute.
    pub name: FlinkPath,
    /// Where it is.
    pub location: crate::store::Location,
}

/// A stream of a checkpoint.
#[derive(Clone, Debug)]
pub struct StateStream {
    /// Whose state it is.
    pub place: Place,
    /// Where its bytes are.
    pub content: Content,
    /// Are they the whole of a file? Then that may hold no byte more.
    pub whole: bool,
    /// The id that Drystone gave it, with its checksum; `None` for what stock Flink wrote, and for whole files.
    pub id: Option<SegmentId>,
    /// CRC-32C of the whole file that it is, where the metadata's trailer says it.
    pub listed_crc32c: Option<u32>,
    /// Who may name it.
    pub scope: Scope,
}

/// Where the bytes of a stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the metadata.
    Inline(InlineHandle),
    /// In a file.
    File(Wanted),
    /// Flink's placeholder for no state at all.
    Placeholder,
}

impl Content {
    /// How many bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Inline(inline) => inline.bytes.len() as u64,
            Content::File(wanted) => wanted.length,
            Content::Placeholder => 0,
        }
    }
}

/// The checksum that a stream's bytes must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) crc32c: u32,
    /// What says so: the handle or the trailer.
    pub(crate) says: &'static str,
}

/// Bytes of all streams together: Flink's own sums are signed. So no sum of lengths overflows.
const STATE_BYTES_MAX: u64 = i64::MAX as u64;

/// The length of a file that the metadata doesn't say, until the store is asked.
const UNMEASURED: u64 = u64::MAX;

impl StateStream {
    /// The checksum that its bytes must have, if anything says it.
    pub(crate) fn expected(&self) -> Option<Expected> {
        let by_handle = self.id.map(|id| Expected { crc32c: id.crc32c, says: "handle" });
        by_handle.or(self.listed_crc32c.map(|crc32c| Expected { crc32c, says: "trailer" }))
    }

    /// The number of the file whose length is yet to be found.
    pub(super) fn unmeasured(&self) -> Option<usize> {
        match &self.content {
            Content::File(wanted) if wanted.length == UNMEASURED => Some(wanted.file),
            _ => None,
        }
    }

    /// The file is so long.
    pub(super) fn measured(&mut self, size: u64) {
        if let Content::File(wanted) = &mut self.content {
            wanted.length = size;
        }
    }

    /// Adds its length to `total`, as far as that goes.
    fn counted(self, total: &mut u64) -> Result<Self> {
        let size = self.content.size();
        match total.checked_add(size).filter(|&sum| sum <= STATE_BYTES_MAX) {
            Some(sum) => {
                *total = sum;
                Ok(self)
            }
            None => {
                let message = format!("{size} bytes are named, and {total} before: more than a checkpoint can hold");
                Err(Error::new(ErrorKind::Damaged, message))
            }
        }
    }
}

impl State {
    /// Finds the files of all streams. Asks the store only for the lengths that the metadata doesn't say.
    ///
    /// # Errors
    /// For the first stream that can't be one, with its place. [`ErrorKind::Damaged`]: its handle can't be right, because
    /// of a path that climbs out or a range beyond any file. [`ErrorKind::NotFound`]: the metadata doesn't say how long
    /// its file is, and it isn't there. Others: its store can't be opened or asked.
    pub async fn of(stores: &Stores, checkpoint: &Checkpoint) -> Result<Self> {
        let (state, mut refused) = Self::collect(stores, checkpoint).await;
        if refused.is_empty() {
            return Ok(state);
        }
        let (place, error) = refused.swap_remove(0);
        Err(error.context(format!("{place} of {}", checkpoint.directory.real())))
    }

    /// As [`of`](Self::of), but goes on after an error: the streams without those that can't be, and the errors, which
    /// don't repeat the place.
    pub async fn collect(stores: &Stores, checkpoint: &Checkpoint) -> (Self, Vec<(Place, Error)>) {
        let (mut handles, mut refused, mut streams) = (Vec::new(), Vec::new(), Vec::new());
        checkpoint.decoded.metadata.visit_streams(|place, handle| handles.push((place.clone(), handle)));
        let mut resolver = Resolver::new(stores, checkpoint);
        let mut bytes_total = 0;
        for (place, handle) in handles {
            let mut stream = resolver.stream(place.clone(), handle);
            if let Ok(found) = &mut stream
                && let Some(file) = found.unmeasured()
                && let Err(error) = resolver.files[file].location.size().await.map(|size| found.measured(size))
            {
                stream = Err(error);
            }
            match stream.and_then(|stream| stream.counted(&mut bytes_total)) {
                Ok(stream) => streams.push(stream),
                Err(error) => refused.push((place, error)),
            }
        }
        (Self { files: resolver.files, streams }, refused)
    }

    /// Bytes of each file that some stream names, each counted once, by the file's number.
    pub fn live_bytes(&self) -> Vec<u64> {
        let ranges = self.live_ranges();
        ranges.iter().map(|ranges| ranges.iter().map(|(_, length)| length).sum()).collect()
    }

    /// The ranges of each file that some stream names, as (offset, length): sorted, merged, by the file's number.
    pub fn live_ranges(&self) -> Vec<Vec<(u64, u64)>> {
        let mut ranges: Vec<Vec<(u64, u64)>> = vec![Vec::new(); self.files.len()];
        for stream in &self.streams {
            if let Content::File(wanted) = stream.content {
                ranges[wanted.file].push((wanted.offset, wanted.length));
            }
        }
        ranges.into_iter().map(merged).collect()
    }
}

/// Ranges as (offset, length), sorted, and those that meet made one. No end may be beyond 64 bits.
pub(crate) fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (offset, length) in ranges {
        match merged.last_mut() {
            Some((start, total)) if offset <= *start + *total => {
                *total = (*total).max(offset + length - *start);
            }
            _ => merged.push((offset, length)),
        }
    }
    merged
}

/// Finds where handles point to, without asking a store.
pub(super) struct Resolver<'a> {
    stores: &'a Stores,
    checkpoint: &'a Checkpoint,
    numbers: BTreeMap<FlinkPath, usize>,
    /// By the text of a path: thousands of segments have the same, and reading it costs more than all else here.
    texts: BTreeMap<JavaString, usize>,
    /// The checksums of whole files, as far as the trailer has them.
    listed: BTreeMap<FlinkPath, u32>,
    /// The files that were named so far.
    pub(super) files: Vec<StateFile>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(stores: &'a Stores, checkpoint: &'a Checkpoint) -> Self {
        let listed = checkpoint.listed_checksums();
        Self { stores, checkpoint, numbers: BTreeMap::new(), texts: BTreeMap::new(), listed, files: Vec::new() }
    }

    /// The stream of an innermost handle; it may be [`unmeasured`](StateStream::unmeasured).
    pub(super) fn stream(&mut self, place: Place, handle: &StreamHandle) -> Result<StateStream> {
        let without_file = |place: Place, content, id| {
            let scope = place.part.scope();
            StateStream { place, content, whole: false, id, listed_crc32c: None, scope }
        };
        let id_of = |text: &JavaString| text.to_text().parse::<SegmentId>().ok();
        let (file, range, id, scope) = match handle {
            StreamHandle::Inline(inline) => {
                return Ok(without_file(place, Content::Inline(inline.clone()), id_of(&inline.name)));
            }
            StreamHandle::EmptySegment | StreamHandle::KeyGroups(_) => {
                return Ok(without_file(place, Content::Placeholder, None));
            }
            StreamHandle::File(file) => (self.file_at(&file.path)?, None, None, place.part.scope()),
            StreamHandle::Relative(file) => {
                let name = self.checkpoint.directory.name().join(&file.path.to_text());
                (self.file(name)?, None, None, place.part.scope())
            }
            StreamHandle::Segment(segment) => {
                let file = self.file_at(&segment.path)?;
                (file, Some((segment.offset, segment.size)), id_of(&segment.id), segment.scope)
            }
        };
        let (offset, length) = range.unwrap_or((0, handle.size().unwrap_or(UNMEASURED)));
        offset.checked_add(length).ok_or_else(|| {
            Error::new(ErrorKind::Damaged, format!("{length} bytes from offset {offset} end beyond any file"))
        })?;
        let content = Content::File(Wanted { file, offset, length });
        let whole = range.is_none();
        let listed_crc32c = if whole { self.listed.get(&self.files[file].name).copied() } else { None };
        Ok(StateStream { place, content, whole, id, listed_crc32c, scope })
    }

    /// The number of the file at an absolute path.
    fn file_at(&mut self, path: &JavaString) -> Result<usize> {
        if let Some(&number) = self.texts.get(path) {
            return Ok(number);
        }
        let number = self.file(FlinkPath::parse(&path.to_text()))?;
        self.texts.insert(path.clone(), number);
        Ok(number)
    }

    /// The number of a file.
    fn file(&mut self, name: Result<FlinkPath>) -> Result<usize> {
        // What no file can be called was never written; that a store can't be opened says nothing of the checkpoint.
        let name = name.and_then(|name| name.check_key().map(|()| name));
        let name = name.map_err(|error| Error::new(ErrorKind::Damaged, error.one_line()))?;
        if name.file_name().is_none() {
            return Err(Error::new(ErrorKind::Damaged, format!("{name} is a store's root, not a file")));
        }
        if let Some(&number) = self.numbers.get(&name) {
            return Ok(number);
        }
        let location = self.stores.locate(&name)?;
        self.files.push(StateFile { name: name.clone(), location });
        self.numbers.insert(name, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }
}
