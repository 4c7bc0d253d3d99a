//! The chaotic store does what the simulation counts on: what fails may land, what is listed is half seen, what is dead
//! does nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, unused_imports, reason = "the simulation uses the rest")]

#[path = "support/chaos_store.rs"]
mod chaos_store;

use std::sync::Arc;
use std::time::Duration;

use chaos_store::{Chaos, Weather};
use drystone::ErrorKind;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::time::{sleep, timeout};

const SLOW: Weather =
    Weather { before: 0, after: 0, late: 0, broken: 0, flipped: 0, late_ms_max: 1_000, slow_ms_max: 10_000 };

fn chaos(weather: Weather) -> Chaos {
    Chaos::new(1, weather, Arc::new(|_| ()))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test);
}

#[test]
fn a_put_that_fails_late_lands_later() {
    run(async {
        let chaos = chaos(Weather { late: 1000, ..SLOW });
        let client = chaos.client("c");
        assert!(client.put(&Path::from("a"), PutPayload::from("1")).await.is_err());
        client.heal();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(client.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "1");
    });
}

#[test]
fn of_puts_that_nobody_waits_for_some_land() {
    run(async {
        let chaos = chaos(SLOW);
        let client = chaos.client("c");
        for number in 0..200 {
            let key = Path::from(format!("{number:03}"));
            let _ = timeout(Duration::from_millis(1), client.put(&key, PutPayload::from("1"))).await;
        }
        sleep(Duration::from_secs(20)).await;
        let (landed, counts) = (chaos.objects().len() as u64, chaos.counts());
        assert!(landed < 200 && counts["cut"] > 0 && counts["vanished"] > 0, "{landed} {counts:?}");
        assert_eq!(landed + counts["vanished"], 200);
    });
}

#[test]
fn a_dead_process_does_nothing_and_a_stalled_one_goes_on() {
    run(async {
        let chaos = chaos(SLOW);
        let (dies, stalls) = (chaos.client("d"), chaos.client("s"));
        dies.crash_in(0);
        let put = |client: chaos_store::Client, key: &'static str| async move {
            client.put(&Path::from(key), PutPayload::from("1")).await
        };
        assert!(timeout(Duration::from_secs(3600), put(dies.clone(), "a")).await.is_err());
        assert!(timeout(Duration::from_secs(3600), put(dies, "b")).await.is_err());
        assert!(!chaos.objects().contains_key("b"));
        stalls.stall(60_000);
        assert!(timeout(Duration::from_secs(59), put(stalls.clone(), "c")).await.is_err());
        assert!(put(stalls, "d").await.is_ok());
    });
}

#[test]
fn a_listing_has_all_that_was_there_and_some_of_what_comes() {
    run(async {
        let chaos = chaos(SLOW);
        let (lists, writes) = (chaos.client("l"), chaos.client("w"));
        for number in 0..100 {
            writes.put(&Path::from(format!("x/{number:03}")), PutPayload::from("1")).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut listing = lists.list(Some(&Path::from("x")));
        while let Some(meta) = listing.next().await.transpose().unwrap() {
            seen.push(meta.location.to_string());
            if seen.len() == 50 {
                writes.put(&Path::from("x/000a"), PutPayload::from("1")).await.unwrap();
                writes.put(&Path::from("x/099a"), PutPayload::from("1")).await.unwrap();
            }
        }
        assert_eq!(seen.len(), 101, "only what comes behind is seen");
        let after: Vec<_> = lists.list(Some(&Path::from("x"))).try_collect().await.unwrap();
        assert_eq!(after.len(), 102);
    });
}

#[test]
fn conditions_count_unless_they_are_ignored() {
    run(async {
        let chaos = chaos(SLOW);
        let client = chaos.client("c");
        let create = || client.put_opts(&JOB_KEY, PutPayload::from("1"), PutMode::Create.into());
        assert!(create().await.is_ok() && create().await.is_err());
        let root = FlinkPath::parse("memory:/checkpoints").unwrap();
        let stores = Stores::new().with_store(&root, Arc::new(client.clone()));
        let directory = JobDirectory::at(stores.locate(&root).unwrap()).unwrap();
        let tokens = || 7;
        let tried = directory.root().try_create_only(1, &tokens).await.unwrap();
        assert_eq!(tried, drystone::store::CreateOnly::Honoured);
        chaos.ignore_conditions();
        assert!(create().await.is_ok());
        let tried = directory.root().try_create_only(1, &tokens).await.unwrap();
        assert_eq!(tried, drystone::store::CreateOnly::Ignored);
        let missing = directory.root().join("none").unwrap().size().await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    });
}

static JOB_KEY: std::sync::LazyLock<Path> = std::sync::LazyLock::new(|| Path::from("a"));
