//! Makes directories of what a checkpoint has of a database's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::disk::{LocalFile, blocking, hash};
use super::failed;
use super::options::RestoreOptions;
use super::place::{Places, path_below};
use super::resume::crc32c_of;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{IncrementalHandle, LocalPathHandle, StreamHandle};
use crate::id::KeyGroupRange;
use crate::read::{KeyedRestore, KeyedState, RestoreCounts, RestoredPiece, StreamNumber, TaskRestore};

/// Local files that are looked at at once.
const LOOKS_MAX: usize = 4;

/// What [`restore`] has made.
#[derive(Clone, Debug)]
pub struct RestoredDirectories {
    /// The directories, in the order of the subtasks that wrote them.
    pub directories: Vec<RestoredDirectory>,
    /// What was read for all of them together, and how much of that came from the worker's copies on local disks. What was
    /// linked isn't in it.
    pub counts: RestoreCounts,
}

/// A directory with all files of one handle.
#[derive(Clone, Debug)]
pub struct RestoredDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// The handle that it was made from, with the key groups that its database holds keys of.
    pub handle: IncrementalHandle,
    /// The key groups that the task needs of it. Where these are fewer than the handle's, the database also has keys that
    /// are other tasks'; where there are several directories, each has some of the task's.
    pub key_groups: KeyGroupRange,
    /// The subtask that wrote it.
    pub writer: u32,
    /// The database's own description, as it was given to [`FileBackend::write`](super::FileBackend::write_all).
    pub meta: Bytes,
    /// Where the files came from.
    pub counts: DirectoryCounts,
}

/// Where a directory's files came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryCounts {
    /// Files that a local directory had, the same ones.
    pub linked_files: u64,
    /// Their bytes.
    pub linked_bytes: u64,
    /// Files that were copied from a local directory, where a link wasn't possible.
    pub copied_files: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Files that were read from the checkpoint: from the store, or from copies of its files on local disks.
    pub read_files: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

/// A handle whose directory is being made.
struct Making {
    handle: IncrementalHandle,
    key_groups: KeyGroupRange,
    writer: u32,
    meta: BytesMut,
    counts: DirectoryCounts,
}

/// A file that a directory is to have.
struct Wanted {
    directory: usize,
    path: PathBuf,
    name: String,
    bytes: Option<u64>,
    crc32c: Option<u32>,
    may_link: bool,
    stream: Option<StreamNumber>,
}

/// Where a stream goes.
enum Target {
    File { path: PathBuf, open: Option<File> },
    Meta(usize),
}

/// How a file was had locally.
enum Found {
    Linked(u64),
    Copied(u64),
}

/// Makes a directory below `into` for each handle that holds any of the task's key groups: one where the parallelism is
/// that of the checkpoint, as many as it takes where it isn't. They appear under their names when all of them are whole.
///
/// The files are read side by side within the memory that the [`TaskRestore`] allows, from copies on local disks first where
/// it has any, and every one that has a checksum is checked. A shared file that a local directory has is linked instead, if its length and checksum are right: both
/// names are then one file, which nobody may change.
///
/// Cancelled or failed, it removes what it has made; what a killed process has left is removed by the next call with the
/// same `into`. A piece that was being written when the call was cancelled may leave a directory behind until then.
///
/// # Errors
/// As for [`TaskRestore::read`]. `Conflict`: a directory is there already. `Damaged`: a file's name leads out of the
/// directory, is there twice, or has no bytes. `Unsupported`: the task has keyed state of another kind. `Store`: the local
/// disk failed. Each names the handle and the file.
pub async fn restore(task: &TaskRestore, into: &Path, options: &RestoreOptions) -> Result<RestoredDirectories> {
    let (mut making, states) = handles(task)?;
    let names: Vec<String> = making.iter().enumerate().map(|(n, of)| format!("{n}-of-subtask-{}", of.writer)).collect();
    let root = into.to_owned();
    let places = blocking(move || Places::make(&root, &names)).await?;
    let mut wanted = Vec::new();
    let mut targets: BTreeMap<StreamNumber, Target> = BTreeMap::new();
    for (directory, state) in states.into_iter().enumerate() {
        wanted.extend(files_of(directory, &making[directory], state, places.path(directory))?);
        let KeyedState::Incremental { meta, .. } = state else { continue };
        targets.extend(meta.map(|stream| (stream, Target::Meta(directory))));
    }
    let mut looks = Vec::with_capacity(wanted.len());
    for file in &wanted {
        // Futures with a name, not a closure over references: else a caller's task couldn't be spawned.
        looks.push(look(file, &options.local));
    }
    let found: Vec<Option<Found>> = stream::iter(looks).buffered(LOOKS_MAX).try_collect().await?;
    for (file, found) in wanted.into_iter().zip(found) {
        let counts = &mut making[file.directory].counts;
        match (found, file.stream) {
            (Some(Found::Linked(bytes)), _) => {
                (counts.linked_files, counts.linked_bytes) = (counts.linked_files + 1, counts.linked_bytes + bytes)
            }
            (Some(Found::Copied(bytes)), _) => {
                (counts.copied_files, counts.copied_bytes) = (counts.copied_files + 1, counts.copied_bytes + bytes)
            }
            (None, stream) => {
                counts.read_files += 1;
                counts.read_bytes += file.bytes.unwrap_or_default();
                let path = file.path.clone();
                let made = blocking(move || create(&path)).await;
                made.map_err(|error| error.context(making[file.directory].describe(&file.name)))?;
                targets.extend(stream.map(|stream| (stream, Target::File { path: file.path, open: None })));
            }
        }
    }
    let counts = download(task, targets, &mut making).await?;
    let sync = options.sync;
    let paths = blocking(move || places.finish(sync)).await?;
    let directories = making.into_iter().zip(paths).map(|(made, path)| made.at(path)).collect();
    Ok(RestoredDirectories { directories, counts })
}

/// The handles of the task, and what is to be read of each.
fn handles(task: &TaskRestore) -> Result<(Vec<Making>, Vec<&KeyedState>)> {
    let (mut making, mut states) = (Vec::new(), Vec::new());
    let mut waiting: Vec<&KeyedRestore> = task.managed_keyed.iter().rev().collect();
    while let Some(KeyedRestore { writer, key_groups, state }) = waiting.pop() {
        match state {
            KeyedState::Incremental { handle, .. } => {
                let (meta, counts) = (BytesMut::new(), DirectoryCounts::default());
                making.push(Making { handle: handle.clone(), key_groups: *key_groups, writer: *writer, meta, counts });
                states.push(state);
            }
            KeyedState::Changelog { materialized, changes, .. } if changes.is_empty() => {
                waiting.extend(materialized.iter().rev());
            }
            _ => {
                let message = format!("the keyed state of subtask {writer} isn't a database's files alone");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
    }
    Ok((making, states))
}

/// The files of a handle.
fn files_of(directory: usize, of: &Making, state: &KeyedState, place: &Path) -> Result<Vec<Wanted>> {
    let KeyedState::Incremental { handle, shared, private, .. } = state else { return Ok(Vec::new()) };
    let shared = handle.shared.iter().zip(shared).map(|(file, stream)| (file, stream, true));
    let private = handle.private.iter().zip(private).map(|(file, stream)| (file, stream, false));
    let (mut files, mut names) = (Vec::new(), BTreeSet::new());
    for (LocalPathHandle { local_path, handle }, stream, may_link) in shared.chain(private) {
        let name = local_path.to_string();
        let damaged = |problem: &str| Err(Error::new(ErrorKind::Damaged, problem).context(of.describe(&name)));
        let Some(handle) = handle else { return damaged("its handle says nothing of any bytes") };
        if !names.insert(name.clone()) {
            return damaged("it is named twice");
        }
        let path = path_below(place, &name).map_err(|error| error.context(of.describe(&name)))?;
        let (bytes, crc32c) = (handle.size(), crc32c_of(handle));
        // What is inline is here already.
        let may_link = may_link && !matches!(handle.innermost(), StreamHandle::Inline(_));
        files.push(Wanted { directory, path, name, bytes, crc32c, may_link, stream: *stream });
    }
    Ok(files)
}

/// Links the file from a local directory that has it.
async fn look(file: &Wanted, local: &[PathBuf]) -> Result<Option<Found>> {
    let (Some(bytes), Some(crc32c), true) = (file.bytes, file.crc32c, file.may_link) else { return Ok(None) };
    for directory in local {
        let Ok(candidate) = path_below(directory, &file.name) else { continue };
        let (name, path) = (file.name.clone(), file.path.clone());
        // Hashed is what was taken, not what has the name: that may be another file by now.
        let taken = blocking(move || {
            let Some(found) = take(&candidate, &path, bytes) else { return Ok(None) };
            let now = fs::symlink_metadata(&path).map_err(|e| failed(&path, e))?;
            Ok(Some((found, LocalFile::of(name, path, &now))))
        })
        .await?;
        let Some((found, local)) = taken else { continue };
        let is_right = hash(&local).await.is_ok_and(|found| found == crc32c);
        if is_right {
            return Ok(Some(found));
        }
        tracing::warn!(file = %directory.join(&file.name).display(), "a local file isn't what the checkpoint has");
        blocking(move || fs::remove_file(&local.path).map_err(|e| failed(&local.path, e))).await?;
    }
    Ok(None)
}

/// Links a file of the right length, or copies it; nothing where neither can be.
fn take(from: &Path, to: &Path, bytes: u64) -> Option<Found> {
    let is_candidate = |path: &Path| fs::symlink_metadata(path).is_ok_and(|is| is.is_file() && is.len() == bytes);
    if !is_candidate(from) || fs::create_dir_all(to.parent()?).is_err() {
        return None;
    }
    if fs::hard_link(from, to).is_ok() && is_candidate(to) {
        return Some(Found::Linked(bytes));
    }
    // Another file system, or one without links.
    fs::remove_file(to).ok();
    match fs::copy(from, to) {
        Ok(copied) if copied == bytes => Some(Found::Copied(bytes)),
        _ => {
            fs::remove_file(to).ok();
            None
        }
    }
}

fn create(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
    }
    File::create_new(path).map(drop).map_err(|e| failed(path, e))
}

/// Reads all streams that are wanted, and writes each where it goes.
async fn download(
    task: &TaskRestore,
    mut targets: BTreeMap<StreamNumber, Target>,
    making: &mut [Making],
) -> Result<RestoreCounts> {
    let streams: Vec<StreamNumber> = targets.keys().copied().collect();
    let mut read = task.read_streams(&streams).await?;
    while let Some(piece) = read.next().await {
        let piece = piece?;
        match targets.get_mut(&piece.stream) {
            Some(Target::Meta(directory)) => making[*directory].meta.extend_from_slice(&piece.bytes),
            Some(Target::File { path, open }) => *open = write(path.clone(), open.take(), piece).await?,
            None => {}
        }
    }
    Ok(read.counts())
}

/// Adds a piece to a file, and closes it after the last.
async fn write(path: PathBuf, open: Option<File>, piece: RestoredPiece) -> Result<Option<File>> {
    blocking(move || {
        let opened = open.map_or_else(|| OpenOptions::new().append(true).open(&path), Ok);
        let written = opened.and_then(|mut open| open.write_all(&piece.bytes).map(|()| open));
        written.map(|open| (!piece.last).then_some(open)).map_err(|e| failed(&path, e))
    })
    .await
}

impl Making {
    fn describe(&self, file: &str) -> String {
        let IncrementalHandle { backend_id, checkpoint_id, range, .. } = &self.handle;
        format!(
            "file {file} of backend {backend_id}, key groups {range}, subtask {}, checkpoint {checkpoint_id}",
            self.writer
        )
    }

    fn at(self, path: PathBuf) -> RestoredDirectory {
        let Self { handle, key_groups, writer, meta, counts } = self;
        RestoredDirectory { path, handle, key_groups, writer, meta: meta.freeze(), counts }
    }
}
