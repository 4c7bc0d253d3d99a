//! Flink's weaknesses in writing, by their numbers in the specification: none of them is here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/rule_store.rs"]
mod rule_store;
#[path = "support/site.rs"]
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drystone::ErrorKind;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{PoolMode, WriteSettings, Written};
use live::{Chunks, settings};
use rule_store::Act;
use site::{Database, Site, bytes_of, packed, write};

/// Far longer than anything may take, and no time at all: the clock stands still.
const HANGS: Duration = Duration::from_secs(3600);
const LONG: usize = 10 << 20;

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANGS, work).await.expect("it hangs")
}

fn blocking() -> WorkerSettings {
    let packed = packed();
    WorkerSettings { write: WriteSettings { mode: PoolMode::BLOCKING, ..packed.write }, ..packed }
}

/// One with shared chunks of these lengths.
fn database(seed: u64, lengths: &[usize]) -> Database {
    let chunk =
        |(n, &length): (usize, &usize)| (format!("{seed}-{n}"), (bytes_of(seed * 1000 + n as u64, length), None));
    Database { shared: lengths.iter().enumerate().map(chunk).collect(), ..Database::default() }
}

#[tokio::test(start_paused = true)]
async fn weakness_01_an_abandoned_stream_blocks_nobody() {
    let site = Site::new(2, settings(), blocking()).await;
    for _ in 0..3 {
        // What a cancelled snapshot does: it has its file for itself, and lets go without a word.
        let trigger = site.trigger();
        let cancelled = site.begin(&trigger, 0);
        let mut abandoned = cancelled.segment(Scope::Exclusive, None);
        abandoned.write(bytes_of(1, LONG)).await.unwrap();
        let neighbour = site.begin(&trigger, 1);
        let mut waiting = Box::pin(write(&neighbour, Scope::Exclusive, bytes_of(2, LONG)));
        assert!(futures::poll!(&mut waiting).is_pending(), "the one file is taken");
        let before = tokio::time::Instant::now();
        drop((abandoned, cancelled));
        assert!(matches!(in_time(&mut waiting).await.unwrap(), Written::Placed(_)));
        assert!(before.elapsed() < Duration::from_secs(1), "by the lease that came back, not by giving up");
        drop(waiting);
        in_time(neighbour.seal()).await.unwrap();
        site.give_up(trigger.checkpoint);
        // Nor does it block a later checkpoint.
        let mut databases = [database(1, &[LONG, 5_000]), database(2, &[LONG, 5_000])];
        in_time(site.checkpoint(&mut databases)).await.unwrap();
    }
    site.worker.close().await.unwrap();
    site.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn weakness_01_a_file_that_cannot_be_made_blocks_nobody() {
    let site = Site::new(2, settings(), blocking()).await;
    for (operation, lengths) in
        [("start ", [LONG, 5_000]), ("head ", [LONG, 5_000]), ("part ", [LONG, 5_000]), ("put ", [6_000, 5_000])]
    {
        site.store.rule(operation, "/shared/", Act::Fail, 1);
        let mut databases = [database(1, &lengths), database(2, &lengths)];
        let failed = in_time(site.checkpoint(&mut databases)).await;
        // A put is a seal's: those who wrote into the file fail. The others are told at once.
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Store, "{operation}");
        in_time(site.checkpoint(&mut databases)).await.unwrap();
        site.live.check(site.live.coordinator.latest().unwrap().checkpoint).await;
    }
    site.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn weakness_01_one_thread_may_write_two_streams() {
    let site = Site::new(1, settings(), blocking()).await;
    let trigger = site.trigger();
    let snapshot = site.begin(&trigger, 0);
    let (mut one, mut two) = (snapshot.segment(Scope::Shared, None), snapshot.segment(Scope::Shared, None));
    for n in 0..3 {
        in_time(one.write(bytes_of(n, LONG))).await.unwrap();
        in_time(two.write(bytes_of(n + 100, LONG))).await.unwrap();
    }
    let written = [in_time(one.finish()).await.unwrap(), in_time(two.finish()).await.unwrap()];
    let durable = in_time(snapshot.seal()).await.unwrap();
    assert!(written.iter().all(|written| durable.handle(written).unwrap().is_some()));
}

#[tokio::test(start_paused = true)]
async fn weakness_02_a_failed_upload_leaves_nothing_and_the_figures_are_right() {
    for act in [Act::Fail, Act::LoseAnswer] {
        for (operation, length) in [("put ", 5_000), ("part ", LONG), ("complete ", LONG)] {
            let site = Site::new(2, settings(), packed()).await;
            let mut databases = [database(1, &[5_000]), database(2, &[5_000])];
            site.checkpoint(&mut databases).await.unwrap();
            let (space, files) = (site.live.coordinator.space(), site.live.files().await);
            for database in &mut databases {
                database.shared.insert("new".into(), (bytes_of(9, length), None));
            }
            // A put that is in doubt is looked up, and counts: it takes two to fail.
            site.store.rule(operation, "-c2-", act, 1);
            site.store.rule("get ", "-c2-", Act::Fail, usize::MAX);
            let failed = site.checkpoint(&mut databases).await;
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Store, "{operation}{act:?}");
            site.store.obey();
            site.until_nothing_moves().await;
            site.assert_idle();
            site.live.coordinator.settle().await.unwrap();
            assert_eq!(site.live.files().await, files, "{operation}{act:?}: nothing of it is left");
            assert_eq!(site.live.coordinator.space(), space, "{operation}{act:?}");

            site.checkpoint(&mut databases).await.unwrap();
            site.live.coordinator.settle().await.unwrap();
            site.live.check(CheckpointId(3)).await;
            assert_eq!(site.live.coordinator.space(), site.live.recount().await);
            let named = site.live.coordinator.space().files;
            assert_eq!(site.data_files().await.len() as u64, named, "{operation}{act:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn weakness_03_nothing_stays_open_after_the_close() {
    let site = Site::new(20, settings(), packed()).await;
    let trigger = site.trigger();
    let mut streams = Vec::new();
    for index in 0..20 {
        let snapshot = site.begin(&trigger, index);
        let mut writer = snapshot.segment(Scope::Shared, None);
        writer.write(bytes_of(u64::from(index), LONG)).await.unwrap();
        write(&snapshot, Scope::Exclusive, bytes_of(1, 5_000)).await.unwrap();
        streams.push((snapshot, writer));
    }
    assert_eq!(site.worker.usage().open_files, 21, "20 that are streamed into, and one");
    assert_eq!(site.store.uploads_open(), 20);
    in_time(site.worker.close()).await.unwrap();
    assert_eq!(site.worker.usage().open_files, 20, "only what writers still have in their hands");
    // Half of them are dropped, the others find out by themselves.
    for (number, (snapshot, mut writer)) in streams.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(writer.write(bytes_of(1, 10)).await.unwrap_err().kind(), ErrorKind::Conflict);
            drop(snapshot);
        }
    }
    in_time(site.worker.close()).await.unwrap();
    site.assert_idle();
    assert_eq!(site.live.files().await, BTreeMap::new());
}

#[tokio::test]
async fn weakness_03_a_local_disk_keeps_no_file_in_the_making() {
    let disk = tempfile::tempdir().unwrap();
    let root = FlinkPath::parse(&format!("file:{}", disk.path().display())).unwrap();
    let directory = JobDirectory::at(Stores::new().locate(&root).unwrap()).unwrap();
    let worker = Worker::new(directory.clone(), "w", packed(), live::tokens());
    let spec = drystone::protocol::OperatorSpec::new(live::OPERATOR, 4, 128);
    let trigger = drystone::protocol::Trigger::new(1, CheckpointId(1));
    let mut streams = Vec::new();
    for subtask in spec.subtasks() {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let mut writer = snapshot.segment(Scope::Shared, None);
        writer.write(bytes_of(1, LONG)).await.unwrap();
        streams.push((snapshot, writer));
    }
    assert_eq!(directory.root().list_partials().await.unwrap().len(), 4, "or the test shows nothing");
    drop(streams);
    worker.close().await.unwrap();
    assert_eq!(directory.root().list_partials().await.unwrap(), []);
    assert_eq!(directory.root().list().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn weakness_04_what_a_late_writer_wrote_is_gone_with_the_next_commit() {
    let site = Site::new(2, settings(), packed()).await;
    let late = site.trigger();
    let snapshot = site.begin(&late, 0);
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write(bytes_of(1, LONG)).await.unwrap();
    // Another one's file is on its way when the checkpoint is given up.
    site.store.rule("put ", "-c1-", Act::Hang, usize::MAX);
    let other = site.begin(&late, 1);
    write(&other, Scope::Exclusive, bytes_of(2, 5_000)).await.unwrap();
    let ticket = other.finish();
    let sealing = tokio::spawn({
        let worker = site.worker.clone();
        async move { worker.seal(late.checkpoint).await }
    });
    site.until_nothing_moves().await;
    site.give_up(CheckpointId(1));
    site.live.coordinator.settle().await.unwrap();
    for error in [writer.finish().await.map(drop), ticket.seal().await.map(drop)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    }
    site.store.obey();
    assert_eq!(in_time(sealing).await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    site.until_nothing_moves().await;
    assert_eq!(site.data_files().await.len(), 1, "it has landed");
    let again = site.worker.begin(site.live.subtask(0), &late).map(drop);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict, "nothing opens a dead checkpoint's files again");

    site.checkpoint(&mut [database(1, &[5_000]), database(2, &[5_000])]).await.unwrap();
    site.live.coordinator.settle().await.unwrap();
    let files = site.data_files().await;
    assert!(files.keys().all(|file| file.contains("-c2-")), "{files:?}");
    site.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn weakness_04_what_lands_even_later_is_found() {
    let site = Site::new(1, settings(), packed()).await;
    let late = site.trigger();
    site.store.rule("put ", "-c1-", Act::Hang, usize::MAX);
    let snapshot = site.begin(&late, 0);
    write(&snapshot, Scope::Shared, bytes_of(2, 5_000)).await.unwrap();
    drop(snapshot.finish());
    site.until_nothing_moves().await;
    site.give_up(CheckpointId(1));
    let mut databases = [database(1, &[5_000])];
    for _ in 0..3 {
        site.checkpoint(&mut databases).await.unwrap();
    }
    // A snapshot that is given up and made anew leaves a file that nobody names in a checkpoint that completes.
    let trigger = site.trigger();
    let dropped = site.begin(&trigger, 0);
    write(&dropped, Scope::Exclusive, bytes_of(3, 5_000)).await.unwrap();
    site.worker.seal(trigger.checkpoint).await.unwrap();
    drop(dropped);
    let chunks = site.part(&trigger, 0, &mut databases[0]).await.unwrap();
    site.live.acknowledge(trigger.checkpoint, 0, chunks).unwrap();
    site.live.coordinator.complete(trigger.checkpoint).await.unwrap();
    site.worker.complete(trigger.epoch, trigger.checkpoint);
    site.store.obey();
    site.until_nothing_moves().await;

    site.live.coordinator.settle().await.unwrap();
    assert_eq!(site.data_files().await.len(), 3, "one is named");
    let removed = site.live.coordinator.remove_leftovers().await.unwrap();
    assert_eq!(removed.files, 2);
    assert_eq!(site.data_files().await.len(), 1);
    site.live.check(trigger.checkpoint).await;
}

#[tokio::test(start_paused = true)]
async fn weakness_14_a_file_is_written_once_however_many_segments_it_has() {
    let site = Site::new(8, settings(), packed()).await;
    let lengths = [3_000; 50];
    let mut databases: Vec<_> = (0..8).map(|seed| database(seed, &lengths)).collect();
    site.store.forget_requests();
    site.checkpoint(&mut databases).await.unwrap();
    assert_eq!(site.live.coordinator.space().segments, 400);
    assert_eq!(site.store.count("put ", "/shared/"), 1, "one durable write for 400 segments of 8 subtasks");
    assert_eq!(site.store.count("put ", ""), 3, "and the metadata, and what is said of it in the fence log");
    assert_eq!(site.store.count("start ", ""), 0);
}

#[tokio::test(start_paused = true)]
async fn weakness_15_no_commit_names_a_file_that_is_not_there() {
    let site = Site::new(1, settings(), packed()).await;
    let acknowledged = async |act, operation| {
        let trigger = site.trigger();
        if let Some(act) = act {
            site.store.rule(operation, &format!("-c{}-", trigger.checkpoint), act, usize::MAX);
        }
        let snapshot = site.begin(&trigger, 0);
        let written = write(&snapshot, Scope::Shared, bytes_of(2, 5_000)).await.unwrap();
        let handle = snapshot.provisional(&written).unwrap().unwrap();
        let ticket = snapshot.finish();
        site.until_nothing_moves().await;
        // Told before the file is durable, so that shipping and sealing go on side by side.
        let shared = BTreeMap::from([("a".to_owned(), handle)]);
        site.live.acknowledge(trigger.checkpoint, 0, Chunks { shared, ..Chunks::default() }).unwrap();
        (trigger.checkpoint, ticket)
    };
    let (failed, ticket) = acknowledged(Some(Act::Fail), "put ").await;
    let error = site.live.coordinator.complete(failed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(ticket.seal().await.map(drop).unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(site.store.count("put ", "_metadata"), 0, "nobody may ever take it for a checkpoint");
    site.give_up(failed);

    // One that takes its time is waited for.
    let (slow, _ticket) = acknowledged(Some(Act::Hang), "put ").await;
    let mut committing = Box::pin(site.live.coordinator.complete(slow));
    assert!(futures::poll!(&mut committing).is_pending());
    site.until_nothing_moves().await;
    assert!(futures::poll!(&mut committing).is_pending());
    assert_eq!(site.store.count("put ", "_metadata"), 0);
    site.store.obey();
    in_time(committing).await.unwrap();
    site.live.check(slow).await;
}

#[tokio::test(start_paused = true)]
async fn weakness_16_as_many_files_as_their_bytes_take_whatever_is_open_at_once() {
    let cap = 1 << 20;
    let settings_of = |write| WorkerSettings { write, ..packed() };
    let write_settings = WriteSettings { file_bytes_max: cap, ..packed().write };
    let site = Site::new(32, settings(), settings_of(write_settings)).await;
    let trigger = site.trigger();
    // 128 streams, all of which have begun before the first one ends: 4 upload threads of 32 subtasks.
    let snapshots: Vec<_> = (0..32).map(|index| site.begin(&trigger, index)).collect();
    let mut streams = Vec::new();
    for (index, snapshot) in snapshots.iter().enumerate() {
        for n in 0..4 {
            let mut writer = snapshot.segment(Scope::Shared, None);
            writer.write(bytes_of(index as u64 * 4 + n, 70_000)).await.unwrap();
            streams.push(writer);
        }
    }
    let mut tokens = BTreeSet::new();
    for stream in streams {
        let Written::Placed(placement) = stream.finish().await.unwrap() else { panic!("not placed") };
        tokens.insert(placement.id.file);
    }
    for snapshot in snapshots {
        drop(snapshot.finish());
    }
    site.worker.seal(trigger.checkpoint).await.unwrap();
    let files = site.data_files().await;
    let bytes: u64 = files.values().sum();
    // 14 of the 70,000 bytes go into a file: 128 segments take 10 files.
    assert_eq!(files.len() as u64, bytes.div_ceil(14 * 70_000 + 4096), "{files:?}");
    assert_eq!(files.len(), tokens.len());
    assert!(files.values().all(|&bytes| bytes <= cap));
}

#[tokio::test(start_paused = true)]
async fn weakness_16_the_smallest_states_need_no_file() {
    let site = Site::new(16, settings(), WorkerSettings::default()).await;
    let mut databases: Vec<_> = (0..16).map(|seed| database(seed, &[1, 100, 20 << 10])).collect();
    site.checkpoint(&mut databases).await.unwrap();
    let files = site.live.files().await;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["chk-1/_metadata"], "one byte isn't a file, nor a segment");
    let handles = databases.iter().flat_map(|database| database.shared.values());
    assert!(handles.clone().all(|(_, handle)| matches!(handle, Some(StreamHandle::Inline(_)))));
    assert_eq!(handles.count(), 48);
    site.live.check(CheckpointId(1)).await;
}
