//! What a task's handles say of their files is checked on restore, as far as it can be: nothing is believed unseen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod runs;
    pub mod synthetic;
}

use drystone::format::checksum::crc32c;
use drystone::handle::{FileHandle, SegmentHandle, StreamHandle};
use drystone::id::{FileToken, Scope, SegmentId};
use drystone::read::{ReadLimits, Restore, Restored};
use drystone::store::Stores;
use drystone::{ErrorKind, Result};
use support::synthetic::{Disk, JOB, OPERATOR, checkpoint, chunk, file, relative, segment, text};

/// Restores the state of the second of two subtasks.
async fn restore(disk: &Disk, handle: StreamHandle) -> Result<Restored> {
    let first = disk.file("first", b"of another");
    disk.commit(&checkpoint(vec![first, handle]));
    let limits = ReadLimits { range_bytes_max: 1_000, ..ReadLimits::default() };
    let restore = Restore::open(&Stores::new(), &disk.checkpoint(), limits).await?;
    let task = restore.task(OPERATOR, 1, 2)?;
    assert_eq!(task.streams().len(), 1);
    task.read_all().await
}

async fn refused(disk: &Disk, handle: StreamHandle, kind: ErrorKind, text: &str) {
    let shown = format!("{handle:?}");
    let error = restore(disk, handle).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{shown}: {error}");
    let start = format!("checkpoint 7 at {}: operator {OPERATOR} subtask 1 managedOperator in ", disk.checkpoint());
    let message = error.to_string();
    assert!(message.starts_with(&start) && message.contains(text), "{shown}: {message}");
}

/// The name of the file that the tests write, below the job's directory.
fn name() -> String {
    format!("{JOB}/chk-7/second")
}

#[tokio::test]
async fn a_file_of_unknown_length_is_read_to_its_end() {
    let disk = Disk::new();
    for length in [1, 999, 5_500] {
        let bytes = chunk(length, 3);
        disk.file("second", &bytes);
        for handle in [file(&disk.named(&name()), -1), relative("second", -1)] {
            let restored = restore(&disk, handle).await.unwrap();
            assert!(restored.bytes(0) == bytes, "{length}");
            assert_eq!(restored.counts.unverified_bytes, length as u64);
        }
    }
    refused(&disk, relative("third", -1), ErrorKind::NotFound, "third").await;
}

#[tokio::test]
async fn a_whole_file_of_another_length_is_an_error() {
    let disk = Disk::new();
    for length in [500, 5_500] {
        disk.file("second", &chunk(length, 3));
        let length = length as i64;
        for claimed in [0, 1, length - 1] {
            let text = format!("the file has {length} bytes, its handle says {claimed}");
            refused(&disk, relative("second", claimed), ErrorKind::Damaged, &text).await;
        }
        for claimed in [length + 1, 1 << 60, i64::MAX] {
            refused(&disk, relative("second", claimed), ErrorKind::Damaged, &length.to_string()).await;
        }
        assert!(restore(&disk, relative("second", length)).await.is_ok());
    }
}

#[tokio::test]
async fn a_segment_beyond_its_file_is_an_error_however_long() {
    let disk = Disk::new();
    disk.file("second", &chunk(5_500, 3));
    let path = disk.named(&name());
    for (offset, length) in [(5_000, 501), (5_000, 3_000), (6_000, 10), (0, 1 << 60), (5_501, 0)] {
        refused(&disk, segment(&path, offset, length), ErrorKind::Damaged, "5500").await;
    }
    assert!(restore(&disk, segment(&path, 5_500, 0)).await.is_ok());
}

#[tokio::test]
async fn no_bytes_are_checked_too() {
    let disk = Disk::new();
    disk.file("second", &chunk(100, 3));
    let of = |crc32c: u32, path: String| {
        let id = text(&SegmentId { file: FileToken(1), ordinal: 0, crc32c }.to_string());
        StreamHandle::Segment(SegmentHandle { path: text(&path), offset: 10, size: 0, scope: Scope::Exclusive, id })
    };
    let path = disk.named(&name());
    let restored = restore(&disk, of(crc32c(&[]), path.clone())).await.unwrap();
    assert!(restored.parts(0).is_empty());
    refused(&disk, of(1, path), ErrorKind::Damaged, "CRC-32C").await;
    refused(&disk, of(crc32c(&[]), disk.named("gone")), ErrorKind::NotFound, "gone").await;
}

#[tokio::test]
async fn a_path_that_climbs_out_is_refused_before_anything_is_read() {
    let disk = Disk::new();
    for path in ["../../elsewhere", "/absolute", "a/../../b"] {
        let handle = StreamHandle::Relative(FileHandle { path: text(path), size: 4 });
        disk.commit(&checkpoint(vec![handle]));
        let restore = Restore::open(&Stores::new(), &disk.checkpoint(), ReadLimits::default()).await.unwrap();
        let error = restore.task(OPERATOR, 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{path}");
        assert!(error.to_string().contains("subtask 0 managedOperator"), "{error}");
    }
}
