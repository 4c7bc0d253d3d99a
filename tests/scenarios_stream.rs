//! What Flink's tests of its checkpoint stream check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

#[path = "support/watched_store.rs"]
mod watched_store;

use std::sync::Arc;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::format::checksum::crc32c;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::store::Stores;
use drystone::write::Written;
use scenario::{INLINE, JOB, Job, SEGMENT_BUFFER, file_of, path, segment};
use watched_store::{Watch, WatchedStore};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Scenario 20 (testGetHandleFromStream): nothing written gives no handle and no file; what is written gives a handle of
/// just its length.
#[tokio::test]
async fn only_what_was_written_gives_a_handle() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    let untouched = round.snapshot(0).segment(Scope::Shared, None);
    assert_eq!(untouched.finish().await.unwrap(), Written::Nothing);
    let mut empty = round.snapshot(0).segment(Scope::Shared, Some(10));
    empty.write_slice(&[]).await.unwrap();
    empty.write(Bytes::new()).await.unwrap();
    let written = empty.finish().await.unwrap();
    assert_eq!(round.snapshot(0).provisional(&written).unwrap(), None);
    round.take(0, Scope::Shared, "empty", written);
    drop(round.snapshot(0).segment(Scope::Shared, None));
    assert_eq!(job.worker.usage().open_files, 0);
    round.write(0, Scope::Shared, "ten", vec![1; 10]).await;
    let (_, handles) = round.commit().await;
    assert_eq!(handles.keys().collect::<Vec<_>>(), ["ten"]);
    assert_eq!(handles["ten"].size(), Some(10));
    assert_eq!(job.counts(), (1, 1));
}

/// Scenario 21 (testGetHandleFromClosedStream): what was closed beneath a writer gives no handle, but an error that says why.
#[tokio::test]
async fn a_writer_that_was_closed_gives_no_handle() {
    let job = Job::new(&[]).await;
    let round = job.begin();
    let mut aborted = round.snapshot(0).segment(Scope::Shared, None);
    aborted.write_slice(b"some").await.unwrap();
    let untouched = round.snapshot(0).segment(Scope::Exclusive, None);
    job.abort(CheckpointId(1)).await;
    for writer in [aborted, untouched] {
        let error = writer.finish().await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().contains("was aborted")), (ErrorKind::Conflict, true), "{error}");
    }
}

/// Scenario 22 (testWhetherFileIsCreatedWhenWritingStream): no request is made while a segment is buffered; beyond the
/// buffer it is streamed, and there is no file before it is sealed.
#[tokio::test]
async fn nothing_is_asked_of_the_store_while_a_segment_is_buffered() {
    const BUFFER: usize = 8 << 20;
    let job = Job::new(&[]).await;
    let round = job.begin();
    let before = job.stores.requests();
    let uploads = || (job.stores.requests() - before).multipart_create;

    let mut writer = round.snapshot(0).segment(Scope::Shared, None);
    writer.write(vec![1; BUFFER - 1].into()).await.unwrap();
    assert_eq!((uploads(), job.worker.usage().buffered_bytes), (0, BUFFER as u64 - 1));
    writer.write(vec![1; 2].into()).await.unwrap();
    assert_eq!(uploads(), 1, "it is longer than the buffer");
    drop(writer);
    let mut whole = round.snapshot(0).segment(Scope::Shared, None);
    whole.write(vec![1; BUFFER + 1].into()).await.unwrap();
    assert_eq!(uploads(), 2);
    drop(whole);
    let mut short = round.snapshot(0).segment(Scope::Shared, None);
    short.write(vec![1; BUFFER - 1].into()).await.unwrap();
    drop(short);
    let mut known = round.snapshot(0).segment(Scope::Shared, Some(BUFFER as u64 + 1));
    known.write(vec![1; BUFFER + 1].into()).await.unwrap();
    assert!(matches!(known.finish().await.unwrap(), Written::Placed(_)), "its length was known");
    assert_eq!(uploads(), 2);
    assert_eq!((job.stores.requests() - before).put, 0);
    assert!(job.files().await.is_empty());
    job.worker.seal(CheckpointId(1)).await.unwrap();
    assert_eq!((job.stores.requests() - before).put, 1, "one for the file that holds what was finished");
    assert_eq!(job.files().await.len(), 1);
}

/// Scenario 23 (testCloseStream): closed, a writer takes no more bytes than none; whoever drops what has failed hears
/// nothing, whoever asks for handles does.
#[tokio::test]
async fn a_closed_writer_takes_nothing_and_only_a_seal_tells_of_a_failure() {
    let watch = Arc::new(Watch::default());
    let stores = Stores::new().with_store(&path("memory:/"), Arc::new(WatchedStore::new(watch.clone())));
    let job = Job::at(&stores, "memory:/checkpoints", JOB, 1, &[]).await;
    let round = job.begin();
    let mut writer = round.snapshot(0).segment(Scope::Shared, None);
    job.abort(CheckpointId(1)).await;
    writer.write(Bytes::new()).await.unwrap();
    let error = writer.write_slice(&[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop((writer, round));

    *watch.puts.failure.lock().unwrap() = Some("no room");
    let mut round = job.begin();
    round.write(0, Scope::Shared, "dropped", vec![1; 10]).await;
    drop(round);
    job.abort(CheckpointId(2)).await;
    let trigger = job.coordinator.trigger(CheckpointId(3)).unwrap();
    let snapshot = job.worker.begin(job.subtask(0), &trigger).unwrap();
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write_slice(&[1; 10]).await.unwrap();
    writer.finish().await.unwrap();
    let error = snapshot.seal().await.unwrap_err();
    assert_eq!((error.kind(), error.one_line().contains("no room")), (ErrorKind::Store, true), "{error:?}");
    job.abort(CheckpointId(3)).await;
    assert_eq!(job.worker.usage(), Default::default());
}

/// Writes in pieces of many sizes, each of them singly, as a slice or handed over, and reads it back.
async fn round_trip(length: usize, buffer: &str) {
    let job = Job::new(&[(SEGMENT_BUFFER, buffer)]).await;
    let mut round = job.begin();
    let original = pattern(length);
    let given = original.clone();
    let mut writer = round.snapshot(0).segment(Scope::Exclusive, None);
    let (mut at, mut step) = (0, 0_usize);
    while at < given.len() {
        let end = (at + [1, 13, 1, 4096, 64, 1000][step % 6]).min(given.len());
        match step % 3 {
            0 | 1 => writer.write_slice(&given[at..end]).await.unwrap(),
            _ => writer.write(Bytes::copy_from_slice(&given[at..end])).await.unwrap(),
        }
        (at, step) = (end, step + 1);
        assert_eq!(writer.position(), at as u64);
    }
    assert_eq!(writer.crc32c(), crc32c(&original));
    let written = writer.finish().await.unwrap();
    round.take(0, Scope::Exclusive, "state", written);
    let (_, handles) = round.commit().await;
    assert_eq!(given, original, "the caller's bytes are as they were");
    assert!(job.read(&handles["state"]).await == original);
}

/// Scenario 24 (testStateAboveBufferSize): a segment longer than its buffer comes back whole.
#[tokio::test]
async fn what_is_longer_than_the_buffer_comes_back() {
    round_trip(576_446, "256 b").await;
}

/// Scenario 25 (testStateUnderBufferSize): so does a shorter one.
#[tokio::test]
async fn what_is_shorter_than_the_buffer_comes_back() {
    round_trip(100, "256 b").await;
}

/// Scenario 26 (testGetPos): a position counts from the start of the segment, wherever in a file that lies.
#[tokio::test]
async fn positions_count_from_the_start_of_the_segment() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    let mut writer = round.snapshot(0).segment(Scope::Shared, None);
    for position in 0..64 {
        assert_eq!(writer.position(), position);
        writer.write_slice(&[0x42]).await.unwrap();
    }
    let written = writer.finish().await.unwrap();
    round.take(0, Scope::Shared, "first", written);
    let mut writer = round.snapshot(0).segment(Scope::Shared, None);
    let mut sum = 0;
    for length in (0..16).chain((0..16).rev()) {
        writer.write_slice(&pattern(length)).await.unwrap();
        sum += length as u64;
        assert_eq!(writer.position(), sum);
    }
    let written = writer.finish().await.unwrap();
    round.take(0, Scope::Shared, "second", written);
    let second = round.provisional(0, "second");
    assert_eq!((second.offset, second.size), (64, 240), "behind the first in one file, it counted from 0");
}

/// Scenario 27 (testCannotReuseClosedFile): what comes after a seal goes into another file, even of the same checkpoint.
#[tokio::test]
async fn a_sealed_file_takes_no_more_segments() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "before", vec![1; 100]).await;
    job.worker.seal(CheckpointId(1)).await.unwrap();
    let sealed = job.files().await;
    round.write(0, Scope::Shared, "after", vec![2; 100]).await;
    let (_, handles) = round.commit().await;
    assert_ne!(file_of(&handles["before"]), file_of(&handles["after"]));
    assert_eq!(segment(&handles["after"]).offset, 0);
    let files = job.files().await;
    assert!(sealed.iter().all(|(file, bytes)| files.get(file) == Some(bytes)), "{sealed:?} {files:?}");
}

/// Scenario 28 (testWriteFailsFastWhenClosed): the first byte after the close fails, though it would have been buffered.
#[tokio::test]
async fn a_write_fails_at_once_when_its_worker_was_closed() {
    let job = Job::new(&[]).await;
    let round = job.begin();
    let mut writer = round.snapshot(0).segment(Scope::Shared, None);
    writer.write_slice(&[1; 10]).await.unwrap();
    job.worker.close().await.unwrap();
    for bytes in [1, 100] {
        let error = writer.write_slice(&pattern(bytes)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("the worker was closed"), "{error}");
    }
    assert_eq!(job.worker.usage().buffered_bytes, 0);
    let error = job.worker.begin(job.subtask(0), &round.trigger).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// Scenario 20 (testGetHandleFromStream), the threshold: what is short enough goes inline, and needs no file.
#[tokio::test]
async fn what_is_short_enough_goes_inline() {
    let job = Job::new(&[(INLINE, "20 kb")]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "at", pattern(20 << 10)).await;
    round.write(0, Scope::Shared, "above", pattern((20 << 10) + 1)).await;
    let (_, handles) = round.commit().await;
    assert!(matches!(&handles["at"], StreamHandle::Inline(inline) if inline.bytes == pattern(20 << 10)));
    assert!(matches!(&handles["above"], StreamHandle::Segment(_)));
    assert_eq!(job.counts(), (1, 1), "what is inline is no file");
}
