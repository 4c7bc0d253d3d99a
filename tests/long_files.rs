//! Files so long that they are sent in parts: every operation fails in turn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use drystone::Result;
use drystone::format::encode;
use drystone::repack::Report;
use drystone::store::Stores;
use drystone::write::WriteSettings;
use fault_store::{Fault, FaultStore};
use object_store::memory::InMemory;
use runs::Memory;
use synthetic::{JOB, checkpoint, chunk, contents, relative};

/// More than a part, and more than the cap.
const LONG: usize = 10 << 20;

async fn source(long: usize) -> Memory {
    let memory = Memory::new();
    memory.put(&format!("{JOB}/chk-7/long"), Bytes::from(chunk(long, 1))).await;
    memory.put(&format!("{JOB}/chk-7/short"), Bytes::from(chunk(30_000, 2))).await;
    let metadata = checkpoint(vec![relative("long", long as i64), relative("short", 30_000)]);
    memory.put(&format!("{JOB}/chk-7/_metadata"), encode(&metadata).unwrap().bytes).await;
    memory
}

async fn run(store: &FaultStore, is_repack: bool, number: u64) -> Result<Report> {
    let stores = Stores::new().with_store(&runs::path("memory:/"), Arc::new(store.clone()));
    let from = runs::path(&format!("memory:/{JOB}/chk-7"));
    let write = WriteSettings { file_bytes_max: 1 << 20, ..runs::all_packed() };
    let mut options = runs::options(number, write);
    options.read.range_bytes_max = 4 << 20;
    match is_repack {
        true => runs::repack(&stores, &from, "memory:/out", &options).await,
        false => runs::copy(&stores, &from, "memory:/out", &options).await,
    }
}

async fn assert_complete(memory: &Memory, report: &Report) {
    assert!(runs::check(&memory.stores, &report.destination).await.unwrap().is_sound());
    let from = runs::path(&format!("memory:/{JOB}/chk-7"));
    assert!(contents(&memory.stores, &report.destination).await == contents(&memory.stores, &from).await);
    assert_eq!(memory.contents("out").await.len() as u64, report.after.files + 1);
}

async fn fail_and_crash_everywhere(is_repack: bool) {
    let before = source(LONG).await;
    let attempt = async |faults: &[(usize, Fault)]| {
        let objects: Arc<InMemory> = Arc::new(before.objects.fork());
        let store = FaultStore::new(objects.clone(), faults.iter().copied());
        (run(&store, is_repack, 1).await, store, Memory::over(objects))
    };
    let (clean, store, memory) = attempt(&[]).await;
    assert_complete(&memory, &clean.unwrap()).await;
    let operations = store.operations();
    assert!(operations.iter().filter(|o| o.starts_with("part")).count() == 2, "{operations:?}");
    for (number, operation) in operations.iter().enumerate() {
        for fault in [Fault::Before, Fault::After] {
            let (done, store, memory) = attempt(&[(number, fault)]).await;
            let what = format!("{fault:?} {number}: {operation}");
            match done {
                Ok(report) => assert_complete(&memory, &report).await,
                Err(error) if error.to_string().contains("so nothing was removed") => {
                    // Only where the store can't say, after the commit, whether the directory is still this run's.
                    assert!(operation.contains("_drystone-unfinished"), "{what}: {error}");
                    let again = run(&FaultStore::new(memory.objects.clone(), []), is_repack, 2).await;
                    assert_complete(&memory, &again.unwrap()).await;
                }
                Err(error) => assert_eq!(memory.contents("out").await, BTreeMap::new(), "{what}: {error}"),
            }
            // Of an upload whose start was answered by an error nobody knows the name.
            assert!(store.uploads_open() == 0 || operation.starts_with("start"), "{what}");
        }
        let (done, _, memory) = attempt(&[(number, Fault::Crash)]).await;
        assert!(done.is_err(), "{number}: {operation}");
        let again = run(&FaultStore::new(memory.objects.clone(), []), is_repack, 2).await;
        assert_complete(&memory, &again.unwrap()).await;
    }
}

#[tokio::test]
async fn repacking_a_long_file_survives_each_failure() {
    fail_and_crash_everywhere(true).await;
}

#[tokio::test]
async fn copying_a_long_file_survives_each_failure() {
    fail_and_crash_everywhere(false).await;
}

#[tokio::test]
async fn an_upload_that_fails_while_it_is_written_to_is_aborted() {
    // More parts than are on their way at a time, so that the failure shows before the end.
    let before = source(50 << 20).await;
    for is_repack in [true, false] {
        let attempt = async |faults: &[(usize, Fault)]| {
            let store = FaultStore::new(Arc::new(before.objects.fork()), faults.iter().copied());
            (run(&store, is_repack, 1).await, store)
        };
        let parts = attempt(&[]).await.1.operations();
        let parts: Vec<usize> = (0..parts.len()).filter(|&n| parts[n].starts_with("part")).collect();
        assert_eq!(parts.len(), 7);
        for number in [parts[0], parts[3], parts[6]] {
            let (done, store) = attempt(&[(number, Fault::Before)]).await;
            assert!(done.is_err());
            assert_eq!(store.uploads_open(), 0, "{is_repack} {number}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_full_before_an_upload_ends_is_left_empty() {
    let before = source(LONG).await;
    for is_repack in [true, false] {
        for room in [1000, 8 << 20, (LONG as u64) - 1] {
            let objects = Arc::new(before.objects.fork());
            let store = FaultStore::new(objects.clone(), []).with_room(room);
            let line = run(&store, is_repack, 1).await.unwrap_err().one_line();
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
            assert!(line.contains(&full), "{line}");
            assert_eq!(Memory::over(objects).contents("out").await, BTreeMap::new());
            assert_eq!(store.uploads_open(), 0);
        }
    }
}
