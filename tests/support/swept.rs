//! A job's directory made by hand, on a local disk, where files can be as old as a test wants.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use drystone::format::encode;
use drystone::id::CheckpointId;
use drystone::store::{FlinkPath, Stores};
use drystone::sweep::{Sweep, SweepSettings};
use tempfile::TempDir;

use super::{runs, synthetic};

pub const DAY: Duration = Duration::from_secs(86_400);

/// A directory of jobs with one in it, all of which is a day and a half old unless a test says otherwise.
pub struct Swept {
    root: TempDir,
    pub now: SystemTime,
    pub stores: Stores,
}

/// A name as stock Flink gives it.
pub fn uuid(number: u32) -> String {
    format!("{number:08x}-1234-4abc-8def-0123456789ab")
}

/// A name as a worker gives it.
pub fn ours(attempt: u64, checkpoint: u64, sequence: u64) -> String {
    format!("ds1-a{attempt}-wworker_1-c{checkpoint}-n{sequence}-00000000000000{sequence:02x}")
}

/// A checkpoint's metadata that names these files by absolute paths, each as a whole.
pub fn metadata(id: u64, named: &[(String, u64)]) -> Vec<u8> {
    let handles = named.iter().map(|(path, length)| synthetic::file(path, *length as i64)).collect();
    let mut metadata = synthetic::checkpoint(handles);
    metadata.checkpoint_id = CheckpointId(id);
    encode(&metadata).unwrap().bytes.to_vec()
}

impl Swept {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        // Whole seconds, which every file system can keep.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        fs::create_dir_all(root.path().join(synthetic::JOB).join("shared")).unwrap();
        Self { root, now, stores: Stores::new() }
    }

    /// A place beside the job's directory.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn at(&self, below: &str) -> PathBuf {
        self.beside(synthetic::JOB).join(below)
    }

    pub fn job(&self) -> FlinkPath {
        self.path(synthetic::JOB)
    }

    pub fn path(&self, beside: &str) -> FlinkPath {
        runs::path(self.beside(beside).to_str().unwrap())
    }

    /// As metadata has it.
    pub fn name(&self, below: &str) -> String {
        format!("file:{}", self.at(below).to_str().unwrap())
    }

    pub fn put(&self, below: &str, length: usize) {
        self.put_aged(below, length, DAY * 3 / 2);
    }

    pub fn put_aged(&self, below: &str, length: usize, age: Duration) {
        self.write(self.at(below), &synthetic::chunk(length, 1), self.now - age);
    }

    pub fn write(&self, at: PathBuf, bytes: &[u8], modified: SystemTime) {
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, bytes).unwrap();
        fs::File::options().write(true).open(&at).unwrap().set_modified(modified).unwrap();
    }

    /// A checkpoint that names files of the job, which are there.
    pub fn commit(&self, id: u64, named: &[&str]) {
        self.commit_at(&format!("{}/chk-{id}", synthetic::JOB), id, named);
    }

    /// The same, with its metadata elsewhere.
    pub fn commit_at(&self, beside: &str, id: u64, named: &[&str]) {
        let length = |below: &str| fs::metadata(self.at(below)).map_or(1, |meta| meta.len());
        let named: Vec<_> = named.iter().map(|below| (self.name(below), length(below))).collect();
        self.write(self.beside(beside).join("_metadata"), &metadata(id, &named), self.now - DAY * 3 / 2);
    }

    pub async fn look(&self) -> drystone::Result<Sweep> {
        self.look_with(&SweepSettings::default()).await
    }

    pub async fn look_with(&self, settings: &SweepSettings) -> drystone::Result<Sweep> {
        Sweep::look(&self.stores, &self.job(), settings, self.now).await
    }

    /// What is dead, with the reason.
    pub async fn dead(&self) -> BTreeMap<String, String> {
        reasons(&self.look().await.unwrap())
    }

    /// Every file below the directory of jobs with its bytes, and when it was written.
    pub fn files(&self) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
        let mut waiting = vec![self.root.path().to_path_buf()];
        let mut found = BTreeMap::new();
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    let modified = fs::metadata(&path).unwrap().modified().unwrap();
                    let name = path.strip_prefix(self.root.path()).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, (fs::read(&path).unwrap(), modified));
                }
            }
        }
        found
    }
}

pub fn reasons(sweep: &Sweep) -> BTreeMap<String, String> {
    sweep.found().dead.iter().map(|file| (file.below.clone(), file.reason.to_string())).collect()
}

/// Deletes what was found, all of which has to go.
pub async fn delete(sweep: Sweep) -> Vec<String> {
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.is_complete() && deleted.spared.is_empty(), "{deleted:?}");
    deleted.files.into_iter().map(|file| file.below).collect()
}
