//! Packing when writers are dropped, the store fails, or is slow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod packing;
    pub mod seeded;
    pub mod watched_store;
}

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use drystone::ErrorKind;
use drystone::write::WriteSettings;
use futures::FutureExt;
use support::packing::{Packing, origin};
use support::seeded::bytes_of;

/// Small files of which each holds one segment of [`SEGMENT`] bytes.
fn one_each() -> WriteSettings {
    WriteSettings {
        file_bytes_max: 64 << 10,
        inline_bytes_max: 0,
        inline_bytes_total_max: 0,
        buffer_bytes_max: 64 << 10,
        open_files_max: 1,
        uploads_max: 2,
        ..WriteSettings::default()
    }
}

const SEGMENT: usize = 63 << 10;

/// Segments longer than this are sent in parts while they are written.
fn streaming() -> WriteSettings {
    WriteSettings { file_bytes_max: 32 << 20, buffer_bytes_max: 1 << 20, ..one_each() }
}

const STREAMED: usize = 17 << 20;

/// Lets every task go as far as it can: nothing in memory waits for anything but another task.
async fn until_nothing_moves() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_dropped_writer_leaves_nothing() {
    let packing = Packing::new(one_each());
    let mut writer = packing.pool.segment(origin(0), None);
    writer.write(bytes_of(1, 5_000)).await.unwrap();
    drop(writer);
    let kept = packing.write(bytes_of(2, 5_000), None).await.unwrap();
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[kept], &sealed).await;
}

#[tokio::test]
async fn a_writer_dropped_while_streaming_is_aborted() {
    let packing = Packing::new(streaming());
    let mut writer = packing.pool.segment(origin(0), None);
    writer.write(bytes_of(1, STREAMED)).await.unwrap();
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 1);
    drop(writer);
    let kept = packing.write(bytes_of(2, 5_000), None).await.unwrap();
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[kept], &sealed).await;
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
}

#[tokio::test]
async fn a_failed_upload_fails_the_seal_and_all_later_writes() {
    let packing = Packing::new(one_each());
    *packing.watch.puts.failure.lock().unwrap() = Some("the disk is full");
    packing.write(bytes_of(1, 5_000), None).await.unwrap();
    let failed = packing.pool.seal().await.unwrap_err();
    assert!(failed.to_string().contains("the disk is full"), "{failed}");
    assert_eq!(failed.kind(), ErrorKind::Store);
    *packing.watch.puts.failure.lock().unwrap() = None;
    for length in [5_000, 100_000] {
        let refused = packing.write(bytes_of(2, length), None).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("the disk is full"), "{refused}");
    }
    assert!(packing.pool.seal().await.is_err());
    packing.pool.abandon().await.unwrap();
    assert!(packing.files().await.is_empty());
}

#[tokio::test]
async fn an_abandoned_pool_leaves_nothing_and_takes_nothing() {
    let packing = Packing::new(streaming());
    packing.write(bytes_of(1, STREAMED), None).await.unwrap();
    packing.pool.seal().await.unwrap();
    packing.write(bytes_of(2, 5_000), None).await.unwrap();
    packing.write(bytes_of(3, STREAMED), None).await.unwrap();
    packing.pool.abandon().await.unwrap();
    assert!(packing.files().await.is_empty());
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
    assert!(packing.write(bytes_of(4, 5_000), None).await.is_err());
    assert!(packing.write(bytes_of(4, STREAMED), None).await.is_err());
    assert!(packing.pool.seal().await.is_err());
    assert!(packing.files().await.is_empty());
}

#[tokio::test]
async fn a_writer_that_outlives_its_pool_leaves_nothing() {
    // The streamed segment leaves no room, so that its end would seal the file.
    let packing = Packing::new(WriteSettings { file_bytes_max: STREAMED as u64 + 200, ..streaming() });
    let mut writer = packing.pool.segment(origin(0), None);
    writer.write(bytes_of(1, STREAMED)).await.unwrap();
    packing.pool.abandon().await.unwrap();
    let refused = writer.finish().await.unwrap_err();
    assert!(refused.to_string().contains("abandoned"), "{refused}");
    until_nothing_moves().await;
    assert!(packing.files().await.is_empty());
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
}

#[tokio::test]
async fn abandoning_again_deletes_what_could_not_be_deleted() {
    let packing = Packing::new(one_each());
    for seed in 0..3 {
        packing.write(bytes_of(seed, SEGMENT), None).await.unwrap();
    }
    packing.pool.seal().await.unwrap();
    *packing.watch.deletes.failure.lock().unwrap() = Some("try again later");
    assert!(packing.pool.abandon().await.unwrap_err().one_line().contains("try again later"));
    packing.pool.abandon().await.unwrap();
    assert!(packing.files().await.is_empty());
}

#[tokio::test]
async fn a_part_that_fails_leaves_no_upload_behind() {
    for pieces in [vec![STREAMED, 40 << 20], vec![STREAMED]] {
        let packing = Packing::new(streaming());
        *packing.watch.parts.failure.lock().unwrap() = Some("no such bucket");
        let mut writer = packing.pool.segment(origin(0), None);
        let mut failure = None;
        for (seed, &length) in pieces.iter().enumerate() {
            failure = failure.or(writer.write(bytes_of(seed as u64, length)).await.err());
        }
        // Parts that fail after the last write make the seal fail.
        let failure = match failure {
            Some(failure) => {
                drop(writer);
                failure
            }
            None => {
                writer.finish().await.unwrap();
                packing.pool.seal().await.map(drop).unwrap_err()
            }
        };
        assert!(failure.one_line().contains("no such bucket"), "{failure}");
        let _ = packing.pool.abandon().await;
        assert_eq!(packing.watch.uploads_left.load(SeqCst), 0, "{pieces:?}");
        assert!(packing.files().await.is_empty());
    }
}

#[tokio::test]
async fn a_footer_that_fails_leaves_no_upload_behind() {
    let packing = Packing::new(streaming());
    // The first parts get through; the small segments behind them and the footer don't.
    packing.write(bytes_of(0, STREAMED), None).await.unwrap();
    until_nothing_moves().await;
    *packing.watch.parts.failure.lock().unwrap() = Some("no such bucket");
    for seed in 1..14 {
        packing.write(bytes_of(seed, 1 << 20), None).await.unwrap();
    }
    assert!(packing.pool.seal().await.is_err());
    packing.pool.abandon().await.unwrap();
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
    assert!(packing.files().await.is_empty());
}

#[tokio::test]
async fn a_segment_whose_write_failed_can_not_be_finished() {
    let packing = Packing::new(streaming());
    let mut writer = packing.pool.segment(origin(0), None);
    // The look whether something is there already.
    *packing.watch.gets.failure.lock().unwrap() = Some("timed out");
    assert!(writer.write(bytes_of(1, 2 << 20)).await.is_err());
    *packing.watch.gets.failure.lock().unwrap() = None;
    assert!(writer.write(bytes_of(2, 100)).await.is_err(), "the bytes before are lost");
    assert!(writer.finish().await.is_err());
    assert!(packing.pool.seal().await.unwrap().files.is_empty());
}

#[tokio::test]
async fn a_segment_whose_write_was_cancelled_can_not_be_finished() {
    let packing = Packing::new(streaming());
    let mut writer = packing.pool.segment(origin(0), None);
    packing.watch.gets.gate.forget_permits(usize::MAX);
    {
        let write = std::pin::pin!(writer.write(bytes_of(1, 2 << 20)));
        assert!(futures::poll!(write).is_pending());
    }
    packing.watch.gets.gate.add_permits(100);
    assert!(writer.finish().await.is_err());
    assert!(packing.pool.seal().await.unwrap().files.is_empty());
}

#[tokio::test]
async fn a_writer_waits_while_too_many_files_are_on_their_way() {
    for uploads_max in [0, 1, 3] {
        let packing = Arc::new(Packing::new(WriteSettings { uploads_max, open_files_max: 0, ..one_each() }));
        packing.watch.puts.gate.forget_permits(usize::MAX);
        let writing = tokio::spawn({
            let packing = packing.clone();
            async move {
                for seed in 0..10 {
                    packing.write(bytes_of(seed, SEGMENT), None).await.unwrap();
                }
            }
        });
        for done in 0..10 {
            until_nothing_moves().await;
            let on_their_way = packing.watch.puts.in_flight.load(SeqCst);
            // The file that made them too many is on its way, too.
            assert_eq!(on_their_way, (uploads_max as u64 + 1).min(10 - done));
            assert_eq!(packing.watch.puts.count.load(SeqCst), done + on_their_way);
            packing.watch.puts.gate.add_permits(1);
        }
        writing.await.unwrap();
        assert_eq!(packing.pool.seal().await.unwrap().files.len(), 10);
    }
}

#[tokio::test]
async fn each_writer_adds_at_most_one_file_to_those_on_their_way() {
    let packing = Arc::new(Packing::new(WriteSettings { open_files_max: 0, ..one_each() }));
    packing.watch.puts.gate.forget_permits(usize::MAX);
    let writers: Vec<_> = (0..5)
        .map(|task| {
            let packing = packing.clone();
            tokio::spawn(async move {
                for seed in 0..4 {
                    packing.write(bytes_of(task * 10 + seed, SEGMENT), None).await.unwrap();
                }
            })
        })
        .collect();
    until_nothing_moves().await;
    assert!(packing.watch.puts.in_flight.load(SeqCst) <= 2 + 5);
    packing.watch.puts.gate.add_permits(100);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(packing.pool.seal().await.unwrap().files.len(), 20);
    assert!(packing.watch.puts.in_flight_max.load(SeqCst) <= 2 + 5);
}

#[tokio::test]
async fn a_seal_that_was_cancelled_can_be_called_again() {
    let packing = Packing::new(one_each());
    let segment = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    packing.watch.puts.gate.forget_permits(usize::MAX);
    {
        let seal = std::pin::pin!(packing.pool.seal());
        assert!(futures::poll!(seal).is_pending());
    }
    packing.watch.puts.gate.add_permits(1);
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[segment], &sealed).await;
}

/// On a thread of its own, so that one that hangs fails the test.
fn within_a_minute(run: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        run();
        done.send(()).unwrap();
    });
    wait.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
}

#[test]
fn without_a_runtime_a_full_file_is_an_error() {
    within_a_minute(|| {
        let packing = Packing::new(WriteSettings { open_files_max: 0, ..one_each() });
        let refused = packing.write(bytes_of(1, SEGMENT), None).now_or_never().unwrap().map(drop).unwrap_err();
        assert!(refused.to_string().contains("no tokio runtime"), "{refused}");
        assert!(packing.pool.seal().now_or_never().unwrap().is_err());
        packing.pool.abandon().now_or_never().unwrap().unwrap();
    });
}

#[test]
fn on_a_runtime_that_was_shut_down_a_full_file_is_an_error() {
    within_a_minute(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let packing = Packing::new(one_each());
        packing.write(bytes_of(1, 5_000), None).now_or_never().unwrap().unwrap();
        let refused = packing.pool.seal().now_or_never().unwrap().map(drop).unwrap_err();
        assert!(refused.to_string().contains("was cut"), "{refused}");
        packing.pool.abandon().now_or_never().unwrap().unwrap();
    });
}

#[tokio::test]
async fn what_a_dropped_writer_streamed_is_aborted_without_anything_else_to_do() {
    let packing = Packing::new(streaming());
    let mut writer = packing.pool.segment(origin(0), None);
    writer.write(bytes_of(1, STREAMED)).await.unwrap();
    // Wherever it is dropped: also where there is no runtime.
    std::thread::spawn(move || drop(writer)).join().unwrap();
    until_nothing_moves().await;
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
}
