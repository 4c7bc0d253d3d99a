//! Lists jobs, checkpoints and savepoints, each with what a look at its metadata and at the lengths of its files shows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::glance::{Figures, Glance, State, glance};
use super::hint::{HINT_BYTES_MAX, Hint};
use super::survey::{Place, Survey};
use super::{Inheritance, Standing, choice, log, owner};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, FileToken, JobId};
use crate::read::{ReadLimits, ReadMemory, StateFile};
use crate::store::{FlinkPath, Location, Stores, names};
use crate::sync::Mutex;

/// Metadata takes so many times its own length when it is decoded.
const DECODED_TIMES: u64 = 8;
/// Files elsewhere of which it is remembered whether they are there.
const REMEMBERED_MAX: usize = 1 << 16;

/// What is in a directory.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The directory.
    pub directory: FlinkPath,
    /// What is right in it, if anything is, then its jobs by their ids.
    pub groups: Vec<Group>,
}

/// A job's checkpoints, or savepoints that are side by side.
#[derive(Clone, Debug)]
pub struct Group {
    /// The job's directory, or that of the savepoints.
    pub directory: FlinkPath,
    /// The job, where the directory's name says it, or a file in it.
    pub job: Option<JobId>,
    /// Checkpoints by number, then savepoints by name.
    pub entries: Vec<Entry>,
    /// The newest complete checkpoint: an index of `entries`. None where a single checkpoint was asked for.
    pub latest: Option<usize>,
    /// The epoch of the job's newest coordinator, where there is a log of them.
    pub epoch: Option<u64>,
    /// Why a job's directory beside others can't be listed, as where a name is in it that no path can have. Then nothing else is
    /// said.
    pub problem: Option<String>,
    /// Why that log can't be read. Then all checkpoints count as kept.
    pub log_problem: Option<String>,
    /// What the file says that names the latest checkpoint for other tools.
    pub hint: Option<Hint>,
}

/// A directory that is or was to be a checkpoint or savepoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it lies.
    pub path: FlinkPath,
    /// Its number by the directory's name; none for a savepoint.
    pub number: Option<CheckpointId>,
    /// When its metadata was written, or, where it has none, the youngest of its files; by the store's clock.
    pub modified: Option<SystemTime>,
    /// In which state it is.
    pub state: State,
    /// What it is to its job: none of a savepoint, of what was never completed, and where it alone was asked for.
    pub standing: Option<Standing>,
    /// What its metadata says, as far as it can be read.
    pub figures: Option<Figures>,
    /// Files in its own directory, metadata and marks aside.
    pub own_files: u64,
    /// Their bytes.
    pub own_bytes: u64,
    /// It is marked as a savepoint that isn't whole: one that is under way, or whose job died before it had metadata.
    pub is_unfinished: bool,
    /// The run of `repack` or `copy` that marks it: it is under way, or was interrupted.
    pub run: Option<FileToken>,
    /// It is being disposed of, or that was cut off.
    pub is_disposing: bool,
}

/// Lists what is at `path`: a directory of jobs, a job's directory, one of savepoints, a checkpoint's, or its `_metadata`.
///
/// Lists each directory, and reads all metadata, several files at once as `limits` allow. In memory are what `limits` allow for
/// metadata, a name for each file of one job at a time, and what is returned. No file of state is opened.
///
/// # Errors
/// `NotFound`: nothing of the kind is there. `Invalid`: a name is in it that no path can have. `Store`; what is wrong with
/// a checkpoint is its own state.
pub async fn list(stores: &Stores, path: &FlinkPath, limits: &ReadLimits) -> Result<Listing> {
    let path = match (path.file_name(), path.parent()) {
        (Some(names::METADATA), Some(parent)) => parent,
        _ => path.clone(),
    };
    let place = Place::of(stores.locate_real(&path)?).await?;
    let mut groups = Vec::new();
    if place.is_checkpoint {
        groups.extend(one(stores, &place.root, limits).await?);
    } else {
        let others = (!place.jobs.is_empty()).then_some(place.others.as_slice());
        let group = group(stores, &place.root, others, limits).await?;
        groups.extend(Some(group).filter(|group| !group.entries.is_empty() || place.is_job()));
        for job in &place.jobs {
            let root = place.root.join(job)?;
            groups.push(match self::group(stores, &root, None, limits).await {
                Err(error) if error.kind() == ErrorKind::Invalid => Group::unlisted(&root, &error),
                listed => listed?,
            });
        }
    }
    if groups.is_empty() {
        return Err(place.nothing());
    }
    Ok(Listing { directory: path, groups })
}

impl Group {
    fn unlisted(root: &Location, error: &Error) -> Self {
        let directory = root.real().clone();
        let job = directory.file_name().and_then(names::parse_job_directory);
        let problem = Some(error.one_line());
        Self { directory, job, entries: vec![], latest: None, epoch: None, problem, log_problem: None, hint: None }
    }
}

/// A single checkpoint or savepoint.
async fn one(stores: &Stores, directory: &Location, limits: &ReadLimits) -> Result<Option<Group>> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.name().file_name()) else { return Ok(None) };
    let mut survey = Survey::of(&parent, Some(&[name.to_owned()])).await?;
    survey.lengths.clear();
    let mut group = group_of(stores, &parent, survey, limits).await?;
    // What it is among the others can't be told without them.
    group.latest = None;
    group.entries.iter_mut().for_each(|entry| entry.standing = None);
    Ok(Some(group))
}

async fn group(stores: &Stores, root: &Location, others: Option<&[String]>, limits: &ReadLimits) -> Result<Group> {
    group_of(stores, root, Survey::of(root, others).await?, limits).await
}

async fn group_of(stores: &Stores, root: &Location, survey: Survey, limits: &ReadLimits) -> Result<Group> {
    let directory = root.real().clone();
    let by_name = directory.file_name().and_then(names::parse_job_directory);
    let job = match by_name {
        None if survey.has_owner => owner(root).await.unwrap_or_default(),
        _ => by_name,
    };
    let (last, log_problem) = match if survey.has_log { log::last(&root.join(names::FENCE)?).await } else { Ok(None) } {
        Ok(last) => (last.map(|(_, entry)| entry), None),
        Err(error) if error.kind() == ErrorKind::Damaged => (None, Some(error.one_line())),
        Err(error) => return Err(error),
    };
    let hint = if survey.has_hint { hint(root).await? } else { None };
    let looks = Looks::new(stores, root, &survey, limits);
    // One after another, since thousands that are yet to begin would take much room.
    let names = survey.directories.keys().cloned().collect::<Vec<_>>();
    let looked = stream::iter(names).map(|name| {
        let looks = looks.clone();
        async move { looks.entry(&name).await }
    });
    let entries: Vec<Option<Entry>> = looked.buffer_unordered(limits.requests_max.max(1)).try_collect().await?;
    let mut entries: Vec<Entry> = entries.into_iter().flatten().collect();
    entries.sort_by(|a, b| (a.number.is_none(), a.number, &a.path).cmp(&(b.number.is_none(), b.number, &b.path)));

    // What bars a checkpoint has no standing.
    let is_barred = |entry: &Entry| matches!(entry.state, State::Barred { .. } | State::NoMetadata);
    let there = entries.iter().filter(|entry| !is_barred(entry)).filter_map(|entry| entry.number).collect();
    let standings = Inheritance::of(last.as_ref()).standings(&there);
    for entry in &mut entries {
        entry.standing = entry.number.and_then(|number| standings.get(&number).copied());
    }
    let latest = if last.is_some() { latest_by_log(&entries) } else { latest_of_all(&entries) };
    let epoch = last.map(|entry| entry.epoch);
    Ok(Group { directory, job, entries, latest, epoch, problem: None, log_problem, hint })
}

/// As [`latest`](super::latest()) has it.
fn latest_by_log(entries: &[Entry]) -> Option<usize> {
    let of = |standing| entries.iter().rposition(|e| e.state == State::Complete && e.standing == Some(standing));
    of(Standing::Kept).or_else(|| of(Standing::Replaced))
}

/// The same without a log.
fn latest_of_all(entries: &[Entry]) -> Option<usize> {
    let intact = entries.iter().filter_map(|entry| {
        let (number, figures) = (entry.number?, entry.figures.as_ref()?);
        (figures.checkpoint == number).then_some((number, figures.epoch))
    });
    choice::ranked(intact)
        .find_map(|id| entries.iter().position(|entry| entry.number == Some(id) && entry.state == State::Complete))
}

/// None where there is none, or something else.
pub(super) async fn hint(root: &Location) -> Result<Option<Hint>> {
    match root.join(names::FENCE)?.join(names::LATEST)?.read_all(HINT_BYTES_MAX).await {
        Ok(bytes) => Ok(Hint::from_bytes(&bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The looks at the checkpoints of one directory.
struct Looks<'a> {
    stores: &'a Stores,
    root: &'a Location,
    survey: &'a Survey,
    memory: ReadMemory,
    /// The lengths of files that aren't in the survey.
    asked: Mutex<BTreeMap<FlinkPath, Option<u64>>>,
}

impl<'a> Looks<'a> {
    fn new(stores: &'a Stores, root: &'a Location, survey: &'a Survey, limits: &ReadLimits) -> Arc<Self> {
        let memory = ReadMemory::of(limits);
        Arc::new(Self { stores, root, survey, memory, asked: Mutex::default() })
    }

    /// None where it has gone meanwhile.
    async fn entry(self: &Arc<Self>, name: &str) -> Result<Option<Entry>> {
        let Some(found) = self.survey.directories.get(name) else { return Ok(None) };
        let directory = self.root.join(name)?;
        let number = names::parse_checkpoint_directory(name);
        let mut entry = Entry {
            path: directory.real().clone(),
            number,
            modified: found.metadata.map_or(found.youngest, |(_, modified)| Some(modified)),
            state: State::NoMetadata,
            standing: None,
            figures: None,
            own_files: found.files,
            own_bytes: found.bytes,
            is_unfinished: found.is_unfinished,
            run: found.run,
            is_disposing: found.is_disposing,
        };
        let Some((bytes, _)) = found.metadata else { return Ok(Some(entry)) };
        let _room = self.memory.clone().take(bytes.saturating_mul(DECODED_TIMES)).await;
        let looks = self.clone();
        let lengths = |files: Vec<StateFile>| async move { looks.lengths(&files).await };
        match glance(self.stores, &directory, number, Some(lengths)).await? {
            Glance::Gone => return Ok(None),
            Glance::Barred(epoch) => entry.state = State::Barred { epoch },
            Glance::There { figures, broken } => {
                // Discarded since: its files go after its metadata.
                if broken.is_some() && !directory.join(names::METADATA)?.exists().await? {
                    return Ok(None);
                }
                entry.state = broken.map_or(State::Complete, |reason| State::Broken { reason });
                entry.figures = figures;
            }
        }
        Ok(Some(entry))
    }

    async fn lengths(&self, files: &[StateFile]) -> Result<Vec<Option<u64>>> {
        let mut lengths = Vec::with_capacity(files.len());
        for file in files {
            let below = file.location.real().relative_to(self.root.real());
            let length = match below.and_then(|below| self.survey.lengths.get(below)) {
                Some(&length) => Some(length),
                None => self.ask(file).await?,
            };
            lengths.push(length);
        }
        Ok(lengths)
    }

    /// It lies elsewhere, or was written since, or is missing.
    async fn ask(&self, file: &StateFile) -> Result<Option<u64>> {
        if let Some(&known) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&file.name) {
            return Ok(known);
        }
        let length = file.location.list_file().await?.map(|file| file.size);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < REMEMBERED_MAX {
            asked.insert(file.name.clone(), length);
        }
        Ok(length)
    }
}
