//! The local disks of one machine, on which processes keep copies: in memory, and no better than disks are.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use drystone::backup::{Disk, LocalDirectories, ReadAt};

use crate::chaos_store::{Chaos, Random};
use crate::history::{Harm, Local};

/// What is on the disks. Clones are the same machine.
#[derive(Clone)]
pub struct Machine {
    chaos: Chaos,
    disks: Arc<Mutex<Disks>>,
}

struct Disks {
    random: Random,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// By which process each is held.
    locks: BTreeMap<PathBuf, usize>,
    /// Of so many calls one fails.
    fails_one_in: u64,
    is_full: bool,
}

impl Machine {
    pub fn new(chaos: &Chaos, seed: u64, local: &Local) -> Self {
        let (random, fails_one_in) = (Random::new(seed), local.fails_one_in);
        let disks = Disks { random, files: BTreeMap::new(), locks: BTreeMap::new(), fails_one_in, is_full: false };
        Self { chaos: chaos.clone(), disks: Arc::new(Mutex::new(disks)) }
    }

    /// As a process has them, until it dies.
    pub fn directories(&self, local: &Local, process: usize) -> LocalDirectories {
        let directories = (0..local.directories).map(|number| PathBuf::from(format!("/disk-{number}"))).collect();
        LocalDirectories::on(Arc::new(View { machine: self.clone(), process }), directories)
    }

    pub fn suffer(&self, seed: u64, harm: Harm) {
        let mut disks = self.disks();
        let mut random = Random::new(seed);
        match harm {
            Harm::Lose { one_in } => disks.files.retain(|_, _| !random.one_in(one_in)),
            Harm::Flip { one_in } => {
                for bytes in disks.files.values_mut().filter(|bytes| !bytes.is_empty()) {
                    if random.one_in(one_in) {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << random.below(8);
                    }
                }
            }
            Harm::Gone { directory } => {
                let path = format!("/disk-{directory}");
                disks.files.retain(|file, _| !file.starts_with(&path));
                disks.locks.retain(|file, _| !file.starts_with(&path));
            }
            Harm::Full => disks.is_full = true,
            Harm::Room => disks.is_full = false,
        }
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut disks = self.disks();
        (disks.fails_one_in, disks.is_full) = (u64::MAX, false);
    }

    /// The names of the files, but for those that processes lock.
    pub fn copies(&self) -> Vec<String> {
        let disks = self.disks();
        let names = disks.files.keys().filter_map(|path| path.file_name()?.to_str()).map(str::to_owned);
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    fn disks(&self) -> MutexGuard<'_, Disks> {
        self.disks.lock().unwrap()
    }
}

/// The disks as one process sees them.
#[derive(Clone)]
struct View {
    machine: Machine,
    process: usize,
}

impl View {
    fn call(&self, what: &str, path: &Path) -> io::Result<MutexGuard<'_, Disks>> {
        let Machine { chaos, .. } = &self.machine;
        let is_dead = chaos.is_dead(self.process);
        let mut disks = self.machine.disks();
        let fails = is_dead
            || disks.fails_one_in < u64::MAX && {
                let one_in = disks.fails_one_in;
                disks.random.one_in(one_in)
            };
        chaos.count("disk calls");
        chaos.say(
            &format!("{} {what}", self.process),
            &format!("{} {}", path.display(), if fails { "fails" } else { "" }),
        );
        if fails { Err(ErrorKind::Other.into()) } else { Ok(disks) }
    }
}

struct Open {
    view: View,
    path: PathBuf,
}

impl Disk for View {
    fn blocks(&self) -> bool {
        false
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.call("mkdir", path).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        self.call("create", path)?.files.insert(path.to_path_buf(), Vec::new());
        Ok(Box::new(Open { view: self.clone(), path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disks = self.call("rename", from)?;
        let bytes = disks.files.remove(from).ok_or(ErrorKind::NotFound)?;
        disks.files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?.files.remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let disks = self.call("list", path)?;
        let within = disks.files.iter().filter(|(file, _)| file.parent() == Some(path));
        let named =
            within.filter_map(|(file, bytes)| Some((file.file_name()?.to_str()?.to_owned(), bytes.len() as u64)));
        Ok(named.collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        self.call("open", path)?.files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(Open { view: self.clone(), path: path.to_path_buf() }))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send>>> {
        let mut disks = self.call("lock", path)?;
        if disks.locks.get(path).is_some_and(|&holder| !self.machine.chaos.is_dead(holder)) {
            return Ok(None);
        }
        disks.locks.insert(path.to_path_buf(), self.process);
        disks.files.entry(path.to_path_buf()).or_default();
        Ok(Some(Box::new(Lock { view: self.clone(), path: path.to_path_buf() })))
    }
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disks = self.view.call("write", &self.path)?;
        let length = if disks.is_full { bytes.len() / 2 } else { bytes.len() };
        // One that is deleted can still be written to.
        if let Some(file) = disks.files.get_mut(&self.path) {
            file.extend_from_slice(&bytes[..length]);
        }
        if disks.is_full { Err(ErrorKind::StorageFull.into()) } else { Ok(length) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for Open {
    fn length(&mut self) -> io::Result<u64> {
        let disks = self.view.call("length", &self.path)?;
        Ok(disks.files.get(&self.path).ok_or(ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disks = self.view.call("read", &self.path)?;
        let file = disks.files.get(&self.path).ok_or(ErrorKind::NotFound)?;
        let from = file.get(offset as usize..offset as usize + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

struct Lock {
    view: View,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut disks = self.view.machine.disks();
        if disks.locks.get(&self.path) == Some(&self.view.process) {
            disks.locks.remove(&self.path);
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disks of process {}", self.process)
    }
}
