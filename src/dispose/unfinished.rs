//! What is left of a savepoint whose job died before it had metadata: a directory of the user's that no sweep looks into.
//!
//! All of it goes or nothing. It must be ours by the names, nobody's by what others name, old enough, and certain never to
//! have been whole: a savepoint that a job has claimed loses its metadata, and looks the same but for that.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::rule::is_ours;
use super::{DisposeSettings, Disposed, Found, NamedFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{barred, barred_by};
use crate::id::{CheckpointId, FileToken};
use crate::store::names::{self, PhysicalFileName};
use crate::store::{FlinkPath, Listed, Location, Stores, UnfinishedUpload};
use crate::sweep::Named;

/// What bars a savepoint, in the place of its metadata, is no longer.
const BARRED_BYTES_MAX: u64 = 1 << 10;

/// A look at such a directory.
pub(super) struct Unfinished {
    directory: Location,
    contents: Contents,
    named: Named,
    pub(super) found: Found,
    requests_max: usize,
}

/// What lies in the directory.
#[derive(Default)]
struct Contents {
    /// Whole files, but what bars it and what marks it.
    files: Vec<Listed>,
    /// Local files in the making.
    partials: Vec<Listed>,
    uploads: Vec<UnfinishedUpload>,
    /// What says that it was begun and isn't whole.
    markers: Vec<Listed>,
    /// Among them is the savepoint's own, which goes before its metadata comes. A mark of `copy` or `repack` goes after.
    never_whole: bool,
    /// An earlier disposal has seen to it that no metadata comes.
    is_barred: bool,
}

impl Unfinished {
    /// `None`: there is none of ours at `path`. Else as [`Disposal::look`](super::Disposal::look).
    pub(super) async fn look(
        stores: &Stores,
        path: &FlinkPath,
        settings: &DisposeSettings,
        now: SystemTime,
    ) -> Result<Option<Self>> {
        let directory = match (path.file_name(), path.parent()) {
            (Some(names::METADATA), Some(parent)) => parent,
            _ => path.clone(),
        };
        let directory = stores.locate_real(&directory).or_else(|_| stores.locate(&directory))?;
        // Nothing in it is named by metadata: its real name will do.
        let directory = stores.clone().with_rebase(Vec::new()).locate(directory.real())?;
        let is_savepoint = directory.name().file_name().is_some_and(names::is_savepoint_directory);
        let Some(root) = directory.parent().filter(|_| is_savepoint) else { return Ok(None) };
        let Some(contents) = Contents::of(&directory).await? else { return Ok(None) };
        if contents.is_empty() && !(settings.abandoned && directory.is_local_directory().await?) {
            return Ok(None);
        }
        contents.refuse_foreign(&directory)?;
        contents.refuse_alive(&directory, settings, now)?;
        let requests_max = settings.requests_max.max(1);
        let mut named = Named::new(stores, &root, &settings.named_by, requests_max)?;
        named.refresh(&[]).await?;
        let found = contents.found(&directory);
        let unfinished = Self { directory, contents, named, found, requests_max };
        unfinished.refuse_named()?;
        Ok(Some(unfinished))
    }

    /// 1. The directory is looked at once more, and the metadata of all others: nothing in it may be new or named.
    /// 2. What bars the savepoint takes the place of its metadata, create-only: from here on it can't be completed.
    /// 3. The files go, side by side; one that fails doesn't keep the others.
    /// 4. Unless something failed: what marks it goes, then what bars it, and with that the directory of a local disk.
    ///
    /// Cancel safe: as long as there is anything, it says by its mark or its bar that it was never whole.
    pub(super) async fn delete(&mut self, disposed: &mut Disposed, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        self.refuse_changed().await?;
        self.named.refresh(&[]).await?;
        self.refuse_named()?;
        let metadata = self.directory.join(names::METADATA)?;
        self.bar(&metadata).await?;
        disposed.metadata_gone = true;
        self.delete_files(disposed, progress).await;
        for upload in &self.contents.uploads {
            if let Err(error) = self.directory.abort_upload(upload).await {
                disposed.failed.push((NamedFile { path: upload.path.clone(), bytes: 0 }, error));
            }
        }
        if !disposed.failed.is_empty() {
            return Ok(());
        }
        for marker in &self.contents.markers {
            self.place(&marker.path)?.delete().await?;
            disposed.files.push(there(marker));
        }
        metadata.delete().await?;
        disposed.directories = u64::from(self.directory.remove_empty_dirs().await?);
        Ok(())
    }

    async fn delete_files(&self, disposed: &mut Disposed, progress: &(dyn Fn(u64, u64) + Sync)) {
        let partials = self.contents.partials.iter().map(|file| (file, true));
        let files = self.contents.files.iter().map(|file| (file, false));
        let all: Vec<_> = partials.chain(files).collect();
        let total = all.len() as u64;
        let deletes = all.into_iter().map(|(file, is_partial)| async move {
            let deleted = match is_partial {
                true => self.directory.delete_partial(&file.path).await,
                false => match self.place(&file.path) {
                    Ok(place) => place.delete().await,
                    Err(error) => Err(error),
                },
            };
            (deleted, there(file))
        });
        let mut done = 0;
        disposed
            .note(deletes, self.requests_max, &mut || {
                done += 1;
                progress(done, total);
            })
            .await;
    }

    /// Something may have completed it since, or be about to.
    async fn bar(&self, metadata: &Location) -> Result<()> {
        if self.contents.is_barred {
            return Ok(());
        }
        let attempt = self.contents.names().map(|name| name.attempt).max().unwrap_or_default();
        let bytes = barred(self.found.checkpoint.unwrap_or(CheckpointId(0)), attempt);
        let Err(error) = metadata.create(vec![bytes]).await else { return Ok(()) };
        match metadata.read_all(BARRED_BYTES_MAX).await {
            Ok(there) if barred_by(&there).is_some() => Ok(()),
            Err(look) if look.kind() == ErrorKind::NotFound => Err(error),
            _ => Err(self.changed("it has metadata")),
        }
    }

    /// Somebody has done something in the directory since the look.
    async fn refuse_changed(&self) -> Result<()> {
        let Some(now) = Contents::of(&self.directory).await? else { return Err(self.changed("it has metadata")) };
        let known: BTreeSet<&FlinkPath> = self.contents.paths().collect();
        match now.paths().find(|path| !known.contains(path)) {
            Some(path) => Err(self.changed(&format!("{path} has come"))),
            None => Ok(()),
        }
    }

    /// A job has claimed the savepoint, and still names what it needs of it.
    fn refuse_named(&self) -> Result<()> {
        let root = self.directory.parent();
        let by = |path: &FlinkPath| self.named.below.get(path.relative_to(root.as_ref()?.name())?);
        match self.contents.paths().find_map(|path| Some((path, by(path)?))) {
            None => Ok(()),
            Some((path, metadata)) => {
                let message = format!("{path} isn't left of an unfinished savepoint: {metadata} names it");
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    fn changed(&self, what: &str) -> Error {
        Error::new(ErrorKind::Conflict, format!("{}: {what} since it was looked at", self.directory.name()))
    }

    fn place(&self, listed: &FlinkPath) -> Result<Location> {
        let outside = || Error::new(ErrorKind::Invalid, format!("{listed} isn't in {}", self.directory.name()));
        self.directory.join(listed.relative_to(self.directory.name()).ok_or_else(outside)?)
    }
}

impl Contents {
    /// `None`: it has metadata, or had when a disposal began.
    async fn of(directory: &Location) -> Result<Option<Self>> {
        let own_marker = directory.name().file_name().and_then(names::savepoint_marker);
        let mut contents = Self::default();
        for file in directory.list().await? {
            match file.path.relative_to(directory.name()) {
                Some(names::METADATA) if file.size > BARRED_BYTES_MAX => return Ok(None),
                Some(names::METADATA) => match directory.join(names::METADATA)?.read_all(BARRED_BYTES_MAX).await {
                    Ok(bytes) if barred_by(&bytes).is_some() => contents.is_barred = true,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                    Ok(_) => return Ok(None),
                },
                Some(names::DISPOSING) => return Ok(None),
                Some(name) if names::parse_unfinished_marker(name).is_some() => {
                    contents.never_whole |= own_marker.as_deref() == Some(name);
                    contents.markers.push(file);
                }
                _ => contents.files.push(file),
            }
        }
        contents.partials = directory.list_partials_sized().await?;
        contents.uploads = directory.list_uploads().await?.unwrap_or_default();
        Ok(Some(contents))
    }

    fn is_empty(&self) -> bool {
        !self.is_barred && self.paths().next().is_none()
    }

    /// All but what bars it.
    fn paths(&self) -> impl Iterator<Item = &FlinkPath> {
        let listed = self.files.iter().chain(&self.partials).chain(&self.markers).map(|file| &file.path);
        listed.chain(self.uploads.iter().map(|upload| &upload.path))
    }

    fn names(&self) -> impl Iterator<Item = PhysicalFileName> {
        self.paths().filter_map(PhysicalFileName::of)
    }

    fn refuse_foreign(&self, directory: &Location) -> Result<()> {
        let below = |path: &FlinkPath| path.relative_to(directory.name()).unwrap_or_default().to_owned();
        let runs = self.markers.iter().filter_map(|file| names::parse_unfinished_marker(&below(&file.path)));
        let runs: BTreeSet<FileToken> = runs.collect();
        let Some(foreign) = self.paths().find(|path| !is_ours(&below(path), &runs)) else { return Ok(()) };
        let message = format!(
            "{} has no metadata, and {foreign} in it isn't Drystone's: look what it is, and remove it by hand",
            directory.name()
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Who is writing it, or has claimed it, needs it.
    fn refuse_alive(&self, directory: &Location, settings: &DisposeSettings, now: SystemTime) -> Result<()> {
        if settings.abandoned || self.is_barred {
            return Ok(());
        }
        let refused = |why: &str| {
            let message = format!("{}, a savepoint without metadata, {why}", directory.name());
            Err(Error::new(ErrorKind::Conflict, message))
        };
        if !self.never_whole {
            return refused(
                "may have had some: a job that has claimed it since may still use these files; if none has, say that it is \
                 abandoned",
            );
        }
        let listed = self.files.iter().chain(&self.partials).chain(&self.markers).map(|file| file.modified);
        let youngest = listed.chain(self.uploads.iter().map(|upload| upload.started)).max();
        // A time in the future is young.
        match youngest.is_none_or(|youngest| now.duration_since(youngest).is_ok_and(|age| age >= settings.grace)) {
            true => Ok(()),
            false => refused(
                "may be under way: something was written in it within the time of grace; once its job is over, say that it \
                 is abandoned",
            ),
        }
    }

    fn found(&self, directory: &Location) -> Found {
        let mut doomed: Vec<NamedFile> =
            self.files.iter().chain(&self.partials).chain(&self.markers).map(there).collect();
        doomed.sort();
        Found {
            directory: directory.name().clone(),
            checkpoint: self.names().map(|name| name.checkpoint).max(),
            kind: None,
            is_unfinished: true,
            metadata_bytes: None,
            doomed,
            spared: Vec::new(),
            missing: Vec::new(),
            uploads: self.uploads.iter().map(|upload| upload.path.clone()).collect(),
        }
    }
}

fn there(file: &Listed) -> NamedFile {
    NamedFile { path: file.path.clone(), bytes: file.size }
}
