//! A checkpoint and its restore on a store that takes as long as S3 does, against an object per chunk. By virtual time: it
//! is that of the requests, and the same in every run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(clippy::disallowed_methods, reason = "the benches' job, which takes times that aren't looked at here")]
#[path = "../benches/support/job.rs"]
mod job;
#[path = "support/s3_model.rs"]
mod s3_model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drystone::store::{FlinkPath, Stores};
use futures::StreamExt;
use object_store::{ObjectStoreExt, path::Path};
use tokio::time::Instant;

use job::{Job, Packing};
use s3_model::{Asked, S3, S3Model};

const CHUNKS: usize = 2048;
const CHUNK_BYTES: usize = 64 << 10;
/// The rival's requests under way at once, and the tasks that restore at once.
const IN_FLIGHT: usize = 16;

/// How long it took, and what it asked for.
#[derive(Clone, Copy, Debug)]
struct Cost {
    time: Duration,
    asked: Asked,
}

struct Clock<'a> {
    store: &'a S3Model,
    started: Instant,
}

impl<'a> Clock<'a> {
    fn start(store: &'a S3Model) -> Self {
        store.take_asked();
        Self { store, started: Instant::now() }
    }

    fn stop(self) -> Cost {
        Cost { time: self.started.elapsed(), asked: self.store.take_asked() }
    }
}

/// An object for each chunk: its writing and its reading. It writes no metadata.
async fn an_object_per_chunk() -> (Cost, Cost) {
    let store = S3Model::new(S3);
    let path = |chunk| Path::from(format!("checkpoints/{chunk:06}"));
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let clock = Clock::start(&store);
    let puts = futures::stream::iter(0..CHUNKS).map(|number| {
        let (store, chunk) = (store.clone(), chunk.clone());
        async move { store.put(&path(number), chunk.into()).await.unwrap() }
    });
    assert_eq!(puts.buffer_unordered(IN_FLIGHT).count().await, CHUNKS);
    let written = clock.stop();
    let clock = Clock::start(&store);
    let gets = futures::stream::iter(0..CHUNKS).map(|number| {
        let store = store.clone();
        async move { store.get(&path(number)).await.unwrap().bytes().await.unwrap().len() }
    });
    let read: usize = gets.buffer_unordered(IN_FLIGHT).fold(0, |sum, length| async move { sum + length }).await;
    assert_eq!(read, CHUNKS * CHUNK_BYTES);
    (written, clock.stop())
}

/// From the trigger to the end of the commit; then a worker reads the state of all tasks, from the metadata on.
async fn packed() -> (Cost, Cost) {
    let store = S3Model::new(S3);
    let stores = Stores::new().with_store(&FlinkPath::parse("s3://bucket/").unwrap(), Arc::new(store.clone()));
    let packing = Packing { segments: CHUNKS, segment_bytes: CHUNK_BYTES, file_bytes_max: 32 << 20 };
    let mut job = Job::new(stores, "s3://bucket/checkpoints", packing).await;
    let clock = Clock::start(&store);
    let (_, completed) = job.checkpoint().await;
    let written = clock.stop();
    let clock = Clock::start(&store);
    let restore = job.storage.restore(&completed.path).await.unwrap();
    let read = job::read_all(&restore, 1).await;
    assert_eq!(read, CHUNKS * CHUNK_BYTES);
    (written, clock.stop())
}

fn ratio(rival: Duration, ours: Duration) -> f64 {
    rival.as_secs_f64() / ours.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_takes_a_tenth_of_the_time_and_a_thirtieth_of_the_requests() {
    let ((rival, rival_read), (ours, ours_read)) = (an_object_per_chunk().await, packed().await);
    println!(
        "S3 model, {CHUNKS} chunks of {CHUNK_BYTES} bytes: checkpoint {:?} and {:?} against {:?} and {:?}",
        ours.time, ours.asked, rival.time, rival.asked
    );
    println!(
        "S3 model: restore {:?} and {:?} against {:?} and {:?}",
        ours_read.time, ours_read.asked, rival_read.time, rival_read.asked
    );
    assert!(ratio(rival.time, ours.time) >= 10.0, "{ours:?} against {rival:?}");
    assert!(ours.asked.writes * 30 <= rival.asked.writes, "{ours:?} against {rival:?}");
    assert!(ratio(rival_read.time, ours_read.time) >= 8.0, "{ours_read:?} against {rival_read:?}");
}
