//! The files and segments that checkpoints name, with how often.
//!
//! A file is here as long as some checkpoint names a segment in it, so what lives is the union of what the checkpoints
//! name and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    pub(super) owned: bool,
    pub(super) scope: Scope,
    /// The first checkpoint that named it.
    pub(super) born: CheckpointId,
    /// Bytes of the segments that are named.
    pub(super) live_bytes: u64,
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
    usage: SpaceUsage,
}

impl Registry {
    pub(super) fn usage(&self) -> SpaceUsage {
        self.usage
    }

    pub(super) fn holds(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    pub(super) fn bytes_of(&self, path: &str) -> Option<u64> {
        let number = *self.by_path.get(path)?;
        Some(self.files[number as usize].as_ref()?.bytes)
    }

    pub(super) fn holds_segment(&self, named: &Named) -> bool {
        let file = self.by_path.get(&named.file).and_then(|&number| self.files[number as usize].as_ref());
        file.is_some_and(|file| file.segments.contains_key(&(named.offset, named.length)))
    }

    /// Adds one reference.
    ///
    /// # Errors
    /// `Unsupported`: more segments or files than 32 bits can number.
    pub(super) fn add(&mut self, named: &Named, checkpoint: CheckpointId) -> Result<SegmentNumber> {
        let number = match self.by_path.get(&named.file) {
            Some(&number) => number,
            None => self.add_file(named, checkpoint)?,
        };
        let too_many = || Error::new(ErrorKind::Unsupported, "more than 4294967295 live segments");
        let Some(file) = self.files[number as usize].as_mut() else { return Err(too_many()) };
        if let Some(&found) = file.segments.get(&(named.offset, named.length)) {
            let segment = &mut self.segments[found.0 as usize];
            segment.references = segment.references.checked_add(1).ok_or_else(too_many)?;
            return Ok(found);
        }
        let segment = Segment { file: number, references: 1, offset: named.offset, length: named.length };
        let new = match self.free_segments.pop() {
            Some(free) => {
                self.segments[free.0 as usize] = segment;
                free
            }
            None => {
                let new = SegmentNumber(u32::try_from(self.segments.len()).map_err(|_| too_many())?);
                self.segments.push(segment);
                new
            }
        };
        file.segments.insert((named.offset, named.length), new);
        file.live_bytes += named.length;
        let end = named.offset.saturating_add(named.length);
        let grown = end.saturating_sub(file.bytes);
        file.bytes += grown;
        if file.owned {
            self.usage += SpaceUsage { files: 0, file_bytes: grown, segments: 1, segment_bytes: named.length };
        }
        Ok(new)
    }

    fn add_file(&mut self, named: &Named, checkpoint: CheckpointId) -> Result<u32> {
        let file = File {
            path: named.file.clone(),
            bytes: 0,
            owned: named.owned,
            scope: named.scope,
            born: checkpoint,
            live_bytes: 0,
            segments: BTreeMap::new(),
        };
        let number = match self.free_files.pop() {
            Some(free) => {
                self.files[free as usize] = Some(file);
                free
            }
            None => {
                let too_many = |_| Error::new(ErrorKind::Unsupported, "more than 4294967295 live files");
                let number = u32::try_from(self.files.len()).map_err(too_many)?;
                self.files.push(Some(file));
                number
            }
        };
        self.by_path.insert(named.file.clone(), number);
        if named.owned {
            self.usage += SpaceUsage { files: 1, ..SpaceUsage::default() };
        }
        Ok(number)
    }

    /// The file's real length, once it is known. Shorter than what is named in it, it is left as it is.
    pub(super) fn set_bytes(&mut self, path: &str, bytes: u64) {
        let Some(&number) = self.by_path.get(path) else { return };
        let Some(file) = self.files[number as usize].as_mut() else { return };
        let end = file.segments.last_key_value().map_or(0, |(&(offset, length), _)| offset.saturating_add(length));
        let bytes = bytes.max(end);
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
        file.live_bytes -= segment.length;
        if file.owned {
            self.usage -= SpaceUsage { segments: 1, segment_bytes: segment.length, ..SpaceUsage::default() };
        }
        if !file.segments.is_empty() {
            return None;
        }
        let file = slot.take()?;
        self.by_path.remove(&file.path);
        self.free_files.push(segment.file);
        if file.owned {
            self.usage -= SpaceUsage { files: 1, file_bytes: file.bytes, ..SpaceUsage::default() };
        }
        file.owned.then_some(file.path)
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

    /// The files that `names` name, with their lengths.
    pub(super) fn files_of(&self, names: &[SegmentNumber]) -> BTreeMap<Arc<str>, u64> {
        let files = self.bytes_by_file(names).into_keys();
        files.filter_map(|number| self.files[number as usize].as_ref()).map(|f| (f.path.clone(), f.bytes)).collect()
    }

    /// The bytes that both name, and those that the first names, of shared segments.
    pub(super) fn shared_bytes_kept(&self, before: &[SegmentNumber], after: &[SegmentNumber]) -> (u64, u64) {
        let mut is_after = vec![false; self.segments.len()];
        after.iter().for_each(|number| is_after[number.0 as usize] = true);
        let (mut kept, mut all) = (0, 0);
        for number in self.distinct(before) {
            let segment = &self.segments[number.0 as usize];
            let file = self.files[segment.file as usize].as_ref();
            if file.is_some_and(|file| file.scope == Scope::Shared) {
                all += segment.length;
                kept += if is_after[number.0 as usize] { segment.length } else { 0 };
            }
        }
        (kept, all)
    }

    /// The segments of a file, as (offset, length), that `names` name.
    pub(super) fn segments_of(&self, path: &str, names: &[SegmentNumber]) -> Vec<(u64, u64)> {
        let Some(&file) = self.by_path.get(path) else { return Vec::new() };
        let segments = self.distinct(names).map(|number| &self.segments[number.0 as usize]);
        segments.filter(|segment| segment.file == file).map(|segment| (segment.offset, segment.length)).collect()
    }

    fn distinct<'a>(&'a self, names: &'a [SegmentNumber]) -> impl Iterator<Item = SegmentNumber> + 'a {
        let mut seen = vec![false; self.segments.len()];
        names.iter().copied().filter(move |number| !std::mem::replace(&mut seen[number.0 as usize], true))
    }

    /// The figures, counted again from the references.
    pub(super) fn recount(&self) -> SpaceUsage {
        let mut usage = SpaceUsage::default();
        for (_, file) in self.files().filter(|(_, file)| file.owned) {
            let segment_bytes = file.segments.keys().map(|(_, length)| length).sum();
            let segments = file.segments.len() as u64;
            usage += SpaceUsage { files: 1, file_bytes: file.bytes, segments, segment_bytes };
        }
        usage
    }
}
