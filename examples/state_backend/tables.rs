//! Totals in immutable files, snapshotted incrementally: a checkpoint writes only the files that none before it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, KeyGroupRange, Scope};
use drystone::protocol::Reuse;
use drystone::read::{KeyedState, TaskRestore};
use drystone::worker::{Durable, Snapshot};
use drystone::write::Written;
use drystone::{Error, ErrorKind, Result};

use crate::entries::{damaged, each, key_group, put};

/// So many files are merged into one.
const TABLES_MAX: usize = 4;

/// The totals of one subtask: a directory of its own.
pub struct Tables {
    directory: PathBuf,
    /// A UUID, as Flink wants it.
    backend_id: JavaString,
    range: KeyGroupRange,
    /// What no file has yet.
    recent: BTreeMap<String, u64>,
    /// The files, oldest first. A key's newest total counts.
    tables: Vec<Table>,
    next: u64,
    /// Files that were named again rather than written again, in all snapshots.
    pub reused: u64,
    /// Files that were written.
    pub uploaded: u64,
}

struct Table {
    name: String,
    /// How the last snapshot named it.
    handle: Option<StreamHandle>,
}

/// A snapshot whose bytes are written, and not yet durable.
pub struct TablesSnapshot {
    meta: Written,
    tables: Vec<(String, Upload)>,
    bytes_new: i64,
}

enum Upload {
    Known(StreamHandle),
    New(Written),
}

impl Tables {
    pub fn new(directory: PathBuf, range: KeyGroupRange, number: u64) -> Result<Self> {
        fs::create_dir_all(&directory).map_err(|e| failed(&directory, e))?;
        let backend_id = text(&format!("00000000-0000-4000-8000-{number:012x}"))?;
        let (recent, tables) = (BTreeMap::new(), Vec::new());
        Ok(Self { directory, backend_id, range, recent, tables, next: 1, reused: 0, uploaded: 0 })
    }

    pub fn set(&mut self, key: &str, total: u64) {
        self.recent.insert(key.to_owned(), total);
    }

    /// All totals.
    pub fn entries(&self) -> Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for table in &self.tables {
            each(self.read(&table.name)?, |key, total| {
                all.insert(key, total);
            })?;
        }
        all.extend(self.recent.iter().map(|(key, total)| (key.clone(), *total)));
        Ok(all)
    }

    /// Writes the files that can't be named again, and a list of all.
    pub async fn snapshot(&mut self, snapshot: &Snapshot) -> Result<TablesSnapshot> {
        self.flush()?;
        let mut tables = Vec::new();
        let mut bytes_new = 0;
        for table in &self.tables {
            let known = table.handle.as_ref().filter(|handle| snapshot.reuse(handle) == Reuse::Keep);
            let upload = match known {
                Some(handle) => Upload::Known(handle.clone()),
                None => {
                    let bytes = self.read(&table.name)?;
                    bytes_new += bytes.len() as i64;
                    let mut writer = snapshot.segment(Scope::Shared, Some(bytes.len() as u64));
                    writer.write(bytes).await?;
                    Upload::New(writer.finish().await?)
                }
            };
            match upload {
                Upload::Known(_) => self.reused += 1,
                Upload::New(_) => self.uploaded += 1,
            }
            tables.push((table.name.clone(), upload));
        }
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        writer.write_slice(names.join("\n").as_bytes()).await?;
        Ok(TablesSnapshot { meta: writer.finish().await?, tables, bytes_new })
    }

    /// What the checkpoint's metadata is to say. The handles are kept: the next snapshot asks whether it may use them.
    pub fn state(
        &mut self,
        written: TablesSnapshot,
        durable: &Durable,
        checkpoint: CheckpointId,
    ) -> Result<SubtaskState> {
        let mut shared = Vec::new();
        for (name, upload) in written.tables {
            let handle = match upload {
                Upload::Known(handle) => handle,
                Upload::New(written) => durable.handle(&written)?.ok_or_else(|| damaged("an empty file"))?,
            };
            if let Some(table) = self.tables.iter_mut().find(|table| table.name == name) {
                table.handle = Some(handle.clone());
            }
            shared.push(LocalPathHandle { local_path: text(&name)?, handle: Some(handle) });
        }
        let handle = IncrementalHandle {
            checkpoint_id: checkpoint.0 as i64,
            backend_id: self.backend_id.clone(),
            range: self.range,
            persisted: Some((written.bytes_new, self.backend_id.clone())),
            meta: durable.handle(&written.meta)?,
            shared,
            private: Vec::new(),
        };
        Ok(SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(handle)), ..SubtaskState::default() })
    }

    /// Takes what is this subtask's from the files of all subtasks that had some of it.
    pub async fn restore(&mut self, task: &TaskRestore) -> Result<()> {
        let restored = task.read_all().await?;
        for keyed in &task.managed_keyed {
            let KeyedState::Incremental { handle, meta, shared, .. } = &keyed.state else {
                return Err(damaged("no incremental snapshot"));
            };
            let files: BTreeMap<_, _> =
                handle.shared.iter().map(|file| file.local_path.to_string()).zip(shared).collect();
            let names = meta.map(|meta| restored.bytes(meta)).unwrap_or_default();
            let names = std::str::from_utf8(&names).map_err(damaged)?;
            for name in names.lines() {
                let Some(Some(stream)) = files.get(name) else {
                    return Err(damaged(format_args!("file {name} is missing")));
                };
                each(restored.bytes(*stream), |key, total| {
                    if self.range.contains(key_group(&key)) {
                        self.recent.insert(key, total);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Writes what no file has yet, and merges the files when there are too many.
    fn flush(&mut self) -> Result<()> {
        if self.recent.is_empty() {
            return Ok(());
        }
        let merges = self.tables.len() >= TABLES_MAX;
        let content = if merges { self.entries()? } else { std::mem::take(&mut self.recent) };
        let mut bytes = BytesMut::new();
        content.iter().for_each(|(key, total)| put(&mut bytes, key, *total));
        let name = format!("{:06}.table", self.next);
        let path = self.directory.join(&name);
        fs::write(&path, &bytes).map_err(|e| failed(&path, e))?;
        if merges {
            self.recent.clear();
            for old in self.tables.drain(..) {
                let path = self.directory.join(old.name);
                fs::remove_file(&path).map_err(|e| failed(&path, e))?;
            }
        }
        self.tables.push(Table { name, handle: None });
        self.next += 1;
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        let path = self.directory.join(name);
        fs::read(&path).map(Bytes::from).map_err(|e| failed(&path, e))
    }
}

fn failed(path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Store, path.display().to_string()).with_source(error)
}

/// A text for the metadata.
pub fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("{text:?}: {e}")))
}
