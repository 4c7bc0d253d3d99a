//! A file in parts, with each request failed in turn, cut, or its answer lost: it is there whole, or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/seeded.rs"]
mod seeded;

use std::sync::Arc;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::store::{FlinkPath, Location, Stores};
use object_store::memory::InMemory;

use fault_store::{Fault, FaultStore};
use seeded::bytes_of;

const LENGTH: usize = 18_000;
const PART_BYTES: u64 = 4096;
/// The start, five parts, the end.
const REQUESTS: usize = 7;

fn file(store: Arc<dyn object_store::ObjectStore>) -> Location {
    let stores = Stores::new().with_store(&FlinkPath::parse("s3://bucket/").unwrap(), store);
    stores.locate(&FlinkPath::parse("s3://bucket/dir/file").unwrap()).unwrap()
}

async fn write(file: &Location) -> drystone::Result<()> {
    let bytes = bytes_of(1, LENGTH);
    let chunks = (0..LENGTH).step_by(3_000).map(|from| bytes.slice(from..from + 3_000)).collect();
    file.create_own_in_parts(chunks, PART_BYTES).await
}

async fn there(objects: &Arc<InMemory>) -> Option<Bytes> {
    match file(objects.clone()).read_all(1 << 20).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn whichever_request_fails_it_is_there_whole_or_not_at_all() {
    for fault in [Fault::Before, Fault::After, Fault::Crash] {
        for number in 0..REQUESTS {
            let context = format!("{fault:?} at request {number}");
            let objects = Arc::new(InMemory::new());
            let store = FaultStore::new(objects.clone(), [(number, fault)]);
            let written = write(&file(Arc::new(store.clone()))).await;
            let is_end = number == REQUESTS - 1;
            match (fault, is_end) {
                // That it was there was found out.
                (Fault::After, true) => {
                    written.unwrap();
                    assert_eq!(there(&objects).await.unwrap(), bytes_of(1, LENGTH), "{context}");
                }
                _ => {
                    assert_eq!(written.unwrap_err().kind(), ErrorKind::Store, "{context}");
                    assert_eq!(there(&objects).await, None, "{context}");
                }
            }
            // Nobody knows of an upload whose start wasn't answered; a process that is gone can't abort.
            let is_left = fault == Fault::After && number == 0 || fault == Fault::Crash && number > 0;
            assert_eq!(store.uploads_open(), i64::from(is_left), "{context}: {:?}", store.operations());
        }
    }
}

#[tokio::test]
async fn without_faults_it_takes_two_requests_beside_the_parts() {
    let store = FaultStore::new(Arc::default(), []);
    write(&file(Arc::new(store.clone()))).await.unwrap();
    assert_eq!(store.operations().len(), REQUESTS, "{:?}", store.operations());
    assert_eq!(store.uploads_open(), 0);
}

/// Somebody else's bytes are never taken for one's own.
#[tokio::test]
async fn what_is_there_of_another_length_or_other_bytes_does_not_count() {
    for (length, seed) in [(LENGTH - 1, 1), (LENGTH + 1, 1), (LENGTH, 2)] {
        let objects = Arc::new(InMemory::new());
        file(objects.clone()).create(vec![bytes_of(seed, length)]).await.unwrap();
        let store = FaultStore::new(objects.clone(), [(REQUESTS - 1, Fault::Before)]);
        let error = write(&file(Arc::new(store.clone()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert_eq!(there(&objects).await.unwrap(), bytes_of(seed, length));
    }
}
