//! What is asked of a local disk: the seam for faults.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A local disk, or something that fails like one. Every call may block, and is made from a thread that may.
pub trait Disk: fmt::Debug + Send + Sync {
    /// May a call block? Those of one that is memory needn't, and then no thread is taken for them: they are made in an order
    /// that a simulation can have again.
    fn blocks(&self) -> bool {
        true
    }

    /// Makes the directory and those above it, where they are missing.
    ///
    /// # Errors
    /// That of the file system; also where there is a file in its place.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Starts a file, in the place of one that is there.
    ///
    /// # Errors
    /// That of the file system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>>;

    /// Gives a file another name in the same directory, in the place of one that has it.
    ///
    /// # Errors
    /// That of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    ///
    /// # Errors
    /// `NotFound`; others of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files in a directory, with their lengths; names that aren't Unicode are left out.
    ///
    /// # Errors
    /// `NotFound`; others of the file system.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file to read it.
    ///
    /// # Errors
    /// `NotFound`; others of the file system.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>>;

    /// Locks a file, which is made where it is missing, until what is returned is dropped or the process ends; none if
    /// another has it.
    ///
    /// # Errors
    /// That of the file system.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send>>>;
}

/// A file that is read.
pub trait ReadAt: Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// That of the file system.
    fn length(&mut self) -> io::Result<u64>;

    /// Fills the buffer with the bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof`: the file ends before; others of the file system.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Has something done that asks a disk. None if it panics.
pub(super) async fn ask<T: Send + 'static>(disk: &dyn Disk, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !disk.blocks() {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

/// The file system of this machine. Nothing is synced: what a crash leaves is found out by checksums.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(File::create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                // Gone meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                found.push((name, meta.len()));
            }
        }
        Ok(found)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(File::open(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send>>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl ReadAt for File {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seek(io::SeekFrom::Start(offset))?;
        self.read_exact(buffer)
    }
}
