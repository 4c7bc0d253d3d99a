//! Which files a coordinator may delete, by where they lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use drystone::format::encode;
use drystone::handle::{FileHandle, JavaString, StreamHandle};
use drystone::id::{CheckpointId, Scope};
use drystone::read::Checkpoint;
use live::{Live, settings};
use object_store::memory::InMemory;

/// A restarted job finds a checkpoint, such as Flink may have written, that names a file at `below`; then that is replaced.
async fn replaced(below: &str) -> BTreeMap<String, u64> {
    let mut live = Live::new(Arc::new(InMemory::new()), 1, settings()).await;
    let trigger = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let chunks = live.write(&trigger, 0, Scope::Shared, &[("a", b"own")]).await.unwrap();
    live.acknowledge(CheckpointId(1), 0, chunks).unwrap();
    let completed = live.coordinator.complete(CheckpointId(1)).await.unwrap();

    let file = live.directory.root().join(below).unwrap();
    file.create(vec![Bytes::from_static(b"state")]).await.unwrap();
    let mut metadata = Checkpoint::load(&live.stores, &completed.path).await.unwrap().decoded.metadata;
    metadata.checkpoint_id = CheckpointId(2);
    let path = JavaString::new(&file.name().to_string()).unwrap();
    metadata.visit_streams_mut(|_, handle| *handle = StreamHandle::File(FileHandle { path: path.clone(), size: 5 }));
    let directory = live.directory.checkpoint(CheckpointId(2)).unwrap();
    directory.join("_metadata").unwrap().create(vec![encode(&metadata).unwrap().bytes]).await.unwrap();

    live.restart().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(1), CheckpointId(2)]);
    live.round(&mut [BTreeMap::new()]).await.unwrap();
    live.coordinator.settle().await.unwrap();
    assert_eq!(live.coordinator.completed(), [CheckpointId(3)]);
    live.files().await
}

#[tokio::test]
async fn what_lies_in_the_jobs_own_directories_goes() {
    for below in ["shared/x", "chk-2/x", "shared/merged-by-flink/x"] {
        let files = replaced(below).await;
        assert!(!files.contains_key(below), "{files:?}");
    }
}

/// Of a checkpoint directory that jobs share, `execution.checkpointing.create-subdir=false`, only some is this job's.
#[tokio::test]
async fn what_tasks_own_or_another_job_stays() {
    for below in ["taskowned/x", "taskowned/merged-by-flink/x", "another-job/shared/x", "savepoint-1/x", "x"] {
        let files = replaced(below).await;
        assert!(files.contains_key(below), "{below}: {files:?}");
    }
}
