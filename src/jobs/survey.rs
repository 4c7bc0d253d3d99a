//! What lies in a directory of checkpoints, by one listing: which directories, which files, how long.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::stream::TryStreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::id::FileToken;
use crate::store::names::PhysicalFileName;
use crate::store::{FlinkPath, Listed, Location, names};

fn is_ours(path: &FlinkPath, name: &str) -> bool {
    PhysicalFileName::of(path).is_some() || names::parse_unfinished_marker(name).is_some()
}

/// What is right in a directory.
pub(super) struct Place {
    pub(super) root: Location,
    /// Is the directory itself a checkpoint's or savepoint's?
    pub(super) is_checkpoint: bool,
    /// The directories of jobs in it.
    pub(super) jobs: Vec<String>,
    /// The other directories in it.
    pub(super) others: Vec<String>,
}

impl Place {
    pub(super) async fn of(root: Location) -> Result<Self> {
        let directory = root.list_dir().await?;
        // A savepoint that has no metadata yet, or never will, is known by its files.
        let is_savepoint = root.real().file_name().is_some_and(names::is_savepoint_directory);
        let is_checkpoint = directory.files.iter().any(|file| match file.path.file_name() {
            Some(names::METADATA) => true,
            Some(name) if is_savepoint => names::is_flink_file(name) || is_ours(&file.path, name),
            _ => false,
        });
        let directories = directory.directories.iter().filter_map(FlinkPath::file_name).map(str::to_owned);
        let (jobs, others) = directories.partition(|name| names::parse_job_directory(name).is_some());
        Ok(Self { root, is_checkpoint, jobs, others })
    }

    /// Are a job's checkpoints right in it?
    pub(super) fn is_job(&self) -> bool {
        self.others.iter().any(|name| {
            matches!(name.as_str(), names::SHARED | names::TASK_OWNED | names::FENCE)
                || names::parse_checkpoint_directory(name).is_some()
        })
    }

    /// May there be a log of the job's coordinators?
    pub(super) fn has_log(&self) -> bool {
        self.others.iter().any(|name| name == names::FENCE)
    }

    pub(super) fn nothing(&self) -> Error {
        let message = format!(
            "{} holds no checkpoint, no savepoint and no directory of a job: no {}, no chk-N, no savepoint-X",
            self.root.real(),
            names::METADATA
        );
        Error::new(ErrorKind::NotFound, message)
    }
}

/// The files of a job's directory, or of one of savepoints.
#[derive(Default)]
pub(super) struct Survey {
    /// Lengths, by the path below the root.
    pub(super) lengths: BTreeMap<Box<str>, u64>,
    /// What may be a checkpoint's directory, by name.
    pub(super) directories: BTreeMap<String, Found>,
    /// Is there a log, and a hint?
    pub(super) has_log: bool,
    pub(super) has_hint: bool,
    /// Does a file say whose it is?
    pub(super) has_owner: bool,
}

/// A directory that may be a checkpoint's.
#[derive(Default)]
pub(super) struct Found {
    /// The metadata's length, and when it was written.
    pub(super) metadata: Option<(u64, SystemTime)>,
    /// When the youngest of its files was written.
    pub(super) youngest: Option<SystemTime>,
    /// Files right in it or deeper, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Is it marked as a savepoint that isn't whole?
    pub(super) is_unfinished: bool,
    /// The run that marks it as unfinished.
    pub(super) run: Option<FileToken>,
    /// Is it being disposed of, or was that cut off?
    pub(super) is_disposing: bool,
}

impl Survey {
    /// Of all that is in `root` but the directories of jobs; `others` are the other ones in it where there are any of
    /// those. Holds a name for each file.
    pub(super) async fn of(root: &Location, others: Option<&[String]>) -> Result<Self> {
        let mut survey = Self::default();
        let places = match others {
            Some(others) => others.iter().map(|name| root.join(name)).collect::<Result<Vec<_>>>()?,
            None => vec![root.clone()],
        };
        for place in places {
            let mut listed = place.list_stream();
            while let Some(file) = listed.try_next().await? {
                if let Some(below) = file.path.relative_to(root.name()) {
                    survey.add(below, &file);
                }
            }
        }
        survey.directories.retain(|name, found| {
            let is_named = names::parse_checkpoint_directory(name).is_some() || names::is_savepoint_directory(name);
            is_named || found.metadata.is_some() || found.is_disposing
        });
        Ok(survey)
    }

    fn add(&mut self, below: &str, file: &Listed) {
        let Some((first, rest)) = below.split_once('/') else { return };
        if first == names::FENCE {
            self.has_log |= names::parse_log_entry(rest).is_some();
            self.has_hint |= rest == names::LATEST;
            self.has_owner |= rest == names::OWNER;
            return;
        }
        if names::parse_job_directory(first).is_some() {
            return;
        }
        self.lengths.insert(below.into(), file.size);
        if matches!(first, names::SHARED | names::TASK_OWNED) {
            return;
        }
        // No copy of the name for each of its files.
        if !self.directories.contains_key(first) {
            self.directories.insert(first.to_owned(), Found::default());
        }
        let Some(found) = self.directories.get_mut(first) else { return };
        found.youngest = found.youngest.max(Some(file.modified));
        match rest {
            names::METADATA => found.metadata = Some((file.size, file.modified)),
            names::DISPOSING => found.is_disposing = true,
            _ if names::savepoint_marker(first).as_deref() == Some(rest) => found.is_unfinished = true,
            _ => match names::parse_unfinished_marker(rest) {
                Some(run) => found.run = Some(run),
                None => {
                    found.files += 1;
                    found.bytes += file.size;
                }
            },
        }
    }
}
