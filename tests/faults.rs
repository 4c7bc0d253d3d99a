//! A store that fails at every operation in turn: a run either succeeds or leaves nothing, and after a crash the next
//! run does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/runs.rs"]
mod runs;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use drystone::read::{Checkpoint, ReadLimits, State};
use drystone::repack::Report;
use drystone::store::FlinkPath;
use drystone::write::WriteSettings;
use drystone::{Error, ErrorKind, Result};
use fault_store::{Fault, FaultStore};
use object_store::memory::InMemory;
use runs::Memory;

#[derive(Clone, Copy)]
enum How {
    Repack,
    Copy,
}

/// A run from `memory:/flink` to `memory:/result`, to be repeated.
struct Case {
    how: How,
    from: FlinkPath,
    /// The store before the run; each run has its own copy.
    before: Memory,
    source: BTreeMap<String, Bytes>,
    read: ReadLimits,
}

/// What a run did to its store.
struct Outcome {
    done: Result<Report>,
    store: FaultStore,
    objects: Arc<InMemory>,
}

impl Case {
    async fn of(how: How, fixture: &str) -> Self {
        let before = Memory::with_flink(fixture).await;
        let source = before.contents("flink").await;
        // Small reads and files, so that there are many operations.
        let read = ReadLimits { range_bytes_max: 64 << 10, ..ReadLimits::default() };
        Self { how, from: runs::path(&format!("memory:/flink/{fixture}")), before, source, read }
    }

    async fn run(&self, objects: Arc<InMemory>, number: u64, store: FaultStore) -> Outcome {
        let stores = self.before.stores.clone().with_store(&runs::path("memory:/"), Arc::new(store.clone()));
        let write = WriteSettings { file_bytes_max: 96 << 10, inline_bytes_max: 1 << 10, ..WriteSettings::default() };
        let mut options = runs::options(number, write);
        options.read = self.read;
        let done = match self.how {
            How::Repack => runs::repack(&stores, &self.from, "memory:/result", &options).await,
            How::Copy => runs::copy(&stores, &self.from, "memory:/result", &options).await,
        };
        let outcome = Outcome { done, store, objects };
        assert_eq!(outcome.memory().contents("flink").await, self.source);
        outcome
    }

    async fn run_with(&self, faults: impl IntoIterator<Item = (usize, Fault)>) -> Outcome {
        let objects = Arc::new(self.before.objects.fork());
        let store = FaultStore::new(objects.clone(), faults);
        self.run(objects, 1, store).await
    }

    async fn operations(&self) -> usize {
        let clean = self.run_with([]).await;
        assert_complete(&clean.memory(), &clean.done.as_ref().unwrap().destination).await;
        clean.store.operations().len()
    }

    /// After a crash: runs again, with a store that is well.
    async fn run_again(&self, crashed: &Outcome, what: &str) {
        let left = crashed.memory().contents("result").await;
        let store = FaultStore::new(crashed.objects.clone(), []);
        let again = self.run(crashed.objects.clone(), 2, store).await;
        let error = crashed.done.as_ref().err().map(Error::to_string).unwrap_or_default();
        if error.contains("is complete") && !left.keys().any(|key| key.contains("/_drystone-unfinished-")) {
            assert_eq!(again.done.as_ref().unwrap_err().kind(), ErrorKind::Conflict, "{what}");
            let metadata = left.keys().find(|key| key.ends_with("/_metadata")).unwrap();
            let destination = runs::path(&format!("memory:/{metadata}")).parent().unwrap();
            return assert_complete(&again.memory(), &destination).await;
        }
        let report = again.done.as_ref().unwrap_or_else(|e| panic!("{what}: {} after {:?}", e.one_line(), left.keys()));
        let is_committed = left.keys().any(|key| key.ends_with("/_metadata"));
        let marker = left.keys().filter(|key| key.contains("/_drystone-unfinished-")).count();
        assert_eq!(report.already_complete, is_committed, "{what}");
        assert_eq!(
            report.leftovers_removed,
            if is_committed { 0 } else { left.len() - marker },
            "{what}: {:?}",
            left.keys()
        );
        assert_complete(&again.memory(), &report.destination).await;
    }
}

impl Outcome {
    /// The store without its faults.
    fn memory(&self) -> Memory {
        Memory::over(self.objects.clone())
    }

    /// Succeeded or left nothing, unless it says so.
    async fn assert_all_or_nothing(&self, what: &str) {
        match &self.done {
            Ok(report) => assert_complete(&self.memory(), &report.destination).await,
            Err(error) => {
                let left = self.memory().contents("result").await;
                assert!(left.is_empty() || says_what_is_left(error), "{what}: {error} left {:?}", left.keys());
            }
        }
    }
}

fn says_what_is_left(error: &Error) -> bool {
    ["could not be cleaned up", "so nothing was removed"].iter().any(|words| error.to_string().contains(words))
}

/// Sound, and not a file more than it names.
async fn assert_complete(memory: &Memory, destination: &FlinkPath) {
    let found = runs::check(&memory.stores, destination).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.findings);
    assert!(found.counts.trailer && found.counts.streams > 0);
    let checkpoint = Checkpoint::load(&memory.stores, destination).await.unwrap();
    let state = State::of(&memory.stores, &checkpoint).await.unwrap();
    let mut named: Vec<_> = state.files.iter().map(|f| f.name.path()[1..].to_owned()).collect();
    named.push(format!("{}/_metadata", &destination.path()[1..]));
    named.sort();
    let there: Vec<_> = memory.contents("result").await.into_keys().collect();
    assert_eq!(there, named);
}

async fn fail_everywhere(case: Case) {
    for number in 0..case.operations().await {
        for fault in [Fault::Before, Fault::After] {
            let outcome = case.run_with([(number, fault)]).await;
            let operation = outcome.store.operations()[number].clone();
            let what = format!("{fault:?} {number}: {operation}");
            outcome.assert_all_or_nothing(&what).await;
            if !operation.starts_with("abort") && !operation.starts_with("start") {
                assert_eq!(outcome.store.uploads_open(), 0, "{what}");
            }
        }
    }
}

async fn crash_everywhere(case: Case) {
    for number in 0..case.operations().await {
        let crashed = case.run_with([(number, Fault::Crash)]).await;
        let what = format!("crash at {number}: {}", crashed.store.operations()[number]);
        assert!(crashed.done.is_err(), "{what}");
        case.run_again(&crashed, &what).await;
    }
}

/// Fails at each operation, then crashes at each one of the clean-up.
async fn crash_in_every_cleanup(case: Case) {
    let operations = case.operations().await;
    for number in (0..operations).filter(|n| n % 3 == 0 || n + 6 > operations) {
        for fault in [Fault::Before, Fault::After] {
            let failed = case.run_with([(number, fault)]).await.store.operations().len();
            for crash in number + 1..failed {
                let crashed = case.run_with([(number, fault), (crash, Fault::Crash)]).await;
                let named = crashed.store.operations();
                let what = format!("{fault:?} {number}: {}, crash at {crash}: {}", named[number], named[crash]);
                case.run_again(&crashed, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn repacking_hashmap_state_survives_each_failure() {
    fail_everywhere(Case::of(How::Repack, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn repacking_rocksdb_state_survives_each_failure() {
    fail_everywhere(Case::of(How::Repack, runs::ACROSS).await).await;
}

#[tokio::test]
async fn copying_hashmap_state_survives_each_failure() {
    fail_everywhere(Case::of(How::Copy, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn copying_rocksdb_state_survives_each_failure() {
    fail_everywhere(Case::of(How::Copy, runs::ACROSS).await).await;
}

#[tokio::test]
async fn repacking_hashmap_state_survives_each_crash() {
    crash_everywhere(Case::of(How::Repack, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn repacking_rocksdb_state_survives_each_crash() {
    crash_everywhere(Case::of(How::Repack, runs::ACROSS).await).await;
}

#[tokio::test]
async fn copying_hashmap_state_survives_each_crash() {
    crash_everywhere(Case::of(How::Copy, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn copying_rocksdb_state_survives_each_crash() {
    crash_everywhere(Case::of(How::Copy, runs::ACROSS).await).await;
}

#[tokio::test]
async fn repacking_survives_crashes_while_cleaning_up() {
    crash_in_every_cleanup(Case::of(How::Repack, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn copying_survives_crashes_while_cleaning_up() {
    crash_in_every_cleanup(Case::of(How::Copy, runs::HASHMAP).await).await;
}

#[tokio::test]
async fn a_full_store_is_named_and_left_empty() {
    for (how, fixture) in [(How::Repack, runs::HASHMAP), (How::Copy, runs::HASHMAP), (How::Repack, runs::ACROSS)] {
        let case = Case::of(how, fixture).await;
        let (mut room, mut refused) = (0, 0);
        loop {
            let objects = Arc::new(case.before.objects.fork());
            let store = FaultStore::new(objects.clone(), []).with_room(room);
            let outcome = case.run(objects, 1, store).await;
            let Err(error) = &outcome.done else { break };
            assert_eq!(error.kind(), ErrorKind::Store);
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
            assert!(error.one_line().contains(&full), "{}", error.one_line());
            assert_eq!(outcome.memory().contents("result").await, BTreeMap::new());
            (room, refused) = (room + 5_003, refused + 1);
        }
        assert!(refused > 5, "{refused}");
    }
}
