//! Flink's weaknesses in winning space back, in figures and in deletes, by their numbers in the specification: none of
//! them is here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/rule_store.rs"]
mod rule_store;
#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use drystone::ErrorKind;
use drystone::config::Retention;
use drystone::coordinator::{CoordinatorSettings, JobEnd};
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::Reason;
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::WriteSettings;
use live::settings;
use rule_store::Act;
use site::{Database, Site, bytes_of, packed, write};

const HANGS: Duration = Duration::from_secs(3600);

fn bounded(amplification: f64, floor_bytes: u64) -> CoordinatorSettings {
    let mut settings = settings();
    settings.ledger.space.amplification_max = Some(amplification);
    settings.ledger.space.floor_bytes = floor_bytes;
    settings
}

fn put(database: &mut Database, name: &str, length: usize) {
    let seed = name.bytes().fold(length as u64, |seed, byte| seed * 31 + u64::from(byte));
    database.shared.insert(name.to_owned(), (bytes_of(seed, length), None));
}

#[tokio::test(start_paused = true)]
async fn weakness_05_equally_wasteful_files_are_all_considered() {
    let site = Site::new(1, bounded(2.0, 0), packed()).await;
    let mut databases = [Database::default()];
    // Six files that have the same: one chunk that stays, and four that go.
    for file in 0..6 {
        for chunk in 0..5 {
            put(&mut databases[0], &format!("{file}-{chunk}"), 10_000);
        }
        site.checkpoint(&mut databases).await.unwrap();
    }
    databases[0].shared.retain(|name, _| name.ends_with("-0"));
    put(&mut databases[0], "x", 100);
    site.checkpoint(&mut databases).await.unwrap();
    let plan = site.live.coordinator.plan();
    assert!(plan.files.len() >= 4, "six have equal waste: {plan:?}");
    assert!(plan.files.values().all(|&reason| reason == Reason::Waste));
    site.checkpoint(&mut databases).await.unwrap();
    assert_eq!(databases[0].rewritten, plan.files.len());
    let space = site.live.coordinator.space();
    assert!(space.file_bytes <= 2 * space.segment_bytes, "{space:?}");
}

#[tokio::test(start_paused = true)]
async fn weakness_06_a_little_kept_of_much_dropped_stays_within_the_bound() {
    for scope in [Scope::Shared, Scope::Exclusive] {
        let floor = 64 << 10;
        let site = Site::new(1, bounded(2.0, floor), packed()).await;
        let mut databases = [Database::default()];
        let mut worst: f64 = 0.0;
        for round in 0..60 {
            let database = &mut databases[0];
            database.shared.remove("dropped");
            database.private.clear();
            match scope {
                Scope::Shared => put(database, "dropped", 1 << 20),
                Scope::Exclusive => drop(database.private.insert("dropped".into(), bytes_of(round, 1 << 20))),
            }
            put(database, &format!("kept-{round}"), 1 << 10);
            site.checkpoint(&mut databases).await.unwrap();
            let space = site.live.coordinator.space();
            let bound = (2 * space.segment_bytes).max(floor);
            assert!(space.file_bytes <= bound, "{scope:?}, round {round}: {space:?}");
            worst = worst.max(space.amplification());
            // What is on the disk is what is in the figures.
            site.live.coordinator.settle().await.unwrap();
            let on_disk: u64 = site.data_files().await.values().sum();
            assert_eq!(on_disk, space.file_bytes, "{scope:?}, round {round}");
        }
        // And a last one without the million, so that only what was kept is left to bound.
        databases[0].shared.remove("dropped");
        databases[0].private.clear();
        for _ in 0..2 {
            site.checkpoint(&mut databases).await.unwrap();
        }
        let space = site.live.coordinator.space();
        assert!(space.file_bytes <= (2 * space.segment_bytes).max(floor), "{scope:?}: {space:?}");
        assert_eq!(space.segments, 60);
        assert!(worst <= 2.0, "{scope:?}: {worst}");
    }
}

#[tokio::test(start_paused = true)]
async fn weakness_06_exclusive_waste_and_what_is_in_flight_count() {
    let site = Site::new(1, bounded(2.0, 0), packed()).await;
    let trigger = site.trigger();
    let snapshot = site.begin(&trigger, 0);
    // A private megabyte, of which the state then names a tenth; nothing is committed yet.
    let dead = write(&snapshot, Scope::Exclusive, bytes_of(1, 900_000)).await.unwrap();
    let live_part = write(&snapshot, Scope::Exclusive, bytes_of(2, 100_000)).await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    assert!(durable.handle(&dead).unwrap().is_some());
    let private = BTreeMap::from([("a".to_owned(), durable.handle(&live_part).unwrap().unwrap())]);
    let chunks = live::Chunks { private, sealed: durable.sealed().to_vec(), ..live::Chunks::default() };
    site.live.acknowledge(trigger.checkpoint, 0, chunks).unwrap();
    let pending = site.live.coordinator.space();
    assert_eq!((pending.files, pending.segments, pending.segment_bytes), (1, 1, 100_000));
    assert!(pending.file_bytes >= 1_000_000, "{pending:?}");
    site.live.coordinator.complete(trigger.checkpoint).await.unwrap();
    let space = site.live.coordinator.space();
    assert!(space.amplification() > 9.9, "{space:?}");
}

/// Commits and aborts, and so makes deletes.
async fn commits(site: &Site, databases: &mut [Database], rounds: usize) {
    for round in 0..rounds {
        databases[0].shared.clear();
        put(&mut databases[0], &format!("{round}"), 5_000);
        tokio::time::timeout(HANGS, site.checkpoint(databases)).await.expect("it waits for a delete").unwrap();
        let aborted = site.trigger();
        site.give_up(aborted.checkpoint);
    }
}

#[tokio::test(start_paused = true)]
async fn weakness_13_deletes_that_hang_keep_nobody_waiting() {
    let site = Site::new(1, settings(), packed()).await;
    let mut databases = [Database::default()];
    site.store.rule("delete ", "", Act::Hang, usize::MAX);
    commits(&site, &mut databases, 600).await;
    assert!(site.store.count("delete ", "") <= site.live.settings.deletes_max, "no more at a time than allowed");
    assert_eq!(site.data_files().await.len(), 600);
    // Once deletes go through, all is made up for.
    site.store.obey();
    site.live.coordinator.settle().await.unwrap();
    let mut site = site;
    let error = site.live.coordinator.remove_leftovers().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "of some not even the metadata was deleted: {error}");
    site.live.restart().await.unwrap();
    site.live.coordinator.remove_leftovers().await.unwrap();
    site.worker = Worker::new(site.live.directory.clone(), "w", packed(), site.live.tokens.clone());
    site.checkpoint(&mut databases).await.unwrap();
    site.live.coordinator.settle().await.unwrap();
    site.live.coordinator.remove_leftovers().await.unwrap();
    assert_eq!(site.live.files().await.len(), 2);
    site.live.check(site.live.coordinator.latest().unwrap().checkpoint).await;
}

#[tokio::test(start_paused = true)]
async fn weakness_17_the_figures_are_bytes_of_real_files_also_after_a_restart() {
    let mut site = Site::new(2, settings(), packed()).await;
    let mut databases = [Database::default(), Database::default()];
    put(&mut databases[0], "a", 5_000);
    put(&mut databases[1], "b", 6_000);
    databases[1].private.insert("c".into(), bytes_of(7, 7_000));
    let trigger = site.trigger();
    // A snapshot that is given up leaves 4,000 dead bytes in a file that others need.
    let cancelled = site.begin(&trigger, 0);
    write(&cancelled, Scope::Shared, bytes_of(1, 4_000)).await.unwrap();
    drop(cancelled);
    let (one, two) = {
        let (first, second) = databases.split_at_mut(1);
        let (one, two) = tokio::join!(site.part(&trigger, 0, &mut first[0]), site.part(&trigger, 1, &mut second[0]));
        (one.unwrap(), two.unwrap())
    };
    site.live.acknowledge(trigger.checkpoint, 0, one).unwrap();
    site.live.acknowledge(trigger.checkpoint, 1, two).unwrap();
    site.live.coordinator.complete(trigger.checkpoint).await.unwrap();
    let space = site.live.coordinator.space();
    let files = site.data_files().await;
    assert_eq!((space.files, space.file_bytes), (files.len() as u64, files.values().sum()));
    assert_eq!(space.segment_bytes, 18_000);
    assert!(space.file_bytes > 22_000, "dead bytes and footers: {space:?}");
    assert_eq!(space, site.live.recount().await);
    site.live.restart().await.unwrap();
    assert_eq!(site.live.coordinator.space(), space);
}

#[tokio::test(start_paused = true)]
async fn weakness_18_a_delete_that_failed_is_tried_again_with_the_next_commit() {
    let site = Site::new(1, settings(), packed()).await;
    let mut databases = [Database::default()];
    put(&mut databases[0], "a", 5_000);
    site.checkpoint(&mut databases).await.unwrap();
    site.store.rule("delete ", "shared/", Act::Fail, usize::MAX);
    databases[0].shared.clear();
    put(&mut databases[0], "b", 5_000);
    site.checkpoint(&mut databases).await.unwrap();
    let error = site.live.coordinator.settle().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("-c1-"), "{error}");
    assert_eq!(site.data_files().await.len(), 2);
    let tried = 1 + site.live.settings.delete_retries as usize;
    assert_eq!(site.store.count("delete ", "-c1-"), tried);
    site.store.obey();
    // Nobody asks for it.
    site.checkpoint(&mut databases).await.unwrap();
    site.until_nothing_moves().await;
    assert_eq!(site.data_files().await.len(), 1, "b");
    site.live.coordinator.settle().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn weakness_18_a_delete_that_a_dead_process_owed_is_found_again() {
    let mut site = Site::new(1, settings(), packed()).await;
    let mut databases = [Database::default()];
    put(&mut databases[0], "a", 5_000);
    site.checkpoint(&mut databases).await.unwrap();
    site.store.rule("delete ", "shared/", Act::Fail, usize::MAX);
    databases[0].shared.clear();
    put(&mut databases[0], "b", 5_000);
    site.checkpoint(&mut databases).await.unwrap();
    site.live.coordinator.settle().await.unwrap_err();
    site.store.obey();
    site.live.restart().await.unwrap();
    let removed = site.live.coordinator.remove_leftovers().await.unwrap();
    assert_eq!(removed.files, 1);
    assert!(removed.bytes > 5_000);
    assert_eq!(site.data_files().await.len(), 1);
    site.live.check(CheckpointId(2)).await;
    assert_eq!(site.live.coordinator.remove_leftovers().await.unwrap(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn weakness_19_a_file_goes_as_soon_as_nothing_names_it_and_the_last_ones_at_the_end() {
    let mut settings = settings();
    settings.ledger.retained = 3;
    settings.ledger.retention = Retention::DeleteOnCancellation;
    let site = Site::new(1, settings, packed()).await;
    let mut databases = [Database::default()];
    for round in 1..=8_u64 {
        databases[0].shared.clear();
        put(&mut databases[0], &format!("{round}"), 5_000);
        databases[0].private.insert("private".into(), bytes_of(round, 3_000));
        let completed = site.checkpoint(&mut databases).await.unwrap();
        let subsumed: Vec<_> = round.checked_sub(3).filter(|&id| id > 0).map(CheckpointId).into_iter().collect();
        assert_eq!(completed.subsumed, subsumed);
        site.live.coordinator.settle().await.unwrap();
        let kept = round.min(3) as usize;
        let files = site.live.files().await;
        assert_eq!(files.len(), 3 * kept, "round {round}: {files:?}");
        assert!(files.keys().all(|f| !subsumed.iter().any(|id| f.contains(&format!("-c{id}-")))), "{files:?}");
    }
    site.live.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    assert_eq!(site.live.files().await, BTreeMap::new());
    assert_eq!(site.live.coordinator.space(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn weakness_20_a_restart_asks_for_no_file_by_itself() {
    let small = WriteSettings { file_bytes_max: 8 << 10, ..packed().write };
    let mut settings = settings();
    settings.ledger.retained = 3;
    let mut site = Site::new(4, settings, WorkerSettings { write: small, ..packed() }).await;
    let mut databases = vec![Database::default(); 4];
    for round in 0..3 {
        for database in &mut databases {
            (0..20).for_each(|n| put(database, &format!("{round}-{n}"), 5_000));
        }
        site.checkpoint(&mut databases).await.unwrap();
    }
    let files = site.live.coordinator.space().files;
    assert!(files >= 240, "{files}");
    site.store.forget_requests();
    site.live.restart().await.unwrap();
    assert_eq!(site.live.coordinator.space().files, files);
    assert_eq!(site.store.count("", "/shared/"), 0);
    let asked = site.store.count("", "");
    assert!(asked <= 12 + 2 * 3, "{asked} requests for {files} files of 3 checkpoints");
}
