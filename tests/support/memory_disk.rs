//! A disk in memory that fails, fills up, hangs or dies when told to, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use drystone::backup::{Disk, ReadAt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    MakeDirectory,
    Create,
    Write,
    Rename,
    Remove,
    List,
    Open,
    Read,
    Lock,
}

impl Call {
    pub const ALL: [Self; 9] = [
        Self::MakeDirectory,
        Self::Create,
        Self::Write,
        Self::Rename,
        Self::Remove,
        Self::List,
        Self::Open,
        Self::Read,
        Self::Lock,
    ];
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failing {
    #[default]
    None,
    /// The one with this number, from 0; a write puts half of its bytes.
    One(u64, ErrorKind),
    /// All from this one on: the process is dead.
    From(u64),
    All(Call, ErrorKind),
}

#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Vec<u8>>,
    locks: BTreeSet<PathBuf>,
    failing: Failing,
    calls: u64,
    /// Bytes of files below a path: more don't fit.
    room: BTreeMap<PathBuf, u64>,
    bytes_max: u64,
    writes_hang: bool,
    /// So many more reads come back.
    reads_left: Option<u64>,
    hanging: u64,
}

impl State {
    fn call(&mut self, call: Call) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        match self.failing {
            Failing::One(one, kind) if one == number => Err(kind.into()),
            Failing::From(from) if number >= from => Err(ErrorKind::Other.into()),
            Failing::All(all, kind) if all == call => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn bytes(&self, below: &Path) -> u64 {
        let files = self.files.iter().filter(|(path, _)| path.starts_with(below));
        files.map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// As soon as a read comes back.
    fn reading(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.reads_left == Some(0) {
            state.hanging += 1;
            state = self.state.1.wait(state).unwrap();
            state.hanging -= 1;
        }
        state.reads_left = state.reads_left.map(|left| left - 1);
        state
    }

    pub fn fail(&self, failing: Failing) {
        self.state().failing = failing;
    }

    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// No more bytes than that fit below the directory.
    pub fn limit(&self, directory: &Path, bytes: u64) {
        self.state().room.insert(directory.to_path_buf(), bytes);
    }

    /// Writes wait, or go on.
    pub fn hang(&self, writes_hang: bool) {
        self.state().writes_hang = writes_hang;
        self.state.1.notify_all();
    }

    /// After so many more reads none comes back; until it is told `None`.
    pub fn hang_reads(&self, after: Option<u64>) {
        self.state().reads_left = after;
        self.state.1.notify_all();
    }

    pub fn hanging(&self) -> u64 {
        self.state().hanging
    }

    pub fn files(&self) -> BTreeMap<PathBuf, u64> {
        self.state().files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.state().bytes(Path::new("/"))
    }

    /// The most bytes that there ever were.
    pub fn bytes_max(&self) -> u64 {
        self.state().bytes_max
    }

    /// What the next process finds.
    pub fn survivor(&self) -> Self {
        let disk = Self::default();
        disk.state().files = self.state().files.clone();
        disk
    }
}

struct Open {
    disk: MemoryDisk,
    path: PathBuf,
}

impl Disk for MemoryDisk {
    fn make_directory(&self, _: &Path) -> io::Result<()> {
        self.state().call(Call::MakeDirectory)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        let mut state = self.state();
        state.call(Call::Create)?;
        state.files.insert(path.to_path_buf(), Vec::new());
        Ok(Box::new(Open { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Rename)?;
        let bytes = state.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Remove)?;
        state.files.remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.call(Call::List)?;
        let within = state.files.iter().filter(|(file, _)| file.parent() == Some(path));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        Ok(within.map(|(file, bytes)| (name(file), bytes.len() as u64)).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        let mut state = self.state();
        state.call(Call::Open)?;
        state.files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(Open { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send>>> {
        let mut state = self.state();
        state.call(Call::Lock)?;
        let is_free = state.locks.insert(path.to_path_buf());
        Ok(is_free.then(|| Box::new(Lock(self.clone(), path.to_path_buf())) as Box<dyn Send>))
    }
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        while state.writes_hang {
            state.hanging += 1;
            state = self.disk.state.1.wait(state).unwrap();
            state.hanging -= 1;
        }
        let refused = state.call(Call::Write).err();
        let length = if refused.is_some() { bytes.len() / 2 } else { bytes.len() };
        let room = state.room.iter().find(|(directory, _)| self.path.starts_with(directory));
        let room = room.map(|(directory, room)| room.saturating_sub(state.bytes(directory)));
        let fits = room.map_or(length, |room| length.min(room as usize));
        // A file that is deleted can still be written to.
        if let Some(file) = state.files.get_mut(&self.path) {
            file.extend_from_slice(&bytes[..fits]);
        }
        state.bytes_max = state.bytes_max.max(state.bytes(Path::new("/")));
        match refused {
            Some(error) => Err(error),
            None if fits < length => Err(ErrorKind::StorageFull.into()),
            None => Ok(length),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for Open {
    fn length(&mut self) -> io::Result<u64> {
        let mut state = self.disk.reading();
        state.call(Call::Read)?;
        Ok(state.files.get(&self.path).ok_or(ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.reading();
        state.call(Call::Read)?;
        let file = state.files.get(&self.path).ok_or(ErrorKind::NotFound)?;
        let from = file.get(offset as usize..offset as usize + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

struct Lock(MemoryDisk, PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locks.remove(&self.1);
    }
}
