//! What a worker holds at most, however many write and however slow the store is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod seeded;
    pub mod watched_store;
    pub mod working;
}

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use drystone::id::{CheckpointId, Scope};
use drystone::worker::{Snapshot, WorkerSettings};
use drystone::write::WriteSettings;
use futures::future::join_all;
use support::seeded::bytes_of;
use support::working::{EPOCH, Working, packed, subtask, trigger, write};

const MIB: u64 = 1 << 20;

fn bounded(buffered_bytes_total_max: u64, file_bytes_max: u64) -> WorkerSettings {
    let settings = packed();
    let write = WriteSettings { file_bytes_max, buffer_bytes_max: file_bytes_max, ..settings.write };
    WorkerSettings { write, buffered_bytes_total_max, ..settings }
}

/// Each of `writers` writes `segments` segments of `length` bytes, in four pieces; the result is the most that was held.
async fn most_held(working: &Arc<Working>, writers: u32, segments: u64, length: usize) -> u64 {
    let most = Arc::new(AtomicU64::new(0));
    let tasks = (0..writers).map(|index| {
        let (working, most) = (working.clone(), most.clone());
        tokio::spawn(async move {
            // Two checkpoints and both scopes, so that there are several pools.
            let snapshot = working.worker.begin(subtask(index), &trigger(u64::from(index % 2))).unwrap();
            for seed in 0..segments {
                let scope = if seed % 2 == 0 { Scope::Shared } else { Scope::Exclusive };
                let bytes = bytes_of(seed, length);
                let mut writer = snapshot.segment(scope, None);
                for piece in bytes.chunks(length.div_ceil(4)) {
                    writer.write(bytes.slice_ref(piece)).await.unwrap();
                    most.fetch_max(working.worker.usage().buffered_bytes, SeqCst);
                    tokio::task::yield_now().await;
                }
                writer.finish().await.unwrap();
                most.fetch_max(working.worker.usage().buffered_bytes, SeqCst);
            }
            snapshot.seal().await.unwrap();
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.unwrap();
    }
    assert_eq!(working.worker.usage().buffered_bytes, 0);
    most.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn with_64_writers_no_more_is_held_than_the_bound_and_a_buffer_for_each() {
    let (bound, length) = (4 * MIB, 200_000);
    let working = Arc::new(Working::new(bounded(bound, MIB)));
    let most = most_held(&working, 64, 8, length).await;
    assert!(most <= bound + 64 * length as u64, "{most} bytes");
    assert!(most > bound / 2, "{most} bytes: the test writes too little");
    assert!(working.watch.puts.in_flight_max.load(SeqCst) <= 4, "at most four uploads");
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_kept_where_all_buffers_fit_into_it() {
    let bound = 4 * MIB;
    let working = Arc::new(Working::new(bounded(bound, MIB)));
    let most = most_held(&working, 64, 32, 60_000).await;
    assert!(most <= bound, "{most} bytes");
    assert!(most > bound / 2, "{most} bytes: the test writes too little");
    assert!(working.watch.puts.in_flight_max.load(SeqCst) <= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_threads_nothing_gets_stuck() {
    let bound = 2 * MIB;
    let working = Arc::new(Working::new(bounded(bound, MIB)));
    let most = most_held(&working, 32, 16, 50_000).await;
    assert!(most <= bound, "{most} bytes");
}

async fn hold(snapshot: &Snapshot, seed: u64, length: usize) -> drystone::write::SegmentWriter {
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write(bytes_of(seed, length)).await.unwrap();
    writer
}

#[tokio::test(start_paused = true)]
async fn where_there_is_nothing_to_wait_for_a_writer_goes_ahead() {
    let working = Working::new(bounded(100_000, MIB));
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    // More than all; and where the others only hold buffers.
    let writers =
        [hold(&snapshot, 1, 150_000).await, hold(&snapshot, 2, 60_000).await, hold(&snapshot, 3, 60_000).await];
    assert_eq!(working.worker.usage().buffered_bytes, 270_000);
    for writer in writers {
        writer.finish().await.unwrap();
    }
    // Now there is a file that can be sealed, so that the next must wait for it.
    working.watch.puts.gate.forget_permits(usize::MAX);
    let mut waiting = pin!(hold(&snapshot, 4, 10));
    assert!(futures::poll!(&mut waiting).is_pending());
    Working::until_nothing_moves().await;
    assert_eq!(working.watch.puts.in_flight.load(SeqCst), 1);
    assert!(futures::poll!(&mut waiting).is_pending());
    working.watch.puts.gate.add_permits(1);
    drop(waiting.await);
    assert_eq!((working.worker.usage().buffered_bytes, working.files().await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_fullest_file_of_all_checkpoints_makes_room() {
    let working = Working::new(bounded(100_000, MIB));
    for (checkpoint, length) in [(1, 30_000), (2, 50_000), (3, 10_000)] {
        let snapshot = working.worker.begin(subtask(0), &trigger(checkpoint)).unwrap();
        // Somebody else is awaited, so that nothing else seals it.
        std::mem::forget(working.worker.begin(subtask(1), &trigger(checkpoint)).unwrap());
        write(&snapshot, Scope::Shared, bytes_of(checkpoint, length)).await.unwrap();
    }
    let fourth = working.worker.begin(subtask(0), &trigger(4)).unwrap();
    let writer = hold(&fourth, 4, 20_000).await;
    let files: Vec<_> = working.files().await.into_keys().collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].contains("-c2-"), "{files:?}");
    assert_eq!(working.worker.usage().buffered_bytes, 60_000);
    drop(writer);
    assert_eq!(working.worker.usage().buffered_bytes, 40_000);
}

#[tokio::test(start_paused = true)]
async fn writers_get_memory_in_the_order_in_which_they_came_and_the_cancelled_none() {
    let working = Working::new(bounded(100_000, MIB));
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    write(&snapshot, Scope::Shared, bytes_of(1, 90_000)).await.unwrap();
    working.watch.puts.gate.forget_permits(usize::MAX);
    let mut large = Box::pin(hold(&snapshot, 2, 80_000));
    let mut middle = pin!(hold(&snapshot, 3, 60_000));
    let mut small = pin!(hold(&snapshot, 4, 1_000));
    assert!(futures::poll!(&mut large).is_pending());
    assert!(futures::poll!(&mut middle).is_pending());
    assert!(futures::poll!(&mut small).is_pending(), "it would fit, but isn't the first");
    drop(large);
    assert!(futures::poll!(&mut small).is_pending(), "the middle one is before it");
    assert!(futures::poll!(&mut middle).is_pending());
    working.watch.puts.gate.add_permits(1);
    Working::until_nothing_moves().await;
    let middle = middle.await;
    let small = small.await;
    assert_eq!(working.worker.usage().buffered_bytes, 61_000);
    drop((middle, small));
    assert_eq!(working.worker.usage().buffered_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_segment_holds_a_few_parts_and_releases_all() {
    let settings = bounded(256 * MIB, 32 * MIB);
    let working =
        Working::new(WorkerSettings { write: WriteSettings { buffer_bytes_max: MIB, ..settings.write }, ..settings });
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    let mut writer = snapshot.segment(Scope::Shared, None);
    let piece = bytes_of(1, 1 << 20);
    let mut most = 0;
    for _ in 0..64 {
        writer.write(piece.clone()).await.unwrap();
        most = most.max(working.worker.usage().buffered_bytes);
    }
    assert!((9 * MIB..=41 * MIB).contains(&most), "{most} bytes");
    let written = writer.finish().await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    assert!(working.read(&durable.handle(&written).unwrap().unwrap()).await == piece.repeat(64));
    assert_eq!(working.worker.usage(), drystone::worker::WorkerUsage { checkpoints: 1, ..Default::default() });
}

#[tokio::test(start_paused = true)]
async fn no_more_files_talk_to_the_store_than_allowed() {
    let settings = bounded(256 * MIB, 64 << 10);
    let working = Arc::new(Working::new(WorkerSettings {
        write: WriteSettings { uploads_max: 3, ..settings.write },
        ..settings
    }));
    working.watch.puts.gate.forget_permits(usize::MAX);
    let tasks = (0..20_u32).map(|index| {
        let working = working.clone();
        tokio::spawn(async move {
            let snapshot = working.worker.begin(subtask(index), &trigger(u64::from(index % 5))).unwrap();
            write(&snapshot, Scope::Shared, bytes_of(1, 63 << 10)).await.unwrap();
            write(&snapshot, Scope::Exclusive, bytes_of(1, 63 << 10)).await.unwrap();
            snapshot.seal().await.unwrap();
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for _ in 0..40 {
        Working::until_nothing_moves().await;
        assert!(working.watch.puts.in_flight.load(SeqCst) <= 3);
        // Each writer waits when it has started one too many.
        assert!(working.worker.usage().uploads <= 3 + 20);
        working.watch.puts.gate.add_permits(1);
    }
    join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
    assert_eq!(working.watch.puts.in_flight_max.load(SeqCst), 3);
    assert_eq!(working.files().await.len(), 40);
    (0..5).for_each(|checkpoint| working.worker.complete(EPOCH, CheckpointId(checkpoint)));
}
