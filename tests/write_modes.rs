//! Pools that block, that limit the subtasks in a file, that fail file by file, and that are closed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod packing;
    pub mod seeded;
    pub mod watched_store;
}

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::id::{FileToken, OperatorId, Subtask};
use drystone::write::{Bounds, Origin, PoolMode, WriteSettings, Written};
use support::packing::{Packing, Segment, origin};
use support::seeded::bytes_of;
use tokio::time::Instant;

/// Segments longer than this are streamed.
const BUFFER: usize = 64 << 10;

fn packed() -> WriteSettings {
    WriteSettings {
        file_bytes_max: 1 << 20,
        inline_bytes_max: 0,
        inline_bytes_total_max: 0,
        buffer_bytes_max: BUFFER as u64,
        ..WriteSettings::default()
    }
}

fn blocking() -> WriteSettings {
    WriteSettings { mode: PoolMode::BLOCKING, ..packed() }
}

/// A pool among others, and what it shares with them.
fn sharing(settings: WriteSettings) -> (Packing, Bounds) {
    let bounds = Bounds::new(64 << 20, 4);
    (Packing::within(settings, Some(bounds.clone())), bounds)
}

fn token(segment: &Segment) -> FileToken {
    let Written::Placed(placement) = segment.written else { panic!("not placed: {:?}", segment.written) };
    placement.id.file
}

fn files<const N: usize>(segments: [&Segment; N]) -> BTreeSet<FileToken> {
    segments.into_iter().map(token).collect()
}

async fn until_nothing_moves() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_blocking_pool_a_writer_waits_for_the_one_file() {
    let packing = Arc::new(Packing::new(blocking()));
    let start = Instant::now();
    let mut streaming = packing.pool.segment(origin(0), None);
    streaming.write(bytes_of(1, 2 * BUFFER)).await.unwrap();
    let mut waiting = pin!(packing.write(bytes_of(2, 5_000), None));
    assert!(futures::poll!(&mut waiting).is_pending());
    let written = streaming.finish().await.unwrap();
    let Poll::Ready(beside) = futures::poll!(&mut waiting) else { panic!("the file is free") };
    let beside = beside.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let streamed = Segment { bytes: bytes_of(1, 2 * BUFFER), origin: origin(0), written };
    assert_eq!(token(&beside), token(&streamed));
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[streamed, beside], &sealed).await;
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_writer_blocks_nobody() {
    let packing = Packing::new(blocking());
    let start = Instant::now();
    let mut streaming = packing.pool.segment(origin(0), None);
    streaming.write(bytes_of(1, 2 * BUFFER)).await.unwrap();
    let mut waiting = pin!(packing.write(bytes_of(2, 5_000), None));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(streaming);
    let kept = waiting.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waited for the timeout");
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[kept], &sealed).await;
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_can_not_open_its_file_blocks_nobody() {
    let packing = Packing::new(blocking());
    let start = Instant::now();
    *packing.watch.gets.failure.lock().unwrap() = Some("timed out");
    let mut failing = packing.pool.segment(origin(0), None);
    assert!(failing.write(bytes_of(1, 2 * BUFFER)).await.is_err());
    *packing.watch.gets.failure.lock().unwrap() = None;
    // While the failed one is still there.
    let kept = packing.write(bytes_of(2, 5_000), None).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(failing);
    packing.check(&[kept], &packing.pool.seal().await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_needs_two_streams_at_once_goes_on() {
    let packing = Packing::new(blocking());
    let start = Instant::now();
    let (mut one, mut other) = (packing.pool.segment(origin(0), None), packing.pool.segment(origin(1), None));
    one.write(bytes_of(1, 2 * BUFFER)).await.unwrap();
    other.write(bytes_of(2, 2 * BUFFER)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let segments = [
        Segment { bytes: bytes_of(1, 2 * BUFFER), origin: origin(0), written: one.finish().await.unwrap() },
        Segment { bytes: bytes_of(2, 2 * BUFFER), origin: origin(1), written: other.finish().await.unwrap() },
    ];
    assert_eq!(start.elapsed(), Duration::from_secs(1), "only the opening waits");
    packing.check(&segments, &packing.pool.seal().await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_in_vain_opens_a_file_for_all() {
    let packing = Packing::new(blocking());
    let start = Instant::now();
    let mut held = packing.pool.segment(origin(0), None);
    held.write(bytes_of(1, 2 * BUFFER)).await.unwrap();
    let first = packing.write(bytes_of(2, 5_000), None).await.unwrap();
    let next = packing.write(bytes_of(3, 5_000), None).await.unwrap();
    assert_eq!(token(&first), token(&next));
    // Nor need one that doesn't fit there.
    let full = packing.write(bytes_of(4, 1_045_000), Some(1_045_000)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1), "only the first has to wait");
    drop(held);
    packing.check(&[first, next, full], &packing.pool.seal().await.unwrap()).await;
}

#[tokio::test]
async fn in_a_blocking_pool_a_streamed_segment_takes_the_place_of_the_open_file() {
    let (packing, bounds) = sharing(blocking());
    let small = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    let mut streaming = packing.pool.segment(origin(0), None);
    streaming.write(bytes_of(2, 2 * BUFFER)).await.unwrap();
    assert_eq!(bounds.open_files(), 1);
    packing.pool.wait(&files([&small])).await.unwrap();
    drop(streaming);
    assert_eq!(bounds.open_files(), 0);
}

async fn twelve_writers(settings: WriteSettings, open_files_max: usize) {
    let (packing, bounds) = sharing(settings);
    let packing = Arc::new(packing);
    let writers: Vec<_> = (0..12_u64)
        .map(|task| {
            let (packing, bounds) = (packing.clone(), bounds.clone());
            tokio::spawn(async move {
                let mut segments = Vec::new();
                for number in 0..30_u64 {
                    let seed = task * 1_000 + number;
                    // One in ten is streamed.
                    let length = if number % 10 == 9 { 3 * BUFFER } else { 1_000 + (seed * 7_919 % 20_000) as usize };
                    segments.push(packing.write(bytes_of(seed, length), None).await.unwrap());
                    assert!(bounds.open_files() <= open_files_max, "{} files are open", bounds.open_files());
                }
                segments
            })
        })
        .collect();
    let mut segments = Vec::new();
    for writer in writers {
        segments.extend(writer.await.unwrap());
    }
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&segments, &sealed).await;
    assert_eq!((bounds.buffered_bytes(), bounds.open_files(), bounds.uploads()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_writers_share_the_one_file_of_a_blocking_pool() {
    let mode = PoolMode::Blocking { lease_timeout: Duration::from_secs(3_600) };
    twelve_writers(WriteSettings { mode, ..packed() }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_writers_never_wait_in_a_pool_that_does_not_block() {
    twelve_writers(packed(), 2 + 12).await;
}

#[tokio::test]
async fn no_file_has_more_subtasks_than_allowed() {
    for mode in [PoolMode::NonBlocking, PoolMode::BLOCKING] {
        let packing = Packing::new(WriteSettings { subtasks_per_file_max: Some(4), mode, ..packed() });
        let subtask = |index| Subtask { operator: OperatorId([9; 16]), index, parallelism: 64 };
        let mut segments = Vec::new();
        for seed in 0..64 * 8 {
            // Interleaved; one of them is nobody's.
            let index = seed % 64;
            let subtask = (index > 0).then(|| subtask(index));
            let length = if seed == 200 { 2 * BUFFER } else { 4_000 };
            let bytes = bytes_of(u64::from(seed), length);
            segments.push(packing.write_from(Origin { subtask, ..origin(0) }, bytes, None).await.unwrap());
        }
        let sealed = packing.pool.seal().await.unwrap();
        packing.check(&segments, &sealed).await;
        for file in sealed.files.values() {
            let (_, footer) = packing.footer(&file.path).await;
            let subtasks: BTreeSet<_> = footer.segments.iter().map(|segment| segment.subtask).collect();
            assert!(subtasks.len() <= 4, "{} subtasks in {}", subtasks.len(), file.path);
        }
        // One for each four of them, and one that a long segment was streamed into.
        assert_eq!(sealed.files.len(), 17);
    }
}

#[tokio::test]
async fn a_failed_upload_fails_those_in_the_file_and_nobody_else() {
    let (packing, bounds) = sharing(packed());
    let before = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    packing.pool.seal_open();
    packing.pool.wait(&files([&before])).await.unwrap();

    let lost = packing.write(bytes_of(2, 5_000), None).await.unwrap();
    let lost_too = packing.write(bytes_of(3, 5_000), None).await.unwrap();
    *packing.watch.puts.failure.lock().unwrap() = Some("the disk is full");
    packing.pool.seal_open();
    let failed = packing.pool.wait(&files([&lost])).await.unwrap_err();
    assert!(failed.to_string().contains("the disk is full"), "{failed}");
    *packing.watch.puts.failure.lock().unwrap() = None;

    let after = packing.write(bytes_of(4, 5_000), None).await.unwrap();
    packing.pool.seal_open();
    assert_eq!(packing.pool.wait(&files([&before, &after])).await.unwrap().len(), 2);
    for lost in [files([&lost]), files([&lost_too]), files([&before, &lost])] {
        let failed = packing.pool.wait(&lost).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Store);
        assert!(failed.to_string().contains("the disk is full"), "{failed}");
    }
    assert!(packing.pool.seal().await.is_err(), "not all of it is durable");
    assert_eq!((bounds.buffered_bytes(), bounds.uploads()), (0, 0));
}

#[tokio::test]
async fn a_file_of_another_pool_is_waited_for_by_nobody() {
    let packing = Packing::new(packed());
    let unknown = packing.pool.wait(&BTreeSet::from([FileToken(99)])).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Invalid);
    assert!(unknown.to_string().contains("0000000000000063"), "{unknown}");
}

#[tokio::test]
async fn the_place_of_a_segment_is_known_before_its_file_is_sealed() {
    let packing = Packing::new(packed());
    let segment = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    let Written::Placed(placement) = segment.written else { panic!("not placed") };
    let provisional = packing.pool.provisional(&placement).unwrap();
    assert!(packing.files().await.is_empty());
    let sealed = packing.pool.seal().await.unwrap();
    assert_eq!(sealed.handle(&placement).unwrap(), provisional);
    let name = sealed.files.values().next().unwrap().path.file_name().unwrap().to_owned();
    assert!(name.starts_with("ds1-a3-wworker_1-c7-n0-"), "{name}");
}

#[tokio::test]
async fn a_writer_that_outlives_a_closed_pool_is_told_and_leaves_nothing() {
    let lengths = [5_000, 20 << 20];
    for finishes in [false, true] {
        for length in lengths {
            let (packing, bounds) = sharing(WriteSettings { file_bytes_max: 32 << 20, ..packed() });
            let placed = packing.write(bytes_of(0, 5_000), None).await.unwrap();
            let mut late = packing.pool.segment(origin(0), None);
            late.write(bytes_of(1, length)).await.unwrap();
            packing.pool.close("checkpoint 5 was aborted");
            packing.pool.close("another reason");
            let error = match finishes {
                false => late.write_slice(&[1]).await.unwrap_err(),
                true => late.finish().await.map(drop).unwrap_err(),
            };
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, "checkpoint 5 was aborted"));
            let error = packing.pool.wait(&files([&placed])).await.unwrap_err();
            assert_eq!(error.to_string(), "checkpoint 5 was aborted");
            bounds.settled().await.unwrap();
            assert_eq!((bounds.buffered_bytes(), bounds.open_files()), (0, 0), "{length} bytes");
            assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
            assert!(packing.files().await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_file_on_its_way_arrives_though_the_pool_was_closed() {
    let (packing, _) = sharing(packed());
    let segment = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    packing.watch.puts.gate.forget_permits(usize::MAX);
    packing.pool.seal_open();
    until_nothing_moves().await;
    packing.pool.close("checkpoint 5 has completed");
    packing.watch.puts.gate.add_permits(1);
    assert_eq!(packing.pool.wait(&files([&segment])).await.unwrap().len(), 1);
    assert!(packing.write(bytes_of(2, 5_000), None).await.is_err());
}

/// Three writers at once, of which one streams, in a pool that has little memory and a slow store.
async fn three_writers(packing: &Packing, long: &Bytes) {
    let write = |bytes: Bytes, times: usize| async move {
        for _ in 0..times {
            let _ = packing.write(bytes.clone(), None).await;
        }
    };
    tokio::join!(write(long.slice(..50_000), 4), write(long.clone(), 1), write(long.slice(..30_000), 4));
}

#[tokio::test(start_paused = true)]
async fn wherever_writers_are_cancelled_nothing_is_left() {
    // Longer than a part, so that there is something to abort.
    let long = bytes_of(1, 9 << 20);
    for mode in [PoolMode::NonBlocking, PoolMode::BLOCKING] {
        for cut in 0..40 {
            let bounds = Bounds::new(200_000, 2);
            let settings = WriteSettings { file_bytes_max: 100_000, mode, ..packed() };
            let packing = Packing::within(settings, Some(bounds.clone()));
            for gate in [&packing.watch.puts.gate, &packing.watch.parts.gate, &packing.watch.gets.gate] {
                gate.forget_permits(usize::MAX);
            }
            {
                let mut writing = pin!(three_writers(&packing, &long));
                for step in 0..cut {
                    if futures::poll!(&mut writing).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                    let gates = [&packing.watch.gets.gate, &packing.watch.puts.gate, &packing.watch.parts.gate];
                    gates[step % 3].add_permits(1);
                }
            }
            for gate in [&packing.watch.puts.gate, &packing.watch.parts.gate, &packing.watch.gets.gate] {
                gate.add_permits(10_000);
            }
            let sealed = packing.pool.seal().await.unwrap();
            bounds.settled().await.unwrap();
            assert_eq!((bounds.buffered_bytes(), bounds.open_files(), bounds.uploads()), (0, 0, 0), "cut at {cut}");
            assert_eq!(packing.watch.uploads_left.load(SeqCst), 0, "cut at {cut}");
            let named: BTreeSet<_> = sealed.files.values().map(|file| file.path.to_string()).collect();
            assert!(packing.files().await.into_keys().eq(named), "cut at {cut}");
            // And the next finds nothing in its way.
            let next = Instant::now();
            packing.write(bytes_of(99, 3 * BUFFER), None).await.unwrap();
            assert_eq!(next.elapsed(), Duration::ZERO, "cut at {cut}");
        }
    }
}
