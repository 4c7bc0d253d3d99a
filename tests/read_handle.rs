//! A handle's bytes come whole and checked, or as an error; no claim of the metadata is believed unseen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod stock_checkpoint;
    pub mod watched_store;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use drystone::format::checksum::crc32c;
use drystone::handle::{Part, Place};
use drystone::id::{FileToken, OperatorId, Scope, SegmentId};
use drystone::inspect::inspect;
use drystone::read::{Content, ReadLimits, StateFile, StateStream, Wanted, open_handle};
use drystone::repack::{Options, copy, repack};
use drystone::store::{FlinkPath, Stores};
use drystone::verify::verify;
use drystone::write::WriteSettings;
use drystone::{Error, ErrorKind};
use futures::StreamExt;
use support::stock_checkpoint;
use support::watched_store::{Watch, WatchedStore};

const JOB: &str = "memory://job/00000000000000000000000000000001";

struct Disk {
    stores: Stores,
    watch: Arc<Watch>,
}

fn path(text: &str) -> FlinkPath {
    FlinkPath::parse(text).unwrap()
}

impl Disk {
    async fn with_file(bytes: &Bytes) -> Self {
        let watch = Arc::new(Watch::default());
        let stores = Stores::new().with_store(&path(JOB), Arc::new(WatchedStore::new(watch.clone())));
        stores.locate(&path(&format!("{JOB}/file"))).unwrap().create(vec![bytes.clone()]).await.unwrap();
        Self { stores, watch }
    }

    /// The pieces of a handle of that file, up to the first error.
    async fn open(&self, offset: u64, length: u64, whole: bool, crc32c: Option<u32>) -> (Vec<Bytes>, Option<Error>) {
        let name = path(&format!("{JOB}/file"));
        let files = [StateFile { location: self.stores.locate(&name).unwrap(), name }];
        let operator = OperatorId([1; 16]);
        let stream = StateStream {
            place: Place { operator, parallelism: 1, subtask: Some(0), part: Part::ManagedKeyed, local_path: None },
            content: Content::File(Wanted { file: 0, offset, length }),
            whole,
            id: crc32c.map(|crc32c| SegmentId { file: FileToken(1), ordinal: 0, crc32c }),
            listed_crc32c: None,
            scope: Scope::Shared,
        };
        let limits = ReadLimits { range_bytes_max: 1_000, ..ReadLimits::default() };
        let (mut pieces, mut error) = (Vec::new(), None);
        let mut read = open_handle(&files, &stream, &limits);
        while let Some(piece) = read.next().await {
            assert!(error.is_none(), "nothing comes after an error");
            match piece {
                Ok(bytes) => pieces.push(bytes),
                Err(e) => error = Some(e),
            }
        }
        (pieces, error)
    }

    /// A stock checkpoint that says the file is so long.
    async fn checkpoint(&self, claimed: i64) -> FlinkPath {
        let metadata = stock_checkpoint::metadata(&[(format!("{JOB}/file"), claimed)], 1);
        let directory = path(&format!("{JOB}/chk-{}", stock_checkpoint::CHECKPOINT));
        let location = self.stores.locate(&directory).unwrap().join("_metadata").unwrap();
        location.create(vec![metadata]).await.unwrap();
        directory
    }
}

fn damaged(error: Option<Error>, text: &str) {
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains(text), "{error}");
}

fn bytes() -> Bytes {
    (0..5_500_u32).map(|i| (i * 7) as u8).collect()
}

#[tokio::test]
async fn a_segment_is_read_in_pieces_and_checked() {
    let disk = Disk::with_file(&bytes()).await;
    let segment = bytes().slice(300..4_800);
    let (pieces, error) = disk.open(300, 4_500, false, Some(crc32c(&segment))).await;
    assert!(error.is_none());
    assert_eq!(pieces.concat(), segment);
}

#[tokio::test]
async fn damage_is_told_instead_of_the_last_bytes() {
    let disk = Disk::with_file(&bytes()).await;
    for (length, pieces_before) in [(4_500, 4), (900, 0)] {
        let (pieces, error) = disk.open(300, length, false, Some(1)).await;
        assert_eq!(pieces.len(), pieces_before);
        damaged(error, "CRC-32C");
    }
}

#[tokio::test]
async fn a_file_that_ends_too_early_is_an_error() {
    let disk = Disk::with_file(&bytes()).await;
    for (offset, length) in [(5_000, 501), (5_000, 3_000), (6_000, 10), (0, 1 << 60), (u64::MAX - 1, 1)] {
        let (pieces, error) = disk.open(offset, length, false, None).await;
        assert_eq!(pieces, [] as [Bytes; 0], "{length} bytes from {offset}");
        damaged(error, "5500");
    }
}

#[tokio::test]
async fn a_whole_file_of_another_length_is_an_error() {
    let disk = Disk::with_file(&bytes()).await;
    for length in [0, 1, 5_499] {
        let (pieces, error) = disk.open(0, length, true, None).await;
        assert!(pieces.is_empty(), "{length}");
        damaged(error, "the file has 5500 bytes");
    }
    assert!(disk.open(0, 5_500, true, None).await.1.is_none());
}

#[tokio::test]
async fn no_bytes_of_a_missing_file_are_an_error() {
    let disk = Disk::with_file(&bytes()).await;
    assert!(disk.open(5_500, 0, false, Some(0)).await.1.is_none());
    damaged(disk.open(5_501, 0, false, None).await.1, "5500");
    damaged(disk.open(0, 0, false, Some(1)).await.1, "CRC-32C");
    disk.stores.locate(&path(&format!("{JOB}/file"))).unwrap().delete().await.unwrap();
    assert_eq!(disk.open(0, 0, true, None).await.1.unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn short_handles_cost_one_request() {
    let disk = Disk::with_file(&bytes()).await;
    disk.open(10, 1_000, false, None).await;
    assert_eq!(disk.watch.gets.count.load(SeqCst), 1);
}

#[tokio::test]
async fn claims_that_no_checkpoint_can_hold_together_are_refused_by_name() {
    let disk = Disk::with_file(&bytes()).await;
    let files: Vec<_> =
        (0..5).map(|number| (format!("{JOB}/{number}"), i64::MAX)).chain([(format!("{JOB}/file"), i64::MAX)]).collect();
    let directory = disk.stores.locate(&path(&format!("{JOB}/chk-42"))).unwrap();
    directory.join("_metadata").unwrap().create(vec![stock_checkpoint::metadata(&files, 2)]).await.unwrap();
    let error = inspect(&disk.stores, directory.name(), &ReadLimits::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("subtask 0") && error.to_string().contains("more than a checkpoint"), "{error}");
}

#[tokio::test]
async fn a_claim_of_any_length_is_refused_without_reading() {
    for claimed in [1 << 60, i64::MAX] {
        let disk = Disk::with_file(&bytes()).await;
        let source = disk.checkpoint(claimed).await;
        let limits = ReadLimits::default();
        let found = verify(&disk.stores, &source, &limits, &|_, _| {}).await.unwrap();
        assert!(found.findings[0].problem.contains("the file has 5500"), "{}", found.findings[0]);
        let next = AtomicU64::new(1);
        let tokens = Arc::new(move || next.fetch_add(1, SeqCst));
        let options =
            Options { write: WriteSettings::default(), read: limits, job_id: None, tokens, discard_leftovers: false };
        let to = path("memory://job/elsewhere");
        let packed = repack(&disk.stores, &source, &to, &options, &|_, _, _| {}).await.map(drop);
        damaged(packed.err(), "the file has 5500");
        let copied = copy(&disk.stores, &source, &to, &options, &|_, _, _| {}).await.map(drop);
        damaged(copied.err(), "the file has 5500");
    }
}

#[tokio::test]
async fn what_a_store_can_not_say_is_no_finding() {
    let disk = Disk::with_file(&bytes()).await;
    let watch = Arc::new(Watch::default());
    let stores = disk.stores.clone().with_store(&path("memory://other/"), Arc::new(WatchedStore::new(watch.clone())));
    let directory = stores.locate(&path(&format!("{JOB}/chk-42"))).unwrap();
    let check = async |file: &str, failure| {
        *watch.gets.failure.lock().unwrap() = failure;
        let metadata = directory.join("_metadata").unwrap();
        metadata.delete().await.unwrap();
        metadata.create(vec![stock_checkpoint::metadata(&[(file.to_owned(), -1)], 1)]).await.unwrap();
        verify(&stores, directory.name(), &ReadLimits::default(), &|_, _| {}).await
    };
    for (file, failure, text) in [
        ("memory://other/x", Some("<Code>NoSuchBucket</Code>"), "no such bucket"),
        ("memory://other/x", Some("timed out"), "timed out"),
        // Stands for a store whose settings are wrong: it can't be opened.
        ("file://host/x", None, "names a host"),
    ] {
        let error = check(file, failure).await.unwrap_err();
        assert!(error.one_line().contains(text) && error.one_line().contains("subtask 0"), "{error}");
    }
    for file in ["memory://other/missing", "memory://other/", "memory://other/a/../b", "memory://other/a\u{1}", "x"] {
        let found = check(file, None).await.unwrap();
        assert_eq!(found.findings.len(), 1);
        let finding = found.findings[0].to_string();
        assert_eq!(finding.matches("subtask 0").count(), 1, "{finding}");
    }
}
