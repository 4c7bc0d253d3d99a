//! Checkpoints of a job made by hand, in memory: of any epoch, complete or not.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use bytes::Bytes;
use drystone::format::{LogEntry, NamedFile, Trailer, barred, encode};
use drystone::id::CheckpointId;
use drystone::jobs::{Latest, latest};
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores, names};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use super::{runs, synthetic};

pub const FILE_BYTES: usize = 100;

/// In which state a checkpoint is put on the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Complete,
    /// One bit of the metadata is wrong.
    Damaged,
    /// A file that it names isn't there.
    FileMissing,
    /// A file that it names is a byte short.
    FileShort,
    /// Its metadata is of another checkpoint.
    Misplaced,
    Barred,
    /// Files only.
    NoMetadata,
}

impl Shape {
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::Damaged,
        Self::FileMissing,
        Self::FileShort,
        Self::Misplaced,
        Self::Barred,
        Self::NoMetadata,
    ];

    /// Is there metadata that isn't what it must be, or that names what isn't there?
    pub fn is_broken(self) -> bool {
        matches!(self, Self::Damaged | Self::FileMissing | Self::FileShort | Self::Misplaced)
    }
}

/// A store with a job's directory.
pub struct Shelf {
    pub objects: Arc<dyn ObjectStore>,
    pub stores: Stores,
}

impl Shelf {
    pub fn over(objects: Arc<dyn ObjectStore>) -> Self {
        let stores = Stores::new().with_store(&runs::path("memory:/"), objects.clone());
        Self { objects, stores }
    }

    pub fn new() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()))
    }

    pub fn job(&self) -> FlinkPath {
        runs::path(&format!("memory:/{}", synthetic::JOB))
    }

    pub async fn put(&self, below: &str, bytes: impl Into<Bytes>) {
        self.put_beside(&format!("{}/{below}", synthetic::JOB), bytes).await;
    }

    /// Not in the job's directory.
    pub async fn put_beside(&self, key: &str, bytes: impl Into<Bytes>) {
        self.objects.put(&Key::from(key), PutPayload::from(bytes.into())).await.unwrap();
    }

    pub async fn delete(&self, below: &str) {
        self.objects.delete(&Key::from(format!("{}/{below}", synthetic::JOB))).await.unwrap();
    }

    /// A checkpoint with a file of its own; of stock Flink where it has no epoch.
    pub async fn checkpoint(&self, id: u64, epoch: Option<u64>, shape: Shape) {
        let file = format!("chk-{id}/state");
        if shape != Shape::FileMissing {
            let length = FILE_BYTES - usize::from(shape == Shape::FileShort);
            self.put(&file, vec![7; length]).await;
        }
        let named = format!("memory:/{}/{file}", synthetic::JOB);
        let written = if shape == Shape::Misplaced { id + 1000 } else { id };
        let mut bytes = metadata(written, epoch, &[(named, FILE_BYTES as u64)]).to_vec();
        if shape == Shape::Damaged {
            // The version, which stock Flink's has no checksum for.
            bytes[5] ^= 0x40;
        }
        match shape {
            Shape::NoMetadata => {}
            Shape::Barred => self.put(&format!("chk-{id}/_metadata"), barred(CheckpointId(id), 9)).await,
            _ => self.put(&format!("chk-{id}/_metadata"), bytes).await,
        }
    }

    pub async fn log(&self, position: u64, entry: &LogEntry) {
        self.put(&format!("_drystone/{}", names::log_entry(position)), entry.to_bytes().unwrap()).await;
    }

    pub async fn latest(&self) -> drystone::Result<Latest> {
        latest(&self.stores, &self.job(), &ReadLimits::default()).await
    }
}

/// A checkpoint's metadata that names these files as wholes, with a trailer if it is of an epoch.
pub fn metadata(id: u64, epoch: Option<u64>, named: &[(String, u64)]) -> Bytes {
    let handles = named.iter().map(|(path, length)| synthetic::file(path, *length as i64)).collect();
    let mut metadata = synthetic::checkpoint(handles);
    metadata.checkpoint_id = CheckpointId(id);
    let encoded = encode(&metadata).unwrap();
    let Some(epoch) = epoch else { return encoded.bytes };
    let file = |(path, size): &(String, u64)| NamedFile { path: synthetic::text(path), size: *size, crc32c: None };
    Trailer::seal(&encoded, named.iter().map(file).collect(), epoch, synthetic::text("drystone test"))
}
