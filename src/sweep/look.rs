//! One look at a job's directory: what there is, what is named, and so what is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::named::Named;
use super::rule::{Facts, Kind, Verdict, judge};
use super::spot::Spot;
use super::{DeadFile, Found, Sum, SweepSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use crate::store::{FlinkPath, Listed, Location, Stores, names};

/// A look at a job's directory, from which it can be swept.
pub struct Sweep {
    pub(super) root: Location,
    pub(super) named: Named,
    pub(super) requests_max: usize,
    pub(super) found: Found,
    /// Metadata at places where no checkpoint is looked for.
    pub(super) strays: Vec<FlinkPath>,
}

/// Something that takes room, before anything is known of it.
struct Entry {
    /// Relative to the job's directory.
    below: String,
    kind: Kind,
    spot: Spot,
    bytes: Option<u64>,
    modified: SystemTime,
    upload: Option<String>,
}

impl Sweep {
    /// Looks what is dead in a job's directory, and deletes nothing. `now` is the time by the store's clock: if it runs
    /// ahead of that, files seem older than they are.
    ///
    /// Holds a name in memory for each file of the directory.
    ///
    /// # Errors
    /// Where it can't tell what is alive. `NotFound`: `path` is no job's directory. `Invalid`: it is a checkpoint's, or was
    /// moved, or no checkpoint is left in it. `Damaged`, `Unsupported`: a checkpoint's metadata can't be read, or names what
    /// isn't there. `Conflict`: the checkpoints change too fast. `Store`.
    pub async fn look(stores: &Stores, path: &FlinkPath, settings: &SweepSettings, now: SystemTime) -> Result<Self> {
        let root = stores.locate_real(path)?;
        refuse_other_directories(&root).await?;
        // 1. The files first: a checkpoint that completes from here on names files that are in no list of ours, or that
        //    are young, or that metadata which is there now names already.
        let (entries, uploads_known) = list(&root).await?;
        // 2. Then all metadata, until a last look finds none that wasn't read.
        let strays: Result<Vec<FlinkPath>> = entries
            .iter()
            .filter(|entry| entry.spot == Spot::Metadata)
            .map(|entry| root.real().join(&entry.below))
            .collect();
        let strays = strays?;
        let mut named = Named::new(stores, &root, &settings.named_by, settings.requests_max)?;
        named.refresh(&strays).await?;
        // 3. What doesn't fit together isn't understood.
        refuse_missing(&root, &mut named, &entries, &strays, settings.requests_max).await?;
        refuse_moved(&named, &entries)?;
        if named.checkpoints().is_empty() && !settings.abandoned {
            let message = format!(
                "no checkpoint is left in {}, so nothing says what is alive there, and another job may have taken it over: \
                 if none has, say that it is abandoned",
                root.real()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        // 4. And only then the verdicts.
        let found = verdicts(&root, &named, entries, uploads_known, settings.grace, now);
        Ok(Self { root, named, requests_max: settings.requests_max.max(1), found, strays })
    }

    /// What was found.
    pub fn found(&self) -> &Found {
        &self.found
    }
}

/// A user's slip: the directory above, a checkpoint's, or one that has nothing to do with jobs.
async fn refuse_other_directories(root: &Location) -> Result<()> {
    let directory = root.list_dir().await?;
    if directory.files.iter().any(|file| file.path.file_name() == Some(names::METADATA)) {
        let above = root.real().parent().map_or_else(String::new, |above| format!(", maybe {above}"));
        let message = format!("{} is a checkpoint or savepoint: name its job's directory{above}", root.real());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let directories = || directory.directories.iter().filter_map(FlinkPath::file_name);
    let is_jobs = |name: &str| {
        matches!(name, names::SHARED | names::TASK_OWNED | names::FENCE)
            || names::parse_checkpoint_directory(name).is_some()
    };
    if directories().any(is_jobs) {
        return Ok(());
    }
    let jobs: Vec<&str> = directories().filter(|name| names::parse_job_directory(name).is_some()).collect();
    let message = match jobs.as_slice() {
        [] => format!(
            "{} is no job's directory: it has no chk-N, {} or {}",
            root.real(),
            names::SHARED,
            names::TASK_OWNED
        ),
        [one] => format!("{} holds the directory of a job, {one}: name that", root.real()),
        [first, .., last] => {
            format!("{} holds the directories of {} jobs, {first} to {last}: name one", root.real(), jobs.len())
        }
    };
    Err(Error::new(ErrorKind::NotFound, message))
}

async fn list(root: &Location) -> Result<(Vec<Entry>, bool)> {
    let entry = |file: Listed, kind: Kind| entry(root, file.path, kind, Some(file.size), file.modified, None);
    let mut entries = Vec::new();
    let mut listed = root.list_stream();
    while let Some(file) = listed.try_next().await? {
        entries.extend(entry(file, Kind::File));
    }
    entries.extend(root.list_partials_sized().await?.into_iter().filter_map(|file| entry(file, Kind::Partial)));
    let uploads = root.list_uploads().await?;
    let uploads_known = uploads.is_some();
    for upload in uploads.into_iter().flatten() {
        let id = Some(upload.id);
        entries.extend(self::entry(root, upload.path, Kind::Upload, None, upload.started, id));
    }
    entries.sort_by(|a, b| (&a.below, a.kind, &a.upload).cmp(&(&b.below, b.kind, &b.upload)));
    Ok((entries, uploads_known))
}

fn entry(
    root: &Location,
    path: FlinkPath,
    kind: Kind,
    bytes: Option<u64>,
    modified: SystemTime,
    upload: Option<String>,
) -> Option<Entry> {
    let below = path.relative_to(root.name()).filter(|below| !below.is_empty())?.to_owned();
    let spot = match (kind, Spot::of(&below)) {
        // An upload of metadata is no metadata yet; of which directory is all that counts.
        (Kind::Upload, Spot::Metadata) => Spot::of(&format!("{below}#1")),
        (_, spot) => spot,
    };
    Some(Entry { below, kind, spot, bytes, modified, upload })
}

/// A checkpoint names a file of the job that isn't there: it is broken, or its metadata, which may then name in vain what
/// should be alive.
async fn refuse_missing(
    root: &Location,
    named: &mut Named,
    entries: &[Entry],
    strays: &[FlinkPath],
    requests_max: usize,
) -> Result<()> {
    let there: BTreeSet<&str> = entries.iter().filter(|e| e.kind == Kind::File).map(|e| e.below.as_str()).collect();
    let unlisted: Vec<_> = named.below.iter().filter(|(below, _)| !there.contains(below.as_str())).collect();
    let asked = unlisted.into_iter().map(|(below, metadata)| {
        // Written since the listing, or gone with its checkpoint.
        let (file, metadata) = (root.join(below), metadata.clone());
        async move {
            let file = file?;
            Ok::<_, Error>(if file.exists().await? { None } else { Some((file.real().clone(), metadata)) })
        }
    });
    let asked: Vec<_> = asked.collect();
    let missing: Vec<_> = stream::iter(asked).buffer_unordered(requests_max.max(1)).try_collect().await?;
    let missing: Vec<(FlinkPath, FlinkPath)> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    named.refresh(strays).await?;
    match missing.iter().find(|(_, metadata)| named.is_there(metadata)) {
        Some((file, metadata)) => {
            let message = format!(
                "{metadata} names {file}, which isn't there: the checkpoint is broken, or its metadata; verify it, and \
                 remove it if it is"
            );
            Err(Error::new(ErrorKind::Damaged, message))
        }
        None => Ok(()),
    }
}

/// Files' names are unguessable: one that is named elsewhere and lies here is the same file by another path, or a copy.
fn refuse_moved(named: &Named, entries: &[Entry]) -> Result<()> {
    let is_named_here = |entry: &Entry| named.below.contains_key(&entry.below);
    let twin =
        entries.iter().filter(|entry| entry.spot.author().is_some() && !is_named_here(entry)).find_map(|entry| {
            let name = entry.below.rsplit('/').next()?;
            named.elsewhere.get(name).map(|elsewhere| (entry, elsewhere))
        });
    let Some((entry, elsewhere)) = twin else { return Ok(()) };
    let message = format!(
        "metadata names {elsewhere}, and a file of that name is here as {}: the directory was moved or copied, or has two \
         names; say with a rebase which is which",
        entry.below
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

fn verdicts(
    root: &Location,
    named: &Named,
    entries: Vec<Entry>,
    uploads_known: bool,
    grace: Duration,
    now: SystemTime,
) -> Found {
    let checkpoints = named.checkpoints();
    let listed = entries.iter().filter(|e| e.kind == Kind::File && e.spot == Spot::Metadata);
    // One that was there when the files were listed, and is being discarded, is as good; one that was barred isn't.
    let is_barred = |e: &&Entry| root.real().join(&e.below).is_ok_and(|metadata| named.is_barred(&metadata));
    let committed: BTreeSet<CheckpointId> =
        listed.filter(|e| !is_barred(e)).filter_map(|e| checkpoint_of(&e.below)).collect();
    let has_metadata = |id: CheckpointId| checkpoints.contains(&id) || committed.contains(&id);
    // A directory without metadata may be one that is being written: it is as old as its youngest file.
    let mut youngest: BTreeMap<CheckpointId, SystemTime> = BTreeMap::new();
    for entry in &entries {
        if let Some(id) = checkpoint_of(&entry.below).filter(|&id| !has_metadata(id)) {
            let time = youngest.entry(id).or_insert(entry.modified);
            *time = (*time).max(entry.modified);
        }
    }
    let mut found = Found {
        directory: root.real().clone(),
        checkpoints: checkpoints.iter().copied().collect(),
        metadata: named.metadata_count(),
        dead: Vec::new(),
        unknown: Vec::new(),
        alive: Sum::default(),
        young: Sum::default(),
        not_ours: Sum::default(),
        uploads_known,
    };
    for entry in entries {
        let directory = checkpoint_of(&entry.below);
        let modified = directory.and_then(|id| youngest.get(&id)).copied().unwrap_or(entry.modified);
        let facts = Facts {
            spot: &entry.spot,
            kind: entry.kind,
            is_named: named.below.contains_key(&entry.below),
            has_metadata: directory.is_some_and(has_metadata),
            age: now.duration_since(modified).ok(),
        };
        let verdict = judge(facts, grace);
        let bytes = entry.bytes.unwrap_or_default();
        match verdict {
            Verdict::Alive => found.alive.add(bytes),
            Verdict::Young => found.young.add(bytes),
            Verdict::NotOurs => found.not_ours.add(bytes),
            Verdict::Unknown => found.unknown.push(entry.below),
            Verdict::Dead(reason) => {
                let Entry { below, kind, bytes, modified, upload, .. } = entry;
                // Names that make a file dead are plain, so they can be joined.
                match root.real().join(&below) {
                    Ok(path) => found.dead.push(DeadFile { path, below, kind, bytes, modified, reason, upload }),
                    Err(_) => found.unknown.push(below),
                }
            }
        }
    }
    found
}

/// The checkpoint in whose directory it lies, at any depth.
fn checkpoint_of(below: &str) -> Option<CheckpointId> {
    names::parse_checkpoint_directory(below.split_once('/')?.0)
}
