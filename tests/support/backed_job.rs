//! A job that keeps copies of its files on local disks: each round writes some chunks of each subtask anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use drystone::backup::Disk;
use drystone::config::Config;
use drystone::coordinator::{Completed, Coordinator};
use drystone::handle::StreamHandle;
use drystone::id::{JobId, KeyGroupRange, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse};
use drystone::read::{RestoreCounts, TaskRead};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, ObjectStore};
use drystone::worker::Worker;
use drystone::write::Tokens;

use super::live::{Chunks, OPERATOR, state_of};
use super::seeded::bytes_of;

pub const SUBTASKS: u32 = 2;

/// How a job is set up.
#[derive(Clone)]
pub struct Site {
    pub store: Arc<dyn ObjectStore>,
    pub tokens: Tokens,
    pub directories: Vec<PathBuf>,
    pub disk: Option<Arc<dyn Disk>>,
    pub job: JobId,
    /// Further options.
    pub options: Vec<(&'static str, String)>,
}

pub struct Job {
    pub storage: Storage,
    pub coordinator: Coordinator,
    pub worker: Worker,
    pub chunks: u32,
    /// How long each chunk is.
    pub chunk_bytes: usize,
    /// One chunk in so many is written anew by each round.
    pub written_one_in: u64,
    /// By subtask and name: what it is, and its bytes.
    pub held: Vec<BTreeMap<String, (StreamHandle, Bytes)>>,
    spec: OperatorSpec,
    pub rounds: u64,
}

impl Site {
    pub fn new(store: Arc<dyn ObjectStore>, directories: Vec<PathBuf>) -> Self {
        let options = Vec::new();
        Self { store, tokens: super::live::tokens(), directories, disk: None, job: JobId([1; 16]), options }
    }

    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.options.push((key, value.to_string()));
        self
    }

    pub fn storage(&self) -> Storage {
        let dirs: Vec<_> = self.directories.iter().map(|path| path.display().to_string()).collect();
        let dirs = dirs.join(",");
        let mut options = vec![
            ("execution.checkpointing.local-backup.enabled", "true".to_string()),
            ("execution.checkpointing.local-backup.dirs", dirs),
            ("execution.checkpointing.data-inline-threshold", "0".to_string()),
            ("execution.checkpointing.file-merging.max-file-size", "512kb".to_string()),
            ("drystone.fencing.proof-rounds", "0".to_string()),
        ];
        options.extend(self.options.iter().cloned());
        let options: BTreeMap<_, _> = options.into_iter().collect();
        let path = FlinkPath::parse("memory://host/checkpoints").unwrap();
        let storage = Storage::open_on(self.store.clone(), &path, &Config::from_map(options)).unwrap();
        let storage = storage.with_tokens(self.tokens.clone());
        match &self.disk {
            Some(disk) => storage.with_disk(disk.clone()),
            None => storage,
        }
    }

    pub async fn start(&self, worker: &str) -> Job {
        let storage = self.storage();
        let spec = OperatorSpec::new(OPERATOR, SUBTASKS, 128);
        let coordinator = storage.coordinator(self.job, vec![spec.clone()]).await.unwrap();
        let worker = storage.worker(self.job, worker).unwrap();
        spec.subtasks().for_each(|subtask| worker.register(subtask));
        let held = vec![BTreeMap::new(); SUBTASKS as usize];
        Job { storage, coordinator, worker, chunks: 40, chunk_bytes: 50_000, written_one_in: 4, held, spec, rounds: 0 }
    }
}

impl Job {
    /// The process ends, and another goes on with what it had.
    pub async fn restart(self, site: &Site, worker: &str) -> Job {
        let Job { chunks, chunk_bytes, written_one_in, held, rounds, worker: old, .. } = self;
        old.backup().unwrap().settled().await;
        drop(old);
        let next = site.start(worker).await;
        Job { chunks, chunk_bytes, written_one_in, held, rounds, ..next }
    }

    /// A checkpoint, up to its commit; the worker is told, and its copies are waited for.
    pub async fn round(&mut self) -> Completed {
        let completed = self.commit().await;
        self.worker.complete(self.coordinator.epoch(), completed.checkpoint);
        for subsumed in &completed.subsumed {
            self.worker.subsume(self.coordinator.epoch(), *subsumed);
        }
        self.worker.backup().unwrap().settled().await;
        completed
    }

    pub async fn commit(&mut self) -> Completed {
        self.rounds += 1;
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap();
        let mut finished = Vec::new();
        for (index, held) in self.held.iter().enumerate() {
            let snapshot = self.worker.begin(self.spec.subtask(index as u32), &trigger).unwrap();
            let (mut shared, mut written) = (BTreeMap::new(), Vec::new());
            for chunk in 0..self.chunks {
                let name = format!("{chunk:04}");
                let is_due = (u64::from(chunk) + self.rounds).is_multiple_of(self.written_one_in);
                match held.get(&name).filter(|_| !is_due) {
                    Some((handle, bytes)) if snapshot.reuse(handle) == Reuse::Keep => {
                        shared.insert(name, (handle.clone(), bytes.clone()));
                    }
                    kept => {
                        let seed = self.rounds << 32 | u64::from(chunk) << 8 | index as u64;
                        let bytes = kept.map_or_else(|| bytes_of(seed, self.chunk_bytes), |(_, bytes)| bytes.clone());
                        let mut segment = snapshot.segment(Scope::Shared, None);
                        for part in 0..bytes.len().div_ceil(1 << 20) {
                            segment.write(bytes.slice(part << 20..bytes.len().min((part + 1) << 20))).await.unwrap();
                        }
                        written.push((name, segment.finish().await.unwrap(), bytes));
                    }
                }
            }
            finished.push((snapshot.finish(), shared, written));
        }
        for (index, (ticket, mut held, written)) in finished.into_iter().enumerate() {
            let durable = ticket.seal().await.unwrap();
            for (name, written, bytes) in written {
                held.insert(name, (durable.handle(&written).unwrap().unwrap(), bytes));
            }
            let subtask = self.spec.subtask(index as u32);
            let range = KeyGroupRange::of_subtask(subtask.index, SUBTASKS, 128).unwrap();
            let shared = held.iter().map(|(name, (handle, _))| (name.clone(), handle.clone())).collect();
            let state = state_of(trigger.checkpoint, subtask.index, range, Chunks { shared, ..Chunks::default() });
            let (epoch, checkpoint) = (trigger.epoch, trigger.checkpoint);
            let (state, sealed) = (Some(Box::new(state)), durable.sealed().to_vec());
            self.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
            self.held[index] = held;
        }
        self.coordinator.complete(trigger.checkpoint).await.unwrap()
    }

    /// Reads the state of all subtasks and compares every byte.
    pub async fn check(&self, path: &FlinkPath) -> RestoreCounts {
        self.check_with(&self.storage, path).await
    }

    pub async fn check_with(&self, storage: &Storage, path: &FlinkPath) -> RestoreCounts {
        let restore = storage.restore(path).await.unwrap();
        let tasks: Vec<_> = (0..SUBTASKS).map(|index| restore.task(OPERATOR, index, SUBTASKS).unwrap()).collect();
        let mut found: Vec<BTreeMap<String, BytesMut>> = vec![BTreeMap::new(); SUBTASKS as usize];
        let mut read = TaskRead::together(&tasks).await.unwrap();
        while let Some(piece) = read.next().await {
            let piece = piece.unwrap();
            let local_path = &tasks[piece.task].stream(piece.stream).unwrap().place().local_path;
            let bytes = found[piece.task].entry(local_path.as_ref().unwrap().to_string()).or_default();
            assert_eq!(bytes.len() as u64, piece.offset, "in order");
            bytes.extend_from_slice(&piece.bytes);
        }
        for (found, held) in found.iter().zip(&self.held) {
            assert!(found.keys().eq(held.keys()), "every chunk is there");
            for (name, (_, bytes)) in held {
                assert!(found[name] == *bytes, "chunk {name}");
            }
        }
        read.counts()
    }

    pub fn state_bytes(&self) -> u64 {
        self.held.iter().flat_map(BTreeMap::values).map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// Every copy below a directory, with its length; locks aren't among them.
pub fn copies(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if meta.is_dir() {
                waiting.push(path);
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                found.insert(path, meta.len());
            }
        }
    }
    found
}
