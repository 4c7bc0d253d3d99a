//! The files and segments that checkpoints name, with how often.
//!
//! A file is here as long as some checkpoint names a segment in it, so what lives is the union of what the checkpoints
//! name and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::Kept;
use super::space::SpaceUsage;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, Scope};

/// A byte range of a file, as a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The file, by its path in one spelling.
    pub file: Arc<str>,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Who may name it.
    pub scope: Scope,
    /// May the job delete the file?
    pub owned: bool,
}

/// A segment by its number here; numbers are used again when a segment is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentNumber(u32);

#[derive(Clone, Copy, Debug)]
struct Segment {
    file: u32,
    /// How many times the checkpoints name it; 0 is a free number.
    references: u32,
    offset: u64,
    length: u64,
}

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: Arc<str>,
    /// Its length; unknown until it is sealed, and then at least what its segments take.
    pub(super) bytes: u64,
    /// Somebody has looked: the file is there, as long as it is said to be.
    is_measured: bool,
    pub(super) owned: bool,
    pub(super) scope: Scope,
    /// The first checkpoint that named it.
    pub(super) born: CheckpointId,
    /// The segments that are named, by offset and length.
    segments: BTreeMap<(u64, u64), SegmentNumber>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    by_path: BTreeMap<Arc<str>, u32>,
    files: Vec<Option<File>>,
    free_files: Vec<u32>,
    segments: Vec<Segment>,
    free_segments: Vec<SegmentNumber>,
    /// Of the files that the job owns.
    usage: SpaceUsage,
    /// Of all; kept below a bound, so that no sum of lengths can overflow.
    all: SpaceUsage,
}

/// Bytes that one checkpoint names and the one before doesn't.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct New {
    pub(super) bytes: u64,
    pub(super) shared_bytes: u64,
}

/// The file found last: names of one file mostly come together, so most need no search. It is good as long as no
/// reference is taken away.
#[derive(Debug, Default)]
pub(super) struct Found<'a>(Option<(&'a str, u32)>);

/// Lengths come from disk: what can't be is refused.
const BYTES_MAX: u64 = 1 << 62;

impl Registry {
    pub(super) fn usage(&self) -> SpaceUsage {
        self.usage
    }

    pub(super) fn holds(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files[*self.by_path.get(path)? as usize].as_ref()
    }

    pub(super) fn holds_range(&self, path: &str, offset: u64, length: u64) -> bool {
        self.file(path).is_some_and(|file| file.segments.contains_key(&(offset, length)))
    }

    pub(super) fn path_of(&self, number: u32) -> Option<String> {
        Some(self.files.get(number as usize)?.as_ref()?.path.to_string())
    }

    pub(super) fn bytes_of(&self, path: &str) -> Option<u64> {
        self.file(path).map(|file| file.bytes)
    }

    pub(super) fn is_measured(&self, path: &str) -> bool {
        self.file(path).is_some_and(|file| file.is_measured)
    }

    pub(super) fn holds_segment<'a>(&self, named: &'a Named, found: &mut Found<'a>) -> bool {
        self.number_of(&named.file, found).is_some_and(|number| self.find(number, named).is_some())
    }

    fn number_of<'a>(&self, path: &'a str, found: &mut Found<'a>) -> Option<u32> {
        if let Some((_, number)) = found.0.filter(|(last, _)| *last == path) {
            return Some(number);
        }
        let number = *self.by_path.get(path)?;
        found.0 = Some((path, number));
        Some(number)
    }

    /// Adds one reference. A file is owned as long as nobody says that it isn't: in doubt it isn't deleted.
    ///
    /// # Errors
    /// `Unsupported`: more segments or files than 32 bits can number, or bytes than can be. Nothing has changed.
    pub(super) fn add<'a>(
        &mut self,
        named: &'a Named,
        checkpoint: CheckpointId,
        found: &mut Found<'a>,
    ) -> Result<SegmentNumber> {
        let known = self.number_of(&named.file, found);
        if let Some(found) = known.and_then(|number| self.find(number, named)) {
            let segment = &mut self.segments[found.0 as usize];
            segment.references = segment.references.checked_add(1).ok_or_else(too_many)?;
            let file = segment.file;
            self.disown_if(!named.owned, file);
            return Ok(found);
        }
        let bytes = known.and_then(|number| self.files[number as usize].as_ref()).map_or(0, |file| file.bytes);
        let end = named.offset.checked_add(named.length).filter(|&end| end <= BYTES_MAX).ok_or_else(too_many)?;
        let added = SpaceUsage {
            files: u64::from(known.is_none()),
            file_bytes: end.saturating_sub(bytes),
            segments: 1,
            segment_bytes: named.length,
        };
        if self.all.file_bytes + added.file_bytes > BYTES_MAX || self.all.segment_bytes + named.length > BYTES_MAX {
            return Err(too_many());
        }
        if self.all.segments + 1 > u64::from(u32::MAX) {
            return Err(too_many());
        }
        let number = known.unwrap_or_else(|| self.add_file(named, checkpoint));
        let new = self.add_segment(Segment { file: number, references: 1, offset: named.offset, length: named.length });
        self.disown_if(!named.owned, number);
        self.all += added;
        if let Some(file) = self.files[number as usize].as_mut() {
            file.segments.insert((named.offset, named.length), new);
            file.bytes += added.file_bytes;
            if file.owned {
                self.usage += added;
            }
        }
        Ok(new)
    }

    fn find(&self, file: u32, named: &Named) -> Option<SegmentNumber> {
        self.files[file as usize].as_ref()?.segments.get(&(named.offset, named.length)).copied()
    }

    /// There are no more numbers than segments, and no more files than those.
    fn add_segment(&mut self, segment: Segment) -> SegmentNumber {
        if let Some(free) = self.free_segments.pop() {
            self.segments[free.0 as usize] = segment;
            return free;
        }
        self.segments.push(segment);
        SegmentNumber((self.segments.len() - 1) as u32)
    }

    fn add_file(&mut self, named: &Named, checkpoint: CheckpointId) -> u32 {
        let file = File {
            path: named.file.clone(),
            bytes: 0,
            is_measured: false,
            owned: named.owned,
            scope: named.scope,
            born: checkpoint,
            segments: BTreeMap::new(),
        };
        let number = self.free_files.pop().unwrap_or(self.files.len() as u32);
        match self.files.get_mut(number as usize) {
            Some(slot) => *slot = Some(file),
            None => self.files.push(Some(file)),
        }
        self.by_path.insert(named.file.clone(), number);
        number
    }

    fn disown_if(&mut self, foreign: bool, number: u32) {
        if let Some(file) = self.files[number as usize].as_mut().filter(|file| foreign && file.owned) {
            self.usage -= file.usage();
            file.owned = false;
        }
    }

    /// The file's real length, once it is known. Shorter than what is named in it, or longer than any sum can hold, it
    /// is left as it is.
    pub(super) fn set_bytes(&mut self, path: &str, bytes: u64) {
        let Some(&number) = self.by_path.get(path) else { return };
        let Some(file) = self.files[number as usize].as_mut() else { return };
        file.is_measured = true;
        // Segments may overlap: the last to begin need not be the last to end.
        let end = file.segments.keys().map(|(offset, length)| offset + length).max().unwrap_or(0);
        let bytes = bytes.max(end);
        let others = self.all.file_bytes - file.bytes;
        if bytes > BYTES_MAX - others {
            return;
        }
        self.all.file_bytes = others + bytes;
        if file.owned {
            self.usage.file_bytes -= file.bytes;
            self.usage.file_bytes += bytes;
        }
        file.bytes = bytes;
    }

    /// Takes one reference away; the path of the file, if that was the last in it and the job may delete it.
    pub(super) fn remove(&mut self, number: SegmentNumber) -> Option<Arc<str>> {
        let segment = &mut self.segments[number.0 as usize];
        debug_assert!(segment.references > 0, "a segment is released more often than named");
        segment.references = segment.references.saturating_sub(1);
        if segment.references > 0 {
            return None;
        }
        let segment = *segment;
        let slot = &mut self.files[segment.file as usize];
        let file = slot.as_mut()?;
        file.segments.remove(&(segment.offset, segment.length))?;
        self.free_segments.push(number);
        let mut gone = SpaceUsage { segments: 1, segment_bytes: segment.length, ..SpaceUsage::default() };
        if file.segments.is_empty() {
            gone += SpaceUsage { files: 1, file_bytes: file.bytes, ..SpaceUsage::default() };
        }
        self.all -= gone;
        if file.owned {
            self.usage -= gone;
        }
        if !file.segments.is_empty() {
            return None;
        }
        let file = slot.take()?;
        self.by_path.remove(&file.path);
        self.free_files.push(segment.file);
        file.owned.then_some(file.path)
    }

    /// The files that `names` name, with their lengths.
    pub(super) fn files_of(&self, names: &[SegmentNumber]) -> BTreeMap<Arc<str>, u64> {
        let files = self.bytes_by_file(names).into_keys();
        files.filter_map(|number| self.files[number as usize].as_ref()).map(|f| (f.path.clone(), f.bytes)).collect()
    }

    /// Every file, in no order that means anything, but always the same.
    pub(super) fn files(&self) -> impl Iterator<Item = (u32, &File)> {
        self.files.iter().enumerate().filter_map(|(number, file)| Some((number as u32, file.as_ref()?)))
    }

    /// Bytes that `names` name of each file, each segment once, by the file's number.
    pub(super) fn bytes_by_file(&self, names: &[SegmentNumber]) -> BTreeMap<u32, u64> {
        let mut bytes = BTreeMap::new();
        for segment in self.distinct(names).map(|number| &self.segments[number.0 as usize]) {
            *bytes.entry(segment.file).or_default() += segment.length;
        }
        bytes
    }

    /// What `after` names again of the shared bytes of `before`, and what it names beyond.
    pub(super) fn compare(
        &self,
        before: &[SegmentNumber],
        after: &[SegmentNumber],
        planned: &BTreeSet<u32>,
    ) -> (Kept, New) {
        let (is_before, is_after) = (self.mask(before), self.mask(after));
        let (mut kept, mut new) = (Kept::default(), New::default());
        for (number, segment) in self.segments.iter().enumerate() {
            let is_shared = || self.files[segment.file as usize].as_ref().is_some_and(|f| f.scope == Scope::Shared);
            match (is_before[number], is_after[number]) {
                (false, false) => {}
                (false, true) => {
                    new.bytes += segment.length;
                    new.shared_bytes += if is_shared() { segment.length } else { 0 };
                }
                (true, stays) if is_shared() => {
                    let (of, stayed) = match planned.contains(&segment.file) {
                        true => (&mut kept.planned_bytes, &mut kept.stayed_bytes),
                        false => (&mut kept.free_bytes, &mut kept.kept_bytes),
                    };
                    *of += segment.length;
                    *stayed += if stays { segment.length } else { 0 };
                }
                (true, _) => {}
            }
        }
        (kept, new)
    }

    fn distinct<'a>(&'a self, names: &'a [SegmentNumber]) -> impl Iterator<Item = SegmentNumber> + 'a {
        let mut seen = vec![false; self.segments.len()];
        names.iter().copied().filter(move |number| !std::mem::replace(&mut seen[number.0 as usize], true))
    }

    fn mask(&self, names: &[SegmentNumber]) -> Vec<bool> {
        let mut mask = vec![false; self.segments.len()];
        names.iter().for_each(|number| mask[number.0 as usize] = true);
        mask
    }

    /// The figures, counted again from all names.
    pub(super) fn recount(&self, names: impl Iterator<Item = SegmentNumber>) -> SpaceUsage {
        let names: BTreeSet<SegmentNumber> = names.collect();
        let segments = names.into_iter().map(|number| &self.segments[number.0 as usize]);
        let mut files: BTreeMap<u32, SpaceUsage> = BTreeMap::new();
        for segment in segments {
            let segment_bytes = segment.length;
            *files.entry(segment.file).or_default() += SpaceUsage { segments: 1, segment_bytes, ..Default::default() };
        }
        let mut usage = SpaceUsage::default();
        for (number, named) in files {
            if let Some(file) = self.files[number as usize].as_ref().filter(|file| file.owned) {
                usage += SpaceUsage { files: 1, file_bytes: file.bytes, ..named };
            }
        }
        usage
    }
}

impl File {
    fn usage(&self) -> SpaceUsage {
        let segment_bytes = self.segments.keys().map(|(_, length)| length).sum();
        SpaceUsage { files: 1, file_bytes: self.bytes, segments: self.segments.len() as u64, segment_bytes }
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::Unsupported, format!("more than {} live segments, or {BYTES_MAX} bytes in them", u32::MAX))
}
