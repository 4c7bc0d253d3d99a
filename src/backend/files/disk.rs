//! The local directory of a snapshot: which files there are, and their bytes. On threads of their own.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::failed;
use super::stamp::{Moment, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::Crc32c;

/// A file is read by so many bytes at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What a directory holds.
pub(super) struct Listing {
    /// By name.
    pub(super) files: Vec<LocalFile>,
    /// The latest change that the disk has noted of any of them: its clock was at least there.
    pub(super) clock: Option<Moment>,
}

/// A file of the directory.
#[derive(Clone)]
pub(super) struct LocalFile {
    /// Below the directory, with `/` between the parts.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) stamp: Option<Stamp>,
}

/// Runs what waits for the disk. Cancelled, it goes on to its end.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let stopped = |e| Error::new(ErrorKind::Store, "work on the local disk was stopped").with_source(e);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

/// All files below a directory.
pub(super) async fn list(directory: &Path) -> Result<Listing> {
    let root = directory.to_owned();
    blocking(move || {
        let mut listing = Listing { files: Vec::new(), clock: None };
        let mut waiting = vec![(root, String::new())];
        while let Some((directory, below)) = waiting.pop() {
            listing.enter(&directory, &below, &mut waiting)?;
        }
        listing.files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    })
    .await
}

impl Listing {
    fn enter(&mut self, directory: &Path, below: &str, waiting: &mut Vec<(PathBuf, String)>) -> Result<()> {
        for entry in fs::read_dir(directory).map_err(|e| failed(directory, e))? {
            let path = entry.map_err(|e| failed(directory, e))?.path();
            let Some(last) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(Error::new(ErrorKind::Invalid, format!("{}: the name isn't UTF-8", path.display())));
            };
            let name = format!("{below}{last}");
            let found = fs::symlink_metadata(&path).map_err(|e| failed(&path, e))?;
            self.clock = self.clock.max(Moment::of_change(&found));
            if found.is_dir() {
                waiting.push((path, format!("{name}/")));
            } else if found.is_file() {
                self.files.push(LocalFile::of(name, path, &found));
            } else {
                let message =
                    format!("{}: no file and no directory, so it can't be part of a snapshot", path.display());
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        Ok(())
    }
}

/// The bytes of a file, piece by piece.
pub(super) struct Pieces {
    file: LocalFile,
    /// With the thread while that reads.
    open: Option<File>,
}

impl Pieces {
    pub(super) async fn of(file: &LocalFile) -> Result<Self> {
        let path = file.path.clone();
        let open = blocking(move || File::open(&path).map_err(|e| failed(&path, e))).await?;
        Ok(Self { file: file.clone(), open: Some(open) })
    }

    /// The next piece; none at the end. Not cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        let path = self.file.path.clone();
        let (open, piece) = blocking(move || {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = (&mut open).take(PIECE_BYTES as u64).read_to_end(&mut piece);
            read.map(|_| (open, piece)).map_err(|e| failed(&path, e))
        })
        .await?;
        if piece.is_empty() {
            let now = open.metadata().map_err(|e| failed(&self.file.path, e))?;
            return self.file.check_same(&now).map(|()| None);
        }
        self.open = Some(open);
        Ok(Some(piece.into()))
    }
}

impl LocalFile {
    pub(super) fn of(name: String, path: PathBuf, found: &Metadata) -> Self {
        Self { name, path, bytes: found.len(), stamp: Stamp::of(found) }
    }

    /// Fails if it isn't what was listed.
    pub(super) fn check_same(&self, now: &Metadata) -> Result<()> {
        if now.len() == self.bytes && Stamp::of(now) == self.stamp {
            return Ok(());
        }
        let message = format!("{} has changed while it was read: a snapshot's files must not", self.path.display());
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

/// The checksum of a file.
pub(super) async fn hash(file: &LocalFile) -> Result<u32> {
    let file = file.clone();
    blocking(move || {
        let failed = |e| failed(&file.path, e);
        let mut open = File::open(&file.path).map_err(failed)?;
        let (mut piece, mut crc) = (vec![0; PIECE_BYTES], Crc32c::new());
        loop {
            match open.read(&mut piece).map_err(failed)? {
                0 => break,
                read => crc.update(&piece[..read]),
            }
        }
        file.check_same(&open.metadata().map_err(failed)?)?;
        Ok(crc.value())
    })
    .await
}
