//! What is alive: the union of what every metadata file names that may name a file of the job.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::spot::Spot;
use crate::error::{Error, ErrorKind, Result};
use crate::format::barred_by;
use crate::id::CheckpointId;
use crate::read::{Checkpoint, State};
use crate::store::{FlinkPath, Listed, Location, Stores, names};

/// How often the list of checkpoints may change under our hands.
const LOOKS_MAX: usize = 16;
/// What bars a checkpoint, in the place of its metadata, is no longer.
const BARRED_BYTES_MAX: u64 = 1 << 10;
/// Metadata read at once; each may be large.
const READ_AT_ONCE_MAX: usize = 4;

/// The names that were found so far. They only grow: what was ever seen named stays alive for this sweep.
pub(crate) struct Named {
    stores: Stores,
    /// The job's directory.
    root: Location,
    /// Directories that aren't looked for in the root or beside it.
    named_by: Vec<Location>,
    requests_max: usize,
    /// Metadata that doesn't count.
    except: Option<FlinkPath>,
    /// What was read, by where it really lies.
    read: BTreeMap<FlinkPath, Listed>,
    /// Those of it that bar a checkpoint: it was never completed, and never will be.
    barred: BTreeSet<FlinkPath>,
    /// What was there at the last look.
    there: BTreeMap<FlinkPath, Listed>,
    /// Files of the job that are named, relative to its directory, with one of the metadata files that name each.
    pub(crate) below: BTreeMap<String, FlinkPath>,
    /// Files elsewhere that are named, by their last component.
    pub(super) elsewhere: BTreeMap<String, FlinkPath>,
}

/// The names in one metadata file, as far as they concern the job.
struct Names {
    metadata: FlinkPath,
    is_barred: bool,
    below: Vec<String>,
    elsewhere: Vec<FlinkPath>,
}

impl Named {
    pub(crate) fn new(stores: &Stores, root: &Location, named_by: &[FlinkPath], requests_max: usize) -> Result<Self> {
        let named_by: Result<Vec<_>> = named_by.iter().map(|path| stores.locate_real(path)).collect();
        Ok(Self {
            stores: stores.clone(),
            root: root.clone(),
            named_by: named_by?,
            requests_max: requests_max.max(1),
            except: None,
            read: BTreeMap::new(),
            barred: BTreeSet::new(),
            there: BTreeMap::new(),
            below: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
        })
    }

    /// What this metadata file names doesn't count.
    pub(crate) fn without(mut self, metadata: FlinkPath) -> Self {
        self.except = Some(metadata);
        self
    }

    /// When the youngest metadata of the job's own checkpoints was written, as of the last look.
    pub(crate) fn youngest(&self) -> Option<std::time::SystemTime> {
        let own = self.there.values().filter(|file| own_checkpoint(&self.root, &file.path).is_some());
        own.map(|file| file.modified).max()
    }

    /// Looks which metadata there is, and reads what is new, until a look finds nothing new. `also` are metadata files at
    /// places where none is looked for.
    ///
    /// At the moment of the last look every metadata file there had been read, so what is not named now was named by
    /// none of them.
    ///
    /// # Errors
    /// `Damaged`, and what else a read fails with: a metadata file can't be read, so what it names isn't known.
    /// `Conflict`: they change faster than they can be read.
    pub(crate) async fn refresh(&mut self, also: &[FlinkPath]) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            let there = self.list(also).await?;
            let is_new = |file: &&Listed| self.read.get(&file.path) != Some(file);
            let new: Vec<Listed> = there.values().filter(is_new).cloned().collect();
            if new.is_empty() {
                self.there = there;
                return Ok(());
            }
            let reads = new.into_iter().map(|file| read(self.stores.clone(), self.root.clone(), file));
            let reads: Vec<_> = stream::iter(reads).buffered(READ_AT_ONCE_MAX).try_collect().await?;
            // One that is gone again wasn't read; if it comes back, it is new.
            for (file, names) in reads.into_iter().flatten() {
                self.take(names);
                self.read.insert(file.path.clone(), file);
            }
        }
        let message = format!("the checkpoints of {} change faster than they can be read: try again", self.root.real());
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// How many metadata files there were at the last look.
    pub(super) fn metadata_count(&self) -> u64 {
        self.there.keys().filter(|metadata| !self.is_barred(metadata)).count() as u64
    }

    /// Does this file bar a checkpoint?
    pub(super) fn is_barred(&self, metadata: &FlinkPath) -> bool {
        self.barred.contains(metadata)
    }

    /// The job's own checkpoints at the last look.
    pub(super) fn checkpoints(&self) -> BTreeSet<CheckpointId> {
        let completed = self.there.keys().filter(|metadata| !self.is_barred(metadata));
        completed.filter_map(|metadata| own_checkpoint(&self.root, metadata)).collect()
    }

    /// Was this metadata file there at the last look?
    pub(super) fn is_there(&self, metadata: &FlinkPath) -> bool {
        self.there.contains_key(metadata)
    }

    fn take(&mut self, names: Names) {
        let Names { metadata, is_barred, below, elsewhere } = names;
        match is_barred {
            true => self.barred.insert(metadata.clone()),
            false => self.barred.remove(&metadata),
        };
        for file in below {
            self.below.insert(file, metadata.clone());
        }
        for file in elsewhere {
            if let Some(name) = file.file_name() {
                self.elsewhere.insert(name.to_owned(), file);
            }
        }
    }

    /// Every metadata file that may name a file of the job: in the job's directory, in those beside it, and where the
    /// caller says.
    async fn list(&self, also: &[FlinkPath]) -> Result<BTreeMap<FlinkPath, Listed>> {
        let mut directories = self.checkpoint_directories(&self.root).await?;
        let is_job = self.root.real().file_name().is_some_and(|name| names::parse_job_directory(name).is_some());
        if let Some(above) = self.root.parent().filter(|_| is_job) {
            directories.extend(self.checkpoint_directories(&above).await?);
        }
        for place in &self.named_by {
            directories.push(place.clone());
            directories.extend(self.checkpoint_directories(place).await?);
        }
        let mut files: BTreeMap<FlinkPath, Location> = BTreeMap::new();
        for directory in directories {
            let metadata = directory.join(names::METADATA)?;
            files.insert(metadata.real().clone(), metadata);
        }
        for metadata in also {
            files.insert(metadata.clone(), self.stores.locate_real(metadata)?);
        }
        if let Some(except) = &self.except {
            files.remove(except);
        }
        let asked = files.into_iter().map(|(real, file)| async move {
            let listed = file.list_file().await?;
            Ok::<_, Error>(listed.map(|listed| (real.clone(), Listed { path: real, ..listed })))
        });
        let found: Vec<_> = stream::iter(asked).buffer_unordered(self.requests_max).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The directories in `place` that may be a checkpoint's or savepoint's, and those in the directories of jobs in it.
    async fn checkpoint_directories(&self, place: &Location) -> Result<Vec<Location>> {
        let (mut found, mut jobs) = (Vec::new(), Vec::new());
        for (name, directory) in directories_in(place).await? {
            match names::parse_job_directory(&name) {
                Some(_) if directory.real() == self.root.real() => {}
                Some(_) => jobs.push(directory),
                None => found.push(directory),
            }
        }
        let looks = jobs.into_iter().map(|job| async move { directories_in(&job).await });
        let below: Vec<_> = stream::iter(looks).buffer_unordered(self.requests_max).try_collect().await?;
        found.extend(below.into_iter().flatten().map(|(_, directory)| directory));
        Ok(found)
    }
}

/// The checkpoint of a job's own metadata file.
pub(super) fn own_checkpoint(root: &Location, metadata: &FlinkPath) -> Option<CheckpointId> {
    let directory = metadata.parent()?;
    let is_own = directory.parent().as_ref() == Some(root.real());
    names::parse_checkpoint_directory(directory.file_name()?).filter(|_| is_own)
}

/// Directories right in `place` in which metadata may lie, by name.
async fn directories_in(place: &Location) -> Result<Vec<(String, Location)>> {
    let mut found = Vec::new();
    for directory in place.list_dir().await?.directories {
        let Some(name) = directory.file_name() else { continue };
        // No checkpoint is there, and there may be many files.
        if matches!(Spot::of(&format!("{name}/x")), Spot::TaskOwned | Spot::Log) || name == names::SHARED {
            continue;
        }
        found.push((name.to_owned(), place.join(name)?));
    }
    Ok(found)
}

/// None if it has gone meanwhile.
async fn read(stores: Stores, root: Location, file: Listed) -> Result<Option<(Listed, Names)>> {
    let metadata = file.path.clone();
    if file.size <= BARRED_BYTES_MAX {
        match stores.locate_real(&metadata)?.read_all(BARRED_BYTES_MAX).await {
            Ok(bytes) if barred_by(&bytes).is_some() => {
                return Ok(Some((file, Names { metadata, is_barred: true, below: vec![], elsewhere: vec![] })));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // It has become longer.
            Err(error) if error.kind() == ErrorKind::Damaged => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    let checkpoint = match Checkpoint::load_intact(&stores, &metadata).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        loaded => loaded.map_err(refused)?,
    };
    let written = checkpoint.decoded.metadata.checkpoint_id;
    if own_checkpoint(&root, &metadata).is_some_and(|id| id != written) {
        let message = format!("{metadata} is of checkpoint {written}");
        return Err(refused(Error::new(ErrorKind::Damaged, message)));
    }
    let (state, mut problems) = State::collect(&stores, &checkpoint).await;
    if !problems.is_empty() {
        let (place, error) = problems.swap_remove(0);
        // With its checkpoint, which is being discarded.
        if checkpoint.directory.join(names::METADATA)?.list_file().await?.is_none() {
            return Ok(None);
        }
        return Err(refused(error.context(format!("{place} of {metadata}"))));
    }
    let (mut below, mut elsewhere) = (Vec::new(), Vec::new());
    for named in &state.files {
        match named.location.real().relative_to(root.real()) {
            Some(path) => below.push(path.to_owned()),
            None => elsewhere.push(named.location.real().clone()),
        }
    }
    Ok(Some((file, Names { metadata, is_barred: false, below, elsewhere })))
}

fn refused(error: Error) -> Error {
    error.context("nothing can be swept while it isn't known what a checkpoint names")
}
