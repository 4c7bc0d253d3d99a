//! Numbers that come from names and files of the store, at the last value there is: there is no next one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;

use std::sync::Arc;

use bytes::Bytes;
use drystone::coordinator::CoordinatorSettings;
use drystone::format::{LogEntry, Step, barred};
use drystone::id::{CheckpointId, FileToken};
use drystone::store::names;
use drystone::{Error, ErrorKind};
use live::{Live, settings, unfenced};
use object_store::memory::InMemory;

/// What the next coordinator says when somebody has left a file in the job's directory.
async fn recovered(settings: CoordinatorSettings, file: &str, bytes: Bytes) -> (Live, Result<(), Error>) {
    let mut live = Live::new(Arc::new(InMemory::new()), 1, settings).await;
    live.directory.root().join(file).unwrap().create(vec![bytes]).await.unwrap();
    let done = live.restart().await;
    (live, done)
}

fn entry(epoch: u64) -> Bytes {
    let (step, coordinator, next) = (Step::Claim, FileToken(9), CheckpointId(1));
    LogEntry { epoch, coordinator, step, open: vec![], kept: None, retained: 1, next }.to_bytes().unwrap()
}

#[tokio::test]
async fn after_the_last_epoch_there_is_no_coordinator() {
    let file = "shared/ds1-a18446744073709551615-ww-c1-n0-0123456789abcdef";
    let (_, done) = recovered(unfenced(), file, Bytes::new()).await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Damaged);
    for (position, epoch) in [(2, u64::MAX), (u64::MAX, 2)] {
        let file = format!("{}/{}", names::FENCE, names::log_entry(position));
        let (_, done) = recovered(settings(), &file, entry(epoch)).await;
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Damaged, "{file}");
    }
}

#[tokio::test]
async fn after_the_last_checkpoint_none_is_triggered() {
    let last = CheckpointId(u64::MAX);
    let file = format!("chk-{last}/{}", names::METADATA);
    let (live, done) = recovered(settings(), &file, barred(last, 1)).await;
    // Barred, it was never completed.
    done.unwrap();
    live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();

    let (open, coordinator, next) = (vec![last], FileToken(9), CheckpointId(1));
    let entry = LogEntry { epoch: 2, coordinator, step: Step::Claim, open, kept: None, retained: 1, next };
    let file = format!("{}/{}", names::FENCE, names::log_entry(2));
    let (live, done) = recovered(settings(), &file, entry.to_bytes().unwrap()).await;
    done.unwrap();
    let error = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
