//! Finds a job's newest complete checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::glance::{Figures, Glance, glance};
use super::hint::Hint;
use super::list::hint;
use super::survey::Place;
use super::{Inheritance, Standing, choice, lengths, log};
use crate::error::{Error, ErrorKind, Result};
use crate::format::LogEntry;
use crate::id::CheckpointId;
use crate::read::{ReadLimits, StateFile};
use crate::store::{FlinkPath, Location, Stores, names};

/// How often the checkpoints may change under our hands.
const LOOKS_MAX: u32 = 16;
/// Metadata read at once; each may be large.
const READ_AT_ONCE_MAX: usize = 4;

/// What a search for the newest complete checkpoint has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// It, if there is any.
    pub found: Option<Found>,
    /// Those that would be newer, but can't be restored; the newest first.
    pub passed_over: Vec<PassedOver>,
    /// What the file says that names the latest for other tools. It may be older than the truth.
    pub hint: Option<Hint>,
}

/// The newest complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its directory: what a restore is given.
    pub path: FlinkPath,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The epoch of the coordinator that completed it; none for those of stock Flink and of `repack`.
    pub epoch: Option<u64>,
    /// When its metadata was written, by the store's clock.
    pub modified: SystemTime,
}

/// A checkpoint that would be newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its directory.
    pub path: FlinkPath,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it isn't taken.
    pub reason: String,
}

impl Latest {
    /// What to say where none was found in a job's `directory`.
    pub fn none_found(&self, directory: &FlinkPath) -> Error {
        let message = match self.passed_over.as_slice() {
            [] => format!("no complete checkpoint in {directory}"),
            [first, more @ ..] => {
                let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
                format!("no complete checkpoint in {directory}: {} can't be used: {}{more}", first.path, first.reason)
            }
        };
        Error::new(ErrorKind::NotFound, message)
    }
}

/// Finds the newest complete checkpoint of the job whose directory is `path`. Complete is one whose metadata is intact and
/// whose files are all there, as long as they must be; no byte of state is read.
///
/// With a log of the job's coordinators it is the one that a coordinator which takes over goes on with, or the newest before
/// that which is complete; what was given up doesn't count. Without a log (stock Flink's jobs, stores without
/// conditional puts) it is the first by epoch and number that is complete: [`ranked`](super::ranked). Then all metadata is read,
/// four files at once; with a log, as much as it takes. Savepoints don't count.
///
/// # Errors
/// `NotFound`: it is no job's directory. `Invalid`: it is a checkpoint's, or holds directories of jobs. `Damaged`: the
/// log can't be read. `Conflict`: the checkpoints change too fast. `Store`.
pub async fn latest(stores: &Stores, path: &FlinkPath, limits: &ReadLimits) -> Result<Latest> {
    let root = stores.locate_real(path)?;
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let place = Place::of(root.clone()).await?;
        refuse_other_directories(&place)?;
        let log = if place.has_log() { log::last(&root.join(names::FENCE)?).await? } else { None };
        let mut search = Search {
            stores,
            root: &root,
            requests_max: limits.requests_max,
            passed_over: Vec::new(),
            has_met_nothing: false,
        };
        let found = search.run(&place, log.as_ref().map(|(_, entry)| entry)).await?;
        // A running job may have replaced all that the look began with. Of two looks at the same, one is enough.
        let seen = (place.others, log.map(|(position, _)| position));
        if found.is_some() || !search.has_met_nothing || before.as_ref() == Some(&seen) {
            let mut passed_over = search.passed_over;
            passed_over.sort_by_key(|passed| std::cmp::Reverse(passed.checkpoint));
            for PassedOver { path, reason, .. } in &passed_over {
                tracing::warn!(%path, reason, "a checkpoint is passed over");
            }
            return Ok(Latest { found, passed_over, hint: hint(&root).await? });
        }
        before = Some(seen);
    }
    let message = format!("the checkpoints of {} change faster than they can be read: try again", root.real());
    Err(Error::new(ErrorKind::Conflict, message))
}

/// The same for each job in a directory of jobs, by their directories, in order. Numbers and epochs of several jobs can't
/// be compared; [`Found::modified`] can.
///
/// # Errors
/// `NotFound`: there is no job's directory in it. Others as for [`latest`].
pub async fn latest_of_each(
    stores: &Stores,
    path: &FlinkPath,
    limits: &ReadLimits,
) -> Result<Vec<(FlinkPath, Latest)>> {
    let place = Place::of(stores.locate_real(path)?).await?;
    if place.jobs.is_empty() {
        let message = format!("{} holds no directory of a job", place.root.real());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let mut found = Vec::with_capacity(place.jobs.len());
    for job in &place.jobs {
        let job = place.root.join(job)?;
        match latest(stores, job.real(), limits).await {
            // A job that hasn't come to anything, or is over.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            latest => found.push((job.real().clone(), latest?)),
        }
    }
    Ok(found)
}

fn refuse_other_directories(place: &Place) -> Result<()> {
    let here = place.root.real();
    if place.is_checkpoint {
        let message = format!("{here} is a checkpoint or savepoint: name its job's directory");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    if place.is_job() {
        return Ok(());
    }
    match place.jobs.as_slice() {
        [] => {
            let message = format!("{here} is no job's directory: it has no chk-N, shared or taskowned");
            Err(Error::new(ErrorKind::NotFound, message))
        }
        jobs => {
            const NAMED_MAX: usize = 20;
            let named = jobs.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = jobs.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("{here} holds directories of jobs: name one of {named}{more}");
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

struct Search<'a> {
    stores: &'a Stores,
    root: &'a Location,
    requests_max: usize,
    passed_over: Vec<PassedOver>,
    /// A directory without metadata, or one whose metadata went meanwhile.
    has_met_nothing: bool,
}

impl Search<'_> {
    async fn run(&mut self, place: &Place, last: Option<&LogEntry>) -> Result<Option<Found>> {
        let mut numbers: BTreeSet<CheckpointId> =
            place.others.iter().filter_map(|name| names::parse_checkpoint_directory(name)).collect();
        let Some(last) = last else { return self.newest_of_all(&numbers).await };
        let inheritance = Inheritance::of(Some(last));
        // What may complete yet counts if it has.
        for id in inheritance.open.clone() {
            if numbers.contains(&id) && !matches!(self.glance(id, false).await?, Glance::There { .. }) {
                numbers.remove(&id);
            }
        }
        let standings = inheritance.standings(&numbers);
        for standing in [Standing::Kept, Standing::Replaced] {
            let of_standing = standings.iter().rev().filter(|(_, is)| **is == standing);
            for (&id, _) in of_standing {
                if let Some(found) = self.take(id).await? {
                    self.name_given_up(&standings, Some(id)).await?;
                    return Ok(Some(found));
                }
            }
        }
        self.name_given_up(&standings, None).await?;
        Ok(None)
    }

    /// Without a log. All metadata counts, since any may be of the newest epoch.
    async fn newest_of_all(&mut self, numbers: &BTreeSet<CheckpointId>) -> Result<Option<Found>> {
        let search = &*self;
        let glances = stream::iter(numbers.iter().copied().collect::<Vec<_>>());
        let glances = glances.map(|id| async move { Ok::<_, Error>((id, search.glance(id, false).await?)) });
        let mut glances = glances.buffer_unordered(READ_AT_ONCE_MAX);
        let (mut intact, mut broken, mut has_met_nothing) = (Vec::new(), Vec::new(), false);
        while let Some((id, glance)) = glances.try_next().await? {
            match glance {
                Glance::There { figures: Some(Figures { epoch, .. }), broken: None } => intact.push((id, epoch)),
                Glance::There { broken: reason, .. } => broken.push((id, reason.unwrap_or_default())),
                Glance::Barred(_) => {}
                Glance::Gone => has_met_nothing = true,
            }
        }
        drop(glances);
        self.has_met_nothing |= has_met_nothing;
        for id in choice::ranked(intact) {
            if let Some(found) = self.take(id).await? {
                self.pass_over(broken.into_iter().filter(|(other, _)| *other > id))?;
                return Ok(Some(found));
            }
        }
        self.pass_over(broken)?;
        Ok(None)
    }

    /// Takes it, if it is complete.
    async fn take(&mut self, id: CheckpointId) -> Result<Option<Found>> {
        let directory = self.directory(id)?;
        let glance = self.glance(id, true).await?;
        if let Glance::Barred(_) = glance {
            return Ok(None);
        }
        let listed = directory.join(names::METADATA)?.list_file().await?;
        match (glance, listed) {
            (Glance::There { figures: Some(figures), broken: None }, Some(listed)) => {
                let (path, epoch) = (directory.real().clone(), figures.epoch);
                return Ok(Some(Found { path, checkpoint: id, epoch, modified: listed.modified }));
            }
            (Glance::There { broken, .. }, Some(_)) => self.pass_over([(id, broken.unwrap_or_default())])?,
            // Never there, or discarded since: its files go after its metadata.
            _ => self.has_met_nothing = true,
        }
        Ok(None)
    }

    /// Those that are there and would be newer, but that nobody goes by.
    async fn name_given_up(
        &mut self,
        standings: &BTreeMap<CheckpointId, Standing>,
        found: Option<CheckpointId>,
    ) -> Result<()> {
        let newer = standings.iter().filter(|(id, is)| **is == Standing::GivenUp && Some(**id) > found);
        let given_up: Vec<CheckpointId> = newer.map(|(id, _)| *id).collect();
        let search = &*self;
        let glances = stream::iter(given_up);
        let glances = glances.map(|id| async move { Ok::<_, Error>((id, search.glance(id, false).await?)) });
        let glances: Vec<_> = glances.buffer_unordered(READ_AT_ONCE_MAX).try_collect().await?;
        let there = glances.into_iter().filter(|(_, glance)| matches!(glance, Glance::There { .. }));
        self.pass_over(
            there.map(|(id, _)| (id, "its job has given it up, as the log of its coordinators says".to_owned())),
        )
    }

    fn pass_over(&mut self, broken: impl IntoIterator<Item = (CheckpointId, String)>) -> Result<()> {
        for (checkpoint, reason) in broken {
            let path = self.directory(checkpoint)?.real().clone();
            self.passed_over.push(PassedOver { path, checkpoint, reason });
        }
        Ok(())
    }

    async fn glance(&self, id: CheckpointId, with_files: bool) -> Result<Glance> {
        let (stores, requests_max) = (self.stores.clone(), self.requests_max);
        let ask = move |files: Vec<StateFile>| async move {
            let wanted = files.iter().map(|file| file.name.clone()).collect();
            let found = lengths(&stores, &wanted, requests_max).await?;
            Ok(files.iter().map(|file| found.get(&file.name).copied()).collect())
        };
        glance(self.stores, &self.directory(id)?, Some(id), with_files.then_some(ask)).await
    }

    fn directory(&self, id: CheckpointId) -> Result<Location> {
        self.root.join(&names::checkpoint_directory(id))
    }
}
