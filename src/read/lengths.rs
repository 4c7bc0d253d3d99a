//! How long the files are that a task's handles name, where that has to be known before they are read.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::local::Copies;
use super::plan::Wanted;
use super::state::{Content, StateStream};
use super::stream::{check_crc, wrong_length};
use super::task::{Source, StreamNumber, TaskRestore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32c;

/// The lengths of files that had to be looked at.
pub(super) struct Lengths(BTreeMap<usize, u64>);

impl Lengths {
    /// Looks at the files where reading would be too late: a length that is only claimed may be too much to plan for,
    /// of no bytes none would be read, and some handles don't say it. `files` has the numbers that each task's files have
    /// among all. A copy on a local disk that is long enough says so, too.
    pub(super) async fn of(
        tasks: &[(&TaskRestore, Vec<StreamNumber>)],
        files: &[Vec<usize>],
        copies: &Copies,
    ) -> Result<Self> {
        let mut seen = BTreeSet::new();
        let mut look = Vec::new();
        for ((task, numbers), files) in tasks.iter().zip(files) {
            for &number in numbers {
                let state = &task.source.streams[number].state;
                let Content::File(wanted) = &state.content else { continue };
                let is_short = (1..=task.limits.range_bytes_max).contains(&wanted.length);
                let is_plain = is_short && state.unmeasured().is_none();
                let is_copied = wanted.length > 0
                    && !state.whole
                    && copies.reaches(&Wanted { file: files[wanted.file], ..*wanted });
                if !is_plain && !is_copied && seen.insert(files[wanted.file]) {
                    // Futures with a name, not closures over references: else a caller's task couldn't be spawned.
                    look.push(length_of(&task.source, wanted.file, number, files[wanted.file]));
                }
            }
        }
        let most = tasks.first().map_or(1, |(task, _)| task.limits.requests_max.max(1));
        Ok(Self(stream::iter(look).buffered(most).try_collect().await?))
    }

    /// The length of a stream, which its file can hold as far as the file was looked at.
    pub(super) fn size_of(&self, state: &StateStream, files: &[usize]) -> Result<u64> {
        let Content::File(wanted) = &state.content else { return Ok(state.content.size()) };
        let Some(&file_bytes) = self.0.get(&files[wanted.file]) else { return Ok(wanted.length) };
        if state.unmeasured().is_some() {
            return Ok(file_bytes);
        }
        if wanted.offset.checked_add(wanted.length).is_none_or(|end| end > file_bytes) {
            let message = format!("{} bytes are named, but the file has {file_bytes}", wanted.length);
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        if state.whole && wanted.length != file_bytes {
            return Err(wrong_length(wanted.length, file_bytes));
        }
        if wanted.length == 0 {
            check_crc(state.expected(), crc32c(&[]))?;
        }
        Ok(wanted.length)
    }
}

async fn length_of(source: &Source, file: usize, number: StreamNumber, among_all: usize) -> Result<(usize, u64)> {
    let size = source.files[file].location.size().await.map_err(|e| e.context(source.describe(number)))?;
    Ok((among_all, size))
}
