//! A worker in memory, and what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::protocol::Trigger;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Snapshot, Worker, WorkerSettings};
use drystone::write::{WriteSettings, Written};

use super::watched_store::{Watch, WatchedStore};

/// Of the coordinator.
pub const EPOCH: u64 = 3;

pub struct Working {
    pub worker: Worker,
    pub directory: JobDirectory,
    pub watch: Arc<Watch>,
}

impl Working {
    pub fn new(settings: WorkerSettings) -> Self {
        let watch = Arc::new(Watch::default());
        let root = FlinkPath::parse("memory://job/").unwrap();
        let stores = Stores::new().with_store(&root, Arc::new(WatchedStore::new(watch.clone())));
        let directory = JobDirectory::at(stores.locate(&FlinkPath::parse("memory://job/a/task_0_1").unwrap()).unwrap());
        let directory = directory.unwrap();
        let next = AtomicU64::new(1);
        let tokens = Arc::new(move || next.fetch_add(1, SeqCst));
        Self { worker: Worker::new(directory.clone(), "worker-1", settings, tokens), directory, watch }
    }

    /// All files below the job, and their lengths.
    pub async fn files(&self) -> BTreeMap<String, u64> {
        let listed = self.directory.root().list().await.unwrap();
        listed.into_iter().map(|file| (file.path.to_string(), file.size)).collect()
    }

    /// The bytes that a handle points to.
    pub async fn read(&self, handle: &StreamHandle) -> Bytes {
        let segment = match handle {
            StreamHandle::Inline(inline) => return inline.bytes.clone(),
            StreamHandle::Segment(segment) => segment,
            other => panic!("{other:?}"),
        };
        let path = FlinkPath::parse(&segment.path.to_text()).unwrap();
        let below = path.relative_to(self.directory.root().name()).unwrap();
        let file = self.directory.root().join(below).unwrap();
        let bytes = file.read_all(u64::MAX).await.unwrap();
        bytes.slice(segment.offset as usize..(segment.offset + segment.size) as usize)
    }

    /// Waits until no task can go on.
    pub async fn until_nothing_moves() {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
}

/// Everything goes into files.
pub fn packed() -> WorkerSettings {
    let settings = WorkerSettings::default();
    WorkerSettings { write: WriteSettings { inline_bytes_max: 0, ..settings.write }, ..settings }
}

pub fn subtask(index: u32) -> Subtask {
    Subtask { operator: OperatorId([7; 16]), index, parallelism: 64 }
}

pub fn trigger(checkpoint: u64) -> Trigger {
    Trigger::new(EPOCH, CheckpointId(checkpoint))
}

/// Writes one segment.
pub async fn write(snapshot: &Snapshot, scope: Scope, bytes: Bytes) -> drystone::Result<Written> {
    let mut writer = snapshot.segment(scope, None);
    writer.write(bytes).await?;
    writer.finish().await
}
