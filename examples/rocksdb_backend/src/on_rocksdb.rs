//! The example's database on RocksDB, which makes its checkpoints itself.

use std::path::Path;

use drystone::backend::files::FileKind;
use drystone::{Error, Result};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IteratorMode, Options};

use crate::database::{Database, failed};

pub struct RocksDb {
    database: DB,
}

impl Database for RocksDb {
    const NAME: &'static str = "rocksdb 11";

    fn open(path: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(128 << 10);
        options.set_level_zero_file_num_compaction_trigger(4);
        options.set_max_background_jobs(2);
        let database = DB::open(&options, path).map_err(|e| failed(path.display(), e))?;
        Ok(Self { database })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.database.put(key, value).map_err(|e| failed("put", e))
    }

    fn remove(&self, key: &[u8]) -> Result<()> {
        self.database.delete(key).map_err(|e| failed("delete", e))
    }

    fn each(&self, mut found: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.database.iterator(IteratorMode::Start) {
            let (key, value) = entry.map_err(|e: rocksdb::Error| -> Error { failed("read", e) })?;
            found(&key, &value)?;
        }
        Ok(())
    }

    fn compact(&self) -> Result<()> {
        self.database.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn snapshot(&self, into: &Path) -> Result<()> {
        // It flushes first, and links the tables.
        let made = Checkpoint::new(&self.database).and_then(|checkpoint| checkpoint.create_checkpoint(into));
        made.map_err(|e| failed(into.display(), e))
    }

    fn kind(name: &str) -> FileKind {
        match name.rsplit_once('.') {
            Some((_, "sst" | "blob")) => FileKind::Shared,
            _ => FileKind::Private,
        }
    }
}
