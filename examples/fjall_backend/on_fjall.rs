//! The example's database on fjall.
//!
//! fjall has no call that makes a checkpoint, so this one is put together. Everything is flushed first, so that the
//! journals have nothing that the tables lack. The tables of one version of the tree are linked while that version is
//! held, which keeps compactions from deleting them; and the file `current` has to name the same version, since it is
//! replaced a moment before the tree has the next.

use std::fs;
use std::path::Path;

use drystone::backend::files::FileKind;
use drystone::{Error, ErrorKind, Result};
use fjall::{AbstractTree, Keyspace, KeyspaceCreateOptions};

use crate::database::{Database, failed};

/// The tree in which fjall keeps which keyspaces there are. It is changed when one is made, and then by nobody.
const META: &str = "keyspaces/0";

pub struct Fjall {
    /// Keeps the threads alive.
    _database: fjall::Database,
    entries: Keyspace,
    path: std::path::PathBuf,
}

impl Database for Fjall {
    const NAME: &'static str = "fjall 3";

    fn open(path: &Path) -> Result<Self> {
        let failed = |e| failed(path.display(), e);
        let database = fjall::Database::builder(path).worker_threads(2).open().map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(128 << 10);
        let entries = database.keyspace("entries", options).map_err(failed)?;
        Ok(Self { _database: database, entries, path: path.to_owned() })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.entries.insert(key, value).map_err(|e| failed("put", e))
    }

    fn remove(&self, key: &[u8]) -> Result<()> {
        self.entries.remove(key).map_err(|e| failed("remove", e))
    }

    fn each(&self, mut found: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.entries.iter() {
            let (key, value) = entry.into_inner().map_err(|e| failed("read", e))?;
            found(&key, &value)?;
        }
        Ok(())
    }

    fn compact(&self) -> Result<()> {
        self.entries.major_compact().map_err(|e| failed("compaction", e))
    }

    fn snapshot(&self, into: &Path) -> Result<()> {
        while self.entries.tree.get_highest_memtable_seqno().is_some() {
            self.entries.rotate_memtable_and_wait().map_err(|e| failed("flush", e))?;
            std::thread::yield_now();
        }
        let below = self.entries.path().strip_prefix(&self.path).map_err(|e| failed("keyspace", e))?;
        self.link_version(&into.join(below))?;
        for name in ["version", META] {
            link_all(&self.path.join(name), &into.join(name))?;
        }
        // The lock has to be there. So has a journal: without one fjall begins with the sequence numbers from the start
        // again, and what is written then counts as older than what the tables have.
        for name in ["lock", "0.jnl"] {
            fs::write(into.join(name), []).map_err(|e| failed(name, e))?;
        }
        Ok(())
    }

    fn kind(name: &str) -> FileKind {
        let is_immutable = name.contains("/tables/") || name.contains("/blobs/");
        if is_immutable { FileKind::Shared } else { FileKind::Private }
    }
}

impl Fjall {
    /// Links the files of the tree's newest version.
    fn link_version(&self, into: &Path) -> Result<()> {
        let from = self.entries.path();
        loop {
            let version = self.entries.tree.current_version();
            let manifest = format!("v{}", version.id());
            let current = fs::read(from.join("current")).map_err(|e| failed("current", e))?;
            if !current.starts_with(&version.id().to_le_bytes()) {
                // A compaction is about to end.
                std::thread::yield_now();
                continue;
            }
            if version.blob_file_count() > 0 {
                return Err(Error::new(ErrorKind::Unsupported, "the example has no values in files of their own"));
            }
            fs::create_dir_all(into.join("tables")).map_err(|e| failed(into.display(), e))?;
            match fs::hard_link(from.join(&manifest), into.join(&manifest)) {
                // One has ended since then.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                linked => linked.map_err(|e| failed(&manifest, e))?,
            }
            fs::write(into.join("current"), current).map_err(|e| failed("current", e))?;
            for table in version.iter_tables() {
                let name = table.id().to_string();
                let linked = fs::hard_link(&*table.path, into.join("tables").join(&name));
                linked.map_err(|e| failed(format_args!("table {name}"), e))?;
            }
            return Ok(());
        }
    }
}

/// Links a file, or all files below a directory.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        return fs::hard_link(from, to).map_err(|e| failed(from.display(), e));
    }
    fs::create_dir_all(to).map_err(|e| failed(to.display(), e))?;
    for entry in fs::read_dir(from).map_err(|e| failed(from.display(), e))? {
        let name = entry.map_err(|e| failed(from.display(), e))?.file_name();
        link_all(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
