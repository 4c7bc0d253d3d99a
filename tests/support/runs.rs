//! Runs over Flink's own checkpoints, with names that are the same each time.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drystone::Result;
use drystone::read::ReadLimits;
use drystone::repack::{self, Options, Report};
use drystone::store::{FlinkPath, Rebase, Stores};
use drystone::verify::{Verification, verify};
use drystone::write::WriteSettings;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

pub const HASHMAP: &str = "v2-hashmap-plain/ckpt/00f1f1f1f1f1f1f1104bf7768f44313a/chk-3";
pub const ACROSS: &str = "v2-rocksdb-merged-across/ckpt/00f1f1f1f1f1f1f13a72aec4d85cb176/chk-5";
pub const UNALIGNED: &str = "v2-unaligned-hashmap-plain/ckpt/00f1f1f1f1f1f1f18d29438f4bec8f64/chk-2";
pub const SAVEPOINT: &str = "v2-savepoint-native-rocksdb/savepoint-native/savepoint-00f1f1-50ca3bc9111c";

/// The folder of the checkpoints that Flink wrote.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink")
}

pub fn path(text: &str) -> FlinkPath {
    FlinkPath::parse(text).unwrap()
}

/// Where Flink wrote its checkpoints, and where they are now.
pub fn moved_to(place: &str) -> Vec<Rebase> {
    vec![Rebase { from: path("file:/data/flink"), to: path(place) }]
}

/// Numbers from a counter, so that a run can be repeated; different ones for each `run`.
pub fn options(run: u64, write: WriteSettings) -> Options {
    let counter = AtomicU64::new(run << 32);
    let tokens = Arc::new(move || counter.fetch_add(1, Ordering::Relaxed));
    Options { write, read: ReadLimits::default(), job_id: None, tokens, discard_leftovers: false }
}

/// Nothing goes inline.
pub fn all_packed() -> WriteSettings {
    WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() }
}

pub async fn repack(stores: &Stores, from: &FlinkPath, to: &str, options: &Options) -> Result<Report> {
    repack::repack(stores, from, &path(to), options, &|_, _, _| {}).await
}

pub async fn copy(stores: &Stores, from: &FlinkPath, to: &str, options: &Options) -> Result<Report> {
    repack::copy(stores, from, &path(to), options, &|_, _, _| {}).await
}

pub async fn check(stores: &Stores, checkpoint: &FlinkPath) -> Result<Verification> {
    verify(stores, checkpoint, &ReadLimits::default(), &|_, _| {}).await
}

/// A store in memory that a test can look into, as `memory:/`.
pub struct Memory {
    pub objects: Arc<InMemory>,
    pub stores: Stores,
}

impl Memory {
    pub fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub fn over(objects: Arc<InMemory>) -> Self {
        let stores = Stores::new().with_store(&path("memory:/"), objects.clone());
        Self { objects, stores }
    }

    /// With one of Flink's checkpoints, and all that lies beside it, below `memory:/flink`.
    pub async fn with_flink(fixture: &str) -> Self {
        let mut memory = Self::new();
        let folder = fixture.split('/').next().unwrap();
        for (name, bytes) in files_below(&data().join(folder)) {
            memory.put(&format!("flink/{folder}/{name}"), bytes).await;
        }
        memory.stores = memory.stores.with_rebase(moved_to("memory:/flink"));
        memory
    }

    pub async fn put(&self, key: &str, bytes: Bytes) {
        self.objects.put(&Key::from(key), PutPayload::from(bytes)).await.unwrap();
    }

    pub async fn delete(&self, key: &str) {
        self.objects.delete(&Key::from(key)).await.unwrap();
    }

    /// Everything below a directory, by key.
    pub async fn contents(&self, below: &str) -> BTreeMap<String, Bytes> {
        let listed: Vec<_> = self.objects.list(Some(&Key::from(below))).try_collect().await.unwrap();
        let mut contents = BTreeMap::new();
        for meta in listed {
            let bytes = self.objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
            contents.insert(meta.location.to_string(), bytes);
        }
        contents
    }
}

/// Every file below a directory of the local disk, by its path below it.
pub fn files_below(root: &Path) -> BTreeMap<String, Bytes> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let at = entry.unwrap().path();
            if at.is_dir() {
                waiting.push(at);
            } else {
                let name = at.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, Bytes::from(std::fs::read(at).unwrap()));
            }
        }
    }
    found
}
