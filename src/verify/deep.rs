//! Checks all checkpoints of a job's directory at once: every byte of every file that any of them names is read once, and
//! accounted for.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::data::{Range, Users, sums};
use super::files::{Look, is_ours, look, streams_by_file};
use super::{Audit, FINDINGS_MAX, Verification, open};
use crate::error::{Error, ErrorKind, Result};
use crate::format::footer::TAIL_BYTES;
use crate::read::{Checkpoint, Content, ReadLimits, State, merged};
use crate::store::{FlinkPath, Location, Stores, names};

/// What a check of a whole directory found.
#[derive(Clone, Debug)]
pub struct DeepVerification {
    /// What was checked: a job's directory, or one checkpoint's.
    pub directory: FlinkPath,
    /// The checkpoints by number, then savepoints by name. A damaged range is a finding of each that names it.
    pub checkpoints: Vec<Verification>,
    /// Physical files that they name and that are there.
    pub files: u64,
    /// What is in those.
    pub bytes: FileBytes,
    /// Ranges of files that nothing explains; at most [`FINDINGS_MAX`]. In files of Flink's file merging they are what
    /// earlier checkpoints named, so they are no findings.
    pub gaps: Vec<Gap>,
    /// Bytes that were read of files: each once, so that a file that is whole adds just its length.
    pub bytes_read: u64,
}

/// What the bytes of physical files are. Each counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBytes {
    /// Named by some checkpoint.
    pub named: u64,
    /// Of segments that no checkpoint names any more, and that the file's footer lists.
    pub footer_only: u64,
    /// Footers.
    pub footers: u64,
    /// Neither: nothing says what they are.
    pub unexplained: u64,
}

/// Bytes of a file that nothing explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The file.
    pub file: FlinkPath,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// One checkpoint under check.
struct Part {
    audit: Audit,
    /// None where its metadata is damaged.
    named: Option<(Checkpoint, State)>,
    /// For each of its files the number among all.
    numbers: Vec<usize>,
    ranges: BTreeMap<Range, Users>,
}

/// A file that some checkpoint names.
struct File {
    location: Location,
    is_ours: bool,
}

impl DeepVerification {
    /// Nothing wrong with any checkpoint?
    pub fn is_sound(&self) -> bool {
        self.checkpoints.iter().all(Verification::is_sound)
    }
}

impl FileBytes {
    /// All together: the lengths of the files.
    pub fn total(&self) -> u64 {
        self.named + self.footer_only + self.footers + self.unexplained
    }
}

/// Checks every checkpoint and savepoint in the job's directory `path`, or the one at `path`. Reads each file once, however
/// many checkpoints name it, and all of it, also what none names.
///
/// The metadata of all of them is held in memory; of the files no more than `limits` say. `progress` is told how many bytes
/// of how many have been read.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no checkpoint; a store's error when a file can't be asked for.
pub async fn verify_deep(
    stores: &Stores,
    path: &FlinkPath,
    limits: &ReadLimits,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<DeepVerification> {
    let mut parts = Vec::new();
    for directory in checkpoints(stores, path).await? {
        let (audit, named) = match open(stores, &directory).await {
            // Barred, or discarded since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound && directory != *path => continue,
            opened => opened?,
        };
        parts.push(Part { audit, named, numbers: Vec::new(), ranges: BTreeMap::new() });
    }
    if parts.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no checkpoint at {path}: those in it were never completed"),
        ));
    }
    let files = gather(&mut parts);
    let looks = looks(&files, limits).await?;
    for part in &mut parts {
        part.check_files(&looks);
    }
    let mut accounts = Accounts::of(&parts, &files, &looks);

    // Each range that anybody wants, and the gaps, so that no byte is passed over.
    let mut wanted: BTreeMap<Range, usize> = BTreeMap::new();
    for part in &parts {
        wanted.extend(part.ranges.keys().map(|range| (part.among_all(range), 0)));
    }
    wanted.extend(accounts.gaps.iter().map(|&gap| (gap, 0)));
    wanted.values_mut().enumerate().for_each(|(number, place)| *place = number);
    let ranges: Vec<Range> = wanted.keys().copied().collect();
    let locations = files.iter().map(|file| file.location.clone()).collect();
    let (sums, bytes_read) = sums(locations, &ranges, limits, progress).await?;
    for part in &mut parts {
        let Some((_, state)) = &part.named else { continue };
        for (range, users) in std::mem::take(&mut part.ranges) {
            let (file, offset, length) = range;
            part.audit.counts.bytes_read += length;
            if let Some(&place) = wanted.get(&(part.numbers[file], offset, length)) {
                part.audit.compare(state, &range, &users, &sums[place]);
            }
        }
    }
    accounts.gaps.truncate(FINDINGS_MAX);
    let gap = |(file, offset, length): Range| Gap { file: files[file].location.real().clone(), offset, length };
    Ok(DeepVerification {
        directory: path.clone(),
        checkpoints: parts.into_iter().map(|part| part.audit.finish()).collect(),
        files: looks.iter().filter(|look| matches!(look, Look::There { .. })).count() as u64,
        bytes: accounts.bytes,
        gaps: accounts.gaps.into_iter().map(gap).collect(),
        bytes_read: bytes_read + accounts.bytes.footers,
    })
}

/// The directories with metadata: `path` itself, or those in it.
async fn checkpoints(stores: &Stores, path: &FlinkPath) -> Result<Vec<FlinkPath>> {
    let directory = stores.locate_real(path)?;
    if path.file_name() == Some(names::METADATA) || directory.join(names::METADATA)?.exists().await? {
        return Ok(vec![path.clone()]);
    }
    let mut found = Vec::new();
    for entry in directory.list_dir().await?.directories {
        let Some(name) = entry.file_name() else { continue };
        let checkpoint = directory.join(name)?;
        if checkpoint.join(names::METADATA)?.exists().await? {
            let number = names::parse_checkpoint_directory(name);
            found.push((number.is_none(), number, checkpoint.real().clone()));
        }
    }
    if found.is_empty() {
        let message = format!("no checkpoint at {path}: no {} in it, nor in a directory in it", names::METADATA);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, directory)| directory).collect())
}

/// Each file once, by where it really lies.
fn gather(parts: &mut [Part]) -> Vec<File> {
    let mut numbers: BTreeMap<FlinkPath, usize> = BTreeMap::new();
    let mut files: Vec<File> = Vec::new();
    for part in parts {
        let Some((_, state)) = &part.named else { continue };
        let streams = streams_by_file(state);
        for (own, file) in state.files.iter().enumerate() {
            let number = *numbers.entry(file.location.real().clone()).or_insert_with(|| {
                files.push(File { location: file.location.clone(), is_ours: false });
                files.len() - 1
            });
            files[number].is_ours |= streams.get(&own).is_some_and(|streams| is_ours(streams));
            part.numbers.push(number);
        }
    }
    files
}

/// Of footers only so much is read at first that no byte of data is read twice.
async fn looks(files: &[File], limits: &ReadLimits) -> Result<Vec<Look>> {
    let asked: Vec<_> = files.iter().map(|file| look(file.location.clone(), file.is_ours, TAIL_BYTES as u64)).collect();
    stream::iter(asked).buffered(limits.requests_max.max(1)).try_collect().await
}

impl Part {
    fn check_files(&mut self, looks: &[Look]) {
        let Some((checkpoint, state)) = &self.named else { return };
        let streams = streams_by_file(state);
        for (own, &number) in self.numbers.iter().enumerate() {
            self.audit.file(state, own, streams.get(&own).map_or(&[], Vec::as_slice), &looks[number]);
        }
        self.audit.trailer_sizes(checkpoint, state);
        self.audit.inline(state);
        self.ranges = self.audit.ranges(state);
    }

    /// A range by the file's number among all.
    fn among_all(&self, &(file, offset, length): &Range) -> Range {
        (self.numbers[file], offset, length)
    }
}

/// What the bytes of all files are.
struct Accounts {
    bytes: FileBytes,
    gaps: Vec<Range>,
}

impl Accounts {
    fn of(parts: &[Part], files: &[File], looks: &[Look]) -> Self {
        let mut named: Vec<Vec<(u64, u64)>> = vec![Vec::new(); files.len()];
        for part in parts {
            let Some((_, state)) = &part.named else { continue };
            for stream in &state.streams {
                let Content::File(wanted) = stream.content else { continue };
                let number = part.numbers[wanted.file];
                if let Look::There { length, .. } = looks[number] {
                    // As far as the file goes.
                    let end = wanted.offset.saturating_add(wanted.length).min(length);
                    named[number].extend(end.checked_sub(wanted.offset).map(|bytes| (wanted.offset, bytes)));
                }
            }
        }
        let mut accounts = Self { bytes: FileBytes::default(), gaps: Vec::new() };
        for (number, (named, look)) in named.into_iter().zip(looks).enumerate() {
            accounts.add(number, named, look);
        }
        accounts
    }

    fn add(&mut self, number: usize, named: Vec<(u64, u64)>, look: &Look) {
        let Look::There { length, footer } = look else { return };
        let sum = |ranges: &[(u64, u64)]| ranges.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut explained = merged(named);
        let named = sum(&explained);
        self.bytes.named += named;
        if let Some(Ok(footer)) = footer {
            let data_bytes = footer.segments.last().map_or(0, |last| last.offset + last.length);
            explained.extend(footer.segments.iter().map(|segment| (segment.offset, segment.length)));
            explained = merged(explained);
            self.bytes.footer_only += sum(&explained) - named;
            // A handle that reaches into the footer has been found to be wrong.
            let before = sum(&explained);
            explained.push((data_bytes, length - data_bytes));
            explained = merged(explained);
            self.bytes.footers += sum(&explained) - before;
        }
        let mut end = 0;
        for (offset, bytes) in explained.into_iter().chain([(*length, 0)]) {
            if offset > end {
                self.bytes.unexplained += offset - end;
                self.gaps.push((number, end, offset - end));
            }
            end = end.max(offset + bytes);
        }
    }
}
