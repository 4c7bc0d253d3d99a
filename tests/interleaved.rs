//! Two runs to one place, with every way in which one can come in between the other's store operations: one commits, none
//! loses what it has reported, and nothing is left over.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only crashes are wanted here")]
#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/scheduled_store.rs"]
mod scheduled_store;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use drystone::format::encode;
use drystone::repack::Report;
use drystone::store::Stores;
use drystone::{ErrorKind, Result};
use fault_store::{Fault, FaultStore};
use futures::FutureExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use runs::Memory;
use scheduled_store::{Before, ScheduledStore};
use synthetic::{JOB, checkpoint, chunk, relative};

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Repack,
    Copy,
}

async fn source() -> Memory {
    let memory = Memory::new();
    for n in 0..2 {
        memory.put(&format!("{JOB}/chk-7/f{n}"), Bytes::from(chunk(30_000, n))).await;
    }
    let metadata = checkpoint((0..2).map(|n| relative(&format!("f{n}"), 30_000)).collect());
    memory.put(&format!("{JOB}/chk-7/_metadata"), encode(&metadata).unwrap().bytes).await;
    memory
}

async fn run(store: Arc<dyn ObjectStore>, how: How, number: u64) -> Result<Report> {
    let stores = Stores::new().with_store(&runs::path("memory:/"), store);
    let from = runs::path(&format!("memory:/{JOB}/chk-7"));
    let options = runs::options(number, runs::all_packed());
    match how {
        How::Repack => runs::repack(&stores, &from, "memory:/out", &options).await,
        How::Copy => runs::copy(&stores, &from, "memory:/out", &options).await,
    }
}

/// Runs to its end on a thread of its own, so that it can be done in the middle of another.
fn run_aside(store: Arc<dyn ObjectStore>, how: How, number: u64) -> Result<Report> {
    let run = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(store, how, number));
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// The checkpoint is there, sound, with not a file more than it names.
async fn assert_complete(memory: &Memory, what: &str) {
    let found = runs::check(&memory.stores, &runs::path(&format!("memory:/out/{JOB}/chk-7"))).await.unwrap();
    assert!(found.is_sound(), "{what}: {:?}", found.findings);
    let there = memory.contents("out").await;
    assert_eq!(there.len() as u64, found.counts.files + 1, "{what}: {:?}", there.keys());
}

/// Pauses a run before its operation `at`, lets `other` happen, goes on; `None` when it has no such operation.
async fn interrupt<T: Send + 'static>(
    objects: &Arc<InMemory>,
    how: How,
    at: usize,
    other: impl FnOnce() -> T + Send + 'static,
) -> Option<(Result<Report>, T)> {
    let (other, result) = (Arc::new(Mutex::new(Some(other))), Arc::new(Mutex::new(None)));
    let before: Before = {
        let (other, result) = (other.clone(), result.clone());
        Arc::new(move |number| {
            if number == at
                && let Some(other) = other.lock().unwrap().take()
            {
                *result.lock().unwrap() = Some(other());
            }
            std::future::ready(()).boxed()
        })
    };
    let done = run(Arc::new(ScheduledStore::new(objects.clone(), before)), how, 1).await;
    let result = result.lock().unwrap().take()?;
    Some((done, result))
}

async fn one_whole_run_within_another(how: How, with_leftovers: bool) {
    let before = source().await;
    if with_leftovers {
        for name in ["_drystone-unfinished-00000000000000ff", "f0-00000000000000ff"] {
            before.put(&format!("out/{JOB}/chk-7/{name}"), Bytes::from_static(b"left")).await;
        }
    }
    for at in 0.. {
        let objects: Arc<InMemory> = Arc::new(before.objects.fork());
        let other = objects.clone();
        let Some((first, second)) = interrupt(&objects, how, at, move || run_aside(other, how, 2)).await else {
            assert!(at > 8, "{at}");
            return;
        };
        let what = format!("{how:?}, leftovers {with_leftovers}, paused before {at}");
        assert!(second.is_ok(), "{what}: {second:?}");
        match &first {
            Ok(report) => assert!(report.already_complete || second.unwrap().already_complete, "{what}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{what}: {error}"),
        }
        assert_complete(&Memory::over(objects), &what).await;
    }
}

#[tokio::test]
async fn a_run_that_pauses_anywhere_leaves_the_result_of_one_that_comes_in_between() {
    for how in [How::Repack, How::Copy] {
        for with_leftovers in [false, true] {
            one_whole_run_within_another(how, with_leftovers).await;
        }
    }
}

#[tokio::test]
async fn a_run_that_pauses_anywhere_gets_along_with_one_that_crashes_in_between() {
    for how in [How::Repack, How::Copy] {
        let before = source().await;
        let clean = FaultStore::new(Arc::new(before.objects.fork()), []);
        run(Arc::new(clean.clone()), how, 2).await.unwrap();
        for crash in 0..clean.operations().len() {
            for at in (0..).step_by(3) {
                let objects: Arc<InMemory> = Arc::new(before.objects.fork());
                let crashing = FaultStore::new(objects.clone(), [(crash, Fault::Crash)]);
                let Some((first, second)) =
                    interrupt(&objects, how, at, move || run_aside(Arc::new(crashing), how, 2)).await
                else {
                    break;
                };
                let what = format!("{how:?} paused before {at}, the other crashed at {crash}: {first:?}, {second:?}");
                let memory = Memory::over(objects.clone());
                let metadata = format!("out/{JOB}/chk-7/_metadata");
                let is_committed = memory.contents("out").await.contains_key(&metadata);
                assert!(is_committed || (first.is_err() && second.is_err()), "{what}");
                let third = run(objects, how, 3).await;
                assert!(third.is_ok() || is_committed && third.unwrap_err().kind() == ErrorKind::Conflict, "{what}");
                assert_complete(&memory, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn of_two_runs_in_any_mixture_one_commits() {
    let before = source().await;
    for seed in 1..150_u64 {
        for how in [How::Repack, How::Copy] {
            let objects: Arc<InMemory> = Arc::new(before.objects.fork());
            let mixed = |number: u64| {
                let state = Arc::new(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 40) | 1));
                let before: Before = Arc::new(move |_| {
                    let mut random = state.load(Ordering::SeqCst);
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    state.store(random, Ordering::SeqCst);
                    let left = Arc::new(AtomicUsize::new(random as usize % 8));
                    async move {
                        while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                            tokio::task::yield_now().await;
                        }
                    }
                    .boxed()
                });
                run(Arc::new(ScheduledStore::new(objects.clone(), before)), how, number)
            };
            let (one, other) = tokio::join!(mixed(1), mixed(2));
            assert!(one.is_ok() || other.is_ok(), "{how:?} {seed}: {one:?} {other:?}");
            assert_complete(&Memory::over(objects.clone()), &format!("{how:?} {seed}: {one:?} {other:?}")).await;
        }
    }
}
