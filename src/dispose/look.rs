//! One look at a checkpoint that is to go: what it names, what else names that, and whether anybody counts on it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::rule::{Owner, Why};
use super::{DisposeSettings, Found, NamedFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Properties, PropertiesKind, PropertiesRead};
use crate::jobs::{Inheritance, lengths, log};
use crate::read::{Checkpoint, State, StateFile};
use crate::store::{FlinkPath, Listed, Location, Stores, names};
use crate::sweep::Named;

/// A look at a checkpoint or savepoint that has metadata, from which it can be disposed of.
pub(super) struct Whole {
    pub(super) checkpoint: Checkpoint,
    /// The directory that holds the checkpoint's.
    pub(super) root: Location,
    pub(super) named: Named,
    pub(super) found: Found,
    /// The doomed files; the same as in what was found.
    pub(super) doomed: Vec<(StateFile, NamedFile)>,
    /// The metadata, as it was when it was looked at; none where it has gone with an earlier disposal.
    pub(super) metadata: Option<Listed>,
    /// The last position in the log of the job's coordinators.
    pub(super) position: Option<u64>,
    pub(super) owner: Owner,
    pub(super) requests_max: usize,
}

impl Whole {
    /// As [`Disposal::look`](super::Disposal::look).
    pub(super) async fn look(
        stores: &Stores,
        path: &FlinkPath,
        settings: &DisposeSettings,
        now: SystemTime,
    ) -> Result<Self> {
        let (checkpoint, metadata) = load(stores, path).await?;
        let directory = checkpoint.directory.clone();
        let (Some(root), Some(name)) = (directory.parent(), directory.real().file_name()) else {
            let message = format!("{} is a store's root: remove its files by hand", directory.real());
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let kind = match Properties::read(&checkpoint.decoded.metadata.properties) {
            PropertiesRead::Known(properties) => Some(properties.kind),
            PropertiesRead::Null | PropertiesRead::Other => None,
        };
        let owner = Owner::of(name, matches!(kind, Some(PropertiesKind::Savepoint(..))));
        let state = State::of(stores, &checkpoint).await?;
        // What everybody else names, with all of it read.
        let own = directory.join(names::METADATA)?.real().clone();
        let mut named = Named::new(stores, &root, &settings.named_by, settings.requests_max)?.without(own);
        named.refresh(&[]).await?;
        let position = match owner {
            Owner::Job => refuse_alive(&root, &named, metadata.as_ref(), settings, now).await?,
            Owner::User(_) => None,
        };
        let wanted = state.files.iter().map(|file| file.name.clone()).collect();
        let lengths = lengths(stores, &wanted, settings.requests_max).await?;
        let mut found = Found {
            directory: directory.real().clone(),
            checkpoint: Some(checkpoint.decoded.metadata.checkpoint_id),
            kind,
            is_unfinished: false,
            metadata_bytes: metadata.as_ref().map(|metadata| metadata.size),
            doomed: Vec::new(),
            spared: Vec::new(),
            missing: Vec::new(),
            uploads: Vec::new(),
        };
        let mut doomed = Vec::new();
        let unnamed = unnamed(&directory, &root, &state, &named).await?;
        found.spared.extend(unnamed.into_iter().map(|file| (file, Why::Unnamed)));
        for file in state.files {
            let real = file.location.real();
            let below = real.relative_to(root.real());
            let by_place = owner.judge(below, settings.task_owned);
            let Some(&bytes) = lengths.get(&file.name) else {
                if by_place == Err(Why::Elsewhere) {
                    refuse_moved(stores, &checkpoint, &file).await?;
                }
                found.missing.push(real.clone());
                continue;
            };
            let there = NamedFile { path: real.clone(), bytes };
            let others = below.and_then(|below| named.below.get(below));
            match by_place.and_then(|()| others.map_or(Ok(()), |other| Err(Why::NamedBy(other.clone())))) {
                Ok(()) => doomed.push((file, there)),
                Err(why) => {
                    if why == Why::Elsewhere {
                        refuse_copied(&root, &directory, &file).await?;
                    }
                    found.spared.push((there, why));
                }
            }
        }
        doomed.sort_by(|a, b| a.1.cmp(&b.1));
        found.doomed = doomed.iter().map(|(_, file)| file.clone()).collect();
        let requests_max = settings.requests_max.max(1);
        Ok(Self { checkpoint, root, named, found, doomed, metadata, position, owner, requests_max })
    }
}

/// The checkpoint; where a disposal was cut off after its metadata had gone, from the copy that was made of that.
async fn load(stores: &Stores, path: &FlinkPath) -> Result<(Checkpoint, Option<Listed>)> {
    let directory = match (path.file_name(), path.parent()) {
        (Some(names::METADATA), Some(parent)) => parent,
        _ => path.clone(),
    };
    match Checkpoint::load_intact(stores, &directory).await {
        Ok(checkpoint) => {
            let metadata = checkpoint.directory.join(names::METADATA)?.list_file().await?;
            Ok((checkpoint, metadata))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match Checkpoint::load_intact_as(stores, &directory, names::DISPOSING).await {
                Err(copy) if copy.kind() == ErrorKind::NotFound => Err(error),
                loaded => Ok((loaded?, None)),
            }
        }
        Err(error) => {
            Err(error.context("nothing can be disposed of while it isn't known what it names: remove it by hand"))
        }
    }
}

/// What else is in the checkpoint's own directory, in order.
async fn unnamed(directory: &Location, root: &Location, state: &State, named: &Named) -> Result<Vec<NamedFile>> {
    let own: BTreeSet<&FlinkPath> = state.files.iter().map(|file| file.location.real()).collect();
    let mut files = directory.list().await?;
    files.extend(directory.list_partials_sized().await?);
    let mut unnamed = Vec::new();
    for file in files {
        let Some(below) = file.path.relative_to(directory.name()) else { continue };
        let path = directory.join(below)?.real().clone();
        let by_others = path.relative_to(root.real()).and_then(|below| named.below.get(below));
        if !own.contains(&path) && by_others.is_none() && !matches!(below, names::METADATA | names::DISPOSING) {
            unnamed.push(NamedFile { path, bytes: file.size });
        }
    }
    unnamed.sort();
    Ok(unnamed)
}

/// A coordinator may count on the checkpoint: one that is alive has written metadata or entries of its log lately. Where the
/// log says that the job has ended and keeps nothing, nobody does. Returns the log's last position.
async fn refuse_alive(
    root: &Location,
    named: &Named,
    metadata: Option<&Listed>,
    settings: &DisposeSettings,
    now: SystemTime,
) -> Result<Option<u64>> {
    let log = root.join(names::FENCE)?;
    let last = log::last(&log).await?;
    let position = last.as_ref().map(|(position, _)| *position);
    if settings.abandoned || last.is_some_and(|(_, entry)| Inheritance::of(Some(&entry)).has_ended()) {
        return Ok(position);
    }
    let entries = log.list_dir().await?.files;
    let signs = entries.iter().chain(metadata).map(|file| file.modified).chain(named.youngest());
    let Some(youngest) = signs.max() else { return Ok(position) };
    // A time in the future is young.
    if now.duration_since(youngest).is_ok_and(|age| age >= settings.grace) {
        return Ok(position);
    }
    let message = format!(
        "the job of {} may be alive, and count on this checkpoint: its coordinator has written something within the time of \
         grace; once the job is over, and no other has taken its checkpoints over, say that it is abandoned",
        root.real()
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// A file that is missing where the metadata names it, and lies beside the metadata: that was moved, and its files would stay
/// behind.
async fn refuse_moved(stores: &Stores, checkpoint: &Checkpoint, file: &StateFile) -> Result<()> {
    let Some(moved) = crate::read::suggest_rebase(stores, checkpoint, &file.name).await else { return Ok(()) };
    let message = format!(
        "the metadata names files under {}, where they are missing; the same relative paths exist beside it: try the rebase \
         {}={}",
        moved.from, moved.from, moved.to
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

/// Names are unguessable: a file that is named elsewhere, and also lies where the checkpoint has its own, was copied.
async fn refuse_copied(root: &Location, directory: &Location, file: &StateFile) -> Result<()> {
    let Some(name) = file.location.real().file_name() else { return Ok(()) };
    for place in [directory.clone(), root.join(names::SHARED)?] {
        let twin = place.join(name)?;
        if twin.real() != file.location.real() && twin.exists().await? {
            let message = format!(
                "the metadata names {}, and a file of that name is here as {}: the checkpoint was copied; say with a rebase \
                 which is which",
                file.location.real(),
                twin.real()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}
